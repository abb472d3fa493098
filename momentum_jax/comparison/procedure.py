"""`compare(cfg, a, b)`: tunes optimizers alike, trains them side by side, and judges."""

import contextlib
import dataclasses
import functools
import pathlib
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from momentum_jax._base.errors import InputError, shown
from momentum_jax._base.progress import Progress, Report, reporting_to
from momentum_jax._base.reading import reason
from momentum_jax.comparison.arms import Arm, arm_of
from momentum_jax.comparison.budget import Budget, Stopwatch, check_within, choose, seeds_that_fit
from momentum_jax.comparison.counts import PlannedRuns
from momentum_jax.comparison.folder import JUDGING, RERUNNING, TUNING, open_head, write_head
from momentum_jax.comparison.planning import (
    PlannedComparison,
    check_metrics,
    check_several,
    check_target,
    judging_options,
    plan_comparison,
)
from momentum_jax.comparison.protocols import PlannedProtocol, Protocol, trials_of
from momentum_jax.comparison.result import Comparison, comparison_of, judge_protocols, reference_target
from momentum_jax.comparison.stages import Stages, plan_stages
from momentum_jax.comparison.target import reachable_loss
from momentum_jax.comparison.tuning import TuningPlan, best_few, plan_tuned
from momentum_jax.comparison.wording import note_on_few_seeds, note_on_given_target
from momentum_jax.config import Config
from momentum_jax.optimizers.description import OptimizerConfig, Schedule
from momentum_jax.results.result import Result
from momentum_jax.space import Space, Trial
from momentum_jax.sweeps.driver import run_sweep
from momentum_jax.sweeps.plan import plan_sweep
from momentum_jax.sweeps.workers import Workers, make_workers
from momentum_jax.tasks import HostTask, Task
from momentum_jax.training.cost import measure_steps
from momentum_jax.training.loop import Interrupted, interruptible


@interruptible()
def compare(
    cfg: Config,
    *labels: str,
    space: Space | None = None,
    search: str = "sobol",
    trials: int | None = None,
    within: float | None = None,
    search_seed: int = 0,
    tuning_seeds: int | Sequence[int] = 3,
    rerun_trials: int = 3,
    rerun_seeds: int | Sequence[int] = 10,
    validation: int | None = None,
    tune_by: str | None = None,
    learning_rate: float | Schedule | None = None,
    effective_learning_rate: float | None = None,
    judge_by: Sequence[str] | None = None,
    target: float | None = None,
    margin: float | None = None,
    level: float = 0.95,
    folder: str | pathlib.Path | None = None,
    task: Task | HostTask | None = None,
    layout: str = "auto",
    cluster: str | None = None,
    progress: Progress | Literal[False] | None = None,
) -> Comparison:
    """Compares optimizers in three ways: at one learning rate, at one effective learning rate, and each at its best.

    To find its best, each optimizer is tuned with the same number of trials over the space, on training examples held
    out for that, with seeds other than the config's. Its best trials are run again with fresh seeds, and the one with
    the least median loss is chosen. It is then trained on all training examples with the config's seeds, as the other
    two ways are, and judged on the test set. So no optimizer is flattered by the runs that chose its trial.

    An optimizer whose space contains another's (momentum 0 is plain SGD) also chooses among the best trials of that
    one. Where it takes one of them, there is a fourth protocol, "tuned_alone", in which each has its own trials only.

    Runs of two optimizers with the same seed share initial weights and batches. Each verdict rests on a
    distribution-free confidence interval for the median of their paired differences (order statistics). Two optimizers
    need 7 seeds, or 8 if the space of one contains the other's, and more optimizers need more; a warning says how many
    before anything is trained. With fewer there are medians and no verdicts.

    Args:
      cfg: the task, the optimizers, and the seeds to judge with, such as 20.
      *labels: which of the config's optimizers to compare, by default all. Each is held against those before it.
      space: what the tuning varies, as in `sweep`. By default the effective learning rate from 0.001 to 10, or the
        learning rate from 0.001 to 1 where there is none; and the momentum from 0 to 0.99, 1 − momentum on a
        logarithmic scale. The best trials lie along a line of equal effective learning rates.
      search: "sobol", "random" or "grid".
      trials: trials of each optimizer in the tuning, 16 by default. A grid must have as many for each optimizer.
      within: seconds that all of it may take. Trials, seeds and iterations are then chosen by a short pilot: `trials`
        if they are not given, the seeds to judge with if the config has only one, and fewer iterations than the
        config's if nothing else fits. `notes` say what was chosen, and which differences it can resolve; a folder keeps
        it for the same call. See `momentum_jax.comparison.budget`.
      search_seed: the seed of the search's draws.
      tuning_seeds: how many seeds each trial is run with, none of them the config's; or the seeds themselves.
      rerun_trials: how many of each optimizer's trials, the best ones, are run again before one is chosen.
      rerun_seeds: how many seeds these are run with, none of those above; or the seeds themselves. With 0 the tuning
        alone chooses.
      validation: how many training examples the tuning holds out, by default a sixth. With 0 all of them are trained
        on and the training loss chooses, which is the default of a task whose evaluation gives no "test_loss".
      tune_by: the metric that chooses, by default the loss on what is held out.
      learning_rate: the learning rate of the first protocol, by default that of the first optimizer.
      effective_learning_rate: that of the second protocol, by default the largest of the optimizers as configured.
      judge_by: the metrics to judge by; by default all in `momentum_jax.comparison.metrics.METRICS`, and others that
        the task evaluates.
      target: the smoothed loss before the update whose time is taken. By default it is taken from the reruns,
        if these have 10 seeds or more: the lowest loss, rounded up to two digits, that 90 % of the runs of every
        optimizer's best trial reach in three quarters of the iterations. Otherwise no times are judged, and a note
        suggests a target.
      margin: optimizers are called equivalent if they differ by at most this proportion of the other's median (in
        accuracies and proportions of failed runs: by at most this much).
      level: the confidence level that the intervals of one metric have together.
      folder: where the runs are kept, and from where the same call goes on; by default nowhere. A call with other
        seeds to judge with uses what is there too.
      task: your own problem, in place of the config's dataset and network; or a `HostTask`, your own training loop. It
        holds examples out by itself for the tuning, and its iterations are not timed: `validation` and `layout` do not
        apply to it, and seconds are not judged.
      layout: as in `train`.
      cluster: as in `sweep`. Iterations are timed on this machine all the same.
      progress: as in `sweep`, with the phases "tuning", "rerunning", "judging" and "timing" beside "compiling", and
        "planning" before them with `within`. By default the time left that is shown is that of all of them.

    Raises:
      InputError: something that was given cannot be used, and nothing has been trained; or no trial of any optimizer
        finished without failing; or the pilot finds `within` too short, and the message says what is needed.
      Interrupted: a KeyboardInterrupt; the same call goes on from there if there is a folder.

    >>> import numpy as np
    >>> task = Task(
    ...     init=lambda key: np.zeros([], np.float32),
    ...     loss=lambda params, batch: ((params - batch) ** 2).mean(),
    ...     train=np.linspace(0, 1, 60, dtype=np.float32),
    ... )
    >>> cfg = Config(iterations=20, batch_size=4, seeds=8)
    >>> comparison = compare(cfg, "sgd", "momentum", trials=2, tuning_seeds=1, rerun_seeds=1, task=task)
    >>> comparison.protocols["matched"].title
    'same effective learning rate, 0.1'
    >>> print(comparison.verdict("same", "train_loss", "momentum", "sgd").outcome)
    better
    """
    watch = Stopwatch()
    check_within(within, cluster)
    plan = functools.partial(
        plan_comparison,
        labels=labels,
        space=space,
        search=search,
        search_seed=search_seed,
        tuning_seeds=tuning_seeds,
        rerun_trials=rerun_trials,
        rerun_seeds=rerun_seeds,
        validation=validation,
        tune_by=tune_by,
        learning_rate=learning_rate,
        effective_learning_rate=effective_learning_rate,
        judge_by=judge_by,
        target=target,
        margin=margin,
        level=level,
        folder=folder,
        task=task,
        layout=layout,
        progress=progress,
    )
    planned = plan(cfg, trials=trials)
    check_target(planned.options, planned.tuning.search)
    with contextlib.ExitStack() as stack:
        kept = pathlib.Path(folder) if folder is not None else stack.enter_context(temporary_folder())
        budget = None
        if within is not None:
            planned, budget = choose(within, trials, planned, plan, layout, kept, progress, watch)
        compared = run_comparison(planned, kept, layout, cluster, progress, budget)
        return compared if folder is not None else compared.in_memory()


def run_comparison(
    planned: PlannedComparison,
    folder: pathlib.Path,
    layout: str,
    cluster: str | None,
    progress: Progress | Literal[False] | None,
    budget: Budget | None = None,
    *,
    by_reference: bool = False,
) -> Comparison:
    """Tunes, trains and judges what is planned, in a folder; see `compare`.

    Args:
      planned: the comparison.
      folder: where the runs are kept, and read from when they are asked for.
      layout: as in `train`.
      cluster: as in `sweep`.
      progress: as in `compare`.
      budget: what was chosen to keep within a time; None if there is none, or an earlier call has chosen.
      by_reference: whether the target is that of the first optimizer alone, see `reference_target`.

    Raises:
      InputError: the folder cannot be used, or no trial of any optimizer finished without failing.
      Interrupted: a KeyboardInterrupt.
    """
    cfg, task, plan, options = planned.cfg, planned.task, planned.tuning, planned.options
    with reporting_to(progress) as report, contextlib.ExitStack() as stack:
        stages = plan_stages(report, cfg, planned.runs, timed=not isinstance(task, HostTask))
        workers = stack.enter_context(make_workers(cluster, None, layout, task))
        head = stack.enter_context(open_head(folder, planned.values))
        _warn_of_few_seeds(cfg, planned.runs, options.level)
        tuning = run_sweep(planned.sweep, workers, stages.report_of("tuning"), folder / TUNING)
        rerun = _run_again(plan, tuning, workers, stages, folder) if plan.search.rerun_seeds else None
        protocols = planned.untuned | plan_tuned(plan, rerun or tuning)
        trials_to_judge = _trials_to_judge(cfg, protocols)
        if by_reference:
            options = options._replace(target=reference_target(rerun or tuning, planned.values))
        if budget is not None:
            cfg = dataclasses.replace(cfg, seeds=cfg.seed_tuple[: seeds_that_fit(budget, budget.watch.seconds)])
            head["plan"]["config"] = cfg.to_json()
        head |= {"judging": options._asdict(), "protocols": _positions(protocols, trials_to_judge)}
        write_head(folder, head)
        judging_plan = plan_sweep(cfg, trials_to_judge, task)
        judged = run_sweep(judging_plan, workers, stages.report_of("judging"), folder / JUDGING)
        if "seconds_per_step" not in head and not isinstance(task, HostTask):
            head["seconds_per_step"] = _seconds_per_step(judged, task, stages.report_of("timing"))
            write_head(folder, head)
        if budget is not None:
            head["seconds"] = budget.watch.seconds
            write_head(folder, head)
        return comparison_of(head, tuning, rerun, judged)


def _run_again(plan: TuningPlan, tuning: Result, workers: Workers, stages: Stages, folder: pathlib.Path) -> Result:
    """The best trials of the tuning with fresh seeds."""
    best = best_few(tuning, plan.tune_by, plan.search.rerun_trials)
    cfg = dataclasses.replace(plan.cfg, seeds=plan.search.rerun_seeds)
    return run_sweep(plan_sweep(cfg, best, plan.task), workers, stages.report_of("rerunning"), folder / RERUNNING)


@contextlib.contextmanager
def temporary_folder() -> Iterator[pathlib.Path]:
    """A folder that is removed after the block. What an `Interrupted` hands out is read from it before.

    Raises:
      InputError: none can be made.
    """
    try:
        folder = tempfile.TemporaryDirectory()
    except OSError as error:
        raise InputError(f"the runs need a temporary folder, or one that is given: {reason(error)}") from error
    with folder as name:
        try:
            yield pathlib.Path(name)
        except Interrupted as stop:
            raise Interrupted(None if stop.result is None else stop.result.in_memory(), stop.done) from None


def compare_results(
    *results: Result,
    judge_by: Sequence[str] | None = None,
    target: float | None = None,
    margin: float | None = None,
    level: float = 0.95,
) -> Comparison:
    """Judges what `train` returned: the optimizers as configured, of one result or of several of one task.

    Args:
      *results: results of `train`.
      judge_by: as in `compare`.
      target: as in `compare`, without a default, since there is no tuning to take one from. A note suggests one.
      margin: as in `compare`.
      level: as in `compare`.

    Raises:
      InputError: the results are of different tasks or data, share a label, are of a sweep or interrupted, or an
        option cannot be used; or times are asked for by name and no target is given.
    """
    if not results:
        raise InputError("there is no result to judge")
    for result in results:
        if not isinstance(result, Result):
            raise InputError(f"compare_results takes results of mj.train, not {shown(result)}")
    options = judging_options(judge_by, target, margin, level)
    check_same_task(results)
    optimizers: dict[str, OptimizerConfig] = {}
    arms: dict[str, Arm] = {}
    for result in results:
        _check_finished_training(result)
        for label, optimizer in result.config.optimizers.items():
            if label in arms:
                raise InputError(f"two results have an optimizer with the label {label!r}")
            optimizers[label] = optimizer
            arms[label] = arm_of(result, label, None)
    check_several(optimizers)
    config = dataclasses.replace(results[0].config, optimizers=optimizers)
    check_metrics(options, {name for arm in arms.values() for name in arm.values} | {"iterations_to_target"})
    protocols = {"given": Protocol("as configured", arms, None)}
    notes = []
    if target is None and options.times:
        notes.append(note_on_given_target(reachable_loss(arms.values(), config)))
        if judge_by is not None:
            raise InputError(notes[0])
    return judge_protocols(
        config, protocols, options, options.target, judged=results, tuning=None, plan={}, notes=notes
    )


def check_same_task(results: Sequence[Result]) -> None:
    """Refuses results of different tasks: of configs that differ in more than optimizers and seeds, or of other data.

    Raises:
      InputError: naming the first difference.
    """
    for result in results[1:]:
        first, other = ({**r.config.to_json(), "optimizers": {}, "seeds": []} for r in (results[0], result))
        for name, value in first.items():
            if other[name] != value:
                raise InputError(
                    f"these results are not of one task and cannot be compared: {name} is {value!r} in one and "
                    f"{other[name]!r} in another"
                )
        functions = [r.provenance.get("functions") for r in (results[0], result)]
        if functions[0] != functions[1]:
            raise InputError(
                f"these results are not of one task and cannot be compared: its functions are {functions[0]} in one "
                f"and {functions[1]} in another"
            )
        # The digests of what they compute differ between versions of JAX.
        computed = [r.provenance.get("computed") for r in (results[0], result) if _jax_of(r) == _jax_of(results[0])]
        if None not in computed and computed[0] != computed[-1]:
            raise InputError(
                "these results are not of one task and cannot be compared: its functions have the same names and "
                "compute something else"
            )
        digests = [_digest_of(r) for r in (results[0], result)]
        if digests[0] != digests[1]:
            raise InputError(
                f"these results are of different data and cannot be compared: digests {digests[0]} and {digests[1]}"
            )


def _jax_of(result: Result) -> Any:
    return result.provenance.get("versions", {}).get("jax")


def _digest_of(result: Result) -> str:
    data = result.provenance.get("data")
    return str(data.get("digest", data) if isinstance(data, Mapping) else data)


def _check_finished_training(result: Result) -> None:
    if result.trials is not None:
        raise InputError(
            "the best trial of a sweep, judged by the runs that it was chosen by, is flattered: compare tunes with "
            "one set of seeds and judges with another"
        )
    if result.iterations[-1] != result.config.iterations - 1:
        raise InputError(
            f"a result that was interrupted after iteration {result.iterations[-1]} of {result.config.iterations} "
            "cannot be compared"
        )


def _warn_of_few_seeds(cfg: Config, runs: PlannedRuns, level: float) -> None:
    """Warns, before anything is trained, if there will be no verdicts."""
    few = note_on_few_seeds(len(cfg.seed_tuple), runs.pairs, level)
    if few is not None:
        warnings.warn(few, stacklevel=5)


def _trials_to_judge(cfg: Config, planned: Mapping[str, PlannedProtocol]) -> dict[str, tuple[Trial, ...]]:
    trials = trials_of(cfg.optimizers, planned)
    if not all(trials.values()):
        raise InputError("nothing can be compared: " + "; ".join(str(p.skipped) for p in planned.values()))
    return trials


def _positions(planned: Mapping[str, PlannedProtocol], trials: Mapping[str, Sequence[Trial]]) -> dict[str, Any]:
    """The protocols as JSON, with the position of each trial in the sweep of the judging."""
    return {
        name: {
            "title": protocol.title,
            "skipped": protocol.skipped,
            "trials": {label: trials[label].index(trial) for label, trial in protocol.trials.items()},
        }
        for name, protocol in planned.items()
    }


def _seconds_per_step(judged: Result, task: Task, report: Report) -> dict[str, list[list[float]]]:
    assert judged.trials is not None
    try:
        return measure_steps(judged.config, judged.trials, task, report)
    except Interrupted:
        runs = sum(map(len, judged.trials.values())) * len(judged.config.seed_tuple)
        raise Interrupted(judged, runs) from None
