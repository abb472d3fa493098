"""JAX's persistent cache of compiled programs, on by default from the command line."""

import hashlib
import os
import pathlib

import jax
import platformdirs

from momentum_jax._base.machine import instruction_set, versions

VARIABLE = "MOMENTUM_JAX_COMPILATION_CACHE"
OFF = "off"
HELP = (
    f"folder that keeps compiled programs for the next time, or {OFF}; by default, unless the environment variable "
    f"{VARIABLE} says otherwise, one under the user's cache folder."
)


def use_compilation_cache(choice: str | None) -> None:
    """Turns the cache on: in the folder of the flag, else of the environment variable, else of the user.

    Programs for another jaxlib or instruction set are kept apart, since a machine cannot run them.
    """
    choice = choice or os.environ.get(VARIABLE) or str(platformdirs.user_cache_path("momentum-jax"))
    if choice == OFF:
        return
    made_for = f"{versions()['jaxlib']} {instruction_set()}"
    folder = pathlib.Path(choice) / "programs" / hashlib.sha256(made_for.encode()).hexdigest()[:16]
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
