"""Conversion of optimizer states between this package and Optax or PyTorch, to continue a run in the other."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from momentum_jax._base.errors import InputError, check_choice, check_integer
from momentum_jax.optimizers._hyperparameters import CHOICES, Scalar, check_hyperparameter, is_zero
from momentum_jax.optimizers._momentum import (
    CorrectedMomentumState,
    MomentumState,
    VelocityConvention,
    VelocityState,
)
from momentum_jax.optimizers._trees import cast_like, check_match, linear

# The states of Optax that count the iterations of a schedule.
_SCHEDULE_STATES = ("ScaleByScheduleState", "WrappedScheduleState", "InjectStatefulHyperparamsState")


def from_optax(
    state: Any, learning_rate: Scalar | None = None, *, count: int, convention: VelocityConvention = "inside"
) -> VelocityState:
    """Converts the state of `optax.sgd` or `optax.trace` to a state of `momentum` or `nesterov`.

    Optax's trace is b of the convention "outside". The velocity of "inside" and "corrected" is v = −η·b.

    The trace of another optimizer is another quantity. That of `optax.rmsprop` is refused; that of `optax.lars` cannot
    be told from that of `optax.sgd`.

    Args:
      state: a state of Optax that contains one trace, at any depth of a chain.
      learning_rate: η > 0 of the next update. Not needed for the convention "outside".
      count: the number of updates made so far. If it is 0, the next gradient is not dampened.
      convention: the convention of the optimizer that continues.

    Raises:
      InputError: the state does not contain exactly one trace, or also the moments of another rule; a learning rate,
        count or convention is not valid.

    >>> import momentum_jax as mj
    >>> params, grads = jnp.array(1.0), jnp.array(1.0)
    >>> theirs = optax.sgd(0.5, 0.5)
    >>> _, state = theirs.update(grads, theirs.init(params))
    >>> print(mj.momentum(0.5, 0.5).update(grads, from_optax(state, 0.5, count=1))[0], theirs.update(grads, state)[0])
    -0.75 -0.75
    """
    trace = _trace(state)
    if optax.tree_utils.tree_get_all_with_path(state, "nu", _is_field_of("ScaleByRmsState")):
        raise InputError(
            "the state of Optax also holds nu, the second moment of rmsprop, whose trace is no velocity of sgd: if it "
            "is one in your own chain, give its TraceState alone"
        )
    return _from_buffers(trace, learning_rate, count, convention)


def to_optax(
    state: VelocityState,
    template: Any,
    learning_rate: Scalar | None = None,
    *,
    convention: VelocityConvention = "inside",
) -> Any:
    """Converts a state of `momentum` or `nesterov` to the state of `optax.sgd` or `optax.trace`.

    Args:
      state: the state of `momentum` or `nesterov`.
      template: any state of the optimizer that continues, such as its `init(params)`. The result is the template with
        its trace and the counts of its schedules replaced.
      learning_rate: η > 0 of the next update. Needed for the convention "inside" only. A velocity of 0, such as that
        of a run that has not begun, is b = 0 at any rate.
      convention: the convention of the optimizer that stopped.

    Raises:
      InputError: the template does not contain exactly one trace, or the trace does not match the velocity; the
        learning rate is 0 and the velocity is not, so that b = −v/η is not defined.

    >>> import momentum_jax as mj
    >>> ours, params = mj.momentum(0.5, 0.5), jnp.array(1.0)
    >>> _, state = ours.update(jnp.array(1.0), ours.init(params))
    >>> print(to_optax(state, optax.sgd(0.5, 0.5).init(params), 0.5)[0].trace)
    1.0
    """
    trace, buffers = _trace(template), _to_buffers(state, learning_rate, convention)
    check_match("velocity", buffers, "trace", trace)
    return _replaced(template, cast_like(buffers, trace), state.count)


def _replaced(node: Any, trace: PyTree[Array], count: Array) -> Any:
    """A state of Optax with its trace and the counts of its schedules replaced."""
    name = type(node).__name__
    if name == "TraceState":
        return node._replace(trace=trace)
    if name in _SCHEDULE_STATES:
        node = node._replace(count=count)
        if name != "InjectStatefulHyperparamsState":
            return node
    # Recurse one level at a time, since `node` itself may hold further states.
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
    convention: VelocityConvention = "inside",
    parameters: Iterable[Any] | None = None,
) -> VelocityState:
    """Converts the state of PyTorch's `SGD` to a state of `momentum` or `nesterov`.

    Args:
      state_dict: `optimizer.state_dict()`. The learning rates are taken from its groups. Sparse buffers become dense.
      to_params: a function from a list of arrays, one for each parameter in the order of PyTorch's optimizer, to a
        tree like the parameters here. Use the function that converts the weights.
      count: the number of updates made so far. If it is 0, the next gradient is not dampened.
      convention: the convention of the optimizer that continues. "corrected" needs the same learning rate in all
        groups.
      parameters: PyTorch's parameters in the order of its optimizer, such as `model.parameters()`. Needed for the
        shapes of those without a momentum_buffer, which are frozen or have made no step yet. Their b is 0.

    Raises:
      InputError: the state is not that of `SGD` with momentum; a group has `maximize=True`; a parameter without a
        momentum_buffer is not in `parameters`, or has dampening, which PyTorch would not apply to its first gradient;
        a learning rate, count or convention is not valid.
    """
    check_choice("convention", convention, CHOICES["convention"])
    rates = _torch_rates(state_dict)
    buffers = _torch_buffers(state_dict, rates, count, parameters)
    if convention == "inside":
        for rate, buffer in zip(rates.values(), buffers, strict=True):
            _check_told(rate, buffer)
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
    convention: VelocityConvention = "inside",
) -> dict[str, Any]:
    """Converts a state of `momentum` or `nesterov` to a `state_dict` of PyTorch's `SGD`.

    Args:
      state: the state of `momentum` or `nesterov`.
      from_params: a function from a tree like the parameters here to the list of arrays in the order of PyTorch's
        optimizer, the inverse of `to_params` of `from_torch`.
      template: `optimizer.state_dict()` of the optimizer that continues. Its groups, with their learning rates, are
        kept.
      convention: the convention of the optimizer that stopped.

    Returns:
      The argument for `optimizer.load_state_dict`.

    Raises:
      InputError: PyTorch is not installed; the template is not that of `SGD` with momentum, or has `maximize=True`;
        `from_params` gives another number of arrays than there are parameters; a learning rate is 0 and the velocity
        is not, so that b = −v/η is not defined.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise InputError("to_torch makes tensors of PyTorch, which is not installed: pip install torch") from None

    check_choice("convention", convention, CHOICES["convention"])
    rates = _torch_rates(template)
    _check_convention(state, convention)
    if is_zero(state.count):
        # PyTorch recognises the first step by missing buffers.
        return {**template, "state": {}}
    velocity = state.velocity if convention == "inside" else _to_buffers(state, None, convention)
    # `torch.tensor` does not take NumPy's bfloat16. `load_state_dict` casts to the dtype of the parameters.
    arrays = [np.asarray(a, np.float32) if a.dtype == jnp.bfloat16 else np.asarray(a) for a in from_params(velocity)]
    if len(arrays) != len(rates):
        raise InputError(f"the template has {len(rates)} parameters, and from_params gave {len(arrays)} arrays")
    if convention == "inside":
        for rate, array in zip(rates.values(), arrays, strict=True):
            _check_told(rate, array)
        arrays = [np.asarray(-a / (rate or 1), a.dtype) for rate, a in zip(rates.values(), arrays, strict=True)]
    buffers = {index: {"momentum_buffer": torch.tensor(array)} for index, array in zip(rates, arrays, strict=True)}
    return {**template, "state": buffers}


def _from_buffers(buffers: PyTree[Array], learning_rate: Scalar | None, count: int, convention: str) -> VelocityState:
    check_choice("convention", convention, CHOICES["convention"])
    if convention == "outside":
        return MomentumState(_count(count), buffers)
    rate = _given(learning_rate, convention, buffers)
    velocity = cast_like(linear((-rate, buffers)), buffers)
    if convention == "inside":
        return MomentumState(_count(count), velocity)
    return CorrectedMomentumState(_count(count), velocity, rate)


def _to_buffers(state: VelocityState, learning_rate: Scalar | None, convention: str) -> PyTree[Array]:
    _check_convention(state, convention)
    if convention == "outside":
        return state.velocity
    if isinstance(state, CorrectedMomentumState):
        learning_rate = state.learning_rate
    buffers = linear((-1 / _given(learning_rate, convention, state.velocity), state.velocity))
    # Before the first update of "corrected" the rate is 0 too, and the product no number.
    return jax.tree.map(lambda v, b: jnp.where(v == 0, 0, b), state.velocity, buffers)


def _given(learning_rate: Scalar | None, convention: str, velocity: PyTree[Array]) -> Array:
    """The learning rate that a velocity includes, as an array."""
    if learning_rate is None:
        raise InputError(f"the velocity of the convention {convention!r} includes the learning rate: give it")
    check_hyperparameter("learning_rate", learning_rate)
    _check_told(learning_rate, velocity)
    return jnp.asarray(learning_rate, float)


def _check_told(rate: Scalar, velocity: PyTree[Array]) -> None:
    """Raises `InputError` if the rate is known to be 0, unless the velocity is known to be 0 at any rate."""
    if is_zero(rate) and any(
        isinstance(leaf, jax.core.Tracer) or (np.asarray(leaf) != 0).any() for leaf in jax.tree.leaves(velocity)
    ):
        raise InputError("a velocity that includes a learning rate of 0 does not tell what it is without")


def _check_convention(state: VelocityState, convention: str) -> None:
    check_choice("convention", convention, CHOICES["convention"])
    if not isinstance(state, MomentumState | CorrectedMomentumState):
        raise InputError(f"a {type(state).__name__} is no state of momentum or nesterov: take it out of its chain")
    if isinstance(state, CorrectedMomentumState) != (convention == "corrected"):
        raise InputError(f"a {type(state).__name__} is not that of the convention {convention!r}")


def _count(count: int) -> Array:
    check_integer("count", count, 0)
    return jnp.asarray(count, jnp.int32)


def _as_numpy(tensor: Any) -> np.ndarray:
    """A tensor of PyTorch on any device as a dense array.

    It is float32 for bfloat16, which PyTorch cannot convert to NumPy.
    """
    on_host = tensor.detach().cpu().to_dense() if hasattr(tensor, "detach") else tensor
    try:
        return np.asarray(on_host)
    except TypeError:
        return np.asarray(on_host.float())


def _is_field_of(state: str) -> Callable[[Any, Any], bool]:
    """A filter for the fields of one of Optax's states: not of others, and not parameters of the same name."""

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
    """The learning rate of each parameter of PyTorch's `SGD`, in the order of the parameters.

    Raises:
      InputError: the state is that of another optimizer, or of `SGD` without momentum or with `maximize=True`.
    """
    if not (isinstance(state_dict, Mapping) and {"state", "param_groups"} <= state_dict.keys()):
        raise InputError("this is no state_dict of an optimizer: give optimizer.state_dict()")
    if not (isinstance(state_dict["state"], Mapping) and isinstance(state_dict["param_groups"], list)):
        raise InputError("this is no state_dict of an optimizer: its state is a dict, and its param_groups are a list")
    foreign = {name for entry in state_dict["state"].values() for name in entry} - {"momentum_buffer"}
    if foreign:
        raise InputError(f"the state_dict is not that of torch.optim.SGD: it holds {', '.join(sorted(foreign))}")
    for group in state_dict["param_groups"]:
        lacking = {"lr", "momentum", "dampening", "nesterov"} - group.keys()
        if lacking:
            raise InputError(
                f"the state_dict is not that of torch.optim.SGD: a group has no {', '.join(sorted(lacking))}"
            )
        if group["momentum"] == 0:
            raise InputError("a group of the state_dict has momentum 0, and so no velocity")
        if group.get("maximize"):
            raise InputError(
                "a group of the state_dict has maximize=True: minimise the negated loss in PyTorch instead"
            )
    rates = {index: float(group["lr"]) for group in state_dict["param_groups"] for index in group["params"]}
    return dict(sorted(rates.items()))


def _torch_buffers(
    state_dict: Mapping[str, Any], indices: Collection[int], count: int, parameters: Iterable[Any] | None
) -> list[np.ndarray]:
    """The momentum_buffer of each parameter, zeros where there is none."""
    given = None if parameters is None else list(parameters)
    if given is not None and len(given) != len(indices):
        raise InputError(f"the state_dict has {len(indices)} parameters, and {len(given)} are given")
    dampened = {index for group in state_dict["param_groups"] if group["dampening"] for index in group["params"]}

    def buffer(place: int, index: int) -> np.ndarray:
        tensor = state_dict["state"].get(index, {}).get("momentum_buffer")
        if tensor is not None:
            return _as_numpy(tensor)
        lacks = f"parameter {index} of the state_dict has no momentum_buffer: it is frozen or has made no step yet"
        if given is None:
            raise InputError(f"{lacks}; give parameters=model.parameters(), of which it takes the shape")
        if count and index in dampened:
            raise InputError(f"{lacks}; PyTorch would not dampen its first gradient, and this package would")
        return np.zeros_like(_as_numpy(given[place]))

    return [buffer(place, index) for place, index in enumerate(indices)]
