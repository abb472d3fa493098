"""`TaskComparison`: what `compare_tasks` returns, and its profiles and summary from the comparisons that are there."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from momentum_jax._base.display import Row, Summary, as_html, as_text, clip, counted
from momentum_jax._base.errors import InputError, check_choice, check_path
from momentum_jax.analysis import (
    Interval,
    interval_over_tasks,
    log_time_ratios,
    performance_ratios,
    simultaneous_level,
    task_scores,
)
from momentum_jax.analysis.profiles import LIMIT
from momentum_jax.comparison.answer_sentences import name_of
from momentum_jax.comparison.folder import has_judged_runs
from momentum_jax.comparison.metrics import TIMES, median
from momentum_jax.comparison.protocols import Protocol
from momentum_jax.comparison.result import Comparison, load_comparison
from momentum_jax.comparison.target import LEAST_RUNS
from momentum_jax.comparison.task_folder import folder_of, read_tasks_head

TIME = "iterations_to_target"


class Profile(NamedTuple):
    """How close each optimizer comes to the best on each task, in one protocol.

    `momentum_jax.analysis.performance_profile(profile.ratios, factors)` has the curves ρ(τ).

    Attributes:
      title: of the protocol, without numbers that differ between tasks.
      tasks: the names of the tasks that have times in this protocol.
      times: the median over seeds of the iterations to the target, at least 1; +inf where half of the runs miss it.
      ratios: these times over the best one of each task.
      scores: by label, the integral of ρ(τ) from 1 to 4 divided by 3, as AlgoPerf's score; 1 is the best.
      left_out: by name of a task, why it has no times.
    """

    title: str
    tasks: tuple[str, ...]
    times: Float[np.ndarray, "optimizers tasks"]
    ratios: Float[np.ndarray, "optimizers tasks"]
    scores: dict[str, float]
    left_out: dict[str, str]


class TaskSummary(NamedTuple):
    """How one optimizer does over all tasks of a profile, held against the first optimizer.

    Attributes:
      protocol: the name of the protocol.
      title: its title.
      a: the label of the optimizer that is judged.
      b: the label of the first optimizer.
      tasks: how many tasks it rests on.
      sooner: on how many of them the verdict is that a needs fewer iterations to the target.
      later: on how many it is that a needs more.
      undecided: on how many no difference was found.
      no_verdict: on how many there is none, for lack of seeds or since too many runs missed the target.
      solved: on how many of them one of the two reaches the target in the median.
      relative_time: the geometric mean over these of a's time over b's, each within [1/4, 4], with the interval of
        `momentum_jax.analysis.interval_over_tasks`: for tasks like these. NaN without tasks, and its ends for fewer
        than three.
    """

    protocol: str
    title: str
    a: str
    b: str
    tasks: int
    sooner: int
    later: int
    undecided: int
    no_verdict: int
    solved: int
    relative_time: Interval


@dataclasses.dataclass(frozen=True, eq=False)
class TaskComparison:
    """What `compare_tasks` returns: a comparison for each task, and what they come to together.

    Attributes:
      comparisons: by name of the task.
      profiles: by name of the protocol: "same" learning rate, "matched" effective learning rate, "tuned".
      summary: an entry for each protocol and each optimizer but the first, which the others are held against.
      level: the confidence level that all verdicts by one metric have together, over all tasks.
      notes: what a reader must know; those of each task are in its comparison.
    """

    comparisons: dict[str, Comparison]
    profiles: dict[str, Profile]
    summary: tuple[TaskSummary, ...]
    level: float
    notes: tuple[str, ...]

    @property
    def optimizers(self) -> tuple[str, ...]:
        """The labels, the first of which is the one that the others are held against."""
        return tuple(next(iter(self.comparisons.values())).config.optimizers)

    def __repr__(self) -> str:
        return as_text(self._summary())

    def _repr_html_(self) -> str:
        return as_html(self._summary())

    def _summary(self) -> Summary:
        # The answer is read from comparisons.
        from momentum_jax.comparison.task_answer import answer_of_tasks

        answer = answer_of_tasks(self)
        return Summary(
            title=f"Comparison of {clip(', '.join(self.optimizers), 50)} on {len(self.comparisons)} tasks",
            lines=(*answer.sentences, answer.sure),
            columns=("protocol", "optimizer", "against", "tasks", "sooner", "later", "undecided", "relative time"),
            rows=tuple(_row(entry) for entry in self.summary),
            notes=answer.warnings,
        )

    def report(self, path: str | os.PathLike[str]) -> None:
        """Writes the page: the profile, the answer, and the verdicts of each task. One HTML file without a network.

        Raises:
          InputError: the file cannot be written.
        """
        from momentum_jax.report.writing import write_task_page

        check_path("path", path)
        write_task_page(self, pathlib.Path(path))

    def plot(self, ax: Any = None, *, protocol: str | None = None) -> Any:
        """Draws the performance profile: the proportion of tasks on which an optimizer is within a factor of the best.

        Args:
          ax: the matplotlib Axes to draw into. Without it a figure is made by `matplotlib.pyplot`.
          protocol: its name, by default "tuned" if that has times, or else the last one that has.

        Returns:
          The Axes.

        Raises:
          InputError: no such protocol, or no task has times.
        """
        from momentum_jax.report.plotting import plot_profile

        if protocol is not None:
            check_choice("protocol", protocol, list(self.profiles))
        return plot_profile(self, ax, protocol)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "TaskComparison":
        """Reads what `compare_tasks` left in a folder. A note names the tasks that no run is judged on yet.

        Raises:
          InputError: there is no comparison over tasks, or none of its tasks has runs that are judged.
        """
        check_path("folder", folder)
        folder = pathlib.Path(folder)
        head = read_tasks_head(folder)
        tasks, level = head["tasks"], head["level"]
        judged = [name for name in tasks if has_judged_runs(folder / folder_of(name))]
        if not judged:
            raise InputError(f"no run is judged yet on the tasks in {str(folder)!r}; the same call goes on from there")
        # By the level of the last call, since an earlier one may have had fewer tasks.
        each = simultaneous_level(level, len(tasks))
        comparisons = {name: load_comparison(folder / folder_of(name), each) for name in judged}
        if len({tuple(compared.config.optimizers) for compared in comparisons.values()}) > 1:
            raise InputError(f"the comparisons in {str(folder)!r} are of different optimizers")
        unfinished = [f"{name} is not judged yet and is left out" for name in tasks if name not in judged]
        return with_reference(comparisons, level, unfinished)


def _row(entry: TaskSummary) -> Row:
    time = relative_time_text(entry.relative_time)
    counts = (entry.tasks, entry.sooner, entry.later, entry.undecided)
    return Row((entry.protocol, entry.a, entry.b, *map(str, counts), time))


def relative_time_text(time: Interval) -> str:
    """A relative time with its interval, as tables have it. At its bound it has no interval.

    >>> relative_time_text(Interval(0.5, 0.25, 1.0, 0.95)), relative_time_text(Interval(4.0, 4.0, 4.0, 0.95))
    ('0.50 (0.25 to 1.00)', '4 or more')
    """
    if math.isnan(time.value):
        return ""
    if abs(math.log(time.value)) > 0.999 * math.log(LIMIT):
        return f"{LIMIT:g} or more" if time.value > 1 else f"{1 / LIMIT:g} or less"
    return f"{time.value:.2f}" if math.isnan(time.low) else f"{time.value:.2f} ({time.low:.2f} to {time.high:.2f})"


def with_reference(comparisons: Mapping[str, Comparison], level: float, notes: Sequence[str] = ()) -> TaskComparison:
    """`task_comparison_of` comparisons whose targets are those of the first optimizer, with notes on these."""
    known = {
        name: compared if compared.plan["target"] is not None else _without_times(compared)
        for name, compared in comparisons.items()
    }
    return task_comparison_of(known, level, [*notes, *_notes_on_targets(known)])


def _without_times(compared: Comparison) -> Comparison:
    """The comparison without the target that all its runs have given it, and without verdicts on the times to that."""
    verdicts = tuple(verdict for verdict in compared.verdicts if verdict.metric not in TIMES)
    return dataclasses.replace(compared, target=None, verdicts=verdicts)


def _notes_on_targets(comparisons: Mapping[str, Comparison]) -> Iterator[str]:
    """On tasks without a target, and on targets that rest on few runs."""
    some = next(iter(comparisons.values()))
    first = name_of(next(iter(some.config.optimizers)))
    for name, compared in comparisons.items():
        if compared.target is None:
            yield f"{name} has no target and is left out: too many runs of the best trial of {first} failed"
    runs, kind = len(some.plan["rerun_seeds"]), "rerun"
    if not runs:
        runs, kind = len(some.plan["tuning_seeds"]), "tuning run"
    if runs < LEAST_RUNS and any(compared.target is not None for compared in comparisons.values()):
        yield (
            f"targets rest on {counted(runs, kind)} of {first}; runs that miss one count as never, and "
            f"{LEAST_RUNS} {kind}s make a target that nine of ten runs reach"
        )


def task_comparison_of(
    comparisons: Mapping[str, Comparison], level: float, notes: Sequence[str] = ()
) -> TaskComparison:
    """The profiles and the summary of comparisons of the same optimizers, by name of the task.

    Args:
      comparisons: with times to a target, where there is one.
      level: of all verdicts by one metric together, over all tasks, and of the interval over tasks.
      notes: what else a reader must know.
    """
    names = dict.fromkeys(name for compared in comparisons.values() for name in compared.protocols)
    times = {name: dict(_times_of(comparisons, name)) for name in names}
    return TaskComparison(
        comparisons=dict(comparisons),
        profiles={name: _profile(comparisons, name, own) for name, own in times.items()},
        summary=tuple(entry for name, own in times.items() for entry in _entries(comparisons, name, own, level)),
        level=level,
        notes=tuple(notes),
    )


def _times_of(comparisons: Mapping[str, Comparison], name: str) -> Iterator[tuple[str, np.ndarray]]:
    """The tasks that have times in a protocol, and the times of all runs, [optimizers, seeds]."""
    for task, compared in comparisons.items():
        protocol = compared.protocols.get(name)
        if protocol is not None and compared.target is not None and protocol.arms:
            yield task, _times(protocol, list(compared.config.optimizers))


def _times(protocol: Protocol, labels: Sequence[str]) -> Float[np.ndarray, "optimizers seeds"]:
    """The times of the seeds that all optimizers have runs of; of an optimizer without a trial that did not fail, +inf.

    A target that the initial weights reach is reached at iteration 0, and ratios need times that are positive.
    """
    arms = protocol.arms
    shared = sorted(set.intersection(*(set(arm.seeds.tolist()) for arm in arms.values())))
    times = np.full((len(labels), len(shared)), np.inf)
    for row, label in enumerate(labels):
        if label in arms:
            by_seed = dict(zip(arms[label].seeds.tolist(), arms[label].values[TIME], strict=True))
            times[row] = [max(by_seed[seed], 1.0) for seed in shared]
    return times


def _profile(comparisons: Mapping[str, Comparison], name: str, times: Mapping[str, np.ndarray]) -> Profile:
    labels = next(iter(comparisons.values())).config.optimizers
    medians = np.array([[median(row) for row in own] for own in times.values()], np.float64).reshape(-1, len(labels)).T
    ratios = performance_ratios(medians)
    means = task_scores(ratios).mean(axis=1) if times else np.full(len(labels), np.nan)
    return Profile(
        title=_title(comparisons, name),
        tasks=tuple(times),
        times=medians,
        ratios=ratios,
        scores=dict(zip(labels, map(float, means), strict=True)),
        left_out={task: _why(compared, name) for task, compared in comparisons.items() if task not in times},
    )


def _title(comparisons: Mapping[str, Comparison], name: str) -> str:
    titles = {c.protocols[name].title for c in comparisons.values() if name in c.protocols}
    return titles.pop() if len(titles) == 1 else min(titles).partition(", ")[0]


def _why(compared: Comparison, name: str) -> str:
    if name not in compared.protocols:
        return "the protocol was left out"
    return compared.protocols[name].skipped or "it has no target"


def _entries(
    comparisons: Mapping[str, Comparison], name: str, times: Mapping[str, np.ndarray], level: float
) -> Iterator[TaskSummary]:
    first, *others = next(iter(comparisons.values())).config.optimizers
    for row, label in enumerate(others, 1):
        outcomes = [
            verdict.outcome
            for task in times
            for verdict in comparisons[task].verdicts
            if (verdict.protocol, verdict.metric, verdict.a, verdict.b) == (name, TIME, label, first)
        ]
        sooner, later = outcomes.count("better"), outcomes.count("worse")
        undecided = outcomes.count("no difference found") + outcomes.count("equivalent")
        solved = [own for own in times.values() if math.isfinite(min(median(own[0]), median(own[row])))]
        yield TaskSummary(
            protocol=name,
            title=_title(comparisons, name),
            a=label,
            b=first,
            tasks=len(times),
            sooner=sooner,
            later=later,
            undecided=undecided,
            no_verdict=len(times) - sooner - later - undecided,
            solved=len(solved),
            relative_time=_relative_time(solved, row, level),
        )


def _relative_time(times: Sequence[np.ndarray], row: int, level: float) -> Interval:
    """The geometric mean of an optimizer's time over that of the first, and its interval."""
    if not times:
        return Interval(math.nan, math.nan, math.nan, level)
    logarithm = interval_over_tasks(times, lambda medians: log_time_ratios(medians[row], medians[0]), level)
    # A mean of what is bounded lies between the bounds.
    value, low, high = np.clip(np.exp(logarithm[:3]), 1 / LIMIT, LIMIT).tolist()
    return Interval(value, low, high, level)
