"""Random arguments of Python calls: each call is made, or refused with an `InputError` and nothing written."""

import dataclasses
import decimal
import fractions
import inspect
import pathlib
import random
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError, shown
from momentum_jax.optimizers import registry
from momentum_jax.optimizers.description import SCHEDULES, parse_description, parse_values
from momentum_jax.space import axes_of, make_trials, parse_axis
from momentum_jax.tasks.named import argument_names, takes_dataset
from tests.cli.commands import tree

SECONDS = 30
SGD = mj.OptimizerConfig("sgd", learning_rate=0.1)


class ReachedError(Exception):
    """The call has checked all that it was given, and would compile now."""


def deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


VALUES = [
    *(None, True, False, 0, 1, 2, -1, 2**31, 10**30, 10**5000, 0.5, -0.0, 1e-320, float("nan"), float("inf"), 1j),
    *("", " ", "a", "sgd", "momentum", "a=b", "none", "\udcff", "a\nb", "a\0b", "x" * 10_000, b"a", "auto", "local:0"),
    *((), [], {}, set(), [1], (1, 2), {"a": 1}, {"a": SGD}, {"a": "sgd"}, {1: SGD}, {"a": None}, [None], deep(5000)),
    *(object(), int, len, lambda *_: None, range(3), iter([1]), Exception("x"), pathlib.Path("x"), dataclasses),
    *(np.ones(2), np.ones(()), np.float32("nan"), np.array(["a"]), np.array(None), np.datetime64("2020"), np.int64(3)),
    *(jnp.ones(2), jnp.ones(()), jnp.int32(1), jax.random.key(0), fractions.Fraction(1, 3), decimal.Decimal(1)),
    *(
        SGD,
        mj.Schedule("constant", value=0.1),
        mj.Config(),
        mj.Uniform(0, 1),
        mj.Config,
        mj.OptimizerConfig("optax.adam"),
    ),
]


def tiny_task():
    return mj.Task(
        init=lambda key: {"p": jnp.ones(2)},
        loss=lambda params, batch: jnp.mean((params["p"] - batch) ** 2),
        train=np.linspace(0, 1, 12, dtype=np.float32).reshape(6, 2),
    )


CFG = mj.Config(
    iterations=3, batch_size=2, optimizers={"sgd": SGD, "b": mj.OptimizerConfig("momentum", learning_rate=0.1)}
)
RUNS = {"cfg": CFG, "task": tiny_task()}
SPACE = {"learning_rate": [0.1, 0.2]}
TASKS = ("autoencoder", "convnet", "least_squares", "logistic", "mlp")
IMAGES = mj.Dataset.from_images(
    *[(np.zeros([4, 8, 8], np.uint8), np.arange(4))] * 2, num_classes=4, source="four black images"
)


def _names(function, *left_out):
    return [name for name in inspect.signature(function).parameters if name not in left_out]


def _factories():
    names = [*registry.available(), "optax.sgd", "optax.adam", "optax.contrib.muon", "optax.lars"]
    return {name: _names(registry.factory(name)) for name in names}


def _of_factory(rng, value):
    name, names = rng.choice(list(_factories().items()))
    registry.check(mj.OptimizerConfig(name, **{"learning_rate": 0.1, rng.choice(names): value()}))


def _space(rng, value):
    def some():
        return rng.choice(
            [value(), [value(), value()], (value(),), {"learning_rate": value()}, {"momentum": [value()]}]
        )

    keys = ["learning_rate", "sgd", "b", "batch_size", "momentum", "weight_decay", "x", 1, None, ("a",)]
    return {rng.choice(keys): some() for _ in range(rng.choice([1, 2]))}


def _of_task(rng, value):
    """A task with a random argument, on images that load at once."""
    name = rng.choice([*TASKS, value()])
    known = isinstance(name, str) and name in TASKS
    given = {"dataset": IMAGES} if known and takes_dataset(name) else {}
    names = [*given, *(argument_names(name) if known else ["x"])]
    mj.make_task(name, **{**given, rng.choice(names): value()})


def _of(function, given, *left_out):
    """A call of a function with all that it needs and one or two random arguments more."""

    def call(rng, value):
        names = rng.sample(_names(function, *left_out), k=1)
        function(**{**given, **{name: value() for name in names}})

    return call


CALLS = {
    "Config": _of(mj.Config, {}),
    "OptimizerConfig": lambda rng, value: mj.OptimizerConfig(value(), **{rng.choice(["x", "a b", "if", ""]): value()}),
    "a factory": _of_factory,
    "Schedule": lambda rng, value: mj.Schedule(
        name := rng.choice([*SCHEDULES, value()]),
        **{key: value() for key in SCHEDULES.get(name if isinstance(name, str) else "", ["value"])},
    ),
    "from_json": lambda rng, value: mj.Config.from_json(
        rng.choice([value(), {rng.choice(["optimizers", "seeds", "l2", "x"]): value()}, {"optimizers": {"a": value()}}])
    ),
    "Uniform": lambda rng, value: rng.choice([mj.Uniform, mj.LogUniform, mj.ReverseLogUniform])(value(), value()).grid(
        rng.choice([3, value()])
    ),
    "make_trials": lambda rng, value: make_trials(CFG, _space(rng, value)),
    "a search": lambda rng, value: make_trials(
        CFG, _space(rng, value), search=rng.choice(["random", "sobol", value()]), budget=rng.choice([3, value()])
    ),
    "search_seed": lambda rng, value: make_trials(CFG, SPACE, search="random", budget=1, search_seed=value()),
    "axes_of": lambda rng, value: axes_of(CFG, value()),
    "parse": lambda rng, value: rng.choice([mj.OptimizerConfig.parse, parse_description, parse_values, parse_axis])(
        rng.choice([v for v in VALUES if isinstance(v, str)])
    ),
    "make_task": _of_task,
    "train": _of(mj.train, RUNS),
    "sweep": _of(mj.sweep, {**RUNS, "space": SPACE}, "cluster"),
    "compare": _of(mj.compare, {**RUNS, "trials": 2, "search": "random"}, "cluster", "labels"),
}


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Makes a call; says whether it was refused."""
    monkeypatch.chdir(tmp_path)

    def reach(*_, **__):
        raise ReachedError

    def expire(*_):
        pytest.fail(f"not done after {SECONDS} s")

    monkeypatch.setattr("momentum_jax.training.compile._compile_all", reach)
    before_alarm = signal.signal(signal.SIGALRM, expire)

    def call(name, rng):
        before, given = tree(tmp_path), []

        def value():
            given.append(rng.choice(VALUES))
            return given[-1]

        signal.alarm(SECONDS)
        try:
            CALLS[name](rng, value)
        except ReachedError:
            return False
        except InputError:
            assert tree(tmp_path) == before
            return True
        except BaseException as error:
            error.add_note(f"{name} with {', '.join(map(shown, given))}")
            raise
        finally:
            signal.alarm(0)
        return False

    yield call
    signal.signal(signal.SIGALRM, before_alarm)


@pytest.mark.filterwarnings("ignore:Data type alias")
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(1, 8))])
@pytest.mark.parametrize("name", CALLS)
def test_a_random_call_is_made_or_refused_as_bad_input_and_nothing_is_written(name, seed, call):
    rng = random.Random(f"{name} {seed}")
    assert True in [call(name, rng) for _ in range(10)]
