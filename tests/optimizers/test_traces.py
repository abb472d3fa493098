"""Hyperparameters as numbers, arrays and tracers, wherever an optimizer is made or updated while JAX traces."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentum_jax as mj
from momentum_jax.optimizers import (
    convert,
    effective_learning_rate,
    from_optax,
    optimal_momentum,
    optimal_nesterov,
    optimal_sgd,
    standard_nesterov,
    to_optax,
)
from tests.compiling import jit
from tests.optimizers.factories import FACTORIES, TAKEN, make, message, takers
from tests.optimizers.table import TABLE, assert_close, bowl, every_entry, gradient_of_bowl, injected, some_params

NUMBERS = ("learning_rate", "momentum", "dampening", "weight_decay", "nu", "q", "gamma3", "betas")
FORMS = {
    "a float": float,
    "a scalar of NumPy": np.float32,
    "an array of NumPy": np.array,
    "an array of JAX": jnp.float32,
}
PARAMS = jnp.array([1.0, -2.0])


def two_updates(name, params, **arguments):
    optimizer = make(name, **arguments)
    state, updates = optimizer.init(params), []
    for weight in (1.0, 0.5):
        update, state = optimizer.update(weight * params, state, params)
        updates.append(update)
    return updates


def scanned(function):
    return lambda params: jax.lax.scan(lambda carry, _: (carry, function(params)), 0, length=2)


TRACES = {
    "jit": lambda function: function,
    "vmap": jax.vmap,
    "grad": lambda function: jax.grad(lambda params: bowl(function(params))),
    "scan": scanned,
}


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        # Of each hyperparameter the first method that takes it.
        pytest.param(name, key, marks=() if name == takers(key)[0] else pytest.mark.exhaustive)
        for key in NUMBERS
        for name in takers(key)
    ],
)
def test_a_concrete_number_of_any_form_may_be_used_inside_any_trace(name, argument):
    def updates(form, value):
        entry = form(value)
        return lambda params: two_updates(name, params, **{argument: (entry,) if argument == "betas" else entry})

    # Whether a hyperparameter is 0 decides what is traced.
    for value in (0.0, 0.5):
        for form, trace in itertools.product(FORMS.values(), TRACES.values()):
            params = PARAMS[None] if trace is jax.vmap else PARAMS
            jax.eval_shape(trace(updates(form, value)), params)
        expected = updates(float, value)(PARAMS)
        assert_close(jit(updates(jnp.float32, value))(PARAMS), expected, rtol=1e-6)
        # Made inside the trace, and given from outside of it.
        made = jit(lambda params, value=value: updates(jnp.float32, value)(params))
        assert_close(made(PARAMS), expected, rtol=1e-6)
        assert_close(
            jit(lambda params, value: updates(lambda traced: traced, value)(params))(PARAMS, value), expected, rtol=1e-6
        )


@every_entry
def test_a_state_of_injected_hyperparameters_may_be_closed_over(name):
    optimizer, params = injected(TABLE[name]), some_params()
    state, grads = optimizer.init(params), gradient_of_bowl(params)
    expected = optimizer.update(grads, state, params, value_fn=bowl)
    actual = jit(lambda grads: optimizer.update(grads, state, params, value_fn=bowl))(grads)
    # float32: compiled.
    assert_close(actual, expected, rtol=1e-5, atol=1e-7)


@every_entry
def test_injected_hyperparameters_may_be_initialised_and_updated_in_compiled_programs(name):
    entry, params = TABLE[name], some_params()
    optimizer, plain = injected(entry), entry.make()
    grads = gradient_of_bowl(params)
    updates, state = jit(lambda *trees: optimizer.update(*trees, value_fn=bowl))(
        grads, jit(optimizer.init)(params), params
    )
    expected = plain.update(grads, plain.init(params), params, value_fn=bowl)
    # float32: compiled, and a hyperparameter is rounded to it a few operations earlier.
    assert_close((updates, state.inner_state), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", FACTORIES)
def test_an_integer_without_a_sign_is_the_number_that_it_is(name):
    # The rate 1 is negated, which as an unsigned integer of eight bits would be 255.
    for argument in {"learning_rate", "weight_decay", "dampening", "nu", "q"} & set(TAKEN[name]):
        expected = two_updates(name, PARAMS, **{argument: 1.0})
        for one in (np.uint8(1), np.array(1, "uint8"), jnp.uint8(1), 1):
            assert_close(two_updates(name, PARAMS, **{argument: one}), expected, rtol=1e-6)
        traced = jit(lambda one, argument=argument: two_updates(name, PARAMS, **{argument: one}))
        assert_close(traced(np.uint8(1)), expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:momentum is a traced bfloat16")
def test_one_minus_a_momentum_of_bfloat16_is_not_rounded_to_bfloat16():
    momentum = jnp.bfloat16(0.3)
    expected = two_updates("qhm", PARAMS, momentum=float(momentum))
    assert_close(two_updates("qhm", PARAMS, momentum=momentum), expected, rtol=1e-6)
    assert_close(jit(lambda m: two_updates("qhm", PARAMS, momentum=m))(momentum), expected, rtol=1e-6)


CONVERSIONS = [
    ({"lr": 0.25, "momentum": 0.75, "dampening": 0.0, "nesterov": True}, "torch", "qhm"),
    ({"lr": 0.25, "momentum": 0.75, "dampening": 0.5}, "torch", "momentum_jax"),
    ({"lr": 0.25, "momentum": 0.0, "dampening": 0.5}, "torch", "qhm"),
    ({"learning_rate": 0.25, "momentum": 0.75, "nu": 0.0}, "qhm", "torch"),
    ({"learning_rate": 0.25, "momentum": 0.75, "nu": 0.75}, "qhm", "torch"),
    ({"learning_rate": 0.25, "momentum": 0.75, "nu": 1.0}, "qhm", "ema"),
    ({"effective_learning_rate": 0.25, "momentum": 0.75}, "effective", "keras"),
]


@pytest.mark.parametrize(("hyperparameters", "source", "target"), CONVERSIONS)
@pytest.mark.parametrize("form", [np.float32, jnp.float32])
def test_concrete_arrays_convert_inside_a_trace_as_numbers_do(hyperparameters, source, target, form):
    values = {key: form(value) if isinstance(value, float) else value for key, value in hyperparameters.items()}
    kept = []

    @jax.jit
    def converted():
        result = convert(values, source, target)
        kept.append({key: value for key, value in result.items() if isinstance(value, bool | str)})
        return {key: value for key, value in result.items() if not isinstance(value, bool | str)}

    # Powers of two and their sums: nothing is rounded.
    assert jax.tree.map(float, converted()) | kept[0] == convert(hyperparameters, source, target)


def test_a_nu_that_is_not_known_is_told_without_what_jax_calls_it():
    def call(nu):
        return convert({"learning_rate": 0.1, "momentum": 0.9, "nu": nu}, "qhm", "torch")

    words = "qhm is another method only at nu = 0, the constant momentum or 1, not at "
    assert message(jax.jit(call), 1.0) == words + "a traced nu"
    assert message(call, lambda count: 1.0) == words + "a schedule"


def test_a_state_converts_at_a_concrete_rate_inside_a_trace():
    ours, theirs = mj.momentum(0.5, 0.9), optax.sgd(0.5, 0.9)
    _, state = theirs.update(PARAMS, theirs.init(PARAMS), PARAMS)
    _, expected = ours.update(PARAMS, ours.init(PARAMS), PARAMS)
    for rate in (0.5, np.float32(0.5), jnp.float32(0.5)):
        there = jit(lambda state, rate=rate: from_optax(state, rate, count=1))(state)
        assert_close(there, expected, rtol=0)
        assert_close(jit(lambda ours, rate=rate: to_optax(ours, state, rate))(there), state, rtol=0)
        # Of a state that is closed over, too.
        assert_close(jit(lambda rate=rate: from_optax(state, rate, count=1))(), expected, rtol=0)


def test_an_effective_rate_is_computed_inside_a_trace():
    assert jit(lambda: effective_learning_rate(jnp.float32(0.25), np.float32(0.75)))() == 1


@pytest.mark.parametrize("tuning", [optimal_sgd, optimal_momentum, optimal_nesterov, standard_nesterov])
def test_a_tuning_is_computed_inside_a_trace(tuning):
    for form in (np.float32, np.array, jnp.float32):
        mu, largest = form(1.0), form(100.0)
        assert jit(lambda mu=mu, largest=largest: tuple(map(jnp.asarray, tuning(mu, largest))))() == pytest.approx(
            tuning(1.0, 100.0), rel=1e-6
        )
