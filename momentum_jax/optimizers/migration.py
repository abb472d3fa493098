"""The velocity of an optimizer in the middle of its run, from Optax or PyTorch to this package and back."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from momentum_jax._base.errors import InputError, check_integer
from momentum_jax.optimizers._hyperparameters import Scalar, check_choice, check_hyperparameter
from momentum_jax.optimizers._momentum import Convention, CorrectedMomentumState, MomentumState, VelocityState
from momentum_jax.optimizers._trees import cast_like, check_match, linear

# Optax's states that count the iterations of a schedule.
_SCHEDULES = ("ScaleByScheduleState", "WrappedScheduleState", "InjectStatefulHyperparamsState")


def from_optax(
    state: Any, learning_rate: Scalar | None = None, *, count: int, convention: Convention = "inside"
) -> VelocityState:
    """The state of `momentum` or `nesterov` that goes on where `optax.sgd` or `optax.trace` stopped.

    Optax's trace is b of the convention "outside"; inside, v = −η·b.

    Args:
      state: of Optax, in whatever chain, with one trace in it.
      learning_rate: η > 0 of the next update, so that it is the same in both; not needed for the convention
        "outside".
      count: updates made so far; after 0 the next gradient enters undampened, as a first one.
      convention: that of the optimizer that goes on.

    Raises:
      InputError: no trace in the state, or more than one; a rate, count or convention that cannot be.

    >>> import momentum_jax as mj
    >>> params, grads = jnp.array(1.0), jnp.array(1.0)
    >>> theirs = optax.sgd(0.5, 0.5)
    >>> _, state = theirs.update(grads, theirs.init(params))
    >>> print(mj.momentum(0.5, 0.5).update(grads, from_optax(state, 0.5, count=1))[0], theirs.update(grads, state)[0])
    -0.75 -0.75
    """
    return _from_buffers(_trace(state), learning_rate, count, convention)


def to_optax(
    state: VelocityState, template: Any, learning_rate: Scalar | None = None, *, convention: Convention = "inside"
) -> Any:
    """The state of `optax.sgd` or `optax.trace` that goes on where `momentum` or `nesterov` stopped.

    Args:
      state: of this package.
      template: any state of the optimizer that goes on, such as its `init(params)`; the trace in it and the counts of
        its schedules are replaced.
      learning_rate: η > 0 of the next update, so that it is the same in both; not needed for the conventions
        "outside" and "corrected".
      convention: that of the optimizer that stopped.

    Raises:
      InputError: no trace in the template, or more than one; one that does not fit the velocity; a rate of 0, from
        which the velocity without the rate cannot be had.

    >>> import momentum_jax as mj
    >>> ours, params = mj.momentum(0.5, 0.5), jnp.array(1.0)
    >>> _, state = ours.update(jnp.array(1.0), ours.init(params))
    >>> print(to_optax(state, optax.sgd(0.5, 0.5).init(params), 0.5)[0].trace)
    1.0
    """
    trace, buffers = _trace(template), _to_buffers(state, learning_rate, convention)
    check_match("velocity", buffers, "trace", trace, dtypes=False)
    return _replaced(template, cast_like(buffers, trace), state.count)


def _replaced(node: Any, trace: PyTree[Array], count: Array) -> Any:
    """A state of Optax with another trace, and another count in the states of schedules."""
    name = type(node).__name__
    if name == "TraceState":
        return node._replace(trace=trace)
    if name in _SCHEDULES:
        node = node._replace(count=count)
        if name != "InjectStatefulHyperparamsState":
            return node
    # One level at a time: states are inside states.
    return jax.tree.map(
        lambda child: child if child is node else _replaced(child, trace, count),
        node,
        is_leaf=lambda child: child is not node,
    )


def from_torch(
    state_dict: Mapping[str, Any],
    to_params: Callable[[list[np.ndarray]], PyTree[Any]],
    *,
    count: int,
    convention: Convention = "inside",
) -> VelocityState:
    """The state of `momentum` or `nesterov` that goes on where PyTorch's `SGD` stopped.

    Args:
      state_dict: `optimizer.state_dict()`; learning rates are taken from its groups.
      to_params: turns a list of arrays, one for each of PyTorch's parameters in the order in which its optimizer has
        them, into a tree like our parameters: the function that carries the weights over does it.
      count: updates made so far; after 0 the next gradient enters undampened, as a first one.
      convention: that of the optimizer that goes on; "corrected" needs one learning rate in all groups.

    Raises:
      InputError: a group without momentum; a parameter without a momentum_buffer, which has made no step yet; a rate,
        count or convention that cannot be.
    """
    check_choice("convention", convention)
    rates = _torch_rates(state_dict)
    for group in state_dict["param_groups"]:
        if group["momentum"] == 0:
            raise InputError("a group of the state_dict has momentum 0, and so no velocity")
    missing = [index for index in rates if state_dict["state"].get(index, {}).get("momentum_buffer") is None]
    if missing:
        raise InputError(f"parameter {missing[0]} of the state_dict has no momentum_buffer: it has made no step yet")
    buffers = [_as_numpy(state_dict["state"][index]["momentum_buffer"]) for index in rates]
    if convention == "inside":
        for rate in rates.values():
            _check_positive(rate)
        buffers = [np.asarray(-rate * b, b.dtype) for rate, b in zip(rates.values(), buffers, strict=True)]
    velocity = jax.tree.map(jnp.asarray, to_params(buffers))
    if convention != "corrected":
        return MomentumState(_count(count), velocity)
    if len(set(rates.values())) > 1:
        raise InputError('convention="corrected" has one learning rate, and the groups of the state_dict differ')
    return _from_buffers(velocity, next(iter(rates.values())), count, convention)


def to_torch(
    state: VelocityState,
    from_params: Callable[[PyTree[Array]], Sequence[Any]],
    template: Mapping[str, Any],
    *,
    convention: Convention = "inside",
) -> dict[str, Any]:
    """The `state_dict` with which PyTorch's `SGD` goes on where `momentum` or `nesterov` stopped.

    Args:
      state: of this package.
      from_params: turns a tree like our parameters into the list of arrays that PyTorch's parameters are, the inverse
        of what `from_torch` takes.
      template: `optimizer.state_dict()` of the optimizer that goes on; its groups, with their learning rates, stay.
      convention: that of the optimizer that stopped.

    Returns:
      What `optimizer.load_state_dict` takes.

    Raises:
      InputError: PyTorch is not installed; another number of arrays than parameters; a learning rate of 0, from which
        the velocity without the rate cannot be had.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise InputError("to_torch makes tensors of PyTorch, which is not installed: pip install torch") from None

    check_choice("convention", convention)
    rates = _torch_rates(template)
    _check_convention(state, convention)
    if not isinstance(state.count, jax.core.Tracer) and state.count == 0:
        # PyTorch knows a first step by the buffers that are not there yet.
        return {**template, "state": {}}
    velocity = state.velocity if convention == "inside" else _to_buffers(state, None, convention)
    # Tensors of PyTorch are not made from NumPy's bfloat16; loading casts them to the parameters' dtype.
    arrays = [np.asarray(a, np.float32) if a.dtype == jnp.bfloat16 else np.asarray(a) for a in from_params(velocity)]
    if len(arrays) != len(rates):
        raise InputError(f"the template has {len(rates)} parameters, and from_params gave {len(arrays)} arrays")
    if convention == "inside":
        for rate in rates.values():
            _check_positive(rate)
        arrays = [np.asarray(-a / rate, a.dtype) for rate, a in zip(rates.values(), arrays, strict=True)]
    buffers = {index: {"momentum_buffer": torch.tensor(array)} for index, array in zip(rates, arrays, strict=True)}
    return {**template, "state": buffers}


def _from_buffers(buffers: PyTree[Array], learning_rate: Scalar | None, count: int, convention: str) -> VelocityState:
    check_choice("convention", convention)
    if convention == "outside":
        return MomentumState(_count(count), buffers)
    rate = _given(learning_rate, convention)
    _check_positive(rate)
    velocity = cast_like(linear((-rate, buffers)), buffers)
    if convention == "inside":
        return MomentumState(_count(count), velocity)
    return CorrectedMomentumState(_count(count), velocity, jnp.asarray(rate, float))


def _to_buffers(state: VelocityState, learning_rate: Scalar | None, convention: str) -> PyTree[Array]:
    _check_convention(state, convention)
    if convention == "outside":
        return state.velocity
    rate = state.learning_rate if isinstance(state, CorrectedMomentumState) else _given(learning_rate, convention)
    _check_positive(rate)
    return linear((-1 / rate, state.velocity))


def _given(learning_rate: Scalar | None, convention: str) -> Scalar:
    if learning_rate is None:
        raise InputError(f"the velocity of the convention {convention!r} includes the learning rate: give it")
    check_hyperparameter("learning_rate", learning_rate)
    return learning_rate


def _check_positive(rate: Scalar) -> None:
    if not isinstance(rate, jax.core.Tracer) and rate == 0:
        raise InputError("a velocity that includes a learning rate of 0 does not tell what it is without")


def _check_convention(state: VelocityState, convention: str) -> None:
    check_choice("convention", convention)
    if not isinstance(state, MomentumState | CorrectedMomentumState):
        raise InputError(f"a {type(state).__name__} is no state of momentum or nesterov: take it out of its chain")
    if isinstance(state, CorrectedMomentumState) != (convention == "corrected"):
        raise InputError(f"a {type(state).__name__} is not that of the convention {convention!r}")


def _count(count: int) -> Array:
    check_integer("count", count, 0)
    return jnp.asarray(count, jnp.int32)


def _as_numpy(tensor: Any) -> np.ndarray:
    """A tensor of PyTorch, wherever it is, and bfloat16, which NumPy's arrays of PyTorch cannot have, as float32."""
    on_host = tensor.detach().cpu() if hasattr(tensor, "detach") else tensor
    try:
        return np.asarray(on_host)
    except TypeError:
        return np.asarray(on_host.float())


def _is_field_of(state: str) -> Callable[[Any, Any], bool]:
    """Tells the fields of one of Optax's states from those of others and from parameters of the same name."""

    def is_field(path: Any, value: Any) -> bool:
        del value
        return isinstance(path[-1], optax.tree_utils.NamedTupleKey) and path[-1].tuple_name == state

    return is_field


def _trace(state: Any) -> PyTree[Array]:
    traces = optax.tree_utils.tree_get_all_with_path(state, "trace", _is_field_of("TraceState"))
    if len(traces) != 1:
        raise InputError(f"the state of Optax must have one trace in it, and has {len(traces)}: {type(state).__name__}")
    return traces[0][1]


def _torch_rates(state_dict: Mapping[str, Any]) -> dict[int, float]:
    """The learning rate of each parameter, in order."""
    if "param_groups" not in state_dict:
        raise InputError("this is no state_dict of an optimizer: give optimizer.state_dict()")
    rates = {index: float(group["lr"]) for group in state_dict["param_groups"] for index in group["params"]}
    return dict(sorted(rates.items()))
