"""A sweep goes on where it ended, tells how far it is, and refuses what cannot be."""

import json

import jax
import jax.numpy as jnp
import optax
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.results.parts import count_runs
from momentum_jax.sweeps import batches
from momentum_jax.sweeps import status as status_module
from tests.compilations import compilations
from tests.sweeps.small import (
    CHUNK,
    METRICS,
    QUADRATIC,
    ROWS,
    SMALL,
    SPACE,
    alone,
    init,
    loss,
    small,
    stop_after,
)


@pytest.fixture
def small_batches(monkeypatch):
    """Batches of one run on each device."""
    monkeypatch.setattr(batches, "BATCH_ITERATIONS", SMALL["iterations"])


def my_momentum(rate, m=0.9):
    return optax.chain(optax.clip(1.0), mj.momentum(rate, m))


def test_a_sweep_of_ones_own_task_goes_on_where_it_was_and_other_data_are_refused(tmp_path):
    cfg, space = small(seeds=2), {"learning_rate": [0.1, 0.2]}
    result = mj.sweep(cfg, space, task=QUADRATIC, folder=tmp_path)
    assert mj.sweep(cfg, space, task=QUADRATIC, folder=tmp_path) == result
    other = mj.Task(init=init, loss=loss, train=ROWS + 1, test=ROWS[:50])
    with pytest.raises(InputError, match="holds another sweep: data is"):
        mj.sweep(cfg, space, task=other, folder=tmp_path)
    with pytest.raises(InputError, match=r"holds another sweep: functions\.position is not there"):
        mj.sweep(cfg, space, task=QUADRATIC, folder=tmp_path, metrics={"position": METRICS["position"]})


def test_a_factory_of_ones_own_is_swept_and_read_but_not_run_from_a_file(tmp_path):
    cfg = small(optimizers={"mine": mj.OptimizerConfig(my_momentum, rate=0.1)})
    space = {"rate": [0.1, 0.2], "m": [0.5, 0.9]}
    result = mj.sweep(cfg, space, task=QUADRATIC, folder=tmp_path, chunk=CHUNK)
    assert result.table().column("m").to_pylist() == [0.5, 0.9, 0.5, 0.9]
    run = alone("mine", result.trials["mine"][2], task=QUADRATIC)
    assert result.losses_before["mine"][2].tobytes() == run.losses_before["mine"].tobytes()
    loaded = mj.Result.load(tmp_path)
    assert loaded.losses_before["mine"].tobytes() == result.losses_before["mine"].tobytes()
    with pytest.raises(InputError, match="nothing is imported by a name"):
        mj.sweep(loaded.config, space, task=QUADRATIC)


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({}, {"space": {"learning_rte": [1]}}, "did you mean 'learning_rate'?"),
        ({}, {"space": {"momentum": {"momentum": [0.9, 1.0]}}}, "momentum must be in [0, 1), not 1.0"),
        ({}, {"space": {"learning_rate": [0.1, -0.1]}}, "learning_rate must be finite and at least 0, not -0.1"),
        ({"optimizers": {"a": mj.OptimizerConfig("momentun")}}, {}, "did you mean 'momentum'?"),
        ({"sampling": "epochs"}, {"space": {"batch_size": [16, 300]}}, "batch_size must be at most the 200"),
        ({}, {"chunk": 0}, "chunk must be an integer of at least 1, not 0"),
        ({}, {"layout": "vmapp"}, "layout: unknown 'vmapp'; did you mean 'vmap'"),
        ({}, {"search": "soboll"}, "search: unknown 'soboll'; did you mean 'sobol'"),
        ({}, {"search": "random"}, "budget must be an integer of at least 1 and at most 100000, not None"),
        ({}, {"task": mj.Task(init, lambda p, b: b.sum(axis=-1), ROWS)}, "loss must give a scalar"),
        ({}, {"task": mj.Task(lambda key: {"n": jnp.zeros([], jnp.int32)}, loss, ROWS)}, "has dtype int32"),
        ({}, {"task": mj.Task(init, loss, ROWS, evaluate=lambda p, a, b: jnp.zeros(3))}, "evaluate must give"),
        ({}, {"task": mj.Task(init, loss, ROWS[:0])}, "of at least 1"),
        ({}, {"metrics": {"none": lambda params, state, grads: None}}, "metrics['none'] must give a number"),
        (
            {},
            {"metrics": {"complex": lambda params, state, grads: jax.lax.complex(params["w"], params["w"])}},
            "not complex64",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused_before_anything_is_written_or_compiled(tmp_path, changes, options, words):
    folder = tmp_path / "sweep"
    options = {"task": QUADRATIC, "space": {"learning_rate": [0.1]}, **options}

    def attempt():
        with pytest.raises(InputError) as error:
            mj.sweep(small(**changes), options.pop("space"), folder=folder, **options)
        assert words in str(error.value)

    assert compilations(attempt) == 0
    assert not folder.exists()


def test_ctrl_c_before_anything_is_finished_leaves_no_result(tmp_path):
    with pytest.raises(mj.Interrupted) as stop:
        mj.sweep(small(), SPACE, folder=tmp_path, task=QUADRATIC, chunk=CHUNK, progress=stop_after(1))
    assert stop.value.result is None
    with pytest.raises(InputError, match="no run of this sweep is finished"):
        mj.Result.load(tmp_path)


def test_what_is_called_finished_is_kept(tmp_path):
    notes = []
    stop = stop_after(2)

    def progress(phase, done, total, note=""):
        if phase == "runs":
            notes.append(note)
        stop(phase, done, total)

    with pytest.raises(mj.Interrupted) as stopped:
        mj.sweep(small(), SPACE, folder=tmp_path, task=QUADRATIC, chunk=CHUNK, progress=progress)
    # All runs are in one batch, which is a third done.
    assert (stopped.value.done, count_runs(tmp_path)) == (0, (0, 0))
    assert "0 finished" in notes[-1]
    assert json.loads((tmp_path / "status.json").read_bytes())["finished"] == 0


@pytest.mark.parametrize("call", ["train", "sweep", "compare"])
def test_ctrl_c_while_programs_compile_is_interrupted_too(call):
    def progress(phase, *_):
        if phase == "compiling":
            raise KeyboardInterrupt

    calls = {
        "train": lambda: mj.train(small(), task=QUADRATIC, progress=progress),
        "sweep": lambda: mj.sweep(small(), SPACE, task=QUADRATIC, progress=progress),
        "compare": lambda: mj.compare(small(), task=QUADRATIC, trials=1, progress=progress),
    }
    with pytest.raises(mj.Interrupted) as stopped:
        calls[call]()
    assert (stopped.value.result, stopped.value.done) == (None, 0)


def test_progress_tells_of_runs_speed_failures_and_memory(tmp_path, small_batches):
    seen = []
    space = {"learning_rate": [0.1, 1e30]}
    mj.sweep(small(), space, task=QUADRATIC, folder=tmp_path, chunk=CHUNK, progress=lambda *call: seen.append(call))
    runs = [(done, total) for phase, done, total, _ in seen if phase == "runs"]
    assert runs == sorted(runs)
    assert runs[-1] == (4, 4)
    assert "2 failed" in seen[-1][3]
    assert "MiB" in seen[-1][3]
    assert "runs/s" in seen[-1][3]
    status = json.loads((tmp_path / "status.json").read_bytes())
    assert (status["runs"], status["finished"], status["failed"]) == (4, 4, 2)
    assert status["seconds_left"] == 0
    seen.clear()
    mj.sweep(small(), space, task=QUADRATIC, folder=tmp_path, chunk=CHUNK, progress=lambda *call: seen.append(call))
    assert [(done, total) for _, done, total, _ in seen] == [(4, 4)]


def test_the_rate_is_of_all_the_time_since_compiling_also_when_a_run_takes_many_chunks(monkeypatch):
    # A second for every look at the clock.
    ticks = iter(range(10**6))
    monkeypatch.setattr(status_module.time, "monotonic", lambda: float(next(ticks)))
    notes = []
    cfg = small(optimizers={"a": mj.OptimizerConfig("sgd", learning_rate=0.1)})
    mj.sweep(cfg, {}, task=QUADRATIC, chunk=CHUNK, progress=lambda *call: notes.append(call))
    rates = [float(note.split(" runs/s")[0]) for phase, *_, note in notes if phase == "runs" and "runs/s" in note]
    # Never faster than a run between two looks, and the chunks of a run count as parts of it.
    assert rates
    assert all(0 < rate <= 1 for rate in rates)
    assert len([done for phase, done, *_ in notes if phase == "runs" and done < 1]) > 2


def test_equal_numbers_are_one_trial(tmp_path):
    trials = mj.sweep(small(), {"learning_rate": [1, 1.0, 0.5]}, task=QUADRATIC, chunk=CHUNK).trials
    assert [trial.optimizer.hyperparameters["learning_rate"] for trial in trials["momentum"]] == [1, 0.5]


def test_a_sweep_that_is_finished_trains_and_compiles_nothing(tmp_path):
    first = mj.sweep(small(), SPACE, folder=tmp_path, task=QUADRATIC, chunk=CHUNK)
    # With a chunk that nothing was compiled for.
    again = []
    assert compilations(lambda: again.append(mj.sweep(small(), SPACE, folder=tmp_path, task=QUADRATIC, chunk=9))) == 0
    assert again == [first]


def test_a_sweep_without_a_folder_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    mj.sweep(small(), SPACE, task=QUADRATIC, chunk=CHUNK)
    assert list(tmp_path.iterdir()) == []
