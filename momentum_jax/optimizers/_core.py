"""Turns an update rule into an Optax transformation: applies the learning rate, checks trees and keeps dtypes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from momentum_jax._base.errors import InputError, shown
from momentum_jax.optimizers._hyperparameters import ScalarOrSchedule, at_count
from momentum_jax.optimizers._trees import cast_like, check_dtype, check_floating, check_match, linear, trained


class Core(NamedTuple):
    """An update rule without checks.

    Its results may have wider dtypes than its arguments; `transformation` casts them back.
    """

    state: type[Any]
    """The class of the state, a NamedTuple with a field `count`."""
    init: Callable[[PyTree[Array]], Any]
    update: Callable[..., tuple[PyTree[Array], Any]]
    """(gradients, state, params, **extra_args) → (updates, new state)."""
    accumulators: Callable[[Any], tuple[PyTree[Array], ...]]
    """Those parts of a state that are trees like the parameters."""
    extra_args: tuple[str, ...] = ()
    """Names of the optional keyword arguments that `update` takes."""


def inside(core: Core, learning_rate: ScalarOrSchedule) -> Core:
    """The rule on −η·g: what it accumulates includes the learning rate."""

    def update(grads: PyTree[Array], state: Any, params: Any) -> tuple[PyTree[Array], Any]:
        eta = at_count(learning_rate, state.count)
        return core.update(linear((-eta, grads)), state, params)

    return core._replace(update=update)


def outside(core: Core, learning_rate: ScalarOrSchedule) -> Core:
    """The rule on g, and its result times −η: what it accumulates does not include the learning rate."""

    def update(grads: PyTree[Array], state: Any, params: Any) -> tuple[PyTree[Array], Any]:
        directions, new_state = core.update(grads, state, params)
        return linear((-at_count(learning_rate, state.count), directions)), new_state

    return core._replace(update=update)


def zeros_like(params: PyTree[Array], accumulator_dtype: Any) -> PyTree[Array]:
    return jax.tree.map(lambda p: jnp.zeros_like(p, dtype=accumulator_dtype), params)


def check_state(state: Any, expected: type[Any]) -> None:
    """Raises `InputError` if the state is that of another optimizer."""
    if not isinstance(state, expected):
        raise InputError(
            f"the state is a {type(state).__name__}, and this optimizer's is a {expected.__name__}: begin with its "
            "init, or see momentum_jax.optimizers.from_optax"
        )


def checked_gradients(
    updates: PyTree[Any], accumulators: tuple[PyTree[Array], ...], accumulator_dtype: Any
) -> PyTree[Array]:
    """The gradients as arrays, which are real floating-point and match the accumulators of a state."""
    check_floating("gradient", updates)
    grads = jax.tree.map(jnp.asarray, updates)
    for accumulator in accumulators:
        check_match("gradient", grads, "state", accumulator)
        if accumulator_dtype is not None:
            check_dtype("state", accumulator, accumulator_dtype)
    return grads


def checked_parameters(params: PyTree[Any], grads: PyTree[Array]) -> PyTree[Array]:
    """The parameters of these gradients as arrays, which are real floating-point and match them."""
    params = trained(params, grads)
    check_floating("parameter", params)
    params = jax.tree.map(jnp.asarray, params)
    check_match("gradient", grads, "parameter", params)
    return params


def inner_optimizer(inner: Any) -> optax.GradientTransformationExtraArgs:
    """The optimizer that another one wraps.

    Raises:
      InputError: it is no transformation.
    """
    if not isinstance(inner, optax.GradientTransformation):
        raise InputError(
            f"inner must be an optax.GradientTransformation, such as mj.momentum(0.1) or optax.adam(0.001), not "
            f"{shown(inner)}"
        )
    return optax.with_extra_args_support(inner)


def transformation(core: Core, accumulator_dtype: Any = None) -> optax.GradientTransformationExtraArgs:
    """The Optax transformation of a rule.

    Updates get the dtypes of the gradients and the state keeps its dtypes, whatever the dtypes of the parameters. So a
    step can be the body of a scan, and a branch of a condition, as in `optax.apply_if_finite`.
    Parameters whose gradient is None are ignored.

    Raises:
      InputError: from `init`, a parameter that is not real floating-point; from `update`, also a state of another
        optimizer and trees that do not match. The message names the path of the leaf.
    """

    def init(params: PyTree[Array]) -> Any:
        check_floating("parameter", params)
        return core.init(params)

    def update(
        updates: PyTree[Array], state: Any, params: PyTree[Array] | None = None, **extra_args: Any
    ) -> tuple[PyTree[Array], Any]:
        check_state(state, core.state)
        grads = checked_gradients(updates, core.accumulators(state), accumulator_dtype)
        if params is not None:
            params = checked_parameters(params, grads)
        accepted = {name: extra_args[name] for name in core.extra_args if name in extra_args}
        steps, new_state = core.update(grads, state, params, **accepted)
        new_state = new_state._replace(count=optax.safe_increment(state.count))
        return cast_like(steps, grads), cast_like(new_state, state)

    return optax.GradientTransformationExtraArgs(init, update)
