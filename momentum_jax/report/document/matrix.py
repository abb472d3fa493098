"""The matrix of verdicts: for each pair of optimizers, metrics by protocols."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from momentum_jax._base.display import clip
from momentum_jax.analysis import Interval
from momentum_jax.comparison.answer_sentences import Size, joined
from momentum_jax.comparison.metrics import metric_of
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.verdict import Verdict
from momentum_jax.comparison.wording import format_value, reason_of_no_verdict, title_of, unit_of_difference
from momentum_jax.report.document.numbers import json_number

# Limits on the size of a page: cells of all pairs together, and columns of a label within a sentence.
MOST_CELLS, LONGEST_NAME = 3000, 60


def matrix_part(compared: Comparison) -> dict[str, Any] | None:
    """The verdicts of each pair, by metric and protocol; None if there is none.

    A cell is None where a protocol has no verdict of the pair, and where as many runs of both failed. A metric without
    any verdict has no row; the note names it.
    """
    told = {(v.a, v.b, v.metric, v.protocol): v for v in compared.verdicts if not _says_nothing(v)}
    protocols = [name for name in compared.protocols if any(key[3] == name for key in told)]
    judged = dict.fromkeys(key[2] for key in told)
    metrics = [m for m in judged if any(v.outcome != "no verdict" for v in told.values() if v.metric == m)]
    if not metrics:
        return None
    pairs = list(itertools.combinations(compared.config.optimizers, 2))
    kept = pairs[: max(1, MOST_CELLS // (len(metrics) * len(protocols)))]
    return {
        "protocols": [{"name": name, "title": compared.protocols[name].title} for name in protocols],
        "metrics": [
            {"name": m, "title": title_of(m, compared.target), "less_is_better": metric_of(m).less_is_better}
            for m in metrics
        ],
        "pairs": [
            {"a": a, "b": b, "cells": [[verdict_cell(told.get((a, b, m, p))) for p in protocols] for m in metrics]}
            for b, a in kept
        ],
        "left_out": len(pairs) - len(kept),
        "note": _note(compared, {m: [v for v in told.values() if v.metric == m] for m in judged if m not in metrics}),
    }


def _says_nothing(verdict: Verdict) -> bool:
    return verdict.metric == "failed" and verdict.median_a == verdict.median_b


def verdict_cell(verdict: Verdict | None) -> dict[str, Any] | None:
    """A verdict on a against b. Its size is relative to b's median, its `mirrored` size that of b relative to a's."""
    if verdict is None:
        return None
    low, high = sorted((verdict.difference.low, verdict.difference.high))
    sentence = verdict.sentence
    for label in (verdict.a, verdict.b):
        sentence = sentence.replace(label, clip(label, LONGEST_NAME))
    return {
        "outcome": verdict.outcome,
        "size": _size(verdict),
        "mirrored": _size(_mirrored(verdict)),
        "difference": json_number(verdict.difference.value),
        "low": json_number(low),
        "high": json_number(high),
        "median_a": json_number(verdict.median_a),
        "median_b": json_number(verdict.median_b),
        "seeds": verdict.pairs,
        "sentence": sentence,
    }


def _size(verdict: Verdict) -> str:
    """The difference with its sign, in the unit that sentences use; both values where it is infinite."""
    difference = verdict.difference.value
    if not math.isfinite(difference):
        own, reference = (format_value(verdict.metric, value) for value in (verdict.median_a, verdict.median_b))
        return f"{own} against {reference}"
    unit, factor = unit_of_difference(verdict, difference)
    sign = "+" if difference > 0 else "−" if difference < 0 else ""
    amount = Size(abs(factor * difference), unit.replace("percentage points", "pp"), "").amount
    # A number and its unit stay on one line.
    return f"{sign}{amount}".replace(" ", "\N{NO-BREAK SPACE}")


def _mirrored(verdict: Verdict) -> Verdict:
    """The verdict on b against a, as far as its size goes."""
    value, low, high, level = verdict.difference
    return verdict._replace(
        median_a=verdict.median_b, median_b=verdict.median_a, difference=Interval(-value, -high, -low, level)
    )


def _note(compared: Comparison, without: Mapping[str, Sequence[Verdict]]) -> str:
    level = f"{100 * compared.plan['level']:g} %"
    silent = "".join(
        f" There is no verdict on the {title_of(metric, compared.target)}: "
        f"{joined(list(dict.fromkeys(map(reason_of_no_verdict, own))), 'or')}."
        for metric, own in without.items()
    )
    return (
        "A size is the median of the paired differences, in % of the median of the optimizer that the other is held "
        "against, in the metric's unit where that would be below −100 %, or in percentage points (pp). All intervals "
        f"of one metric hold together with {level}.{silent}"
    )
