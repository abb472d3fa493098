"""Functions that are traced once for the same shapes, whatever programs they become a part of."""

from typing import Any

import jax

from momentum_jax._base.weak import cached


@cached
def jitted(function: Any) -> Any:
    """`jit` of a handle or of what has `handles`: the same for all who ask, so that they share what it is traced to.

    Its operations become those of the program that calls it: XLA rounds some programs otherwise when a part of them is
    a call.
    """
    return jax.jit(function, inline=True)
