"""Functions of arrays: what can be said about results without training anything.

`momentum_jax.analysis.theory` is imported by its own name: it alone needs JAX.
"""

from momentum_jax.analysis.cells import ends_of_axes, median_of_cells
from momentum_jax.analysis.smoothing import first_reached, smooth_curve

__all__ = ["ends_of_axes", "first_reached", "median_of_cells", "smooth_curve"]
