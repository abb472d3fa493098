"""The heatmap of a sweep: the final loss against two hyperparameters."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from momentum_jax.analysis import median_of_trials
from momentum_jax.results.result import Result
from momentum_jax.results.tables import text_of, varying_hyperparameters

# A heatmap has these axes if they vary.
_FIRST = ("learning_rate", "momentum")
_HATCH = "////"
_BEST = "#D55E00"


# A dollar sign in a label must not start a formula.
@mpl.rc_context({"text.parse_math": False})
def heatmap_figure(
    result: Result,
    losses: Mapping[str, Float[np.ndarray, "trials seeds"]] | None = None,
    what: str = "final training loss (nats)",
) -> Figure:
    """Draws the median final loss over seeds against two hyperparameters, a panel per optimizer.

    A trial with a failed run is hatched, and grey if its median run failed. The best trial is framed. If more than two
    hyperparameters vary, the best trial of each point is shown. A grid is a matrix; trials of a search are points. If
    the axes are learning rate and momentum, lines join equal effective learning rates, lr/(1 − momentum).

    Args:
      result: of a sweep.
      losses: by label, what is drawn, of which less is better; by default the final training loss.
      what: the name of that loss, with its unit.
    """
    assert result.trials is not None
    panels = [label for label, own in result.trials.items() if _numeric(varying_hyperparameters(own))]
    panels = panels or list(result.trials)
    medians = {
        label: median_of_trials(
            result.final_losses(label) if losses is None else losses[label], result.failed[label], result.missing[label]
        )
        for label in panels
    }
    finite = np.concatenate([m[np.isfinite(m)] for m in medians.values()])
    norm = _norm(finite)
    width = 5.6 if len(panels) == 1 else 4.4 * len(panels)
    figure = Figure(figsize=(width, 4.6), layout="constrained")
    lines = False
    for column, label in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), column + 1)
        lines |= _panel(axes, result, label, medians[label], norm)
        axes.set_title(label)
    seeds = len(result.config.seed_tuple)
    over = f", median of {seeds} seeds" if seeds > 1 else ""
    # If there is a unit in brackets, the number of seeds goes into the brackets too.
    titled = f"{what.removesuffix(')')}{over}{')' if what.endswith(')') else ''}"
    bar = figure.colorbar(ScalarMappable(norm, "viridis"), ax=figure.axes, pad=0.02)
    for axis_formatter in (bar.ax.yaxis.set_major_formatter, bar.ax.yaxis.set_minor_formatter):
        axis_formatter(lambda value, _: f"{value:g}")
    bar.set_label(titled[0].upper() + titled[1:])
    best = Line2D([], [], marker="s", markersize=9, linestyle="", color=_BEST, markerfacecolor="none", label="best")
    best.set_markeredgewidth(2)
    failures = Patch(facecolor="#dddddd", edgecolor="black", hatch=_HATCH, label="runs failed (grey: most)")
    same = Line2D([], [], color="white", linestyle="--", label="same lr/(1 − momentum)")
    same.set_path_effects([withStroke(linewidth=2.5, foreground="black")])
    handles = [best, failures, *([same] if lines else [])]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _norm(finite: Float[np.ndarray, " trials"]) -> Normalize:
    if not len(finite):
        return Normalize(0, 1)
    low, high = float(finite.min()), float(finite.max())
    if low > 0 and high / low > 5:
        return LogNorm(low, high)
    return Normalize(low, high if high > low else low + 1e-9)


def _numeric(varying: Mapping[str, Sequence[Any]]) -> dict[str, list[float]]:
    """The hyperparameters that are numbers, learning rate and momentum first."""
    numbers = {
        name: list(map(float, values))
        for name, values in varying.items()
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    }
    return {name: numbers[name] for name in sorted(numbers, key=lambda n: (n not in _FIRST, list(numbers).index(n)))}


def _panel(axes: Axes, result: Result, label: str, medians: Float[np.ndarray, " trials"], norm: Normalize) -> bool:
    """Draws the finished trials of an optimizer; returns whether it drew lines of equal effective learning rate."""
    assert result.trials is not None
    trials = result.trials[label]
    names = list(numeric := _numeric(varying_hyperparameters(trials)))[:2]
    x_name, y_name = [*names, "", ""][:2]
    x = np.asarray(numeric[x_name]) if x_name else np.zeros(len(trials))
    y = np.asarray(numeric[y_name]) if y_name else np.zeros(len(trials))
    failed = result.failed[label].sum(axis=1)
    # The best trial of each point comes last and overwrites the others.
    finished = (~result.missing[label]).sum(axis=1)
    worst_first = [i for i in np.argsort(-medians, kind="stable").tolist() if finished[i]]
    points = {(float(x[i]), float(y[i])): (float(medians[i]), bool(failed[i])) for i in worst_first}
    xs, ys = np.unique(x), np.unique(y)
    on_grid = len(set(zip(x, y, strict=True))) > len(xs) * len(ys) / 2
    axes.set(xlabel=x_name or "the only trial", ylabel=y_name)
    if not points:
        axes.set(xticks=[], yticks=[])
        axes.annotate("no run is finished", (0.5, 0.5), xycoords="axes fraction", ha="center")
        return False
    if on_grid:
        _grid(axes, points, xs, ys, norm)
    else:
        _points(axes, points, norm)
    if not y_name:
        axes.set_yticks([])
    if {x_name, y_name} != set(_FIRST):
        return False
    if not on_grid:
        # 60 steps make the lines smooth. They span the range of the points.
        xs, ys = (
            np.geomspace(v[0], v[-1], 60) if scale == "log" else np.linspace(v[0], v[-1], 60)
            for v, scale in ((xs, axes.get_xscale()), (ys, axes.get_yscale()))
        )
    return _effective(axes, xs, ys, x_name, on_grid=on_grid)


def _grid(
    axes: Axes,
    points: Mapping[tuple[float, float], tuple[float, bool]],
    xs: Float[np.ndarray, " columns"],
    ys: Float[np.ndarray, " rows"],
    norm: Normalize,
) -> None:
    """Draws a matrix of equal squares; the values are the ticks of the axes."""
    values = np.full((len(ys), len(xs)), np.nan)
    for (x, y), (loss, failed) in points.items():
        row, column = int(np.searchsorted(ys, y)), int(np.searchsorted(xs, x))
        values[row, column] = loss
        if failed:
            color = "#dddddd" if not np.isfinite(loss) else "none"
            axes.add_patch(
                Rectangle(
                    (column - 0.5, row - 0.5), 1, 1, facecolor=color, edgecolor="black", hatch=_HATCH, linewidth=0
                )
            )
    shown = np.ma.masked_invalid(values)
    axes.pcolormesh(
        np.arange(len(xs) + 1) - 0.5, np.arange(len(ys) + 1) - 0.5, shown, norm=norm, cmap="viridis", zorder=0
    )
    if np.isfinite(values).any():
        row, column = divmod(int(np.argmin(np.where(np.isfinite(values), values, np.inf))), len(xs))
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=_BEST, linewidth=2.5, zorder=5))
    axes.set_xticks(range(len(xs)), [text_of(float(x)) for x in xs], rotation=60 if len(xs) > 6 else 0)
    axes.set_yticks(range(len(ys)), [text_of(float(y)) for y in ys])


def _points(axes: Axes, points: Mapping[tuple[float, float], tuple[float, bool]], norm: Normalize) -> None:
    positions = np.asarray(list(points))
    losses = np.asarray([loss for loss, _ in points.values()])
    failed = np.asarray([f for _, f in points.values()])
    alive = np.isfinite(losses)
    for chosen, hatch in ((alive & failed, _HATCH), (alive & ~failed, None)):
        x, y = positions[chosen].T
        axes.scatter(x, y, c=losses[chosen], norm=norm, s=70, edgecolor="black", hatch=hatch, zorder=4)
    x, y = positions[~alive].T
    axes.scatter(x, y, s=70, facecolor="#dddddd", edgecolor="black", hatch=_HATCH, zorder=4)
    if alive.any():
        x, y = positions[[np.argmin(np.where(alive, losses, np.inf))]].T
        axes.scatter(x, y, s=190, facecolor="none", edgecolor=_BEST, linewidth=2.5, zorder=5)
    if _wide(positions[:, 0]):
        axes.set_xscale("log")
    if _wide(positions[:, 1]):
        axes.set_yscale("log")


def _wide(values: Float[np.ndarray, " points"]) -> bool:
    """Whether the values span so much that a logarithmic scale shows them better."""
    return bool(values.min() > 0 and values.max() / values.min() > 20)


def _effective(
    axes: Axes, xs: Float[np.ndarray, " columns"], ys: Float[np.ndarray, " rows"], x_name: str, *, on_grid: bool
) -> bool:
    """Draws lines of equal lr/(1 − momentum), a decade apart; returns whether there are any."""
    if len(xs) < 2 or len(ys) < 2:
        return False
    rates, momenta = np.meshgrid(xs, ys)
    if x_name != "learning_rate":
        rates, momenta = momenta, rates
    possible = (rates > 0) & (momenta < 1)
    if not possible.any():
        return False
    logarithms = np.full(rates.shape, np.nan)
    logarithms[possible] = np.log10(rates[possible] / (1 - momenta[possible]))
    levels = np.arange(np.ceil(np.nanmin(logarithms)), np.floor(np.nanmax(logarithms)) + 1)
    if not len(levels):
        return False
    at = (np.arange(len(xs)), np.arange(len(ys))) if on_grid else (xs, ys)
    lines = axes.contour(*at, logarithms, levels=levels, colors="white", linewidths=1.4, linestyles="--", zorder=3)
    lines.set_path_effects([withStroke(linewidth=2.6, foreground="black")])
    texts = axes.clabel(lines, fmt=lambda level: f"{10**level:g}", fontsize=8)
    for text in texts:
        text.set_path_effects([withStroke(linewidth=2.2, foreground="black")])
    return True
