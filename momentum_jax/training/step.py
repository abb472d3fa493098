"""One iteration of training, and a scan over some of them: pure functions of one run."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jaxtyping import Array, Float, Int32, PyTree

from momentum_jax.optimizers import registry
from momentum_jax.tasks import Data, Metric, Params, Scalars, Task, mean_over_examples
from momentum_jax.training.convolutions import channels_last

Loss = Callable[[Params, Data], Float[Array, ""]]


class TrainState(NamedTuple):
    """What one iteration hands to the next."""

    params: Params
    opt_state: PyTree[Array]


class History(NamedTuple):
    """What one iteration records; with a leading axis, what several do.

    Attributes:
      loss_before: the loss on the batch before the update.
      loss: the loss on the same batch after it.
      metrics: by name.
    """

    loss_before: Float[Array, "*iterations"]
    loss: Float[Array, "*iterations"]
    metrics: dict[str, Array]


class Static(NamedTuple):
    """What of a run is part of the compiled program; its traced hyperparameters are the program's arguments."""

    loss: Loss
    structure: registry.Structure
    metrics: tuple[tuple[str, Metric], ...]

    def init(self, hyperparameters: Mapping[str, Float[Array, ""]], params: Params) -> TrainState:
        """The state that a run with these hyperparameters starts from."""
        return TrainState(params, registry.build(self.structure, hyperparameters).init(params))


def make_train_step(
    loss: Loss, optimizer: optax.GradientTransformationExtraArgs, metrics: Mapping[str, Metric]
) -> Callable[[TrainState, Data], tuple[TrainState, History]]:
    """Makes one iteration a pure function: gradient, update, and the loss on the batch before and after."""

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
        recorded = {name: metric(params, opt_state, grads) for name, metric in metrics.items()}
        return TrainState(params, opt_state), History(loss_before, loss(params, batch), recorded)

    return train_step


@functools.lru_cache(maxsize=64)
def _with_gradient(loss: Loss) -> Callable[..., tuple[Array, Params]]:
    """One function for one loss, so that it is traced once."""
    return jax.value_and_grad(loss)


def _as_transposed_product(grad: Array) -> Array:
    """Keeps the gradient of a dense layer's weights as the product that XLA's CPU does fastest; the value is the same.

    For inputs x and cotangents c of the outputs it is xᵀ·c. JAX computes (cᵀ·x)ᵀ, and XLA turns that back into xᵀ·c,
    though from 784 inputs to 100 that takes it nearly twice as long as cᵀ·x. The barrier keeps what JAX computes.
    """
    if grad.ndim != 2:
        return grad
    kept: Array = jax.lax.platform_dependent(
        grad, cpu=lambda g: jax.lax.optimization_barrier(g.T).T, default=lambda g: g
    )
    return kept


def take_rows(data: Data, rows: Int32[Array, " batch"]) -> Data:
    """The examples of a batch.

    XLA's CPU fetches rows from memory at half the speed where it fuses that with what the loss does to them, hence the
    barrier.
    """
    batch: Data = jax.lax.optimization_barrier(jax.tree.map(lambda a: a[rows], data))
    return batch


def train_chunk(
    static: Static,
    run: tuple[dict[str, Float[Array, ""]], TrainState, Int32[Array, "chunk batch"]],
    shared: tuple[Int32[Array, ""], Data],
) -> tuple[TrainState, History]:
    """Trains one run for up to a chunk of iterations, each on its rows of the data.

    How many iterations is an argument, so that one program serves every length; the history of the rest is zeros. As
    the branch of a condition a step is also compiled the same whatever surrounds it: XLA would unroll a loop of one
    iteration and round it differently.

    Args:
      static: what is part of the program.
      run: its traced hyperparameters, its state, and the rows of each batch.
      shared: how many iterations, and the training data.

    Returns:
      The state after them, and their history [chunk, …].
    """
    hyperparameters, state, batches = run
    length, data = shared
    optimizer = registry.build(static.structure, hyperparameters)
    train_step = make_train_step(static.loss, optimizer, dict(static.metrics))

    def step(state: TrainState, rows: Int32[Array, " batch"]) -> tuple[TrainState, History]:
        return train_step(state, take_rows(data, rows))

    def skip(state: TrainState, rows: Int32[Array, " batch"]) -> tuple[TrainState, History]:
        _, history = jax.eval_shape(step, state, rows)
        return state, jax.tree.map(lambda r: jnp.zeros(r.shape, r.dtype), history)

    def step_or_skip(state: TrainState, indexed: tuple[Array, Array]) -> tuple[TrainState, History]:
        index, rows = indexed
        result: tuple[TrainState, History] = jax.lax.cond(index < length, step, skip, state, rows)
        return result

    indexed = (jnp.arange(len(batches), dtype=jnp.int32), batches)
    result: tuple[TrainState, History] = jax.lax.scan(step_or_skip, state, indexed)
    return result


def evaluation_of(task: Task) -> Callable[[Params, Data, Data | None], Scalars]:
    """The task's evaluation; where it has none, the loss averaged over each set."""
    return task.evaluate or _mean_losses(task.loss)


@functools.lru_cache(maxsize=64)
def _mean_losses(loss: Loss) -> Callable[[Params, Data, Data | None], Scalars]:
    """One function for one loss, so that it is compiled once."""

    def evaluate(params: Params, train: Data, test: Data | None) -> Scalars:
        sets = {"train_loss": train, **({} if test is None else {"test_loss": test})}
        return {name: mean_over_examples(lambda batch: loss(params, batch), data) for name, data in sets.items()}

    return evaluate


def evaluation_params(state: TrainState) -> Params:
    """The parameters that are evaluated.

    Schedule-Free trains at one point and is judged at another, the average that it keeps.
    """
    states = jax.tree.leaves(state.opt_state, is_leaf=_is_schedule_free)
    averaged = [node for node in states if _is_schedule_free(node)]
    if not averaged:
        return state.params
    params = optax.contrib.schedule_free_eval_params(averaged[0], state.params)
    return jax.tree.map(lambda new, old: new.astype(old.dtype), params, state.params)


def _is_schedule_free(node: object) -> bool:
    return isinstance(node, optax.contrib.ScheduleFreeState)
