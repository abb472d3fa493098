"""What each method with weight decay says of a mask that does not fit, and of missing parameters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.optimizers.factories import PARAMS, Module, make, message, takers

DECAYING = takers("weight_decay")
MASKS = {
    "a missing branch": (
        {"kernel": True, "bias": False},
        "there is a parameter at ['inner']['scale'] and no mask for it",
    ),
    "an extra branch": (
        {"kernel": True, "bias": False, "inner": True, "gain": True},
        "there is a mask at ['gain'] and no parameter there",
    ),
    "a branch below a leaf": (
        {"kernel": {"rows": True}, "bias": False, "inner": True},
        "there is a mask at ['kernel']['rows'] and no parameter there",
    ),
    "another spelling": (
        {"kernel": True, "bias": False, "inner": {"skale": True}},
        "there is a mask at ['inner']['skale'] and no parameter there",
    ),
    "nothing": ({}, "there is a parameter at ['bias'] and no mask for it"),
    "a number": ({"kernel": 1, "bias": 0, "inner": 0}, "the mask at ['bias'] must be True or False, not 0"),
    "a name": ("kernel", "the mask must be True or False, not 'kernel'"),
    "an array": (
        {"kernel": jnp.array(True), "bias": False, "inner": False},
        "the mask at ['kernel'] must be True or False, not Array(True, dtype=bool)",
    ),
    "an array for each entry": (
        {"kernel": True, "bias": np.array([True, False, True]), "inner": False},
        "the mask at ['bias'] must be True or False, not array([ True, False,  True])",
    ),
    "a function of numbers": (
        lambda params: jax.tree.map(jnp.ndim, params),
        "the mask at ['bias'] must be True or False, not 1",
    ),
    "a function of nothing": (lambda params: None, "there is a parameter at ['bias'] and no mask for it"),
    "a function of the wrong tree": (
        lambda params: {"kernel": True},
        "there is a parameter at ['bias'] and no mask for it",
    ),
    "a function of the parameters themselves": (
        lambda params: params,
        "the mask at ['bias'] must be True or False, not ",
    ),
}


@pytest.mark.parametrize("name", DECAYING)
def test_a_mask_that_does_not_fit_is_refused_by_path_at_the_start(name):
    state = make(name, weight_decay=0.1).init(PARAMS)
    for mask, words in MASKS.values():
        if "must be True or False" in words and not callable(mask):
            # This mask is wrong whatever the parameters are: it is refused when the optimizer is made.
            assert words in message(make, name, weight_decay=0.1, mask=mask)
            continue
        optimizer = make(name, weight_decay=0.1, mask=mask)
        assert words in message(optimizer.init, PARAMS)
        # A state that was not made by this `init` is refused by `update`.
        assert words in message(optimizer.update, PARAMS, state, PARAMS)


@pytest.mark.parametrize("name", DECAYING)
def test_a_mask_in_other_containers_is_refused_with_both(name):
    params = [jnp.ones(2), jnp.ones(3)]
    words = message(make(name, weight_decay=0.1, mask=(True, False)).init, params)
    assert words == "the mask PyTreeDef((*, *)) is no prefix of the parameters PyTreeDef([*, *])"


@pytest.mark.parametrize("name", DECAYING)
def test_a_traced_mask_is_refused_as_it_decides_what_is_compiled(name):
    def step(mask):
        optimizer = make(name, weight_decay=0.1, mask={"kernel": mask, "bias": False, "inner": False})
        return optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS)

    assert "the mask at ['kernel'] must be True or False, not " in message(jax.jit(step), True)


@pytest.mark.parametrize("name", DECAYING)
def test_weight_decay_without_parameters_is_refused_with_the_call_that_it_needs(name):
    words = "weight_decay needs the parameters: call update(gradients, state, params)"
    optimizer = make(name, weight_decay=0.1)
    state = optimizer.init(PARAMS)
    assert message(optimizer.update, PARAMS, state) == words
    assert message(jax.jit(optimizer.update), PARAMS, state) == words
    scheduled = make(name, weight_decay=lambda count: 0.0)
    assert message(scheduled.update, PARAMS, scheduled.init(PARAMS)) == words
    # A weight decay of the number 0 needs no parameters.
    none = make(name, weight_decay=0.0)
    none.update(PARAMS, none.init(PARAMS))


@pytest.mark.parametrize("name", DECAYING)
def test_a_mistake_comes_before_what_it_would_hide(name):
    # Both are wrong: the message names the leaf that cannot be a parameter, not the mask that does not fit it.
    optimizer = make(name, weight_decay=0.1, mask={"other": True})
    assert "at ['w'] is int32" in message(optimizer.init, {"w": jnp.ones(2, int)})


MODEL = Module(w=jnp.ones((2, 3)), b=jnp.ones(2))


@pytest.mark.parametrize("name", DECAYING)
def test_a_mask_that_is_a_module_is_a_tree_although_it_can_be_called(name):
    def updates(mask):
        optimizer = make(name, weight_decay=0.5, mask=mask)
        return optimizer.update(MODEL, optimizer.init(MODEL), MODEL)[0]

    expected = updates(lambda params: Module(w=True, b=False))
    jax.tree.map(np.testing.assert_array_equal, updates(Module(w=True, b=False)), expected)
    assert not np.allclose(expected.w, updates(False).w, rtol=1e-3)
    if name != "normalized_momentum":  # Its norm is that of all parameters.
        np.testing.assert_array_equal(expected.b, updates(False).b)
    assert "the mask at .b must be True or False, not 0" in message(updates, Module(w=True, b=0))
    assert "the mask at .b must be True or False, not <built-in function len>" in message(
        updates, Module(w=True, b=len)
    )


@pytest.mark.parametrize("name", DECAYING)
def test_a_function_of_jax_that_is_a_tree_is_a_mask_to_be_called(name):
    def updates(mask):
        optimizer = make(name, weight_decay=0.5, mask=mask)
        return optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS)[0]

    def is_matrix(params):
        return jax.tree.map(lambda p: p.ndim > 1, params)

    jax.tree.map(np.testing.assert_array_equal, updates(jax.tree_util.Partial(is_matrix)), updates(is_matrix))


@pytest.mark.parametrize("name", DECAYING)
def test_a_mask_may_cover_what_is_not_trained(name):
    def updates(mask, params):
        optimizer = make(name, weight_decay=0.5, mask=mask)
        return optimizer.update(MODEL, optimizer.init(MODEL), params)[0]

    model = dataclasses.replace(MODEL, activation=jax.nn.relu, name="dense")
    expected = updates(Module(w=True, b=False), MODEL)
    # A mask that was made from the whole model has booleans also where the gradient has None.
    for mask in (Module(w=True, b=False), Module(w=True, b=False, activation=True, name=False)):
        jax.tree.map(np.testing.assert_array_equal, updates(mask, model), expected)
