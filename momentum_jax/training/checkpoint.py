"""A training's state on disk: one npz, written whole or not at all, without pickles."""

import contextlib
import json
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from momentum_jax._base.errors import InputError, shown
from momentum_jax._base.files import lock, remove_left_behind, write_atomically
from momentum_jax._base.reading import DIGEST, check_schema, read_bytes, reason
from momentum_jax._base.trees import digest_of_tree, pack, unpack
from momentum_jax.results.fingerprint import first_difference

# 4: a run that has diverged is left as it is.
FORMAT = 4


@contextlib.contextmanager
def locked(path: str | pathlib.Path | None) -> Iterator[None]:
    """Keeps a checkpoint to the caller; None is none.

    Raises:
      InputError: another training uses it, or its folder cannot be written.
    """
    if path is None:
        yield
        return
    path, what = pathlib.Path(path), f"checkpoint {str(path)!r}"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(lock_path(path), what, "training"))
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{what} cannot be written: {reason(error)}") from error
        yield


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
        remove_left_behind(self.path.parent, self.path.name)
        if not self.path.exists():
            return None
        state, about = read_checkpoint(self.path)
        difference = first_difference(about, self.identity)
        if difference is not None:
            raise InputError(f"checkpoint {str(self.path)!r} is of another training: {difference}; move it away")
        return state

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
            about = {**self.identity, DIGEST: digest_of_tree(state, self.identity)}
            write_atomically(self.path, pack(state, about))
        except OSError as error:
            raise InputError(
                f"checkpoint {str(self.path)!r} cannot be written: {reason(error)}; the one before is intact"
            ) from error
        self._last = time.monotonic()


def lock_path(path: pathlib.Path) -> pathlib.Path:
    """The lock of a checkpoint."""
    return path.with_name(f".{path.name}.lock")


def read_checkpoint(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state in a checkpoint and the identity of its training.

    Raises:
      InputError: the file cannot be read, is damaged, or of another version of the program.
    """
    name = f"checkpoint {str(path)!r}"
    try:
        content = read_bytes(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be read: {reason(error)}") from error
    damaged = f"{name} is damaged, or no checkpoint; move it away to begin anew: "
    try:
        state, about = unpack(content)
    except ValueError as error:
        raise InputError(f"{damaged}{error}") from error
    there = about.get("format") if isinstance(about, dict) else None
    if there != FORMAT:
        raise InputError(
            f"{name} is of another version of this program (format {shown(there)}, not {FORMAT}); move it away to "
            "begin anew"
        )
    if about.pop(DIGEST, None) != digest_of_tree(state, about):
        raise InputError(f"{damaged}its digest is of another content")
    try:
        check_schema(about, {"config": {"iterations": int}})
        if not (isinstance(state, dict) and getattr(state.get("step"), "shape", None) == ()):
            raise ValueError("it has no number of iterations done")
    except ValueError as error:
        raise InputError(f"{damaged}{error}") from error
    return state, about
