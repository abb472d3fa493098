"""`Comparison`: what `compare` returns, and how it is judged from runs that are there."""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from momentum_jax._base.display import Summary, as_html, as_text
from momentum_jax._base.errors import InputError, check_path, unknown
from momentum_jax.analysis import least_for_median, simultaneous_level
from momentum_jax.comparison.answer_sentences import phrase_of
from momentum_jax.comparison.arms import Arm, arm_of
from momentum_jax.comparison.folder import HEAD, JUDGING, RERUNNING, TUNING, read_head
from momentum_jax.comparison.judging import judge
from momentum_jax.comparison.metrics import METRICS, TIMES
from momentum_jax.comparison.protocols import Protocol
from momentum_jax.comparison.target import LEAST_RUNS, reachable_loss, with_times
from momentum_jax.comparison.tuning import choices, tuning_losses
from momentum_jax.comparison.verdict import Verdict
from momentum_jax.comparison.wording import (
    note_on_budget,
    note_on_few_seeds,
    note_on_no_target,
    note_on_other_searches,
    note_on_own_arms,
    notes_on_errors,
    notes_on_runs,
    notes_on_search,
    notes_on_skipped,
    notes_on_target,
    notes_on_time,
    notes_on_tuning,
)
from momentum_jax.config import Config
from momentum_jax.results.fingerprint import first_difference
from momentum_jax.results.result import Result


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` returns: the verdicts, the runs that they rest on, and the tuning.

    Attributes:
      config: of the runs that were judged.
      protocols: by name: "same" learning rate, "matched" effective learning rate, "tuned", and "tuned_alone" where the
        own trials of an optimizer would have given another choice; or "given" for results that were only judged.
      verdicts: of every protocol, metric and pair of optimizers. The intervals of one metric hold together, over
        all its pairs and protocols, with the level that was asked for (Bonferroni). Two optimizers of which no run
        failed have none on "failed".
      notes: what a reader must know: best values on the edge of the space, a budget that was too small, what was left
        out or is unfinished.
      search_note: what the best trials of another search could have been, one of the notes; None without a search.
      iterations: the iterations that the histories of the arms hold.
      target: the loss to reach, of `iterations_to_target` and `seconds_to_target`; None if these are not judged.
      tuning: the sweep on the validation split whose best trials are "tuned", or None.
      rerun: its best few trials with fresh seeds, of which the best are "tuned"; or None.
      judged: the results that the arms' runs are from.
      plan: what was asked for, as JSON.
    """

    config: Config
    protocols: dict[str, Protocol]
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    search_note: str | None
    iterations: Int[np.ndarray, " recorded"]
    target: float | None
    tuning: Result | None
    rerun: Result | None
    judged: tuple[Result, ...]
    plan: dict[str, Any]

    def __repr__(self) -> str:
        return as_text(self._summary(curves=False))

    def _repr_html_(self) -> str:
        return as_html(self._summary(curves=True))

    def _summary(self, *, curves: bool) -> Summary:
        # The answer is read from comparisons.
        from momentum_jax.comparison.summary import summary_of

        return summary_of(self, curves=curves)

    @property
    def findings(self) -> tuple[Verdict, ...]:
        """The verdicts that rest on enough seeds for an interval."""
        return tuple(v for v in self.verdicts if v.pairs >= least_for_median(v.difference.level))

    def verdict(self, protocol: str, metric: str, a: str, b: str) -> Verdict:
        """The verdict on a pair of labels, of which the one that was given later comes first.

        Raises:
          InputError: there is no such verdict.
        """
        for verdict in self.verdicts:
            if (verdict.protocol, verdict.metric, verdict.a, verdict.b) == (protocol, metric, a, b):
                return verdict
        there = {f"{v.protocol}, {v.metric}, {v.a}, {v.b}" for v in self.verdicts}
        raise unknown("verdict", f"{protocol}, {metric}, {a}, {b}", there)

    def in_memory(self) -> "Comparison":
        """The same comparison with all histories in memory, so that its folder may go.

        Raises:
          InputError: they are not in the folder any more, or cannot be read.
        """
        return dataclasses.replace(
            self,
            tuning=self.tuning and self.tuning.in_memory(),
            rerun=self.rerun and self.rerun.in_memory(),
            judged=tuple(result.in_memory() for result in self.judged),
        )

    def table(self) -> Any:
        """The verdicts as a `pyarrow.Table`, one row each.

        The columns are the fields of `Verdict`. An interval has three: its value under its name, and _low and _high.
        """
        import pyarrow as pa

        rows = []
        for verdict in self.verdicts:
            row = verdict._asdict()
            for name in ("difference", "mean", "wins"):
                interval = row.pop(name)
                row |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
            rows.append(row)
        return pa.Table.from_pylist(rows)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Writes the page of the comparison: one HTML file, which needs no network.

        Raises:
          InputError: the file cannot be written.
        """
        from momentum_jax.report.writing import write_page

        check_path("path", path)
        write_page(self, pathlib.Path(path))

    def plot(self, ax: Any = None, *, metrics: Sequence[str] | None = None) -> Any:
        """Draws every run of each optimizer in each protocol, with medians and their 95 % intervals.

        Args:
          ax: the matplotlib Axes to draw one metric into. Without it a figure is made by `matplotlib.pyplot`, which
            shows it in notebooks and with `plt.show()`.
          metrics: names of what to draw. By default the loss on the training set is the first, or else the metric that
            was judged first: it alone with `ax`, and up to three without.

        Returns:
          The Axes, or the Figure if it has several.

        Raises:
          InputError: no such metric, or `ax` with several.
        """
        from momentum_jax.report.plotting import plot_comparison

        return plot_comparison(self, ax, metrics)

    @classmethod
    def load(cls, folder: str | pathlib.Path) -> "Comparison":
        """Reads what `compare` left in a folder, or what there is of it if the judging is unfinished.

        Raises:
          InputError: there is no comparison, its tuning is unfinished, or its runs are of another task.
        """
        check_path("folder", folder)
        return load_comparison(pathlib.Path(folder))


def load_comparison(folder: pathlib.Path, level: float | None = None) -> Comparison:
    """Reads a comparison from its folder, see `Comparison.load`; with a level, it is judged anew by that."""
    head = read_head(folder)
    if not {"protocols", "judging"} <= set(head):
        raise InputError(f"the tuning in {str(folder)!r} is unfinished; the same call to compare goes on from there")
    config, again = head["plan"]["config"], head["plan"]["rerun_seeds"]
    results = {name: Result.load(folder / name) for name in (TUNING, *([RERUNNING] if again else []), JUDGING)}
    # The judging has its own seeds, if a call with others ended before it began.
    judged = list(results[JUDGING].config.seed_tuple)
    seeds = {TUNING: head["plan"]["tuning_seeds"], RERUNNING: again, JUDGING: judged}
    for name, result in results.items():
        asked = config | {"seeds": seeds[name], "evaluate_every": result.config.evaluate_every}
        difference = first_difference(result.config.to_json(), asked)
        if difference is not None:
            raise InputError(f"{str(folder / name)!r} is not of this comparison: {difference}")
    _check_head(folder, head, results[JUDGING])
    judging = head["judging"] | ({} if level is None else {"level": level})
    return comparison_of(head | {"judging": judging}, results[TUNING], results.get(RERUNNING), results[JUDGING])


def _check_head(folder: pathlib.Path, head: Mapping[str, Any], judged: Result) -> None:
    """Refuses a head whose protocols and times are not of the trials that were judged, or with impossible options."""
    trials = {label: len(own) for label, own in (judged.trials or {}).items()}
    positions = {(label, at) for entry in head["protocols"].values() for label, at in entry["trials"].items()}
    times, options = head.get("seconds_per_step"), head["judging"]
    fit = all(0 <= at < trials.get(label, 0) for label, at in positions)
    fit &= 0.5 <= options["level"] < 1 and (options["margin"] or 0) >= 0
    if times is not None:
        fit &= {label: len(of_trials) for label, of_trials in times.items()} == trials
        rounds = [of_trial for of_trials in times.values() for of_trial in of_trials]
        fit &= len(set(map(len, rounds))) == 1 and all(of_trial and min(of_trial) > 0 for of_trial in rounds)
    if not fit:
        raise InputError(
            f"{str(folder)!r}: {HEAD} is damaged: its protocols, times or options are not of what was judged"
        )


class JudgingOptions(NamedTuple):
    """How runs are judged; see `compare`."""

    judge_by: list[str] | None
    target: float | None
    margin: float | None
    level: float

    @property
    def times(self) -> list[str]:
        """The times to a target that are asked for."""
        return [name for name in TIMES if self.judge_by is None or name in self.judge_by]


def comparison_of(head: Mapping[str, Any], tuning: Result, rerun: Result | None, judged: Result) -> Comparison:
    """The comparison whose `comparison.json` is given, from the sweeps of its tuning, its reruns and its judging."""
    plan, seconds = head["plan"], head.get("seconds_per_step")
    protocols = {}
    for name, entry in head["protocols"].items():
        arms = {label: arm_of(judged, label, position) for label, position in entry["trials"].items()}
        if seconds is not None:
            arms = {
                label: arm._replace(seconds_per_step=np.asarray(seconds[label][entry["trials"][label]]))
                for label, arm in arms.items()
            }
        protocols[name] = Protocol(entry["title"], arms, entry["skipped"])
    losses = tuning_losses(tuning, plan["tune_by"])
    notes = [*notes_on_time(plan, head.get("seconds")), *notes_on_skipped(protocols)]
    notes += notes_on_search(plan, tuning.config.iterations)
    notes += notes_on_tuning(tuning, losses, plan["schedules_replaced"], plan["space"])
    stages = {"tuning": tuning, **({} if rerun is None else {"rerunning": rerun}), "judging": judged}
    notes += [note for stage, result in stages.items() for note in notes_on_errors(stage, result)]
    options = JudgingOptions(*(head["judging"][name] for name in JudgingOptions._fields))
    target = options.target
    if target is None and options.times:
        target, why = _target_of_tuning(rerun or tuning, plan)
        notes += why
    return judge_protocols(
        judged.config, protocols, options, target, judged=(judged,), tuning=tuning, rerun=rerun, plan=plan, notes=notes
    )


def _target_of_tuning(result: Result, plan: Mapping[str, Any]) -> tuple[float | None, list[str]]:
    """The loss that the best trials reach in reruns or the tuning; None, with a note, if these have too few runs."""
    chosen = choices(result, plan["tune_by"], plan["contained"])
    best = [arm_of(result, source, position) for source, position in chosen.values()]
    loss = reachable_loss(best, result.config)
    runs = min((len(arm.seeds) for arm in best), default=len(result.config.seed_tuple))
    if loss is None or runs < LEAST_RUNS:
        return None, [note_on_no_target(runs, loss)]
    return loss, []


def reference_target(result: Result, plan: Mapping[str, Any]) -> float | None:
    """The loss that the best trial of the first optimizer reaches in reruns or the tuning, see `reachable_loss`.

    It is None if too many of its runs failed.
    """
    first, chosen = next(iter(result.config.optimizers)), choices(result, plan["tune_by"], plan["contained"])
    return reachable_loss([arm_of(result, *chosen[first])], result.config) if first in chosen else None


def judge_protocols(
    config: Config,
    protocols: Mapping[str, Protocol],
    options: JudgingOptions,
    target: float | None,
    *,
    judged: Sequence[Result],
    tuning: Result | None,
    plan: Mapping[str, Any],
    notes: Sequence[str],
    rerun: Result | None = None,
) -> Comparison:
    """Judges every pair of optimizers in every protocol by every metric.

    Args:
      config: its optimizers, in the order in which they are held against each other.
      protocols: by name.
      options: how to judge.
      target: the loss whose time is taken, given or from the tuning; None for no times.
      judged: the results that the protocols' runs are from, kept with the comparison; likewise those below.
      tuning: the sweep of the tuning, or None.
      plan: what was asked for; its "contained", "tune_by" and "trials" are looked at if there is a protocol "tuned".
      notes: the first ones of the comparison's.
      rerun: the sweep of the best trials with fresh seeds, or None.
    """
    if target is not None:
        protocols = {
            name: p._replace(arms={label: with_times(arm, config, target) for label, arm in p.arms.items()})
            for name, p in protocols.items()
        }
    with_runs = {name: protocol for name, protocol in protocols.items() if protocol.arms}
    pairs = [
        (name, a, b)
        for name, protocol in with_runs.items()
        for b, a in itertools.combinations(config.optimizers, 2)
        if a in protocol.arms and b in protocol.arms
    ]
    level = simultaneous_level(options.level, max(len(pairs), 1))
    verdicts = [
        judge(name, metric, with_runs[name].arms, a, b, level=level, margin=options.margin, target=target)
        for name, a, b in pairs
        for metric in _common_metrics(options.judge_by, with_runs[name].arms)
        # That of two optimizers no run failed is no finding.
        if metric != "failed" or any(with_runs[name].arms[label].failed.any() for label in (a, b))
    ]
    few = note_on_few_seeds(max(v.pairs for v in verdicts), len(pairs), options.level) if verdicts else None
    missed = notes_on_target(with_runs, target, config.record_every) if target is not None and options.times else ()
    more = [*([few] if few else []), *notes_on_runs(with_runs), *missed, *notes_on_losers(with_runs, plan, level)]
    varies = None
    if tuning is not None:
        varies = note_on_other_searches(tuning, tuning_losses(tuning, plan["tune_by"]), plan, options.level)
    return Comparison(
        config=config,
        protocols=dict(protocols),
        verdicts=tuple(verdicts),
        notes=(*notes, *([varies] if varies else []), *more),
        search_note=varies,
        iterations=judged[0].iterations,
        target=target,
        tuning=tuning,
        rerun=rerun,
        judged=tuple(judged),
        plan=dict(plan) | options._asdict(),
    )


def _common_metrics(judge_by: Sequence[str] | None, arms: Mapping[str, Arm]) -> list[str]:
    """The metrics that were asked for, as far as all arms have values of them."""
    names = dict.fromkeys([*METRICS, *next(iter(arms.values())).values])
    return [name for name in judge_by or names if all(name in arm.values for arm in arms.values())]


def notes_on_losers(protocols: Mapping[str, Protocol], plan: Mapping[str, Any], level: float) -> Iterator[str]:
    """Where a tuned optimizer does worse than itself in a protocol without tuning, or than one that its space contains.

    Args:
      protocols: those with runs.
      plan: of the comparison.
      level: the confidence level of each interval.
    """
    if "tuned" not in protocols:
        return
    tuned = protocols["tuned"].arms
    better = {
        (label, phrase_of(name, protocol.title, numbered=False)): metrics
        for label, arm in tuned.items()
        for name, protocol in protocols.items()
        if name in ("same", "matched")
        and label in protocol.arms
        and (metrics := _metrics_lost(arm, protocol.arms[label], plan, level))
    }
    if better:
        yield note_on_own_arms(plan["trials"], better)
    yield from notes_on_budget(tuned, plan, level)


def notes_on_budget(tuned: Mapping[str, Arm], plan: Mapping[str, Any], level: float) -> Iterator[str]:
    """Where an optimizer does worse than one that its space contains, whose best trial it could have had too."""
    for outer, inner in plan.get("contained", ()):
        if outer in tuned and inner in tuned and (lost := _metrics_lost(tuned[outer], tuned[inner], plan, level)):
            yield note_on_budget(outer, inner, plan["trials"], lost)


def _metrics_lost(own: Arm, other: Arm, plan: Mapping[str, Any], level: float) -> list[str]:
    """The losses and accuracies by which one arm does worse than another."""
    arms = {"own": own, "other": other}
    return [
        metric
        for metric in dict.fromkeys(["train_loss", "test_loss", "test_accuracy", plan["tune_by"]])
        if metric in own.values
        and judge("tuned", metric, arms, "own", "other", level=level, margin=None, target=None).outcome == "worse"
    ]
