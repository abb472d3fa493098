"""Networks of Flax, linen and NNX, as pure functions of parameters, state and keys.

The parameters are nested dicts. The state holds everything else that a network keeps, and its frozen parameters.
"""

import contextlib
import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import errors, nnx, traverse_util
from jaxtyping import Array, Key, PyTree

from momentum_jax._base.errors import InputError, refusing, shown, summary
from momentum_jax.tasks._task import Params

Path: TypeAlias = tuple[Hashable, ...]
State: TypeAlias = dict[Any, Any]
Example: TypeAlias = tuple[Any, tuple[jax.ShapeDtypeStruct, ...]]
"""The tree and the leaves of one example's inputs, hashable."""

_IN_TRAINING = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}
"""The arguments of a network's call that tell training from evaluation, with their values in training."""
Modes: TypeAlias = tuple[tuple[str, bool], ...]
"""Those of a network, hashable."""
_MODE = "an argument train, training, is_training, deterministic or use_running_average"


@runtime_checkable
class Network(Protocol):
    """What a task needs of a network. Networks are equal, and hash alike, if they compute the same."""

    def __hash__(self) -> int: ...

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams of random numbers that a training call draws from."""

    @property
    def norms(self) -> tuple[Path, ...]:
        """The places in the state of the running averages that a training call updates, each {"mean": …, "var": …}."""

    def init(self, key: Key[Array, ""]) -> tuple[Params, State]: ...

    def train(
        self, params: Params, state: State, inputs: PyTree[Array], key: Key[Array, ""] | None
    ) -> tuple[Any, State]:
        """The outputs in training mode, and the new state."""

    def evaluate(self, params: Params, state: State, inputs: PyTree[Array]) -> Any:
        """The outputs in evaluation mode."""

    def batch_statistics(self, params: Params, state: State, inputs: PyTree[Array]) -> State:
        """The state of a training call without dropout, with the statistics of this batch as running averages."""


@dataclasses.dataclass(frozen=True)
class Linen:
    """A linen module. Its state has the collections other than "params", which there holds the frozen parameters."""

    module: nn.Module
    example: Example
    modes: Modes
    collections: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    norms: tuple[Path, ...] = ()
    frozen: frozenset[Path] = frozenset()

    def init(self, key: Key[Array, ""]) -> tuple[Params, State]:
        inputs = _zeros(self.example, 1)
        variables = dict(self.module.init(key, inputs, **_mode(self.modes, training=True)))
        params, frozen = _split(variables.pop("params", {}), self.frozen)
        return params, variables | ({"params": frozen} if frozen else {})

    def train(
        self, params: Params, state: State, inputs: PyTree[Array], key: Key[Array, ""] | None
    ) -> tuple[Any, State]:
        outputs, updates = self.module.apply(
            self._variables(params, state),
            inputs,
            rngs=_stream_keys(self.streams, key),
            mutable=list(self.collections),
            **_mode(self.modes, training=True),
        )
        return outputs, _cast_like(state, state | dict(updates))

    def evaluate(self, params: Params, state: State, inputs: PyTree[Array]) -> Any:
        return self.module.apply(self._variables(params, state), inputs, **_mode(self.modes, training=False))

    def batch_statistics(self, params: Params, state: State, inputs: PyTree[Array]) -> State:
        with nn.intercept_methods(_keep_batch_statistics):
            return self.train(params, state, inputs, jax.random.key(0))[1]

    def _variables(self, params: Params, state: State) -> State:
        return state | {"params": _join(params, _cast(state.get("params", {}), params))}


def _keep_batch_statistics(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    """An interceptor: running averages become those of the batch alone, and dropout keeps everything."""
    module = context.module
    changes: list[tuple[str, float]] = []
    if isinstance(module, nn.BatchNorm):
        changes = [("momentum", 0.0)]
    elif isinstance(module, nn.Dropout):
        changes = [("rate", 0.0)]
    before: list[tuple[str, float]] = [(name, getattr(module, name)) for name, _ in changes]
    # Linen freezes a module while it runs. Nothing else than its own call reads these hyperparameters.
    for name, value in changes:
        object.__setattr__(module, name, value)
    try:
        return call(*args, **kwargs)
    finally:
        for name, value in before:
            object.__setattr__(module, name, value)


@dataclasses.dataclass(frozen=True)
class Nnx:
    """An NNX module. Its state has the variables that are neither parameters nor random, and the frozen parameters."""

    make: Callable[[nnx.Rngs], nnx.Module]
    graph: Any
    example: Example
    modes: Modes
    random: tuple[tuple[Path, jax.ShapeDtypeStruct], ...]
    streams: tuple[str, ...] = ()
    norms: tuple[Path, ...] = ()
    frozen: frozenset[Path] = frozenset()

    def init(self, key: Key[Array, ""]) -> tuple[Params, State]:
        params, state = _variables(self.make(nnx.Rngs(key)))
        params, frozen = _split(params, self.frozen)
        return params, _join(state, frozen)

    def train(
        self, params: Params, state: State, inputs: PyTree[Array], key: Key[Array, ""] | None
    ) -> tuple[Any, State]:
        module = self.module(params, state, _stream_keys(self.streams, key))
        module.train()
        return self.call_training(module, state, inputs)

    def evaluate(self, params: Params, state: State, inputs: PyTree[Array]) -> Any:
        module = self.module(params, state, {})
        module.eval()
        return module(inputs, **_mode(self.modes, training=False))

    def batch_statistics(self, params: Params, state: State, inputs: PyTree[Array]) -> State:
        module = self.module(params, state, {})
        module.train()
        module.set_attributes(nnx.BatchNorm, momentum=0.0, raise_if_not_found=False)
        module.set_attributes(nnx.Dropout, rate=0.0, raise_if_not_found=False)
        return self.call_training(module, state, inputs)[1]

    def module(self, params: Params, state: State, keys: dict[str, Any]) -> Any:
        """The module with these variables; streams without a key draw from a fixed one."""
        frozen = _cast(_split(state, self.frozen)[1], params)
        random = {
            path: jnp.broadcast_to(jax.random.key(0), leaf.shape)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else jnp.zeros(leaf.shape, leaf.dtype)
            for path, leaf in self.random
        }
        parts = [part for part in (params, _join(state, frozen), traverse_util.unflatten_dict(random)) if part]
        module = nnx.merge(self.graph, *parts)
        if keys:
            nnx.reseed(module, policy="match_shape", **keys)
        return module

    def call_training(self, module: Any, state: State, inputs: PyTree[Array]) -> tuple[Any, State]:
        outputs = module(inputs, **_mode(self.modes, training=True))
        frozen = _split(state, self.frozen)[1]
        return outputs, _cast_like(state, _join(_variables(module)[1], frozen))


_Made = TypeVar("_Made", bound=Network)


def _variables(module: nnx.Module) -> tuple[Params, State]:
    """The parameters of an NNX module, and its other variables that are not random."""
    parts: Any = nnx.split(module, nnx.Param, nnx.RngState, ...)
    _, params, _, others = parts
    return nnx.to_pure_dict(params), nnx.to_pure_dict(others)


def make_network(module: Any, inputs: PyTree[Array]) -> Network:
    """The network of a linen module, an NNX module or a function of `nnx.Rngs` that makes one.

    Args:
      module: the module or the function.
      inputs: abstract arrays [examples, …] as the module gets them.

    Raises:
      InputError: it is none of these, cannot be called with the inputs, or cannot be trained or evaluated.
    """
    leaves, tree = jax.tree.flatten(inputs)
    example = tree, tuple(jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for leaf in leaves)
    if isinstance(module, nn.Module):
        return _with_modes(functools.partial(_make_linen, module, example), module)
    if isinstance(module, type) and issubclass(module, nn.Module):
        raise InputError(f"module is the class {module.__name__}; give a module, such as {module.__name__}()")
    if isinstance(module, nnx.Module):
        graph, variables = nnx.split(module)
        # The arrays of now: variables can change.
        values = nnx.to_pure_dict(variables)
        return _make_nnx(lambda rngs: nnx.merge(graph, values), example)
    if callable(module):
        return _make_nnx(module, example)
    raise InputError(
        "module must be a module of flax.linen or flax.nnx, or a function of nnx.Rngs that makes an NNX module, not "
        + shown(module)
    )


def shareable(module: Any) -> bool:
    """Whether the functions of two tasks of this module may be the same: an NNX module's variables can change."""
    return not isinstance(module, nnx.Module)


def freeze(network: Any, trainable: Any) -> Network:
    """The network with the parameters frozen for which `trainable` is false.

    Raises:
      InputError: `trainable` is neither a function of (path, leaf) nor a tree like the parameters, does not say yes or
        no, or leaves no parameter to train.
    """
    shapes = traverse_util.flatten_dict(jax.eval_shape(network.init, jax.random.key(0))[0])
    if callable(trainable):
        answers = {path: trainable(path, leaf) for path, leaf in shapes.items()}
    elif isinstance(trainable, dict) and (mask := traverse_util.flatten_dict(trainable)).keys() == shapes.keys():
        answers = mask
    else:
        raise InputError(
            "trainable must be a function of (path, leaf), or a tree of True and False like the parameters, not "
            + shown(trainable)
        )
    for path, answer in answers.items():
        if not isinstance(answer, bool | np.bool_):
            raise InputError(f"trainable must be True or False for {named(path)}, not {shown(answer)}")
    frozen = frozenset(path for path, answer in answers.items() if not answer)
    if len(frozen) == len(shapes):
        raise InputError(f"trainable is False for every parameter: {', '.join(map(named, shapes))}")
    return dataclasses.replace(network, frozen=frozen)  # type: ignore[no-any-return]


def named(path: Path) -> str:
    return "/".join(map(str, path))


def _make_linen(module: nn.Module, example: Example, modes: Modes) -> Linen:
    network = Linen(module, example, modes)
    key = jax.random.key(0)
    with _refusing(example):
        params, state = jax.eval_shape(network.init, key)
    _check_params(params)
    network = dataclasses.replace(network, collections=tuple(sorted(state)))
    inputs = _zeros_of(example)
    with _refusing(example):
        network, new = _find_streams(network, params, state, inputs)
    _check_state(state, new)
    try:
        jax.eval_shape(network.evaluate, params, state, inputs)
    except errors.InvalidRngError as error:
        stream = _missing_stream(error)
        raise InputError(f"evaluation draws from the stream {stream!r}: give the module's __call__ {_MODE}") from error
    except errors.ModifyScopeVariableError as error:
        found = re.search(r'collection "([^"]+)"', str(error))
        collection = found[1] if found else "batch_stats"
        raise InputError(f"evaluation changes {collection!r}: give the module's __call__ {_MODE}") from error
    except Exception as error:
        raise _does_not_take(example, error) from error
    return dataclasses.replace(network, norms=_find_linen_norms(network, params, state, inputs))


def _find_streams(network: Linen, params: Params, state: State, inputs: Any) -> tuple[Linen, State]:
    """The network with the streams that a training call asks for, and the new state's shapes."""
    while True:
        try:
            _, new = jax.eval_shape(network.train, params, state, inputs, jax.random.key(0))
        except errors.InvalidRngError as error:
            network = dataclasses.replace(network, streams=tuple(sorted({*network.streams, _missing_stream(error)})))
        else:
            return network, new


def _missing_stream(error: errors.InvalidRngError) -> str:
    """The stream that linen misses: its message is the only place that has the name."""
    found = re.search(r'needs PRNG for "([^"]+)"', str(error))
    if found is None:
        raise error
    return found[1]


def _find_linen_norms(network: Linen, params: Params, state: State, inputs: Any) -> tuple[Path, ...]:
    found: set[Path] = set()

    def watch(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if not isinstance(module, nn.BatchNorm) or context.method_name != "__call__":
            return call(*args, **kwargs)
        before: Any = module.get_variable("batch_stats", "mean")
        outputs = call(*args, **kwargs)
        if module.get_variable("batch_stats", "mean") is not before:
            found.add(("batch_stats", *module.path))
        return outputs

    with nn.intercept_methods(watch):
        jax.eval_shape(network.train, params, state, inputs, jax.random.key(0))
    return tuple(sorted(found))


def _make_nnx(make: Callable[[nnx.Rngs], nnx.Module], example: Example) -> Nnx:
    name = getattr(make, "__name__", "module")

    def made() -> nnx.Module:
        module = make(nnx.Rngs(0))
        if not isinstance(module, nnx.Module):
            raise InputError(f"{name} must make a module of flax.nnx from nnx.Rngs, not {shown(module)}")
        return module

    with refusing(f"{name} must take nnx.Rngs, such as lambda rngs: Network(…, rngs=rngs)"):
        module = nnx.eval_shape(made)
    parts: Any = nnx.split(module, nnx.Param, nnx.RngState, ...)
    graph, _, random, _ = parts
    shapes = traverse_util.flatten_dict(nnx.to_pure_dict(random))
    of_modes = functools.partial(_trace_nnx, Nnx(make, graph, example, (), tuple(shapes.items())))
    return _with_modes(of_modes, module)


def _trace_nnx(network: Nnx, modes: Modes) -> Nnx:
    """The network with these modes, and with the streams and the running averages of its training call."""
    network, example = dataclasses.replace(network, modes=modes), network.example
    params, state = jax.eval_shape(network.init, jax.random.key(0))
    _check_params(params)
    inputs = _zeros_of(example)
    streams: set[str] = set()
    norms: set[Path] = set()

    def watch(params: Params, state: State, inputs: PyTree[Array]) -> State:
        module = network.module(params, state, {})
        module.train()
        counts = [(part.tag, part.count, part.count.get_value()) for part in _parts(module, nnx.RngStream)]
        means = [
            (path, part.mean, part.mean.get_value())
            for path, part in nnx.iter_graph(module)
            if isinstance(part, nnx.BatchNorm)
        ]
        new = network.call_training(module, {}, inputs)[1]
        streams.update(tag for tag, count, before in counts if count.get_value() is not before)
        norms.update(tuple(path) for path, mean, before in means if mean.get_value() is not before)
        return new

    with _refusing(example):
        new = jax.eval_shape(watch, params, state, inputs)
    _check_state(state, new)
    with _refusing(example):
        jax.eval_shape(network.evaluate, params, state, inputs)
    return dataclasses.replace(network, streams=tuple(sorted(streams)), norms=tuple(sorted(norms, key=named)))


def _parts(module: nnx.Module, kind: type) -> Iterator[Any]:
    return (part for _, part in nnx.iter_graph(module) if isinstance(part, kind))


def _with_modes(make: Callable[[Modes], _Made], module: Any) -> _Made:
    """The network that `make` gives for the modes of a module.

    Raises:
      InputError: another argument of its call turns on what belongs to training.
    """
    modes, flags = _find_modes(module)
    network = make(modes)
    for flag, default in flags:
        try:
            other = make((*modes, (flag, not default)))
        except InputError:
            continue
        if set(other.streams) > set(network.streams) or set(other.norms) > set(network.norms):
            raise InputError(
                f"{flag}={not default} of {type(module).__name__}.__call__ turns on dropout or running averages, and a "
                f"task never gives it: give the module's __call__ {_MODE} in its place"
            )
    return network


def _find_modes(module: Any) -> tuple[Modes, Modes]:
    """The arguments of a module's call that tell training from evaluation, and other booleans with their defaults."""
    name = type(module).__name__
    if not callable(module):
        raise InputError(f"{name} has no __call__ from inputs to outputs")
    arguments = list(inspect.signature(type(module).__call__).parameters.values())[1:]
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    modes = [a.name for a in arguments[1:] if a.name in _IN_TRAINING and a.kind != a.POSITIONAL_ONLY]
    missing = [
        argument.name
        for argument in arguments[1:]
        if argument.name not in modes and argument.kind not in variadic and argument.default is argument.empty
    ]
    if missing:
        raise InputError(
            f"{name}.__call__ needs {', '.join(missing)} beside the inputs: give defaults, or take one tree of inputs"
        )
    flags = [(a.name, a.default) for a in arguments[1:] if a.name not in modes and isinstance(a.default, bool)]
    return tuple((mode, _IN_TRAINING[mode]) for mode in modes), tuple(flags)


def _mode(modes: Modes, *, training: bool) -> dict[str, Any]:
    return {name: in_training == training for name, in_training in modes}


def _stream_keys(streams: tuple[str, ...], key: Key[Array, ""] | None) -> dict[str, Any]:
    """The key of each stream: the key itself for one, a part of it for each of several."""
    if not streams or key is None:
        return {}
    keys = [key] if len(streams) == 1 else list(jax.random.split(key, len(streams)))
    return dict(zip(streams, keys, strict=True))


def _zeros(example: Example, examples: int) -> Any:
    tree, leaves = example
    return jax.tree.unflatten(tree, [jnp.zeros((examples, *leaf.shape), leaf.dtype) for leaf in leaves])


def _zeros_of(example: Example) -> Any:
    """Abstract inputs of two examples: a state that depends on the size of the batch differs from that of `init`."""
    return jax.eval_shape(functools.partial(_zeros, example, 2))


def _split(tree: State, chosen: frozenset[Path]) -> tuple[State, State]:
    """The leaves that are not chosen, and those that are."""
    if not chosen:
        return tree, {}
    flat = traverse_util.flatten_dict(tree)
    parts = ({path: leaf for path, leaf in flat.items() if (path in chosen) is side} for side in (False, True))
    rest, taken = map(traverse_util.unflatten_dict, parts)
    return rest, taken


def _join(first: State, second: State) -> State:
    """The leaves of both; those of the second where both have one."""
    if not second:
        return first
    flat = traverse_util.flatten_dict(first) | traverse_util.flatten_dict(second)
    return traverse_util.unflatten_dict(flat)  # type: ignore[no-any-return]


def _cast(frozen: State, params: Params) -> State:
    """The frozen parameters in the dtype of the others, so that the network computes in one."""
    dtype = jax.tree.leaves(params)[0].dtype
    return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, frozen)  # type: ignore[no-any-return]


def _cast_like(old: State, new: State) -> State:
    """The new state in the dtypes of the old one, where both have a leaf."""
    before = traverse_util.flatten_dict(old)
    after = {
        path: leaf.astype(before[path].dtype) if hasattr(before.get(path), "dtype") else leaf
        for path, leaf in traverse_util.flatten_dict(new, keep_empty_nodes=True).items()
    }
    return traverse_util.unflatten_dict(after)  # type: ignore[no-any-return]


def _check_params(params: Params) -> None:
    if not jax.tree.leaves(params):
        raise InputError("the module has no parameters to train")


def _check_state(old: State, new: State) -> None:
    """Refuses a state that has not the same leaves and shapes after a training call as before."""
    before, after = _shapes(old), _shapes(new)
    for place in [*before, *after]:
        if before.get(place) != after.get(place):
            was, becomes = (shapes.get(place, "nothing") for shapes in (before, after))
            raise InputError(
                f"a training call changes the shape of the state {place} from {was} to {becomes}; "
                "it must not depend on the batch or grow"
            )


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}


@contextlib.contextmanager
def _refusing(example: Example) -> Iterator[None]:
    """Turns what a module raises while it is traced into an `InputError`, except for a stream that linen misses."""
    try:
        yield
    except (InputError, errors.InvalidRngError):
        raise
    except Exception as error:
        raise _does_not_take(example, error) from error


def _does_not_take(example: Example, error: Exception) -> InputError:
    tree, leaves = example
    shapes = jax.tree.unflatten(tree, [f"{leaf.dtype}{['batch', *leaf.shape]}".replace("'", "") for leaf in leaves])
    return InputError(f"the module does not take inputs {shown(shapes)}: {summary(error)}")
