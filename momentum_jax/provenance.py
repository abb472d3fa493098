"""What a result was made with."""

import functools
import importlib.metadata
import platform
from collections.abc import Sequence
from typing import Any

import jax

from momentum_jax.machine import instruction_set

_PACKAGES = ("momentum-jax", "jax", "jaxlib", "optax", "flax", "numpy")


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
def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions
