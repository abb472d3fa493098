"""A training's place on disk: one npz, written whole or not at all, without pickles."""

import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from momentum_jax._base.errors import InputError
from momentum_jax._base.files import left_behind, write_atomically
from momentum_jax._base.trees import pack_whole, unpack_whole
from momentum_jax.results.fingerprint import first_difference
from momentum_jax.training.waves import Training


class Checkpoint:
    """Where a training is written now and then, and read to go on.

    Args:
      path: of the file.
      identity: what must be the same for a training to go on from it.
      seconds: least time between two writings.
    """

    def __init__(self, path: pathlib.Path, identity: Mapping[str, Any], seconds: float):
        self.path = path
        self.identity = json.loads(json.dumps(identity))
        self.seconds = seconds
        self._last = time.monotonic()

    def restore(self, training: Training) -> None:
        """Brings a training to where the file says; without a file it stays at its start.

        Raises:
          InputError: the file is damaged, or of another training.
        """
        try:
            for path in left_behind(self.path.parent, self.path.name):
                path.unlink()
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(f"checkpoint {str(self.path)!r} cannot be read: {error.strerror}") from error
        try:
            snapshot, about = unpack_whole(content)
        except ValueError as error:
            raise InputError(
                f"checkpoint {str(self.path)!r} is damaged, or no checkpoint; move it away to begin anew: {error}"
            ) from error
        difference = first_difference(about, self.identity)
        if difference is not None:
            raise InputError(f"checkpoint {str(self.path)!r} is of another training: {difference}; move it away")
        training.restore(snapshot)

    def write_in_time(self, training: Training) -> None:
        """Writes where the training is, if it is time to."""
        if time.monotonic() - self._last >= self.seconds:
            self.write(training)

    def write(self, training: Training) -> None:
        """Writes where the training is.

        Raises:
          InputError: it cannot be written; the one before is intact.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, pack_whole(training.snapshot(), self.identity))
        except OSError as error:
            raise InputError(
                f"checkpoint {str(self.path)!r} cannot be written: {error.strerror}; the one before is intact"
            ) from error
        self._last = time.monotonic()
