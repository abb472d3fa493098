"""What the figures share: styles, labels, legends, scales, and the row of the runs without a value."""

import itertools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

# Entries of a legend, and letters of a label and of all labels in a title; more would leave no space for the figure.
_MOST_ENTRIES = 16
_LONGEST_LABEL = 36
_LONGEST_TITLE = 48
# A dollar sign in a label must not start a formula.
PLAIN_TEXT: Any = {"text.parse_math": False}


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


def styles_of(labels: Sequence[str]) -> dict[str, Style]:
    """A style for each label; they repeat after the seventh."""
    return dict(zip(labels, itertools.cycle(STYLES), strict=False))


class EdgeRow(NamedTuple):
    """Where the failed runs of a panel stand: the value on the y axis of their marks, and that of their number."""

    marks: float
    number: float


def clip_middle(text: str, longest: int = _LONGEST_LABEL) -> str:
    """The text, or its beginning and its end if it is long.

    >>> clip_middle("momentum"), clip_middle("abcdefghij", 5)
    ('momentum', 'ab…ij')
    """
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[: longest - 1 - half]}…{text[-half:]}"


def listed(labels: Sequence[str]) -> str:
    """The labels for a title, or how many they are.

    >>> listed(["sgd", "momentum"]), listed([100 * "a", "b"])
    ('sgd, momentum', '2 optimizers')
    """
    text = ", ".join(labels)
    if len(labels) > 1 and len(text) > _LONGEST_TITLE:
        return f"{len(labels)} optimizers"
    return clip_middle(text, _LONGEST_TITLE)


def is_log(name: str, values: Sequence[float] | Float[np.ndarray, " values"]) -> bool:
    """Whether a hyperparameter has a logarithmic axis: positive values over more than a decade, but not momenta.

    >>> is_log("learning_rate", [0.1, 1.5]), is_log("momentum", [0.01, 0.9])
    (True, False)
    """
    return name != "momentum" and len(values) > 0 and bool(min(values) > 0 and max(values) / min(values) > 10)


def add_legend(parent: Axes | Figure, handles: Sequence[Any], labels: Sequence[str], **options: Any) -> None:
    """Adds a legend of labels as they are written, long ones shortened, and not of more than 16."""
    shown = [clip_middle(label) for label in labels[:_MOST_ENTRIES]]
    marks: list[Any] = list(handles[:_MOST_ENTRIES])
    if len(labels) > _MOST_ENTRIES:
        shown.append(f"and {len(labels) - _MOST_ENTRIES} more")
        marks.append(Line2D([], [], linestyle=""))
    # Looking for the best place takes seconds where there are many curves.
    few = len(marks) <= len(STYLES)
    defaults = {"frameon": False, "loc": "best" if few else "upper right", "fontsize": "medium" if few else "x-small"}
    legend = parent.legend(marks, [" "] * len(marks), **(defaults | options))
    # Set afterwards, since Matplotlib leaves out a label that begins with an underscore.
    for text, label in zip(legend.get_texts(), shown, strict=True):
        text.set(text=label, parse_math=False)


def add_edge_row(axes: Axes, word: str, *, top: bool = True) -> EdgeRow:
    """Adds a grey row above or below the range of an axis, with a word among the ticks, for runs without a value."""
    low, high = axes.get_ylim()
    scale = axes.yaxis.get_transform()
    ends = scale.transform(np.array([low, high]))
    edge, away = (ends[1], 1) if top else (ends[0], -1)
    steps = edge + away * (ends[1] - ends[0]) * np.array([0.05, 0.11, 0.14])
    near, far, end = map(float, scale.inverted().transform(steps))
    major, minor = ([tick for tick in axes.get_yticks(minor=of) if low <= tick <= high] for of in (False, True))
    labels = axes.yaxis.get_major_formatter().format_ticks(major)
    axes.set_ylim((low, end) if top else (end, high))
    axes.axhspan(high if top else low, end, color="#e4e4e4", linewidth=0, zorder=0)
    axes.set_yticks([*major, near], [*labels, word])
    axes.set_yticks(minor, minor=True)
    return EdgeRow(near, far)


def mark_end(
    axes: Axes, iterations: Int[np.ndarray, " recorded"], curve: Float[np.ndarray, " recorded"], color: str
) -> None:
    """Marks with a cross and a word where a curve stops being finite."""
    there = np.flatnonzero(np.isfinite(curve))
    if len(there) and there[-1] + 1 < len(curve):
        at = iterations[there[-1]], curve[there[-1]]
        axes.plot(*at, "x", color=color, markersize=9, markeredgewidth=2.5)
        axes.annotate("failed", at, xytext=(6, 6), textcoords="offset points", color=color, fontsize="small")


def say(axes: Axes, text: str) -> None:
    """Says in the middle of a panel why there is nothing in it."""
    axes.set(xticks=[], yticks=[])
    axes.annotate(
        text, (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", wrap=True, annotation_clip=False
    ).set_parse_math(False)


def limit_values(axes: Axes, values: Float[np.ndarray, " runs"], *, logarithmic: bool) -> None:
    """Sets the range of the finite values, with a margin."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if logarithmic and low > 0:
        axes.set_ylim(low / 1.15, high * 1.15)
        make_logarithmic(axes)
        return
    margin = 0.08 * (high - low) or 0.1
    axes.set_ylim(low - margin if low - margin > 0 or low < 0 else min(0.0, low), high + margin)
    axes.yaxis.set_minor_locator(NullLocator())


def make_logarithmic(axes: Axes) -> None:
    """Makes the y axis logarithmic, with ticks such as 0.2 and not 2·10⁻¹."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(plain)
    axes.yaxis.set_minor_formatter(NullFormatter())


def plain(value: float, _: object) -> str:
    return f"{value:g}"


def is_wide(values: Float[np.ndarray, " runs"]) -> bool:
    finite = values[np.isfinite(values)]
    return len(finite) > 0 and bool(finite.min() > 0) and bool(finite.max() > 5 * finite.min())
