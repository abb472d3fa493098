"""Momentum around the steps of another optimizer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from momentum_jax._base.errors import InputError, check_integer
from momentum_jax.optimizers._core import (
    check_state,
    checked_gradients,
    checked_parameters,
    inner_optimizer,
    zeros_like,
)
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
    slow: PyTree[Array]
    """s, the parameters at which the inner steps since the last outer one began; 0 before the first step. It has their
    dtypes: rounded, it would be off by more than the way from it to the parameters."""
    velocity: PyTree[Array]
    """b. It has the structure and shapes of the parameters and does not include the outer learning rate."""


def outer_momentum(
    inner: optax.GradientTransformation,
    every: int | Int[Array, ""],
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
    and after an outer step the slow ones, which are then kept in the state as `slow`.

    - With K = 1 around `sgd` it is `nesterov` with the product of both learning rates.
    - With μ = 0 it is `optax.lookahead`, whose slow weights are a part of its parameters; with η = 1 too, the inner
      optimizer.

    Args:
      inner: an Optax transformation whose updates are added to the parameters, with its learning rate.
      every: K ≥ 1, the number of inner steps to one outer step.
      learning_rate: the outer learning rate η ≥ 0, a float, a scalar array (traced or not) or an `optax.Schedule` of
        the number of outer steps.
      momentum: μ in [0, 1), likewise.
      accumulator_dtype: the dtype of the velocity; None for that of the parameters.

    Returns:
      An Optax transformation, which takes what `inner` takes, and always `params`. Its updates have the dtypes of those
      of `inner`.

    Raises:
      InputError: `inner` is no transformation, a hyperparameter is out of its range or `every` is traced; from `init`
        and `update`, trees do not match, a leaf is not real floating-point or `params` is missing. The message names
        the path of the leaf.

    References:
      `SNOO: step-K Nesterov outer optimizer <https://arxiv.org/abs/2510.15830>`_, 2025; Douillard et al., `DiLoCo:
      distributed low-communication training of language models <https://arxiv.org/abs/2311.08105>`_, 2023.

    Examples:
      >>> import jax.numpy as jnp, momentum_jax as mj
      >>> optimizer = outer_momentum(mj.sgd(1.0), every=2, learning_rate=0.5, momentum=0.5)
      >>> params = jnp.array(0.0)
      >>> state = optimizer.init(params)
      >>> for _ in range(2):
      ...     updates, state = optimizer.update(jnp.array(1.0), state, params)
      ...     params = params + updates
      ...     print(params)  # −1, and in place of −2 it is −0.5·(2 + 0.5·2)
      -1.0
      -1.5
    """
    wrapped = inner_optimizer(inner)
    if isinstance(every, jax.core.Tracer):
        raise InputError(
            "every must be an integer of at least 1, not a traced array: optax.inject_hyperparams makes one of an "
            'integer that its static_args do not name: give static_args=("every",)'
        )
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
            slow=zeros_like(params, None),
            velocity=zeros_like(params, accumulator_dtype),
        )

    def update(
        updates: PyTree[Array], state: Any, params: PyTree[Array] | None = None, **extra_args: Any
    ) -> tuple[PyTree[Array], OuterMomentumState]:
        check_state(state, OuterMomentumState)
        if params is None:
            raise InputError("outer_momentum needs the parameters: call update(gradients, state, params)")
        grads = checked_gradients(updates, (state.velocity,), accumulator_dtype)
        fast = checked_parameters(params, grads)
        steps, inner_state = wrapped.update(grads, state.inner, params, **extra_args)
        check_match("gradient", grads, "update of inner", steps)
        eta, mu = at_count(learning_rate, state.outer_count), at_count(momentum, state.outer_count)
        slow = jax.tree.map(lambda s, f: jnp.where(state.inner_count == 0, f.astype(s.dtype), s), state.slow, fast)
        to_slow = linear((1, slow), (-1, fast))
        delta = linear((1, to_slow), (-1, steps))
        velocity = linear((mu, state.velocity), (1, delta))
        outer_step = linear((1, to_slow), (-eta, delta), (-eta * mu, velocity))
        ends = state.inner_count + 1 >= every

        def at_the_end(outer: PyTree[Array], otherwise: PyTree[Array]) -> PyTree[Array]:
            return jax.tree.map(lambda x, y: jnp.where(ends, x, y), cast_like(outer, otherwise), otherwise)

        return at_the_end(outer_step, steps), OuterMomentumState(
            inner=inner_state,
            inner_count=jnp.where(ends, 0, state.inner_count + 1),
            outer_count=jnp.where(ends, optax.safe_increment(state.outer_count), state.outer_count),
            slow=slow,
            velocity=at_the_end(velocity, state.velocity),
        )

    return optax.GradientTransformationExtraArgs(init, update)
