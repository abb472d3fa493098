"""What a tuning is asked for, what is refused, and which spaces contain others."""

import dataclasses
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.analysis import best_of_another_search
from momentum_jax.comparison import procedure, tuning
from momentum_jax.optimizers.effective import effective_learning_rate_of
from momentum_jax.tasks import image_classification
from tests.comparison.small import SPACE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["sgd", "momentun"]}, "did you mean 'momentum'"),
        ({"labels": ["sgd"]}, "two or more optimizers, not only 'sgd'"),
        ({"judge_by": ["test_accurac"]}, "metric to judge by: unknown 'test_accurac'; did you mean 'test_accuracy'"),
        ({"judge_by": "test_loss"}, "judge_by must be one or more metrics"),
        ({"tune_by": "test_los"}, "metric to tune by: unknown 'test_los'; did you mean 'test_loss'"),
        ({"tune_by": "test_loss", "validation": 0}, "metric to tune by: unknown 'test_loss'"),
        ({"tuning_seeds": [8, 3]}, "3 is both"),
        ({"tuning_seeds": 0}, "tuning_seeds must be an integer of at least 1"),
        ({"validation": 300}, "validation must be an integer of at least 0 and at most 299"),
        ({"target": float("inf")}, "target must be"),
        ({"margin": -1.0}, "margin must be"),
        ({"level": 95}, "level must be in \\[0.5, 1\\)"),
        (
            {"space": {"learning_rate": [0.1, 0.2], "momentum": {"momentum": [0.5, 0.9]}}, "search": "grid"},
            "the same number of trials, and the space gives sgd 2, momentum 4",
        ),
        ({"space": {"sgd": {"learning_rate": [0.1]}}, "search": "grid", "trials": 2}, "here 2, and the space gives"),
        ({"space": {"momentum": {"momentum": mj.Uniform(0, 0.9)}}}, "the space gives sgd 1, momentum 16"),
        ({"effective_learning_rate": 0.0}, "effective_learning_rate must be"),
        ({"learning_rate": "fast"}, "learning_rate must be finite and at least 0, not 'fast'"),
        ({"learning_rate": True}, "learning_rate must be"),
        ({"learning_rate": (0.1, 0.2)}, "learning_rate must be"),
        (
            {"judge_by": ["iterations_to_target"], "rerun_seeds": 9},
            "iterations_to_target needs a target, or 10 rerun seeds .* not 9",
        ),
        ({"rerun_seeds": [9, 3]}, "rerun_seeds must be none of the seeds to judge with, .* 3 is both"),
        ({"tuning_seeds": [9], "rerun_seeds": [9]}, "rerun_seeds must be none of the seeds to tune with, .* 9 is both"),
        ({"rerun_seeds": -1}, "rerun_seeds must be an integer of at least 0"),
        ({"rerun_trials": 0}, "rerun_trials must be an integer of at least 1"),
        (
            {"judge_by": ["test_loss"], "target": 0.5},
            "target 0.5 is used by none of the metrics in judge_by, test_loss",
        ),
        ({"space": {"learning_rate": [0.1]}, "search": "grid", "search_seed": 1}, "search_seed 1 is for"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_refused_before_anything_is_trained(cfg, changes, message, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr(procedure, "run_sweep", refuse)
    options = {"space": SPACE, "labels": [], **changes}
    with pytest.raises(mj.InputError, match=message):
        mj.compare(cfg, *options.pop("labels"), **options)


def test_a_warning_says_how_many_seeds_a_verdict_needs_before_anything_is_trained(cfg, monkeypatch):
    def train(*_, **__):
        raise RuntimeError("trained")

    monkeypatch.setattr(procedure, "run_sweep", train)
    few = dataclasses.replace(cfg, seeds=6)
    trained = pytest.raises(RuntimeError, match="trained")
    with pytest.warns(UserWarning, match="^verdicts need 7 seeds, not 6, for 3 pairs"), trained:
        mj.compare(few, space=SPACE)
    # Seven are enough for two optimizers, and not for three.
    warnings.simplefilter("error")
    with trained:
        mj.compare(cfg, space=SPACE)
    three = dataclasses.replace(cfg, optimizers=cfg.optimizers | {"other": cfg.optimizers["sgd"]})
    # The spaces of two are the same, so that in a fourth protocol each has its own trials only.
    with pytest.warns(UserWarning, match="^verdicts need 9 seeds, not 7, for 12 pairs"), trained:
        mj.compare(three, space=SPACE)


def test_what_would_fail_after_the_tuning_is_refused_before_it_and_leaves_no_folder(cfg, tmp_path):
    for changes in (
        {"learning_rate": -0.1},
        {"space": {"momentum": {"momentum": [0.5, 1.5]}, "sgd": {"learning_rate": [0.1, 0.2]}}, "search": "grid"},
    ):
        with pytest.raises(mj.InputError, match=r"learning_rate|momentum"):
            mj.compare(cfg, **{"space": SPACE, **changes}, folder=tmp_path / "c")
        assert not (tmp_path / "c").exists()


RENAMED = {"learning_rate": "effective_learning_rate"}


@pytest.mark.parametrize(
    ("outer", "inner", "contains"),
    [
        ({"momentum": mj.Uniform(0, 0.9)}, {}, True),
        ({"momentum": [0.0, 0.5]}, {}, True),
        ({"momentum": mj.Uniform(0.1, 0.9)}, {}, False),
        ({"momentum": mj.Uniform(0, 0.9), "learning_rate": mj.LogUniform(0.01, 0.5)}, {}, False),
        ({"momentum": mj.Uniform(0, 0.9)}, {"learning_rate": [0.02, 1.0]}, True),
        ({"momentum": [0.0], "learning_rate": [0.1, 0.2]}, {"learning_rate": [0.1]}, True),
        ({"momentum": [0.0], "learning_rate": [0.1, 0.2]}, {}, False),
    ],
    ids=str,
)
def test_a_space_contains_another_if_all_that_it_allows_is_in_it(cfg, outer, inner, contains):
    rates = {"learning_rate": mj.LogUniform(0.01, 1.0)}
    axes = {"momentum": rates | outer, "sgd": rates | inner}
    assert tuning.contains(cfg, axes, "momentum", "sgd") is contains
    assert tuning.contains(cfg, axes, "sgd", "momentum") is False
    # The effective learning rate of plain SGD is its learning rate, and momentum 0 is plain SGD.
    effective = {
        label: {RENAMED.get(name, name): own for name, own in of_label.items()} for label, of_label in axes.items()
    }
    for mixed in (effective, {**axes, "momentum": effective["momentum"]}, {**axes, "sgd": effective["sgd"]}):
        assert tuning.contains(cfg, mixed, "momentum", "sgd") is contains
        assert tuning.contains(cfg, mixed, "sgd", "momentum") is False


def test_what_only_the_outer_space_has_must_be_able_to_do_nothing(cfg):
    rates = {"learning_rate": [0.1]}
    momentum = {"momentum": rates | {"momentum": [0.0, 0.9]}, "sgd": rates}
    assert tuning.contains(cfg, momentum, "momentum", "sgd")
    decay = momentum | {"momentum": momentum["momentum"] | {"weight_decay": [0.1]}}
    assert not tuning.contains(cfg, decay, "momentum", "sgd")
    inside = momentum | {"momentum": momentum["momentum"] | {"learning_rate.peak_value": [0.1]}}
    assert not tuning.contains(cfg, inside, "momentum", "sgd")
    sizes = {size: momentum | {"momentum": momentum["momentum"] | {"batch_size": [size, 9]}} for size in (8, 16)}
    assert [tuning.contains(cfg, axes, "momentum", "sgd") for axes in sizes.values()] == [True, False]


def test_by_default_the_effective_learning_rate_and_the_momentum_vary_and_elsewhere_the_learning_rate():
    optimizers = {
        "sgd": mj.OptimizerConfig("sgd", learning_rate=0.1),
        "nesterov": mj.OptimizerConfig("nesterov", learning_rate=mj.Schedule("constant", value=0.1)),
        "aggmo": mj.OptimizerConfig("aggmo", learning_rate=0.1),
        "adam": mj.OptimizerConfig("optax.adam", learning_rate=0.1),
        "none": mj.OptimizerConfig("optax.set_to_zero"),
    }
    effective = {"effective_learning_rate": mj.LogUniform(1e-3, 10)}
    assert tuning.default_space(optimizers) == {
        "sgd": effective,
        "nesterov": effective | {"momentum": mj.ReverseLogUniform(0, 0.99)},
        "aggmo": effective,
        "adam": {"learning_rate": mj.LogUniform(1e-3, 1)},
        "none": {},
    }
    del optimizers["none"]
    search = tuning.plan_search(mj.Config(optimizers=optimizers), None, "sobol", None, 0, 3, 3, 10)
    assert search.contained == [["nesterov", "sgd"]]
    assert {len(own) for own in search.trials.values()} == {16}


def test_a_search_by_sobols_points_varies_no_more_than_the_limit_says():
    # Trials of a bowl along the effective learning rate, and a little along the momentum, with 40 seeds of the search.
    cfg = mj.Config(optimizers={"momentum": mj.OptimizerConfig("momentum", learning_rate=0.1)})
    medians = []
    for seed in range(40):
        (trials,) = tuning.plan_search(cfg, None, "sobol", None, seed, 3, 3, 10).trials.values()
        rates = [effective_learning_rate_of("", trial.optimizer) for trial in trials]
        momenta = [trial.optimizer.hyperparameters["momentum"] for trial in trials]
        medians.append((np.log10(rates) + 0.5) ** 2 + 0.1 * (np.log10(1 - np.asarray(momenta)) + 1) ** 2)
    best = np.array([own.min() for own in medians])
    limits = np.array([best_of_another_search(own, 0.95) for own in medians])
    # 40·39 pairs of searches.
    assert (best[None] > limits[:, None]).sum() <= 0.05 * 40 * 39


def test_the_held_out_examples_of_a_task_are_those_of_its_dataset_and_all_others_are_trained_on(cfg):
    dataset = mj.load_dataset(cfg.dataset)
    split, of_dataset = image_classification(dataset).split_validation(50, 1), dataset.split_validation(50, 1)
    for ours, theirs in zip(
        (*split.train, *split.test),
        (of_dataset.x_train, of_dataset.y_train, of_dataset.x_test, of_dataset.y_test),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_task_that_evaluates_no_loss_on_held_out_examples_may_be_trained_in_full_batches():
    task = mj.Task(
        init=lambda key: jnp.zeros([]),
        loss=lambda params, batch: jnp.mean((params - batch) ** 2),
        train=np.linspace(0, 1, 64, dtype=np.float32),
        evaluate=lambda params, train, test: {"train_loss": jnp.mean((params - train) ** 2)},
    )
    cfg = mj.Config(batch_size=64, sampling="epochs")
    plan = tuning.plan_tuning(cfg, task, tuning.plan_search(cfg, SPACE, "random", 2, 0, 1, 1, 0), None, None)
    assert (plan.task, plan.values["validation"]) == (task, 0)
