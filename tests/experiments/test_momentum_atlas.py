"""What the study of the momentum atlas tunes, draws and finds."""

import itertools
import types

import jax
import jax.numpy as jnp
import momentum_atlas as study
import numpy as np
import optax
import pytest

import momentum_jax as mj
from momentum_jax.optimizers import registry
from momentum_jax.space import Uniform


def steps(optimizer, gradients):
    """The positions from 0, with noisy gradients of a parabola."""
    with jax.enable_x64(True):
        p, positions = jnp.zeros(2, jnp.float64), []
        state = optimizer.init(p)
        for noise in gradients:
            updates, state = optimizer.update(p + noise, state, p)
            p = optax.apply_updates(p, updates)
            positions.append(p)
    return np.array(positions)


NOISE = np.random.default_rng(0).normal(size=(10, 2))


def test_mass_is_that_of_its_authors_code():
    eta, alpha, kappa = 0.1, 0.05, 12.0
    # The two sequences of the code: gradient descent from u, and an average with the longer step η/(α·κ).
    u, v, expected = np.zeros(2), np.zeros(2), []
    for noise in NOISE:
        g = u + noise
        w = u - eta * g
        v = (1 - alpha) * v + alpha * u - eta / (alpha * kappa) * g
        u = (w + alpha * v) / (1 + alpha)
        expected.append(u)
    # Rounding of 10 steps in float64.
    np.testing.assert_allclose(steps(study.mass(eta, alpha, kappa), NOISE), expected, rtol=1e-12)


@pytest.mark.parametrize("label", study.METHODS)
def test_a_method_is_trained_as_the_qhm_that_it_is(label):
    own = study.METHODS[label].optimizer
    trained, named = (steps(registry.factory(of.name)(**of.hyperparameters), NOISE) for of in (study.as_qhm(own), own))
    np.testing.assert_allclose(trained, named, rtol=1e-12)


@pytest.mark.parametrize("label", study.METHODS)
def test_every_corner_of_a_space_is_a_qhm_and_the_default_lies_within(label):
    name, space = study.METHODS[label].optimizer.name, study.METHODS[label].space
    ends = {key: (of.low, of.high) if isinstance(of, Uniform) else of for key, of in space.items()}
    for corner in itertools.product(*ends.values()):
        # What is none is refused by `convert`.
        beta, nu = study.constants(mj.OptimizerConfig(name, **dict(zip(ends, corner, strict=True))))
        assert 0 <= beta < 1
        assert 0 <= nu <= 1
    for key, default in study.METHODS[label].optimizer.items:
        assert min(ends[key]) <= default <= max(ends[key]), key


def test_the_losses_are_those_at_the_end_and_those_of_failed_runs_are_infinite(monkeypatch):
    def sweep(cfg, space, **_):
        assert {of.name for of in cfg.optimizers.values()} == {"qhm"}
        assert space == {}
        ends = {label: np.array([[[9.0, 1.0], [9.0, 2.0]]]) for label in cfg.optimizers}
        return types.SimpleNamespace(
            evaluations={"train_loss": ends}, failed={label: np.array([[False, label == "MaSS"]]) for label in ends}
        )

    monkeypatch.setattr(mj, "sweep", sweep)
    train = study.trainer(study.FAST, None, 64, None)
    losses = train("judged", {label: study.METHODS[label].optimizer for label in ("MARS", "MaSS")}, (3, 4))
    assert {label: of.tolist() for label, of in losses.items()} == {"MARS": [1.0, 2.0], "MaSS": [1.0, np.inf]}


def test_a_tuning_takes_the_least_median_and_other_seeds_judge_it_and_the_best_of_all():
    design = study.FAST._replace(tunings=3, trials=4, tuning_seeds=3, seeds=2, last_seeds=4)
    trained = []

    def train(name, optimizers, seeds):
        """Each run ends with its learning rate, and with the first seed of all fails."""
        rates = {label: of.hyperparameters["learning_rate"] for label, of in optimizers.items()}
        trained.append((name, tuple(seeds), rates))
        return {label: np.array([np.inf if seed == 0 else rate for seed in seeds]) for label, rate in rates.items()}

    found = study.tune_all(design, train)
    names, seeds, rates = zip(*trained, strict=True)
    assert names == ("tuning-0", "judged-0", "tuning-1", "judged-1", "tuning-2", "judged-2", "best")
    assert seeds == ((2, 3, 4), (0, 1), (7, 8, 9), (5, 6), (12, 13, 14), (10, 11), (15, 16, 17, 18))
    least = [min(rates[2 * number][f"MARS {i}"] for i in range(4)) for number in range(3)]
    assert [tuning["MARS"].optimizer.hyperparameters["learning_rate"] for tuning in found.tunings] == least
    # One of two seeds failed.
    assert [tuning["MARS"].loss for tuning in found.tunings] == [np.inf, *least[1:]]
    assert found.best["MARS"].tolist() == [min(least[1:])] * 4


def numbers_of(factors, best=None, tunings=15):
    """Losses with batches of 512 so many times as high as QHM's, in the tunings and at the best of all; of 8 the same.

    Tunings differ, and so do seeds.
    """

    def times(size, label, all_factors):
        return (all_factors or {}).get(label, 1.0) if size == 512 else 1.0

    found = {
        size: study.Found(
            [
                {
                    label: study.Tuned(of.optimizer, 1.5 ** (number % 2) * times(size, label, factors))
                    for label, of in study.METHODS.items()
                }
                for number in range(tunings)
            ],
            {label: np.arange(1, 61) * times(size, label, best) for label in study.METHODS},
        )
        for size in (8, 512)
    }
    return study.summarize(study.FULL._replace(sizes={8: 60, 512: 30}, tunings=tunings), found)


def test_where_no_method_is_below_qhm_the_finding_says_how_much_may_have_been_missed():
    found = study.find(numbers_of({"MARS": 1.25}, {"SGD": 2.0, "MaSS": 1.1}))
    assert found.startswith(
        "No: at 240 trials each, 0 of the 7 methods end at some batch size with a lower training loss than QHM, "
        "0 with a lower one than the heavy ball, and 7 with a lower one than SGD. That gains vanish once all "
        "methods are tuned alike is borne out against QHM and the heavy ball, and not against SGD. The intervals leave "
        "room for a gain over QHM of at most 0.0 %"
    )
    assert (
        "Of 14 comparisons with a baseline they win none and lose 1 (MaSS with batches of 512) against QHM, " in found
    )
    assert "win 7 (all with batches of 512) and lose none against SGD." in found
    assert "At 16 trials each they win none and lose 1 (MARS with batches of 512) against QHM." in found
    # Of 105 pairs of tunings 56 differ, by a half.
    assert "two tunings of one method differ by 50.0 % (median)." in found


def test_a_method_below_qhm_at_the_larger_budget_speaks_against_the_claim():
    found = study.find(numbers_of({}, {"MARS": 0.8, "MaSS": 0.9}))
    assert found.startswith("In part: at 240 trials each, 2 of the 7 methods")
    assert "is not borne out. The intervals leave room for a gain over QHM of at most 20.0 % (MARS with" in found
    assert "they win 2 (MaSS and MARS with batches of 512) and lose none against QHM" in found
    # At the smaller budget alone it may be by where the search is led.
    found = study.find(numbers_of({"MARS": 0.8}))
    assert found.startswith("No: ")
    assert "tuned alike is borne out. " in found
    assert "At 16 trials each they win 1 (MARS with batches of 512) and lose none against QHM" in found
    assert "They leave room for a gain over QHM of at most 20.0 % (MARS with batches of 512)" in found


def test_a_method_that_is_below_qhm_with_some_seeds_only_wins_and_loses_nothing():
    numbers = numbers_of({})
    alternating = 0.8 * np.arange(1, 61) * 1.5 ** (np.arange(60) % 2)
    numbers["batches"]["512"]["MARS"][study.ALL] = alternating.tolist()
    found = study.find(numbers)
    assert found.startswith("No: at 240 trials each, 0 of")
    assert "they win none and lose none against QHM" in found
    assert "a gain over QHM of at most 20.0 % (MARS with batches of 512)" in found


def test_with_too_few_tunings_nothing_is_won():
    # The tail of 0.05/42 takes 11.
    assert "At 16 trials each they win none" in study.find(numbers_of({"MARS": 0.5, "SGD": 3.0}, tunings=10))
    assert "At 16 trials each they win 1 (MARS" in study.find(numbers_of({"MARS": 0.5}, tunings=11))


def test_a_rate_is_at_an_edge_in_the_outer_twentieth_of_its_range():
    def at_an_edge(rate):
        return study.at_an_edge("SGD", mj.OptimizerConfig("sgd", learning_rate=rate))

    # Three decades from 0.03 on, and a twentieth of them is a factor of 1.41.
    assert [at_an_edge(rate) for rate in (0.042, 0.0425, 21.2, 21.3)] == [True, False, False, True]
