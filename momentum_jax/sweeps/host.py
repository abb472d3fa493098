"""Runs of a `HostTask`: one call of its function each, in worker processes, and the records of what they return."""

import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from momentum_jax._base.errors import InputError, plain_scalar, shown, summary
from momentum_jax._base.processes import Died, Processes, StartError
from momentum_jax._base.progress import Report
from momentum_jax.config import Config, recorded_iterations
from momentum_jax.results.record import Record, Run
from momentum_jax.space import BATCH_SIZE, factory_of
from momentum_jax.sweeps.unfinished import Unfinished
from momentum_jax.tasks.host import HostTask

ENVIRONMENT = {"platform": "host"}
"""What the bits of such runs depend on is not known here."""
# Characters of an error that are kept, the last ones.
_MOST_KEPT = 20_000


class HostRuns(NamedTuple):
    """Runs of a task; in place of `Group`, since nothing is compiled for them."""

    runs: tuple[Run, ...]

    def take(self, positions: Iterable[int]) -> "HostRuns":
        """The runs at these positions only."""
        return HostRuns(tuple(self.runs[i] for i in positions))


class HostJob(NamedTuple):
    """What all runs share; in place of `Job`."""

    cfg: Config
    task: HostTask
    keep_params: bool = False


class Returned(NamedTuple):
    """What a run returned, checked."""

    losses: Float[np.ndarray, " iterations"]
    scores: dict[str, float]


class HostWorkers(NamedTuple):
    """Workers that make one run at a time each.

    Attributes:
      call: makes some runs, and gives position and outcome of each as it ends.
    """

    call: Callable[[HostJob, Sequence[Run]], Iterator[tuple[int, Any]]]

    def environment(self) -> dict[str, str]:
        return dict(ENVIRONMENT)

    def train(
        self, job: HostJob, groups: Sequence[HostRuns], report: Report, unfinished: Unfinished | None = None
    ) -> Iterator[dict[Run, Record]]:
        del unfinished
        runs = [run for group in groups for run in group.runs]
        report("runs", 0, len(runs))
        for finished, (i, outcome) in enumerate(self.call(job, runs), 1):
            yield {runs[i]: make_record(job, runs[i], outcome)}
            report("runs", finished, len(runs))


def call_processes(processes: Processes, job: HostJob, runs: Sequence[Run]) -> Iterator[tuple[int, Any]]:
    """Makes runs in processes of this machine; `HostWorkers.call`."""
    try:
        yield from processes.call([call_of(job, run) for run in runs])
    except StartError as error:
        raise InputError(
            f"a worker process ended before its first run ({error}), for the reason that it printed; it must be "
            f"able to import {job.task.run_name}, and a script calls this under if __name__ == '__main__':"
        ) from None


def check_config(cfg: Config) -> None:
    """Refuses what a config asks for that a run of a `HostTask` does not return."""
    refuse_given(evaluate_every=cfg.evaluate_every, loss_after=cfg.loss_after or None)


def refuse_given(**options: object) -> None:
    """Refuses options that do not apply to a `HostTask`; one that is None was not given."""
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{name} does not apply to a HostTask, whose run trains by itself; leave it out")


def call_of(job: HostJob, run: Run) -> tuple[dict[str, Any], int, int, str]:
    """The arguments of `attempt` for a run."""
    return hyperparameters_of(run), run.seed, job.cfg.iterations, job.task.data


def hyperparameters_of(run: Run) -> dict[str, Any]:
    """What a run is given as its hyperparameters: see `HostTask`."""
    optimizer, batch_size = run.trial
    parameters = inspect.signature(factory_of(optimizer)).parameters.values()
    # Others, such as functions, have no meaning outside of Optax.
    plain = (int, float, str, tuple, type(None))
    defaults = {parameter.name: parameter.default for parameter in parameters if isinstance(parameter.default, plain)}
    return {**defaults, **optimizer.hyperparameters, "optimizer": optimizer.name_text, BATCH_SIZE: batch_size}


def attempt(
    task: HostTask, hyperparameters: Mapping[str, Any], seed: int, iterations: int, data: str
) -> Returned | InputError | str:
    """Makes a run; returns what it returned, or why that cannot be used, or what it raised, in words."""
    try:
        returned = task.run(hyperparameters, seed, iterations, data=data)
    except (Exception, SystemExit) as error:
        # Without the frame of this function.
        own = error.__traceback__.tb_next if error.__traceback__ else None
        text = "".join(traceback.format_exception(error.with_traceback(own))).strip()
        return f"{summary(error)}\n{text[-_MOST_KEPT:]}".encode(errors="backslashreplace").decode()
    try:
        return check_returned(task, returned, iterations)
    except InputError as error:
        return error
    except Exception as error:
        # Whatever the library of what was returned raises.
        return InputError(f"what run returned cannot be read: {summary(error)}")


def check_returned(task: HostTask, returned: Any, iterations: int) -> Returned:
    """What a run returned, as float64.

    Raises:
      InputError: it is something else than a `HostTask` asks for.
    """
    if not (isinstance(returned, tuple | list) and len(returned) == 2):
        raise InputError(f"run must return (losses, scores), not {shown(returned)}")
    losses, scores = returned
    try:
        losses = np.asarray(losses)
    except Exception as error:
        # Whatever the losses' library raises.
        raise InputError(f"run must return its losses as an array or a list of numbers: {summary(error)}") from error
    if losses.shape != (iterations,):
        raise InputError(
            f"run must return the loss before each of its {iterations} updates, in shape ({iterations},), not "
            f"{losses.shape}"
        )
    if losses.dtype.kind not in "fiu":
        raise InputError(f"run must return its losses as real numbers, not as {losses.dtype}")
    if not isinstance(scores, Mapping) or set(scores) != set(task.scores):
        given = list(scores) if isinstance(scores, Mapping) else scores
        raise InputError(
            f"run must return the scores {', '.join(task.scores) or 'that the task names (none)'}, not {shown(given)}; "
            "HostTask(…, scores=…) names them"
        )
    numbers = {name: plain_scalar(scores[name]) for name in task.scores}
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise InputError(f"run must return a real number as {name!r}, not {shown(number)}")
    return Returned(losses.astype(np.float64), {name: float(number) for name, number in numbers.items()})


def make_record(job: HostJob, run: Run, outcome: Returned | InputError | Died | str) -> Record:
    """The record of a run: as a run of ours leaves it, with an error that is empty if nothing was raised.

    A run that raised has NaN as its losses and scores. So has one that diverged, after the loss that is not finite.

    Raises:
      InputError: what the run returned cannot be used.
    """
    iterations, task = job.cfg.iterations, job.task
    if isinstance(outcome, InputError):
        raise InputError(f"seed {run.seed} of {run.label!r}: {outcome}")
    if isinstance(outcome, Died):
        ended = f"signal {-outcome.exit_code}" if outcome.exit_code < 0 else f"exit code {outcome.exit_code}"
        outcome = f"its worker process died in each of {outcome.attempts} attempts, the last with {ended}"
    error = outcome if isinstance(outcome, str) else ""
    nothing = Returned(np.full(iterations, np.nan), dict.fromkeys(task.scores, np.nan))
    losses, scores = nothing if isinstance(outcome, str) else outcome
    diverged_at = -1
    if not error and not np.isfinite(losses).all():
        diverged_at = int(np.argmin(np.isfinite(losses)))
        losses, scores = np.where(np.arange(iterations) > diverged_at, np.nan, losses), nothing.scores
    limit = np.inf if task.baseline_loss is None else task.baseline_loss
    useless = "train_loss" in scores and not scores["train_loss"] < limit
    return Record(
        losses=None,
        losses_before=losses[recorded_iterations(job.cfg)],
        metrics={},
        diverged_at=diverged_at,
        evaluations={name: np.array([score]) for name, score in scores.items()},
        failed=bool(error) or diverged_at >= 0 or useless,
        params=None,
        error=error,
    )
