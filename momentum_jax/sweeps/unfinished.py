"""The batch of runs that a sweep was training when it was interrupted: a checkpoint in its folder."""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from momentum_jax._base.errors import InputError
from momentum_jax.results.record import Run
from momentum_jax.results.store import UNFINISHED, Store
from momentum_jax.training.checkpoint import Checkpoint, read_checkpoint

_SECONDS_BETWEEN_WRITES = 30.0


class Unfinished:
    """What there is of a batch of runs, on disk. The folder's lock and head say that it is of this sweep.

    Args:
      store: the open folder.
    """

    def __init__(self, store: Store):
        self._store = store
        self._path = store.folder / UNFINISHED
        self._checkpoint = self._checkpoint_of(())

    def is_of(self, batch: Sequence[Run]) -> bool:
        """Whether what was kept is of just these runs."""
        return self._kept is not None and self._kept[1].get("runs") == self._digests(batch)

    def begin(self, batch: Sequence[Run]) -> dict[str, Any] | None:
        """The snapshot of a batch of runs, or None if there is none. What is written from here on is of this batch."""
        self._checkpoint = self._checkpoint_of(batch)
        state = self._kept[0] if self._kept is not None and self.is_of(batch) else None
        self._kept = None
        return state

    def is_due(self) -> bool:
        """Whether it is time to write the batch."""
        return self._checkpoint.is_due()

    def write(self, snapshot: Mapping[str, Any]) -> None:
        """Writes the batch as it is now. A sweep can do without it, so a full disk is no error here."""
        with contextlib.suppress(InputError):
            self._checkpoint.write(snapshot)

    def remove(self) -> None:
        """Removes the file: its batch is finished, and in the folder."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    @functools.cached_property
    def _kept(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The state and the identity of a batch that was interrupted. A damaged one is none: the batch begins anew."""
        with contextlib.suppress(InputError):
            if self._path.exists():
                return read_checkpoint(self._path)
        return None

    def _checkpoint_of(self, batch: Sequence[Run]) -> Checkpoint:
        about = {"config": self._store.cfg.to_json(), "runs": self._digests(batch)}
        return Checkpoint(self._path, about, _SECONDS_BETWEEN_WRITES)

    def _digests(self, batch: Sequence[Run]) -> list[str]:
        return [self._store.digests[run] for run in batch]
