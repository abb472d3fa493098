"""What can be said of a path in numbers: how long it is, how it turns, how far it shoots past the minimum.

A path is the points [..., points, dimensions] that an optimizer went through; the steps between them are its velocity.
All is computed in float64; where a path is not finite the measures are NaN or infinite, without a warning.
"""

import numpy as np
from jaxtyping import Float, Int

Points = Float[np.ndarray, "... points dimensions"]
OfPaths = Float[np.ndarray, "..."]

_quietly = np.errstate(over="ignore", invalid="ignore", divide="ignore")


@_quietly
def path_length(points: Points) -> OfPaths:
    """Σ‖wₖ₊₁ − wₖ‖, in the unit of the coordinates: the smaller, the "shorter" the path.

    >>> print(path_length(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])))
    6.0
    """
    length: OfPaths = _norm(_steps(points)).sum(axis=-1)
    return length


@_quietly
def zigzag(points: Points) -> OfPaths:
    """The sum of the angles by which each step turns away from the one before, in radians: "smoother" is less.

    A straight path has 0, a step back π. A step of length 0, or of no more than the rounding of its ends, has no
    direction and is passed over.

    >>> print(zigzag(np.array([[0.0], [2.0], [1.0], [1.0], [1.5]])) / np.pi)
    2.0
    """
    dtype = np.asarray(points).dtype
    eps = np.finfo(dtype).eps if np.issubdtype(dtype, np.floating) else 0.0
    points = np.asarray(points, np.float64)
    paths = points.reshape(-1, *points.shape[-2:])
    angles: OfPaths = np.array([_turning(path, float(eps)) for path in paths]).reshape(points.shape[:-2])[()]
    return angles


@_quietly
def overshoot(points: Points, minimum: Float[np.ndarray, "... dimensions"]) -> OfPaths:
    """How far the path goes past the minimum, seen from the start, as a share of their distance.

    The largest (wₖ − w*)·(w* − w₀)/‖w* − w₀‖², at least 0: a path that never goes beyond has 0, one that swings out on
    the other side as far as it began has 1.

    Args:
      points: the path.
      minimum: w*, not where the path starts.

    >>> print(overshoot(np.array([[-4.0, 0.0], [1.0, 9.0], [0.0, 0.0]]), np.array([0.0, 0.0])))
    0.25
    """
    points, minimum = np.asarray(points, np.float64), np.asarray(minimum, np.float64)
    ahead = minimum - points[..., 0, :]
    beyond = np.einsum("...kd,...d->...k", points - minimum[..., None, :], ahead)
    share: OfPaths = np.maximum(beyond.max(axis=-1), 0) / (ahead**2).sum(axis=-1)
    return share


@_quietly
def nearest_minimum(
    points: Float[np.ndarray, "... dimensions"], minima: Float[np.ndarray, "minima dimensions"]
) -> tuple[Int[np.ndarray, "..."], OfPaths]:
    """Which of the minima is nearest to a point, and how far away it is.

    Args:
      points: where paths ended, say.
      minima: at least one.

    >>> print(*nearest_minimum(np.array([3.0, 3.0]), np.array([[0.0, 0.0], [3.0, 4.0]])))
    1 1.0
    """
    apart = _norm(np.asarray(points, np.float64)[..., None, :] - minima)
    return apart.argmin(axis=-1), apart.min(axis=-1)


@_quietly
def descent_cosines(points: Points, gradients: Points) -> Float[np.ndarray, "... steps"]:
    """The cosine of the angle between each step and the way straight down, −∇f where it began.

    Gradient descent has 1 always. At 0 momentum goes along a contour, below it uphill. NaN where either is 0.

    Args:
      points: the path.
      gradients: ∇f at each of the points.

    >>> descent_cosines(np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[-2.0, 0.0], [0.0, 0.0]])).round(4)
    array([0.7071])
    """
    steps, down = _steps(points), -np.asarray(gradients, np.float64)[..., :-1, :]
    cosines: Float[np.ndarray, "... steps"] = (_unit(steps) * _unit(down)).sum(axis=-1)
    return cosines


@_quietly
def energy(values: Float[np.ndarray, "... points"], points: Points, learning_rate: float) -> OfPaths:
    r"""The potential and the kinetic energy at each point, f(w_k) + ‖v_k‖²/2α with v_k = w_k − w_{k−1} and v₀ = 0.

    With :math:`v \leftarrow \beta v - \alpha\nabla f(w)` a mass of 1 needs the time √α for a step, so that its
    velocity is v/√α. Where no curvature exceeds (1 − β²)/α the energy never rises along the heavy ball's path: while
    the ball swings to and fro it falls as βᵏ, and stays for β → 1 and small α. At α = 1 it is f + ½‖v‖².

    Args:
      values: f at each of the points.
      points: the path.
      learning_rate: α.

    >>> energy(np.array([2.0, 1.0]), np.array([[0.0], [0.5]]), learning_rate=0.25)
    array([2. , 1.5])
    """
    kinetic = (_steps(points) ** 2).sum(axis=-1) / (2 * learning_rate)
    potential = np.asarray(values, np.float64)
    total: OfPaths = potential + np.concatenate([np.zeros_like(potential[..., :1]), kinetic], axis=-1)
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
    # Each end is rounded to half of eps, and what moves it there is.
    rounding = 2 * eps * np.maximum(_norm(path[1:]), _norm(path[:-1]))
    directions = _unit(steps[_norm(steps) > rounding])
    # The angle by both half chords, which is exact near 0 and π too.
    apart, along = _norm(np.diff(directions, axis=0)), _norm(directions[1:] + directions[:-1])
    return float((2 * np.arctan2(apart, along)).sum())
