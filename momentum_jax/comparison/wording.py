"""The sentences of a comparison: verdicts, notes, warnings, and the titles and values in them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from momentum_jax.analysis import ends_of_axes, least_for_median, median_of_trials, simultaneous_level
from momentum_jax.comparison.metrics import TIMES, metric_of
from momentum_jax.comparison.protocols import Protocol
from momentum_jax.comparison.target import LEAST_RUNS
from momentum_jax.comparison.verdict import Verdict
from momentum_jax.optimizers.registry import is_bound
from momentum_jax.results.result import Result
from momentum_jax.results.tables import text_of, varying_hyperparameters


def title_of(metric: str, target: float | None) -> str:
    """The title of a metric, with the target loss as a number."""
    title = metric_of(metric).title
    return title if target is None else title.replace("the target", f"a loss of {target:g}")


def title_of_tuning(plan: Mapping[str, Any]) -> str:
    """The title of what `tuning_losses` gives, with its unit."""
    metric = metric_of(plan["tune_by"])
    title = metric.title.replace("on the test set", "on held-out examples")
    if not metric.less_is_better:
        return f"1 − {title}"
    return f"{title} (nats)" if metric.unit == "nats" else title


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
        return f"No verdict on the {title} of {a} and {b}, {values}: {_why_none(verdict)}."
    found = f"{values} ({_range(verdict)}{verdict.pairs} seeds)"
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


def _why_none(verdict: Verdict) -> str:
    if verdict.pairs == 0:
        return "no seed has runs of both"
    if verdict.pairs < least_for_median(verdict.difference.level):
        level = verdict.difference.level
        return f"an interval of {100 * level:.3g} % needs {least_for_median(level)} seeds, not {verdict.pairs}"
    if verdict.metric in TIMES and verdict.median_a == verdict.median_b == np.inf:
        return "neither reaches the target"
    return "too many runs failed or missed the target" if verdict.metric in TIMES else "too many runs failed"


def _range(verdict: Verdict) -> str:
    """The interval of the difference, as a percentage of b's median if that is finite and not 0."""
    low, high = verdict.difference.low, verdict.difference.high
    reference = abs(verdict.median_b)
    if metric_of(verdict.metric).unit == "proportion":
        unit, factor = "percentage points", 100.0
    elif 0 < reference < np.inf:
        unit, factor = "%", 100 / reference
    else:
        unit, factor = metric_of(verdict.metric).unit, 1.0
    if low == high and not np.isfinite(low):
        # One run of each pair failed or missed the target, and the values say which.
        return ""
    if np.isfinite(low) and np.isfinite(high):
        return f"{_signed(factor * low)}{' %' if unit == '%' else ''} to {_signed(factor * high)} {unit}; "
    if np.isfinite(high):
        return f"{_signed(factor * high)} {unit} or less; "
    return f"{_signed(factor * low)} {unit} or more; "


def _signed(number: float) -> str:
    # The difference of equal accuracies is −0.0.
    number += 0.0
    text = f"{number:+.1f}" if abs(number) >= 0.1 or number == 0 else f"{number:+.2g}"
    return text.replace("-", "−")


def notes_on_skipped(protocols: Mapping[str, Protocol]) -> Iterator[str]:
    """Which protocols were left out, and why."""
    for protocol in protocols.values():
        if protocol.skipped:
            yield f"{protocol.title}: left out, since {protocol.skipped}"


def notes_on_tuning(
    tuning: Result, losses: Mapping[str, Float[np.ndarray, "trials seeds"]], schedules_replaced: Sequence[str]
) -> Iterator[str]:
    """What a reader must know of the tuning: replaced schedules, best trials on an edge, unfinished runs."""
    for label in schedules_replaced:
        yield f"tuning: constants from the space replace the schedule of {label}"
    for warning in warnings_of_trials(tuning, losses):
        yield f"tuning: {warning}"
    if any(missing.any() for missing in tuning.missing.values()):
        yield "the tuning is unfinished; the best trials are the best of those that have runs"


def warnings_of_trials(result: Result, losses: Mapping[str, Float[np.ndarray, "trials seeds"]]) -> Iterator[str]:
    """Warnings that the best trial of a sweep lies on the edge of what was tried, or that every trial failed.

    Args:
      result: what `sweep` returned.
      losses: by label; the best trial has the least median over seeds.
    """
    assert result.trials is not None
    for label, trials in result.trials.items():
        if result.missing[label].all():
            continue
        medians = median_of_trials(losses[label], result.failed[label], result.missing[label])
        if not np.isfinite(medians).any():
            yield f"{label}: every trial failed"
            continue
        best = int(np.argmin(medians))
        for name, (end, value) in ends_of_axes(varying_hyperparameters(trials), best).items():
            if is_bound(trials[best].optimizer, name, value):
                continue
            yield (
                f"{label}: the best trial has the {end} {name} that was tried, {text_of(value)}; what is better may "
                "lie beyond it"
            )


def notes_on_runs(protocols: Mapping[str, Protocol]) -> Iterator[str]:
    """Which protocols lack runs, or have unequal numbers of them."""
    for protocol in protocols.values():
        counts = {label: len(arm.seeds) for label, arm in protocol.arms.items()}
        missing = sum(arm.missing for arm in protocol.arms.values())
        if missing:
            yield f"{protocol.title}: unfinished, {missing} runs are still to come; the verdicts rest on the others"
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{label} {count}" for label, count in counts.items())
            yield f"{protocol.title}: the numbers of runs differ ({listed}); only seeds that both have are compared"


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
    held = f"{pairs} pair{'' if pairs == 1 else 's'} of optimizers in all protocols"
    return (
        f"verdicts need {needed} seeds, not {seeds}, for {held} at {100 * level:g} %; so there are only medians and "
        "ranges"
    )


def note_on_no_target(runs: int, suggested: float | None) -> str:
    """That the tuning gave no target loss, why, and how to have one.

    Args:
      runs: of each best trial in the tuning.
      suggested: what these runs reach, or None if too many failed.
    """
    why = (
        "more than a tenth of the tuning runs of a best trial failed; give a target"
        if suggested is None and runs >= LEAST_RUNS
        else f"a target is taken from {LEAST_RUNS} tuning seeds or more, not from {runs}; give as many, or a target"
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
                    f"{protocol.title}: {missed} of {len(arm.seeds)} runs of {label} miss the target loss {target:g} "
                    "and count as later than all that reach it"
                )


def note_on_budget(outer: str, inner: str, trials: int, metrics: Sequence[str]) -> str:
    """That an optimizer did worse than one that its space contains, by these metrics."""
    return (
        f"the tuning budget was too small, or its choice unlucky: {outer}, whose space contains that of {inner}, loses "
        f"to it after {trials} trials of each ({', '.join(metric_of(metric).title for metric in metrics)})"
    )
