"""Where runs go: groups of runs over devices, and one compiled program for each group."""

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from momentum_jax.machine import cores

RUNS = "runs"


def default_devices() -> list[jax.Device]:
    """All devices of the default backend; says once, where the processor's cores would be left idle, what to do."""
    devices = jax.devices()
    if devices[0].platform == "cpu" and len(devices) == 1 < cores():
        _warn_idle_cores(cores())
    return devices


@functools.cache
def _warn_idle_cores(count: int) -> None:
    warnings.warn(
        f"JAX has one CPU device, so one of {count} cores will train; for all of them call "
        f'jax.config.update("jax_num_cpu_devices", {count}) before the first use of JAX',
        stacklevel=4,
    )


def meshes(sizes: Sequence[int], devices: Sequence[jax.Device]) -> list[Mesh]:
    """The devices of each group of runs.

    Every group gets a mesh of the same width, and groups take turns on as many meshes as fit side by side; the width
    is the one that ends first if every run takes as long as any other.

    Args:
      sizes: runs in each group.
      devices: what there is.
    """

    def makespan(width: int) -> tuple[int, int]:
        lanes = [0] * (len(devices) // width)
        for group, size in enumerate(sizes):
            lanes[group % len(lanes)] += math.ceil(size / width)
        return max(lanes), -width

    width = min(range(1, len(devices) + 1), key=makespan)
    lanes = [one_mesh(devices[first : first + width]) for first in range(0, len(devices) - width + 1, width)]
    return [lanes[group % len(lanes)] for group in range(len(sizes))]


def one_mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.asarray(devices), (RUNS,))


def padded(count: int, mesh: Mesh) -> list[int]:
    """Indices of `count` runs, the last repeated until they divide evenly over the mesh."""
    total = math.ceil(count / mesh.size) * mesh.size
    return [min(i, count - 1) for i in range(total)]


def stack(runs: Sequence[PyTree[Any]], mesh: Mesh) -> PyTree[jax.Array]:
    """Stacks what belongs to each run along a new leading axis, padded, and lays that axis over the mesh."""
    rows = [runs[i] for i in padded(len(runs), mesh)]
    sharding = NamedSharding(mesh, PartitionSpec(RUNS))
    return jax.tree.map(lambda *leaves: jax.device_put(np.stack([np.asarray(x) for x in leaves]), sharding), *rows)


def replicate(tree: PyTree[Any], mesh: Mesh) -> PyTree[jax.Array]:
    """Puts a copy of every array on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def over_runs(function: Callable[..., PyTree[Any]], mesh: Mesh) -> Callable[..., PyTree[Any]]:
    """Lifts function(run, shared) to f(runs, shared), where `runs` has a leading axis laid over the mesh.

    Each device goes through its own runs one after the other: `lax.map` gives a run the same bits in whatever
    company it is, which `vmap` does not.
    """

    def on_device(runs: PyTree[Any], shared: PyTree[Any]) -> PyTree[Any]:
        return jax.lax.map(lambda run: function(run, shared), runs)

    mapped = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(PartitionSpec(RUNS), PartitionSpec()),
        out_specs=PartitionSpec(RUNS),
        # The carry of a run's scan starts from both replicated and laid-out values, which the check refuses.
        check_vma=False,
    )
    return jax.jit(mapped, compiler_options=_compiler_options(mesh))


def _compiler_options(mesh: Mesh) -> dict[str, bool]:
    """On a CPU one thread a device: the devices are the cores."""
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return {"xla_cpu_multi_thread_eigen": False} if on_cpu else {}
