"""Gradients of another dtype than the parameters, alone and in Optax's wrappers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentum_jax as mj
from tests.compiling import jit
from tests.optimizers.table import (
    TABLE,
    assert_close,
    bowl,
    entries_where,
    every_entry,
    gradient_of_bowl,
    one_of_each,
    run,
    shapes,
    some_params,
)


def cast(tree, dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def half_gradient(params):
    return cast(gradient_of_bowl(params), "bfloat16")


def apply(params, updates):
    with jax.numpy_dtype_promotion("standard"):
        return optax.apply_updates(params, updates)


# Not the cores: Optax's learning rate, before or after them, rounds once more. Nor what wraps another's rounded step.
@entries_where(lambda name: not name.startswith(("scale_by", "cautious", "outer_momentum")))
@pytest.mark.parametrize(("of_grads", "of_params"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_a_step_is_that_of_widened_gradients_and_its_updates_are_rounded_once_to_theirs(name, of_grads, of_params):
    optimizer = TABLE[name].make()
    params, state, _ = run(optimizer, some_params(of_params), 3)
    grads = cast(gradient_of_bowl(params), of_grads)
    updates, new_state = optimizer.update(grads, state, params, value_fn=bowl)
    wide_updates, wide_state = optimizer.update(cast(grads, "float32"), state, params, value_fn=bowl)
    # To the bit: the arithmetic is in float32 in either case.
    assert_close(updates, cast(wide_updates, of_grads), rtol=0)
    assert_close(new_state, wide_state, rtol=0)
    assert shapes(new_state) == shapes(state)


@every_entry
@pytest.mark.parametrize(
    ("of_grads", "of_params"),
    [("bfloat16", "float32"), ("float16", "bfloat16"), ("float32", "float16"), ("float32", "float64")],
)
def test_updates_have_the_dtype_of_the_gradients_and_the_state_keeps_its_own(name, of_grads, of_params):
    with jax.enable_x64(of_params == "float64"):

        def program():
            optimizer, params = TABLE[name].make(), some_params(of_params)
            grads, state = cast(params, of_grads), optimizer.init(params)
            updates, new_state = optimizer.update(grads, state, params, value_fn=bowl)
            return (updates, new_state), (grads, state)

        with jax.numpy_dtype_promotion("standard"):
            actual, expected = jax.eval_shape(program)
        assert shapes(actual) == shapes(expected)


@one_of_each
def test_a_scan_carries_float32_parameters_down_bfloat16_gradients(name):
    optimizer, params = TABLE[name].make(), some_params()

    @jit
    def trained(params):
        def one(carry, _):
            params, state = carry
            updates, state = optimizer.update(half_gradient(params), state, params, value_fn=bowl)
            return (apply(params, updates), state), updates

        return jax.lax.scan(one, (params, optimizer.init(params)), length=4)[0]

    after, state = trained(params)
    expected = run(optimizer, params, 4)
    # Four steps, whose gradients and updates are rounded to 8 bits.
    assert_close(after, expected.params, rtol=2**-6, atol=2**-6)
    assert shapes(state) == shapes(expected.state)


@one_of_each
def test_apply_if_finite_takes_bfloat16_gradients_beside_float32_parameters(name):
    optimizer, params = TABLE[name].make(), some_params()
    guarded = optax.apply_if_finite(optimizer, 3)
    update = jit(functools.partial(guarded.update, value_fn=bowl))
    grads = half_gradient(params)
    infinite = jax.tree.map(lambda g: g * jnp.inf, grads)
    updates, state = update(infinite, guarded.init(params), params)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(updates))
    actual, state = update(grads, state, params)
    expected, expected_state = optimizer.update(grads, optimizer.init(params), params, value_fn=bowl)
    # bfloat16 updates of a compiled step may be rounded in the last of their 8 bits.
    assert_close(actual, expected, rtol=2**-7)
    assert_close(state.inner_state, expected_state, rtol=1e-5, atol=1e-7)


@one_of_each
@pytest.mark.parametrize("of_params", ["float32", "bfloat16"])
def test_multi_steps_takes_the_mean_of_bfloat16_gradients(name, of_params):
    optimizer, params = TABLE[name].make(), some_params(of_params)
    accumulating = optax.MultiSteps(optimizer, every_k_schedule=2)
    with jax.numpy_dtype_promotion("standard"):
        update = jit(functools.partial(accumulating.update, value_fn=bowl))
        state = accumulating.init(params)
        grads = half_gradient(params)
        for weight in (0.5, 1.5):
            weighted = jax.tree.map(lambda g, weight=weight: (weight * g).astype(g.dtype), grads)
            updates, state = update(weighted, state, params)
            assert any(np.any(leaf) for leaf in jax.tree.leaves(updates)) == (weight == 1.5)
    expected, expected_state = optimizer.update(grads, optimizer.init(params), params, value_fn=bowl)
    # The half and three halves of a gradient are rounded to 8 bits, and so is their mean.
    assert_close(updates, expected, rtol=2**-6, atol=2**-8)
    assert_close(state.inner_opt_state, expected_state, rtol=2**-6, atol=2**-8)


def test_beside_float32_parameters_the_steps_are_those_of_optax_but_for_the_rounding_of_updates():
    theirs, ours = optax.sgd(0.1, 0.9), mj.momentum(0.1, 0.9, convention="outside")
    params = some_params()
    there, here = (params, theirs.init(params)), (params, ours.init(params))
    for _ in range(5):
        grads = half_gradient(there[0])
        with jax.numpy_dtype_promotion("standard"):
            updates, state = theirs.update(grads, there[1], there[0])
        there = apply(there[0], updates), state
        updates, state = ours.update(grads, here[1], here[0])
        here = apply(here[0], updates), state
        # The same sum in float32.
        assert_close(here[1].velocity, there[1][0].trace, rtol=1e-6)
    assert_close(here[0], there[0], rtol=2**-7, atol=2**-8)
