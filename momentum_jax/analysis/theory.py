r"""Momentum on quadratics in closed form: rates, stability, critical damping, saddles and a lower bound.

The learning rate is α, the momentum β and the curvature λ. The velocity starts at v₀ = 0. The heavy ball is

.. math::
  v_{k+1} = \beta v_k - \alpha\lambda w_k, \qquad w_{k+1} = w_k + v_{k+1}

and Nesterov's method, in the form of Optax, PyTorch and Keras, whose w is the look-ahead point, is

.. math::
  v_{k+1} = \beta v_k - \alpha\lambda w_k, \qquad w_{k+1} = w_k + \beta v_{k+1} - \alpha\lambda w_k

Gradient descent is either of them at β = 0. Many results depend on α and λ only through their product, which the
functions take as a = αλ. In several dimensions every result holds for each eigenvector of the Hessian separately.
`momentum_jax.trajectory` runs an optimizer step by step.

All functions are pure functions of arrays. Their arguments broadcast against each other, and they can be
differentiated, `vmap`ped and `jit`ted. A result has the dtype of the arguments; Python numbers take the dtype that
`jax_enable_x64` sets. No argument is refused: outside its range a formula gives what it gives, often NaN. The best α
and β for a spectrum are in `momentum_jax.optimizers`: `optimal_sgd`, `optimal_momentum`, `optimal_nesterov` and
`standard_nesterov`.

>>> from momentum_jax.analysis import theory
>>> print(f"{theory.heavy_ball_rate(0.1, 0.9):.4f}")
0.9487
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

FloatArray = Float[Array, "..."]


class Growth(NamedTuple):
    """How an iterate leaves a saddle: from rest at w₀, w_k tends to amplitude · rateᵏ · w₀."""

    rate: FloatArray
    amplitude: FloatArray


def heavy_ball_rate(a: ArrayLike, beta: ArrayLike) -> FloatArray:
    r"""The heavy ball's asymptotic convergence rate: the factor ρ of its error in one iteration.

    .. math::
      \rho = \begin{cases}\sqrt\beta & D \le 0 \\ (|1 + \beta - a| + \sqrt D) / 2 & D > 0\end{cases}, \qquad
      D = (1 + \beta - a)^2 - 4\beta

    ρ is the spectral radius of `heavy_ball_matrix`. The formula also holds where the method diverges, with ρ > 1. At
    D = 0 the roots coincide and the error behaves as k·ρᵏ. There ρ has a kink; the derivative is that of √β.

    Args:
      a: αλ, any number; negative on a saddle.
      beta: β, any number.

    References:
      Polyak, `Some methods of speeding up the convergence of iteration methods
      <https://doi.org/10.1016/0041-5553(64)90137-5>`_, 1964.

    >>> print(heavy_ball_rate(jnp.array([0.25, 1.0, 2.5]), 0.25))
    [0.5 0.5 1. ]
    """
    a, beta = as_floats(a, beta)
    # D in this form is not the small difference of two numbers near 4, which would lose its digits.
    return _spectral_radius(1 + beta - a, beta, (1 - beta) ** 2 - a * (2 * (1 + beta) - a))


def nesterov_rate(a: ArrayLike, beta: ArrayLike) -> FloatArray:
    r"""Nesterov's asymptotic convergence rate: the factor ρ of its error in one iteration.

    .. math::
      \rho = \begin{cases}\sqrt{\beta q} & D \le 0 \\ ((1 + \beta)|q| + \sqrt D) / 2 & D > 0\end{cases}, \qquad
      q = 1 - a, \quad D = (1 + \beta)^2 q^2 - 4\beta q

    ρ is the spectral radius of `nesterov_matrix`. Arguments and coinciding roots are as for `heavy_ball_rate`.

    References:
      Lessard, Recht and Packard, `Analysis and design of optimization algorithms via integral quadratic constraints
      <https://arxiv.org/abs/1408.3595>`_, 2016, section 2.2.

    >>> print(f"{nesterov_rate(0.5, 0.9):.4f}")
    0.6708
    """
    a, beta = as_floats(a, beta)
    q = 1 - a
    return _spectral_radius((1 + beta) * q, beta * q, q * ((1 - beta) ** 2 - (1 + beta) ** 2 * a))


def worst_rate(
    rate: Callable[[ArrayLike, ArrayLike], FloatArray], alpha: ArrayLike, beta: ArrayLike, mu: ArrayLike, L: ArrayLike
) -> FloatArray:
    """The largest convergence rate over all curvatures from μ to L.

    It is the rate at one end of the spectrum, because both rates first fall and then rise with a.

    Args:
      rate: `heavy_ball_rate` or `nesterov_rate`.
      alpha: α.
      beta: β in [0, 1).
      mu: the smallest curvature, μ.
      L: the largest curvature.

    >>> print(f"{worst_rate(heavy_ball_rate, 2 / 101, 0.0, 1.0, 100.0):.4f}")
    0.9802
    """
    alpha, beta, mu, L = as_floats(alpha, beta, mu, L)
    return jnp.maximum(rate(alpha * mu, beta), rate(alpha * L, beta))


def heavy_ball_stability_limit(beta: ArrayLike) -> FloatArray:
    """The heavy ball's stability limit, 2(1 + β): it converges for 0 < a < 2(1 + β).

    Args:
      beta: β in [0, 1).

    >>> print(heavy_ball_stability_limit(0.9))
    3.8
    """
    (beta,) = as_floats(beta)
    return 2 * (1 + beta)


def nesterov_stability_limit(beta: ArrayLike) -> FloatArray:
    """Nesterov's stability limit, 2(1 + β)/(1 + 2β): it converges for a > 0 below that.

    For β > 0 the limit is lower than that of gradient descent, which is 2.

    Args:
      beta: β in [0, 1].

    >>> print(f"{nesterov_stability_limit(0.9):.4f}")
    1.3571
    """
    (beta,) = as_floats(beta)
    return 2 * (1 + beta) / (1 + 2 * beta)


def robust_region(beta: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """The range (1 − √β)² ≤ a ≤ (1 + √β)², where the heavy ball oscillates with the rate √β for every curvature.

    Args:
      beta: β in [0, 1).

    Returns:
      The lowest and the highest a.

    References:
      Zhang and Mitliagkas, `YellowFin and the art of momentum tuning <https://arxiv.org/abs/1706.03471>`_, 2017.

    >>> print(*robust_region(0.25))
    0.25 2.25
    """
    (beta,) = as_floats(beta)
    root = jnp.sqrt(beta)
    return (1 - root) ** 2, (1 + root) ** 2


def nesterov_oscillating_region(beta: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """The range ((1 − β)/(1 + β))² ≤ a ≤ 1, where Nesterov oscillates with the rate √(β(1 − a)).

    Unlike in the heavy ball's `robust_region` the rate depends on the curvature.

    Args:
      beta: β in [0, 1].

    Returns:
      The lowest and the highest a.

    >>> print(*nesterov_oscillating_region(0.0))
    1.0 1.0
    >>> print(*(f"{end:.4f}" for end in nesterov_oscillating_region(0.6)))
    0.0625 1.0000
    """
    (beta,) = as_floats(beta)
    return ((1 - beta) / (1 + beta)) ** 2, jnp.ones_like(beta)


def heavy_ball_critical_momentum(a: ArrayLike) -> FloatArray:
    """The momentum with the heavy ball's best rate at a given a: β = (1 − √a)², with the rate |1 − √a|.

    The roots coincide there (critical damping): with s = √a the path from rest is w_k = (1 + ks)(1 − s)ᵏ w₀.

    Args:
      a: αλ in (0, 4).

    >>> print(heavy_ball_critical_momentum(0.25))
    0.25
    """
    (a,) = as_floats(a)
    return (1 - jnp.sqrt(a)) ** 2


def nesterov_critical_momentum(a: ArrayLike) -> FloatArray:
    """The momentum with Nesterov's best rate at a given a: β = (1 − √a)/(1 + √a), with the rate 1 − √a.

    The roots coincide there (critical damping): with s = √a the path from rest is
    w_k = (1 + ks/(1 + s))(1 − s)ᵏ w₀.

    Args:
      a: αλ in (0, 1].

    >>> print(f"{nesterov_critical_momentum(0.25):.4f}")
    0.3333
    """
    (a,) = as_floats(a)
    return (1 - jnp.sqrt(a)) / (1 + jnp.sqrt(a))


def heavy_ball_matrix(a: ArrayLike, beta: ArrayLike) -> Float[Array, "... 2 2"]:
    """The matrix of one iteration of the heavy ball on the state (w, v): [[1 − a, β], [−a, β]].

    >>> print(heavy_ball_matrix(0.5, 0.25))
    [[ 0.5   0.25]
     [-0.5   0.25]]
    """
    a, beta = as_floats(a, beta)
    return _matrix(1 - a, beta, -a, beta)


def nesterov_matrix(a: ArrayLike, beta: ArrayLike) -> Float[Array, "... 2 2"]:
    """The matrix of one iteration of Nesterov on the state (w, v): [[1 − (1 + β)a, β²], [−a, β]].

    >>> print(nesterov_matrix(0.5, 0.25))
    [[ 0.375   0.0625]
     [-0.5     0.25  ]]
    """
    a, beta = as_floats(a, beta)
    return _matrix(1 - (1 + beta) * a, beta**2, -a, beta)


def heavy_ball_saddle_growth(c: ArrayLike, beta: ArrayLike) -> Growth:
    """How fast the heavy ball leaves a saddle: its growth rate σ, the larger root of σ² − (1 + β + c)σ + β.

    From rest w_k/w₀ = amplitude · σᵏ + (1 − amplitude) · τᵏ, where τ < 1 is the smaller root. Gradient descent grows at
    the rate 1 + c. The heavy ball grows faster at the same learning rate, and more slowly at the same effective one.

    Args:
      c: α|λ| > 0, for the curvature λ < 0.
      beta: β in [0, 1).

    >>> print(*(f"{heavy_ball_saddle_growth(c, 0.9).rate:.4f}" for c in (0.1, 0.01)))
    1.3162 1.0647
    """
    c, beta = as_floats(c, beta)
    return _growth(heavy_ball_rate(-c, beta), product=beta, first=1 + c)


def nesterov_saddle_growth(c: ArrayLike, beta: ArrayLike) -> Growth:
    """How fast Nesterov leaves a saddle: its growth rate σ, the larger root of σ² − (1 + β)(1 + c)σ + β(1 + c).

    From rest w_k/w₀ = amplitude · σᵏ + (1 − amplitude) · τᵏ, where τ < 1 is the smaller root.

    Args:
      c: α|λ| > 0, for the curvature λ < 0.
      beta: β in [0, 1).

    >>> print(*(f"{nesterov_saddle_growth(c, 0.9).rate:.4f}" for c in (0.1, 0.01)))
    1.3644 1.0674
    """
    c, beta = as_floats(c, beta)
    return _growth(nesterov_rate(-c, beta), product=beta * (1 + c), first=1 + (1 + beta) * c)


def steps_to_grow(growth: Growth, factor: ArrayLike) -> FloatArray:
    """The iterations after which w_k/w₀ reaches a factor from rest: ln(factor/amplitude)/ln(rate), not rounded.

    The amplitude matters: momentum loses iterations while the velocity builds up, which the rate does not show. The
    decaying term is left out, which matters only for factors near 1.

    >>> print(*(f"{steps_to_grow(heavy_ball_saddle_growth(0.1, beta), 1000.0):.1f}" for beta in (0.0, 0.9)))
    72.5 26.7
    """
    rate, amplitude, factor = as_floats(*growth, factor)
    return jnp.log(factor / amplitude) / jnp.log(rate)


def chain_lower_bound(mu: ArrayLike, L: ArrayLike, dimensions: int, k: ArrayLike) -> FloatArray:
    """The least error that any first-order method can have after k iterations on Nesterov's chain from w₀ = 0.

    It is ‖w_k − w*‖∞ ≥ qᵏ·‖w*‖∞ for k ≤ n − 1, with q = (√κ − 1)/(√κ + 1) and ‖w*‖∞ = q, on the landscape
    `momentum_jax.tasks.landscapes.chain`. It holds for every method whose iterates stay in the span of the gradients
    so far: after k iterations all coordinates beyond the k-th are still 0. Conjugate gradients attain it.

    Args:
      mu: μ > 0.
      L: L ≥ μ.
      dimensions: n.
      k: iterations, integers ≥ 0.

    Returns:
      The bound on the largest error of a coordinate, qᵏ⁺¹; 0 for k ≥ n, where there is no bound.

    References:
      Nesterov, Introductory Lectures on Convex Optimization, 2004, theorem 2.1.13.

    >>> print(chain_lower_bound(1.0, 9.0, 2, jnp.arange(3)))
    [0.5  0.25 0.  ]
    """
    k = jnp.asarray(k)
    bound = _power(_chain_ratio(*as_floats(mu, L)), k + 1)
    return jnp.where(jnp.broadcast_to(k < dimensions, bound.shape), bound, 0)


def as_floats(*values: ArrayLike) -> tuple[Array, ...]:
    """The arguments as arrays of one shape and one floating-point dtype, which is not weak."""
    dtype = jnp.result_type(*values)
    if not jnp.issubdtype(dtype, jnp.floating):
        dtype = jnp.result_type(float)
    # Before JAX 0.12 `broadcast_arrays` returns a list.
    return tuple(jnp.broadcast_arrays(*(jnp.asarray(value, dtype) for value in values)))


def _spectral_radius(trace: FloatArray, determinant: FloatArray, discriminant: FloatArray) -> FloatArray:
    """The larger modulus of the roots of r² − trace·r + determinant."""
    oscillates = discriminant <= 0
    both = (jnp.abs(trace) + _root(discriminant)) / 2
    return jnp.where(oscillates, _root(determinant), both)


def _root(x: FloatArray) -> FloatArray:
    """√x for x > 0, else 0 with the derivative 0; NaN derivatives would leak out of the branch that is not taken."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def _power(base: FloatArray, k: ArrayLike) -> FloatArray:
    """The power by integers k ≥ 0; for k = 0 its derivative is 0, also for the base 0."""
    base, k = jnp.broadcast_arrays(base, k)
    # The derivative of lax.pow for an integer exponent needs implicit promotion.
    exponent = jnp.astype(k, base.dtype)
    return jnp.where(k > 0, base ** jnp.maximum(exponent, 1), 1)


def _matrix(*entries: FloatArray) -> Float[Array, "... 2 2"]:
    return jnp.stack(entries, axis=-1).reshape(*entries[0].shape, 2, 2)


def _growth(rate: FloatArray, product: FloatArray, first: FloatArray) -> Growth:
    """The growth from the larger root, the product of both roots, and w₁/w₀."""
    other = product / rate
    return Growth(rate, (first - other) / (rate - other))


def _chain_ratio(mu: FloatArray, L: FloatArray) -> FloatArray:
    root = jnp.sqrt(L / mu)
    return (root - 1) / (root + 1)
