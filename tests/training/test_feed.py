"""Training from data on the host: when rows are read, how many, by whom, and what a reader that fails leaves behind."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.training.feed import Feed
from tests.training.small import same_bits

ROWS = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
MOMENTUM = {"momentum": mj.OptimizerConfig("momentum", learning_rate=0.1)}
pytestmark = pytest.mark.usefixtures("compiled_quickly")


class Recorded:
    """Rows of an array, with a record of each reading while `recording`: the thread's name and the rows."""

    def __init__(self, array=ROWS):
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.recording = False
        self.readings = []
        self.began = threading.Condition()
        self.fails = False

    def __len__(self):
        return len(self._array)

    def __getitem__(self, rows):
        if self.recording:
            with self.began:
                self.readings.append((threading.current_thread().name, np.asarray(rows).tolist()))
                self.began.notify_all()
        if self.fails:
            raise OSError("the disk is gone")
        return self._array[rows]

    def wait_for(self, count):
        """Whether there are so many readings within a time that is long enough on any machine."""
        with self.began:
            return self.began.wait_for(lambda: len(self.readings) >= count, timeout=300)


def init(key):
    return {"w": jax.random.normal(key, [3])}


def loss(params, batch):
    return jnp.mean(jnp.sum((params["w"][None] - batch) ** 2, axis=-1)) / 2


def task(source):
    return mj.Task(init, loss, source)


def config(**changes):
    return mj.Config(**{"iterations": 30, "batch_size": 8, "seeds": 2, "optimizers": MOMENTUM, **changes})


def rows_of_chunks(cfg, chunk):
    """The distinct rows of each chunk, ascending."""
    batches = np.stack([mj.batch_indices(cfg, seed, task=task(ROWS)) for seed in cfg.seed_tuple])
    return [np.unique(batches[:, start : start + chunk]).tolist() for start in range(0, cfg.iterations, chunk)]


def test_the_rows_of_a_chunk_are_read_while_the_chunk_before_trains_each_once_by_a_thread_of_its_own():
    source, ahead = Recorded(), []

    def progress(phase, done, total):
        if phase == "compiling":
            source.recording = True
        elif phase == "training" and done:
            # The chunk that has just been trained and the one after it, where there is one.
            ahead.append(source.wait_for(min(done // 10 + 1, 3)))
        elif phase == "evaluating":
            source.recording = False

    mj.train(config(), task=task(source), chunk=10, progress=progress)
    assert ahead == [True, True, True]
    threads, rows = zip(*source.readings, strict=True)
    assert list(rows) == rows_of_chunks(config(), 10)
    assert len(set(threads)) == 1
    assert threads[0].startswith("momentum-jax-feed")


def test_a_chunk_waits_in_its_first_step_for_a_row_that_is_read_ahead():
    # If reading began only when a chunk is over, this training would stop.
    source, seen = Recorded(), []

    def waiting(params, state, grads):
        def wait(value):
            seen.append(source.wait_for(2))
            return value

        return jax.pure_callback(wait, jax.ShapeDtypeStruct((), jnp.float32), params["w"][0])

    def progress(phase, done, total):
        source.recording = phase != "evaluating"

    cfg = config(iterations=2, seeds=1)
    mj.train(cfg, task=task(source), chunk=1, progress=progress, metrics={"waiting": waiting})
    assert len(seen) >= 1
    assert all(seen)


@pytest.mark.exhaustive
def test_runs_of_several_batch_sizes_read_a_chunk_of_each():
    source = Recorded()

    def progress(phase, *_):
        if phase == "runs":
            source.recording = True

    space = {"batch_size": [4, 8]}
    sweep = mj.sweep(config(), space, task=task(source), chunk=10, progress=progress)
    expected = [rows for size in (4, 8) for rows in rows_of_chunks(config(batch_size=size), 10)]
    assert sorted(rows for _, rows in source.readings) == sorted(expected)
    same_bits(sweep, mj.sweep(config(), space, task=task(ROWS), chunk=10))


def test_at_most_the_rows_of_a_chunk_are_read_at_a_time():
    rows = np.random.default_rng(0).normal(size=(50_000, 3)).astype(np.float32)
    source = Recorded(rows)

    def progress(phase, done, total):
        source.recording = phase == "training" or (phase == "compiling" and done == total)

    mj.train(config(batch_size=4), task=task(source), chunk=5, progress=progress)
    # Two seeds, five iterations, four examples.
    assert max(len(read) for _, read in source.readings) <= 2 * 5 * 4


def test_the_rows_of_runs_that_diverge_are_not_kept(monkeypatch):
    feeds = []
    monkeypatch.setattr("momentum_jax.training.compile.Feed", lambda data: feeds.append(Feed(data)) or feeds[-1])
    kept = []

    def progress(phase, *_):
        if phase == "training":
            kept.append(len(feeds[0]._ahead))

    # Among the rows is one, met by the seeds at different iterations, whose loss is not finite.
    rows = ROWS.copy()
    rows[7] = np.inf
    result = mj.train(config(seeds=4, iterations=60), task=task(Recorded(rows)), chunk=10, progress=progress)
    assert len({at // 10 for at in result.diverged_at["momentum"].tolist()}) > 1
    # Where another chunk follows its rows are read already, and no others are kept.
    assert max(kept) == 1
    assert kept[-1] == 0


@pytest.mark.parametrize("after", [0, 10, 20])
def test_a_reader_that_fails_ends_the_training_and_a_checkpoint_goes_on_to_the_same_bits(after, tmp_path):
    source = Recorded()

    def fail(phase, done, total):
        # What is read ahead of this has been asked for before; so the failure may be one chunk later.
        source.fails = phase in ("compiling", "training") and (after == 0 or (phase == "training" and done >= after))

    cfg = config(iterations=50)
    options = {"task": task(source), "chunk": 10, "checkpoint": tmp_path / "c.npz"}
    with pytest.raises(InputError, match=r"the task's data cannot be read: OSError: the disk is gone$"):
        mj.train(cfg, **options, progress=fail)
    source.fails, steps = False, []
    result = mj.train(cfg, **options, progress=lambda phase, done, _: steps.append(done) if phase == "training" else 0)
    assert after <= steps[0] <= after + 10
    same_bits(result, mj.train(cfg, task=task(ROWS), chunk=10))


def test_a_reader_that_fails_keeps_the_finished_runs_of_a_sweep_in_a_folder(tmp_path):
    source, counted = Recorded(), []
    # One run at a time on each of two devices: 8,000 iterations are a batch.
    cfg = config(iterations=8000, seeds=1, batch_size=2)
    space = {"learning_rate": [0.1, 0.05, 0.02, 0.01]}

    def fail(phase, done, total, note=""):
        if phase == "runs" and done >= 2:
            source.fails = True

    with pytest.raises(InputError, match=r"the task's data cannot be read: OSError: the disk is gone$"):
        mj.sweep(cfg, space, task=task(source), chunk=1000, folder=tmp_path / "sweep", progress=fail)
    source.fails = False

    def count(phase, done, total, note=""):
        if phase == "runs":
            counted.append((done, total))

    result = mj.sweep(cfg, space, task=task(source), chunk=1000, folder=tmp_path / "sweep", progress=count)
    # Two of the four runs were finished.
    assert counted[0] == (2, 4)
    same_bits(result, mj.sweep(cfg, space, task=task(ROWS), chunk=1000))


def test_a_reader_whose_examples_change_ends_the_training_in_one_line():
    class Changing(Recorded):
        changed = False

        def __getitem__(self, rows):
            return ROWS[rows].astype(np.float64 if self.changed else np.float32)

    source = Changing()

    def change(phase, done, total):
        source.changed = phase == "training"

    with pytest.raises(InputError) as error:
        mj.train(config(), task=task(source), chunk=5, progress=change)
    assert "changed from" in str(error.value)
    assert "float64" in str(error.value)
    assert "\n" not in str(error.value)


class Unreadable(Recorded):
    """Rows of which the last cannot be read."""

    def __getitem__(self, rows):
        if len(self) - 1 in np.atleast_1d(rows):
            raise OSError("a bad sector")
        return super().__getitem__(rows)


def test_a_row_that_cannot_be_read_is_found_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr("momentum_jax.training.compile._compile_all", lambda *_: pytest.fail("compiled"))
    # So many that the sample has not all of them.
    rows = np.zeros([20_001, 3], np.float32)
    unreadable = mj.Task(
        init=lambda key: jnp.zeros(3), loss=lambda p, batch: jnp.mean(batch @ p), train=Unreadable(rows)
    )
    with pytest.raises(InputError, match=r"^the task's data cannot be read: OSError: a bad sector$"):
        mj.train(mj.Config(iterations=3, batch_size=2, optimizers=MOMENTUM), task=unreadable)


def test_a_cluster_is_refused_since_its_workers_get_copies():
    recorded = mj.Task(init=lambda key: jnp.zeros(3), loss=lambda p, batch: jnp.mean(batch @ p), train=Recorded())
    with pytest.raises(InputError, match=r"^workers of a cluster need the task's data in memory"):
        mj.sweep(mj.Config(iterations=3, optimizers=MOMENTUM), {}, task=recorded, cluster="local:1")


def test_no_more_is_read_than_is_used_between_two_evaluations():
    source = Recorded()
    recorded = mj.Task(init=lambda key: jnp.zeros(3), loss=lambda p, batch: jnp.mean(batch @ p), train=source)
    source.recording = True
    mj.train(mj.Config(iterations=20, batch_size=4, evaluate_every=5, optimizers=MOMENTUM), task=recorded)
    fed = [rows for thread, rows in source.readings if thread.startswith("momentum-jax-feed")]
    assert len(fed) == 4
    # Five iterations of four rows, and row 0 for the place of the second device, which has no seed.
    assert max(map(len, fed)) <= 21


def test_chunks_that_the_memory_does_not_hold_are_refused(monkeypatch):
    recorded = mj.Task(init=lambda key: jnp.zeros(3), loss=lambda p, batch: jnp.mean(batch @ p), train=Recorded())
    # 4 times 2 places, 100 iterations and 16 examples of 12 bytes, in a machine of 100 kB.
    monkeypatch.setattr("momentum_jax.training.groups.memory_of_machine", lambda: 100_000)
    with pytest.raises(InputError, match=r"^chunks of 100 iterations of data on the host would take"):
        mj.train(mj.Config(iterations=200, batch_size=16, optimizers=MOMENTUM), task=recorded)
    mj.train(mj.Config(iterations=20, batch_size=16, optimizers=MOMENTUM), task=recorded, chunk=10)
