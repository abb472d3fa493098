"""Every task by name has the same bits on any devices, in any pieces, in any company, from memory and from files.

The oracle is the training of all runs at once, on two devices, in one piece, with the data in memory.
"""

import dataclasses
import functools
import os
import pathlib
import signal
import tempfile

import jax
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.tasks.augmentation import chain, noise, shift
from momentum_jax.tasks.datasets import Dataset
from tests.training.small import same_bits, same_trees

# Two chunks of 7, and one more.
ITERATIONS = 15
TASKS = {
    "mlp": {"hidden_sizes": (8,)},
    "convnet": {"channels": (3, 4), "batch_norm": True, "dropout": 0.3, "augment": chain(shift(1, (8, 8)), noise(8))},
    "autoencoder": {"hidden_sizes": (8,), "code": 3},
    "char_transformer": {"layers": 1, "width": 8, "heads": 2, "context": 8, "dropout": 0.2},
    "logistic": {"l2": 0.1},
    "least_squares": {"examples": 200, "dimensions": 3},
}
# One structure, and so one program, for both.
OPTIMIZERS = {
    "slow": mj.OptimizerConfig("momentum", learning_rate=0.01),
    "fast": mj.OptimizerConfig("momentum", learning_rate=0.05),
}


def images(rng, count):
    """Images of 8×8, as small as logistic regression takes them."""
    return rng.integers(0, 256, [count, 64]).astype(np.uint8), rng.integers(0, 5, count).astype(np.int32)


@functools.cache
def task_called(name):
    arguments = TASKS[name]
    if name in ("mlp", "convnet", "autoencoder", "logistic"):
        rng = np.random.default_rng(0)
        arguments = arguments | {"dataset": Dataset(*images(rng, 300), *images(rng, 50), (8, 8), 5, "drawn")}
    task = mj.make_task(name, **arguments)
    if name == "char_transformer":
        # The evaluation of all plays would take longer than the training.
        return dataclasses.replace(task, train=task.train[:300], test=task.test[:50])
    return task


def config(**changes):
    # The batch is odd and no divisor of the examples, so that remainders are computed too.
    return mj.Config(**{"iterations": ITERATIONS, "batch_size": 15, "seeds": 3, "optimizers": OPTIMIZERS, **changes})


@functools.cache
def whole(name, compiled):
    """The oracle. It depends on how trainings are compiled, "quickly" or "as for users"."""
    del compiled
    return mj.train(config(), task=task_called(name))


def in_pieces(chunk, devices):
    def train(task):
        return mj.train(config(), task=task, chunk=chunk, devices=jax.devices()[:devices])

    return train


def killed_and_interrupted(task):
    """Killed in the second chunk, so that the checkpoint is of the first; then stopped by Ctrl-C after the second."""
    with tempfile.TemporaryDirectory() as folder:
        train = functools.partial(
            mj.train, config(), task=task, chunk=7, checkpoint=pathlib.Path(folder) / "c.npz", checkpoint_seconds=0
        )
        steps = []

        def killed(phase, done, total):
            if phase == "training":
                steps.append(done)
                if done == 14:
                    raise SystemExit

        def interrupted(phase, done, total):
            if phase == "training":
                steps.append(done)
                if done == 14:
                    os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(SystemExit):
            train(progress=killed)
        with pytest.raises(mj.Interrupted):
            train(progress=interrupted)
        result = train(progress=lambda phase, done, total: steps.append(done) if phase == "training" else None)
        # The first call of each tells where it begins.
        assert steps == [0, 7, 14, 7, 14, 14, 15]
        return result


def on_the_host(task):
    """The same data in files that are read a chunk at a time."""
    with tempfile.TemporaryDirectory() as folder:

        def stored(number, array):
            array = np.asarray(array)
            file = np.memmap(f"{folder}/{number}", array.dtype, "w+", shape=array.shape)
            file[:] = array
            return file

        leaves, tree = jax.tree.flatten(task.train)
        files = tree.unflatten([stored(number, leaf) for number, leaf in enumerate(leaves)])
        task = dataclasses.replace(task, train=files)
        assert isinstance(task.train, mj.tasks.HostData)
        return mj.train(config(), task=task, chunk=7)


WAYS = {
    "iteration by iteration on one device": in_pieces(1, 1),
    "in chunks of 7": in_pieces(7, 2),
    "killed and interrupted": killed_and_interrupted,
    "with data on the host": on_the_host,
}


@pytest.mark.contained
@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("way", ["in chunks of 7", "with data on the host"])
@pytest.mark.parametrize("name", ["convnet", "least_squares"])
def test_a_task_has_the_same_bits_whichever_way_it_is_trained(name, way):
    same_bits(WAYS[way](task_called(name)), whole(name, "quickly"))


@pytest.mark.exhaustive
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_the_same_bits_whichever_way_it_is_trained_as_users_compile_it(name, way):
    same_bits(WAYS[way](task_called(name)), whole(name, "as for users"))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", TASKS)
def test_a_run_of_every_task_has_the_same_bits_alone_and_in_company(name):
    cfg = config(seeds=(1,), optimizers={"fast": OPTIMIZERS["fast"]})
    alone, company = mj.train(cfg, task=task_called(name)), whole(name, "as for users")
    for history in ("losses_before", "losses_after"):
        np.testing.assert_array_equal(getattr(alone, history)["fast"][0], getattr(company, history)["fast"][1])
    same_trees(alone.params["fast"], jax.tree.map(lambda a: a[1:2], company.params["fast"]))
    for evaluation, by_label in alone.evaluations.items():
        np.testing.assert_array_equal(by_label["fast"][0], company.evaluations[evaluation]["fast"][1])


def test_all_tasks_by_name_are_trained_here():
    assert TASKS.keys() == mj.tasks.available().keys()
