"""The best learning rate and momentum for quadratics whose curvatures lie between μ and L."""

import math
from typing import NamedTuple

from momentum_jax._base.errors import InputError, check_real


class Tuning(NamedTuple):
    """A learning rate and a momentum, and how fast they converge."""

    learning_rate: float
    momentum: float
    rate: float
    """The factor by which the error shrinks in each iteration, asymptotically."""


def optimal_sgd(mu: float, L: float) -> Tuning:
    """The best learning rate of gradient descent: η = 2/(L + μ), rate (κ − 1)/(κ + 1), with κ = L/μ.

    Args:
      mu: the smallest curvature, μ > 0.
      L: the largest curvature, L ≥ μ.

    Raises:
      InputError: not 0 < μ ≤ L.

    References:
      Polyak, Introduction to Optimization, 1987, section 1.4.

    >>> print(round(optimal_sgd(1, 100).rate, 4))
    0.9802
    """
    mu, L = _checked(mu, L)
    return Tuning(2 / (L + mu), 0.0, (L - mu) / (L + mu))


def optimal_momentum(mu: float, L: float) -> Tuning:
    """The best tuning of the heavy ball: η = (2/(√L + √μ))², m = ((√κ − 1)/(√κ + 1))², rate √m.

    Args, Raises: as `optimal_sgd`.

    References:
      Polyak, `Some methods of speeding up the convergence of iteration methods
      <https://doi.org/10.1016/0041-5553(64)90137-5>`_, 1964.

    >>> tuning = optimal_momentum(1, 100)
    >>> print(round(tuning.rate, 4))
    0.8182
    >>> import momentum_jax as mj
    >>> optimizer = mj.momentum(tuning.learning_rate, tuning.momentum)
    """
    mu, L = _checked(mu, L)
    rate = (math.sqrt(L) - math.sqrt(mu)) / (math.sqrt(L) + math.sqrt(mu))
    return Tuning((2 / (math.sqrt(L) + math.sqrt(mu))) ** 2, rate**2, rate)


def optimal_nesterov(mu: float, L: float) -> Tuning:
    """The best tuning of Nesterov momentum: η = 4/(3L + μ), m = (√(3κ + 1) − 2)/(√(3κ + 1) + 2).

    The rate is 1 − 2/√(3κ + 1).

    Args, Raises: as `optimal_sgd`.

    References:
      Lessard, Recht and Packard, `Analysis and design of optimization algorithms via integral quadratic constraints
      <https://arxiv.org/abs/1408.3595>`_, 2016, proposition 1.

    >>> print(round(optimal_nesterov(1, 100).rate, 4))
    0.8847
    """
    mu, L = _checked(mu, L)
    root = math.sqrt(3 * L / mu + 1)
    return Tuning(4 / (3 * L + mu), (root - 2) / (root + 2), 1 - 2 / root)


def standard_nesterov(mu: float, L: float) -> Tuning:
    """The standard tuning of Nesterov momentum: η = 1/L, m = (√κ − 1)/(√κ + 1), rate 1 − 1/√κ.

    Unlike `optimal_nesterov` it has a guarantee for every function of such curvatures, not only for quadratics.

    Args, Raises: as `optimal_sgd`.

    References:
      Nesterov, Introductory Lectures on Convex Optimization, 2004, section 2.2.

    >>> print(round(standard_nesterov(1, 100).rate, 4))
    0.9
    """
    mu, L = _checked(mu, L)
    root = math.sqrt(L / mu)
    return Tuning(1 / L, (root - 1) / (root + 1), 1 - 1 / root)


def _checked(mu: float, L: float) -> tuple[float, float]:
    """The curvatures as Python numbers: inside a trace JAX would trace the arithmetic of concrete arrays."""
    for name, value in {"mu": mu, "L": L}.items():
        check_real(name, value, 0, math.inf)
    if not 0 < float(mu) <= float(L):
        raise InputError(f"curvatures must be 0 < mu ≤ L, not mu = {mu!r} and L = {L!r}")
    return float(mu), float(L)
