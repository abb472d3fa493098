"""What is compiled for some runs."""

import functools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int32, PyTree, UInt32

from momentum_jax._base.machine import cores
from momentum_jax._base.progress import Report
from momentum_jax._base.tracing import jitted
from momentum_jax._base.weak import Handle, cached
from momentum_jax.config import Config, Sampling
from momentum_jax.tasks import Data, HostData, Task, Variables
from momentum_jax.training.devices import (
    Capacity,
    Layout,
    choose_meshes,
    one_mesh,
    over_runs,
    replicated_shape,
    share,
)
from momentum_jax.training.feed import Feed
from momentum_jax.training.groups import Group, check_memory
from momentum_jax.training.program import Program
from momentum_jax.training.sampling import batch_key, draw_batches
from momentum_jax.training.step import History, Static, TrainState, evaluation_of, train_chunk
from momentum_jax.training.validate import abstract_variables, traced_arrays


def compile_runs(
    cfg: Config,
    task: Task,
    groups: Sequence[Group],
    devices: Sequence[jax.Device],
    layout: Layout,
    chunk: int,
    report: Report,
    per_device: Callable[[Group, Mesh], int] | None = None,
) -> Program:
    """Compiles all that the training of some runs in chunks of at most `chunk` iterations needs.

    Groups of runs lie beside each other on devices of their own, or take turns.

    Args:
      cfg: of the runs.
      task: likewise.
      groups: all runs that the program is to train.
      devices: where.
      layout: how each device goes through its runs.
      chunk: iterations.
      report: told of "compiling".
      per_device: how many runs of a group each device of its mesh takes at once; by default as many as there are.
    """
    meshes = choose_meshes([len(group.runs) for group in groups], devices)
    capacities = [
        Capacity.for_runs(len(group.runs), mesh) if per_device is None else Capacity(mesh, per_device(group, mesh))
        for group, mesh in zip(groups, meshes, strict=True)
    ]
    chunk = min(chunk, cfg.iterations)
    if isinstance(task.train, HostData):
        # No chunk goes beyond an evaluation, and no more is read than is used.
        chunk = min(chunk, cfg.evaluate_every or chunk)
    everywhere = one_mesh(devices)
    data = share(task.evaluation_data, {everywhere, *meshes})
    draws = _draw_capacities(cfg, groups, capacities, everywhere)
    if isinstance(task.train, HostData):
        for size, capacity in draws.items():
            # A chunk is read, put in order and trained, and the next one read.
            examples = 4 * capacity.total * chunk * size
            shapes = jax.tree.map(
                lambda a, n=examples: jax.ShapeDtypeStruct((n, *a.shape[1:]), a.dtype), data[everywhere][0]
            )
            check_memory(f"chunks of {chunk} iterations of data on the host", shapes)
    functions: dict[Hashable, tuple[Any, Any]] = {
        ("draw", size): _draw_job(cfg, task, size, capacity, chunk, layout) for size, capacity in draws.items()
    }
    for number, (group, capacity) in enumerate(zip(groups, capacities, strict=True)):
        functions["evaluate", capacity] = _evaluation_job(cfg, task, capacity, data[capacity.mesh], layout)
        functions["init", number] = (
            _init_function(group.static, capacity.mesh, layout),
            (_mask_shape(capacity), (), capacity.shape(_abstract_inputs(cfg, task, group)), ()),
        )
        functions["train", number] = (
            _chunk_function(group.static, capacity.mesh, layout),
            _chunk_inputs(cfg, task, group, capacity, chunk, draws[group.batch_size].total, data[capacity.mesh][0]),
        )
    compiled = _compile_all(functions, report)
    chunks = [compiled["train", number] for number in range(len(groups))]
    return Program(
        cfg=cfg,
        task=task,
        layout=layout,
        groups=groups,
        capacities=capacities,
        histories=[_without_axes(compiled_chunk.out_info[1]) for compiled_chunk in chunks],
        draws={size: (compiled["draw", size], capacity) for size, capacity in draws.items()},
        inits=[compiled["init", number] for number in range(len(groups))],
        chunks=chunks,
        evaluations=[compiled["evaluate", capacity] for capacity in capacities],
        data=data,
        feed=Feed(task.train) if isinstance(task.train, HostData) else None,
    )


def _mask_shape(capacity: Capacity) -> jax.ShapeDtypeStruct:
    shape: jax.ShapeDtypeStruct = capacity.shape(jax.ShapeDtypeStruct((), np.bool_))
    return shape


def _draw_capacities(
    cfg: Config, groups: Sequence[Group], capacities: Sequence[Capacity], mesh: Mesh
) -> dict[int, Capacity]:
    """By batch size, the capacity for the seeds of all runs that are trained at once."""
    runs: dict[int, int] = {}
    for group, capacity in zip(groups, capacities, strict=True):
        runs[group.batch_size] = runs.get(group.batch_size, 0) + capacity.total
    return {size: Capacity.for_runs(min(len(cfg.seed_tuple), total), mesh) for size, total in runs.items()}


def _draw_job(
    cfg: Config, task: Task, batch_size: int, capacity: Capacity, chunk: int, layout: Layout
) -> tuple[Any, Any]:
    function = _draw_function(chunk, task.num_examples, batch_size, cfg.sampling, capacity.mesh, layout)
    seed, start = jax.ShapeDtypeStruct((), np.uint32), jax.ShapeDtypeStruct((), np.int32)
    return function, (_mask_shape(capacity), (), capacity.shape(seed), replicated_shape(start, capacity.mesh))


def _evaluation_job(
    cfg: Config, task: Task, capacity: Capacity, data: tuple[Data, Data | None], layout: Layout
) -> tuple[Any, Any]:
    function = _evaluation_function(evaluation_of(task), capacity.mesh, layout)
    return function, (_mask_shape(capacity), (), capacity.shape(abstract_variables(cfg, task)), data)


def _without_axes(history: History) -> History:
    """The shapes of one iteration of one run, from those of a chunk of all runs."""
    one: History = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[2:], a.dtype), history)
    return one


def _compile_all(functions: Mapping[Hashable, tuple[Any, Any]], report: Report) -> dict[Hashable, jax.stages.Compiled]:
    """Compiles functions for inputs, by name, a thread a core."""
    futures: dict[Hashable, Future[jax.stages.Compiled]] = {}
    sizes: dict[Hashable, int] = {}

    def report_size() -> None:
        # What is not traced yet counts as the others do on the average.
        total = sum(sizes.values()) * len(functions) // len(sizes)
        report("compiling", sum(size for name, size in sizes.items() if futures[name].done()), total)

    report("compiling", 0, 1)
    with ThreadPoolExecutor(cores()) as pool:
        try:
            # Traced here, since the settings of JAX's context managers belong to one thread.
            for name, (function, inputs) in functions.items():
                lowered = _lower(function, _settings(), _signature(inputs))
                futures[name], sizes[name] = pool.submit(_compile, lowered), _size(lowered)
                report_size()
            for _ in as_completed(futures.values()):
                report_size()
        except BaseException:
            # After a Ctrl-C only what is being compiled is waited for.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {name: future.result() for name, future in futures.items()}


def bytes_of_state(cfg: Config, task: Task, group: Group) -> int:
    """Bytes of what one iteration of a run of a group hands to the next."""
    state = _abstract_state(group.static, *_abstract_inputs(cfg, task, group))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def bytes_of_run(cfg: Config, task: Task, group: Group, mesh: Mesh, chunk: int) -> int:
    """Bytes of device memory that one more run of a group needs under `vmap`, in training or in evaluation."""
    one = Capacity(mesh, 1)
    data = share(task.evaluation_data, {mesh})[mesh]
    chunk = min(chunk, cfg.iterations)
    trained = _chunk_function(group.static, mesh, "vmap"), _chunk_inputs(cfg, task, group, one, chunk, 1, data[0])
    return max(
        1,
        # The examples of a chunk that are read from the host belong to the run.
        _bytes_beside_data(*trained, None if isinstance(task.train, HostData) else data[0]),
        _bytes_beside_data(*_evaluation_job(cfg, task, one, data, "vmap"), data),
    )


def _bytes_beside_data(function: Any, inputs: PyTree[Any], data: PyTree[Any]) -> int:
    memory: Any = _compile(_lower(function, _settings(), _signature(inputs))).memory_analysis()
    needed = memory.temp_size_in_bytes + memory.output_size_in_bytes + memory.argument_size_in_bytes
    return int(needed - sum(leaf.nbytes for leaf in jax.tree.leaves(data)))


def _abstract_inputs(cfg: Config, task: Task, group: Group) -> tuple[dict[str, jax.ShapeDtypeStruct], Variables]:
    """Shapes of the traced hyperparameters of a run, and of what `init` gives."""
    traced = {name: jax.ShapeDtypeStruct((), a.dtype) for name, a in traced_arrays(group.traced[0]).items()}
    return traced, abstract_variables(cfg, task)


def _abstract_state(static: Static, traced: dict[str, jax.ShapeDtypeStruct], variables: Variables) -> TrainState:
    state: TrainState = jax.eval_shape(static.init, traced, variables)
    return state


def _chunk_inputs(
    cfg: Config, task: Task, group: Group, capacity: Capacity, chunk: int, seeds: int, data: Data
) -> tuple[Any, ...]:
    """What the compiled `train_chunk` of a group takes, as shapes, dtypes and places."""
    traced, variables = _abstract_inputs(cfg, task, group)
    state = _abstract_state(group.static, traced, variables)
    seed, number = jax.ShapeDtypeStruct((), np.uint32), jax.ShapeDtypeStruct((), np.int32)
    batches = (seeds, chunk, group.batch_size)
    if isinstance(task.train, HostData):
        examples = math.prod(batches)
        data = jax.tree.map(
            lambda a: replicated_shape(jax.ShapeDtypeStruct((examples, *a.shape[1:]), a.dtype), capacity.mesh), data
        )
    shared = (
        replicated_shape(number, capacity.mesh),
        replicated_shape(number, capacity.mesh),
        data,
        replicated_shape(jax.ShapeDtypeStruct(batches, np.int32), capacity.mesh),
    )
    return _mask_shape(capacity), capacity.shape(state), capacity.shape((traced, seed, number)), shared


# The functions below are cached, so that equal calls give one function, which is traced and compiled once.


@functools.lru_cache(maxsize=32)
def _draw_function(
    length: int, num_examples: int, batch_size: int, sampling: Sampling, mesh: Mesh, layout: Layout
) -> Callable[..., Any]:
    def draw(
        state: tuple[()], seed: UInt32[Array, ""], start: Int32[Array, ""]
    ) -> tuple[tuple[()], Int32[Array, "iterations batch"]]:
        return state, draw_batches(
            batch_key(seed), start, length, num_examples=num_examples, batch_size=batch_size, sampling=sampling
        )

    return over_runs(draw, mesh, layout)


@cached
def _init_function(static: Static, mesh: Mesh, layout: Layout) -> Callable[..., Any]:
    return over_runs(lambda state, run, shared: (state, static.init(*run)), mesh, layout)


@cached
def _chunk_function(static: Static, mesh: Mesh, layout: Layout) -> Callable[..., Any]:
    return over_runs(functools.partial(train_chunk, static), mesh, layout)


@cached
def _evaluation_function(evaluate: Handle, mesh: Mesh, layout: Layout) -> Callable[..., Any]:
    return over_runs(lambda state, variables, data: (state, jitted(evaluate)(variables, *data)), mesh, layout)


def _settings() -> tuple[Any, ...]:
    """JAX's settings that tracing reads and that may change from call to call."""
    config: Any = jax.config
    return config.jax_enable_x64, config.jax_default_matmul_precision


@cached
def _lower(function: Any, settings: tuple[Any, ...], signature: tuple[Any, tuple[Any, ...]]) -> jax.stages.Lowered:
    """Traces for the shapes and devices of a signature, under the present settings."""
    del settings
    structure, leaves = signature
    lowered: jax.stages.Lowered = function.lower(*structure.unflatten(leaves))
    return lowered


@cached
def _size(lowered: jax.stages.Lowered) -> int:
    """The length of a program's text without its large constants, which grows as the seconds to compile it do."""
    module: Any = lowered.compiler_ir()
    return len(module.operation.get_asm(large_elements_limit=16))


@cached
def _compile(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    return lowered.compile()


def _signature(inputs: PyTree[Any]) -> tuple[Any, tuple[Any, ...]]:
    leaves, structure = jax.tree.flatten(inputs)
    return structure, tuple(jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding) for a in leaves)
