"""Functions of arrays: what can be said about results without training anything."""

from momentum_jax.analysis.smoothing import first_reached, smooth_curve

__all__ = ["first_reached", "smooth_curve"]
