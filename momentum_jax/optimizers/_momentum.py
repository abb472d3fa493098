"""Classical momentum (the heavy ball), and the velocity that it shares with Nesterov momentum."""

from typing import Any, Literal, NamedTuple, TypeAlias

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from momentum_jax._base.errors import check_choice
from momentum_jax.optimizers._core import Core, inside, outside, transformation, zeros_like
from momentum_jax.optimizers._hyperparameters import (
    CHOICES,
    ScalarOrSchedule,
    at_count,
    check_accumulator_dtype,
    check_hyperparameter,
    is_zero,
)
from momentum_jax.optimizers._trees import linear
from momentum_jax.optimizers._weight_decay import with_weight_decay

VelocityConvention = Literal["inside", "outside", "corrected"]
"""Whether the velocity includes the learning rate; `momentum` has the formulas."""


class MomentumState(NamedTuple):
    """The state of `momentum` and `nesterov` with `convention="inside"` or "outside"."""

    count: Int[Array, ""]  # type: ignore[assignment]
    """The number of updates made so far; schedules are functions of it, and the first gradient is not dampened."""
    velocity: PyTree[Array]
    """v, which includes the learning rate, with "inside"; b, which does not, with "outside". It has the structure and
    shapes of the parameters, and their dtypes or `accumulator_dtype`."""


class CorrectedMomentumState(NamedTuple):
    """The state of `momentum` and `nesterov` with `convention="corrected"`."""

    count: Int[Array, ""]  # type: ignore[assignment]
    """The number of updates made so far."""
    velocity: PyTree[Array]
    """v, which includes the learning rate of the last update."""
    learning_rate: Float[Array, ""]
    """The learning rate of the last update; 0 before the first."""


VelocityState: TypeAlias = MomentumState | CorrectedMomentumState


def velocity_core(
    momentum: ScalarOrSchedule, dampening: ScalarOrSchedule, accumulator_dtype: Any, *, nesterov: bool
) -> Core:
    """The rule of momentum and Nesterov momentum on gradients g, without a learning rate.

    v ← m·v + (1 − d)·g, without the factor 1 − d at the first update and where m = 0. The update is v, or m·v + g if
    `nesterov`.

    Raises:
      InputError: a hyperparameter is out of its range.
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
            # PyTorch has no velocity, and so no dampening, where the momentum is 0.
            gain = jnp.where((state.count == 0) | (m == 0), 1, 1 - jnp.asarray(at_count(dampening, state.count), float))
        velocity = linear((m * correction, state.velocity), (gain, grads))
        updates = linear((m, velocity), (1, grads)) if nesterov else velocity
        return updates, state._replace(velocity=velocity)

    return Core(MomentumState, init, update, lambda state: (state.velocity,))


def corrected(core: Core, learning_rate: ScalarOrSchedule) -> Core:
    """The rule on −η·g, with the velocity rescaled when η changes: v ← m·(η_t/η_{t−1})·v − η_t·g.

    After a learning rate of 0 the velocity is 0, and the ratio, which has no effect then, is set to 0.
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


_APPLY_LEARNING_RATE = {"inside": inside, "outside": outside, "corrected": corrected}


def velocity_method(
    learning_rate: ScalarOrSchedule,
    core: Core,
    convention: str,
    weight_decay: ScalarOrSchedule | None,
    decoupled_weight_decay: bool,
    mask: Any,
    accumulator_dtype: Any,
) -> optax.GradientTransformationExtraArgs:
    """The Optax transformation of a `velocity_core`, with a learning rate and weight decay."""
    check_hyperparameter("learning_rate", learning_rate)
    check_choice("convention", convention, CHOICES["convention"])
    core = _APPLY_LEARNING_RATE[convention](core, learning_rate)
    core = with_weight_decay(core, learning_rate, weight_decay, decoupled_weight_decay, mask)
    return transformation(core, accumulator_dtype)


def momentum(
    learning_rate: ScalarOrSchedule,
    momentum: ScalarOrSchedule = 0.9,
    *,
    dampening: ScalarOrSchedule = 0.0,
    convention: VelocityConvention = "inside",
    weight_decay: ScalarOrSchedule | None = None,
    decoupled_weight_decay: bool = False,
    mask: PyTree[bool] | Any = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""SGD with momentum (the heavy ball), with the learning rate inside the velocity.

    .. math::
      v_{t+1} = m_t v_t - \eta_t g_t, \qquad p_{t+1} = p_t + v_{t+1}, \qquad v_0 = 0

    With `convention="outside"`, as in Optax and PyTorch,

    .. math::
      b_{t+1} = m_t b_t + g_t, \qquad p_{t+1} = p_t - \eta_t b_{t+1}, \qquad b_0 = 0

    With `convention="corrected"` the velocity is rescaled when the learning rate changes,

    .. math::
      v_{t+1} = m_t \frac{\eta_t}{\eta_{t-1}} v_t - \eta_t g_t, \qquad p_{t+1} = p_t + v_{t+1}.

    At a constant learning rate the three give the same iterates. Under a schedule of positive rates "outside" and
    "corrected" do, and "inside" differs: when the rate drops, its velocity still contains gradients times the old
    rate. A learning rate of 0 resets the velocity of "corrected" to 0, but not that of "outside".

    Args:
      learning_rate: η ≥ 0, a float, a scalar array (traced or not) or an `optax.Schedule`.
      momentum: m in [0, 1), likewise.
      dampening: d in [0, 1], likewise. It multiplies the gradients in the velocity by 1 − d, as in PyTorch: not the
        first gradient, and not where m = 0. (`qhm` with nu=1 is the moving average, without this exception.)
      convention: "inside", "outside" or "corrected".
      weight_decay: ω ≥ 0, likewise, or None for 0. It is coupled by default: g ← g + ω·p before everything else.
      decoupled_weight_decay: add −η·ω·p to the update instead; the velocity does not contain the decay. As in the
        AdamW of Optax and PyTorch, η includes its schedule; λ in the paper of SGDW is ω·η without the schedule.
      mask: which parameters decay: booleans in a prefix of their tree, or a function from parameters to one.
      accumulator_dtype: the dtype of the velocity, such as "float32" for bfloat16 parameters; None for that of the
        parameters. Arithmetic is in float32 or float64.

    Returns:
      An Optax transformation. Its updates have the dtypes of the gradients. `update` needs `params` if weights decay.

    Raises:
      InputError: a hyperparameter is out of its range; from `init` and `update`, trees do not match or a leaf is not
        real floating-point. The message names the path of the leaf.

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
    r"""The rule of `momentum` without the learning rate, for `optax.chain`.

    .. math::
      b_{t+1} = m_t b_t + (1 - d_t) g_t, \qquad b_1 = g_0

    Where m = 0, b = g, as in PyTorch.

    Followed by `optax.scale_by_learning_rate`, it is `momentum` with `convention="outside"`. Preceded by it, it is
    `momentum` with `convention="inside"`.

    Args:
      momentum: m in [0, 1), a float, a scalar array (traced or not) or an `optax.Schedule`.
      dampening: d in [0, 1], likewise.
      accumulator_dtype: the dtype of b; None for that of the parameters.

    Returns:
      An Optax transformation from gradients to b, in the dtypes of the gradients.

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
