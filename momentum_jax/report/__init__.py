"""Figures of results; reads them, trains nothing."""

from momentum_jax.report.figures import STYLES, Style, losses_figure, save_figure
from momentum_jax.report.heatmaps import heatmap_figure

__all__ = ["STYLES", "Style", "heatmap_figure", "losses_figure", "save_figure"]
