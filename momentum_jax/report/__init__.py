"""Figures (Matplotlib) and the HTML page of results. Reads results and trains nothing.

A module per figure: `figures.py` (losses, styles, saving), `heatmaps.py`, `comparisons.py`, `paths.py`. The page is
made in two steps: `document/` computes what it shows as JSON types, and `page.py` embeds that into HTML with the
scripts of `assets/`. `writing.py` writes page and figures to files.
"""

from momentum_jax.report.comparisons import curves_figure, three_way_figure, tuning_figure
from momentum_jax.report.figures import STYLES, Style, losses_figure, save_figure
from momentum_jax.report.heatmaps import heatmap_figure
from momentum_jax.report.paths import animate_paths, draw_contours, paths_figure
from momentum_jax.report.writing import PAGE, write_figures, write_page

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
    "save_figure",
    "three_way_figure",
    "tuning_figure",
    "write_figures",
    "write_page",
]
