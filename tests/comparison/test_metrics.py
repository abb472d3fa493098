"""Descriptions of metrics, and the summary of runs of which some failed."""

import numpy as np
import pytest

from momentum_jax.comparison.metrics import METRICS, MetricDescription, median_of, metric_of, worst_value


@pytest.mark.parametrize(
    ("metric", "values", "median"),
    [
        ("train_loss", [3, 1, 2], 2),
        ("train_loss", [1, 2, 4, 8], 3),
        ("train_loss", [1, np.inf], np.inf),
        ("train_loss", [np.inf, np.inf], np.inf),
        ("test_accuracy", [0.5, -np.inf], -np.inf),
        ("test_accuracy", [-np.inf, -np.inf, 0.5], -np.inf),
        ("failed", [1, 0, 0, 0], 0.25),
        ("failed", [], np.nan),
        ("train_loss", [], np.nan),
    ],
)
def test_the_median_over_runs_is_infinite_if_half_of_them_failed_and_of_failures_it_is_the_proportion(
    metric, values, median
):
    np.testing.assert_equal(median_of(metric, np.array(values, float)), median)


def test_of_a_metric_that_a_task_evaluates_more_is_better_if_it_is_an_accuracy():
    assert metric_of("test_loss") is METRICS["test_loss"]
    assert metric_of("top_5_accuracy") == MetricDescription("top 5 accuracy", "", less_is_better=False)
    assert metric_of("perplexity") == MetricDescription("perplexity", "", less_is_better=True)
    assert [worst_value(name) for name in ("test_accuracy", "perplexity")] == [-np.inf, np.inf]
