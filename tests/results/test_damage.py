"""Folders that were damaged in any way: what is loaded has the same numbers, or is refused in one line, and soon.

The damage is drawn from a seed, so that a case that fails is found again by its number. A hostile folder is one whose
digests were made to agree with what is in it: it may be refused or hold other numbers, and nothing else may happen.
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import random
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax._base.reading import DIGEST, seal
from momentum_jax._base.trees import digest_of_tree, json_bytes, pack, unpack
from momentum_jax.report.command import comparison_command, result_command
from momentum_jax.results.parts import count_runs
from momentum_jax.results.result_folder import _digest_of_summary
from momentum_jax.results.store import read_status
from momentum_jax.sweeps import batches
from momentum_jax.training import compile as programs
from momentum_jax.training.checkpoint import Checkpoint
from tests.compiling import compile_quickly, quick_options
from tests.results.made import make_result
from tests.sweeps.small import CHUNK, METRICS, QUADRATIC, SPACE, small
from tests.training.small import same_trees

CASES, MANY = 15, 125
SECONDS = 20
PLACE = "checkpoint.npz"


class Kind(NamedTuple):
    """A kind of folder: one that is whole, how it is read, and whether what was read has the same numbers."""

    folder: pathlib.Path
    read: Callable[[pathlib.Path], Any]
    check: Callable[[Any, Any], None]


def read_training(folder):
    result = mj.Result.load(folder)
    result.table()
    result_command(result)
    return result


def read_sweep(folder):
    count_runs(folder)
    with contextlib.suppress(InputError):
        status = read_status(folder)
        assert {name: type(value) for name, value in status.items()}.keys() >= {"runs", "finished", "updated"}
    return read_training(folder)


def read_comparison(folder):
    compared = mj.Comparison.load(folder)
    comparison_command(compared)
    compared.table()
    return compared


def same_training(one, whole):
    assert one == whole


def same_sweep(one, whole):
    """The runs that are there have the same numbers; those that are not are said to be missing."""
    assert (one.config, repr(one.trials)) == (whole.config, repr(whole.trials))
    for label, missing in one.missing.items():
        same_trees(arrays_of(one, label, ~missing), arrays_of(whole, label, ~missing))


def arrays_of(result, label, there):
    """The arrays of some runs."""
    named = [*result.metrics.values(), *result.evaluations.values()]
    after = [result.losses_after] if result.losses_after else []
    by_label = [*after, result.losses_before, result.failed, result.diverged_at, *named]
    trees = [*(arrays[label] for arrays in by_label), result.params.get(label)]
    return jax.tree.map(lambda a: a[there], trees)


def same_comparison(one, whole):
    for a, b in ((one.tuning, whole.tuning), *zip(one.judged, whole.judged, strict=True)):
        same_sweep(a, b)
    complete = not any(missing.any() for result in (one.tuning, *one.judged) for missing in result.missing.values())
    if complete:
        assert repr(one.verdicts) == repr(whole.verdicts)
        assert one.plan == whole.plan


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """One whole folder of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    quick_options()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "_compile", compile_quickly)
        patch.setattr(batches, "BATCH_ITERATIONS", 30)
        make_result(metrics={"norm": make_result().losses}).save(folder / "training")
        cfg = small(seeds=2, iterations=12)
        mj.sweep(cfg, SPACE, task=QUADRATIC, folder=folder / "sweep", chunk=CHUNK, metrics=METRICS, keep_params=True)
        mj.compare(cfg, trials=2, tuning_seeds=1, rerun_seeds=1, task=QUADRATIC, folder=folder / "comparison")

        def stop(phase, done, total):
            if phase == "training" and done:
                raise KeyboardInterrupt

        with pytest.raises(mj.Interrupted):
            mj.train(
                cfg, task=QUADRATIC, checkpoint=folder / "checkpoint" / PLACE, metrics=METRICS, chunk=5, progress=stop
            )
    _, identity = unpack((folder / "checkpoint" / PLACE).read_bytes())
    del identity[DIGEST], identity["format"]

    def read_checkpoint(place):
        state = Checkpoint(place / PLACE, identity, 0).read()
        assert state is not None or not (place / PLACE).exists()
        return state

    def same_checkpoint(one, whole):
        assert one is None or same_trees(one, whole) is None

    return {
        "training": Kind(folder / "training", read_training, same_training),
        "sweep": Kind(folder / "sweep", read_sweep, same_sweep),
        "comparison": Kind(folder / "comparison", read_comparison, same_comparison),
        "checkpoint": Kind(folder / "checkpoint", read_checkpoint, same_checkpoint),
    }


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """Fails where the block takes too long: it waits for a pipe, say."""

    def late(*_):
        raise TimeoutError(f"still reading after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(content, rng, _):
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 8])):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut_out(content, rng, _):
    start, end = sorted(rng.choices(range(len(content) + 1), k=2))
    return content[:start] + content[end:]


def blank_out(content, rng, _):
    start, end = sorted(rng.choices(range(len(content) + 1), k=2))
    return content[:start] + bytes(end - start) + content[end:]


def another_digit(content, rng, _):
    at = [i for i, byte in enumerate(content) if 48 <= byte < 58]
    if not at:
        return b"7"
    i = rng.choice(at)
    return content[:i] + str(rng.randrange(10)).encode() + content[i + 1 :]


BYTES = [
    flip,
    cut_out,
    blank_out,
    another_digit,
    lambda content, rng, _: content[: rng.randrange(len(content) + 1)],
    lambda content, rng, _: content + rng.randbytes(rng.randrange(1, 100)),
    lambda content, rng, folder: rng.choice(files_of(folder)).read_bytes(),
    lambda content, rng, _: rng.choice([b"", b"null", b"[]", b"{}", b"3", b"[" * 10_000, b'{"a":' * 10_000]),
]


def no_file(path, rng):
    """Something else in the place of a file."""
    path.unlink()
    what = rng.randrange(6)
    if what == 0:
        os.mkfifo(path)
    elif what == 1:
        path.mkdir()
    elif what == 2:
        path.symlink_to(path.name)
    elif what == 3:
        path.symlink_to("/dev/zero")
    elif what == 4:
        with path.open("wb") as file:
            file.truncate(2**43)


def spoil(folder, rng):
    """Damages a file of a folder in one way, without regard to digests."""
    path = rng.choice(files_of(folder))
    how = rng.randrange(len(BYTES) + 1)
    if how == len(BYTES):
        no_file(path, rng)
    else:
        path.write_bytes(BYTES[how](path.read_bytes(), rng, folder))
    return f"{path.name}, {how}"


VALUES = [None, True, 0, -1, 1.5, 1e300, 2**70, "", "x", [], {}, [[1]], {"a": {"b": None}}, "ä\n\"'" * 100, [0] * 10]


def mutate(value, rng):
    """A JSON value that differs in one place somewhere."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        name = rng.choice(list(value))
        rest = {key: entry for key, entry in value.items() if key != name}
        return rest if rng.random() < 0.2 else value | {name: mutate(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        i = rng.randrange(len(value))
        return [*value[:i], *([] if rng.random() < 0.2 else [mutate(value[i], rng)]), *value[i + 1 :]]
    return rng.choice(VALUES)


def mutate_table(content, rng):
    """A Parquet file with one thing changed."""
    table = pq.read_table(io.BytesIO(content))
    name = rng.choice(table.column_names)
    i, column = table.column_names.index(name), table.column(name)
    metadata = dict(table.schema.metadata or {})
    how = rng.randrange(7)
    if how == 0:
        table = table.drop_columns([name])
    elif how == 1:
        table = table.slice(rng.randrange(len(table)))
    elif how == 2:
        table = table.set_column(i, name, pa.nulls(len(table), column.type))
    elif how == 3:
        table = table.set_column(i, name, pa.array(["x"] * len(table)))
    elif how == 4:
        table = pa.concat_tables([table, table])
    elif how == 5 and "params" in table.column_names:
        params = [hostile_npz(entry.as_py(), rng) for entry in table.column("params")]
        table = table.set_column(table.column_names.index("params"), "params", pa.array(params, pa.binary()))
    else:
        kinds = mutate(json.loads(metadata[b"momentum_jax"]), rng)
        metadata[b"momentum_jax"] = json.dumps(kinds).encode()
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), sink)
    return sink.getvalue()


def hostile_npz(content, rng):
    """A packed tree with something changed; the digest of a checkpoint is right."""
    tree, about = unpack(content)
    how = rng.randrange(5)
    if how == 0:
        return flip(content, rng, None)
    if how == 1:
        sink = io.BytesIO()
        with np.load(io.BytesIO(content)) as arrays:
            leaves = dict(arrays)
        head = mutate(json.loads(leaves.pop("json").tobytes()), rng)
        np.savez(sink, **leaves, json=np.frombuffer(json.dumps(head).encode(), np.uint8))
        return sink.getvalue()
    if how == 2:
        sink = io.BytesIO()
        with np.load(io.BytesIO(content)) as arrays:
            np.savez_compressed(sink, **arrays)
        return sink.getvalue()
    tree = jax.tree.map(
        lambda a: a if rng.random() < 0.7 else rng.choice([a[..., None], a.astype(np.float16), a * 0]), tree
    )
    if isinstance(about, dict):
        about = {name: value for name, value in about.items() if name != DIGEST}
        about |= {DIGEST: digest_of_tree(tree, about)}
    return pack(tree, about)


def attack(folder, rng):
    """Changes a file of a folder and makes every digest agree with it."""
    path = rng.choice(files_of(folder))
    content = path.read_bytes()
    if path.name in ("sweep.json", "status.json", "comparison.json"):
        value = json.loads(content)
        del value[DIGEST]
        changed = mutate(value, rng)
        path.write_text(json.dumps(seal(changed) if isinstance(changed, dict) else changed))
    elif path.name == "checkpoint.npz":
        path.write_bytes(hostile_npz(content, rng))
    elif path.suffix == ".parquet":
        change = mutate_table if rng.random() < 0.8 else lambda content, rng: flip(content, rng, None)
        path.write_bytes(change(content, rng))
        if path.parent.name == "parts":
            path.rename(path.with_stem(hashlib.sha256(path.read_bytes()).hexdigest()[:16]))
    else:
        path.write_text(json.dumps(mutate(json.loads(content), rng)))
    summary_path = folder / "result.json"
    with contextlib.suppress(OSError, ValueError, AttributeError, KeyError, TypeError):
        summary = json.loads(summary_path.read_bytes()) if summary_path.exists() else {}
        for name in summary.get("sha256", {}):
            if name != "result.json":
                summary["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        summary["sha256"]["result.json"] = _digest_of_summary(summary)
        summary_path.write_bytes(json_bytes(summary))
    return path.name


def try_case(kind, whole, damage, number, tmp_path):
    """Damages a copy of a folder and reads it; gives what was read, or None where it was refused."""
    rng = random.Random(number)
    copy = pathlib.Path(shutil.copytree(kind.folder, tmp_path / "copy"))
    what = damage(copy, rng)
    try:
        with in_time(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*(is damaged; its runs are left out|holds runs of another sweep)")
            warnings.filterwarnings("ignore", "overflow|invalid value", RuntimeWarning)
            read = kind.read(copy)
        if damage is spoil:
            kind.check(read, whole)
    except InputError as error:
        if "\n" in str(error) or len(str(error)) > 1000:
            raise AssertionError(f"case {number}: {what}: more than a line") from error
    except BaseException as error:
        error.add_note(f"case {number}: {what}")
        raise
    finally:
        shutil.rmtree(copy)


@pytest.mark.parametrize("damage", [spoil, attack])
@pytest.mark.parametrize("name", ["training", "sweep", "comparison", "checkpoint"])
@pytest.mark.parametrize(
    "cases", [range(CASES), pytest.param(range(CASES, MANY), marks=pytest.mark.exhaustive)], ids=["few", "many"]
)
def test_a_damaged_folder_gives_the_same_numbers_or_is_refused_in_one_line(kinds, tmp_path, name, damage, cases):
    kind = kinds[name]
    whole = kind.read(kind.folder)
    kind.check(whole, whole)
    for number in cases:
        try_case(kind, whole, damage, number, tmp_path)
