"""Which runs go to which devices."""

import jax
import numpy as np
import pytest

from momentum_jax import layout


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        # One seed: each optimizer on a device of its own, side by side.
        ([1, 1], [[0], [1]]),
        ([1, 1, 1], [[0], [1], [0]]),
        # Enough seeds: every group over all devices.
        ([4], [[0, 1]]),
        ([10, 10, 10], [[0, 1], [0, 1], [0, 1]]),
        # Three seeds of two optimizers: 3 rounds side by side, 4 if each went over both devices.
        ([3, 3], [[0], [1]]),
    ],
)
def test_groups_are_placed_so_that_the_last_run_ends_first(sizes, expected):
    devices = jax.devices()[:2]
    placed = [[devices.index(device) for device in mesh.devices] for mesh in layout.meshes(sizes, devices)]
    assert placed == expected


@pytest.mark.parametrize("runs", [1, 2, 3, 5])
def test_runs_come_back_in_their_order_whatever_the_padding(runs):
    mesh = layout.one_mesh(jax.devices()[:2])
    stacked = layout.stack([np.float32(i) for i in range(runs)], mesh)
    doubled = layout.over_runs(lambda run, shared: run * shared, mesh)(stacked, layout.replicate(np.float32(2), mesh))
    assert doubled.shape[0] % 2 == 0
    assert np.asarray(doubled)[:runs].tolist() == [2.0 * i for i in range(runs)]
