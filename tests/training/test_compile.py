"""What is compiled, and how often."""

import dataclasses

import numpy as np
import pytest

import momentum_jax as mj
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
