"""One iteration of training, and a scan over some of them: pure functions of one run."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array, Float, Int32, PyTree

from momentum_jax.optimizers import registry
from momentum_jax.tasks import Data, Params

Metric = Callable[[Params, PyTree[Array], PyTree[Array]], Any]


class TrainState(NamedTuple):
    """What one iteration hands to the next."""

    params: Params
    opt_state: PyTree[Array]


class Record(NamedTuple):
    """What one iteration leaves behind: the loss on its batch before and after the update, and the metrics."""

    loss_before: Float[Array, ""]
    loss: Float[Array, ""]
    metrics: dict[str, Array]


class Program(NamedTuple):
    """What is compiled for a group of runs; in one process equal programs are compiled once."""

    loss: Callable[[Params, Data], Float[Array, ""]]
    structure: registry.Structure
    metrics: tuple[tuple[str, Metric], ...]
    dtype: str


def make_train_step(
    loss: Callable[[Params, Data], Float[Array, ""]],
    optimizer: optax.GradientTransformationExtraArgs,
    metrics: Mapping[str, Metric],
) -> Callable[[TrainState, Data], tuple[TrainState, Record]]:
    """One iteration as a pure function: gradient, update, and the loss on the batch before and after."""

    def train_step(state: TrainState, batch: Data) -> tuple[TrainState, Record]:
        params, opt_state = state
        loss_before, grads = jax.value_and_grad(loss)(params, batch)
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
        record = Record(
            loss_before=loss_before,
            loss=loss(params, batch),
            metrics={name: metric(params, opt_state, grads) for name, metric in metrics.items()},
        )
        return TrainState(params, opt_state), record

    return train_step


def train_chunk(
    program: Program,
    run: tuple[dict[str, Float[Array, ""]], TrainState, Int32[Array, "iterations batch"]],
    data: Data,
) -> tuple[TrainState, Record]:
    """Some iterations of one run, each on its rows of the data: the state after them, and a record of each."""
    floats, state, batches = run
    optimizer = registry.build(program.structure, floats)
    train_step = make_train_step(program.loss, optimizer, dict(program.metrics))
    return jax.lax.scan(lambda state, rows: train_step(state, jax.tree.map(lambda a: a[rows], data)), state, batches)
