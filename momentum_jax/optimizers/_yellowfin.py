"""YellowFin: momentum and learning rate tuned by what is measured of the gradients."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from momentum_jax._base.errors import InputError
from momentum_jax.optimizers._core import Core, transformation, zeros_like
from momentum_jax.optimizers._hyperparameters import (
    Scalar,
    ScalarOrSchedule,
    at_count,
    check_accumulator_dtype,
    check_hyperparameter,
)
from momentum_jax.optimizers._trees import inner_product, linear, norm

WINDOW = 20
"""Of how many gradients the paper takes the largest and the smallest curvature."""
Number = Float[Array, ""]


class YellowFinState(NamedTuple):
    """The state of `yellowfin`. All that is measured is an average with weights that fall by the smoothing."""

    count: Int[Array, ""]  # type: ignore[assignment]
    """The number of updates made so far; schedules are functions of it."""
    velocity: PyTree[Array]
    """v. It has the structure and shapes of the parameters and includes the learning rate."""
    average: PyTree[Array]
    """The gradient. It has the structure and shapes of the parameters, and is at least float32."""
    window: Float[Array, "20"]
    """The curvatures ‖g‖² of the last 20 gradients, in turn."""
    largest: Number
    """h_max, the largest curvature of the window."""
    smallest: Number
    """h_min, the smallest curvature of the window."""
    square: Number
    """‖g‖²."""
    norm: Number
    """‖g‖."""
    distance: Number
    """D, the distance to the minimum."""
    learning_rate: Number
    """α, the learning rate that was tuned, without the factor η."""
    momentum: Number
    """μ, the momentum that was tuned."""


def yellowfin(
    learning_rate: ScalarOrSchedule = 1.0,
    *,
    smoothing: Scalar = 0.999,
    clip: bool = False,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""YellowFin: the heavy ball whose momentum and learning rate are tuned at every step.

    .. math::
      v_{t+1} = \mu_t v_t - \eta_t \alpha_t g_t, \qquad p_{t+1} = p_t + v_{t+1}

    With E for averages over the gradients so far, in which weights fall by the smoothing β and sum to 1, and norms of
    all parameters together, it measures

    - the range of curvatures: h_max and h_min are E of the largest and the smallest ‖g‖² of the last 20 gradients;
    - the variance of the gradient: C = E[‖g‖²] − ‖E[g]‖²;
    - the distance to the minimum: D = E[E[‖g‖]/E[‖g‖²]].

    The single step minimises the expected squared distance after it on a quadratic of these:

    .. math::
      \hat\mu, \hat\alpha = \operatorname*{argmin}_{\mu, \alpha} \; \mu D^2 + \alpha^2 C \quad \text{with} \quad
      \mu \ge \left( \frac{\sqrt{h_{max}/h_{min}} - 1}{\sqrt{h_{max}/h_{min}} + 1} \right)^2, \quad
      \alpha = \frac{(1 - \sqrt\mu)^2}{h_{min}}

    Without the bound √μ is the real root of p·x = (1 − x)³ with p = D²·h_min²/(2·C). μ and α are E of these. As in the
    authors' program, α̂ is first multiplied by t/200 in the first 200 steps. Their program averages the logarithm of the
    smallest curvature; here values are averaged. Where h_min is 0 there is no step.

    It is made for noisy gradients: where they vanish, ‖g‖² is no curvature. In float32 ‖g‖² is 0 where ‖g‖ is below
    some 1e-19, and infinite where it is above some 1e19.

    Args:
      learning_rate: η ≥ 0, a factor of the tuned learning rate: a float, a scalar array (traced or not) or an
        `optax.Schedule`.
      smoothing: β in [0, 1), a float or a scalar array (traced or not).
      clip: whether gradients are scaled down, by h_max of those before: for the step to a norm of at most √h_max, and
        for all that is measured to at most 10·√h_max. So h_max can grow, in one step to at most 100 times itself.
      accumulator_dtype: the dtype of the velocity; None for that of the parameters. The average gradient has it too,
        but at least float32: bfloat16 loses weights of 1 − β.

    Returns:
      An Optax transformation. Its updates have the dtypes of the gradients, and its state says what was tuned.

    Raises:
      InputError: a hyperparameter is out of its range; from `init` and `update`, trees do not match or a leaf is not
        real floating-point. The message names the path of the leaf.

    References:
      Zhang and Mitliagkas, `YellowFin and the art of momentum tuning <https://arxiv.org/abs/1706.03471>`_, 2017,
      algorithms 1 to 4, and section 3.3 for clipping.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> optimizer = yellowfin()
      >>> params = jnp.array([1.0, 1.0])
      >>> state = optimizer.init(params)
      >>> for key in jax.random.split(jax.random.key(0), 300):
      ...     _, state = optimizer.update(params + jax.random.normal(key, 2), state)
      >>> bool(0 < state.momentum < 1)
      True
    """
    check_hyperparameter("learning_rate", learning_rate)
    if callable(smoothing):
        raise InputError("smoothing must be a number: its averages are not those of a schedule")
    check_hyperparameter("smoothing", smoothing)
    if not isinstance(clip, bool):
        raise InputError(f"clip must be True or False, not {clip!r}")
    check_accumulator_dtype(accumulator_dtype)

    def init(params: PyTree[Array]) -> YellowFinState:
        numbers = (jnp.zeros([], float) for _ in range(7))
        velocity = zeros_like(params, accumulator_dtype)
        window = jnp.zeros(WINDOW, float)
        # A combination of leaves is at least float32.
        return YellowFinState(jnp.zeros([], jnp.int32), velocity, linear((1, velocity)), window, *numbers)

    def update(grads: PyTree[Array], state: YellowFinState, params: Any) -> tuple[PyTree[Array], YellowFinState]:
        del params
        gradient = linear((1, grads))
        size = norm(gradient)
        of_step = of_measured = jnp.ones([], float)
        if clip:
            of_step, of_measured = (_shrinkage(size, factor * _sqrt(state.largest)) for factor in (1, 10))
        measured = _measure(state, linear((of_measured, gradient)), of_measured * size, smoothing)
        alpha = at_count(learning_rate, state.count) * measured.learning_rate
        velocity = linear((measured.momentum, state.velocity), (-alpha * of_step, gradient))
        return velocity, measured._replace(velocity=velocity)

    core = Core(YellowFinState, init, update, lambda state: (state.velocity,))
    return transformation(core, accumulator_dtype)


def _measure(state: YellowFinState, gradient: PyTree[Array], size: Number, smoothing: Scalar) -> YellowFinState:
    """The state with all averages, those of the tuned values too, after one more gradient of this norm."""
    steps = jnp.astype(state.count + 1, float)
    beta = jnp.asarray(smoothing, float)
    # (1 − β)/(1 − β^t), the weight of the newest of t values in their average.
    weight = (1 - beta) / -jnp.expm1(steps * jnp.log(beta))

    def smooth(before: Number, now: Number) -> Number:
        return before + weight * (now - before)

    square = size**2
    window = jnp.asarray(state.window).at[state.count % WINDOW].set(square)
    seen = jnp.arange(WINDOW, dtype=jnp.int32) <= state.count
    largest = smooth(state.largest, jnp.max(window))
    smallest = smooth(state.smallest, jnp.min(jnp.where(seen, window, jnp.inf)))
    average = linear((1 - weight, state.average), (weight, gradient))
    mean_square, mean_norm = smooth(state.square, square), smooth(state.norm, size)
    variance = jnp.maximum(mean_square - inner_product(average, average), 0)
    distance = smooth(state.distance, _ratio(mean_norm, mean_square))
    step = _single_step(largest, smallest, variance, distance)
    slow_start = jnp.minimum(steps / (10 * WINDOW), 1)
    return YellowFinState(
        count=state.count,
        velocity=state.velocity,
        average=average,
        window=window,
        largest=largest,
        smallest=smallest,
        square=mean_square,
        norm=mean_norm,
        distance=distance,
        learning_rate=smooth(state.learning_rate, slow_start * _ratio(step**2, smallest)),
        momentum=smooth(state.momentum, (1 - step) ** 2),
    )


def _single_step(largest: Number, smallest: Number, variance: Number, distance: Number) -> Number:
    """1 − √μ of the single step, 1 where there is no smallest curvature.

    The root of p·x = (1 − x)³ is written for 1 − x with hyperbolic functions: Cardano's difference of two large numbers
    would lose a large p in rounding. At the bound 1 − √μ is 2·√h_min/(√h_max + √h_min).
    """
    # z is √(27/(4·p)), and 1 − x = 3·sinh(asinh(z)/3)/z.
    z = 1.5 * _ratio(_sqrt(6 * variance), distance * smallest)
    free = jnp.where(z > 0, 3 * _ratio(jnp.sinh(jnp.arcsinh(z) / 3), z), 1)
    bound = _ratio(2 * _sqrt(smallest), _sqrt(largest) + _sqrt(smallest))
    return jnp.where(smallest > 0, jnp.minimum(free, bound), 1)


def _shrinkage(size: Number, limit: Number) -> Number:
    """By what a gradient of this norm is multiplied to exceed no limit above 0."""
    return jnp.where((limit > 0) & (size > limit), _ratio(limit, size), 1)


def _sqrt(x: Number) -> Number:
    """The square root, whose derivative at 0 is 0."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0)


def _ratio(a: Number, b: Number) -> Number:
    """a/b, and 0 where b is 0."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)
