"""The table of conventions, what `convert` takes and refuses, and the libraries that the simulators stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.optimizers import CONVENTIONS, convert, effective_learning_rate
from tests.optimizers.factories import message
from tests.optimizers.simulators import (
    GRADS,
    MOMENTUM,
    NAMES,
    PAIRS,
    RATE,
    SIMULATORS,
    STEPS,
    every_pair,
    few,
    momenta,
    path,
    rates,
    table,
    written,
)


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


# Hyperparameters, source, target, and what the message says.
MISTAKES = [
    ({}, "optacks", "keras", "convention: unknown 'optacks'; did you mean 'optax'? Allowed: accelerated_sgd, accsgd"),
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
]


def test_a_mistake_is_named_with_the_nearest_spelling():
    for hyperparameters, source, target, words in MISTAKES:
        assert words in message(convert, hyperparameters, source, target)


def test_a_value_out_of_range_is_named_as_the_convention_names_it():
    for hyperparameters, source, name in (
        ({"lr": -0.1, "momentum": 0.9}, "torch", "lr"),
        ({"effective_learning_rate": -0.1, "momentum": 0.9}, "effective", "effective_learning_rate"),
        ({"learning_rate": 0.1, "decay": 1.0}, "ema", "decay"),
    ):
        assert message(convert, hyperparameters, source, "optax").startswith(f"{name} must be ")


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


def test_the_effective_rate_is_of_hyperparameters_in_their_range():
    for learning_rate, m, words in (
        (-1, 0.5, "learning_rate must be finite and at least 0, not -1"),
        (0.1, 1.0, "momentum must be in [0, 1), not 1.0"),
        (True, 0.5, "learning_rate must be finite and at least 0, not True"),
        (lambda count: 0.1, 0.5, "the effective learning rate is that of constants, and learning_rate is a schedule"),
        (0.1, lambda count: 0.5, "the effective learning rate is that of constants, and momentum is a schedule"),
    ):
        assert words in message(effective_learning_rate, learning_rate, m)


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


def test_of_chainers_two_rules_the_table_lists_the_one_that_is_its():
    def chainer(nesterov):
        """Of f = p²/2 from 1, by the update rules of Chainer 7: MomentumSGD and NesterovAG."""
        lr, m, p, v, after = 0.1, 0.9, 1.0, 0.0, []
        for _ in range(5):
            g = p
            v = m * v - lr * g
            p += m * m * v - (1 + m) * lr * g if nesterov else v
            after.append(p)
        return after

    def here(optimizer):
        with jax.enable_x64(True):
            p = jnp.array(1.0)
            state, after = optimizer.init(p), []
            for _ in range(5):
                updates, state = optimizer.update(p, state)
                p = p + updates
                after.append(p)
            return after

    np.testing.assert_allclose(here(mj.momentum(0.1, 0.9)), chainer(nesterov=False), rtol=1e-14)
    nesterov_ag = chainer(nesterov=True)
    np.testing.assert_allclose(nesterov_ag, [0.729, 0.45854, 0.21552, 0.01681, -0.12973], atol=5e-6)
    assert not np.allclose(here(mj.nesterov(0.1, 0.9)), nesterov_ag, rtol=0.05)
    assert "Chainer's `MomentumSGD` (the heavy ball only)" in CONVENTIONS["keras"].library
