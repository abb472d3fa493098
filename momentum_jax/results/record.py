"""What one run leaves behind, and how many of them are stored as rows of a Parquet file."""

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, PyTree

from momentum_jax._base.trees import pack_whole, unpack_whole
from momentum_jax.results.parquet import read_parquet
from momentum_jax.results.tables import with_finals
from momentum_jax.space import Trial

_KINDS = b"momentum_jax"
_METRIC, _EVALUATION, _PARAMS = "metric.", "evaluation.", "params"


class Run(NamedTuple):
    """One trial with one seed.

    Attributes:
      label: of the optimizer.
      position: of the trial among those of the label; 0 outside of sweeps.
      trial: the optimizer with its hyperparameters, and the batch size.
      seed: of the initial weights and the batches.
    """

    label: str
    position: int
    trial: Trial
    seed: int


class Record(NamedTuple):
    """What one run left behind.

    Attributes:
      losses: after each recorded update.
      losses_before: likewise, before it.
      metrics: by name: [recorded, …].
      diverged_at: the first iteration whose loss is not finite; −1 if never.
      evaluations: by name, one entry an evaluation.
      failed: diverged, or at the end no better than a constant predictor.
      params: at the end, those that are evaluated; None where they are not kept.
    """

    losses: Float[np.ndarray, " recorded"]
    losses_before: Float[np.ndarray, " recorded"]
    metrics: dict[str, np.ndarray]
    diverged_at: int
    evaluations: dict[str, Float[np.ndarray, " evaluations"]]
    failed: bool
    params: PyTree[np.ndarray] | None

    @property
    def finals(self) -> dict[str, Any]:
        """The entries of the columns `tables.FINALS`."""
        last = {name: float(values[-1]) for name, values in self.evaluations.items() if len(values)}
        return {
            "final_train_loss": last.get("train_loss"),
            "test_loss": last.get("test_loss"),
            "test_accuracy": last.get("test_accuracy"),
            "failed": self.failed,
            "diverged_at": None if self.diverged_at < 0 else self.diverged_at,
        }


def to_parquet(described: Any, records: Sequence[Record]) -> bytes:
    """One row a run: its description, the final columns, its histories as lists, its parameters if they are kept."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    finals = [record.finals for record in records]
    table = with_finals(described, {name: [row[name] for row in finals] for name in finals[0]})
    # Dtype and shape of each row: a metric of the optimizer's state may differ between optimizers.
    kinds: dict[str, list[list[Any]]] = {}
    for name in _histories(records[0]):
        arrays = [_histories(record)[name] for record in records]
        kinds[name] = [[str(array.dtype), *array.shape] for array in arrays]
        table = table.append_column(name, _list_column(arrays))
    if records[0].params is not None:
        table = table.append_column(_PARAMS, pa.array([pack_whole(o.params, None) for o in records], pa.binary()))
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({_KINDS: json.dumps(kinds)}), sink, compression="zstd")
    return sink.getvalue()


def from_parquet(content: bytes) -> tuple[Any, Callable[[], list[Record]]]:
    """The table of the descriptions and final columns that `to_parquet` was given, and what gives the records."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(pa.BufferReader(content))
    kinds = json.loads(schema.metadata[_KINDS])
    plain = [name for name in schema.names if name not in kinds and name != _PARAMS]
    return read_parquet(content, plain), lambda: _records(content, kinds)


def _records(content: bytes, kinds: Mapping[str, Sequence[Sequence[Any]]]) -> list[Record]:

    table = read_parquet(content)
    arrays: dict[str, list[np.ndarray]] = {}
    for name, of_rows in kinds.items():
        flat = table.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)
        ends = np.cumsum([math.prod(shape) for _, *shape in of_rows])
        rows = np.split(flat, ends[:-1])
        arrays[name] = [
            row.astype(dtype, copy=False).reshape(shape) for row, (dtype, *shape) in zip(rows, of_rows, strict=True)
        ]
    params = table.column(_PARAMS) if _PARAMS in table.column_names else None
    diverged_at, failed = table.column("diverged_at").to_pylist(), table.column("failed").to_pylist()
    return [
        Record(
            losses=arrays["losses"][i],
            losses_before=arrays["losses_before"][i],
            metrics=_under(_METRIC, arrays, i),
            diverged_at=-1 if diverged_at[i] is None else diverged_at[i],
            evaluations=_under(_EVALUATION, arrays, i),
            failed=failed[i],
            params=None if params is None else unpack_whole(params[i].as_py())[0],
        )
        for i in range(len(table))
    ]


def _histories(record: Record) -> dict[str, np.ndarray]:
    return {
        "losses": record.losses,
        "losses_before": record.losses_before,
        **{f"{_METRIC}{name}": values for name, values in record.metrics.items()},
        **{f"{_EVALUATION}{name}": values for name, values in record.evaluations.items()},
    }


def _under(prefix: str, arrays: Mapping[str, Sequence[np.ndarray]], i: int) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): values[i] for name, values in arrays.items() if name.startswith(prefix)}


def _list_column(arrays: Sequence[np.ndarray]) -> Any:
    import pyarrow as pa

    # The dtypes of ml_dtypes, which Arrow does not know, are exact in float32.
    flat = [(a.astype(np.float32) if a.dtype.kind == "V" else a).reshape(-1) for a in arrays]
    offsets = np.cumsum([0, *(len(a) for a in flat)])
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(np.concatenate(flat)))
