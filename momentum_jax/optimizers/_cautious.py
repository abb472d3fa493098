"""Cautious optimizers: any other, without the entries of its step that go uphill."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from momentum_jax._base.errors import InputError, shown
from momentum_jax.optimizers._core import checked_gradients, inner_optimizer
from momentum_jax.optimizers._hyperparameters import Scalar, check_hyperparameter
from momentum_jax.optimizers._trees import cast_like, check_match, linear


def cautious(inner: optax.GradientTransformation, *, xi: Scalar = 1.0) -> optax.GradientTransformationExtraArgs:
    r"""Any optimizer, without the entries of its step that do not go against the gradient.

    .. math::
      \phi = \mathbb{1}[u \cdot g < 0], \qquad
      p \leftarrow p + \frac{d}{\sum \phi + \xi} \, \phi \cdot u

    u is what `inner` would add to the parameters and g the gradient, entry by entry. The entries that remain are scaled
    up, in each array of the parameters by its own number of entries d and of those that remain, Σφ.

    ξ = 1 is the paper's formula, with which an array of one entry moves half as far. ξ = 0 divides by the mean of φ, as
    the authors' code does, which takes a mean below 0.001 for 0.001.

    Weight decay inside of `inner` is part of u. For decay that is never left out put `optax.add_decayed_weights` after
    this in a chain.

    Args:
      inner: an Optax transformation whose updates are added to the parameters, with its learning rate.
      xi: ξ ≥ 0, a float or a scalar array (traced or not).

    Returns:
      An Optax transformation with the state of `inner`, which takes what `inner` takes. Its updates have the dtypes of
      those of `inner`.

    Raises:
      InputError: `inner` is no transformation or ξ is out of its range; from `update`, a gradient is not real
        floating-point or does not match the update of `inner`. The message names the path of the leaf.

    References:
      Liang, Chen, Liu and Liu, `Cautious optimizers: improving training with one line of code
      <https://arxiv.org/abs/2411.16085>`_, 2024.

    Examples:
      >>> import jax.numpy as jnp, momentum_jax as mj
      >>> optimizer = cautious(mj.momentum(0.5, 0.5))
      >>> params = jnp.array([1.0, 1.0])
      >>> _, state = optimizer.update(jnp.array([1.0, 1.0]), optimizer.init(params))
      >>> print(optimizer.update(jnp.array([1.0, -0.25]), state)[0])  # without caution [-0.75 -0.125]
      [-0.75 -0.  ]
    """
    wrapped = inner_optimizer(inner)
    if callable(xi):
        raise InputError(f"xi must be a number, not the schedule {shown(xi)}")
    check_hyperparameter("xi", xi)

    def descending(u: Array, g: Array) -> Array:
        goes_down = ((u < 0) & (g > 0)) | ((u > 0) & (g < 0))
        divisor = jnp.sum(goes_down, dtype=float) + jnp.asarray(xi, float)
        scale = goes_down.size / jnp.where(divisor > 0, divisor, 1)
        # A product and no selection: what is not finite must not look like an entry that was left out.
        scaled: Array = linear((scale, u * goes_down.astype(u.dtype)))
        return scaled

    def update(
        updates: PyTree[Array], state: Any, params: PyTree[Array] | None = None, **extra_args: Any
    ) -> tuple[PyTree[Array], Any]:
        grads = checked_gradients(updates, (), None)
        steps, new_state = wrapped.update(grads, state, params, **extra_args)
        check_match("gradient", grads, "update of inner", steps)
        return cast_like(jax.tree.map(descending, steps, grads), steps), new_state

    return optax.GradientTransformationExtraArgs(wrapped.init, update)
