"""The figure of the losses, and saving."""

import io
import pathlib
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from momentum_jax._base.errors import InputError
from momentum_jax._base.files import remove_left_behind, write_atomically
from momentum_jax._base.reading import reason
from momentum_jax.analysis import smooth_curve
from momentum_jax.config import task_title
from momentum_jax.report.drawing import (
    PLAIN_TEXT,
    STYLES,
    add_legend,
    clip_middle,
    listed,
    make_logarithmic,
    mark_end,
    say,
    styles_of,
)
from momentum_jax.results.result import Result
from momentum_jax.results.summary import loss_unit

BAND = (10, 90)
# Where the start of the curves is shown: left, bottom, width and height in the axes, and the longest labels beside it.
_INSET = (0.36, 0.55, 0.3, 0.4)
_BESIDE_INSET = 16


def losses_figure(result: Result, labels: Sequence[str] | None = None, *, log: bool = False) -> Figure:
    """Draws the tutorial's figure: the smoothed loss on the batch just used, against iterations; see `draw_losses`."""
    with mpl.rc_context(PLAIN_TEXT):
        figure = Figure(figsize=(7, 4.4), layout="constrained")
        draw_losses(figure.add_subplot(), result, labels, log=log)
    return figure


@mpl.rc_context(PLAIN_TEXT)
def draw_losses(axes: Axes, result: Result, labels: Sequence[str] | None = None, *, log: bool = False) -> None:
    """Draws the smoothed loss on the batch just used, against iterations.

    With several seeds, the line is the median of the smoothed curves and the band their 10th to 90th percentile. There
    is a marker every 100 iterations, shifted from one optimizer to the next so that equal curves both show. The range
    is the tutorial's, 0 to 1. What lies above it is shown in an inset where no curve is in its way, and told
    otherwise. The legend says how many runs of an optimizer failed.

    Args:
      axes: to draw into.
      result: of a training.
      labels: the optimizers to draw, by default all.
      log: draws the whole range on a logarithmic axis.

    Raises:
      InputError: there are no losses.
    """
    seeds = len(result.config.seed_tuple)
    shown, when = result.batch_losses
    labels = list(shown) if labels is None else labels
    if not (labels and len(result.iterations)):
        raise InputError("there are no losses to draw: nothing was recorded of this result")
    # The curve of a diverged run ends at the top of the figure, where it stops being finite.
    curves = {label: smooth_curve(shown[label]) for label in labels}
    curves = {label: np.where(np.isfinite(of_label), of_label, np.inf) for label, of_label in curves.items()}
    _draw_curves(axes, result, curves)
    over_seeds = f" (median of {seeds} seeds, band {BAND[0]}–{BAND[1]} %)" if seeds > 1 else ""
    axes.set_xlabel("Iterations (parameter updates)", parse_math=False)
    before, unit = "" if when == "after" else ", before the update", loss_unit(result)
    axes.set_ylabel(f"Loss on the batch just used{before} ({f'{unit}, ' if unit else ''}smoothed)")
    axes.set_title(f"{listed(labels)} on {clip_middle(task_title(result.config))}{over_seeds}", parse_math=False)
    axes.set_xlim(0, max(int(result.iterations[-1]), 1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    lines = axes.lines[-len(labels) :]
    add_legend(axes, lines, [label + _failures(result.failed[label]) for label in labels])
    medians = {label: np.asarray(line.get_ydata()) for label, line in zip(labels, lines, strict=True)}
    for label, line in zip(labels, lines, strict=True):
        mark_end(axes, result.iterations, medians[label], str(line.get_color()))
    if not any(np.isfinite(median).any() for median in medians.values()):
        say(axes, "No loss is finite: the runs failed at once")
    elif log:
        make_logarithmic(axes)
    else:
        _limit_losses(axes, lines, result, curves)


def _draw_curves(axes: Axes, result: Result, curves: Mapping[str, Float[np.ndarray, "seeds recorded"]]) -> None:
    thinned = result.config.record_every
    styles = styles_of(list(result.config.optimizers))
    for i, (label, of_label) in enumerate(curves.items()):
        style, shift = styles[label], i * 100 // len(curves)
        axes.plot(
            result.iterations,
            np.median(of_label, axis=0),
            color=style.color,
            linestyle=style.linestyle,
            # Where two curves are equal, a thin dashed line over a broad one leaves both visible.
            linewidth=2.0 if style.linestyle == "-" else 0.9,
            dashes=(None, None) if style.linestyle == "-" else (4, 4),
            marker=style.marker,
            markersize=5,
            markerfacecolor=style.color if style.linestyle == "-" else "white",
            markevery=(min(shift // thinned, len(result.iterations) - 1), max(1, 100 // thinned)),
            label=label,
        )
        if len(of_label) > 1:
            low, high = np.percentile(np.minimum(of_label, 1e6), BAND, axis=0)
            axes.fill_between(result.iterations, low, high, color=style.color, alpha=0.2, linewidth=0)


def _limit_losses(
    axes: Axes, lines: Sequence[Line2D], result: Result, curves: Mapping[str, Float[np.ndarray, "seeds recorded"]]
) -> None:
    """Gives the axis the tutorial's range, which grows if a whole curve would lie above it, and shows what it cuts."""
    medians = [np.asarray(line.get_ydata()) for line in lines]
    top = max([1.0, *(1.1 * y for y in map(np.min, medians) if np.isfinite(y))])
    axes.set_ylim(0, top)
    highest = max(float(y[np.isfinite(y)].max()) for y in medians if np.isfinite(y).any())
    if highest <= top:
        return
    x = result.iterations
    left, bottom, width, _ = _INSET
    inside = (x >= (left - 0.07) * x[-1]) & (x <= (left + width + 0.02) * x[-1])
    free = all((of_label[:, inside] < (bottom - 0.1) * top).all() for of_label in curves.values())
    # The last iteration at which a median is cut, of those before the inset.
    cut = np.max([np.where(np.isfinite(y) & (y > top), x, 0) for y in medians])
    if free and len(medians) <= len(STYLES) and all(len(label) <= _BESIDE_INSET for label in curves):
        inset = axes.inset_axes(_INSET)
        for line in lines:
            inset.plot(*line.get_data(), color=line.get_color(), linestyle=line.get_linestyle(), linewidth=1.2)
        inset.axhline(top, color="0.6", linewidth=0.8)
        inset.set(xlim=(0, 1.25 * max(int(cut), 1)), ylim=(0, 1.05 * highest))
        inset.set_title("the start", fontsize="small")
        inset.tick_params(labelsize="small")
        inset.spines[["top", "right"]].set_visible(False)
    else:
        axes.set_ylabel(f"{axes.get_ylabel()}\ncut off at {top:.3g}; the curves come from {highest:.3g}")


def _failures(failed: np.ndarray) -> str:
    if not failed.any():
        return ""
    return " (failed)" if failed.size == 1 else f" ({int(failed.sum())} of {failed.size} failed)"


def save_figure(figure: Figure, stem: pathlib.Path, *, pdf: bool = False) -> list[pathlib.Path]:
    """Writes STEM.png, STEM.svg and with `pdf` STEM.pdf, and returns their paths.

    Each file is written whole or not at all, and the same figure gives the same bytes.

    Raises:
      InputError: a file cannot be written.
    """
    # Without dates, files depend on the figure alone.
    dates: dict[str, dict[str, None]] = {"png": {}, "svg": {"Date": None}} | (
        {"pdf": {"CreationDate": None}} if pdf else {}
    )
    paths = []
    for kind, metadata in dates.items():
        content = io.BytesIO()
        # Text stays text in SVG and PDF, where it can be searched; 42 embeds TrueType, which journals accept.
        with mpl.rc_context({"svg.hashsalt": stem.name, "svg.fonttype": "none", "pdf.fonttype": 42}):
            figure.savefig(content, format=kind, dpi=150 if figure.get_figwidth() > 5 else 300, metadata=metadata)
        paths.append(stem.with_name(f"{stem.name}.{kind}"))
        write_file(paths[-1], content.getvalue())
    return paths


def write_file(path: pathlib.Path, content: bytes) -> None:
    """Writes a file of a report, whole or not at all, and its folder if that is missing.

    Raises:
      InputError: it cannot be written; what was there before is intact.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_left_behind(path.parent, path.name)
        write_atomically(path, content)
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {reason(error)}") from error
