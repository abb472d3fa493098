r"""Landscapes: functions of a few coordinates with known minima, on which to watch an optimizer.

>>> from momentum_jax.tasks import landscapes
>>> valley = landscapes.make_landscape("valley")
>>> print(valley.function(jnp.array([-7.0, 2.0])), valley.minima)
6.45 [[0. 0.]]
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from momentum_jax._base.display import Summary, as_html, as_text, clip, counted, fields_summary
from momentum_jax._base.errors import InputError, check_choice, check_integer, check_real, shown, unknown

Point = Float[Array, " dimensions"]
# The largest float32 is 3e38.
_MAX_CURVATURE = 1e30


@dataclasses.dataclass(frozen=True, eq=False)
class Landscape:
    """A function to minimise, with its known minima.

    The function of a landscape of your own must be written in JAX and accept every floating-point dtype.

    Attributes:
      name: the name.
      formula: the formula as text, in which the names of the coordinates are clear.
      function: from a point [dimensions] to the value, a scalar of the point's dtype.
      minima: the local minima [minima, dimensions], the lowest first; empty where there are none.
      start: the default start of a path [dimensions].
      window: the part to draw, as the lowest and the highest value of each coordinate [dimensions, 2]. A path that ends
        outside of it, at a higher value than it began with, counts as diverged.
      domain: where a path may start, likewise; None for everywhere.

    Raises:
      InputError: the function is no function, or an array is not of numbers or has the wrong shape.
    """

    name: str
    formula: str
    function: Callable[[Point], Float[Array, ""]]
    minima: Float[np.ndarray, "minima dimensions"]
    start: Float[np.ndarray, " dimensions"]
    window: Float[np.ndarray, "dimensions 2"]
    domain: Float[np.ndarray, "dimensions 2"] | None = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InputError(
                f"function of landscape {self.name!r} must be a function of a point, not {self.function!r}"
            )
        n = np.size(self.start)
        shapes = {"start": (n,), "minima": (-1, n), "window": (n, 2)} | (
            {} if self.domain is None else {"domain": (n, 2)}
        )
        for field, shape in shapes.items():
            try:
                value = np.asarray(getattr(self, field), np.float64)
            except (TypeError, ValueError) as error:
                raise InputError(f"{field} of landscape {self.name!r} must be an array of numbers: {error}") from error
            if value.ndim != len(shape) or value.shape[-1] != shape[-1] or shape[0] not in (-1, value.shape[0]):
                wanted = list(shape) if shape[0] != -1 else f"[minima, {n}]"
                raise InputError(
                    f"{field} of landscape {self.name!r} must have the shape {wanted}, not {list(value.shape)}"
                )
            object.__setattr__(self, field, value)

    def __repr__(self) -> str:
        return as_text(self._summary())

    def _repr_html_(self) -> str:
        return as_html(self._summary())

    def _summary(self) -> Summary:
        fields = {"minima": self.minima, "start": self.start, "window": self.window, "domain": self.domain}
        texts = {name: shown(np.round(array, 6).tolist()) for name, array in fields.items() if array is not None}
        title = f"Landscape {clip(self.name, 50)}, {counted(self.dimensions, 'dimension')}: {self.formula}"
        return fields_summary(title, texts)

    @property
    def dimensions(self) -> int:
        return len(self.start)


def available() -> dict[str, Callable[..., Landscape]]:
    """The functions that make the landscapes, by name. Their docstrings give the formula, parameters and source.

    >>> sorted(available())[:3]
    ['beale', 'chain', 'double_well']
    """
    return dict(_LANDSCAPES)


def make_landscape(name: str, **parameters: Any) -> Landscape:
    """The landscape of that name with these parameters. Equal arguments give the same object.

    >>> make_landscape("quadratic", curvatures=(1, 100)).name
    'quadratic(curvatures=(1, 100))'

    Raises:
      InputError: there is no such landscape or parameter, or a value is out of range.
    """
    check_choice("landscape", name, _LANDSCAPES)
    allowed = inspect.signature(_LANDSCAPES[name]).parameters
    for parameter in parameters:
        if parameter not in allowed:
            raise unknown(f"parameter of landscape {name!r}", parameter, allowed)
    return _LANDSCAPES[name](**{key: _hashable(value) for key, value in parameters.items()})


def _hashable(value: Any) -> Any:
    """Lists and arrays as tuples, which can be keys of a cache."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


def _box(*bounds: tuple[float, float]) -> Float[np.ndarray, "dimensions 2"]:
    return np.array(bounds, dtype=np.float64)


def _points(*points: Sequence[float], dimensions: int = 2) -> Float[np.ndarray, "points dimensions"]:
    return np.array(points, dtype=np.float64).reshape(len(points), dimensions)


@functools.cache
def valley() -> Landscape:
    """x²/20 + y²: the valley with curvatures 0.1 and 2 in which Saito draws the paths of SGD and of momentum.

    References:
      Saito, Deep Learning from Scratch, 2016, chapter 6.
    """
    return Landscape(
        name="valley",
        formula="x²/20 + y²",
        function=lambda w: w[0] ** 2 / 20 + w[1] ** 2,
        minima=_points([0, 0]),
        start=np.array([-7.0, 2.0]),
        window=_box((-10, 10), (-5, 5)),
    )


def quadratic(curvatures: Sequence[float] = (1.0, 10.0), rotation: float | ArrayLike = 0.0) -> Landscape:
    """½·Σ λᵢ(rᵢ·w)²: the quadratic with the curvatures λᵢ along the columns rᵢ of a rotation.

    Args:
      curvatures: λ [dimensions]; a negative one makes a saddle.
      rotation: an angle in radians by which the first two axes are rotated, or an orthogonal matrix
        [dimensions, dimensions].

    Raises:
      InputError: there are no curvatures, one is not finite, or the rotation is not orthogonal.
    """
    landscape: Landscape = _quadratic(_hashable(curvatures), _hashable(rotation))
    return landscape


@functools.cache
def _quadratic(curvatures: tuple[float, ...], rotation: float | tuple[tuple[float, ...], ...]) -> Landscape:
    if not (isinstance(curvatures, tuple) and curvatures):
        raise InputError(f"curvatures of a quadratic must be one or more numbers, not {curvatures!r}")
    for curvature in curvatures:
        check_real("curvatures of a quadratic", curvature, -_MAX_CURVATURE, _MAX_CURVATURE)
    n = len(curvatures)
    axes = _rotation(rotation, n)
    hessian = (axes * curvatures) @ axes.T
    text = ", ".join([f"curvatures={curvatures}"] + ([f"rotation={rotation}"] if rotation != 0 else []))
    return Landscape(
        name=f"quadratic({text})",
        formula="½·wᵀHw",
        function=lambda w: w @ jnp.asarray(hessian, w.dtype) @ w / 2,
        minima=np.zeros([1 if min(curvatures) > 0 else 0, n]),
        start=axes @ np.ones(n),
        window=_box(*[(-2.0, 2.0)] * n),
    )


def _rotation(rotation: float | tuple[tuple[float, ...], ...], n: int) -> Float[np.ndarray, "n n"]:
    """The orthogonal matrix of an angle or of rows; its columns are the eigenvectors."""
    if isinstance(rotation, tuple):
        is_matrix = all(isinstance(row, tuple) and len(row) == n for row in rotation)
        axes = np.asarray(rotation, dtype=np.float64) if is_matrix else np.empty(0)
        if axes.shape != (n, n) or not np.allclose(axes @ axes.T, np.eye(n), atol=1e-6):
            raise InputError(f"rotation of a quadratic must be an angle or an orthogonal matrix of {n}×{n}")
        return axes
    check_real("rotation of a quadratic", rotation, -math.inf, math.inf)
    axes = np.eye(n)
    if n > 1:
        cosine, sine = math.cos(rotation), math.sin(rotation)
        axes[:2, :2] = [[cosine, -sine], [sine, cosine]]
    return axes


@functools.cache
def rosenbrock() -> Landscape:
    """(1 − x)² + 100(y − x²)²: a curved valley with a flat floor.

    References:
      Rosenbrock, `An automatic method for finding the greatest or least value of a function
      <https://doi.org/10.1093/comjnl/3.3.175>`_, 1960.
    """
    return Landscape(
        name="rosenbrock",
        formula="(1 − x)² + 100(y − x²)²",
        function=lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2,
        minima=_points([1, 1]),
        start=np.array([-1.2, 1.0]),
        window=_box((-2, 2), (-1, 3)),
    )


@functools.cache
def beale() -> Landscape:
    """(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)², with steep walls and a flat valley, |x|, |y| ≤ 4.5.

    References:
      Beale, On an iterative method for finding a local minimum of a function of more than one variable, 1958.
    """

    def function(w: Point) -> Float[Array, ""]:
        x, y = w
        terms = jnp.stack([1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3])
        return jnp.sum(terms**2)

    return Landscape(
        name="beale",
        formula="(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²",
        function=function,
        minima=_points([3, 0.5]),
        start=np.array([1.0, 1.0]),
        window=_box((-1, 4.5), (-2, 2)),
        domain=_box((-4.5, 4.5), (-4.5, 4.5)),
    )


@functools.cache
def himmelblau() -> Landscape:
    """(x² + y − 11)² + (x + y² − 7)², with four minima of value 0.

    References:
      Himmelblau, Applied Nonlinear Programming, 1972.
    """
    return Landscape(
        name="himmelblau",
        formula="(x² + y − 11)² + (x + y² − 7)²",
        function=lambda w: (w[0] ** 2 + w[1] - 11) ** 2 + (w[0] + w[1] ** 2 - 7) ** 2,
        minima=_points(
            [3, 2],
            [-2.805118086952745, 3.131312518250573],
            [-3.779310253377747, -3.283185991286170],
            [3.584428340330492, -1.848126526964404],
        ),
        start=np.array([0.0, -4.0]),
        window=_box((-5, 5), (-5, 5)),
    )


@functools.cache
def rastrigin(dimensions: int = 2) -> Landscape:
    """10n + Σ wᵢ² − 10·cos(2πwᵢ), |wᵢ| ≤ 5.12: a bowl with 11 minima along each coordinate, near the integers.

    Args:
      dimensions: n, at most 3 because the landscape lists its 11ⁿ minima.

    Raises:
      InputError: dimensions outside 1 to 3.

    References:
      Rastrigin, Systems of Extremal Control, 1974.
    """
    check_integer("dimensions of landscape 'rastrigin'", dimensions, 1, 3)
    along = np.arange(-5.0, 6.0)
    # Newton's method for 2w + 20π·sin(2πw) = 0 converges in fewer than five iterations from the integers.
    for _ in range(5):
        slope = 2 * along + 20 * np.pi * np.sin(2 * np.pi * along)
        along = along - slope / (2 + 40 * np.pi**2 * np.cos(2 * np.pi * along))
    minima = np.stack(np.meshgrid(*[along] * dimensions, indexing="ij"), axis=-1).reshape(-1, dimensions)
    return Landscape(
        name="rastrigin" if dimensions == 2 else f"rastrigin(dimensions={dimensions})",
        formula="10n + Σ w² − 10·cos(2πw)",
        function=lambda w: 10 * dimensions + jnp.sum(w**2 - 10 * jnp.cos(2 * math.pi * w)),
        minima=minima[np.argsort(np.sum(minima**2, axis=-1), kind="stable")],
        start=np.array([3.3, 1.6, -2.4])[:dimensions],
        window=_box(*[(-5.12, 5.12)] * dimensions),
        domain=_box(*[(-5.12, 5.12)] * dimensions),
    )


@functools.cache
def double_well(tilt: float = 0.3) -> Landscape:
    """(x² − 1)² + tilt·x + y²/2: a deep well near x = −1 and, for tilt < 8/√27, a shallow one near x = 1.

    Args:
      tilt: ≥ 0; at 0 the wells are equally deep.

    Raises:
      InputError: the tilt is negative or not finite.
    """
    check_real("tilt of landscape 'double_well'", tilt, 0, math.inf)
    slopes = np.roots([4, 0, -4, tilt])
    stationary = np.sort(slopes[np.abs(slopes.imag) < 1e-9].real)
    # The stationary points alternate: minimum, maximum, minimum.
    wells = stationary[::2]
    return Landscape(
        name="double_well" if tilt == 0.3 else f"double_well(tilt={tilt})",
        formula=f"(x² − 1)² + {tilt:g}·x + y²/2",
        function=lambda w: (w[0] ** 2 - 1) ** 2 + tilt * w[0] + w[1] ** 2 / 2,
        minima=np.stack([wells, np.zeros_like(wells)], axis=-1),
        start=np.array([2.0, 1.0]),
        window=_box((-2.2, 2.2), (-1.6, 1.6)),
    )


@functools.cache
def monkey_saddle() -> Landscape:
    """x³ − 3xy²: a saddle without curvature at its centre, with three ways down and no minimum."""
    return Landscape(
        name="monkey_saddle",
        formula="x³ − 3xy²",
        function=lambda w: w[0] ** 3 - 3 * w[0] * w[1] ** 2,
        minima=_points(),
        start=np.array([0.8, 0.02]),
        window=_box((-1.2, 1.2), (-1.2, 1.2)),
    )


@functools.cache
def chain(dimensions: int = 50, mu: float = 1.0, L: float = 100.0) -> Landscape:
    r"""Nesterov's chain: a quadratic on which a first-order method reaches one more coordinate per iteration.

    .. math::
      f(w) = \frac{L - \mu}{8} \Big[w_1^2 + \sum_{i=1}^{n-1} (w_i - w_{i+1})^2 + (1 - q) w_n^2 - 2 w_1\Big]
        + \frac{\mu}{2} \|w\|^2, \qquad q = \frac{\sqrt\kappa - 1}{\sqrt\kappa + 1}

    All curvatures lie between μ and L, with κ = L/μ. The minimum is w*ᵢ = qⁱ, that of an infinite chain, thanks to the
    term with 1 − q. `momentum_jax.analysis.theory.chain_lower_bound` is the least error of any first-order method from
    w₀ = 0.

    Args:
      dimensions: n.
      mu: μ > 0.
      L: L ≥ μ.

    Raises:
      InputError: fewer than 2 dimensions, or μ or L out of range.

    References:
      Nesterov, Introductory Lectures on Convex Optimization, 2004, section 2.1.4, where the chain is infinite.
    """
    check_integer("dimensions of landscape 'chain'", dimensions, 2)
    check_real("mu of landscape 'chain'", mu, math.ulp(0.0), math.inf)
    check_real("L of landscape 'chain'", L, mu, math.inf)
    root = math.sqrt(L / mu)
    q = (root - 1) / (root + 1)

    def function(w: Point) -> Float[Array, ""]:
        links = jnp.sum((w[:-1] - w[1:]) ** 2)
        ends = w[0] ** 2 + (1 - q) * w[-1] ** 2 - 2 * w[0]
        return (L - mu) / 8 * (links + ends) + mu / 2 * jnp.sum(w**2)

    return Landscape(
        name=f"chain(dimensions={dimensions}, mu={mu:g}, L={L:g})",
        formula="(L − μ)/8·[w₁² + Σ(wᵢ − wᵢ₊₁)² + (1 − q)wₙ² − 2w₁] + μ/2·‖w‖²",
        function=function,
        minima=(q ** np.arange(1.0, dimensions + 1))[None],
        start=np.zeros(dimensions),
        window=_box(*[(-1.0, 2.0)] * dimensions),
    )


@functools.cache
def lessard() -> Landscape:
    """A strongly convex function with the slope 25x for x < 1, x + 24 for 1 ≤ x < 2 and 25x − 24 for x ≥ 2.

    The heavy ball with the best settings for quadratics of curvatures 1 to 25 cycles on it for ever, for example from
    x₀ = 3.3.

    References:
      Lessard, Recht and Packard, `Analysis and design of optimization algorithms via integral quadratic constraints
      <https://arxiv.org/abs/1408.3595>`_, 2016, section 4.6.
    """

    def function(w: Point) -> Float[Array, ""]:
        x = w[0]
        pieces = [25 * x**2 / 2, x**2 / 2 + 24 * x - 12, 25 * x**2 / 2 - 24 * x + 36]
        return jnp.where(x < 1, pieces[0], jnp.where(x < 2, pieces[1], pieces[2]))

    return Landscape(
        name="lessard",
        formula="slope 25x, from 1 to 2 x + 24, from 2 on 25x − 24",
        function=function,
        minima=_points([0], dimensions=1),
        start=np.array([3.3]),
        window=_box((-3, 4)),
    )


_LANDSCAPES: dict[str, Callable[..., Landscape]] = {
    "beale": beale,
    "chain": chain,
    "double_well": double_well,
    "himmelblau": himmelblau,
    "lessard": lessard,
    "monkey_saddle": monkey_saddle,
    "quadratic": quadratic,
    "rastrigin": rastrigin,
    "rosenbrock": rosenbrock,
    "valley": valley,
}
