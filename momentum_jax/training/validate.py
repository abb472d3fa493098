"""What is checked of a task and its optimizers before anything compiles."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import numpy as np
from jaxtyping import Array

from momentum_jax._base.errors import InputError
from momentum_jax.config import Config
from momentum_jax.optimizers import OptimizerConfig, registry
from momentum_jax.tasks import Data, Metric, Params, Task, image_classification
from momentum_jax.tasks.datasets import load_dataset
from momentum_jax.training.sampling import draw_params, init_key, numerics
from momentum_jax.training.step import History, Loss, Static, TrainState, evaluation_of, make_train_step

# What Parquet holds.
_RECORDED = (np.floating, np.integer, np.bool_)


def resolve_task(cfg: Config, task: Task | None) -> Task:
    """The given task, or the one that the config describes, checked against the config.

    Raises:
      InputError: the data is empty or its arrays differ in length, or a batch is larger than an epoch.
    """
    task = task or image_classification(
        load_dataset(cfg.dataset),
        hidden_sizes=cfg.hidden_sizes,
        activation=cfg.activation,
        weight_init=cfg.weight_init,
        l2=cfg.l2,
    )
    for name, data in (("train", task.train), ("test", task.test)):
        lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(data)}
        if len(lengths) > 1 or () in lengths or (0,) in lengths or (name == "train" and not lengths):
            raise InputError(
                f"the arrays of the task's {name} data must have one leading axis of examples, of one length of at "
                f"least 1; they begin with {sorted(lengths)}"
            )
    if cfg.sampling == "epochs" and cfg.batch_size > task.num_examples:
        raise InputError(
            f"batch_size must be at most the {task.num_examples} training examples with sampling='epochs', "
            f"not {cfg.batch_size}"
        )
    return task


def check_optimizers(optimizers: Iterable[tuple[str, OptimizerConfig]]) -> None:
    """Raises `InputError` for the first labelled optimizer that cannot be made."""
    for label, optimizer in optimizers:
        with naming(label):
            registry.check(optimizer)


@contextlib.contextmanager
def naming(label: str) -> Iterator[None]:
    """Names the optimizer in an `InputError` that comes from its block."""
    try:
        yield
    except InputError as error:
        raise InputError(f"optimizers[{label!r}]: {error}") from error.__cause__


def check_task(task: Task, params: Params, batches: Iterable[Data]) -> None:
    """Checks what the task's functions give, by tracing them.

    Args:
      task: whose functions.
      params: shapes and dtypes of its parameters.
      batches: those of batches.

    Raises:
      InputError: parameters that cannot be trained, a loss that is no scalar, an evaluation that cannot be recorded.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise InputError("the task's init gives no parameters")
    for path, leaf in leaves:
        if not jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
            raise InputError(
                f"the task's parameter {jax.tree_util.keystr(path)} has dtype {leaf.dtype}; only real "
                "floating-point numbers can be trained: keep the rest in the task's data"
            )
    if task.evaluate is not None:
        values = jax.eval_shape(task.evaluate, params, task.train, task.test)
        if not isinstance(values, dict) or any(getattr(value, "shape", None) != () for value in values.values()):
            raise InputError(f"the task's evaluate must give a dict of scalars by name, not {values}")
    for batch in batches:
        if (shape := jax.eval_shape(task.loss, params, batch).shape) != ():
            raise InputError(f"the task's loss must give a scalar, not an array of shape {shape}")


def abstract_params(cfg: Config, task: Task) -> Params:
    """The shapes and dtypes of a task's parameters."""
    return jax.eval_shape(lambda: draw_params(task.init, init_key(0), cfg.dtype))


def abstract_batch(task: Task, batch_size: int) -> Data:
    """The shapes of a batch, in the dtypes that JAX gives its rows: float64 only where 64-bit types are on."""
    rows = jax.ShapeDtypeStruct((batch_size,), np.int32)
    return jax.eval_shape(lambda data, rows: jax.tree.map(lambda a: a[rows], data), task.train, rows)


def evaluation_names(cfg: Config, task: Task) -> list[str]:
    """The names of what the evaluation of a task gives."""
    with numerics(cfg.dtype):
        return list(jax.eval_shape(evaluation_of(task), abstract_params(cfg, task), task.train, task.test))


def find_structure(
    optimizer: OptimizerConfig, loss: Loss, params: Params, batch: Data, metrics: Mapping[str, Metric]
) -> tuple[registry.Structure, registry.Traced]:
    """Separates an optimizer's traced hyperparameters from the rest, and traces one step to see that it trains.

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
    structure, traced = registry.split(optimizer)
    try:
        try:
            _try_one_step(Static(loss, structure, tuple(metrics.items())), traced, params, batch)
        except jax.errors.ConcretizationTypeError:
            structure, traced = registry.fixed(optimizer), {}
            _try_one_step(Static(loss, structure, tuple(metrics.items())), traced, params, batch)
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot train with {optimizer}: {error}") from error
    return structure, traced


def _try_one_step(static: Static, traced: registry.Traced, params: Params, batch: Data) -> None:
    after, history = jax.eval_shape(one_step(static), traced_arrays(traced), params, batch)
    if any(jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(after)):
        raise InputError("its state holds a random key, which would be the same for every seed")
    for name, value in history.metrics.items():
        if not hasattr(value, "dtype"):
            raise InputError(f"metrics[{name!r}] must give a number or an array, not {value}")
        if not any(jax.numpy.issubdtype(value.dtype, kind) for kind in _RECORDED):
            raise InputError(f"metrics[{name!r}] must give real numbers or booleans, not {value.dtype}")


@functools.lru_cache(maxsize=32)
def one_step(static: Static) -> Callable[..., tuple[TrainState, History]]:
    """The first step of a run. JAX traces a jitted function once for the same shapes, however many sweeps ask."""

    def step(traced: dict[str, Array], params: Params, batch: Data) -> tuple[TrainState, History]:
        transformation = registry.build(static.structure, traced)
        state = TrainState(params, transformation.init(params))
        return make_train_step(static.loss, transformation, dict(static.metrics))(state, batch)

    return jax.jit(step)


def traced_arrays(traced: registry.Traced) -> dict[str, np.ndarray]:
    """Traced hyperparameters as arguments of a program: in double precision where 64-bit types are on."""
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    return {name: np.asarray(value, dtype) for name, value in traced.items()}
