r"""Momentum on quadratics in closed form: rates, stability, critical damping, noise, saddles and a lower bound.

With the learning rate α and the momentum β, on a quadratic of curvature λ, from v₀ = 0,

.. math::
  v_{k+1} = \beta v_k - \alpha\lambda w_k, \qquad w_{k+1} = w_k + v_{k+1}

is the heavy ball. Nesterov has w_{k+1} = w_k + βv_{k+1} − αλw_k, the form of Optax, PyTorch and Keras, whose w is the
look-ahead point. Gradient descent is either of them at β = 0. What depends on α and λ by their product alone takes
it as a = αλ. In several dimensions all of it holds for each eigenvector of the Hessian by itself.

Everything is a pure function of arrays that broadcast against each other, and can be differentiated, `vmap`ped and
`jit`ted. Results have the dtype of the arguments, Python's numbers that of `jax_enable_x64`. Nothing is refused: an
argument out of its range gives what the formula makes of it, often NaN. The best α and β for a spectrum are those of
`momentum_jax.optimizers`: `optimal_sgd`, `optimal_momentum`, `optimal_nesterov` and `standard_nesterov`.

>>> from momentum_jax.analysis import theory
>>> print(f"{theory.heavy_ball_rate(0.1, 0.9):.4f}")
0.9487
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

Floats = Float[Array, "..."]


class Noise(NamedTuple):
    """Moments of the iterate w and the velocity v in the long run, when gradients are noisy."""

    var_w: Floats
    var_v: Floats
    cov_wv: Floats


class Growth(NamedTuple):
    """From rest at w₀, w_k tends to share · rateᵏ · w₀."""

    rate: Floats
    share: Floats


def heavy_ball_rate(a: ArrayLike, beta: ArrayLike) -> Floats:
    r"""The factor by which the heavy ball's error changes in an iteration in the long run.

    .. math::
      \rho = \begin{cases}\sqrt\beta & D \le 0 \\ (|1 + \beta - a| + \sqrt D) / 2 & D > 0\end{cases}, \qquad
      D = (1 + \beta - a)^2 - 4\beta

    the spectral radius of `heavy_ball_matrix`, where it is unstable (ρ > 1) too. At D = 0, a double root, the error
    goes as k·ρᵏ, and ρ has a kink there: its derivative is that of √β.

    Args:
      a: αλ, any number; negative on a saddle.
      beta: β, likewise.

    References:
      Polyak, `Some methods of speeding up the convergence of iteration methods
      <https://doi.org/10.1016/0041-5553(64)90137-5>`_, 1964.

    >>> print(heavy_ball_rate(jnp.array([0.25, 1.0, 2.5]), 0.25))
    [0.5 0.5 1. ]
    """
    a, beta = _floats(a, beta)
    # The discriminant without the difference of two numbers near 4 that hides a small one.
    return _spectral_radius(1 + beta - a, beta, (1 - beta) ** 2 - a * (2 * (1 + beta) - a))


def nesterov_rate(a: ArrayLike, beta: ArrayLike) -> Floats:
    r"""The factor by which Nesterov's error changes in an iteration in the long run.

    .. math::
      \rho = \begin{cases}\sqrt{\beta q} & D \le 0 \\ ((1 + \beta)|q| + \sqrt D) / 2 & D > 0\end{cases}, \qquad
      q = 1 - a, \quad D = (1 + \beta)^2 q^2 - 4\beta q

    Args, double roots: as `heavy_ball_rate`, with `nesterov_matrix`.

    References:
      Lessard, Recht and Packard, `Analysis and design of optimization algorithms via integral quadratic constraints
      <https://arxiv.org/abs/1408.3595>`_, 2016, section 2.2.

    >>> print(f"{nesterov_rate(0.5, 0.9):.4f}")
    0.6708
    """
    a, beta = _floats(a, beta)
    q = 1 - a
    return _spectral_radius((1 + beta) * q, beta * q, q * ((1 - beta) ** 2 - (1 + beta) ** 2 * a))


def worst_rate(
    rate: Callable[[ArrayLike, ArrayLike], Floats], alpha: ArrayLike, beta: ArrayLike, mu: ArrayLike, L: ArrayLike
) -> Floats:
    """The largest rate over all curvatures from μ to L: that of one end, as either rate falls and then rises with a.

    Args:
      rate: `heavy_ball_rate` or `nesterov_rate`.
      alpha: α.
      beta: β in [0, 1).
      mu: the smallest curvature.
      L: the largest.

    >>> print(f"{worst_rate(heavy_ball_rate, 2 / 101, 0.0, 1.0, 100.0):.4f}")
    0.9802
    """
    alpha, beta, mu, L = _floats(alpha, beta, mu, L)
    return jnp.maximum(rate(alpha * mu, beta), rate(alpha * L, beta))


def heavy_ball_stability_limit(beta: ArrayLike) -> Floats:
    """The heavy ball converges for 0 < a < 2(1 + β).

    Args:
      beta: β in [0, 1).

    >>> print(heavy_ball_stability_limit(0.9))
    3.8
    """
    (beta,) = _floats(beta)
    return 2 * (1 + beta)


def nesterov_stability_limit(beta: ArrayLike) -> Floats:
    """Nesterov converges for 0 < a < 2(1 + β)/(1 + 2β), which is less than gradient descent's 2.

    Args:
      beta: β in [0, 1].

    >>> print(f"{nesterov_stability_limit(0.9):.4f}")
    1.3571
    """
    (beta,) = _floats(beta)
    return 2 * (1 + beta) / (1 + 2 * beta)


def robust_region(beta: ArrayLike) -> tuple[Floats, Floats]:
    """Where (1 − √β)² ≤ a ≤ (1 + √β)², the heavy ball oscillates and its rate is √β, whatever the curvature.

    Args:
      beta: β in [0, 1).

    Returns:
      The lowest and the highest a.

    References:
      Zhang and Mitliagkas, `YellowFin and the art of momentum tuning <https://arxiv.org/abs/1706.03471>`_, 2017.

    >>> print(*robust_region(0.25))
    0.25 2.25
    """
    (beta,) = _floats(beta)
    root = jnp.sqrt(beta)
    return (1 - root) ** 2, (1 + root) ** 2


def nesterov_oscillating_region(beta: ArrayLike) -> tuple[Floats, Floats]:
    """Where ((1 − β)/(1 + β))² ≤ a ≤ 1, Nesterov oscillates; its rate there, √(β(1 − a)), depends on the curvature.

    Args:
      beta: β in [0, 1].

    Returns:
      The lowest and the highest a.

    >>> print(*nesterov_oscillating_region(0.0))
    1.0 1.0
    >>> print(*(f"{end:.4f}" for end in nesterov_oscillating_region(0.6)))
    0.0625 1.0000
    """
    (beta,) = _floats(beta)
    return ((1 - beta) / (1 + beta)) ** 2, jnp.ones_like(beta)


def heavy_ball_critical_momentum(a: ArrayLike) -> Floats:
    """The momentum of the heavy ball's best rate at a given a, (1 − √a)²; that rate is |1 − √a|.

    Args:
      a: αλ in (0, 4).

    >>> print(heavy_ball_critical_momentum(0.25))
    0.25
    """
    (a,) = _floats(a)
    return (1 - jnp.sqrt(a)) ** 2


def nesterov_critical_momentum(a: ArrayLike) -> Floats:
    """The momentum of Nesterov's best rate at a given a, (1 − √a)/(1 + √a); that rate is 1 − √a.

    Args:
      a: αλ in (0, 1].

    >>> print(f"{nesterov_critical_momentum(0.25):.4f}")
    0.3333
    """
    (a,) = _floats(a)
    return (1 - jnp.sqrt(a)) / (1 + jnp.sqrt(a))


def heavy_ball_critical_path(a: ArrayLike, k: ArrayLike) -> Floats:
    """w_k/w₀ of the heavy ball with its critical momentum: (1 + ks)(1 − s)ᵏ, with s = √a.

    Args:
      a: αλ in (0, 4).
      k: iterations, integers ≥ 0.

    >>> print(heavy_ball_critical_path(0.25, jnp.arange(4)))
    [1.     0.75   0.5    0.3125]
    """
    s, count, powers = _critical(a, k)
    return (1 + count * s) * powers


def nesterov_critical_path(a: ArrayLike, k: ArrayLike) -> Floats:
    """w_k/w₀ of Nesterov with its critical momentum: (1 + ks/(1 + s))(1 − s)ᵏ, with s = √a.

    Args:
      a: αλ in (0, 1].
      k: iterations, integers ≥ 0.

    >>> print(f"{nesterov_critical_path(0.25, 3):.4f}")
    0.2500
    """
    s, count, powers = _critical(a, k)
    return (1 + count * s / (1 + s)) * powers


def heavy_ball_matrix(a: ArrayLike, beta: ArrayLike) -> Float[Array, "... 2 2"]:
    """What an iteration of the heavy ball does to the state (w, v): [[1 − a, β], [−a, β]].

    >>> print(heavy_ball_matrix(0.5, 0.25))
    [[ 0.5   0.25]
     [-0.5   0.25]]
    """
    a, beta = _floats(a, beta)
    return _matrix(1 - a, beta, -a, beta)


def nesterov_matrix(a: ArrayLike, beta: ArrayLike) -> Float[Array, "... 2 2"]:
    """What an iteration of Nesterov does to the state (w, v): [[1 − (1 + β)a, β²], [−a, β]].

    >>> print(nesterov_matrix(0.5, 0.25))
    [[ 0.375   0.0625]
     [-0.5     0.25  ]]
    """
    a, beta = _floats(a, beta)
    return _matrix(1 - (1 + beta) * a, beta**2, -a, beta)


def heavy_ball_path(
    alpha: ArrayLike, beta: ArrayLike, curvatures: ArrayLike, start: ArrayLike, iterations: int
) -> Float[Array, "{iterations}+1 ..."]:
    """The heavy ball's iterates on ½·Σ λᵢwᵢ², step by step from rest.

    Args:
      alpha: α.
      beta: β.
      curvatures: λ, [dimensions].
      start: w₀, [dimensions].
      iterations: how many steps; each number of them is compiled once.

    Returns:
      w₀, w₁ … [iterations + 1, dimensions].

    >>> print(heavy_ball_path(0.5, 0.5, jnp.array([1.0, 2.0]), jnp.array([4.0, 4.0]), 3))
    [[ 4.  4.]
     [ 2.  0.]
     [ 0. -2.]
     [-1. -1.]]
    """
    path: Array = _path(*_floats(alpha, beta, curvatures, start), iterations, nesterov=False)
    return path


def nesterov_path(
    alpha: ArrayLike, beta: ArrayLike, curvatures: ArrayLike, start: ArrayLike, iterations: int
) -> Float[Array, "{iterations}+1 ..."]:
    """Nesterov's iterates (the look-ahead points) on ½·Σ λᵢwᵢ², step by step from rest.

    Args, Returns: as `heavy_ball_path`.

    >>> print(nesterov_path(0.5, 0.5, jnp.array([1.0, 2.0]), jnp.array([4.0, 4.0]), 2))
    [[ 4.   4. ]
     [ 1.  -2. ]
     [-0.25  0. ]]
    """
    path: Array = _path(*_floats(alpha, beta, curvatures, start), iterations, nesterov=True)
    return path


def heavy_ball_noise(alpha: ArrayLike, beta: ArrayLike, curvature: ArrayLike, variance: ArrayLike) -> Noise:
    r"""Where the heavy ball comes to hover when every gradient has independent additive noise of variance σ².

    .. math::
      \operatorname{Var} w = \frac{\alpha\sigma^2(1 + \beta)}{\lambda(1 - \beta)(2(1 + \beta) - a)}, \quad
      \operatorname{Var} v = \frac{2\alpha^2\sigma^2}{(1 - \beta)(2(1 + \beta) - a)}, \quad
      \operatorname{Cov}(w, v) = \tfrac12 \operatorname{Var} v

    Args:
      alpha: α ≥ 0.
      beta: β in [0, 1).
      curvature: λ.
      variance: σ² ≥ 0.

    Returns:
      The moments; all are +inf where w settles nowhere, which is for λ ≤ 0 and at and beyond the stability limit.

    References:
      The solution of P = APAᵀ + σ²bbᵀ, with A the `heavy_ball_matrix` and b = −α(1, 1).

    >>> print(f"{heavy_ball_noise(0.1, 0.5, 1.0, 2.9).var_w:.4f}")
    0.3000
    """
    alpha, beta, curvature, variance = _floats(alpha, beta, curvature, variance)
    return _noise(alpha, curvature, variance, *_heavy_ball_noise_terms(alpha * curvature, beta), 0.5)


def nesterov_noise(alpha: ArrayLike, beta: ArrayLike, curvature: ArrayLike, variance: ArrayLike) -> Noise:
    r"""Where Nesterov comes to hover when every gradient has independent additive noise of variance σ².

    .. math::
      \operatorname{Var} w &= \frac{\alpha\sigma^2[1 + \beta + \beta(1 + 2\beta)a]}
        {\lambda[1 - \beta(1 - a)][2(1 + \beta) - (1 + 2\beta)a]}, \\
      \operatorname{Var} v &= \frac{2\alpha^2\sigma^2}{[1 - \beta(1 - a)][2(1 + \beta) - (1 + 2\beta)a]}, \qquad
      \operatorname{Cov}(w, v) = (\tfrac12 + \beta) \operatorname{Var} v

    Args, Returns: as `heavy_ball_noise`.

    References:
      As `heavy_ball_noise`, with the `nesterov_matrix` and b = −α(1 + β, 1).

    >>> print(f"{nesterov_noise(0.1, 0.5, 1.0, 2.9).var_w:.4f}")
    0.3013
    """
    alpha, beta, curvature, variance = _floats(alpha, beta, curvature, variance)
    return _noise(alpha, curvature, variance, *_nesterov_noise_terms(alpha * curvature, beta), 0.5 + beta)


def heavy_ball_noise_ratio(a: ArrayLike, beta: ArrayLike) -> Floats:
    r"""The heavy ball's Var w over that of gradient descent at the same effective learning rate γ = α/(1 − β).

    .. math::
      \frac{2 - \gamma\lambda}{2 - \gamma\lambda(1 - \beta)/(1 + \beta)}, \qquad \gamma\lambda = \frac{a}{1 - \beta}

    About 1 while a ≪ 1 − β, where momentum averages no noise away, and less beyond.

    Args:
      a: αλ ≥ 0, the heavy ball's own.
      beta: β in [0, 1).

    Returns:
      The ratio: 0 where gradient descent diverges, NaN where both do.

    >>> print(*(f"{heavy_ball_noise_ratio(a, 0.9):.3f}" for a in (0.001, 0.1)))
    0.995 0.514
    """
    a, beta = _floats(a, beta)
    return _noise_ratio(a, beta, *_heavy_ball_noise_terms(a, beta))


def nesterov_noise_ratio(a: ArrayLike, beta: ArrayLike) -> Floats:
    """Nesterov's Var w over that of gradient descent at the same effective learning rate α/(1 − β).

    Args, Returns: as `heavy_ball_noise_ratio`.

    >>> print(*(f"{nesterov_noise_ratio(a, 0.9):.3f}" for a in (0.001, 0.1)))
    0.988 0.322
    """
    a, beta = _floats(a, beta)
    return _noise_ratio(a, beta, *_nesterov_noise_terms(a, beta))


def heavy_ball_saddle_growth(c: ArrayLike, beta: ArrayLike) -> Growth:
    """How the heavy ball leaves a saddle: the rate is the larger root of σ² − (1 + β + c)σ + β.

    From rest w_k/w₀ = share · σᵏ + (1 − share) · τᵏ with the smaller root τ < 1. At the learning rate of gradient
    descent the rate is higher than its 1 + c, at the same effective learning rate lower.

    Args:
      c: α|λ| > 0, for the curvature λ < 0.
      beta: β in [0, 1).

    >>> print(*(f"{heavy_ball_saddle_growth(c, 0.9).rate:.4f}" for c in (0.1, 0.01)))
    1.3162 1.0647
    """
    c, beta = _floats(c, beta)
    return _growth(heavy_ball_rate(-c, beta), product=beta, first=1 + c)


def nesterov_saddle_growth(c: ArrayLike, beta: ArrayLike) -> Growth:
    """How Nesterov leaves a saddle: the rate is the larger root of σ² − (1 + β)(1 + c)σ + β(1 + c).

    From rest w_k/w₀ = share · σᵏ + (1 − share) · τᵏ with the smaller root τ < 1.

    Args:
      c: α|λ| > 0, for the curvature λ < 0.
      beta: β in [0, 1).

    >>> print(*(f"{nesterov_saddle_growth(c, 0.9).rate:.4f}" for c in (0.1, 0.01)))
    1.3644 1.0674
    """
    c, beta = _floats(c, beta)
    return _growth(nesterov_rate(-c, beta), product=beta * (1 + c), first=1 + (1 + beta) * c)


def steps_to_grow(growth: Growth, factor: ArrayLike) -> Floats:
    """The iterations after which w_k/w₀ reaches a factor from rest: ln(factor/share)/ln(rate), to be rounded up.

    The share counts: while the velocity builds up, momentum loses iterations that the rate alone does not show. What
    decays beside the growth is left out; it matters for factors near 1 only.

    >>> print(*(f"{steps_to_grow(heavy_ball_saddle_growth(0.1, beta), 1000.0):.1f}" for beta in (0.0, 0.9)))
    72.5 26.7
    """
    rate, share, factor = _floats(*growth, factor)
    return jnp.log(factor / share) / jnp.log(rate)


def chain_lower_bound(mu: ArrayLike, L: ArrayLike, dimensions: int, k: ArrayLike) -> Floats:
    """What no first-order method can beat on Nesterov's chain from w₀ = 0: ‖w_k − w*‖∞ ≥ qᵏ·‖w*‖∞ for k ≤ n − 1.

    The chain is the landscape of that name, q = (√κ − 1)/(√κ + 1). It holds for all methods whose iterates stay in the
    span of the gradients so far: w_k is 0 beyond its k-th coordinate, and ‖w*‖∞ = q. Conjugate gradients attain it.

    Args:
      mu: μ > 0.
      L: L ≥ μ.
      dimensions: n.
      k: iterations, integers ≥ 0.

    Returns:
      The bound on the largest error of a coordinate, qᵏ⁺¹; 0 for k ≥ n, where there is none.

    References:
      Nesterov, Introductory Lectures on Convex Optimization, 2004, theorem 2.1.13.

    >>> print(chain_lower_bound(1.0, 9.0, 2, jnp.arange(3)))
    [0.5  0.25 0.  ]
    """
    k = jnp.asarray(k)
    bound = _power(_chain_ratio(*_floats(mu, L)), k + 1)
    return jnp.where(jnp.broadcast_to(k < dimensions, bound.shape), bound, 0)


def _floats(*values: ArrayLike) -> tuple[Array, ...]:
    """The arguments as arrays of one shape and of one dtype, which is floating-point and not weak."""
    dtype = jnp.result_type(*values)
    if not jnp.issubdtype(dtype, jnp.floating):
        dtype = jnp.result_type(float)
    # A list before JAX 0.12.
    return tuple(jnp.broadcast_arrays(*(jnp.asarray(value, dtype) for value in values)))


def _spectral_radius(trace: Floats, determinant: Floats, discriminant: Floats) -> Floats:
    """The larger modulus of the roots of r² − trace·r + determinant."""
    oscillates = discriminant <= 0
    both = (jnp.abs(trace) + _root(discriminant)) / 2
    return jnp.where(oscillates, _root(determinant), both)


def _root(x: Floats) -> Floats:
    """√x for x > 0, else 0 with the derivative 0, as for a branch that is not taken."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def _critical(a: ArrayLike, k: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """The root s = √a, k as floats of the same shape, and (1 − s)ᵏ."""
    (a,) = _floats(a)
    s, k = jnp.broadcast_arrays(jnp.sqrt(a), k)
    return s, jnp.astype(k, s.dtype), _power(1 - s, k)


def _power(base: Floats, k: ArrayLike) -> Floats:
    """A power by whole numbers k ≥ 0, whose derivative is 0 where k is, for a base of 0 too."""
    base, k = jnp.broadcast_arrays(base, k)
    # With the exponent as a float: lax.pow's derivative for an integer one needs implicit promotion.
    exponent = jnp.astype(k, base.dtype)
    return jnp.where(k > 0, base ** jnp.maximum(exponent, 1), 1)


def _matrix(*entries: Floats) -> Float[Array, "... 2 2"]:
    return jnp.stack(entries, axis=-1).reshape(*entries[0].shape, 2, 2)


@partial(jax.jit, static_argnames=("iterations", "nesterov"))
def _path(
    alpha: Floats, beta: Floats, curvatures: Floats, start: Floats, iterations: int, nesterov: bool
) -> Float[Array, "{iterations}+1 ..."]:
    def step(state: tuple[Floats, Floats], _: None) -> tuple[tuple[Floats, Floats], Floats]:
        w, v = state
        descent = alpha * curvatures * w
        v = beta * v - descent
        w = w + (beta * v - descent if nesterov else v)
        return (w, v), w

    _, path = jax.lax.scan(step, (start, jnp.zeros_like(start)), length=iterations)
    return jnp.concatenate([start[None], path])


def _heavy_ball_noise_terms(a: Floats, beta: Floats) -> tuple[Floats, Floats, Floats]:
    """Var w = ασ²·spread/(λ·damping·margin); it is stable where damping and margin are positive."""
    return 1 + beta, 1 - beta, 2 * (1 + beta) - a


def _nesterov_noise_terms(a: Floats, beta: Floats) -> tuple[Floats, Floats, Floats]:
    """As `_heavy_ball_noise_terms`."""
    return 1 + beta + beta * (1 + 2 * beta) * a, 1 - beta * (1 - a), 2 * (1 + beta) - (1 + 2 * beta) * a


def _noise(
    alpha: Floats,
    curvature: Floats,
    variance: Floats,
    spread: Floats,
    damping: Floats,
    margin: Floats,
    covariance: Floats | float,
) -> Noise:
    """The moments, the last as a multiple of Var v."""
    settles = (curvature > 0) & (damping > 0) & (margin > 0)
    scale = _divisor(settles, damping * margin)
    var_w = alpha * variance * spread / (_divisor(settles, curvature) * scale)
    var_v = 2 * alpha**2 * variance / scale
    return Noise(*(jnp.where(settles, moment, jnp.inf) for moment in (var_w, var_v, covariance * var_v)))


def _noise_ratio(a: Floats, beta: Floats, spread: Floats, damping: Floats, margin: Floats) -> Floats:
    settles = (damping > 0) & (margin > 0)
    descent = jnp.maximum(2 * (1 - beta) - a, 0)
    return jnp.where(settles, descent * spread / _divisor(settles, damping * margin), jnp.nan)


def _divisor(holds: Bool[Array, "..."], x: Floats) -> Floats:
    """The divisor x, but 1 where the quotient will not be used: it shall have no NaN in its derivative."""
    return jnp.where(holds, x, 1)


def _growth(rate: Floats, product: Floats, first: Floats) -> Growth:
    """From the larger root, the product of both and w₁/w₀."""
    other = product / rate
    return Growth(rate, (first - other) / (rate - other))


def _chain_ratio(mu: Floats, L: Floats) -> Floats:
    root = jnp.sqrt(L / mu)
    return (root - 1) / (root + 1)
