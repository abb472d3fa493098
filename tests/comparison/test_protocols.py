"""Effective learning rates against what the optimizers do, and what is refused."""

import jax
import jax.numpy as jnp
import pytest

import momentum_jax as mj
from momentum_jax.comparison.protocols import at_effective_learning_rate, at_learning_rate, effective_learning_rate_of
from momentum_jax.optimizers import registry

DEFINED = [
    mj.OptimizerConfig("sgd", learning_rate=0.25),
    mj.OptimizerConfig("momentum", learning_rate=0.25),
    mj.OptimizerConfig("momentum", learning_rate=0.25, momentum=0.5, dampening=0.25),
    mj.OptimizerConfig("momentum", learning_rate=0.25, momentum=0.0, dampening=0.5),
    mj.OptimizerConfig("nesterov", learning_rate=0.25, momentum=0.75),
    mj.OptimizerConfig("nesterov", learning_rate=0.25, momentum=0.75, dampening=0.5),
    mj.OptimizerConfig("qhm", learning_rate=0.25, momentum=0.9),
    mj.OptimizerConfig("aggmo", learning_rate=0.25),
    mj.OptimizerConfig("aggmo", learning_rate=0.25, betas=(0.0, 0.5)),
    mj.OptimizerConfig("aggmo", learning_rate=0.25, betas=(0.0, 0.5), weights=(3.0, 1.0)),
    mj.OptimizerConfig("optax.sgd", learning_rate=0.25),
    mj.OptimizerConfig("optax.sgd", learning_rate=0.25, momentum=0.5, nesterov=True),
]
UNDEFINED = [
    (mj.OptimizerConfig("optax.adam", learning_rate=0.1), "not defined for 'a' \\(optax.adam\\)"),
    (mj.OptimizerConfig("adaptive_restart", learning_rate=0.1), "not defined for 'a' \\(adaptive_restart\\)"),
    (mj.OptimizerConfig("sgd", learning_rate=mj.Schedule("constant", value=0.1)), "learning_rate of 'a' is a schedule"),
    (mj.OptimizerConfig("nesterov", learning_rate=0.1, momentum=mj.Schedule("sutskever")), "momentum of 'a' is a sch"),
    (mj.OptimizerConfig("momentum", learning_rate=0.1, dampening=1.0), "is 0 whatever its learning rate"),
    (mj.OptimizerConfig("aggmo", learning_rate=0.1, betas=(0.5,), weights=(0.0,)), "its weights are 0"),
    (mj.OptimizerConfig("optax.sgd", learning_rate=0.1, momentum=1.0), "infinite: its momentum is 1"),
]


def step_in_the_long_run(config):
    """What the parameter moves by at the gradient 1, after 2,000 iterations of it."""
    optimizer = registry.build(*registry.split(config))
    gradient = jnp.ones([])

    def step(state, _):
        updates, state = optimizer.update(gradient, state, gradient)
        return state, updates

    return -jax.jit(lambda: jax.lax.scan(step, optimizer.init(gradient), length=2000)[1][-1])()


@pytest.mark.parametrize("config", DEFINED, ids=repr)
def test_the_effective_learning_rate_is_the_step_at_a_constant_gradient_in_the_long_run(config):
    # In float32; 0.99^2000 is below its precision.
    assert step_in_the_long_run(config) == pytest.approx(effective_learning_rate_of("a", config), rel=1e-5)


@pytest.mark.parametrize("config", DEFINED, ids=repr)
def test_a_matched_optimizer_has_the_effective_learning_rate_that_was_asked_for_and_all_else_as_before(config):
    (matched,) = at_effective_learning_rate({"a": config}, 0.3).values()
    assert effective_learning_rate_of("a", matched) == pytest.approx(0.3, rel=1e-11)
    assert {**matched.hyperparameters, "learning_rate": 0} == {**config.hyperparameters, "learning_rate": 0}


@pytest.mark.parametrize(("config", "message"), UNDEFINED, ids=lambda value: str(value)[:30])
def test_where_the_effective_learning_rate_is_not_defined_the_reason_is_said(config, message):
    with pytest.raises(mj.InputError, match=message):
        effective_learning_rate_of("a", config)


def test_one_learning_rate_for_all_leaves_the_rest_and_refuses_an_optimizer_without_one():
    nesterov = mj.OptimizerConfig("nesterov", learning_rate=0.25, momentum=0.75)
    optimizers = {"a": DEFINED[0], "b": nesterov}
    assert at_learning_rate(optimizers, 0.5) == {
        "a": mj.OptimizerConfig("sgd", learning_rate=0.5),
        "b": mj.OptimizerConfig("nesterov", learning_rate=0.5, momentum=0.75),
    }
    with pytest.raises(mj.InputError, match="'c' has no hyperparameter learning_rate"):
        at_learning_rate({"c": mj.OptimizerConfig("optax.set_to_zero")}, 0.5)
