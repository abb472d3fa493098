"""The protocols of a comparison side by side: for each metric, every arm with its median, interval and runs."""

import math
from typing import Any

from momentum_jax.analysis import median_interval, proportion_interval
from momentum_jax.comparison.arms import Arm
from momentum_jax.comparison.metrics import median_of, metric_of
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.wording import title_of
from momentum_jax.report.document.numbers import json_number
from momentum_jax.results.tables import text_of
from momentum_jax.space import Trial

# Limit on the size of a page: runs of an arm that are drawn as dots.
_MOST_DOTS = 100


def protocols_part(compared: Comparison) -> dict[str, Any]:
    """For each metric that was judged: every protocol with its arms, or with the reason why it was left out.

    An arm has the interval of its median, or the range of its runs if the comparison has too few for verdicts.
    """
    ranges = not compared.findings
    metrics = dict.fromkeys(verdict.metric for verdict in compared.verdicts)
    most = max(len(arm.seeds) for protocol in compared.protocols.values() for arm in protocol.arms.values())
    note = f"Of {most} runs the first {_MOST_DOTS} are dots; medians and intervals are of all."
    return {
        "metrics": [
            {
                "name": metric,
                "title": title_of(metric, compared.target),
                "unit": metric_of(metric).unit,
                "less_is_better": metric_of(metric).less_is_better,
                "protocols": [
                    {
                        "title": protocol.title,
                        "skipped": protocol.skipped,
                        "arms": [_arm(metric, label, arm, ranges=ranges) for label, arm in protocol.arms.items()],
                    }
                    for protocol in compared.protocols.values()
                ],
            }
            for metric in metrics
        ],
        "bar": "range" if ranges else "95 % interval",
        "note": note if most > _MOST_DOTS else "",
    }


def _arm(metric: str, label: str, arm: Arm, *, ranges: bool) -> dict[str, Any]:
    values = arm.values[metric]
    if ranges:
        low, high = (values.min(), values.max()) if len(values) > 1 and metric != "failed" else (math.nan, math.nan)
    else:
        interval = (
            proportion_interval(int(values.sum()), len(values)) if metric == "failed" else median_interval(values)
        )
        low, high = interval.low, interval.high
    return {
        "label": label,
        "detail": _detail(arm.trial),
        "value": json_number(median_of(metric, values)),
        "low": json_number(low),
        "high": json_number(high),
        "values": [json_number(value) for value in values[:_MOST_DOTS]],
    }


def _detail(trial: Trial) -> str:
    own = [f"{name.replace('_', ' ')} {text_of(value)}" for name, value in trial.optimizer.items]
    return ", ".join([*own, f"batches of {trial.batch_size}"])
