"""What the study of the edge of stochastic stability measures, and what it makes of that."""

import types

import edge_of_stochastic_stability as study
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.analysis import noise, theory

DESIGN = study.Design(sizes=(2, 8), iterations=40, seeds=3, width=1, every=2)
DESCENT, BALL, NESTEROV = study.OPTIMIZERS


@pytest.mark.parametrize("label", study.OPTIMIZERS)
def test_the_limits_are_those_of_the_closed_forms_and_of_the_spectral_radius(label, float64):
    optimizer = study.OPTIMIZERS[label]
    rate, beta = optimizer.hyperparameters["learning_rate"], optimizer.hyperparameters["momentum"]
    nesterov = label == NESTEROV
    stable = theory.nesterov_stability_limit if nesterov else theory.heavy_ball_stability_limit
    quiet = study.limits(optimizer, 0.0)
    # Roundings of float64.
    assert quiet[study.UPPER] == pytest.approx(float(stable(beta)) / rate, rel=1e-12)
    assert quiet[study.MEAN_SQUARE] == quiet[study.UPPER]
    # What is left of the other term is of the order of the inverse of s/λ².
    noisy = study.limits(optimizer, 1e6)
    assert noisy[study.MEAN_SQUARE] == pytest.approx(noisy[study.LOWER], rel=1e-4)
    # Curvatures λ ± √s are on the edge where E[λ_t²]/λ is the limit.
    relative = 0.7
    mean = study.limits(optimizer, relative)[study.MEAN_SQUARE] / (1 + relative)
    curvatures = mean * (1 + np.sqrt(relative) * np.array([-1.0, 1.0]))
    radius = noise.mean_square_rate(rate, beta, jnp.asarray(curvatures)[:, None, None], nesterov=nesterov)
    assert float(radius) == pytest.approx(1, abs=1e-9)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
def test_what_is_measured_on_parabolas_is_their_curvature():
    curvatures = np.array([1, 3, 1, 3, 1, 3, 1, 3], np.float32)
    task = mj.Task(
        init=lambda key: 1 + jax.random.uniform(key, []),
        loss=lambda w, rows: jnp.mean(rows) * w**2 / 2,
        train=curvatures,
    )
    for label, of in study.train(task, DESIGN, 8).items():
        # In a batch of all examples there is no noise. Float32 adds some roundings.
        np.testing.assert_allclose(of.batch_sharpness, np.full((3, 20), 2.0), rtol=1e-6, err_msg=label)
        np.testing.assert_allclose(of.curvature, np.full((3, 4), 2.0), rtol=1e-6, err_msg=label)
        np.testing.assert_allclose(of.variance, np.full((3, 4), 1.0), rtol=1e-6, err_msg=label)
        assert of.failed == 0


def result_of(failed):
    """What a training has recorded of three runs: the number of the run, but NaN where it was not measured."""
    iterations = np.array([0, 2, 4, 6, 8, 10, 11])
    runs = np.tile(np.arange(3.0)[:, None], len(iterations))
    runs[:, -1] = np.nan
    examples = np.full((3, len(iterations), 2), np.nan)
    examples[:, :: study.RARER] = 7.0
    return types.SimpleNamespace(
        iterations=iterations,
        failed=dict.fromkeys(study.OPTIMIZERS, np.array(failed)),
        metrics={
            "batches": dict.fromkeys(study.OPTIMIZERS, runs),
            "examples": dict.fromkeys(study.OPTIMIZERS, examples),
        },
        losses_before=dict.fromkeys(study.OPTIMIZERS, runs),
    )


def test_runs_that_failed_are_counted_and_not_measured():
    measured = study.measure(result_of([False, True, False]), DESIGN)[BALL]
    assert measured.failed == 1
    np.testing.assert_array_equal(measured.batch_sharpness, np.tile([[0.0], [2.0]], 6))
    np.testing.assert_array_equal(measured.variance, np.full((2, 2), 7.0))
    with pytest.raises(ValueError, match="all runs of gradient descent failed"):
        study.measure(result_of([True, True, True]), DESIGN)


def measured(of_batches, curvature):
    """Three quarters of the iterations at 1, then what settles."""
    steps = np.repeat([1.0, 1.0, 1.0, 0.0], 5)[None]
    last = 1 - steps
    few = np.array([[1.0, 1.0, 1.0, curvature]])
    batches = np.repeat(steps + of_batches * last, 3, axis=0)
    return study.Measured(batches, few, 0.5 * few**2, batches, 0)


def test_what_settles_is_batch_sharpness_in_the_last_quarter_and_with_all_images_the_sharpness():
    optimizer = study.OPTIMIZERS[BALL]
    few, full = (study.summary(optimizer, measured(5.0, 60.0), size, 8) for size in (2, 8))
    assert (few["settles at"], few["a quarter earlier"], few["sharpness"]) == (5, 1, 60)
    assert (full["settles at"], full["batch sharpness"]["median"]) == (60, 5)
    # Of batches of 2 of the 8, a relative variance of ½ is ½/2·6/7; of all 8 it is 0.
    assert few["limits"] == pytest.approx(study.limits(optimizer, 0.25 * 6 / 7), rel=1e-3)
    assert full["limits"][study.MEAN_SQUARE] == full["limits"][study.UPPER]


def numbers_of(lowest, highest):
    """So many times the lower limit with batches of 2, and so many times the upper with all images."""
    found = {}
    for size, name, times in ((2, study.LOWER, lowest), (8, study.UPPER, highest)):
        found[size] = {}
        for label, optimizer in study.OPTIMIZERS.items():
            level = times * study.limits(optimizer, 0.0)[name]
            found[size][label] = measured(level, level)
    return study.summarize(DESIGN, found)


@pytest.mark.parametrize(("lowest", "highest", "places"), [(1.1, 0.9, ("at", "at")), (1.3, 1.0, ("not at", "at"))])
def test_the_answer_says_which_batches_settle_at_a_limit_and_how_far_off_the_others_are(lowest, highest, places):
    numbers = numbers_of(lowest, highest)
    finding = study.find(numbers)
    small, full = (
        f"{place} ({times:.2g}, {times:.2g} and {times:.2g} times)"
        for place, times in zip(places, (lowest, highest), strict=True)
    )
    assert finding.startswith(f"Full batches settle {full} the upper limit, ")
    assert f", and batches of 2 {small} the lower one, " in finding
    # The heavy ball's upper limit is 19 times its lower one.
    assert f"{lowest:.2g} and {19 * highest:.2g} times the lower limit" in finding


def test_the_typical_miss_is_a_root_mean_square_of_logarithms():
    # √((0² + 2²)/2) = √2.
    assert study.miss(np.array([1.0, np.exp(2.0)])) == pytest.approx(np.exp(np.sqrt(2)))
