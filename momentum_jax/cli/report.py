"""`momentum-jax report`: writes the page of a comparison, on one task or over several, a sweep or trainings."""

import os
import pathlib
from collections.abc import Sequence

from momentum_jax._base.errors import InputError
from momentum_jax.cli.arguments import flag, parse, positional
from momentum_jax.cli.terminal import console, having_saved
from momentum_jax.comparison.folder import HEAD
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.task_comparison import TaskComparison
from momentum_jax.comparison.task_folder import TASKS, folder_of
from momentum_jax.report import PAGE, write_figures, write_page, write_task_page
from momentum_jax.results.result import Result

DESCRIPTION = """Writes the page, one HTML file, of what compare, compare-tasks, sweep or train left in a folder.

    momentum-jax report runs/mnist-comparison-0123abcd
    momentum-jax report runs/a runs/b --out both.html     (two trainings of one task, judged against each other)
    momentum-jax report runs/mnist-comparison-0123abcd --figures paper

Exit codes: 0 written, 2 an argument cannot be used or a file cannot be written."""

_FLAGS = [
    positional("folders", "DIR [DIR ...]"),
    flag("out", pathlib.Path | None, None, "by default report.html in DIR.", metavar="FILE"),
    flag("figures", pathlib.Path | None, None, "also write the figures there, as PNG, SVG and PDF.", metavar="DIR"),
]


def main(argv: Sequence[str], _: float) -> None:
    """Writes the page, and with `--figures` the figures.

    Raises:
      InputError: a folder holds nothing that can be shown, or the results in several cannot be compared.
    """
    arguments = parse(argv, "momentum-jax report", DESCRIPTION, _FLAGS)
    if not arguments.folders:
        raise InputError("DIR: the folder of a result is needed, such as momentum-jax report runs/mnist-0123abcd")
    shown = _load(arguments.folders)
    page = arguments.out or arguments.folders[0] / PAGE
    if isinstance(shown, TaskComparison):
        write_task_page(shown, page, _pages(shown, page.parent))
    else:
        write_page(shown, page)
    written = [page]
    if arguments.figures is not None:
        with having_saved(f"{page.name} is", page.parent):
            written += write_figures(shown, arguments.figures)
    for path in written:
        console().print(f"written: {path}")


def _pages(shown: TaskComparison, folder: pathlib.Path) -> dict[str, str]:
    """By name of a task, the address of its own page from that in a folder, where there is one."""
    pages = {name: f"{folder_of(name)}/{PAGE}" for name in shown.comparisons}
    return {name: page for name, page in pages.items() if (folder / page).exists()}


def _load(folders: Sequence[pathlib.Path]) -> Comparison | TaskComparison | list[Result]:
    """What the folders hold."""
    if len(folders) == 1 and os.path.lexists(folders[0] / HEAD):
        return Comparison.load(folders[0])
    if len(folders) == 1 and os.path.lexists(folders[0] / TASKS):
        return TaskComparison.load(folders[0])
    for folder in folders:
        if any(os.path.lexists(folder / head) for head in (HEAD, TASKS)):
            raise InputError(f"{str(folder)!r} holds a comparison, which has a page of its own; show it alone")
    return [Result.load(folder) for folder in folders]
