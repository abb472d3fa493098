"""What is checked before anything compiles: arguments, the task, its optimizers; and the shapes that follow."""

import contextlib
import functools
import inspect
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from momentum_jax._base.errors import InputError, check_path, check_real, shown, summary
from momentum_jax._base.progress import Progress
from momentum_jax._base.trees import flatten, json_bytes
from momentum_jax.config import Config
from momentum_jax.optimizers import OptimizerConfig, registry
from momentum_jax.tasks import Data, Metric, Params, Task, image_classification
from momentum_jax.tasks.datasets import load_dataset
from momentum_jax.training.sampling import draw_params, init_key, numerics
from momentum_jax.training.step import History, Loss, Static, TrainState, evaluation_of, make_train_step

# What Parquet holds.
_RECORDED = (np.floating, np.integer, np.bool_)


def check_types(
    cfg: Config,
    task: Task | None,
    metrics: Mapping[str, Metric] | None = None,
    progress: Progress | None = None,
    **paths: str | os.PathLike[str] | None,
) -> None:
    """Refuses arguments of other types than `train`, `sweep` and `compare` take.

    Raises:
      InputError: naming the argument, its value and what is allowed.
    """
    if not isinstance(cfg, Config):
        raise InputError(f"cfg must be a Config, such as mj.Config(iterations=500), not {shown(cfg)}")
    if not (task is None or isinstance(task, Task)):
        raise InputError(f"task must be a Task, such as mj.Task(init=…, loss=…, train=…), not {shown(task)}")
    if not (metrics is None or isinstance(metrics, Mapping)):
        raise InputError(
            'metrics must map names to functions, such as {"norm": lambda params, state, grads: …}, not '
            f"{shown(metrics)}"
        )
    for name, metric in (metrics or {}).items():
        if not isinstance(name, str):
            raise InputError(f"the name of a metric must be a string, not {shown(name)}")
        _check_function(f"metrics[{name!r}]", metric, "params, state, grads")
    if not (progress is None or callable(progress)):
        raise InputError(f"progress must be a function of (phase, done, total, note), not {shown(progress)}")
    for name, path in paths.items():
        if path is not None:
            check_path(name, path)


def _check_function(what: str, function: object, arguments: str) -> None:
    if not callable(function):
        raise InputError(f"{what} must be a function of ({arguments}), not {shown(function)}")
    try:
        hash(function)
    except TypeError:
        raise InputError(
            f"{what} must be hashable, because compiled programs are found by it; make it a function, not "
            f"{shown(function)}"
        ) from None


def resolve_task(cfg: Config, task: Task | None) -> Task:
    """The given task, or the one that the config describes, checked against the config.

    Raises:
      InputError: a function of the task is no function, its data is empty, no numbers, or of arrays that differ in
        length, its baseline or provenance cannot be recorded, or a batch is larger than an epoch.
    """
    if task is None:
        task = image_classification(
            load_dataset(cfg.dataset),
            hidden_sizes=cfg.hidden_sizes,
            activation=cfg.activation,
            weight_init=cfg.weight_init,
            l2=cfg.l2,
        )
    _check_function("the task's init", task.init, "key")
    _check_function("the task's loss", task.loss, "params, batch")
    if task.evaluate is not None:
        _check_function("the task's evaluate", task.evaluate, "params, train, test")
    for name, data in (("train", task.train), ("test", task.test)):
        _check_data(name, data)
    if task.baseline_loss is not None:
        check_real("the task's baseline_loss", task.baseline_loss, -math.inf, math.inf)
    _check_provenance(task.provenance)
    if cfg.sampling == "epochs" and cfg.batch_size > task.num_examples:
        raise InputError(
            f"batch_size must be at most the {task.num_examples} training examples with sampling='epochs', "
            f"not {cfg.batch_size}"
        )
    return task


def _check_data(name: str, data: Data) -> None:
    for path, leaf in jax.tree.leaves_with_path(data):
        if not any(jax.numpy.issubdtype(leaf.dtype, kind) for kind in (np.number, np.bool_)):
            raise InputError(
                f"the task's {name}{jax.tree_util.keystr(path)} must be an array of numbers or booleans, such as "
                f"np.asarray(values, np.float32), not of dtype {leaf.dtype}"
            )
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(data)}
    if len(lengths) > 1 or () in lengths or (0,) in lengths or (name == "train" and not lengths):
        raise InputError(
            f"the arrays of the task's {name} data must have one leading axis of examples, of one length of at "
            f"least 1; they begin with {sorted(lengths)}"
        )


def _check_provenance(provenance: object) -> None:
    try:
        kept = isinstance(provenance, dict) and json.loads(json_bytes(provenance)) == provenance
    except (TypeError, ValueError, RecursionError):
        kept = False
    if not kept:
        raise InputError(
            'the task\'s provenance must be JSON values by name, such as {"source": "my data, version 2"}, not '
            f"{shown(provenance)}"
        )


def check_optimizers(optimizers: Iterable[tuple[str, OptimizerConfig]]) -> None:
    """Raises `InputError` for the first labelled optimizer that cannot be made."""
    for label, optimizer in optimizers:
        with naming(label), _refusing(f"cannot make {optimizer}"):
            registry.check(optimizer)


def check_names(optimizers: Mapping[str, OptimizerConfig]) -> None:
    """Raises `InputError` for the first labelled optimizer that does not exist or whose factory has no signature."""
    for label, optimizer in optimizers.items():
        with naming(label), _refusing(f"cannot make {optimizer}"):
            inspect.signature(registry.factory(optimizer.name))


@contextlib.contextmanager
def naming(label: str) -> Iterator[None]:
    """Names the optimizer in an `InputError` that comes from its block."""
    try:
        yield
    except InputError as error:
        raise InputError(f"optimizers[{label!r}]: {error}") from error.__cause__


@contextlib.contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Whatever the user's functions raise becomes an `InputError`, with their error as its cause."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what}: {summary(error)}") from error


def check_task(task: Task, params: Params, batches: Iterable[Data]) -> None:
    """Checks what the task's functions give, by tracing them.

    Args:
      task: whose functions.
      params: shapes and dtypes of its parameters.
      batches: those of batches.

    Raises:
      InputError: parameters that cannot be trained, a loss that is no scalar, an evaluation that cannot be recorded, or
        a function that fails.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not any(leaf.size for _, leaf in leaves):
        raise InputError("the task's init gives no parameters")
    for path, leaf in leaves:
        if not jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
            raise InputError(
                f"the task's parameter {jax.tree_util.keystr(path)} has dtype {leaf.dtype}; only real "
                "floating-point numbers can be trained: keep the rest in the task's data"
            )
    for batch in batches:
        with _refusing("the task's loss fails"):
            value = jax.eval_shape(task.loss, params, batch)
        if not hasattr(value, "shape"):
            raise InputError(f"the task's loss must give a scalar alone, such as jnp.mean(errors), not {shown(value)}")
        if value.shape != ():
            raise InputError(f"the task's loss must give a scalar, not an array of shape {value.shape}")
        if not jax.numpy.issubdtype(value.dtype, jax.numpy.floating):
            raise InputError(f"the task's loss must give a floating-point number, not {value.dtype}")
    _check_evaluation(task, params)


def _check_evaluation(task: Task, params: Params) -> None:
    with _refusing("the task's evaluate fails" if task.evaluate else "the task's loss fails on the whole of the data"):
        values = jax.eval_shape(evaluation_of(task), params, task.train, task.test)
    if not isinstance(values, dict) or any(getattr(value, "shape", None) != () for value in values.values()):
        raise InputError(f"the task's evaluate must give a dict of scalars by name, not {shown(values)}")
    for name, value in values.items():
        if not isinstance(name, str):
            raise InputError(f"the task's evaluate must name its scalars by strings, not {shown(name)}")
        if not _is_recorded(value.dtype):
            raise InputError(f"the task's evaluate must give real numbers or booleans, not {name!r} as {value.dtype}")


def _is_recorded(dtype: np.dtype) -> bool:
    return any(jax.numpy.issubdtype(dtype, kind) for kind in _RECORDED)


def check_kept(cfg: Config, task: Task) -> None:
    """Raises `InputError` if the parameters of a task cannot be written to a file."""
    flatten(jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.bool_), abstract_params(cfg, task)))


def abstract_params(cfg: Config, task: Task) -> Params:
    """The shapes and dtypes of a task's parameters."""
    with _refusing("the task's init fails"):
        return jax.eval_shape(lambda: draw_params(task.init, init_key(0), cfg.dtype))


def abstract_batch(task: Task, batch_size: int) -> Data:
    """The shapes of a batch, in the dtypes that JAX gives its rows: float64 only where 64-bit types are on."""
    rows = jax.ShapeDtypeStruct((batch_size,), np.int32)
    return jax.eval_shape(lambda data, rows: jax.tree.map(lambda a: a[rows], data), task.train, rows)


def evaluation_names(cfg: Config, task: Task) -> list[str]:
    """The names of what the evaluation of a task gives.

    Raises:
      InputError: as `check_task`.
    """
    with numerics(cfg.dtype):
        params = abstract_params(cfg, task)
        check_task(task, params, [abstract_batch(task, cfg.batch_size)])
        return list(jax.eval_shape(evaluation_of(task), params, task.train, task.test))


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
    with _refusing(f"cannot train with {optimizer}"):
        try:
            _try_one_step(Static(loss, structure, tuple(metrics.items())), traced, params, batch)
        except jax.errors.ConcretizationTypeError:
            structure, traced = registry.fixed(optimizer), {}
            _try_one_step(Static(loss, structure, tuple(metrics.items())), traced, params, batch)
    return structure, traced


def _try_one_step(static: Static, traced: registry.Traced, params: Params, batch: Data) -> None:
    after, history = jax.eval_shape(one_step(static), traced_arrays(traced), params, batch)
    if any(jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(after)):
        raise InputError("its state holds a random key, which would be the same for every seed")
    for name, value in history.metrics.items():
        if not hasattr(value, "dtype"):
            raise InputError(f"metrics[{name!r}] must give a number or an array, not {shown(value)}")
        if not _is_recorded(value.dtype):
            raise InputError(f"metrics[{name!r}] must give real numbers or booleans, not {value.dtype}")
        if value.size == 0:
            raise InputError(f"metrics[{name!r}] must give at least one number, not an array of shape {value.shape}")


@functools.lru_cache(maxsize=32)
def one_step(static: Static) -> Callable[..., tuple[TrainState, History]]:
    """The first step of a run. JAX traces a jitted function once for the same shapes, however many sweeps ask."""

    def step(traced: dict[str, Array], params: Params, batch: Data) -> tuple[TrainState, History]:
        transformation = registry.build(static.structure, traced)
        state = TrainState(params, transformation.init(params))
        metrics = {name: _named(name, metric) for name, metric in static.metrics}
        return make_train_step(static.loss, transformation, metrics)(state, batch)

    return jax.jit(step)


def _named(name: str, metric: Metric) -> Metric:
    """A metric whose own error names it, and not the optimizer."""

    def named(*args: Any) -> Any:
        with _refusing(f"metrics[{name!r}] fails"):
            return metric(*args)

    return named


def traced_arrays(traced: registry.Traced) -> dict[str, np.ndarray]:
    """Traced hyperparameters as arguments of a program: in double precision where 64-bit types are on."""
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    return {name: np.asarray(value, dtype) for name, value in traced.items()}
