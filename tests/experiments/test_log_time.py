"""What the study of log-time momentum measures."""

import jax
import log_time_momentum as study
import numpy as np
import pytest

from momentum_jax.analysis import mean_interval, simultaneous_level
from momentum_jax.analysis.noise import heavy_ball_mean_square_limit

PROBLEM = study.Problem(1.0, 0.4, 8, 30)


def stacked(*methods):
    return study.Method(*(np.array(column)[:, None] for column in zip(*methods, strict=True)))


def losses(features, method, times):
    with jax.enable_x64(True):
        loss, left = study.losses(features, stacked(method), np.array(times))
    return np.asarray(loss)[0], np.asarray(left)[0]


def simulate(features, method, chains, iterations):
    """The errors and momenta of chains of stochastic gradients of Gaussian examples; `noise` is 1/batch size."""
    random = np.random.default_rng(1)
    batch, lam = round(1 / method.noise), np.repeat(features.variance, features.size.astype(int))
    e = np.tile(np.sqrt(np.repeat(features.target, features.size.astype(int))), (chains, 1))
    y = np.zeros_like(e)
    for t in range(iterations):
        x = random.normal(size=(chains, batch, len(lam))) * np.sqrt(lam)
        label = random.normal(size=(chains, batch)) * np.sqrt(features.floor)
        g = np.einsum("cbj,cb->cj", x, np.einsum("cbj,cj->cb", x, e) - label) / batch
        y = (1 - method.delta0 / (1 + method.rho * t)) * y + g
        e = e - method.gamma2 * g - method.gamma3 / (1 + method.rho3 * t) ** method.kappa * y
    return e, y


NOISY = [name for name in study.METHODS if name != study.QUIET]


@pytest.mark.parametrize("name", NOISY)
def test_the_recurrence_of_moments_is_that_of_runs_on_examples(name):
    # Three features in a group, label noise, and batches of two.
    features = study.power_law(PROBLEM.alpha, PROBLEM.beta, PROBLEM.d, alone=5, octave=1)._replace(floor=0.3)
    assert features.size.tolist() == [1, 1, 1, 1, 1, 3]
    method = study.methods(PROBLEM, features)[name]._replace(noise=0.5)
    iterations = 12
    e, y = simulate(features, method, 20_000, iterations)
    with jax.enable_x64(True):
        zeros = np.zeros([1, 6])
        moments = study.Moments(zeros + features.target, zeros, zeros)
        for t in range(iterations):
            moments = study.iterate(np.array(float(t)), moments, features, stacked(method))
    # All moments of all features and methods at once.
    level = simultaneous_level(0.95, 3 * 6 * len(NOISY))
    for closed, products in zip(moments, (e * e, e * y, y * y), strict=True):
        for of_closed, chains in zip(np.asarray(closed)[0], products.T, strict=False):  # One of the group is enough.
            interval = mean_interval(chains, level)
            assert interval.low <= of_closed <= interval.high


def test_equal_features_in_a_group_are_as_good_as_alone():
    alone = study.Features(np.array([1.0, 0.2, 0.2, 0.2]), np.array([1.0, 2.0, 2.0, 2.0]), np.ones(4), 0.1)
    group = study.Features(np.array([1.0, 0.2]), np.array([1.0, 2.0]), np.array([1.0, 3.0]), 0.1)
    method, times = study.methods(PROBLEM, alone)[study.DECAYING], [1, 5, 40]
    for of_alone, of_group in zip(losses(alone, method, times), losses(group, method, times), strict=True):
        np.testing.assert_allclose(of_alone, of_group, rtol=1e-12)


def test_groups_of_a_power_law_keep_its_variance_and_its_loss():
    groups, alone = (study.power_law(1.0, 0.7, 1000, alone=n) for n in (24, 1000))
    assert (len(groups.size), groups.size.sum(), len(alone.size)) == (56, 1000, 1000)
    j = np.arange(1, 1001.0)
    np.testing.assert_allclose(alone.variance, j**-2, rtol=1e-12)
    np.testing.assert_allclose(alone.target, j**-1.4, rtol=1e-12)
    problem = PROBLEM._replace(beta=0.7, d=1000)
    for name in (study.LOG_TIME, study.DECAYING):
        method, times = study.methods(problem, alone)[name], [1, 100, 3000]
        # A group spans a sixth of an octave, over which the curvature of the loss in log λ is a thousandth.
        np.testing.assert_allclose(losses(groups, method, times)[0], losses(alone, method, times)[0], rtol=5e-3)


@pytest.mark.parametrize(("times_the_limit", "grows"), [(0.99, False), (1.01, True)])
def test_on_one_feature_the_loss_grows_beyond_the_limit_in_mean_square(times_the_limit, grows):
    # Of a standard normal x the curvature x² has the mean 1 and the variance 2.
    limit = float(heavy_ball_mean_square_limit(0.9, 1.0, 2.0))
    method = study.Method(0.0, times_the_limit * limit, delta0=0.1)
    loss, _ = losses(study.Features(*np.ones([3, 1])), method, [500, 1500])
    assert (loss[1] > loss[0]) == grows


def test_random_mixtures_of_features_keep_what_they_cannot_explain_as_a_floor():
    problem = PROBLEM._replace(d=6)
    features = study.projected(problem)
    # No coefficients: the whole variance of the target.
    j = np.arange(1, 25.0)
    assert features.variance @ features.target + features.floor == pytest.approx(np.sum(j**-2.8), rel=1e-12)
    assert (np.diff(features.variance) < 0).all()
    assert 0 < features.floor < 0.2


def test_an_exponent_is_that_of_the_last_decade_with_its_range_over_windows():
    times = np.unique(np.geomspace(1, 10_000, 81).astype(int))
    exact = study.exponent(times, 3.0 * times**-1.5, 10_000)
    np.testing.assert_allclose(exact[:3], 1.5, rtol=1e-12)
    bent = study.exponent(times, np.where(times < 1000, times**-1.0, 1000.0 * times**-2.0), 10_000)
    assert bent.low < bent.value == pytest.approx(bent.high) == pytest.approx(2, abs=0.01)
    other = study.exponent(times, np.where(times < 1000, times**-2.0, times**-1.0 / 1000), 10_000)
    assert other.value == pytest.approx(1, abs=0.01) == other.low < other.high


def test_a_power_law_ends_before_the_last_feature_has_lost_a_tenth_of_its_squared_error():
    problem = PROBLEM._replace(d=100, iterations=5000)
    measured = study.measure(problem)
    # Without noise SGD leaves (1 − γλ)²ᵗ; noise adds little, since the loss is small by then.
    gamma = study.methods(problem, study.power_law(problem.alpha, problem.beta, problem.d))[study.SGD].gamma2
    ends = dict(zip(study.METHODS, measured.ends, strict=True))
    closed = np.log(study.LEFT) / (2 * np.log1p(-gamma / problem.d**2))
    # Twenty times a decade, and the last group has more than the last feature.
    assert ends[study.SGD] == pytest.approx(closed, rel=0.2)
    assert ends[study.FIXED] < ends[study.SGD]


def numbers_of(log_time, dana):
    exponents = {study.SGD: 1.0, study.CONSTANT: 1.0, study.LOG_TIME: log_time, study.QUIET: 2.0}
    exponents |= {study.FIXED: dana, study.DECAYING: dana}
    fits = {name: {"exponent": [x, x - 0.01, x + 0.01], "predicted": 1.25} for name, x in exponents.items()}
    problem = {
        **PROBLEM._asdict(),
        "DANA-constant half-way after d times": 60.0,
        "methods": {**fits, study.UNDAMPED: {"tenfold after": 7}},
    }
    return {"problems": 4 * [problem]}


@pytest.mark.parametrize(
    ("log_time", "dana", "answer"), [(1.0, 1.5, "Not by itself"), (1.0, 1.01, "No"), (1.2, 1.5, "Yes")]
)
def test_the_answer_is_no_by_itself_where_only_danas_exponents_are_others(log_time, dana, answer):
    finding = study.find(numbers_of(log_time, dana))
    assert finding.startswith(f"{answer}: ")
    assert (
        f"{dana:.2f} ({dana - 0.01:.2f} to {dana + 0.01:.2f}; predicted 1.25) with γ₃ = γ₂/d, DANA-constant" in finding
    )
    assert f"miss by up to 20.0 %, {100 - 80 * log_time:.1f} %" in finding


def test_dana_constant_is_half_way_where_its_slope_passes_the_middle_for_good():
    problem = study.Problem(1.0, 0.4, 10, 10_000)
    times = np.unique(np.geomspace(1, 10_000, 81).astype(int))
    # From 0.9 to 1.8 at t = 1000, and once before.
    loss = np.where(times < 1000, times**-0.9, 1000**0.9 * times**-1.8)
    loss = np.where(times < 20, 20.0**1.1 * times**-2.0, loss)
    losses = np.where(np.array(study.METHODS)[:, None] == study.FIXED, loss, 1.0)
    measured = study.Measured(losses, times, np.full(len(study.METHODS), 10_000))
    assert study.halfway(problem, measured) == pytest.approx(100, rel=0.2)
    assert study.halfway(problem, measured._replace(ends=np.full(len(study.METHODS), 900))) is None
