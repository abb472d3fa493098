"""The heatmap of a sweep: the final loss against two hyperparameters."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullFormatter

from momentum_jax.analysis import median_of_trials
from momentum_jax.report.drawing import PLAIN_TEXT, clip_middle, is_log, say
from momentum_jax.results.result import Result
from momentum_jax.results.summary import loss_unit
from momentum_jax.results.tables import LEADING, in_words, numeric_of, text_of, varying_hyperparameters, with_unit

_HATCH = "////"
_BEST = "#D55E00"
# Panels in a row, and in a figure.
_COLUMNS, _MOST_PANELS = 4, 12
# Points of a line of equal effective learning rates.
_STEPS = 200
_ROUNDING = 1e-9
# The range of the colours of one loss alone.
_ONE_COLOUR = 1e-9

ByLabel = Mapping[str, Float[np.ndarray, "trials seeds"]]


class Shown(NamedTuple):
    """What a figure of a sweep shows.

    Attributes:
      medians: by label, the loss of each trial.
      losses: by label, the loss of each run.
      title: of that loss, with its unit and the number of seeds.
    """

    medians: dict[str, Float[np.ndarray, " trials"]]
    losses: dict[str, Float[np.ndarray, "trials seeds"]]
    title: str


def shown_of(result: Result, labels: Sequence[str], losses: ByLabel | None, what: str | None) -> Shown:
    """The losses of a sweep's trials, by default the final training loss."""
    if what is None:
        title = "final training loss" if result.train_loss else "loss before the last update"
        what = with_unit(title, loss_unit(result))
    own = {label: result.final_losses(label) if losses is None else losses[label] for label in labels}
    medians = {
        label: median_of_trials(of_label, result.failed[label], result.missing[label])
        for label, of_label in own.items()
    }
    seeds = len(result.config.seed_tuple)
    over = f", median of {seeds} seeds" if seeds > 1 else ""
    # If there is a unit in brackets, the number of seeds goes into the brackets too.
    titled = f"{what.removesuffix(')')}{over}{')' if what.endswith(')') else ''}"
    return Shown(medians, own, titled[0].upper() + titled[1:])


@mpl.rc_context(PLAIN_TEXT)
def heatmap_figure(
    result: Result,
    losses: ByLabel | None = None,
    what: str | None = None,
    labels: Sequence[str] | None = None,
) -> Figure:
    """Draws the median final loss over seeds against two hyperparameters, a panel per optimizer.

    A trial with a failed run is hatched, and grey if its median run failed. The best trial is framed. If more than two
    hyperparameters vary, the best trial of each point is shown. A grid is a matrix; trials of a search are points. If
    the axes are learning rate and momentum, lines join equal effective learning rates, lr/(1 − momentum).

    Args:
      result: of a sweep.
      losses: by label, what is drawn, of which less is better; by default the final training loss.
      what: the name of that loss, with its unit.
      labels: the optimizers to draw, by default those of which a hyperparameter that is a number varies.
    """
    assert result.trials is not None
    if labels is None:
        numeric = [label for label, own in result.trials.items() if numeric_of(varying_hyperparameters(own))]
        labels = numeric or list(result.trials)
    drawn = labels[:_MOST_PANELS]
    shown = shown_of(result, drawn, losses, what)
    norm = _norm(shown)
    columns = min(_COLUMNS, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = Figure(figsize=(5.6 if columns == 1 else 4.4 * columns, 4.6 * rows), layout="constrained")
    lines = False
    for position, label in enumerate(drawn, 1):
        axes = figure.add_subplot(rows, columns, position)
        lines |= _panel(axes, result, label, shown.medians[label], norm)
    _add_bar(figure, figure.axes, shown, norm)
    failed = any(result.failed[label].any() for label in drawn)
    marks = _key(shown, failed=failed, lines=lines)
    figure.legend(list(marks.values()), list(marks), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    if len(drawn) < len(labels):
        figure.suptitle(f"The first {len(drawn)} of {len(labels)} optimizers")
    return figure


@mpl.rc_context(PLAIN_TEXT)
def draw_heatmap(axes: Axes, result: Result, label: str) -> None:
    """Draws the panel of one optimizer of `heatmap_figure`, with its colour bar and its legend."""
    shown = shown_of(result, [label], None, None)
    norm = _norm(shown)
    lines = _panel(axes, result, label, shown.medians[label], norm)
    figure = axes.get_figure(root=True)
    assert figure is not None
    _add_bar(figure, [axes], shown, norm)
    marks = _key(shown, failed=bool(result.failed[label].any()), lines=lines)
    above: Any = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "borderaxespad": 0.2}
    axes.legend(list(marks.values()), list(marks), ncols=3, frameon=False, fontsize="x-small", **above)
    axes.set_title(axes.get_title(), pad=22, parse_math=False)


def _add_bar(figure: Figure, panels: Sequence[Axes], shown: Shown, norm: Normalize) -> None:
    if not _any_finite(shown):
        return
    bar = figure.colorbar(ScalarMappable(norm, "viridis"), ax=panels, pad=0.02)
    if isinstance(norm, LogNorm):
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    elif norm.vmin is not None and norm.vmax is not None and norm.vmax - norm.vmin < 2 * _ONE_COLOUR:
        bar.set_ticks([norm.vmin], labels=[text_of(float(norm.vmin))])
    bar.set_label(shown.title, parse_math=False)


def _key(shown: Shown, *, failed: bool, lines: bool) -> dict[str, Any]:
    """The marks of the legend that are drawn, by what they mean."""
    marks: dict[str, Any] = {}
    if _any_finite(shown):
        marks["best"] = Line2D([], [], marker="s", markersize=9, linestyle="", color=_BEST, markerfacecolor="none")
        marks["best"].set_markeredgewidth(2)
    if failed:
        marks["runs failed (grey: most)"] = Patch(facecolor="#dddddd", edgecolor="black", hatch=_HATCH)
    if lines:
        marks["same lr/(1 − momentum)"] = tuple(Line2D([], [], **style) for style in _TRACK)
    return marks


def _any_finite(shown: Shown) -> bool:
    return any(np.isfinite(own).any() for own in shown.medians.values())


# A white dashed line on a black one, which stands out from every colour.
_TRACK: Any = ({"color": "black", "linewidth": 2.6}, {"color": "white", "linewidth": 1.3, "dashes": (4, 3)})


def _norm(shown: Shown) -> Normalize:
    finite = np.concatenate([own[np.isfinite(own)] for own in shown.medians.values()])
    if not len(finite):
        return Normalize(0, 1)
    low, high = float(finite.min()), float(finite.max())
    if low > 0 and high / low > 5:
        return LogNorm(low, high)
    return Normalize(low, high if high > low else low + _ONE_COLOUR)


def _panel(axes: Axes, result: Result, label: str, medians: Float[np.ndarray, " trials"], norm: Normalize) -> bool:
    """Draws the finished trials of an optimizer; returns whether it drew lines of equal effective learning rate."""
    assert result.trials is not None
    trials = result.trials[label]
    names = list(numeric := numeric_of(varying_hyperparameters(trials)))[:2]
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
    axes.set_xlabel(clip_middle(in_words(x_name)) or "the only trial", parse_math=False)
    axes.set_ylabel(clip_middle(in_words(y_name)), parse_math=False)
    axes.set_title(clip_middle(label), parse_math=False)
    if not points:
        say(axes, "no run is finished")
        return False
    if on_grid:
        _grid(axes, points, xs, ys, norm)
    else:
        _points(axes, points, norm)
        for name, values, set_scale in ((x_name, xs, axes.set_xscale), (y_name, ys, axes.set_yscale)):
            if is_log(name, values):
                set_scale("log")
    if not y_name:
        axes.set_yticks([])
    if (x_name, y_name) != LEADING:
        return False
    return _effective(axes, xs, ys, on_grid=on_grid)


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
    axes.set_xticks(range(len(xs)), _texts(xs), rotation=60 if len(xs) > 6 else 0)
    axes.set_yticks(range(len(ys)), _texts(ys))


def _texts(values: Float[np.ndarray, " values"]) -> list[str]:
    """The values with three digits, or with more where three do not tell them apart."""
    short = [f"{value:.3g}" for value in values]
    return short if len(set(short)) == len(short) else [text_of(float(value)) for value in values]


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


def _effective(axes: Axes, rates: Float[np.ndarray, " x"], momenta: Float[np.ndarray, " y"], *, on_grid: bool) -> bool:
    """Draws lines of equal lr/(1 − momentum), a decade apart; returns whether there are any."""
    x, y = np.flatnonzero(rates > 0), np.flatnonzero(momenta < 1)
    if len(x) < 2 or len(y) < 2:
        return False
    # On these scales the lines are straight, of slope −1.
    u, v = np.log(rates[x]), -np.log(1 - momenta[y])
    along = np.linspace(v[0], v[-1], _STEPS)
    drawn = False
    lowest, highest = (u[0] + v[0]) / np.log(10) - _ROUNDING, (u[-1] + v[-1]) / np.log(10) + _ROUNDING
    for exponent in np.arange(np.ceil(lowest), np.floor(highest) + 1):
        across = exponent * np.log(10) - along
        inside = (across >= u[0] - _ROUNDING) & (across <= u[-1] + _ROUNDING)
        if inside.sum() < 2:
            continue
        if on_grid:
            line = _positions(across[inside], u, x), _positions(along[inside], v, y)
        else:
            line = np.exp(across[inside]), 1 - np.exp(-along[inside])
        for style in _TRACK:
            axes.plot(*line, zorder=3, **style)
        middle = inside.sum() // 2
        text = axes.annotate(
            f"{10**exponent:g}", (line[0][middle], line[1][middle]), color="white", fontsize=8, ha="center", va="center"
        )
        text.set_path_effects([withStroke(linewidth=2.6, foreground="black")])
        text.set_zorder(6)
        drawn = True
    return drawn


def _positions(
    between: Float[np.ndarray, " steps"], values: Float[np.ndarray, " values"], positions: Int[np.ndarray, " values"]
) -> Float[np.ndarray, " steps"]:
    """Where values between those of a grid lie on its axis, on which neighbours are 1 apart.

    The curve through the values of the grid is smooth and rises everywhere, as the lines must.
    """
    from scipy.interpolate import PchipInterpolator

    at: Float[np.ndarray, " steps"] = PchipInterpolator(values, positions)(np.clip(between, values[0], values[-1]))
    return at
