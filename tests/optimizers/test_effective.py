"""Effective learning rates against what the optimizers do, and what is refused."""

import jax
import jax.numpy as jnp
import pytest

import momentum_jax as mj
from momentum_jax.optimizers import registry
from momentum_jax.optimizers.effective import (
    effective_learning_rate_of,
    has_effective_learning_rate,
    other_rates,
    with_effective_learning_rate,
)
from momentum_jax.optimizers.family import to_qhm

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
    mj.OptimizerConfig("accelerated_sgd", learning_rate=0.25, gamma=1.0, alpha=0.5, beta=0.25),
    mj.OptimizerConfig("accsgd", learning_rate=0.25, kappa=49.0, xi=10.0),
    mj.OptimizerConfig("mass", learning_rate=0.25, eta2=0.125, gamma=0.75),
    mj.OptimizerConfig("synthesized_nesterov", learning_rate=0.25, beta1=0.75, beta2=0.5),
    mj.OptimizerConfig("primal_averaging", learning_rate=0.25),
    mj.OptimizerConfig("mars", learning_rate=0.25),
    mj.OptimizerConfig("grokfast", learning_rate=0.25),
    mj.OptimizerConfig("outer_nesterov", learning_rate=0.25, outer_learning_rate=0.5, momentum=0.75),
]
UNDEFINED = [
    (mj.OptimizerConfig("optax.adam", learning_rate=0.1), "not defined for 'a' \\(optax.adam\\)"),
    (mj.OptimizerConfig("adaptive_restart", learning_rate=0.1), "not defined for 'a' \\(adaptive_restart\\)"),
    (mj.OptimizerConfig("sgd", learning_rate=mj.Schedule("constant", value=0.1)), "learning_rate of 'a' is a schedule"),
    (mj.OptimizerConfig("nesterov", learning_rate=0.1, momentum=mj.Schedule("sutskever")), "momentum of 'a' is a sch"),
    (mj.OptimizerConfig("momentum", learning_rate=0.1, dampening=1.0), "is 0 whatever its learning rate"),
    (mj.OptimizerConfig("aggmo", learning_rate=0.1, betas=(0.5,), weights=(0.0,)), "its weights are 0"),
    (mj.OptimizerConfig("optax.sgd", learning_rate=0.1, momentum=1.0), "infinite: its momentum is 1"),
    (mj.OptimizerConfig("dana", learning_rate=0.1, gamma3=0.1), "not defined for 'a' \\(dana\\)"),
    (mj.OptimizerConfig("normalized_momentum", learning_rate=0.1), "not defined for 'a'"),
    (mj.OptimizerConfig("mars", learning_rate=0.1, beta1=mj.Schedule("sutskever")), "beta1 of 'a' is a schedule"),
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
    matched = with_effective_learning_rate("a", config, 0.3)
    assert effective_learning_rate_of("a", matched) == pytest.approx(0.3, rel=1e-10)
    rates = dict.fromkeys(("learning_rate", *other_rates(config)), 0)
    assert matched.hyperparameters | rates == config.hyperparameters | rates
    assert has_effective_learning_rate(config)


@pytest.mark.parametrize("config", [DEFINED[12], DEFINED[14]], ids=repr)
def test_a_matched_method_of_the_family_with_two_rates_keeps_the_momentum_and_nu_of_its_qhm(config):
    before, after = (
        to_qhm(each.name, each.hyperparameters) for each in (config, with_effective_learning_rate("a", config, 0.3))
    )
    assert after[1:] == pytest.approx(before[1:], rel=1e-10)


@pytest.mark.parametrize(("config", "message"), UNDEFINED, ids=lambda value: str(value)[:30])
def test_where_the_effective_learning_rate_is_not_defined_the_reason_is_said(config, message):
    with pytest.raises(mj.InputError, match=message):
        effective_learning_rate_of("a", config)


def test_an_optimizer_has_an_effective_learning_rate_whatever_its_learning_rate_is():
    scheduled = mj.OptimizerConfig("momentum", learning_rate=mj.Schedule("constant", value=0.1))
    assert has_effective_learning_rate(scheduled)
    assert with_effective_learning_rate("a", scheduled, 0.1).hyperparameters["learning_rate"] == 0.01
    zero = mj.OptimizerConfig("mass", learning_rate=0.0, eta2=0.0)
    with pytest.raises(mj.InputError, match="the effective learning rate of 'a' is 0, which no factor changes"):
        with_effective_learning_rate("a", zero, 0.1)
