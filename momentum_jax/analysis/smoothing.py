"""The tutorial's smoothing of a loss curve, and when a curve first reaches a level."""

import numpy as np
from jaxtyping import Float, Int

WINDOW = 11
BETA = 2.0


def smooth_curve(curve: Float[np.ndarray, "*batch recorded"]) -> Float[np.ndarray, "*batch recorded"]:
    """Smooths a curve with a Kaiser window of 11 values and β = 2, as the tutorial's figure does.

    The window is normalised to sum 1. The edges are mirrored as in the tutorial, which does it differently at the two
    ends: the first value is not repeated (x₅ … x₁ x₀ x₁ …), the last one is (… xₙ xₙ … xₙ₋₄). A value that is not
    finite spreads over the window. Of a history that holds every k-th iteration, 11 values span 10·k + 1 iterations.

    Args:
      curve: float [..., recorded], smoothed along its last axis.

    Returns:
      float64, of the same shape.

    >>> smooth_curve(np.array([2.0, 2.0, 2.0])).round(12).tolist()
    [2.0, 2.0, 2.0]
    """
    kernel = np.kaiser(WINDOW, BETA)
    kernel /= kernel.sum()
    half = WINDOW // 2
    edges = [(0, 0)] * (curve.ndim - 1)
    left = np.pad(curve.astype(np.float64), [*edges, (half, 0)], mode="reflect")
    both = np.pad(left, [*edges, (0, half)], mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(both, WINDOW, axis=-1)
    # A diverged run has infinities and NaNs; they are no error here.
    with np.errstate(invalid="ignore"):
        return windows @ kernel


def first_reached(curve: Float[np.ndarray, "*batch iterations"], level: float) -> Int[np.ndarray, " *batch"]:
    """The first iteration at which a curve is at or below a level; −1 where there is none.

    >>> first_reached(np.array([[3.0, 1.0, 2.0], [3.0, 3.0, 3.0]]), 2.0).tolist()
    [1, -1]
    """
    reached = curve <= level
    return np.where(reached.any(axis=-1), reached.argmax(axis=-1), -1)
