"""Prints text and tables for all commands."""

import contextlib
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import rich.box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from momentum_jax._base.errors import InputError
from momentum_jax._base.reading import reason
from momentum_jax.cli import PrintError

# Without a terminal there is no width to fold to.
_WIDEST = 10_000
_SHORT = 24


class _Console(Console):
    """A console whose errors are known to be those of printing."""

    def print(self, *objects: Any, **options: Any) -> None:
        with printing():
            super().print(*objects, **options)


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Turns the `OSError` of a block that prints into a `PrintError`, but for that of a broken pipe."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise PrintError(reason(error)) from error


@contextlib.contextmanager
def having_saved(what: str, folder: pathlib.Path) -> Iterator[None]:
    """Adds to an error about a file what was saved, and where, before the block."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{error}; {what} saved in {str(folder)!r}") from error


def console(*, quiet: bool = False) -> Console:
    """Standard output as a Rich console that prints every text as it is, without markup, emoji or highlighting."""
    width = None if sys.stdout.isatty() else _WIDEST
    return _Console(quiet=quiet, highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)


def print_table(
    out: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1
) -> None:
    """Prints a table with its first columns to the left and the others to the right; ruled on a terminal only.

    On a terminal that is too narrow for it, headings are folded, and then lines run over its edge. No entry is cut.
    """
    box = rich.box.SIMPLE_HEAD if out.is_terminal else None
    # Two blanks between columns; a rule adds one.
    padding = (0, 1, 0, 0) if box else (0, 1)
    table = Table(title=title, title_justify="left", box=box, show_edge=False, pad_edge=False, padding=padding)
    cells = list(zip(columns, *rows, strict=True))
    for i, column in enumerate(cells):
        widest = max(cell_len(word) for cell in column for word in cell.split())
        whole = max(map(cell_len, column))
        # What rows are about stays in one line if it is short.
        width = whole if i < left and whole <= _SHORT else None
        table.add_column(column[0], justify="left" if i < left else "right", min_width=widest, width=width)
    for row in zip(*(column[1:] for column in cells), strict=True):
        table.add_row(*row)
    out.width = max(out.width, table.__rich_measure__(out, out.options.update(width=_WIDEST)).minimum)
    out.print(table)
