"""Small sweeps: a network of ten units, or a quadratic in three dimensions."""

import os
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np

import momentum_jax as mj
from tests.training.small import DATASET

SMALL = {"dataset": DATASET, "hidden_sizes": (10,), "iterations": 30, "batch_size": 16}
CHUNK = 10
MOMENTUM = mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=0.9)
PAIR = {"sgd": mj.OptimizerConfig("sgd", learning_rate=0.1), "momentum": MOMENTUM}
SPACE = {"learning_rate": [0.1, 0.3], "momentum": {"momentum": [0.5, 0.9]}}


def small(**changes):
    return mj.Config(**{**SMALL, "optimizers": PAIR, **changes})


def loss(params, batch):
    return jnp.mean(jnp.sum((params["w"][None] - batch) ** 2, axis=-1)) / 2


def init(key):
    return {"w": jax.random.normal(key, [3])}


def one_device():
    """Options under which every batch is one run, so that all runs of a structure share a program with `alone`."""
    return {"devices": jax.devices()[:1], "chunk": 7}


def alone(label, trial, seed=0, **options):
    """The run of one trial in `train`."""
    cfg = small(seeds=(seed,), batch_size=trial.batch_size, optimizers={label: trial.optimizer})
    return mj.train(cfg, **one_device(), **options)


def stop_after(calls):
    """A progress that presses Ctrl-C at the so many-th sign of life of the runs."""
    left = [calls]

    def progress(phase, done, total, note=""):
        left[0] -= phase == "runs"
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGINT)
            # The signal is handled at the next bytecode of the main thread, which this is.
            time.sleep(0.1)

    return progress


ROWS = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
QUADRATIC = mj.Task(init=init, loss=loss, train=ROWS, test=ROWS[:50])


METRICS = {
    "position": lambda params, state, grads: params["w"],
    "uphill": lambda params, state, grads: jnp.sum(grads["w"]) > 0,
    "half": lambda params, state, grads: params["w"].astype(jnp.bfloat16),
}
