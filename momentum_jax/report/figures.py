"""The figure of the losses, the styles of all figures, and saving."""

import io
import itertools
import pathlib
from typing import Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from momentum_jax._base.errors import InputError
from momentum_jax._base.files import remove_left_behind, write_atomically
from momentum_jax._base.reading import reason
from momentum_jax.analysis import smooth_curve
from momentum_jax.results.result import Result

BAND = (10, 90)


class Style(NamedTuple):
    """How one optimizer is drawn. Styles differ in colour, marker and dashes, so that any one of them is enough."""

    color: str
    marker: str
    linestyle: Literal["-", "--"]


# The palette of Okabe and Ito, which colour-blind readers can tell apart.
STYLES = [
    Style("#D55E00", "v", "-"),
    Style("#0072B2", "o", "-"),
    Style("#000000", "s", "--"),
    Style("#009E73", "^", "-"),
    Style("#CC79A7", "D", "--"),
    Style("#E69F00", "P", "-"),
    Style("#56B4E9", "X", "--"),
]


# A dollar sign in a label must not start a formula.
@mpl.rc_context({"text.parse_math": False})
def losses_figure(result: Result) -> Figure:
    """Draws the tutorial's figure: the smoothed loss on the batch just used, against iterations.

    With several seeds, the line is the median of the smoothed curves and the band their 10th to 90th percentile. There
    is a marker every 100 iterations, shifted from one optimizer to the next so that equal curves both show.
    """
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.add_subplot()
    seeds, thinned = len(result.config.seed_tuple), result.config.record_every
    for i, ((label, losses), style) in enumerate(zip(result.losses.items(), itertools.cycle(STYLES), strict=False)):
        curves = smooth_curve(losses)
        # The curve of a diverged run ends at the top of the figure, where it stops being finite.
        curves = np.where(np.isfinite(curves), curves, np.inf)
        shift = i * 100 // len(result.losses)
        axes.plot(
            result.iterations,
            np.median(curves, axis=0),
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
        if seeds > 1:
            low, high = np.percentile(np.minimum(curves, 1e6), BAND, axis=0)
            axes.fill_between(result.iterations, low, high, color=style.color, alpha=0.2, linewidth=0)
    over_seeds = f" (median of {seeds} seeds, band {BAND[0]}–{BAND[1]} %)" if seeds > 1 else ""
    # The tutorial's range is 0 to 1. It grows if a whole curve would lie above it.
    lowest = [np.min(line.get_ydata()) for line in axes.lines]
    top = max([1.0, *(1.1 * y for y in lowest if np.isfinite(y))])
    axes.set(
        xlabel="Iterations (parameter updates)",
        ylabel="Loss on the batch just used (nats, smoothed)",
        ylim=(0, top),
        xlim=(0, max(int(result.iterations[-1]), 1)),
        title=f"{', '.join(result.losses)} on {result.config.dataset}{over_seeds}",
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    legend = axes.legend(axes.lines, [" "] * len(axes.lines), frameon=False)
    # Set afterwards, since Matplotlib leaves out a label that begins with an underscore.
    for text, label in zip(legend.get_texts(), result.losses, strict=True):
        text.set_text(label)
    return figure


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
