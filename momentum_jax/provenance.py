"""What a result was made with."""

import functools
import importlib.metadata
import pathlib
import platform
from collections.abc import Sequence
from typing import Any

import jax

_PACKAGES = ("momentum-jax", "jax", "jaxlib", "optax", "flax", "numpy")
# The flags by which XLA's code generator tells one x86 or Arm processor from another.
_SIMD_PREFIXES = ("sse", "ssse", "avx", "fma", "f16c", "bmi", "amx", "neon", "asimd", "sve")


def provenance(devices: Sequence[jax.Device], data: dict[str, str]) -> dict[str, Any]:
    """Versions, device, instruction set and data: what the bits of a result depend on beside its config."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "platform": devices[0].platform,
        "device": devices[0].device_kind,
        "devices": len(devices),
        "instruction_set": instruction_set(),
        "data": data,
    }


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
def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions
