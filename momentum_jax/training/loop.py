"""`train(cfg)`: a host loop over compiled chunks of iterations, and what it leaves behind."""

import contextlib
import math
import pathlib
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Int32

from momentum_jax._base.errors import check_integer, check_real
from momentum_jax._base.machine import environment, provenance
from momentum_jax._base.progress import Progress, default_progress
from momentum_jax.config import MAX_SEED, Config
from momentum_jax.results.fingerprint import data_digest, function_names, identity
from momentum_jax.results.record import Run
from momentum_jax.results.result import Result, from_records
from momentum_jax.space import Trial
from momentum_jax.tasks import Metric, Params, Task
from momentum_jax.training.checkpoint import Checkpoint
from momentum_jax.training.compile import Lane, check_optimizers, compile_programs, group_runs
from momentum_jax.training.devices import default_devices, meshes, resolve_layout, slots_for
from momentum_jax.training.sampling import draw_all_batches, draw_params, numerics
from momentum_jax.training.waves import CHUNK, Training, chunk_ends, resolve_task, timed


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
      layout: how a device goes through its runs: "map", one after the other, or "vmap", all at once, where the bits
        depend on how many there are; "auto" is "map" on CPUs and "vmap" on accelerators.
      checkpoint: a file to keep the training's place in, written between chunks and at an interrupt. The same call
        goes on from there, to the same bits. It is left when all is done, for you to remove.
      checkpoint_seconds: least time between two writings.
      progress: called with (phase, done, total); by default a line on standard error where that is a terminal.

    Raises:
      InputError: something in the config or the arguments cannot be used; nothing has been compiled then. Or the
        checkpoint is damaged, of another training, or cannot be written.
      Interrupted: a KeyboardInterrupt, with the result so far.

    >>> from momentum_jax import Config
    >>> result = train(Config(iterations=20, hidden_sizes=(10,)))
    >>> result.losses["momentum"].shape
    (1, 20)
    """
    check_integer("chunk", chunk, 1)
    check_real("checkpoint_seconds", checkpoint_seconds, 0, math.inf)
    devices = list(devices or default_devices())
    kind = resolve_layout(layout, devices)
    progress = progress or default_progress()
    seconds: dict[str, float] = {}
    runs = [
        Run(label, 0, Trial(optimizer, cfg.batch_size), seed)
        for label, optimizer in cfg.optimizers.items()
        for seed in cfg.seed_tuple
    ]
    with numerics(cfg.dtype):
        with timed(seconds, "loading"):
            check_optimizers(cfg.optimizers.items())
            task = resolve_task(cfg, task)
        with timed(seconds, "compiling"):
            groups = group_runs(cfg, task, metrics or {}, runs)
            sizes = [len(group.runs) for group in groups]
            slots = [slots_for(size, mesh) for size, mesh in zip(sizes, meshes(sizes, devices), strict=True)]
            wave = tuple(Lane(i, tuple(range(size))) for i, size in enumerate(sizes))
            programs = compile_programs(cfg, task, groups, slots, min(chunk, cfg.iterations), devices, kind, progress)
            training = Training(programs, wave, seconds)
        kept = None
        if checkpoint is not None:
            about = identity(cfg, task, metrics or {}, environment(devices[0], kind))
            kept = Checkpoint(pathlib.Path(checkpoint), about, checkpoint_seconds)
            kept.restore(training)
        with contextlib.suppress(KeyboardInterrupt):
            for end in chunk_ends(cfg, chunk, training.done):
                training.advance(end)
                progress("training", end, cfg.iterations)
                if kept is not None:
                    kept.write_in_time(training)
        done = training.done
        if done == 0:
            raise Interrupted(None, 0)
        if kept is not None and done < cfg.iterations:
            kept.write(training)
        with contextlib.suppress(KeyboardInterrupt):
            training.evaluate(progress)
        order = [run for group in groups for run in group.runs]
        records = dict(zip(order, training.records(), strict=True))
        result = from_records(
            cfg,
            {label: [[records[run] for run in runs if run.label == label]] for label in cfg.optimizers},
            training.iterations,
            sorted(training.evaluations),
            provenance(devices, task.provenance | {"digest": data_digest(task)})
            | {"functions": function_names(task), "layout": kind, "seconds": seconds},
        )
    if done < cfg.iterations or done not in training.evaluations:
        raise Interrupted(result, done)
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
