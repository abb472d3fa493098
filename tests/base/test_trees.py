"""Pytrees of arrays as npz and JSON: what is written is read back with the same bits."""

import io
import json
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from momentum_jax._base.errors import InputError
from momentum_jax._base.trees import flatten, json_bytes, pack, unflatten, unpack


class Pair(NamedTuple):
    first: np.ndarray
    second: np.ndarray


TREES = {
    "leaf": np.arange(3.0),
    "nested": {"a": [np.int32(1), (np.zeros([0, 2]), None)], 7: {"": np.array([True, False])}},
    "order": {"b": np.ones(1), "a": np.zeros(1)},
    "bfloat16": {"w": np.asarray(jnp.array([1.5, -0.0, jnp.nan], jnp.bfloat16))},
    "not finite": [np.array([np.nan, -np.nan, np.inf, -0.0], np.float32)],
    "empty": {"a": {}, "b": [], "c": ()},
}


def same(a, b):
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if a is None or b is None:
        return a is b
    a, b = np.asarray(a), np.asarray(b)
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_a_tree_comes_back_with_its_structure_and_bits(tree):
    structure, leaves = flatten(tree)
    # Other programs can read the file too.
    assert all(leaf.dtype.kind in "biuf" for leaf in leaves.values())
    assert same(unflatten(json.loads(json_bytes(structure)), leaves), tree)
    back, about = unpack(pack(tree, {"seed": 3}))
    assert same(back, tree)
    assert about == {"seed": 3}


def test_a_named_tuple_comes_back_as_a_dict_of_its_fields():
    structure, leaves = flatten(Pair(np.ones(2), np.zeros(1)))
    assert same(unflatten(structure, leaves), {"first": np.ones(2), "second": np.zeros(1)})


def test_what_is_no_array_is_refused():
    with pytest.raises(InputError, match="type object cannot be saved"):
        flatten({"a": object()})


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: b"text", lambda c: c[: len(c) // 2], lambda c: npz()])
def test_damaged_content_is_a_value_error(damage):
    with pytest.raises(ValueError, match=r"."):
        unpack(damage(pack({"w": np.arange(1000)}, None)))


def npz():
    """An npz file that `pack` did not write."""
    sink = io.BytesIO()
    np.savez(sink, a=np.ones(1))
    return sink.getvalue()
