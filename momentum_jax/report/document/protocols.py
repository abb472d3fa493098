"""The protocols of a comparison side by side: for each metric, every arm with its median, interval and runs."""

import math
from typing import Any

from momentum_jax.analysis import median_interval, proportion_interval
from momentum_jax.comparison.arms import Arm
from momentum_jax.comparison.metrics import median_of, metric_of, unit_of
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.wording import format_value, title_of
from momentum_jax.report.document.numbers import json_number
from momentum_jax.results.summary import loss_unit
from momentum_jax.results.tables import text_of
from momentum_jax.space import Trial

# Limits on the size of a page: runs that are drawn as dots, of an arm and in all metrics together.
_MOST_DOTS, _MOST_NUMBERS = 100, 30_000


def protocols_part(compared: Comparison) -> dict[str, Any]:
    """For each metric that was judged: every protocol with its arms, or with the reason why it was left out.

    An arm has the interval of its median, or the range of its runs if the comparison has too few for verdicts.
    """
    ranges, unit = not compared.findings, loss_unit(compared.judged[0])
    metrics = dict.fromkeys(verdict.metric for verdict in compared.verdicts)
    runs = [len(arm.seeds) for protocol in compared.protocols.values() for arm in protocol.arms.values()]
    dots = min(_MOST_DOTS, max(1, _MOST_NUMBERS // max(1, len(runs) * len(metrics))))
    note = f"Of {max(runs, default=0)} runs the first {dots} are dots; medians and intervals are of all."
    return {
        "metrics": [
            {
                "name": metric,
                "title": title_of(metric, compared.target),
                "unit": unit_of(metric, unit),
                "less_is_better": metric_of(metric).less_is_better,
                # What a run is called whose value is infinite.
                "infinite": format_value(metric, math.inf),
                "protocols": [
                    {
                        "title": protocol.title,
                        "skipped": protocol.skipped,
                        "arms": [
                            _arm(metric, label, arm, ranges=ranges, dots=dots) for label, arm in protocol.arms.items()
                        ],
                    }
                    for protocol in compared.protocols.values()
                ],
            }
            for metric in metrics
        ],
        "bar": "range" if ranges else "95 % interval",
        "note": note if max(runs, default=0) > dots else "",
    }


def _arm(metric: str, label: str, arm: Arm, *, ranges: bool, dots: int) -> dict[str, Any]:
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
        "values": [json_number(value) for value in values[:dots]],
    }


def _detail(trial: Trial) -> str:
    own = [f"{name.replace('_', ' ')} {text_of(value)}" for name, value in trial.optimizer.items]
    return ", ".join([*own, f"batches of {trial.batch_size}"])
