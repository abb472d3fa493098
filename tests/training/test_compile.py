"""What is compiled, and how often."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.training import compile as programs
from tests.compilations import compilations
from tests.training.small import PAIR, quadratic_task, small

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def test_any_pattern_of_chunks_and_evaluations_needs_one_program():
    cfg = small(iterations=60, optimizers={"momentum": PAIR["momentum"]})
    plain = compilations(lambda: mj.train(cfg, task=quadratic_task()))
    # Chunk ends at 13, 20, 26, 39, 40, …: many lengths of chunk.
    often = dataclasses.replace(cfg, evaluate_every=13)
    pattern = compilations(lambda: mj.train(often, task=quadratic_task(), chunk=20))
    assert pattern <= plain


def test_other_hyperparameters_and_seeds_compile_nothing_new():
    def run(rate, momentum, seed, decay):
        schedule = mj.Schedule("step_decay", init_value=decay, transition_steps=10, decay_rate=0.5)
        optimizers = {
            "momentum": mj.OptimizerConfig("momentum", learning_rate=rate, momentum=momentum),
            "scheduled": mj.OptimizerConfig("momentum", learning_rate=schedule, momentum=momentum),
            "adam": mj.OptimizerConfig("optax.adam", learning_rate=rate, b1=momentum),
        }
        return mj.train(small(seeds=(seed,), optimizers=optimizers), task=task)

    task = quadratic_task()
    assert compilations(lambda: run(0.1, 0.9, 0, 0.1)) > 0
    assert compilations(lambda: run(0.01, 0.5, 1, 0.2)) == 0


def test_optimizers_of_one_structure_share_one_program():
    rates = {f"rate {rate}": mj.OptimizerConfig("momentum", learning_rate=rate) for rate in (0.1, 0.2, 0.3, 0.4)}
    few = compilations(lambda: mj.train(small(optimizers={"a": rates["rate 0.1"]}), task=quadratic_task()))
    many = compilations(lambda: mj.train(small(optimizers=rates), task=quadratic_task()))
    # Eager initialisation compiles small operations of its own; the chunk, the draw and the evaluation are one each.
    assert many <= few


def test_other_numbers_in_a_tuple_compile_nothing_anew():
    def attempt(*betas):
        optimizers = {"it": mj.OptimizerConfig("aggmo", learning_rate=0.02, betas=betas)}
        return mj.train(small(optimizers=optimizers), task=task)

    task = quadratic_task()
    attempt(0.0, 0.9)
    assert compilations(lambda: attempt(0.1, 0.8)) == 0
    assert compilations(lambda: attempt(0.1, 0.8, 0.9)) > 0


def test_a_factory_that_branches_on_a_value_is_compiled_with_it():
    def picky(learning_rate):
        return mj.sgd(learning_rate) if learning_rate > 0.05 else mj.momentum(learning_rate)

    task = quadratic_task()
    result = mj.train(small(optimizers={"picky": mj.OptimizerConfig(picky, learning_rate=0.1)}), task=task)
    reference = mj.train(small(optimizers={"sgd": mj.OptimizerConfig("sgd", learning_rate=0.1)}), task=task)
    np.testing.assert_allclose(result.losses["picky"], reference.losses["sgd"], rtol=1e-5)


def test_hyperparameters_that_are_equal_but_not_the_same_have_programs_of_their_own():
    def factory(learning_rate, mode):
        return mj.sgd(learning_rate) if mode is True else mj.sgd(10 * learning_rate)

    both = {str(mode): mj.OptimizerConfig(factory, learning_rate=0.01, mode=mode) for mode in (True, 1)}
    task = quadratic_task()
    result = mj.train(small(optimizers=both), task=task)
    alone = mj.train(small(optimizers={"1": both["1"]}), task=task)
    assert result.losses["1"].tobytes() == alone.losses["1"].tobytes()


def test_loss_and_evaluation_are_traced_a_few_times_however_many_optimizers_there_are():
    calls = {"loss": 0, "evaluate": 0}

    def loss(params, batch):
        calls["loss"] += 1
        return jnp.mean((params - batch) ** 2)

    def evaluate(params, train, test):
        del test
        calls["evaluate"] += 1
        return {"train_loss": jnp.mean((params - train) ** 2)}

    task = mj.Task(init=lambda key: jnp.zeros([]), loss=loss, train=np.zeros(8, np.float32), evaluate=evaluate)
    optimizers = {name: mj.OptimizerConfig(name, learning_rate=0.1) for name in ("sgd", "momentum", "nesterov", "qhm")}
    mj.train(mj.Config(iterations=3, batch_size=4, optimizers=optimizers), task=task)
    # Where it is checked and where runs are laid over devices, alone and with its gradient.
    assert calls["loss"] <= 4
    assert calls["evaluate"] <= 2


def test_compiling_counts_the_size_of_programs_and_not_their_number():
    def large(x):
        for _ in range(40):
            x = jnp.sin(x) * x
        return x

    one, told = (jax.ShapeDtypeStruct([3], np.float32),), []
    functions = {"small": (jax.jit(lambda x: x + 1), one), "large": (jax.jit(large), one)}
    programs._compile_all(functions, lambda *call: told.append(call))
    small, both = told[1][2] // 2, told[-1][2]
    # After the first is traced, the other counts as much.
    assert both > 5 * small > 0
    assert told[0] == ("compiling", 0, 1)
    assert told[-1] == ("compiling", both, both)
