"""`compare_tasks`: what it gives to `compare`, what it keeps, and what it refuses."""

import dataclasses

import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.analysis import simultaneous_level
from momentum_jax.comparison.across_tasks import folder_of
from tests.comparison.small import OPTIMIZERS

TEXTS = ["least_squares,dimensions=4", "least_squares,dimensions=3,mu=0.1"]
CFG = mj.Config(iterations=40, batch_size=8, seeds=9)
OPTIONS = {"rerun_seeds": 0, "trials": 2, "tuning_seeds": 2, "space": {"learning_rate": mj.LogUniform(0.01, 0.5)}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tasks") / "t"


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
def test_every_task_is_compared_in_a_folder_of_its_own_and_the_same_call_trains_nothing(folder, monkeypatch):
    seconds = lambda cfg, trials, *_: {label: [[0.001] * 5] * len(own) for label, own in trials.items()}  # noqa: E731
    monkeypatch.setattr("momentum_jax.comparison.procedure.measure_steps", seconds)
    compared = mj.compare_tasks(TEXTS, OPTIMIZERS, cfg=CFG, folder=folder, **OPTIONS)
    assert list(compared.comparisons) == TEXTS
    for name, own in compared.comparisons.items():
        loaded = mj.Comparison.load(folder / folder_of(name))
        assert loaded.verdicts == own.verdicts
        assert own.plan["level"] == simultaneous_level(0.95, 2)
        # All tuning runs of the first optimizer's best trial reach the target in three quarters of the iterations.
        losses = own.tuning.train_loss["sgd"]
        best = own.tuning.losses_before["sgd"][np.argmin(np.median(losses, axis=1))]
        assert (best[:, :30].min(axis=1) <= own.target * 1.5).all()
    assert "targets rest on 2 tuning runs of sgd" in compared.notes[0]
    monkeypatch.setattr("momentum_jax.sweeps.workers.train_batches", lambda *_: pytest.fail("trained again"))
    again = mj.compare_tasks(
        {"x": mj.Config(task=TEXTS[0], iterations=40, batch_size=8)},
        OPTIMIZERS,
        cfg=CFG,
        **OPTIONS,
        folder=rename(folder),
    )
    np.testing.assert_array_equal(again.profiles["tuned"].times, compared.profiles["tuned"].times[:, :1])


def rename(folder):
    """The folder, with that of the first task under the name of another."""
    (folder / folder_of(TEXTS[0])).rename(folder / "x")
    return folder


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("mlp", OPTIMIZERS), {}, "tasks must map names to tasks, or list texts"),
        (([], OPTIMIZERS), {}, "tasks must hold at least one task"),
        (({"a": 1}, OPTIMIZERS), {}, "task 'a' must be a text, a Config, a Task or a HostTask, not 1"),
        (({"a b": "mlp", "a-b": "mlp"}, OPTIMIZERS), {}, "'a b' and 'a-b' would have the same folder, 'a-b'"),
        (({" ": "mlp"}, OPTIMIZERS), {}, "a task's name must be printable text"),
        ((["convent"], OPTIMIZERS), {}, "did you mean 'convnet'"),
        ((["mlp"], OPTIMIZERS), {"target": 0.1}, "target is taken from the tuning on each task"),
        ((["mlp"], OPTIMIZERS), {"trails": 3}, "did you mean 'trials'"),
        ((["mlp"], OPTIMIZERS), {"judge_by": ["test_loss"]}, "judge_by must hold 'iterations_to_target'"),
        ((["mlp"], OPTIMIZERS), {"level": 1.0}, "level"),
        ((["mlp"], OPTIMIZERS), {"cfg": 3}, "cfg must be a Config, not 3"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_trained(arguments, options, message):
    with pytest.raises(mj.InputError, match=message.replace("(", r"\(")):
        mj.compare_tasks(*arguments, **options)


def test_a_folder_of_a_comparison_on_one_task_is_refused(tmp_path):
    (tmp_path / "comparison.json").write_text("{}")
    with pytest.raises(mj.InputError, match="holds a comparison on one task"):
        mj.compare_tasks(["mlp"], OPTIMIZERS, cfg=dataclasses.replace(CFG), folder=tmp_path)
