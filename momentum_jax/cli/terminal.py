"""Prints text, tables and progress for all commands."""

import contextlib
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import rich.box
import rich.progress
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from momentum_jax._base.errors import InputError
from momentum_jax._base.progress import Progress, line_progress, no_progress
from momentum_jax._base.reading import reason
from momentum_jax.cli import PrintError

# Without a terminal there is no width to fold to.
_WIDEST = 10_000


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


@contextlib.contextmanager
def show_progress(headline: str, *, quiet: bool) -> Iterator[Progress]:
    """Yields a progress callback that writes to standard error: a bar with an ETA on a terminal, otherwise lines.

    The headline is printed at the first call, since the arguments have been checked by then.
    """
    if quiet:
        yield no_progress
        return
    headlines = [headline]
    if not sys.stderr.isatty():
        lines = line_progress(sys.stderr)

        def plain(phase: str, done: int, total: int, note: str = "") -> None:
            while headlines:
                sys.stderr.write(f"{headlines.pop()}\n")
                sys.stderr.flush()
            lines(phase, done, total, note)

        yield plain
        return
    bar = rich.progress.Progress(
        rich.progress.TextColumn("{task.description:<10}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(elapsed_when_finished=True),
        rich.progress.TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )
    tasks: dict[str, rich.progress.TaskID] = {}

    def progress(phase: str, done: int, total: int, note: str = "") -> None:
        while headlines:
            bar.console.print(headlines.pop(), markup=False, emoji=False, highlight=False)
        if phase not in tasks:
            tasks[phase] = bar.add_task(phase, total=total, note="")
        bar.update(tasks[phase], completed=done, note=note)

    with bar:
        yield progress


def print_table(out: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table with its first column to the left and the others to the right; ruled on a terminal only.

    On a terminal that is too narrow for it, headings are folded, and then lines run over its edge. No entry is cut.
    """
    box = rich.box.SIMPLE_HEAD if out.is_terminal else None
    table = Table(title=title, title_justify="left", box=box, pad_edge=False)
    cells = list(zip(columns, *rows, strict=True))
    for i, column in enumerate(cells):
        widest = max(cell_len(word) for cell in column for word in cell.split())
        table.add_column(column[0], justify="right" if i else "left", min_width=widest)
    for row in zip(*(column[1:] for column in cells), strict=True):
        table.add_row(*row)
    out.width = max(out.width, table.__rich_measure__(out, out.options.update(width=_WIDEST)).minimum)
    out.print(table)


def counted(n: int, noun: str) -> str:
    """A count with its noun, which gets an s unless the count is 1."""
    return f"{n} {noun}{'' if n == 1 else 's'}"
