"""The machine: cores, instructions, memory, installed versions; all that the bits of a result depend on."""

import functools
import importlib.metadata
import os
import pathlib
import platform
import resource
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

# The flags by which XLA's code generator tells one x86 or Arm processor from another.
_SIMD_PREFIXES = ("sse", "ssse", "avx", "fma", "f16c", "bmi", "amx", "neon", "asimd", "sve")
_PACKAGES = ("momentum-jax", "jax", "jaxlib", "optax", "flax", "numpy")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def instruction_set() -> str:
    """The machine and the vector extensions of its processor, such as "x86_64 avx avx2 fma …"."""
    flags: set[str] = set()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip().lower() in ("flags", "features"):
                flags.update(value.split())
    return " ".join([platform.machine(), *sorted(f for f in flags if f.startswith(_SIMD_PREFIXES))])


@functools.cache
def matrix_product_peak(n: int = 1024) -> float:
    """FLOP/s of NumPy, with the threads that it takes, on a float32 product of n×n matrices, the best of ten."""
    a = np.random.default_rng(0).normal(size=(n, n)).astype(np.float32)
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - began)
    return 2 * n**3 / min(seconds)


def memory_in_use() -> int:
    """Bytes that this process has in memory; where that is not known, the most that it had."""
    statm = pathlib.Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def provenance(devices: Sequence[jax.Device], data: dict[str, str]) -> dict[str, Any]:
    """Versions, device, instruction set and data: what the bits of a result depend on beside its config."""
    return {
        "versions": {"python": platform.python_version(), **versions()},
        "platform": devices[0].platform,
        "device": devices[0].device_kind,
        "devices": len(devices),
        "instruction_set": instruction_set(),
        "data": data,
    }


def environment(device: jax.Device, layout: str) -> dict[str, str]:
    """What the bits of a run depend on beside its config and data; of JAX's settings where it is not the default."""
    precision = jax.config.values["jax_default_matmul_precision"]
    return {
        "jaxlib": versions()["jaxlib"],
        "platform": device.platform,
        "device": device.device_kind,
        "instruction_set": instruction_set(),
        "layout": layout,
        **({"matmul_precision": str(precision)} if precision else {}),
    }


@functools.cache
def versions() -> dict[str, str]:
    """Of this package and those that it rests on."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
