"""The values of runs, from results made by hand."""

import math

import numpy as np

from momentum_jax.comparison.arms import arm_of
from tests.comparison.by_hand import result_of


def test_a_failed_run_has_the_worst_value_of_every_metric():
    values = arm_of(result_of(failed=[1]), "a", None).values
    assert values["test_loss"].tolist() == [0.5, np.inf]
    assert values["test_accuracy"].tolist() == [0.75, -np.inf]
    assert values["mean_loss"].tolist() == [1, np.inf]
    assert values["failed"].tolist() == [0, 1]
    assert math.isinf(arm_of(result_of(loss=np.inf), "a", None).values["mean_loss"][0])
