"""A sweep that is interrupted in the middle of a batch of runs goes on from there."""

import os
import signal
import time

import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.results.store import Store
from momentum_jax.sweeps import batches, unfinished
from momentum_jax.training import loop
from tests.sweeps.small import SMALL, small
from tests.training.small import same_bits

SPACE = {"learning_rate": [0.1, 0.2, 0.3, 0.4]}
OPTIONS = {"keep_params": True, "chunk": 10}


@pytest.fixture
def large_batches(monkeypatch):
    monkeypatch.setattr(batches, "BATCH_ITERATIONS", 2 * SMALL["iterations"])


def interrupt_at(iterations, trained):
    """A progress that notes the runs done, in runs, and presses Ctrl-C when so many iterations of the first are."""

    def progress(phase, done, total, note=""):
        if phase == "runs":
            trained.append(done)
            if len(trained) == iterations // 10 + 1:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)

    return progress


def steps(monkeypatch):
    """The first iterations of the chunks that are trained from here on."""
    starts, step = [], loop.advance

    def noted(program, state, chunk):
        starts.append(state.step)
        return step(program, state, chunk)

    monkeypatch.setattr(loop, "advance", noted)
    return starts


@pytest.mark.parametrize("iterations", [10, 20])
def test_a_batch_goes_on_from_the_chunk_that_was_trained_last(tmp_path, monkeypatch, large_batches, iterations):
    cfg = small(evaluate_every=10)
    whole = mj.sweep(cfg, SPACE, **OPTIONS)
    with pytest.raises(mj.Interrupted):
        mj.sweep(cfg, SPACE, folder=tmp_path, progress=interrupt_at(iterations, []), **OPTIONS)
    assert (tmp_path / "unfinished.npz").exists()
    starts = steps(monkeypatch)
    result = mj.sweep(cfg, SPACE, folder=tmp_path, **OPTIONS)
    assert starts[0] == iterations
    same_bits(result, whole)
    assert result.table().equals(whole.table())
    assert not (tmp_path / "unfinished.npz").exists()


@pytest.mark.parametrize("damage", ["other runs", "damaged", "empty"])
def test_what_is_of_other_runs_or_damaged_is_begun_anew(tmp_path, monkeypatch, large_batches, damage):
    cfg = small()
    with pytest.raises(mj.Interrupted):
        mj.sweep(cfg, SPACE, folder=tmp_path, progress=interrupt_at(10, []), **OPTIONS)
    path, space = tmp_path / "unfinished.npz", SPACE
    if damage == "other runs":
        space = {"learning_rate": [0.5, 0.6]}
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:-50])
    starts = steps(monkeypatch)
    result = mj.sweep(cfg, space, folder=tmp_path, **OPTIONS)
    assert starts[0] == 0
    same_bits(result, mj.sweep(cfg, space, **OPTIONS))


def test_a_long_batch_is_written_along_the_way(tmp_path, monkeypatch, large_batches):
    """So that a kill loses no more than the time between two writes."""
    monkeypatch.setattr(unfinished, "_SECONDS_BETWEEN_WRITES", 0.0)
    seen = []

    def progress(phase, done, total, note=""):
        seen.append((phase, done, (tmp_path / "unfinished.npz").exists()))

    mj.sweep(small(), {"learning_rate": [0.1]}, folder=tmp_path, progress=progress, **OPTIONS)
    assert [there for phase, done, there in seen if phase == "runs"][:4] == [False, False, True, True]
    assert not (tmp_path / "unfinished.npz").exists()


def test_a_ctrl_c_within_a_chunk_waits_for_its_end(monkeypatch, tmp_path):
    """The states that the chunk is given are used up by it: what the interruption keeps are those after it."""
    advance = loop.advance

    def pressed(program, state, chunk):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        return advance(program, state, chunk)

    monkeypatch.setattr(loop, "advance", pressed)
    with pytest.raises(mj.Interrupted):
        mj.sweep(small(), SPACE, folder=tmp_path, **OPTIONS)
    monkeypatch.setattr(loop, "advance", advance)
    starts = steps(monkeypatch)
    result = mj.sweep(small(), SPACE, folder=tmp_path, **OPTIONS)
    assert starts[0] == 10
    assert np.isfinite(result.train_loss["sgd"]).all()


def test_a_ctrl_c_while_the_last_runs_are_written_leaves_nothing_unfinished(tmp_path, monkeypatch, large_batches):
    monkeypatch.setattr(unfinished, "_SECONDS_BETWEEN_WRITES", 0.0)
    write = Store.write

    def pressed(store, records):
        write(store, records)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

    monkeypatch.setattr(Store, "write", pressed)
    with pytest.raises(mj.Interrupted) as interrupted:
        mj.sweep(small(), {"learning_rate": [0.1]}, folder=tmp_path, **OPTIONS)
    assert interrupted.value.done == 2
    assert not (tmp_path / "unfinished.npz").exists()


def test_a_ctrl_c_while_records_are_made_loses_no_iteration(tmp_path, monkeypatch, large_batches):
    make = batches.make_records

    def pressed(*args):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        return make(*args)

    monkeypatch.setattr(batches, "make_records", pressed)
    with pytest.raises(mj.Interrupted):
        mj.sweep(small(), SPACE, folder=tmp_path, **OPTIONS)
    monkeypatch.setattr(batches, "make_records", make)
    starts = steps(monkeypatch)
    same_bits(mj.sweep(small(), SPACE, folder=tmp_path, **OPTIONS), mj.sweep(small(), SPACE, **OPTIONS))
    # Of the first batch only the evaluation was left; the second begins at 0.
    assert starts[:3] == [0, 10, 20]
    assert len(starts) == 3 + 2 * 3


def test_a_disk_on_which_a_batch_cannot_be_kept_does_not_hide_the_interruption(tmp_path, monkeypatch, large_batches):
    def full(*_):
        raise InputError("checkpoint cannot be written: No space left on device")

    monkeypatch.setattr(unfinished.Checkpoint, "write", full)
    with pytest.raises(mj.Interrupted):
        mj.sweep(small(), SPACE, folder=tmp_path, progress=interrupt_at(10, []), **OPTIONS)
