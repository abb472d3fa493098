"""What the studies of saddles, of local minima and of the law of batch sizes measure, and the check of the search."""

import dataclasses
import math

import batch_size_law
import jax
import jax.numpy as jnp
import local_minima
import numpy as np
import pytest
import saddle_escape
import search_sanity

import momentum_jax as mj
from momentum_jax.analysis import noise, theory
from momentum_jax.tasks.landscapes import make_landscape
from tests.report.judged import LABELS, comparison_of

# THEORY's rates and iterations to a thousandfold at c = 0.1 and β = 0.9, way by way.
GROWTH = [(1.1, 73), (1.3162, 27), (1.3644, 24), (1.0647, 115), (1.0674, 110)]


@pytest.mark.parametrize("name", saddle_escape.WAYS)
def test_a_way_down_from_a_saddle_is_its_optimizers(name):
    with jax.enable_x64(True):
        found = saddle_escape.grow(saddle_escape.WAYS[name], np.array([0.1]), np.array([0.9]), 120)
    # As many digits as are printed.
    rate, steps = dict(zip(saddle_escape.WAYS, GROWTH, strict=True))[name]
    assert found.closed_rate[0, 0] == pytest.approx(rate, abs=5e-5)
    # The other root has shrunk by (0.9/1.06)¹²⁰ of this one.
    assert found.rate[0, 0] == pytest.approx(found.closed_rate[0, 0], rel=1e-7)
    assert found.steps[0, 0] == found.closed_steps[0, 0] == (found.path >= 1000).argmax() == steps


def test_a_path_that_does_not_get_there_is_no_path_of_0_iterations():
    reached = np.array([[False, True, True], [False, False, True]])
    assert saddle_escape.first(reached).tolist() == [1, 2]
    with pytest.raises(ValueError, match="a path did not get so far"):
        saddle_escape.first(np.array([[True], [False]]))


def growing(rates, steps):
    return saddle_escape.Growing(np.array(rates), np.array(rates), np.array(steps), np.array(steps), np.ones(2))


def test_the_pairs_on_a_saddle_are_counted_where_growth_is_faster_and_where_it_is_slower():
    c, beta = np.array([0.005, 0.1]), np.array([0.5, 0.9])
    descent = growing([[1.005, 1.005], [1.1, 1.1]], [[700, 700], [70, 70]])
    # Faster once, slower twice, alike once; c ≤ (1 − β)/10 in the first row.
    ball = growing([[1.01, 1.005], [1.05, 1.06]], [[350, 770], [280, 140]])
    numbers = saddle_escape.measure(c, beta, {saddle_escape.DESCENT: descent, saddle_escape.BALL: ball}, {})
    assert numbers["pairs where it grows faster than gradient descent"] == {
        saddle_escape.DESCENT: 0,
        saddle_escape.BALL: 1,
    }
    assert numbers["pairs where it grows slower"] == {saddle_escape.DESCENT: 0, saddle_escape.BALL: 2}
    assert numbers["most times gradient descent's iterations, its c, its β"] == [4, 0.1, 0.5]
    assert numbers["most times where c ≤ (1 − β)/10"] == 1.1


def test_the_ratio_of_iterations_until_away_is_to_those_of_gradient_descent(monkeypatch):
    ways = {name: saddle_escape.WAYS[name] for name in (saddle_escape.DESCENT, saddle_escape.BALL)}
    monkeypatch.setattr(saddle_escape, "WAYS", ways)
    monkeypatch.setattr(saddle_escape, "LONGEST", 250)
    with jax.enable_x64(True):
        found = saddle_escape.leave(saddle_escape.SADDLES["the saddle"], 20)[1e-3]
    assert found[saddle_escape.DESCENT].ratio[:3] == (1, 1, 1)
    # 1.609 from a thousand paths.
    assert 1.4 < found[saddle_escape.BALL].ratio.value < 1.8


def test_a_path_has_settled_if_all_of_its_last_points_are_near_to_the_same_minimum():
    landscape = make_landscape("double_well")
    deep, shallow = landscape.minima
    away = np.array([0.15, 0.0])
    lasts = [[deep, deep + 0.5 * away], [shallow, shallow], [deep, shallow], [deep, deep + away], [deep, away * np.nan]]
    with jax.enable_x64(True):
        heights = local_minima.settle(np.array([lasts]), landscape)
    # f = (x² − 1)² + 0.3x near ∓1.
    np.testing.assert_allclose(heights, [[-0.3054, 0.2941, np.inf, np.inf, np.inf]], rtol=1e-3)


def test_a_start_moves_to_a_lower_minimum_or_to_a_higher_one_or_to_none_but_for_roundings():
    others = np.array([1.0, 1.0, 1.0, 1.0, np.inf, np.inf])
    moved = local_minima.moved(np.array([1 + 1e-12, 0.5, 2.0, np.inf, np.inf, 1.0]), others)
    assert moved.lower.tolist() == [False, True, False, False, False, True]
    assert moved.higher.tolist() == [False, False, True, True, False, False]
    assert moved.net == 0


def test_momentums_rates_are_as_high_as_sgds_and_as_low_at_the_same_effective_rate():
    assert local_minima.rates(local_minima.WELL, local_minima.PLAIN, 1) == list(range(-30, -7))
    assert local_minima.rates(local_minima.WELL, "momentum 0.9", 10) == [-40, -30, -20, -10]
    assert local_minima.rates(local_minima.RASTRIGIN, "momentum 0.99", 20) == [-60, -40, -20]


def test_the_numbers_of_local_minima_are_those_of_starts_that_are_told_where_to_end():
    count, deep, shallow = 400, -0.30542848374, 0.29414648103
    x, y = local_minima.random_starts(make_landscape("double_well"), count).T
    led = np.where(x > 0.1, shallow, deep)
    reached = {}
    for method in local_minima.METHODS:
        tenths = local_minima.rates(local_minima.WELL, method, 1)
        reached[local_minima.WELL, method] = local_minima.Reached(tenths, np.tile(led, (len(tenths), 1)))
    # SGD loses a start at its highest rate but one. Momentum helps all out of the shallow well at the highest, and in
    # the middle, less high, hinders all; there a rate is also the same effective one of another.
    reached[local_minima.WELL, local_minima.PLAIN].heights[-2, 0] = np.inf
    tenths, heights = reached[local_minima.WELL, "momentum 0.9"]
    heights[tenths.index(-8)] = deep
    heights[tenths.index(-20)] = shallow
    with jax.enable_x64(True):
        numbers = local_minima.measure(reached, count)
    found, freed = numbers["double well, momentum 0.9"], round(float((led > 0).mean()), 4)
    assert (found["rates"], found["lowest rate with an escape"], found["best rate"]) == (33, 0.16, 0.16)
    # (1 − β)² is a hundredth.
    assert found["which over (1 − β)² is"] == 16
    # SGD's best leads where its smallest steps do.
    assert (found["escape there"][0], found["are lost there"][0], found[local_minima.BEST][0]) == (freed, 0, freed)
    # At 0.13 SGD does not settle; 0.01 and 0.1 are the same effective rates of −20 and SGD's −10.
    assert list(found[local_minima.SAME].values()) == [[0.001, 0.16], [0.16], [0.01]]
    assert list(found[local_minima.EFFECTIVE].values()) == [[0.001, 0.16], [], [0.1]]
    none = numbers["double well, momentum 0.99"]
    assert none["lowest rate with an escape"] is none["best rate"] is None
    # The pass is at x = 0.0756.
    height = (x**2 - 1) ** 2 + 0.3 * x + y**2 / 2
    below = (led > 0) & (height < (0.0756**2 - 1) ** 2 + 0.3 * 0.0756)
    caught = numbers["trapped"]
    assert caught["starts"] == below.sum()
    assert [caught[method]["first escape"] for method in local_minima.METHODS] == [None, 0.16, None, None]
    # f″ = 12x² − 4 is largest where f is as high as the pass again, at 1.33477.
    assert caught["largest curvature"] == pytest.approx(12 * 1.33477**2 - 4, abs=0.02)
    assert caught["momentum 0.9"]["none up to"] == pytest.approx(0.19 / 17.38, abs=1e-4)


def test_small_steps_of_sgd_that_do_not_settle_are_no_measure_of_escapes():
    heights = np.array([[0.0, np.inf], [0.0, 0.0]])
    reached = {(local_minima.WELL, local_minima.PLAIN): local_minima.Reached([-30, -29], heights)}
    with pytest.raises(ValueError, match="on double well small steps of SGD do not settle"):
        local_minima.escapes(reached, local_minima.WELL, local_minima.PLAIN)


CURVATURE = 2.1
# Every example is the same parabola, whose limits are those of full batches; no start is in the minimum.
PARABOLA = mj.Task(
    init=lambda key: 1 + jax.random.uniform(key, []),
    loss=lambda w, rows: jnp.mean(rows) * w**2 / 2,
    train=np.full(8, CURVATURE, np.float32),
    baseline_loss=1.0,
)


@pytest.mark.usefixtures("compiled_quickly")
def test_the_largest_workable_rate_of_a_parabola_is_the_largest_of_the_grid_that_is_stable():
    design = batch_size_law.Design(sizes=(4,), iterations=120, seeds=3, images=8, powers=range(-8, 8, 5))
    failures = batch_size_law.search(PARABOLA, design, size=4)
    limits = theory.heavy_ball_stability_limit(0.0), theory.heavy_ball_stability_limit(0.9), 3.8 / 2.8
    for (label, of_label), limit in zip(failures.items(), limits, strict=True):
        power = batch_size_law.largest_workable(of_label, seeds=3)
        assert power == math.floor(math.log(float(limit) / CURVATURE, 1.25)), label
        # The next on the grid was tried, and no seed stood it.
        assert of_label[power + 1].failed == 3
    with pytest.raises(ValueError, match="the highest rate is workable"):
        batch_size_law.search(PARABOLA, design._replace(powers=range(-20, -14, 2)), size=4)


def test_two_of_twenty_seeds_may_fail_at_a_workable_rate():
    failures = {power: batch_size_law.Failures(failed, 0) for power, failed in {-3: 0, 0: 2, 1: 3, 2: 20}.items()}
    assert batch_size_law.largest_workable(failures, seeds=20) == 0
    with pytest.raises(ValueError, match="no rate is workable"):
        batch_size_law.largest_workable({1: failures[1]}, seeds=20)
    # Just below 0.3 the seeds of 0.1 and 0.2 are beyond their limits.
    assert batch_size_law.workable_limit(np.arange(20, 0, -1) / 10) == pytest.approx(0.3)


def law_numbers(times):
    """Predictions of the law, and what is measured so many times as high, by batch size."""
    batches = {}
    for size, factor in times.items():
        of_batch = 25.0 / size
        limits = (
            noise.heavy_ball_mean_square_limit(0.0, 5.0, of_batch),
            noise.heavy_ball_mean_square_limit(0.9, 5.0, of_batch),
            noise.nesterov_mean_square_limit(0.9, 5.0, of_batch),
        )
        rates = dict(zip(batch_size_law.OPTIMIZERS, map(float, limits), strict=True))
        batches[f"{size}"] = {
            "largest workable": {label: factor * rate for label, rate in rates.items()},
            "predicted": dict.fromkeys(batch_size_law.MOMENTS, rates),
            "λ": dict.fromkeys(batch_size_law.MOMENTS, 5.0),
            "σ²": dict.fromkeys(batch_size_law.MOMENTS, 25.0),
            batch_size_law.FAILED: [size, 1],
        }
    return {"iterations": 9, "seeds": 20, "images": 8, "batches": batches}


def test_the_finding_of_the_law_says_how_far_off_it_is_and_where():
    found = batch_size_law.find(law_numbers({1: 1.0, 4096: 3.0}))
    # ln 3 at one of two sizes: ln 3/√2.
    assert found.startswith("No: ")
    assert "with an rms log error of 0.78, a factor of 2.2 (0.78 for gradient descent" in found
    assert "are 1 at 1 and 3 at 4,096" in found
    assert "Of 4,097 runs that failed, 2 came to a loss that is not finite" in found
    # A factor on all methods leaves the gain as it is; at 1 of σ² = λ² it is 1.9 for the heavy ball.
    assert "goes from 1.9 at 1 to 19 at 4,096 (predicted: 1.9 to 19), and is at least 2 from 4,096 on" in found
    assert batch_size_law.find(law_numbers({1: 1.2, 8: 1 / 1.2})).startswith("Yes: ")
    assert batch_size_law.find(law_numbers({1: 1.9, 8: 1.9})).startswith("Roughly: ")


def test_momentum_pays_from_a_batch_size_on_where_it_does_with_all_larger_ones():
    sizes = [1, 4, 16, 64]
    assert batch_size_law.since(sizes, np.array([1.0, 3.0, 1.0, 2.0])) == "from 64 on"
    assert batch_size_law.since(sizes, np.array([2.0, 2.0, 2.0, 2.0])) == "from 1 on"
    assert batch_size_law.since(sizes, np.array([3.0, 3.0, 3.0, 1.9])) == "nowhere"


def test_the_check_of_the_search_counts_losses_to_what_is_contained_and_pairs_of_searches(monkeypatch):
    monkeypatch.setattr(search_sanity, "OPTIMIZERS", dict.fromkeys(LABELS))
    search = comparison_of(20, 16)
    failed = {label: np.ones_like(own) for label, own in search.tuning.failed.items()}
    failing = dataclasses.replace(search, tuning=dataclasses.replace(search.tuning, failed=failed))
    assert search_sanity.limits_kept([search, search]) == dict.fromkeys(LABELS, 1.0)
    # The best of a search that fails is infinite, and so is its limit.
    assert search_sanity.limits_kept([search, failing]) == dict.fromkeys(LABELS, 0.5)
    # The tuned rate is 0.05 for the first and 0.1, which is the best, for the second.
    assert not search_sanity.fires(search, "tuned")
    for pair, fires in ((LABELS, True), (LABELS[::-1], False)):
        contained = dataclasses.replace(search, plan=search.plan | {"contained": [list(pair)]})
        assert [search_sanity.fires(contained, name) for name in ("tuned", "tuned_alone")] == [fires, fires]
