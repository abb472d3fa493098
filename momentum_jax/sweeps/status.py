"""How far a sweep is: the caller's report, and the file that `momentum-jax status` reads."""

import math
import time
from collections.abc import Collection, Mapping
from typing import Any

from momentum_jax._base.machine import memory_in_use
from momentum_jax._base.progress import Report
from momentum_jax.results.record import Record
from momentum_jax.results.stacked import StackedRecords
from momentum_jax.results.store import Store

_SECONDS_BETWEEN_WRITES = 2.0


class Status:
    """How far a sweep is. Its method `report` is what workers report to.

    Args:
      runs: of the whole sweep.
      finished: records of the runs that were finished before.
      report: the caller's.
      store: where the status is written; None for nowhere.
    """

    def __init__(self, runs: int, finished: StackedRecords, report: Report, store: Store | None):
        self._runs = runs
        self._before = self._finished = len(finished)
        self._failed = finished.failed
        self._caller = report
        self._store = store
        # When the first run began here. Compiling in this process comes before; a cluster's workers compile after it.
        self._began: float | None = None
        self._written = -math.inf
        self._write(self._at(self._before))

    def report(self, phase: str, done: float, total: int, note: str = "") -> None:
        """Passes a phase on to the caller; of the phase "runs", with the runs of earlier calls and a note."""
        if phase != "runs":
            self._caller(phase, done, total, note)
            return
        self._began = time.monotonic() if self._began is None else self._began
        self._show(self._before + done)

    def count(self, records: Collection[Record]) -> None:
        """Adds runs that have just finished, and been written where there is a folder."""
        self._finished += len(records)
        self._failed += sum(record.failed for record in records)

    def finish(self) -> None:
        """Reports that all runs are finished."""
        self._write(self._at(self._runs))
        self._show(self._runs)

    def _at(self, done: float) -> dict[str, Any]:
        """The status when `done` runs are trained, parts of runs included."""
        rate = (done - self._before) / max(time.monotonic() - self._began, 1e-9) if self._began is not None else 0.0
        return {
            "runs": self._runs,
            "finished": self._finished,
            "failed": self._failed,
            "runs_per_second": rate,
            "seconds_left": (self._runs - done) / rate if rate else None,
            "memory_bytes": memory_in_use(),
            "updated": time.time(),
        }

    def _show(self, done: float) -> None:
        now = self._at(done)
        speed = [f"{now['runs_per_second']:.3g} runs/s"] if now["runs_per_second"] else []
        note = ", ".join(
            [*speed, f"{now['finished']} finished", f"{now['failed']} failed", f"{now['memory_bytes'] / 2**20:.0f} MiB"]
        )
        self._caller("runs", done, self._runs, note, whole=done / self._runs)
        if time.monotonic() - self._written >= _SECONDS_BETWEEN_WRITES:
            self._write(now)
            self._written = time.monotonic()

    def _write(self, status: Mapping[str, Any]) -> None:
        if self._store is not None:
            self._store.write_status(status)
