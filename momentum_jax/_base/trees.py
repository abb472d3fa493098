"""Pytrees of arrays as npz files; nothing is pickled.

A tree is taken apart by `flatten` into its structure, which JSON can hold, and its leaves, which npz can hold.
`pack` writes both into one npz file.
"""

import contextlib
import hashlib
import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import ml_dtypes  # noqa: F401  so that NumPy knows "bfloat16" and others by name
import numpy as np
from jaxtyping import PyTree

from momentum_jax._base.errors import InputError, shown
from momentum_jax._base.reading import MOST_JSON_BYTES, check_depth, digest_of, parse_json, reason

# Bytes. What XLA's CPU devices ask of host memory that they are to use as it is.
_ALIGNMENT = 64


def json_bytes(value: Any) -> bytes:
    """A value as UTF-8 JSON text that ends with a newline.

    Raises:
      InputError: it is nested deeper, or longer, than is read again.
      ValueError: it holds NaN or infinities.
    """
    try:
        check_depth(value)
    except ValueError as error:
        raise InputError(f"what is to be saved cannot be read again: {error}") from error
    content = (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    if len(content) > MOST_JSON_BYTES:
        raise InputError(f"what is to be saved cannot be read again: as JSON it has {len(content)} bytes")
    return content


def pack(tree: PyTree[np.ndarray], about: Any) -> bytes:
    """A pytree as the content of one npz file, together with a JSON value `about`, which describes it."""
    structure, leaves = flatten(tree)
    text = np.frombuffer(json_bytes({"structure": structure, "about": about}), np.uint8)
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **leaves, json=text)
    return sink.getvalue()


def unpack(content: bytes) -> tuple[Any, Any]:
    """The pytree and the description that `pack` was given.

    No array is larger than the content: `pack` does not compress.

    Raises:
      ValueError: the content is damaged, or `pack` did not write it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("it is compressed, so this program did not write it")
            if sum(member.file_size for member in members) > len(content):
                raise ValueError("its arrays are larger than the file")
            leaves = {member.filename.removesuffix(".npy"): _read_array(archive.read(member)) for member in members}
        head = parse_json(leaves["json"].tobytes())
        return unflatten(head["structure"], leaves), head["about"]
    except (
        *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, MemoryError),
        *(ValueError, LookupError, TypeError, AttributeError),
    ) as error:
        raise ValueError(reason(error)) from error


def _read_array(content: bytes) -> np.ndarray:
    """The array of an npy file, which fills it to the end."""
    stream = io.BytesIO(content)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, dtype = read_header[np.lib.format.read_magic(stream)](stream)
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind not in "biufc" or min(shape, default=0) < 0 or size != len(content) - stream.tell():
        raise ValueError(f"an array of {dtype} with the shape {shape} is not what it holds")
    stream.seek(0)
    array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def digest_of_tree(tree: PyTree[np.ndarray], about: Any) -> str:
    """The SHA-256 of a pytree's structure, bits and description, in hexadecimal."""
    _, leaves = flatten(tree)
    digest = hashlib.sha256(digest_of([form_of(tree), about]).encode())
    for leaf in leaves.values():
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()


def form_of(tree: PyTree[np.ndarray]) -> list[Any]:
    """Structure, dtypes and shapes of a tree, as JSON values that compare."""
    structure, leaves = flatten(tree)
    return [structure, [list(leaf.shape) for leaf in leaves.values()]]


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
        if array.dtype.kind not in "biufcV":
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
            return _with_dtype(leaves[name], dtype)
        if kind == "dict":
            return {key: walk(entry) for key, entry in value}
        if kind == "none":
            return None
        return {"list": list, "tuple": tuple}[kind](map(walk, value))

    return walk(structure)


def _with_dtype(array: np.ndarray, name: str) -> np.ndarray:
    """A leaf with its own dtype, whose bits were stored as integers if NumPy does not have it."""
    dtype = dtype_named(name)
    if array.dtype == dtype:
        return array
    if dtype.kind != "V" or array.dtype != f"u{dtype.itemsize}":
        raise ValueError(f"a leaf of {array.dtype} cannot be one of {dtype}")
    return array.view(dtype)


def dtype_named(name: Any) -> np.dtype[Any]:
    """The dtype of numbers that has a name.

    Raises:
      ValueError: there is none.
    """
    is_name = isinstance(name, str) and name.lstrip("<>").isidentifier()
    with contextlib.suppress(TypeError):
        dtype = np.dtype(name) if is_name else np.dtype(object)
        if dtype.kind in "biufcV" and dtype.type is not np.void:
            return dtype
    raise ValueError(f"{shown(name)} is no dtype of numbers")


def aligned(array: np.ndarray) -> np.ndarray:
    """The array, or an aligned copy, which all CPU devices of JAX share. Of other arrays each device makes a copy."""
    in_place = array.flags.c_contiguous and array.ctypes.data % _ALIGNMENT == 0
    if in_place or array.dtype.hasobject:
        return array
    space = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
    start = -space.ctypes.data % _ALIGNMENT
    copy: np.ndarray = space[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def at_least_float32(dtype: Any) -> np.dtype:
    """The dtype in which numbers of a dtype are added up: float64 for float64, and float32 for shorter ones."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def blank(dtype: Any) -> float:
    """What stands for a number that was not recorded: NaN, or 0 where the dtype has none."""
    return math.nan if jax.numpy.issubdtype(dtype, np.inexact) else 0
