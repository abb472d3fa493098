"""Norms of trees, and what each method says of gradients, parameters and states that do not fit together."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentum_jax as mj
from momentum_jax.optimizers._trees import direction, norm
from tests.optimizers.factories import FACTORIES, METHODS, PARAMS, TAKEN, Module, make, message, takers, without

STATEFUL = [name for name in FACTORIES if name != "sgd"]
# Gradients that do not fit PARAMS, and where.
MISFITS = {
    "a missing leaf": (without(PARAMS, "bias"), "there is a {other} at ['bias'] and no gradient there"),
    "an extra leaf": (PARAMS | {"gain": jnp.ones(3)}, "there is a gradient at ['gain'] and no {other} there"),
    "a leaf one level down": (
        PARAMS | {"inner": {"skale": jnp.ones(())}},
        "there is a gradient at ['inner']['skale'] and no {other} there",
    ),
    "a leaf where a branch is": (
        PARAMS | {"inner": jnp.ones(())},
        "there is a gradient at ['inner'] and no {other} there",
    ),
    "a branch where a leaf is": (
        PARAMS | {"bias": {"value": jnp.ones(3)}},
        "there is a gradient at ['bias']['value'] and no {other} there",
    ),
    "no gradient": (PARAMS | {"bias": None}, "there is a {other} at ['bias'] and no gradient there"),
    "a transposed leaf": (
        PARAMS | {"kernel": jnp.ones((3, 2))},
        "the gradient at ['kernel'] has the shape (3, 2) and the {other} there (2, 3)",
    ),
    "a leaf that would be broadcast": (
        PARAMS | {"bias": jnp.ones(())},
        "the gradient at ['bias'] has the shape () and the {other} there (3,)",
    ),
}


@pytest.mark.parametrize("size", [1e-37, 1e-25, 1.0, 1e25, 5e37])
def test_a_norm_and_a_direction_are_of_numbers_whose_squares_float32_does_not_hold(size):
    vector = size * np.array([3.0, -4.0, 0.0, 12.0]) / 13
    tree = {"a": jnp.asarray(vector[:2], "float32"), "none": jnp.zeros((0, 2)), "b": jnp.asarray(vector[2:], "float32")}
    # float32: a sum of four squares, its root and two quotients.
    np.testing.assert_allclose(norm(tree), size, rtol=1e-6)
    unit = direction(tree)
    np.testing.assert_allclose(np.concatenate([unit["a"], unit["b"]]), vector / size, rtol=1e-6)
    # The derivative of a norm is the direction.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), jax.grad(norm)(tree), unit)


def test_a_tree_of_zeros_has_the_norm_and_direction_0_and_no_derivative_that_explodes():
    for tree in (jnp.zeros(3), {"a": jnp.zeros([]), "b": jnp.zeros((0,))}, {}):
        assert norm(tree) == 0
        for leaf in jax.tree.leaves((direction(tree), jax.grad(norm)(tree))):
            np.testing.assert_array_equal(leaf, 0)
    slopes = jax.jacobian(direction)(jnp.zeros(3))
    assert np.all(np.abs(slopes) <= 1)


def test_what_is_not_finite_leaves_no_number_in_a_direction_that_looks_like_a_step():
    assert np.isnan(direction(jnp.array([1.0, jnp.nan]))).all()
    assert np.isnan(direction(jnp.array([1.0, jnp.inf]))[1])


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", FACTORIES)
def test_gradients_that_do_not_fit_are_refused_by_path(name, compiled):
    optimizer = make(name)
    state = optimizer.init(PARAMS)
    update = jax.jit(optimizer.update) if compiled else optimizer.update
    for misfit, (grads, words) in MISFITS.items():
        # The method that keeps nothing of the parameters can compare with the parameters only.
        other = "parameter" if name == "sgd" else "state"
        if name == "sgd" and misfit == "no gradient":
            continue
        assert message(update, grads, state, PARAMS) == words.format(other=other)
        if name != "sgd":
            assert message(update, grads, state) == words.format(other=other)


@pytest.mark.parametrize("name", FACTORIES)
def test_parameters_that_do_not_fit_the_gradients_are_refused_by_path(name):
    optimizer = make(name)
    state = optimizer.init(PARAMS)
    for params, words in (
        (without(PARAMS, "bias"), "there is a gradient at ['bias'] and no parameter there"),
        (PARAMS | {"gain": jnp.ones(3)}, "there is a parameter at ['gain'] and no gradient there"),
        (PARAMS | {"bias": jnp.ones(1)}, "the gradient at ['bias'] has the shape (3,) and the parameter there (1,)"),
        (
            PARAMS | {"bias": jnp.ones(3, int)},
            "the parameter at ['bias'] is int32, and must be real floating-point: leave it out with optax.masked or "
            "optax.multi_transform",
        ),
    ):
        assert message(optimizer.update, PARAMS, state, params) == words


@pytest.mark.parametrize("name", STATEFUL)
def test_a_state_from_other_parameters_is_refused_by_path(name):
    optimizer = make(name)
    for params, words in (
        (without(PARAMS, "kernel"), "there is a gradient at ['kernel'] and no state there"),
        (PARAMS | {"gain": jnp.ones(3)}, "there is a state at ['gain'] and no gradient there"),
        (PARAMS | {"bias": jnp.ones(4)}, "the gradient at ['bias'] has the shape (3,) and the state there (4,)"),
    ):
        assert message(optimizer.update, PARAMS, optimizer.init(params), PARAMS) == words


@pytest.mark.parametrize("name", METHODS)
def test_a_state_of_another_method_is_refused_by_its_name(name):
    optimizer = make(name)
    own = type(optimizer.init(PARAMS)).__name__
    states = [make(other).init(PARAMS) for other in METHODS]
    states += [mj.momentum(0.1, convention="corrected").init(PARAMS), optax.sgd(0.1, 0.9).init(PARAMS), None]
    for state in states:
        if type(state).__name__ != own:
            words = message(optimizer.update, PARAMS, state, PARAMS)
            assert f"the state is a {type(state).__name__}, and this optimizer's is a {own}: " in words


def test_the_state_of_one_convention_is_that_of_another_unless_it_is_corrected():
    state = mj.momentum(0.1).init(PARAMS)
    mj.nesterov(0.1, convention="outside").update(PARAMS, state)
    corrected = mj.momentum(0.1, convention="corrected")
    words = "the state is a MomentumState, and this optimizer's is a CorrectedMomentumState: "
    assert words in message(corrected.update, PARAMS, state)
    words = "the state is a CorrectedMomentumState, and this optimizer's is a MomentumState: "
    assert words in message(mj.momentum(0.1).update, PARAMS, corrected.init(PARAMS))


@pytest.mark.parametrize("name", FACTORIES)
def test_a_list_is_no_tuple_and_the_message_shows_both(name):
    optimizer = make(name)
    a, b = [jnp.ones(2), jnp.ones(3)], (jnp.ones(2), jnp.ones(3))
    other = "parameter" if name == "sgd" else "state"
    words = message(optimizer.update, a, optimizer.init(b), b)
    assert words == (
        f"the trees of gradients and {other}s are of different containers: PyTreeDef([*, *]) and PyTreeDef((*, *))"
    )


@pytest.mark.parametrize("name", FACTORIES)
def test_a_tree_that_is_one_leaf_is_told_without_a_path(name):
    optimizer = make(name)
    other = "parameter" if name == "sgd" else "state"
    params = jnp.ones(2)
    words = f"the gradient has the shape (3,) and the {other} there (2,)"
    assert message(optimizer.update, jnp.ones(3), optimizer.init(params), params) == words


@pytest.mark.parametrize("name", [name for name in STATEFUL if "accumulator_dtype" in TAKEN[name]])
def test_with_an_accumulator_dtype_of_its_own_the_state_may_differ_in_dtype_and_in_nothing_else(name):
    optimizer = make(name, accumulator_dtype="float32")
    half = jax.tree.map(lambda p: p.astype("bfloat16"), PARAMS)
    state = optimizer.init(half)
    optimizer.update(half, state, half)
    grads = half | {"bias": jnp.ones(4, "bfloat16")}
    words = "the gradient at ['bias'] has the shape (4,) and the state there (3,)"
    assert message(optimizer.update, grads, state, grads) == words
    words = "the state at ['bias'] is bfloat16 and accumulator_dtype is float32: cast it, such as by optax.tree.cast"
    assert message(optimizer.update, half, make(name).init(half), half) == words


@pytest.mark.parametrize("name", takers("betas"))
def test_a_state_of_another_number_of_betas_is_refused(name):
    state = make(name, betas=(0.0, 0.5)).init(PARAMS)
    assert "betas" in message(make(name, betas=(0.0, 0.5, 0.9)).update, PARAMS, state, PARAMS)


WRONG_TYPES = {
    "int32": (jnp.ones(3, int), "int32", "leave it out with optax.masked or optax.multi_transform"),
    "uint8": (np.ones(3, "uint8"), "uint8", "leave it out with optax.masked or optax.multi_transform"),
    "a Python integer": (3, "int32", "leave it out with optax.masked or optax.multi_transform"),
    "bool": (jnp.ones(3, bool), "bool", "leave it out with optax.masked or optax.multi_transform"),
    "a key": (jax.random.key(0), "key<fry>", "leave it out with optax.masked or optax.multi_transform"),
    "complex": (jnp.ones(3, complex), "complex64", "split it with optax.contrib.split_real_and_imaginary"),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_a_leaf_that_is_not_real_floating_point_is_refused_by_path_with_what_to_do(name):
    optimizer = make(name)
    for leaf, dtype, advice in WRONG_TYPES.values():
        tree = PARAMS | {"inner": {"scale": leaf}}
        expected = f"at ['inner']['scale'] is {dtype}, and must be real floating-point: {advice}"
        assert message(optimizer.init, tree) == f"the parameter {expected}"
        assert message(jax.eval_shape, optimizer.init, tree) == f"the parameter {expected}"
        assert message(optimizer.update, tree, optimizer.init(PARAMS), PARAMS) == f"the gradient {expected}"
        assert message(jax.jit(optimizer.update), tree, optimizer.init(PARAMS)) == f"the gradient {expected}"


@pytest.mark.parametrize("name", FACTORIES)
def test_a_leaf_that_is_no_array_is_refused_by_path(name):
    # Such leaves are in the trees of libraries that keep a model's settings beside its arrays.
    optimizer = make(name)
    state = optimizer.init(PARAMS)
    for leaf in ("adam", len, object()):
        tree, words = PARAMS | {"inner": {"scale": leaf}}, "at ['inner']['scale'] is no array"
        assert f"the parameter {words}" in message(optimizer.init, tree)
        assert f"the gradient {words}" in message(optimizer.update, tree, state)
        # Where there is a gradient there must be a parameter.
        assert f"the parameter {words}" in message(optimizer.update, PARAMS, state, tree)


TRAINED = Module(w=jnp.ones((2, 3)), b=jnp.ones(2))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", FACTORIES)
def test_parameters_without_a_gradient_are_ignored_whatever_they_are(name, compiled):
    optimizer = make(name, **({"weight_decay": 0.1} if "weight_decay" in TAKEN[name] else {}))
    state, expected = optimizer.init(TRAINED), None
    for activation, label in (
        (None, None),
        (jax.nn.relu, "dense"),
        (jnp.arange(3), jax.random.key(0)),
        ({"a": len}, 1),
    ):
        model = dataclasses.replace(TRAINED, activation=activation, name=label)

        def update(grads, state, model=model):
            return optimizer.update(grads, state, model)

        actual = (jax.jit(update) if compiled else update)(TRAINED, state)
        expected = expected or actual
        assert jax.tree.structure(actual) == jax.tree.structure(expected)
        jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize("name", FACTORIES)
def test_a_leaf_that_does_not_fit_is_named_beside_others_that_are_not_trained(name):
    optimizer = make(name)
    model = dataclasses.replace(TRAINED, activation=jax.nn.relu)
    words = message(optimizer.update, TRAINED, optimizer.init(TRAINED), dataclasses.replace(model, b=jnp.ones(3)))
    assert words == "the gradient at .b has the shape (2,) and the parameter there (3,)"
    words = message(optimizer.update, TRAINED, optimizer.init(TRAINED), dataclasses.replace(model, b=None))
    assert words == "there is a gradient at .b and no parameter there"
