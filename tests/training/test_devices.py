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
    share,
)

TWO = one_mesh(jax.devices()[:2])


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
    capacity, active = Capacity.for_runs(most, TWO), [True] * runs
    places = capacity.deal(active)
    states = capacity.stack([np.float32(i) for i in range(runs)], places)
    numbers = capacity.stack([np.float32(10 * i) for i in range(runs)], places)
    after, doubled = over_runs(lambda state, run, shared: (state + 1, run * shared), TWO, layout)(
        capacity.mask(active, places), states, numbers, replicate(np.float32(2), TWO)
    )
    assert doubled.shape == (2 * -(-most // 2),)
    assert capacity.take(after, places).tolist() == [1.0 + i for i in range(runs)]
    assert capacity.take(doubled, places).tolist() == [20.0 * i for i in range(runs)]
    # The buffers of the states were given away.
    assert states.is_deleted()


@pytest.mark.parametrize("layout", ["map", "vmap"])
def test_what_is_not_active_keeps_its_state(layout):
    capacity, active = Capacity.for_runs(6, TWO), [True, False, True, True]
    places = (0, 1, 4, 5)
    states = capacity.stack([np.full(2, i, np.float32) for i in range(4)], places)
    runs = capacity.stack([np.int32(0)] * 4, places)
    after, _ = over_runs(lambda state, run, shared: (state + 10, run), TWO, layout)(
        capacity.mask(active, places), states, runs, ()
    )
    assert capacity.take(after, places).tolist() == [[10, 10], [1, 1], [12, 12], [13, 13]]


def test_places_without_an_active_run_are_not_computed_where_runs_take_turns():
    capacity, one = Capacity.for_runs(6, TWO), np.float32(1)
    places = capacity.deal([True] * 3)
    _, result = over_runs(lambda state, run, shared: (state, run + shared), TWO, "map")(
        capacity.mask([True] * 3, places), (), capacity.stack([one] * 3, places), replicate(one, TWO)
    )
    # Each device's first runs, then zeros.
    assert np.asarray(result).tolist() == [2, 2, 0, 2, 0, 0]


@pytest.mark.parametrize("active", ["", "1", "1111", "11111", "1010", "110011", "00000001", "01"])
def test_no_device_has_two_active_runs_more_than_another(active):
    capacity, active = Capacity.for_runs(8, TWO), [there == "1" for there in active]
    places = capacity.deal(active)
    assert len(set(places)) == len(active)
    assert capacity.is_even(active, places)
    on_first = sum(there for there, place in zip(active, places, strict=True) if place < capacity.per_device)
    assert on_first == -(-sum(active) // 2)


def test_two_active_runs_more_on_one_device_are_not_even():
    capacity = Capacity.for_runs(4, TWO)
    assert not capacity.is_even([True, False, True, False], capacity.deal([True] * 4))
    assert capacity.is_even([True, False, False, False], capacity.deal([True] * 4))


# JAX has float64 as float32 here.
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_the_processors_devices_share_one_copy_of_the_data(dtype):
    given = np.arange(999, dtype=dtype).reshape(27, 37)[1:]
    meshes = [TWO, one_mesh(jax.devices()[:1]), one_mesh(jax.devices()[1:2])]
    shared = share({"x": given}, meshes)
    parts = [part.data for mesh in meshes for part in shared[mesh]["x"].addressable_shards]
    assert len({part.unsafe_buffer_pointer() for part in parts}) == 1
    for mesh in meshes:
        np.testing.assert_array_equal(shared[mesh]["x"], given)


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
