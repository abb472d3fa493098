"""`convert` either gives the same iterates, or refuses a conversion that would give others.

The oracles are the simulators of `simulators.py`.
"""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.optimizers import CONVENTIONS, convert
from tests.optimizers.simulators import (
    AVERAGES,
    GRADS,
    INSIDE,
    NAMES,
    OUTSIDE,
    PAIRS,
    RATE,
    STEPS,
    assert_same,
    at,
    every_pair,
    few,
    keras,
    momenta,
    momentum_tables,
    naively,
    optax_sgd,
    path,
    qhm,
    rate_tables,
    rates,
    real_momenta,
    same,
    table,
    written,
)


@every_pair
@given(rate=rates, m=momenta, nesterov=st.booleans())
@few
def test_with_constants_both_conventions_give_the_same_iterates(source, target, rate, m, nesterov):
    nesterov = nesterov and "ema" not in (source, target)
    hyperparameters = written(source, rate, m, nesterov=nesterov)
    converted = convert(hyperparameters, source, target)
    assert tuple(converted) == CONVENTIONS[target].arguments
    assert_same(path(source, hyperparameters), path(target, converted))


@every_pair
@given(rate=rate_tables, m=real_momenta, nesterov=st.booleans())
@few
def test_a_schedule_of_the_rate_is_exact_or_refused_because_the_iterates_would_differ(
    source, target, rate, m, nesterov
):
    nesterov = nesterov and "ema" not in (source, target)
    hyperparameters = written(source, rate, m, nesterov=nesterov)
    exact = "effective" not in (source, target) and (
        target == "momentum_jax" or {source, target} <= set(INSIDE) or {source, target} <= set(OUTSIDE)
    )
    if exact:
        converted = convert(hyperparameters, source, target)
        assert callable(converted[RATE[target]])
        if target == "momentum_jax":
            assert converted["convention"] == ("inside" if source in INSIDE else "outside")
        assert_same(path(source, hyperparameters), path(target, converted))
        return
    with pytest.raises(InputError, match=f"^{source}.* and {target} agree at a constant learning rate only: "):
        convert(hyperparameters, source, target)
    if "effective" not in (source, target):
        assert not same(path(source, hyperparameters), path(target, naively(hyperparameters, source, target)))
    else:
        # The effective rate says nothing of where the rate stands, and the two readings of it part.
        scheduled = naively(hyperparameters, source, "effective")
        inside, outside = (path("effective", scheduled, reading=reading) for reading in (keras, optax_sgd))
        assert not same(inside, outside)


@pytest.mark.parametrize("place", ["outside", "corrected"])
@pytest.mark.parametrize("target", NAMES)
@given(rate=rate_tables, m=real_momenta, nesterov=st.booleans())
@few
def test_a_schedule_of_ours_outside_is_exact_wherever_the_rate_is_outside(place, target, rate, m, nesterov):
    hyperparameters = written("momentum_jax", rate, m, nesterov=nesterov and target != "ema", place=place)
    if target == "momentum_jax" or (place == "outside" and target in OUTSIDE):
        converted = convert(hyperparameters, "momentum_jax", target)
        assert converted.get("convention", place) == place
        assert_same(path("momentum_jax", hyperparameters), path(target, converted))
    else:
        with pytest.raises(
            InputError, match=f'^momentum_jax .*"{place}" and {target} agree at a constant learning rate only: '
        ):
            convert(hyperparameters, "momentum_jax", target)
        if target == "keras":
            converted = naively(hyperparameters, "momentum_jax", "keras")
            assert not same(path("momentum_jax", hyperparameters), path("keras", converted))


@pytest.mark.parametrize("target", OUTSIDE)
def test_a_rate_of_zero_on_the_way_is_why_the_corrected_velocity_is_not_that_outside(target):
    # With rates that stay positive the two are the same; but what a schedule will be cannot be asked of it.
    for rates_, equal in (([0.1, 0.2, 0.3], True), ([0.1, 0.0, 0.3], False)):
        schedule = table(rates_ + [0.3] * STEPS)
        hyperparameters = written("momentum_jax", schedule, 0.5, place="corrected")
        converted = naively(hyperparameters, "momentum_jax", target)
        assert same(path("momentum_jax", hyperparameters), path(target, converted)) == equal


# An average under a scheduled momentum has a test of its own below.
@pytest.mark.parametrize(
    ("source", "target"), [pair for pair in PAIRS if not (pair[0] in AVERAGES and pair[1] in INSIDE)]
)
@given(rate=rates, m=momentum_tables, nesterov=st.booleans())
@few
def test_a_schedule_of_the_momentum_is_exact_or_refused_because_the_iterates_would_differ(
    source, target, rate, m, nesterov
):
    nesterov = nesterov and not {"ema", "qhm"} & {source, target}
    hyperparameters = written(source, rate, m, nesterov=nesterov)
    if "effective" not in (source, target) and (source in AVERAGES) == (target in AVERAGES):
        converted = convert(hyperparameters, source, target)
        assert_same(path(source, hyperparameters), path(target, converted))
        return
    with pytest.raises(InputError, match=f"^{source} and {target} agree at a constant momentum only: "):
        convert(hyperparameters, source, target)
    if "effective" not in (source, target):
        assert not same(path(source, hyperparameters), path(target, naively(hyperparameters, source, target)))
    elif source == "effective":
        # η = effective·(1 − m) is then a schedule, and the two readings part. (As a target it is for constants only.)
        inside, outside = (path("effective", hyperparameters, reading=reading) for reading in (keras, optax_sgd))
        assert not same(inside, outside)


@pytest.mark.parametrize("target", INSIDE)
@pytest.mark.parametrize("source", AVERAGES)
@given(rate=rates, m=momentum_tables)
@few
def test_an_average_under_a_scheduled_momentum_is_a_velocity_with_a_scheduled_rate_inside(source, target, rate, m):
    # v = −η·a where the rate inside is η·(1 − m) at each iteration.
    hyperparameters = written(source, rate, m)
    assert_same(path(source, hyperparameters), path(target, naively(hyperparameters, source, target)))
    assert_same(path(source, hyperparameters), path(target, convert(hyperparameters, source, target)))


@pytest.mark.parametrize("target", INSIDE)
@pytest.mark.parametrize("source", AVERAGES)
@given(rate=rate_tables, m=momentum_tables)
@few
def test_an_average_is_no_velocity_where_both_are_scheduled(source, target, rate, m):
    hyperparameters = written(source, rate, m)
    with pytest.raises(InputError, match=f"^{source} and {target} agree at a constant "):
        convert(hyperparameters, source, target)
    converted = naively(hyperparameters, source, target)
    candidates = [converted] if target == "keras" else [converted, converted | {"convention": "outside"}]
    for candidate in candidates:
        assert not same(path(source, hyperparameters), path(target, candidate))


@given(rate=rate_tables, m=momentum_tables, nesterov=st.booleans())
@few
def test_both_may_be_scheduled_where_the_rate_stands_alike_and_gradients_enter_alike(rate, m, nesterov):
    for source, target in [
        ("keras", "momentum_jax"),
        ("momentum_jax", "keras"),
        ("optax", "torch"),
        ("torch", "optax"),
    ]:
        hyperparameters = written(source, rate, m, nesterov=nesterov)
        assert_same(path(source, hyperparameters), path(target, convert(hyperparameters, source, target)))
    for source, target in [("ema", "qhm"), ("qhm", "ema")]:
        hyperparameters = written(source, rate, m)
        assert_same(path(source, hyperparameters), path(target, convert(hyperparameters, source, target)))


@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize("source", ["torch", "momentum_jax"])
@given(rate=rates, m=real_momenta, dampening=st.floats(0.1, 1), scheduled=st.booleans())
@few
def test_dampening_is_carried_over_or_refused_because_nothing_replaces_it(
    source, target, rate, m, dampening, scheduled
):
    # At d = m the average that ema keeps differs from it in the first gradient only.
    dampening = m if scheduled else dampening
    hyperparameters = written(source, rate, m, dampening=dampening)
    if target in ("torch", "momentum_jax"):
        converted = convert(hyperparameters, source, target)
        assert converted["dampening"] == dampening
        assert_same(path(source, hyperparameters), path(target, converted))
        return
    with pytest.raises(InputError, match=f"^{target} has no dampening: "):
        convert(hyperparameters, source, target)
    without = {k: v for k, v in hyperparameters.items() if k != "dampening"}
    smaller = without | {RATE[source]: rate * (1 - dampening)}
    for candidate in (without, smaller):
        assert not same(path(source, hyperparameters), path(target, convert(candidate, source, target)))


@pytest.mark.parametrize(("source", "target"), [("torch", "momentum_jax"), ("momentum_jax", "torch")])
@given(rate=rates, m=real_momenta, dampening=st.floats(0, 1))
@few
def test_dampening_may_be_scheduled(source, target, rate, m, dampening):
    schedule = table(dampening * np.linspace(1, 0, STEPS))
    hyperparameters = written(source, rate, m, dampening=schedule)
    assert_same(path(source, hyperparameters), path(target, convert(hyperparameters, source, target)))


@given(rate=rates, m=real_momenta, dampening=st.floats(0.1, 1))
@few
def test_nesterov_with_dampening_stays_in_this_package(rate, m, dampening):
    hyperparameters = written("momentum_jax", rate, m, nesterov=True, dampening=dampening)
    converted = convert(hyperparameters, "momentum_jax", "momentum_jax")
    assert_same(path("momentum_jax", hyperparameters), path("momentum_jax", converted))
    with pytest.raises(InputError, match="torch refuses Nesterov with dampening"):
        convert(hyperparameters, "momentum_jax", "torch")


@pytest.mark.parametrize("source", ["momentum_jax", "keras", "optax", "torch", "qhm", "effective"])
@given(rate=rates, m=real_momenta)
@few
def test_nesterov_is_no_ema_at_any_of_its_rates(source, rate, m):
    hyperparameters = written(source, rate, m, nesterov=True)
    with pytest.raises(InputError, match="ema has no Nesterov form"):
        convert(hyperparameters, source, "ema")
    # Its first step is that of ema at the rate η(1 + m)/(1 − m), and then the second is not.
    theirs = path(source, hyperparameters)
    matched = path("ema", {"learning_rate": theirs[0, 0] / -GRADS[0, 0] / (1 - m), "decay": m})
    np.testing.assert_allclose(matched[0], theirs[0], rtol=1e-13)
    assert not same(theirs, matched)


@every_pair
@given(
    scheduled=st.booleans(),
    rate=rate_tables,
    nesterov=st.booleans(),
    dampening=st.sampled_from([0.0, 0.5]),
    m=st.just(0),
)
@few
def test_without_momentum_all_conventions_are_gradient_descent_under_a_schedule_too(
    source, target, scheduled, rate, nesterov, dampening, m
):
    assume(source != "ema" or not nesterov)
    assume(not nesterov or not dampening)
    assume(source in ("torch", "momentum_jax") or not dampening)
    rate = rate if scheduled else rate(0)
    hyperparameters = written(source, rate, float(m), nesterov=nesterov, dampening=dampening)
    converted = convert(hyperparameters, source, target)
    descent = -np.cumsum([at(rate, t) * g for t, g in enumerate(GRADS)], axis=0)
    assert_same(descent, path(source, hyperparameters))
    assert_same(descent, path(target, converted))


@pytest.mark.parametrize("source", NAMES)
def test_what_converts_to_this_package_is_something_that_it_takes(source):
    # Also where there is no momentum, and nothing is said of where the rate stands.
    hyperparameters = written(source, lambda count: 0.1 / (count + 1), 0.0)
    converted = convert(hyperparameters, source, "momentum_jax")
    del converted["nesterov"]
    mj.momentum(**converted)


@pytest.mark.parametrize("target", NAMES)
@given(rate=rates, m=real_momenta)
@few
def test_qhm_is_another_method_at_three_values_of_nu(target, rate, m):
    heavy_ball = convert({"learning_rate": rate, "momentum": m, "nu": 1}, "qhm", target)
    assert_same(path("qhm", {"learning_rate": rate, "momentum": m, "nu": 1}), path(target, heavy_ball))
    descent = convert({"learning_rate": rate, "momentum": m, "nu": 0}, "qhm", target)
    assert_same(-rate * np.cumsum(GRADS, axis=0), path(target, descent))
    if target == "ema":
        return
    nesterov = convert({"learning_rate": rate, "momentum": m, "nu": m}, "qhm", target)
    assert_same(path("qhm", {"learning_rate": rate, "momentum": m, "nu": m}), path(target, nesterov))


def test_between_its_three_values_qhm_is_no_other_method():
    hyperparameters = {"learning_rate": 1.0, "momentum": 0.9, "nu": 0.7}
    with pytest.raises(InputError, match=r"only at nu = 0, the constant momentum or 1, not at nu = 0\.7"):
        convert(hyperparameters, "qhm", "optax")
    # Its first two steps with g = 1, then 0 determine the rate and the momentum of a heavy ball, 0.37 and 0.063/0.37;
    # the third is then not its own.
    impulse = np.eye(STEPS, 1)
    steps = -np.diff(list(qhm(impulse, **hyperparameters)), axis=0, prepend=0.0)[:, 0]
    np.testing.assert_allclose(steps[:3], [0.37, 0.063, 0.0567], rtol=1e-12)
    matched = optax_sgd(impulse, learning_rate=steps[0], momentum=steps[1] / steps[0])
    np.testing.assert_allclose(-np.diff(list(matched), axis=0)[1], 0.063**2 / 0.37, rtol=1e-12)


def test_qhm_without_its_average_is_gradient_descent_whatever_the_momentum_does():
    hyperparameters = {"learning_rate": 0.1, "momentum": table([0.5, 0.9] * STEPS), "nu": 0}
    converted = convert(hyperparameters, "qhm", "optax")
    assert_same(path("qhm", hyperparameters), path("optax", converted))


@pytest.mark.parametrize("nu", [table([1.0] * STEPS), 1 - 1e-9])
def test_a_nu_that_is_not_known_to_be_one_of_them_is_refused(nu):
    with pytest.raises(InputError, match="qhm is another method only at nu = 0"):
        convert({"learning_rate": 0.1, "momentum": 0.9, "nu": nu}, "qhm", "torch")


@every_pair
@given(rate=rates, m=st.floats(1e-3, 0.99), nesterov=st.booleans())
@few
def test_there_and_back_gives_what_was_given(source, target, rate, m, nesterov):
    hyperparameters = written(source, rate, m, nesterov=nesterov and "ema" not in (source, target))
    there = convert(hyperparameters, source, target)
    back = convert(there, target, source)
    assert {k: back[k] for k in hyperparameters} == pytest.approx(hyperparameters, rel=1e-15)
    # One rounding there and one back; what was left out came back as what it is then.
    left_out = {k: v for k, v in back.items() if k not in hyperparameters}
    assert left_out.items() <= {"nesterov": False, "dampening": 0.0, "convention": "inside"}.items()


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(OUTSIDE, 2)))
@given(rate=rate_tables, m=real_momenta)
@few
def test_a_schedule_comes_back_as_it_was(source, target, rate, m):
    there = convert(written(source, rate, m), source, target)
    back = convert(there, target, source)
    for t in range(STEPS):
        assert back[RATE[source]](t) == pytest.approx(rate(t), rel=1e-15)
