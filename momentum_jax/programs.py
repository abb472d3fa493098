"""From a config to compiled programs: runs of one structure share one, and all are compiled at once."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

import jax
import numpy as np
import optax.contrib
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int32, PyTree, UInt32

from momentum_jax import layout
from momentum_jax.config import Config, OptimizerConfig, Sampling
from momentum_jax.errors import InputError
from momentum_jax.machine import cores
from momentum_jax.optimizers import registry
from momentum_jax.progress import Progress
from momentum_jax.sampling import batch_key, draw_batches, draw_params
from momentum_jax.tasks import Data, Params, Scalars, Task, mean_over_examples
from momentum_jax.train_step import Metric, Program, TrainState, make_train_step, train_chunk

Batches = Mapping[int, Int32[np.ndarray, "iterations batch"]]
"""Rows of the training data by seed."""


class Run(NamedTuple):
    """One optimizer with one set of hyperparameters and one seed."""

    label: str
    seed: int
    floats: registry.Floats


class Group(NamedTuple):
    """Runs that share a program, on their devices; arrays have a leading axis of runs, padded to the mesh."""

    program: Program
    runs: tuple[Run, ...]
    mesh: Mesh
    floats: dict[str, Float[Array, " slots"]]
    data: Data

    def inputs(self, states: TrainState, batches: Batches, length: int) -> tuple[PyTree[Array], PyTree[Array]]:
        """The arguments of the compiled `train_chunk` that goes on from `states` for `length` iterations."""
        own = layout.stack([batches[run.seed] for run in self.runs], self.mesh)
        return (self.floats, states, own), (layout.replicate(np.int32(length), self.mesh), self.data)


def check_optimizers(cfg: Config) -> None:
    for label, optimizer in cfg.optimizers.items():
        with _blame(label):
            registry.check(optimizer)


def group_runs(cfg: Config, task: Task, metrics: Mapping[str, Metric], devices: Sequence[jax.Device]) -> list[Group]:
    """Puts all runs of one structure into one group, and each group on its devices."""
    params = jax.eval_shape(lambda: draw_params(task.init, cfg, 0, next(iter(cfg.optimizers))))
    _check_task(task, params)
    batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct((cfg.batch_size, *a.shape[1:]), a.dtype), task.train)
    if (shape := jax.eval_shape(task.loss, params, batch).shape) != ():
        raise InputError(f"the task's loss must give a scalar, not an array of shape {shape}")
    runs: dict[Program, list[Run]] = {}
    for label, optimizer in cfg.optimizers.items():
        with _blame(label):
            structure, floats = _structure(optimizer, task, params, batch, metrics)
        program = Program(task.loss, structure, tuple(metrics.items()))
        runs.setdefault(program, []).extend(Run(label, seed, floats) for seed in cfg.seed_tuple)
    meshes = layout.meshes([len(group) for group in runs.values()], devices)
    data = {mesh: layout.replicate(task.train, mesh) for mesh in set(meshes)}
    return [
        Group(
            program=program,
            runs=tuple(group),
            mesh=mesh,
            floats=layout.stack([_float_arrays(run.floats) for run in group], mesh),
            data=data[mesh],
        )
        for (program, group), mesh in zip(runs.items(), meshes, strict=True)
    ]


def _check_task(task: Task, params: Params) -> None:
    """Raises `InputError` for parameters that cannot be trained and an evaluation that cannot be recorded."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise InputError("the task's init gives no parameters")
    for path, leaf in leaves:
        if not jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
            raise InputError(
                f"the task's parameter {jax.tree_util.keystr(path)} has dtype {leaf.dtype}; only real "
                "floating-point numbers can be trained: keep the rest in the task's data"
            )
    if task.evaluate is None:
        return
    values = jax.eval_shape(task.evaluate, params, task.train, task.test)
    if not isinstance(values, dict) or any(getattr(value, "shape", None) != () for value in values.values()):
        raise InputError(f"the task's evaluate must give a dict of scalars by name, not {values}")


def _structure(
    optimizer: OptimizerConfig, task: Task, params: Params, batch: Data, metrics: Mapping[str, Metric]
) -> tuple[registry.Structure, registry.Floats]:
    """An optimizer's structure and floats, found to train on this task by tracing one step.

    A factory that branches on the value of a hyperparameter gets all of them as part of the program.
    """

    def trace(structure: registry.Structure, floats: registry.Floats) -> None:
        def one_step(floats: dict[str, Array], params: Params, batch: Data) -> Any:
            transformation = registry.build(structure, floats)
            state = TrainState(params, transformation.init(params))
            return make_train_step(task.loss, transformation, metrics)(state, batch)

        after, record = jax.eval_shape(one_step, _float_arrays(floats), params, batch)
        if any(jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(after)):
            raise InputError("its state holds a random key, which would be the same for every seed")
        for name, value in record.metrics.items():
            if not hasattr(value, "dtype"):
                raise InputError(f"metrics[{name!r}] must give a number or an array, not {value}")

    structure, floats = registry.split(optimizer)
    try:
        try:
            trace(structure, floats)
        except jax.errors.ConcretizationTypeError:
            structure, floats = registry.fixed(optimizer), {}
            trace(structure, floats)
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot train with {optimizer}: {error}") from error
    return structure, floats


def _float_arrays(floats: registry.Floats) -> dict[str, np.ndarray]:
    # Double precision where 64-bit types are on, which `numerics` decides.
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    return {name: np.asarray(value, dtype) for name, value in floats.items()}


def initial_states(cfg: Config, task: Task, group: Group) -> TrainState:
    """The states that the runs of a group start from, laid over its devices."""
    states = []
    for run in group.runs:
        params = draw_params(task.init, cfg, run.seed, run.label)
        with _blame(run.label):
            optimizer = registry.build(group.program.structure, _float_arrays(run.floats))
        states.append(TrainState(params, optimizer.init(params)))
    stacked: TrainState = layout.stack(states, group.mesh)
    return stacked


class Programs(NamedTuple):
    """All that a training needs, compiled.

    Attributes:
      draw: from the first iteration to the batches of a chunk.
      chunks: each group's `train_chunk`.
      evaluate: from the parameters of all runs to what the task's evaluation gives for each, by name.
    """

    draw: Callable[[int], Batches]
    chunks: Sequence[jax.stages.Compiled]
    evaluate: Callable[[Sequence[Params]], dict[str, np.ndarray]]


def compile_programs(
    cfg: Config,
    task: Task,
    groups: Sequence[Group],
    states: Sequence[TrainState],
    chunk: int,
    devices: Sequence[jax.Device],
    progress: Progress,
) -> Programs:
    """Compiles all that a training in chunks of at most `chunk` iterations needs, a thread a core."""
    mesh = layout.one_mesh(devices)
    data = layout.replicate((task.train, task.test), mesh)
    seeds = layout.stack([np.uint32(seed) for seed in cfg.seed_tuple], mesh)

    def draw_inputs(start: int) -> tuple[Any, Any]:
        return seeds, layout.replicate(np.int32(start), mesh)

    some_params = params_of_runs(groups[:1], states[:1])[:1]
    no_batches = dict.fromkeys(cfg.seed_tuple, np.zeros([chunk, cfg.batch_size], np.int32))
    jobs: list[tuple[Any, Any]] = [
        (_draw_function(chunk, task.num_examples, cfg.batch_size, cfg.sampling, mesh), draw_inputs(0)),
        (_evaluation_function(task.loss, task.evaluate, mesh), (layout.stack(some_params, mesh), data)),
        *(
            (_chunk_function(group.program, group.mesh), group.inputs(state, no_batches, chunk))
            for group, state in zip(groups, states, strict=True)
        ),
    ]
    progress("compiling", 0, len(jobs))
    with ThreadPoolExecutor(cores()) as pool:
        # Traced here, since the settings of JAX's context managers belong to one thread.
        futures = [
            pool.submit(_compile, _lower(function, _settings(), _signature(inputs))) for function, inputs in jobs
        ]
        for count, _ in enumerate(as_completed(futures), start=1):
            progress("compiling", count, len(futures))
    draw_all, evaluate_wave, *chunks = [future.result() for future in futures]

    def draw(start: int) -> Batches:
        batches = jax.device_get(draw_all(*draw_inputs(start)))
        return dict(zip(cfg.seed_tuple, batches, strict=False))

    def evaluate(params: Sequence[Params]) -> dict[str, np.ndarray]:
        waves = []
        for first in range(0, len(params), mesh.size):
            progress("evaluating", first, len(params))
            wave = layout.stack(params[first : first + mesh.size], mesh)
            waves.append(jax.device_get(evaluate_wave(wave, data)))
        return {name: np.concatenate([wave[name] for wave in waves])[: len(params)] for name in waves[0]}

    return Programs(draw, chunks, evaluate)


@functools.lru_cache(maxsize=32)
def _draw_function(
    length: int, num_examples: int, batch_size: int, sampling: Sampling, mesh: Mesh
) -> Callable[..., Any]:
    def draw(seed: UInt32[Array, ""], start: Int32[Array, ""]) -> Int32[Array, "iterations batch"]:
        return draw_batches(
            batch_key(seed),
            start,
            length,
            num_examples=num_examples,
            batch_size=batch_size,
            sampling=sampling,
        )

    return layout.over_runs(draw, mesh)


@functools.lru_cache(maxsize=32)
def _chunk_function(program: Program, mesh: Mesh) -> Callable[..., Any]:
    return layout.over_runs(functools.partial(train_chunk, program), mesh)


@functools.lru_cache(maxsize=32)
def _evaluation_function(
    loss: Callable[..., Any], evaluate: Callable[..., Scalars] | None, mesh: Mesh
) -> Callable[..., Any]:
    def mean_losses(params: Params, train: Data, test: Data | None) -> Scalars:
        data = {"train_loss": train, **({} if test is None else {"test_loss": test})}
        return {
            name: mean_over_examples(lambda batch: loss(params, batch), examples) for name, examples in data.items()
        }

    return layout.over_runs(lambda params, data: (evaluate or mean_losses)(params, *data), mesh)


def _settings() -> tuple[Any, ...]:
    """JAX's settings that tracing reads and `numerics` leaves to the user."""
    return tuple(jax.config.values[name] for name in ("jax_enable_x64", "jax_default_matmul_precision"))


@functools.lru_cache(maxsize=32)
def _lower(function: Any, settings: tuple[Any, ...], signature: tuple[Any, tuple[Any, ...]]) -> jax.stages.Lowered:
    """Traces for the shapes and devices of a signature, under the settings there are."""
    del settings
    structure, leaves = signature
    lowered: jax.stages.Lowered = function.lower(*structure.unflatten(leaves))
    return lowered


@functools.lru_cache(maxsize=32)
def _compile(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    return lowered.compile()


def _signature(inputs: PyTree[Array]) -> tuple[Any, tuple[Any, ...]]:
    leaves, structure = jax.tree.flatten(inputs)
    return structure, tuple(jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding) for a in leaves)


def params_of_runs(groups: Sequence[Group], states: Sequence[TrainState]) -> list[Params]:
    """The parameters of every run, on the host, in the order of the groups: those that are to be evaluated.

    Schedule-Free trains at one point and is judged at another, the average that it keeps.
    """
    params = []
    for group, stacked in zip(groups, states, strict=True):
        on_host = jax.device_get(stacked)
        for i in range(len(group.runs)):
            state = jax.tree.map(lambda a, i=i: a[i], on_host)
            averaged = [s for s in jax.tree.leaves(state.opt_state, is_leaf=_is_schedule_free) if _is_schedule_free(s)]
            if averaged:
                evaluated = jax.device_get(optax.contrib.schedule_free_eval_params(averaged[0], state.params))
                kept = jax.tree.map(lambda new, old: np.asarray(new, old.dtype), evaluated, state.params)
                state = state._replace(params=kept)
            params.append(state.params)
    return params


def _is_schedule_free(node: Any) -> bool:
    return isinstance(node, optax.contrib.ScheduleFreeState)


@contextlib.contextmanager
def _blame(label: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"optimizers[{label!r}]: {error}") from error.__cause__
