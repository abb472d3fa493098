"""What is compiled for some runs, and the program that takes them from iteration to iteration."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Int32, PyTree, UInt32

from momentum_jax._base.machine import cores
from momentum_jax._base.progress import Progress
from momentum_jax.config import Config, Sampling, recorded_iterations
from momentum_jax.results.record import Run
from momentum_jax.tasks import Data, Params, Scalars, Task
from momentum_jax.training.devices import (
    Capacity,
    Layout,
    choose_meshes,
    one_mesh,
    over_runs,
    replicate,
    replicated_shape,
)
from momentum_jax.training.groups import Group
from momentum_jax.training.sampling import batch_key, draw_batches, draw_params, init_key
from momentum_jax.training.step import History, Static, TrainState, evaluation_of, evaluation_params, train_chunk
from momentum_jax.training.validate import abstract_params, traced_arrays


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GroupState:
    """Some runs of a group on their way, on the group's devices.

    Attributes:
      group: its number.
      positions: which of the group's runs.
      counts: how many of them each device has.
      hyperparameters: the traced ones, by name, with a leading axis of runs laid over the devices.
      train_states: likewise.
    """

    group: int = dataclasses.field(metadata={"static": True})
    positions: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    counts: Int32[Array, " devices"]
    hyperparameters: dict[str, Float[Array, " runs"]]
    train_states: TrainState


States = tuple[GroupState, ...]
"""Runs that are trained together, one entry for each group that has some of them."""


@dataclasses.dataclass(frozen=True)
class Program:
    """All that the training of some runs needs, compiled.

    Attributes:
      cfg: of the runs.
      task: likewise.
      groups: the runs.
      capacities: how many runs of each group are trained at once, and where.
      histories: the shapes and dtypes of what one iteration of a run of each group records.
      draws: by batch size, from seeds and the first iteration to the batches of a chunk; and for how many seeds.
      inits: for each group, from hyperparameters and parameters to the states that its runs start from.
      chunks: for each group, `train_chunk`.
      evaluation: the task's evaluation; and for how many runs.
      data: the training and test data on each mesh.
    """

    cfg: Config
    task: Task
    groups: Sequence[Group]
    capacities: Sequence[Capacity]
    histories: Sequence[History]
    draws: Mapping[int, tuple[jax.stages.Compiled, Capacity]]
    inits: Sequence[jax.stages.Compiled]
    chunks: Sequence[jax.stages.Compiled]
    evaluation: tuple[jax.stages.Compiled, Capacity]
    data: Mapping[Mesh, tuple[Data, Data | None]]

    def init(self, runs: Sequence[Run]) -> States:
        """The states that some runs start from, no more of each group than its capacity."""
        weights: dict[tuple[int, str | None], Params] = {}
        states = []
        by_group: dict[int, list[int]] = {}
        for run in runs:
            number, position = self._places[run]
            by_group.setdefault(number, []).append(position)
        for number, positions in sorted(by_group.items()):
            group, capacity = self.groups[number], self.capacities[number]
            keys = [(group.runs[i].seed, None if self.cfg.shared_init else group.runs[i].label) for i in positions]
            for key in keys:
                if key not in weights:
                    weights[key] = jax.device_get(draw_params(self.task.init, init_key(*key), self.cfg.dtype))
            counts = capacity.counts(len(positions))
            hyperparameters = capacity.stack([traced_arrays(group.traced[i]) for i in positions])
            params = capacity.stack([weights[key] for key in keys])
            train_states = self.inits[number](counts, (hyperparameters, params), ())
            states.append(GroupState(number, tuple(positions), counts, hyperparameters, train_states))
        return tuple(states)

    @functools.cached_property
    def recorded(self) -> Int[np.ndarray, " recorded"]:
        """The iterations that histories hold."""
        return recorded_iterations(self.cfg)

    @functools.cached_property
    def _places(self) -> dict[Run, tuple[int, int]]:
        """The group of each run, and its position there."""
        return {run: (number, i) for number, group in enumerate(self.groups) for i, run in enumerate(group.runs)}

    def runs_of(self, states: States) -> list[Run]:
        """The runs of some states, in their order."""
        return [self.groups[state.group].runs[i] for state in states for i in state.positions]

    def step(self, states: States, start: int, stop: int) -> tuple[States, list[History]]:
        """Trains runs for the iterations start … stop − 1, at most a chunk.

        Returns:
          Their states after them and, for each group, the history [runs, iterations, …] on the host.
        """
        batches = self._draw(states, start)
        after, histories = [], []
        for state in states:
            group, capacity = self.groups[state.group], self.capacities[state.group]
            rows = capacity.stack([batches[group.batch_size, group.runs[i].seed] for i in state.positions])
            shared = (replicate(np.int32(stop - start), capacity.mesh), self.data[capacity.mesh][0])
            runs = (state.hyperparameters, state.train_states, rows)
            train_states, history = self.chunks[state.group](state.counts, runs, shared)
            after.append(dataclasses.replace(state, train_states=train_states))
            histories.append(history)
        # Only here does the host wait for the training, when all groups are on their way.
        taken = [
            self.capacities[state.group].take(history, len(state.positions))
            for state, history in zip(states, histories, strict=True)
        ]
        return tuple(after), [jax.tree.map(lambda a: a[:, : stop - start], history) for history in taken]

    def _draw(self, states: States, start: int) -> dict[tuple[int, int], Int32[np.ndarray, "chunk batch"]]:
        """The rows of the training data of a chunk, by batch size and seed."""
        seeds: dict[int, dict[int, None]] = {}
        for state in states:
            group = self.groups[state.group]
            seeds.setdefault(group.batch_size, {}).update(dict.fromkeys(group.runs[i].seed for i in state.positions))
        batches = {}
        for batch_size, distinct in seeds.items():
            draw, capacity = self.draws[batch_size]
            words = capacity.stack([np.uint32(seed) for seed in distinct])
            drawn = draw(capacity.counts(len(distinct)), words, replicate(np.int32(start), capacity.mesh))
            for seed, rows in zip(distinct, capacity.take(drawn, len(distinct)), strict=True):
                batches[batch_size, seed] = rows
        return batches

    def fetch(self, states: States) -> list[TrainState]:
        """The train states of each group [runs, …], on the host: what `put` takes."""
        return [self.capacities[state.group].take(state.train_states, len(state.positions)) for state in states]

    def put(self, states: States, fetched: Sequence[TrainState]) -> States:
        """The states of the same runs, come to other train states, on the devices."""
        return tuple(
            dataclasses.replace(state, train_states=self.capacities[state.group].stack(_rows(there, state)))
            for state, there in zip(states, fetched, strict=True)
        )

    def params(self, states: States) -> list[Params]:
        """The parameters of every run that are to be evaluated, on the host."""
        return [
            jax.device_get(evaluation_params(row))
            for state, there in zip(states, self.fetch(states), strict=True)
            for row in _rows(there, state)
        ]

    def evaluate(self, params: Sequence[Params], progress: Progress) -> dict[str, np.ndarray]:
        """What the task's evaluation gives for each of some parameters, by name."""
        evaluate, capacity = self.evaluation
        parts = []
        for first in range(0, len(params), capacity.total):
            progress("evaluating", first, len(params))
            some = params[first : first + capacity.total]
            values = evaluate(capacity.counts(len(some)), capacity.stack(some), self.data[capacity.mesh])
            parts.append(capacity.take(values, len(some)))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _rows(stacked: TrainState, state: GroupState) -> list[TrainState]:
    """One train state a run."""
    return [jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(len(state.positions))]


def compile_runs(
    cfg: Config,
    task: Task,
    groups: Sequence[Group],
    devices: Sequence[jax.Device],
    layout: Layout,
    chunk: int,
    progress: Progress,
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
      progress: called with "compiling".
      per_device: how many runs of a group each device of its mesh takes at once; by default as many as there are.
    """
    meshes = choose_meshes([len(group.runs) for group in groups], devices)
    capacities = [
        Capacity.for_runs(len(group.runs), mesh) if per_device is None else Capacity(mesh, per_device(group, mesh))
        for group, mesh in zip(groups, meshes, strict=True)
    ]
    chunk = min(chunk, cfg.iterations)
    everywhere = one_mesh(devices)
    data = {mesh: replicate((task.train, task.test), mesh) for mesh in {everywhere, *meshes}}
    draws = _draw_capacities(cfg, groups, capacities, everywhere)
    one_each = Capacity(everywhere, 1)
    functions: dict[Hashable, tuple[Any, Any]] = {
        ("draw", size): _draw_job(cfg, task, size, capacity, chunk, layout) for size, capacity in draws.items()
    }
    functions["evaluate"] = (
        _evaluation_function(evaluation_of(task), everywhere, layout),
        (one_each.counts(0), one_each.shape(abstract_params(cfg, task)), data[everywhere]),
    )
    for number, (group, capacity) in enumerate(zip(groups, capacities, strict=True)):
        functions["init", number] = (
            _init_function(group.static, capacity.mesh, layout),
            (capacity.counts(0), capacity.shape(_abstract_inputs(cfg, task, group)), ()),
        )
        functions["train", number] = (
            _chunk_function(group.static, capacity.mesh, layout),
            _chunk_inputs(cfg, task, group, capacity, chunk, data[capacity.mesh][0]),
        )
    compiled = _compile_all(functions, progress)
    chunks = [compiled["train", number] for number in range(len(groups))]
    return Program(
        cfg=cfg,
        task=task,
        groups=groups,
        capacities=capacities,
        histories=[_without_axes(compiled_chunk.out_info[1]) for compiled_chunk in chunks],
        draws={size: (compiled["draw", size], capacity) for size, capacity in draws.items()},
        inits=[compiled["init", number] for number in range(len(groups))],
        chunks=chunks,
        evaluation=(compiled["evaluate"], one_each),
        data=data,
    )


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
    return function, (capacity.counts(0), capacity.shape(seed), replicated_shape(start, capacity.mesh))


def _without_axes(history: History) -> History:
    """The shapes of one iteration of one run, from those of a chunk of all runs."""
    one: History = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[2:], a.dtype), history)
    return one


def _compile_all(
    functions: Mapping[Hashable, tuple[Any, Any]], progress: Progress
) -> dict[Hashable, jax.stages.Compiled]:
    """Compiles functions for inputs, by name, a thread a core."""
    progress("compiling", 0, len(functions))
    with ThreadPoolExecutor(cores()) as pool:
        try:
            # Traced here, since the settings of JAX's context managers belong to one thread.
            futures = {
                name: pool.submit(_compile, _lower(function, _settings(), _signature(inputs)))
                for name, (function, inputs) in functions.items()
            }
            for count, _ in enumerate(as_completed(futures.values()), start=1):
                progress("compiling", count, len(futures))
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
    """Bytes of device memory that one more run of a group needs under `vmap`: what XLA asks for to train one."""
    one = Capacity(mesh, 1)
    data = replicate(task.train, mesh)
    inputs = _chunk_inputs(cfg, task, group, one, min(chunk, cfg.iterations), data)
    compiled = _compile(_lower(_chunk_function(group.static, mesh, "vmap"), _settings(), _signature(inputs)))
    memory: Any = compiled.memory_analysis()
    shared = sum(leaf.nbytes for leaf in jax.tree.leaves(data))
    needed = memory.temp_size_in_bytes + memory.output_size_in_bytes + memory.argument_size_in_bytes - shared
    return int(max(needed, 1))


def _abstract_inputs(cfg: Config, task: Task, group: Group) -> tuple[dict[str, jax.ShapeDtypeStruct], Params]:
    """Shapes of the traced hyperparameters and initial parameters of a run."""
    traced = {name: jax.ShapeDtypeStruct((), a.dtype) for name, a in traced_arrays(group.traced[0]).items()}
    return traced, abstract_params(cfg, task)


def _abstract_state(static: Static, traced: dict[str, jax.ShapeDtypeStruct], params: Params) -> TrainState:
    state: TrainState = jax.eval_shape(static.init, traced, params)
    return state


def _chunk_inputs(
    cfg: Config, task: Task, group: Group, capacity: Capacity, chunk: int, data: Data
) -> tuple[Any, Any, Any]:
    """What the compiled `train_chunk` of a group takes, as shapes, dtypes and places."""
    traced, params = _abstract_inputs(cfg, task, group)
    state = _abstract_state(group.static, traced, params)
    rows = jax.ShapeDtypeStruct((chunk, group.batch_size), np.int32)
    length = replicated_shape(jax.ShapeDtypeStruct((), np.int32), capacity.mesh)
    return capacity.counts(0), capacity.shape((traced, state, rows)), (length, data)


# The functions below are cached, so that equal calls give one function, which is traced and compiled once.


@functools.lru_cache(maxsize=32)
def _draw_function(
    length: int, num_examples: int, batch_size: int, sampling: Sampling, mesh: Mesh, layout: Layout
) -> Callable[..., Any]:
    def draw(seed: UInt32[Array, ""], start: Int32[Array, ""]) -> Int32[Array, "iterations batch"]:
        return draw_batches(
            batch_key(seed), start, length, num_examples=num_examples, batch_size=batch_size, sampling=sampling
        )

    return over_runs(draw, mesh, layout)


@functools.lru_cache(maxsize=32)
def _init_function(static: Static, mesh: Mesh, layout: Layout) -> Callable[..., Any]:
    return over_runs(lambda run, shared: static.init(*run), mesh, layout)


@functools.lru_cache(maxsize=32)
def _chunk_function(static: Static, mesh: Mesh, layout: Layout) -> Callable[..., Any]:
    return over_runs(functools.partial(train_chunk, static), mesh, layout)


@functools.lru_cache(maxsize=32)
def _evaluation_function(evaluate: Callable[..., Scalars], mesh: Mesh, layout: Layout) -> Callable[..., Any]:
    return over_runs(lambda params, data: evaluate(params, *data), mesh, layout)


def _settings() -> tuple[Any, ...]:
    """JAX's settings that tracing reads and that may change from call to call."""
    config: Any = jax.config
    return config.jax_enable_x64, config.jax_default_matmul_precision


@functools.lru_cache(maxsize=32)
def _lower(function: Any, settings: tuple[Any, ...], signature: tuple[Any, tuple[Any, ...]]) -> jax.stages.Lowered:
    """Traces for the shapes and devices of a signature, under the present settings."""
    del settings
    structure, leaves = signature
    lowered: jax.stages.Lowered = function.lower(*structure.unflatten(leaves))
    return lowered


@functools.lru_cache(maxsize=32)
def _compile(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    return lowered.compile()


def _signature(inputs: PyTree[Any]) -> tuple[Any, tuple[Any, ...]]:
    leaves, structure = jax.tree.flatten(inputs)
    return structure, tuple(jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding) for a in leaves)
