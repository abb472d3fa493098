"""A training's state on disk: one npz, written whole or not at all, without pickles."""

import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from momentum_jax._base.errors import InputError
from momentum_jax._base.files import left_behind, write_atomically
from momentum_jax._base.trees import pack, unpack
from momentum_jax.results.fingerprint import first_difference

# 2: the whole state as one tree.
FORMAT = 2


class Checkpoint:
    """A file that keeps the state of one training.

    Args:
      path: of the file.
      identity: what must be the same for a training to go on from it.
      seconds: least time between two writings.
    """

    def __init__(self, path: pathlib.Path, identity: Mapping[str, Any], seconds: float):
        self.path = path
        self.identity = json.loads(json.dumps({"format": FORMAT, **identity}))
        self.seconds = seconds
        self._last = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """The state that was written last, or None where there is no file. Removes what killed writings left.

        Raises:
          InputError: the file is damaged, of another version of the program, or of another training.
        """
        try:
            for path in left_behind(self.path.parent, self.path.name):
                path.unlink()
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"checkpoint {str(self.path)!r} cannot be read: {error.strerror}") from error
        try:
            state, about = unpack(content)
        except ValueError as error:
            raise InputError(
                f"checkpoint {str(self.path)!r} is damaged, or no checkpoint; move it away to begin anew: {error}"
            ) from error
        there = about.get("format") if isinstance(about, Mapping) else None
        if there != FORMAT:
            raise InputError(
                f"checkpoint {str(self.path)!r} is of another version of this program (format {there}, not {FORMAT}); "
                "move it away to begin anew"
            )
        difference = first_difference(about, self.identity)
        if difference is not None:
            raise InputError(f"checkpoint {str(self.path)!r} is of another training: {difference}; move it away")
        saved: dict[str, Any] = state
        return saved

    def is_due(self) -> bool:
        """Whether the least time since the last writing has passed."""
        return time.monotonic() - self._last >= self.seconds

    def write(self, state: Mapping[str, Any]) -> None:
        """Writes a state of dicts, lists and arrays.

        Raises:
          InputError: it cannot be written; the one before is intact.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, pack(state, self.identity))
        except OSError as error:
            raise InputError(
                f"checkpoint {str(self.path)!r} cannot be written: {error.strerror}; the one before is intact"
            ) from error
        self._last = time.monotonic()
