"""`compare(within=…)`: chooses trials, seeds and iterations that fit into a time, by a short pilot."""

import bisect
import dataclasses
import itertools
import math
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from momentum_jax._base.display import counted
from momentum_jax._base.errors import InputError, check_real, plain
from momentum_jax._base.progress import Progress, Report, reporting_to
from momentum_jax.analysis import median_half_width, simultaneous_level
from momentum_jax.comparison.arms import arm_of
from momentum_jax.comparison.counts import PlannedRuns, fewer_runs
from momentum_jax.comparison.folder import check_same, read_plan
from momentum_jax.comparison.metrics import median
from momentum_jax.comparison.planning import PlannedComparison
from momentum_jax.config import Config
from momentum_jax.results.result import Result
from momentum_jax.space import Trial, make_trials
from momentum_jax.sweeps.driver import run_sweep
from momentum_jax.sweeps.plan import HostPlan, SweepPlan, plan_sweep
from momentum_jax.sweeps.workers import Workers, make_workers
from momentum_jax.tasks import HostTask
from momentum_jax.training.cost import runs_of_measuring
from momentum_jax.training.loop import CHUNK, Interrupted

LEAST_ITERATIONS = 100
MOST_TRIALS, MOST_SEEDS = 64, 30
# Trials of each optimizer and seeds to judge with, of which there are never fewer than verdicts take.
_LADDER = (
    *((4, 0), (6, 0), (8, 0), (8, 10), (12, 12), (16, 15), (16, 20), (24, 20), (32, 25), (32, MOST_SEEDS)),
    *((48, MOST_SEEDS), (MOST_TRIALS, MOST_SEEDS)),
)
# Of the time that the pilot leaves, what a plan may be predicted to take; the rest is for what is predicted wrongly.
_SAFE = 0.8
# Of the whole time, what the second sweep of the pilot takes if that is enough for it.
_PILOT = 0.05
_PILOT_SEEDS, _FIRST_PILOT_SEED = 8, 3_000_000
_LEAST_PAIRS = 4

now = time.monotonic


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = now()

    @property
    def seconds(self) -> float:
        return now() - self._began


class Costs(NamedTuple):
    """What runs cost, in seconds, while all devices train.

    Attributes:
      beginning: of a sweep before its first iteration: compiling, for the most part.
      iteration: of one run.
      evaluation: of one run, with all else that does not grow with the iterations.
    """

    beginning: float
    iteration: float
    evaluation: float


class Budget(NamedTuple):
    """A plan that fits into a time.

    Attributes:
      within: the time, in seconds.
      trials: of each optimizer in the tuning.
      seeds: how many to judge with.
      least_seeds: how many of them stay where the runs are slower than predicted.
      iterations: of each run.
      pilot: the seconds from the beginning of the comparison to the choice of the plan.
      predicted: the seconds of each stage.
      metric: whose differences the pilot tells of, "train_loss" where the task evaluates it, or else "mean_loss".
      resolves: the difference of it, as a proportion of the median, that the plan can resolve; see
        `resolved_difference`. None if the pilot cannot tell.
      watch: runs since the comparison began.
    """

    within: float
    trials: int
    seeds: int
    least_seeds: int
    iterations: int
    pilot: float
    predicted: dict[str, float]
    metric: str
    resolves: float | None
    watch: Stopwatch


class _Timed(NamedTuple):
    """A sweep of the pilot: the seconds before the first iteration and after it, and the iterations that it trained."""

    result: Result
    beginning: float
    training: float
    iterations: int


def check_within(within: float | None, cluster: str | None) -> None:
    """Refuses a time that is too short for anything, or runs elsewhere than on this machine.

    Raises:
      InputError: they are.
    """
    if within is None:
        return
    check_real("within", within, 1, math.inf)
    if cluster is not None:
        raise InputError("within is for runs on this machine; with a cluster give trials, seeds and iterations")


def choose(
    within: float,
    trials: int | None,
    planned: PlannedComparison,
    plan: Callable[..., PlannedComparison],
    layout: str,
    folder: pathlib.Path,
    progress: Progress | Literal[False] | None,
    watch: Stopwatch,
) -> tuple[PlannedComparison, Budget | None]:
    """Chooses what fits into a time by a pilot, or takes what the folder has from an earlier call.

    Args:
      within: the time, in seconds.
      trials: of each optimizer; kept if they are given.
      planned: the comparison as asked for. Its iterations are the most; its seeds are kept if there are several.
      plan: `plan_comparison` of the same with another config and other `trials`.
      layout: as in `train`.
      folder: of the comparison.
      progress: as in `compare`.
      watch: runs since the comparison began.

    Returns:
      What is to be run, with "within" among its values; and what was chosen now, None if an earlier call has chosen.

    Raises:
      InputError: there is too little time, a plan cannot be used, or the folder holds something else.
      Interrupted: a KeyboardInterrupt.
    """
    stored = chosen_before(within, trials, planned, plan, folder)
    if stored is not None:
        return stored, None
    # One seed is what a config has by default, and gives no verdict.
    given_seeds = len(planned.cfg.seed_tuple) if len(planned.cfg.seed_tuple) > 1 else None
    given_trials = None if trials is None and planned.tuning.search.kind != "grid" else planned.runs.trials
    most = _most_trials(planned) if given_trials is None else given_trials
    largest = plan(
        cfg=planned.cfg if given_seeds else dataclasses.replace(planned.cfg, seeds=MOST_SEEDS),
        trials=most if given_trials is None else trials,
    )
    ladder = ladder_of(given_trials, given_seeds, largest.runs.seeds_needed, most)
    try:
        with reporting_to(progress) as report, make_workers(None, None, layout, planned.task) as workers:
            budget = fit(within, largest, ladder, workers, report, watch)
    except Interrupted:
        # The runs of the pilot are not the comparison's.
        raise Interrupted(None, 0) from None
    seeds = planned.cfg.seed_tuple if given_seeds else tuple(range(budget.seeds))
    cfg = dataclasses.replace(planned.cfg, seeds=seeds, iterations=budget.iterations)
    told = _asked(within, trials, planned.cfg) | {
        "seeds": budget.seeds,
        "predicted": budget.pilot + sum(budget.predicted.values()),
        "metric": budget.metric,
        "resolves": budget.resolves,
    }
    return _with(plan(cfg=cfg, trials=budget.trials), told), budget


def chosen_before(
    within: float,
    trials: int | None,
    planned: PlannedComparison,
    plan: Callable[..., PlannedComparison],
    folder: pathlib.Path,
) -> PlannedComparison | None:
    """What an earlier call has chosen for the same, as the folder has it; None if the folder is empty or not there.

    The arguments are those of `choose`.

    Raises:
      InputError: the folder holds something else.
    """
    stored = read_plan(folder)
    if stored is None:
        return None
    asked, told = _asked(within, trials, planned.cfg), stored.get("within", {})
    check_same(folder, {"within": {name: told.get(name) for name in asked}}, {"within": asked})
    seeds, iterations = tuple(stored["config"]["seeds"]), stored["config"]["iterations"]
    cfg = dataclasses.replace(planned.cfg, seeds=seeds, iterations=iterations)
    return _with(plan(cfg=cfg, trials=stored["trials"]), told)


def _asked(within: float, trials: int | None, cfg: Config) -> dict[str, Any]:
    given = {"trials": plain(trials), "seeds": list(cfg.seed_tuple), "iterations": cfg.iterations}
    return {"seconds": float(within), "asked": given}


def _with(planned: PlannedComparison, told: dict[str, Any]) -> PlannedComparison:
    """The comparison, with what a folder keeps of the choice."""
    return planned._replace(values=planned.values | {"within": told})


def _most_trials(planned: PlannedComparison) -> int:
    """How many trials each optimizer can have at most: a space of listed values may have no more."""
    search = planned.tuning.search
    trials = make_trials(planned.cfg, search.axes, search=search.kind, budget=MOST_TRIALS, search_seed=search.seed)
    return min(map(len, trials.values()))


def ladder_of(trials: int | None, seeds: int | None, needed: int, most: int) -> list[tuple[int, int]]:
    """Plans to choose from, the smallest first: trials of each optimizer, and seeds to judge with.

    Args:
      trials: if they are given.
      seeds: how many, if they are given.
      needed: how many seeds verdicts take.
      most: how many trials of each optimizer there can be.

    >>> ladder_of(None, None, 8, 64)[0], ladder_of(None, None, 8, 9)[-1], ladder_of(5, 20, 8, 64)
    ((4, 8), (9, 30), [(5, 20)])
    """
    return list(dict.fromkeys((trials or min(own, most), seeds or max(count, needed)) for own, count in _LADDER))


def fit(
    within: float,
    largest: PlannedComparison,
    ladder: Sequence[tuple[int, int]],
    workers: Workers,
    report: Report,
    watch: Stopwatch,
) -> Budget:
    """Chooses the largest plan of a ladder that a pilot predicts to fit into a time.

    That is, to take at most 80 % of the time that the pilot leaves. If not even the smallest does, it has fewer
    iterations.

    Args:
      within: the time, in seconds.
      largest: the plan with as many trials as any of the ladder has.
      ladder: trials of each optimizer and seeds to judge with, the fewest first.
      workers: what trains the pilot.
      report: told of "planning".
      watch: runs since the comparison began.

    Raises:
      InputError: fewer than 100 iterations would fit; the message says which time is enough.
      Interrupted: a KeyboardInterrupt.
    """
    costs, pilot = _pilot(within, largest, workers, report)
    timed, most = not isinstance(largest.tuning.task, HostTask), largest.cfg.iterations

    def predicted(rung: tuple[int, int], iterations: int) -> dict[str, float]:
        cfg = dataclasses.replace(largest.cfg, iterations=iterations)
        return predict(costs, fewer_runs(largest.runs, *rung), cfg, timed=timed)

    def total(rung: tuple[int, int], iterations: int) -> float:
        return sum(predicted(rung, iterations).values())

    before = watch.seconds
    limit = _SAFE * (within - before)
    fitting = [rung for rung in ladder if total(rung, most) <= limit]
    rung, iterations = (fitting or ladder)[-1 if fitting else 0], most
    if not fitting:
        least = min(LEAST_ITERATIONS, most)
        iterations = bisect.bisect_right(range(1, most), limit, key=lambda n: total(rung, n))
        if iterations < least:
            # A tenth more, since another pilot may find the runs a little slower.
            enough = 10 * math.ceil(1.1 * (before + total(rung, least) / _SAFE) / 10)
            raise InputError(
                f"within must be about {enough} s or more here, not {within:g} s: the smallest plan, {rung[0]} trials "
                f"of each optimizer and {counted(rung[1], 'seed')}, needs it for {counted(least, 'iteration')}"
            )
    metric, spread = _spread(pilot)
    resolves = resolved_difference(spread, rung[1], simultaneous_level(largest.options.level, largest.runs.pairs))
    return Budget(
        within=within,
        trials=rung[0],
        seeds=rung[1],
        least_seeds=ladder[0][1],
        iterations=iterations,
        pilot=before,
        predicted=predicted(rung, iterations),
        metric=metric,
        resolves=resolves,
        watch=watch,
    )


def predict(costs: Costs, runs: PlannedRuns, cfg: Config, *, timed: bool) -> dict[str, float]:
    """The seconds that each stage of a comparison takes.

    A stage of R runs of N iterations takes beginning + R · (N · iteration + E · evaluation). Runs that are judged are
    evaluated every `evaluate_every` iterations, all runs at the end. Each stage may have to compile programs of its
    own, since fewer iterations make larger batches of runs.

    Args:
      costs: of the runs.
      runs: how many there are.
      cfg: their iterations, and the optimizers.
      timed: whether at the end the iterations are timed.
    """
    evaluations = 1 + ((cfg.iterations - 1) // cfg.evaluate_every if cfg.evaluate_every else 0)
    training = cfg.iterations * costs.iteration
    seconds = {
        "tuning": runs.tuning * (training + costs.evaluation),
        "rerunning": runs.rerunning * (training + costs.evaluation),
        "judging": runs.judging * (training + evaluations * costs.evaluation),
    }
    if timed:
        seconds["timing"] = runs_of_measuring(cfg, len(cfg.optimizers)) * training
    return {stage: costs.beginning + own for stage, own in seconds.items() if own or stage == "tuning"}


def resolved_difference(spread: float | None, seeds: int, level: float) -> float | None:
    """The half width that the interval of a median difference is expected to have, for normal differences.

    With the standard deviation σ of the differences between runs of the same seed it is

      σ · Φ⁻¹((n + 5/8 − k) / (n + 1/4)),

    with n seeds and the k of `median_interval`, which takes the k-th smallest and the k-th largest difference. A
    difference of this size is found about half of the time.

    Args:
      spread: σ, as a proportion of a median; None if it is not known.
      seeds: n.
      level: the confidence level of the interval.

    Returns:
      A proportion of the same median; None if the spread is not known or so few seeds give no interval.
    """
    if spread is None:
        return None
    width = spread * median_half_width(seeds, level)
    return width if math.isfinite(width) else None


def seeds_that_fit(budget: Budget, seconds: float) -> int:
    """How many of the seeds to judge with fit into the time, where tuning and reruns were slower than predicted.

    Judging and timing are taken to be as much slower as these were, and judging to take as long for each seed.

    Args:
      budget: the plan.
      seconds: from the beginning of the comparison to the end of the reruns.
    """
    done = budget.predicted["tuning"] + budget.predicted.get("rerunning", 0.0)
    slower = max(1.0, (seconds - budget.pilot) / done)
    left = budget.within - seconds - slower * budget.predicted.get("timing", 0.0)
    return min(budget.seeds, max(budget.least_seeds, int(left / (slower * budget.predicted["judging"] / budget.seeds))))


def _pilot(within: float, largest: PlannedComparison, workers: Workers, report: Report) -> tuple[Costs, Result]:
    """What runs cost, and the longer of the two sweeps, with seeds of their own, that tell.

    Each has 8 runs of each optimizer, at the same effective learning rate where all have one. The first has 100
    iterations, and the second as many as take a twentieth of the whole time, but at least twice as many.
    """
    cfg, tuning, matched = largest.cfg, largest.tuning, largest.untuned["matched"].trials
    trials = {label: (matched.get(label, Trial(own, cfg.batch_size)),) for label, own in cfg.optimizers.items()}
    used = {*cfg.seed_tuple, *tuning.search.tuning_seeds, *tuning.search.rerun_seeds}
    free = (seed for seed in itertools.count(_FIRST_PILOT_SEED) if seed not in used)
    own_cfg = dataclasses.replace(tuning.cfg, seeds=tuple(itertools.islice(free, _PILOT_SEEDS)))

    def sweep(iterations: int) -> _Timed:
        plan = plan_sweep(dataclasses.replace(own_cfg, iterations=iterations), trials, tuning.task)
        return _timed_sweep(plan, workers, report)

    few = max(1, min(CHUNK, cfg.iterations // 2))
    first = sweep(few)
    enough = int(_PILOT * within * few / max(first.training, 1e-9))
    second = sweep(min(cfg.iterations, max(2 * few, enough)))
    costs = _costs(first, second, _PILOT_SEEDS * len(trials))
    # An iteration takes longer with the larger batches of a space.
    sizes = [trial.batch_size for own in tuning.search.trials.values() for trial in own]
    larger = max(1.0, float(np.mean(sizes)) / cfg.batch_size)
    return costs._replace(iteration=larger * costs.iteration), second.result


def _timed_sweep(plan: SweepPlan | HostPlan, workers: Workers, report: Report) -> _Timed:
    watch, beginning = Stopwatch(), None

    def note(phase: str, done: float, total: float, text: str = "", *, whole: float | None = None) -> None:
        nonlocal beginning
        beginning = watch.seconds if whole is not None and beginning is None else beginning
        report("planning" if phase == "runs" else phase, done, total, "")

    result = run_sweep(plan, workers, note)
    assert beginning is not None
    most = plan.cfg.iterations
    # A run that diverges is trained to the end of the chunk.
    ends = [np.where(at < 0, most, (at // CHUNK + 1) * CHUNK) for at in result.diverged_at.values()]
    return _Timed(result, beginning, watch.seconds - beginning, int(np.minimum(ends, most).sum()))


def _costs(first: _Timed, second: _Timed, runs: int) -> Costs:
    """The costs of an iteration and an evaluation, from two sweeps of as many runs."""
    more, longer = second.iterations - first.iterations, second.training - first.training
    evaluations = max(0.0, first.training - first.iterations * longer / more) if more > 0 and longer > 0 else 0.0
    return Costs(first.beginning, (second.training - evaluations) / second.iterations, evaluations / runs)


def _spread(pilot: Result) -> tuple[str, float | None]:
    """The metric whose differences tell what can be resolved, and their largest relative spread of all pairs.

    That is the standard deviation of the differences between runs of the same seed, over the median of the optimizer
    that comes first; None if too many runs failed.
    """
    arms = [arm_of(pilot, label, 0).values for label in pilot.config.optimizers]
    metric = "train_loss" if all("train_loss" in values for values in arms) else "mean_loss"
    spreads = []
    for first, other in itertools.combinations((values[metric] for values in arms), 2):
        finite = np.isfinite(first) & np.isfinite(other)
        if finite.sum() >= _LEAST_PAIRS and (reference := median(first[finite])):
            with np.errstate(over="ignore"):
                spreads.append(float(np.std((other - first)[finite], ddof=1)) / abs(reference))
    return metric, max(spreads, default=None)
