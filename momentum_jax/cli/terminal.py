"""What the commands share: how they print tables and show progress."""

import contextlib
import sys
from collections.abc import Iterator, Sequence

import rich.box
import rich.progress
from rich.console import Console
from rich.table import Table

from momentum_jax._base.progress import Progress, line_progress, no_progress


def console(*, quiet: bool = False) -> Console:
    """Standard output, as it is typed: nothing in a text is markup."""
    # Where output is no terminal it has no width that a table should be folded to.
    width = None if sys.stdout.isatty() else 10_000
    return Console(quiet=quiet, highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)


@contextlib.contextmanager
def show_progress(headline: str, *, quiet: bool) -> Iterator[Progress]:
    """A bar with an ETA on a terminal, otherwise a line now and then; on standard error.

    The first call, which says that all that was given can be used, shows the headline.
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


def table_of(title: str, columns: Sequence[str], *, plain: bool) -> Table:
    """An empty table with its first column to the left and the others to the right."""
    table = Table(title=title, title_justify="left", box=None if plain else rich.box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right", overflow="fold")
    return table
