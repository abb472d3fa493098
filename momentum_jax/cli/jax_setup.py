"""What the command line sets in JAX before it trains: CPU devices and the cache of compiled programs."""

import hashlib
import os
import pathlib

import jax
import platformdirs

from momentum_jax._base.machine import cores, instruction_set, versions
from momentum_jax.training.devices import backend_devices

VARIABLE = "MOMENTUM_JAX_COMPILATION_CACHE"
OFF = ("off", "no", "false", "0")
HELP = (
    f"folder that keeps compiled programs for the next time, or {OFF[0]}; by default, unless the environment variable "
    f"{VARIABLE} says otherwise, one under the user's cache folder."
)


def set_up_jax(compilation_cache: str | None) -> None:
    """Gives JAX one CPU device per core, unless `XLA_FLAGS` sets the number, and turns the compilation cache on.

    Raises:
      InputError: JAX has no device.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", cores())
    backend_devices()
    use_compilation_cache(compilation_cache)


def use_compilation_cache(choice: str | None) -> None:
    """Turns JAX's persistent compilation cache on.

    Args:
      choice: the folder, or a word of `OFF`. None takes the environment variable, and if that is not set the user's
        cache folder.
    """
    choice = choice or os.environ.get(VARIABLE) or str(platformdirs.user_cache_path("momentum-jax"))
    if choice.lower() in OFF:
        return
    # A program that was compiled for another jaxlib or instruction set cannot run here, so each pair has a folder.
    made_for = f"{versions()['jaxlib']} {instruction_set()}"
    folder = pathlib.Path(choice) / "programs" / hashlib.sha256(made_for.encode()).hexdigest()[:16]
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
