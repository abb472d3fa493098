"""Figures (Matplotlib) and the HTML page of results. Reads results and trains nothing.

A module per figure: `figures.py` (losses, saving), `heatmaps.py`, `sensitivity.py`, `comparisons.py`, `profiles.py`,
`paths.py`. A function `draw_…` draws into given axes, and a function `…_figure` makes the figure. `plotting.py` has
what the `plot` methods of results call, and `drawing.py` what the figures share. The page is made in two steps:
`document/` computes what it shows as JSON types, and `page.py` embeds that into HTML with the scripts of `assets/`.
`command.py` has the command that repeats a result, which the page shows. `writing.py` writes page and figures to files.
"""

from momentum_jax.report.comparisons import curves_figure, three_way_figure, tuning_figure
from momentum_jax.report.drawing import STYLES, Style
from momentum_jax.report.figures import losses_figure, save_figure
from momentum_jax.report.heatmaps import heatmap_figure
from momentum_jax.report.paths import animate_paths, draw_contours, paths_figure
from momentum_jax.report.profiles import profile_figure
from momentum_jax.report.sensitivity import sensitivity_figure, sweep_figure
from momentum_jax.report.writing import PAGE, write_figures, write_page, write_task_page

__all__ = [
    "PAGE",
    "STYLES",
    "Style",
    "animate_paths",
    "curves_figure",
    "draw_contours",
    "heatmap_figure",
    "losses_figure",
    "paths_figure",
    "profile_figure",
    "save_figure",
    "sensitivity_figure",
    "sweep_figure",
    "three_way_figure",
    "tuning_figure",
    "write_figures",
    "write_page",
    "write_task_page",
]
