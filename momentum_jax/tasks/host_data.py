"""Training data that stays where it is, on a disk or behind a reader, and is read a chunk of iterations at a time."""

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Int, PyTree

from momentum_jax._base.errors import InputError, refusing, shown

_SAMPLE = 10_000


class HostData:
    """Examples that are read by their rows: `np.memmap`, an array of h5py or zarr, or any source of examples.

    Args:
      sources: a pytree of what has a length and gives rows, or single examples, by `[…]`. What is no such source
        becomes an array in memory.
      rows: which of the examples there are, in their order; by default all.
    """

    def __init__(self, sources: PyTree[Any], rows: Int[np.ndarray, " examples"] | None = None):
        self._sources = jax.tree.map(_source_or_array, sources, is_leaf=is_source)
        leaves = jax.tree.leaves(self._sources, is_leaf=is_source)
        lengths = {_length(leaf) for leaf in leaves}
        if len(lengths) != 1:
            raise InputError(f"the sources of a task's data must have one length, not {sorted(lengths)}")
        self._rows = np.arange(lengths.pop()) if rows is None else rows
        self._form = _form(self._read_now(np.zeros(1, np.int64))) if len(self._rows) else None

    def __len__(self) -> int:
        return len(self._rows)

    def select(self, chosen: np.ndarray) -> "HostData":
        """The examples at these positions, or where a mask is true."""
        return HostData(self._sources, self._rows[chosen])

    def read(self, rows: Int[np.ndarray, " rows"]) -> PyTree[np.ndarray]:
        """The examples at these positions [rows, …], each read once.

        Raises:
          InputError: the source fails, or its examples no longer have the shapes and dtypes that they had.
        """
        read = self._read_now(rows)
        if _form(read) != self._form:
            raise InputError(f"the examples of a task's data changed from {self._form} to {_form(read)}")
        return read

    @functools.cached_property
    def sample(self) -> PyTree[np.ndarray]:
        """All examples, or 10,000 that are evenly spaced: what the task's `evaluate` gets."""
        count = min(len(self), _SAMPLE)
        return self.read(np.arange(count) * len(self) // count)

    def _read_now(self, rows: Int[np.ndarray, " rows"]) -> PyTree[np.ndarray]:
        # h5py takes ascending rows without repetitions only.
        distinct, back = np.unique(self._rows[rows], return_inverse=True)
        with refusing("the task's data cannot be read"):
            read = jax.tree.map(functools.partial(_take, rows=distinct), self._sources, is_leaf=is_source)
            return jax.tree.map(lambda a: a[back], read)


Source: TypeAlias = Any
"""What has a length and gives rows, or single examples, by `[…]`."""


def is_source(leaf: Any) -> bool:
    """Whether examples are to be read from a leaf of a task's data when they are needed, not held in memory."""
    if isinstance(leaf, np.memmap):
        return True
    if isinstance(leaf, np.ndarray | jax.Array | str | bytes) or not jax.tree_util.all_leaves([leaf]):
        return False
    in_memory = any(hasattr(leaf, name) for name in ("to_numpy", "__dlpack__", "__array_interface__"))
    # An array of zarr has no `__len__`.
    has_length = hasattr(leaf, "__len__") or bool(getattr(leaf, "shape", ()))
    return not in_memory and has_length and hasattr(leaf, "__getitem__")


def _source_or_array(leaf: Any) -> Source:
    if is_source(leaf):
        return leaf
    with refusing("the task's data cannot be read"):
        # The rows of a series are not those that its index names.
        array = np.asarray(leaf.to_numpy() if hasattr(leaf, "to_numpy") else leaf)
    if array.ndim == 0:
        raise InputError(f"the sources of a task's data must have a length, unlike {shown(leaf)}")
    return array


def _length(source: Source) -> int:
    return int(source.shape[0]) if hasattr(source, "shape") else len(source)


def _take(source: Source, rows: Int[np.ndarray, " rows"]) -> PyTree[np.ndarray]:
    if hasattr(source, "dtype") and hasattr(source, "shape"):
        return np.asarray(source[rows])
    examples: Sequence[Any] = (
        source.__getitems__(rows.tolist()) if hasattr(source, "__getitems__") else [source[i] for i in rows.tolist()]
    )
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *examples)


def _form(read: PyTree[np.ndarray]) -> str:
    """The structure, shapes and dtypes of examples, whatever their number."""
    return str(jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), read))
