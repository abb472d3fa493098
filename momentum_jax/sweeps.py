"""`sweep(cfg, space)`: grids of runs laid over devices, in waves; durable, and over machines through Ray."""

import contextlib
import itertools
import pathlib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax

from momentum_jax.config import Config
from momentum_jax.errors import InputError, check_integer
from momentum_jax.grids import Cell, Space, make_cells
from momentum_jax.identity import identity
from momentum_jax.layout import Layout, Slots, default_devices, meshes, resolve_layout
from momentum_jax.machine import matrix_product_peak, memory_in_use
from momentum_jax.outcomes import Outcome
from momentum_jax.programs import (
    Group,
    Lane,
    Run,
    Wave,
    bytes_of_a_run,
    bytes_of_a_state,
    check_optimizers,
    compile_programs,
    group_runs,
    matrix_product_flops,
)
from momentum_jax.progress import Progress, default_progress, no_progress
from momentum_jax.provenance import environment, versions
from momentum_jax.results import Result, sweep_result
from momentum_jax.sampling import numerics
from momentum_jax.store import RunKey, Store, open_store, read_outcomes
from momentum_jax.tasks import Task
from momentum_jax.train_step import Metric
from momentum_jax.training import Interrupted
from momentum_jax.waves import CHUNK, Training, chunk_ends, resolve_task

# Iterations of one device from one write to the next, and from one return to Python to the next: some 10 s and 1 s on
# one core with the tutorial's network.
WAVE_ITERATIONS = 8000
_RETURN_ITERATIONS = 1000
_HOST_BYTES = 2**29
_DEVICE_SHARE = 0.7


class Job(NamedTuple):
    """What all runs of a sweep share; any process that has it can train any of them."""

    cfg: Config
    task: Task
    metrics: dict[str, Metric]
    layout: Layout
    chunk: int
    keep_params: bool


class Workers(Protocol):
    """Where the runs of a sweep are trained."""

    def environment(self) -> dict[str, str]:
        """What the bits of a run depend on there."""

    def train(self, job: Job, runs: Sequence[Run], progress: Progress) -> Iterator[dict[RunKey, Outcome]]:
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
    """Trains every cell of a space with every seed of a config.

    Runs that share a structure share one compiled program, however many they are. They go in waves from the first
    iteration to the last, laid over the devices; a wave that is finished is written, so that an interruption of any
    kind costs one wave. The same call goes on where it ended, and ends with the same bits as one never interrupted.

    Args:
      cfg: what all runs have where the space does not say otherwise.
      space: what varies: `{"momentum": {"learning_rate": [0.01, 0.1]}}` by label, or `{"learning_rate": […]}` for
        every optimizer that has it; also "batch_size", and "learning_rate.peak_value" inside a schedule. For a
        search, `Uniform(low, high)` or `LogUniform(low, high)` in place of values.
      folder: where finished runs are kept; by default nowhere.
      search: "grid", "random" or "sobol"; see `momentum_jax.grids.make_cells`.
      budget: cells of each optimizer, for a search.
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
      A result whose arrays are [cells, seeds, …]; `result.cells[label]` are the cells, in the order of `table()`.

    Raises:
      InputError: something that was given cannot be used, or the folder cannot be written or is another sweep's.
      Interrupted: a KeyboardInterrupt, with the result of the runs that were finished.

    >>> from momentum_jax import Config
    >>> cfg = Config(iterations=20, hidden_sizes=(10,), seeds=2)
    >>> result = sweep(cfg, {"momentum": {"learning_rate": [0.01, 0.1, 1.0]}})
    >>> result.losses["momentum"].shape, result.losses["sgd"].shape
    ((3, 2, 20), (1, 2, 20))
    """
    check_integer("chunk", chunk, 1)
    progress = progress or default_progress()
    cells = make_cells(cfg, space, search=search, budget=budget, search_seed=search_seed)
    with contextlib.ExitStack() as stack:
        workers: Workers
        if cluster is None:
            workers = Here(devices, layout)
        else:
            from momentum_jax.cluster import connect

            if devices is not None:
                raise InputError("devices are those of the workers where cluster is given")
            workers = stack.enter_context(connect(cluster, layout))
        stack.enter_context(numerics(cfg.dtype))
        check_optimizers((label, cell.optimizer) for label, own in cells.items() for cell in own)
        task = _resolve_task(cfg, cells, task)
        surroundings = workers.environment()
        job = Job(cfg, task, dict(metrics or {}), resolve_layout(surroundings["layout"], []), chunk, keep_params)
        every_run = _all_runs(cfg, cells)
        # For the errors, before anything is written.
        group_runs(cfg, task, job.metrics, every_run)
        about = identity(cfg, task, job.metrics, surroundings) | {"keep_params": keep_params}
        if folder is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
        store = stack.enter_context(open_store(pathlib.Path(folder), cfg, cells, about, versions()))
        store.find_finished()
        runs = [run for run in every_run if _key(run) not in store.finished]
        try:
            _fill(store, workers, job, runs, progress)
        except KeyboardInterrupt:
            result = _result(store, cfg, cells, about) if store.finished else None
            raise Interrupted(result) from None
        return _result(store, cfg, cells, about)


def _result(store: Store, cfg: Config, cells: dict[str, tuple[Cell, ...]], about: dict[str, Any]) -> Result:
    provenance = {"versions": versions(), "environment": about["environment"], "data": about["data"]}
    return sweep_result(cfg, cells, read_outcomes(store.folder, store.keys), provenance)


def _resolve_task(cfg: Config, cells: Mapping[str, Sequence[Cell]], task: Task | None) -> Task:
    """The task, checked against every batch size."""
    from dataclasses import replace

    for size in sorted({cell.batch_size for own in cells.values() for cell in own}):
        task = resolve_task(replace(cfg, batch_size=size), task)
    assert task is not None
    return task


def _all_runs(cfg: Config, cells: Mapping[str, Sequence[Cell]]) -> list[Run]:
    """All runs, seed by seed: the whole space is seen early, and runs beside each other share their batches."""
    return [
        Run(label, position, cell.optimizer, cell.batch_size, seed)
        for seed in cfg.seed_tuple
        for label, own in cells.items()
        for position, cell in enumerate(own)
    ]


def _key(run: Run) -> RunKey:
    return RunKey(run.label, run.cell, run.seed)


def _fill(store: Store, workers: Workers, job: Job, runs: Sequence[Run], progress: Progress) -> None:
    """Trains the runs and writes them as they come."""
    total, before = len(store.keys), len(store.finished)
    began = time.monotonic()
    peak = matrix_product_peak() if runs else 1.0
    flops = job.cfg.iterations * sum(matrix_product_flops(job.cfg, job.task, size) * n for size, n in _sizes(runs))
    mean_flops = flops / max(len(runs), 1)

    def status() -> dict[str, Any]:
        seconds = max(time.monotonic() - began, 1e-9)
        rate = (len(store.finished) - before) / seconds
        return {
            "runs": total,
            "finished": len(store.finished),
            "failed": sum(store.finished.values()),
            "runs_per_second": rate,
            "seconds_left": (total - len(store.finished)) / rate if rate else None,
            "share_of_matrix_product_peak": rate * mean_flops / peak,
            "memory_bytes": memory_in_use(),
            "updated": time.time(),
        }

    def note() -> str:
        now = status()
        speed = f"{now['runs_per_second']:.3g} runs/s, {now['share_of_matrix_product_peak']:.0%} of the peak, "
        return (speed if now["runs_per_second"] else "") + (
            f"{now['failed']} failed, {now['memory_bytes'] / 2**20:.0f} MiB"
        )

    def inside(phase: str, done: int, of_these: int, _: str = "") -> None:
        if phase == "runs":
            progress("runs", min(before + done, total), total, note())
        else:
            progress(phase, done, of_these, "")

    store.write_status(status())
    if runs:
        for outcomes in workers.train(job, runs, inside):
            store.write(outcomes)
            store.write_status(status())
    progress("runs", total, total, note())


def _sizes(runs: Sequence[Run]) -> list[tuple[int, int]]:
    sizes = [run.batch_size for run in runs]
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

    def train(self, job: Job, runs: Sequence[Run], progress: Progress) -> Iterator[dict[RunKey, Outcome]]:
        return train_waves(job, runs, self.devices(), progress)


def train_waves(
    job: Job, runs: Sequence[Run], devices: Sequence[jax.Device], progress: Progress
) -> Iterator[dict[RunKey, Outcome]]:
    """Trains runs on some devices, and gives what each wave leaves behind."""
    with numerics(job.cfg.dtype):
        groups = group_runs(job.cfg, job.task, job.metrics, runs)
        slots = _slots(job, groups, devices)
        programs = compile_programs(
            job.cfg, job.task, groups, slots, min(job.chunk, job.cfg.iterations), devices, job.layout, progress
        )
        finished = 0
        for wave in plan(groups, slots):
            training = Training(programs, wave, {})
            size = sum(len(lane.runs) for lane in wave)
            for end in chunk_ends(job.cfg, job.chunk):
                training.advance(end)
                progress("runs", finished + size * end // job.cfg.iterations, len(runs), "")
            training.evaluate(no_progress)
            finished += size
            keys = [_key(groups[lane.group].runs[i]) for lane in wave for i in lane.runs]
            outcomes = training.outcomes()
            if not job.keep_params:
                outcomes = [outcome._replace(params=None) for outcome in outcomes]
            yield dict(zip(keys, outcomes, strict=True))


def plan(groups: Sequence[Group], slots: Sequence[Slots]) -> list[Wave]:
    """The waves that train all runs: each group's in turn on its devices, groups on other devices beside them."""
    queues: dict[Any, list[Lane]] = {}
    for position, (group, room) in enumerate(zip(groups, slots, strict=True)):
        lanes = [
            Lane(position, tuple(range(first, min(first + room.total, len(group.runs)))))
            for first in range(0, len(group.runs), room.total)
        ]
        queues.setdefault(room.mesh, []).extend(lanes)
    return [tuple(lane for lane in beside if lane) for beside in itertools.zip_longest(*queues.values())]


def _slots(job: Job, groups: Sequence[Group], devices: Sequence[jax.Device]) -> list[Slots]:
    """The room for runs on each device: as many as a wave has time and the device memory for."""
    cfg = job.cfg
    slots = []
    for group, mesh in zip(groups, meshes([len(group.runs) for group in groups], devices), strict=True):
        if job.layout == "map":
            room = min(WAVE_ITERATIONS // cfg.iterations, _RETURN_ITERATIONS // min(job.chunk, cfg.iterations))
            room = min(room, _HOST_BYTES // (len(devices) * bytes_of_a_state(cfg, job.task, group)))
        else:
            limit = (devices[0].memory_stats() or {}).get("bytes_limit", 2**31)
            room = int(_DEVICE_SHARE * limit) // bytes_of_a_run(cfg, job.task, group, mesh, job.chunk)
        slots.append(Slots(mesh, max(1, min(room, -(-len(group.runs) // mesh.size)))))
    return slots
