"""Every method against references that do not share its code: float64 NumPy, the tutorial's classes and Optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_tutorial import MiniSGD, Momentum

import momentum_jax as mj
import momentum_jax.optimizers
from tests.optimizers.oracles import (
    CASES,
    CURVATURES,
    MASK,
    STEPS,
    assert_same_path,
    check,
    descend,
    drawn,
    follower,
    slope,
    start_and_gradients,
    value,
)
from tests.optimizers.references import adaptive_restart, keras_sgd, polyak, sutskever_nesterov
from tests.optimizers.table import in_the_default_run

RATES = drawn(0.01, 0.2, 0, STEPS)
MOMENTA = drawn(0.3, 0.99, 1, STEPS)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def on_curve(t, w):
    return slope(w)


def on_both(make, reference, values):
    """The path of `make(schedules)` and of `reference(gradient, start, steps)`, on given gradients and on a curve."""
    follow = follower(make)
    start, gradients = start_and_gradients(STEPS)
    assert_same_path(follow(values, start, gradients, 0.0), reference(lambda t, w: gradients[t], start, STEPS))
    assert_same_path(follow(values, start, 0 * gradients, 1.0), reference(on_curve, start, STEPS))


def updates_of(optimizer, params, gradients):
    """The updates of an optimizer, one after the other, where parameters move with them."""
    params, state, updates = jnp.asarray(params), optimizer.init(jnp.asarray(params)), []
    for g in gradients:
        update, state = optimizer.update(jnp.asarray(g), state, params)
        params = optax.apply_updates(params, update)
        updates.append(float(update))
    return updates


# Every method, convention, form of decay and schedule.
IN_THE_DEFAULT_RUN = [
    "sgd, decay",
    "momentum, inside",
    "momentum, outside, dampening, coupled decay",
    "momentum, corrected, dampening, decoupled decay",
    "nesterov, inside, dampening, decoupled decay",
    "nesterov, outside",
    "nesterov, corrected, dampening, coupled decay",
    "demon",
    "sutskever",
    "one_cycle",
    "dana, decaying",
    "yellowfin, clip",
    "qhm, coupled decay",
    "aggmo, decoupled decay",
    "aggmo, weights",
    "adaptive_restart, gradient",
    "adaptive_restart, function",
    "normalized_momentum, coupled decay",
    "normalized_momentum, transported",
    "cautious",
    "outer_momentum",
]


@pytest.mark.parametrize("name", in_the_default_run(CASES, IN_THE_DEFAULT_RUN))
def test_every_rule_with_every_option_follows_the_formula_of_its_paper(name):
    # Oracle: tests/optimizers/references.py, in NumPy. The tolerance is explained at `assert_same_path`.
    check(CASES[name], momentum_jax.optimizers)


def test_the_heavy_ball_is_polyaks_rule_of_the_last_two_points():
    on_both(
        lambda schedules: mj.momentum(schedules["rate"], schedules["momentum"]),
        lambda *problem: polyak(*problem, RATES, MOMENTA),
        {"rate": RATES, "momentum": MOMENTA},
    )


def test_nesterov_walks_the_points_where_sutskever_takes_gradients():
    on_both(
        lambda schedules: mj.nesterov(schedules["rate"], 0.9),
        lambda *problem: sutskever_nesterov(*problem, RATES, 0.9),
        {"rate": RATES},
    )


@pytest.mark.parametrize("nesterov", [False, True], ids=["momentum", "nesterov"])
def test_inside_with_decoupled_decay_is_keras_sgd(nesterov):
    method = mj.nesterov if nesterov else mj.momentum
    on_both(
        lambda schedules: method(schedules["rate"], 0.9, weight_decay=0.1, decoupled_weight_decay=True),
        lambda *problem: keras_sgd(*problem, RATES, 0.9, nesterov=nesterov, weight_decay=0.1),
        {"rate": RATES},
    )


@pytest.mark.parametrize(
    ("ours", "reference"), [(mj.sgd(0.03), MiniSGD(0.03)), (mj.momentum(0.03, 0.9), Momentum(0.03, 0.9))]
)
def test_the_path_is_that_of_the_tutorials_class(ours, reference):
    start, gradients = start_and_gradients(STEPS)
    params, path = {"w": start.copy()}, [start]
    for g in gradients:
        reference.update(params, {"w": g})
        path.append(params["w"].copy())
    on_given = follower(lambda _: ours)({}, start, gradients, 0.0)
    assert_same_path(on_given, np.array(path))


def chain_with_rate_outside(rate, *transformations):
    return optax.chain(*transformations, optax.scale_by_learning_rate(rate))


DECAY = {"weight_decay": 0.1, "mask": MASK}
IN_OPTAX = {
    "sgd with decay": (
        lambda s: mj.sgd(s["rate"], **DECAY),
        lambda s: optax.chain(optax.add_decayed_weights(0.1, MASK), optax.sgd(s["rate"])),
    ),
    "nesterov, inside": (
        lambda s: mj.nesterov(s["rate"], 0.9),
        lambda s: optax.chain(optax.scale_by_learning_rate(s["rate"]), optax.trace(0.9, nesterov=True)),
    ),
    "nesterov, outside, coupled decay": (
        lambda s: mj.nesterov(s["rate"], 0.9, convention="outside", **DECAY),
        lambda s: optax.chain(optax.add_decayed_weights(0.1, MASK), optax.sgd(s["rate"], 0.9, nesterov=True)),
    ),
    "momentum, outside, decoupled decay": (
        lambda s: mj.momentum(s["rate"], 0.9, convention="outside", decoupled_weight_decay=True, **DECAY),
        lambda s: chain_with_rate_outside(s["rate"], optax.trace(0.9), optax.add_decayed_weights(0.1, MASK)),
    ),
    "momentum, outside, decay without a mask": (
        lambda s: mj.momentum(s["rate"], 0.9, convention="outside", weight_decay=0.1),
        lambda s: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(s["rate"], 0.9)),
    ),
    "qhm of the average alone": (
        lambda s: mj.optimizers.qhm(s["rate"], 0.9, 1.0),
        lambda s: chain_with_rate_outside(s["rate"], optax.ema(0.9, debias=False)),
    ),
}


@pytest.mark.parametrize("name", IN_OPTAX)
def test_under_a_schedule_the_path_is_that_of_optax(name):
    ours, theirs = (follower(make) for make in IN_OPTAX[name])
    start, gradients = start_and_gradients(STEPS)
    for given_gradients, bend in ((gradients, 0.0), (0 * gradients, 1.0)):
        path = theirs({"rate": RATES}, start, given_gradients, bend)
        assert_same_path(ours({"rate": RATES}, start, given_gradients, bend), path)


@pytest.mark.parametrize("nesterov", [False, True], ids=["momentum", "nesterov"])
def test_at_a_constant_rate_inside_agrees_with_optax_over_2000_iterations(nesterov):
    start, _ = start_and_gradients(1)
    ours = descend((mj.nesterov if nesterov else mj.momentum)(0.01, 0.9), slope, start, 2000)
    theirs = descend(optax.sgd(0.01, 0.9, nesterov=nesterov), slope, start, 2000)
    # float64, and a function whose slope magnifies nothing: rounding stays at some units in the last place of the
    # start. Every 0.1% of the rate would be visible at 1e-4.
    assert_same_path(ours, theirs, rtol=2e-14)


@pytest.mark.parametrize(
    ("method", "convention", "position"),
    [
        (mj.momentum, "inside", -0.200),
        (mj.momentum, "outside", -0.119),
        (mj.momentum, "corrected", -0.119),
        (mj.nesterov, "inside", -0.290),
        (mj.nesterov, "outside", -0.2171),
        (mj.nesterov, "corrected", -0.2171),
    ],
)
def test_where_the_rate_stands_shows_after_two_steps(method, convention, position):
    # g = 1, m = 0.9, rate 0.1 then 0.01: inside the first velocity keeps its 0.1, outside 0.9·1 + 1 is taken at 0.01.
    optimizer = method(lambda count: jnp.where(count == 0, 0.1, 0.01), 0.9, convention=convention)
    np.testing.assert_allclose(sum(updates_of(optimizer, 0.0, [1.0, 1.0])), position, rtol=1e-14)


def test_the_momentum_may_be_scheduled():
    optimizer = mj.momentum(1.0, lambda count: jnp.where(count < 1, 0.0, 0.5))
    # v: −1, −1.5, −1.75, all exact in binary.
    assert updates_of(optimizer, 0.0, [1.0] * 3) == [-1.0, -1.5, -1.75]


@pytest.mark.parametrize("convention", ["inside", "outside", "corrected"])
def test_dampening_spares_the_first_gradient(convention):
    # b: 1, 0.5·1 + 0.25·1, 0.5·0.75 + 0.25·1, all exact in binary.
    optimizer = mj.momentum(1.0, 0.5, dampening=0.75, convention=convention)
    assert updates_of(optimizer, 0.0, [1.0] * 3) == [-1.0, -0.75, -0.625]


@pytest.mark.parametrize("method", [mj.momentum, mj.nesterov])
def test_the_first_step_of_a_dampened_velocity_is_that_of_none(method):
    dampened = updates_of(method(0.1, 0.9, dampening=0.9), 0.0, [1.0])
    assert dampened == updates_of(method(0.1, 0.9), 0.0, [1.0])


def test_a_debiased_average_and_pytorchs_dampening_start_with_a_step_that_is_larger_by_one_over_one_minus_m():
    average = updates_of(mj.optimizers.qhm(0.1, 0.9, 1.0), 0.0, [1.0] * 20)
    with jax.numpy_dtype_promotion("standard"):
        debiased = updates_of(chain_with_rate_outside(0.1, optax.ema(0.9)), 0.0, [1.0] * 20)
    dampened = updates_of(mj.momentum(0.1, 0.9, dampening=0.9, convention="outside"), 0.0, [1.0] * 20)
    np.testing.assert_allclose([debiased[0] / average[0], dampened[0] / average[0]], 10, rtol=1e-14)
    # From then on the head start of the dampened one, m·g_0, is forgotten like any gradient: 0.1·0.9^t is left of it.
    np.testing.assert_allclose(np.subtract(average, dampened), 0.1 * 0.9 ** np.arange(1, 21), atol=1e-15)


@pytest.mark.parametrize("method", [mj.momentum, mj.nesterov])
@pytest.mark.parametrize("convention", ["inside", "outside", "corrected"])
def test_without_gradients_decoupled_decay_shrinks_exactly_and_coupled_decay_more(method, convention):
    rate, m, omega = 0.01, 0.9, 0.01
    options = {"weight_decay": omega, "convention": convention}
    decoupled = descend(method(rate, m, decoupled_weight_decay=True, **options), jnp.zeros_like, 1.0, 400)
    # The product of 400 factors, each rounded.
    np.testing.assert_allclose(decoupled, (1 - rate * omega) ** np.arange(401), rtol=1e-13)
    coupled = descend(method(rate, m, **options), jnp.zeros_like, 1.0, 400)
    # A heavy ball in the parabola ω·w²/2: once the velocity stands, after some 1/(1 − m) steps, the factor is the
    # larger root of its characteristic polynomial, which is 1 − η·ω/(1 − m) up to terms of (η·ω)²/(1 − m)³ = 1e-5.
    np.testing.assert_allclose(1 - coupled[-1] / coupled[-2], rate * omega / (1 - m), atol=2e-5)


@pytest.mark.parametrize("scheme", ["gradient", "function"])
def test_restarts_happen_at_the_steps_of_the_paper(scheme):
    start, nothing = start_and_gradients(400)
    log: list[float] = []
    expected = adaptive_restart(on_curve, start, 400, 1.0, scheme=scheme, value=value, log=log)
    # Not one of the decisions is left to rounding, and there are enough of them.
    assert min(map(abs, log)) > 1e-9
    assert sum(uphill > 0 for uphill in log) >= 3
    follow = follower(lambda schedules: mj.optimizers.adaptive_restart(1.0, scheme=scheme))
    path = follow({}, start, 0 * nothing, 1.0)
    assert_same_path(path, expected)
    # Near the minimum, which has the relative precision of all iterates: the step after the last restart as well.
    np.testing.assert_allclose(path[-1], expected[-1], rtol=1e-9)


@pytest.mark.parametrize("name", ["adaptive_restart, gradient", "adaptive_restart, function"])
def test_in_the_comparison_with_the_paper_restarts_happen_and_none_is_decided_by_rounding(name):
    start, gradients = start_and_gradients(STEPS)
    for values in CASES[name].values.values():
        for gradient in (lambda t, w: gradients[t], on_curve):
            log: list[float] = []
            CASES[name].reference(gradient, start, STEPS, **values, log=log)
            assert min(map(abs, log)) > 1e-9
            if gradient is not on_curve:
                assert sum(uphill > 0 for uphill in log) >= 5


@pytest.mark.parametrize("scheme", ["gradient", "function"])
def test_restarts_speed_up_an_ill_conditioned_quadratic(scheme):
    curvatures = np.geomspace(1e-4, 1, 9)

    def gradient(w):
        return curvatures * w

    def quadratic(w):
        return (curvatures * w**2).sum() / 2

    start, steps = np.ones(9), 1500
    plain = adaptive_restart(lambda t, w: gradient(w), start, steps, 1.0, restarts=False)
    restarted = descend(mj.optimizers.adaptive_restart(1.0, scheme=scheme), gradient, start, steps, value_fn=quadratic)
    descent = descend(mj.sgd(1.0), gradient, start, steps)
    values = [quadratic(path[-1]) for path in (restarted, plain, descent)]
    # Linear convergence with √κ = 100 against decays of 1/k² and 1/k.
    assert values[0] < values[1] / 1000
    assert values[1] < values[2] / 10


def test_the_curved_function_has_the_slope_that_it_is_given():
    w, h = 3 * np.random.default_rng(1).normal(size=len(CURVATURES)), 1e-20
    # A complex step: the derivative of an analytic function without cancellation; some ten roundings.
    partials = [value(w + 1j * h * direction).imag / h for direction in np.eye(len(w))]
    np.testing.assert_allclose(partials, slope(w), rtol=1e-13)


shapes = st.sampled_from([(), (0,), (2,), (3, 2), (1, 1, 2)])
trees = st.recursive(shapes, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))


@settings(deadline=None, max_examples=15)
@given(
    tree=trees,
    rate=st.floats(0, 10),
    m=st.floats(0, 0.999),
    steps=st.integers(1, 3),
    nesterov=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_on_any_tree_the_rule_holds(tree, rate, m, steps, nesterov, seed):
    rng = np.random.default_rng(seed)
    leaves, structure = jax.tree.flatten(tree, is_leaf=lambda node: isinstance(node, tuple))
    start = [rng.normal(size=shape) for shape in leaves]
    gradients = [[rng.normal(size=shape) for shape in leaves] for _ in range(steps)]
    optimizer = (mj.nesterov if nesterov else mj.momentum)(rate, m)
    params = structure.unflatten(map(jnp.asarray, start))
    state = optimizer.init(params)
    for g in gradients:
        updates, state = optimizer.update(structure.unflatten(g), state, params)
        params = optax.apply_updates(params, updates)
    for i, (ours, w) in enumerate(zip(jax.tree.leaves(params), start, strict=True)):
        path = keras_sgd(lambda t, _, i=i: gradients[t][i].ravel(), w.ravel(), steps, rate, m, nesterov=nesterov)
        # float64, at most 3 steps of numbers up to some 1e2.
        np.testing.assert_allclose(np.ravel(ours), path[-1], rtol=1e-11, atol=1e-11)
