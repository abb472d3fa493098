"""Records as rows of a Parquet file, equal to the bit when they are read back."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from momentum_jax._base.machine import memory_of_machine
from momentum_jax._base.reading import check_schema, parse_json, reason
from momentum_jax._base.trees import dtype_named, pack, unpack
from momentum_jax.results.record import Record

_KINDS = b"momentum_jax"
_METRIC, _EVALUATION, _PARAMS, _ERROR = "metric.", "evaluation.", "params", "error"
# At most, of a number.
_VALUE_BYTES = 8


def records_to_parquet(table: Any, records: Sequence[Record]) -> bytes:
    """Writes one row a run: the table's columns, the histories as lists, and parameters and errors if there are any.

    Dtypes and shapes of the histories are JSON in the schema's metadata, row by row: a metric of the optimizer's
    state may differ between optimizers. Parameters are one npz a row. Parquet has no bfloat16, which goes through
    float32: a NaN keeps its sign and loses its payload.

    Args:
      table: one row a record, the columns `tables.FINALS` among its own.
      records: at least one, all with the same names of metrics and evaluations.

    Raises:
      InputError: the parameters are not dicts, lists and tuples of arrays.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[str, list[list[Any]]] = {}
    for name in _histories(records[0]):
        arrays = [_histories(record)[name] for record in records]
        kinds[name] = [[str(array.dtype), *array.shape] for array in arrays]
        table = table.append_column(name, _list_column(arrays))
    if records[0].params is not None:
        packed = [pack(record.params, None) for record in records]
        table = table.append_column(_PARAMS, pa.array(packed, pa.binary()))
    if records[0].error is not None:
        table = table.append_column(_ERROR, pa.array([record.error for record in records], pa.string()))
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({_KINDS: json.dumps(kinds)}), sink, compression="zstd")
    return sink.getvalue()


def records_from_parquet(content: bytes, most: int) -> tuple[Any, list[Record]]:
    """Reads the table and the records that `records_to_parquet` was given.

    Args:
      content: of the file.
      most: how many runs it may hold.

    Raises:
      ValueError: the content is damaged, or `records_to_parquet` did not write it.
    """
    try:
        return _records_of(read_parquet(content, most))
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"it does not hold runs: {reason(error)}") from error


def _records_of(table: Any) -> tuple[Any, list[Record]]:
    kinds = parse_json(table.schema.metadata[_KINDS])
    check_schema(kinds, {str: [list]})
    arrays = {name: _arrays_of(table.column(name), of_rows) for name, of_rows in kinds.items()}
    params = table.column(_PARAMS) if _PARAMS in table.column_names else None
    diverged_at, failed = table.column("diverged_at").to_pylist(), table.column("failed").to_pylist()
    errors = table.column(_ERROR).to_pylist() if _ERROR in table.column_names else [None] * len(table)
    check_schema(errors, [(str, type(None))], _ERROR)
    check_schema({"diverged_at": diverged_at, "failed": failed}, {"diverged_at": [(int, type(None))], "failed": [bool]})
    records = [
        Record(
            losses=arrays["losses"][i] if "losses" in arrays else None,
            losses_before=arrays["losses_before"][i],
            metrics=_with_prefix(_METRIC, arrays, i),
            diverged_at=-1 if diverged_at[i] is None else diverged_at[i],
            evaluations=_with_prefix(_EVALUATION, arrays, i),
            failed=failed[i],
            params=None if params is None else unpack(params[i].as_py())[0],
            error=errors[i],
        )
        for i in range(len(table))
    ]
    described = table.select([name for name in table.column_names if name not in kinds and name != _PARAMS])
    return described.replace_schema_metadata(None), records


def read_parquet(content: bytes, most: int, columns: Sequence[str] | None = None) -> Any:
    """Reads a Parquet file's table, or some of its columns, without pyarrow's threads.

    A process that ends while those threads start is aborted now and then.

    Args:
      content: of the file.
      most: how many rows it may have.
      columns: those to read, by default all.

    Raises:
      ValueError: the content is no Parquet file, or one of more rows, or of more values than the memory holds.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(pa.BufferReader(content), pre_buffer=False) as file:
            for group in range(file.metadata.num_row_groups):
                # Reads no row. It raises on statistics that do not fit a column's type, where `column` of the metadata
                # aborts the process.
                next(file.reader.iter_batches(0, [group], use_threads=False), None)
            _check_size(file.metadata, most, columns)
            return file.read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise ValueError(reason(error)) from error


def _check_size(metadata: Any, most: int, columns: Sequence[str] | None) -> None:
    """Refuses what a file says of its size: equal values take next to nothing in it, and their room in the memory."""
    if metadata.num_rows > most:
        raise ValueError(f"it has {metadata.num_rows} rows, and can have at most {most}")
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    chunks = [group.column(j) for group in groups for j in range(metadata.num_columns)]
    read = [chunk for chunk in chunks if columns is None or chunk.path_in_schema in columns]
    size = sum(max(chunk.total_uncompressed_size, _VALUE_BYTES * chunk.num_values) for chunk in read)
    if size > memory_of_machine():
        raise ValueError(f"its values take {size} bytes, and at most {memory_of_machine()} can be read")


def _arrays_of(column: Any, kinds: Sequence[Sequence[Any]]) -> list[np.ndarray]:
    """The array of each row of a list column, given its dtype and shape.

    Raises:
      ValueError: a row has another length, or values of another dtype.
    """
    lists = column.combine_chunks()
    flat = lists.flatten()
    check_schema([shape for _, *shape in kinds], [[int]], "shape")
    lengths = [math.prod(shape) for _, *shape in kinds]
    if lists.value_lengths().to_pylist() != lengths or lists.null_count or flat.null_count:
        raise ValueError("an array is not as long as its shape says")
    flat = flat.to_numpy(zero_copy_only=False)
    dtypes = [dtype_named(name) for name, *_ in kinds]
    # As `_list_column` stores them: all rows of a column in one dtype.
    if kinds and flat.dtype != np.result_type(*(np.float32 if dtype.kind == "V" else dtype for dtype in dtypes)):
        raise ValueError(f"arrays of {', '.join({dtype.name for dtype in dtypes})} are not stored as {flat.dtype}")
    rows = np.split(flat, np.cumsum(lengths)[:-1])
    return [
        row.astype(dtype, copy=False).reshape(shape)
        for row, dtype, (_, *shape) in zip(rows, dtypes, kinds, strict=True)
    ]


def _histories(record: Record) -> dict[str, np.ndarray]:
    return {
        **({} if record.losses is None else {"losses": record.losses}),
        "losses_before": record.losses_before,
        **{f"{_METRIC}{name}": values for name, values in record.metrics.items()},
        **{f"{_EVALUATION}{name}": values for name, values in record.evaluations.items()},
    }


def _with_prefix(prefix: str, arrays: Mapping[str, Sequence[np.ndarray]], i: int) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): values[i] for name, values in arrays.items() if name.startswith(prefix)}


def _list_column(arrays: Sequence[np.ndarray]) -> Any:
    import pyarrow as pa

    # Arrow lacks the dtypes of ml_dtypes; float32 holds each of their numbers exactly.
    flat = [(a.astype(np.float32) if a.dtype.kind == "V" else a).reshape(-1) for a in arrays]
    offsets = np.cumsum([0, *(len(a) for a in flat)])
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(np.concatenate(flat)))
