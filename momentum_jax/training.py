"""`train(cfg)`: a host loop over compiled chunks of iterations, and what it leaves behind."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int, Int32

from momentum_jax import layout
from momentum_jax.config import MAX_SEED, Config
from momentum_jax.data import load_dataset
from momentum_jax.errors import InputError, check_integer
from momentum_jax.programs import (
    Group,
    check_optimizers,
    compile_programs,
    group_runs,
    initial_states,
    params_of_runs,
)
from momentum_jax.progress import Progress, default_progress
from momentum_jax.provenance import provenance
from momentum_jax.results import Result
from momentum_jax.sampling import draw_all_batches, draw_params, numerics
from momentum_jax.tasks import Params, Task, image_classification
from momentum_jax.train_step import Metric, Record

CHUNK = 100


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `train`; `result` holds the iterations that were finished, or is None if none were."""

    def __init__(self, result: Result | None):
        super().__init__("training was interrupted")
        self.result = result


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
        with _timed(seconds, "compiling"):
            groups = group_runs(cfg, task, metrics or {}, devices)
            states = [initial_states(cfg, task, group) for group in groups]
            ends = chunk_ends(cfg, chunk)
            programs = compile_programs(cfg, task, groups, states, min(chunk, cfg.iterations), devices, progress)

        done, finished = 0, states
        records: list[list[Record]] = []
        evaluations: dict[int, dict[str, np.ndarray]] = {}
        with contextlib.suppress(KeyboardInterrupt):
            for end in ends:
                with _timed(seconds, "training"):
                    batches = programs.draw(done)
                    outputs = [
                        compiled(*group.inputs(state, batches, end - done))
                        for compiled, group, state in zip(programs.chunks, groups, finished, strict=True)
                    ]
                    records.append([_first(jax.device_get(record), end - done) for _, record in outputs])
                    done, finished = end, [state for state, _ in outputs]
                if cfg.evaluate_every and done % cfg.evaluate_every == 0:
                    with _timed(seconds, "evaluating"):
                        evaluations[done] = programs.evaluate(params_of_runs(groups, finished))
                progress("training", done, cfg.iterations)
        if done == 0:
            raise Interrupted(None)
        params = params_of_runs(groups, finished)
        with _timed(seconds, "evaluating"), contextlib.suppress(KeyboardInterrupt):
            if done not in evaluations:
                evaluations[done] = programs.evaluate(params)
        origin = provenance(devices, task.provenance) | {"seconds": seconds}
        result = assemble(cfg, task, groups, done, records, evaluations, params, origin)
    if done < cfg.iterations or done not in evaluations:
        raise Interrupted(result)
    return result


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
    >>> params["params"]["Dense_0"]["kernel"].shape
    (784, 5)
    """
    check_integer("seed", seed, 0, MAX_SEED)
    return draw_params(resolve_task(cfg, task).init, cfg, seed, label)


def resolve_task(cfg: Config, task: Task | None) -> Task:
    """The given task, or the one the config describes, checked against the config."""
    task = task or image_classification(cfg, load_dataset(cfg.dataset))
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


def chunk_ends(cfg: Config, chunk: int) -> list[int]:
    """After which iterations the host takes over: every chunk, every evaluation, and the end."""
    ends = {*range(chunk, cfg.iterations, chunk), cfg.iterations}
    if cfg.evaluate_every:
        ends.update(range(cfg.evaluate_every, cfg.iterations, cfg.evaluate_every))
    return sorted(ends)


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
    # None at all after Ctrl-C in the last evaluation.
    iterations = sorted(evaluations)
    evaluated = {
        name: {
            label: np.stack([evaluations[iteration][name][own] for iteration in iterations], axis=1)
            for label, own in rows.items()
        }
        for name in (evaluations[iterations[0]] if iterations else ())
    }
    diverged_at = {
        label: _first_true(~(np.isfinite(record.loss) & np.isfinite(record.loss_before)))
        for label, record in by_label.items()
    }
    failed = {}
    for label, at in diverged_at.items():
        failed[label] = at >= 0
        if "train_loss" in evaluated and done in evaluations:
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


def _first(record: Record, length: int) -> Record:
    """The iterations of a chunk that were run; axes are [runs, iterations, …]."""
    return Record(*jax.tree.map(lambda a: a[:, :length], tuple(record)))


def _first_true(rows: Bool[np.ndarray, "runs iterations"]) -> Int[np.ndarray, " runs"]:
    """The first true column of each row; −1 where there is none."""
    return np.where(rows.any(axis=1), rows.argmax(axis=1), -1)


@contextlib.contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Adds the seconds that a block takes to those of its phase."""
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - began
