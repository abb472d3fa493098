"""`compare(cfg, a, b)`: tunes optimizers alike, trains them side by side, and judges."""

import contextlib
import dataclasses
import functools
import math
import pathlib
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from momentum_jax._base.errors import InputError, check_real, plain, shown, unknown
from momentum_jax._base.progress import Progress, Report, reporting_to
from momentum_jax._base.reading import reason
from momentum_jax.comparison.arms import Arm, arm_of
from momentum_jax.comparison.budget import Budget, Stopwatch, choose, seeds_that_fit
from momentum_jax.comparison.counts import ComparisonPlan, PlannedRuns, planned_runs
from momentum_jax.comparison.folder import JUDGING, RERUNNING, TUNING, open_head, write_head
from momentum_jax.comparison.metrics import TIMES
from momentum_jax.comparison.protocols import (
    PlannedProtocol,
    Protocol,
    plan_untuned,
    trials_of,
)
from momentum_jax.comparison.result import Comparison, JudgingOptions, comparison_of, judge_protocols
from momentum_jax.comparison.stages import Stages, plan_stages
from momentum_jax.comparison.target import LEAST_RUNS, reachable_loss
from momentum_jax.comparison.tuning import (
    Search,
    TuningPlan,
    best_few,
    plan_search,
    plan_tuned,
    plan_tuning,
    score_names,
)
from momentum_jax.comparison.wording import note_on_few_seeds, note_on_given_target
from momentum_jax.config import Config
from momentum_jax.optimizers.description import OptimizerConfig, Schedule, value_text
from momentum_jax.results.result import Result
from momentum_jax.space import Space, Trial
from momentum_jax.sweeps.driver import run_sweep
from momentum_jax.sweeps.host import refuse_given
from momentum_jax.sweeps.plan import plan_sweep
from momentum_jax.sweeps.workers import Workers, make_workers
from momentum_jax.tasks import HostTask, Task
from momentum_jax.training.cost import measure_steps
from momentum_jax.training.loop import Interrupted, interruptible
from momentum_jax.training.validate import check_names, check_types, resolve_task


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
    check_types(cfg, None if isinstance(task, HostTask) else task, progress=progress, folder=folder)
    check_names(cfg.optimizers)
    cfg = _with_labels(cfg, labels)
    options = _judging_options(judge_by, target, margin, level)
    # Numbers of NumPy become Python's.
    trials, validation, learning_rate, effective_learning_rate = map(
        plain, (trials, validation, learning_rate, effective_learning_rate)
    )
    _check_rates(learning_rate, effective_learning_rate)
    own_task = task is not None
    task = _resolved(cfg, task, layout)
    times = [name for name in TIMES if name != "seconds_to_target" or not isinstance(task, HostTask)]
    folder = None if folder is None else pathlib.Path(folder)

    def plan_runs(cfg: Config, trials: int | None) -> ComparisonPlan:
        tried = plan_search(cfg, space, search, trials, search_seed, tuning_seeds, plain(rerun_trials), rerun_seeds)
        tuning = plan_tuning(cfg, task, tried, validation, tune_by)
        _check_metrics(options, [*score_names(cfg, task), "mean_loss", "failed", *times])
        _check_target(options, tried)
        untuned = plan_untuned(cfg, learning_rate, effective_learning_rate)
        # Refuses here what would be refused after the tuning.
        plan_sweep(cfg, trials_of(cfg.optimizers, untuned), task)
        runs = planned_runs(tried, cfg, untuned, options.level)
        return ComparisonPlan(cfg, tuning, untuned, plan_sweep(tuning.cfg, tried.trials, tuning.task), runs)

    told, budget = {}, None
    if within is not None:
        _check_within(within, cluster)
        make = functools.partial(make_workers, None, None, layout, task)
        choice = choose(plain(within), cfg, trials, plan_runs, make, folder, progress, options.level, watch)
        cfg, trials, told, budget = choice.cfg, choice.trials, {"within": choice.told}, choice.budget
    plan = plan_runs(cfg, trials)
    rates = {"learning_rate": learning_rate, "effective_learning_rate": effective_learning_rate}
    texts = {name: None if rate is None else _text_of_rate(rate) for name, rate in rates.items()}
    with reporting_to(progress) as report, contextlib.ExitStack() as stack:
        stages = plan_stages(report, cfg, plan.runs, timed=not isinstance(task, HostTask))
        workers = stack.enter_context(make_workers(cluster, None, layout, task))
        is_kept = folder is not None
        folder = stack.enter_context(temporary_folder()) if folder is None else folder
        head = stack.enter_context(open_head(folder, plan.tuning.values | texts | {"own_task": own_task} | told))
        _warn_of_few_seeds(cfg, plan.runs, options.level)
        results = _train(plan, task, options, workers, stages, folder, head, budget, watch)
        return comparison_of(head, *(results if is_kept else (result and result.in_memory() for result in results)))


def _train(
    plan: ComparisonPlan,
    task: Task | HostTask,
    options: JudgingOptions,
    workers: Workers,
    stages: Stages,
    folder: pathlib.Path,
    head: dict[str, Any],
    budget: Budget | None,
    watch: Stopwatch,
) -> tuple[Result, Result | None, Result]:
    """Tunes, runs the best trials again, judges and times, and writes to the head what it finds.

    Returns:
      The results of the tuning, of the reruns if there are any, and of the judging.
    """
    cfg = plan.cfg
    tuning = run_sweep(plan.sweep, workers, stages.report_of("tuning"), folder / TUNING)
    rerun = _run_again(plan.tuning, tuning, workers, stages, folder) if plan.tuning.search.rerun_seeds else None
    planned = plan.untuned | plan_tuned(plan.tuning, rerun or tuning)
    trials_to_judge = _trials_to_judge(cfg, planned)
    if budget is not None:
        cfg = dataclasses.replace(cfg, seeds=cfg.seed_tuple[: seeds_that_fit(budget, watch.seconds)])
        head["plan"]["config"] = cfg.to_json()
    head |= {"judging": options._asdict(), "protocols": _positions(planned, trials_to_judge)}
    write_head(folder, head)
    judging_plan = plan_sweep(cfg, trials_to_judge, task)
    judged = run_sweep(judging_plan, workers, stages.report_of("judging"), folder / JUDGING)
    if "seconds_per_step" not in head and not isinstance(task, HostTask):
        head["seconds_per_step"] = _seconds_per_step(judged, task, stages.report_of("timing"))
        write_head(folder, head)
    if budget is not None:
        head["seconds"] = watch.seconds
        write_head(folder, head)
    return tuning, rerun, judged


def _run_again(plan: TuningPlan, tuning: Result, workers: Workers, stages: Stages, folder: pathlib.Path) -> Result:
    """The best trials of the tuning with fresh seeds."""
    best = best_few(tuning, plan.tune_by, plan.search.rerun_trials)
    cfg = dataclasses.replace(plan.cfg, seeds=plan.search.rerun_seeds)
    return run_sweep(plan_sweep(cfg, best, plan.task), workers, stages.report_of("rerunning"), folder / RERUNNING)


def _resolved(cfg: Config, task: Task | HostTask | None, layout: str) -> Task | HostTask:
    """The task that is compared on, checked."""
    if not isinstance(task, HostTask):
        return resolve_task(cfg, task)
    refuse_given(layout=None if layout == "auto" else layout)
    if task.data != "train":
        raise InputError(f"compare tunes on tuning data and judges on train; leave out data={task.data!r}")
    return task


def _check_rates(learning_rate: float | Schedule | None, effective: float | None) -> None:
    if learning_rate is not None and not isinstance(learning_rate, Schedule):
        check_real("learning_rate", learning_rate, 0, math.inf)
    if effective is not None:
        check_real("effective_learning_rate", effective, 1e-300, math.inf)


def _check_within(within: float, cluster: str | None) -> None:
    check_real("within", within, 1, math.inf)
    if cluster is not None:
        raise InputError("within is for runs on this machine; with a cluster give trials, seeds and iterations")


def _text_of_rate(rate: float | Schedule) -> str:
    """The text of a rate; 1 and 1.0 are the same one."""
    return value_text(rate if isinstance(rate, Schedule) else float(rate))


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
    options = _judging_options(judge_by, target, margin, level)
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
    _check_several(optimizers)
    config = dataclasses.replace(results[0].config, optimizers=optimizers)
    _check_metrics(options, {name for arm in arms.values() for name in arm.values} | {"iterations_to_target"})
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


def _with_labels(cfg: Config, labels: Sequence[str]) -> Config:
    for label in labels:
        if not isinstance(label, str):
            raise InputError(
                f'labels are given one by one, such as compare(cfg, "sgd", "momentum"), not {shown(label)}'
            )
        if label not in cfg.optimizers:
            raise unknown("optimizer's label", label, cfg.optimizers)
    chosen = {label: cfg.optimizers[label] for label in labels or cfg.optimizers}
    _check_several(chosen)
    return dataclasses.replace(cfg, optimizers=chosen)


def _check_several(optimizers: Mapping[str, OptimizerConfig]) -> None:
    if len(optimizers) < 2:
        raise InputError(f"a comparison needs two or more optimizers, not only {next(iter(optimizers))!r}")


def _judging_options(
    judge_by: Sequence[str] | None, target: float | None, margin: float | None, level: float
) -> JudgingOptions:
    if judge_by is not None:
        several = isinstance(judge_by, list | tuple) and all(isinstance(name, str) for name in judge_by)
        if not (several and judge_by):
            raise InputError(
                f'judge_by must be one or more metrics by name, such as ["test_loss"], not {shown(judge_by)}'
            )
    if target is not None:
        check_real("target", target, -math.inf, math.inf)
    if margin is not None:
        check_real("margin", margin, 0, np.inf)
    check_real("level", level, 0.5, 1, below_high=True)
    options = JudgingOptions(None if judge_by is None else list(judge_by), plain(target), plain(margin), plain(level))
    if target is not None and not options.times:
        raise InputError(f"target {target!r} is used by none of the metrics in judge_by, {', '.join(judge_by or ())}")
    return options


def _check_metrics(options: JudgingOptions, known: Iterable[str]) -> None:
    known = set(known)
    for name in options.judge_by or ():
        if name not in known:
            raise unknown("metric to judge by", name, known)


def _check_target(options: JudgingOptions, search: Search) -> None:
    seeds = len(search.rerun_seeds or search.tuning_seeds)
    if options.judge_by is not None and options.times and options.target is None and seeds < LEAST_RUNS:
        raise InputError(
            f"judge_by: {options.times[0]} needs a target, or {LEAST_RUNS} rerun seeds to take one from, not {seeds}"
        )


def _warn_of_few_seeds(cfg: Config, runs: PlannedRuns, level: float) -> None:
    """Warns, before anything is trained, if there will be no verdicts."""
    few = note_on_few_seeds(len(cfg.seed_tuple), runs.pairs, level)
    if few is not None:
        warnings.warn(few, stacklevel=4)


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
