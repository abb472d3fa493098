"""The description of an experiment: what it accepts, what it says about what it does not, and how it is kept."""

import copy
import dataclasses
import json
import math
import pickle
import random
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from momentum_jax._base.errors import InputError
from momentum_jax.config import MAX_SEED, Config
from momentum_jax.optimizers.description import (
    SCHEDULES,
    OptimizerConfig,
    Schedule,
    parse_description,
    parse_values,
    value_text,
)
from momentum_jax.tasks.named import check_arguments
from tests.configs import CONFIGS, HYPERPARAMETERS, LABELS, NAMES, OPTIMIZERS, SCALARS, TASKS

SGD = OptimizerConfig("sgd", learning_rate=0.1)


def test_the_defaults_are_the_tutorials_experiment_with_optax_as_a_witness():
    cfg = Config()
    assert cfg.task == "mlp"
    assert (cfg.dataset, cfg.hidden_sizes, cfg.activation) == ("mnist", (100, 100, 100, 100), "relu")
    assert (cfg.iterations, cfg.batch_size, cfg.sampling, cfg.seeds) == (2000, 128, "with_replacement", (0,))
    assert (cfg.weight_init, cfg.l2, cfg.dtype, cfg.shared_init, cfg.evaluate_every) == ("he", 0, "float32", True, None)
    assert list(cfg.optimizers.items()) == [
        ("sgd", OptimizerConfig("sgd", learning_rate=0.01)),
        ("momentum", OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9)),
        ("optax", OptimizerConfig("optax.sgd", learning_rate=0.01, momentum=0.9)),
    ]


@pytest.mark.parametrize(
    ("given_seeds", "seeds"),
    [(1, (0,)), (3, (0, 1, 2)), ([5, 2], (5, 2)), (range(2, 4), (2, 3)), ((MAX_SEED,), (MAX_SEED,))],
)
def test_seeds_are_a_count_or_a_sequence_and_become_a_tuple(given_seeds, seeds):
    assert Config(seeds=given_seeds).seeds == seeds
    assert Config(seeds=given_seeds).seed_tuple == seeds


def test_many_seeds_are_checked_in_linear_time():
    # A quadratic search for repeated seeds takes five seconds here, a linear one ten milliseconds.
    began = time.perf_counter()
    assert len(Config(seeds=20_000).seed_tuple) == 20_000
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("task", "convent", "unknown 'convent'; did you mean 'convnet'? Allowed: autoencoder, char_transformer, "),
        ("task", "", "unknown ''. Allowed: autoencoder"),
        ("task", 3, 'a name with arguments, such as "convnet,residual=true", not 3'),
        ("task", "mlp\udcff", r"not 'mlp\udcff'"),
        ("task", "convnet,chanels=(8,)", "argument of task 'convnet': unknown 'chanels'; did you mean 'channels'?"),
        ("task", "convnet,channels=8", "channels of task 'convnet' must be a sequence of integers, not 8"),
        ("task", "convnet,channels=(8,true)", "must be a sequence of integers, not (8, True)"),
        ("task", "convnet,batch_norm=1", "batch_norm of task 'convnet' must be True or False, not 1"),
        ("task", "convnet,dropout=high", "dropout of task 'convnet' must be a finite number, not 'high'"),
        ("task", "convnet,dropout=nan", "dropout of task 'convnet' must be a finite number, not nan"),
        ("task", "convnet,dropout=constant(value=1)", "must be a finite number, not Schedule('constant', value=1.0)"),
        pytest.param("task", f"logistic,l2=1{'0' * 400}", "l2 of task 'logistic' must be", id="l2-beyond-any-float"),
        ("task", "least_squares,seed=1.5", "seed of task 'least_squares' must be an integer, not 1.5"),
        ("task", "convnet,dataset=mnist", "dataset is a field of its own, not an argument in the task 'convnet,data"),
        ("task", "mlp,l2=0.1", "l2 is a field of its own, not an argument in the task 'mlp,l2=0.1'"),
        ("task", "convnet(8)", "unknown 'convnet(8)'"),
        ("task", "convnet,8", "task: '8' in 'convnet,8' has no name"),
        ("dataset", "", "''"),
        ("dataset", 3, "not 3"),
        ("dataset", "\udcff", r"in UTF-8, not '\udcff'"),
        ("dataset", "a\0b", r"not 'a\x00b'"),
        ("hidden_sizes", (10, 0), "at least 1 and at most 2147483647, not 0"),
        ("hidden_sizes", (1.5,), "an integer of at least 1 and at most 2147483647, not 1.5"),
        ("hidden_sizes", (10**30,), f"at most 2147483647, not {10**30}"),
        ("hidden_sizes", 100, "a sequence of integers, not 100"),
        ("activation", "rleu", "unknown 'rleu'; did you mean 'relu'? Allowed: relu, sigmoid, tanh"),
        ("activation", None, "unknown None. Allowed: relu, sigmoid, tanh"),
        ("weight_init", "xavir", "unknown 'xavir'; did you mean 'xavier'? Allowed: a number, he, xavier"),
        ("weight_init", -0.5, "finite and at least 0, not -0.5"),
        ("weight_init", True, "not True"),
        ("l2", -1e-3, "finite and at least 0, not -0.001"),
        ("l2", float("nan"), "not nan"),
        ("l2", float("inf"), "not inf"),
        ("l2", "0.1", "not '0.1'"),
        pytest.param("l2", 10**400, "finite and at least 0", id="l2-beyond-any-float"),
        ("iterations", 0, "at least 1 and at most 2147483647, not 0"),
        ("iterations", 2**31, "at most 2147483647, not 2147483648"),
        ("iterations", True, "an integer of at least 1 and at most 2147483647, not True"),
        ("iterations", 10.0, "an integer of at least 1 and at most 2147483647, not 10.0"),
        ("batch_size", 0, "at least 1 and at most 2147483647, not 0"),
        ("batch_size", 2**31, "at most 2147483647, not 2147483648"),
        pytest.param("batch_size", 10**5000, "not int too large to be shown", id="batch_size-unprintable"),
        ("record_every", 10**30, "at most 2147483647"),
        ("batch_size", False, "not False"),
        ("seeds", 0, "at least 1 and at most 1000000, not 0"),
        ("seeds", -1, "at least 1 and at most 1000000, not -1"),
        ("seeds", 1_000_001, "at least 1 and at most 1000000, not 1000001"),
        ("seeds", (), "at least one seed"),
        ("seeds", (0, -1), "at least 0 and at most 4294967295, not -1"),
        ("seeds", (MAX_SEED + 1,), "at most 4294967295, not 4294967296"),
        ("seeds", (3, 1, 3, 2, 1), "given more than once: 1, 3"),
        ("seeds", True, "a sequence of integers, not True"),
        ("seeds", (True,), "an integer of at least 0 and at most 4294967295, not True"),
        ("seeds", "0", "a sequence of integers, not '0'"),
        ("optimizers", {}, "at least one optimizer"),
        ("optimizers", SGD, "map labels to OptimizerConfig, not OptimizerConfig('sgd', learning_rate=0.1)"),
        ("optimizers", {"a": "sgd"}, "optimizers['a'] must be an OptimizerConfig, not 'sgd'"),
        ("optimizers", {"a\nb": SGD}, r"label must be printable text, not 'a\nb'"),
        ("optimizers", {" a": SGD}, "label must be printable text, not ' a'"),
        ("optimizers", {"": SGD}, "label must be printable text, not ''"),
        ("optimizers", {1: SGD}, "label must be printable text, not 1"),
        (
            "sampling",
            "with replacement",
            "unknown 'with replacement'; did you mean 'with_replacement'? Allowed: epochs, with_replacement",
        ),
        ("shared_init", 1, "True or False, not 1"),
        ("dtype", "float23", "unknown 'float23'; did you mean 'float32'? Allowed: bfloat16, float32, float64"),
        ("evaluate_every", 0, "at least 1 and at most 2147483647, not 0"),
        ("evaluate_every", 10**30, "at most 2147483647"),
        ("evaluate_every", True, "not True"),
    ],
)
def test_a_bad_value_is_refused_with_the_field_the_value_and_what_is_allowed(field, value, said):
    with pytest.raises(InputError) as error:
        Config(**{field: value})
    assert field.removesuffix("s") in str(error.value)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("warmup_cosin", {}, "schedule: unknown 'warmup_cosin'; did you mean 'warmup_cosine'?"),
        ("constant", {"vlaue": 0.1}, "parameter of schedule 'constant': unknown 'vlaue'; did you mean 'value'?"),
        ("constant", {}, "value of schedule 'constant' is missing; it takes value"),
        ("constant", {"value": -0.1}, "value of schedule 'constant' must be finite and at least 0, not -0.1"),
        ("constant", {"value": float("nan")}, "not nan"),
        (
            "step_decay",
            {"init_value": 1, "transition_steps": 0, "decay_rate": 0.5},
            "transition_steps of schedule 'step_decay' must be an integer of at least 1 and at most 2147483647, not 0",
        ),
        (
            "step_decay",
            {"init_value": 1, "transition_steps": 2, "decay_rate": 1.5},
            "decay_rate of schedule 'step_decay' must be in [1e-300, 1], not 1.5",
        ),
        (
            "warmup_linear",
            {"peak_value": 1, "warmup_steps": 1.5, "decay_steps": 9},
            "warmup_steps of schedule 'warmup_linear' must be an integer of at least 0 and at most 2147483647, not 1.5",
        ),
        (
            "warmup_cosine",
            {"peak_value": 1, "warmup_steps": 10, "decay_steps": 10},
            "must be more than warmup_steps (10), not 10",
        ),
    ],
)
def test_a_bad_schedule_is_refused_with_the_parameter_the_value_and_what_is_allowed(name, parameters, said):
    with pytest.raises(InputError) as error:
        Schedule(name, **parameters)
    assert said in str(error.value)


def test_a_schedule_holds_its_defaults_so_that_leaving_them_out_changes_nothing():
    short = Schedule("warmup_cosine", peak_value=1, warmup_steps=2, decay_steps=5)
    long = Schedule("warmup_cosine", decay_steps=5, warmup_steps=2, end_value=0, init_value=0.0, peak_value=1.0)
    assert short == long
    assert hash(short) == hash(long)
    assert repr(short) == repr(long)


@pytest.mark.parametrize("name", ["", None, 3, "a\0b", "a\nb"])
def test_an_optimizer_is_named_by_text_or_a_factory(name):
    with pytest.raises(InputError, match="named by a printable string or given as a factory"):
        OptimizerConfig(name)


@pytest.mark.parametrize(
    ("text", "label", "optimizer"),
    [
        ("a=sgd", "a", OptimizerConfig("sgd")),
        ("a=sgd,", "a", OptimizerConfig("sgd")),
        (" a b = optax.adam , learning_rate = 1e-3", "a b", OptimizerConfig("optax.adam", learning_rate=1e-3)),
        (
            "fast=momentum,momentum=0.5,learning_rate=warmup_cosine(peak_value=0.1,warmup_steps=2,decay_steps=9)",
            "fast",
            OptimizerConfig(
                "momentum",
                learning_rate=Schedule("warmup_cosine", peak_value=0.1, warmup_steps=2, decay_steps=9),
                momentum=0.5,
            ),
        ),
        ("a=x,b=true,c=False,d=FALSE", "a", OptimizerConfig("x", b=True, c=False, d=False)),
        ("a=x,b=none,c=None,d=Inf,e=-2", "a", OptimizerConfig("x", b=None, c=None, d=float("inf"), e=-2)),
        ("a=x,b=yes,c=On,d=no,e=OFF,f='no'", "a", OptimizerConfig("x", b=True, c=True, d=False, e=False, f="no")),
        (
            "a=x,b=-inf,c=(1.0, inf, [none, yes])",
            "a",
            OptimizerConfig("x", b=-math.inf, c=(1.0, math.inf, (None, True))),
        ),
        ("'a=b, c'=sgd,x=1", "a=b, c", OptimizerConfig("sgd", x=1)),
        ('"it\'s" = "a,b"', "it's", OptimizerConfig("a,b")),
        (
            "a=x,b=word,c='a,b=c',d=(1,2.5),e=[1, [2]]",
            "a",
            OptimizerConfig("x", b="word", c="a,b=c", d=(1, 2.5), e=(1, (2,))),
        ),
    ],
)
def test_an_optimizer_is_read_from_text(text, label, optimizer):
    assert OptimizerConfig.parse(text) == (label, optimizer)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sgd", "LABEL=NAME"),
        ("=sgd", "LABEL=NAME"),
        ("a=", "LABEL=NAME"),
        ("a=,learning_rate=1", "LABEL=NAME"),
        ("a=sgd,0.1", "'0.1' in 'a=sgd,0.1' has no name: write name=value"),
        ("a=sgd,*x", "has no name"),
        ("a=sgd,**x", "without a name"),
        ("a=sgd,learning_rate=1,learning_rate=2", "given twice"),
        ("a=sgd,learning_rate", "has no name"),
        ("a=sgd,learning_rate=", "name=value"),
        ("a=sgd,,", "name=value"),
        ("a=sgd,learning rate=1", "name=value"),
        ("a=sgd,learning_rate=0.1 # fast", "name=value"),
        ("a=sgd,learning_rate=1\0", "name=value"),
        ("a=sgd,x=1)+g(y=2", "name=value"),
        ("a=sgd,x=1)(y=2", "name=value"),
        ("a=sgd,learning_rate=constnat(value=1)", "unknown 'constnat'; did you mean 'constant'?"),
        ("a=sgd,learning_rate=constant(0.1)", "'0.1'"),
        ("a=sgd,learning_rate=constant(value=-1)", "value of schedule 'constant' must be finite and at least 0"),
        ("a=sgd,x=__import__('os')", "'os'"),
        ("a=sgd,x=__import__(name='os')", "unknown '__import__'"),
        ("a=sgd,x=__import__('os').system('true')", "cannot read"),
        ("a=sgd,x=os.system", "cannot read 'os.system'"),
        ("a=sgd,x=(lambda: 1)()", "cannot read"),
        ("a=sgd,x=[y for y in z]", "cannot read"),
        ("a=sgd,x=f'{y}'", "cannot read"),
        ("a=sgd,x=2**9", "cannot read '2 ** 9'"),
        ("a=sgd,x={[1]: 2}", "cannot read"),
        pytest.param("a=sgd,x=" + "1+" * 20_000 + "1", "cannot read", id="too-deep-for-the-parser"),
    ],
)
def test_text_that_is_no_optimizer_is_refused_and_never_evaluated(text, said):
    with pytest.raises(InputError) as error:
        OptimizerConfig.parse(text)
    assert said in str(error.value)


@pytest.mark.parametrize("value", ["{1: 2}", "{1}", "b'a'", "...", "1j"])
def test_a_hyperparameter_is_a_number_a_boolean_text_none_or_a_tuple_of_these(value):
    # Anything else has no place in config.json: it would be lost when a trained result is saved.
    with pytest.raises(InputError, match=r"\bx\b"):
        Config(optimizers=dict([OptimizerConfig.parse(f"a=sgd,x={value}")]))


def test_the_schedules_that_are_drawn_are_all_there_are():
    assert set(SCHEDULES) == {
        "constant",
        "warmup_cosine",
        "warmup_linear",
        "step_decay",
        "demon",
        "sutskever",
        "one_cycle",
        "log_time",
    }


@given(CONFIGS)
@example(Config(optimizers={"a": OptimizerConfig("x", bounds=(0.0, float("inf")), words=("a", (None, True)))}))
def test_a_config_comes_back_equal_from_json_text(cfg):
    back = Config.from_json(json.loads(json.dumps(cfg.to_json())))
    assert back == cfg
    assert back.digest == cfg.digest
    assert list(back.optimizers) == list(cfg.optimizers)
    # Also in the types of its fields: 1, 1.0 and True are equal.
    assert repr(vars(back)) == repr(vars(cfg))


@given(CONFIGS, st.randoms())
def test_the_order_of_the_optimizers_changes_neither_equality_nor_digest(cfg, order: random.Random):
    labels = list(cfg.optimizers)
    order.shuffle(labels)
    other = dataclasses.replace(cfg, optimizers={label: cfg.optimizers[label] for label in labels})
    assert other == cfg
    assert other.digest == cfg.digest


@given(st.dictionaries(NAMES, SCALARS), st.randoms())
def test_optimizers_compare_and_hash_by_name_and_hyperparameters_in_any_order(hyperparameters, order: random.Random):
    items = list(hyperparameters.items())
    order.shuffle(items)
    assert OptimizerConfig("a", **dict(items)) == OptimizerConfig("a", **hyperparameters)
    assert hash(OptimizerConfig("a", **dict(items))) == hash(OptimizerConfig("a", **hyperparameters))
    assert OptimizerConfig("b", **hyperparameters) != OptimizerConfig("a", **hyperparameters)


@given(LABELS, OPTIMIZERS)
@example("a=b", OptimizerConfig("a,b", x="none", y="True", z="yes", u="if", v="ﬁ"))
@example("'a'", OptimizerConfig(" # ", x=-math.inf, y=(1.0, math.inf), z=(), u=((-0.0,),), v="\\'\n"))
def test_the_text_of_an_optimizer_is_read_back(label, optimizer):
    back_label, back = OptimizerConfig.parse(optimizer.text(label))
    assert back_label == label
    assert repr(back) == repr(optimizer)


@given(st.lists(st.one_of(HYPERPARAMETERS.map(lambda values: next(iter(values.values()), 0)), SCALARS), min_size=1))
def test_the_text_of_values_is_read_back(values):
    assert list(map(repr, parse_values(",".join(map(value_text, values))))) == list(map(repr, values))


@pytest.mark.parametrize("name", ["if", "None", "a b", "ﬁ", ""])
def test_a_hyperparameters_name_is_one_that_a_function_can_have(name):
    with pytest.raises(InputError, match="name must be one that Python functions can have"):
        OptimizerConfig("x", **{name: 1})


@pytest.mark.parametrize("value", ["\udcff", 10**5000], ids=["no UTF-8", "5,001 digits"])
def test_what_no_file_can_hold_is_no_hyperparameter(value):
    with pytest.raises(InputError, match="hyperparameter x must be a number"):
        OptimizerConfig("x", x=value)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("mlp", "mlp"),
        (" mlp ,", "mlp"),
        ("'convnet'", "convnet"),
        ("convnet,channels=[16,32],batch_norm=no,dropout=-0.0,augment=none", "convnet"),
        ("convnet, residual=YES, channels=(8,)", "convnet,channels=(8,),residual=true"),
        ("logistic,l2=1", "logistic,l2=1.0"),
        ("least_squares,L=2,mu=1e-2,dimensions=4", "least_squares,dimensions=4,L=2.0"),
    ],
)
def test_a_task_has_one_text_whichever_way_it_is_written(text, canonical):
    assert Config(task=text).task == canonical
    assert Config(task=text).digest == Config(task=canonical).digest


@given(TASKS)
def test_the_text_of_a_task_is_read_back(text):
    cfg = Config(task=text)
    name, arguments = parse_description(text)
    assert parse_description(cfg.task) == (name, check_arguments(name, arguments))
    assert Config(task=cfg.task).task == cfg.task


@pytest.mark.parametrize(
    ("field", "value"), [("hidden_sizes", (10,)), ("activation", "tanh"), ("weight_init", 0.1), ("l2", 0.1)]
)
def test_fields_of_the_task_mlp_are_refused_for_another_one(field, value):
    with pytest.raises(InputError) as error:
        Config(task="convnet,residual=true", **{field: value})
    assert str(error.value) == (
        f"{field} is of task 'mlp'; task 'convnet' has channels, batch_norm, residual, dropout, shift, augment, "
        "written behind its name as in convnet,channels=…"
    )


def test_a_task_with_data_of_its_own_takes_no_dataset():
    with pytest.raises(InputError, match="dataset is of tasks on images; task 'least_squares' has its own data, not"):
        Config(task="least_squares", dataset="x")
    assert Config(task="logistic", dataset="x").dataset == "x"


OTHER = {
    "task": "convnet",
    "dataset": "tfds:mnist",
    "hidden_sizes": (100, 100),
    "activation": "tanh",
    "weight_init": 0.1,
    "l2": 1e-4,
    "iterations": 2001,
    "batch_size": 127,
    "seeds": (1,),
    "optimizers": {"sgd": SGD},
    "sampling": "epochs",
    "shared_init": False,
    "dtype": "float64",
    "evaluate_every": 100,
    "record_every": 10,
    "loss_after": True,
}


def test_every_field_changes_the_digest_and_equality():
    assert set(OTHER) == {field.name for field in dataclasses.fields(Config)}
    others = [Config(**{field: value}) for field, value in OTHER.items()]
    assert len({Config().digest, *(cfg.digest for cfg in others)}) == 1 + len(OTHER)
    assert all(cfg != Config() for cfg in others)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Config(l2=0), Config(l2=0.0)),
        (Config(weight_init=1), Config(weight_init=1.0)),
        (
            Config(optimizers={"a": OptimizerConfig("sgd", learning_rate=1)}),
            Config(optimizers={"a": OptimizerConfig("sgd", learning_rate=1.0)}),
        ),
        (
            Config(optimizers={"a": OptimizerConfig("optax.sgd", learning_rate=0.1, nesterov=True)}),
            Config(optimizers={"a": OptimizerConfig("optax.sgd", learning_rate=0.1, nesterov=1)}),
        ),
    ],
    ids=["l2", "weight_init", "hyperparameter", "boolean"],
)
def test_configs_are_equal_exactly_if_their_digests_are(one, other):
    assert (one == other) == (one.digest == other.digest)


def test_equal_configs_hash_equal():
    assert hash(Config(seeds=2)) == hash(Config(seeds=(0, 1)))


def test_a_field_of_a_config_cannot_be_assigned():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().iterations = 1


def test_a_mapping_given_for_the_optimizers_is_copied():
    optimizers = {"a": SGD}
    cfg = Config(optimizers=optimizers)
    optimizers["b"] = SGD
    assert list(cfg.optimizers) == ["a"]


def test_an_unknown_field_is_named_with_the_nearest_spelling_and_a_config_is_still_copied():
    with pytest.raises(InputError, match=r"^field of a config: unknown 'iteration'; did you mean 'iterations'\?"):
        Config(iteration=3)
    with pytest.raises(InputError, match="did you mean 'batch_size'"):
        dataclasses.replace(Config(), batchsize=3)
    cfg = Config(iterations=3)
    assert copy.deepcopy(cfg) == pickle.loads(pickle.dumps(cfg)) == cfg


def test_an_unknown_field_in_a_file_is_named_with_the_nearest_spelling():
    with pytest.raises(InputError, match="unknown 'iteration'; did you mean 'iterations'"):
        Config.from_json({"iteration": 5})


@pytest.mark.parametrize(
    "values",
    [[], None, "text", {"optimizers": []}, {"optimizers": {"a": {}}}, {"optimizers": {"a": {"name": "sgd"}}}],
    ids=repr,
)
def test_json_of_another_shape_is_refused(values):
    with pytest.raises(InputError):
        Config.from_json(values)


def test_a_factory_is_written_as_where_it_is_defined_and_never_imported():
    cfg = Config(optimizers={"mine": OptimizerConfig(json.dumps, learning_rate=0.1)})
    back = Config.from_json(json.loads(json.dumps(cfg.to_json())))
    assert back.optimizers["mine"].name == "json:dumps"
    assert back.digest == cfg.digest
