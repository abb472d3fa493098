"""How a result is stored: numbers as JSON, histories as Parquet, pytrees of arrays as npz; nothing is pickled."""

import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_dtypes  # noqa: F401  registers the names of its dtypes with NumPy
import numpy as np
from jaxtyping import Int, PyTree

from momentum_jax.errors import InputError


def json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def encode_arrays(value: Any) -> Any:
    """Nested dicts of arrays as JSON: dtype, shape and entries; a float that JSON lacks is a string."""
    if isinstance(value, Mapping):
        return {key: encode_arrays(entry) for key, entry in value.items()}
    entries = [entry if math.isfinite(entry) else _text(entry) for entry in value.reshape(-1).tolist()]
    return [str(value.dtype), list(value.shape), entries]


def _text(number: float) -> str:
    return "-nan" if math.isnan(number) and math.copysign(1, number) < 0 else repr(number)


def decode_arrays(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: decode_arrays(entry) for key, entry in value.items()}
    dtype, shape, entries = value
    return np.asarray([float(e) if isinstance(e, str) else e for e in entries], dtype).reshape(shape)


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


def pack(tree: PyTree[np.ndarray]) -> tuple[Any, bytes]:
    """A pytree of dicts, lists and tuples as a JSON structure and an npz of its leaves, in order."""
    structure, leaves = flatten(tree)
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **leaves)
    return structure, sink.getvalue()


def unpack(structure: Any, content: bytes) -> Any:
    """Reads what `pack` gave."""
    with np.load(io.BytesIO(content), allow_pickle=False) as leaves:
        return unflatten(structure, leaves)


def pack_whole(tree: PyTree[np.ndarray], about: Any) -> bytes:
    """As `pack`, in one npz, with JSON that says what the tree is about."""
    structure, leaves = flatten(tree)
    text = np.frombuffer(json_bytes({"structure": structure, "about": about}), np.uint8)
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **leaves, json=text)
    return sink.getvalue()


def unpack_whole(content: bytes) -> tuple[Any, Any]:
    """The tree and what it is about, from `pack_whole`.

    Raises:
      ValueError: the content is damaged or something else.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as leaves:
            head = json.loads(leaves["json"].tobytes())
            return unflatten(head["structure"], leaves), head["about"]
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, RuntimeError, TypeError) as error:
        raise ValueError(str(error)) from error


def flatten(tree: PyTree[np.ndarray]) -> tuple[Any, dict[str, np.ndarray]]:
    """The structure of a pytree as JSON, and its leaves by name.

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
        array = array_of(node)
        if array.dtype == object:
            raise InputError(
                f"parameters of type {type(node).__name__} cannot be saved: dicts, lists and tuples of arrays can"
            )
        name = f"leaf_{len(leaves)}"
        leaves[name] = array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array
        return {"leaf": [name, str(array.dtype)]}

    return walk(tree), leaves


def array_of(leaf: Any) -> np.ndarray:
    """A leaf as an array. Flax's NNX has it in a variable, and of one in bfloat16 NumPy would make raw bytes."""
    inside = jax.tree.leaves(leaf)
    return np.asarray(inside[0] if len(inside) == 1 else leaf)


def unflatten(structure: Any, leaves: Mapping[str, np.ndarray]) -> Any:
    """The pytree that `flatten` took apart."""

    def walk(node: Any) -> Any:
        ((kind, value),) = node.items()
        if kind == "leaf":
            name, dtype = value
            array = leaves[name]
            return array if str(array.dtype) == dtype else array.view(dtype)
        if kind == "dict":
            return {key: walk(entry) for key, entry in value}
        if kind == "none":
            return None
        return (list if kind == "list" else tuple)(map(walk, value))

    return walk(structure)
