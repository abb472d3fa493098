"""One iteration of training, and a scan over some of them: pure functions of one run."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jaxtyping import Array, Bool, Float, Int32, PyTree, UInt32

from momentum_jax._base.errors import refusing
from momentum_jax._base.tracing import jitted
from momentum_jax._base.trees import blank
from momentum_jax._base.weak import Handle, cached, weak_handle
from momentum_jax.optimizers import registry
from momentum_jax.tasks import Data, Metric, Params, Scalars, Task, Variables, mean_over_examples
from momentum_jax.training.convolutions import channels_last
from momentum_jax.training.objective import ModelState, Objective


class TrainState(NamedTuple):
    """What one iteration hands to the next."""

    params: Params
    opt_state: PyTree[Array]
    model_state: ModelState = ()


class History(NamedTuple):
    """What one iteration records; with a leading axis, what several do.

    Attributes:
      loss_before: the loss on the batch before the update.
      loss: the loss on the same batch after it; None where it is not recorded.
      metrics: by name.
    """

    loss_before: Float[Array, "*iterations"]
    loss: Float[Array, "*iterations"] | None
    metrics: dict[str, Array]


Step = Callable[[TrainState, Data, UInt32[Array, ""], Int32[Array, ""]], tuple[TrainState, History]]
"""From a state, a batch, the seed and the iteration to the next state and what is recorded."""


class Static(NamedTuple):
    """What of a run is part of the compiled program; its traced hyperparameters are the program's arguments."""

    objective: Objective
    structure: registry.Structure
    metrics: tuple[tuple[str, Handle], ...]
    loss_after: bool

    @classmethod
    def of(
        cls, objective: Objective, structure: registry.Structure, metrics: Mapping[str, Metric], loss_after: bool
    ) -> "Static":
        named = tuple((name, weak_handle(metric)) for name, metric in metrics.items())
        return cls(objective, structure, named, loss_after)

    @property
    def handles(self) -> tuple[Handle, ...]:
        """The functions that a program is made of."""
        return *self.objective.handles, *(metric for _, metric in self.metrics)

    def init(self, hyperparameters: Mapping[str, Float[Array, ""]], variables: Variables) -> TrainState:
        """The state that a run with these hyperparameters starts from."""
        params, model_state = self.objective.split(variables)
        return TrainState(params, registry.build(self.structure, hyperparameters).init(params), model_state)


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformationExtraArgs,
    metrics: Mapping[str, Metric],
    loss_after: bool = True,
) -> Step:
    """Makes one iteration a pure function: gradient, update, and the loss on the batch before and, if asked, after.

    Every loss of an iteration has the same key. The state that is kept is that of the loss whose gradient is taken.
    """
    compute_loss = jitted(objective)

    def train_step(
        state: TrainState, batch: Data, seed: UInt32[Array, ""], iteration: Int32[Array, ""]
    ) -> tuple[TrainState, History]:
        params, opt_state, model_state = state
        batch, key = objective.prepare(batch, seed, iteration)
        (loss_before, new_model_state), grads = _with_gradient(objective)(params, model_state, batch, key)
        grads = jax.tree.map(_as_transposed_product, grads)
        updates, new_opt_state = optimizer.update(
            grads,
            opt_state,
            params,
            value=loss_before,
            grad=grads,
            value_fn=lambda p: compute_loss(p, model_state, batch, key)[0],
        )
        # Optax adds float32 updates to bfloat16 parameters in float32, which strict promotion would refuse.
        with jax.numpy_dtype_promotion("standard"):
            params = optax.apply_updates(params, updates)
        # A float32 hyperparameter beside bfloat16 parameters promotes the state of some of Optax's methods.
        opt_state = jax.tree.map(
            lambda new, old: jax.lax.convert_element_type(new, old.dtype), new_opt_state, opt_state
        )
        recorded = {}
        for name, metric in metrics.items():
            with refusing(f"metrics[{name!r}] fails"):
                recorded[name] = metric(params, opt_state, grads, *([new_model_state] if objective.has_state else []))
        after = compute_loss(params, new_model_state, batch, key)[0] if loss_after else None
        return TrainState(params, opt_state, new_model_state), History(loss_before, after, recorded)

    return train_step


@cached
def _with_gradient(objective: Objective) -> Callable[..., tuple[tuple[Array, ModelState], Params]]:
    """One function for one loss, so that it is traced once."""
    return channels_last(jax.value_and_grad(objective, has_aux=True))


@cached
def step_of(static: Static) -> Any:
    """`jit` of one iteration of a run, (hyperparameters, state, batch, seed, iteration) → (state, history)."""

    def step(
        hyperparameters: Mapping[str, Float[Array, ""]],
        state: TrainState,
        batch: Data,
        seed: UInt32[Array, ""],
        iteration: Int32[Array, ""],
    ) -> tuple[TrainState, History]:
        optimizer = registry.build(static.structure, hyperparameters)
        train_step = make_train_step(static.objective, optimizer, dict(static.metrics), static.loss_after)
        return train_step(state, batch, seed, iteration)

    return jax.jit(step, inline=True)


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


def train_iterations(
    static: Static,
    hyperparameters: Mapping[str, Float[Array, ""]],
    data: Data,
    state: TrainState,
    batches: Int32[Array, "iterations batch"],
    seed: UInt32[Array, ""],
    start: Int32[Array, ""] | int,
    length: Int32[Array, ""] | int,
) -> tuple[TrainState, History, Bool[Array, ""]]:
    """Trains one run for `length` iterations from `start` on, each on its rows of the data, or until it diverges.

    After an iteration whose loss before the update is not finite no other is trained. As the branch of a condition a
    step is also compiled the same whatever surrounds it: XLA would unroll a loop of one iteration and round it
    differently.

    Returns:
      The state after the last iteration trained, the history of all [iterations, …], which is NaN, or 0 for integers,
      where none was trained, and whether all losses before the updates were finite.
    """
    train_step = step_of(static)

    def step(
        state: TrainState, rows: Int32[Array, " batch"], iteration: Int32[Array, ""]
    ) -> tuple[TrainState, History]:
        batch = take_rows(data, rows)
        stepped: tuple[TrainState, History] = train_step(hyperparameters, state, batch, seed, iteration)
        return stepped

    def skip(
        state: TrainState, rows: Int32[Array, " batch"], iteration: Int32[Array, ""]
    ) -> tuple[TrainState, History]:
        batch = jax.eval_shape(take_rows, data, rows)
        _, history = jax.eval_shape(train_step, hyperparameters, state, batch, seed, iteration)
        return state, jax.tree.map(lambda r: jnp.full(r.shape, blank(r.dtype), r.dtype), history)

    def step_or_skip(
        carry: tuple[TrainState, Bool[Array, ""]], indexed: tuple[Array, Array]
    ) -> tuple[tuple[TrainState, Bool[Array, ""]], History]:
        state, finite = carry
        index, rows = indexed
        state, history = jax.lax.cond(finite & (index < length), step, skip, state, rows, start + index)
        return (state, finite & (jnp.isfinite(history.loss_before) | (index >= length))), history

    indexed = (jnp.arange(len(batches), dtype=jnp.int32), batches)
    (state, finite), history = jax.lax.scan(step_or_skip, (state, jnp.bool_(True)), indexed)
    return state, history, finite


def train_chunk(
    static: Static,
    state: TrainState,
    run: tuple[dict[str, Float[Array, ""]], UInt32[Array, ""], Int32[Array, ""]],
    shared: tuple[Int32[Array, ""], Int32[Array, ""], Data, Int32[Array, "seeds chunk batch"]],
) -> tuple[TrainState, History]:
    """Trains one run for up to a chunk of iterations.

    Args:
      static: what is part of the program.
      state: what the iteration before left.
      run: the traced hyperparameters, the seed, and which of the batches are the run's.
      shared: the first iteration and how many, so that one program serves every length; the training data; the rows of
        each batch.

    Returns:
      The state after them, and their history [chunk, …].
    """
    hyperparameters, seed, place = run
    start, length, data, batches = shared
    state, history, _ = train_iterations(static, hyperparameters, data, state, batches[place], seed, start, length)
    return state, history


def evaluation_of(task: Task) -> Handle:
    """The task's evaluation of what its `init` gives; where it has none, the loss averaged over each set."""
    if task.evaluate is None:
        return _mean_losses(weak_handle(task.loss))
    evaluate = weak_handle(task.evaluate)
    return _of_both(evaluate) if task.has_state else evaluate


@cached
def _of_both(evaluate: Handle) -> Handle:
    """One function for one evaluation, so that it is compiled once."""

    def of_variables(variables: Variables, train: Data, test: Data | None) -> Scalars:
        scalars: Scalars = evaluate(*variables, train, test)
        return scalars

    return Handle(lambda: of_variables)


@cached
def _mean_losses(loss: Handle) -> Handle:
    """One function for one loss, so that it is compiled once."""

    def evaluate(params: Params, train: Data, test: Data | None) -> Scalars:
        sets = {"train_loss": train, **({} if test is None else {"test_loss": test})}
        return {name: mean_over_examples(lambda batch: loss(params, batch), data) for name, data in sets.items()}

    return Handle(lambda: evaluate)


def evaluation_variables(objective: Objective, state: TrainState) -> Variables:
    """The parameters that are evaluated, with the state as `init` gives it.

    Schedule-Free trains at one point and is judged at another, the average that it keeps.
    """
    states = jax.tree.leaves(state.opt_state, is_leaf=_is_schedule_free)
    averaged = [node for node in states if _is_schedule_free(node)]
    params = state.params
    if averaged:
        means = optax.contrib.schedule_free_eval_params(averaged[0], params)
        params = jax.tree.map(lambda new, old: new.astype(old.dtype), means, params)
    return objective.join(params, state.model_state)


def _is_schedule_free(node: object) -> bool:
    return isinstance(node, optax.contrib.ScheduleFreeState)
