"""The task of training a network of Flax, linen or NNX, with its running statistics, dropout and frozen parameters."""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree, Shaped

from momentum_jax._base.errors import InputError, refusing, shown, unknown
from momentum_jax.tasks._labels import label_entropy, widened
from momentum_jax.tasks._networks import Network, Path, State, freeze, make_network, shareable
from momentum_jax.tasks._task import Data, Params, Scalars, Task, mean_over_examples
from momentum_jax.tasks.augmentation import Augmentation
from momentum_jax.tasks.host_data import HostData, is_source

Loss: TypeAlias = Callable[[Any, Any], Float[Array, ""]]
"""From the outputs of a network and the targets to the mean over the batch."""


def flax_task(
    module: Any,
    train: tuple[Any, Any],
    test: tuple[Any, Any] | None = None,
    *,
    loss: str | Loss | None = None,
    precise_batch_norm: bool = False,
    trainable: Any = None,
    augment: Augmentation | None = None,
) -> Task:
    """The task of fitting a module of Flax to (inputs, targets).

    The module is called with the inputs alone. Floats among the inputs get the dtype of the parameters. uint8 inputs
    are pixels: they get that dtype too, divided by 255. Other integers remain, so tokens must be int32, for example.
    The loss sees the outputs in at least float32.

    *Parameters* are linen's collection "params", or the variables of NNX that are `nnx.Param`. Everything else that the
    module keeps is the task's state: running averages and other collections or variables. A linen module is applied to
    `{"params": params, **state}`. An NNX module is `nnx.merge(graph, params, state, random)` with its random state, if
    it has one. Without a state, `init` returns the parameters alone.

    *Training and evaluation* are told apart by an argument of the module's `__call__`: train, training, is_training
    (true in training), deterministic or use_running_average (false in training). An NNX module is also told by its
    `train()` and `eval()`. The key of a training step is the key of the stream that the module draws from, such as
    "dropout". Several streams get the parts of `jax.random.split(key, n)` in alphabetical order. In NNX, `nnx.reseed`
    hands it over; a stream there is named "default" if the module was made with `nnx.Rngs(key)`. What an NNX module
    draws in evaluation comes from a fixed key.

    *Evaluation* gives "train_loss" and "test_loss" over the full sets. With cross-entropy it adds "test_accuracy" for
    targets [examples], and "test_bits_per_character" (the loss divided by ln 2) for targets [examples, length].

    *Batch normalisation.* A training call updates a running average a to m·a + (1 − m)·b with the statistic b of the
    batch and Flax's `momentum` m. PyTorch's `momentum` is 1 − m, and its running variance averages n/(n − 1) times the
    variance of a batch of n, where Flax averages the variance itself. An evaluation uses the running averages, or with
    `precise_batch_norm` the population statistics of the training set (Wu and Johnson 2021, 2105.07576, section 3). The
    training set goes through the network in training mode, without dropout, in slices of 1000 examples. From the mean
    μ_B and the variance σ²_B of each slice, weighted by its examples,

        μ = E[μ_B],  σ² = E[σ²_B + (μ_B − c)²] − (μ − c)²

    whatever c is. The running mean serves as c, so that rounding is small. For the first normalisation of a network
    this is the mean and variance over all examples. A later one sees inputs that were normalised slice by slice. A
    layer that is called more than once keeps the statistics of its last call.

    *Frozen parameters* become part of the state, where no optimizer, weight decay or clipping sees them: in linen they
    are its collection "params", in NNX they stand among its variables. They are cast to the dtype of the trainable ones
    when they are used. Running averages beside them still follow the data.

    *What starts a run.* Linen modules and functions of `nnx.Rngs` draw parameters from the key of each seed. An NNX
    module that is given itself starts every run from the values that it has when the task is made.

    Tasks of equal linen modules, or of the same function, share their compiled programs.

    Args:
      module: a linen module, an NNX module, or a function of `nnx.Rngs` that makes an NNX module.
      train: inputs and targets, each an array or a tree of arrays [examples, …]. Data that `Task` leaves on the host,
        such as `np.memmap`, are checked and evaluated by a sample.
      test: the same for the test examples.
      loss: "cross_entropy" (softmax, in nats; integer targets), "mean_squared_error" (over all outputs), or a function
        of (outputs, targets) to a scalar, the mean over the batch. The default is "cross_entropy" for integer targets.
      precise_batch_norm: whether evaluations compute the population statistics of batch normalisation.
      trainable: which parameters are trained; a function of (path, leaf), with the path a tuple of keys such as
        ("Dense_0", "kernel"), or a tree of bools like the parameters. The default trains all.
      augment: changes each training batch; see `momentum_jax.tasks.augmentation`.

    Raises:
      InputError: the module, the data or an option cannot be used; nothing has been compiled.

    >>> import flax.linen as nn
    >>> class Net(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x, train):
    ...         x = nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x))
    ...         return nn.Dense(3)(nn.Dropout(0.1, deterministic=not train)(nn.relu(x)))
    >>> rng = np.random.default_rng(0)
    >>> task = flax_task(Net(), (rng.normal(size=(60, 4)), rng.integers(0, 3, 60)))
    >>> task.has_state, task.has_key
    (True, True)
    """
    held_train, train = _examples("train", train)
    held_test, test = (None, None) if test is None else _examples("test", test)
    inputs, targets = train
    loss_function = _chosen_loss(loss, targets)
    example = jax.eval_shape(functools.partial(_as_floats, dtype=jnp.float32), _abstract(inputs))
    network = make_network(module, example)
    if trainable is not None:
        network = freeze(network, trainable)
    if precise_batch_norm and not network.norms:
        raise InputError("precise_batch_norm: the module has no BatchNorm that a training call updates; leave it out")
    if augment is not None and not callable(augment):
        raise InputError(f"augment must be a function of (key, batch), not {shown(augment)}")
    params, state = jax.eval_shape(network.init, jax.random.key(0))
    outputs = jax.eval_shape(lambda *arguments: widened(network.evaluate(*arguments)), params, state, example)
    _check_loss(loss_function, outputs, targets)
    if loss_function is _cross_entropy:
        _check_labels("train", targets, outputs.shape[-1])
    if test is not None:
        _check_test(train, test)
        if loss_function is _cross_entropy:
            _check_labels("test", test[1], outputs.shape[-1])
    has_state = bool(jax.tree.leaves(state))
    make_functions = _functions if shareable(module) and _is_hashable(network) else _functions.__wrapped__
    init, task_loss, evaluate = make_functions(network, loss_function, has_state, precise_batch_norm)
    return Task(
        init=init,
        loss=task_loss,
        train=held_train,
        test=held_test,
        evaluate=evaluate,
        has_state=has_state,
        has_key=bool(network.streams),
        augment=augment,
        baseline_loss=_baseline(loss_function, targets),
    )


@functools.lru_cache(maxsize=64)
def _functions(
    network: Network, loss_function: Loss, has_state: bool, precise_batch_norm: bool
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Scalars]]:
    """`init`, `loss` and `evaluate`; cached, because compiled programs are shared by the identity of functions."""

    def init(key: Any) -> Any:
        params, state = network.init(key)
        return (params, state) if has_state else params

    def loss(params: Params, *arguments: Any) -> Any:
        state, batch, key = _place(arguments, has_state, bool(network.streams))
        inputs, targets = batch
        outputs, new_state = network.train(params, state, _as_floats(inputs, _dtype(params)), key)
        value = loss_function(widened(outputs), targets)
        return (value, new_state) if has_state else value

    def evaluate(params: Params, *arguments: Any) -> Scalars:
        state, (train, test), _ = _place((*arguments[:-2], arguments[-2:]), has_state, False)
        if precise_batch_norm:
            state = _population_statistics(network, params, state, train[0])

        def means(batch: Any) -> dict[str, Array]:
            inputs, targets = batch
            outputs = widened(network.evaluate(params, state, _as_floats(inputs, _dtype(params))))
            loss = loss_function(outputs, targets)
            if loss_function is not _cross_entropy:
                return {"loss": loss}
            if targets.ndim == 2:
                return {"loss": loss, "bits_per_character": loss / math.log(2)}
            correct = jnp.argmax(outputs, axis=-1).astype(jnp.int32) == targets.astype(jnp.int32)
            return {"loss": loss, "accuracy": correct.mean(dtype=loss.dtype)}

        scalars = {"train_loss": mean_over_examples(means, train)["loss"]}
        if test is not None:
            scalars |= {f"test_{name}": mean for name, mean in mean_over_examples(means, test).items()}
        return scalars

    return init, loss, evaluate


def _place(arguments: tuple[Any, ...], has_state: bool, has_key: bool) -> tuple[State, Any, Any]:
    """The state, the batch and the key of a loss's arguments after the parameters; it gets only those it declares."""
    state = arguments[0] if has_state else {}
    return state, arguments[int(has_state)], arguments[-1] if has_key else None


def _population_statistics(network: Network, params: Params, state: State, inputs: PyTree[Array]) -> State:
    """The state with the population statistics of the inputs in place of running averages; see `flax_task`."""
    centres = [_at(state, path)["mean"] for path in network.norms]

    def moments(part: PyTree[Array]) -> list[tuple[Array, Array]]:
        batch = network.batch_statistics(params, state, _as_floats(part, _dtype(params)))
        norms = [_at(batch, path) for path in network.norms]
        return [(n["mean"], n["var"] + (n["mean"] - c) ** 2) for n, c in zip(norms, centres, strict=True)]

    for path, centre, (mean, square) in zip(network.norms, centres, mean_over_examples(moments, inputs), strict=True):
        variance = jnp.maximum(square - (mean - centre) ** 2, 0)
        state = _replace(state, path, {"mean": mean, "var": variance})
    return state


def _at(tree: Any, path: Path) -> Any:
    return functools.reduce(lambda part, name: part[name], path, tree)


def _replace(tree: State, path: Path, leaves: State) -> State:
    """The tree with other leaves at a path."""
    if not path:
        return tree | leaves
    first, *rest = path
    return tree | {first: _replace(tree[first], tuple(rest), leaves)}


def _cross_entropy(outputs: Float[Array, "*batch classes"], targets: Int[Array, "*batch"]) -> Float[Array, ""]:
    losses: Array = optax.softmax_cross_entropy_with_integer_labels(outputs, targets.astype(jnp.int32))
    return losses.mean()


def _mean_squared_error(outputs: Float[Array, "*batch"], targets: Shaped[Array, "*batch"]) -> Float[Array, ""]:
    squares: Array = (outputs - targets.astype(outputs.dtype)) ** 2
    return squares.mean()


_LOSSES: dict[str, Loss] = {"cross_entropy": _cross_entropy, "mean_squared_error": _mean_squared_error}


def _dtype(params: Params) -> Any:
    return jax.tree.leaves(params)[0].dtype


def _as_floats(inputs: PyTree[Array], dtype: Any) -> PyTree[Array]:
    """Floats and pixels in the dtype of the parameters, pixels in [0, 1]; other integers as they are."""

    def convert(leaf: Array) -> Array:
        if leaf.dtype == jnp.uint8:
            return leaf.astype(dtype) / 255
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(convert, inputs)


def _abstract(arrays: PyTree[Any]) -> PyTree[jax.ShapeDtypeStruct]:
    """Two examples of the arrays, as JAX sees them."""
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((2, *a.shape[1:]), jax.dtypes.canonicalize_dtype(a.dtype)), arrays
    )


def _examples(field: str, data: Any) -> tuple[Data, tuple[Any, Any]]:
    """The data for a task, and inputs and targets in memory: all of them, or a sample of what stays on the host."""
    if not (isinstance(data, tuple | list) and len(data) == 2):
        raise InputError(f"{field} must be (inputs, targets), not {shown(data)}")
    if any(is_source(leaf) for leaf in jax.tree.leaves(tuple(data), is_leaf=is_source)):
        held = HostData(tuple(data))
        return held, _checked_arrays(field, held.sample)
    arrays = _checked_arrays(field, data)
    return arrays, arrays


def _checked_arrays(field: str, data: Any) -> tuple[Any, Any]:
    """Inputs and targets as arrays of equally many examples."""
    inputs, targets = (jax.tree.map(lambda a: a if isinstance(a, jax.Array) else np.asarray(a), part) for part in data)
    lengths: dict[str, set[int]] = {"inputs": set(), "targets": set()}
    for name, part in (("inputs", inputs), ("targets", targets)):
        for leaf in jax.tree.leaves(part):
            if not (jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == bool) or leaf.ndim == 0:
                raise InputError(f"the {name} of {field} must be arrays of numbers [examples, …], not {shown(leaf)}")
            lengths[name].add(leaf.shape[0])
        if not lengths[name]:
            raise InputError(f"the {name} of {field} hold no array")
    if len(lengths["inputs"] | lengths["targets"]) > 1:
        counts = (" and ".join(map(str, sorted(lengths[name]))) for name in ("inputs", "targets"))
        raise InputError(f"{field} must have as many inputs as targets, not {' against '.join(counts)}")
    return inputs, targets


def _chosen_loss(loss: Any, targets: Any) -> Loss:
    if loss is None:
        if not _is_integer(targets):
            raise InputError(
                'loss must be given for targets that are no array of integers: "mean_squared_error" or a function of '
                "(outputs, targets)"
            )
        return _cross_entropy
    if isinstance(loss, str) and loss in _LOSSES:
        return _LOSSES[loss]
    if isinstance(loss, str) or not callable(loss):
        raise unknown("loss", loss, [*_LOSSES, "a function of (outputs, targets)"])
    return loss  # type: ignore[no-any-return]


def _is_integer(targets: Any) -> bool:
    return hasattr(targets, "dtype") and jnp.issubdtype(targets.dtype, jnp.integer)


def _check_loss(loss: Loss, outputs: Any, targets: Any) -> None:
    """Refuses targets that do not fit the outputs of the module for two examples."""
    if loss in _LOSSES.values():
        if not (hasattr(outputs, "shape") and hasattr(targets, "shape")):
            raise InputError("loss: give a function of (outputs, targets) for outputs or targets that are no array")
        if loss is _cross_entropy and not _is_integer(targets):
            raise InputError(f"cross_entropy needs integer targets, not {targets.dtype}")
        expected = outputs.shape[:-1] if loss is _cross_entropy else outputs.shape
        if expected != (2, *targets.shape[1:]):
            own, given = (
                str(["examples", *shape]).replace("'", "") for shape in (outputs.shape[1:], targets.shape[1:])
            )
            needed = "[*targets, classes]" if loss is _cross_entropy else "the shape of the targets"
            raise InputError(f"the module's outputs {own} must have {needed} for targets {given}")
        return
    with refusing("loss cannot be computed from outputs and targets"):
        value = jax.eval_shape(loss, outputs, _abstract(targets))
    if getattr(value, "shape", None) != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise InputError(f"loss must return one real number, the mean over the batch, not {shown(value)}")


def _check_labels(field: str, targets: Any, classes: int) -> None:
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= classes:
        raise InputError(
            f"the targets of {field} are {low} to {high}, but the module has {classes} outputs, the classes 0 to "
            f"{classes - 1}"
        )


def _check_test(train: tuple[Any, Any], test: tuple[Any, Any]) -> None:
    for name, ours, theirs in zip(("inputs", "targets"), train, test, strict=True):
        if _abstract(ours) != _abstract(theirs):
            raise InputError(
                f"the {name} of test must have the shapes and dtypes of those of train, {shown(_abstract(ours))} for "
                f"two examples, not {shown(_abstract(theirs))}"
            )


def _is_hashable(network: Network) -> bool:
    try:
        hash(network)
    except TypeError:
        return False
    return True


def _baseline(loss: Loss, targets: Any) -> float | None:
    """The least loss of a constant predictor: the entropy of the targets, or their variance."""
    if loss is _cross_entropy:
        return label_entropy(np.asarray(targets))
    if loss is _mean_squared_error:
        return float(np.asarray(targets, np.float64).var(axis=0).mean())
    return None
