"""What a folder or a checkpoint belongs to."""

import functools
import gc
import weakref

import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.results import fingerprint
from momentum_jax.results.fingerprint import data_digest, first_difference, function_names


def task(rows, **fields):
    return mj.Task(init=lambda key: jnp.zeros(2), loss=lambda params, batch: jnp.mean(batch), train=rows, **fields)


def test_the_data_of_a_task_are_digested_once_and_not_kept_alive(monkeypatch):
    digested = []
    digest = fingerprint._digest_of_data
    monkeypatch.setattr(fingerprint, "_digest_of_data", lambda data: digested.append(1) or digest(data))
    mine, other = task(np.arange(3.0)), task(np.arange(4.0))
    assert data_digest(mine) == data_digest(mine) == data_digest(task(np.arange(3.0))) != data_digest(other)
    assert len(digested) == 3
    # What is said of the data counts for nothing: it may be said of other data.
    assert data_digest(task(np.arange(3.0), provenance={"digest": "known"})) == data_digest(mine)
    there = weakref.ref(mine)
    del mine
    gc.collect()
    assert there() is None


def scaled(scale, params, batch):
    return scale * jnp.mean(batch)


def test_a_function_has_one_name_whatever_of_it_is_given_and_wherever_it_is_told():
    half = mj.Task(init=lambda key: jnp.zeros(2), loss=functools.partial(scaled, 0.5), train=np.arange(3.0))
    assert function_names(half)["loss"] == f"{__name__}:scaled"
    assert function_names(half)["loss"] in repr(half)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.arange(4.0), np.arange(4.0).astype(np.float32)),
        (np.arange(4.0), np.arange(4.0).reshape(2, 2)),
        (np.arange(4.0), -np.arange(4.0)),
    ],
    ids=["dtype", "shape", "values"],
)
def test_data_that_differ_have_other_digests(a, b):
    assert data_digest(task(a)) != data_digest(task(b))
    assert data_digest(task(a)) != data_digest(task(a, test=a))


@pytest.mark.parametrize(
    ("theirs", "mine", "said"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": 1}, {"a": 1.0}, "a is 1, not 1.0"),
        ({}, {"a": [1]}, "a is not there, not [1]"),
        ({"a": 1}, {}, "a is 1, which is not asked for"),
        ({"a": [1, 2]}, {"a": [1, 3]}, "a is [1, 2], not [1, 3]"),
        ({"a": list(range(90))}, {"a": [*range(89), 0]}, "a[89] is 89, not 0"),
        ({"a": list(range(90))}, {"a": list(range(91))}, "a has 90 entries, not 91"),
    ],
)
def test_the_first_difference_is_told_by_its_place(theirs, mine, said):
    assert first_difference(theirs, mine) == said


def test_the_same_data_have_one_digest_in_memory_and_on_the_host(tmp_path):
    images, labels = np.arange(30_000.0).reshape(10_000, 3), np.arange(10_000, dtype=np.int32)
    np.save(tmp_path / "images.npy", images)
    stored = np.load(tmp_path / "images.npy", mmap_mode="r")
    in_memory = data_digest(task((images, labels), test=images[:7]))
    assert data_digest(task((stored, labels), test=stored[:7])) == in_memory
    assert data_digest(task((stored, labels + 1), test=stored[:7])) != in_memory
    assert data_digest(task((stored[:9_999], labels[:9_999]), test=stored[:7])) != in_memory
