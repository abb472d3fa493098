"""Methods that equal each other for certain hyperparameters, as their papers state, on random problems."""

import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import momentum_jax as mj
from momentum_jax.optimizers import adaptive_restart, aggmo, dana, demon, qhm
from tests.optimizers.oracles import assert_same_path, constant, follower, start_and_gradients

STEPS = 40


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


# Both sides take the same 40 sums with factors in another order: float64 rounding, relative to the path's largest
# coordinate, is some 1e-15, and what a wrong factor makes is a fraction of a step.
RTOL = 1e-12

any_problem = st.tuples(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.0]))
"""The seed of a start and gradients, and whether the slope of a curved function is added to them."""
# XLA flushes subnormal numbers to zero.
any_momentum = st.floats(0, 0.99, allow_subnormal=False)
any_rate = st.floats(1e-3, 0.5)
positive_schedule = arrays.arrays(float, STEPS, elements=st.floats(-6, 0), fill=st.nothing()).map(lambda x: 10**x)
"""A jump over up to six decades at every step."""
momentum_schedule = arrays.arrays(float, STEPS, elements=any_momentum, fill=st.nothing())

examples = settings(deadline=None, max_examples=30)


def walk(follow, problem, **values):
    seed, bend = problem
    return follow(values, *start_and_gradients(STEPS, seed), bend)


# A `follower` compiles once: the values that hypothesis draws are its arguments.
descent = follower(lambda s: mj.sgd(s["rate"]))
inside, outside, corrected = (
    follower(lambda s, convention=convention: mj.momentum(s["rate"], s["momentum"], convention=convention))
    for convention in ("inside", "outside", "corrected")
)
nesterov_inside, nesterov_outside, nesterov_corrected = (
    follower(lambda s, convention=convention: mj.nesterov(s["rate"], s["momentum"], convention=convention))
    for convention in ("inside", "outside", "corrected")
)
quasi_hyperbolic = follower(lambda s: qhm(s["rate"], s["momentum"], s["nu"]))
aggregated = follower(lambda s: aggmo(s["rate"], s["betas"]))


@examples
@given(any_problem, positive_schedule, any_momentum)
def test_qhm_at_the_rate_over_one_minus_m_is_the_heavy_ball_nesterov_and_gradient_descent(problem, rate, m):
    def of_nu(nu):
        momentum, nu_values = constant(m, STEPS), constant(nu, STEPS)
        return walk(quasi_hyperbolic, problem, rate=rate / (1 - m), momentum=momentum, nu=nu_values)

    momentum = constant(m, STEPS)
    assert_same_path(of_nu(1.0), walk(outside, problem, rate=rate, momentum=momentum), RTOL)
    assert_same_path(of_nu(m), walk(nesterov_outside, problem, rate=rate, momentum=momentum), RTOL)
    assert_same_path(of_nu(0.0), walk(descent, problem, rate=rate / (1 - m)), RTOL)


@examples
@given(any_problem, positive_schedule, momentum_schedule)
def test_aggmo_with_velocities_that_are_all_alike_is_the_heavy_ball(problem, rate, momentum):
    expected = walk(outside, problem, rate=rate, momentum=momentum)
    for betas in ((momentum,), (momentum, momentum)):
        assert_same_path(walk(aggregated, problem, rate=rate, betas=betas), expected, RTOL)


@examples
@given(any_problem, positive_schedule, any_momentum)
def test_aggmo_of_a_gradient_and_a_velocity_is_qhm(problem, rate, beta):
    # γ/2·(g + b) is α·((1 − ν)·g + ν·(1 − β)·b) where both factors are α·(1 − ν) = α·ν·(1 − β) = γ/2: so
    # ν = 1/(2 − β) and α = γ/(2·(1 − ν)).
    nu = 1 / (2 - beta)
    alpha = rate * (2 - beta) / (2 * (1 - beta))
    momentum = constant(beta, STEPS)
    expected = walk(quasi_hyperbolic, problem, rate=alpha, momentum=momentum, nu=constant(nu, STEPS))
    betas = (constant(0, STEPS), momentum)
    assert_same_path(walk(aggregated, problem, rate=rate, betas=betas), expected, RTOL)


@examples
@given(any_problem, any_rate, any_momentum)
def test_at_a_constant_rate_it_does_not_matter_where_the_rate_stands(problem, rate, m):
    values = {"rate": constant(rate, STEPS), "momentum": constant(m, STEPS)}
    for one, *others in ((inside, outside, corrected), (nesterov_inside, nesterov_outside, nesterov_corrected)):
        path = walk(one, problem, **values)
        for other in others:
            assert_same_path(walk(other, problem, **values), path, RTOL)


@examples
@given(any_problem, positive_schedule, momentum_schedule)
def test_inside_with_goyals_correction_is_outside_under_any_positive_schedule(problem, rate, momentum):
    values = {"rate": rate, "momentum": momentum}
    assert_same_path(walk(corrected, problem, **values), walk(outside, problem, **values), RTOL)
    assert_same_path(walk(nesterov_corrected, problem, **values), walk(nesterov_outside, problem, **values), RTOL)


@examples
@given(any_problem, positive_schedule, momentum_schedule, st.integers(0, STEPS - 2), st.integers(1, 4))
def test_after_a_rate_of_zero_the_corrected_velocity_starts_from_zero(problem, rate, momentum, first, zeros):
    seed, bend = problem
    end = min(first + zeros, STEPS - 1)
    rate[first:end] = 0
    start, gradients = start_and_gradients(STEPS, seed)
    for follow in (corrected, nesterov_corrected):
        path = follow({"rate": rate, "momentum": momentum}, start, gradients, bend)
        assert np.isfinite(path).all()
        if follow is corrected:
            # Where the rate is 0 nothing moves.
            np.testing.assert_array_equal(path[first : end + 1], path[[first] * (end - first + 1)])
        values = {"rate": np.roll(rate, -end), "momentum": np.roll(momentum, -end)}
        fresh = follow(values, path[end], np.roll(gradients, -end, axis=0), bend)
        assert_same_path(path[end:], fresh[: STEPS + 1 - end], RTOL)


def test_after_a_rate_of_zero_the_velocity_outside_is_what_it_was():
    rate = np.where(np.arange(STEPS) == 10, 0.0, 0.1)
    start, gradients = start_and_gradients(STEPS)
    gradients[11] = 0
    values = {"rate": rate, "momentum": constant(0.9, STEPS)}
    steps = {follow: np.diff(follow(values, start, gradients, 0.0), axis=0) for follow in (outside, corrected)}
    # The velocity of step 9, and the gradient of step 10, which came at a rate of 0.
    expected = 0.9**2 * steps[outside][9] - 0.9 * 0.1 * gradients[10]
    np.testing.assert_allclose(steps[outside][11], expected, rtol=1e-12)
    np.testing.assert_array_equal(steps[corrected][11], 0)


weighted = follower(lambda s: aggmo(s["rate"], (0.0, s["momentum"]), weights=(s["alpha"], 1.0)))


@settings(examples, max_examples=8)
@given(any_problem, any_rate, any_momentum, st.floats(0, 10, allow_subnormal=False))
def test_aggmo_with_weights_is_simplified_ademamix_without_its_second_moment(problem, rate, m, alpha):
    # With an eps of 1e8 beside a second moment of some 1e2 Optax divides by eps but for 1e-6.
    with jax.numpy_dtype_promotion("standard"):
        ademamix = follower(lambda s: optax.contrib.simplified_ademamix(1e8 * rate, m, alpha=alpha, eps=1e8))
        expected = walk(ademamix, problem, none=constant(0, STEPS))
    values = {"rate": constant(rate, STEPS), "momentum": constant(m, STEPS), "alpha": constant(alpha, STEPS)}
    assert_same_path(walk(weighted, problem, **values), expected, rtol=1e-4)


def test_dana_takes_traced_float32_numbers_beside_float64_parameters():
    def updates(number):
        optimizer = dana(number, number, number, number)
        return optimizer.update(np.ones(2), optimizer.init(np.ones(2)))[0]

    assert jax.eval_shape(updates, np.float32(0.5)).dtype == np.float64


average = follower(
    lambda s: optax.chain(optax.ema(s["momentum"](0), debias=False), optax.scale_by_learning_rate(s["rate"]))
)
dampened = follower(lambda s: mj.momentum(s["rate"], s["momentum"], dampening=s["momentum"], convention="outside"))


@examples
@given(st.integers(0, 2**32 - 1), positive_schedule, any_momentum)
def test_dampened_from_zero_is_an_average_and_the_heavy_ball_at_its_effective_rate(seed, rate, m):
    start, gradients = start_and_gradients(STEPS, seed)
    # So that the exception for the first gradient, which is not dampened, makes no difference.
    gradients[0] = 0
    momentum = constant(m, STEPS)
    expected = average({"rate": rate, "momentum": momentum}, start, gradients, 0.0)
    for follow, values in (
        (dampened, {"rate": rate}),
        (quasi_hyperbolic, {"rate": rate, "nu": constant(1, STEPS)}),
        (outside, {"rate": rate * (1 - m)}),
    ):
        assert_same_path(follow({**values, "momentum": momentum}, start, gradients, 0.0), expected, RTOL)


restarting = follower(lambda s: adaptive_restart(s["rate"], s["q"]))


@examples
@given(any_problem, positive_schedule)
def test_without_momentum_every_method_is_gradient_descent(problem, rate):
    expected = walk(descent, problem, rate=rate)
    none, half, all_of_it = (constant(x, STEPS) for x in (0, 0.5, 1))
    for follow in (inside, outside, corrected, nesterov_inside, nesterov_outside, nesterov_corrected):
        assert_same_path(walk(follow, problem, rate=rate, momentum=none), expected, RTOL)
    for nu in (none, half, all_of_it):
        assert_same_path(walk(quasi_hyperbolic, problem, rate=rate, momentum=none, nu=nu), expected, RTOL)
    for betas in ((none,), (none, none)):
        assert_same_path(walk(aggregated, problem, rate=rate, betas=betas), expected, RTOL)
    assert_same_path(walk(restarting, problem, rate=rate, q=all_of_it), expected, RTOL)


@examples
@given(any_momentum, st.integers(1, 1000))
def test_demon_starts_at_its_momentum_and_its_odds_fall_linearly_to_none(m, decay_steps):
    counts = np.linspace(0, 2 * decay_steps, 9).astype(int)
    momenta = np.asarray(demon(m, decay_steps)(counts))
    np.testing.assert_allclose(momenta[0], m, rtol=1e-14)
    # m/(1 − m) magnifies the rounding of m and of t/T by 1/(1 − m) ≤ 100.
    odds = m / (1 - m) * np.clip(1 - counts / decay_steps, 0, None)
    np.testing.assert_allclose(momenta / (1 - momenta), odds, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("decay_steps", [3, 7, 25, 41, 833])
def test_from_its_last_step_on_demons_momentum_is_none_at_all(decay_steps):
    with jax.enable_x64(False):
        at_the_end = jax.jit(demon(0.9, decay_steps))
        assert [float(at_the_end(count)) for count in (decay_steps, decay_steps + 1, 10**6)] == [0, 0, 0]


def under_demon(m, decay_steps):
    return follower(lambda s: mj.momentum(s["rate"], demon(m, decay_steps), convention="outside"))


def test_demon_ends_in_gradient_descent_and_is_a_constant_momentum_where_it_takes_for_ever():
    start, gradients = start_and_gradients(STEPS)
    rate = constant(0.1, STEPS)
    path = under_demon(0.9, 20)({"rate": rate}, start, gradients, 1.0)
    tail = descent({"rate": rate}, path[20], np.roll(gradients, -20, axis=0), 1.0)
    assert_same_path(path[20:], tail[:21], RTOL)
    slow = under_demon(0.9, 10**12)({"rate": rate}, start, gradients, 1.0)
    # After 40 of 1e12 steps the momentum is 0.9·(1 − 4e-12).
    assert_same_path(slow, outside({"rate": rate, "momentum": constant(0.9, STEPS)}, start, gradients, 1.0), rtol=1e-9)
