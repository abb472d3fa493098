"""Arrays and pytrees of arrays as JSON and npz; nothing is pickled."""

import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import ml_dtypes  # noqa: F401  registers the names of its dtypes with NumPy
import numpy as np
from jaxtyping import PyTree

from momentum_jax._base.errors import InputError


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
