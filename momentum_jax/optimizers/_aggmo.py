"""Aggregated momentum."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from momentum_jax._base.errors import InputError, shown
from momentum_jax.optimizers._core import Core, outside, transformation, zeros_like
from momentum_jax.optimizers._hyperparameters import (
    ScalarOrSchedule,
    at_count,
    check_accumulator_dtype,
    check_hyperparameter,
)
from momentum_jax.optimizers._trees import linear
from momentum_jax.optimizers._weight_decay import with_weight_decay


class AggMoState(NamedTuple):
    """The state of `aggmo`."""

    count: Int[Array, ""]  # type: ignore[assignment]
    """The number of updates made so far; schedules are functions of it."""
    velocities: tuple[PyTree[Array], ...]
    """b of each beta. It has the structure and shapes of the parameters and does not include the learning rate."""


def _core(
    betas: Sequence[ScalarOrSchedule], weights: Sequence[ScalarOrSchedule] | None, accumulator_dtype: Any
) -> Core:
    if not isinstance(betas, tuple | list) or not betas:
        raise InputError(f"betas must be one or more numbers in a tuple or list, not {betas!r}")
    for i, beta in enumerate(betas):
        check_hyperparameter("betas", beta, f"betas[{i}]")
    factors = _checked_weights(weights, len(betas))
    check_accumulator_dtype(accumulator_dtype)

    def init(params: PyTree[Array]) -> AggMoState:
        return AggMoState(
            count=jnp.zeros([], jnp.int32), velocities=tuple(zeros_like(params, accumulator_dtype) for _ in betas)
        )

    def update(grads: PyTree[Array], state: AggMoState, params: Any) -> tuple[PyTree[Array], AggMoState]:
        del params
        if len(state.velocities) != len(betas):
            raise InputError(f"the state has {len(state.velocities)} velocities, and there are {len(betas)} betas")
        velocities = tuple(
            linear((at_count(beta, state.count), velocity), (1, grads))
            for beta, velocity in zip(betas, state.velocities, strict=True)
        )
        total = linear(*((at_count(w, state.count), b) for w, b in zip(factors, velocities, strict=True)))
        return total, state._replace(velocities=velocities)

    return Core(AggMoState, init, update, lambda state: state.velocities)


def _checked_weights(weights: Sequence[ScalarOrSchedule] | None, number: int) -> Sequence[ScalarOrSchedule]:
    """The weights of the velocities, by default those of their mean."""
    if weights is None:
        return (1 / number,) * number
    if not isinstance(weights, tuple | list) or len(weights) != number:
        raise InputError(
            f"weights must be None or one number for each of the {number} betas in a tuple or list, not "
            f"{shown(weights)}"
        )
    for i, weight in enumerate(weights):
        check_hyperparameter("weights", weight, f"weights[{i}]")
    return weights


def aggmo(
    learning_rate: ScalarOrSchedule,
    betas: Sequence[ScalarOrSchedule] = (0.0, 0.9, 0.99),
    *,
    weights: Sequence[ScalarOrSchedule] | None = None,
    weight_decay: ScalarOrSchedule | None = None,
    decoupled_weight_decay: bool = False,
    mask: PyTree[bool] | Any = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Aggregated momentum (AggMo): the mean, or another sum, of K velocities with different momenta.

    .. math::
      b^{(k)}_{t+1} = \beta^{(k)} b^{(k)}_t + g_t, \qquad
      p_{t+1} = p_t - \eta_t \sum_{k=1}^K w^{(k)} b^{(k)}_{t+1}, \qquad b^{(k)}_0 = 0

    With one velocity it is `momentum` with `convention="outside"`. The velocities of the paper are −b. The paper
    recommends β = 1 − 0.1^k for k = 0 … K − 1, and its weights w are 1/K.

    With the betas (0, β) and the weights (α, 1) it is simplified AdEMAMix (Morwani et al. 2025) on gradient descent:
    p ← p − η·(α·g + b). `optax.contrib.simplified_ademamix` has it with Adam's second moment.

    Args:
      learning_rate: η ≥ 0 (γ in the paper), a float, a scalar array (traced or not) or an `optax.Schedule`.
      betas: K values in [0, 1), each likewise, in a tuple or list.
      weights: K values w ≥ 0, each likewise, in a tuple or list; None for 1/K.
      weight_decay: ω ≥ 0, likewise, or None for 0. It is coupled by default: g ← g + ω·p before everything else.
      decoupled_weight_decay: add −η·ω·p to the update instead; the velocities do not contain the decay.
      mask: which parameters decay: booleans in a prefix of their tree, or a function from parameters to one.
      accumulator_dtype: the dtype of the velocities; None for that of the parameters.

    Returns:
      An Optax transformation. Its updates have the dtypes of the gradients. `update` needs `params` if weights decay.

    Raises:
      InputError: a hyperparameter is out of its range; from `init` and `update`, trees do not match or a leaf is not
        real floating-point. The message names the path of the leaf.

    References:
      Lucas, Sun, Zemel and Grosse, `Aggregated momentum: stability through passive damping
      <https://arxiv.org/abs/1804.00325>`_, 2019. Morwani et al., `Connections between schedule-free optimizers,
      AdEMAMix, and accelerated SGD variants <https://arxiv.org/abs/2502.02431>`_, 2025.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> optimizer = aggmo(1.0, betas=(0.0, 0.5))
      >>> params, grads = jnp.array(0.0), jnp.array(1.0)
      >>> state = optimizer.init(params)
      >>> for _ in range(2):
      ...     updates, state = optimizer.update(grads, state)
      ...     print(updates)  # minus the mean of 1 and 1, then of 1 and 1.5
      -1.0
      -1.25
    """
    check_hyperparameter("learning_rate", learning_rate)
    core = outside(_core(betas, weights, accumulator_dtype), learning_rate)
    core = with_weight_decay(core, learning_rate, weight_decay, decoupled_weight_decay, mask)
    return transformation(core, accumulator_dtype)


def scale_by_aggmo(
    betas: Sequence[ScalarOrSchedule] = (0.0, 0.9, 0.99),
    *,
    weights: Sequence[ScalarOrSchedule] | None = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""The rule of `aggmo` without the learning rate, for `optax.chain`.

    .. math::
      b^{(k)}_{t+1} = \beta^{(k)} b^{(k)}_t + g_t, \qquad u_t = \sum_{k=1}^K w^{(k)} b^{(k)}_{t+1}

    Args:
      betas: K values in [0, 1), each a float, a scalar array (traced or not) or an `optax.Schedule`.
      weights: K values w ≥ 0, each likewise; None for 1/K.
      accumulator_dtype: the dtype of the velocities; None for that of the parameters.

    Returns:
      An Optax transformation from gradients to u, in the dtypes of the gradients.

    Raises:
      InputError: as `aggmo`.

    References:
      As `aggmo`.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> optimizer = optax.chain(scale_by_aggmo((0.0, 0.5)), optax.scale_by_learning_rate(0.1))
      >>> params = jnp.array(1.0)
      >>> updates, state = optimizer.update(jnp.array(1.0), optimizer.init(params))
      >>> print(updates)
      -0.1
    """
    return transformation(_core(betas, weights, accumulator_dtype), accumulator_dtype)
