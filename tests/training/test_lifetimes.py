"""Data that a user's functions close over are there as long as the user holds them, and no longer."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from tests.training.small import PAIR

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def config():
    return mj.Config(iterations=4, batch_size=4, seeds=1, optimizers=PAIR)


def task_of(data, evaluates):
    """Its loss holds the data, as a constant of the compiled programs, and so does its evaluation if it has one."""

    def loss(params, batch):
        return jnp.mean((params["w"] - batch) ** 2) + jnp.asarray(data.rows).mean()

    def evaluate(params, train, test):
        return {"train_loss": loss(params, train) + data.rows[0]}

    def init(key):
        return {"w": jax.random.normal(key, []) + data.rows[0]}

    return mj.Task(init, loss, data.rows, evaluate=evaluate if evaluates else None)


def train(data):
    mj.train(config(), task=task_of(data, evaluates=False))


def train_with_metric_and_evaluation(data):
    mj.train(
        config(),
        task=task_of(data, evaluates=True),
        metrics={"m": lambda params, state, grads: params["w"] * data.rows[1]},
    )


def mean_square(params, batch):
    """A loss that outlives every training."""
    return jnp.mean((params["w"] - batch) ** 2)


def start_at_zero(key):
    return {"w": jnp.zeros([])}


TASK = mj.Task(start_at_zero, mean_square, np.linspace(0, 1, 64, dtype=np.float32))


def train_with_a_metric_that_ends_before_the_loss(data):
    mj.train(config(), task=TASK, metrics={"m": lambda params, state, grads: params["w"] * jnp.asarray(data.rows)[1]})


def sweep(data):
    mj.sweep(config(), {"learning_rate": [0.1, 0.2]}, task=task_of(data, evaluates=False))


def compare(data):
    with pytest.warns(UserWarning, match="verdicts need"):
        mj.compare(config(), trials=1, tuning_seeds=1, rerun_seeds=0, task=task_of(data, evaluates=False))


def trajectory(data):
    landscape = mj.Landscape(
        name="mine",
        formula="w²",
        function=lambda w: jnp.sum(w**2) + jnp.asarray(data.rows, w.dtype).mean(),
        minima=np.zeros((0, 2)),
        start=np.ones(2),
        window=np.array([[-2, 2], [-2, 2]]),
    )
    path = mj.trajectory(list(PAIR.values()), landscape, iterations=3)
    jax.block_until_ready(path)


class Data:
    def __init__(self):
        self.rows = np.linspace(0, 1, 64, dtype=np.float32)


@pytest.mark.parametrize(
    "use",
    [
        train,
        train_with_metric_and_evaluation,
        train_with_a_metric_that_ends_before_the_loss,
        sweep,
        compare,
        trajectory,
    ],
)
def test_nothing_keeps_the_data_of_a_users_functions(use):
    data = Data()
    # What closes over them, whether or not their arrays are copied.
    held = weakref.ref(data)
    live = len(jax.live_arrays())
    use(data)
    del data
    gc.collect()
    assert held() is None
    assert len(jax.live_arrays()) <= live
