"""Writes the page and the figures of results."""

import pathlib
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from momentum_jax._base.errors import InputError
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.task_answer import decisive_protocol
from momentum_jax.comparison.task_comparison import TaskComparison
from momentum_jax.comparison.tuning import tuning_losses
from momentum_jax.comparison.wording import title_of_tuning
from momentum_jax.report.command import command_of
from momentum_jax.report.comparisons import curves_figure, three_way_figure, tuning_figure
from momentum_jax.report.document import (
    Document,
    comparison_document,
    sweep_document,
    tasks_document,
    training_document,
)
from momentum_jax.report.document.labels import with_short_labels
from momentum_jax.report.figures import losses_figure, save_figure, write_file
from momentum_jax.report.heatmaps import heatmap_figure
from momentum_jax.report.page import page
from momentum_jax.report.profiles import profile_figure
from momentum_jax.report.sensitivity import has_heatmap, sweep_figure
from momentum_jax.results.result import Result
from momentum_jax.results.summary import loss_unit

PAGE = "report.html"
_METRICS_PER_FIGURE = 3


def write_page(shown: Comparison | Sequence[Result], path: pathlib.Path) -> None:
    """Writes the HTML page of a comparison, of one sweep, or of one or more trainings of one task.

    Args:
      shown: what the page shows.
      path: the HTML file.

    Raises:
      InputError: the file cannot be written, or the results are not of one task.
    """
    write_file(path, page(with_short_labels(_document(shown, command_of(shown)))).encode())


def write_task_page(shown: TaskComparison, path: pathlib.Path, pages: Mapping[str, str] | None = None) -> None:
    """Writes the HTML page of a comparison over tasks.

    Args:
      shown: what the page shows.
      path: the HTML file.
      pages: by name of a task, the relative address of its own page, where there is one.

    Raises:
      InputError: the file cannot be written.
    """
    commands = {name: command_of(compared) for name, compared in shown.comparisons.items()}
    write_file(path, page(with_short_labels(tasks_document(shown, commands, pages or {}))).encode())


def write_figures(shown: Comparison | TaskComparison | Sequence[Result], folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes the figures for a paper as PNG, SVG and PDF, and returns their paths.

    Raises:
      InputError: a file cannot be written.
    """
    return [path for name, figure in _figures(shown).items() for path in save_figure(figure, folder / name, pdf=True)]


def _document(shown: Comparison | Sequence[Result], command: str) -> Document:
    if isinstance(shown, Comparison):
        if shown.tuning is not None:
            shown.tuning.check_histories("the page")
        return comparison_document(shown, command)
    for result in shown:
        result.check_histories("the page")
    sweeps = [result for result in shown if result.trials is not None]
    if sweeps and len(shown) > 1:
        raise InputError("a sweep has a page of its own; show it alone")
    return sweep_document(sweeps[0], command) if sweeps else training_document(shown, command)


def _figures(shown: Comparison | TaskComparison | Sequence[Result]) -> dict[str, Figure]:
    """The figures by the stem of their file names."""
    if isinstance(shown, TaskComparison):
        decisive = decisive_protocol(shown)
        return {} if decisive is None else {"profile": profile_figure(shown, decisive)}
    if isinstance(shown, Comparison):
        return _comparison_figures(shown)
    return dict(
        (f"losses{i or ''}", losses_figure(result)) if result.trials is None else sweep_figure(result)
        for i, result in enumerate(shown)
    )


def _comparison_figures(compared: Comparison) -> dict[str, Figure]:
    metrics = list(dict.fromkeys(verdict.metric for verdict in compared.verdicts))
    figures = {"curves": curves_figure(compared)}
    for number, first in enumerate(range(0, len(metrics), _METRICS_PER_FIGURE), 1):
        figures[f"three_way_{number}"] = three_way_figure(compared, metrics[first : first + _METRICS_PER_FIGURE])
    if compared.tuning is not None:
        figures["tuning"] = tuning_figure(compared)
    if compared.tuning is not None and has_heatmap(compared.tuning):
        losses = tuning_losses(compared.tuning, compared.plan["tune_by"])
        figures["heatmap"] = heatmap_figure(
            compared.tuning, losses, title_of_tuning(compared.plan, loss_unit(compared.tuning))
        )
    return figures
