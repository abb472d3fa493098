"""Nesterov's method with adaptive restart."""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from momentum_jax._base.errors import InputError, check_choice
from momentum_jax.optimizers._core import Core, transformation, zeros_like
from momentum_jax.optimizers._hyperparameters import (
    CHOICES,
    ScalarOrSchedule,
    at_count,
    check_accumulator_dtype,
    check_hyperparameter,
)
from momentum_jax.optimizers._trees import cast_like, inner_product, linear


class AdaptiveRestartState(NamedTuple):
    """The state of `adaptive_restart`."""

    count: Int[Array, ""]  # type: ignore[assignment]
    """The number of updates made so far; schedules are functions of it. A restart does not reset it."""
    theta: Float[Array, ""]
    """θ: 1 at the start and after a restart."""
    lookahead: PyTree[Array]
    """y − x. The parameters are y of the paper; the parameters minus this are x."""
    value: Float[Array, ""]
    """f(x) at the last step with `scheme="function"`, infinite before it; always infinite with "gradient"."""


def adaptive_restart(
    learning_rate: ScalarOrSchedule,
    q: ScalarOrSchedule = 0.0,
    *,
    scheme: Literal["gradient", "function"] = "gradient",
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Nesterov's method with adaptive restart: the momentum grows, and is reset when a step goes uphill.

    The parameters are y, the points where gradients are taken:

    .. math::
      x_{t+1} &= y_t - \eta_t g_t \\
      \theta_{t+1}^2 &= (1 - \theta_{t+1}) \theta_t^2 + q \theta_{t+1}, \qquad
      \beta_{t+1} = \theta_t (1 - \theta_t) / (\theta_t^2 + \theta_{t+1}) \\
      y_{t+1} &= x_{t+1} + \beta_{t+1} (x_{t+1} - x_t), \qquad \theta_0 = 1, \quad y_0 = x_0

    A restart sets :math:`\theta_{t+1} = 1` and :math:`y_{t+1} = x_{t+1}`. The scheme decides when:

    - "gradient": if :math:`\langle g_t, x_{t+1} - x_t \rangle > 0`, that is, if the step went uphill.
    - "function": if :math:`f(x_{t+1}) > f(x_t)`. It evaluates f once more in each step, by the argument `value_fn` of
      `update`. Use it with full batches only: on mini-batches f is another function in each step.

    Apply the updates unchanged. If a later transformation of a chain rescales them, the parameters are no longer y.
    One restart decision is made for all parameters. Inside `shard_map` each device therefore needs all of them;
    parameters that are sharded under `jit` need no care.

    Args:
      learning_rate: η ≥ 0, a float, a scalar array (traced or not) or an `optax.Schedule`. Use 1/L if the gradient has
        the Lipschitz constant L.
      q: in [0, 1], likewise. The momentum grows towards (1 − √q)/(1 + √q). Use μ/L if f is μ-strongly convex; 1 is
        gradient descent.
      scheme: "gradient" or "function".
      accumulator_dtype: the dtype of y − x; None for that of the parameters.

    Returns:
      An Optax transformation. Its updates have the dtypes of the gradients. With `scheme="function"`, call
      `update(grads, state, params, value_fn=f)`; f is given None where the gradient is None.

    Raises:
      InputError: a hyperparameter is out of its range; from `init` and `update`, trees do not match, a leaf is not
        real floating-point, or `params` or `value_fn` is missing.

    References:
      O'Donoghue and Candès, `Adaptive restart for accelerated gradient schemes
      <https://arxiv.org/abs/1204.3982>`_, 2012.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> optimizer = adaptive_restart(0.1)
      >>> params = jnp.array([1.0, 10.0])
      >>> state = optimizer.init(params)
      >>> for _ in range(200):
      ...     updates, state = optimizer.update(jnp.array([1.0, 0.1]) * params, state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> bool(jnp.abs(params).max() < 1e-3)
      True
    """
    check_hyperparameter("learning_rate", learning_rate)
    check_hyperparameter("q", q)
    check_choice("scheme", scheme, CHOICES["scheme"])
    check_accumulator_dtype(accumulator_dtype)

    def init(params: PyTree[Array]) -> AdaptiveRestartState:
        return AdaptiveRestartState(
            count=jnp.zeros([], jnp.int32),
            theta=jnp.ones([], float),
            lookahead=zeros_like(params, accumulator_dtype),
            value=jnp.full([], jnp.inf, float),
        )

    def update(
        grads: PyTree[Array], state: AdaptiveRestartState, params: Any, value_fn: Any = None
    ) -> tuple[PyTree[Array], AdaptiveRestartState]:
        descent = linear((-at_count(learning_rate, state.count), grads))
        step = linear((1, state.lookahead), (1, descent))
        value = state.value
        if scheme == "gradient":
            uphill = inner_product(grads, step) > 0
        else:
            if params is None or value_fn is None:
                raise InputError('scheme="function" needs update(gradients, state, params, value_fn=f)')
            value = _scalar(value_fn(cast_like(linear((1, params), (1, descent)), params)))
            uphill = value > state.value
        theta, rate = state.theta, jnp.asarray(at_count(q, state.count), float)
        new_theta = (rate - theta**2 + jnp.sqrt((rate - theta**2) ** 2 + 4 * theta**2)) / 2
        beta = jnp.where(uphill, 0, theta * (1 - theta) / (theta**2 + new_theta))
        lookahead = linear((beta, step))
        new_state = state._replace(theta=jnp.where(uphill, 1, new_theta), lookahead=lookahead, value=value)
        return linear((1, descent), (1, lookahead)), new_state

    core = Core(AdaptiveRestartState, init, update, lambda state: (state.lookahead,), extra_args=("value_fn",))
    return transformation(core, accumulator_dtype)


def _scalar(value: Any) -> Float[Array, ""]:
    try:
        scalar = jnp.asarray(value, float)
    except (TypeError, ValueError):
        raise InputError(f"value_fn must give a number, not {value!r}") from None
    if scalar.ndim:
        raise InputError(f"value_fn must give a scalar, not an array of shape {scalar.shape}")
    return scalar
