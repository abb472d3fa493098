"""`sweep(cfg, space)`: grids of runs laid over devices, in waves; durable, and over machines through Ray."""

import contextlib
import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

from momentum_jax._base.errors import InputError, check_integer
from momentum_jax._base.machine import environment, matrix_product_peak, memory_in_use, versions
from momentum_jax._base.progress import Progress, default_progress
from momentum_jax.config import Config
from momentum_jax.results.fingerprint import identity
from momentum_jax.results.record import Record, Run
from momentum_jax.results.result import Result, sweep_result
from momentum_jax.results.store import Store, open_store, read_records
from momentum_jax.space import Space, Trial, make_trials
from momentum_jax.sweeps.batches import Job, train_batches
from momentum_jax.tasks import Metric, Task
from momentum_jax.training.devices import check_layout, default_devices, resolve_layout
from momentum_jax.training.groups import group_runs
from momentum_jax.training.loop import CHUNK, Interrupted
from momentum_jax.training.sampling import numerics
from momentum_jax.training.validate import check_optimizers, resolve_task

_STATUS_SECONDS = 2.0


@runtime_checkable
class Workers(Protocol):
    """Where the runs of a sweep are trained."""

    def environment(self) -> dict[str, str]:
        """What the bits of a run depend on there."""

    def peak(self) -> float:
        """FLOP/s of a float32 matrix product by NumPy there."""

    def train(self, job: Job, runs: Sequence[Run], progress: Progress) -> Iterator[dict[Run, Record]]:
        """Trains all runs; gives some at a time, as they are finished."""


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
    """Trains every trial of a space with every seed of a config.

    Runs that share a structure share one compiled program, however many they are. They go in waves from the first
    iteration to the last, laid over the devices; a wave that is finished is written, so that an interruption of any
    kind costs one wave. The same call goes on where it ended, and ends with the same bits as one never interrupted
    (with the layout "map"; those of "vmap" depend on how many runs go together).

    Args:
      cfg: what all runs have where the space does not say otherwise.
      space: what varies: `{"momentum": {"learning_rate": [0.01, 0.1]}}` by label, or `{"learning_rate": […]}` for
        every optimizer that has it; also "batch_size", and "learning_rate.peak_value" inside a schedule. For a
        search, `Uniform(low, high)` or `LogUniform(low, high)` in place of values.
      folder: where finished runs are kept; by default nowhere.
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

    >>> from momentum_jax import Config
    >>> cfg = Config(iterations=20, hidden_sizes=(10,), seeds=2)
    >>> result = sweep(cfg, {"momentum": {"learning_rate": [0.01, 0.1, 1.0]}})
    >>> result.losses["momentum"].shape, result.losses["sgd"].shape
    ((3, 2, 20), (1, 2, 20))
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
    """Trains trials that are given one by one, by the labels of a config, with every seed; else as `sweep`."""
    check_integer("chunk", chunk, 1)
    check_layout(layout)
    if cluster is not None and devices is not None:
        raise InputError("devices are those of the workers where cluster is given")
    progress = progress or default_progress()
    trials = dict(trials)
    with contextlib.ExitStack() as stack:
        stack.enter_context(numerics(cfg.dtype))
        check_optimizers((label, trial.optimizer) for label, own in trials.items() for trial in own)
        task = _resolve_task(cfg, trials, task)
        workers: Workers
        if cluster is None:
            workers = Here(devices, layout)
        else:
            from momentum_jax.sweeps.cluster import connect

            workers = stack.enter_context(connect(cluster, layout))
        job = Job(cfg, task, dict(metrics or {}), workers.environment(), chunk, keep_params)
        every_run = _all_runs(cfg, trials)
        # For the errors, before anything is written.
        group_runs(cfg, task, job.metrics, every_run)
        about = identity(cfg, task, job.metrics, job.environment) | {"keep_params": keep_params}
        if folder is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
        store = stack.enter_context(open_store(pathlib.Path(folder), cfg, trials, about, versions()))
        store.find_finished()
        runs = [run for run in every_run if run not in store.finished]
        try:
            _fill(store, workers, job, runs, progress)
        except KeyboardInterrupt:
            result = _result(store, cfg, trials, about) if store.finished else None
            raise Interrupted(result, len(store.finished)) from None
        return _result(store, cfg, trials, about)


def check_trials(cfg: Config, trials: Mapping[str, tuple[Trial, ...]], task: Task) -> None:
    """Refuses what `sweep_trials` would refuse of trials and task, before anything is written or trained.

    Raises:
      InputError: as it would.
    """
    with numerics(cfg.dtype):
        check_optimizers((label, trial.optimizer) for label, own in trials.items() for trial in own)
        group_runs(cfg, _resolve_task(cfg, trials, task), {}, _all_runs(cfg, trials))


def _result(store: Store, cfg: Config, trials: dict[str, tuple[Trial, ...]], about: dict[str, Any]) -> Result:
    provenance = {"versions": versions(), "environment": about["environment"], "data": about["data"]}
    return sweep_result(cfg, trials, read_records(store.folder, store.keys), provenance)


def _resolve_task(cfg: Config, trials: Mapping[str, Sequence[Trial]], task: Task | None) -> Task:
    """The task, checked against every batch size."""
    for size in sorted({trial.batch_size for own in trials.values() for trial in own}):
        task = resolve_task(dataclasses.replace(cfg, batch_size=size), task)
    assert task is not None
    return task


def _all_runs(cfg: Config, trials: Mapping[str, Sequence[Trial]]) -> list[Run]:
    """All runs, seed by seed: the whole space is seen early, and runs beside each other share their batches."""
    return [
        Run(label, position, trial, seed)
        for seed in cfg.seed_tuple
        for label, own in trials.items()
        for position, trial in enumerate(own)
    ]


def _fill(store: Store, workers: Workers, job: Job, runs: Sequence[Run], progress: Progress) -> None:
    """Trains the runs and writes them as they come."""
    total, before = len(store.keys), len(store.finished)
    began: float | None = None
    written: float | None = None

    def status(done: float) -> dict[str, Any]:
        """How far the sweep is when `done` of its runs are trained, though not all of them written."""
        rate = (done - before) / max(time.monotonic() - began, 1e-9) if began is not None else 0.0
        return {
            "runs": total,
            "finished": int(done),
            "failed": sum(store.finished.values()),
            "runs_per_second": rate,
            "seconds_left": (total - done) / rate if rate else None,
            "share_of_matrix_product_peak": None,
            "memory_bytes": memory_in_use(),
            "updated": time.time(),
        }

    def show(done: float) -> None:
        nonlocal written
        now = status(done)
        parts = [f"{now['failed']} failed", f"{now['memory_bytes'] / 2**20:.0f} MiB"]
        if now["runs_per_second"]:
            share = ""
            parts.insert(0, f"{now['runs_per_second']:.3g} runs/s{share}")
        progress("runs", int(done), total, ", ".join(parts))
        if written is None or time.monotonic() - written >= _STATUS_SECONDS:
            store.write_status(now)
            written = time.monotonic()

    def inside(phase: str, done: float, of_these: int, _: str = "") -> None:
        nonlocal began
        if phase != "runs":
            progress(phase, done, of_these, "")
        else:
            # The clock starts when all is compiled here; workers of a cluster compile in its time.
            began = time.monotonic() if began is None else began
            show(before + done)

    store.write_status(status(before))
    for records in workers.train(job, runs, inside) if runs else ():
        store.write(records)
    store.write_status(status(len(store.finished)))
    show(total)


def _sizes(runs: Sequence[Run]) -> list[tuple[int, int]]:
    sizes = [run.trial.batch_size for run in runs]
    return [(size, sizes.count(size)) for size in sorted(set(sizes))]


class Here(NamedTuple):
    """The devices of this process."""

    given: Sequence[jax.Device] | None
    layout: str

    def devices(self) -> list[jax.Device]:
        return list(self.given or default_devices())

    def environment(self) -> dict[str, str]:
        devices = self.devices()
        return environment(devices[0], resolve_layout(self.layout, devices))

    def peak(self) -> float:
        return matrix_product_peak()

    def train(self, job: Job, runs: Sequence[Run], progress: Progress) -> Iterator[dict[Run, Record]]:
        return train_batches(job, runs, self.devices(), progress)
