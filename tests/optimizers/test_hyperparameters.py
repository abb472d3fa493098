"""What each method says of a hyperparameter that it cannot use."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import shown
from momentum_jax.optimizers import FAMILY
from momentum_jax.optimizers.description import Schedule
from tests.optimizers.factories import CORES, FACTORIES, METHODS, TAKEN, make, message, required, takers

# Each number that a method takes, with what its message says is allowed, one value below and one above.
NUMBERS = {
    "learning_rate": ("finite and at least 0", -1e-9, math.inf),
    "weight_decay": ("finite and at least 0", -1, math.inf),
    "momentum": ("in [0, 1)", -1e-9, 1),
    "dampening": ("in [0, 1]", -0.5, 1.0000001),
    "nu": ("in [0, 1]", -0.5, 2),
    "q": ("in [0, 1]", -0.5, 1.5),
    "gamma3": ("finite and at least 0", -1e-9, math.inf),
}
# The learning rate of accelerated SGD must not exceed its long step.
NUMBER_OF_METHOD = [(name, argument) for argument in NUMBERS for name in takers(argument) if name != "accelerated_sgd"]
every_number = pytest.mark.parametrize(("name", "argument"), NUMBER_OF_METHOD)


def test_these_are_all_the_methods_and_all_the_numbers_that_they_take():
    assert list(METHODS) == [
        "sgd",
        "momentum",
        "nesterov",
        "qhm",
        "aggmo",
        "adaptive_restart",
        "normalized_momentum",
        "yellowfin",
        "dana",
        *FAMILY,
    ]
    assert list(CORES) == ["scale_by_aggmo", "scale_by_momentum", "scale_by_nesterov", "scale_by_qhm"]
    others = {
        "betas",
        "weights",
        "convention",
        "scheme",
        "decoupled_weight_decay",
        "transported",
        "mask",
        "accumulator_dtype",
    }
    others |= {"smoothing", "clip", "delta", "kappa3"}
    others |= {name for member in FAMILY.values() for name in member.ranges}
    assert set().union(*TAKEN.values()) == NUMBERS.keys() | others


@every_number
def test_a_number_outside_its_range_is_refused_with_name_value_and_range(name, argument):
    allowed, below, above = NUMBERS[argument]
    for value in (below, above, math.nan, math.inf, -math.inf, 10**400):
        assert message(make, name, **{argument: value}) == f"{argument} must be {allowed}, not {shown(value)}"
    for value in (np.float32(below), np.array(below), jnp.array(below, "float32")):
        # It is told as the number that it holds, in its own precision.
        assert message(make, name, **{argument: value}) == f"{argument} must be {allowed}, not {value.item()!r}"


@every_number
def test_what_is_no_number_is_refused_with_name_value_and_range(name, argument):
    # A weight decay of None is allowed: no weight decays.
    none = () if argument == "weight_decay" else (None,)
    for value in (True, False, "0.1", "", *none, 0.1 + 0j, [0.1], (0.1,), {}, b"1"):
        assert message(make, name, **{argument: value}) == f"{argument} must be {NUMBERS[argument][0]}, not {value!r}"


@every_number
def test_an_array_that_is_no_real_scalar_is_refused(name, argument):
    for array, shape in ((np.array([0.1, 0.2]), (2,)), (jnp.array([[0.1]]), (1, 1)), (np.zeros(0), (0,))):
        assert message(make, name, **{argument: array}) == f"{argument} must be a scalar, not an array of shape {shape}"
    for array in (np.bool_(True), np.complex64(0.5), jnp.array(0.5j), np.str_("0.5"), jnp.array(True)):
        assert message(make, name, **{argument: array}) == f"{argument} must be a real number, not {array.dtype}"


@every_number
def test_the_ends_of_a_range_are_as_written_and_whole_numbers_and_arrays_will_do(name, argument):
    above = {"in [0, 1)": math.nextafter(1, 0), "in [0, 1]": 1, "finite and at least 0": 1e300}[NUMBERS[argument][0]]
    for value in (0, 0.0, -0.0, above, np.float64(above), np.int32(0), jnp.array(0.5), jnp.array(0)):
        make(name, **{argument: value})


@every_number
def test_a_mistake_in_a_function_that_is_compiled_is_told_alike(name, argument):
    allowed, below, _ = NUMBERS[argument]

    def step(params):
        optimizer = make(name, **{argument: below})
        return optimizer.update(params, optimizer.init(params), params)

    assert message(jax.jit(step), jnp.ones(2)) == f"{argument} must be {allowed}, not {below!r}"


@every_number
def test_a_traced_value_that_is_no_real_scalar_is_refused_too(name, argument):
    def step(value):
        optimizer = make(name, **{argument: value})
        params = jnp.ones(2)
        return optimizer.update(params, optimizer.init(params), params)

    words = message(jax.jit(step), jnp.array([0.1, 0.2]))
    assert words == f"{argument} must be a scalar, not an array of shape (2,)"
    for value, dtype in ((0.5j, "complex64"), (True, "bool")):
        assert message(jax.jit(step), value) == f"{argument} must be a real number, not {dtype}"


@pytest.mark.parametrize(
    ("name", "argument"),
    [pair for pair in NUMBER_OF_METHOD if pair[0] not in FAMILY or pair[1] in FAMILY[pair[0]].scheduled],
)
def test_a_schedule_that_gives_no_scalar_is_refused_when_it_is_asked(name, argument):
    optimizer = make(name, **{argument: lambda count: jnp.array([0.1, 0.2])})
    params = jnp.ones(2)
    words = message(optimizer.update, params, optimizer.init(params), params)
    assert words == "a schedule must give a scalar, not an array of shape (2,)"


@pytest.mark.parametrize("name", takers("convention"))
def test_a_convention_is_one_of_three(name):
    for value, words in (
        ("insde", "convention: unknown 'insde'; did you mean 'inside'? Allowed: corrected, inside, outside"),
        ("Outside", "convention: unknown 'Outside'; did you mean 'outside'?"),
        ("optax", "convention: unknown 'optax'. Allowed: corrected, inside, outside"),
        (None, "convention: unknown None. Allowed: "),
        (True, "convention: unknown True. Allowed: "),
        (["inside"], "convention: unknown ['inside']; did you mean 'inside'?"),
        (np.array(["inside"]), "convention: unknown array(['inside']"),
    ):
        assert words in message(make, name, convention=value)


def test_a_scheme_is_one_of_two():
    for value, words in (
        ("gradients", "scheme: unknown 'gradients'; did you mean 'gradient'? Allowed: function, gradient"),
        ("Function", "scheme: unknown 'Function'; did you mean 'function'?"),
        (0, "scheme: unknown 0. Allowed: function, gradient"),
        (abs, "scheme: unknown <built-in function abs>"),
    ):
        assert words in message(mj.adaptive_restart, 0.1, scheme=value)


@pytest.mark.parametrize("name", takers("decoupled_weight_decay"))
def test_decoupled_is_yes_or_no_and_not_the_decay_itself(name):
    for value in (1, 0, None, "decoupled", np.bool_(True), 1e-4):
        assert message(make, name, decoupled_weight_decay=value) == (
            f"decoupled_weight_decay must be True or False, not {value!r}"
        )


def test_what_dana_takes_as_numbers_is_no_schedule_and_not_negative():
    for name in ("delta", "kappa3"):
        for value in (-1e-9, math.nan, math.inf, True, "8"):
            assert message(make, "dana", **{name: value}) == f"{name} must be finite and at least 0, not {value!r}"
        said = message(make, "dana", **{name: lambda count: 8.0})
        assert said == f"{name} must be a number: dana is no QHM under a schedule of it"


def test_transported_is_yes_or_no():
    for value in (1, 0, None, "yes", np.bool_(True)):
        assert (
            message(mj.normalized_momentum, 0.1, transported=value)
            == f"transported must be True or False, not {value!r}"
        )


@pytest.mark.parametrize("name", takers("weight_decay"))
def test_how_weights_decay_is_not_said_without_that_they_do(name):
    words = "decoupled_weight_decay and mask say how weights decay: give weight_decay too"
    options = [{"mask": True}, {"mask": lambda params: True}]
    if "decoupled_weight_decay" in TAKEN[name]:
        options.append({"decoupled_weight_decay": True})
    for option in options:
        assert message(make, name, **option) == words
        make(name, **option, weight_decay=0.0)


@pytest.mark.parametrize("name", takers("accumulator_dtype"))
def test_an_accumulator_is_of_a_real_floating_type(name):
    for value in ("flaot32", "int32", "uint8", "bool", "complex64", int, bool, object, 32, True, "", (), {}, "f4,f4"):
        assert message(make, name, accumulator_dtype=value) == (
            f"accumulator_dtype must be None or a floating-point dtype such as 'float32', not {value!r}"
        )
    for value in (np.zeros(3), jnp.zeros(3)):
        assert message(make, name, accumulator_dtype=value) == (
            "accumulator_dtype must be None or a dtype, not an array of shape (3,): optax.inject_hyperparams makes one "
            "of a dtype that its static_args do not name"
        )
    for value in ("bfloat16", "float16", np.float32, jnp.bfloat16, np.dtype("float32"), None):
        make(name, accumulator_dtype=value)


@pytest.mark.parametrize("name", takers("accumulator_dtype"))
def test_an_accumulator_of_64_bits_needs_them_switched_on(name):
    for value in ("float64", np.float64, float):
        assert message(make, name, accumulator_dtype=value) == "accumulator_dtype 'float64' needs jax_enable_x64"
        with jax.enable_x64(True):
            make(name, accumulator_dtype=value)


@pytest.mark.parametrize("name", takers("betas"))
def test_betas_are_numbers_in_a_tuple(name):
    for value, words in (
        ((), "betas must be one or more numbers in a tuple or list, not ()"),
        ([], "betas must be one or more numbers in a tuple or list, not []"),
        (0.9, "betas must be one or more numbers in a tuple or list, not 0.9"),
        ("0.9", "betas must be one or more numbers in a tuple or list, not '0.9'"),
        (None, "betas must be one or more numbers in a tuple or list, not None"),
        ({0.5, 0.9}, "betas must be one or more numbers in a tuple or list, not {0."),
        (
            np.array([0.5, 0.9]),
            "betas must be one or more numbers in a tuple or list, not array([0.5, 0.9])",
        ),
        ((0.0, 1.0), "betas[1] must be in [0, 1), not 1.0"),
        ((0.0, -0.5), "betas[1] must be in [0, 1), not -0.5"),
        ((0.0, math.nan), "betas[1] must be in [0, 1), not nan"),
        ((0.0, False), "betas[1] must be in [0, 1), not False"),
        ((0.0, "0.9"), "betas[1] must be in [0, 1), not '0.9'"),
        ((0.0, 0.9j), "betas[1] must be in [0, 1), not 0.9j"),
        ((0.0, (0.9,)), "betas[1] must be in [0, 1), not (0.9,)"),
        ((0.0, np.ones(2)), "betas[1] must be a scalar, not an array of shape (2,)"),
    ):
        assert words in message(make, name, betas=value)


@pytest.mark.parametrize("name", takers("weights"))
def test_weights_are_one_number_for_each_beta(name):
    for value, words in (
        ((1.0,), "weights must be None or one number for each of the 2 betas in a tuple or list, not (1.0,)"),
        ((), "weights must be None or one number for each of the 2 betas in a tuple or list, not ()"),
        (0.5, "weights must be None or one number for each of the 2 betas in a tuple or list, not 0.5"),
        (np.ones(2), "weights must be None or one number for each of the 2 betas in a tuple or list, not array("),
        ((0.5, -0.5), "weights[1] must be finite and at least 0, not -0.5"),
        ((math.inf, 0.5), "weights[0] must be finite and at least 0, not inf"),
        ((0.5, True), "weights[1] must be finite and at least 0, not True"),
        ((0.5, np.ones(2)), "weights[1] must be a scalar, not an array of shape (2,)"),
    ):
        assert words in message(make, name, betas=(0.0, 0.9), weights=value)


@pytest.mark.parametrize("name", FACTORIES)
def test_an_option_of_another_method_is_refused(name):
    options = {argument for arguments in TAKEN.values() for argument in arguments} | {"nesterov", "lr", "debias"}
    for option in sorted(options - set(TAKEN[name])):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
            make(name, **{option: 0.5})
    with pytest.raises(TypeError, match="positional"):
        FACTORIES[name](*[0.5] * 9)


@pytest.mark.parametrize("argument", ["learning_rate", "momentum", "dampening", "weight_decay"])
def test_a_described_schedule_is_no_schedule_that_can_be_called(argument):
    schedule = Schedule("constant", value=0.1)
    arguments = {"learning_rate": 0.1} | {argument: schedule}
    words = message(mj.momentum, **arguments)
    assert words == f"{argument} must be {NUMBERS[argument][0]}, not Schedule('constant', value=0.1)"


@pytest.mark.parametrize("name", takers("momentum"))
def test_a_momentum_that_injection_rounds_to_one_is_refused_with_what_keeps_it(name):
    params = jnp.ones(2, "bfloat16")
    words = message(optax.inject_hyperparams(FACTORIES[name])(**required(name), momentum=0.999).init, params)
    assert words == (
        "momentum must be in [0, 1), not 1.0, to which bfloat16 rounds what is near it: with optax.inject_hyperparams "
        "give hyperparam_dtype=jnp.float32"
    )
    # A 1 that is not rounded has no such reason.
    for one in (1.0, np.float32(1), np.int8(1), jnp.float32(1)):
        assert "rounds" not in message(make, name, momentum=one)
    factory = optax.inject_hyperparams(FACTORIES[name], hyperparam_dtype=jnp.float32)
    state = factory(**required(name), momentum=0.999).init(params)
    assert state.hyperparams["momentum"] == np.float32(0.999)


@pytest.mark.parametrize("name", takers("momentum"))
def test_a_momentum_that_injection_may_round_to_one_inside_jit_is_warned_of_with_what_keeps_it(name):
    factory, params = FACTORIES[name], jnp.ones(2, "bfloat16")
    words = (
        "momentum is a traced bfloat16, which cannot be checked and rounds what is near 1 to 1: with "
        "optax.inject_hyperparams give hyperparam_dtype=jnp.float32"
    )
    for momentum in (0.999, 0.9):
        optimizer = optax.inject_hyperparams(factory)(**required(name), momentum=momentum)
        with pytest.warns(UserWarning, match=f"^{words}$"):
            state = jax.jit(optimizer.init)(params)
        with pytest.warns(UserWarning, match=f"^{words}$"):
            jax.jit(optimizer.update)(params, state, params)
    # The tests make an error of any warning.
    kept = optax.inject_hyperparams(factory, hyperparam_dtype=jnp.float32)(**required(name), momentum=0.999)
    state = jax.jit(kept.init)(params)
    assert state.hyperparams["momentum"] == np.float32(0.999)
    jax.jit(kept.update)(params, state, params)


@pytest.mark.parametrize("name", takers("accumulator_dtype"))
def test_an_injected_accumulator_dtype_is_refused_with_what_keeps_it(name):
    params = jnp.ones(2, "bfloat16")
    arguments = required(name) | {"accumulator_dtype": jnp.float32}
    factory = FACTORIES[name]
    words = message(optax.inject_hyperparams(factory, hyperparam_dtype=jnp.float32)(**arguments).init, params)
    assert words == (
        "accumulator_dtype must be None or a dtype, not an array of shape (): optax.inject_hyperparams makes one of a "
        "dtype that its static_args do not name"
    )
    kept = optax.inject_hyperparams(factory, ("accumulator_dtype",), jnp.float32)(**arguments)
    kept.update(params, kept.init(params), params)
