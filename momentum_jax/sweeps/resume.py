"""Which runs of a sweep are still to be trained, and keeping their records as they finish."""

import collections
from collections.abc import Sequence

from momentum_jax._base.interrupts import uninterrupted
from momentum_jax._base.progress import Report
from momentum_jax._base.trees import flatten, unflatten
from momentum_jax.results.stacked import StackedRecords
from momentum_jax.results.store import Store
from momentum_jax.sweeps.batches import Job
from momentum_jax.sweeps.host import HostJob, HostRuns
from momentum_jax.sweeps.status import Status
from momentum_jax.sweeps.unfinished import Unfinished
from momentum_jax.sweeps.workers import Workers
from momentum_jax.training.groups import Group
from momentum_jax.training.recorded import Callback, Recorded, hand_over, recorded_of_whole


def remaining_of(groups: Sequence[Group] | Sequence[HostRuns], finished: StackedRecords) -> list[Group | HostRuns]:
    """The runs that are not finished; a group without any is left out."""
    rest = [group.take(i for i, run in enumerate(group.runs) if run not in finished) for group in groups]
    return [group for group in rest if group.runs]


def finish_runs(
    workers: Workers,
    job: Job | HostJob,
    groups: Sequence[Group] | Sequence[HostRuns],
    finished: StackedRecords,
    store: Store | None,
    report: Report,
    callback: Callback | None = None,
) -> None:
    """Trains the runs that are not finished yet, and adds their records to `finished` and to the store.

    Args:
      workers: what trains them.
      job: what they share.
      groups: all runs of the sweep.
      finished: the records of those that are finished, which grows.
      store: the sweep's folder; None keeps the records in memory only.
      report: the caller's.
      callback: told of each run when it is kept.
    """
    remaining = remaining_of(groups, finished)
    status = Status(sum(len(group.runs) for group in groups), finished, report, store)
    unfinished = None if store is None else Unfinished(store)
    for records in workers.train(job, remaining, status.report, unfinished) if remaining else ():
        waiting: collections.deque[Recorded] = collections.deque()
        try:
            with uninterrupted():
                if job.keep_params:
                    # As they are when read from files: in dicts, also where the task has them in a `nnx.State`.
                    records = {
                        run: record._replace(params=unflatten(*flatten(record.params)))
                        for run, record in records.items()
                    }
                if store is None:
                    finished.add(records)
                else:
                    # It adds them to `finished`.
                    store.write(records)
                status.count(records.values())
                if unfinished is not None:
                    unfinished.remove()
                if callback is not None:
                    waiting.extend(recorded_of_whole(job.cfg, run, record) for run, record in records.items())
        finally:
            # Also after a Ctrl-C that was held back: a run that is kept is handed out now or never.
            if callback is not None:
                hand_over(callback, waiting)
    status.finish()
