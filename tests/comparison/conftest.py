"""What tests of comparisons share: a config of a few small runs."""

import pytest

import momentum_jax as mj
from tests.comparison.small import OPTIMIZERS, SEEDS


@pytest.fixture(scope="session")
def cfg(idx):
    return mj.Config(
        dataset=str(idx), hidden_sizes=(5,), iterations=20, batch_size=8, seeds=SEEDS, optimizers=OPTIMIZERS
    )
