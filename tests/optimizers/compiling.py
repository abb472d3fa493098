"""Programs that compile soon."""

import functools
from typing import Any

import jax


@functools.cache
def _quick_options():
    """XLA's optimisations left out, as far as it can be asked: programs here run for a millisecond.

    Where loops are still fused by MLIR (before JAX 0.12), to leave that out divides the time of compilation by three.
    """
    options: dict[str, Any] = {"xla_backend_optimization_level": 0}
    older = {**options, "xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda x: x, compiler_options=older).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return options
    return older


def jit(function, **options):
    return jax.jit(function, compiler_options=_quick_options(), **options)
