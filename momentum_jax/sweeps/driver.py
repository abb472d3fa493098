"""`sweep(cfg, space)`: checks what was asked for, has the missing runs trained, and returns the result."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import jax

from momentum_jax._base.errors import InputError, check_integer
from momentum_jax._base.machine import versions
from momentum_jax._base.progress import Progress, default_progress
from momentum_jax.config import Config
from momentum_jax.results.fingerprint import identity
from momentum_jax.results.record import Record, Run
from momentum_jax.results.result import Result, sweep_result
from momentum_jax.results.store import open_store
from momentum_jax.space import Space, Trial, make_trials
from momentum_jax.sweeps.batches import Job
from momentum_jax.sweeps.resume import all_runs, finish_runs
from momentum_jax.sweeps.workers import LocalDevices, Workers
from momentum_jax.tasks import Metric, Task
from momentum_jax.training.devices import check_layout
from momentum_jax.training.groups import group_runs
from momentum_jax.training.loop import CHUNK, Interrupted
from momentum_jax.training.sampling import numerics
from momentum_jax.training.validate import check_optimizers, resolve_task


def sweep(
    cfg: Config,
    space: Space,
    *,
    folder: str | pathlib.Path | None = None,
    search: str = "grid",
    budget: int | None = None,
    search_seed: int = 0,
    task: Task | None = None,
    metrics: Mapping[str, Metric] | None = None,
    keep_params: bool = False,
    devices: Sequence[jax.Device] | None = None,
    layout: str = "auto",
    chunk: int = CHUNK,
    cluster: str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Trains every trial of a space with every seed of a config, and keeps finished runs in a folder.

    Runs of one structure share one compiled program, however many they are. The devices train a batch of runs at a
    time, from the first iteration to the last, and write it when it is finished. An interruption of any kind loses
    the batches that were being trained: the same call goes on from the rest, to the same bits as one that was never
    interrupted (with the layout "map"; with "vmap" the bits depend on how many runs are trained together). The records
    of all runs stay in memory until the result is made of them.

    Args:
      cfg: what all runs have where the space does not say otherwise.
      space: what varies: `{"momentum": {"learning_rate": [0.01, 0.1]}}` by label, or `{"learning_rate": […]}` for
        every optimizer that has it; also "batch_size", and "learning_rate.peak_value" inside a schedule. For a
        search, `Uniform(low, high)` or `LogUniform(low, high)` in place of values.
      folder: where finished runs are kept; by default in memory only.
      search: "grid", "random" or "sobol"; see `momentum_jax.space.make_trials`.
      budget: trials of each optimizer, for a search.
      search_seed: of the search's draws.
      task: your own problem, in place of the config's dataset and network.
      metrics: as in `train`.
      keep_params: keep the final parameters of every run.
      devices: what to run on; by default all of the default backend.
      layout: "map", "vmap" or "auto", as in `train`.
      chunk: iterations between returns to Python.
      cluster: train on a Ray cluster: its address, "auto" for the one there is, or "local:N" for N worker processes
        on this machine. Needs `pip install "momentum-jax[cluster]"`.
      progress: called with (phase, done, total, note).

    Returns:
      A result whose arrays are [trials, seeds, …]; `result.trials[label]` are the trials, in the order of `table()`.

    Raises:
      InputError: something that was given cannot be used, or the folder cannot be written or is another sweep's.
      Interrupted: a KeyboardInterrupt, with the result of the runs that were finished.

    >>> import momentum_jax as mj
    >>> sgd = mj.OptimizerConfig("sgd", learning_rate=0.01)
    >>> cfg = mj.Config(iterations=20, hidden_sizes=(10,), seeds=2, optimizers={"sgd": sgd})
    >>> result = sweep(cfg, {"learning_rate": [0.01, 0.1, 1.0]})
    >>> result.losses["sgd"].shape
    (3, 2, 20)
    """
    trials = make_trials(cfg, space, search=search, budget=budget, search_seed=search_seed)
    return sweep_trials(
        cfg,
        trials,
        folder=folder,
        task=task,
        metrics=metrics,
        keep_params=keep_params,
        devices=devices,
        layout=layout,
        chunk=chunk,
        cluster=cluster,
        progress=progress,
    )


def sweep_trials(
    cfg: Config,
    trials: Mapping[str, tuple[Trial, ...]],
    *,
    folder: str | pathlib.Path | None = None,
    task: Task | None = None,
    metrics: Mapping[str, Metric] | None = None,
    keep_params: bool = False,
    devices: Sequence[jax.Device] | None = None,
    layout: str = "auto",
    chunk: int = CHUNK,
    cluster: str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Trains the given trials, by the labels of a config, with every seed; otherwise as `sweep`."""
    check_integer("chunk", chunk, 1)
    check_layout(layout)
    if cluster is not None and devices is not None:
        raise InputError("devices are those of the workers where cluster is given")
    progress = progress or default_progress()
    trials = dict(trials)
    with contextlib.ExitStack() as stack:
        task = check_trials(cfg, trials, task, metrics)
        stack.enter_context(numerics(cfg.dtype))
        workers: Workers
        if cluster is None:
            workers = LocalDevices(devices, layout)
        else:
            from momentum_jax.sweeps.cluster import connect

            workers = stack.enter_context(connect(cluster, layout))
        job = Job(cfg, task, dict(metrics or {}), workers.environment(), chunk, keep_params)
        about = identity(cfg, task, job.metrics, job.environment) | {"keep_params": keep_params}
        provenance = {"versions": versions(), "environment": about["environment"], "data": about["data"]}
        finished: dict[Run, Record] = {}
        store = None
        if folder is not None:
            store = stack.enter_context(open_store(pathlib.Path(folder), cfg, trials, about, versions()))
            finished = store.read_finished()
        try:
            finish_runs(workers, job, all_runs(cfg, trials), finished, store, progress)
        except KeyboardInterrupt:
            result = sweep_result(cfg, trials, finished, provenance) if finished else None
            raise Interrupted(result, len(finished)) from None
        return sweep_result(cfg, trials, finished, provenance)


def check_trials(
    cfg: Config,
    trials: Mapping[str, Sequence[Trial]],
    task: Task | None,
    metrics: Mapping[str, Metric] | None = None,
) -> Task:
    """Returns the task, given or of the config, if every trial can be trained on it; compiles and writes nothing.

    Raises:
      InputError: an optimizer cannot be made, or the task does not fit a batch size, an optimizer or the metrics.
    """
    with numerics(cfg.dtype):
        check_optimizers((label, trial.optimizer) for label, own in trials.items() for trial in own)
        for size in sorted({trial.batch_size for own in trials.values() for trial in own}):
            task = resolve_task(dataclasses.replace(cfg, batch_size=size), task)
        assert task is not None
        # One seed is enough: no refusal depends on it.
        group_runs(cfg, task, metrics or {}, all_runs(dataclasses.replace(cfg, seeds=cfg.seed_tuple[:1]), trials))
    return task
