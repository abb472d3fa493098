"""`convert` against a simulator of each convention: the same iterates, or a refusal that is shown to be right.

The simulators are float64 NumPy, one for each library, as it documents its rule. Gradients are given rather than taken
at the iterates: all rules are linear in them, so that equal paths under given gradients are equal paths on any loss,
and rounding is not amplified.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.optimizers import CONVENTIONS, convert, effective_learning_rate

STEPS = 12
# No entry is near 0, so that what enters with another factor is seen at once.
GRADS = np.random.default_rng(0).uniform(0.5, 1.5, (STEPS, 3)) * np.array([1, -1, 1])

INSIDE = ("momentum_jax", "keras")
OUTSIDE = ("optax", "torch", "ema", "qhm")
AVERAGES = ("ema", "qhm")
NAMES = (*INSIDE, *OUTSIDE, "effective")
RATE = dict.fromkeys(NAMES, "learning_rate") | {"torch": "lr", "effective": "effective_learning_rate"}
MOMENTUM = dict.fromkeys(NAMES, "momentum") | {"ema": "decay"}

PAIRS = list(itertools.product(NAMES, NAMES))
every_pair = pytest.mark.parametrize(("source", "target"), PAIRS)
few = settings(deadline=None, max_examples=6)


def at(value, t):
    return float(value(t)) if callable(value) else value


def momentum_jax(grads, *, learning_rate, momentum, nesterov=False, dampening=0.0, convention="inside"):
    """The three rules in the docstring of `momentum_jax.momentum`, and of `nesterov`."""
    p = velocity = np.zeros_like(grads[0])
    before = None
    for t, g in enumerate(grads):
        eta, m = at(learning_rate, t), at(momentum, t)
        gain = 1 - at(dampening, t) if t and m else 1
        if convention == "outside":
            velocity = m * velocity + gain * g
            p = p - eta * (m * velocity + g if nesterov else velocity)
        else:
            if convention == "corrected" and t:
                velocity = eta / before * velocity if before else 0 * velocity
            velocity = m * velocity - eta * gain * g
            p = p + (m * velocity - eta * g if nesterov else velocity)
        before = eta
        yield p


def keras(grads, *, learning_rate, momentum, nesterov=False):
    """The update rules in the documentation of `keras.optimizers.SGD`."""
    w = velocity = np.zeros_like(grads[0])
    for t, g in enumerate(grads):
        velocity = at(momentum, t) * velocity - at(learning_rate, t) * g
        w = w + (at(momentum, t) * velocity - at(learning_rate, t) * g if nesterov else velocity)
        yield w


def optax_sgd(grads, *, learning_rate, momentum, nesterov=False):
    """`optax.trace`, trace = decay * trace + t, with Nesterov applied once more; then `scale_by_learning_rate`."""
    p = trace = np.zeros_like(grads[0])
    for t, g in enumerate(grads):
        trace = at(momentum, t) * trace + g
        p = p - at(learning_rate, t) * (at(momentum, t) * trace + g if nesterov else trace)
        yield p


def torch(grads, *, lr, momentum, nesterov=False, dampening=0.0):
    """The algorithm in the documentation of `torch.optim.SGD`: without momentum dampening does nothing."""
    assert not (nesterov and at(dampening, 0)), "torch refuses it"
    theta, b = np.zeros_like(grads[0]), None
    for t, g in enumerate(grads):
        mu = at(momentum, t)
        if mu != 0:
            b = g if b is None else mu * b + (1 - at(dampening, t)) * g
            g = g + mu * b if nesterov else b
        theta = theta - at(lr, t) * g
        yield theta


def ema(grads, *, learning_rate, decay):
    """`optax.ema(decay, debias=False)`, then `scale_by_learning_rate`."""
    p = average = np.zeros_like(grads[0])
    for t, g in enumerate(grads):
        average = at(decay, t) * average + (1 - at(decay, t)) * g
        p = p - at(learning_rate, t) * average
        yield p


def qhm(grads, *, learning_rate, momentum, nu):
    """Ma and Yarats 2019, equations 3 and 4."""
    p = buffer = np.zeros_like(grads[0])
    for t, g in enumerate(grads):
        beta = at(momentum, t)
        buffer = (1 - beta) * g + beta * buffer
        p = p - at(learning_rate, t) * ((1 - nu) * g + nu * buffer)
        yield p


def effective(grads, *, effective_learning_rate, momentum, nesterov=False, reading=keras):
    """It has no rule of its own: with constants it is either reading at the rate effective·(1 − m)."""

    def rate(t):
        return at(effective_learning_rate, t) * (1 - at(momentum, t))

    return reading(grads, learning_rate=rate, momentum=momentum, nesterov=nesterov)


SIMULATORS = {
    "momentum_jax": momentum_jax,
    "keras": keras,
    "optax": optax_sgd,
    "torch": torch,
    "ema": ema,
    "qhm": qhm,
    "effective": effective,
}


def path(convention, hyperparameters, **further):
    return np.array(list(SIMULATORS[convention](GRADS, **hyperparameters, **further)))


def same(a, b):
    """Equal but for rounding: a conversion rounds twice, and so few steps some 1e2 times, of 1e-16 each."""
    return np.abs(a - b).max() <= 1e-13 * np.abs(a).max()


def assert_same(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * np.abs(a).max())


def table(values):
    """A schedule through the values, which takes a count of any kind."""
    values = np.array(values)
    return lambda t: values[t]


def naively(hyperparameters, source, target):
    """What the conversion of constants makes of the values at each iteration, whether or not that is right."""
    rate, m = hyperparameters[RATE[source]], hyperparameters[MOMENTUM[source]]
    nu = hyperparameters.get("nu", 1)
    nesterov = hyperparameters.get("nesterov", False) or nu == m

    def converted(t):
        plain = at(rate, t) * (1 - at(m, t) if source in (*AVERAGES, "effective") else 1)
        return plain / (1 - at(m, t) if target in (*AVERAGES, "effective") else 1)

    further = {
        "ema": {},
        "qhm": {"nu": m if nesterov else 1.0},
        "momentum_jax": {"nesterov": nesterov, "convention": "inside"},
    }
    return {RATE[target]: converted, MOMENTUM[target]: m} | further.get(target, {"nesterov": nesterov})


rates = st.floats(1e-4, 10)
momenta = st.floats(0, 0.99)
# Where a difference is to be seen the momentum is not small.
real_momenta = st.floats(0.1, 0.99)


rate_tables = st.builds(
    # Each rate is at least a tenth off the one before.
    lambda first, seed: table(
        first * np.cumprod([1, *np.random.default_rng(seed).choice([0.5, 0.9, 1.25], STEPS - 1)])
    ),
    rates,
    st.integers(0, 99),
)
momentum_tables = st.builds(
    # Each momentum is at least 0.05 off the one before.
    lambda seed: table(np.random.default_rng(seed).uniform(0.1, 0.5, STEPS) + 0.45 * (np.arange(STEPS) % 2)),
    st.integers(0, 99),
)


def written(convention, rate, m, *, nesterov=False, dampening=0.0, place="inside"):
    """The hyperparameters of a convention in its own names, the optional ones where they say something."""
    values = {RATE[convention]: rate, MOMENTUM[convention]: m}
    if convention == "qhm":
        return values | {"nu": m if nesterov else 1.0}
    if convention == "ema":
        return values
    values |= {"nesterov": True} if nesterov else {}
    values |= {"dampening": dampening} if not isinstance(dampening, float) or dampening else {}
    return values | ({"convention": place} if convention == "momentum_jax" and place != "inside" else {})


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


def test_a_conversion_to_itself_changes_nothing():
    ours = [("momentum_jax", written("momentum_jax", 0.3, 0.7, place=place)) for place in ("outside", "corrected")]
    for name, hyperparameters in [*((name, written(name, 0.3, 0.7)) for name in NAMES), *ours]:
        assert convert(hyperparameters, name, name).items() >= hyperparameters.items()


@pytest.mark.parametrize("name", NAMES)
def test_what_the_table_says_of_a_convention_is_what_its_rule_does(name):
    facts = CONVENTIONS[name]
    assert facts.arguments[:2] == (RATE[name], MOMENTUM[name])
    # Under a constant gradient the steps tend to η·g where gradients are averaged, else to η/(1 − m)·g.
    ones = np.ones((200, 1))
    steps = np.diff(list(SIMULATORS[name](ones, **written(name, 0.5, 0.75))), axis=0)
    assert -steps[-1, 0] == pytest.approx(0.5 if facts.normalised else 2.0, rel=1e-12)
    if name == "effective":
        assert facts.rate == "constant"
        return
    # A gradient, then none and no rate: what is in flight goes on only where the rate is inside of it.
    p = list(SIMULATORS[name](np.eye(2, 1), **written(name, table([0.5, 0.0]), 0.75)))
    assert facts.rate == ("outside" if p[1] == p[0] else "inside")


@every_pair
def test_what_the_table_says_agrees_with_what_convert_accepts(source, target):
    a, b = CONVENTIONS[source], CONVENTIONS[target]

    def accepted(hyperparameters):
        try:
            convert(hyperparameters, source, target)
        except InputError:
            return False
        return True

    known = "constant" not in (a.rate, b.rate)
    assert accepted(written(source, 0.1, 0.9))
    scheduled_rate = accepted(written(source, table([0.1] * STEPS), 0.9))
    assert scheduled_rate == (known and (a.rate == b.rate or "convention" in b.arguments))
    if not (a.normalised and b.rate == "inside"):  # see the average under a scheduled momentum
        assert accepted(written(source, 0.1, table([0.9] * STEPS))) == (known and a.normalised == b.normalised)


@pytest.mark.parametrize(
    ("hyperparameters", "source", "target", "words"),
    [
        ({}, "optacks", "keras", "convention: unknown 'optacks'; did you mean 'optax'? Allowed: effective, ema, keras"),
        ({}, "optax", "PyTorch", "convention: unknown 'PyTorch'; did you mean 'torch'?"),
        ({}, None, "torch", "convention: unknown None. Allowed: "),
        ({}, "torch", ["optax"], "convention: unknown ['optax']; did you mean 'optax'?"),
        ({"momentum": 0.9}, "optax", "torch", "optax needs the argument 'learning_rate'"),
        ({"learning_rate": 0.1}, "optax", "torch", "optax needs the argument 'momentum'"),
        ({"learning_rate": 0.1, "momentum": 0.9}, "qhm", "torch", "qhm needs the argument 'nu'"),
        (
            {"learning_rate": 0.1, "momentum": 0.9},
            "torch",
            "optax",
            "argument of torch: unknown 'learning_rate'. Allowed: dampening, lr, momentum, nesterov",
        ),
        (
            {"lr": 0.1, "momentun": 0.9},
            "torch",
            "optax",
            "argument of torch: unknown 'momentun'; did you mean 'momentum'?",
        ),
        (
            {"learning_rate": 0.1, "momentum": 0.9, "dampening": 0.5},
            "optax",
            "torch",
            "argument of optax: unknown 'dampening'. Allowed: learning_rate, momentum, nesterov",
        ),
        ({"learning_rate": 0.1, "decay": 0.9, "nesterov": True}, "ema", "torch", "argument of ema: unknown 'nesterov'"),
        (
            {"learning_rate": 0.1, "momentum": 0.9, "convention": "outside"},
            "keras",
            "torch",
            "argument of keras: unknown 'convention'",
        ),
        (
            {"learning_rate": -0.1, "momentum": 0.9},
            "keras",
            "optax",
            "learning_rate must be finite and at least 0, not -0.1",
        ),
        (
            {"learning_rate": np.nan, "momentum": 0.9},
            "keras",
            "optax",
            "learning_rate must be finite and at least 0, not nan",
        ),
        (
            {"learning_rate": "0.1", "momentum": 0.9},
            "keras",
            "optax",
            "learning_rate must be finite and at least 0, not '0.1'",
        ),
        ({"learning_rate": 0.1, "momentum": 1}, "keras", "optax", "momentum must be in [0, 1), not 1"),
        ({"learning_rate": 0.1, "momentum": None}, "optax", "keras", "momentum must be in [0, 1), not None"),
        (
            {"learning_rate": np.ones(2), "momentum": 0.9},
            "keras",
            "optax",
            "learning_rate must be a scalar, not an array",
        ),
        ({"lr": 0.1, "momentum": 0.9, "dampening": 2}, "torch", "momentum_jax", "dampening must be in [0, 1], not 2"),
        ({"learning_rate": 0.1, "momentum": 0.9, "nu": -1}, "qhm", "optax", "nu must be in [0, 1], not -1"),
        (
            {"learning_rate": 0.1, "momentum": 0.9, "nesterov": 1},
            "optax",
            "torch",
            "nesterov must be True or False, not 1",
        ),
        (
            {"learning_rate": 0.1, "momentum": 0.9, "convention": "outsid"},
            "momentum_jax",
            "torch",
            "convention: unknown 'outsid'; did you mean 'outside'? Allowed: corrected, inside, outside",
        ),
    ],
)
def test_a_mistake_is_named_with_the_nearest_spelling(hyperparameters, source, target, words):
    with pytest.raises(InputError) as error:
        convert(hyperparameters, source, target)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("hyperparameters", "source", "name"),
    [
        ({"lr": -0.1, "momentum": 0.9}, "torch", "lr"),
        ({"effective_learning_rate": -0.1, "momentum": 0.9}, "effective", "effective_learning_rate"),
        ({"learning_rate": 0.1, "decay": 1.0}, "ema", "decay"),
    ],
)
def test_a_value_out_of_range_is_named_as_the_convention_names_it(hyperparameters, source, name):
    with pytest.raises(InputError, match=rf"^{name} must be "):
        convert(hyperparameters, source, "optax")


def test_the_mapping_that_was_given_is_left_alone():
    hyperparameters = {"lr": 0.1, "momentum": 0.9}
    convert(hyperparameters, "torch", "qhm")
    assert hyperparameters == {"lr": 0.1, "momentum": 0.9}


EXPRESSIBLE = [
    (source, target, nesterov)
    for source, target in PAIRS
    for nesterov in (False, True)
    if not (nesterov and {"ema", "qhm"} & {source, target})
]


def all_conversions(rate, m):
    """The rate and the momentum under every pair of conventions, as one program."""
    return [
        list(convert(written(source, rate, m, nesterov=nesterov), source, target).values())[:2]
        for source, target, nesterov in EXPRESSIBLE
    ]


def test_traced_values_convert_as_numbers_do():
    with jax.enable_x64(True):
        traced = jax.jit(all_conversions)(jnp.array(0.3), jnp.array(0.7))
        np.testing.assert_allclose(np.array(traced), np.array(all_conversions(0.3, 0.7)), rtol=1e-15)
        rates_, momenta_ = jnp.array([0.1, 0.2]), jnp.array([0.0, 0.9])
        batch = jax.vmap(all_conversions)(rates_, momenta_)
        for i in range(2):
            alone = all_conversions(float(rates_[i]), float(momenta_[i]))
            np.testing.assert_allclose(np.array(batch)[..., i], np.array(alone), rtol=1e-15)


def test_the_gradient_flows_through_a_conversion():
    def rate(m):
        return convert({"effective_learning_rate": 0.5, "momentum": m}, "effective", "torch")["lr"]

    # η = 0.5·(1 − m), and back η/(1 − m), whose derivative is η/(1 − m)².
    assert jax.grad(rate)(0.75) == -0.5
    assert jax.grad(lambda m: effective_learning_rate(0.25, m))(0.75) == 4.0


def test_a_traced_schedule_is_one():
    @jax.jit
    def rates_of(peak):
        converted = convert({"learning_rate": lambda t: peak / (t + 1), "momentum": 0.75}, "optax", "qhm")
        return [converted["learning_rate"](t) for t in range(3)]

    np.testing.assert_allclose(rates_of(0.5), [2.0, 1.0, 2 / 3], rtol=1e-6)


def test_a_traced_nu_is_refused_as_it_may_be_anything():
    with pytest.raises(InputError, match="qhm is another method only at nu = 0"):
        jax.jit(lambda nu: convert({"learning_rate": 0.1, "momentum": 0.9, "nu": nu}, "qhm", "torch"))(1.0)


@pytest.mark.parametrize(
    ("learning_rate", "m", "words"),
    [
        (-1, 0.5, "learning_rate must be finite and at least 0, not -1"),
        (0.1, 1.0, "momentum must be in [0, 1), not 1.0"),
        (True, 0.5, "learning_rate must be finite and at least 0, not True"),
        (lambda count: 0.1, 0.5, "the effective learning rate is that of constants, and learning_rate is a schedule"),
        (0.1, lambda count: 0.5, "the effective learning rate is that of constants, and momentum is a schedule"),
    ],
)
def test_the_effective_rate_is_of_hyperparameters_in_their_range(learning_rate, m, words):
    with pytest.raises(InputError) as error:
        effective_learning_rate(learning_rate, m)
    assert words in str(error.value)


@given(rate=rates, m=momenta)
@few
def test_the_effective_rate_is_the_sum_of_what_one_gradient_moves(rate, m):
    # η·Σmᵏ: after 4000 steps what is left, at most 0.99⁴⁰⁰⁰ = 3e-18 of it, is less than rounding.
    total = rate * np.sum(m ** np.arange(4000))
    assert effective_learning_rate(rate, m) == pytest.approx(total, rel=1e-12)
    assert convert(written("optax", rate, m), "optax", "effective")["effective_learning_rate"] == pytest.approx(total)


def run(optimizer):
    """The parameters after each of the gradients, by the library itself in float64."""
    with jax.enable_x64(True):
        params = jnp.zeros(GRADS.shape[1])

        def step(carry, grads):
            updates, state = optimizer.update(grads, carry[1], carry[0])
            params = optax.apply_updates(carry[0], updates)
            return (params, state), params

        return jax.lax.scan(step, (params, optimizer.init(params)), jnp.asarray(GRADS))[1]


def ours(nesterov, **arguments):
    return (mj.nesterov if nesterov else mj.momentum)(**arguments)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("scheduled", [False, True])
def test_the_result_is_what_the_library_takes_and_its_iterates_are_those_of_its_simulator(nesterov, scheduled):
    # This holds the simulators above to the libraries that they stand for; PyTorch has its own file.
    libraries = {
        "momentum_jax": ours,
        "optax": optax.sgd,
        "qhm": mj.qhm,
        "ema": lambda learning_rate, decay: optax.chain(
            optax.ema(decay, debias=False), optax.scale_by_learning_rate(learning_rate)
        ),
    }
    rate = (lambda t: 0.3 / (jnp.asarray(t, float) + 1)) if scheduled else 0.3
    hyperparameters = {"lr": rate, "momentum": 0.8, "nesterov": nesterov}
    with jax.enable_x64(True):
        expected = path("torch", hyperparameters)
        for target, library in libraries.items():
            if target == "ema" and nesterov:
                continue
            converted = convert(hyperparameters, "torch", target)
            np.testing.assert_allclose(run(library(**converted)), expected, rtol=1e-12)
            np.testing.assert_allclose(path(target, converted), expected, rtol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("place", ["inside", "outside", "corrected"])
@pytest.mark.parametrize("dampening", [0.0, 0.25])
def test_the_simulator_of_this_package_is_this_package(nesterov, place, dampening):
    hyperparameters = {"momentum": 0.8, "dampening": dampening, "convention": place}
    # With a rate of 0 on the way, which erases a corrected velocity.
    values = np.array([0.3, 0.1, 0.1, 0.0, 0.2] + [0.4] * STEPS)
    expected = path("momentum_jax", {**hyperparameters, "learning_rate": table(values), "nesterov": nesterov})
    with jax.enable_x64(True):
        schedule = jnp.asarray(values)
        got = run(ours(nesterov, learning_rate=lambda count: schedule[count], **hyperparameters))
    np.testing.assert_allclose(got, expected, rtol=1e-12)
