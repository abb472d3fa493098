"""Where runs go: a mesh of devices for each group of runs, and how the runs on one device are gone through."""

import contextlib
import functools
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Int32, PyTree

from momentum_jax._base.errors import InputError, check_choice, shown
from momentum_jax._base.machine import cores
from momentum_jax._base.trees import aligned

RUNS = "runs"
Layout = Literal["map", "vmap"]
LAYOUTS = ("auto", "map", "vmap")


def backend_devices() -> list[jax.Device]:
    """All devices of the default backend.

    Raises:
      InputError: JAX cannot use the platform that it is told to.
    """
    try:
        return jax.devices()
    # With JAX_PLATFORMS=cuda and no GPU, JAX fails an assertion of its own.
    except (RuntimeError, AssertionError) as error:
        said = f": {' '.join(str(error).split())}" if str(error) else ""
        asked = jax.config.jax_platforms  # type: ignore[attr-defined]
        raise InputError(f"JAX finds no device with JAX_PLATFORMS={asked or ''}{said}") from error


def default_devices() -> list[jax.Device]:
    """`backend_devices`; warns once where the processor's cores would be left idle."""
    devices = backend_devices()
    if devices[0].platform == "cpu" and len(devices) == 1 < cores():
        _warn_idle_cores(cores())
    return devices


def resolve_devices(given: Sequence[jax.Device] | None) -> list[jax.Device]:
    """The given devices, or the default ones where None is given.

    Raises:
      InputError: there is none among them, something else, or one twice.
    """
    if given is None:
        return default_devices()
    devices: list[jax.Device] = []
    with contextlib.suppress(TypeError):
        devices = list(given)
    if not devices or len(set(map(id, devices))) < len(devices) or not all(isinstance(d, jax.Device) for d in devices):
        raise InputError(f"devices must be different ones of jax.devices(), in a list, not {shown(given)}")
    return devices


@functools.cache
def _warn_idle_cores(count: int) -> None:
    warnings.warn(
        f"JAX has one CPU device, so one of {count} cores will train; for all of them call "
        f'jax.config.update("jax_num_cpu_devices", {count}) before the first use of JAX',
        stacklevel=4,
    )


def check_layout(layout: str) -> None:
    """Raises `InputError` for a layout that does not exist."""
    check_choice("layout", layout, LAYOUTS)


def resolve_layout(layout: str, devices: Sequence[jax.Device]) -> Layout:
    """What a layout means on these devices: "auto" is "map" on a CPU and "vmap" elsewhere.

    Raises:
      InputError: the layout does not exist.
    """
    check_layout(layout)
    if layout == "auto":
        return "map" if devices[0].platform == "cpu" else "vmap"
    return "vmap" if layout == "vmap" else "map"


def one_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """A mesh of all these devices, along which runs are laid."""
    return Mesh(np.asarray(devices), (RUNS,))


def choose_meshes(sizes: Sequence[int], devices: Sequence[jax.Device]) -> list[Mesh]:
    """The devices of each group of runs.

    All meshes have the same width, and groups take turns on as many meshes as fit side by side. The width is the one
    that ends first if every run takes as long as any other.

    Args:
      sizes: runs in each group.
      devices: what there is.
    """

    def makespan(width: int) -> tuple[int, int]:
        rounds = [0] * (len(devices) // width)
        for group, size in enumerate(sizes):
            rounds[group % len(rounds)] += math.ceil(size / width)
        return max(rounds), -width

    width = min(range(1, len(devices) + 1), key=makespan)
    beside = [one_mesh(devices[first : first + width]) for first in range(0, len(devices) - width + 1, width)]
    return [beside[group % len(beside)] for group in range(len(sizes))]


class Capacity(NamedTuple):
    """How many runs a program takes at once: as many on each device of a mesh.

    In arrays laid over the mesh the places of the first device stand first. Places without a run repeat the last run.
    """

    mesh: Mesh
    per_device: int

    @classmethod
    def for_runs(cls, runs: int, mesh: Mesh) -> "Capacity":
        """The least that takes so many runs at once."""
        return cls(mesh, math.ceil(runs / mesh.size))

    @property
    def total(self) -> int:
        return self.mesh.size * self.per_device

    def deal(self, active: Sequence[bool]) -> tuple[int, ...]:
        """The place of each run: the active ones first, to the devices in turns, so that none has two more."""
        places = [0] * len(active)
        for turn, run in enumerate(sorted(range(len(active)), key=lambda run: not active[run])):
            places[run] = turn % self.mesh.size * self.per_device + turn // self.mesh.size
        return tuple(places)

    def is_even(self, active: Sequence[bool], places: Sequence[int]) -> bool:
        """Whether no device has two active runs more than another."""
        devices = [place // self.per_device for place, there in zip(places, active, strict=True) if there]
        counts = np.bincount(devices, minlength=self.mesh.size)
        return bool(np.ptp(counts) <= 1)

    def mask(self, active: Sequence[bool], places: Sequence[int]) -> Bool[Array, " places"]:
        """Which places have an active run."""
        mask = np.zeros(self.total, np.bool_)
        mask[list(places)] = active
        placed: jax.Array = jax.device_put(mask, self._sharding)
        return placed

    def stack(self, runs: Sequence[PyTree[Any]], places: Sequence[int]) -> PyTree[jax.Array]:
        """Puts what belongs to each run at its place along a new leading axis laid over the mesh."""
        rows = [runs[-1]] * self.total
        for run, place in zip(runs, places, strict=True):
            rows[place] = run
        return jax.tree.map(lambda *xs: jax.device_put(np.stack([np.asarray(x) for x in xs]), self._sharding), *rows)

    def take(self, stacked: PyTree[jax.Array], places: Sequence[int]) -> PyTree[np.ndarray]:
        """The rows at these places, on the host."""
        return jax.tree.map(lambda a: a[list(places)], jax.device_get(stacked))

    def shape(self, one: PyTree[Any]) -> PyTree[jax.ShapeDtypeStruct]:
        """What `stack` gives for runs that each have the shapes and dtypes of `one`."""
        return jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((self.total, *np.shape(a)), a.dtype, sharding=self._sharding), one
        )

    @property
    def _sharding(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(RUNS))


def replicated_shape(one: jax.ShapeDtypeStruct, mesh: Mesh) -> jax.ShapeDtypeStruct:
    """What `replicate` gives for an array of this shape and dtype."""
    return jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=NamedSharding(mesh, PartitionSpec()))


def replicate(tree: PyTree[Any], mesh: Mesh) -> PyTree[jax.Array]:
    """Puts every array on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def share(data: PyTree[Any], meshes: Iterable[Mesh]) -> dict[Mesh, PyTree[jax.Array]]:
    """Puts data on meshes, one copy a device; the CPU devices of a process have one copy together."""
    meshes = set(meshes)
    devices = {device for mesh in meshes for device in mesh.devices.flat}
    data = jax.tree.map(_shareable, data)
    copies = {device: jax.device_put(data, device) for device in devices}

    def on(mesh: Mesh) -> PyTree[jax.Array]:
        sharding = NamedSharding(mesh, PartitionSpec())
        return jax.tree.map(
            lambda *parts: jax.make_array_from_single_device_arrays(parts[0].shape, sharding, list(parts)),
            *(copies[device] for device in mesh.devices.flat),
        )

    return {mesh: on(mesh) for mesh in meshes}


def _shareable(array: Any) -> Any:
    """An array that CPU devices use as it is, in the dtype that JAX gives it; what an accelerator holds stays there."""
    if isinstance(array, jax.Array) and not all(device.platform == "cpu" for device in array.devices()):
        return array
    return aligned(np.asarray(array, jax.dtypes.canonicalize_dtype(array.dtype)))


def over_runs(function: Callable[..., tuple[Any, Any]], mesh: Mesh, layout: Layout) -> Callable[..., tuple[Any, Any]]:
    """Lifts function(state, run, shared) → (state, result) to f(active, states, runs, shared) → (states, results).

    States, runs and results have a leading axis laid over the mesh. What is not active keeps its state; its result is
    not to be used. The states are donated.

    With the layout "map" each device goes through its active runs one after the other: a run has the same bits in
    whatever company it is. With "vmap" it does all at once, which is what an accelerator is good at; the bits then
    depend on how many there are.
    """
    # It is traced once, for the shapes of its result and in the loop.
    traced_once: Any = jax.jit(function, inline=True)

    def on_device(
        active: Bool[Array, " places"], states: PyTree[Any], runs: PyTree[Any], shared: PyTree[Any]
    ) -> tuple[PyTree[Any], PyTree[Any]]:
        if layout == "vmap":
            after, results = jax.vmap(lambda state, run: function(state, run, shared))(states, runs)
            kept = jax.tree.map(lambda new, old: jax.vmap(jnp.where)(active, new, old), after, states)
            return kept, results

        def row(i: int | Int32[Array, ""], tree: PyTree[Any]) -> PyTree[Any]:
            return jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False), tree)

        def one(i: Int32[Array, ""], so_far: PyTree[Any]) -> PyTree[Any]:
            own = traced_once(row(i, so_far[0]), row(i, runs), shared)
            return jax.tree.map(lambda whole, part: jax.lax.dynamic_update_index_in_dim(whole, part, i, 0), so_far, own)

        def one_if_active(i: Int32[Array, ""], so_far: PyTree[Any]) -> PyTree[Any]:
            return jax.lax.cond(active[i], one, lambda _, so_far: so_far, i, so_far)

        _, result = jax.eval_shape(lambda: traced_once(row(0, states), row(0, runs), shared))
        empty = jax.tree.map(lambda r: jnp.zeros((len(active), *r.shape), r.dtype), result)
        finished: tuple[Any, Any] = jax.lax.fori_loop(0, len(active), one_if_active, (states, empty))
        return finished

    mapped = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(PartitionSpec(RUNS), PartitionSpec(RUNS), PartitionSpec(RUNS), PartitionSpec()),
        out_specs=PartitionSpec(RUNS),
        # The carry of a run's scan starts from both replicated and laid-out values, which the check refuses.
        check_vma=False,
    )
    # XLA would replicate arrays of size 0, and the next call would refuse them.
    laid_out = NamedSharding(mesh, PartitionSpec(RUNS))
    return jax.jit(mapped, out_shardings=laid_out, donate_argnums=1, compiler_options=_compiler_options(mesh))


def _compiler_options(mesh: Mesh) -> dict[str, bool]:
    """On a CPU one thread a device: the devices are the cores."""
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return {"xla_cpu_multi_thread_eigen": False} if on_cpu else {}
