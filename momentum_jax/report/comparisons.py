"""Figures of comparisons for papers: legible at the width of one column."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from momentum_jax.analysis import expected_best, median_interval, median_of_trials, proportion_interval, smooth_curve
from momentum_jax.comparison.metrics import LOSSES, TIMES, importance, median_of, metric_of
from momentum_jax.comparison.protocols import Protocol
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.tuning import tuning_losses
from momentum_jax.comparison.wording import title_of, title_of_tuning
from momentum_jax.report.drawing import (
    PLAIN_TEXT,
    Style,
    add_edge_row,
    add_legend,
    is_wide,
    limit_values,
    make_logarithmic,
    mark_end,
    plain,
    styles_of,
)
from momentum_jax.report.figures import BAND
from momentum_jax.results.summary import loss_unit
from momentum_jax.results.tables import varying_hyperparameters, with_unit

# Inches, as of one column of a two-column paper.
COLUMN = 3.4
# With more optimizers and protocols than this, the numbers of failed runs would overlap.
_MOST_NUMBERS = 9
_SETTINGS: Any = PLAIN_TEXT | {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
}


@mpl.rc_context(_SETTINGS)
def three_way_figure(compared: Comparison, metrics: Sequence[str]) -> Figure:
    """Draws a panel per metric: every run of each optimizer in each protocol; see `draw_protocols`."""
    figure = Figure(figsize=(COLUMN, 0.5 + 1.8 * len(metrics)), layout="constrained")
    for axes, metric in zip(figure.subplots(len(metrics), 1, squeeze=False)[:, 0], metrics, strict=True):
        draw_protocols(axes, compared, metric)
    _add_legend(figure, compared)
    return figure


def draw_protocols(axes: Axes, compared: Comparison, metric: str) -> None:
    """Draws a metric of every run of each optimizer in each protocol, with the median and its 95 % interval.

    A run that failed stands in a row of its own beyond the range, named "failed", and one that missed the target in one
    named "never". Numbers in the row say how many of how many runs.
    """
    protocols = _with_runs(compared)
    styles = styles_of(list(compared.config.optimizers))
    values = [
        (column, label, arm.values[metric])
        for column, protocol in enumerate(protocols)
        for label, arm in protocol.arms.items()
        if metric in arm.values
    ]
    axes.set_ylabel(_wrapped(_with_unit(compared, metric)), parse_math=False)
    if metric_of(metric).unit == "proportion":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    every = np.concatenate([own for *_, own in values])
    limit_values(axes, every, logarithmic=is_wide(every))
    row = None
    if np.isinf(every).any():
        word = "never" if metric in TIMES else "failed"
        row = add_edge_row(axes, word, top=metric_of(metric).less_is_better)
    counted = row is not None and len(styles) * len(protocols) <= _MOST_NUMBERS
    for column, label, own in values:
        x, width = column + 0.8 * ((list(styles).index(label) + 0.5) / len(styles) - 0.5), 0.5 / len(styles)
        placed = own if row is None else np.where(np.isinf(own), row.marks, own)
        _draw_runs(axes, x, width, metric, own, placed, styles[label])
        lost = int(np.isinf(own).sum())
        if row is not None and counted and lost:
            axes.annotate(
                f"{lost}/{len(own)}", (x, row.number), ha="center", va="center", fontsize="small", annotation_clip=False
            )
    axes.set_xlim(-0.5, len(protocols) - 0.5)
    axes.set_xticks(
        range(len(protocols)), [_wrapped(s.title, 54 // len(protocols)) for s in protocols], parse_math=False
    )
    axes.grid(axis="y", alpha=0.25)


@mpl.rc_context(_SETTINGS)
def curves_figure(compared: Comparison) -> Figure:
    """Draws the smoothed loss before the update in each protocol: the median over runs, and a 10–90 % band.

    A cross and a word mark where a median stops being finite.
    """
    protocols = _with_runs(compared)
    styles = styles_of(list(compared.config.optimizers))
    figure = Figure(figsize=(COLUMN, 0.5 + 1.6 * len(protocols)), layout="constrained")
    panels = figure.subplots(len(protocols), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    every = max(1, len(compared.iterations) // 10)
    for axes, protocol in zip(panels, protocols, strict=True):
        for label, arm in protocol.arms.items():
            if not len(arm.seeds):
                continue
            curves = smooth_curve(arm.losses_before)
            curves = np.where(np.isfinite(curves), curves, np.inf)
            style = styles[label]
            axes.plot(
                compared.iterations,
                np.median(curves, axis=0),
                color=style.color,
                linestyle=style.linestyle,
                marker=style.marker,
                markersize=3,
                markevery=(min(list(styles).index(label) * 5, len(compared.iterations) - 1), every),
            )
            mark_end(axes, compared.iterations, np.median(curves, axis=0), style.color)
            low, high = np.percentile(np.minimum(curves, 1e6), BAND, axis=0)
            axes.fill_between(compared.iterations, low, high, color=style.color, alpha=0.2, linewidth=0)
        axes.set(title=protocol.title)
        make_logarithmic(axes)
        axes.grid(alpha=0.25)
    panels[-1].set_xlabel("Iterations (parameter updates)")
    unit = loss_unit(compared.judged[0])
    figure.supylabel(f"Loss before the update ({f'{unit}, ' if unit else ''}smoothed)", fontsize=7)
    _add_legend(figure, compared)
    return figure


@mpl.rc_context(_SETTINGS)
def tuning_figure(compared: Comparison) -> Figure:
    """Draws the loss that the tuning minimises against the learning rate, and against the number of trials.

    The upper panel has each trial's median over seeds; trials of which most runs failed stand in a row of their own.
    The lower panel has the expected best of n trials. It begins at the n for which every choice has a trial that did
    not fail.
    """
    assert compared.tuning is not None
    styles = styles_of(list(compared.config.optimizers))
    tuning = compared.tuning
    assert tuning.trials is not None
    losses = tuning_losses(tuning, compared.plan["tune_by"])
    medians = {
        label: median_of_trials(own, tuning.failed[label], tuning.missing[label]) for label, own in losses.items()
    }
    figure = Figure(figsize=(COLUMN, 4.2), layout="constrained")
    above, below = figure.subplots(2, 1)
    finite = np.concatenate([own[np.isfinite(own)] for own in medians.values()])
    logarithmic = len(finite) > 0 and bool(finite.min() > 0)
    limit_values(above, finite, logarithmic=logarithmic)
    failing = any(np.isinf(own).any() for own in medians.values())
    row = add_edge_row(above, "failed") if failing else None
    for label, trials in tuning.trials.items():
        style, varying = styles[label], varying_hyperparameters(trials)
        tried = varying.get("learning_rate", [])
        rates = np.asarray(
            [rate if isinstance(rate, int | float) else np.nan for rate in tried] or [np.nan] * len(trials)
        )
        points = medians[label] if row is None else np.where(np.isinf(medians[label]), row.marks, medians[label])
        above.plot(rates, points, style.marker, color=style.color, markersize=4, alpha=0.8, clip_on=False)
        budgets = np.arange(1, len(trials) + 1)
        below.plot(budgets, expected_best(medians[label], budgets), color=style.color, linestyle=style.linestyle)
    what = title_of_tuning(compared.plan, loss_unit(tuning))
    above.set(xscale="log", xlabel="Learning rate", ylabel=_wrapped(what))
    above.xaxis.set_major_formatter(plain)
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.set(xlabel="Trials", ylabel=_wrapped(f"expected best {what}"))
    if logarithmic:
        make_logarithmic(below)
    for axes in (above, below):
        axes.grid(alpha=0.25)
    _add_legend(figure, compared)
    return figure


def metrics_of(compared: Comparison) -> list[str]:
    """The metrics to draw, the one that decides first."""
    judged = [verdict.metric for verdict in compared.verdicts]
    values = [name for protocol in _with_runs(compared) for arm in protocol.arms.values() for name in arm.values]
    names = dict.fromkeys(judged or values)
    return sorted(names, key=importance)


def _with_runs(compared: Comparison) -> list[Protocol]:
    return [protocol for protocol in compared.protocols.values() if protocol.arms]


def add_optimizers_legend(parent: Axes | Figure, compared: Comparison, **options: Any) -> None:
    """Adds the legend of the optimizers of a comparison."""
    styles = styles_of(list(compared.config.optimizers))
    handles = [
        Line2D([], [], color=style.color, linestyle=style.linestyle, marker=style.marker, markersize=4)
        for style in styles.values()
    ]
    add_legend(parent, handles, list(styles), **options)


def _add_legend(figure: Figure, compared: Comparison) -> None:
    longest = max(map(len, compared.config.optimizers))
    add_optimizers_legend(figure, compared, loc="outside upper center", ncols=4 if longest <= 10 else 2)


def _draw_runs(
    axes: Axes,
    x: float,
    width: float,
    metric: str,
    values: Float[np.ndarray, " runs"],
    placed: Float[np.ndarray, " runs"],
    style: Style,
) -> None:
    """Draws the runs of an optimizer around x, with their median and its interval.

    Args:
      axes: to draw into.
      x: the middle.
      width: of the range over which the runs are spread.
      metric: the name of what the values are.
      values: of the runs, infinite where they failed.
      placed: where they stand on the y axis.
      style: of the optimizer.
    """
    spread = np.linspace(-width / 2, width / 2, len(values)) if len(values) > 1 else np.zeros(len(values))
    axes.plot(x + spread, placed, ".", color=style.color, markersize=2, alpha=0.4, clip_on=False)
    interval = proportion_interval(int(values.sum()), len(values)) if metric == "failed" else median_interval(values)
    beyond = placed[np.isinf(values)]

    def place(value: float) -> float:
        return float(beyond[0]) if np.isinf(value) and len(beyond) else value

    median = place(median_of(metric, values))
    if not np.isnan(interval.low):
        ends = np.array([[place(interval.low)], [place(interval.high)]])
        axes.errorbar(x, median, np.abs(ends - median), color=style.color, linewidth=1.2, capsize=3)
    axes.plot(x, median, style.marker, color=style.color, markersize=4, clip_on=False)


def _with_unit(compared: Comparison, metric: str) -> str:
    unit = loss_unit(compared.judged[0]) if metric in LOSSES else ""
    return with_unit(title_of(metric, compared.target), unit)


def _wrapped(text: str, width: int = 30) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
