"""Training: a step, a scan over steps, a host loop over compiled chunks, and `train(cfg)` around them."""

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Int32, PyTree, UInt32

from momentum_jax import layout
from momentum_jax.config import MAX_SEED, Config, OptimizerConfig, Sampling
from momentum_jax.data import load_dataset
from momentum_jax.errors import InputError, check_integer
from momentum_jax.optimizers import registry
from momentum_jax.progress import Progress, default_progress
from momentum_jax.provenance import provenance
from momentum_jax.results import Result
from momentum_jax.sampling import batch_key, draw_all_batches, draw_batches, draw_params, numerics
from momentum_jax.tasks import Data, Params, Scalars, Task, image_classification, mean_over_examples

Metric = Callable[[Params, PyTree[Array], PyTree[Array]], Any]
CHUNK = 100


class TrainState(NamedTuple):
    """What one iteration hands to the next."""

    params: Params
    opt_state: PyTree[Array]


class Record(NamedTuple):
    """What one iteration leaves behind: the loss on its batch before and after the update, and the metrics."""

    loss_before: Float[Array, ""]
    loss: Float[Array, ""]
    metrics: dict[str, Array]


class Run(NamedTuple):
    """One optimizer with one set of hyperparameters and one seed."""

    label: str
    seed: int
    floats: registry.Floats


class Program(NamedTuple):
    """What is compiled for a group of runs; in one process equal programs are compiled once."""

    loss: Callable[[Params, Data], Float[Array, ""]]
    structure: registry.Structure
    metrics: tuple[tuple[str, Metric], ...]
    sampling: Sampling
    batch_size: int
    num_examples: int
    dtype: str


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `train`; `result` holds the iterations that were finished, or is None if none were."""

    def __init__(self, result: Result | None):
        super().__init__("training was interrupted")
        self.result = result


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
    length: int,
    run: tuple[dict[str, Float[Array, ""]], UInt32[Array, ""], TrainState],
    shared: tuple[Int32[Array, ""], Data],
) -> tuple[TrainState, Record]:
    """The iterations start … start + length − 1 of one run: the state after them, and a record of each."""
    floats, seed, state = run
    start, data = shared
    train_step = make_train_step(
        program.loss, registry.build(program.structure, floats), dict(program.metrics)
    )
    batches = draw_batches(
        batch_key(seed),
        start,
        length,
        num_examples=program.num_examples,
        batch_size=program.batch_size,
        sampling=program.sampling,
    )
    return jax.lax.scan(
        lambda state, rows: train_step(state, jax.tree.map(lambda a: a[rows], data)), state, batches
    )


def train(
    cfg: Config,
    *,
    task: Task | None = None,
    metrics: Mapping[str, Metric] | None = None,
    devices: Sequence[jax.Device] | None = None,
    chunk: int = CHUNK,
    progress: Progress | None = None,
) -> Result:
    """Trains every optimizer of a config with every seed.

    A run draws its batches and initial weights from its seed alone. For one jaxlib and CPU instruction set it has the
    same bits alone or in company, on any number of devices and for any length of the chunks.

    Args:
      cfg: what to run.
      task: your own problem, in place of the config's dataset and network.
      metrics: by name, functions of (parameters and optimizer state after the update, the gradients it used) that
        give a number or an array to record at every iteration.
      devices: what to run on; by default all of the default backend. A CPU has one device until
        `jax.config.update("jax_num_cpu_devices", n)` is called before the first use of JAX.
      chunk: iterations between returns to Python, where progress is shown and Ctrl-C is honoured.
      progress: called with (phase, done, total); by default a line on standard error where that is a terminal.

    Raises:
      InputError: something in the config or the arguments cannot be used; nothing has been compiled then.
      Interrupted: a KeyboardInterrupt, with the result so far.

    >>> from momentum_jax import Config
    >>> result = train(Config(iterations=20, hidden_sizes=(10,)))
    >>> result.losses["momentum"].shape
    (1, 20)
    """
    check_integer("chunk", chunk, 1)
    devices = list(devices or layout.default_devices())
    progress = progress or default_progress()
    seconds: dict[str, float] = {}
    with numerics(cfg.dtype):
        with _timed(seconds, "loading"):
            check_optimizers(cfg)
            task = resolve_task(cfg, task)
            groups = group_runs(cfg, task, metrics or {}, devices)
            states = [initial_states(cfg, task, group) for group in groups]
        with _timed(seconds, "compiling"):
            ends = chunk_ends(cfg, chunk)
            chunks, evaluate = compile_programs(task, groups, states, ends, devices, progress)

        done, finished = 0, states
        records: list[list[Record]] = []
        evaluations: dict[int, dict[str, np.ndarray]] = {}
        with _timed(seconds, "training"), contextlib.suppress(KeyboardInterrupt):
            for end in ends:
                outputs = [
                    chunks[i, end - done](*group.inputs(done, state))
                    for i, (group, state) in enumerate(zip(groups, finished, strict=True))
                ]
                records.append([jax.device_get(record) for _, record in outputs])
                done, finished = end, [state for state, _ in outputs]
                if cfg.evaluate_every and done % cfg.evaluate_every == 0:
                    evaluations[done] = evaluate(params_of_runs(groups, finished))
                progress("training", done, cfg.iterations)
        if done == 0:
            raise Interrupted(None)
        with _timed(seconds, "evaluating"):
            params = params_of_runs(groups, finished)
            if done not in evaluations:
                evaluations[done] = evaluate(params)
        origin = provenance(devices, task.provenance) | {"seconds": seconds}
        result = assemble(cfg, task, groups, done, records, evaluations, params, origin)
    if done < cfg.iterations:
        raise Interrupted(result)
    return result


class Group(NamedTuple):
    """Runs that share a program, on their devices; arrays have a leading axis of runs, padded to the mesh."""

    program: Program
    runs: tuple[Run, ...]
    mesh: Mesh
    floats: dict[str, Float[Array, " slots"]]
    seeds: UInt32[Array, " slots"]
    data: Data

    def inputs(self, start: int, states: TrainState) -> tuple[PyTree[Array], PyTree[Array]]:
        """The arguments of the compiled `train_chunk` that goes on from `states`."""
        return (self.floats, self.seeds, states), (layout.replicate(np.int32(start), self.mesh), self.data)


def batch_indices(cfg: Config, seed: int, *, task: Task | None = None) -> Int32[np.ndarray, "iterations batch"]:
    """The examples that a run of this seed sees: rows of the task's training data, by iteration.

    Raises:
      InputError: the config does not fit its data.

    >>> batch_indices(Config(iterations=3, batch_size=4), seed=0).shape
    (3, 4)
    """
    check_integer("seed", seed, 0, MAX_SEED)
    return draw_all_batches(cfg, seed, resolve_task(cfg, task).num_examples)


def initial_params(cfg: Config, seed: int, label: str, *, task: Task | None = None) -> Params:
    """The parameters that the run of this seed and optimizer's label starts from.

    Raises:
      InputError: the config has no such label, or does not fit its data.

    >>> params = initial_params(Config(hidden_sizes=(5,)), seed=0, label="momentum")
    >>> jax.tree.map(jnp.shape, params)["params"]["Dense_0"]
    {'bias': (5,), 'kernel': (784, 5)}
    """
    check_integer("seed", seed, 0, MAX_SEED)
    return draw_params(resolve_task(cfg, task).init, cfg, seed, label)


def resolve_task(cfg: Config, task: Task | None) -> Task:
    """The given task, or the one the config describes, checked against the config."""
    task = task or image_classification(cfg, load_dataset(cfg.dataset))
    if cfg.sampling == "epochs" and cfg.batch_size > task.num_examples:
        raise InputError(
            f"batch_size must be at most the {task.num_examples} training examples with sampling='epochs', "
            f"not {cfg.batch_size}"
        )
    return task


def check_optimizers(cfg: Config) -> None:
    for label, optimizer in cfg.optimizers.items():
        with _blame(label):
            registry.check(optimizer)


def group_runs(
    cfg: Config, task: Task, metrics: Mapping[str, Metric], devices: Sequence[jax.Device]
) -> list[Group]:
    """Puts all runs of one structure into one group, and each group on its devices."""
    params = jax.eval_shape(lambda: draw_params(task.init, cfg, 0, next(iter(cfg.optimizers))))
    batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct((cfg.batch_size, *a.shape[1:]), a.dtype), task.train)
    if (shape := jax.eval_shape(task.loss, params, batch).shape) != ():
        raise InputError(f"the task's loss must give a scalar, not an array of shape {shape}")
    runs: dict[Program, list[Run]] = {}
    for label, optimizer in cfg.optimizers.items():
        with _blame(label):
            structure, floats = _structure(optimizer, task, params, batch, metrics)
        program = Program(
            loss=task.loss,
            structure=structure,
            metrics=tuple(metrics.items()),
            sampling=cfg.sampling,
            batch_size=cfg.batch_size,
            num_examples=task.num_examples,
            dtype=cfg.dtype,
        )
        runs.setdefault(program, []).extend(Run(label, seed, floats) for seed in cfg.seed_tuple)
    meshes = layout.meshes([len(group) for group in runs.values()], devices)
    data = {mesh: layout.replicate(task.train, mesh) for mesh in set(meshes)}
    return [
        Group(
            program=program,
            runs=tuple(group),
            mesh=mesh,
            floats=layout.stack([_float_arrays(run.floats) for run in group], mesh),
            seeds=layout.stack([np.uint32(run.seed) for run in group], mesh),
            data=data[mesh],
        )
        for (program, group), mesh in zip(runs.items(), meshes, strict=True)
    ]


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

        jax.eval_shape(one_step, _float_arrays(floats), params, batch)

    structure, floats = registry.split(optimizer)
    try:
        try:
            trace(structure, floats)
        except jax.errors.ConcretizationTypeError:
            structure, floats = registry.fixed(optimizer), {}
            trace(structure, floats)
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"cannot train with {optimizer}: {error}") from error
    return structure, floats


def _float_arrays(floats: registry.Floats) -> dict[str, np.ndarray]:
    dtype = np.float64 if jax.config.jax_enable_x64 else np.float32
    return {name: np.asarray(value, dtype) for name, value in floats.items()}


def initial_states(cfg: Config, task: Task, group: Group) -> TrainState:
    """The states that the runs of a group start from, laid over its devices."""
    states = []
    for run in group.runs:
        params = draw_params(task.init, cfg, run.seed, run.label)
        optimizer = registry.build(group.program.structure, _float_arrays(run.floats))
        states.append(TrainState(params, optimizer.init(params)))
    return layout.stack(states, group.mesh)


def chunk_ends(cfg: Config, chunk: int) -> list[int]:
    """After which iterations the host takes over: every chunk, every evaluation, and the end."""
    ends = {*range(chunk, cfg.iterations, chunk), cfg.iterations}
    if cfg.evaluate_every:
        ends.update(range(cfg.evaluate_every, cfg.iterations, cfg.evaluate_every))
    return sorted(ends)


Evaluate = Callable[[list[Params]], dict[str, np.ndarray]]


def compile_programs(
    task: Task,
    groups: Sequence[Group],
    states: Sequence[TrainState],
    ends: Sequence[int],
    devices: Sequence[jax.Device],
    progress: Progress,
) -> tuple[dict[tuple[int, int], jax.stages.Compiled], Evaluate]:
    """Compiles, a thread a core, each group's chunk of each length that occurs, and the evaluation.

    Returns:
      The chunks by (number of the group, length), and a function from the parameters of all runs to what the
      task's evaluation gives for each.
    """
    dtype = groups[0].program.dtype
    lengths = sorted({end - start for start, end in itertools.pairwise([0, *ends])})
    jobs: dict[tuple[int, int] | None, tuple[Callable[..., Any], Any]] = {}
    for (i, group), length in itertools.product(enumerate(groups), lengths):
        function = _chunk_function(group.program, length, group.mesh)
        jobs[i, length] = (function, group.inputs(0, states[i]))

    mesh = layout.one_mesh(devices)
    shared = layout.replicate((task.train, task.test), mesh)

    def place(params: Sequence[Params]) -> tuple[Any, Any]:
        return layout.stack(params, mesh), shared

    some_params = params_of_runs(groups, states)
    jobs[None] = (_evaluation_function(task.loss, task.evaluate, mesh), place(some_params))

    with ThreadPoolExecutor(layout.cores()) as pool:
        futures = {
            key: pool.submit(_compile, function, dtype, _signature(inputs))
            for key, (function, inputs) in jobs.items()
        }
        for finished, _ in enumerate(as_completed(futures.values()), start=1):
            progress("compiling", finished, len(futures))
    compiled = {key: future.result() for key, future in futures.items()}
    evaluation = compiled.pop(None)

    def evaluate(params: list[Params]) -> dict[str, np.ndarray]:
        values = jax.device_get(evaluation(*place(params)))
        return {name: value[: len(params)] for name, value in values.items()}

    return compiled, evaluate


@functools.lru_cache(maxsize=256)
def _chunk_function(program: Program, length: int, mesh: Mesh) -> Any:
    return layout.over_runs(functools.partial(train_chunk, program, length), mesh)


@functools.lru_cache(maxsize=64)
def _evaluation_function(
    loss: Callable[..., Any], evaluate: Callable[..., Scalars] | None, mesh: Mesh
) -> Any:
    def mean_losses(params: Params, train: Data, test: Data | None) -> Scalars:
        data = {"train_loss": train, **({} if test is None else {"test_loss": test})}
        return {
            name: mean_over_examples(lambda batch: loss(params, batch), examples)
            for name, examples in data.items()
        }

    return layout.over_runs(lambda params, data: (evaluate or mean_losses)(params, *data), mesh)


@functools.lru_cache(maxsize=256)
def _compile(function: Any, dtype: str, signature: tuple[Any, tuple[Any, ...]]) -> jax.stages.Compiled:
    structure, leaves = signature
    # Settings made by context managers belong to one thread.
    with numerics(dtype):
        return function.lower(*structure.unflatten(leaves)).compile()


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
                evaluated = optax.contrib.schedule_free_eval_params(averaged[0], state.params)
                state = state._replace(params=jax.device_get(evaluated))
            params.append(state.params)
    return params


def _is_schedule_free(node: Any) -> bool:
    return isinstance(node, optax.contrib.ScheduleFreeState)


def assemble(
    cfg: Config,
    task: Task,
    groups: Sequence[Group],
    done: int,
    records: Sequence[Sequence[Record]],
    evaluations: Mapping[int, Mapping[str, np.ndarray]],
    params: Sequence[Params],
    origin: dict[str, Any],
) -> Result:
    """Sorts what the groups recorded by label; arrays get a leading axis of seeds."""
    rows: dict[str, list[int]] = {label: [] for label in cfg.optimizers}
    histories: list[Record] = []
    for i, group in enumerate(groups):
        parts = [chunk_records[i] for chunk_records in records]
        whole = jax.tree.map(lambda *chunks: np.concatenate(chunks, axis=1)[:, :done], *parts)
        for slot, run in enumerate(group.runs):
            rows[run.label].append(len(histories))
            histories.append(jax.tree.map(lambda a, slot=slot: a[slot], whole))
    by_label = {
        label: jax.tree.map(lambda *runs: np.stack(runs), *[histories[row] for row in own])
        for label, own in rows.items()
    }
    iterations = sorted(evaluations)
    evaluated = {
        name: {
            label: np.stack([evaluations[iteration][name][own] for iteration in iterations], axis=1)
            for label, own in rows.items()
        }
        for name in evaluations[done]
    }
    diverged_at = {
        label: _first_true(~(np.isfinite(record.loss) & np.isfinite(record.loss_before)))
        for label, record in by_label.items()
    }
    failed = {}
    for label, at in diverged_at.items():
        failed[label] = at >= 0
        if "train_loss" in evaluated:
            limit = np.inf if task.baseline_loss is None else task.baseline_loss
            failed[label] |= ~(evaluated["train_loss"][label][:, -1] < limit)
    return Result(
        config=cfg,
        iterations=np.arange(done),
        losses={label: record.loss for label, record in by_label.items()},
        losses_before={label: record.loss_before for label, record in by_label.items()},
        metrics={
            name: {label: record.metrics[name] for label, record in by_label.items()}
            for name in next(iter(by_label.values())).metrics
        },
        evaluation_iterations=np.asarray(iterations),
        evaluations=evaluated,
        failed=failed,
        diverged_at=diverged_at,
        params={
            label: jax.tree.map(lambda *leaves: np.stack(leaves), *[params[row] for row in own])
            for label, own in rows.items()
        },
        provenance=origin,
    )


def _first_true(rows: Bool[np.ndarray, "runs iterations"]) -> Int[np.ndarray, " runs"]:
    """The first true column of each row; −1 where there is none."""
    return np.where(rows.any(axis=1), rows.argmax(axis=1), -1)


@contextlib.contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] = time.perf_counter() - began


@contextlib.contextmanager
def _blame(label: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"optimizers[{label!r}]: {error}") from error.__cause__
