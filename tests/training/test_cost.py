"""What one iteration costs: which programs are timed, and how often."""

import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.space import Trial
from momentum_jax.training import cost

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def evaluate(params, train, test):
    raise AssertionError("evaluated")


def test_each_program_is_timed_in_every_round_and_nothing_is_evaluated(monkeypatch):
    task = mj.Task(
        init=lambda key: jnp.zeros(2),
        loss=lambda params, batch: jnp.mean((params[None] - batch) ** 2),
        train=np.arange(24, dtype=np.float32).reshape(12, 2) / 24,
        evaluate=evaluate,
    )
    slow, fast = (mj.OptimizerConfig("sgd", learning_rate=rate) for rate in (0.1, 0.2))
    momentum = mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=0.9)
    trials = {"sgd": [Trial(slow, 4), Trial(fast, 4), Trial(slow, 2)], "momentum": [Trial(momentum, 4)]}
    cfg = mj.Config(iterations=500, batch_size=4, seeds=(7, 8), optimizers={"sgd": slow, "momentum": momentum})
    trained, train = [], cost.train

    def train_and_count(config, **options):
        ((label, _),) = config.optimizers.items()
        trained.append((label, config.batch_size, config.seeds, config.iterations))
        result = train(config, **options)
        result.provenance["seconds"]["training"] = 300.0 * len(trained)
        return result

    shown = []
    monkeypatch.setattr(cost, "train", train_and_count)
    seconds = cost.measure_steps(cfg, trials, task, lambda *step, whole: shown.append((*step, whole)))
    # Two learning rates share a program. The first of six rounds, of three programs each, is not counted.
    assert trained == 6 * [("sgd", 4, (7,), 300), ("sgd", 2, (7,), 300), ("momentum", 4, (7,), 300)]
    assert seconds == {
        "sgd": [[4, 7, 10, 13, 16], [4, 7, 10, 13, 16], [5, 8, 11, 14, 17]],
        "momentum": [[6, 9, 12, 15, 18]],
    }
    assert shown == [("timing", number, 6, "", number / 6) for number in range(6)]
