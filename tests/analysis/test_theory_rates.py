"""Rates, stability and critical damping against eigenvalues and runs of the recurrence, in float64 NumPy."""

import numpy as np
import pytest

from momentum_jax.analysis import theory
from momentum_jax.optimizers import optimal_momentum, optimal_nesterov, optimal_sgd, standard_nesterov
from tests.analysis.recurrences import CRITICAL_PATHS, EPS, LIMITS, STEPS, each_method, formula, matrix, simulate

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture(scope="module")
def sample():
    """α, β, λ of both signs: stable or not, oscillating or not, to the edges of all regions, gradient descent too."""
    rng = np.random.default_rng(0)
    n = 2000
    alpha, beta = 10 ** rng.uniform(-4, 1, n), 1 - 10 ** rng.uniform(-4, 0, n)
    beta[:200] = 0
    a = np.concatenate([10 ** rng.uniform(-6, 1, n // 2), rng.uniform(0, 4.2, n // 2)])
    a[::10] *= -1
    # Close to each edge, on either side.
    for i, edge in enumerate(
        [
            (1 - np.sqrt(beta)) ** 2,
            (1 + np.sqrt(beta)) ** 2,
            ((1 - beta) / (1 + beta)) ** 2,
            np.ones(n),
            LIMITS["heavy_ball"](beta),
            LIMITS["nesterov"](beta),
        ]
    ):
        near = np.arange(200 + i, n, 20)
        a[near] = edge[near] * (1 + rng.choice([-1, 1], len(near)) * 10 ** rng.uniform(-12, -1, len(near)))
    return alpha, beta, a / alpha


@each_method
def test_the_rate_and_the_matrix_are_those_of_the_recurrence_in_all_regimes(method, sample):
    alpha, beta, curvature = sample
    a = alpha * curvature
    steps = matrix(method, a, beta)
    np.testing.assert_allclose(formula(method, "matrix")(a, beta), steps, rtol=4 * EPS, atol=4 * EPS)
    rate = np.asarray(formula(method, "rate")(a, beta))
    roots = np.linalg.eigvals(steps)
    # An error ε in a polynomial moves roots that are a distance d apart by ε/d, and by √ε where they meet.
    error = 20 * EPS * np.abs(steps).max((1, 2)) ** 2
    apart = np.maximum(np.abs(roots[:, 0] - roots[:, 1]), np.sqrt(error))
    assert (np.abs(rate - np.abs(roots).max(1)) <= error / apart + 4 * EPS * rate).all()
    # The sample has all of it: oscillating and not, converging and not.
    oscillates = np.abs(roots.imag).max(1) > 0
    for one in (oscillates, ~oscillates):
        assert (one & (rate < 1)).sum() > 100
    assert (rate > 1).sum() > 100


@each_method
def test_rates_are_as_exact_as_float32_allows(method, sample):
    alpha, beta, curvature = sample
    a, beta = (alpha * curvature).astype(np.float32), beta.astype(np.float32)
    rate = np.asarray(formula(method, "rate")(a, beta))
    assert rate.dtype == np.float32
    # Oracle: float64, which the eigenvalues vouch for. The square of the roots' distance is a difference of
    # (1 − β)² and a term in a: what is lost is an ε of these, not of the numbers near 4 in the textbook's form.
    a, beta = a.astype(float), beta.astype(float)
    exact = np.asarray(formula(method, "rate")(a, beta))
    scale = (1 - beta) ** 2 + np.abs(a) * (2 * (1 + beta) ** 2 + np.abs(a))
    if method == "nesterov":
        scale *= 1 + np.abs(a)
    apart = np.abs(np.subtract(*np.linalg.eigvals(matrix(method, a, beta)).T))
    error = 4 * np.finfo(np.float32).eps * scale
    slack = error / np.maximum(apart, np.sqrt(error)) + np.finfo(np.float32).eps * (exact + np.abs(a) + 1)
    assert (np.abs(rate - exact) <= slack).all()


@each_method
def test_what_is_not_a_number_has_no_rate_and_what_is_infinite_diverges(method):
    rate = formula(method, "rate")(np.array([np.nan, 0.5, np.inf, -np.inf]), np.array([0.5, np.nan, 0.5, 0.5]))
    np.testing.assert_array_equal(rate, [np.nan, np.nan, np.inf, np.inf])


@each_method
def test_a_run_shrinks_or_grows_at_the_rate(method, sample):
    alpha, beta, curvature = (values[::4] for values in sample)
    a, steps = alpha * curvature, 400
    rate = np.asarray(formula(method, "rate")(a, beta))
    moves = rate > 0.05
    a, beta, rate = a[moves], beta[moves], rate[moves]
    # From both unit vectors at once; what grows beyond float64's range is kept as a logarithm.
    w, v, log_size = np.array([1.0, 0.0])[:, None] + 0 * a, np.array([0.0, 1.0])[:, None] + 0 * a, 0 * a
    for _ in range(steps):
        w, v = STEPS[method](w, v, a * w, 1.0, beta)
        size = np.sqrt((w**2 + v**2).sum(0))
        w, v, log_size = w / size, v / size, log_size + np.log(size)
    # For a 2×2 matrix M, ρᵏ ≤ ‖Mᵏ‖ ≤ ρᵏ·k(‖M‖/ρ + 1), which is attained at double roots, up to the norm's √2.
    excess = log_size - steps * np.log(rate)
    norm = np.linalg.norm(matrix(method, a, beta), axis=(1, 2))
    # At double roots the roundings of a step move the rate by √EPS ≈ 1.5e-8 of ‖M‖.
    slack = steps * 1e-7 * norm / rate
    assert (excess >= -slack).all()
    assert (excess <= np.log(2 * steps * (norm / rate + 1)) + slack).all()


@each_method
@pytest.mark.parametrize("end", ["zero", "limit"])
def test_a_method_is_stable_to_within_a_millionth_of_the_ends_and_not_beyond(method, end):
    beta = np.array([0.0, 0.3, 0.9, 0.99])
    limit = np.asarray(formula(method, "stability_limit")(beta))
    inside, outside = (limit * (1 - 1e-6), limit * (1 + 1e-6)) if end == "limit" else (limit * 1e-6, limit * -1e-6)
    for a, stable in ((inside, True), (outside, False)):
        rate = np.asarray(formula(method, "rate")(a, beta))
        # Rates here are 1 ∓ 2e-6 or farther from 1: 2²⁴ steps of the recurrence make at least 33 e-folds of it.
        with np.errstate(over="ignore", invalid="ignore"):
            size = [np.abs(np.linalg.matrix_power(step, 2**24)).max() for step in matrix(method, a, beta)]
        if stable:
            assert (rate < 1).all()
            assert np.max(size) < 1e-13
        else:
            assert (rate > 1).all()
            assert not (np.array(size) < 1e13).any()


@each_method
def test_the_worst_curvature_is_an_end_of_the_spectrum(method, sample):
    alpha, beta, _ = sample
    rng = np.random.default_rng(1)
    mu, L = np.sort(rng.uniform(0, 5, (2, len(alpha))) / alpha, axis=0)
    rate = formula(method, "rate")
    worst = np.asarray(theory.worst_rate(rate, alpha, beta, mu, L))
    roots = [
        np.abs(np.linalg.eigvals(matrix(method, alpha * (mu + u * (L - mu)), beta))).max(1)
        for u in np.linspace(0, 1, 21)
    ]
    # Eigenvalues at double roots are good to √EPS.
    assert (np.max(roots, axis=0) <= worst + 1e-6).all()
    np.testing.assert_allclose(worst, np.maximum(roots[0], roots[-1]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "tune", "printed"),
    [
        ("heavy_ball", optimal_sgd, (0.9802, 0.904762)),
        ("heavy_ball", optimal_momentum, (0.8182, 0.634512)),
        ("nesterov", optimal_nesterov, (0.8847, 0.743926)),
        ("nesterov", standard_nesterov, (0.9000, 0.776393)),
    ],
)
def test_tunings_have_their_rates_here(method, tune, printed):
    # Oracle: the tunings' own closed forms, and what is printed of them: κ = 100 and the book's valley, κ = 20.
    spectra = np.array([[1.0, 100.0], [0.1, 2.0]])
    tunings = [tune(*spectrum) for spectrum in spectra.tolist()]
    alpha, beta, rates = np.array(tunings).T
    worst = theory.worst_rate(formula(method, "rate"), alpha, beta, *spectra.T)
    # Rounded tunings part the double roots at the ends by √EPS.
    np.testing.assert_allclose(worst, rates, rtol=0, atol=1e-7)
    np.testing.assert_allclose(worst, printed, rtol=0, atol=5e-5)
    np.testing.assert_allclose(worst[1], printed[1], rtol=0, atol=6e-7)


def test_in_the_robust_region_the_rate_is_the_root_of_the_momentum_and_nesterovs_depends_on_the_curvature():
    beta = np.array([0.1, 0.5, 0.81, 0.99])
    inside, beyond = np.linspace(0.001, 0.999, 7)[:, None], np.array([-0.01, 1.01])[:, None]
    low, high = (np.asarray(end) for end in theory.robust_region(beta))
    np.testing.assert_allclose([low[2], high[2]], [0.01, 3.61], rtol=1e-12)
    for u, robust in ((inside, True), (beyond, False)):
        rate = np.abs(np.linalg.eigvals(matrix("heavy_ball", low + u * (high - low), beta + 0 * u))).max(-1)
        assert np.array_equal(np.isclose(rate, np.sqrt(beta) + 0 * u, rtol=1e-12), np.full(rate.shape, robust))
    low, high = (np.asarray(end) for end in theory.nesterov_oscillating_region(beta))
    for u, oscillates in ((inside, True), (beyond, False)):
        a = low + u * (high - low)
        roots = np.linalg.eigvals(matrix("nesterov", a, beta + 0 * u))
        assert np.array_equal(np.abs(roots.imag).max(-1) > 0, np.full(a.shape, oscillates))
        if oscillates:
            np.testing.assert_allclose(np.abs(roots).max(-1), np.sqrt(beta * (1 - a)), rtol=1e-12)


@each_method
def test_critical_damping_is_the_best_momentum_and_a_run_follows_its_path(method):
    a = np.array([0.01, 0.25, 0.49, 1.0, 1.44, 3.61] if method == "heavy_ball" else [1e-4, 0.01, 0.25, 0.49, 0.81, 1.0])
    best = np.asarray(formula(method, "critical_momentum")(a))
    rate = np.abs(1 - np.sqrt(a))
    # The rate has the slope of a square root there: rounding by EPS moves it by √EPS.
    np.testing.assert_allclose(formula(method, "rate")(a, best), rate, rtol=0, atol=1e-7)
    beta = np.linspace(0, 1, 501)[:, None] + 0 * a
    rates = np.abs(np.linalg.eigvals(matrix(method, a + 0 * beta, beta))).max(-1)
    assert (rates >= rate - 1e-7).all()
    k = np.arange(101)[:, None]
    path = simulate(method, a, best, 1.0, np.ones(6), 100)
    # At double roots rounding grows with k², relative to the path.
    slack = 8 * EPS * (1 + k) ** 2 * (1 + k * np.sqrt(a)) * rate ** np.maximum(k - 2, 0)
    assert (np.abs(CRITICAL_PATHS[method](np.sqrt(a), k) - path) <= slack).all()
