"""What runs come to by each metric, and what may be said of two optimizers whose runs are paired by seed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from momentum_jax._base.errors import InputError
from momentum_jax.analysis import (
    Interval,
    ends_of_axes,
    interquartile_mean_interval,
    iterations_to,
    mean_interval,
    median_interval,
    median_of_trials,
    paired_differences,
    proportion_difference_interval,
    smooth_curve,
    wins_interval,
)
from momentum_jax.optimizers.registry import is_bound
from momentum_jax.results.result import Result
from momentum_jax.results.tables import text_of, varying_hyperparameters
from momentum_jax.space import Trial

Outcome = Literal["better", "worse", "equivalent", "no difference found", "no verdict"]
TIMES = ("iterations_to_target", "seconds_to_target")


class Metric(NamedTuple):
    """What optimizers are judged by."""

    title: str
    unit: str
    less_is_better: bool = True


# The area is that under the loss before each update, over the number of iterations.
METRICS = {
    "train_loss": Metric("loss on the training set", "nats"),
    "test_loss": Metric("loss on the test set", "nats"),
    "test_accuracy": Metric("accuracy on the test set", "proportion", less_is_better=False),
    "iterations_to_target": Metric("iterations to the target", "iterations"),
    "seconds_to_target": Metric("seconds to the target", "seconds"),
    "mean_loss": Metric("mean loss over the run", "nats"),
    "failed": Metric("proportion of failed runs", "proportion"),
}


def metric_of(name: str) -> Metric:
    """One of `METRICS`, or what a task's own evaluation gives: of an accuracy more is better, of all else less."""
    return METRICS.get(name) or Metric(name.replace("_", " "), "", less_is_better=not name.endswith("accuracy"))


class Arm(NamedTuple):
    """The finished runs of one optimizer with one set of hyperparameters.

    Attributes:
      trial: the optimizer and the size of its batches.
      seeds: of the runs.
      missing: how many runs are still to come.
      losses_before: the loss of each run on each batch before its update.
      failed: which runs failed.
      seconds_per_step: of one run alone on one device, as measured in each round; None where it was not.
      values: by metric, of each run; of a failed one +inf (of an accuracy −inf), and of a time also where the target
        is not reached.
    """

    trial: Trial
    seeds: Int[np.ndarray, " seeds"]
    missing: int
    losses_before: Float[np.ndarray, "seeds recorded"]
    failed: Bool[np.ndarray, " seeds"]
    seconds_per_step: Float[np.ndarray, " rounds"] | None
    values: dict[str, Float[np.ndarray, " seeds"]]


class Verdict(NamedTuple):
    """What may be said of two optimizers by one metric in one protocol.

    Attributes:
      protocol: how the two were set.
      metric: its name.
      a: the optimizer that is held against the other.
      b: the other, given earlier.
      pairs: seeds that both have runs of.
      median_a: the median of a's runs; of failed runs their share.
      median_b: likewise.
      difference: a − b, the interval that the outcome rests on: of the median of the paired differences, of failed runs
        of their shares. NaN where there are too few seeds for the level: 7 for one pair in three protocols at 95 %.
      mean: the mean of the paired differences with its t interval.
      interquartile_mean: likewise, from 20 seeds on.
      wins: the probability that a is better than b with the same seed.
      outcome: of a.
      sentence: the outcome in words.
    """

    protocol: str
    metric: str
    a: str
    b: str
    pairs: int
    median_a: float
    median_b: float
    difference: Interval
    mean: Interval
    interquartile_mean: Interval
    wins: Interval
    outcome: Outcome
    sentence: str


def arm_of(result: Result, label: str, position: int | None) -> Arm:
    """The runs of a label in a result, of a sweep those of one of its trials, without times to a target."""

    def own(values: np.ndarray) -> np.ndarray:
        return (values if position is None else values[position])[there]

    if position is None:
        trial = Trial(result.config.optimizers[label], result.config.batch_size)
        there = np.ones(len(result.config.seed_tuple), bool)
    else:
        assert result.trials is not None
        trial = result.trials[label][position]
        there = ~result.missing[label][position]
    failed = own(result.failed[label])
    losses = own(result.losses_before[label])
    complete = len(result.evaluation_iterations) > 0 and result.evaluation_iterations[-1] > result.iterations[-1]
    finals = {name: own(by_label[label])[:, -1] for name, by_label in result.evaluations.items() if complete}
    values = {name: _with_failures(name, numbers, failed) for name, numbers in finals.items()}
    with np.errstate(over="ignore", invalid="ignore"):
        values["mean_loss"] = _with_failures("mean_loss", losses.astype(np.float64).mean(axis=1), failed)
    values["failed"] = failed.astype(np.float64)
    seeds = np.asarray(result.config.seed_tuple)[there]
    return Arm(trial, seeds, int((~there).sum()), losses, failed, None, values)


def with_times(arm: Arm, iterations: Int[np.ndarray, " recorded"], target: float) -> Arm:
    """The arm with the iterations, and where it is known what one takes the seconds, until the smoothed loss is low.

    The loss is that before the update, smoothed as the tutorial does; a run that misses the target takes for ever.
    """
    times = np.where(arm.failed, np.inf, iterations_to(smooth_curve(arm.losses_before), iterations, target))
    values = arm.values | {"iterations_to_target": times}
    if arm.seconds_per_step is not None:
        values["seconds_to_target"] = times * np.median(arm.seconds_per_step)
    return arm._replace(values=values)


def common_target(arms: Sequence[Arm]) -> float | None:
    """The lowest loss, in two digits, that the median run of every arm reaches; arms that mostly failed apart."""
    lowest = []
    for arm in arms:
        curves = smooth_curve(arm.losses_before)
        lows = np.where(np.isfinite(curves), curves, np.inf).min(axis=1, initial=np.inf)
        lowest.append(_median(np.where(arm.failed, np.inf, lows)))
    reached = [low for low in lowest if np.isfinite(low)]
    if not reached:
        return None
    if max(reached) == 0:
        return 0.0
    digits = 10.0 ** (math.floor(math.log10(abs(max(reached)))) - 1)
    return float(f"{math.ceil(max(reached) / digits) * digits:.2g}")


def judge(
    protocol: str,
    metric: str,
    arms: Mapping[str, Arm],
    a: str,
    b: str,
    *,
    level: float,
    margin: float | None,
    target: float | None,
) -> Verdict:
    """Holds the runs of a against those of b with the same seeds.

    Args:
      protocol: how the two were set.
      metric: a key of the arms' values.
      arms: by label.
      a: a label.
      b: another.
      level: of the intervals.
      margin: a difference of at most this share of b's median counts as none (of accuracies and shares of failed
        runs: of this much).
      target: the loss that times are taken to.
    """
    about, shares = metric_of(metric), metric == "failed"
    seeds, of_a, of_b = np.intersect1d(arms[a].seeds, arms[b].seeds, return_indices=True)
    x, y = arms[a].values[metric][of_a], arms[b].values[metric][of_b]
    sign = 1.0 if about.less_is_better else -1.0
    low, high = paired_differences(sign * x, sign * y)
    step_a, step_b = arms[a].seconds_per_step, arms[b].seconds_per_step
    if metric == "seconds_to_target" and step_a is not None and step_b is not None:
        # What a step of a costs over one of b is known no better than the rounds agree on it.
        iterations = x / np.median(step_a)
        least, most = np.median(step_b) * np.quantile(step_a / step_b, [0, 1])
        low, high = paired_differences(iterations * least, y)[0], paired_differences(iterations * most, y)[1]
    difference = proportion_difference_interval(x > 0, y > 0, level) if shares else median_interval(low, high, level)
    exact = bool((low == high).all())
    if metric == "seconds_to_target" and not exact:
        difference = difference._replace(value=median_interval(*paired_differences(x, y), level).value)
    finite = exact and bool(np.isfinite(low).all()) and not shares
    none = Interval(math.nan, math.nan, math.nan, level)
    unit = _unit_of_margin(metric, median_of(metric, y))
    outcome = _outcome(difference, None if margin is None else margin * unit) if len(seeds) > 1 else "no verdict"
    mean = mean_interval(low, level) if finite else none
    interquartile_mean = interquartile_mean_interval(low, level) if finite else none
    # The intervals of a − b as the metric counts.
    turned = (lambda interval: interval) if about.less_is_better else _mirrored
    verdict = Verdict(
        protocol=protocol,
        metric=metric,
        a=a,
        b=b,
        pairs=len(seeds),
        median_a=median_of(metric, x),
        median_b=median_of(metric, y),
        difference=turned(difference),
        mean=turned(mean),
        interquartile_mean=turned(interquartile_mean),
        wins=wins_interval(low, high, level),
        outcome=outcome,
        sentence="",
    )
    return verdict._replace(sentence=_sentence(verdict, margin, target))


def median_of(metric: str, values: Float[np.ndarray, " runs"]) -> float:
    """The median over runs; of failed runs their share."""
    return _median(values) if metric != "failed" or not len(values) else float(values.mean())


def warnings_of_trials(result: Result, losses: Mapping[str, Float[np.ndarray, "trials seeds"]]) -> Iterator[str]:
    """Where the best trial of a sweep lies on an edge of what was tried, or every trial failed.

    Args:
      result: of a sweep.
      losses: by label, what the best trial has the least median of.
    """
    assert result.trials is not None
    for label, own in result.trials.items():
        if result.missing[label].all():
            continue
        medians = median_of_trials(losses[label], result.failed[label], result.missing[label])
        if not np.isfinite(medians).any():
            yield f"{label}: every trial failed"
            continue
        best = int(np.argmin(medians))
        for name, (end, value) in ends_of_axes(varying_hyperparameters(own), best).items():
            if is_bound(own[best].optimizer, name, value):
                continue
            yield (
                f"{label}: the best trial has the {end} {name} that was tried, {text_of(value)}; what is better may "
                "lie beyond it"
            )


def check_same_task(results: Sequence[Result]) -> None:
    """Refuses results that are not of one task: of one config but for its optimizers and seeds, and of one dataset.

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
        digests = [_digest_of(r) for r in (results[0], result)]
        if digests[0] != digests[1]:
            raise InputError(
                f"these results are of different data and cannot be compared: digests {digests[0]} and {digests[1]}"
            )


def _digest_of(result: Result) -> str:
    data = result.provenance.get("data")
    return str(data.get("digest", data) if isinstance(data, Mapping) else data)


def _with_failures(name: str, numbers: Any, failed: np.ndarray) -> Float[np.ndarray, " seeds"]:
    worst = np.inf if metric_of(name).less_is_better else -np.inf
    numbers = np.asarray(numbers, np.float64)
    return np.where(failed | ~np.isfinite(numbers), worst, numbers)


def _median(values: np.ndarray) -> float:
    """The median, where the middle two may be infinite."""
    if not len(values):
        return math.nan
    ordered = np.sort(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(low if low == high else low + (high - low) / 2)


def _mirrored(interval: Interval) -> Interval:
    return Interval(-interval.value, -interval.high, -interval.low, interval.level)


def _unit_of_margin(metric: str, reference: float) -> float:
    """What a margin is a multiple of."""
    if metric_of(metric).unit == "proportion":
        return 1.0
    return abs(reference) if np.isfinite(reference) else math.nan


def _outcome(difference: Interval, margin: float | None) -> Outcome:
    """Of the difference in what less of is better."""
    known = [end for end in (difference.low, difference.high) if not math.isnan(end)]
    if len(known) < 2 or known == [-math.inf, math.inf]:
        return "no verdict"
    if margin is not None and -margin <= difference.low and difference.high <= margin:
        return "equivalent"
    if difference.high < 0:
        return "better"
    return "worse" if difference.low > 0 else "no difference found"


def title_of(metric: str, target: float | None) -> str:
    """What a metric is, with the target in numbers."""
    title = metric_of(metric).title
    return title if target is None else title.replace("the target", f"a loss of {target:g}")


def _sentence(verdict: Verdict, margin: float | None, target: float | None) -> str:
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
    if verdict.pairs == 1:
        return "one seed gives no interval"
    if verdict.metric in TIMES and verdict.median_a == verdict.median_b == np.inf:
        return "neither reaches the target"
    if np.isinf(verdict.difference.low) and np.isinf(verdict.difference.high):
        return "too many runs failed or missed the target" if verdict.metric in TIMES else "too many runs failed"
    return f"{verdict.pairs} seeds are too few for an interval of {100 * verdict.difference.level:.3g} %"


def _range(verdict: Verdict) -> str:
    """The interval of the difference, relative to b where that can be said."""
    low, high = verdict.difference.low, verdict.difference.high
    reference = abs(verdict.median_b)
    if metric_of(verdict.metric).unit == "proportion":
        unit, factor = "percentage points", 100.0
    elif 0 < reference < np.inf:
        unit, factor = "%", 100 / reference
    else:
        unit, factor = metric_of(verdict.metric).unit, 1.0
    if low == high and not np.isfinite(low):
        # One of each pair has failed, or misses the target, which the values say.
        return ""
    if np.isfinite(low) and np.isfinite(high):
        return f"{_signed(factor * low)}{' %' if unit == '%' else ''} to {_signed(factor * high)} {unit}; "
    if np.isfinite(high):
        return f"{_signed(factor * high)} {unit} or less; "
    return f"{_signed(factor * low)} {unit} or more; "


def _signed(number: float) -> str:
    text = f"{number:+.1f}" if abs(number) >= 0.1 or number == 0 else f"{number:+.2g}"
    return text.replace("-", "−")


def format_value(metric: str, value: float) -> str:
    """A value as a sentence has it."""
    if math.isnan(value):
        return "unknown"
    if not np.isfinite(value):
        return "never" if metric in TIMES else "failed"
    if metric_of(metric).unit == "proportion":
        return f"{100 * value:.2f} %"
    if metric == "iterations_to_target":
        return f"{value:.0f}"
    return f"{value:.3g} s" if metric == "seconds_to_target" else f"{value:.4g}"
