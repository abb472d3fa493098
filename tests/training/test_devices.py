"""Which runs go to which devices."""

import jax
import numpy as np
import pytest

from momentum_jax._base.errors import InputError
from momentum_jax.training import devices as layout


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


@pytest.mark.parametrize("kind", ["map", "vmap"])
@pytest.mark.parametrize("runs", [1, 2, 3, 5])
@pytest.mark.parametrize("room", [5, 8])
def test_runs_come_back_in_their_order_whatever_the_room(runs, room, kind):
    slots = layout.slots_for(room, layout.one_mesh(jax.devices()[:2]))
    stacked = slots.stack([np.float32(i) for i in range(runs)])
    doubled = layout.over_runs(lambda run, shared: run * shared, slots.mesh, kind)(
        slots.counts(runs), stacked, layout.replicate(np.float32(2), slots.mesh)
    )
    assert doubled.shape == (2 * -(-room // 2),)
    assert slots.take(doubled, runs).tolist() == [2.0 * i for i in range(runs)]


@pytest.mark.parametrize("runs", [0, 1, 4, 5])
def test_no_device_has_two_runs_more_than_another(runs):
    counts = np.asarray(layout.slots_for(8, layout.one_mesh(jax.devices()[:2])).counts(runs))
    assert counts.sum() == runs
    assert np.ptp(counts) <= 1


def test_free_slots_are_not_computed_where_runs_take_turns():
    slots = layout.slots_for(6, layout.one_mesh(jax.devices()[:2]))
    one = np.float32(1)
    result = layout.over_runs(lambda run, shared: run + shared, slots.mesh, "map")(
        slots.counts(3), slots.stack([one] * 3), layout.replicate(one, slots.mesh)
    )
    # Each device's first runs, then zeros.
    assert np.asarray(result).tolist() == [2, 2, 0, 2, 0, 0]


def test_auto_takes_turns_on_a_processor_and_an_unknown_layout_is_refused():
    assert layout.resolve_layout("auto", jax.devices()) == "map"
    assert layout.resolve_layout("vmap", jax.devices()) == "vmap"
    with pytest.raises(InputError, match="layout: unknown 'vmapp'; did you mean 'vmap'"):
        layout.resolve_layout("vmapp", jax.devices())
