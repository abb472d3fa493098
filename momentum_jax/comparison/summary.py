"""What is shown of a comparison: its answer, and then the verdicts, those on the decisive metric first."""

import collections
from typing import TYPE_CHECKING

import numpy as np

from momentum_jax._base.display import LINES, Row, Summary, clip, counted
from momentum_jax.comparison.answer import answer_of
from momentum_jax.comparison.metrics import importance
from momentum_jax.comparison.verdict import Verdict
from momentum_jax.comparison.wording import format_value, range_text
from momentum_jax.config import scale_of
from momentum_jax.results.summary import data_of, median_curve

if TYPE_CHECKING:
    from momentum_jax.comparison.result import Comparison


def summary_of(compared: "Comparison", *, curves: bool) -> Summary:
    """The summary of a comparison; with curves for HTML."""
    answer = answer_of(compared)
    labels = ", ".join(clip(label, 20) for label in compared.config.optimizers)
    data = compared.plan.get("data", data_of(compared.judged[0]))
    verdicts = sorted(compared.verdicts, key=lambda v: importance(v.metric))
    first = verdicts[0].metric if verdicts else ""
    others = len(set(compared.notes) - set(answer.warnings))
    return Summary(
        title=f"Comparison of {clip(labels, 50)} on {clip(data, 30)}: {scale_of(compared.config)}",
        lines=(*answer.sentences, answer.sure, *([_counts(verdicts)] if verdicts else [])),
        columns=("protocol", "metric", "optimizer", "against", "outcome", "medians", "difference"),
        rows=tuple(_row(verdict, compared, curves=curves and verdict.metric == first) for verdict in verdicts[:LINES]),
        total=len(verdicts),
        curves="loss before each update (dashes: the other's)",
        notes=(*answer.warnings, *([f"{counted(others, 'more note')} in .notes"] if others else [])),
    )


def _counts(verdicts: list[Verdict]) -> str:
    counts = collections.Counter(verdict.outcome for verdict in verdicts)
    return f"{counted(len(verdicts), 'verdict')}: {', '.join(f'{n} {outcome}' for outcome, n in counts.items())}"


def _row(verdict: Verdict, compared: "Comparison", *, curves: bool) -> Row:
    arms = compared.protocols[verdict.protocol].arms
    of_a, of_b = (format_value(verdict.metric, median) for median in (verdict.median_a, verdict.median_b))
    text = range_text(verdict).removesuffix("; ").replace("percentage points", "points")
    difference = "" if np.isnan(verdict.difference.low) else text
    return Row(
        (verdict.protocol, verdict.metric, verdict.a, verdict.b, verdict.outcome, f"{of_a} / {of_b}", difference),
        tuple(median_curve(arms[label].losses_before) for label in (verdict.a, verdict.b)) if curves else (),
    )
