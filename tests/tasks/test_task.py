"""What a task makes of its data."""

import jax
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.training.devices import one_mesh, replicate


def task_of(rows):
    return mj.Task(init=lambda key: 0.0, loss=lambda params, batch: 0.0, train=rows)


def unaligned(values):
    """A copy that begins one byte, or for larger items one item, behind where a processor likes it."""
    space = np.empty(values.nbytes + 128, np.uint8)
    start = -space.ctypes.data % 64 + values.itemsize
    array = space[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    array[...] = values
    return array


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_all_cpu_devices_read_one_copy_of_the_data(dtype):
    rows = unaligned(np.arange(600, dtype=dtype).reshape(30, 20))
    task = task_of(rows)
    np.testing.assert_array_equal(task.train, rows)
    assert task.train.dtype == dtype
    with jax.enable_x64(True):
        replicated = replicate(task.train, one_mesh(jax.devices()))
    places = {shard.data.unsafe_buffer_pointer() for shard in replicated.addressable_shards}
    assert places == {task.train.ctypes.data}


@pytest.mark.parametrize("rows", [np.zeros((0, 3)), np.float32(2), np.arange(6)[::2], np.asarray([[1, 2]]).T])
def test_data_of_any_shape_keep_their_values(rows):
    np.testing.assert_array_equal(task_of(rows).train, rows)


def test_data_that_are_aligned_are_not_copied():
    train = task_of(unaligned(np.ones(40))).train
    assert task_of(train).train is train
