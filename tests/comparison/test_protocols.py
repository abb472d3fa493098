"""One learning rate for all optimizers, and the one that is refused."""

import pytest

import momentum_jax as mj
from momentum_jax.comparison.protocols import at_learning_rate


def test_one_learning_rate_for_all_leaves_the_rest_and_refuses_an_optimizer_without_one():
    nesterov = mj.OptimizerConfig("nesterov", learning_rate=0.25, momentum=0.75)
    optimizers = {"a": mj.OptimizerConfig("sgd", learning_rate=0.25), "b": nesterov}
    assert at_learning_rate(optimizers, 0.5) == {
        "a": mj.OptimizerConfig("sgd", learning_rate=0.5),
        "b": mj.OptimizerConfig("nesterov", learning_rate=0.5, momentum=0.75),
    }
    with pytest.raises(mj.InputError, match="'c' has no hyperparameter learning_rate"):
        at_learning_rate({"c": mj.OptimizerConfig("optax.set_to_zero")}, 0.5)
