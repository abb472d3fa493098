"""Tasks by name: what there is, what is refused, and that each trains."""

import inspect
import pathlib
import re

import jax
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax import tasks
from momentum_jax._base.errors import InputError
from momentum_jax.optimizers.description import description_text
from momentum_jax.results.fingerprint import data_digest
from momentum_jax.results.summary import loss_unit
from momentum_jax.tasks.named import argument_names, takes_dataset

# Small arguments of each task.
SMALL = {
    "autoencoder": {"hidden_sizes": (8,), "code": 3},
    "char_transformer": {"layers": 1, "width": 8, "heads": 1, "context": 8},
    "convnet": {"channels": (4, 4)},
    "least_squares": {"examples": 40, "dimensions": 3},
    "logistic": {"l2": 0.1},
    "mlp": {"hidden_sizes": (8,)},
}
SGD = {"sgd": mj.OptimizerConfig("sgd", learning_rate=0.01)}


def make(name, **arguments):
    return mj.make_task(name, **SMALL[name] | arguments)


def test_every_task_is_tested_and_described_in_a_line():
    assert tasks.available().keys() == SMALL.keys()
    for line in tasks.available().values():
        assert line.isprintable()
        assert 20 < len(line) < 100


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("name", SMALL)
def test_every_task_trains_five_steps_and_evaluates(name, idx):
    # Images of 5×5 load faster than MNIST; logistic regression needs 8×8.
    task = make(name, **({"dataset": str(idx)} if name in ("autoencoder", "convnet", "mlp") else {}))
    result = mj.train(mj.Config(iterations=5, batch_size=8, optimizers=SGD), task=task)
    assert np.isfinite(result.losses_before["sgd"]).all()
    assert np.isfinite(result.train_loss["sgd"]).all()
    assert ("sgd" in result.test_loss) == (task.test is not None)
    assert loss_unit(result) == ("" if name == "least_squares" else "nats")


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize(
    "options", [{"batch_norm": True}, pytest.param({"dropout": 0.5}, marks=pytest.mark.exhaustive)], ids=str
)
def test_a_convolutional_network_with_a_state_or_a_key_trains_five_steps(options, idx):
    cfg = mj.Config(
        task="convnet,channels=(4,)," + ",".join(f"{key}={value}" for key, value in options.items()),
        dataset=str(idx),
        iterations=5,
        batch_size=8,
        optimizers=SGD,
    )
    assert np.isfinite(mj.train(cfg).losses_before["sgd"]).all()


@pytest.mark.parametrize("name", SMALL)
def test_equal_arguments_give_the_same_functions(name):
    first, again = make(name), make(name, **{key: as_list(value) for key, value in SMALL[name].items()})
    assert (first.init, first.loss, first.evaluate) == (again.init, again.loss, again.evaluate)


def as_list(value):
    return list(value) if isinstance(value, tuple) else value


def test_other_arguments_give_other_functions(mnist):
    small, large = (mj.make_task("convnet", dataset=mnist, channels=channels) for channels in ((4,), (8,)))
    assert small.loss is not large.loss


def test_the_task_mlp_is_the_classification_of_images(mnist):
    by_name = mj.make_task("mlp", hidden_sizes=[8], l2=0.1)
    own = tasks.image_classification(mnist, hidden_sizes=(8,), l2=0.1)
    assert (by_name.init, by_name.loss, by_name.evaluate) == (own.init, own.loss, own.evaluate)
    assert by_name.baseline_loss == own.baseline_loss


@pytest.mark.parametrize("name", [name for name in SMALL if name not in ("char_transformer", "logistic")])
def test_a_dataset_is_given_by_name_by_folder_or_itself(name, idx):
    dataset = mj.load_dataset(str(idx))
    if not takes_dataset(name):
        with pytest.raises(InputError, match="unknown 'dataset'"):
            make(name, dataset=dataset)
        return
    for given in (dataset, str(idx)):
        task = make(name, dataset=given)
        np.testing.assert_array_equal(jax.tree.leaves(task.train)[0], dataset.x_train)
    assert make(name).num_examples == make(name, dataset="mnist").num_examples == 60_000


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("mlp", {"hidden_sizes": (8,), "activation": "tanh", "weight_init": 0.1, "l2": 0.1}),
        ("autoencoder,hidden_sizes=(8,),code=3", {"hidden_sizes": (8,), "code": 3}),
        ("convnet,channels=(4,),residual=true", {"channels": (4,), "residual": True}),
    ],
)
def test_a_config_trains_the_task_that_it_names(text, arguments, idx):
    fields = arguments if text == "mlp" else {}
    cfg = mj.Config(task=text, dataset=str(idx), iterations=5, batch_size=8, optimizers=SGD, **fields)
    task = mj.make_task(text.partition(",")[0], dataset=str(idx), **arguments)
    own, by_hand = mj.train(cfg), mj.train(cfg, task=task)
    np.testing.assert_array_equal(own.losses_before["sgd"], by_hand.losses_before["sgd"])
    assert own.provenance["functions"] == by_hand.provenance["functions"]


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("name", [pytest.param("autoencoder", marks=pytest.mark.exhaustive), "least_squares"])
def test_a_comparison_holds_out_examples_of_a_task_by_name(name, idx):
    fields = {"dataset": str(idx)} if takes_dataset(name) else {}
    optimizers = {**SGD, "momentum": mj.OptimizerConfig("momentum", learning_rate=0.01)}
    cfg = mj.Config(
        task=description_text(name, SMALL[name]), iterations=5, batch_size=8, seeds=2, optimizers=optimizers, **fields
    )
    compared = mj.compare(cfg, trials=2, tuning_seeds=1, rerun_seeds=0)
    task = mj.make_task(name, **SMALL[name], **fields)
    # By default a sixth.
    held_out = task.split_validation(task.num_examples // 6)
    assert compared.tuning.provenance["data"] == data_digest(held_out)
    assert "test_loss" in compared.tuning.evaluations
    assert {"same", "matched", "tuned"} <= set(compared.protocols)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        (
            "convent",
            {},
            "task: unknown 'convent'; did you mean 'convnet'? Allowed: autoencoder, char_transformer, ",
        ),
        ([], {}, "task: unknown []"),
        ("mlp", {"hiden_sizes": (8,)}, "argument of task 'mlp': unknown 'hiden_sizes'; did you mean 'hidden_sizes'?"),
        ("mlp", {"hidden_sizes": 8}, "hidden_sizes of task 'mlp' must be a sequence of integers, not 8"),
        ("mlp", {"hidden_sizes": (8, 0)}, "hidden_sizes must be an integer of at least 1, not 0"),
        ("mlp", {"weight_init": None}, "weight_init of task 'mlp' must be text or a finite number, not None"),
        ("mlp", {"weight_init": "xavir"}, "weight_init: unknown 'xavir'; did you mean 'xavier'?"),
        ("mlp", {"l2": -1}, "l2 must be finite and at least 0, not -1.0"),
        ("convnet", {"batch_norm": 1}, "batch_norm of task 'convnet' must be True or False, not 1"),
        ("convnet", {"dropout": True}, "dropout of task 'convnet' must be a finite number, not True"),
        ("convnet", {"dropout": float("nan")}, "dropout of task 'convnet' must be a finite number, not nan"),
        ("convnet", {"dropout": 2}, "dropout must be in [0, 1), not 2.0"),
        ("convnet", {"channels": [[8]]}, "channels of task 'convnet' must be a sequence of integers, not ((8,),)"),
        ("convnet", {"dataset": "minst"}, "dataset: unknown 'minst'; did you mean 'mnist'?"),
        ("convnet", {"dataset": 3}, "dataset must be a Dataset"),
        ("autoencoder", {"code": 2.5}, "code of task 'autoencoder' must be an integer, not 2.5"),
        ("least_squares", {"mu": "small"}, "mu of task 'least_squares' must be a finite number, not 'small'"),
    ],
)
def test_what_makes_no_task_is_refused(name, arguments, said):
    with pytest.raises(InputError) as error:
        mj.make_task(name, **arguments)
    assert said in str(error.value)


def test_arguments_of_numpy_are_those_of_python():
    task = mj.make_task("least_squares", dimensions=np.int64(3), mu=np.float32(0.5), L=1)
    assert task.train[0].shape == (512, 3)


def test_every_argument_has_a_type_that_is_checked():
    for name in sorted(SMALL):
        for argument in argument_names(name):
            if argument != "augment":
                with pytest.raises(InputError, match=f"{argument} of task '{name}' must be"):
                    mj.make_task(name, **{argument: {}})


def test_make_task_is_public():
    assert mj.make_task is tasks.make_task
    assert "make_task" in mj.__all__
    assert inspect.signature(mj.make_task).parameters.keys() == {"name", "arguments"}


def test_the_readme_lists_the_arguments_of_every_task():
    page = (pathlib.Path(tasks.__file__).parent / "README.md").read_text()
    for name in SMALL:
        (row,) = re.findall(rf"^\| `{name}` \|.*\| (.*) \| .*FLOP \|$", page, re.MULTILINE)
        assert re.findall("`([A-Za-z0-9_]+)`", row) == ([] if name == "mlp" else argument_names(name))
