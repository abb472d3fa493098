"""What is refused before anything compiles."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from tests.compilations import compilations
from tests.training.small import PAIR, quadratic_task, small


def with_a_key():
    return optax.GradientTransformation(lambda params: jax.random.key(0), lambda g, state, params=None: (g, state))


CONSTANT = mj.Schedule("constant", value=1.5)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (mj.OptimizerConfig("momentm", learning_rate=0.1), "did you mean 'momentum'?"),
        (mj.OptimizerConfig("optax.sgdd", learning_rate=0.1), "did you mean 'optax.sgd'?"),
        (mj.OptimizerConfig("optax.os.system", learning_rate=0.1), "unknown 'optax.os.system'"),
        (mj.OptimizerConfig("numpy.save", learning_rate=0.1), "unknown 'numpy.save'"),
        (mj.OptimizerConfig("os:system", learning_rate=0.1), "nothing is imported by a name"),
        (mj.OptimizerConfig("momentum", learning_rte=0.1), "did you mean 'learning_rate'?"),
        (mj.OptimizerConfig("momentum"), "needs the hyperparameter 'learning_rate'"),
        (mj.OptimizerConfig("sgd", learning_rate=0.1, momentum=0.9), "unknown 'momentum'"),
        (mj.OptimizerConfig("momentum", learning_rate=-1.0), "learning_rate must be finite and at least 0, not -1.0"),
        (mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=1), "momentum must be in [0, 1), not 1.0"),
        (mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=CONSTANT), "not 1.5"),
        (
            mj.OptimizerConfig("optax.sgd", learning_rate=0.1, momentum=mj.Schedule("constant", value=0.5)),
            "cannot train with",
        ),
        (mj.OptimizerConfig(with_a_key), "a random key"),
        (mj.OptimizerConfig("adam", learning_rate=0.1), "did you mean 'optax.adam'?"),
        (mj.OptimizerConfig(lambda: 3), "made no optax.GradientTransformation"),
    ],
)
def test_an_optimizer_that_cannot_be_is_refused_before_anything_is_compiled(optimizer, words):
    def attempt():
        with pytest.raises(InputError) as error:
            mj.train(small(optimizers={"fine": PAIR["sgd"], "odd": optimizer}))
        assert words in str(error.value)
        assert "optimizers['odd']" in str(error.value)

    assert compilations(attempt) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": (np.zeros([200, 3]), np.zeros(50))}, "one leading axis of examples"),
        ({"train": np.zeros([0, 3])}, "of at least 1"),
        ({"test": np.zeros([])}, "the task's test data"),
        ({"init": lambda key: {}}, "init gives no parameters"),
        ({"init": lambda key: {"n": jnp.zeros([], jnp.int32)}}, "parameter ['n'] has dtype int32"),
        ({"init": lambda key: {"z": jnp.zeros([], jnp.complex64)}}, "parameter ['z'] has dtype complex64"),
        ({"loss": lambda params, batch: batch.sum(axis=-1)}, "loss must give a scalar, not an array of shape (16,)"),
        ({"evaluate": lambda params, train, test: jnp.zeros(3)}, "evaluate must give a dict of scalars"),
        ({"evaluate": lambda params, train, test: {"train_loss": jnp.zeros(3)}}, "evaluate must give a dict"),
    ],
)
def test_a_task_that_cannot_be_trained_is_refused_before_anything_is_compiled(changes, words):
    task = dataclasses.replace(quadratic_task(), **changes)

    def attempt():
        with pytest.raises(InputError) as error:
            mj.train(small(), task=task)
        assert words in str(error.value)

    assert compilations(attempt) == 0


@pytest.mark.usefixtures("compiled_quickly")
def test_a_batch_larger_than_the_data_is_refused_in_epochs_only():
    with pytest.raises(InputError, match="batch_size must be at most the 200 training examples"):
        mj.train(small(batch_size=201, sampling="epochs"), task=quadratic_task())
    assert mj.train(small(batch_size=201), task=quadratic_task()).losses["sgd"].shape == (1, 30)
