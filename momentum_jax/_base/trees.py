"""Pytrees of arrays as npz files; nothing is pickled.

A tree is taken apart by `flatten` into its structure, which JSON can hold, and its leaves, which npz can hold.
`pack` writes both into one npz file.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import ml_dtypes  # noqa: F401  so that NumPy knows "bfloat16" and others by name
import numpy as np
from jaxtyping import PyTree

from momentum_jax._base.errors import InputError


def json_bytes(value: Any) -> bytes:
    """A value as UTF-8 JSON text that ends with a newline; NaN and infinities raise `ValueError`."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def pack(tree: PyTree[np.ndarray], about: Any) -> bytes:
    """A pytree as the content of one npz file, together with a JSON value `about`, which describes it."""
    structure, leaves = flatten(tree)
    text = np.frombuffer(json_bytes({"structure": structure, "about": about}), np.uint8)
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **leaves, json=text)
    return sink.getvalue()


def unpack(content: bytes) -> tuple[Any, Any]:
    """The pytree and the description that `pack` was given.

    Raises:
      ValueError: the content is damaged, or `pack` did not write it.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as leaves:
            head = json.loads(leaves["json"].tobytes())
            return unflatten(head["structure"], leaves), head["about"]
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, RuntimeError, TypeError) as error:
        raise ValueError(str(error)) from error


def flatten(tree: PyTree[np.ndarray]) -> tuple[Any, dict[str, np.ndarray]]:
    """The structure of a pytree as a JSON value, and its leaves by name.

    A tree consists of dicts, lists, tuples, None and arrays. A NamedTuple becomes a dict of its fields. The bits of a
    dtype that NumPy itself does not have, such as bfloat16, are stored as unsigned integers, because NumPy would reload
    it as raw bytes.

    Raises:
      InputError: a leaf is no array.
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
    """A leaf as a NumPy array.

    Flax's NNX wraps a leaf in a variable. `np.asarray` of a variable in bfloat16 would give raw bytes.
    """
    inside = jax.tree.leaves(leaf)
    return np.asarray(inside[0] if len(inside) == 1 else leaf)


def unflatten(structure: Any, leaves: Mapping[str, np.ndarray]) -> Any:
    """The pytree of a structure and leaves that `flatten` returned."""

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
