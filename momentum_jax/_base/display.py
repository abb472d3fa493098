"""Short representations: one summary of an object, shown as text in a terminal and as HTML in a notebook."""

import functools
import html
import itertools
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

Curve = Float[np.ndarray, " points"]

# The most that a text has.
LINES, COLUMNS = 20, 120
_MOST_LINES, _MOST_NOTES = 6, 4
# Of a cell and of a line in HTML; the whole of what is cut there, up to so much, is shown on hover.
_CELL, _LINE, _HOVER = 80, 400, 5000
_FIRST_SYMBOL = "\u2600"
_GAP = "  "
# A text that is written from right to left does not turn its neighbours round.
_CELLS = "text-align:left;padding:.1em 1em .1em 0;border-bottom:1px solid rgba(128,128,128,.4);unicode-bidi:isolate;"
_CELLS += "white-space:nowrap"
_TABLE = "border-collapse:collapse;margin:.4em 0;background:transparent;color:inherit;font-size:12px"
# Pixels of a curve.
_WIDTH, _HEIGHT, _MARGIN = 160, 30, 2


class Row(NamedTuple):
    """A row of a summary's table.

    Attributes:
      cells: a text for each column.
      curves: at most two, which HTML draws in a column of their own: a line, and one with dashes.
    """

    cells: tuple[str, ...]
    curves: tuple[Curve, ...] = ()


class Summary(NamedTuple):
    """What is shown of an object. No text in it has to be safe or short: whatever shows it sees to that.

    Attributes:
      title: what it is.
      lines: what came out of it, in words.
      columns: the headings of the table.
      rows: the first rows of the table; no more than `LINES` are needed.
      total: how many rows there would be, if those are not all.
      curves: what the curves of the rows show.
      notes: what else a reader must know.
    """

    title: str
    lines: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    total: int | None = None
    curves: str = ""
    notes: tuple[str, ...] = ()


def as_text(summary: Summary) -> str:
    """The summary as text of at most `LINES` lines and `COLUMNS` columns.

    >>> rows = (Row(("sgd", "0.22")), Row(("momentum", "0.07")))
    >>> print(as_text(Summary("Two runs", columns=("optimizer", "loss"), rows=rows, notes=("both finished",))))
    Two runs
    optimizer  loss
    sgd        0.22
    momentum   0.07
    both finished
    """
    rows, left = _fitting(summary)
    cells = [summary.columns, *(row.cells for row in rows)] if rows else []
    more = [f"… and {left:,} more"] if left else []
    return "\n".join([clip(summary.title), *_words(summary.lines), *_aligned(cells), *more, *_notes(summary)])


def as_html(summary: Summary) -> str:
    """The same as HTML, with the curves of the rows. It has no script, and the colours of what it is shown in."""
    rows, left = _fitting(summary)
    with_curves = any(len(curve) > 1 for row in rows for curve in row.curves)
    scale = _scale_of([curve for row in rows for curve in row.curves])
    axis = f"{scale.low:.3g} to {scale.high:.3g}{', logarithmic' if scale.logarithmic else ''}"
    drawn = f'<th style="{_CELLS};white-space:normal">{_text(summary.curves, _CELL)}<br/>{axis}</th>'
    head = [*(_cell("th", name) for name in summary.columns), *([drawn] if with_curves else [])]
    body = [
        [*(_cell("td", cell) for cell in row.cells), *([_cell_of_curves(row.curves, scale)] if with_curves else [])]
        for row in rows
    ]
    table = [head, *body] if rows else []
    parts = [
        f'<div style="font-weight:bold">{_text(summary.title, _LINE)}</div>',
        *(f"<div>{_text(line, _LINE)}</div>" for line in summary.lines),
        f'<table style="{_TABLE}">' if rows else "",
        *(f'<tr style="background:transparent">{"".join(cells)}</tr>' for cells in table),
        "</table>" if rows else "",
        f"<div>… and {left:,} more</div>" if left else "",
        *(f"<div>{_text(note, _LINE)}</div>" for note in summary.notes),
    ]
    return f'<div style="color:inherit;overflow-x:auto">{"".join(parts)}</div>'


def fields_summary(title: str, fields: Mapping[str, str]) -> Summary:
    """The summary of an object that is shown by its fields, a text each."""
    return Summary(title, columns=("field", "value"), rows=tuple(map(Row, fields.items())))


def function_name(function: Any) -> str:
    """Returns "module:name" of a function, or of the type of what has none.

    >>> function_name(counted), function_name(functools.partial(counted, 1))
    ('momentum_jax._base.display:counted', 'momentum_jax._base.display:counted')
    """
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{getattr(named, '__module__', '')}:{named.__qualname__}"


def counted(n: int, noun: str, several: str = "") -> str:
    """A count with its noun.

    >>> counted(1, "seed"), counted(2000, "seed"), counted(2, "batch", "batches")
    ('1 seed', '2,000 seeds', '2 batches')
    """
    return f"{n:,} {noun if n == 1 else several or noun + 's'}"


def time_text(seconds: float) -> str:
    """A time in its largest unit.

    >>> time_text(45.2), time_text(492), time_text(7200)
    ('45.2 s', '8.2 min', '2 h')
    """
    size, unit = next(((size, unit) for size, unit in ((3600, "h"), (60, "min")) if seconds >= 2 * size), (1, "s"))
    return f"{seconds / size:.3g} {unit}"


def inert(text: str) -> str:
    r"""A text in which no character does anything but show: others are escaped as in Python.

    >>> print(inert("a\nb\x1b[31m \u202e c"))
    a\nb\x1b[31m \u202e c
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def clip(text: str, columns: int = COLUMNS) -> str:
    """A text made inert, and cut if it is too long for a number of columns.

    >>> clip("learning_rate", 8), clip("学習率", 6), clip("学習率", 5)
    ('learnin…', '学習率', '学習…')
    """
    # No character takes less than a column.
    text = inert(text[: columns + 1])
    if _columns(text) <= columns:
        return text
    used = itertools.accumulate(map(_columns, text))
    return text[: sum(end < columns for end in used)] + "…"


def _columns(text: str) -> int:
    """The columns that a text takes in a terminal, or more: marks that take none are counted too.

    Symbols take one or two, in a terminal of another version of Unicode than Python's.
    """
    return sum(2 if c >= _FIRST_SYMBOL or unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _fitting(summary: Summary) -> tuple[tuple[Row, ...], int]:
    """The rows that there are lines for, and how many are left out."""
    total = len(summary.rows) if summary.total is None else summary.total
    room = LINES - 2 - len(_words(summary.lines)) - len(_notes(summary))
    rows = summary.rows[: room if total <= room else room - 1]
    return rows, total - len(rows)


def _words(lines: Sequence[str]) -> list[str]:
    """Lines that are too long, broken between words, up to `_MOST_LINES` of them."""
    broken = [""]
    for line in lines:
        for word in line[: _MOST_LINES * COLUMNS].split(" "):
            joined = f"{broken[-1]} {word}".strip(" ")
            if _columns(inert(joined)) > COLUMNS and broken[-1]:
                broken.append(word)
            else:
                broken[-1] = joined
        broken.append("")
    whole = list(filter(None, broken))
    cut = len(whole) > _MOST_LINES
    return [*map(clip, whole[: _MOST_LINES - cut]), *(["…"] if cut else [])]


def _notes(summary: Summary) -> list[str]:
    notes = summary.notes
    if len(notes) > _MOST_NOTES:
        notes = (*notes[: _MOST_NOTES - 1], f"… and {counted(len(notes) - _MOST_NOTES + 1, 'more note')}")
    return list(map(clip, notes))


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, whose widest columns are cut where it is too wide."""
    cells = [list(map(clip, row)) for row in table]
    widths = [max(map(_columns, column)) for column in zip(*cells, strict=True)]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > COLUMNS:
        widths[widths.index(max(widths))] -= 1
    cut = [[clip(cell, width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    padded = [[cell + " " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=True)] for row in cut]
    return [_GAP.join(row).rstrip() for row in padded]


def _text(text: str, columns: int) -> str:
    return html.escape(clip(text, columns))


def _cell(tag: str, text: str) -> str:
    whole = f' title="{_text(text, _HOVER)}"' if _columns(text) > _CELL else ""
    return f'<{tag} style="{_CELLS}"{whole}>{_text(text, _CELL)}</{tag}>'


class _Scale(NamedTuple):
    low: float
    high: float
    logarithmic: bool


def _scale_of(curves: Sequence[Curve]) -> _Scale:
    """From the least to the greatest finite value of all curves."""
    finite = np.concatenate([np.empty(0), *(curve[np.isfinite(curve)] for curve in curves)])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    return _Scale(low, high, logarithmic=low > 0 and high > 10 * low)


def _cell_of_curves(curves: Sequence[Curve], scale: _Scale) -> str:
    """The curves of a row as SVG, in the colour of the text."""
    if all(len(curve) < 2 for curve in curves):
        return _cell("td", "")
    paths = [
        f'<path d="{_path(curve, scale)}"{dashes} fill="none" stroke="currentColor" stroke-width="1.3"/>'
        for curve, dashes in zip(curves, ("", ' stroke-dasharray="4 3"'), strict=False)
    ]
    label = "; ".join(f"from {curve[0]:.3g} to {curve[-1]:.3g}" for curve in curves if len(curve))
    return (
        f'<td style="{_CELLS}"><svg role="img" aria-label="{label}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}">{"".join(paths)}</svg></td>'
    )


def _path(curve: Curve, scale: _Scale) -> str:
    """The path of a curve: the means of as many blocks as there are pixels, with gaps where they are not finite."""
    starts = np.unique(np.linspace(0, len(curve), min(len(curve), _WIDTH), endpoint=False).astype(int))
    with np.errstate(all="ignore"):
        means = np.add.reduceat(curve, starts) / np.diff([*starts, len(curve)])
        if scale.logarithmic:
            heights = np.log(means / scale.low) / np.log(scale.high / scale.low)
        else:
            heights = (means - scale.low) / ((scale.high - scale.low) or 1.0)
    across = np.linspace(_MARGIN, _WIDTH - _MARGIN, len(starts))
    down = _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * heights
    steps, pen = [], "M"
    for x, y in zip(across, down, strict=True):
        if np.isfinite(y):
            steps.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L" if np.isfinite(y) else "M"
    return "".join(steps)
