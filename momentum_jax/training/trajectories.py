"""The path of an optimizer over a landscape: many starts, hyperparameters and methods at once."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Key

from momentum_jax._base.display import as_html, as_text
from momentum_jax._base.errors import InputError, check_integer, check_key, check_real
from momentum_jax._base.weak import Handle, cached, weak_handle
from momentum_jax.optimizers import registry
from momentum_jax.optimizers.description import OptimizerConfig
from momentum_jax.tasks.landscapes import Landscape, make_landscape
from momentum_jax.training.objective import Objective
from momentum_jax.training.path_summary import summary_of
from momentum_jax.training.step import TrainState, make_train_step
from momentum_jax.training.validate import find_structure, traced_arrays

Starts = Float[Array, "starts dimensions"]
Loss = Callable[[Array, Array], Float[Array, ""]]


class Trajectory(NamedTuple):
    """Where an optimizer went; the leading axes are those of the optimizers and of the starts.

    Attributes:
      points: the start and the point after each iteration.
      values: the landscape there.
      gradients: its gradients there, without the noise.
      diverged: whether the path ends outside of the landscape's window and higher than it began. A path that overflows
        has diverged too, unless it left the window below its start: that is the way down a saddle.
    """

    points: Float[Array, "*paths iterations+1 dimensions"]
    values: Float[Array, "*paths iterations+1"]
    gradients: Float[Array, "*paths iterations+1 dimensions"]
    diverged: Bool[Array, "*paths"]

    def __repr__(self) -> str:
        return as_text(summary_of(self))

    def _repr_html_(self) -> str:
        return as_html(summary_of(self))

    def plot(
        self, landscape: Landscape | str | None = None, ax: Any = None, *, labels: Sequence[str] | None = None
    ) -> Any:
        """Draws the paths, over the landscape if it is given.

        Over a landscape of two dimensions there are contours, over one of one its graph, and otherwise the distance to
        the nearest minimum. Without a landscape, paths in two dimensions are drawn in their plane, and in others their
        first six coordinates against the iterations. Of more than a hundred paths a hundred are drawn.

        Args:
          landscape: of the paths, or its name.
          ax: the matplotlib Axes to draw into. Without it a figure is made by `matplotlib.pyplot`, which shows it in
            notebooks and with `plt.show()`.
          labels: a text for each path, in the order of the leading axes; by default its index.

        Returns:
          The matplotlib Axes.

        Raises:
          InputError: the landscape is unknown or of other dimensions, or there are not as many labels as paths.
        """
        from momentum_jax.report.plotting import plot_trajectory

        return plot_trajectory(self, landscape, ax, labels)


def trajectory(
    optimizer: OptimizerConfig | optax.GradientTransformation | Sequence[OptimizerConfig],
    landscape: Landscape | str,
    start: ArrayLike | None = None,
    iterations: int = 100,
    *,
    noise: float | ArrayLike = 0.0,
    key: Key[Array, ""] | None = None,
) -> Trajectory:
    """Follows an optimizer over a landscape with the train step of `mj.train`.

    Descriptions that differ in numbers only run as one program. It is compiled once for a landscape, a number of
    iterations and a number of starts. The hyperparameters of a transformation may be traced, so the function can be
    jitted, differentiated, and mapped over them.

    Args:
      optimizer: a description, an Optax transformation, or several descriptions, which make a leading axis of the
        result.
      landscape: one from `momentum_jax.tasks.landscapes`, or its name.
      start: points [..., dimensions], whose leading axes are the result's too; by default the landscape's own.
        Floating-point ones keep their dtype. The values of traced ones are not checked.
      iterations: updates of each path.
      noise: the standard deviation of the independent normal noise that is added to each coordinate of each gradient.
      key: of the noise. Each start has noise of its own, which is the same for all optimizers.

    Raises:
      InputError: the landscape or the method is unknown, a hyperparameter is out of its range, a start is not finite,
        has other dimensions or lies outside of the landscape's domain, or noise has no key.

    >>> sgd = OptimizerConfig("sgd", learning_rate=0.5)
    >>> momentum = OptimizerConfig("momentum", learning_rate=0.5, momentum=0.5)
    >>> path = trajectory([sgd, momentum], "valley", [4.0, 4.0], iterations=2)
    >>> print(path.points[1], path.diverged)
    [[ 4.    4.  ]
     [ 3.8   0.  ]
     [ 3.51 -2.  ]] [False False]
    """
    landscape = make_landscape(landscape) if isinstance(landscape, str) else landscape
    if not isinstance(landscape, Landscape):
        raise InputError(f"landscape must be a Landscape, such as make_landscape(name), or a name, not {landscape!r}")
    check_integer("iterations", iterations, 1)
    starts = check_start(landscape, landscape.start if start is None else start)
    keys = _noise_keys(noise, key, math.prod(starts.shape[:-1]))
    args = (starts.reshape(-1, landscape.dimensions), jnp.asarray(noise, starts.dtype), keys)
    # A path that diverges must not end the others.
    with jax.debug_nans(False), jax.debug_infs(False):
        if isinstance(optimizer, optax.GradientTransformation):
            paths = _paths(landscape, optax.with_extra_args_support(optimizer), iterations, *args)
        else:
            several = [optimizer] if isinstance(optimizer, OptimizerConfig) else optimizer
            if not (isinstance(several, Sequence) and all(isinstance(one, OptimizerConfig) for one in several)):
                raise InputError(
                    "optimizer must be an OptimizerConfig, a list of them or an Optax transformation, not "
                    f"{optimizer!r}"
                )
            paths = _of_optimizers(several, landscape, iterations, args)
            if isinstance(optimizer, OptimizerConfig):
                paths = Trajectory(*(a[0] for a in paths))
        leading = paths.diverged.ndim - 1
        return Trajectory(*(a.reshape(*a.shape[:leading], *starts.shape[:-1], *a.shape[leading + 1 :]) for a in paths))


def check_start(landscape: Landscape, start: ArrayLike) -> Float[Array, "... dimensions"]:
    """A start, or several [..., dimensions], as floating-point numbers.

    Raises:
      InputError: as `trajectory`.
    """
    with np.errstate(over="ignore"):
        points = jnp.asarray(start)
    if not jnp.issubdtype(points.dtype, jnp.floating):
        points = points.astype(jnp.result_type(float))
    n = landscape.dimensions
    if points.ndim == 0 or points.shape[-1] != n or points.size == 0:
        raise InputError(f"start on {landscape.name} must have {n} coordinates, not the shape {points.shape}")
    if isinstance(points, jax.core.Tracer):
        return points
    values = np.asarray(points, np.float64).reshape(-1, n)
    if not np.isfinite(values).all():
        given = np.asarray(start, np.float64).reshape(-1, n)
        bad = _first(given, ~np.isfinite(values))
        raise InputError(f"start on {landscape.name} must be finite in {points.dtype}, not {bad}")
    if landscape.domain is not None:
        low, high = landscape.domain.T
        outside = (values < low) | (values > high)
        if outside.any():
            allowed = " × ".join(f"[{a:g}, {b:g}]" for a, b in landscape.domain)
            raise InputError(f"start on {landscape.name} must lie in {allowed}, not at {_first(values, outside)}")
    return points


def _first(points: np.ndarray, which: np.ndarray) -> tuple[float, ...]:
    return tuple(points[which.any(axis=-1)][0].tolist())


def _noise_keys(noise: float | ArrayLike, key: Key[Array, ""] | None, starts: int) -> Key[Array, " starts"] | None:
    if not isinstance(noise, jax.core.Tracer):
        check_real("noise", noise, 0, math.inf)
    if key is not None:
        check_key(key)
        return jax.random.split(key, starts)
    if isinstance(noise, jax.core.Tracer) or noise != 0:
        raise InputError("noise needs a key, such as jax.random.key(0)")
    return None


def _of_optimizers(
    optimizers: Sequence[OptimizerConfig], landscape: Landscape, iterations: int, args: tuple[Any, ...]
) -> Trajectory:
    """The paths of several, [optimizers, starts, …]: one program for all that differ in their traced only."""
    if not optimizers:
        raise InputError("there is no optimizer to follow")
    objective, (starts, *_) = _objective(landscape), args
    groups: dict[registry.Structure, list[tuple[int, registry.Traced]]] = {}
    for i, optimizer in enumerate(optimizers):
        registry.check(optimizer)
        structure, traced = registry.split(optimizer)
        if structure not in groups:
            structure, traced = find_structure(
                optimizer, objective, starts[0], jnp.zeros_like(starts[0]), {}, loss_after=False
            )
        groups.setdefault(structure, []).append((i, traced))
    parts = []
    for structure, members in groups.items():
        stacked = jax.tree.map(lambda *values: np.stack(values), *(traced_arrays(traced) for _, traced in members))
        parts.append(_of_structure(weak_handle(landscape))(structure, iterations, len(members), stacked, args))
    order = np.argsort([i for members in groups.values() for i, _ in members])
    return Trajectory(*(jnp.concatenate(leaves)[order] for leaves in zip(*parts, strict=True)))


@cached
def _of_structure(landscape: Handle) -> Callable[..., Trajectory]:
    """The jitted function of the paths of optimizers of one structure, [optimizers, starts, …]."""

    def paths(
        structure: registry.Structure,
        iterations: int,
        optimizers: int,
        traced: dict[str, Float[Array, " optimizers"]],
        args: tuple[Any, ...],
    ) -> Trajectory:
        def of_optimizer(traced: dict[str, Array]) -> Trajectory:
            return _paths(landscape.target, registry.build(structure, traced), iterations, *args)

        of_all: Trajectory = jax.vmap(of_optimizer, axis_size=optimizers)(traced)
        return of_all

    jitted: Callable[..., Trajectory] = jax.jit(paths, static_argnums=(0, 1, 2))
    return jitted


def _paths(
    landscape: Landscape,
    optimizer: optax.GradientTransformationExtraArgs,
    iterations: int,
    starts: Starts,
    noise: Float[Array, ""],
    keys: Key[Array, " starts"] | None,
) -> Trajectory:
    """The paths of one optimizer, [starts, …]."""
    train_step = make_train_step(_objective(landscape), optimizer, {}, loss_after=False)
    low, high = jnp.asarray(landscape.window.T, starts.dtype)

    def of_start(start: Array, key: Array | None) -> Trajectory:
        def step(state: TrainState, key: Array | None) -> tuple[TrainState, Array]:
            batch = jnp.zeros_like(start) if key is None else noise * jax.random.normal(key, start.shape, start.dtype)
            # A landscape has neither key nor augmentation.
            state, _ = train_step(state, batch, jnp.uint32(0), jnp.int32(0))
            return state, state.params

        keys = None if key is None else jax.random.split(key, iterations)
        _, after = jax.lax.scan(step, TrainState(start, optimizer.init(start)), keys, length=iterations)
        points = jnp.concatenate([start[None], after])
        values, gradients = jax.vmap(jax.value_and_grad(landscape.function))(points)
        finite = jnp.isfinite(points).all(axis=-1) & jnp.isfinite(values)
        # The last point before it gets beyond all numbers.
        last = jnp.maximum(jnp.cumprod(finite).sum() - 1, 0)
        outside = ((points[last] < low) | (points[last] > high)).any()
        higher, lower = values[last] > values[0], values[last] < values[0]
        return Trajectory(points, values, gradients, jnp.where(finite.all(), outside & higher, ~(outside & lower)))

    paths: Trajectory = jax.vmap(of_start)(starts, keys)
    return paths


def _objective(landscape: Landscape) -> Objective:
    return Objective(weak_handle(_noisy(weak_handle(landscape.function))))


@cached
def _noisy(function: Handle) -> Loss:
    """The landscape with a slope added, the batch: the gradient is that of the landscape and the batch."""

    def loss(point: Array, slope: Array) -> Float[Array, ""]:
        value: Array = function(point) + slope @ point
        return value

    return loss
