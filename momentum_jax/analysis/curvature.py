r"""The curvature that mini-batches and single examples of a task have, and the learning rates that it allows.

A mini-batch B has the gradient g_B and the Hessian H_B. Training with mini-batches hovers where their *batch sharpness*
meets a limit, the mean curvature along their own gradients. Training with the full batch hovers where the sharpness
meets one.

The spread of the examples' curvatures along the sharpest direction says up to which batch size momentum is worthless:
see `momentum_jax.analysis.noise`.

>>> from momentum_jax.analysis import curvature
>>> def loss(params, rows):
...     return jnp.mean(rows * params**2) / 2
>>> rows = jnp.array([1.0, 3.0])  # each example is a parabola; the curvatures are 1 and 3
>>> predicted = curvature.predict_rates(loss, jnp.ones([]), rows, [1, 2], 0.9, jax.random.key(0))
>>> print(predicted.curvature, predicted.example_variance, predicted.crossover.round(2))
2.0 1.0 4.75
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key, PyTree

from momentum_jax._base.errors import InputError, check_integer, check_key, check_real
from momentum_jax.analysis.noise import (
    heavy_ball_crossover_batch,
    heavy_ball_mean_square_limit,
    nesterov_crossover_batch,
    nesterov_mean_square_limit,
)
from momentum_jax.analysis.sharpness import Loss, top_eigenvector


class BatchSharpness(NamedTuple):
    """The mean and the variance over mini-batches of the curvature along their gradients."""

    mean: Float[Array, ""]
    variance: Float[Array, ""]


class PredictedRates(NamedTuple):
    """The largest learning rates that are stable in mean square along the sharpest direction.

    Attributes:
      curvature: λ, the mean over the examples of the curvature along the sharpest direction.
      example_variance: σ_λ², its variance over the examples.
      batch_sizes: those asked for.
      gradient_descent: the limit for each batch size without momentum.
      heavy_ball: the same with the heavy ball.
      nesterov: the same with Nesterov.
      crossover: the batch size at which the heavy ball's limit is half of that of the full batch. Well below it
        momentum stands no larger effective learning rate than gradient descent.
      nesterov_crossover: the same of Nesterov.
    """

    curvature: Float[Array, ""]
    example_variance: Float[Array, ""]
    batch_sizes: Int[Array, " sizes"]
    gradient_descent: Float[Array, " sizes"]
    heavy_ball: Float[Array, " sizes"]
    nesterov: Float[Array, " sizes"]
    crossover: Float[Array, ""]
    nesterov_crossover: Float[Array, ""]


def batch_sharpness(
    loss: Loss, params: PyTree[Any], data: PyTree[Any], key: Key[Array, ""], *, batch_size: int, batches: int = 32
) -> BatchSharpness:
    r"""The curvature of mini-batches along their own gradients.

    .. math::
      \operatorname{E}_B\left[\frac{g_B^\top H_B\, g_B}{\|g_B\|^2}\right]

    It is the mean of the ratios, each with the gradient and the Hessian of the same batch. For the full batch it is the
    curvature along the gradient, at most the sharpness. Batches whose gradient is zero are left out. Memory is that of
    one batch.

    Args:
      loss: from parameters and data to the mean loss over the examples.
      params: pytree of floating-point arrays.
      data: pytree of arrays [examples, …].
      key: for the batches, whose examples are drawn without replacement.
      batch_size: examples in a batch, at most all.
      batches: how many are drawn.

    Returns:
      Mean and variance; NaN where every gradient is zero.

    Raises:
      InputError: a size is out of range, or the key is no JAX random key.

    References:
      Andreyev and Beneventano, `Edge of stochastic stability <https://arxiv.org/abs/2412.20553>`_, 2024; with momentum:
      Andreyev et al., `Momentum further constrains sharpness at the edge of stochastic stability
      <https://arxiv.org/abs/2604.14108>`_, 2026.

    >>> loss = lambda params, rows: jnp.mean(rows * params**2) / 2
    >>> found = batch_sharpness(loss, jnp.ones([]), jnp.array([1.0, 3.0]), jax.random.key(0), batch_size=2)
    >>> print(found.mean, found.variance)
    2.0 0.0
    """
    check_key(key)
    examples = jax.tree.leaves(data)[0].shape[0]
    check_integer("batch_size", batch_size, 1, examples)
    check_integer("batches", batches, 1)

    def along_gradient(key: Key[Array, ""]) -> Float[Array, ""]:
        rows = jax.random.choice(key, examples, (batch_size,), replace=False)
        batch = jax.tree.map(lambda leaf: jnp.take(leaf, rows, axis=0), data)
        gradient = jax.grad(loss)
        g = gradient(params, batch)
        curvature: Array = optax.tree.vdot(g, jax.jvp(lambda p: gradient(p, batch), (params,), (g,))[1])
        squared: Array = optax.tree.vdot(g, g)
        return curvature / squared

    ratios = jax.lax.map(along_gradient, jax.random.split(key, batches))
    return BatchSharpness(jnp.nanmean(ratios), jnp.nanvar(ratios))


def directional_curvatures(
    loss: Loss, params: PyTree[Any], data: PyTree[Any], direction: PyTree[Any], *, slice_size: int = 1000
) -> Float[Array, " examples"]:
    """The curvature uᵀH_i·u of every single example i along one direction u.

    Memory is that of a slice of examples.

    Args:
      loss: from parameters and data to the mean loss over the examples.
      params: pytree of floating-point arrays.
      data: pytree of arrays [examples, …].
      direction: u, a pytree like the parameters. Its length counts: give one of length 1.
      slice_size: examples in a slice.

    >>> loss = lambda params, rows: jnp.mean(rows * params**2) / 2
    >>> print(directional_curvatures(loss, jnp.ones([]), jnp.array([1.0, 3.0]), jnp.ones([])))
    [1. 3.]
    """
    direction = jax.tree.map(lambda u, leaf: jnp.asarray(u, leaf.dtype), direction, params)

    def of_example(example: PyTree[Any]) -> Float[Array, ""]:
        def loss_of(params: PyTree[Any]) -> Float[Array, ""]:
            return loss(params, jax.tree.map(lambda leaf: leaf[None], example))

        def slope(params: PyTree[Any]) -> Float[Array, ""]:
            along: Array = jax.jvp(loss_of, (params,), (direction,))[1]
            return along

        curvature: Array = jax.jvp(slope, (params,), (direction,))[1]
        return curvature

    curvatures: Array = jax.lax.map(of_example, data, batch_size=slice_size)
    return curvatures


def predict_rates(
    loss: Loss,
    params: PyTree[Any],
    data: PyTree[Any],
    batch_sizes: Sequence[int],
    momentum: ArrayLike,
    key: Key[Array, ""],
    *,
    slice_size: int = 1000,
) -> PredictedRates:
    """Predicts the largest workable learning rate of each batch size from the examples' curvatures.

    The network is taken for a parabola along the top eigenvector u of the full batch's Hessian. A batch of B examples
    has a curvature of mean λ = mean(uᵀH_i·u) there, and of variance σ_λ²/B if its examples are drawn with replacement,
    as a config's default sampling does. So the limits are those of `noise.heavy_ball_mean_square_limit` and
    `noise.nesterov_mean_square_limit`. How near the prediction comes to a network is an open question: hold it against
    what you measure.

    Args:
      loss: from parameters and data to the mean loss over the examples.
      params: pytree of floating-point arrays, where the curvature is measured.
      data: pytree of arrays [examples, …].
      batch_sizes: B.
      momentum: β in [0, 1).
      key: for the start of Lanczos's method.
      slice_size: examples in a slice, which bounds the memory.

    Returns:
      The prediction; all rates are NaN where λ ≤ 0, on a saddle.

    Raises:
      InputError: a batch size is less than 1, the momentum is not in [0, 1), or the key is no JAX random key.
      ValueError: as `sharpness.top_eigenvalues`.
    """
    if not len(batch_sizes):
        raise InputError("batch_sizes must hold at least one batch size, such as [32]")
    for size in batch_sizes:
        check_integer("batch_sizes", size, 1)
    if not isinstance(momentum, jax.core.Tracer):
        check_real("momentum", momentum, 0, 1, below_high=True)
    direction = top_eigenvector(loss, params, data, key, slice_size=slice_size)
    curvatures = directional_curvatures(loss, params, data, direction, slice_size=slice_size)
    mean, variance = curvatures.mean(), curvatures.var()
    convex = jnp.where(mean > 0, mean, jnp.nan)
    sizes = jnp.asarray(batch_sizes)
    of_batch = variance / sizes.astype(variance.dtype)
    beta = jnp.asarray(momentum, mean.dtype)
    return PredictedRates(
        mean,
        variance,
        sizes,
        heavy_ball_mean_square_limit(jnp.zeros_like(beta), convex, of_batch),
        heavy_ball_mean_square_limit(beta, convex, of_batch),
        nesterov_mean_square_limit(beta, convex, of_batch),
        heavy_ball_crossover_batch(beta, convex, variance),
        nesterov_crossover_batch(beta, convex, variance),
    )
