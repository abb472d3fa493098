"""Comparisons against the same work done by hand with `sweep` and `train`."""

import dataclasses
import functools
import shutil

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

import momentum_jax as mj
from momentum_jax._base.progress import no_progress
from momentum_jax.analysis import median_of_trials, smooth_curve
from momentum_jax.comparison import procedure, tuning
from momentum_jax.comparison import result as results
from momentum_jax.comparison.folder import HEAD, JUDGING, RERUNNING, TUNING, read_head, write_head
from momentum_jax.comparison.wording import title_of_tuning
from momentum_jax.sweeps import batches
from momentum_jax.sweeps.driver import run_sweep
from momentum_jax.sweeps.plan import plan_sweep
from momentum_jax.sweeps.workers import LocalDevices
from momentum_jax.tasks import image_classification
from momentum_jax.training import compile as programs
from momentum_jax.training.loop import Interrupted
from tests.comparison.small import OPTIMIZERS, SEEDS, SPACE
from tests.compiling import compile_quickly, quick_options
from tests.sealing import rewrite_sealed


@pytest.fixture(scope="module", autouse=True)
def compiled_quickly_throughout():
    """Bits are compared here between trainings of this module only."""
    quick_options()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "_compile", compile_quickly)
        yield


OPTIONS = {"space": SPACE, "trials": 3, "tuning_seeds": 2, "rerun_trials": 2, "rerun_seeds": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("comparison") / "c"


@pytest.fixture(scope="module")
def compared(cfg, folder):
    return mj.compare(cfg, **OPTIONS, folder=folder)


def test_tuning_holds_examples_out_and_takes_other_seeds_and_the_best_is_that_of_a_sweep_by_hand(cfg, compared):
    dataset = mj.load_dataset(cfg.dataset)
    held_out = image_classification(dataset.split_validation(50), hidden_sizes=cfg.hidden_sizes)
    tuning = dataclasses.replace(cfg, seeds=(1_000_000, 1_000_001, 2_000_000, 2_000_001))
    by_hand = mj.sweep(tuning, SPACE, search="sobol", budget=3, task=held_out)
    for label in cfg.optimizers:
        trials, failed = by_hand.trials[label], by_hand.failed[label]
        assert compared.tuning.trials[label] == trials
        np.testing.assert_array_equal(compared.tuning.test_loss[label], by_hand.test_loss[label][:, :2])
        first, again = (
            median_of_trials(by_hand.test_loss[label][:, own], failed[:, own], np.zeros_like(failed[:, own]))
            for own in (slice(2), slice(2, 4))
        )
        # The two best are run again with the other seeds, which alone choose.
        few = np.argsort(first)[:2]
        assert compared.rerun.trials[label] == tuple(trials[i] for i in few)
        np.testing.assert_array_equal(compared.rerun.test_loss[label], by_hand.test_loss[label][few, 2:])
        assert compared.protocols["tuned"].arms[label].trial == trials[few[np.argmin(again[few])]]


def test_the_judged_runs_are_those_of_train_with_the_same_optimizer_and_seeds(cfg, compared):
    arms = compared.protocols["matched"].arms
    assert arms["sgd"].trial.optimizer == mj.OptimizerConfig("sgd", learning_rate=0.5)
    assert arms["momentum"].trial.optimizer == OPTIMIZERS["momentum"]
    alone = mj.train(dataclasses.replace(cfg, optimizers={label: arm.trial.optimizer for label, arm in arms.items()}))
    for label, arm in arms.items():
        assert tuple(arm.seeds) == SEEDS
        np.testing.assert_array_equal(arm.losses_before, alone.losses_before[label])
        expected = np.where(alone.failed[label], np.inf, alone.test_loss[label])
        np.testing.assert_array_equal(arm.values["test_loss"], expected)


def test_every_metric_of_every_pair_in_every_protocol_gets_a_verdict(compared):
    # Two rerun seeds give no target. Failures are judged where a run failed.
    failed = [name for name, p in compared.protocols.items() if any(arm.failed.any() for arm in p.arms.values())]
    assert 0 < len(failed) < 3
    metrics = ["train_loss", "test_loss", "test_accuracy", "mean_loss"]
    assert [(v.protocol, v.metric) for v in compared.verdicts] == [
        (protocol, metric)
        for protocol in ("same", "matched", "tuned")
        for metric in [*metrics, *(["failed"] if protocol in failed else [])]
    ]
    assert {(v.a, v.b) for v in compared.verdicts} == {("momentum", "sgd")}
    # One pair in three protocols.
    assert {v.difference.level for v in compared.verdicts} == {1 - 0.05 / 3}
    assert compared.table().num_rows == 12 + len(failed)
    assert compared.findings == compared.verdicts
    titles = [s.title for s in compared.protocols.values()]
    assert titles == ["same learning rate, 0.05", "same effective learning rate, 0.5", "each at its best of 3 trials"]


def test_a_comparison_is_read_back_as_it_was_and_the_same_call_trains_nothing(cfg, compared, folder, monkeypatch):
    def refuse(*_):
        raise AssertionError("trained")

    again = mj.Comparison.load(folder)
    # By what they print, since a NaN is not equal to itself.
    assert repr(again.verdicts) == repr(compared.verdicts)
    assert (again.notes, again.target, again.plan) == (compared.notes, compared.target, compared.plan)
    monkeypatch.setattr("momentum_jax.sweeps.workers.train_batches", refuse)
    monkeypatch.setattr(procedure, "measure_steps", refuse)
    # Judging otherwise needs no run.
    wider = mj.compare(cfg, **OPTIONS, folder=folder, judge_by=["mean_loss"], margin=9.0)
    assert {v.metric for v in wider.verdicts} == {"mean_loss"}
    outcomes = [{v.outcome for v in c.verdicts} for c in (compared, wider)]
    assert [("equivalent" in found) for found in outcomes] == [False, True]


def test_a_comparison_with_more_seeds_keeps_its_tuning_and_its_runs(cfg, compared, folder, tmp_path, monkeypatch):
    grown, trained = shutil.copytree(folder, tmp_path / "c"), []
    plan = batches.plan_batches
    monkeypatch.setattr(batches, "plan_batches", lambda program: trained.extend(them := plan(program)) or them)
    more = dataclasses.replace(cfg, seeds=(*SEEDS, 100, 200))
    wider = mj.compare(more, **OPTIONS, folder=grown)
    assert {run.seed for batch in trained for run in batch} == {100, 200}
    assert (wider.tuning, wider.rerun) == (compared.tuning, compared.rerun)
    for name, protocol in compared.protocols.items():
        for label, arm in protocol.arms.items():
            assert wider.protocols[name].arms[label].trial == arm.trial
            np.testing.assert_array_equal(
                wider.protocols[name].arms[label].losses_before[: len(SEEDS)], arm.losses_before
            )
    assert repr(mj.Comparison.load(grown).verdicts) == repr(wider.verdicts)


def test_a_refused_call_with_more_seeds_leaves_a_comparison_that_loads(compared, cfg, folder, tmp_path):
    del compared
    grown, more = shutil.copytree(folder, tmp_path / "c"), dataclasses.replace(cfg, seeds=(*SEEDS, 100))
    other = image_classification(mj.load_dataset(cfg.dataset), hidden_sizes=cfg.hidden_sizes)
    other = dataclasses.replace(other, test=(other.test[0][::-1].copy(), other.test[1]))
    with pytest.raises(mj.InputError, match=r"own_task|data is"):
        mj.compare(more, **OPTIONS, folder=grown, task=other)
    head = read_head(grown)
    # As if it had been refused, or had ended, after this was written.
    write_head(grown, head | {"plan": head["plan"] | {"config": more.to_json()}})
    assert repr(mj.Comparison.load(grown).verdicts) == repr(mj.Comparison.load(folder).verdicts)


def test_a_sweep_is_not_kept_in_a_comparison(compared, cfg, folder, tmp_path):
    del compared
    inside = shutil.copytree(folder, tmp_path / "c") / JUDGING
    with pytest.raises(mj.InputError, match="belongs to a comparison; choose another"):
        mj.sweep(cfg, SPACE, search="random", budget=2, folder=inside)


def test_one_rate_is_one_plan_whole_or_not(cfg, tmp_path):
    options = {"space": SPACE, "trials": 1, "tuning_seeds": 1, "rerun_seeds": 0, "judge_by": ["mean_loss"]}
    options |= {"folder": tmp_path}
    one = mj.compare(dataclasses.replace(cfg, seeds=2), effective_learning_rate=1, **options)
    other = mj.compare(dataclasses.replace(cfg, seeds=2), effective_learning_rate=1.0, **options)
    assert repr(one.verdicts) == repr(other.verdicts)


def test_a_folder_of_another_comparison_or_of_something_else_is_refused(cfg, compared, folder, tmp_path):
    del compared
    with pytest.raises(mj.InputError, match="holds another comparison: tuning_seeds"):
        mj.compare(cfg, **OPTIONS | {"tuning_seeds": [5]}, folder=folder)
    with pytest.raises(mj.InputError, match="holds another comparison: rerun_seeds"):
        mj.compare(cfg, **OPTIONS | {"rerun_seeds": [5]}, folder=folder)
    (tmp_path / "file").write_text("x")
    with pytest.raises(mj.InputError, match="not a comparison"):
        mj.compare(cfg, folder=tmp_path)
    with pytest.raises(mj.InputError, match="holds no comparison"):
        mj.Comparison.load(tmp_path)


def test_an_unfinished_judging_is_judged_on_what_is_there_and_said(compared, folder, tmp_path, cfg):
    copy = tmp_path / "c"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / JUDGING)
    with pytest.raises(mj.InputError, match="holds no complete result"):
        mj.Comparison.load(copy)
    # One seed of the seven, then Ctrl-C.
    judged = compared.judged[0]
    one = plan_sweep(dataclasses.replace(cfg, seeds=(3,)), judged.trials)
    run_sweep(one, LocalDevices(None, "auto"), no_progress, tmp_path / "one")
    shutil.copytree(folder / JUDGING, copy / JUDGING)
    for part in (copy / JUDGING / "parts").iterdir():
        part.unlink()
    for part in (tmp_path / "one" / "parts").iterdir():
        shutil.copy(part, copy / JUDGING / "parts")
    loaded = mj.Comparison.load(copy)
    assert {v.pairs for v in loaded.verdicts} == {1}
    assert {v.outcome for v in loaded.verdicts} == {"no verdict"}
    assert loaded.findings == ()
    assert any("unfinished, 12 runs still to come" in note for note in loaded.notes)
    assert any(note.startswith("verdicts need 7 seeds, not 1, for 3 pairs of") for note in loaded.notes)
    rewrite_sealed(
        copy / HEAD, lambda head: head | {"plan": head["plan"] | {"config": head["plan"]["config"] | {"batch_size": 9}}}
    )
    with pytest.raises(mj.InputError, match="is not of this comparison: batch_size is 8, not 9"):
        mj.Comparison.load(copy)
    rewrite_sealed(copy / HEAD, lambda head: {name: value for name, value in head.items() if name != "protocols"})
    with pytest.raises(mj.InputError, match=r"tuning in .* is unfinished"):
        mj.Comparison.load(copy)


def test_reruns_of_another_comparison_are_refused(compared, folder, tmp_path):
    del compared
    copy = shutil.copytree(folder, tmp_path / "c")
    shutil.rmtree(copy / RERUNNING)
    with pytest.raises(mj.InputError, match="holds no complete result"):
        mj.Comparison.load(copy)
    shutil.copytree(copy / TUNING, copy / RERUNNING)
    with pytest.raises(mj.InputError, match=r"rerunning' is not of this comparison: seeds is \[1000000, 1000001\]"):
        mj.Comparison.load(copy)


def test_a_comparison_that_is_interrupted_goes_on_to_the_same_verdicts(cfg, compared, tmp_path):
    for stage in ("rerunning", "judging"):

        def stop(phase, done, total, note="", stage=stage):
            if phase == stage and done:
                raise KeyboardInterrupt

        with pytest.raises(Interrupted):
            mj.compare(cfg, **OPTIONS, folder=tmp_path, progress=stop)
    resumed = mj.compare(cfg, **OPTIONS, folder=tmp_path)
    for one, other in zip(compared.verdicts, resumed.verdicts, strict=True):
        assert repr(one) == repr(other)


def test_where_the_effective_learning_rate_is_not_defined_that_comparison_is_left_out_and_said(cfg, tmp_path):
    optimizers = {"sgd": OPTIMIZERS["sgd"], "adam": mj.OptimizerConfig("optax.adam", learning_rate=0.05)}
    adam = dataclasses.replace(cfg, optimizers=optimizers, seeds=1)
    options = {"search": "grid", "tuning_seeds": 1, "rerun_seeds": 0, "folder": tmp_path}
    compared = mj.compare(adam, space={"learning_rate": [0.05, 0.1]}, **options)
    assert {v.protocol for v in compared.verdicts} == {"same", "tuned"}
    assert any(
        note.startswith("same effective learning rate: left out") and "'adam' (optax.adam)" in note
        for note in compared.notes
    )
    # One pair in two protocols.
    assert any(note.startswith("verdicts need 7 seeds, not 1, for 2 pairs of") for note in compared.notes)
    assert any("adam: the best trial has the" in note for note in compared.notes)


@functools.cache
def task_without_a_test_set():
    return mj.Task(
        init=lambda key: {"p": jnp.ones(2)},
        loss=lambda params, batch: jnp.mean((params["p"][None] - batch) ** 2),
        train=np.arange(24, dtype=np.float32).reshape(12, 2) / 24,
    )


@pytest.fixture(scope="module")
def without_folder(cfg):
    options = {"space": SPACE, "trials": 2, "tuning_seeds": 1, "rerun_seeds": 0, "task": task_without_a_test_set()}
    return mj.compare(dataclasses.replace(cfg, seeds=2), **options)


def test_a_task_of_ones_own_is_tuned_on_examples_of_its_training_set(without_folder):
    assert without_folder.plan["validation"] == 2
    assert "train_loss" in without_folder.protocols["tuned"].arms["sgd"].values
    assert "test_loss" not in without_folder.protocols["tuned"].arms["sgd"].values


def test_a_comparison_without_a_folder_has_all_that_is_shown_of_it(without_folder, tmp_path):
    without_folder.report(tmp_path / "page.html")
    assert (tmp_path / "page.html").exists()
    without_folder.plot(Figure().add_subplot())
    for result in (without_folder.tuning, *without_folder.judged):
        data = result.to_xarray()
        np.testing.assert_array_equal(data.losses_before[0], result.losses_before["sgd"][0])
        result.plot()
        plt.close("all")
    without_folder.tuning.report(tmp_path / "sweep.html")


def test_what_an_interrupt_hands_out_of_a_comparison_without_a_folder_is_whole(cfg, monkeypatch):
    def stop(*_):
        raise Interrupted(None, 0)

    monkeypatch.setattr(procedure, "measure_steps", stop)
    options = {"space": SPACE, "trials": 1, "tuning_seeds": 1, "rerun_seeds": 0, "task": task_without_a_test_set()}
    with pytest.raises(Interrupted) as caught:
        mj.compare(dataclasses.replace(cfg, seeds=2), **options)
    assert caught.value.result.to_xarray().losses_before.shape[-1] == 20


def test_a_method_that_loses_to_one_its_space_contains_shows_that_the_budget_was_too_small(compared):
    plan = {"contained": [["momentum", "sgd"]], "trials": 3, "tune_by": "test_loss"}
    tuned = compared.protocols["tuned"]

    def notes(values, plan):
        arms = {
            label: arm._replace(seeds=np.arange(9), values={"test_accuracy": np.full(9, values[label])})
            for label, arm in tuned.arms.items()
        }
        return list(results.notes_on_budget(arms, plan, 0.95))

    (note,) = notes({"momentum": 0.8, "sgd": 0.9}, plan)
    assert note == (
        "the tuning budget was too small, or its choice unlucky: momentum, whose space contains that of sgd, loses to "
        "it after 3 trials of each (accuracy on the test set)"
    )
    assert notes({"momentum": 0.9, "sgd": 0.8}, plan) == []
    assert notes({"momentum": 0.8, "sgd": 0.9}, plan | {"contained": []}) == []


def plan_of(compared, contained):
    search = tuning.Search("sobol", 0, {}, compared.tuning.trials, contained, (0,), 1, ())
    return tuning.TuningPlan(search, compared.config, None, "test_loss", {"trials": 3})


def test_an_optimizer_whose_space_contains_anothers_chooses_among_its_trials_too(compared):
    def planned(of_sgd, of_momentum, contained=(("momentum", "sgd"),)):
        losses = {label: np.full([3, 2, 1], 9.0) for label in OPTIMIZERS}
        losses["sgd"][2], losses["momentum"][1] = of_sgd, of_momentum
        failed = {label: np.zeros([3, 2], bool) for label in OPTIMIZERS}
        result = dataclasses.replace(compared.tuning, evaluations={"test_loss": losses}, failed=failed)
        return tuning.plan_tuned(plan_of(compared, contained), result)

    trials = compared.tuning.trials
    rate = trials["sgd"][2].optimizer.hyperparameters["learning_rate"]
    shared = planned(0.1, 0.2)
    assert {name: protocol.title for name, protocol in shared.items()} == {
        "tuned": "each at its best of 3 own and up to 3 shared trials",
        "tuned_alone": "each at its best of 3 own trials",
    }
    assert shared["tuned"].trials["sgd"] == shared["tuned_alone"].trials["sgd"] == trials["sgd"][2]
    assert shared["tuned_alone"].trials["momentum"] == trials["momentum"][1]
    taken = mj.OptimizerConfig("momentum", learning_rate=rate, momentum=0.0)
    assert shared["tuned"].trials["momentum"].optimizer == taken
    # Where its own trials are the better or equally good ones, and where nothing is contained.
    for other in (planned(0.1, 0.05), planned(0.1, 0.1), planned(0.1, 0.2, ())):
        assert list(other) == ["tuned"]
        assert other["tuned"].trials["momentum"] == trials["momentum"][1]


def test_an_optimizer_all_of_whose_trials_fail_is_left_out_of_the_last_comparison_alone(compared):
    tuning_ = compared.tuning
    failed = tuning_.failed | {"sgd": np.ones_like(tuning_.failed["sgd"])}
    plan = plan_of(compared, [])
    (planned,) = tuning.plan_tuned(plan, dataclasses.replace(tuning_, failed=failed)).values()
    assert (list(planned.trials), planned.skipped) == (["momentum"], None)
    failed = dict.fromkeys(failed, failed["sgd"])
    (planned,) = tuning.plan_tuned(plan, dataclasses.replace(tuning_, failed=failed)).values()
    why = f"no run ended better than a constant prediction after {compared.config.iterations} iterations: train longer"
    assert planned.skipped == f"every trial of every optimizer failed: {why}"


def test_tuning_by_an_accuracy_makes_small_what_it_lacks_of_one(compared):
    errors = tuning.tuning_losses(compared.tuning, "test_accuracy")["sgd"]
    np.testing.assert_array_equal(errors, 1 - compared.tuning.test_accuracy["sgd"].astype(float))
    assert title_of_tuning({"tune_by": "test_accuracy"}, "nats") == "1 − accuracy on held-out examples"


def test_numbers_of_numpy_are_as_good_as_pythons(cfg, compared, folder):
    del compared
    options = {"target": np.float32(0.5), "margin": np.float64(0.1), "validation": np.int64(50), "trials": np.int64(3)}
    options |= {"tuning_seeds": np.array([1_000_000, 1_000_001]), "rerun_trials": np.int64(2)}
    options["rerun_seeds"] = np.int64(2)
    compared = mj.compare(cfg, space=SPACE, folder=folder, **options)
    assert compared.target == 0.5
    # The same runs, judged by the time to a target too.
    assert {"iterations_to_target", "seconds_to_target"} <= {v.metric for v in compared.verdicts}


def test_without_ten_rerun_seeds_there_is_no_target_and_a_note_suggests_one(cfg, compared, folder):
    assert compared.target is None
    (note,) = [note for note in compared.notes if "target" in note]
    assert note.startswith(
        "iterations and seconds to a target loss are not judged: a target is taken from 10 rerun seeds"
    )
    suggested = float(note.rsplit(" ", 1)[1])
    best = {label: arm.trial for label, arm in compared.protocols["tuned"].arms.items()}
    curves = {
        label: compared.rerun.losses_before[label][compared.rerun.trials[label].index(best[label])] for label in best
    }
    # 15 of the 20 iterations, every one of the two runs.
    lows = [smooth_curve(curve)[:, :15].min(axis=1).max() for curve in curves.values()]
    assert max(lows) <= suggested <= 1.1 * max(lows)
    without = mj.compare(cfg, **OPTIONS, folder=folder, judge_by=["mean_loss"])
    assert not any("target" in note for note in without.notes)


def test_ten_reruns_give_a_target_and_notes_on_the_runs_that_miss_it(compared, folder):
    options = {"judge_by": None, "target": None, "margin": None, "level": 0.95}
    head = read_head(folder) | {"judging": options}
    rng = np.random.default_rng(0)
    falling = np.geomspace(2, 0.1, 20) * rng.uniform(0.9, 1.1, (2, 10, 1))
    rerun = dataclasses.replace(
        compared.rerun,
        config=dataclasses.replace(compared.rerun.config, seeds=tuple(range(10, 20))),
        losses_before={label: falling.astype(np.float32) for label in OPTIMIZERS},
        evaluations={
            name: {label: np.tile(v, (1, 5, 1)) for label, v in own.items()}
            for name, own in compared.rerun.evaluations.items()
        },
        failed={label: np.zeros([2, 10], bool) for label in OPTIMIZERS},
        missing={label: np.zeros([2, 10], bool) for label in OPTIMIZERS},
    )
    judged = results.comparison_of(head, compared.tuning, rerun, compared.judged[0])
    assert 0.1 < judged.target < 0.5
    assert judged.plan["target"] is None
    assert {"iterations_to_target", "seconds_to_target"} <= {v.metric for v in judged.verdicts}
    missed = [note for note in judged.notes if f"miss the target loss {judged.target:g}" in note]
    assert len(missed) == 6
