"""The machine: its cores, instruction set and memory, the installed versions, and the provenance of a result."""

import functools
import importlib.metadata
import os
import pathlib
import platform
import resource
from collections.abc import Sequence
from typing import Any

import jax

# Prefixes of the processor flags that decide which code XLA generates for x86 and Arm.
_SIMD_PREFIXES = ("sse", "ssse", "avx", "fma", "f16c", "bmi", "amx", "neon", "asimd", "sve")
_PACKAGES = ("momentum-jax", "jax", "jaxlib", "optax", "flax", "numpy")


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def instruction_set() -> str:
    """The processor's architecture and vector extensions, such as "x86_64 avx avx2 fma …"."""
    flags: set[str] = set()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip().lower() in ("flags", "features"):
                flags.update(value.split())
    return " ".join([platform.machine(), *sorted(f for f in flags if f.startswith(_SIMD_PREFIXES))])


def memory_in_use() -> int:
    """The resident memory of this process in bytes; where there is no /proc (macOS), its peak."""
    statm = pathlib.Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory_of_machine() -> int:
    """The memory of this machine in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def provenance(devices: Sequence[jax.Device], data: dict[str, str]) -> dict[str, Any]:
    """The provenance of a result: the versions, devices, instruction set and data that it was computed with."""
    return {
        "versions": {"python": platform.python_version(), **versions()},
        "platform": devices[0].platform,
        "device": devices[0].device_kind,
        "devices": len(devices),
        "instruction_set": instruction_set(),
        "data": data,
    }


def environment(device: jax.Device, layout: str) -> dict[str, str]:
    """What else than config and data determines the bits of a run; runs with equal environments are comparable.

    The matrix-product precision is part of it only where it is not JAX's default.
    """
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return {
        "jax": versions()["jax"],
        "jaxlib": versions()["jaxlib"],
        "platform": device.platform,
        "device": device.device_kind,
        "instruction_set": instruction_set(),
        "layout": layout,
        **({"matmul_precision": str(precision)} if precision else {}),
    }


@functools.cache
def versions() -> dict[str, str]:
    """The installed versions of this package and of those that compute its results."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
