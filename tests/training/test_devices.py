"""Which runs go to which devices."""

import jax
import numpy as np
import pytest

from momentum_jax._base.errors import InputError
from momentum_jax.training.devices import (
    Capacity,
    choose_meshes,
    one_mesh,
    over_runs,
    replicate,
    resolve_devices,
    resolve_layout,
)


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
    placed = [[devices.index(device) for device in mesh.devices] for mesh in choose_meshes(sizes, devices)]
    assert placed == expected


@pytest.mark.parametrize("layout", ["map", "vmap"])
@pytest.mark.parametrize("runs", [1, 2, 3, 5])
@pytest.mark.parametrize("most", [5, 8])
def test_runs_come_back_in_their_order_whatever_the_capacity(runs, most, layout):
    capacity = Capacity.for_runs(most, one_mesh(jax.devices()[:2]))
    stacked = capacity.stack([np.float32(i) for i in range(runs)])
    doubled = over_runs(lambda run, shared: run * shared, capacity.mesh, layout)(
        capacity.counts(runs), stacked, replicate(np.float32(2), capacity.mesh)
    )
    assert doubled.shape == (2 * -(-most // 2),)
    assert capacity.take(doubled, runs).tolist() == [2.0 * i for i in range(runs)]


@pytest.mark.parametrize("runs", [0, 1, 4, 5])
def test_no_device_has_two_runs_more_than_another(runs):
    counts = np.asarray(Capacity.for_runs(8, one_mesh(jax.devices()[:2])).counts(runs))
    assert counts.sum() == runs
    assert np.ptp(counts) <= 1


def test_free_places_are_not_computed_where_runs_take_turns():
    capacity = Capacity.for_runs(6, one_mesh(jax.devices()[:2]))
    one = np.float32(1)
    result = over_runs(lambda run, shared: run + shared, capacity.mesh, "map")(
        capacity.counts(3), capacity.stack([one] * 3), replicate(one, capacity.mesh)
    )
    # Each device's first runs, then zeros.
    assert np.asarray(result).tolist() == [2, 2, 0, 2, 0, 0]


def test_auto_takes_turns_on_a_processor_and_an_unknown_layout_is_refused():
    assert resolve_layout("auto", jax.devices()) == "map"
    assert resolve_layout("vmap", jax.devices()) == "vmap"
    with pytest.raises(InputError, match="layout: unknown 'vmapp'; did you mean 'vmap'"):
        resolve_layout("vmapp", jax.devices())


@pytest.mark.parametrize("given", [[], (), "cpu", ["cpu"], 1, [None], np.ones(()), np.ones(2)], ids=repr)
def test_no_devices_are_not_all_devices(given):
    with pytest.raises(InputError, match=r"devices must be different ones of jax.devices\(\), in a list, not "):
        resolve_devices(given)


def test_devices_are_those_given_or_all():
    assert resolve_devices(None) == jax.devices()
    assert resolve_devices(jax.devices()[1:]) == resolve_devices(np.array(jax.devices())[1:]) == jax.devices()[1:]
