"""Records come back from Parquet equal to the bit, whatever they hold."""

import jax
import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.dataset
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

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
    table_read, read = records_from_parquet(content)
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
    _, read = records_from_parquet(records_to_parquet(described(runs), runs))
    for before, after in zip(runs, read, strict=True):
        identical(before.metrics, after.metrics)
