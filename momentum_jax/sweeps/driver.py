"""`sweep(cfg, space)`: checks what was asked for, has the missing runs trained, and returns the result."""

import contextlib
import os
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
from momentum_jax.results.store import make_head, open_store
from momentum_jax.space import Space, make_trials
from momentum_jax.sweeps.batches import Job
from momentum_jax.sweeps.plan import SweepPlan, plan_sweep
from momentum_jax.sweeps.resume import finish_runs
from momentum_jax.sweeps.workers import Workers, make_workers
from momentum_jax.tasks import Metric, Task
from momentum_jax.training.groups import task_digests
from momentum_jax.training.loop import CHUNK, Interrupted, interruptible
from momentum_jax.training.sampling import numerics
from momentum_jax.training.validate import abstract_params, check_kept, check_names, check_types


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
      folder: where finished runs are kept; by default in memory only. A folder may hold a sweep of other trials and
        seeds: its runs are used again, and only the missing ones are trained.
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
      Interrupted: a KeyboardInterrupt, with the result of the runs that were finished; with a folder they are in it,
        and the same call goes on from there.

    >>> import momentum_jax as mj
    >>> sgd = mj.OptimizerConfig("sgd", learning_rate=0.01)
    >>> cfg = mj.Config(iterations=20, hidden_sizes=(10,), seeds=2, optimizers={"sgd": sgd})
    >>> result = sweep(cfg, {"learning_rate": [0.01, 0.1, 1.0]})
    >>> result.losses["sgd"].shape
    (3, 2, 20)
    """
    check_types(cfg, task, metrics, progress, folder=folder)
    check_names(cfg.optimizers)
    check_integer("chunk", chunk, 1)
    trials = make_trials(cfg, space, search=search, budget=budget, search_seed=search_seed)
    if folder is not None and os.path.lexists(pathlib.Path(folder).absolute().parent / "comparison.json"):
        raise InputError(f"output folder {str(folder)!r} belongs to a comparison; choose another")
    with interruptible(), contextlib.ExitStack() as stack:
        plan = plan_sweep(cfg, trials, task, metrics)
        if keep_params:
            check_kept(cfg, plan.task)
        workers = stack.enter_context(make_workers(cluster, devices, layout))
        return run_sweep(plan, workers, folder, keep_params=keep_params, chunk=chunk, progress=progress)


def run_sweep(
    plan: SweepPlan,
    workers: Workers,
    folder: str | pathlib.Path | None = None,
    *,
    keep_params: bool = False,
    chunk: int = CHUNK,
    progress: Progress | None = None,
) -> Result:
    """Trains the runs of a plan that are not in the folder; otherwise as `sweep`."""
    cfg, trials = plan.cfg, plan.trials
    with contextlib.ExitStack() as stack:
        stack.enter_context(numerics(cfg.dtype))
        job = Job(cfg, plan.task, workers.environment(), chunk, keep_params)
        params, computed = abstract_params(cfg, plan.task), task_digests(cfg, plan.task)
        about = identity(cfg, plan.task, params, plan.metrics, computed, job.environment) | {"keep_params": keep_params}
        provenance = {"versions": versions()} | {name: about[name] for name in ("environment", "data", "functions")}
        finished: dict[Run, Record] = {}
        store = None
        if folder is not None:
            head = make_head(cfg, trials, plan.program_digests(), about)
            store = stack.enter_context(open_store(pathlib.Path(folder), head, cfg, trials))
            finished = store.read_finished()
        try:
            finish_runs(workers, job, plan.groups, finished, store, progress or default_progress())
        except KeyboardInterrupt:
            result = sweep_result(cfg, trials, finished, provenance) if finished else None
            raise Interrupted(result, len(finished)) from None
        return sweep_result(cfg, trials, finished, provenance)
