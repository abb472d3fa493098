"""The answer of a comparison, a sweep or a training in two sentences, for terminals, notebooks and pages.

`answer_of` reads the verdicts and words them; `answer_sentences.py` joins what protocols and optimizers have in common.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from momentum_jax._base.display import counted
from momentum_jax._base.errors import InputError
from momentum_jax.analysis import Interval, least_for_median, median_interval, median_of_trials, simultaneous_level
from momentum_jax.comparison.answer_sentences import (
    LONGEST_TITLE,
    Clause,
    Kind,
    Size,
    best_trials_sentences,
    joined,
    name_of,
    of_several,
    of_two,
    ratio_text,
    sentence,
    shortened,
)
from momentum_jax.comparison.arms import Arm, arm_of
from momentum_jax.comparison.metrics import METRICS, TIMES, importance, median_of, metric_of
from momentum_jax.comparison.procedure import compare_results
from momentum_jax.comparison.protocols import Protocol
from momentum_jax.comparison.result import Comparison, notes_on_losers
from momentum_jax.comparison.tuning import tuning_losses
from momentum_jax.comparison.verdict import Outcome, Verdict
from momentum_jax.comparison.wording import (
    format_value,
    notes_on_errors,
    notes_on_failures,
    notes_on_runs,
    notes_on_tuning,
    open_ends,
    range_text,
    reason_of_failures,
    reason_of_no_verdict,
    title_of,
    unit_of_difference,
)
from momentum_jax.optimizers.effective import effective_learning_rate_of
from momentum_jax.results.result import Result
from momentum_jax.results.tables import text_of, varying_hyperparameters
from momentum_jax.space import Trial

# From here on a difference is told as a factor: "100.0 % lower" says less than "300 times lower".
_LEAST_FACTOR = 10
_KINDS: dict[Outcome, Kind] = {
    "better": "helps",
    "worse": "does not help",
    "equivalent": "no difference found",
    "no difference found": "no difference found",
    "no verdict": "cannot be told",
}


class ProtocolAnswer(NamedTuple):
    """The answer for one pair of optimizers in one protocol.

    Attributes:
      protocol: its name: "same", "matched", "tuned" or "given".
      title: its title, with its number.
      a: the label of the optimizer that is judged.
      b: the label of the first optimizer, which it is held against.
      kind: whether a helps.
      why: such as "its effective learning rate is ten times larger"; "" if there is nothing to say.
    """

    protocol: str
    title: str
    a: str
    b: str
    kind: Kind
    why: str


class Answer(NamedTuple):
    """What a comparison, a sweep or a training comes to.

    Attributes:
      sentences: one or two, each of at most 300 characters.
      parts: the answer for every protocol and optimizer; empty where nothing is judged.
      sure: one sentence on how many seeds and trials the answer rests on.
      warnings: the notes that could change the answer.
    """

    sentences: tuple[str, ...]
    parts: tuple[ProtocolAnswer, ...]
    sure: str
    warnings: tuple[str, ...]


def answer_of(compared: Comparison) -> Answer:
    """The answer of a comparison: whether each optimizer helps, held against the first, in each protocol.

    It goes by the loss on the training set where that was judged, else by the first metric that was.
    """
    first, *others = compared.config.optimizers
    metric = decisive_metric(compared)
    clauses = [
        _clause(compared, name, protocol, metric, a, first)
        for name, protocol in compared.protocols.items()
        for a in others
    ]
    parts = tuple(
        ProtocolAnswer(
            c.protocol,
            c.title,
            c.a,
            c.b,
            c.kind,
            c.reason or (f"its effective learning rate is {c.ratio}" if c.ratio else ""),
        )
        for c in clauses
    )
    sentences = of_two if len(others) == 1 else of_several
    title = shortened(title_of(metric, compared.target), LONGEST_TITLE)
    return Answer(sentences(clauses, title), parts, _sure(compared), tuple(_warnings(compared)))


def decisive_metric(compared: Comparison) -> str:
    """The metric that the answer goes by."""
    return min((verdict.metric for verdict in compared.verdicts), key=importance, default="failed")


def _clause(compared: Comparison, name: str, protocol: Protocol, metric: str, a: str, b: str) -> Clause:
    """What one protocol says of one optimizer."""
    clause = Clause(name, protocol.title, a, b, "cannot be told", reason="", ratio="", size=None)
    if not {a, b} <= set(protocol.arms):
        failed = joined([name_of(label) for label in (a, b) if label not in protocol.arms])
        return clause._replace(reason=shortened(protocol.skipped or f"every trial of {failed} failed"))
    verdicts = [v for v in compared.verdicts if (v.protocol, v.metric, v.a, v.b) == (name, metric, a, b)]
    if not verdicts:
        if "failed" not in (compared.plan["judge_by"] or ()):
            return clause._replace(reason="no metric could be judged")
        return clause._replace(kind="no difference found", reason="no run failed")
    (verdict,) = verdicts
    clause = clause._replace(kind=_KINDS[verdict.outcome])
    if verdict.outcome == "no verdict":
        return clause._replace(reason=reason_of_no_verdict(verdict))
    if clause.kind == "no difference found":
        clause = clause._replace(interval=range_text(verdict).removesuffix("; "))
    if verdict.outcome == "equivalent":
        unit = "percentage points" if metric_of(metric).unit == "proportion" else "%"
        return clause._replace(reason=f"within ±{100 * compared.plan['margin']:g} {unit}")
    if verdict.outcome == "no difference found":
        return clause
    if not np.isfinite(verdict.difference.value):
        return clause._replace(reason=_what_failed(protocol, verdict))
    return clause._replace(ratio=_ratio_of_rates(name, protocol, a, b), size=_size(verdict, protocol.arms))


def _ratio_of_rates(name: str, protocol: Protocol, a: str, b: str) -> str:
    """How many times larger the effective learning rate of a is, where the protocol does not make it equal."""
    if name not in ("same", "given"):
        return ""
    try:
        of_a, of_b = (effective_learning_rate_of(label, protocol.arms[label].trial.optimizer) for label in (a, b))
    except InputError:
        return ""
    return ratio_text(of_a / of_b) if of_a > 0 and of_b > 0 else ""


def _size(verdict: Verdict, arms: Mapping[str, Arm]) -> Size:
    """How large a difference is that was found: its interval holds no zero."""
    difference, less = verdict.difference, verdict.difference.value < 0
    unit, factor = unit_of_difference(verdict, difference.value)
    way = ("fewer" if less else "more") if verdict.metric in TIMES else ("lower" if less else "higher")

    def size(unit: str, factor: float) -> Size:
        low, high = sorted((abs(factor * difference.low), abs(factor * difference.high)))
        return Size(abs(factor * difference.value), unit, way, low, high)

    if unit != "%":
        # The titles of times say what is counted.
        return size("" if verdict.metric in TIMES else unit, factor)
    relative = size("%", factor)
    if less and relative.high > 100:
        # No loss is lower by more than all of it, and medians of differences are.
        relative = relative._replace(low=math.nan)
    times = _times(verdict, arms, less=less)
    if times.value >= _LEAST_FACTOR:
        relative = Size(times.value, "times", way, times.low, times.high)
    return size("", 1.0)._replace(relative=relative)


def _times(verdict: Verdict, arms: Mapping[str, Arm], *, less: bool) -> Interval:
    """How many times lower or higher a is than b: the median of the ratios by seed; 0 where not all are positive."""
    _, of_a, of_b = np.intersect1d(arms[verdict.a].seeds, arms[verdict.b].seeds, return_indices=True)
    x, y = (arms[label].values[verdict.metric][of] for label, of in ((verdict.a, of_a), (verdict.b, of_b)))
    level = verdict.difference.level
    if not (np.isfinite([x, y]).all() and (np.minimum(x, y) > 0).all()):
        return Interval(0.0, math.nan, math.nan, level)
    return median_interval(y / x if less else x / y, level=level)


def _what_failed(protocol: Protocol, verdict: Verdict) -> str:
    """Which runs have no finite value, where the median of the differences is infinite."""
    label = verdict.a if verdict.outcome == "worse" else verdict.b
    values, failed = protocol.arms[label].values[verdict.metric], protocol.arms[label].failed
    lost = int((~np.isfinite(values)).sum())
    runs = "every run" if lost == len(values) else f"{lost} of {len(values)} runs"
    what = "failed" if verdict.metric not in TIMES or failed.all() else "never got to the target"
    return f"{runs} of {name_of(label)} {what}"


def _sure(compared: Comparison) -> str:
    """How many seeds and trials the answer rests on, and how many seeds verdicts take if there are too few."""
    first, metric = next(iter(compared.config.optimizers)), decisive_metric(compared)
    given = len(compared.config.seed_tuple)
    pairs = [v.pairs for v in compared.verdicts if (v.metric, v.b) == (metric, first)]
    fewest, most = min(pairs, default=given), max(pairs, default=given)
    of_both = counted(most, "seed" if fewest == given else "shared seed")
    text = of_both if fewest == most else f"{fewest} to {of_both}"
    lost = _failed_runs(compared.judged)
    text += f" ({lost})" if lost else ""
    if compared.tuning is not None:
        others = counted(len(compared.tuning.config.seed_tuple), "other seed")
        lost = _failed_trials(compared.tuning)
        text += (
            f"; each tuned by {counted(compared.plan['trials'], 'trial')} with {others}{f' ({lost})' if lost else ''}"
        )
    if not pairs:
        return f"{text}."
    level, needed = f"{100 * compared.plan['level']:.3g} %", seeds_needed(compared)
    if fewest < needed:
        return f"{text}; verdicts at {level} need {counted(needed, 'seed')}."
    return f"{text}; all intervals hold at {level}."


def _failed_runs(results: Iterable[Result]) -> str:
    """How many runs of the results failed; "" if none did."""
    there = [
        own[~result.missing[label]] if result.missing else own
        for result in results
        for label, own in result.failed.items()
    ]
    failed = sum(int(own.sum()) for own in there)
    return f"{failed:,} of {counted(sum(own.size for own in there), 'run')} failed" if failed else ""


def _failed_trials(result: Result) -> str:
    """How many runs of a sweep failed, and how many trials by the median of theirs; "" if no run did."""
    medians = {
        label: median_of_trials(np.zeros(own.shape), own, result.missing[label])[~result.missing[label].all(axis=1)]
        for label, own in result.failed.items()
    }
    failed = sum(int(np.isinf(own).sum()) for own in medians.values())
    trials = counted(sum(map(len, medians.values())), "trial")
    return _failed_runs([result]) + (f", and with them {failed:,} of {trials}" if failed else "")


def seeds_needed(compared: Comparison) -> int:
    """How many seeds the comparison's verdicts take."""
    return least_for_median(_level(compared))


def _level(compared: Comparison) -> float:
    """Of each interval."""
    pairs = len({(v.protocol, v.a, v.b) for v in compared.verdicts})
    return simultaneous_level(compared.plan["level"], max(pairs, 1))


def _warnings(compared: Comparison) -> Iterator[str]:
    """The notes that could change the answer: on the tuning, and on runs that failed or are missing."""
    with_runs = {name: protocol for name, protocol in compared.protocols.items() if protocol.arms}
    yield from notes_on_losers(with_runs, compared.plan, _level(compared))
    if compared.tuning is not None:
        losses = tuning_losses(compared.tuning, compared.plan["tune_by"])
        yield from notes_on_tuning(compared.tuning, losses, (), compared.plan["space"])
        yield from notes_on_errors("tuning", compared.tuning)
    yield from notes_on_runs(with_runs)
    yield from notes_on_failures(with_runs, compared.config.iterations)
    for result in compared.judged:
        yield from notes_on_errors("judging", result)


def answer_of_sweep(result: Result) -> Answer:
    """The best trial of each optimizer of a sweep by its median final training loss, and whether better may lie beyond.

    There are no parts, since the same runs chose the best trials.
    """
    assert result.trials is not None
    best = best_of_sweep(result)
    failed = [label for label, missing in result.missing.items() if label not in best and not missing.all()]
    trials = sorted(
        (median, f"{name_of(label)} with {_values_of(result.trials[label], at)}")
        for label, (at, median) in best.items()
    )
    ends = {
        label: [f"{end} {name.replace('_', ' ')}" for name, (end, _) in open_ends(result.trials[label], at).items()]
        for label, (at, _) in best.items()
    }
    ends = {label: own for label, own in ends.items() if own}
    missing = sum(int(own.sum()) for own in result.missing.values())
    unfinished = [f"unfinished: {counted(missing, 'run')} still to come"] if missing else []
    reasons = [f"{name_of(label)}: every trial failed: {reason_of_failures(result, label)}" for label in failed]
    warnings = [*unfinished, *reasons, *notes_on_errors("the sweep", result)]
    seeds = counted(len(result.config.seed_tuple), "seed")
    sure = f"{seeds}; the runs that chose the best trials flatter them, and momentum-jax compare judges by others."
    title = "median training loss" if result.train_loss else "median loss on the last batch"
    sentences = best_trials_sentences(title, trials, ends, failed, _failed_trials(result))
    return Answer(sentences, (), sure, tuple(warnings))


def best_of_sweep(result: Result) -> dict[str, tuple[int, float]]:
    """By label, the position of the trial with the least median final loss, and that loss.

    An optimizer of which every trial failed is not in it.
    """
    best = {}
    for label in result.trials or {}:
        losses = result.final_losses(label)
        medians = median_of_trials(losses, result.failed[label], result.missing[label])
        if np.isfinite(medians).any():
            at = int(np.argmin(medians))
            best[label] = (at, float(medians[at]))
    return best


def _values_of(trials: Sequence[Trial], position: int) -> str:
    """What distinguishes a trial, with at most three hyperparameters."""
    varying = varying_hyperparameters(trials)
    values = [f"{name.replace('_', ' ')} {shortened(text_of(own[position]), 40)}" for name, own in varying.items()]
    return joined(values[:3]) if values else "the only values tried"


def answer_of_training(result: Result) -> Answer:
    """What a training comes to: `answer_of` its optimizers as configured, or what its only optimizer reached."""
    trained, iterations = int(result.iterations[-1]) + 1, result.config.iterations
    seeds = counted(len(result.config.seed_tuple), "seed")
    if trained < iterations:
        text = f"nothing can be told yet: {trained:,} of {iterations:,} iterations are trained"
        return Answer(
            (f"{text[0].upper()}{text[1:]}.",), (), f"{seeds}, interrupted.", ("the training was interrupted",)
        )
    if len(result.config.optimizers) > 1:
        return answer_of(compare_results(result))
    (label,) = result.config.optimizers
    arm = arm_of(result, label, None)
    failed, runs = int(arm.failed.sum()), len(arm.failed)
    warnings = tuple(notes_on_failures({"given": Protocol("as configured", {label: arm}, None)}, iterations))
    sure = f"{seeds}; a single optimizer is held against none."
    if failed == runs:
        text = f"every run of {name_of(label)} failed: {reason_of_failures(result, label)}"
        return Answer((sentence(text),), (), sure, warnings)
    names = [name for name in dict.fromkeys([*METRICS, *arm.values]) if name in arm.values and name != "failed"][:3]
    median = f", median of {seeds}" if runs > 1 else ""
    reached = joined([_value_in_words(name, median_of(name, arm.values[name])) for name in names])
    text = f"{name_of(label)} ends after {counted(iterations, 'iteration')} with {reached}{median}"
    more = (sentence(f"{failed} of {runs} runs failed"),) if failed else ()
    return Answer((sentence(text), *more), (), sure, warnings)


def _value_in_words(metric: str, value: float) -> str:
    title = shortened(metric_of(metric).title, LONGEST_TITLE)
    return f"{'an' if title[0] in 'aeiou' else 'a'} {title} of {format_value(metric, value)}"
