"""Figures of comparisons for papers: legible at the width of one column."""

import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, PercentFormatter

from momentum_jax.analysis import expected_best, median_interval, median_of_trials, proportion_interval, smooth_curve
from momentum_jax.comparison.metrics import median_of, metric_of
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.tuning import tuning_losses
from momentum_jax.comparison.wording import title_of, title_of_tuning
from momentum_jax.report.figures import BAND, STYLES, Style
from momentum_jax.results.tables import varying_hyperparameters

# Inches, as of one column of a two-column paper.
COLUMN = 3.4
# `text.parse_math` is off, since a dollar sign in a label must not start a formula.
_SETTINGS: Any = {
    "text.parse_math": False,
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
}


@mpl.rc_context(_SETTINGS)
def three_way_figure(compared: Comparison, metrics: Sequence[str]) -> Figure:
    """Draws a panel per metric: every run of each optimizer in each protocol, with the median and its 95 % interval.

    A run that failed or missed the target is drawn at the upper edge, or at the lower edge for an accuracy.
    """
    protocols = [s for s in compared.protocols.values() if s.arms]
    styles = _styles(compared)
    figure = Figure(figsize=(COLUMN, 0.5 + 1.8 * len(metrics)), layout="constrained")
    panels = figure.subplots(len(metrics), 1, squeeze=False)[:, 0]
    for axes, metric in zip(panels, metrics, strict=True):
        values = [
            (column, label, arm.values[metric])
            for column, protocol in enumerate(protocols)
            for label, arm in protocol.arms.items()
        ]
        _limit(axes, np.concatenate([own for *_, own in values]), logarithmic=_is_wide(values))
        for column, label, own in values:
            _draw_runs(axes, column, list(styles).index(label), len(styles), metric, own, styles[label])
        axes.set(xlim=(-0.5, len(protocols) - 0.5), ylabel=_wrapped(_with_unit(compared, metric)))
        axes.set_xticks(range(len(protocols)), [_wrapped(s.title, 18) for s in protocols])
        if metric_of(metric).unit == "proportion":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(axis="y", alpha=0.25)
    _legend(figure, styles)
    return figure


@mpl.rc_context(_SETTINGS)
def curves_figure(compared: Comparison) -> Figure:
    """Draws the smoothed loss before the update in each protocol: the median over runs, and a 10–90 % band."""
    protocols = [s for s in compared.protocols.values() if s.arms]
    styles = _styles(compared)
    figure = Figure(figsize=(COLUMN, 0.5 + 1.6 * len(protocols)), layout="constrained")
    panels = figure.subplots(len(protocols), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
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
                markevery=(list(styles).index(label) * 5, max(1, len(compared.iterations) // 10)),
            )
            low, high = np.percentile(np.minimum(curves, 1e6), BAND, axis=0)
            axes.fill_between(compared.iterations, low, high, color=style.color, alpha=0.2, linewidth=0)
        axes.set(title=protocol.title)
        _make_logarithmic(axes)
        axes.grid(alpha=0.25)
    panels[-1].set_xlabel("Iterations (parameter updates)")
    figure.supylabel("Loss before the update (nats, smoothed)", fontsize=7)
    _legend(figure, styles)
    return figure


@mpl.rc_context(_SETTINGS)
def tuning_figure(compared: Comparison) -> Figure:
    """Draws the loss that the tuning minimises against the learning rate, and against the number of trials.

    The upper panel has each trial's median over seeds, with failed trials at the upper edge. The lower panel has the
    expected best of n trials. It begins at the n for which every choice has a trial that did not fail.
    """
    assert compared.tuning is not None
    styles = _styles(compared)
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
    _limit(above, finite, logarithmic=logarithmic)
    for label, trials in tuning.trials.items():
        style, varying = styles[label], varying_hyperparameters(trials)
        tried = varying.get("learning_rate", [])
        rates = np.asarray(
            [rate if isinstance(rate, int | float) else np.nan for rate in tried] or [np.nan] * len(trials)
        )
        points = np.minimum(medians[label], above.get_ylim()[1])
        above.plot(rates, points, style.marker, color=style.color, markersize=4, alpha=0.8, clip_on=False)
        budgets = np.arange(1, len(trials) + 1)
        below.plot(budgets, expected_best(medians[label], budgets), color=style.color, linestyle=style.linestyle)
    what = title_of_tuning(compared.plan)
    above.set(xscale="log", xlabel="Learning rate", ylabel=_wrapped(what))
    above.xaxis.set_major_formatter(_plain)
    below.set(xlabel="Trials", ylabel=_wrapped(f"expected best {what}"))
    if logarithmic:
        _make_logarithmic(below)
    for axes in (above, below):
        axes.grid(alpha=0.25)
    _legend(figure, styles)
    return figure


def _styles(compared: Comparison) -> dict[str, Style]:
    return dict(zip(compared.config.optimizers, itertools.cycle(STYLES), strict=False))


def _legend(figure: Figure, styles: dict[str, Style]) -> None:
    handles = [
        Line2D([], [], color=style.color, linestyle=style.linestyle, marker=style.marker, markersize=4)
        for style in styles.values()
    ]
    legend = figure.legend(handles, [" "] * len(handles), loc="outside upper center", ncols=4, frameon=False)
    # Set afterwards, since Matplotlib leaves out a label that begins with an underscore.
    for text, label in zip(legend.get_texts(), styles, strict=True):
        text.set_text(label)


def _draw_runs(
    axes: Axes, column: int, index: int, count: int, metric: str, values: Float[np.ndarray, " runs"], style: Style
) -> None:
    x = column + 0.8 * ((index + 0.5) / count - 0.5)
    low, high = axes.get_ylim()
    spread = np.linspace(-0.25, 0.25, len(values)) / count if len(values) > 1 else np.zeros(len(values))
    shown = np.clip(values, low, high)
    axes.plot(x + spread, shown, ".", color=style.color, markersize=2, alpha=0.4, clip_on=False)
    interval = proportion_interval(int(values.sum()), len(values)) if metric == "failed" else median_interval(values)
    median = float(np.clip(median_of(metric, values), low, high))
    if not np.isnan(interval.low):
        ends = np.clip([[interval.low], [interval.high]], low, high)
        axes.errorbar(x, median, np.abs(ends - median), color=style.color, linewidth=1.2, capsize=3)
    axes.plot(x, median, style.marker, color=style.color, markersize=4, clip_on=False)


def _limit(axes: Axes, values: Float[np.ndarray, " runs"], *, logarithmic: bool) -> None:
    """Sets the range of the finite values, with a margin above for those that are not."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if logarithmic and low > 0:
        axes.set_ylim(low / 1.15, high * 1.3)
        _make_logarithmic(axes)
        return
    margin = 0.08 * (high - low) or 0.1
    axes.set_ylim(low - margin if low - margin > 0 or low < 0 else min(0.0, low), high + margin)
    axes.yaxis.set_minor_locator(NullLocator())


def _make_logarithmic(axes: Axes) -> None:
    """Makes the y axis logarithmic, with ticks such as 0.2 and not 2·10⁻¹."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(_plain)
    axes.yaxis.set_minor_formatter(NullFormatter())


def _plain(value: float, _: object) -> str:
    return f"{value:g}"


def _is_wide(values: Sequence[tuple[int, str, Float[np.ndarray, " runs"]]]) -> bool:
    finite = np.concatenate([own[np.isfinite(own)] for *_, own in values])
    return len(finite) > 0 and bool(finite.min() > 0) and bool(finite.max() > 5 * finite.min())


def _with_unit(compared: Comparison, metric: str) -> str:
    unit = metric_of(metric).unit
    title = title_of(metric, compared.target)
    return f"{title} ({unit})" if unit == "nats" else title


def _wrapped(text: str, width: int = 30) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
