"""The closed forms against eigenvalues, Lyapunov's equation and runs of the recurrence itself, in float64 NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from momentum_jax.analysis import theory
from momentum_jax.optimizers import optimal_momentum, optimal_nesterov, optimal_sgd, standard_nesterov
from momentum_jax.tasks.landscapes import make_landscape
from tests.compiling import jit

EPS = np.finfo(float).eps


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def heavy_ball_step(w, v, gradient, alpha, beta):
    v = beta * v - alpha * gradient
    return w + v, v


def nesterov_step(w, v, gradient, alpha, beta):
    v = beta * v - alpha * gradient
    return w + beta * v - alpha * gradient, v


STEPS = {"heavy_ball": heavy_ball_step, "nesterov": nesterov_step}
each_method = pytest.mark.parametrize("method", STEPS)
# The largest a for which it is stable, as a function of β.
LIMITS = {"heavy_ball": lambda beta: 2 * (1 + beta), "nesterov": lambda beta: (2 + 2 * beta) / (1 + 2 * beta)}


def formula(method, name):
    return getattr(theory, f"{method}_{name}")


def matrix(method, a, beta):
    """The matrix of a step of (w, v): the step of (1, 0) and of (0, 1)."""
    one, zero = np.ones_like(a), np.zeros_like(a)
    columns = [STEPS[method](w, v, a * w, 1.0, beta) for w, v in ((one, zero), (zero, one))]
    return np.stack([np.stack(column, -1) for column in columns], -1)


def simulate(method, alpha, beta, curvatures, w, steps):
    v, path = np.zeros_like(w), [w]
    for _ in range(steps):
        w, v = STEPS[method](w, v, curvatures * w, alpha, beta)
        path.append(w)
    return np.array(path)


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
def test_critical_damping_is_the_best_momentum_and_its_path_is_that_of_a_run(method):
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
    assert (np.abs(formula(method, "critical_path")(a[None, :], k) - path) <= slack).all()


@each_method
def test_paths_are_those_of_the_recurrence(method):
    # Oscillating, monotone, critical and, last, diverging.
    curvatures, start = np.array([0.1, 2.0, 5.0, 40.0]), np.array([-7.0, 2.0, 1.0, 1e-9])
    path = formula(method, "path")(0.1, 0.8, curvatures, start, 200)
    expected = simulate(method, 0.1, 0.8, curvatures, start, 200)
    assert path.shape == (201, 4)
    # Multiplied and added at once or not, 200 steps, each with some roundings of what is no larger than what came.
    largest = np.maximum.accumulate(np.abs(expected))
    assert (np.abs(path - expected) <= 2000 * EPS * largest).all()
    assert np.abs(expected[-1, 3]) > 1e6


def test_the_paths_of_the_books_valley_end_at_the_printed_distances():
    # f = x²/20 + y² from (−7, 2), 30 steps.
    curvatures, start = np.array([0.1, 2.0]), np.array([-7.0, 2.0])
    for path, tune, distance in (
        (theory.heavy_ball_path, optimal_momentum, 1.5445e-4),
        (theory.nesterov_path, optimal_nesterov, 6.980e-3),
        (theory.heavy_ball_path, optimal_sgd, 0.36155),
    ):
        alpha, beta, _ = tune(0.1, 2.0)
        end = path(alpha, beta, curvatures, start, 30)[-1]
        # As many digits as are printed.
        np.testing.assert_allclose(np.linalg.norm(end), distance, rtol=1e-4)


@each_method
def test_the_noise_floor_solves_lyapunovs_equation(method):
    rng = np.random.default_rng(2)
    n = 200
    beta = np.append(0.0, rng.uniform(0, 0.99, n - 1))
    a = LIMITS[method](beta) * rng.uniform(0.001, 0.999, n)
    alpha, variance = 10 ** rng.uniform(-3, 1, n), 10 ** rng.uniform(-2, 2, n)
    noise = np.array(formula(method, "noise")(alpha, beta, a / alpha, variance))
    for i, step in enumerate(matrix(method, a, beta)):
        # What the step adds when the gradient is the noise alone.
        kick = np.array(STEPS[method](0.0, 0.0, 1.0, alpha[i], beta[i]))
        solution = scipy.linalg.solve_discrete_lyapunov(step, variance[i] * np.outer(kick, kick))
        # Of the system's condition, some 1/(1 − ρ)² ≤ 1e8 in a sample that comes this near the limits.
        expected = [solution[0, 0], solution[1, 1], solution[0, 1]]
        np.testing.assert_allclose(noise[:, i], expected, rtol=1e-7)


@each_method
def test_the_noise_floor_is_where_runs_hover(method):
    rng = np.random.default_rng(3)
    alpha, beta, curvature, variance = 0.2, 0.8, 1.5, 4.0
    w, v = np.zeros((2, 100_000))
    # At the rate 0.894 and less the start is forgotten after 100 steps, to 2e-10 of the variance.
    for _ in range(100):
        w, v = STEPS[method](w, v, curvature * w + 2.0 * rng.normal(size=len(w)), alpha, beta)
    moments = [np.mean(w * w), np.mean(v * v), np.mean(w * v)]
    noise = formula(method, "noise")(alpha, beta, curvature, variance)
    # Four standard errors of a variance estimated from 100,000 draws: 4·√(2/1e5) = 1.8%, and no more of a covariance.
    scale = [noise.var_w, noise.var_v, np.sqrt(noise.var_w * noise.var_v)]
    assert (np.abs(np.array(moments) - np.array(noise)) <= 0.018 * np.array(scale)).all()


@each_method
def test_where_nothing_settles_the_noise_is_infinite(method):
    limit = LIMITS[method](0.5)
    curvature = np.array([limit * (1 - 1e-6), limit, limit * (1 + 1e-6), 1e-6, 0.0, -1e-6])
    for moment in formula(method, "noise")(1.0, 0.5, curvature, 1.0):
        np.testing.assert_array_equal(np.isinf(moment), [False, True, True, False, True, True])
        assert (np.asarray(moment) > 0).all()
    # A momentum of 1 and more, at which no heavy ball settles, although two negative factors make a positive one.
    np.testing.assert_array_equal(theory.heavy_ball_noise(np.array([0.1, 5.0]), 1.1, 1.0, 1.0).var_w, np.inf)


@each_method
def test_where_the_noise_is_infinite_without_curvature_it_has_derivatives_of_0(method):
    def moments(alpha, beta, curvature):
        return jnp.stack(formula(method, "noise")(alpha, beta, curvature, 1.0))

    for slopes in jit(jax.jacobian(moments, (0, 1, 2)))(0.1, 0.5, 0.0):
        np.testing.assert_array_equal(slopes, np.zeros(3))


@each_method
def test_the_noise_ratio_is_that_of_the_noise_floors_at_the_same_effective_rate(method):
    a, beta = np.array([0.001, 0.1, 0.15, 0.3, 5.0, 0.4]), np.array([0.9, 0.9, 0.9, 0.9, 0.9, 0.0])
    ratio = np.asarray(formula(method, "noise_ratio")(a, beta))
    momentum = np.asarray(formula(method, "noise")(a, beta, 1.0, 1.0).var_w)
    descent = np.asarray(theory.heavy_ball_noise(a / (1 - beta), 0.0, 1.0, 1.0).var_w)
    settle = np.isfinite(descent)
    assert settle.tolist() == [True, True, True, False, False, True]
    np.testing.assert_allclose(ratio[settle], momentum[settle] / descent[settle], rtol=1e-12)
    # Gradient descent diverges first, then both.
    assert (ratio[3], np.isfinite(momentum[3]), descent[3]) == (0, True, np.inf)
    assert (np.isnan(ratio[4]), momentum[4]) == (True, np.inf)
    if method == "heavy_ball":
        np.testing.assert_allclose(ratio[:2], [0.995, 0.51], atol=0.005)


def test_growth_on_a_saddle_has_the_printed_rates_and_steps():
    c, beta = np.array([0.1, 0.1, 0.01]), np.array([0.0, 0.9, 0.9])
    for method, printed, steps in (
        ("heavy_ball", [1.1, 1.3162, 1.0647], [73, 27, 115]),
        ("nesterov", [1.1, 1.3644, 1.0674], [73, 24, 110]),
    ):
        growth = formula(method, "saddle_growth")(c, beta)
        np.testing.assert_allclose(growth.rate, printed, atol=5e-5)
        assert np.ceil(theory.steps_to_grow(growth, 1000.0)).tolist() == steps
        # The same by steps from rest on the saddle itself.
        path = simulate(method, c, beta, -1.0, np.ones(3), 120)
        assert (path >= 1000).argmax(0).tolist() == steps


@each_method
def test_on_a_saddle_a_run_is_its_share_of_the_growth_and_what_decays(method):
    rng = np.random.default_rng(4)
    c, beta = 10 ** rng.uniform(-3, 0, 3), rng.uniform(0, 0.95, 3)
    rate, share = (np.asarray(part) for part in formula(method, "saddle_growth")(c, beta))
    path = simulate(method, c, beta, -1.0, np.ones(3), 60)
    k = np.arange(61)[:, None]
    other = beta * (1 + c * (method == "nesterov")) / rate
    # 60 steps of some roundings each.
    np.testing.assert_allclose(path, share * rate**k + (1 - share) * other**k, rtol=1e-12)


def test_momentum_leaves_a_saddle_faster_at_the_same_rate_and_more_slowly_at_the_matched_one():
    beta = np.linspace(0.001, 0.999, 60)[:, None]
    c = np.geomspace(1e-4, 10, 50)
    same = np.asarray(theory.heavy_ball_saddle_growth(c[None, :], beta).rate)
    matched = np.asarray(theory.heavy_ball_saddle_growth(c * (1 - beta), beta).rate)
    assert (same > 1 + c).all()
    assert (matched < 1 + c).all()


MU, L, N = 1.0, 100.0, 50


def chain(mu, L, n):
    """Hessian and gradient at 0 of Nesterov's chain, by its definition."""
    q = (math.sqrt(L / mu) - 1) / (math.sqrt(L / mu) + 1)
    second = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    second[-1, -1] = 2 - q
    return (L - mu) / 4 * second + mu * np.eye(n), -(L - mu) / 4 * np.eye(n)[0], q


def test_the_chain_is_the_quadratic_of_its_definition():
    hessian, gradient, _ = chain(MU, L, N)
    w = np.random.default_rng(5).normal(size=N)
    landscape = make_landscape("chain", dimensions=N, mu=MU, L=L)
    value, derivative = jit(jax.value_and_grad(landscape.function))(w)
    # Sums of 50 terms.
    np.testing.assert_allclose(value, w @ hessian @ w / 2 + gradient @ w, rtol=1e-13)
    np.testing.assert_allclose(derivative, hessian @ w + gradient, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(landscape.minima, [np.linalg.solve(hessian, -gradient)], rtol=1e-11)
    curvatures = np.linalg.eigvalsh(hessian)
    assert ((curvatures >= MU) & (curvatures <= L)).all()
    # κ is L/μ, not that of the Hessian.
    np.testing.assert_allclose(curvatures[-1] / curvatures[0], 92.5, atol=0.05)


def conjugate_gradients(hessian, gradient, steps):
    w, residual = np.zeros(len(gradient)), -gradient
    direction, path = residual, [w]
    for _ in range(steps):
        image = hessian @ direction
        step = residual @ residual / (direction @ image)
        w, old, residual = w + step * direction, residual, residual - step * image
        direction = residual + residual @ residual / (old @ old) * direction
        path.append(w)
    return np.array(path)


def test_conjugate_gradients_attain_the_chains_lower_bound_and_momentum_respects_it():
    hessian, gradient, q = chain(MU, L, N)
    bound = np.asarray(theory.chain_lower_bound(MU, L, N, np.arange(N + 1)))
    np.testing.assert_allclose(bound[:N], q ** np.arange(1, N + 1), rtol=1e-13)
    assert bound[N] == 0
    minimizer = q ** np.arange(1, N + 1)

    def error(path):
        return np.abs(np.array(path) - minimizer).max(1)

    exact = error(conjugate_gradients(hessian, gradient, N))
    # Rounding of some steps on a matrix of condition 92.5, relative to an error that has shrunk by 2e4.
    np.testing.assert_allclose(exact[:N], bound[:N], rtol=1e-9)
    assert exact[N] < 1e-9 * bound[N - 1], "the bound ends where the space does"
    for method, tune in (
        ("heavy_ball", optimal_momentum),
        ("nesterov", optimal_nesterov),
        ("nesterov", standard_nesterov),
    ):
        alpha, beta, _ = tune(MU, L)
        w, v, path = np.zeros(N), np.zeros(N), [np.zeros(N)]
        for _ in range(N):
            w, v = STEPS[method](w, v, hessian @ w + gradient, alpha, beta)
            path.append(w)
        # Coordinates not yet reached are 0 exactly; qᵏ is rounded.
        assert (error(path) >= bound * (1 - 1e-12)).all()


# Numbers made of a and β, by name.
ELEMENTWISE = {
    "heavy_ball_rate": theory.heavy_ball_rate,
    "nesterov_rate": theory.nesterov_rate,
    "heavy_ball_limit": lambda a, beta: theory.heavy_ball_stability_limit(beta),
    "nesterov_limit": lambda a, beta: theory.nesterov_stability_limit(beta),
    "robust_low": lambda a, beta: theory.robust_region(beta + 0.01)[0],
    "robust_high": lambda a, beta: theory.robust_region(beta + 0.01)[1],
    "oscillating_low": lambda a, beta: theory.nesterov_oscillating_region(beta)[0],
    "heavy_ball_critical": lambda a, beta: theory.heavy_ball_critical_momentum(a),
    "nesterov_critical": lambda a, beta: theory.nesterov_critical_momentum(a),
    "heavy_ball_path": lambda a, beta: theory.heavy_ball_critical_path(a, jnp.arange(4)).sum(),
    "nesterov_path": lambda a, beta: theory.nesterov_critical_path(a, jnp.arange(4)).sum(),
    "heavy_ball_var_w": lambda a, beta: theory.heavy_ball_noise(0.5, beta, a * 2, 3.0).var_w,
    "heavy_ball_cov": lambda a, beta: theory.heavy_ball_noise(a, beta, 1.0, 3.0).cov_wv,
    "nesterov_var_w": lambda a, beta: theory.nesterov_noise(0.5, beta, a * 2, 3.0).var_w,
    "nesterov_cov": lambda a, beta: theory.nesterov_noise(a, beta, 1.0, 3.0).cov_wv,
    "heavy_ball_ratio": theory.heavy_ball_noise_ratio,
    "nesterov_ratio": theory.nesterov_noise_ratio,
    "heavy_ball_steps": lambda a, beta: theory.steps_to_grow(theory.heavy_ball_saddle_growth(a, beta), 50.0),
    "nesterov_steps": lambda a, beta: theory.steps_to_grow(theory.nesterov_saddle_growth(a, beta), 50.0),
}
FAMILIES = {
    **ELEMENTWISE,
    "heavy_ball_worst": lambda a, beta: theory.worst_rate(theory.heavy_ball_rate, a, beta, 0.3, 1.1),
    "heavy_ball_matrix": theory.heavy_ball_matrix,
    "nesterov_matrix": theory.nesterov_matrix,
    "heavy_ball_iterates": lambda a, beta: theory.heavy_ball_path(a, beta, 2.0, 3.0, 4),
    "nesterov_iterates": lambda a, beta: theory.nesterov_path(a, beta, 2.0, 3.0, 4),
    "chain_loss": lambda a, beta: make_landscape("chain", dimensions=2, mu=0.5, L=2.0).function(jnp.stack([a, beta])),
    "chain_lower_bound": lambda a, beta: theory.chain_lower_bound(a, 5.0, 3, jnp.arange(5)),
}


def everything(functions):
    return lambda a, beta: {name: function(a, beta) for name, function in functions.items()}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_results_have_the_dtype_of_the_arguments(dtype):
    array = jax.ShapeDtypeStruct((), dtype)
    for function in FAMILIES.values():
        out = jax.eval_shape(function, array, array)
        assert out.dtype == dtype
        assert not out.weak_type


@pytest.mark.parametrize("wide", [False, True])
def test_pythons_numbers_take_the_default_dtype_and_so_do_numpys_doubles(wide):
    with jax.enable_x64(wide):
        for function in (theory.heavy_ball_rate, theory.nesterov_noise_ratio):
            for arguments in ((0.5, 0.9), (1, 0), (1, 0.5), (np.float64(0.5), 0.5)):
                out = jax.eval_shape(lambda function=function, arguments=arguments: function(*arguments))
                assert out.dtype == ("float64" if wide else "float32")


def test_arguments_of_different_shapes_broadcast():
    a, beta = jax.ShapeDtypeStruct((3, 1), "float32"), jax.ShapeDtypeStruct((4,), "float32")
    for name in ELEMENTWISE:
        if name.endswith(("rate", "ratio", "var_w", "cov", "steps")):
            assert jax.eval_shape(ELEMENTWISE[name], a, beta).shape == (3, 4)
    assert jax.eval_shape(theory.nesterov_matrix, a, beta).shape == (3, 4, 2, 2)
    assert jax.eval_shape(lambda: theory.heavy_ball_critical_path(np.ones((3, 1)), np.arange(5))).shape == (3, 5)


def test_mapped_and_compiled_they_give_what_they_give_alone():
    rng = np.random.default_rng(6)
    a, beta = rng.uniform(0.01, 1, 5), rng.uniform(0, 0.9, 5)
    function = everything(FAMILIES)
    mapped = jit(jax.vmap(function))(a, beta)
    alone = function(jnp.array(a[2]), jnp.array(beta[2]))
    for name, value in alone.items():
        # XLA may multiply and add at once in one of them.
        np.testing.assert_allclose(mapped[name][2], value, rtol=1e-12, atol=1e-13, err_msg=name)


def test_derivatives_are_finite_everywhere_and_those_of_finite_differences_off_the_edges():
    rng = np.random.default_rng(7)
    # On edges first: a double root, where both roots are 0, the ends of stability. Momentum 0 is gradient descent.
    edge = np.array([[1.0, 0.0], [0.25, 0.25], [1.0, 0.9], [3.8, 0.9], [2.0, 0.0], [0.2, 0.9]]).T
    a, beta = np.append(edge[0], rng.uniform(0.02, 3.5, 54)), np.append(edge[1], rng.uniform(0, 0.95, 54))
    beta[6:20] = 0

    def slopes(a, beta):
        return {name: jax.grad(function, (0, 1))(a, beta) for name, function in ELEMENTWISE.items()}

    exact = jit(jax.vmap(slopes))(a, beta)
    # At the double root a = β = 1/4 the derivative is that of the side on which the rate is √β.
    assert [float(slope[1]) for slope in exact["heavy_ball_rate"]] == [0, 1]
    values, h = jit(jax.vmap(everything(ELEMENTWISE))), 1e-6
    edges = [*theory.robust_region(beta), *theory.nesterov_oscillating_region(beta), 2 * (1 - beta)]
    edges += [limit(beta) for limit in LIMITS.values()]
    smooth = np.abs(a - np.array(edges)).min(0) > 0.02
    assert smooth.sum() > 40
    for argument, (da, db) in enumerate(((h, 0), (0, h))):
        up, down = values(a + da, beta + db), values(a - da, beta - db)
        for name, slope in ((name, np.asarray(exact[name][argument])) for name in ELEMENTWISE):
            assert np.isfinite(slope).all(), name
            there = smooth & np.isfinite(up[name])
            # Errors of h²·f‴ and EPS·f/h, where no edge is nearer than 0.02.
            difference = (np.asarray(up[name])[there] - np.asarray(down[name])[there]) / (2 * h)
            np.testing.assert_allclose(slope[there], difference, rtol=1e-5, atol=1e-7, err_msg=name)
            assert there.sum() > 15, name
