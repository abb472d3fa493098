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
