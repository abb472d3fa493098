"""Weight decay, coupled or decoupled, on all parameters or on those that a mask selects."""

from typing import Any

import jax
from jaxtyping import Array, PyTree

from momentum_jax._base.errors import InputError
from momentum_jax.optimizers._core import Core
from momentum_jax.optimizers._hyperparameters import ScalarOrSchedule, at_count, check_hyperparameter, is_zero
from momentum_jax.optimizers._trees import broadcast_mask, check_mask, is_function, linear


def with_weight_decay(
    core: Core,
    learning_rate: ScalarOrSchedule,
    weight_decay: ScalarOrSchedule | None,
    decoupled: bool,
    mask: PyTree[bool] | Any,
) -> Core:
    """The rule with weight decay ω.

    - Coupled, as in PyTorch's `SGD`: g ← g + ω·p, then the rule.
    - Decoupled, as in AdamW: the rule gives the update u, then u ← u − η·ω·p.

    p are the parameters before the step.

    Args:
      core: the rule.
      learning_rate: η, used by the decoupled form only.
      weight_decay: ω ≥ 0, or None for 0.
      decoupled: which of the two forms.
      mask: booleans that select the parameters that decay, in a prefix of their tree, or a function from parameters
        to one; None selects all.

    Raises:
      InputError: a weight decay out of its range, `decoupled` that is not a boolean; from `init` and `update`, missing
        parameters and a mask that does not fit them.

    References:
      Loshchilov and Hutter 2019 (1711.05101), algorithm 1 (SGDW). Its λ is ω·η, η without its schedule.
    """
    if not isinstance(decoupled, bool):
        raise InputError(f"decoupled_weight_decay must be True or False, not {decoupled!r}")
    if weight_decay is None:
        if decoupled or mask is not None:
            raise InputError("decoupled_weight_decay and mask say how weights decay: give weight_decay too")
        return core
    check_hyperparameter("weight_decay", weight_decay)
    if not is_function(mask):
        check_mask(mask)
    if is_zero(weight_decay):
        return core

    def init(params: PyTree[Array]) -> Any:
        # Refuse a mask that does not fit already here. `optax.tree_map_params` calls `init` with a placeholder that
        # has no leaves.
        if jax.tree.leaves(params):
            decayed(params)
        return core.init(params)

    def decayed(params: PyTree[Array]) -> PyTree[bool]:
        return broadcast_mask(True if mask is None else mask, params)

    def update(grads: PyTree[Array], state: Any, params: Any) -> tuple[PyTree[Array], Any]:
        if params is None:
            raise InputError("weight_decay needs the parameters: call update(gradients, state, params)")
        omega = at_count(weight_decay, state.count)

        def add(factor: Any, tree: PyTree[Array]) -> PyTree[Array]:
            """Tree + factor·ω·params, for the leaves that the mask selects."""
            return jax.tree.map(
                lambda decays, x, p: linear((1, x), (factor, linear((omega, p)))) if decays else x,
                decayed(params),
                tree,
                params,
            )

        if not decoupled:
            return core.update(add(1, grads), state, params)
        updates, new_state = core.update(grads, state, params)
        return add(-at_count(learning_rate, state.count), updates), new_state

    return core._replace(init=init, update=update)
