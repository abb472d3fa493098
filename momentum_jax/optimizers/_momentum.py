"""Classical momentum, the heavy ball, and Nesterov's variant of it as one rule with two readings."""

from typing import Any, Literal, NamedTuple, TypeAlias

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from momentum_jax.optimizers._core import Core, inside, outside, transformation, zeros_like
from momentum_jax.optimizers._hyperparameters import (
    ScalarOrSchedule,
    at_count,
    check_accumulator_dtype,
    check_choice,
    check_hyperparameter,
    is_zero,
)
from momentum_jax.optimizers._trees import linear
from momentum_jax.optimizers._weight_decay import with_weight_decay

Convention = Literal["inside", "outside", "corrected"]


class MomentumState(NamedTuple):
    """State of `momentum` and `nesterov`."""

    count: Int[Array, ""]  # type: ignore[assignment]
    """Updates made so far, for schedules and for the first step of a dampened velocity."""
    velocity: PyTree[Array]
    """v of the convention "inside", which includes the learning rate; b of "outside", which does not. It has the
    structure and shapes of the parameters, and their dtypes or the `accumulator_dtype`."""


class CorrectedMomentumState(NamedTuple):
    """State of `momentum` and `nesterov` with `convention="corrected"`."""

    count: Int[Array, ""]  # type: ignore[assignment]
    """Updates made so far."""
    velocity: PyTree[Array]
    """v, which includes the learning rate of the last update."""
    learning_rate: Float[Array, ""]
    """That of the last update; 0 before the first."""


VelocityState: TypeAlias = MomentumState | CorrectedMomentumState


def velocity_core(
    momentum: ScalarOrSchedule, dampening: ScalarOrSchedule, accumulator_dtype: Any, *, nesterov: bool
) -> Core:
    """The rule v ← m·v + (1 − d)·g, the first time and where m = 0 v ← g; the update is v, with Nesterov m·v + g.

    Raises:
      InputError: a concrete hyperparameter that is out of its range.
    """
    check_hyperparameter("momentum", momentum)
    check_hyperparameter("dampening", dampening)
    check_accumulator_dtype(accumulator_dtype)

    def init(params: PyTree[Array]) -> MomentumState:
        return MomentumState(count=jnp.zeros([], jnp.int32), velocity=zeros_like(params, accumulator_dtype))

    def update(
        grads: PyTree[Array], state: VelocityState, params: Any, correction: Any = 1
    ) -> tuple[PyTree[Array], VelocityState]:
        del params
        m = jnp.asarray(at_count(momentum, state.count), float)
        gain: Any = 1
        if not is_zero(dampening):
            # PyTorch keeps no velocity at all where the momentum is 0.
            gain = jnp.where((state.count == 0) | (m == 0), 1, 1 - jnp.asarray(at_count(dampening, state.count), float))
        velocity = linear((m * correction, state.velocity), (gain, grads))
        updates = linear((m, velocity), (1, grads)) if nesterov else velocity
        return updates, state._replace(velocity=velocity)

    return Core(MomentumState, init, update, lambda state: (state.velocity,))


def corrected(core: Core, learning_rate: ScalarOrSchedule) -> Core:
    """The rate inside, and the velocity rescaled when the rate changes: v ← m·(η_t/η_{t−1})·v − η_t·g.

    After a rate of 0 the velocity is 0, and so it stays whatever the ratio: it is taken as 0.
    """

    def init(params: PyTree[Array]) -> CorrectedMomentumState:
        state: MomentumState = core.init(params)
        return CorrectedMomentumState(state.count, state.velocity, learning_rate=jnp.zeros([], float))

    def update(
        grads: PyTree[Array], state: CorrectedMomentumState, params: Any
    ) -> tuple[PyTree[Array], CorrectedMomentumState]:
        eta, before = jnp.asarray(at_count(learning_rate, state.count), float), state.learning_rate
        ratio = jnp.where(before > 0, eta / jnp.where(before > 0, before, 1), 0)
        updates, new_state = core.update(linear((-eta, grads)), state, params, correction=ratio)
        return updates, new_state._replace(learning_rate=eta)

    return core._replace(state=CorrectedMomentumState, init=init, update=update)


_CONVENTIONS = {"inside": inside, "outside": outside, "corrected": corrected}


def velocity_method(
    learning_rate: ScalarOrSchedule,
    core: Core,
    convention: str,
    weight_decay: ScalarOrSchedule | None,
    decoupled_weight_decay: bool,
    mask: Any,
    accumulator_dtype: Any,
) -> optax.GradientTransformationExtraArgs:
    """The core with the learning rate where the convention has it, and weight decay."""
    check_hyperparameter("learning_rate", learning_rate)
    check_choice("convention", convention)
    core = _CONVENTIONS[convention](core, learning_rate)
    core = with_weight_decay(core, learning_rate, weight_decay, decoupled_weight_decay, mask)
    return transformation(core, accumulator_dtype)


def momentum(
    learning_rate: ScalarOrSchedule,
    momentum: ScalarOrSchedule = 0.9,
    *,
    dampening: ScalarOrSchedule = 0.0,
    convention: Convention = "inside",
    weight_decay: ScalarOrSchedule | None = None,
    decoupled_weight_decay: bool = False,
    mask: PyTree[bool] | Any = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Momentum as the tutorial writes it: the heavy ball, with the learning rate inside the velocity.

    .. math::
      v_{t+1} = m_t v_t - \eta_t g_t, \qquad p_{t+1} = p_t + v_{t+1}, \qquad v_0 = 0

    With `convention="outside"`, as in Optax and PyTorch,

    .. math::
      b_{t+1} = m_t b_t + g_t, \qquad p_{t+1} = p_t - \eta_t b_{t+1}, \qquad b_0 = 0

    and with `convention="corrected"` inside with the velocity rescaled at each change of the rate,

    .. math::
      v_{t+1} = m_t \frac{\eta_t}{\eta_{t-1}} v_t - \eta_t g_t, \qquad p_{t+1} = p_t + v_{t+1}.

    At a constant rate the three give the same iterates. Under a schedule the last two do, as long as the rate is
    positive, and the first differs: there a step down of the rate slows what is already in flight only as fast as m
    forgets it. A rate of 0 erases the corrected velocity: it starts again from 0 (outside does not).

    Args:
      learning_rate: η ≥ 0, a float, a scalar array (traced or not) or an `optax.Schedule`.
      momentum: m in [0, 1), likewise.
      dampening: d in [0, 1], likewise: gradients enter the velocity with the factor 1 − d, except the first, as in
        PyTorch; no effect where m = 0. (An average that starts from 0, without this exception, is `qhm` with nu=1.)
      convention: "inside", "outside" or "corrected".
      weight_decay: ω ≥ 0, likewise, or None for 0; coupled, g ← g + ω·p before all else.
      decoupled_weight_decay: instead p ← p − η·ω·p beside the step, the velocity untouched. Scaled by the whole rate,
        as AdamW in Optax and PyTorch: the λ of SGDW's paper is ω times the rate without its schedule.
      mask: which parameters decay: a prefix of their tree with booleans, or a function that makes one of them.
      accumulator_dtype: of the velocity, if not that of the parameters, such as "float32" for bfloat16 parameters.
        Arithmetic is in float32 at least.

    Returns:
      A transformation whose updates have the dtypes of the gradients. Updates need `params` for weight decay only.

    Raises:
      InputError: a concrete hyperparameter that is out of its range; from `init` and `update`, trees that do not
        match and leaves that are not real floating-point, by path.

    References:
      Polyak, `Some methods of speeding up the convergence of iteration methods
      <https://doi.org/10.1016/0041-5553(64)90137-5>`_, 1964; Rumelhart et al., `Learning representations by
      back-propagating errors <https://doi.org/10.1038/323533a0>`_, 1986; Goyal et al., `1706.02677
      <https://arxiv.org/abs/1706.02677>`_, remark 2, for the correction; Loshchilov and Hutter,
      `1711.05101 <https://arxiv.org/abs/1711.05101>`_, algorithm 1, for decoupled weight decay.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> optimizer = momentum(0.5, 0.5)
      >>> params, grads = jnp.array(1.0), jnp.array(1.0)
      >>> state = optimizer.init(params)
      >>> for _ in range(3):
      ...     updates, state = optimizer.update(grads, state)
      ...     params = optax.apply_updates(params, updates)
      ...     print(params)
      0.5
      -0.25
      -1.125
    """
    core = velocity_core(momentum, dampening, accumulator_dtype, nesterov=False)
    return velocity_method(
        learning_rate, core, convention, weight_decay, decoupled_weight_decay, mask, accumulator_dtype
    )


def scale_by_momentum(
    momentum: ScalarOrSchedule = 0.9, *, dampening: ScalarOrSchedule = 0.0, accumulator_dtype: Any = None
) -> optax.GradientTransformationExtraArgs:
    r"""The velocity of `momentum` alone, for a chain of one's own.

    .. math::
      b_{t+1} = m_t b_t + (1 - d_t) g_t, \qquad b_1 = g_0

    and b = g where m = 0, as in PyTorch.

    `optax.scale_by_learning_rate` after it gives `momentum` with the convention "outside", before it "inside".

    Args:
      momentum: m in [0, 1), a float, a scalar array (traced or not) or an `optax.Schedule`.
      dampening: d in [0, 1], likewise.
      accumulator_dtype: of b, if not that of the parameters.

    Returns:
      A transformation from gradients to b, in the dtypes of the gradients.

    Raises:
      InputError: as `momentum`.

    References:
      As `momentum`.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> optimizer = optax.chain(scale_by_momentum(0.5), optax.scale_by_learning_rate(0.1))
      >>> params = jnp.array(1.0)
      >>> updates, state = optimizer.update(jnp.array(1.0), optimizer.init(params))
      >>> print(updates)
      -0.1
    """
    core = velocity_core(momentum, dampening, accumulator_dtype, nesterov=False)
    return transformation(core, accumulator_dtype)
