"""From a config to compiled programs: runs of one structure share one, and all are compiled at once."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

import jax
import jax.extend.core
import numpy as np
import optax.contrib
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int32, PyTree, UInt32

from momentum_jax._base.errors import InputError
from momentum_jax._base.machine import cores
from momentum_jax._base.progress import Progress
from momentum_jax.config import Config, Sampling
from momentum_jax.optimizers import registry
from momentum_jax.optimizers.description import OptimizerConfig
from momentum_jax.results.record import Run
from momentum_jax.tasks import Data, Metric, Params, Scalars, Task, mean_over_examples
from momentum_jax.training import devices as layout
from momentum_jax.training.sampling import batch_key, draw_batches, draw_params, numerics
from momentum_jax.training.step import History, Program, TrainState, find_structure, traced_arrays, train_chunk


class Group(NamedTuple):
    """Runs that share a program; their traced, one dict a run, are its arguments."""

    program: Program
    batch_size: int
    runs: tuple[Run, ...]
    traced: tuple[registry.Traced, ...]


class Lane(NamedTuple):
    """What one group does in a wave: the positions of its runs that are trained, beside those of other lanes."""

    group: int
    runs: tuple[int, ...]


Wave = tuple[Lane, ...]
"""Runs that go from the first iteration to the last together, each lane on devices of its own or in turns."""


class LaneState(NamedTuple):
    """What the programs take and give for the runs of a lane: leading axes of slots, laid over its devices."""

    counts: Int32[Array, " devices"]
    traced: dict[str, Float[Array, " slots"]]
    train_state: TrainState


def check_optimizers(optimizers: Iterable[tuple[str, OptimizerConfig]]) -> None:
    """Raises `InputError` for the first labelled optimizer that cannot be made."""
    for label, optimizer in optimizers:
        with _blame(label):
            registry.check(optimizer)


def group_runs(cfg: Config, task: Task, metrics: Mapping[str, Metric], runs: Sequence[Run]) -> list[Group]:
    """Puts all runs of one structure and batch size into one group, in their order."""
    params = _abstract_params(cfg, task)
    _check_task(task, params)
    batches = {}
    for size in {run.trial.batch_size for run in runs}:
        batches[size] = _abstract_batch(task, size)
        if (shape := jax.eval_shape(task.loss, params, batches[size]).shape) != ():
            raise InputError(f"the task's loss must give a scalar, not an array of shape {shape}")
    # By an optimizer's every value, which tells 1 from 1.0; then by what of it is traced.
    known: dict[tuple[registry.Structure, int], tuple[registry.Structure, registry.Traced]] = {}
    found: set[tuple[registry.Structure, int]] = set()
    members: dict[tuple[Program, int], list[tuple[Run, registry.Traced]]] = {}
    for run in runs:
        exactly = (registry.fixed(run.trial.optimizer), run.trial.batch_size)
        if exactly not in known:
            known[exactly] = registry.split(run.trial.optimizer)
            if (known[exactly][0], run.trial.batch_size) not in found:
                with _blame(run.label):
                    known[exactly] = find_structure(
                        run.trial.optimizer, task.loss, params, batches[run.trial.batch_size], metrics
                    )
                found.add((known[exactly][0], run.trial.batch_size))
        structure, traced = known[exactly]
        program = Program(task.loss, structure, tuple(metrics.items()))
        members.setdefault((program, run.trial.batch_size), []).append((run, traced))
    return [
        Group(program, batch_size, *zip(*of_group, strict=True)) for (program, batch_size), of_group in members.items()
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


@dataclasses.dataclass(frozen=True)
class Programs:
    """All that training the runs of some groups needs, compiled.

    Attributes:
      groups: the runs.
      slots: the room that each group has on its devices.
      record_shapes: for each group, what one iteration of one run leaves behind, as shapes and dtypes.
      draws: by batch size, from seeds and the first iteration to the batches of a chunk, and the room for seeds.
      inits: for each group, from traced and parameters to the state that its runs start from.
      chunks: for each group, `train_chunk`.
      evaluation: what the task's evaluation gives for parameters, by name, and the room for them.
    """

    cfg: Config
    task: Task
    groups: Sequence[Group]
    slots: Sequence[layout.Slots]
    record_shapes: Sequence[History]
    draws: Mapping[int, tuple[jax.stages.Compiled, layout.Slots]]
    inits: Sequence[jax.stages.Compiled]
    chunks: Sequence[jax.stages.Compiled]
    evaluation: tuple[jax.stages.Compiled, layout.Slots]
    data: Mapping[Mesh, tuple[Data, Data | None]]

    def records(self, wave: Wave) -> list[History]:
        """The shapes and dtypes of what one iteration of one run of each lane leaves behind."""
        return [self.record_shapes[lane.group] for lane in wave]

    def start(self, wave: Wave) -> list[LaneState]:
        """The states that the runs of a wave start from."""
        drawn: dict[tuple[int, str], Params] = {}
        states = []
        for lane in wave:
            group, slots = self.groups[lane.group], self.slots[lane.group]
            runs = [group.runs[i] for i in lane.runs]
            for run in runs:
                if _weights_of(self.cfg, run) not in drawn:
                    params = draw_params(self.task.init, self.cfg, run.seed, run.label)
                    drawn[_weights_of(self.cfg, run)] = jax.device_get(params)
            counts = slots.counts(len(runs))
            traced = slots.stack([traced_arrays(group.traced[i]) for i in lane.runs])
            params = slots.stack([drawn[_weights_of(self.cfg, run)] for run in runs])
            states.append(LaneState(counts, traced, self.inits[lane.group](counts, (traced, params), ())))
        return states

    def resume(self, wave: Wave, train_states: Sequence[Sequence[TrainState]]) -> list[LaneState]:
        """The states of a wave whose runs have come to these train states, one a run in each lane."""
        states = []
        for lane, of_runs in zip(wave, train_states, strict=True):
            group, slots = self.groups[lane.group], self.slots[lane.group]
            traced = slots.stack([traced_arrays(group.traced[i]) for i in lane.runs])
            states.append(LaneState(slots.counts(len(lane.runs)), traced, slots.stack(of_runs)))
        return states

    def advance(
        self, wave: Wave, states: Sequence[LaneState], start: int, length: int
    ) -> tuple[list[LaneState], list[History]]:
        """Trains the runs of a wave for the iterations start … start + length − 1.

        Returns:
          Their states after them and, for each lane, a record with axes [runs, length, …] on the host.
        """
        batches = self._draw(wave, start)
        outputs = []
        for lane, state in zip(wave, states, strict=True):
            group, slots = self.groups[lane.group], self.slots[lane.group]
            own = slots.stack([batches[group.batch_size, group.runs[i].seed] for i in lane.runs])
            shared = (layout.replicate(np.int32(length), slots.mesh), self.data[slots.mesh][0])
            runs = (state.traced, state.train_state, own)
            outputs.append(self.chunks[lane.group](state.counts, runs, shared))
        after = [
            state._replace(train_state=train_state) for state, (train_state, _) in zip(states, outputs, strict=True)
        ]
        records = [
            jax.tree.map(lambda a: a[:, :length], self.slots[lane.group].take(record, len(lane.runs)))
            for lane, (_, record) in zip(wave, outputs, strict=True)
        ]
        return after, records

    def _draw(self, wave: Wave, start: int) -> dict[tuple[int, int], Int32[np.ndarray, "chunk batch"]]:
        """The rows of the training data of a chunk, by batch size and seed."""
        seeds: dict[int, dict[int, None]] = {}
        for lane in wave:
            group = self.groups[lane.group]
            seeds.setdefault(group.batch_size, {}).update(dict.fromkeys(group.runs[i].seed for i in lane.runs))
        batches = {}
        for batch_size, distinct in seeds.items():
            draw, slots = self.draws[batch_size]
            words = slots.stack([np.uint32(seed) for seed in distinct])
            drawn = draw(slots.counts(len(distinct)), words, layout.replicate(np.int32(start), slots.mesh))
            for seed, rows in zip(distinct, slots.take(drawn, len(distinct)), strict=True):
                batches[batch_size, seed] = rows
        return batches

    def params(self, wave: Wave, states: Sequence[LaneState]) -> list[list[Params]]:
        """The parameters of every run of each lane, on the host: those that are to be evaluated.

        Schedule-Free trains at one point and is judged at another, the average that it keeps.
        """
        of_lanes = []
        for train_states in self.train_states(wave, states):
            of_lanes.append([_evaluation_params(state) for state in train_states])
        return of_lanes

    def train_states(self, wave: Wave, states: Sequence[LaneState]) -> list[list[TrainState]]:
        """What `resume` takes: the train state of every run of each lane, on the host."""
        of_lanes = []
        for lane, state in zip(wave, states, strict=True):
            stacked = self.slots[lane.group].take(state.train_state, len(lane.runs))
            of_lanes.append([jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(len(lane.runs))])
        return of_lanes

    def evaluate(self, params: Sequence[Params], progress: Progress) -> dict[str, np.ndarray]:
        """What the task's evaluation gives for each of some parameters, by name."""
        compiled, slots = self.evaluation
        parts = []
        for first in range(0, len(params), slots.total):
            progress("evaluating", first, len(params))
            some = params[first : first + slots.total]
            values = compiled(slots.counts(len(some)), slots.stack(some), self.data[slots.mesh])
            parts.append(slots.take(values, len(some)))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def compile_programs(
    cfg: Config,
    task: Task,
    groups: Sequence[Group],
    slots: Sequence[layout.Slots],
    chunk: int,
    devices: Sequence[jax.Device],
    kind: layout.Layout,
    progress: Progress,
) -> Programs:
    """Compiles all that a training in chunks of at most `chunk` iterations needs, a thread a core."""
    everywhere = layout.one_mesh(devices)
    data = {mesh: layout.replicate((task.train, task.test), mesh) for mesh in {everywhere, *(s.mesh for s in slots)}}
    draw_slots = {
        size: layout.slots_for(
            min(len(cfg.seed_tuple), sum(s.total for g, s in zip(groups, slots, strict=True) if g.batch_size == size)),
            everywhere,
        )
        for size in {group.batch_size for group in groups}
    }
    one_each = layout.Slots(everywhere, 1)
    number = jax.ShapeDtypeStruct((), np.int32)
    jobs: list[tuple[Any, Any]] = []
    for size, room in draw_slots.items():
        function = _draw_function(chunk, task.num_examples, size, cfg.sampling, everywhere, kind)
        seed = jax.ShapeDtypeStruct((), np.uint32)
        jobs.append((function, (room.counts(0), room.shape(seed), layout.replicated_shape(number, everywhere))))
    jobs.append(
        (
            _evaluation_function(task.loss, task.evaluate, everywhere, kind),
            (one_each.counts(0), one_each.shape(_abstract_params(cfg, task)), data[everywhere]),
        )
    )
    for group, room in zip(groups, slots, strict=True):
        inputs = room.shape(_abstract_inputs(cfg, task, group))
        jobs.append((_init_function(group.program, room.mesh, kind), (room.counts(0), inputs, ())))
        whole = _chunk_inputs(cfg, task, group, room, chunk, data[room.mesh][0])
        jobs.append((_chunk_function(group.program, room.mesh, kind), whole))
    progress("compiling", 0, len(jobs))
    with ThreadPoolExecutor(cores()) as pool:
        try:
            # Traced here, since the settings of JAX's context managers belong to one thread.
            futures = [
                pool.submit(_compile, _lower(function, _settings(), _signature(inputs))) for function, inputs in jobs
            ]
            for count, _ in enumerate(as_completed(futures), start=1):
                progress("compiling", count, len(futures))
        except BaseException:
            # After a Ctrl-C only what is being compiled is waited for.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    compiled = [future.result() for future in futures]
    chunk_records = [of_chunk.out_info[1] for of_chunk in compiled[len(draw_slots) + 2 :: 2]]
    draws, (evaluation, *of_groups) = compiled[: len(draw_slots)], compiled[len(draw_slots) :]
    return Programs(
        cfg=cfg,
        task=task,
        groups=groups,
        slots=slots,
        record_shapes=[
            jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[2:], a.dtype), record) for record in chunk_records
        ],
        draws={size: (draw, room) for (size, room), draw in zip(draw_slots.items(), draws, strict=True)},
        inits=of_groups[::2],
        chunks=of_groups[1::2],
        evaluation=(evaluation, one_each),
        data=data,
    )


def bytes_of_a_state(cfg: Config, task: Task, group: Group) -> int:
    """Of what one iteration of a run of a group hands to the next."""
    state = _abstract_state(group.program, *_abstract_inputs(cfg, task, group))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def bytes_of_a_run(cfg: Config, task: Task, group: Group, mesh: Mesh, chunk: int) -> int:
    """Of device memory, what one more run of a group in a `vmap` needs: what XLA asks for to train a single one."""
    room = layout.Slots(mesh, 1)
    data = layout.replicate(task.train, mesh)
    inputs = _chunk_inputs(cfg, task, group, room, min(chunk, cfg.iterations), data)
    compiled = _compile(_lower(_chunk_function(group.program, mesh, "vmap"), _settings(), _signature(inputs)))
    memory: Any = compiled.memory_analysis()
    shared = sum(leaf.nbytes for leaf in jax.tree.leaves(data))
    needed = memory.temp_size_in_bytes + memory.output_size_in_bytes + memory.argument_size_in_bytes - shared
    return int(max(needed, 1))


def matrix_product_flops(cfg: Config, task: Task, batch_size: int) -> int:
    """Floating-point operations of the matrix products of one iteration: forward, backward, forward again.

    A convolution counts as the product that it is, edges included.
    """
    params = _abstract_params(cfg, task)

    def step(params: Params, batch: Data) -> Any:
        return jax.value_and_grad(task.loss)(params, batch), task.loss(params, batch)

    return _flops_of(jax.make_jaxpr(step)(params, _abstract_batch(task, batch_size)).jaxpr)


def _flops_of(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
            # Without what falls on the zeros that a stride puts between the rows, in the gradient by the inputs.
            between = math.prod(equation.params["lhs_dilation"])
            total += 2 * equation.outvars[0].aval.size * kernel.size // (features * between)
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        total += times * sum(map(_flops_of, jax.extend.core.jaxprs_in_params(equation.params)))
    return total


def _abstract_params(cfg: Config, task: Task) -> Params:
    return jax.eval_shape(lambda: draw_params(task.init, cfg, 0, next(iter(cfg.optimizers))))


def _abstract_batch(task: Task, batch_size: int) -> Data:
    """Of rows of the training data, in the dtypes that JAX gives them: float64 only where 64-bit types are on."""
    rows = jax.ShapeDtypeStruct((batch_size,), np.int32)
    return jax.eval_shape(lambda data, rows: jax.tree.map(lambda a: a[rows], data), task.train, rows)


def _abstract_inputs(cfg: Config, task: Task, group: Group) -> tuple[dict[str, jax.ShapeDtypeStruct], Params]:
    """Of the traced and initial parameters of a run."""
    traced = {name: jax.ShapeDtypeStruct((), a.dtype) for name, a in traced_arrays(group.traced[0]).items()}
    return traced, _abstract_params(cfg, task)


def _abstract_state(program: Program, traced: dict[str, jax.ShapeDtypeStruct], params: Params) -> TrainState:
    state: TrainState = jax.eval_shape(functools.partial(_initial_state, program), (traced, params), ())
    return state


def _chunk_inputs(
    cfg: Config, task: Task, group: Group, room: layout.Slots, chunk: int, data: Data
) -> tuple[Any, Any, Any]:
    """What the compiled `train_chunk` of a group takes, as shapes, dtypes and places."""
    traced, params = _abstract_inputs(cfg, task, group)
    state = _abstract_state(group.program, traced, params)
    rows = jax.ShapeDtypeStruct((chunk, group.batch_size), np.int32)
    number = layout.replicated_shape(jax.ShapeDtypeStruct((), np.int32), room.mesh)
    return room.counts(0), room.shape((traced, state, rows)), (number, data)


@functools.lru_cache(maxsize=32)
def _draw_function(
    length: int, num_examples: int, batch_size: int, sampling: Sampling, mesh: Mesh, kind: layout.Layout
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

    return layout.over_runs(draw, mesh, kind)


def _initial_state(program: Program, run: tuple[dict[str, Float[Array, ""]], Params], shared: tuple[()]) -> TrainState:
    traced, params = run
    return TrainState(params, registry.build(program.structure, traced).init(params))


@functools.lru_cache(maxsize=32)
def _init_function(program: Program, mesh: Mesh, kind: layout.Layout) -> Callable[..., Any]:
    return layout.over_runs(functools.partial(_initial_state, program), mesh, kind)


@functools.lru_cache(maxsize=32)
def _chunk_function(program: Program, mesh: Mesh, kind: layout.Layout) -> Callable[..., Any]:
    return layout.over_runs(functools.partial(train_chunk, program), mesh, kind)


@functools.lru_cache(maxsize=32)
def _evaluation_function(
    loss: Callable[..., Any], evaluate: Callable[..., Scalars] | None, mesh: Mesh, kind: layout.Layout
) -> Callable[..., Any]:
    complete = evaluate or functools.partial(_mean_losses, loss)
    return layout.over_runs(lambda params, data: complete(params, *data), mesh, kind)


def _mean_losses(loss: Callable[..., Any], params: Params, train: Data, test: Data | None) -> Scalars:
    """What is evaluated where the task does not say."""
    data = {"train_loss": train, **({} if test is None else {"test_loss": test})}
    return {name: mean_over_examples(lambda batch: loss(params, batch), examples) for name, examples in data.items()}


def evaluation_names(cfg: Config, task: Task) -> list[str]:
    """What the evaluation of a task gives."""
    evaluate = task.evaluate or functools.partial(_mean_losses, task.loss)
    with numerics(cfg.dtype):
        return list(jax.eval_shape(evaluate, _abstract_params(cfg, task), task.train, task.test))


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


def _signature(inputs: PyTree[Any]) -> tuple[Any, tuple[Any, ...]]:
    leaves, structure = jax.tree.flatten(inputs)
    return structure, tuple(jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding) for a in leaves)


def _weights_of(cfg: Config, run: Run) -> tuple[int, str]:
    """What the initial weights of a run depend on."""
    return run.seed, "" if cfg.shared_init else run.label


def _evaluation_params(state: TrainState) -> Params:
    averaged = [s for s in jax.tree.leaves(state.opt_state, is_leaf=_is_schedule_free) if _is_schedule_free(s)]
    if not averaged:
        return state.params
    evaluated = jax.device_get(optax.contrib.schedule_free_eval_params(averaged[0], state.params))
    return jax.tree.map(lambda new, old: np.asarray(new, old.dtype), evaluated, state.params)


def _is_schedule_free(node: Any) -> bool:
    return isinstance(node, optax.contrib.ScheduleFreeState)


@contextlib.contextmanager
def _blame(label: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"optimizers[{label!r}]: {error}") from error.__cause__
