"""Figures of results; reads them, trains nothing."""

from momentum_jax.report.figures import STYLES, Style, losses_figure, save_figure

__all__ = ["STYLES", "Style", "losses_figure", "save_figure"]
