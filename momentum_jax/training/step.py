"""One iteration of training, and a scan over some of them: pure functions of one run."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int32, PyTree

from momentum_jax._base.errors import InputError
from momentum_jax.optimizers import registry
from momentum_jax.optimizers.description import OptimizerConfig
from momentum_jax.tasks import Data, Metric, Params
from momentum_jax.training.convolutions import channels_last

# What Parquet holds.
_RECORDED = (np.floating, np.integer, np.bool_)


class TrainState(NamedTuple):
    """What one iteration hands to the next."""

    params: Params
    opt_state: PyTree[Array]


class History(NamedTuple):
    """What one iteration leaves behind: the loss on its batch before and after the update, and the metrics."""

    loss_before: Float[Array, ""]
    loss: Float[Array, ""]
    metrics: dict[str, Array]


class Program(NamedTuple):
    """What is compiled for a group of runs; in one process equal programs are compiled once."""

    loss: Callable[[Params, Data], Float[Array, ""]]
    structure: registry.Structure
    metrics: tuple[tuple[str, Metric], ...]


def make_train_step(
    loss: Callable[[Params, Data], Float[Array, ""]],
    optimizer: optax.GradientTransformationExtraArgs,
    metrics: Mapping[str, Metric],
) -> Callable[[TrainState, Data], tuple[TrainState, History]]:
    """One iteration as a pure function: gradient, update, and the loss on the batch before and after."""

    def train_step(state: TrainState, batch: Data) -> tuple[TrainState, History]:
        params, opt_state = state
        loss_before, grads = channels_last(_with_gradient(loss))(params, batch)
        grads = jax.tree.map(_as_transposed_product, grads)
        updates, new_opt_state = optimizer.update(
            grads, opt_state, params, value=loss_before, grad=grads, value_fn=lambda p: loss(p, batch)
        )
        # Optax adds float32 updates to bfloat16 parameters in float32, which strict promotion would refuse.
        with jax.numpy_dtype_promotion("standard"):
            params = optax.apply_updates(params, updates)
        # A float32 hyperparameter beside bfloat16 parameters promotes the state of some of Optax's methods.
        opt_state = jax.tree.map(
            lambda new, old: jax.lax.convert_element_type(new, old.dtype), new_opt_state, opt_state
        )
        record = History(
            loss_before=loss_before,
            loss=loss(params, batch),
            metrics={name: metric(params, opt_state, grads) for name, metric in metrics.items()},
        )
        return TrainState(params, opt_state), record

    return train_step


@functools.lru_cache(maxsize=64)
def _with_gradient(loss: Callable[[Params, Data], Float[Array, ""]]) -> Callable[..., tuple[Array, Params]]:
    """One function for one loss, so that it is traced once."""
    return jax.value_and_grad(loss)


def _as_transposed_product(grad: Array) -> Array:
    """The gradient of a dense layer's weights, as the product that XLA's CPU does fastest; the value is the same.

    For inputs x and cotangents c of the outputs it is xᵀ·c, which JAX computes as (cᵀ·x)ᵀ and XLA turns back, though
    from 784 inputs to 100 that takes it nearly twice as long as cᵀ·x. The barrier keeps what JAX computes.
    """
    if grad.ndim != 2:
        return grad
    kept: Array = jax.lax.platform_dependent(
        grad, cpu=lambda g: jax.lax.optimization_barrier(g.T).T, default=lambda g: g
    )
    return kept


def train_chunk(
    program: Program,
    run: tuple[dict[str, Float[Array, ""]], TrainState, Int32[Array, "chunk batch"]],
    shared: tuple[Int32[Array, ""], Data],
) -> tuple[TrainState, History]:
    """Up to a chunk of iterations of one run, each on its rows of the data: the state after them, a record of each.

    How many is an argument, so that one program serves every length; records of the rest are zeros. As the branch of
    a condition a step is also compiled the same whatever surrounds it: XLA would unroll a loop of one iteration and
    round it differently.
    """
    traced, state, batches = run
    length, data = shared
    optimizer = registry.build(program.structure, traced)
    train_step = make_train_step(program.loss, optimizer, dict(program.metrics))

    def step(state: TrainState, rows: Int32[Array, " batch"]) -> tuple[TrainState, History]:
        # XLA's CPU fetches rows from memory at half the speed where it fuses that with what the loss does to them.
        batch = jax.lax.optimization_barrier(jax.tree.map(lambda a: a[rows], data))
        return train_step(state, batch)

    def skip(state: TrainState, rows: Int32[Array, " batch"]) -> tuple[TrainState, History]:
        _, record = jax.eval_shape(step, state, rows)
        return state, jax.tree.map(lambda r: jnp.zeros(r.shape, r.dtype), record)

    def step_or_skip(state: TrainState, indexed: tuple[Array, Array]) -> tuple[TrainState, History]:
        index, rows = indexed
        result: tuple[TrainState, History] = jax.lax.cond(index < length, step, skip, state, rows)
        return result

    indexed = (jnp.arange(len(batches), dtype=jnp.int32), batches)
    result: tuple[TrainState, History] = jax.lax.scan(step_or_skip, state, indexed)
    return result


def find_structure(
    optimizer: OptimizerConfig,
    loss: Callable[[Params, Data], Float[Array, ""]],
    params: Params,
    batch: Data,
    metrics: Mapping[str, Metric],
) -> tuple[registry.Structure, registry.Traced]:
    """An optimizer's structure and traced, found to train by tracing one step.

    A factory that branches on the value of a hyperparameter gets all of them as part of the program.

    Args:
      optimizer: its description.
      loss: from parameters and a batch to a scalar.
      params: arrays or their shapes.
      batch: likewise.
      metrics: what is recorded.

    Raises:
      InputError: a step cannot be made of these, or leaves something that cannot be recorded.
    """

    def trace(structure: registry.Structure, traced: registry.Traced) -> None:
        def one_step(traced: dict[str, Array], params: Params, batch: Data) -> Any:
            transformation = registry.build(structure, traced)
            state = TrainState(params, transformation.init(params))
            return make_train_step(loss, transformation, metrics)(state, batch)

        after, record = jax.eval_shape(one_step, traced_arrays(traced), params, batch)
        if any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(after)):
            raise InputError("its state holds a random key, which would be the same for every seed")
        for name, value in record.metrics.items():
            if not hasattr(value, "dtype"):
                raise InputError(f"metrics[{name!r}] must give a number or an array, not {value}")
            if not any(jnp.issubdtype(value.dtype, kind) for kind in _RECORDED):
                raise InputError(f"metrics[{name!r}] must give real numbers or booleans, not {value.dtype}")

    structure, traced = registry.split(optimizer)
    try:
        try:
            trace(structure, traced)
        except jax.errors.ConcretizationTypeError:
            structure, traced = registry.fixed(optimizer), {}
            trace(structure, traced)
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot train with {optimizer}: {error}") from error
    return structure, traced


def traced_arrays(traced: registry.Traced) -> dict[str, np.ndarray]:
    """The traced as arguments of a program: in double precision where 64-bit types are on."""
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    return {name: np.asarray(value, dtype) for name, value in traced.items()}
