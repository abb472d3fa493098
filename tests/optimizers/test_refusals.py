"""What each method says to the person who gave it something that it cannot use."""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentum_jax as mj
from momentum_jax import optimizers
from momentum_jax._base.errors import InputError
from momentum_jax.optimizers.description import OptimizerConfig, Schedule
from momentum_jax.optimizers.registry import check

CORES = {name: getattr(optimizers, name) for name in optimizers.__all__ if name.startswith("scale_by_")}
METHODS = {name: getattr(mj, name) for name in optimizers.available()}
FACTORIES = METHODS | CORES
# Each number that a method takes, with what its message says is allowed, one value below and one above.
NUMBERS = {
    "learning_rate": ("finite and at least 0", -1e-9, math.inf),
    "weight_decay": ("finite and at least 0", -1, math.inf),
    "momentum": ("in [0, 1)", -1e-9, 1),
    "dampening": ("in [0, 1]", -0.5, 1.0000001),
    "nu": ("in [0, 1]", -0.5, 2),
    "q": ("in [0, 1]", -0.5, 1.5),
}
TAKEN = {name: list(inspect.signature(factory).parameters) for name, factory in FACTORIES.items()}


def takers(argument):
    return [name for name, arguments in TAKEN.items() if argument in arguments]


NUMBER_OF_METHOD = [(name, argument) for argument in NUMBERS for name in takers(argument)]
every_number = pytest.mark.parametrize(("name", "argument"), NUMBER_OF_METHOD)


def make(name, **arguments):
    """The method with what it must be given."""
    required = {"learning_rate": 0.1} if "learning_rate" in TAKEN[name] else {}
    return FACTORIES[name](**required | arguments)


def message(call, *args, **kwargs):
    with pytest.raises(InputError) as error:
        call(*args, **kwargs)
    assert isinstance(error.value, ValueError)
    return str(error.value)


def test_these_are_all_the_methods_and_all_the_numbers_that_they_take():
    assert list(METHODS) == ["sgd", "momentum", "nesterov", "qhm", "aggmo", "adaptive_restart"]
    assert list(CORES) == ["scale_by_aggmo", "scale_by_momentum", "scale_by_nesterov", "scale_by_qhm"]
    others = {"betas", "convention", "scheme", "decoupled_weight_decay", "mask", "accumulator_dtype"}
    assert set().union(*TAKEN.values()) == NUMBERS.keys() | others


@every_number
def test_a_number_outside_its_range_is_refused_with_name_value_and_range(name, argument):
    allowed, below, above = NUMBERS[argument]
    for value in (below, above, math.nan, math.inf, -math.inf, 10**400):
        assert message(make, name, **{argument: value}) == f"{argument} must be {allowed}, not {value!r}"
    for value in (np.float32(below), np.array(below), jnp.array(below, "float32")):
        # It is told as the number that it holds, in its own precision.
        assert message(make, name, **{argument: value}) == f"{argument} must be {allowed}, not {value.item()!r}"


@every_number
@pytest.mark.parametrize("value", [True, False, "0.1", "", None, 0.1 + 0j, [0.1], (0.1,), {}, b"1"], ids=repr)
def test_what_is_no_number_is_refused_with_name_value_and_range(name, argument, value):
    if argument == "weight_decay" and value is None:
        return  # It says that nothing decays.
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


@every_number
def test_a_schedule_that_gives_no_scalar_is_refused_when_it_is_asked(name, argument):
    optimizer = make(name, **{argument: lambda count: jnp.array([0.1, 0.2])})
    params = jnp.ones(2)
    words = message(optimizer.update, params, optimizer.init(params), params)
    assert words == "a schedule must give a scalar, not an array of shape (2,)"


@pytest.mark.parametrize("name", takers("convention"))
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("insde", "convention: unknown 'insde'; did you mean 'inside'? Allowed: corrected, inside, outside"),
        ("Outside", "convention: unknown 'Outside'; did you mean 'outside'?"),
        ("optax", "convention: unknown 'optax'. Allowed: corrected, inside, outside"),
        (None, "convention: unknown None. Allowed: "),
        (True, "convention: unknown True. Allowed: "),
        (["inside"], "convention: unknown ['inside']; did you mean 'inside'?"),
        (np.array(["inside"]), "convention: unknown array(['inside']"),
    ],
)
def test_a_convention_is_one_of_three(name, value, words):
    assert words in message(make, name, convention=value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("gradients", "scheme: unknown 'gradients'; did you mean 'gradient'? Allowed: function, gradient"),
        ("Function", "scheme: unknown 'Function'; did you mean 'function'?"),
        (0, "scheme: unknown 0. Allowed: function, gradient"),
        (abs, "scheme: unknown <built-in function abs>"),
    ],
)
def test_a_scheme_is_one_of_two(value, words):
    assert words in message(mj.adaptive_restart, 0.1, scheme=value)


@pytest.mark.parametrize("name", takers("decoupled_weight_decay"))
@pytest.mark.parametrize("value", [1, 0, None, "decoupled", np.bool_(True), 1e-4], ids=repr)
def test_decoupled_is_yes_or_no_and_not_the_decay_itself(name, value):
    assert message(make, name, decoupled_weight_decay=value) == (
        f"decoupled_weight_decay must be True or False, not {value!r}"
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
            "accumulator_dtype must be None or a dtype, not an array of shape (3,)"
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
@pytest.mark.parametrize(
    ("value", "words"),
    [
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
    ],
    ids=repr,
)
def test_betas_are_numbers_in_a_tuple(name, value, words):
    assert words in message(make, name, betas=value)


@pytest.mark.parametrize("name", FACTORIES)
def test_an_option_of_another_method_is_refused(name):
    options = {argument for arguments in TAKEN.values() for argument in arguments} | {"nesterov", "lr", "debias"}
    for option in sorted(options - set(TAKEN[name])):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
            make(name, **{option: 0.5})
    with pytest.raises(TypeError, match="positional"):
        FACTORIES[name](*[0.5] * 9)


@pytest.mark.parametrize(
    ("config", "words"),
    [
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
    ],
)
def test_a_description_of_a_method_is_checked_by_name_and_range(config, words):
    assert words in message(check, config)


def test_a_schedule_where_a_mask_belongs_is_refused():
    config = OptimizerConfig("momentum", learning_rate=0.1, weight_decay=0.1, mask=Schedule("constant", value=1.0))
    assert "mask" in message(check, config)


CAST = ": cast one of them, such as by optax.tree.cast"
PARAMS = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "inner": {"scale": jnp.ones(())}}
STATEFUL = [name for name in FACTORIES if name != "sgd"]
ones = functools.partial(jax.tree.map, jnp.ones_like)


def without(tree, name):
    return {k: v for k, v in tree.items() if k != name}


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
    "a leaf of another dtype": (
        PARAMS | {"inner": {"scale": jnp.ones((), "float16")}},
        "the gradient at ['inner']['scale'] is float16 and the {other} there float32" + CAST,
    ),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", FACTORIES)
def test_gradients_that_do_not_fit_are_refused_by_path(name, compiled):
    optimizer = make(name)
    state = optimizer.init(PARAMS)
    update = jax.jit(optimizer.update) if compiled else optimizer.update
    for grads, words in MISFITS.values():
        # The method that keeps nothing of the parameters can compare with the parameters only.
        other = "parameter" if name == "sgd" else "state"
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
            PARAMS | {"bias": jnp.ones(3, "bfloat16")},
            "the gradient at ['bias'] is float32 and the parameter there bfloat16" + CAST,
        ),
        (
            PARAMS | {"bias": jnp.ones(3, int)},
            "the gradient at ['bias'] is float32 and the parameter there int32" + CAST,
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
        (
            PARAMS | {"bias": jnp.ones(3, "float16")},
            "the gradient at ['bias'] is float32 and the state there float16" + CAST,
        ),
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
    # The parameters still have the dtype of the gradients.
    assert "the gradient at ['bias'] is bfloat16 and the parameter there float32" in message(
        optimizer.update, half, state, half | {"bias": jnp.ones(3)}
    )


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


@pytest.mark.parametrize("kind", WRONG_TYPES)
@pytest.mark.parametrize("name", FACTORIES)
def test_a_leaf_that_is_not_real_floating_point_is_refused_by_path_with_what_to_do(name, kind):
    leaf, dtype, advice = WRONG_TYPES[kind]
    tree = PARAMS | {"inner": {"scale": leaf}}
    optimizer = make(name)
    expected = f"at ['inner']['scale'] is {dtype}, and must be real floating-point: {advice}"
    assert message(optimizer.init, tree) == f"the parameter {expected}"
    assert message(jax.eval_shape, optimizer.init, tree) == f"the parameter {expected}"
    assert message(optimizer.update, tree, optimizer.init(PARAMS), PARAMS) == f"the gradient {expected}"
    assert message(jax.jit(optimizer.update), tree, optimizer.init(PARAMS)) == f"the gradient {expected}"


@pytest.mark.parametrize("name", FACTORIES)
def test_a_leaf_that_is_no_array_is_refused_by_path(name):
    # Such leaves are in the trees of libraries that keep a model's settings beside its arrays.
    for leaf in ("adam", len, object()):
        assert "at ['inner']['scale']" in message(make(name).init, PARAMS | {"inner": {"scale": leaf}})


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


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", DECAYING)
def test_a_mask_that_does_not_fit_is_refused_by_path_at_the_start(name, mask):
    value, words = MASKS[mask]
    assert words in message(lambda: make(name, weight_decay=0.1, mask=value).init(PARAMS))
    if "must be True or False" in words and not callable(value):
        # What is wrong whatever the parameters is told when the optimizer is made.
        assert words in message(make, name, weight_decay=0.1, mask=value)
        return
    # Who brings a state from elsewhere hears of it at the update.
    state = make(name, weight_decay=0.1).init(PARAMS)
    assert words in message(make(name, weight_decay=0.1, mask=value).update, PARAMS, state, PARAMS)


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
    # The number 0 is none.
    none = make(name, weight_decay=0.0)
    none.update(PARAMS, none.init(PARAMS))


@pytest.mark.parametrize("name", DECAYING)
def test_a_mistake_comes_before_what_it_would_hide(name):
    # With both wrong, the leaf that cannot be a parameter is told before the mask that does not fit it.
    optimizer = make(name, weight_decay=0.1, mask={"other": True})
    assert "at ['w'] is int32" in message(optimizer.init, {"w": jnp.ones(2, int)})


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


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: optimizers.demon(1.0, 10), "momentum must be in [0, 1), not 1.0"),
        (lambda: optimizers.demon(-0.1, 10), "momentum must be in [0, 1), not -0.1"),
        (lambda: optimizers.demon("0.9", 10), "momentum must be in [0, 1), not '0.9'"),
        (lambda: optimizers.demon(np.ones(2), 10), "momentum must be a scalar, not an array of shape (2,)"),
        (lambda: optimizers.demon(0.9, 0), "decay_steps must be an integer of at least 1, not 0"),
        (lambda: optimizers.demon(0.9, 2.5), "decay_steps must be an integer of at least 1, not 2.5"),
        (lambda: optimizers.demon(0.9, True), "decay_steps must be an integer of at least 1, not True"),
        (lambda: optimizers.sutskever(1), "momentum must be in [0, 1), not 1"),
        (lambda: optimizers.sutskever(math.nan), "momentum must be in [0, 1), not nan"),
        (lambda: optimizers.sutskever(0.9, 0), "transition_steps must be an integer of at least 1, not 0"),
        (lambda: optimizers.sutskever(0.9, 250.0), "transition_steps must be an integer of at least 1, not 250.0"),
        (lambda: optimizers.optimal_sgd(0, 1), "curvatures must be 0 < mu ≤ L, not mu = 0 and L = 1"),
        (lambda: optimizers.optimal_momentum(2, 1), "curvatures must be 0 < mu ≤ L, not mu = 2 and L = 1"),
        (lambda: optimizers.optimal_nesterov(-1, 1), "mu must be finite and at least 0, not -1"),
        (lambda: optimizers.standard_nesterov(1, math.inf), "L must be finite and at least 0, not inf"),
        (lambda: optimizers.optimal_sgd(math.nan, 1), "mu must be finite and at least 0, not nan"),
        (lambda: optimizers.optimal_momentum("1", 2), "mu must be finite and at least 0, not '1'"),
        (lambda: optimizers.optimal_nesterov(True, 2), "mu must be finite and at least 0, not True"),
        (lambda: Schedule("demn", init_value=0.9, decay_steps=9), "schedule: unknown 'demn'; did you mean 'demon'?"),
        (lambda: Schedule("demon", init_value=0.9), "decay_steps of schedule 'demon' is missing; it takes init_value"),
        (
            lambda: Schedule("demon", init_value=0.9, decay_steps=9.5),
            "decay_steps of schedule 'demon' must be an integer of at least 1 and at most 2147483647, not 9.5",
        ),
        (
            lambda: Schedule("demon", init_value=-0.9, decay_steps=9),
            "init_value of schedule 'demon' must be finite and at least 0, not -0.9",
        ),
        (
            lambda: Schedule("sutskever", transition_steps=0),
            "transition_steps of schedule 'sutskever' must be an integer of at least 1 and at most 2147483647, not 0",
        ),
        (
            lambda: Schedule("sutskever", max_valeu=0.9),
            "parameter of schedule 'sutskever': unknown 'max_valeu'; did you mean 'max_value'?",
        ),
    ],
)
def test_schedules_and_tunings_refuse_what_they_cannot_use(call, words):
    assert words in message(call)


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


@pytest.mark.parametrize("argument", ["learning_rate", "momentum", "dampening", "weight_decay"])
def test_a_described_schedule_is_no_schedule_that_can_be_called(argument):
    schedule = Schedule("constant", value=0.1)
    arguments = {"learning_rate": 0.1} | {argument: schedule}
    words = message(mj.momentum, **arguments)
    assert words == f"{argument} must be {NUMBERS[argument][0]}, not Schedule('constant', value=0.1)"
