"""How much memory sweeps take: their histories once, and with a folder none of them until they are asked for."""

import gc
import shutil
import tracemalloc

import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.sweeps import batches
from tests.sweeps.small import METRICS, QUADRATIC, SPACE, small, stop_after

ITERATIONS = 4000
SGD = {"sgd": mj.OptimizerConfig("sgd", learning_rate=0.1)}
# Trials of small and large sweeps, all of several batches of runs, with four seeds.
FEW, MANY = 4, 20
MORE = 4 * (MANY - FEW)
HISTORY = 2 * 4 * ITERATIONS
# Of each run beside its history; what JAX allocates now and then counts too.
REST = HISTORY // 6
CFG = mj.Config(iterations=ITERATIONS, batch_size=4, seeds=4, optimizers=SGD, loss_after=True)

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(batches, "BATCH_ITERATIONS", 2 * ITERATIONS)


@pytest.fixture(autouse=True)
def soon_collected():
    """What other tests have left is not looked at in the collections of `sweep`, which would take minutes."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def sweep(trials, folder=None, **options):
    rates = [0.1 * (i + 1) / trials for i in range(trials)]
    # What JAX leaves behind after each batch of runs is collected, so that it does not count.
    options = {"chunk": ITERATIONS, "progress": lambda *_: gc.collect(), **options}
    return mj.sweep(CFG, {"learning_rate": rates}, task=QUADRATIC, folder=folder, **options)


def peak(function):
    """The most bytes that Python and NumPy hold while a function runs, and what it gives."""
    gc.collect()
    tracemalloc.start()
    try:
        result = function()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


def test_histories_are_in_memory_once():
    sweep(FEW)
    few, _ = peak(lambda: sweep(FEW))
    many, _ = peak(lambda: sweep(MANY))
    assert many - few < MORE * (HISTORY + REST)


def test_with_a_folder_no_histories_are_in_memory_until_they_are_asked_for(tmp_path):
    sweep(FEW, tmp_path / "once")
    few, _ = peak(lambda: sweep(FEW, tmp_path / "few"))
    many, result = peak(lambda: sweep(MANY, tmp_path / "many"))
    again, _ = peak(lambda: sweep(MANY, tmp_path / "many"))
    assert max(many, again) - few < MORE * REST
    reading, losses = peak(lambda: result.losses_before["sgd"])
    # Once, beside the part that is being read.
    assert 1 < reading / (4 * MANY * HISTORY) < 1.3
    assert result.losses_before["sgd"] is losses
    assert mj.Result.load(tmp_path / "many") == result


def test_what_is_read_from_the_folder_is_what_a_sweep_without_one_gives(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"task": QUADRATIC, "metrics": METRICS, "keep_params": True}
    result = mj.sweep(small(seeds=2), SPACE, folder="sweep", **options)
    expected = mj.sweep(small(seeds=2), SPACE, **options)
    # The folder is found from elsewhere too.
    monkeypatch.chdir("/")
    assert result == expected


def test_an_interrupted_sweep_shows_its_own_runs_when_the_folder_has_grown(tmp_path):
    with pytest.raises(mj.Interrupted) as interrupted:
        sweep(6, tmp_path, progress=stop_after(6))
    before = interrupted.value.result
    missing = before.missing["sgd"]
    assert 0 < missing.sum() < missing.size
    whole = sweep(6, tmp_path)
    assert np.isnan(before.losses_before["sgd"][missing]).all()
    np.testing.assert_array_equal(before.losses_before["sgd"][~missing], whole.losses_before["sgd"][~missing])


def test_histories_that_are_not_there_any_more_are_missed_by_the_name_of_the_folder(tmp_path):
    result = sweep(2, tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / "parts")
    assert len(result.table()) == 8
    with pytest.raises(InputError, match="moved' no longer holds all runs of this result"):
        result.losses_before["sgd"]
