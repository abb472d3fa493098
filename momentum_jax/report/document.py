"""What the page shows of a result, as JSON types: the page itself only draws."""

import base64
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from momentum_jax.analysis import expected_best, median_interval, median_of_trials, proportion_interval, tolerated_range
from momentum_jax.comparison.arms import Arm, arm_of
from momentum_jax.comparison.metrics import median_of, metric_of
from momentum_jax.comparison.procedure import check_same_task, compare_results
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.tuning import tuning_losses
from momentum_jax.comparison.wording import title_of, title_of_tuning, warnings_of_trials
from momentum_jax.results.result import Result
from momentum_jax.results.tables import text_of, varying_hyperparameters
from momentum_jax.space import Trial

# What the page has room for beside Plotly: numbers in all curves together, points of one, rows of the table, runs of an
# optimizer in a protocol that are drawn as dots.
_NUMBERS, _MOST_POINTS, _FEWEST_POINTS, _ROWS, _DOTS = 100_000, 500, 50, 3000, 100
_AXES = ("learning_rate", "momentum")

TOLERATED = 1.1

Document = dict[str, Any]


def comparison_document(compared: Comparison, command: str) -> Document:
    """Of a comparison: verdicts, all protocols, and the tuning."""
    level = f"{100 * compared.plan['level']:g} %"
    document = _common(compared.judged, command) | {
        "title": " against ".join(list(compared.config.optimizers)[::-1])
        + f" on {compared.plan.get('data', _data_of(compared.judged[0]))}",
        "kind": "comparison",
        "question": "Does it help here, and by how much: at one learning rate, at one effective learning rate, and "
        f"each at its best? The intervals of one metric hold together with {level}, over all its pairs and protocols.",
        "verdicts": [
            {
                "protocol": compared.protocols[v.protocol].title,
                "metric": title_of(v.metric, compared.target),
                **{name: getattr(v, name) for name in ("a", "b", "outcome", "sentence")},
            }
            for v in compared.verdicts
        ],
        "notes": list(compared.notes),
        "optimizers": list(compared.config.optimizers),
        **_curves(
            {(s.title, label): arm for s in compared.protocols.values() for label, arm in s.arms.items()},
            compared.iterations,
        ),
        "three_way": {"metrics": _three_way(compared), "note": _note_on_dots(compared)},
    }
    stages = {f"training {i}": result for i, result in enumerate(compared.judged, 1)}
    if compared.tuning is not None:
        losses = tuning_losses(compared.tuning, compared.plan["tune_by"])
        document |= _of_trials(compared.tuning, losses, title_of_tuning(compared.plan))
        stages = {"judging": compared.judged[0], "tuning": compared.tuning}
    document["config"] = compared.config.to_json() | {"comparison": compared.plan}
    return document | {"table": _table(stages)}


def sweep_document(result: Result, command: str) -> Document:
    """Of a sweep: what each trial came to; no verdicts, since the best one is known only by the runs that chose it."""
    assert result.trials is not None
    losses = {label: result.final_losses(label) for label in result.trials}
    best = {}
    for label in result.trials:
        medians = median_of_trials(losses[label], result.failed[label], result.missing[label])
        best[label] = arm_of(result, label, int(np.argmin(medians)))
    missing = sum(int(m.sum()) for m in result.missing.values())
    unfinished = [f"unfinished: {missing} runs are still to come; this is of those that are there"] if missing else []
    return (
        _common([result], command)
        | {
            "title": f"{', '.join(result.trials)} on {result.config.dataset}: a sweep",
            "kind": "sweep",
            "question": "Which hyperparameters are best, and how much depends on them?",
            "verdicts": [],
            "notes": [
                *unfinished,
                *warnings_of_trials(result, losses),
                "the best trials are shown by the runs that chose them, which flatters them: momentum-jax compare "
                "tunes with one set of seeds and judges with another",
            ],
            "optimizers": list(result.trials),
            **_curves({("the best trial of each", label): arm for label, arm in best.items()}, result.iterations),
            "three_way": None,
            "table": _table({"sweep": result}),
        }
        | _of_trials(result, losses, "final training loss (nats)")
    )


def training_document(results: Sequence[Result], command: str) -> Document:
    """Of what `train` returned: the optimizers as they were given.

    Raises:
      InputError: the results are not of one task.
    """
    check_same_task(results)
    if sum(len(result.config.optimizers) for result in results) > 1:
        compared = compare_results(*results)
        level = f"{100 * compared.plan['level']:g} %"
        return comparison_document(compared, command) | {
            "kind": "training",
            "title": f"{', '.join(compared.config.optimizers)} on {_data_of(results[0])}",
            "question": "How do they compare as they were configured? That is not yet an answer to which is better: "
            f"momentum-jax compare tunes them too. The intervals of one metric hold together with {level}.",
        }
    (result,) = results
    (label,) = result.config.optimizers
    return _common(results, command) | {
        "title": f"{label} on {_data_of(result)}",
        "kind": "training",
        "question": "How does the loss fall?",
        "verdicts": [],
        "notes": [],
        "optimizers": [label],
        **_curves({("as configured", label): arm_of(result, label, None)}, result.iterations),
        "three_way": None,
        "table": _table({"training": result}),
    }


def _data_of(result: Result) -> str:
    """Where the data came from, as far as the result says."""
    data = result.provenance.get("data")
    return str(data.get("source", "a task of one's own") if isinstance(data, Mapping) else result.config.dataset)


def _common(results: Sequence[Result], command: str) -> Document:
    return {
        "heatmaps": [],
        "sensitivity": [],
        "sensitivity_title": "",
        "sensitivity_note": "",
        "budget": [],
        "budget_title": "",
        "budget_note": "",
        "config": results[0].config.to_json(),
        "provenance": results[0].provenance,
        "command": command,
    }


def _curves(arms: Mapping[tuple[str, str], Arm], iterations: Int[np.ndarray, " recorded"]) -> Document:
    """The loss of each run before its updates, in means over as many iterations as there is no room for."""
    seeds = max(len(arm.seeds) for arm in arms.values())
    wanted = len(iterations) if len(iterations) <= _MOST_POINTS else _MOST_POINTS
    points = max(min(wanted, _NUMBERS // max(seeds * len(arms), 1)), min(wanted, _FEWEST_POINTS))
    most = max(1, _NUMBERS // (points * len(arms)))
    # The first iterations of blocks of equal length, the last of which may be shorter.
    starts = np.arange(0, len(iterations), math.ceil(len(iterations) / points))
    curves = []
    for (group, label), arm in arms.items():
        sizes = np.diff([*starts, len(iterations)])
        with np.errstate(over="ignore", invalid="ignore"):
            means = np.add.reduceat(arm.losses_before[:most].astype(np.float64), starts, axis=1) / sizes
        curves.append(
            {
                "label": label,
                "group": group,
                "iterations": iterations[starts].tolist(),
                "values": {
                    "shape": list(means.shape),
                    "base64": base64.b64encode(means.astype("<f4").tobytes()).decode(),
                },
                "unit": "nats",
            }
        )
    note = "The loss on each batch before its update: the median over runs, and the band from their 10th to their 90th "
    note += "percentile."
    if len(starts) < len(iterations):
        note += f" Each point is the mean of {int(np.diff(starts[:2])[0])} recorded iterations."
    if most < seeds:
        note += f" Of {seeds} runs of each optimizer the first {most} are drawn."
    return {"curves": curves, "curves_note": note}


def _three_way(compared: Comparison) -> list[Document]:
    metrics = dict.fromkeys(verdict.metric for verdict in compared.verdicts)
    return [
        {
            "name": metric,
            "title": title_of(metric, compared.target),
            "unit": metric_of(metric).unit,
            "less_is_better": metric_of(metric).less_is_better,
            "protocols": [
                {
                    "title": protocol.title,
                    "skipped": protocol.skipped,
                    "arms": [_arm(metric, label, arm) for label, arm in protocol.arms.items()],
                }
                for protocol in compared.protocols.values()
            ],
        }
        for metric in metrics
    ]


def _note_on_dots(compared: Comparison) -> str:
    most = max(len(arm.seeds) for protocol in compared.protocols.values() for arm in protocol.arms.values())
    return f"Of {most} runs the first {_DOTS} are dots; medians and intervals are of all." if most > _DOTS else ""


def _arm(metric: str, label: str, arm: Arm) -> Document:
    values = arm.values[metric]
    interval = proportion_interval(int(values.sum()), len(values)) if metric == "failed" else median_interval(values)
    return {
        "label": label,
        "detail": _detail(arm.trial),
        "value": _number(median_of(metric, values)),
        "low": _number(interval.low),
        "high": _number(interval.high),
        "values": [_number(value) for value in values[:_DOTS]],
    }


def _detail(trial: Trial) -> str:
    own = [f"{name.replace('_', ' ')} {text_of(value)}" for name, value in trial.optimizer.items]
    return ", ".join([*own, f"batches of {trial.batch_size}"])


def _of_trials(result: Result, losses: Mapping[str, Float[np.ndarray, "trials seeds"]], what: str) -> Document:
    """Heatmaps, sensitivity to the learning rate and the value of more trials."""
    assert result.trials is not None
    document: Document = {
        "heatmaps": [],
        "sensitivity": [],
        "sensitivity_title": f"{what[0].upper()}{what[1:]} against the learning rate",
        "sensitivity_note": "",
        "budget": [],
        "budget_title": f"Expected best {what} of some trials",
        "heatmaps_title": what[0].upper() + what[1:],
        "budget_note": "The mean over all choices of that many trials: exact for a random search, of a grid or a "
        "Sobol sequence a random subsample. It begins where every choice has one that did not fail.",
    }
    for label, trials in result.trials.items():
        medians = median_of_trials(losses[label], result.failed[label], result.missing[label])
        there = np.asarray((~result.missing[label]).any(axis=1))
        if not there.any():
            continue
        varying = {
            name: values
            for name, values in varying_hyperparameters(trials).items()
            if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        }
        axes = [*(name for name in _AXES if name in varying), *(name for name in varying if name not in _AXES)]
        if len(axes) >= 2:
            places = {name: [float(value) for value in varying[name]] for name in axes[:2]}
            document["heatmaps"].append(_heatmap(label, places, medians, there, result.failed[label].sum(axis=1)))
        if "learning_rate" in varying:
            curve = _sensitivity(label, varying["learning_rate"], losses[label], medians, there, len(varying) - 1)
            document["sensitivity"].append(curve)
            document["sensitivity_note"] += _tolerated(curve) if curve["joined"] else ""
        budgets = np.arange(1, int(there.sum()) + 1)
        best = expected_best(medians[there], budgets)
        document["budget"].append(
            {"label": label, "trials": budgets.tolist(), "best": [_number(b) if np.isfinite(b) else None for b in best]}
        )
    return document


def _heatmap(
    label: str,
    places: Mapping[str, Sequence[float]],
    medians: Float[np.ndarray, " trials"],
    there: Bool[np.ndarray, " trials"],
    failed: Int[np.ndarray, " trials"],
) -> Document:
    """Of trials at one place the best; a matrix if they fill a grid, and points otherwise."""
    (x_name, x), (y_name, y) = places.items()
    best: dict[tuple[float, float], int] = {}
    for i in np.argsort(medians, kind="stable").tolist():
        if there[i]:
            best.setdefault((x[i], y[i]), i)
    xs, ys = sorted(set(x)), sorted(set(y))
    first = next(iter(best))
    heatmap: Document = {
        "label": label,
        "x": {"name": x_name, "values": xs, "log": _is_log(x_name, xs)},
        "y": {"name": y_name, "values": ys, "log": _is_log(y_name, ys)},
        "effective": (x_name, y_name) == _AXES,
        "best": list(first),
    }
    if 2 * len(set(zip(x, y, strict=True))) <= len(xs) * len(ys):
        chosen = best.values()
        return heatmap | {
            "points": {
                "x": [x[i] for i in chosen],
                "y": [y[i] for i in chosen],
                "z": [_number(medians[i]) for i in chosen],
                "failed": [int(failed[i]) for i in chosen],
            }
        }
    grid = [[best.get((column, row)) for column in xs] for row in ys]
    return heatmap | {
        "z": [[None if i is None else _number(medians[i]) for i in row] for row in grid],
        "failed": [[0 if i is None else int(failed[i]) for i in row] for row in grid],
    }


def _sensitivity(
    label: str,
    rates: Sequence[float],
    losses: Float[np.ndarray, "trials seeds"],
    medians: Float[np.ndarray, " trials"],
    there: Bool[np.ndarray, " trials"],
    others: int,
) -> Document:
    """By learning rate, the best of the trials that have it, with the range of its seeds."""
    best: dict[float, int] = {}
    for i in np.flatnonzero(there).tolist():
        rate = float(rates[i])
        if rate not in best or medians[i] < medians[best[rate]]:
            best[rate] = i
    chosen = [best[rate] for rate in sorted(best)]
    return {
        "label": label,
        "rates": sorted(best),
        "losses": [_number(medians[i]) for i in chosen],
        # Trials that share no rate differ in more than the rate, and a line through them would be no curve.
        "joined": others == 0 or len(best) < int(there.sum()),
        "low": [_number(np.nanmin(losses[i])) if np.isfinite(medians[i]) else None for i in chosen],
        "high": [_number(np.nanmax(losses[i])) if np.isfinite(medians[i]) else None for i in chosen],
    }


def _tolerated(curve: Document) -> str:
    """How far the learning rate can be from its best, in a sentence."""
    losses = np.asarray([math.inf if loss == "inf" else loss for loss in curve["losses"]])
    if min(curve["rates"]) <= 0 or min(losses) < 0:
        # A share of what is negative, and decades from 0, say nothing.
        return ""
    low, high = tolerated_range(np.asarray(curve["rates"]), losses, TOLERATED)
    if math.isnan(low):
        return ""
    return (
        f"{curve['label']}: within {100 * (TOLERATED - 1):.0f} % of its best from {text_of(low)} to {text_of(high)}, "
        f"{math.log10(high / low):.1f} decades. "
    )


def _is_log(name: str, values: Sequence[float]) -> bool:
    return name != "momentum" and min(values) > 0 and max(values) / min(values) > 10


def _table(results: Mapping[str, Result]) -> Document:
    """The runs, as many as there is room for."""
    tables = {stage: result.table() for stage, result in results.items()}
    names = list(dict.fromkeys(itertools.chain.from_iterable(table.column_names for table in tables.values())))
    rows: dict[str, list[Any]] = {"stage": [], **{name: [] for name in names}}
    for stage, table in tables.items():
        rows["stage"] += [stage] * len(table)
        for name in names:
            own = table.column(name).to_pylist() if name in table.column_names else [None] * len(table)
            rows[name] += [_number(entry) if isinstance(entry, float) else entry for entry in own]
    columns = [{"name": name, "title": name.replace("_", " "), "kind": _kind(rows[name])} for name in rows]
    total = len(rows["stage"])
    return {
        "columns": columns,
        "rows": {name: values[:_ROWS] for name, values in rows.items()},
        "left_out": max(0, total - _ROWS),
    }


def _kind(values: Sequence[Any]) -> str:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return "bool"
    # Infinities are words.
    return "number" if all(isinstance(v, int | float) or v in (None, "inf", "-inf") for v in values) else "text"


def _number(value: float | np.floating[Any]) -> float | str | None:
    value = float(value)
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value
