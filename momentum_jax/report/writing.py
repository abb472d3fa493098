"""Writes the page and the figures of results."""

import pathlib
from collections.abc import Sequence

from matplotlib.figure import Figure

from momentum_jax._base.errors import InputError
from momentum_jax._base.files import write_atomically
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.tuning import tuning_losses
from momentum_jax.comparison.wording import title_of_tuning
from momentum_jax.report.comparisons import curves_figure, three_way_figure, tuning_figure
from momentum_jax.report.document import Document, comparison_document, sweep_document, training_document
from momentum_jax.report.figures import losses_figure, save_figure
from momentum_jax.report.heatmaps import heatmap_figure
from momentum_jax.report.page import page
from momentum_jax.results.result import Result

PAGE = "report.html"
_FEW = 3


def write_page(shown: Comparison | Sequence[Result], path: pathlib.Path, command: str) -> None:
    """Writes the page of a comparison, of one sweep, or of one or more trainings of one task.

    Args:
      shown: what it is of.
      path: of the HTML file.
      command: what repeats it.

    Raises:
      InputError: it cannot be written, or the results are not of one task.
    """
    _write(path, page(_document(shown, command)).encode())


def write_figures(shown: Comparison | Sequence[Result], folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes the figures for a paper as PNG, SVG and PDF, and gives their paths.

    Raises:
      InputError: they cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [
            path for name, figure in _figures(shown).items() for path in save_figure(figure, folder / name, pdf=True)
        ]
    except OSError as error:
        raise InputError(f"cannot write to {str(folder)!r}: {error.strerror}") from error


def _document(shown: Comparison | Sequence[Result], command: str) -> Document:
    if isinstance(shown, Comparison):
        return comparison_document(shown, command)
    sweeps = [result for result in shown if result.trials is not None]
    if sweeps and len(shown) > 1:
        raise InputError("a sweep has a page of its own; show it alone")
    return sweep_document(sweeps[0], command) if sweeps else training_document(shown, command)


def _figures(shown: Comparison | Sequence[Result]) -> dict[str, Figure]:
    if not isinstance(shown, Comparison):
        return {
            f"losses{i or ''}" if result.trials is None else "heatmap": losses_figure(result)
            if result.trials is None
            else heatmap_figure(result)
            for i, result in enumerate(shown)
        }
    metrics = list(dict.fromkeys(verdict.metric for verdict in shown.verdicts))
    figures = {"curves": curves_figure(shown)}
    for first in range(0, len(metrics), _FEW):
        figures[f"three_way_{first // _FEW + 1}"] = three_way_figure(shown, metrics[first : first + _FEW])
    if shown.tuning is not None:
        losses = tuning_losses(shown.tuning, shown.plan["tune_by"])
        heatmap = heatmap_figure(shown.tuning, losses, title_of_tuning(shown.plan))
        figures |= {"tuning": tuning_figure(shown), "heatmap": heatmap}
    return figures


def _write(path: pathlib.Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error.strerror}") from error
