"""Records come back from Parquet equal to the bit, whatever they hold."""

import contextlib

import jax
import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from momentum_jax.results import parquet
from momentum_jax.results.parquet import records_from_parquet, records_to_parquet
from momentum_jax.results.record import Record
from momentum_jax.results.tables import with_finals

DTYPES = ["float32", "float64", "float16", "bfloat16", "bool", "int8", "int32", "int64", "uint8", "uint32"]


def arrays(dtype, shape):
    """Arrays of any bits that the dtype has, NaN with sign and payload among them where Arrow knows the dtype."""
    if dtype == "bfloat16":
        bits = st_numpy.arrays(np.uint16, shape)
        # Through float32 a NaN keeps its sign, not its payload.
        return bits.map(lambda a: np.where((a & 0x7FFF) > 0x7F80, (a & 0x8000) | 0x7FC0, a).view(ml_dtypes.bfloat16))
    return st_numpy.arrays(np.dtype(dtype), shape)


@st.composite
def records(draw):
    """Some runs of one part: histories and evaluations of one kind, metrics each of its own, or none at all."""
    runs, recorded, evaluations = draw(st.integers(1, 4)), draw(st.integers(0, 3)), draw(st.integers(0, 2))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    names = draw(st.lists(st.sampled_from(["a", "b.c", "losses", "π"]), unique=True))
    kinds = {
        name: (
            draw(st.sampled_from(DTYPES)),
            draw(st_numpy.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)),
        )
        for name in names
    }
    keep = draw(st.booleans())
    return [
        Record(
            losses=draw(arrays(dtype, (recorded,))),
            losses_before=draw(arrays(dtype, (recorded,))),
            metrics={name: draw(arrays(kind, (recorded, *shape))) for name, (kind, shape) in kinds.items()},
            diverged_at=draw(st.sampled_from([-1, 0, 7])),
            evaluations={"train_loss": draw(arrays("float32", (evaluations,)))},
            failed=draw(st.booleans()),
            params={"w": draw(arrays("bfloat16", (2, 2))), "b": [draw(arrays("float32", ())), None]} if keep else None,
        )
        for _ in range(runs)
    ]


def identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


def described(records):
    finals = {name: [record.finals[name] for record in records] for name in records[0].finals}
    return with_finals(pa.table({"optimizer": ["it"] * len(records), "seed": list(range(len(records)))}), finals)


@given(records())
def test_runs_come_back_from_parquet_to_the_bit(given_records):
    table = described(given_records)
    content = records_to_parquet(table, given_records)
    table_read, read = records_from_parquet(content, len(given_records))
    assert table_read.select(["optimizer", "seed", "failed"]).equals(table.select(["optimizer", "seed", "failed"]))
    assert table_read.column_names == table.column_names
    for before, after in zip(given_records, read, strict=True):
        assert type(after.failed) is bool
        assert type(after.diverged_at) is int
        identical(before._asdict(), after._asdict())
    assert records_to_parquet(table, given_records) == content


@given(st.data())
def test_runs_of_several_kinds_in_one_part_come_back_to_the_bit(data):
    runs = []
    for dtype, shape in (("float32", (2,)), ("int32", ()), ("bfloat16", (0,)), ("bool", (1, 3))):
        metric = data.draw(arrays(dtype, (2, *shape)))
        empty = np.zeros(2, np.float32)
        runs.append(Record(empty, empty, {"m": metric}, -1, {}, False, None))
    _, read = records_from_parquet(records_to_parquet(described(runs), runs), len(runs))
    for before, after in zip(runs, read, strict=True):
        identical(before.metrics, after.metrics)


@pytest.fixture
def unread(monkeypatch):
    """Fails where a table is read after all."""
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("read"))


def constant(runs, recorded):
    """A file of equal runs whose histories are all zeros: a megabyte of them takes less than a kilobyte."""
    zeros = np.zeros(recorded, np.float32)
    records = [Record(zeros, zeros, {}, -1, {}, False, None)] * runs
    return records_to_parquet(described(records), records)


@pytest.mark.usefixtures("unread")
def test_a_file_of_more_runs_than_there_can_be_is_refused_before_it_is_read():
    with pytest.raises(ValueError, match=r"^it has 3 rows, and can have at most 2$"):
        records_from_parquet(constant(3, 1), 2)


def test_a_file_of_more_values_than_the_memory_holds_is_refused_before_it_is_read(monkeypatch, unread):
    del unread
    content, most = constant(2, 100_000), 1_000_000
    assert len(content) < 10_000
    monkeypatch.setattr(parquet, "memory_of_machine", lambda: most)
    # Two histories of two runs, and some hundred bytes of other columns.
    with pytest.raises(ValueError, match=r"^its values take 320\d{4} bytes, and at most 1000000 can be read$"):
        records_from_parquet(content, 2)


def test_what_the_memory_just_holds_is_read(monkeypatch):
    content = constant(2, 1000)
    with monkeypatch.context() as patch:
        patch.setattr(parquet, "memory_of_machine", lambda: 1)
        with pytest.raises(ValueError, match="bytes, and at most 1 can be read") as error:
            records_from_parquet(content, 2)
    size = int(str(error.value).split()[3])
    monkeypatch.setattr(parquet, "memory_of_machine", lambda: size)
    assert len(records_from_parquet(content, 2)[1]) == 2


@pytest.mark.exhaustive
def test_a_footer_with_a_wrong_bit_is_read_or_refused_and_aborts_nothing():
    content = constant(1, 1)
    footer = int.from_bytes(content[-8:-4], "little") + 8
    read = 0
    for bit in range(8 * footer):
        damaged = bytearray(content)
        damaged[-1 - bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(ValueError):
            parquet.read_parquet(bytes(damaged), 1)
            read += 1
    assert 0 < read < 8 * footer
