"""The sentences of a comparison: verdicts, notes, warnings, and the titles and values in them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from momentum_jax._base.display import counted, time_text
from momentum_jax._base.errors import is_number
from momentum_jax.analysis import (
    best_of_another_search,
    ends_of_axes,
    least_for_median,
    median_of_trials,
    simultaneous_level,
)
from momentum_jax.comparison.answer_sentences import joined, listed, name_of
from momentum_jax.comparison.metrics import TIMES, metric_of, unit_of
from momentum_jax.comparison.protocols import Protocol
from momentum_jax.comparison.target import LEAST_RUNS
from momentum_jax.comparison.verdict import Verdict
from momentum_jax.optimizers.effective import effective_learning_rate_of, has_effective_learning_rate
from momentum_jax.optimizers.registry import is_bound
from momentum_jax.results.result import Result
from momentum_jax.results.tables import in_words, text_of, varying_hyperparameters, with_unit
from momentum_jax.space import EFFECTIVE, Trial, Uniform, parse_axis

_NOT_FINITE = "reached a loss that is not finite"
_NO_BETTER = "ended no better than a constant prediction"
SpaceTexts = Mapping[str, Mapping[str, str]]
"""By label and name, what a tuning searched, as a plan has it."""


def title_of(metric: str, target: float | None) -> str:
    """The title of a metric, with the target loss as a number."""
    title = metric_of(metric).title
    return title if target is None else title.replace("the target", f"a loss of {target:g}")


def title_of_tuning(plan: Mapping[str, Any], loss_unit: str) -> str:
    """The title of what `tuning_losses` gives, with its unit, which of losses is the one given."""
    metric = metric_of(plan["tune_by"])
    title = metric.title.replace("on the test set", "on held-out examples")
    if not metric.less_is_better:
        return f"1 − {title}"
    return with_unit(title, unit_of(plan["tune_by"], loss_unit))


def format_value(metric: str, value: float) -> str:
    """The text of a metric's value in sentences and tables.

    >>> format_value("test_accuracy", 0.968), format_value("iterations_to_target", float("inf"))
    ('96.80 %', 'never')
    """
    if math.isnan(value):
        return "unknown"
    if not np.isfinite(value):
        return "never" if metric in TIMES else "failed"
    if metric_of(metric).unit == "proportion":
        return f"{100 * value:.2f} %"
    if metric == "iterations_to_target":
        return f"{value:.0f}"
    return f"{value:.3g} s" if metric == "seconds_to_target" else f"{value:.4g}"


def sentence_of(verdict: Verdict, margin: float | None, target: float | None) -> str:
    """The sentence of a verdict: the outcome, both medians, the interval and the number of seeds.

    Args:
      verdict: all but its sentence.
      margin: the margin within which it was judged.
      target: the loss that times are taken to.
    """
    a, b, title = verdict.a, verdict.b, title_of(verdict.metric, target)
    values = (
        f"{format_value(verdict.metric, verdict.median_a)} against {format_value(verdict.metric, verdict.median_b)}"
    )
    if verdict.outcome == "no verdict":
        return f"No verdict on the {title} of {a} and {b}, {values}: {reason_of_no_verdict(verdict)}."
    found = f"{values} ({range_text(verdict)}{verdict.pairs} seeds)"
    if verdict.outcome == "no difference found":
        return f"No difference found in the {title} between {a} and {b}: {found}."
    if verdict.outcome == "equivalent":
        assert margin is not None
        unit = "percentage points" if metric_of(verdict.metric).unit == "proportion" else "%"
        return f"{a} and {b} are equivalent in the {title}, within ±{100 * margin:g} {unit}: {found}."
    less = (verdict.outcome == "better") == metric_of(verdict.metric).less_is_better
    if verdict.metric in TIMES:
        return f"{a} needs {'fewer' if less else 'more'} {title} than {b}: {found}."
    return f"{a} has a {'lower' if less else 'higher'} {title} than {b}: {found}."


def reason_of_no_verdict(verdict: Verdict) -> str:
    """Why there is no verdict: too few seeds, or too many failed runs."""
    if verdict.pairs == 0:
        return "no seed has runs of both"
    if verdict.pairs < least_for_median(verdict.difference.level):
        return f"an interval needs {least_for_median(verdict.difference.level)} seeds, not {verdict.pairs}"
    if verdict.metric in TIMES and verdict.median_a == verdict.median_b == np.inf:
        return "neither reaches the target"
    return "too many runs failed or missed the target" if verdict.metric in TIMES else "too many runs failed"


def unit_of_difference(verdict: Verdict, *numbers: float) -> tuple[str, float]:
    """The unit that numbers of a verdict's difference are told in, and the factor that converts them.

    It is % of b's median where that is finite and not 0, but the metric's unit if one of them is below −100 %, which
    reads as if a loss could be negative. It is percentage points of proportions.
    """
    metric, reference = metric_of(verdict.metric), abs(verdict.median_b)
    if metric.unit == "proportion":
        return "percentage points", 100.0
    least = min((number for number in numbers if np.isfinite(number)), default=0)
    if 0 < reference < np.inf and least >= -reference:
        return "%", 100 / reference
    return metric.unit, 1.0


def range_text(verdict: Verdict) -> str:
    """The text of the interval of the difference, with a semicolon if it is not empty."""
    low, high = verdict.difference.low, verdict.difference.high
    unit, factor = unit_of_difference(verdict, low, high)
    if low == high and not np.isfinite(low):
        # One run of each pair failed or missed the target, and the values say which.
        return ""
    low_text, high_text = (_signed(factor * end, relative=unit in ("%", "percentage points")) for end in (low, high))
    if np.isfinite(low) and np.isfinite(high):
        text = f"{low_text}{' %' if unit == '%' else ''} to {high_text} {unit}"
    else:
        text = f"{high_text} {unit} or less" if np.isfinite(high) else f"{low_text} {unit} or more"
    return f"{' '.join(text.split())}; "


def _signed(number: float, *, relative: bool) -> str:
    # The difference of equal accuracies is −0.0.
    number += 0.0
    text = (
        f"{number:+.1f}" if relative and (abs(number) >= 0.1 or number == 0) else f"{number:+.{2 if relative else 3}g}"
    )
    return text.replace("-", "−")


def notes_on_skipped(protocols: Mapping[str, Protocol]) -> Iterator[str]:
    """Which protocols were left out, and why."""
    for protocol in protocols.values():
        if protocol.skipped:
            yield f"{protocol.title}: left out, since {protocol.skipped}"


def notes_on_tuning(
    tuning: Result,
    losses: Mapping[str, Float[np.ndarray, "trials seeds"]],
    schedules_replaced: Sequence[str],
    space: SpaceTexts,
) -> Iterator[str]:
    """What a reader must know of the tuning: replaced schedules, best trials on an edge, unfinished runs."""
    for label in schedules_replaced:
        yield f"tuning: constants from the space replace the schedule of {name_of(label)}"
    for warning in warnings_of_trials(tuning, losses, space):
        yield f"tuning: {warning}"
    if any(missing.any() for missing in tuning.missing.values()):
        yield "the tuning is unfinished; the best trials are the best of those that have runs"


def notes_on_search(plan: Mapping[str, Any], iterations: int) -> Iterator[str]:
    """What the tuning cost, and which optimizers chose among the trials of others."""
    optimizers, trials = plan["config"]["optimizers"], plan["trials"]
    seeds, again, few = len(plan["tuning_seeds"]), len(plan["rerun_seeds"]), min(trials, plan["rerun_trials"])
    runs = len(optimizers) * (trials * seeds + few * again)
    yield (
        f"tuning: {counted(trials, 'trial')} of each of {len(optimizers)} optimizers with {counted(seeds, 'seed')}"
        + (f", the best {counted(few, 'trial')} again with {counted(again, 'other')}" if again else "")
        + f": {counted(runs, 'run')}, {runs * iterations:,} iterations"
    )
    for outer in optimizers:
        inner = [b for a, b in plan["contained"] if a == outer]
        if inner:
            shared = f"the {len(inner) * trials} trials of {', '.join(map(name_of, inner))}"
            yield f"tuning: {name_of(outer)} chose also among {shared}, which its space contains"


def note_on_other_searches(
    tuning: Result, losses: Mapping[str, Float[np.ndarray, "trials seeds"]], plan: Mapping[str, Any], level: float
) -> str | None:
    """How much worse the best trial of each optimizer could have been with other draws; None for a grid.

    Args:
      tuning: the sweep.
      losses: by label; the best trial has the least median over seeds.
      plan: of the comparison.
      level: the probability with which each limit holds.
    """
    limits = []
    for label, own in losses.items():
        medians = median_of_trials(own, tuning.failed[label], tuning.missing[label])
        limit = best_of_another_search(medians, level)
        if np.isfinite(limit):
            limits.append(f"{limit:.4g} with {name_of(label)} (here {medians.min():.4g})")
    if plan["search"] == "grid" or not limits:
        return None
    return (
        f"the search varies: the best tuning loss of {plan['trials']} other trials would be at most "
        f"{' and '.join(limits)}, at {100 * level:.3g} % each"
    )


def notes_on_errors(stage: str, result: Result) -> Iterator[str]:
    """How many runs raised an error, and what the first of them raised."""
    for label, errors in result.errors.items():
        first, *_ = next(iter(errors.values())).splitlines()
        runs = f"{counted(len(errors), 'run')} of {name_of(label)}"
        yield f"{stage}: {runs} raised an error and failed, the first: {first}"


def warnings_of_trials(
    result: Result, losses: Mapping[str, Float[np.ndarray, "trials seeds"]], space: SpaceTexts | None = None
) -> Iterator[str]:
    """Warnings that the best trial of a sweep lies on the edge of what was tried, or that every trial failed.

    Args:
      result: what `sweep` returned.
      losses: by label; the best trial has the least median over seeds.
      space: what was searched, or None if it is not known.
    """
    assert result.trials is not None
    for label, trials in result.trials.items():
        if result.missing[label].all():
            continue
        medians = median_of_trials(losses[label], result.failed[label], result.missing[label])
        if not np.isfinite(medians).any():
            yield f"{name_of(label)}: every trial failed: {reason_of_failures(result, label)}"
            continue
        own = None if space is None else space[label]
        for name, (end, value) in open_ends(trials, int(np.argmin(medians)), own).items():
            yield (
                f"{name_of(label)}: the best trial has the {end} {in_words(name)} that was tried, {text_of(value)}; "
                "what is better may lie beyond it"
            )


def open_ends(
    trials: Sequence[Trial], best: int, space: Mapping[str, str] | None = None
) -> dict[str, tuple[str, float]]:
    """`ends_of_axes` of the best trial, without values that no other could exceed, such as a momentum of 0.

    With a space, ends are those of what was searched: the first or last of the values, or in a range a value in the
    outer quarter, on its scale, that no trial lies beyond.

    Without one, each trial may have a learning rate of its own while something else varies too. Then ends are those of
    the effective learning rate: along a line of equal ones the best trial may well have the lowest learning rate.

    Args:
      trials: of one optimizer.
      best: the position of the best trial.
      space: by name, what was searched, as `text_of_axis` writes it; None if it is not known.
    """
    axes = varying_hyperparameters(trials)
    rates = axes.get("learning_rate", [])
    of_its_own = len(axes) > 1 and len(set(rates)) == len(trials) and all(map(_has_rate, trials))
    if of_its_own if space is None else EFFECTIVE in space:
        axes.pop("learning_rate", None)
        # To the digits of a range, since the learning rate was computed from it.
        axes[EFFECTIVE] = [float(f"{effective_learning_rate_of('', trial.optimizer):.12g}") for trial in trials]
    ends = ends_of_axes(axes, best)
    if space is not None:
        ends = {name: end for name, end in ends.items() if name in space and _is_end(space[name], *end)}
    return {name: end for name, end in ends.items() if not is_bound(trials[best].optimizer, name, end[1])}


def _is_end(axis: str, end: str, value: float) -> bool:
    """Whether a value is at the "lowest" or "highest" end of the text of an axis."""
    _, values = parse_axis(f"axis={axis}")
    if isinstance(values, Uniform):
        return value <= values.at(0.25) if end == "lowest" else value >= values.at(0.75)
    # Two values or more: one alone has nothing to either side that was left out.
    numbers = sorted(set(filter(is_number, values)))
    # An effective learning rate comes back from the learning rate that was computed from it, to 12 digits.
    return len(numbers) > 1 and math.isclose(value, numbers[0] if end == "lowest" else numbers[-1], rel_tol=1e-11)


def _has_rate(trial: Trial) -> bool:
    return has_effective_learning_rate(trial.optimizer) and is_number(
        trial.optimizer.hyperparameters.get("learning_rate")
    )


def notes_on_runs(protocols: Mapping[str, Protocol]) -> Iterator[str]:
    """Which protocols lack runs, or have unequal numbers of them."""
    for protocol in protocols.values():
        counts = {label: len(arm.seeds) for label, arm in protocol.arms.items()}
        missing = sum(arm.missing for arm in protocol.arms.values())
        if missing:
            yield (
                f"{protocol.title}: unfinished, {counted(missing, 'run')} still to come; the verdicts rest on the "
                "others"
            )
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name_of(label)} {count}" for label, count in counts.items())
            yield f"{protocol.title}: the numbers of runs differ ({listed}); only seeds that both have are compared"


def reason_of_failures(result: Result, label: str) -> str:
    """Why the runs of an optimizer failed: an error, a loss that is not finite, or no better than a constant.

    The optimizer has failed runs in the result, of a training or of a sweep.
    """
    errors, at = result.errors.get(label, {}), result.diverged_at[label]
    causes = {}
    if errors:
        causes["raised an error, the first: " + next(iter(errors.values())).splitlines()[0]] = len(errors)
    if (at >= 0).any():
        causes[f"{_NOT_FINITE}, first at iteration {at[at >= 0].min():,}"] = int((at >= 0).sum())
    runs = at.size - int(result.missing[label].sum() if result.missing else 0)
    return _causes_in_words(causes, int(result.failed[label].sum()), runs, result.config.iterations)


def _causes_in_words(causes: Mapping[str, int], failed: int, runs: int, iterations: int) -> str:
    """Why runs failed, from how many did for each cause; the others ended no better than a constant prediction."""
    others = failed - sum(causes.values())
    if others == runs:
        return f"no run ended better than a constant prediction after {counted(iterations, 'iteration')}: train longer"
    counts = {cause: n for cause, n in [*causes.items(), (_NO_BETTER, others)] if n}
    return "; ".join(f"{'they' if n == failed else n} {cause}" for cause, n in counts.items())


def notes_on_failures(protocols: Mapping[str, Protocol], iterations: int) -> Iterator[str]:
    """In which protocols runs of an optimizer failed, and why."""
    for protocol in protocols.values():
        for label, arm in protocol.arms.items():
            failed, runs = int(arm.failed.sum()), len(arm.failed)
            if not failed:
                continue
            diverged = int((~np.isfinite(arm.losses_before[arm.failed]).all(axis=-1)).sum())
            why = _causes_in_words({_NOT_FINITE: diverged}, failed, runs, iterations)
            yield f"{protocol.title}: {failed} of {runs} runs of {name_of(label)} failed: {why}"


def note_on_few_seeds(seeds: int, pairs: int, level: float) -> str | None:
    """That there are too few seeds for intervals that hold at once with the level, or None if there are enough.

    Args:
      seeds: how many runs each optimizer has in a protocol.
      pairs: of optimizers, in all protocols together.
      level: the confidence level that all intervals of a metric have together.
    """
    needed = least_for_median(simultaneous_level(level, max(pairs, 1)))
    if seeds >= needed:
        return None
    held = f"{counted(pairs, 'pair')} of optimizers in all protocols"
    return (
        f"verdicts need {needed} seeds, not {seeds}, for {held} at {100 * level:.3g} %; so there are only medians and "
        "ranges"
    )


def resolution_text(within: Mapping[str, Any]) -> str:
    """Which differences a plan that was chosen by a pilot can resolve; see `momentum_jax.comparison.budget`."""
    if within["resolves"] is None:
        return "which differences they can resolve is not known, since too many runs of the pilot failed"
    title = "training loss" if within["metric"] == "train_loss" else metric_of(within["metric"]).title
    percent = float(f"{100 * within['resolves']:.2g}")
    return f"they can resolve differences in the {title} over about {percent:g} %"


def notes_on_time(plan: Mapping[str, Any], seconds: float | None) -> Iterator[str]:
    """What was chosen to keep within a time, what that can resolve, and the time that it took.

    Args:
      plan: of the comparison.
      seconds: that it took; None if it is not finished, or was not done in one call.
    """
    within, config = plan.get("within"), plan["config"]
    if within is None:
        return
    asked, seeds = within["asked"], len(config["seeds"])
    whole, iterations = time_text(within["seconds"]), counted(config["iterations"], "iteration")
    yield (
        f"planned by a pilot to fit into {whole}: {counted(plan['trials'], 'trial')} of each optimizer, "
        f"{counted(within['seeds'], 'seed')} to judge with, {iterations}; {resolution_text(within)}"
    )
    if config["iterations"] < asked["iterations"]:
        yield f"in {whole} there is no time for the {asked['iterations']:,} iterations that were asked for"
    if seeds < within["seeds"]:
        yield f"the tuning was slower than the pilot: {counted(seeds, 'seed')} judge, not {within['seeds']}"
    if seconds is not None:
        of_whole = f"more than the {whole}" if seconds > within["seconds"] else f"of {whole}"
        yield f"all of it took {time_text(seconds)}, {of_whole}; the pilot predicted {time_text(within['predicted'])}"


def note_on_no_target(runs: int, suggested: float | None) -> str:
    """That the runs that chose the best trials gave no target loss, why, and how to have one.

    Args:
      runs: of each best trial.
      suggested: what these runs reach, or None if too many failed.
    """
    why = (
        "more than a tenth of the runs that chose a best trial failed; give a target"
        if suggested is None and runs >= LEAST_RUNS
        else f"a target is taken from {LEAST_RUNS} rerun seeds or more, not from {runs}; give as many, or a target"
    )
    return f"iterations and seconds to a target loss are not judged: {why}{_such_as(suggested)}"


def note_on_given_target(suggested: float | None) -> str:
    """That runs which are judged as they are need a target to be given, and which these runs reach."""
    return f"iterations to a target loss are judged only if mj.compare_results is given a target{_such_as(suggested)}"


def _such_as(suggested: float | None) -> str:
    return "" if suggested is None else f", such as {suggested:g}"


def notes_on_target(protocols: Mapping[str, Protocol], target: float, record_every: int) -> Iterator[str]:
    """Which optimizers have runs that miss the target, and in which protocols; and how coarse the times are."""
    if record_every > 1:
        yield (
            f"the loss is smoothed over 11 recorded iterations, which span {10 * record_every + 1} (record_every is "
            f"{record_every}); so times to the target are not comparable with those at another record_every"
        )
    for protocol in protocols.values():
        for label, arm in protocol.arms.items():
            missed = int(np.isinf(arm.values["iterations_to_target"]).sum())
            if missed:
                yield (
                    f"{protocol.title}: {missed} of {len(arm.seeds)} runs of {name_of(label)} miss the target loss "
                    f"{target:g} and count as later than all that reach it"
                )


def note_on_own_arms(trials: int, better: Mapping[tuple[str, str], Sequence[str]]) -> str:
    """That tuned optimizers did worse than themselves without tuning: by label and phrase of the protocol, in what."""
    labels, phrases = (list(dict.fromkeys(own)) for own in zip(*better, strict=True))
    metrics = dict.fromkeys(metric_of(metric).title for own in better.values() for metric in own)
    its, loses = ("its", "loses to itself") if len(labels) == 1 else ("their", "lose to themselves")
    return (
        f"{listed(labels)} at {its} best of {counted(trials, 'trial')} {loses} {joined(phrases)} "
        f"({', '.join(metrics)}): the search was too small, or its choice unlucky"
    )


def note_on_budget(outer: str, inner: str, trials: int, metrics: Sequence[str]) -> str:
    """That an optimizer did worse than one that its space contains, by these metrics."""
    titles = ", ".join(metric_of(metric).title for metric in metrics)
    return (
        f"the tuning budget was too small, or its choice unlucky: {name_of(outer)}, whose space contains that of "
        f"{name_of(inner)}, loses to it after {trials} trials of each ({titles})"
    )
