"""What theory says in numbers, met by the package's own optimizers on its own landscapes, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.analysis import theory
from momentum_jax.optimizers import optimal_momentum, optimal_nesterov, optimal_sgd, standard_nesterov
from momentum_jax.tasks.landscapes import make_landscape
from tests.analysis.recurrences import CRITICAL_PATHS
from tests.compiling import jit

EPS = np.finfo(float).eps
METHODS = {"heavy_ball": mj.momentum, "nesterov": mj.nesterov}
each_method = pytest.mark.parametrize("method", METHODS)
# Gradient descent is the heavy ball without momentum.
TUNINGS = {"heavy_ball": (optimal_momentum, optimal_sgd), "nesterov": (optimal_nesterov, standard_nesterov)}
# So many steps no path here overflows, which would be 0 · ∞ on the other axis too.
ROWS, STEPS = 40, 300


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def formula(method, name):
    return getattr(theory, f"{method}_{name}")


def follow(method, landscape, iterations, start=None):
    """From arrays of α and β to the points of a path each, as one program."""
    return jit(
        jax.vmap(lambda alpha, beta: mj.trajectory(METHODS[method](alpha, beta), landscape, start, iterations).points)
    )


@functools.cache
def program(method):
    return follow(method, make_landscape("quadratic", curvatures=(1.0, -1.0)), STEPS)


def run(method, a, beta):
    """w₀ = 1, w₁, … at rest on a bowl and on a saddle of curvature ±1, [path, 1 + STEPS] each: compiled once."""
    a, beta = np.broadcast_arrays(np.asarray(a, float), beta)
    padding = (0, ROWS - a.size)
    points = np.asarray(program(method)(np.pad(a.ravel(), padding), np.pad(beta.ravel(), padding)))
    return points[: a.size, :, 0], points[: a.size, :, 1]


@each_method
def test_an_optimizer_does_what_its_matrix_does(method):
    rng = np.random.default_rng(0)
    a, beta = rng.uniform(0, 4, ROWS), 1 - 10 ** rng.uniform(-3, 0, ROWS)
    for path, signed in zip(run(method, a, beta), (a, -a), strict=True):
        steps = np.asarray(formula(method, "matrix")(signed, beta))
        state, expected = np.tile([1.0, 0.0], (ROWS, 1)), [np.ones(ROWS)]
        for _ in range(60):
            state = np.einsum("nij,nj->ni", steps, state)
            expected.append(state[:, 0])
        # A step is a few roundings of what is no larger than what came.
        largest = np.maximum.accumulate(np.abs(expected))
        assert (np.abs(path[:, :61].T - expected) <= 2000 * EPS * largest).all()


@each_method
@pytest.mark.parametrize("end", ["zero", "limit"])
def test_runs_shrink_and_grow_to_within_a_millionth_of_the_ends_of_stability(method, end):
    beta = np.random.default_rng(1).uniform(0, 0.8, ROWS // 2)
    limit = np.asarray(formula(method, "stability_limit")(beta))
    if end == "limit":
        a = np.concatenate([limit * (1 - 1e-6), limit * (1 + 1e-6)])
        paths, _ = run(method, a, np.tile(beta, 2))
    else:
        # On the saddle a is negative.
        a, paths = np.concatenate([limit * 1e-6, limit * -1e-6]), np.concatenate(run(method, limit * 1e-6, beta))
    half = STEPS // 2
    slope = np.log(np.abs(paths[:, STEPS] / paths[:, half])) / half
    assert (slope[: len(beta)] < 0).all()
    assert (slope[len(beta) :] > 0).all()
    # The other root has shrunk to 0.8¹⁵⁰ = 3e-15 of this one, and roundings are hardly more.
    np.testing.assert_allclose(slope, np.log(formula(method, "rate")(a, np.tile(beta, 2))), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("method", "tune", "rate"),
    [
        ("heavy_ball", optimal_momentum, 0.8182),
        ("heavy_ball", optimal_sgd, 0.9802),
        ("nesterov", standard_nesterov, 0.9000),
        ("nesterov", optimal_nesterov, 0.8847),
    ],
)
def test_tuned_for_a_condition_number_of_100_a_run_has_the_printed_rate(method, tune, rate):
    alpha, beta, _ = tune(1.0, 100.0)
    paths, _ = run(method, alpha * np.array([1.0, 100.0]), beta)
    size = np.linalg.norm(paths, axis=0)
    measured = (size[300] / size[150]) ** (1 / 150)
    # Double roots leave a factor of up to k; printed are four digits.
    assert rate - 5e-5 <= measured <= (rate + 5e-5) * 2 ** (1 / 150)


@each_method
def test_with_its_critical_momentum_an_optimizer_goes_the_critical_path(method):
    a = np.array([0.01, 0.25, 0.49, 1.0, 1.44, 3.61] if method == "heavy_ball" else [1e-4, 0.01, 0.25, 0.49, 0.81, 1.0])
    paths, _ = run(method, a, formula(method, "critical_momentum")(a))
    k = np.arange(101)[:, None]
    expected = CRITICAL_PATHS[method](np.sqrt(a), k)
    # At double roots rounding grows with k², relative to the path.
    slack = 8 * EPS * (1 + k) ** 2 * (1 + k * np.sqrt(a)) * np.abs(1 - np.sqrt(a)) ** np.maximum(k - 2, 0)
    assert (np.abs(paths[:, :101].T - expected) <= slack).all()


@each_method
def test_from_rest_on_a_saddle_an_optimizer_grows_as_printed(method):
    # Gradient descent, momentum at its learning rate, and at its effective one.
    alpha, beta = np.array([0.1, 0.1, 0.01]), np.array([0.0, 0.9, 0.9])
    _, paths = run(method, alpha, beta)
    rates, steps = {
        "heavy_ball": ([1.1, 1.3162, 1.0647], [73, 27, 115]),
        "nesterov": ([1.1, 1.3644, 1.0674], [73, 24, 110]),
    }[method]
    assert (paths >= 1000).argmax(axis=1).tolist() == steps
    # As many digits as are printed; the other root has shrunk by (0.9/1.06)²⁰⁰.
    np.testing.assert_allclose(paths[:, 200] / paths[:, 199], rates, rtol=0, atol=5e-5)


@each_method
def test_on_the_books_valley_the_tuned_optimizers_end_at_the_printed_distances(method):
    alpha, beta, _ = np.array([tune(0.1, 2.0) for tune in TUNINGS[method]]).T
    ends = follow(method, make_landscape("valley"), 30)(alpha, beta)[:, -1]
    printed = {"heavy_ball": [1.5445e-4, 0.36155], "nesterov": [6.980e-3]}[method]
    # As many digits as are printed.
    np.testing.assert_allclose(np.linalg.norm(ends, axis=-1)[: len(printed)], printed, rtol=1e-4)


@each_method
def test_the_best_heavy_ball_cycles_from_3_3_where_nesterov_converges(method):
    alpha, beta, _ = np.array([tune(1.0, 25.0) for tune in TUNINGS[method]]).T
    starts = np.array([[3.0], [3.3], [3.5]])
    ends = np.array(follow(method, make_landscape("lessard"), 150, starts)(alpha, beta)[:, :, -3:, 0])
    if method == "heavy_ball":
        np.testing.assert_allclose([alpha[0], beta[0]], [1 / 9, 4 / 9], rtol=4 * EPS)
        cycle = np.array([792, -2208, 2592]) / 1225
        first = np.abs(ends[0, 1] - cycle[0]).argmin()
        # It attracts: what is left are roundings.
        np.testing.assert_allclose(np.roll(ends[0, 1], -first), cycle, rtol=0, atol=1e-13)
        ends[0, 1] = 0
    # The slowest, gradient descent, has the rate 12/13: 150 steps make 6e-6 of 3.5.
    assert np.abs(ends).max() < 1e-4


MU, L, N = 1.0, 100.0, 50


@each_method
def test_no_optimizer_beats_the_chains_lower_bound(method):
    chain = make_landscape("chain", dimensions=N, mu=MU, L=L)
    alpha, beta, _ = np.array([tune(MU, L) for tune in TUNINGS[method]]).T
    points = np.asarray(follow(method, chain, N - 1)(alpha, beta))
    errors = np.abs(points - chain.minima[0]).max(axis=-1)
    bound = theory.chain_lower_bound(MU, L, N, np.arange(N))
    # Coordinates not yet reached are 0 exactly; qᵏ is rounded.
    assert (errors >= np.asarray(bound) * (1 - 1e-12)).all()


def conjugate_gradients(gradient, w, steps):
    """On a quadratic, from gradients alone: a product with its Hessian is a difference of two."""
    residual = -gradient(w)
    direction, path = residual, [w]
    for _ in range(steps):
        image = gradient(w + direction) + residual
        step = residual @ residual / (direction @ image)
        w, old, residual = w + step * direction, residual, residual - step * image
        direction = residual + residual @ residual / (old @ old) * direction
        path.append(w)
    return np.array(path)


def test_conjugate_gradients_attain_the_chains_lower_bound_which_ends_where_the_chain_does():
    chain = make_landscape("chain", dimensions=N, mu=MU, L=L)
    gradient = jit(jax.grad(chain.function))
    path = conjugate_gradients(lambda w: np.asarray(gradient(w)), np.zeros(N), N)
    errors = np.abs(path - chain.minima[0]).max(axis=-1)
    # Rounding of some steps of condition 92.5, relative to an error that shrinks by 2e4.
    np.testing.assert_allclose(errors[:N], theory.chain_lower_bound(MU, L, N, np.arange(N)), rtol=1e-9)
    q = 9 / 11
    assert errors[N] < 1e-9 * q ** (N + 1)
    assert theory.chain_lower_bound(MU, L, N, jnp.array(N)) == 0
