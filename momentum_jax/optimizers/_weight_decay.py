"""Weight decay, coupled or decoupled, on all parameters or on those that a mask names."""

from typing import Any

import jax
from jaxtyping import Array, PyTree

from momentum_jax._base.errors import InputError
from momentum_jax.optimizers._core import Core
from momentum_jax.optimizers._hyperparameters import ScalarOrSchedule, at_count, check_hyperparameter, is_zero
from momentum_jax.optimizers._trees import broadcast_mask, check_mask, linear


def with_weight_decay(
    core: Core,
    learning_rate: ScalarOrSchedule,
    weight_decay: ScalarOrSchedule | None,
    decoupled: bool,
    mask: PyTree[bool] | Any,
) -> Core:
    """Coupled: g ← g + ω·p before the rule, as PyTorch's `SGD`. Decoupled: u ← u − η·ω·p after it, as AdamW.

    p are the parameters before the step. The mask is a prefix of their tree, or a function that makes one of them.
    Source of the decoupled form: Loshchilov and Hutter 2019 (1711.05101), algorithm 1 (SGDW), whose λ is ω
    times the rate without its schedule.

    Raises:
      InputError: a weight decay out of its range, `decoupled` that is no boolean; when called, missing parameters
        and a mask that does not fit them.
    """
    if not isinstance(decoupled, bool):
        raise InputError(f"decoupled_weight_decay must be True or False, not {decoupled!r}")
    if weight_decay is None:
        if decoupled or mask is not None:
            raise InputError("decoupled_weight_decay and mask say how weights decay: give weight_decay too")
        return core
    check_hyperparameter("weight_decay", weight_decay)
    if mask is not None and not callable(mask):
        check_mask(mask)
    if is_zero(weight_decay):
        return core

    def init(params: PyTree[Array]) -> Any:
        # For the error: it belongs where the mask and the parameters first meet. (What optax.tree_map_params hands in
        # to find the trees like the parameters has no leaves.)
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
            """Tree + factor·ω·params where the mask says so."""
            return jax.tree.map(
                lambda shrinks, x, p: linear((1, x), (factor, linear((omega, p)))) if shrinks else x,
                decayed(params),
                tree,
                params,
            )

        if not decoupled:
            return core.update(add(1, grads), state, params)
        updates, new_state = core.update(grads, state, params)
        return add(-at_count(learning_rate, state.count), updates), new_state

    return core._replace(init=init, update=update)
