"""The function scheme of `adaptive_restart`: what it needs from the caller."""

import jax
import jax.numpy as jnp

import momentum_jax as mj
from tests.optimizers.factories import PARAMS, message
from tests.optimizers.table import bowl, gradient_of_bowl, shapes, some_params


def loss(params):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))


def test_the_function_scheme_needs_the_parameters_and_the_function():
    words = 'scheme="function" needs update(gradients, state, params, value_fn=f)'
    optimizer = mj.adaptive_restart(0.1, scheme="function")
    state = optimizer.init(PARAMS)
    for update in (optimizer.update, jax.jit(optimizer.update)):
        assert message(update, PARAMS, state) == words
        assert message(update, PARAMS, state, PARAMS) == words
    assert message(optimizer.update, PARAMS, state, value_fn=loss) == words
    optimizer.update(PARAMS, state, PARAMS, value_fn=loss)


def test_a_function_that_gives_no_scalar_is_refused():
    optimizer = mj.adaptive_restart(0.1, scheme="function")
    state = optimizer.init(PARAMS)
    message(optimizer.update, PARAMS, state, PARAMS, value_fn=lambda params: params["bias"])
    message(optimizer.update, PARAMS, state, PARAMS, value_fn=lambda params: (loss(params), "auxiliary"))


def test_a_function_that_gives_a_number_of_python_will_do():
    optimizer = mj.adaptive_restart(0.1, scheme="function")
    _, state = optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS, value_fn=lambda params: 2.0)
    assert state.value == 2


def test_the_function_scheme_asks_for_the_value_at_parameters_of_their_own_dtypes():
    optimizer, params = mj.adaptive_restart(0.1, scheme="function"), some_params("bfloat16", "float32")
    asked = []

    def value_fn(at):
        asked.append(at)
        return bowl(at)

    state = optimizer.init(params)
    for _ in range(2):
        _, state = optimizer.update(gradient_of_bowl(params), state, params, value_fn=value_fn)
    # One more evaluation a step, as promised.
    assert [shapes(at) for at in asked] == [shapes(params)] * 2
