"""Small trainings that many tests share, so that their programs are compiled once."""

import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

import momentum_jax as mj
from tests.idx import write_idx

# Removed when the process ends.
_FOLDER = tempfile.TemporaryDirectory()
DATASET = str(write_idx(pathlib.Path(_FOLDER.name) / "idx"))
SMALL = {"dataset": DATASET, "hidden_sizes": (10,), "iterations": 30, "batch_size": 16}
PAIR = {
    "sgd": mj.OptimizerConfig("sgd", learning_rate=0.1),
    "momentum": mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=0.9),
}


def small(**changes):
    return mj.Config(**{**SMALL, "optimizers": PAIR, **changes})


def same_trees(a, b):
    """Two pytrees of arrays are equal to the last bit."""

    def same(x, y):
        x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x.view(np.uint8), y.view(np.uint8))

    jax.tree.map(same, a, b)


def same_bits(a, b):
    """Histories, evaluations and parameters of two results are equal to the last bit."""
    same_trees(_arrays(a), _arrays(b))


def _arrays(result):
    by_label = [result.losses_after, result.losses_before, *result.metrics.values(), result.params]
    # What is read from a folder on demand is no dict.
    return [list(map(dict, by_label)), result.evaluations]


def quadratic_task():
    def init(key):
        return {"w": jax.random.normal(key, [3])}

    def loss(params, batch):
        return jnp.mean(jnp.sum((params["w"][None] - batch) ** 2, axis=-1)) / 2

    rows = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    return mj.Task(init=init, loss=loss, train=rows, test=rows[:50])
