"""Which runs of a sweep are still to be trained, and keeping their records as they finish."""

from collections.abc import Container, Sequence

from momentum_jax._base.progress import Progress
from momentum_jax._base.trees import flatten, unflatten
from momentum_jax.results.record import Record, Run
from momentum_jax.results.store import Store
from momentum_jax.sweeps.batches import Job
from momentum_jax.sweeps.status import Status
from momentum_jax.sweeps.workers import Workers
from momentum_jax.training.groups import Group


def remaining_of(groups: Sequence[Group], finished: Container[Run]) -> list[Group]:
    """The runs that are not finished; a group without any is left out."""
    rest = [group.take(i for i, run in enumerate(group.runs) if run not in finished) for group in groups]
    return [group for group in rest if group.runs]


def finish_runs(
    workers: Workers,
    job: Job,
    groups: Sequence[Group],
    finished: dict[Run, Record],
    store: Store | None,
    progress: Progress,
) -> None:
    """Trains the runs that are not finished yet, and adds their records to `finished` and to the store.

    Args:
      workers: what trains them.
      job: what they share.
      groups: all runs of the sweep.
      finished: the records of those that are finished, which grows.
      store: the sweep's folder; None keeps the records in memory only.
      progress: the caller's.
    """
    remaining = remaining_of(groups, finished)
    status = Status(sum(len(group.runs) for group in groups), finished, progress, store)
    for records in workers.train(job, remaining, status.report) if remaining else ():
        if job.keep_params:
            # As they are when they are read from files: in dicts, also where the task has them in a `nnx.State`.
            records = {
                run: record._replace(params=unflatten(*flatten(record.params))) for run, record in records.items()
            }
        if store is None:
            finished.update(records)
        else:
            # It adds them to `finished`, so that no Ctrl-C comes between.
            store.write(records)
        status.count(records.values())
    status.finish()
