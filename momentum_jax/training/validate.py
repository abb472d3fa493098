"""What is checked before anything compiles: arguments, the task, its optimizers; and the shapes that follow."""

import contextlib
import inspect
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array, PyTree

from momentum_jax._base.errors import InputError, check_path, check_real, refusing, shown
from momentum_jax._base.progress import Progress
from momentum_jax._base.tracing import jitted
from momentum_jax._base.trees import flatten, json_bytes
from momentum_jax._base.weak import cached, weak_handle
from momentum_jax.config import Config
from momentum_jax.optimizers import OptimizerConfig, registry
from momentum_jax.optimizers.description import parse_description
from momentum_jax.tasks import Data, HostTask, Metric, Task, Variables, make_task
from momentum_jax.tasks.datasets import load_dataset
from momentum_jax.tasks.named import argument_names, takes_dataset
from momentum_jax.training.objective import Objective
from momentum_jax.training.sampling import draw_variables, init_key, loss_key, numerics
from momentum_jax.training.step import History, Static, TrainState, evaluation_of, step_of

# What Parquet holds.
_RECORDED = (np.floating, np.integer, np.bool_)
# By Flax's error.
_REMEDIES = {
    "InvalidRngError": "With has_key=True the loss gets a key: pass it as rngs",
    "ModifyScopeVariableError": "With has_state=True the loss gets a state and gives the new one: pass mutable",
}


def check_types(
    cfg: Config,
    task: Task | HostTask | None,
    metrics: Mapping[str, Metric] | None = None,
    progress: Progress | Literal[False] | None = None,
    callback: Callable[..., object] | None = None,
    **paths: str | os.PathLike[str] | None,
) -> None:
    """Refuses arguments of other types than `train`, `sweep` and `compare` take.

    Raises:
      InputError: naming the argument, its value and what is allowed.
    """
    if not isinstance(cfg, Config):
        raise InputError(f"cfg must be a Config, such as mj.Config(iterations=500), not {shown(cfg)}")
    if isinstance(task, HostTask):
        raise InputError("a HostTask trains by itself, in runs of mj.sweep and mj.compare; nothing else takes it")
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
    if not (progress is None or progress is False or callable(progress)):
        raise InputError(
            f"progress must be a function of (phase, done, total, note), or False for none, not {shown(progress)}"
        )
    if not (callback is None or callable(callback)):
        raise InputError(f"callback must be a function of a mj.Recorded, not {shown(callback)}")
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
            f"{what} must be hashable, because JAX compiles it; make it a function, not {shown(function)}"
        ) from None


def resolve_task(cfg: Config, task: Task | None) -> Task:
    """The given task, or the one that the config describes, checked against the config.

    Raises:
      InputError: a function of the task is no function, its data is empty, no numbers, or of arrays that differ in
        length, its baseline or provenance cannot be recorded, or a batch is larger than an epoch.
    """
    if task is None:
        name, arguments = parse_description(cfg.task)
        if name == "mlp":
            arguments = {field: getattr(cfg, field) for field in argument_names(name)}
        if takes_dataset(name):
            arguments["dataset"] = load_dataset(cfg.dataset)
        task = make_task(name, **arguments)
    _check_function("the task's init", task.init, "key")
    _check_function("the task's loss", task.loss, _arguments(task))
    if task.evaluate is not None:
        evaluated = "params, state" if task.has_state else "params"
        _check_function("the task's evaluate", task.evaluate, f"{evaluated}, train, test")
    elif task.has_state or task.has_key:
        declared = "has_state" if task.has_state else "has_key"
        raise InputError(
            f"a task with {declared} needs an evaluate of its own, since its loss is that of training mode"
        )
    if task.augment is not None:
        _check_function("the task's augment", task.augment, "key, batch")
    for name, data in zip(("train", "test"), task.evaluation_data, strict=True):
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


def _arguments(task: Task) -> str:
    """What the loss of a task gets."""
    return ", ".join(["params", *(["state"] if task.has_state else []), "batch", *(["key"] if task.has_key else [])])


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
        with naming(label), refusing(f"cannot make {optimizer}"):
            registry.check(optimizer)


def check_names(optimizers: Mapping[str, OptimizerConfig]) -> None:
    """Raises `InputError` for the first labelled optimizer that does not exist or whose factory has no signature."""
    for label, optimizer in optimizers.items():
        with naming(label), refusing(f"cannot make {optimizer}"):
            inspect.signature(registry.factory(optimizer.name))


@contextlib.contextmanager
def naming(label: str) -> Iterator[None]:
    """Names the optimizer in an `InputError` that comes from its block."""
    try:
        yield
    except InputError as error:
        raise InputError(f"optimizers[{label!r}]: {error}") from error.__cause__


def check_task(task: Task, variables: Variables, batches: Iterable[Data]) -> None:
    """Checks what the task's functions give, by tracing them.

    Args:
      task: whose functions.
      variables: shapes and dtypes of what its `init` gives.
      batches: those of batches.

    Raises:
      InputError: parameters that cannot be trained, a loss that is no scalar, a state that changes its form, an
        evaluation that cannot be recorded, or a function that fails.
    """
    objective = Objective.of(task)
    params, state = objective.split(variables)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not any(leaf.size for _, leaf in leaves):
        raise InputError("the task's init gives no parameters")
    for path, leaf in leaves:
        if not jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
            raise InputError(
                f"the task's parameter {jax.tree_util.keystr(path)} has dtype {leaf.dtype}; only real "
                "floating-point numbers can be trained: keep the rest in the data, or in a state (has_state=True)"
            )
    key = jax.eval_shape(lambda: loss_key(0, 0))
    for batch in batches:
        if task.augment is not None:
            _check_augment(task.augment, key, batch)
        with _naming_remedy(), refusing(f"the task's loss fails as a function of ({_arguments(task)})"):
            given = jax.eval_shape(jitted(objective), params, state, batch, key if task.has_key else None)
        if not (isinstance(given, tuple) and len(given) == 2):
            raise InputError(f"the loss of a task with has_state must give (scalar, state), not {shown(given)}")
        value, after = given
        _check_same("state", "the task's loss", after, state)
        if not hasattr(value, "shape"):
            raise InputError(f"the task's loss must give a scalar alone, such as jnp.mean(errors), not {shown(value)}")
        if value.shape != ():
            raise InputError(f"the task's loss must give a scalar, not an array of shape {value.shape}")
        if not jax.numpy.issubdtype(value.dtype, jax.numpy.floating):
            raise InputError(f"the task's loss must give a floating-point number, not {value.dtype}")
    _check_evaluation(task, variables)


@contextlib.contextmanager
def _naming_remedy() -> Iterator[None]:
    """Adds what to do to an `InputError` whose cause is Flax's: its message names the collection or the stream."""
    try:
        yield
    except InputError as error:
        remedy = _REMEDIES.get(type(error.__cause__).__name__)
        if remedy is None:
            raise
        raise InputError(f"{error} {remedy}; or make the task with mj.flax_task") from error.__cause__


def _check_augment(augment: Callable[..., Data], key: Any, batch: Data) -> None:
    with refusing("the task's augment fails as a function of (key, batch)"):
        augmented = jax.eval_shape(jitted(weak_handle(augment)), key, batch)
    _check_same("batch", "the task's augment", augmented, batch)


def _check_same(what: str, function: str, after: PyTree[Any], before: PyTree[Any]) -> None:
    """Refuses what has another structure, shape or dtype than before."""
    forms: list[Any] = [jax.tree.structure(tree) for tree in (before, after)]
    if forms[0] != forms[1]:
        raise InputError(
            f"{function} must give a {what} of the same structure, {shown(forms[0])}, not {shown(forms[1])}"
        )
    for (path, new), old in zip(jax.tree.leaves_with_path(after), jax.tree.leaves(before), strict=True):
        if (new.shape, new.dtype) != (old.shape, old.dtype):
            raise InputError(
                f"{function} must keep {what}{jax.tree_util.keystr(path)} of shape {old.shape} and dtype {old.dtype}, "
                f"not make it {new.shape} and {new.dtype}"
            )


def _check_evaluation(task: Task, variables: Variables) -> None:
    with refusing("the task's evaluate fails" if task.evaluate else "the task's loss fails on the whole of the data"):
        values = jax.eval_shape(jitted(evaluation_of(task)), variables, *task.evaluation_data)
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
    flatten(jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.bool_), abstract_variables(cfg, task)))


def abstract_variables(cfg: Config, task: Task) -> Variables:
    """The shapes and dtypes of what a task's `init` gives.

    Raises:
      InputError: it fails, or gives no pair of parameters and state though the task has one.
    """
    with refusing("the task's init fails"):
        if task.has_state:
            drawn = jax.eval_shape(jitted(weak_handle(task.init)), jax.eval_shape(lambda: init_key(0)))
            if not (isinstance(drawn, tuple) and len(drawn) == 2):
                form = shown(jax.tree.structure(drawn))
                raise InputError(f"the init of a task with has_state must give (params, state), not {form}")
        return jax.eval_shape(lambda: draw_variables(task, init_key(0), cfg.dtype))


def abstract_batch(task: Task, batch_size: int) -> Data:
    """The shapes of a batch, in the dtypes that JAX gives its rows: float64 only where 64-bit types are on."""
    rows = jax.ShapeDtypeStruct((batch_size,), np.int32)
    return jax.eval_shape(lambda data, rows: jax.tree.map(lambda a: a[rows], data), task.evaluation_data[0], rows)


def evaluation_names(cfg: Config, task: Task) -> list[str]:
    """The names of what the evaluation of a task gives.

    Raises:
      InputError: as `check_task`.
    """
    with numerics(cfg.dtype):
        variables = abstract_variables(cfg, task)
        check_task(task, variables, [abstract_batch(task, cfg.batch_size)])
        return list(jax.eval_shape(jitted(evaluation_of(task)), variables, *task.evaluation_data))


def find_structure(
    optimizer: OptimizerConfig,
    objective: Objective,
    variables: Variables,
    batch: Data,
    metrics: Mapping[str, Metric],
    loss_after: bool,
) -> tuple[registry.Structure, registry.Traced]:
    """Separates an optimizer's traced hyperparameters from the rest, and traces one step to see that it trains.

    A factory that branches on the value of a hyperparameter gets all of them as part of the program.

    Args:
      optimizer: its description.
      objective: what a step minimises.
      variables: what `init` gives, as arrays or their shapes.
      batch: likewise.
      metrics: what is recorded.
      loss_after: whether the loss after the update is.

    Raises:
      InputError: a step cannot be made of these, or leaves something that cannot be recorded.
    """
    structure, traced = registry.split(optimizer)
    with refusing(f"cannot train with {optimizer}"):
        try:
            _try_one_step(Static.of(objective, structure, metrics, loss_after), traced, variables, batch)
        except jax.errors.ConcretizationTypeError:
            structure, traced = registry.fixed(optimizer), {}
            _try_one_step(Static.of(objective, structure, metrics, loss_after), traced, variables, batch)
    return structure, traced


def _try_one_step(static: Static, traced: registry.Traced, variables: Variables, batch: Data) -> None:
    after, history = jax.eval_shape(first_step(static), traced_arrays(traced), variables, batch)
    if any(jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(after.opt_state)):
        raise InputError("its state holds a random key, which would be the same for every seed")
    for name, value in history.metrics.items():
        if not hasattr(value, "dtype"):
            raise InputError(f"metrics[{name!r}] must give a number or an array, not {shown(value)}")
        if not _is_recorded(value.dtype):
            raise InputError(f"metrics[{name!r}] must give real numbers or booleans, not {value.dtype}")
        if value.size == 0:
            raise InputError(f"metrics[{name!r}] must give at least one number, not an array of shape {value.shape}")


@cached
def first_step(static: Static) -> Any:
    """`jit` of the first iteration of seed 0, (hyperparameters, what `init` gives, batch) → (state, history)."""

    def step(hyperparameters: dict[str, Array], variables: Variables, batch: Data) -> tuple[TrainState, History]:
        state = static.init(hyperparameters, variables)
        after: tuple[TrainState, History] = step_of(static)(
            hyperparameters, state, batch, jax.numpy.uint32(0), jax.numpy.int32(0)
        )
        return after

    return jax.jit(step)


def traced_arrays(traced: registry.Traced) -> dict[str, np.ndarray]:
    """Traced hyperparameters as arguments of a program: in double precision where 64-bit types are on."""
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    return {name: np.asarray(value, dtype) for name, value in traced.items()}
