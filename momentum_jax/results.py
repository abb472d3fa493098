"""What a set of runs left behind, in memory and on disk."""

import dataclasses
import hashlib
import io
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import ml_dtypes
import numpy as np
from jaxtyping import Bool, Float, Int, PyTree

from momentum_jax.config import Config, Schedule
from momentum_jax.errors import InputError
from momentum_jax.files import write_atomically

ByLabel = dict[str, Any]
_FORMAT = 1
_FILES = ("config.json", "history.parquet", "params.npz")


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What `train` returns. Every dict is keyed by the optimizers' labels; every array's first axis is the seeds.

    Attributes:
      config: what was run.
      iterations: int [recorded], which iterations the histories hold; fewer than the config's if interrupted.
      losses: float [seeds, recorded], the loss on the batch just used, after the update: what the tutorial plots.
        It rewards the larger step; do not compare optimizers by it.
      losses_before: float [seeds, recorded], the loss on the same batch before the update: an unbiased estimate
        of the training loss.
      metrics: by name, then label: [seeds, recorded, …], what `metrics=` asked for.
      evaluation_iterations: int [evaluations], updates made before each evaluation; the last is the end.
      evaluations: by name ("train_loss", …), then label: float [seeds, evaluations].
      failed: bool [seeds], not finite at some iteration, or at the end no better than a constant predictor.
      diverged_at: int [seeds], the first iteration whose loss is not finite, before or after; −1 if never.
      params: pytree whose leaves have a leading axis of seeds: the parameters at the end, those that were evaluated.
      provenance: versions, device, instruction set, source and digest of the data, seconds of each phase.
    """

    config: Config
    iterations: Int[np.ndarray, " recorded"]
    losses: dict[str, Float[np.ndarray, "seeds recorded"]]
    losses_before: dict[str, Float[np.ndarray, "seeds recorded"]]
    metrics: dict[str, dict[str, np.ndarray]]
    evaluation_iterations: Int[np.ndarray, " evaluations"]
    evaluations: dict[str, dict[str, Float[np.ndarray, "seeds evaluations"]]]
    failed: dict[str, Bool[np.ndarray, " seeds"]]
    diverged_at: dict[str, Int[np.ndarray, " seeds"]]
    params: dict[str, PyTree[np.ndarray]]
    provenance: dict[str, Any]

    @property
    def train_loss(self) -> dict[str, Float[np.ndarray, " seeds"]]:
        """Loss over the whole training set at the end, without the L2 penalty."""
        return self._final("train_loss")

    @property
    def test_loss(self) -> dict[str, Float[np.ndarray, " seeds"]]:
        """Loss over the whole test set at the end; empty where the task has none."""
        return self._final("test_loss")

    @property
    def test_accuracy(self) -> dict[str, Float[np.ndarray, " seeds"]]:
        """Share of the test set classified correctly at the end; empty where the task has no such thing."""
        return self._final("test_accuracy")

    def _final(self, name: str) -> ByLabel:
        return {label: values[:, -1] for label, values in self.evaluations.get(name, {}).items()}

    def __eq__(self, other: object) -> bool:
        """Equal in everything, to the bit; a NaN equals a NaN."""
        if not isinstance(other, Result):
            return NotImplemented
        if self.config.to_json() != other.config.to_json() or self.provenance != other.provenance:
            return False
        return _same(self._arrays(), other._arrays())

    __hash__ = None  # type: ignore[assignment]

    def _arrays(self) -> dict[str, Any]:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if name not in ("config", "provenance")}

    def table(self) -> Any:
        """One row a run, as a `pyarrow.Table`.

        Columns: optimizer (its label), each hyperparameter under its name (those of a schedule as name.parameter),
        seed, final_train_loss, test_loss, test_accuracy, failed, diverged_at (null if never).
        """
        import pyarrow as pa

        rows = []
        for label, optimizer in self.config.optimizers.items():
            hyperparameters = _flat_hyperparameters(optimizer.hyperparameters)
            for i, seed in enumerate(self.config.seed_tuple):
                diverged_at = int(self.diverged_at[label][i])
                rows.append(
                    {
                        "optimizer": label,
                        **hyperparameters,
                        "seed": seed,
                        "final_train_loss": _entry(self.train_loss, label, i),
                        "test_loss": _entry(self.test_loss, label, i),
                        "test_accuracy": _entry(self.test_accuracy, label, i),
                        "failed": bool(self.failed[label][i]),
                        "diverged_at": None if diverged_at < 0 else diverged_at,
                    }
                )
        names: dict[str, None] = {"optimizer": None}
        for row in rows:
            names |= dict.fromkeys(row)
        last = ("seed", "final_train_loss", "test_loss", "test_accuracy", "failed", "diverged_at")
        order = [name for name in names if name not in last] + list(last)
        return pa.table({name: pa.array([row.get(name) for row in rows], _arrow_type(name)) for name in order})

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes config.json, history.parquet, params.npz and, last, result.json with the digests of the others.

        Each file is written whole or not at all. A folder that holds a result of the same config is written anew.

        Raises:
          InputError: the folder cannot be written, or holds the result of another config or other files of these
            names; it is left as it was.
        """
        folder = pathlib.Path(folder)
        check_output_folder(folder, self.config)
        contents = {
            "config.json": _json_bytes(self.config.to_json()),
            "history.parquet": _history_bytes(self),
            "params.npz": b"",
        }
        structure, contents["params.npz"] = _pack(self.params)
        summary = {
            "format": _FORMAT,
            "evaluation_iterations": self.evaluation_iterations.tolist(),
            "evaluations": _encode_arrays(self.evaluations),
            "failed": _encode_arrays(self.failed),
            "diverged_at": _encode_arrays(self.diverged_at),
            "metric_shapes": {
                name: {label: [str(values.dtype), *values.shape[2:]] for label, values in by_label.items()}
                for name, by_label in self.metrics.items()
            },
            "params": structure,
            "provenance": self.provenance,
            "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in {**contents, "result.json": _json_bytes(summary)}.items():
                write_atomically(folder / name, content)
        except OSError as error:
            raise InputError(f"cannot write the result to {str(folder)!r}: {error.strerror}") from error

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Reads what `save` wrote, equal to the bit.

        Raises:
          InputError: no result there, or one whose files are damaged, incomplete or not of one saving.
        """
        folder = pathlib.Path(folder)
        try:
            summary = json.loads((folder / "result.json").read_bytes())
            contents = {name: (folder / name).read_bytes() for name in _FILES}
        except (OSError, ValueError) as error:
            raise InputError(f"{str(folder)!r} holds no complete result: {error}") from error
        for name, content in contents.items():
            if hashlib.sha256(content).hexdigest() != summary.get("sha256", {}).get(name):
                raise InputError(f"{str(folder)!r}: {name} is damaged, or of another saving than result.json")
        config = Config.from_json(json.loads(contents["config.json"]))
        histories = _read_history(contents["history.parquet"], config, summary)
        return cls(
            config=config,
            evaluation_iterations=np.asarray(summary["evaluation_iterations"], np.int64),
            evaluations=_decode_arrays(summary["evaluations"]),
            failed=_decode_arrays(summary["failed"]),
            diverged_at=_decode_arrays(summary["diverged_at"]),
            params=_unpack(summary["params"], contents["params.npz"]),
            provenance=summary["provenance"],
            **histories,
        )


def check_output_folder(folder: pathlib.Path, config: Config, also: Sequence[str] = ()) -> None:
    """Raises `InputError` unless a result of `config`, and files named in `also`, may be written; touches nothing."""
    existing = folder
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
    except OSError as error:
        raise InputError(f"output folder {str(folder)!r} cannot be written: {error.strerror}") from None
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"output folder {str(folder)!r} cannot be written: {str(existing)!r} is no writable folder")
    if not any((folder / name).exists() for name in (*_FILES, "result.json", *also)):
        return
    try:
        there = Config.from_json(json.loads((folder / "config.json").read_bytes()))
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(
            f"output folder {str(folder)!r} holds files that are not a result of this program; choose another"
        ) from None
    if there.digest != config.digest:
        mine, theirs = config.to_json(), there.to_json()
        field = next(name for name in mine if mine[name] != theirs[name])
        raise InputError(
            f"output folder {str(folder)!r} holds the result of another config: its {field} is {theirs[field]!r}, "
            f"not {mine[field]!r}; choose another folder"
        )


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _entry(values: Mapping[str, np.ndarray], label: str, i: int) -> float | None:
    return float(values[label][i]) if label in values else None


def _arrow_type(name: str) -> Any:
    import pyarrow as pa

    return {
        "optimizer": pa.string(),
        "seed": pa.int64(),
        "final_train_loss": pa.float64(),
        "test_loss": pa.float64(),
        "test_accuracy": pa.float64(),
        "failed": pa.bool_(),
        "diverged_at": pa.int64(),
    }.get(name)


def _flat_hyperparameters(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in hyperparameters.items():
        if isinstance(value, Schedule):
            flat |= {name + ".schedule": value.name}
            flat |= {f"{name}.{parameter}": entry for parameter, entry in value.items}
        else:
            flat[name] = value
    return flat


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    a, b = np.asarray(a), np.asarray(b)
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())


def _encode_arrays(value: Any) -> Any:
    """Nested dicts of arrays as JSON: dtype, shape and entries; a float that JSON lacks is a string."""
    if isinstance(value, Mapping):
        return {key: _encode_arrays(entry) for key, entry in value.items()}
    entries = [entry if math.isfinite(entry) else repr(entry) for entry in value.reshape(-1).tolist()]
    return [str(value.dtype), list(value.shape), entries]


def _decode_arrays(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _decode_arrays(entry) for key, entry in value.items()}
    dtype, shape, entries = value
    return np.asarray([float(e) if isinstance(e, str) else e for e in entries], dtype).reshape(shape)


def _history_bytes(result: Result) -> bytes:
    """Parquet with one row for each optimizer, seed and recorded iteration."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels, seeds, recorded = list(result.losses), result.config.seed_tuple, len(result.iterations)

    def column(by_label: Mapping[str, np.ndarray]) -> Any:
        rows = [by_label[label].reshape(len(seeds) * recorded, -1) for label in labels]
        if all(row.shape[1] == 1 for row in rows):
            return pa.array(np.concatenate(rows).reshape(-1))
        return pa.array([entry for row in rows for entry in row])

    columns = {
        "optimizer": pa.array(np.repeat(labels, len(seeds) * recorded)).dictionary_encode(),
        "seed": pa.array(np.tile(np.repeat(np.asarray(seeds, np.int64), recorded), len(labels))),
        "iteration": pa.array(np.tile(result.iterations, len(labels) * len(seeds))),
        "loss": column(result.losses),
        "loss_before": column(result.losses_before),
        **{f"metric.{name}": column(by_label) for name, by_label in result.metrics.items()},
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def _read_history(content: bytes, config: Config, summary: Mapping[str, Any]) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(content))
    labels, seeds = list(config.optimizers), len(config.seed_tuple)
    recorded = len(table) // (len(labels) * seeds)

    def split(name: str, kinds: Mapping[str, list[Any]] | None = None) -> dict[str, np.ndarray]:
        values = table.column(name).combine_chunks()
        if pa.types.is_list(values.type):
            values = values.flatten()
        flat, start, by_label = values.to_numpy(zero_copy_only=False), 0, {}
        for label in labels:
            dtype, *shape = kinds[label] if kinds else [flat.dtype]
            stop = start + seeds * recorded * math.prod(shape)
            by_label[label] = flat[start:stop].astype(dtype).reshape(seeds, recorded, *shape)
            start = stop
        return by_label

    return {
        "iterations": table.column("iteration").to_numpy()[:recorded],
        "losses": split("loss"),
        "losses_before": split("loss_before"),
        "metrics": {name: split(f"metric.{name}", kinds) for name, kinds in summary["metric_shapes"].items()},
    }


def _pack(tree: PyTree[np.ndarray]) -> tuple[Any, bytes]:
    """A pytree of dicts, lists and tuples as a JSON structure and an npz of its leaves, in order.

    NumPy reloads bfloat16 as raw bytes, so its bits are stored as uint16.
    """
    leaves: dict[str, np.ndarray] = {}

    def walk(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {"dict": [[key, walk(value)] for key, value in node.items()]}
        if isinstance(node, tuple) and hasattr(node, "_fields"):
            return {"dict": [[key, walk(value)] for key, value in zip(node._fields, node, strict=True)]}
        if isinstance(node, list | tuple):
            return {type(node).__name__: [walk(value) for value in node]}
        if node is None:
            return {"none": []}
        array = np.asarray(node)
        if array.dtype == object:
            raise InputError(
                f"parameters of type {type(node).__name__} cannot be saved: dicts, lists and tuples of arrays can"
            )
        name = f"leaf_{len(leaves)}"
        leaves[name] = array.view(np.uint16) if array.dtype == ml_dtypes.bfloat16 else array
        return {"leaf": [name, str(array.dtype)]}

    structure = walk(tree)
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **leaves)
    return structure, sink.getvalue()


def _unpack(structure: Any, content: bytes) -> Any:
    with np.load(io.BytesIO(content), allow_pickle=False) as leaves:

        def walk(node: Any) -> Any:
            ((kind, value),) = node.items()
            if kind == "leaf":
                name, dtype = value
                array = leaves[name]
                return array.view(ml_dtypes.bfloat16) if dtype == "bfloat16" else array
            if kind == "dict":
                return {key: walk(entry) for key, entry in value}
            if kind == "none":
                return None
            return (list if kind == "list" else tuple)(map(walk, value))

        return walk(structure)
