"""Which runs of a sweep are still to be trained, and keeping their records as they finish."""

from collections.abc import Mapping, Sequence

from momentum_jax._base.progress import Progress
from momentum_jax._base.trees import flatten, unflatten
from momentum_jax.config import Config
from momentum_jax.results.record import Record, Run
from momentum_jax.results.store import Store
from momentum_jax.space import Trial
from momentum_jax.sweeps.batches import Job
from momentum_jax.sweeps.status import Status
from momentum_jax.sweeps.workers import Workers


def all_runs(cfg: Config, trials: Mapping[str, Sequence[Trial]]) -> list[Run]:
    """Lists every run of a sweep, seed by seed.

    So the whole space is seen early, and runs that are trained together share their batches.
    """
    return [
        Run(label, position, trial, seed)
        for seed in cfg.seed_tuple
        for label, own in trials.items()
        for position, trial in enumerate(own)
    ]


def finish_runs(
    workers: Workers,
    job: Job,
    runs: Sequence[Run],
    finished: dict[Run, Record],
    store: Store | None,
    progress: Progress,
) -> None:
    """Trains the runs that are not finished yet, and adds their records to `finished` and to the store.

    Args:
      workers: what trains them.
      job: what they share.
      runs: all of the sweep.
      finished: the records of those that are finished, which grows; of the store if there is one.
      store: the sweep's folder; None keeps the records in memory only.
      progress: the caller's.
    """
    remaining = [run for run in runs if run not in finished]
    status = Status(len(runs), finished, progress, store)
    for records in workers.train(job, remaining, status.report) if remaining else ():
        if job.keep_params:
            # As they are when they are read from files: in dicts, also where the task has them in a `nnx.State`.
            records = {
                run: record._replace(params=unflatten(*flatten(record.params))) for run, record in records.items()
            }
        if store is None:
            finished.update(records)
        else:
            store.write(records)
        status.count_failed(records.values())
    status.finish()
