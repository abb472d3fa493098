"""The tutorial's smoothing of a loss curve, and when a curve first reaches a level."""

import numpy as np
from jaxtyping import Float, Int

WINDOW = 11
BETA = 2.0


def smooth_curve(curve: Float[np.ndarray, "*batch iterations"]) -> Float[np.ndarray, "*batch iterations"]:
    """Convolves with a Kaiser window of 11 iterations and β = 2, normalised to sum 1, as the tutorial's figure does.

    The edges are mirrored: at the left about the first value (x₅ … x₁ x₀), at the right behind the last, which is
    repeated (xₙ xₙ … xₙ₋₄), the tutorial's own asymmetry. A value that is not finite spreads over the window.

    Args:
      curve: float [..., iterations], smoothed along its last axis.

    Returns:
      The same shape, float64.

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
    # Infinities and NaNs are data here: a diverged run.
    with np.errstate(invalid="ignore"):
        return windows @ kernel


def first_reached(curve: Float[np.ndarray, "*batch iterations"], level: float) -> Int[np.ndarray, " *batch"]:
    """The first iteration at which a curve is at or below a level; −1 where it never is.

    >>> first_reached(np.array([[3.0, 1.0, 2.0], [3.0, 3.0, 3.0]]), 2.0).tolist()
    [1, -1]
    """
    reached = curve <= level
    return np.where(reached.any(axis=-1), reached.argmax(axis=-1), -1)
