"""A sweep's folder: nothing half written, nothing damaged believed, nothing of another sweep mixed in."""

import errno
import fcntl
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

import momentum_jax as mj
from momentum_jax._base import files
from momentum_jax._base.errors import InputError
from momentum_jax.results import store
from momentum_jax.results.head import digests_of, read_head, run_digests
from momentum_jax.results.parquet import records_from_parquet, records_to_parquet
from momentum_jax.results.parts import Reader, count_runs, part_name
from momentum_jax.space import make_trials
from momentum_jax.sweeps import batches
from tests.sealing import rewrite_sealed

OPTIMIZERS = {
    "sgd": mj.OptimizerConfig("sgd", learning_rate=0.1),
    "momentum": mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=0.9),
}
CFG = mj.Config(iterations=30, batch_size=16, seeds=2, optimizers=OPTIMIZERS)
SPACE = {"learning_rate": [0.1, 0.3], "momentum": {"momentum": [0.5, 0.9]}}
RUNS = 12


def _loss(params, batch):
    return jnp.mean(jnp.sum((params["w"][None] - batch) ** 2, axis=-1)) / 2


def _init(key):
    return {"w": jax.random.normal(key, [3])}


def _larger():
    """A function of the same name as `_init`, of a network with more parameters."""

    def init(key):
        return {**_init(key), "more": jnp.zeros(2)}

    init.__qualname__ = _init.__qualname__
    return init


ROWS = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
QUADRATIC = mj.Task(init=_init, loss=_loss, train=ROWS, test=ROWS[:50])


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Batches of one run on each device, so that a sweep has many parts."""
    monkeypatch.setattr(batches, "BATCH_ITERATIONS", CFG.iterations)


def sweep(folder, cfg=CFG, space=SPACE, **options):
    return mj.sweep(cfg, space, **{"task": QUADRATIC, "chunk": 10, "keep_params": True, "folder": folder, **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished sweep, for reading, and its result."""
    folder = tmp_path_factory.mktemp("finished") / "sweep"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "BATCH_ITERATIONS", CFG.iterations)
        return folder, sweep(folder)


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of it to spoil."""
    return shutil.copytree(finished[0], tmp_path / "sweep")


def contents(folder):
    """Every file and its bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def parts(folder):
    return sorted((folder / "parts").iterdir())


def test_a_part_is_named_by_the_digest_of_its_content(finished):
    assert len(parts(finished[0])) == RUNS / 2
    for part in parts(finished[0]):
        assert part.name == hashlib.sha256(part.read_bytes()).hexdigest()[:16] + ".parquet"


def test_what_is_loaded_is_what_the_sweep_gave(finished):
    folder, result = finished
    before = contents(folder)
    loaded = mj.Result.load(folder)
    assert loaded == result
    assert loaded.table().equals(result.table())
    assert [repr(trial) for trial in loaded.trials["momentum"]] == [repr(trial) for trial in result.trials["momentum"]]
    assert contents(folder) == before


def test_histories_can_be_read_run_by_run_each_once(finished, folder):
    result = finished[1]
    reader = Reader(folder, CFG, result.trials, digests_of(read_head(folder), CFG, result.trials))
    # Two parts with the same runs, such as two machines may leave behind.
    table, records = records_from_parquet(parts(folder)[0].read_bytes(), 10)
    content = records_to_parquet(table.append_column("copy", [[1] * len(table)]), records)
    (folder / "parts" / f"{part_name(content)}.parquet").write_bytes(content)
    assert len(parts(folder)) == RUNS / 2 + 1
    runs = list(reader.each())
    assert len(runs) == RUNS
    for label, (trial, seed), record in runs:
        np.testing.assert_array_equal(record.losses_before, result.losses_before[label][trial, seed])
    for part in parts(folder)[:3]:
        part.unlink()
    with pytest.raises(InputError, match="no longer holds all runs"):
        list(reader.each())


def test_reading_leaves_no_thread_that_could_outlive_the_interpreter(finished, monkeypatch):
    # Those of Arrow's scanner, which is behind this function, abort one in four short processes at their end.
    monkeypatch.setattr(pq, "read_table", None)
    assert mj.Result.load(finished[0]) == finished[1]


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {"flipped": flip, "truncated": lambda content: content[:-1], "emptied": lambda content: b""}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_part_is_set_aside_and_its_runs_are_run_again_to_the_same_bits(folder, finished, damage):
    part = parts(folder)[1]
    damaged = damage(part.read_bytes())
    part.write_bytes(damaged)
    with pytest.warns(UserWarning, match=r"is damaged; its runs are run again, and it is set aside in damaged"):
        result = sweep(folder)
    assert result == finished[1]
    assert (folder / "damaged" / part.name).read_bytes() == damaged
    # The same runs in the same batch are the same bytes.
    assert [path.name for path in parts(folder)] == [path.name for path in parts(finished[0])]
    assert sweep(folder) == finished[1]


def test_loading_leaves_a_damaged_part_out_and_where_it_is(folder, finished):
    part = parts(folder)[1]
    part.write_bytes(flip(part.read_bytes()))
    before = contents(folder)
    with pytest.warns(UserWarning, match="is damaged; its runs are left out"):
        loaded = mj.Result.load(folder)
    assert contents(folder) == before
    assert sum(int(missing.sum()) for missing in loaded.missing.values()) == 2
    assert len(loaded.table()) == RUNS - 2
    for label, missing in loaded.missing.items():
        np.testing.assert_array_equal(loaded.losses_before[label][~missing], finished[1].losses_before[label][~missing])
        assert np.isnan(loaded.losses_before[label][missing]).all()


def test_runs_that_are_not_of_the_sweep_are_left_out(folder, finished, tmp_path):
    sweep(tmp_path / "other", space={"learning_rate": [0.7]})
    for part in parts(tmp_path / "other"):
        shutil.copy(part, folder / "parts")
    assert mj.Result.load(folder) == finished[1]
    assert count_runs(folder) == (RUNS, 0)
    assert sweep(folder) == finished[1]


def change_head(folder, path, value):
    def change(head):
        entry = head
        for name in path[:-1]:
            entry = entry[name]
        entry[path[-1]] = value
        return head

    rewrite_sealed(folder / "sweep.json", change)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cfg": mj.Config(**{**vars(CFG), "l2": 0.1})}, "another sweep: l2 is 0.0, not 0.1"),
        ({"cfg": mj.Config(**{**vars(CFG), "iterations": 40})}, "another sweep: iterations is 30, not 40"),
        ({"layout": "vmap"}, 'environment.layout is "map", not "vmap"'),
        ({"keep_params": False}, "keep_params is true, not false"),
        ({"metrics": {"zero": lambda p, s, g: jnp.zeros(())}}, "functions.zero is not there, not"),
        ({"task": mj.Task(_init, _loss, ROWS * 2, ROWS)}, "data is"),
        ({"task": mj.Task(_larger(), _loss, ROWS, ROWS[:50])}, "params.more is not there, not [2]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_folder_of_another_sweep_is_refused_by_the_first_difference_and_left_as_it_is(folder, options, words):
    before = contents(folder)
    with pytest.raises(InputError) as error:
        sweep(folder, **options)
    assert "holds another sweep" in str(error.value)
    assert words in str(error.value)
    assert contents(folder) == before


def test_another_jaxlib_is_refused_and_other_versions_of_the_rest_are_not(folder, finished):
    change_head(folder, ["versions", "optax"], "0.0.1")
    assert sweep(folder) == finished[1]
    change_head(folder, ["environment", "jaxlib"], "0.0.1")
    with pytest.raises(
        InputError, match=r"is of jaxlib 0\.0\.1 and this is .*: it can be read, but no runs can be added"
    ):
        sweep(folder)
    # It can be read all the same.
    assert mj.Result.load(folder).provenance["environment"]["jaxlib"] == "0.0.1"


def test_a_folder_of_another_version_or_with_a_damaged_head_is_refused(folder):
    change_head(folder, ["format"], 99)
    for attempt in (sweep, mj.Result.load):
        with pytest.raises(InputError, match=r"sweep\.json is not of this version"):
            attempt(folder)
    (folder / "sweep.json").write_bytes(b'{"format"')
    for attempt in (sweep, mj.Result.load):
        with pytest.raises(InputError, match="holds no sweep"):
            attempt(folder)


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").write_text("all I have")
    with pytest.raises(InputError, match="holds files that are not a sweep of this program; choose another"):
        sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match=r"thesis\.tex' cannot be written: Not a directory"):
        sweep(tmp_path / "thesis.tex")
    with pytest.raises(InputError, match="cannot be written: Not a directory"):
        sweep(tmp_path / "thesis.tex" / "sweep")


def test_an_empty_folder_is_taken(tmp_path, finished):
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert sweep(tmp_path / "a" / "b", space={}).losses_before["sgd"].shape == (1, 2, 30)


HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX)
file.truncate(0)
file.write("process 7 on host")
file.flush()
print("held", flush=True)
time.sleep(600)
"""


def test_a_folder_is_for_one_sweep_at_a_time_and_free_as_soon_as_that_is_dead(folder, finished):
    assert not store.in_use(folder)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder / store.LOCK)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"
            assert store.in_use(folder)
            before = contents(folder)
            with pytest.raises(InputError, match=r"is in use by another sweep \(process 7 on host\)"):
                sweep(folder)
            assert contents(folder) == before
            assert mj.Result.load(folder) == finished[1]
        finally:
            holder.send_signal(signal.SIGKILL)
    assert sweep(folder) == finished[1]
    assert not store.in_use(folder)


def test_the_lock_of_a_running_sweep_is_the_operating_systems_and_names_its_process(tmp_path):
    seen = []

    def look(phase, done, total, note=""):
        if not seen:
            with pytest.raises(InputError, match=f"process {os.getpid()} on "):
                sweep(tmp_path)
            with (tmp_path / store.LOCK).open() as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            seen.append(store.in_use(tmp_path))

    sweep(tmp_path, space={}, progress=look)
    assert seen == [True]


def test_what_a_killed_process_was_writing_is_cleared_away(folder, finished, tmp_path):
    killed = [
        folder / "parts" / ".0123.parquet.0123456789abcdef.tmp",
        folder / ".sweep.json.0123456789abcdef.tmp",
        folder / ".status.json.fedcba9876543210.tmp",
    ]
    for path in killed:
        path.write_bytes(b"half")
    assert sweep(folder) == finished[1]
    assert not any(path.exists() for path in killed)
    # Killed before the first file was whole.
    (tmp_path / "new" / "parts").mkdir(parents=True)
    (tmp_path / "new" / store.LOCK).touch()
    (tmp_path / "new" / ".sweep.json.0123456789abcdef.tmp").write_bytes(b"half")
    assert sweep(tmp_path / "new") == finished[1]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"parts", "status.json", "sweep.json"}


def no_space_from(monkeypatch, module, name, number, which):
    """Lets a function fail, as on a full disk, from its so many-th call on for files of such a name."""
    calls, original = [], getattr(module, name)

    def failing(*arguments):
        if which in pathlib.Path(str(arguments[-1] if name == "replace" else arguments[0])).name:
            calls.append(arguments)
            if len(calls) >= number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*arguments)

    monkeypatch.setattr(module, name, failing)


@pytest.mark.parametrize(("module", "name"), [(store, "write_atomically"), (files.os, "replace"), (files.os, "fsync")])
def test_a_full_disk_ends_a_sweep_with_its_runs_intact_and_it_goes_on_to_the_same_bits(
    tmp_path, finished, monkeypatch, module, name
):
    with monkeypatch.context() as patch:
        # fsync is given a descriptor, and called for a file and its folder: of the head, the status twice, a part each.
        no_space_from(patch, module, name, 9 if name == "fsync" else 3, "" if name == "fsync" else "parquet")
        with pytest.raises(InputError) as error:
            sweep(tmp_path)
    written = 1 if name == "fsync" else 2
    assert "No space left on device" in str(error.value)
    assert f"the {2 * written} runs finished before are intact" in str(error.value)
    assert len(parts(tmp_path)) == written
    partial = mj.Result.load(tmp_path)
    assert len(partial.table()) == 2 * written
    assert sweep(tmp_path) == finished[1]


def test_a_disk_that_is_full_from_the_start_is_told_and_leaves_nothing_that_would_be_in_the_way(
    tmp_path, finished, monkeypatch
):
    with monkeypatch.context() as patch:
        no_space_from(patch, files.os, "replace", 1, "sweep")
        with pytest.raises(InputError, match="cannot be written: No space left on device"):
            sweep(tmp_path)
    assert sweep(tmp_path) == finished[1]


def test_a_status_that_cannot_be_written_does_no_harm(tmp_path, finished, monkeypatch):
    no_space_from(monkeypatch, files.os, "replace", 1, "status")
    assert sweep(tmp_path) == finished[1]


def digests_in(folder, cfg, trials):
    return digests_of(read_head(folder), cfg, trials)


def test_the_digest_of_a_run_is_that_of_its_own_config_and_program(finished):
    schedule = mj.Schedule("warmup_cosine", peak_value=0.3, warmup_steps=5, decay_steps=100)
    cfg = mj.Config(batch_size=16, seeds=(3, 5), optimizers=OPTIMIZERS, l2=0.1)
    trials = make_trials(cfg, {"learning_rate": [0.1, schedule], "batch_size": [8, 16]})
    programs = {label: [f"{label} {i % 2}" for i in range(len(own))] for label, own in trials.items()}
    digests = run_digests(cfg, trials, programs)
    assert len(set(digests.values())) == len(digests) == 16
    for (label, position, trial, seed), digest in digests.items():
        assert trial == trials[label][position]
        alone = mj.Config(batch_size=trial.batch_size, seeds=(seed,), optimizers={label: trial.optimizer}, l2=0.1)
        values = alone.to_json() | {"program": programs[label][position]}
        assert digest == hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    columns = [pq.read_table(part, columns=["digest"]).column(0).to_pylist() for part in parts(finished[0])]
    assert sorted(itertools.chain(*columns)) == sorted(digests_in(finished[0], CFG, make_trials(CFG, SPACE)).values())


@pytest.mark.usefixtures("compiled_quickly")
def test_the_parts_have_one_schema_and_are_one_dataset(tmp_path):
    # Values that are there for some trials only, of several types, in parts of their own.
    space = {
        "sgd": {"weight_decay": [None, 0.1]},
        "momentum": {"convention": ["inside", "outside"], "accumulator_dtype": [None, "float32"]},
    }
    result = sweep(tmp_path, space=space, metrics={"position": lambda params, state, grads: params["w"]})
    schemas = [pq.read_schema(part).remove_metadata() for part in parts(tmp_path)]
    assert len(schemas) > 3
    assert all(schema.equals(schemas[0]) for schema in schemas)
    table = pyarrow.dataset.dataset(tmp_path / "parts").to_table()
    digests = digests_in(tmp_path, CFG, result.trials)
    order = [table.column("digest").to_pylist().index(digest) for digest in digests.values()]
    table = table.take(order)
    assert table.select(result.table().column_names).equals(result.table())
    losses = np.concatenate([a.reshape(-1, 30) for a in result.losses_before.values()])
    np.testing.assert_array_equal(np.asarray(table.column("losses_before").to_pylist(), np.float32), losses)
    np.testing.assert_array_equal(
        np.asarray(table.column("metric.position").to_pylist(), np.float32).reshape(-1, 30, 3),
        np.concatenate([a.reshape(-1, 30, 3) for a in result.metrics["position"].values()]),
    )


def test_hyperparameters_may_have_the_names_of_the_stores_own_columns(tmp_path):
    def factory(digest, losses=0.0, params=0, seed=0, failed=False):
        return mj.sgd(digest)

    cfg = mj.Config(**{**vars(CFG), "optimizers": {"odd": mj.OptimizerConfig(factory, digest=0.1)}})
    result = sweep(tmp_path, cfg, {"digest": [0.1, 0.2], "losses": [0.5], "params": [1], "seed": [9], "failed": [True]})
    reference = sweep(None, space={"learning_rate": [0.1, 0.2]})
    assert result.losses_before["odd"].tobytes() == reference.losses_before["sgd"].tobytes()
    assert result.table().column("seed").to_pylist() == [0, 1, 0, 1]
    assert result.table().column("hyperparameter.digest").to_pylist() == [0.1, 0.1, 0.2, 0.2]


@pytest.mark.parametrize("content", [b"null", b"[]", b"{}", b"", b"[" * 10_000, b'{"format": 4, "runs": 12}'], ids=str)
def test_a_status_that_is_damaged_is_refused_in_one_line(folder, content):
    assert store.read_status(folder)["finished"] == RUNS
    (folder / "status.json").write_bytes(content[:40] if content[:2] == b"[[" else content)
    with pytest.raises(InputError, match=r"status\.json|report on its sweep") as error:
        store.read_status(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [{"updated": 1e300}, {"seconds_left": -1}, {"finished": True}, {"runs": None}])
def test_a_status_of_impossible_numbers_is_refused_though_its_digest_is_right(folder, change):
    rewrite_sealed(folder / "status.json", lambda status: status | change)
    with pytest.raises(InputError, match=r"status\.json is damaged"):
        store.read_status(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trials": {}}, "trials are not of the optimizers"),
        ({"trials": {"sgd": []}}, "trials are not of the optimizers"),
        ({"trials": {"sgd": [{"name": "sgd"}]}}, r"trials\.sgd\[0\]\.hyperparameters is missing"),
        ({"config": {}}, "task is not there"),
        ({"versions": None}, "versions must be an object, not None"),
    ],
)
def test_a_head_of_another_form_is_refused_though_its_digest_is_right(folder, change, words):
    rewrite_sealed(folder / "sweep.json", lambda head: head | change)
    with pytest.raises(InputError, match=rf"sweep\.json is (damaged|not of this program): .*{words}"):
        mj.Result.load(folder)


def test_a_changed_digit_of_the_head_is_found(folder):
    text = (folder / "sweep.json").read_text()
    (folder / "sweep.json").write_text(text.replace('"learning_rate": 0.1', '"learning_rate": 0.2', 1))
    for attempt in (sweep, mj.Result.load):
        with pytest.raises(InputError, match=r"sweep\.json is damaged: its digest is of another content"):
            attempt(folder)


def test_garbage_and_pipes_among_the_parts_are_left_out_though_their_names_are_right(folder, finished):
    name = hashlib.sha256(b"garbage").hexdigest()[:16]
    (folder / "parts" / f"{name}.parquet").write_bytes(b"garbage")
    os.mkfifo(folder / "parts" / "0123456789abcdef.parquet")
    assert count_runs(folder) == (RUNS, 0)
    with pytest.warns(UserWarning, match="is damaged; its runs are left out"):
        assert mj.Result.load(folder) == finished[1]


def test_a_part_that_declares_more_runs_than_it_has_bytes_for_is_left_out_unread(folder, finished, monkeypatch):
    same = pq.read_table(parts(folder)[0]).take([0] * 20_000).replace_schema_metadata(None)
    path = folder / "parts" / "part.parquet"
    pq.write_table(same, path)
    path.rename(path.with_stem(hashlib.sha256(path.read_bytes()).hexdigest()[:16]))
    read = pq.ParquetFile.read

    def read_few(file, *args, **kwargs):
        assert file.metadata.num_rows < len(same)
        return read(file, *args, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "read", read_few)
    assert count_runs(folder) == (RUNS, 0)
    with pytest.warns(UserWarning, match="is damaged; its runs are left out"):
        assert mj.Result.load(folder) == finished[1]


def test_a_part_of_shorter_runs_is_refused_though_its_name_and_digests_are_right(folder):
    path = parts(folder)[0]
    table, records = records_from_parquet(path.read_bytes(), RUNS)
    short = [record._replace(losses_before=record.losses_before[:-1]) for record in records]
    content = records_to_parquet(table, short)
    path.with_stem(hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
    path.unlink()
    with pytest.raises(InputError, match=r"cannot be used: the (runs|histories) of"):
        mj.Result.load(folder)
