"""Descriptions of optimizers: what is checked, what is static and what is traced."""

import jax.numpy as jnp
import numpy as np
import pytest

from momentum_jax.optimizers.description import OptimizerConfig, Schedule
from momentum_jax.optimizers.registry import TracedSchedule, build, check, fixed, split
from tests.optimizers.factories import message


def test_floats_are_traced_and_all_else_is_static():
    config = OptimizerConfig(
        "momentum",
        learning_rate=Schedule("step_decay", init_value=0.1, transition_steps=3, decay_rate=0.5),
        momentum=0.9,
        dampening=0,
        convention="outside",
    )
    structure, traced = split(config)
    assert traced == {
        "learning_rate.init_value": 0.1,
        "learning_rate.decay_rate": 0.5,
        "momentum": 0.9,
        "dampening": 0.0,
    }
    assert structure.traced == ("dampening", "momentum")
    assert structure.fixed == (("convention", "'outside'", "outside"),)
    schedule = TracedSchedule("step_decay", (("transition_steps", 3),), ("decay_rate", "init_value"))
    assert structure.schedules == (("learning_rate", schedule),)
    assert split(OptimizerConfig("aggmo", learning_rate=0.1, betas=(0, 0.9))) == (
        split(OptimizerConfig("aggmo", learning_rate=0.5, betas=(0.5, 0.5)))[0],
        {"learning_rate": 0.1, "betas.0": 0.0, "betas.1": 0.9},
    )


def test_an_integer_of_a_factory_of_optax_is_static_unless_it_is_the_learning_rate():
    structure, traced = split(OptimizerConfig("optax.lion", learning_rate=1, b1=0.9, weight_decay=0))
    assert traced == {"learning_rate": 1.0, "b1": 0.9}
    assert structure.fixed == (("weight_decay", "0", 0),)


@pytest.mark.parametrize(
    "config",
    [
        OptimizerConfig("momentum", learning_rate=Schedule("constant", value=0.5), momentum=0.25),
        OptimizerConfig("aggmo", learning_rate=0.5, betas=(0.0, 0.5)),
        OptimizerConfig("optax.sgd", learning_rate=0.5, momentum=0.25),
    ],
    ids=lambda config: config.name,
)
def test_with_its_values_traced_or_fixed_the_optimizer_is_the_same(config):
    params = jnp.ones(2)
    updates = []
    for structure, traced in (split(config), (fixed(config), {})):
        optimizer = build(structure, traced)
        state = optimizer.init(params)
        for _ in range(2):
            update, state = optimizer.update(params, state, params)
        updates.append(update)
    np.testing.assert_array_equal(*updates)
    assert np.all(updates[0] < 0)


def test_a_description_of_a_method_is_checked_by_name_and_range():
    for config, words in (
        (OptimizerConfig("momentun", learning_rate=0.1), "optimizer: unknown 'momentun'; did you mean 'momentum'?"),
        (OptimizerConfig("momentum"), "optimizer 'momentum' needs the hyperparameter 'learning_rate'"),
        (
            OptimizerConfig("momentum", learning_rate=0.1, momentm=0.9),
            "hyperparameter of optimizer 'momentum': unknown 'momentm'; did you mean 'momentum'? Allowed: "
            "accumulator_dtype, convention, dampening, decoupled_weight_decay, learning_rate, mask, momentum, "
            "weight_decay",
        ),
        (
            OptimizerConfig("nesterov", learning_rate=0.1, nesterov=True),
            "hyperparameter of optimizer 'nesterov': unknown 'nesterov'. Allowed: ",
        ),
        (
            OptimizerConfig("adaptive_restart", learning_rate=0.1, weight_decay=0.1),
            "hyperparameter of optimizer 'adaptive_restart': unknown 'weight_decay'. Allowed: accumulator_dtype, "
            "learning_rate, q, scheme",
        ),
        (
            OptimizerConfig("sgd", learning_rate=0.1, decoupled_weight_decay=True),
            "hyperparameter of optimizer 'sgd': unknown 'decoupled_weight_decay'; did you mean 'weight_decay'?",
        ),
        (OptimizerConfig("aggmo", learning_rate=0.1, beta=0.9), "unknown 'beta'; did you mean 'betas'?"),
        (
            OptimizerConfig("aggmo", learning_rate=0.1, betas=0.9),
            "betas must be one or more numbers in a tuple or list, not 0.9",
        ),
        (OptimizerConfig("aggmo", learning_rate=0.1, betas=(0.0, 1.0)), "betas[1] must be in [0, 1), not 1.0"),
        (OptimizerConfig("qhm", learning_rate=0.1, nu=1.5), "nu must be in [0, 1], not 1.5"),
        (OptimizerConfig("qhm", learning_rate=0.1, nu=True), "nu must be in [0, 1], not True"),
        (
            OptimizerConfig("momentum", learning_rate=(0.1, 0.2)),
            "learning_rate must be finite and at least 0, not (0.1",
        ),
        (OptimizerConfig("momentum", learning_rate=0.1, convention="corect"), "did you mean 'corrected'?"),
        (OptimizerConfig("momentum", learning_rate=0.1, decoupled_weight_decay="yes"), "True or False, not 'yes'"),
        (OptimizerConfig("momentum", learning_rate=0.1, accumulator_dtype="int8"), "floating-point dtype such as"),
        (OptimizerConfig("adaptive_restart", learning_rate=0.1, scheme="grad"), "did you mean 'gradient'?"),
    ):
        assert words in message(check, config)


def test_a_schedule_where_a_mask_belongs_is_refused():
    config = OptimizerConfig("momentum", learning_rate=0.1, weight_decay=0.1, mask=Schedule("constant", value=1.0))
    assert "mask" in message(check, config)


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule("demon", init_value=1.0, decay_steps=9),
        Schedule("sutskever", max_value=1.5),
        Schedule("constant", value=1.0),
        Schedule("step_decay", init_value=1.0, transition_steps=1, decay_rate=0.5),
        Schedule("warmup_linear", peak_value=0.5, warmup_steps=1, decay_steps=9, end_value=1.0),
    ],
    ids=lambda schedule: schedule.name,
)
@pytest.mark.parametrize("name", ["momentum", "nesterov", "qhm"])
def test_a_scheduled_momentum_that_reaches_1_is_refused_when_it_is_described(name, schedule):
    values = [value for key, value in schedule.items if key.endswith("value")]
    words = message(check, OptimizerConfig(name, learning_rate=0.1, momentum=schedule))
    assert words == f"momentum must be in [0, 1), not {max(values)!r}"


def _nesterov_of(value, name="optax.sgd"):
    """Whether the updates are those of Nesterov's rule: 1.9 times the first gradient rather than once."""
    _, config = OptimizerConfig.parse(f"a={name},learning_rate=1.0,momentum=0.9,nesterov={value}")
    check(config)
    optimizer = build(*split(config))
    update, _ = optimizer.update(jnp.ones(1), optimizer.init(jnp.ones(1)), jnp.ones(1))
    return {-1.0: False, -1.9: True}[round(float(update[0]), 6)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [(("true", "True", "yes", "Yes", "on", "ON", "1"), True), (("false", "no", "No", "off", "OFF", "0"), False)],
)
def test_words_for_booleans_mean_what_they_say(words, expected):
    assert {word: _nesterov_of(word) for word in words} == dict.fromkeys(words, expected)


@pytest.mark.parametrize("word", ["nope", "'no'", "2", "0.0", "1.0", "none", "(true,)", "constant(value=1)"])
def test_where_the_default_is_a_boolean_nothing_else_is_taken_for_one(word):
    _, config = OptimizerConfig.parse(f"a=optax.sgd,learning_rate=1.0,momentum=0.9,nesterov={word}")
    said = message(check, config)
    assert "nesterov of optimizer 'optax.sgd' must be True or False, not " in said
    assert said.endswith("; as text also yes, no, on, off, 1 or 0")


def test_a_switch_of_this_package_takes_0_and_1_too():
    for given, switched in ((1, True), (0, False)):
        config = OptimizerConfig("momentum", learning_rate=0.1, weight_decay=0.1, decoupled_weight_decay=given)
        check(config)
        assert split(config)[0].fixed == (("decoupled_weight_decay", repr(switched), switched),)


def test_a_value_has_the_type_of_the_default():
    for config, words in (
        (OptimizerConfig("optax.sgd", learning_rate=True), "learning_rate of optimizer 'optax.sgd' must be a number"),
        (OptimizerConfig("optax.sgd", learning_rate=0.1, momentum="on"), "momentum of optimizer 'optax.sgd' must be a"),
        (OptimizerConfig("optax.adam", learning_rate=0.1, b1="0.9"), "b1 of optimizer 'optax.adam' must be a number"),
        (
            OptimizerConfig("optax.contrib.muon", learning_rate=0.1, preconditioning=True),
            "preconditioning of optimizer 'optax.contrib.muon' must be text, not True",
        ),
    ):
        assert words in message(check, config)
