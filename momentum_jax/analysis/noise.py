r"""Momentum on noisy quadratics: the noise floor, and how much noise in the curvature a method stands.

The gradient of a mini-batch on a quadratic is g_t = λ_t·w + ε_t. Two kinds of noise are in it. The additive noise ε_t
has the variance σ². It never stops the method, but holds the iterate away from the minimum. The curvature λ_t of the
batch has the mean λ and the variance s. For a batch of B examples s is the variance of the examples' curvatures over B.
This noise is multiplicative: it vanishes at the minimum, and it can make a method diverge that is stable on the mean.

Methods, symbols and conventions are those of `momentum_jax.analysis.theory`. All noise is independent from one
iteration to the next.

>>> from momentum_jax.analysis import noise
>>> print(f"{noise.heavy_ball_mean_square_limit(0.9, 1.0, 1.0):.4f}")
0.1900
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from momentum_jax.analysis.theory import FloatArray, as_floats


class Noise(NamedTuple):
    """The stationary second moments of the iterate w and the velocity v under gradient noise."""

    var_w: FloatArray
    var_v: FloatArray
    cov_wv: FloatArray


def heavy_ball_noise(
    alpha: ArrayLike, beta: ArrayLike, curvature: ArrayLike, variance: ArrayLike, curvature_variance: ArrayLike = 0.0
) -> Noise:
    r"""The heavy ball's noise floor: its stationary moments under additive and multiplicative gradient noise.

    Without multiplicative noise, s = 0, they are

    .. math::
      \operatorname{Var} w = \sigma^2 u, \quad u = \frac{\alpha(1 + \beta)}{\lambda(1 - \beta)(2(1 + \beta) - a)}, \quad
      \operatorname{Var} v = \frac{2\alpha^2\sigma^2}{(1 - \beta)(2(1 + \beta) - a)}, \quad
      \operatorname{Cov}(w, v) = \tfrac12 \operatorname{Var} v

    A curvature of variance s adds s·E[w²] to the variance of the gradient, so that all three are 1/(1 − su) times as
    large. The method is stable in mean square where su < 1.

    Args:
      alpha: α ≥ 0.
      beta: β in [0, 1).
      curvature: λ.
      variance: σ² ≥ 0, of the additive noise.
      curvature_variance: s ≥ 0.

    Returns:
      The moments. All are +inf where w does not settle: for λ ≤ 0, and at or beyond the stability limit.

    References:
      The solution of P = APAᵀ + (σ² + s·P_ww)bbᵀ with A the `heavy_ball_matrix` of `theory` and b = −α(1, 1).

    >>> print(f"{heavy_ball_noise(0.1, 0.5, 1.0, 2.9).var_w:.4f}")
    0.3000
    >>> print(f"{heavy_ball_noise(0.1, 0.5, 1.0, 2.9, curvature_variance=1.0).var_w:.4f}")
    0.3346
    """
    alpha, beta, curvature, variance, s = as_floats(alpha, beta, curvature, variance, curvature_variance)
    return _noise(alpha, curvature, variance, s, *_heavy_ball_terms(alpha * curvature, beta), 0.5)


def nesterov_noise(
    alpha: ArrayLike, beta: ArrayLike, curvature: ArrayLike, variance: ArrayLike, curvature_variance: ArrayLike = 0.0
) -> Noise:
    r"""Nesterov's noise floor: its stationary moments under additive and multiplicative gradient noise.

    Without multiplicative noise they are

    .. math::
      \operatorname{Var} w &= \sigma^2 u, \qquad
      u = \frac{\alpha[1 + \beta + \beta(1 + 2\beta)a]}{\lambda[1 - \beta(1 - a)][2(1 + \beta) - (1 + 2\beta)a]}, \\
      \operatorname{Var} v &= \frac{2\alpha^2\sigma^2}{[1 - \beta(1 - a)][2(1 + \beta) - (1 + 2\beta)a]}, \qquad
      \operatorname{Cov}(w, v) = (\tfrac12 + \beta) \operatorname{Var} v

    and with it 1/(1 − su) times as large. Arguments and result are as for `heavy_ball_noise`.

    References:
      As for `heavy_ball_noise`, with the `nesterov_matrix` and b = −α(1 + β, 1).

    >>> print(f"{nesterov_noise(0.1, 0.5, 1.0, 2.9).var_w:.4f}")
    0.3013
    """
    alpha, beta, curvature, variance, s = as_floats(alpha, beta, curvature, variance, curvature_variance)
    return _noise(alpha, curvature, variance, s, *_nesterov_terms(alpha * curvature, beta), 0.5 + beta)


def heavy_ball_noise_ratio(a: ArrayLike, beta: ArrayLike) -> FloatArray:
    r"""The heavy ball's Var w over that of gradient descent at the same effective learning rate γ = α/(1 − β).

    The noise is additive only:

    .. math::
      \frac{2 - \gamma\lambda}{2 - \gamma\lambda(1 - \beta)/(1 + \beta)}, \qquad \gamma\lambda = \frac{a}{1 - \beta}

    The ratio is about 1 while a ≪ 1 − β: there momentum averages no noise away. It is lower for larger a.

    Args:
      a: αλ ≥ 0 of the heavy ball.
      beta: β in [0, 1).

    Returns:
      The ratio: 0 where only gradient descent diverges, NaN where both diverge.

    >>> print(*(f"{heavy_ball_noise_ratio(a, 0.9):.3f}" for a in (0.001, 0.1)))
    0.995 0.514
    """
    a, beta = as_floats(a, beta)
    return _noise_ratio(a, beta, *_heavy_ball_terms(a, beta))


def nesterov_noise_ratio(a: ArrayLike, beta: ArrayLike) -> FloatArray:
    """Nesterov's Var w over that of gradient descent at the same effective learning rate α/(1 − β).

    Arguments and result are as for `heavy_ball_noise_ratio`.

    >>> print(*(f"{nesterov_noise_ratio(a, 0.9):.3f}" for a in (0.001, 0.1)))
    0.988 0.322
    """
    a, beta = as_floats(a, beta)
    return _noise_ratio(a, beta, *_nesterov_terms(a, beta))


def heavy_ball_mean_square_limit(beta: ArrayLike, curvature: ArrayLike, curvature_variance: ArrayLike) -> FloatArray:
    r"""The learning rate below which the heavy ball is stable in mean square: E[w²] stays bounded.

    .. math::
      \alpha^* = \frac{2(1 - \beta)}{s/\lambda + \lambda(1 - \beta)/(1 + \beta)}

    For s → 0 it is the limit 2(1 + β)/λ of the deterministic method. For large s it is 2(1 − β)λ/s: then the limit of
    the effective learning rate α/(1 − β) is that of gradient descent, and momentum changes nothing.

    Args:
      beta: β in [0, 1).
      curvature: λ > 0, the mean.
      curvature_variance: s ≥ 0.

    References:
      The α at which su = 1 in `heavy_ball_noise`.

    >>> print(*(f"{heavy_ball_mean_square_limit(0.9, 1.0, s):.4f}" for s in (0.0, 1.0, 100.0)))
    3.8000 0.1900 0.0020
    """
    beta, curvature, s = as_floats(beta, curvature, curvature_variance)
    return 2 * (1 - beta) / (s / curvature + curvature * (1 - beta) / (1 + beta))


def nesterov_mean_square_limit(beta: ArrayLike, curvature: ArrayLike, curvature_variance: ArrayLike) -> FloatArray:
    r"""The learning rate below which Nesterov is stable in mean square.

    It is the positive root α* of

    .. math::
      \beta\lambda(1 + 2\beta)(\lambda^2 + s)\alpha^2 + [\lambda^2(1 - \beta - 4\beta^2) + s(1 + \beta)]\alpha
      - 2\lambda(1 - \beta^2) = 0

    For s → 0 it is the limit 2(1 + β)/((1 + 2β)λ) of the deterministic method, and for large s again 2(1 − β)λ/s.
    Arguments are as for `heavy_ball_mean_square_limit`.

    >>> print(*(f"{nesterov_mean_square_limit(0.9, 1.0, s):.4f}" for s in (0.0, 1.0, 100.0)))
    1.3571 0.4239 0.0020
    """
    beta, curvature, s = as_floats(beta, curvature, curvature_variance)
    square = beta * curvature * (1 + 2 * beta) * (curvature**2 + s)
    linear = curvature**2 * (1 - beta - 4 * beta**2) + s * (1 + beta)
    constant = 2 * curvature * (1 - beta**2)
    root = jnp.sqrt(linear**2 + 4 * square * constant)
    # Each form of the root is without cancellation on its side; the other's divisor may be 0.
    falling = linear < 0
    return jnp.where(
        falling,
        (root - linear) / _divisor(falling, 2 * square),
        2 * constant / _divisor(~falling, linear + root),
    )


def heavy_ball_crossover_batch(beta: ArrayLike, curvature: ArrayLike, example_variance: ArrayLike) -> FloatArray:
    r"""The batch size at which the heavy ball's limit is half of that of the full batch.

    .. math::
      B^* = \frac{\sigma_\lambda^2}{\lambda^2}\,\frac{1 + \beta}{1 - \beta}

    Well below it the limit of the effective learning rate is that of gradient descent. Well above it the heavy ball
    stands larger steps. At β = 0.9 it is 19 times that of gradient descent.

    Args:
      beta: β in [0, 1).
      curvature: λ > 0, the mean over the examples.
      example_variance: σ_λ² ≥ 0, the variance of the curvature over the examples.

    >>> print(f"{heavy_ball_crossover_batch(0.9, 1.0, 1.0):.4f}")
    19.0000
    """
    beta, curvature, variance = as_floats(beta, curvature, example_variance)
    return variance / curvature**2 * (1 + beta) / (1 - beta)


def nesterov_crossover_batch(beta: ArrayLike, curvature: ArrayLike, example_variance: ArrayLike) -> FloatArray:
    r"""The batch size at which Nesterov's limit is half of that of the full batch.

    .. math::
      B^* = \frac{\sigma_\lambda^2}{\lambda^2}\,\frac{h[\beta(1 + 2\beta)h + 1 + \beta]}
        {2(1 - \beta^2) - (1 - \beta - 4\beta^2)h - \beta(1 + 2\beta)h^2}, \qquad h = \frac{1 + \beta}{1 + 2\beta}

    Arguments are as for `heavy_ball_crossover_batch`.

    >>> print(f"{nesterov_crossover_batch(0.9, 1.0, 1.0):.4f}")
    1.8141
    """
    beta, curvature, variance = as_floats(beta, curvature, example_variance)
    half = (1 + beta) / (1 + 2 * beta)
    square = beta * (1 + 2 * beta) * half
    margin = 2 * (1 - beta**2) - (1 - beta - 4 * beta**2) * half - square * half
    return variance / curvature**2 * half * (square + 1 + beta) / margin


def mean_square_rate(
    alpha: ArrayLike, beta: ArrayLike, hessians: Float[Array, "batches n n"], *, nesterov: bool = False
) -> Float[Array, ""]:
    """The factor by which E[wwᵀ] grows in an iteration, on a quadratic whose Hessian is drawn anew each time.

    It is the spectral radius of E[A ⊗ A], with A the matrix of one iteration on (w, v). The method is stable in mean
    square where it is less than 1. Directions may be coupled: the Hessians need not commute. The matrix has 16n⁴
    entries: this is for few dimensions.

    Args:
      alpha: α, a number.
      beta: β, a number.
      hessians: the Hessians of all mini-batches, which are equally likely.
      nesterov: Nesterov's method in place of the heavy ball.

    >>> curvatures = jnp.array([0.0, 2.0])  # λ = 1 and s = 1
    >>> print(f"{mean_square_rate(0.19, 0.9, curvatures[:, None, None]):.4f}")
    1.0000
    """
    operator = _moment_operator(_iterations(alpha, beta, hessians, nesterov))
    return jnp.abs(jnp.linalg.eigvals(operator)).max()


def stationary_covariance(
    alpha: ArrayLike,
    beta: ArrayLike,
    hessians: Float[Array, "batches n n"],
    covariance: Float[Array, "n n"],
    *,
    nesterov: bool = False,
) -> Float[Array, "2*n 2*n"]:
    """The covariance of (w, v) in the long run, on a quadratic whose Hessian is drawn anew in each iteration.

    It is the solution of Lyapunov's equation P = E[APAᵀ] + BΣBᵀ, with B = −α(I, I), or −α((1 + β)I, I) for Nesterov. It
    means something where `mean_square_rate` is less than 1, and takes as much memory.

    Args:
      alpha: α, a number.
      beta: β, a number.
      hessians: the Hessians of all mini-batches, which are equally likely.
      covariance: Σ, of the additive noise of the gradient.
      nesterov: Nesterov's method in place of the heavy ball.

    >>> one = jnp.ones([1, 1])
    >>> print(f"{stationary_covariance(0.1, 0.5, one[None], 2.9 * one)[0, 0]:.4f}")
    0.3000
    """
    steps = _iterations(alpha, beta, hessians, nesterov)
    n = covariance.shape[0]
    one = jnp.eye(n, dtype=steps.dtype)
    into = jnp.concatenate([(1 + beta) * one if nesterov else one, one])
    added = alpha**2 * into @ covariance.astype(steps.dtype) @ into.T
    operator = _moment_operator(steps)
    solution = jnp.linalg.solve(jnp.eye(len(operator), dtype=operator.dtype) - operator, added.ravel())
    covariance_of_state: Array = solution.reshape(added.shape)
    return covariance_of_state


def _iterations(
    alpha: ArrayLike, beta: ArrayLike, hessians: Float[Array, "batches n n"], nesterov: bool
) -> Float[Array, "batches 2*n 2*n"]:
    """The matrix of one iteration on (w, v) for each Hessian: `heavy_ball_matrix` or `nesterov_matrix` in blocks."""
    a = alpha * hessians
    one = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
    above = [one - (1 + beta) * a, beta**2 * one] if nesterov else [one - a, beta * one]
    return jnp.concatenate([jnp.concatenate(above, -1), jnp.concatenate([-a, beta * one], -1)], -2)


def _moment_operator(steps: Float[Array, "batches m m"]) -> Float[Array, "m*m m*m"]:
    """E[A ⊗ A], which takes the second moments of the state, flattened, to those of the next."""
    size = steps.shape[-1] ** 2
    return jnp.einsum("bij,bkl->ikjl", steps, steps).reshape(size, size) / len(steps)


def _heavy_ball_terms(a: FloatArray, beta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Spread, damping and margin: u = α·spread/(λ·damping·margin), stable where the last two are positive."""
    return 1 + beta, 1 - beta, 2 * (1 + beta) - a


def _nesterov_terms(a: FloatArray, beta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Spread, damping and margin, as in `_heavy_ball_terms`."""
    return 1 + beta + beta * (1 + 2 * beta) * a, 1 - beta * (1 - a), 2 * (1 + beta) - (1 + 2 * beta) * a


def _noise(
    alpha: FloatArray,
    curvature: FloatArray,
    variance: FloatArray,
    curvature_variance: FloatArray,
    spread: FloatArray,
    damping: FloatArray,
    margin: FloatArray,
    covariance: FloatArray | float,
) -> Noise:
    """The moments; `covariance` is Cov(w, v) as a multiple of Var v."""
    settles = (curvature > 0) & (damping > 0) & (margin > 0)
    scale = _divisor(settles, damping * margin)
    u = alpha * spread / (_divisor(settles, curvature) * scale)
    settles &= curvature_variance * u < 1
    # The curvature's variance adds to that of the gradient what the iterate's variance is worth.
    variance = variance / _divisor(settles, 1 - curvature_variance * u)
    var_v = 2 * alpha**2 * variance / scale
    return Noise(*(jnp.where(settles, moment, jnp.inf) for moment in (variance * u, var_v, covariance * var_v)))


def _noise_ratio(
    a: FloatArray, beta: FloatArray, spread: FloatArray, damping: FloatArray, margin: FloatArray
) -> FloatArray:
    settles = (damping > 0) & (margin > 0)
    descent = jnp.maximum(2 * (1 - beta) - a, 0)
    return jnp.where(settles, descent * spread / _divisor(settles, damping * margin), jnp.nan)


def _divisor(holds: Bool[Array, "..."], x: FloatArray) -> FloatArray:
    """The divisor x, but 1 where the quotient is not used: its derivative must not be NaN there."""
    return jnp.where(holds, x, 1)
