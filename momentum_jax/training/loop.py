"""`train(cfg)`: a host loop over compiled chunks of iterations, and what it leaves behind."""

import contextlib
import functools
import math
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Int32

from momentum_jax._base.errors import InputError, check_choice, check_integer, check_real
from momentum_jax._base.machine import environment, provenance
from momentum_jax._base.progress import Progress, default_progress, no_progress
from momentum_jax._base.trees import form_of
from momentum_jax.config import MAX_SEED, Config
from momentum_jax.results.fingerprint import data_digest, function_names, identity
from momentum_jax.results.record import Record, Run
from momentum_jax.results.result import Result, from_records
from momentum_jax.space import Trial
from momentum_jax.tasks import Metric, Params, Task
from momentum_jax.training.checkpoint import Checkpoint, locked
from momentum_jax.training.compile import Program, States, compile_runs
from momentum_jax.training.devices import resolve_devices, resolve_layout
from momentum_jax.training.groups import group_runs, task_digests
from momentum_jax.training.sampling import batch_key, draw_batches, draw_params, init_key, numerics
from momentum_jax.training.step import History
from momentum_jax.training.validate import (
    abstract_params,
    check_names,
    check_optimizers,
    check_types,
    resolve_task,
)

CHUNK = 100


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `train` or `sweep`.

    Attributes:
      result: what was finished, or None if nothing was.
      done: how many iterations, or runs of a sweep, that is.
    """

    def __init__(self, result: Result | None, done: int):
        super().__init__("training was interrupted")
        self.result = result
        self.done = done


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """A Ctrl-C before anything is finished is `Interrupted` too."""
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt:
        raise Interrupted(None, 0) from None


def train(
    cfg: Config,
    *,
    task: Task | None = None,
    metrics: Mapping[str, Metric] | None = None,
    devices: Sequence[jax.Device] | None = None,
    chunk: int = CHUNK,
    layout: str = "auto",
    checkpoint: str | pathlib.Path | None = None,
    checkpoint_seconds: float = 30.0,
    progress: Progress | None = None,
) -> Result:
    """Trains every optimizer of a config with every seed.

    A run draws its batches and initial weights from its seed alone; without `shared_init`, the weights from its label
    too. For one jaxlib and CPU instruction set it has the same bits alone or in company, on any number of devices and
    for any length of the chunks.

    Args:
      cfg: what to run.
      task: your own problem, in place of the config's dataset and network.
      metrics: by name, functions of (parameters and optimizer state after the update, the gradients it used) that
        give a number or an array to record at every iteration.
      devices: what to run on; by default all of the default backend. A CPU has one device until
        `jax.config.update("jax_num_cpu_devices", n)` is called before the first use of JAX.
      chunk: iterations between returns to Python, where progress is shown and Ctrl-C is honoured.
      layout: how a device goes through its runs: "map", one after the other, or "vmap", all at once, where the bits
        depend on how many there are; "auto" is "map" on CPUs and "vmap" on accelerators.
      checkpoint: a file that keeps the state of the training, written between chunks and at an interrupt. The same
        call goes on from there, to the same bits. When all is done the file is left for you to remove.
      checkpoint_seconds: least time between two writings.
      progress: called with (phase, done, total); by default a line on standard error where that is a terminal.

    Raises:
      InputError: something in the config or the arguments cannot be used; nothing has been compiled then. Or the
        checkpoint is damaged, of another training, in use by one, or cannot be written.
      Interrupted: a KeyboardInterrupt, with the result so far.

    >>> import momentum_jax as mj
    >>> sgd = mj.OptimizerConfig("sgd", learning_rate=0.01)
    >>> result = train(Config(iterations=20, hidden_sizes=(10,), seeds=2, optimizers={"sgd": sgd}))
    >>> result.losses["sgd"].shape
    (2, 20)
    """
    check_types(cfg, task, metrics, progress, checkpoint=checkpoint)
    check_names(cfg.optimizers)
    check_integer("chunk", chunk, 1)
    check_real("checkpoint_seconds", checkpoint_seconds, 0, math.inf)
    devices, metrics, progress = resolve_devices(devices), metrics or {}, progress or default_progress()
    resolved = resolve_layout(layout, devices)
    seconds = dict.fromkeys(("loading", "compiling", "training", "evaluating"), 0.0)
    with interruptible(), numerics(cfg.dtype), locked(checkpoint):
        with timed(seconds, "loading"):
            check_optimizers(cfg.optimizers.items())
            task = resolve_task(cfg, task)
        with timed(seconds, "compiling"):
            runs = _runs(cfg)
            groups = group_runs(cfg, task, metrics, runs)
            computed = task_digests(cfg, task, cfg.batch_size)
            saved, before = None, None
            if checkpoint is not None:
                params = abstract_params(cfg, task)
                about = identity(cfg, task, params, metrics, computed, environment(devices[0], resolved))
                about["programs"] = [group.program_digest(cfg, task) for group in groups]
                saved = Checkpoint(pathlib.Path(checkpoint), about, checkpoint_seconds)
                before = saved.read()
            program = compile_runs(cfg, task, groups, devices, resolved, chunk, progress)
            state = restore(program, initial_state(program, runs), before)
        with contextlib.suppress(KeyboardInterrupt):
            # A Ctrl-C may have cut this evaluation short before.
            with timed(seconds, "evaluating"):
                state = evaluate_when_due(program, state)
            while state.step < cfg.iterations:
                with timed(seconds, "training"):
                    state = advance(program, state, chunk)
                progress("training", state.step, cfg.iterations)
                if saved is not None and saved.is_due():
                    saved.write(snapshot(program, state))
                with timed(seconds, "evaluating"):
                    state = evaluate_when_due(program, state)
        if state.step == 0:
            raise Interrupted(None, 0)
        if saved is not None and state.step < cfg.iterations:
            saved.write(snapshot(program, state))
        with contextlib.suppress(KeyboardInterrupt), timed(seconds, "evaluating"):
            state = evaluate(program, state, progress)
        evaluated = state.step in state.evaluations
        if saved is not None and not evaluated:
            saved.write(snapshot(program, state))
        origin = provenance(devices, task.provenance | {"digest": data_digest(task)})
        origin |= {"functions": function_names(task), "computed": computed, "layout": resolved, "seconds": seconds}
        result = _make_result(program, state, origin)
    if state.step < cfg.iterations or not evaluated:
        raise Interrupted(result, state.step)
    return result


class State(NamedTuple):
    """The whole state of a training: a pytree.

    Attributes:
      step: iterations done.
      groups: what each run hands to its next iteration, on the devices.
      histories: for each group [runs, recorded, …], on the host. They are filled in place; what lies beyond `step`
        is not looked at.
      diverged_at: for each group [runs], the first iteration whose loss is not finite, or the number of all.
      evaluations: by iterations done and name, [runs].
    """

    step: int
    groups: States
    histories: list[History]
    diverged_at: list[Int[np.ndarray, " runs"]]
    evaluations: dict[int, dict[str, np.ndarray]]


def initial_state(program: Program, runs: Sequence[Run]) -> State:
    """The state that a training of some runs starts from."""
    states, recorded = program.init(runs), len(program.recorded)
    histories, diverged_at = [], []
    for state in states:
        shape = (len(state.positions), recorded)
        one = program.histories[state.group]
        histories.append(jax.tree.map(lambda a, shape=shape: np.zeros((*shape, *a.shape), a.dtype), one))
        diverged_at.append(np.full(len(state.positions), program.cfg.iterations))
    return State(0, states, histories, diverged_at, {})


def advance(program: Program, state: State, chunk: int) -> State:
    """Trains for a chunk of iterations, or to the next evaluation or the end, and records."""
    step, last = state.step, program.cfg.iterations
    every = program.cfg.evaluate_every or last
    stop = min(step - step % chunk + chunk, step - step % every + every, last)
    groups, histories = program.step(state.groups, step, stop)
    first, end = np.searchsorted(program.recorded, [step, stop])
    diverged_at = []
    for whole, part, so_far in zip(state.histories, histories, state.diverged_at, strict=True):
        for kept, new in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
            kept[:, first:end] = new[:, program.recorded[first:end] - step]
        bad = ~(np.isfinite(part.loss) & np.isfinite(part.loss_before))
        at = np.where(bad.any(axis=1), step + bad.argmax(axis=1), last)
        diverged_at.append(np.minimum(so_far, at))
    return state._replace(step=stop, groups=groups, diverged_at=diverged_at)


def evaluate_when_due(program: Program, state: State) -> State:
    """Evaluates along the way, where the config says so."""
    every = program.cfg.evaluate_every
    due = every is not None and 0 < state.step < program.cfg.iterations and state.step % every == 0
    return evaluate(program, state) if due else state


def evaluate(program: Program, state: State, progress: Progress = no_progress) -> State:
    """Evaluates the runs as they are, unless that has been done."""
    if state.step in state.evaluations:
        return state
    values = program.evaluate(program.params(state.groups), progress)
    return state._replace(evaluations=state.evaluations | {state.step: values})


def snapshot(program: Program, state: State) -> dict[str, Any]:
    """A state as dicts, lists and arrays, for a checkpoint."""
    recorded = int(np.searchsorted(program.recorded, state.step))
    return {
        "step": np.int64(state.step),
        "runs": [jax.tree.leaves(of_group) for of_group in program.fetch(state.groups)],
        "histories": [[a[:, :recorded] for a in jax.tree.leaves(history)] for history in state.histories],
        "diverged_at": state.diverged_at,
        "evaluations": {str(step): values for step, values in state.evaluations.items()},
    }


def restore(program: Program, state: State, saved: dict[str, Any] | None) -> State:
    """The state that a snapshot was made of, by a program of the same runs; without a snapshot the state given.

    Raises:
      InputError: the snapshot is not of these runs.
    """
    if saved is None:
        return state
    _check_snapshot(program, state, saved)
    for history, of_group in zip(state.histories, saved["histories"], strict=True):
        for whole, part in zip(jax.tree.leaves(history), of_group, strict=True):
            whole[:, : part.shape[1]] = part
    fetched = [
        jax.tree.unflatten(jax.tree.structure(there.train_states), leaves)
        for there, leaves in zip(state.groups, saved["runs"], strict=True)
    ]
    return State(
        step=int(saved["step"]),
        groups=program.put(state.groups, fetched),
        histories=state.histories,
        diverged_at=list(saved["diverged_at"]),
        evaluations={int(step): values for step, values in saved["evaluations"].items()},
    )


def _check_snapshot(program: Program, state: State, saved: Mapping[str, Any]) -> None:
    try:
        step, evaluations = int(saved["step"]), saved["evaluations"]
        runs = sum(len(there.positions) for there in state.groups)
        expected = snapshot(program, state._replace(step=step))
        fits = 0 <= step <= program.cfg.iterations and form_of({**saved, "evaluations": {}}) == form_of(expected)
        names = {tuple(values) for values in evaluations.values()}
        fits &= len(names) <= 1 and all(0 < int(at) <= step for at in evaluations)
        fits &= all(a.shape == (runs,) for values in evaluations.values() for a in values.values())
    except (LookupError, TypeError, ValueError, AttributeError):
        fits = False
    if not fits:
        raise InputError("the checkpoint does not hold the state of these runs; move it away to begin anew")


def make_records(program: Program, state: State) -> dict[Run, Record]:
    """What each run has left behind so far."""
    limit = np.inf if program.task.baseline_loss is None else program.task.baseline_loss
    steps = sorted(state.evaluations)
    recorded = int(np.searchsorted(program.recorded, state.step))
    runs, params = program.runs_of(state.groups), program.params(state.groups)
    histories = [
        (jax.tree.map(lambda a, i=i: a[i, :recorded], history), int(at))
        for history, diverged_at in zip(state.histories, state.diverged_at, strict=True)
        for i, at in enumerate(diverged_at)
    ]
    records = {}
    for number, (run, (history, at)) in enumerate(zip(runs, histories, strict=True)):
        evaluations = {
            name: np.stack([state.evaluations[step][name][number] for step in steps])
            for name in (state.evaluations[steps[0]] if steps else ())
        }
        diverged = failed = at < state.step
        if steps[-1:] == [state.step] and "train_loss" in evaluations:
            failed |= not evaluations["train_loss"][-1] < limit
        records[run] = Record(
            losses=history.loss,
            losses_before=history.loss_before,
            metrics=history.metrics,
            diverged_at=at if diverged else -1,
            evaluations=evaluations,
            failed=bool(failed),
            params=params[number],
        )
    return records


def batch_indices(cfg: Config, seed: int, *, task: Task | None = None) -> Int32[np.ndarray, "iterations batch"]:
    """The examples that a run of this seed sees: rows of the task's training data, by iteration.

    Without a task they are rows of `load_dataset(cfg.dataset).x_train`, whose order is the canonical one, not that of
    the files. `file_rows` of the dataset gives the rows in the files:

    >>> import momentum_jax as mj
    >>> cfg = Config(iterations=3, batch_size=4)
    >>> rows = batch_indices(cfg, seed=0)
    >>> rows.shape
    (3, 4)
    >>> mj.load_dataset("mnist").file_rows[rows[0]]  # in train-images-idx3-ubyte
    array([...])

    Raises:
      InputError: the config does not fit its data.
    """
    check_types(cfg, task)
    check_integer("seed", seed, 0, MAX_SEED)
    num_examples = resolve_task(cfg, task).num_examples
    with numerics(cfg.dtype):
        draw = jax.jit(
            functools.partial(
                draw_batches,
                length=cfg.iterations,
                num_examples=num_examples,
                batch_size=cfg.batch_size,
                sampling=cfg.sampling,
            )
        )
        return np.asarray(draw(batch_key(seed), jnp.int32(0)))


def initial_params(cfg: Config, seed: int, label: str, *, task: Task | None = None) -> Params:
    """The parameters that the run of this seed and optimizer's label starts from.

    Raises:
      InputError: the config has no such label, or does not fit its data.

    >>> params = initial_params(Config(hidden_sizes=(5,)), seed=0, label="momentum")
    >>> params["params"]["Dense_0"]["kernel"].shape
    (784, 5)
    """
    check_types(cfg, task)
    check_integer("seed", seed, 0, MAX_SEED)
    task = resolve_task(cfg, task)
    check_choice("optimizer's label", label, cfg.optimizers)
    return draw_params(task.init, init_key(seed, None if cfg.shared_init else label), cfg.dtype)


@contextlib.contextmanager
def timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Adds the seconds that a block takes to those of its phase."""
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] += time.perf_counter() - began


def _runs(cfg: Config) -> list[Run]:
    """Every optimizer of a config with every seed."""
    trials = {label: Trial(optimizer, cfg.batch_size) for label, optimizer in cfg.optimizers.items()}
    return [Run(label, 0, trial, seed) for label, trial in trials.items() for seed in cfg.seed_tuple]


def _make_result(program: Program, state: State, origin: dict[str, Any]) -> Result:
    cfg, records = program.cfg, make_records(program, state)
    by_label = {label: [[records[run] for run in _runs(cfg) if run.label == label]] for label in cfg.optimizers}
    recorded = program.recorded
    return from_records(cfg, by_label, recorded[recorded < state.step], sorted(state.evaluations), origin)
