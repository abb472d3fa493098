"""How fast each method converges on quadratics, against closed forms.

On a quadratic of curvature λ the iterates obey w_{k+2} = trace·w_{k+1} − determinant·w_k. With a = ηλ the
characteristic polynomial is r² − (1 + β − a)·r + β for the heavy ball and r² − (1 + β)(1 − a)·r + β(1 − a) for
Nesterov; the larger of the moduli of its roots is the rate.
"""

import math

import jax
import numpy as np
import optax
import pytest

import momentum_jax as mj
from momentum_jax.optimizers import (
    adaptive_restart,
    aggmo,
    optimal_momentum,
    optimal_nesterov,
    optimal_sgd,
    qhm,
    scale_by_momentum,
    scale_by_nesterov,
    standard_nesterov,
)
from tests.compiling import jit
from tests.optimizers.factories import message
from tests.optimizers.oracles import descend
from tests.optimizers.table import in_the_default_run

EPS = np.finfo(float).eps


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def heavy_ball(a, beta):
    return 1 + beta - a, beta + 0 * a


def nesterov(a, beta):
    return (1 + beta) * (1 - a), beta * (1 - a)


def descent(a, beta):
    """Its only root, and 0."""
    return 1 - a, 0 * a


def rate_of(polynomial, a, beta):
    """The larger modulus of the roots of r² − trace·r + determinant."""
    trace, determinant = polynomial(a, beta)
    discriminant = trace**2 - 4 * determinant
    real = (np.abs(trace) + np.sqrt(np.maximum(discriminant, 0))) / 2
    return np.where(discriminant <= 0, np.sqrt(np.abs(determinant)), real)


# The optimizer as a function of a = ηλ and β on the parabola w²/2, and its characteristic polynomial.
METHODS = {
    "sgd": (lambda a, beta: mj.sgd(a), descent),
    **{
        f"{method.__name__}, {convention}": (
            lambda a, beta, method=method, convention=convention: method(a, beta, convention=convention),
            polynomial,
        )
        for method, polynomial in ((mj.momentum, heavy_ball), (mj.nesterov, nesterov))
        for convention in ("inside", "outside", "corrected")
    },
    "qhm, nu = 1": (lambda a, beta: qhm(a / (1 - beta), beta, 1.0), heavy_ball),
    "qhm, nu = m": (lambda a, beta: qhm(a / (1 - beta), beta, beta), nesterov),
    "qhm, nu = 0": (lambda a, beta: qhm(a, beta, 0.0), descent),
    "aggmo, one velocity": (lambda a, beta: aggmo(a, (beta,)), heavy_ball),
    "scale_by_momentum": (
        lambda a, beta: optax.chain(scale_by_momentum(beta), optax.scale_by_learning_rate(a)),
        heavy_ball,
    ),
    "scale_by_nesterov": (
        lambda a, beta: optax.chain(scale_by_nesterov(beta), optax.scale_by_learning_rate(a)),
        nesterov,
    ),
}
GRID = [x.ravel() for x in np.meshgrid(np.linspace(0.01, 4, 40), np.linspace(0, 0.99, 34))]


@pytest.mark.parametrize("name", METHODS)
def test_on_all_of_the_plane_the_iterates_obey_the_recurrence_of_the_characteristic_polynomial(name):
    make, polynomial = METHODS[name]

    def path(a, beta):
        optimizer = make(a, beta)

        def step(carry, _):
            w, state = carry
            update, state = optimizer.update(w, state, w)
            return (w + update, state), w

        return jax.lax.scan(step, (1.0, optimizer.init(1.0)), length=20)[1]

    a, beta = GRID
    w = np.asarray(jit(jax.vmap(path, out_axes=1))(a, beta))
    trace, determinant = polynomial(a, beta)
    terms = w[2:], trace * w[1:-1], determinant * w[:-2]
    # w_{k+2} − trace·w_{k+1} + determinant·w_k = 0, but for the roundings of the path so far and of a velocity that
    # is as large as the changes of w.
    largest = np.maximum.accumulate(np.max(np.abs(terms), axis=0))
    assert (np.abs(terms[0] - terms[1] + terms[2]) <= 50 * EPS * largest).all()


@pytest.mark.parametrize(
    ("method", "polynomial", "first"),
    [(mj.momentum, heavy_ball, lambda a, beta: 1 - a), (mj.nesterov, nesterov, lambda a, beta: 1 - a * (1 + beta))],
    ids=["momentum", "nesterov"],
)
@pytest.mark.parametrize("beta", [0.3, 0.9])
def test_every_iterate_is_a_sum_of_powers_of_the_two_roots(method, polynomial, first, beta):
    # At the rate 1, a is the curvature: roots that are real, complex, and of both signs.
    a, k = np.array([0.001, 0.1, 0.7, 1.2]), np.arange(301)[:, None]
    path = descend(method(1.0, beta), lambda w: a * w, np.ones(4), 300)
    trace, determinant = polynomial(a, beta)
    root = np.sqrt(trace**2 - 4 * determinant + 0j)
    r, s = (trace + root) / 2, (trace - root) / 2
    expected = ((first(a, beta) - s) * r**k - (first(a, beta) - r) * s**k) / (r - s)
    # A rounding of step j is multiplied by at most (k − j + 1)·rate^(k − j) like everything else.
    slack = 50 * EPS * (1 + k) ** 2 * rate_of(polynomial, a, beta) ** k
    assert (np.abs(path - expected.real) <= slack).all()


# s = √a: powers of two and three quarters, so that η = s² and β are exact and the roots meet.
@pytest.mark.parametrize("s", [1 / 64, 0.25, 0.75, 1.0, 1.25, 1.75])
def test_a_critically_damped_heavy_ball_is_one_plus_k_s_times_one_minus_s_to_the_k(s):
    k = np.arange(201)
    path = descend(mj.momentum(s**2, (1 - s) ** 2), lambda w: w, 1.0, 200)
    # Where roots meet, rounding grows with k² relative to the powers, here at most 4e4·1e-16.
    expected = (1 + k * s) * (1 - s) ** k
    assert (np.abs(path - expected) <= 4 * EPS * (1 + k) ** 2 * np.abs(1 - s) ** k).all()


@pytest.mark.parametrize("s", [1 / 64, 0.25, 0.6, 1.0])
def test_critically_damped_nesterov_is_one_plus_k_s_over_one_plus_s_times_one_minus_s_to_the_k(s):
    k = np.arange(201)
    path = descend(mj.nesterov(s**2, (1 - s) / (1 + s)), lambda w: w, 1.0, 200)
    expected = (1 + k * s / (1 + s)) * (1 - s) ** k
    # As above; (1 − s)/(1 + s) is rounded, by which the roots part by some √1e-16 and w_k, which is even in that
    # distance, by k²·1e-16.
    assert (np.abs(path - expected) <= 8 * EPS * (1 + k) ** 2 * np.abs(1 - s) ** k).all()


@pytest.mark.parametrize("a", [0.01, 0.3, 0.9, 2.5, 3.5])
def test_critical_damping_is_the_best_momentum_for_a_rate(a):
    beta = np.linspace(0, 1, 4001)[:-1]
    rates = rate_of(heavy_ball, a, beta)
    # At its optimum the rate has the slope of a square root on one side: between two of the grid, √(1/4000).
    np.testing.assert_allclose(rates.min(), abs(1 - np.sqrt(a)), atol=0.02)
    assert rates.min() >= abs(1 - np.sqrt(a)) - 1e-12
    if a <= 1:
        rates = rate_of(nesterov, a, beta)
        np.testing.assert_allclose(rates.min(), 1 - np.sqrt(a), atol=0.02)
        assert rates.min() >= 1 - np.sqrt(a) - 1e-12


STABLE_BELOW = {
    "sgd": lambda beta: 2.0,
    "momentum": lambda beta: 2 * (1 + beta),
    "nesterov": lambda beta: (2 + 2 * beta) / (1 + 2 * beta),
}


@pytest.mark.parametrize(
    ("name", "beta"),
    [("sgd", 0.0), *((name, beta) for name in ("momentum", "nesterov") for beta in (0.0, 0.5, 0.9, 0.99))],
)
def test_a_method_is_stable_up_to_its_bound_and_no_further(name, beta):
    bound = STABLE_BELOW[name](beta)
    # Just inside and outside of the bound, and of a = 0, where a curvature changes its sign.
    curvatures = np.array([bound * 0.999, 1e-3, bound * 1.001, -1e-3])
    optimizer = mj.sgd(1.0) if name == "sgd" else getattr(mj, name)(1.0, beta)
    size = np.abs(descend(optimizer, lambda w: curvatures * w, np.ones(4), 4000))
    assert (size[-500:].max(0)[:2] < 0.1).all()
    assert (size[-1, 2:] > 10).all()


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_in_the_robust_region_the_heavy_ball_has_the_rate_root_beta_whatever_the_curvature(beta):
    low, high = (1 - np.sqrt(beta)) ** 2, (1 + np.sqrt(beta)) ** 2
    a = np.linspace(low, high, 12)[1:-1]
    np.testing.assert_allclose(rate_of(heavy_ball, a, beta), np.sqrt(beta), rtol=1e-15)
    assert (rate_of(heavy_ball, np.array([low * 0.99, high * 1.01]), beta) > np.sqrt(beta) + 1e-4).all()
    # |w_{k+1} − r·w_k|², r a root, is what the oscillation leaves alone: every step multiplies it by |r|² = β.
    path = descend(mj.momentum(1.0, beta), lambda w: a * w, np.ones(len(a)), 100)
    energy = path[1:] ** 2 - (1 + beta - a) * path[1:] * path[:-1] + beta * path[:-1] ** 2
    # 100 steps of rounding, and a sum that cancels near the ends of the region, by a factor of some 10.
    np.testing.assert_allclose(energy, energy[0] * beta ** np.arange(100)[:, None], rtol=1e-11)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_where_nesterov_oscillates_its_rate_depends_on_the_curvature(beta):
    a = np.linspace(((1 - beta) / (1 + beta)) ** 2, 1, 12)[1:-1]
    path = descend(mj.nesterov(1.0, beta), lambda w: a * w, np.ones(len(a)), 100)
    trace, determinant = nesterov(a, beta)
    energy = path[1:] ** 2 - trace * path[1:] * path[:-1] + determinant * path[:-1] ** 2
    # As above, with |r|² = β(1 − a).
    np.testing.assert_allclose(energy, energy[0] * (beta * (1 - a)) ** np.arange(100)[:, None], rtol=1e-11)


TUNINGS = {
    "sgd": (optimal_sgd, lambda tuning: mj.sgd(tuning.learning_rate), descent),
    "momentum": (optimal_momentum, lambda tuning: mj.momentum(*tuning[:2]), heavy_ball),
    "nesterov": (optimal_nesterov, lambda tuning: mj.nesterov(*tuning[:2]), nesterov),
    "standard nesterov": (standard_nesterov, lambda tuning: mj.nesterov(*tuning[:2]), nesterov),
}
CONDITIONS = [1.0, 1.5, 20.0, 100.0, 1e4]
every_tuning = pytest.mark.parametrize("name", TUNINGS)


@every_tuning
@pytest.mark.parametrize("kappa", CONDITIONS)
@pytest.mark.parametrize("mu", [1.0, 0.03])
def test_a_tuning_has_its_rate_at_the_worst_curvature(name, kappa, mu):
    tune, _, polynomial = TUNINGS[name]
    tuning = tune(mu, kappa * mu)
    a = tuning.learning_rate * mu * np.linspace(1, kappa, 1001)
    # At the worst curvature the roots meet, and the rounding of η and β parts them by its square root: 1e-8.
    np.testing.assert_allclose(rate_of(polynomial, a, tuning.momentum).max(), tuning.rate, rtol=0, atol=1e-7)


@every_tuning
@pytest.mark.parametrize("kappa", in_the_default_run(CONDITIONS, [1.0, 100.0]))
def test_a_tuned_run_shrinks_as_the_closed_form_says(name, kappa):
    tune, make, _ = TUNINGS[name]
    tuning = tune(1.0, kappa)
    steps = 400
    k = np.arange(steps + 1)
    curvatures = np.linspace(1.0, kappa, 15)
    path = descend(make(tuning), lambda w: curvatures * w, np.ones(15), steps)
    # At the smallest curvature the heavy ball and both Nesterovs are critically damped, with 1 − s = rate.
    s = 1 - tuning.rate
    growth = {"sgd": 0, "momentum": s}.get(name, s / (1 + s))
    expected = (1 + k * growth) * tuning.rate**k
    # The rounding of η and β, at double roots magnified by k²; at κ = 1, where the minimum is hit, rounding itself.
    # What is subnormal XLA flushes to zero.
    slack = 1e-15 * (1 + k) ** 2 * tuning.rate ** np.maximum(k - 2, 0) + 1e-300
    assert (np.abs(path[:, 0] - expected) <= slack).all()
    # The other end is as slow, and nothing between them slower, but for a constant.
    assert (np.abs(path) <= 3 * (1 + k[:, None]) * tuning.rate ** k[:, None] + slack[:, None]).all()


def test_the_rates_at_condition_100_are_those_of_the_literature():
    rates = [tune(1, 100).rate for tune, _, _ in TUNINGS.values()]
    # Rounded to four digits.
    np.testing.assert_allclose(rates, [0.9802, 0.8182, 0.8847, 0.9000], atol=5e-5)


def minimised(worst, bounds):
    """The smallest value of a function of some arrays in a box, by ever finer grids around the best point."""
    box = np.array(bounds, float)
    points, best = 61, np.inf
    for _ in range(30):
        axes = [np.linspace(low, high, points) for low, high in box]
        grid = np.meshgrid(*axes)
        values = worst(*grid)
        best = min(best, values.min())
        at = np.array([axis.ravel()[values.argmin()] for axis in grid])
        width = (box[:, 1] - box[:, 0]) / 4
        box = np.clip(np.stack([at - width, at + width], 1), *np.array(bounds, float).T[:, :, None])
    return best


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
@pytest.mark.parametrize("kappa", [1.5, 20.0, 1000.0])
def test_no_other_rate_and_momentum_does_better_than_the_tuning(name, kappa):
    tune, _, polynomial = TUNINGS[name]
    best = tune(1.0, kappa).rate

    def worst(eta, beta):
        return np.maximum(rate_of(polynomial, eta, beta), rate_of(polynomial, kappa * eta, beta))

    found = minimised(worst, [(0, 4 / kappa), (0, 0.999)])
    # The grid ends at a width of 1e-9 about the optimum, from which the rate rises like a square root.
    assert best - 1e-9 <= found <= best + 1e-3


@pytest.mark.parametrize("kappa", [1.5, 20.0, 1000.0])
def test_the_standard_momentum_is_the_best_for_nesterov_at_the_rate_one_over_l(kappa):
    def worst(beta):
        return np.maximum(rate_of(nesterov, 1 / kappa, beta), rate_of(nesterov, 1.0, beta))

    best = standard_nesterov(1.0, kappa).rate
    assert best - 1e-9 <= minimised(worst, [(0, 0.999)]) <= best + 1e-4


@pytest.mark.parametrize("kappa", [20.0, 1000.0])
def test_adaptive_restart_that_knows_the_convexity_reaches_the_rate_of_the_standard_tuning(kappa):
    # θ tends to √q, and with it the momentum to (1 − √q)/(1 + √q).
    path = descend(adaptive_restart(1 / kappa, q=1 / kappa), lambda w: w, 1.0, 4000)
    rate = standard_nesterov(1.0, kappa).rate
    k = int(25 / -np.log(rate))
    # At the double root w is (A + B·k)·rate^k in the long run: from k to 2k it shrinks by 2·rate^k. Within 10%, this
    # gives the rate within 0.1/k.
    np.testing.assert_allclose(np.abs(path[2 * k] / path[k]), 2 * rate**k, rtol=0.1)


def test_the_tunings_of_the_valley_and_their_paths_are_those_of_the_book():
    # f = x²/20 + y² from (−7, 2). Oracle: the numbers in the project's notes, which have as many digits as here.
    curvatures, start = np.array([0.1, 2.0]), np.array([-7.0, 2.0])
    tunings = {
        "momentum": (1.33581, 0.402605, 0.634512, 1.5445e-4),
        "nesterov": (0.655738, 0.592263, 0.743926, 6.980e-3),
        "sgd": (2 / 2.1, 0.0, 0.904762, 0.36155),
    }
    for name, (eta, beta, rate, distance) in tunings.items():
        tune, make, _ = TUNINGS[name]
        tuning = tune(0.1, 2.0)
        np.testing.assert_allclose(tuning, (eta, beta, rate), atol=6e-6)
        path = descend(make(tuning), lambda w: curvatures * w, start, 30)
        np.testing.assert_allclose(np.linalg.norm(path[-1]), distance, rtol=1e-4)


def test_a_tuning_refuses_curvatures_that_cannot_be():
    for call, words in (
        (lambda: optimal_sgd(0, 1), "curvatures must be 0 < mu ≤ L, not mu = 0 and L = 1"),
        (lambda: optimal_momentum(2, 1), "curvatures must be 0 < mu ≤ L, not mu = 2 and L = 1"),
        (lambda: optimal_nesterov(-1, 1), "mu must be finite and at least 0, not -1"),
        (lambda: standard_nesterov(1, math.inf), "L must be finite and at least 0, not inf"),
        (lambda: optimal_sgd(math.nan, 1), "mu must be finite and at least 0, not nan"),
        (lambda: optimal_momentum("1", 2), "mu must be finite and at least 0, not '1'"),
        (lambda: optimal_nesterov(True, 2), "mu must be finite and at least 0, not True"),
    ):
        assert words in message(call)
