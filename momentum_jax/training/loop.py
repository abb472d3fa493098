"""`train(cfg)`: a host loop over compiled chunks of iterations, and what it leaves behind."""

import contextlib
import math
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import jax

from momentum_jax._base.errors import InputError, check_integer, check_real
from momentum_jax._base.interrupts import uninterrupted
from momentum_jax._base.machine import environment, provenance
from momentum_jax._base.progress import Progress, reporting_to
from momentum_jax.config import Config
from momentum_jax.results.fingerprint import data_digest, function_names, identity
from momentum_jax.results.record import Run
from momentum_jax.results.result import Result, from_stacked
from momentum_jax.results.stacked import StackedRecords
from momentum_jax.space import Trial
from momentum_jax.tasks import Metric, Task
from momentum_jax.training.checkpoint import Checkpoint, locked
from momentum_jax.training.compile import compile_runs
from momentum_jax.training.devices import resolve_devices, resolve_layout
from momentum_jax.training.groups import check_histories, group_runs, task_digests
from momentum_jax.training.program import Program
from momentum_jax.training.recorded import Callback, HandOut
from momentum_jax.training.sampling import numerics
from momentum_jax.training.state import (
    State,
    advance,
    evaluate,
    evaluate_when_due,
    initial_state,
    make_records,
    proportion_done,
    restore,
    snapshot,
)
from momentum_jax.training.validate import (
    abstract_variables,
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
    callback: Callback | None = None,
    progress: Progress | Literal[False] | None = None,
) -> Result:
    """Trains every optimizer of a config with every seed.

    A run draws its batches and initial weights from its seed alone; without `shared_init`, the weights from its label
    too. For one jaxlib and CPU instruction set it has the same bits alone or in company, on any number of devices and
    for any length of the chunks. An exception: on one device the derivative of `jax.nn.softmax` may have another last
    bit than on several; that of `exp(jax.nn.log_softmax(x))` has not.

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
      callback: called between chunks, once for each run that has recorded something, with the `Recorded` since its last
        call, and once more with the last evaluation. It is never given an iteration twice: a training that goes on from
        a checkpoint hands out what comes after it. Only after a kill it repeats what no checkpoint has seen. An error
        of the callback ends the training as Ctrl-C does: the checkpoint is written, and the error is raised.
      progress: called with (phase, done, total); False for none. By default a bar in a notebook or on a terminal, after
        two seconds, and elsewhere a line on standard error every ten seconds.

    Raises:
      InputError: something in the config or the arguments cannot be used; nothing has been compiled then. Or the
        checkpoint is damaged, of another training, in use by one, or cannot be written. Or data on the host can no
        longer be read; the checkpoint has what was trained.
      Interrupted: a KeyboardInterrupt, with the result so far.

    >>> import momentum_jax as mj
    >>> sgd = mj.OptimizerConfig("sgd", learning_rate=0.01)
    >>> result = train(Config(iterations=20, hidden_sizes=(10,), seeds=2, optimizers={"sgd": sgd}))
    >>> result.losses["sgd"].shape
    (2, 20)
    """
    check_types(cfg, task, metrics, progress, callback, checkpoint=checkpoint)
    check_names(cfg.optimizers)
    check_integer("chunk", chunk, 1)
    check_real("checkpoint_seconds", checkpoint_seconds, 0, math.inf)
    devices, metrics = resolve_devices(devices), metrics or {}
    resolved = resolve_layout(layout, devices)
    seconds = dict.fromkeys(("loading", "compiling", "training", "evaluating"), 0.0)
    with interruptible(), numerics(cfg.dtype), locked(checkpoint), reporting_to(progress) as report:
        with timed(seconds, "loading"):
            check_optimizers(cfg.optimizers.items())
            task = resolve_task(cfg, task)
            # Before anything is trained: data on the host that cannot be read would end the training at its end.
            digest = data_digest(task)
        with timed(seconds, "compiling"):
            runs = _runs(cfg)
            groups = group_runs(cfg, task, metrics, runs, cfg.loss_after is not False)
            check_histories(cfg, len(runs), cfg.loss_after is not False)
            computed = task_digests(cfg, task, cfg.batch_size)
            saved, before = None, None
            if checkpoint is not None:
                variables = abstract_variables(cfg, task)
                about = identity(cfg, task, variables, metrics, computed, environment(devices[0], resolved))
                about["programs"] = [group.program_digest(cfg, task) for group in groups]
                saved = Checkpoint(pathlib.Path(checkpoint), about, checkpoint_seconds)
                before = saved.read()
            program = compile_runs(cfg, task, groups, devices, resolved, chunk, report)
            state = restore(program, initial_state(program, runs), before)
        hand_out = None if callback is None else HandOut(callback, program, state)

        def report_training(state: State) -> None:
            report("training", state.step, cfg.iterations, whole=proportion_done(program, state))

        def report_evaluation(state: State, done: int, runs: int) -> None:
            report("evaluating", done, runs, whole=proportion_done(program, state, done / runs))

        state, _ = train_runs(program, state, chunk, report_training, saved, seconds, hand_out)
        if state.step == 0:
            raise Interrupted(None, 0)
        if saved is not None and state.step < cfg.iterations:
            saved.write(snapshot(program, state))
        stopped = True
        with contextlib.suppress(KeyboardInterrupt):
            try:
                with timed(seconds, "evaluating"):
                    state = evaluate(program, state, report_evaluation)
            finally:
                if state.step == cfg.iterations:
                    _hand_out(hand_out, program, state, saved)
            stopped = state.step < cfg.iterations
        if saved is not None and stopped and state.step == cfg.iterations:
            saved.write(snapshot(program, state))
        origin = provenance(devices, task.provenance | {"digest": digest})
        origin |= {"functions": function_names(task), "computed": computed, "layout": resolved, "seconds": seconds}
        result = _make_result(program, state, origin)
    if stopped:
        raise Interrupted(result, state.step)
    return result


@runtime_checkable
class Keeper(Protocol):
    """Where the state of a training is kept along the way."""

    def is_due(self) -> bool:
        """Whether it is time to write."""

    def write(self, state: dict[str, Any]) -> None:
        """Writes a snapshot."""


def train_runs(
    program: Program,
    state: State,
    chunk: int,
    report: Callable[[State], None],
    keeper: Keeper | None = None,
    seconds: dict[str, float] | None = None,
    hand_out: HandOut | None = None,
) -> tuple[State, bool]:
    """Trains chunk by chunk to the last iteration, or to a Ctrl-C, and evaluates along the way.

    Args:
      program: of the runs.
      state: theirs, which is used up.
      chunk: iterations between returns to Python.
      report: called with the state at the beginning and after each chunk.
      keeper: where the state is written when that is due.
      seconds: those of "training" and "evaluating", to which this adds.
      hand_out: hands what is recorded to the caller's callback. An error of that is raised when the state is written.

    Returns:
      The state after the last chunk, and whether there was a Ctrl-C.
    """
    seconds = {} if seconds is None else seconds
    try:
        # A Ctrl-C may have cut this evaluation short before.
        with timed(seconds, "evaluating"):
            state = evaluate_when_due(program, state)
        if state.step < program.cfg.iterations:
            report(state)
        while state.step < program.cfg.iterations:
            try:
                with timed(seconds, "training"), uninterrupted():
                    state = advance(program, state, chunk)
            except InputError:
                # Data on the host cannot be read, and nothing of this chunk has been trained.
                if keeper is not None:
                    keeper.write(snapshot(program, state))
                raise
            report(state)
            with timed(seconds, "evaluating"):
                state = evaluate_when_due(program, state)
            _hand_out(hand_out, program, state, keeper)
            if keeper is not None and keeper.is_due():
                keeper.write(snapshot(program, state))
    except KeyboardInterrupt:
        # A chunk may have been trained and not handed out.
        with contextlib.suppress(KeyboardInterrupt):
            _hand_out(hand_out, program, state, keeper)
        return state, True
    return state, False


def _hand_out(hand_out: HandOut | None, program: Program, state: State, keeper: Keeper | None) -> None:
    """Hands out what is new; an error of the callback loses nothing of what is trained."""
    if hand_out is None:
        return
    try:
        hand_out(state)
    except Exception:
        if keeper is not None:
            keeper.write(snapshot(program, state))
        raise


@contextlib.contextmanager
def timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Adds the seconds that a block takes to those of its phase."""
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - began


def _runs(cfg: Config) -> list[Run]:
    """Every optimizer of a config with every seed."""
    trials = {label: Trial(optimizer, cfg.batch_size) for label, optimizer in cfg.optimizers.items()}
    return [Run(label, 0, trial, seed) for label, trial in trials.items() for seed in cfg.seed_tuple]


def _make_result(program: Program, state: State, origin: dict[str, Any]) -> Result:
    cfg, recorded = program.cfg, program.recorded
    stacked = StackedRecords(dict.fromkeys(cfg.optimizers, 1), cfg.seed_tuple)
    stacked.add(make_records(program, state))
    return from_stacked(cfg, stacked, recorded[recorded < state.step], sorted(state.evaluations), origin)
