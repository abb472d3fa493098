"""Where runs go: a mesh of devices for each group of runs, and how the runs on one device are gone through."""

import contextlib
import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int32, PyTree

from momentum_jax._base.errors import InputError, check_choice, shown
from momentum_jax._base.machine import cores

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

    Runs are dealt to the devices in turns, so that no device has two more than another. In arrays laid over the mesh
    those of the first device stand first; places that no run needs repeat the last run.
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

    def counts(self, runs: int) -> jax.Array:
        """How many of the first `runs` runs each device has, int32 [devices]."""
        width = self.mesh.size
        counts = [len(range(device, runs, width)) for device in range(width)]
        placed: jax.Array = jax.device_put(np.asarray(counts, np.int32), self._sharding)
        return placed

    def stack(self, runs: Sequence[PyTree[Any]]) -> PyTree[jax.Array]:
        """Stacks what belongs to each run along a new leading axis laid over the mesh."""
        rows = [runs[min(run, len(runs) - 1)] for run in self._order]
        return jax.tree.map(lambda *xs: jax.device_put(np.stack([np.asarray(x) for x in xs]), self._sharding), *rows)

    def take(self, stacked: PyTree[jax.Array], runs: int) -> PyTree[np.ndarray]:
        """The rows of the first `runs` runs, on the host, in their order."""
        places = np.argsort(self._order)[:runs]
        return jax.tree.map(lambda a: a[places], jax.device_get(stacked))

    def shape(self, one: PyTree[Any]) -> PyTree[jax.ShapeDtypeStruct]:
        """What `stack` gives for runs that each have the shapes and dtypes of `one`."""
        return jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((self.total, *np.shape(a)), a.dtype, sharding=self._sharding), one
        )

    @property
    def _order(self) -> list[int]:
        """Which run stands at each place."""
        width = self.mesh.size
        return [device + width * position for device in range(width) for position in range(self.per_device)]

    @property
    def _sharding(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(RUNS))


def replicated_shape(one: jax.ShapeDtypeStruct, mesh: Mesh) -> jax.ShapeDtypeStruct:
    """What `replicate` gives for an array of this shape and dtype."""
    return jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=NamedSharding(mesh, PartitionSpec()))


def replicate(tree: PyTree[Any], mesh: Mesh) -> PyTree[jax.Array]:
    """Puts a copy of every array on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def over_runs(function: Callable[..., PyTree[Any]], mesh: Mesh, layout: Layout) -> Callable[..., PyTree[Any]]:
    """Lifts function(run, shared) to f(counts, runs, shared), where `runs` has a leading axis laid over the mesh.

    With the layout "map" each device goes through its first `counts` runs one after the other, and leaves zeros for
    the rest: a run has the same bits in whatever company it is. With "vmap" it does all at once, which is what an
    accelerator is good at; the bits then depend on how many there are.
    """

    def on_device(counts: Int32[Array, "1"], runs: PyTree[Any], shared: PyTree[Any]) -> PyTree[Any]:
        if layout == "vmap":
            return jax.vmap(lambda run: function(run, shared))(runs)

        def one(i: Int32[Array, ""]) -> PyTree[Any]:
            return function(jax.tree.map(lambda a: a[i], runs), shared)

        def put(i: Int32[Array, ""], results: PyTree[Any]) -> PyTree[Any]:
            return jax.tree.map(lambda all_, own: all_.at[i].set(own), results, one(i))

        capacity = jax.tree.leaves(runs)[0].shape[0]
        empty = jax.tree.map(lambda r: jnp.zeros((capacity, *r.shape), r.dtype), jax.eval_shape(one, jnp.int32(0)))
        return jax.lax.fori_loop(0, counts[0], put, empty)

    mapped = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(PartitionSpec(RUNS), PartitionSpec(RUNS), PartitionSpec()),
        out_specs=PartitionSpec(RUNS),
        # The carry of a run's scan starts from both replicated and laid-out values, which the check refuses.
        check_vma=False,
    )
    # XLA would replicate arrays of size 0, and the next call would refuse them.
    laid_out = NamedSharding(mesh, PartitionSpec(RUNS))
    return jax.jit(mapped, out_shardings=laid_out, compiler_options=_compiler_options(mesh))


def _compiler_options(mesh: Mesh) -> dict[str, bool]:
    """On a CPU one thread a device: the devices are the cores."""
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return {"xla_cpu_multi_thread_eigen": False} if on_cpu else {}
