"""Measures of an optimizer's path: its length, how much it turns, its overshoot, its energy.

A path is the points [..., points, dimensions] that an optimizer went through. Measures are computed in float64. Where a
path is not finite they are NaN or infinite, without a warning.
"""

import numpy as np
from jaxtyping import Float, Int

Points = Float[np.ndarray, "... points dimensions"]
PerPath = Float[np.ndarray, "..."]

_quietly = np.errstate(over="ignore", invalid="ignore", divide="ignore")


@_quietly
def path_length(points: Points) -> PerPath:
    """The length of a path, Σ‖wₖ₊₁ − wₖ‖, in the unit of the coordinates.

    >>> print(path_length(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])))
    6.0
    """
    length: PerPath = _norm(_steps(points)).sum(axis=-1)
    return length


@_quietly
def zigzag(points: Points) -> PerPath:
    """The total turning of a path: the sum of the angles between successive steps, in radians.

    A straight path has 0; a step straight back adds π. A step that is no longer than the rounding of its ends has no
    direction and is left out.

    >>> print(zigzag(np.array([[0.0], [2.0], [1.0], [1.0], [1.5]])) / np.pi)
    2.0
    """
    dtype = np.asarray(points).dtype
    eps = np.finfo(dtype).eps if np.issubdtype(dtype, np.floating) else 0.0
    points = np.asarray(points, np.float64)
    paths = points.reshape(-1, *points.shape[-2:])
    angles: PerPath = np.array([_turning(path, float(eps)) for path in paths]).reshape(points.shape[:-2])[()]
    return angles


@_quietly
def overshoot(points: Points, minimum: Float[np.ndarray, "... dimensions"]) -> PerPath:
    """How far a path overshoots a minimum, as a fraction of the distance from the start to the minimum.

    It is the largest (wₖ − w*)·(w* − w₀)/‖w* − w₀‖², or 0 if that is negative. A path that swings out on the other side
    as far as it started has the overshoot 1.

    Args:
      points: the path.
      minimum: w*, different from the start w₀.

    >>> print(overshoot(np.array([[-4.0, 0.0], [1.0, 9.0], [0.0, 0.0]]), np.array([0.0, 0.0])))
    0.25
    """
    points, minimum = np.asarray(points, np.float64), np.asarray(minimum, np.float64)
    ahead = minimum - points[..., 0, :]
    beyond = np.einsum("...kd,...d->...k", points - minimum[..., None, :], ahead)
    fraction: PerPath = np.maximum(beyond.max(axis=-1), 0) / (ahead**2).sum(axis=-1)
    return fraction


@_quietly
def nearest_minimum(
    points: Float[np.ndarray, "... dimensions"], minima: Float[np.ndarray, "minima dimensions"]
) -> tuple[Int[np.ndarray, "..."], PerPath]:
    """The index of the minimum nearest to each point, and its distance.

    Args:
      points: such as the ends of paths.
      minima: at least one minimum.

    >>> print(*nearest_minimum(np.array([3.0, 3.0]), np.array([[0.0, 0.0], [3.0, 4.0]])))
    1 1.0
    """
    distances = _norm(np.asarray(points, np.float64)[..., None, :] - minima)
    return distances.argmin(axis=-1), distances.min(axis=-1)


@_quietly
def descent_cosines(points: Points, gradients: Points) -> Float[np.ndarray, "... steps"]:
    """The cosine of the angle between each step and the direction of steepest descent, −∇f where the step begins.

    Gradient descent always has 1. A step along a contour has 0, an uphill step less. NaN where the step or the gradient
    is 0.

    Args:
      points: the path.
      gradients: ∇f at each point of the path.

    >>> descent_cosines(np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[-2.0, 0.0], [0.0, 0.0]])).round(4)
    array([0.7071])
    """
    steps, down = _steps(points), -np.asarray(gradients, np.float64)[..., :-1, :]
    cosines: Float[np.ndarray, "... steps"] = (_unit(steps) * _unit(down)).sum(axis=-1)
    return cosines


@_quietly
def energy(values: Float[np.ndarray, "... points"], points: Points, learning_rate: float) -> PerPath:
    r"""The total energy at each point, potential and kinetic: f(w_k) + ‖v_k‖²/2α with v_k = w_k − w_{k−1} and v₀ = 0.

    With :math:`v \leftarrow \beta v - \alpha\nabla f(w)` a mass of 1 takes the time √α for a step, so that its
    velocity is v/√α. Where no curvature exceeds (1 − β²)/α the energy never rises along the heavy ball's path. While
    the ball oscillates, the energy falls as βᵏ; for β → 1 and small α it is conserved.

    Args:
      values: f at each point of the path.
      points: the path.
      learning_rate: α.

    >>> energy(np.array([2.0, 1.0]), np.array([[0.0], [0.5]]), learning_rate=0.25)
    array([2. , 1.5])
    """
    kinetic = (_steps(points) ** 2).sum(axis=-1) / (2 * learning_rate)
    potential = np.asarray(values, np.float64)
    total: PerPath = potential + np.concatenate([np.zeros_like(potential[..., :1]), kinetic], axis=-1)
    return total


def _steps(points: Points) -> Points:
    steps: Points = np.diff(np.asarray(points, np.float64), axis=-2)
    return steps


def _norm(vectors: Points) -> Float[np.ndarray, "... points"]:
    norms: Float[np.ndarray, "... points"] = np.linalg.norm(vectors, axis=-1)
    return norms


def _unit(vectors: Points) -> Points:
    directions: Points = vectors / _norm(vectors)[..., None]
    return directions


def _turning(path: Float[np.ndarray, "points dimensions"], eps: float) -> float:
    steps = _steps(path)
    # Half of eps for the rounding of each end, and as much for that of the step that led there.
    rounding = 2 * eps * np.maximum(_norm(path[1:]), _norm(path[:-1]))
    directions = _unit(steps[_norm(steps) > rounding])
    # The angle from both half chords is accurate near 0 and π, where an arc cosine is not.
    apart, along = _norm(np.diff(directions, axis=0)), _norm(directions[1:] + directions[:-1])
    return float((2 * np.arctan2(apart, along)).sum())
