"""Histories as Parquet."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

Histories = Mapping[str, Mapping[str, np.ndarray]]
"""By column, then by the optimizer's label: [seeds, recorded, …]."""


def history_bytes(
    labels: Sequence[str], seeds: Sequence[int], iterations: Int[np.ndarray, " recorded"], histories: Histories
) -> bytes:
    """Parquet with one row for each optimizer, seed and recorded iteration."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = len(seeds) * len(iterations)

    def column(by_label: Mapping[str, np.ndarray]) -> Any:
        # The dtypes of ml_dtypes, which Arrow does not know, are exact in float32.
        known = {k: v.astype(np.float32) if v.dtype.kind == "V" else v for k, v in by_label.items()}
        flat = [known[label].reshape(rows, -1) for label in labels]
        if all(entries.shape[1] == 1 for entries in flat):
            return pa.array(np.concatenate(flat).reshape(-1))
        return pa.array([entry for entries in flat for entry in entries])

    columns = {
        "optimizer": pa.array(np.repeat(labels, rows)).dictionary_encode(),
        "seed": pa.array(np.tile(np.repeat(np.asarray(seeds, np.int64), len(iterations)), len(labels))),
        "iteration": pa.array(np.tile(iterations, len(labels) * len(seeds))),
        **{name: column(by_label) for name, by_label in histories.items()},
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def read_parquet(content: bytes, columns: Sequence[str] | None = None) -> Any:
    """A Parquet file's table, or some of its columns.

    Read without pyarrow's threads: a process that ends while they start is aborted now and then.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(pa.BufferReader(content), pre_buffer=False) as file:
        return file.read(columns=columns, use_threads=False)


def history_kinds(histories: Histories) -> dict[str, dict[str, list[Any]]]:
    """The dtype and the shape of an entry, which Parquet does not keep, for `read_history`."""
    return {
        name: {label: [str(values.dtype), *values.shape[2:]] for label, values in by_label.items()}
        for name, by_label in histories.items()
    }


def read_history(
    content: bytes, labels: Sequence[str], seeds: Sequence[int], kinds: Mapping[str, Mapping[str, Sequence[Any]]]
) -> tuple[Int[np.ndarray, " recorded"], dict[str, dict[str, np.ndarray]]]:
    """The iterations and the histories that `history_bytes` wrote."""
    import pyarrow as pa

    table = read_parquet(content)
    recorded = len(table) // (len(labels) * len(seeds))

    def split(name: str) -> dict[str, np.ndarray]:
        values = table.column(name).combine_chunks()
        if pa.types.is_list(values.type):
            values = values.flatten()
        flat, start, by_label = values.to_numpy(zero_copy_only=False), 0, {}
        for label in labels:
            dtype, *shape = kinds[name][label]
            stop = start + len(seeds) * recorded * math.prod(shape)
            by_label[label] = flat[start:stop].astype(dtype).reshape(len(seeds), recorded, *shape)
            start = stop
        return by_label

    return table.column("iteration").to_numpy()[:recorded], {name: split(name) for name in kinds}
