"""Programs that compile soon."""

import functools
import os
from typing import Any

import jax

from momentum_jax._base.weak import cached


@functools.cache
def quick_options():
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
    return jax.jit(function, compiler_options=quick_options(), **options)


def quick_environment() -> dict[str, str]:
    """For processes of which only what they do is wanted."""
    flags = [f"--{name}={str(value).lower()}" for name, value in quick_options().items()]
    return os.environ | {"XLA_FLAGS": " ".join([os.environ.get("XLA_FLAGS", ""), *flags])}


@cached
def compile_quickly(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """In place of `programs._compile`; its programs are never those of tests that want the real ones."""
    return lowered.compile(compiler_options=quick_options())
