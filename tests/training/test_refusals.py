"""What `train`, `sweep` and `compare` refuse: by name, in one line, before anything is compiled or written."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.tasks import image_classification
from tests.compilations import compilations
from tests.training.small import PAIR, quadratic_task, small


def train(cfg, **options):
    return mj.train(cfg, **options)


def sweep(cfg, **options):
    return mj.sweep(cfg, **{"space": {"learning_rate": [0.1, 0.2]}, **options})


def compare(cfg, **options):
    return mj.compare(cfg, *options.pop("labels", ()), **{"trials": 2, "tuning_seeds": 1, "rerun_seeds": 0, **options})


def refuse(call, words, folder):
    """The call is refused with these words, and leaves no trace."""

    def attempt():
        with pytest.raises(InputError) as error:
            call()
        assert words in str(error.value)
        assert "\n" not in str(error.value)

    assert compilations(attempt) == 0
    assert not list(folder.iterdir())


@dataclasses.dataclass
class Unhashable:
    """A function that compares by value and has no hash, as many a module."""

    scale: float = 1.0

    def __call__(self, *args):
        return jnp.zeros([])


@jax.tree_util.register_pytree_node_class
class Parameters:
    """A node of one's own, which cannot be written to a file."""

    def __init__(self, w, b):
        self.w, self.b = w, b

    def tree_flatten(self):
        return [self.w, self.b], None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def fails(*args):
    raise KeyError("velocity")


ROWS = quadratic_task().train
SGD = mj.OptimizerConfig("sgd", learning_rate=0.1)

CONFIGS = {
    "a dict": (dict, "cfg must be a Config, such as mj.Config(iterations=500), not {}"),
    "an optimizer": (lambda: SGD, "cfg must be a Config"),
    "the class": (lambda: mj.Config, "cfg must be a Config"),
    "None": (lambda: None, "cfg must be a Config"),
    "a mistyped optimizer": (
        lambda: small(optimizers={"fine": SGD, "odd": mj.OptimizerConfig("momentm", learning_rate=0.1)}),
        "optimizers['odd']: optimizer: unknown 'momentm'; did you mean 'momentum'?",
    ),
    "an optimizer without its module": (
        lambda: small(optimizers={"fine": SGD, "odd": mj.OptimizerConfig("adam", learning_rate=0.1)}),
        "optimizers['odd']: optimizer: unknown 'adam'; did you mean 'optax.adam'?",
    ),
    "a factory without a signature": (
        lambda: small(optimizers={"fine": SGD, "odd": mj.OptimizerConfig(dict, learning_rate=0.1)}),
        "optimizers['odd']: cannot make",
    ),
    "a factory that fails": (
        lambda: small(optimizers={"fine": SGD, "odd": mj.OptimizerConfig(lambda learning_rate: fails())}),
        "optimizers['odd']: ",
    ),
    "a name": (
        lambda: mj.Config(optimizers={"a": "sgd"}),
        "optimizers['a'] must be an OptimizerConfig, not 'sgd'; write mj.OptimizerConfig(\"sgd\", learning_rate=…)",
    ),
    "a transformation": (
        lambda: mj.Config(optimizers={"a": optax.sgd(0.1)}),
        'write mj.OptimizerConfig("momentum", learning_rate=0.01)',
    ),
    "a list of optimizers": (
        lambda: mj.Config(optimizers=[SGD]),
        "optimizers must map labels to OptimizerConfig, not (OptimizerConfig('sgd', learning_rate=0.1),); write {",
    ),
    "a schedule of no name": (
        lambda: small(optimizers={"a": mj.OptimizerConfig("sgd", learning_rate=mj.Schedule([]))}),
        "schedule: unknown []",
    ),
}


@pytest.mark.parametrize("run", [train, sweep, compare])
@pytest.mark.parametrize("config", CONFIGS)
def test_what_is_no_config_is_refused(config, run, tmp_path, monkeypatch):
    make, words = CONFIGS[config]
    monkeypatch.chdir(tmp_path)
    refuse(lambda: run(make(), task=quadratic_task()), words, tmp_path)


@pytest.mark.parametrize("run", [train, sweep, compare])
def test_a_mistyped_optimizer_is_refused_before_the_data_are_looked_for(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = small(dataset="nowhere", optimizers={"fine": SGD, "odd": mj.OptimizerConfig("momentm", learning_rate=0.1)})
    refuse(lambda: run(cfg), "optimizers['odd']: optimizer: unknown 'momentm'; did you mean 'momentum'?", tmp_path)


FRAME = pd.DataFrame({"x": [1.0, 2.0, 3.0], "kind": ["a", "b", "c"]})

TASKS = {
    "a dict": (dict, "task must be a Task, such as mj.Task(init=…, loss=…, train=…), not {}"),
    "a dataset": (lambda: ROWS, "task must be a Task"),
    "init": (
        {"init": {"w": np.zeros(3)}},
        "the task's init must be a function of (key), not {'w': array([0., 0., 0.])}",
    ),
    "init without an argument": ({"init": lambda: {"w": jnp.zeros(3)}}, "the task's init fails: TypeError: "),
    "init of words": ({"init": lambda key: {"w": "zeros"}}, "the task's init fails: TypeError: "),
    "init of nothing": ({"init": lambda key: None}, "init gives no parameters"),
    "init of empty arrays": ({"init": lambda key: {"w": jnp.zeros([0, 3])}}, "init gives no parameters"),
    "init that fails": ({"init": fails}, "the task's init fails: KeyError: 'velocity'"),
    "init without a hash": ({"init": Unhashable()}, "the task's init must be hashable"),
    "loss": ({"loss": "mse"}, "the task's loss must be a function of (params, batch), not 'mse'"),
    "loss without a hash": ({"loss": Unhashable()}, "the task's loss must be hashable"),
    "loss and accuracy": (
        {"loss": lambda params, batch: (jnp.sum(params["w"]), jnp.zeros([]))},
        "the task's loss must give a scalar alone, such as jnp.mean(errors), not (ShapeDtypeStruct",
    ),
    "loss of None": ({"loss": lambda params, batch: None}, "the task's loss must give a scalar alone"),
    "loss by name": ({"loss": lambda params, batch: {"loss": jnp.sum(params["w"])}}, "give a scalar alone"),
    "loss of an integer": (
        {"loss": lambda params, batch: jnp.int32(3)},
        "the task's loss must give a floating-point number, not int32",
    ),
    "complex loss": (
        {"loss": lambda params, batch: jax.lax.complex(*params["w"][:2])},
        "the task's loss must give a floating-point number, not complex64",
    ),
    "loss that fails": (
        {"loss": fails},
        "the task's loss fails as a function of (params, batch): KeyError: 'velocity'",
    ),
    "loss that branches": (
        {"loss": lambda params, batch: params["w"].sum() if params["w"].sum() > 0 else 0.0},
        "the task's loss fails as a function of (params, batch): TracerBoolConversionError: ",
    ),
    "evaluate": (
        {"evaluate": {"x": 1}},
        "the task's evaluate must be a function of (params, train, test), not {'x': 1}",
    ),
    "evaluate without a hash": ({"evaluate": Unhashable()}, "the task's evaluate must be hashable"),
    "evaluate that fails": ({"evaluate": fails}, "the task's evaluate fails: KeyError: 'velocity'"),
    "evaluate of None": ({"evaluate": lambda params, train, test: None}, "must give a dict of scalars by name"),
    "complex evaluation": (
        {"evaluate": lambda params, train, test: {"train_loss": jax.lax.complex(*params["w"][:2])}},
        "the task's evaluate must give real numbers or booleans, not 'train_loss' as complex64",
    ),
    "keys as an evaluation": (
        {"evaluate": lambda params, train, test: {"train_loss": jax.random.key(0)}},
        "the task's evaluate must give real numbers or booleans, not 'train_loss' as key<",
    ),
    "evaluation by number": (
        {"evaluate": lambda params, train, test: {1: jnp.sum(params["w"])}},
        "the task's evaluate must name its scalars by strings, not 1",
    ),
    "test data of another form": (
        {"test": np.zeros([5, 7], np.float32)},
        "the task's loss fails on the whole of the data: TypeError: ",
    ),
    "words": ({"train": np.array(["a", "b"])}, "the task's train must be an array of numbers or booleans"),
    "words in a list": ({"train": ["a", "b"]}, "the task's train[0] must be an array of numbers or booleans"),
    "objects": ({"train": np.array([1, None])}, "not of dtype object"),
    "dates": ({"train": np.zeros(20, "datetime64[s]")}, "not of dtype datetime64[s]"),
    "random keys": ({"train": jax.random.split(jax.random.key(0), 20)}, "not of dtype key<"),
    "numbers in a list": ({"train": [1.0, 2.0, 3.0]}, "must have one leading axis of examples"),
    "a frame with words": (
        {"train": {"rows": FRAME}},
        "the task's train['rows'] must be an array of numbers or booleans, such as np.asarray(values, np.float32), not "
        "of dtype object",
    ),
    "a frame with gaps": ({"train": pd.DataFrame({"x": [None, "1"]})}, "not of dtype object"),
    "test words": ({"test": {"label": np.array(["a", "b"])}}, "the task's test['label'] must be an array of numbers"),
    "no data": ({"train": None}, "the task's train data must have one leading axis"),
    "baseline": ({"baseline_loss": "2.3"}, "the task's baseline_loss must be finite, not '2.3'"),
    "baseline of NaN": ({"baseline_loss": float("nan")}, "the task's baseline_loss must be"),
    "provenance": ({"provenance": {"of": {1, 2}}}, "the task's provenance must be JSON values by name"),
    "provenance by number": ({"provenance": {1: "mine"}}, "the task's provenance must be JSON values by name"),
    "provenance of NaN": ({"provenance": {"mean": float("nan")}}, "the task's provenance must be JSON values by name"),
    "provenance in words": ({"provenance": "mine"}, "the task's provenance must be JSON values by name"),
}


@pytest.mark.parametrize("run", [train, sweep, compare])
@pytest.mark.parametrize("task", TASKS)
def test_a_task_that_cannot_be_trained_is_refused(task, run, tmp_path, monkeypatch):
    changes, words = TASKS[task]
    make = changes if callable(changes) else lambda: dataclasses.replace(quadratic_task(), **changes)
    monkeypatch.chdir(tmp_path)
    refuse(lambda: run(small(batch_size=4), task=make()), words, tmp_path)


def test_data_that_numpy_cannot_read_is_refused():
    class Broken:
        def to_numpy(self):
            raise RuntimeError("on another device")

    with pytest.raises(InputError, match=r"train\['x'\] of the task is no array: RuntimeError: on another device"):
        dataclasses.replace(quadratic_task(), train={"x": Broken()})


METRICS = {
    "a function": (fails, "metrics must map names to functions, such as"),
    "a list": ([fails], "metrics must map names to functions"),
    "a number": ({1: fails}, "the name of a metric must be a string, not 1"),
    "no function": ({"norm": 3}, "metrics['norm'] must be a function of (params, state, grads), not 3"),
    "no hash": ({"norm": Unhashable()}, "metrics['norm'] must be hashable"),
    "failing": ({"norm": fails}, "metrics['norm'] fails: KeyError: 'velocity'"),
    "no such state": ({"v": lambda params, state, grads: state.velocity}, "metrics['v'] fails: AttributeError: "),
    "None": ({"none": lambda params, state, grads: None}, "metrics['none'] must give a number or an array, not None"),
    "a tree": ({"tree": lambda params, state, grads: params}, "metrics['tree'] must give a number or an array"),
    "complex": (
        {"c": lambda params, state, grads: jax.lax.complex(params["w"], params["w"])},
        "metrics['c'] must give real numbers or booleans, not complex64",
    ),
    "empty": (
        {"empty": lambda params, state, grads: params["w"][:0]},
        "metrics['empty'] must give at least one number, not an array of shape (0,)",
    ),
}


@pytest.mark.parametrize("run", [train, sweep])
@pytest.mark.parametrize("metrics", METRICS)
def test_what_cannot_be_recorded_is_refused(metrics, run, tmp_path, monkeypatch):
    given, words = METRICS[metrics]
    monkeypatch.chdir(tmp_path)
    refuse(lambda: run(small(optimizers={"sgd": SGD}), task=quadratic_task(), metrics=given), words, tmp_path)


EVERYWHERE = [
    ({"progress": "bar"}, "progress must be a function of (phase, done, total, note), or False for none, not 'bar'"),
    ({"layout": "vmpa"}, "did you mean 'vmap'?"),
    ({"layout": None}, "layout: unknown None"),
]
OPTIONS = {
    train: [
        ({"devices": []}, "devices must be different ones of jax.devices(), in a list, not []"),
        ({"devices": jax.devices()[0]}, "devices must be different ones"),
        ({"devices": ["cpu"]}, "devices must be different ones"),
        ({"devices": [jax.devices()[0]] * 2}, "devices must be different ones"),
        ({"devices": 2}, "devices must be different ones"),
        ({"chunk": 0}, "chunk must be an integer of at least 1, not 0"),
        ({"callback": "log"}, "callback must be a function of a mj.Recorded, not 'log'"),
        ({"chunk": 2.5}, "chunk must be an integer"),
        ({"checkpoint": 3}, 'checkpoint must be a path, such as "runs/first", not 3'),
        ({"checkpoint": ""}, "checkpoint must be a path"),
        ({"checkpoint": "/dev"}, "checkpoint '/dev' cannot be read"),
        ({"checkpoint_seconds": -1}, "checkpoint_seconds must be finite and at least 0, not -1"),
        ({"checkpoint_seconds": "1"}, "checkpoint_seconds must be"),
    ],
    sweep: [
        ({"devices": []}, "devices must be different ones"),
        ({"chunk": "10"}, "chunk must be an integer"),
        ({"callback": 3}, "callback must be a function of a mj.Recorded, not 3"),
        ({"folder": 3}, 'folder must be a path, such as "runs/first", not 3'),
        ({"folder": ""}, "folder must be a path"),
        ({"cluster": 3}, 'cluster must be an address, "auto" or "local:N", not 3'),
        ({"space": [0.1]}, "what varies is a mapping"),
        ({"space": {1: [0.1]}}, "unknown 1"),
        ({"space": {"learning_rate": 0.1}}, "learning_rate needs a sequence of at least one value, not 0.1"),
        ({"space": {"learning_rate": "0.1"}}, "learning_rate needs a sequence"),
        ({"space": {"learning_rate": []}}, "learning_rate needs a sequence"),
        ({"space": {"learning_rate": ["fast"]}}, "learning_rate must be"),
        ({"space": {"learning_rate": [{}]}}, "hyperparameter learning_rate must be a number"),
        ({"space": {"batch_size": [1.5]}}, "batch_size of 'sgd' must be an integer"),
        ({"search": []}, "search: unknown []"),
        ({"search": "random", "budget": "3"}, "budget must be an integer"),
        ({"search_seed": -1}, "search_seed must be an integer"),
    ],
    compare: [
        ({"labels": (["sgd", "momentum"],)}, 'labels are given one by one, such as compare(cfg, "sgd", "momentum")'),
        ({"labels": ("sgd", "momentm")}, "did you mean 'momentum'?"),
        ({"folder": 3}, "folder must be a path"),
        ({"cluster": 3}, "cluster must be an address"),
        ({"space": [0.1]}, "what varies is a mapping"),
        ({"trials": 1.5}, "trials must be an integer"),
        ({"tuning_seeds": "3"}, "tuning_seeds must be an integer"),
        ({"tuning_seeds": None}, "tuning_seeds must be an integer"),
        ({"tuning_seeds": ["a"]}, "tuning_seeds must be an integer"),
        ({"tuning_seeds": [[1]]}, "tuning_seeds must be an integer"),
        ({"tuning_seeds": []}, "at least one seed"),
        ({"rerun_seeds": None}, "rerun_seeds must be an integer"),
        ({"rerun_trials": "3"}, "rerun_trials must be an integer"),
        ({"validation": 0.1}, "validation must be an integer"),
        ({"tune_by": 3}, "metric to tune by: unknown 3"),
        ({"tune_by": []}, "metric to tune by: unknown []"),
        ({"learning_rate": "fast"}, "learning_rate must be"),
        ({"learning_rate": [0.1, 0.2]}, "learning_rate"),
        ({"effective_learning_rate": "fast"}, "effective_learning_rate must be"),
        ({"judge_by": 3}, "judge_by must be one or more metrics by name"),
        ({"judge_by": [["test_loss"]]}, "judge_by must be one or more metrics by name"),
        ({"judge_by": ["test_los"]}, "did you mean 'test_loss'?"),
        ({"target": "0.1"}, "target must be"),
        ({"margin": -1}, "margin must be"),
        ({"level": 95}, "level must be in [0.5, 1)"),
    ],
}


@pytest.mark.parametrize(
    ("run", "options", "words"),
    [
        pytest.param(run, options, words, id=f"{run.__name__}-{'-'.join(map(str, options.items()))}"[:80])
        for run, own in OPTIONS.items()
        for options, words in [*EVERYWHERE, *own]
    ],
)
def test_an_option_that_cannot_be_used_is_refused(run, options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuse(lambda: run(small(), task=quadratic_task(), **options), words, tmp_path)


def test_parameters_that_cannot_be_written_are_refused_where_they_are_to_be_kept(tmp_path):
    task = mj.Task(
        init=lambda key: Parameters(jnp.zeros(3), jnp.zeros(3)),
        loss=lambda p, batch: jnp.sum((p.w + p.b - batch.mean(axis=0)) ** 2),
        train=ROWS,
    )
    words = "parameters of type Parameters cannot be saved"
    refuse(lambda: sweep(small(), task=task, keep_params=True, folder=tmp_path / "sweep"), words, tmp_path)


def test_a_checkpoint_of_something_else_is_refused_before_anything_is_compiled(tmp_path):
    (tmp_path / "checkpoint").write_bytes(b"something else")

    def attempt():
        with pytest.raises(InputError, match="is damaged, or no checkpoint"):
            mj.train(small(), task=quadratic_task(), checkpoint=tmp_path / "checkpoint")

    assert compilations(attempt) == 0


@pytest.mark.usefixtures("compiled_quickly")
def test_frames_of_pandas_are_trained_on_as_their_arrays():
    def task(x, y):
        return mj.Task(
            init=lambda key: {"w": jnp.zeros(2)},
            loss=lambda params, batch: jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2),
            train={"x": x, "y": y},
            test={"x": x[:3], "y": y[:3]},
        )

    x = np.random.default_rng(0).normal(size=[20, 2]).astype(np.float32)
    y = x.sum(axis=1)
    frames = task(pd.DataFrame(x, columns=["a", "b"]), pd.Series(y))
    assert isinstance(frames.train["x"], np.ndarray)
    cfg = small(batch_size=4, optimizers={"sgd": PAIR["sgd"]})
    ours, theirs = mj.train(cfg, task=frames), mj.train(cfg, task=task(x, y))
    assert ours.losses["sgd"].tobytes() == theirs.losses["sgd"].tobytes()
    assert ours.provenance["data"]["digest"] == theirs.provenance["data"]["digest"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dataset": "mnist"}, "dataset must be a Dataset, such as mj.load_dataset(\"mnist\"), not 'mnist'"),
        ({"activation": "rleu"}, "activation: unknown 'rleu'; did you mean 'relu'?"),
        ({"weight_init": "hee"}, "weight_init: unknown 'hee'; did you mean 'he'?"),
    ],
)
def test_a_classification_of_images_that_cannot_be_is_refused(options, words):
    dataset = mj.load_dataset(small().dataset)
    with pytest.raises(InputError) as error:
        image_classification(**{"dataset": dataset, **options})
    assert words in str(error.value)


@pytest.mark.parametrize("call", [mj.batch_indices, functools.partial(mj.initial_params, label="sgd")])
def test_a_replay_of_something_else_is_refused(call):
    with pytest.raises(InputError, match="cfg must be a Config"):
        call({}, seed=0)
    with pytest.raises(InputError, match="task must be a Task"):
        call(small(), seed=0, task={})
