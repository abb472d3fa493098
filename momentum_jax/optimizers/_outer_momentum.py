"""Momentum around the steps of another optimizer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from momentum_jax._base.errors import check_integer
from momentum_jax.optimizers._core import check_state, checked_gradients, inner_optimizer, zeros_like
from momentum_jax.optimizers._hyperparameters import (
    ScalarOrSchedule,
    at_count,
    check_accumulator_dtype,
    check_hyperparameter,
)
from momentum_jax.optimizers._trees import cast_like, check_floating, check_match, linear


class OuterMomentumState(NamedTuple):
    """The state of `outer_momentum`."""

    inner: Any
    """The state of the inner optimizer."""
    inner_count: Int[Array, ""]
    """The number of inner steps since the last outer one."""
    outer_count: Int[Array, ""]
    """The number of outer steps made so far; schedules are functions of it."""
    displacement: PyTree[Array]
    """What the inner steps since the last outer one add up to. The parameters minus this are the slow weights."""
    velocity: PyTree[Array]
    """b. It has the structure and shapes of the parameters and does not include the outer learning rate."""


def outer_momentum(
    inner: optax.GradientTransformation,
    every: int,
    learning_rate: ScalarOrSchedule = 0.7,
    momentum: ScalarOrSchedule = 0.9,
    *,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Nesterov momentum on the way that any optimizer makes in K steps (SNOO; DiLoCo with one worker).

    From the slow weights s the inner optimizer makes K steps to the fast weights f. Then the outer step is

    .. math::
      \Delta = s_t - f, \qquad b_{t+1} = \mu b_t + \Delta, \qquad
      s_{t+1} = s_t - \eta (\Delta + \mu b_{t+1}), \qquad b_0 = 0

    and the next inner steps begin at s. The state of the inner optimizer goes on. The parameters are the fast weights,
    and after an outer step the slow ones; at any time the slow ones are the parameters minus `displacement` of the
    state.

    - With K = 1 around `sgd` it is `nesterov` with the product of both learning rates.
    - With μ = 0 it is `optax.lookahead` without its second copy of the parameters; with η = 1 too, the inner optimizer.

    Apply the updates unchanged, or the slow weights are others.

    Args:
      inner: an Optax transformation whose updates are added to the parameters, with its learning rate.
      every: K ≥ 1, the number of inner steps to one outer step.
      learning_rate: the outer learning rate η ≥ 0, a float, a scalar array (traced or not) or an `optax.Schedule` of
        the number of outer steps.
      momentum: μ in [0, 1), likewise.
      accumulator_dtype: the dtype of the displacement and the velocity; None for that of the parameters.

    Returns:
      An Optax transformation, which takes what `inner` takes. Its updates have the dtypes of those of `inner`.

    Raises:
      InputError: `inner` is no transformation or a hyperparameter is out of its range; from `init` and `update`, trees
        do not match or a leaf is not real floating-point. The message names the path of the leaf.

    References:
      `SNOO: step-K Nesterov outer optimizer <https://arxiv.org/abs/2510.15830>`_, 2025; Douillard et al., `DiLoCo:
      distributed low-communication training of language models <https://arxiv.org/abs/2311.08105>`_, 2023.

    Examples:
      >>> import jax.numpy as jnp, momentum_jax as mj
      >>> optimizer = outer_momentum(mj.sgd(1.0), every=2, learning_rate=0.5, momentum=0.5)
      >>> params = jnp.array(0.0)
      >>> state = optimizer.init(params)
      >>> for _ in range(2):
      ...     updates, state = optimizer.update(jnp.array(1.0), state)
      ...     print(updates)  # to −1, and in place of −2 to −0.5·(2 + 0.5·2)
      -1.0
      -0.5
    """
    wrapped = inner_optimizer(inner)
    check_integer("every", every, 1)
    check_hyperparameter("learning_rate", learning_rate)
    check_hyperparameter("momentum", momentum)
    check_accumulator_dtype(accumulator_dtype)

    def init(params: PyTree[Array]) -> OuterMomentumState:
        check_floating("parameter", params)
        return OuterMomentumState(
            inner=wrapped.init(params),
            inner_count=jnp.zeros([], jnp.int32),
            outer_count=jnp.zeros([], jnp.int32),
            displacement=zeros_like(params, accumulator_dtype),
            velocity=zeros_like(params, accumulator_dtype),
        )

    def update(
        updates: PyTree[Array], state: Any, params: PyTree[Array] | None = None, **extra_args: Any
    ) -> tuple[PyTree[Array], OuterMomentumState]:
        check_state(state, OuterMomentumState)
        grads = checked_gradients(updates, (state.displacement, state.velocity), accumulator_dtype)
        steps, inner_state = wrapped.update(grads, state.inner, params, **extra_args)
        check_match("gradient", grads, "update of inner", steps)
        eta, mu = at_count(learning_rate, state.outer_count), at_count(momentum, state.outer_count)
        displacement = linear((1, state.displacement), (1, steps))
        velocity = linear((mu, state.velocity), (-1, displacement))
        to_slow = linear((-1, state.displacement), (eta, displacement), (-eta * mu, velocity))
        ends = state.inner_count + 1 >= every

        def at_the_end(outer: PyTree[Array], otherwise: PyTree[Array]) -> PyTree[Array]:
            return jax.tree.map(lambda x, y: jnp.where(ends, x, y), cast_like(outer, otherwise), otherwise)

        displacement = cast_like(displacement, state.displacement)
        return at_the_end(to_slow, steps), OuterMomentumState(
            inner=inner_state,
            inner_count=jnp.where(ends, 0, state.inner_count + 1),
            outer_count=jnp.where(ends, optax.safe_increment(state.outer_count), state.outer_count),
            displacement=at_the_end(jax.tree.map(jnp.zeros_like, displacement), displacement),
            velocity=at_the_end(velocity, state.velocity),
        )

    return optax.GradientTransformationExtraArgs(init, update)
