"""Every schedule against the Optax schedule of the same meaning, at every iteration."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_jax.optimizers import demon, log_time, one_cycle, sutskever
from momentum_jax.optimizers.description import SCHEDULES, Schedule
from momentum_jax.optimizers.schedules import FORMULAS
from tests.compiling import jit
from tests.optimizers.factories import message

ITERATIONS = 60


def optax_warmup_linear(peak_value, warmup_steps, decay_steps, init_value, end_value):
    up = optax.linear_schedule(init_value, peak_value, warmup_steps)
    down = optax.linear_schedule(peak_value, end_value, decay_steps - warmup_steps)
    return optax.join_schedules([up, down], [warmup_steps])


def demon_of_the_paper(init_value, decay_steps):
    """Chen et al. 2019, algorithm 1: m_t/(1 − m_t) = (1 − t/T)·m_0/(1 − m_0), solved for m_t."""

    def schedule(count):
        odds = jnp.maximum(1 - count.astype(float) / decay_steps, 0.0) * init_value / (1 - init_value)
        return odds / (1 + odds)

    return schedule


def sutskever_of_the_paper(max_value, transition_steps=250):
    """Sutskever et al. 2013, equation 5, in its own form."""

    def schedule(count):
        stage = (count // transition_steps).astype(float)
        return jnp.minimum(1 - 2.0 ** (-1 - jnp.log2(stage + 1)), max_value)

    return schedule


def one_cycle_against_the_rate(transition_steps, base_value, max_value, pct_start):
    """As far below its maximum as the rate of Optax's cycle is on its way from either end to its peak."""
    rate = optax.cosine_onecycle_schedule(transition_steps, 1.0, pct_start)

    def schedule(count):
        end = jnp.where(count < pct_start * transition_steps, rate(0), rate(transition_steps))
        return max_value - (max_value - base_value) * (rate(count) - end) / (1 - end)

    return schedule


ORACLES = {
    "one_cycle": one_cycle_against_the_rate,
    "log_time": lambda delta: lambda count: 1 - delta / (delta + count.astype(float)),
    "demon": demon_of_the_paper,
    "sutskever": sutskever_of_the_paper,
    "constant": optax.constant_schedule,
    "warmup_cosine": optax.warmup_cosine_decay_schedule,
    "warmup_linear": optax_warmup_linear,
    "step_decay": lambda **parameters: optax.exponential_decay(**parameters, staircase=True),
}

CASES = [
    Schedule("constant", value=0.1),
    Schedule("constant", value=0),
    *(
        Schedule(name, **parameters)
        for name in ("warmup_cosine", "warmup_linear")
        for parameters in (
            {"peak_value": 0.1, "warmup_steps": 10, "decay_steps": 50},
            {"peak_value": 0.3, "warmup_steps": 0, "decay_steps": 7, "init_value": 0.2, "end_value": 0.01},
            {"peak_value": 0.3, "warmup_steps": 1, "decay_steps": 2, "init_value": 0.5, "end_value": 0.4},
            {"peak_value": 1.0, "warmup_steps": 59, "decay_steps": 1000, "end_value": 0.3},
        )
    ),
    Schedule("step_decay", init_value=0.1, transition_steps=1, decay_rate=0.9),
    Schedule("step_decay", init_value=0.1, transition_steps=7, decay_rate=0.5),
    Schedule("step_decay", init_value=0.1, transition_steps=100, decay_rate=0.5),
    Schedule("step_decay", init_value=0.1, transition_steps=3, decay_rate=1),
    Schedule("demon", init_value=0.9, decay_steps=1),
    Schedule("demon", init_value=0.9, decay_steps=40),
    Schedule("demon", init_value=0.5, decay_steps=1000),
    Schedule("demon", init_value=0.0, decay_steps=10),
    Schedule("sutskever", max_value=0.99, transition_steps=7),
    Schedule("one_cycle", transition_steps=40, pct_start=0.25),
    Schedule("one_cycle", transition_steps=50, base_value=0.0, max_value=0.5, pct_start=0.5),
    Schedule("log_time", delta=8.0),
    Schedule("sutskever", max_value=0.7),
]


def values(schedule, iterations=ITERATIONS):
    return np.asarray(jax.vmap(schedule)(jnp.arange(iterations)))


def largest(schedule):
    # That of log time is 1.
    return max((value for name, value in schedule.items if name.endswith("value")), default=1.0)


def test_every_schedule_has_a_formula_and_is_tested():
    assert set(FORMULAS) == set(SCHEDULES) == set(ORACLES) == {schedule.name for schedule in CASES}


@pytest.mark.parametrize(
    ("schedule", "x64"),
    [
        *((schedule, False) for schedule in CASES),
        # One case by default: float64 compiles every operation once more.
        *(
            pytest.param(schedule, True, marks=() if schedule == CASES[-2] else pytest.mark.exhaustive)
            for schedule in CASES
        ),
    ],
    ids=lambda value: value if isinstance(value, bool) else repr(value),
)
def test_a_schedule_is_optaxs_of_the_same_meaning_at_every_iteration(schedule, x64):
    # Optax adds and multiplies in another order. Both make at most some ten roundings of numbers that are no larger
    # than the largest value, and the power has an error of its own of a few units in the last place.
    with jax.enable_x64(x64):
        actual = values(FORMULAS[schedule.name](**schedule.hyperparameters))
        with jax.numpy_dtype_promotion("standard"):
            expected = values(ORACLES[schedule.name](**schedule.hyperparameters))
    assert actual.dtype == (np.float64 if x64 else np.float32)
    tolerance = 16 * np.finfo(actual.dtype).eps * largest(schedule)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("schedule", CASES, ids=repr)
def test_traced_floats_give_the_values_of_concrete_ones(schedule):
    fixed = {name: value for name, value in schedule.items if name.endswith("_steps")}
    numbers = {name: float(value) for name, value in schedule.items if name not in fixed}
    traced = jit(lambda numbers: jax.vmap(FORMULAS[schedule.name](**fixed, **numbers))(jnp.arange(ITERATIONS)))(numbers)
    # XLA may fuse a multiplication with an addition, or fold constants: some roundings fewer or more.
    tolerance = 16 * np.finfo(np.float32).eps * largest(schedule)
    np.testing.assert_allclose(traced, values(FORMULAS[schedule.name](**schedule.hyperparameters)), 0, tolerance)


@pytest.mark.parametrize("schedule", CASES, ids=repr)
def test_numbers_and_iterations_in_bfloat16_are_those_numbers(schedule):
    steps = {name: value for name, value in schedule.items if name.endswith("_steps")}
    numbers = {name: jnp.asarray(value, "bfloat16") for name, value in schedule.items if name not in steps}
    narrow = FORMULAS[schedule.name](**steps, **numbers)
    wide = FORMULAS[schedule.name](**steps, **{name: float(value) for name, value in numbers.items()})
    # JAX promotes nothing in these tests. The same operations in float32.
    for count in (0, 5, 40):
        assert narrow(jnp.asarray(count)) == narrow(jnp.asarray(count, "bfloat16")) == wide(jnp.asarray(count))


@pytest.mark.parametrize("name", ["warmup_cosine", "warmup_linear"])
def test_a_warmup_starts_at_init_peaks_at_its_end_and_stays_at_end_value(name):
    schedule = FORMULAS[name](peak_value=0.5, warmup_steps=10, decay_steps=30, init_value=0.25, end_value=0.125)
    counts = jnp.asarray([0, 5, 10, 20, 30, 31, 2**31 - 1])
    # Powers of two: both the straight line and the half cosine halfway are exact up to the last rounding.
    expected = [0.25, 0.375, 0.5, 0.3125, 0.125, 0.125, 0.125]
    np.testing.assert_allclose(jax.vmap(schedule)(counts), expected, rtol=2 * np.finfo(np.float32).eps)


def test_demon_starts_at_its_momentum_and_ends_at_none():
    np.testing.assert_array_equal(values(FORMULAS["demon"](0.75, 3), 5)[[0, 3, 4]], [0.75, 0, 0])


@pytest.mark.parametrize(("pct_start", "expected"), [(0.0, [0.0, 0.5]), (1.0, [0.5, 0.0])])
def test_a_cycle_may_only_rise_or_only_fall(pct_start, expected):
    at = values(FORMULAS["one_cycle"](8, 0.0, 0.5, pct_start), 9)
    # float32: half a cosine, rounded some four times.
    np.testing.assert_allclose(at[[0, 8]], expected, atol=1e-6)
    assert np.isfinite(jax.grad(lambda s: one_cycle(8, 0.0, 0.5, s)(4))(pct_start))


def test_a_step_decay_keeps_its_value_for_transition_steps_iterations():
    schedule = FORMULAS["step_decay"](init_value=1.0, transition_steps=3, decay_rate=0.5)
    np.testing.assert_array_equal(values(schedule, 7), [1, 1, 1, 0.5, 0.5, 0.5, 0.25])


# XLA flushes subnormal numbers to zero.
VALUE = st.floats(0, 1e3, width=32, allow_subnormal=False)


@given(
    st.sampled_from(["warmup_cosine", "warmup_linear"]),
    VALUE,
    VALUE,
    VALUE,
    st.integers(0, 80),
    st.integers(1, 80),
)
def test_a_warmup_and_decay_stays_between_its_values(name, peak, init, end, warmup, decay):
    formula = FORMULAS[name](peak, warmup, warmup + decay, init, end)
    seen = values(formula)
    ends = [peak, end, *([init] if warmup else [])]
    # A weighted mean of two of them, rounded some four times.
    slack = 8 * np.finfo(np.float32).eps * max(ends)
    assert seen.min() >= min(ends) - slack
    assert seen.max() <= max(ends) + slack


@given(VALUE, st.integers(1, 80), st.floats(0.0078125, 1, width=32))
def test_a_step_decay_never_rises_and_never_turns_negative(init, transition, rate):
    seen = values(FORMULAS["step_decay"](init, transition, rate))
    assert seen[0] == np.float32(init)
    assert (np.diff(seen) <= 0).all()
    assert (seen >= 0).all()


def test_a_schedule_refuses_what_it_cannot_use():
    for call, words in (
        (lambda: demon(1.0, 10), "momentum must be in [0, 1), not 1.0"),
        (lambda: demon(-0.1, 10), "momentum must be in [0, 1), not -0.1"),
        (lambda: demon("0.9", 10), "momentum must be in [0, 1), not '0.9'"),
        (lambda: demon(np.ones(2), 10), "momentum must be a scalar, not an array of shape (2,)"),
        (lambda: demon(0.9, 0), "decay_steps must be an integer of at least 1, not 0"),
        (lambda: demon(0.9, 2.5), "decay_steps must be an integer of at least 1, not 2.5"),
        (lambda: demon(0.9, True), "decay_steps must be an integer of at least 1, not True"),
        (lambda: sutskever(1), "momentum must be in [0, 1), not 1"),
        (lambda: sutskever(math.nan), "momentum must be in [0, 1), not nan"),
        (lambda: sutskever(0.9, 0), "transition_steps must be an integer of at least 1, not 0"),
        (lambda: sutskever(0.9, 250.0), "transition_steps must be an integer of at least 1, not 250.0"),
        (lambda: one_cycle(9, 1.0), "base_value must be in [0, 1), not 1.0"),
        (lambda: one_cycle(9, max_value=-0.1), "max_value must be in [0, 1), not -0.1"),
        (lambda: one_cycle(9, pct_start=30), "pct_start must be in [0, 1], not 30"),
        (lambda: one_cycle(0.5), "transition_steps must be an integer of at least 1, not 0.5"),
        (lambda: log_time(0), "delta must be finite and at least 1e-30, not 0"),
        (lambda: log_time(-8.0), "delta must be finite and at least 1e-30, not -8.0"),
        (
            lambda: Schedule("one_cycle", transition_steps=9, pct_start=1.5),
            "pct_start of schedule 'one_cycle' must be in [0, 1], not 1.5",
        ),
        (
            lambda: Schedule("log_time", delta=0),
            "delta of schedule 'log_time' must be finite and at least 1e-30, not 0",
        ),
        (lambda: Schedule("log_time"), "delta of schedule 'log_time' is missing; it takes delta"),
        (lambda: Schedule("demn", init_value=0.9, decay_steps=9), "schedule: unknown 'demn'; did you mean 'demon'?"),
        (lambda: Schedule("demon", init_value=0.9), "decay_steps of schedule 'demon' is missing; it takes init_value"),
        (
            lambda: Schedule("demon", init_value=0.9, decay_steps=9.5),
            "decay_steps of schedule 'demon' must be an integer of at least 1 and at most 2147483647, not 9.5",
        ),
        (
            lambda: Schedule("demon", init_value=-0.9, decay_steps=9),
            "init_value of schedule 'demon' must be finite and at least 0, not -0.9",
        ),
        (
            lambda: Schedule("sutskever", transition_steps=0),
            "transition_steps of schedule 'sutskever' must be an integer of at least 1 and at most 2147483647, not 0",
        ),
        (
            lambda: Schedule("sutskever", max_valeu=0.9),
            "parameter of schedule 'sutskever': unknown 'max_valeu'; did you mean 'max_value'?",
        ),
    ):
        assert words in message(call)
