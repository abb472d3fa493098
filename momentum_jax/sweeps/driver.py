"""`sweep(cfg, space)`: checks what was asked for, has the missing runs trained, and returns the result."""

import contextlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax

from momentum_jax._base.errors import InputError, check_integer
from momentum_jax._base.machine import versions
from momentum_jax._base.progress import Progress, Report, reporting_to
from momentum_jax.config import Config
from momentum_jax.results.head import make_head
from momentum_jax.results.result import Result, sweep_result
from momentum_jax.results.stacked import StackedRecords
from momentum_jax.results.store import Store, open_store
from momentum_jax.space import Space, make_trials
from momentum_jax.sweeps.host import refuse_given
from momentum_jax.sweeps.plan import HostPlan, SweepPlan, plan_sweep
from momentum_jax.sweeps.resume import finish_runs
from momentum_jax.sweeps.workers import Workers, make_workers
from momentum_jax.tasks import HostTask, Metric, Task
from momentum_jax.training.groups import check_histories
from momentum_jax.training.loop import CHUNK, Interrupted, interruptible
from momentum_jax.training.recorded import Callback
from momentum_jax.training.sampling import numerics
from momentum_jax.training.validate import check_kept, check_names, check_types


def sweep(
    cfg: Config,
    space: Space,
    *,
    folder: str | pathlib.Path | None = None,
    search: str = "grid",
    budget: int | None = None,
    search_seed: int = 0,
    task: Task | HostTask | None = None,
    metrics: Mapping[str, Metric] | None = None,
    keep_params: bool = False,
    devices: Sequence[jax.Device] | None = None,
    layout: str = "auto",
    chunk: int = CHUNK,
    cluster: str | None = None,
    callback: Callback | None = None,
    progress: Progress | Literal[False] | None = None,
) -> Result:
    """Trains every trial of a space with every seed of a config, and keeps finished runs in a folder.

    Runs of one structure share one compiled program, however many they are. The devices train a batch of runs at a
    time, from the first iteration to the last, and write it when it is finished. After an interruption of any kind the
    same call goes on, to the same bits as one that was never interrupted (with the layout "map"; with "vmap" the bits
    depend on how many runs are trained together). A Ctrl-C keeps also what there is of the batch that was being
    trained; a kill loses at most its last thirty seconds. Batches on a cluster begin anew.

    Args:
      cfg: what all runs have where the space does not say otherwise.
      space: what varies: `{"momentum": {"learning_rate": [0.01, 0.1]}}` by label, or `{"learning_rate": […]}` for
        every optimizer that has it; also "batch_size", and "learning_rate.peak_value" inside a schedule. For a
        search, `Uniform(low, high)`, `LogUniform(low, high)` or `ReverseLogUniform(low, high)` in place of values.
      folder: where finished runs are kept; by default in memory only. A folder may hold a sweep of other trials and
        seeds: its runs are used again, and only the missing ones are trained. The result's histories and parameters
        are read from it when one of them is first asked for.
      search: "grid", "random" or "sobol"; see `momentum_jax.space.make_trials`.
      budget: trials of each optimizer, for a search.
      search_seed: of the search's draws.
      task: your own problem, in place of the config's dataset and network; or a `HostTask`, your own training loop.
        Its runs are calls in worker processes, one a core, and each is kept when it is finished. `metrics`,
        `keep_params`, `devices`, `layout` and `chunk` do not apply to it.
      metrics: as in `train`.
      keep_params: keep the final parameters of every run.
      devices: what to run on; by default all of the default backend.
      layout: "map", "vmap" or "auto", as in `train`.
      chunk: iterations between returns to Python.
      cluster: train on a Ray cluster: its address, "auto" for the one there is, or "local:N" for N worker processes
        on this machine. Needs `pip install "momentum-jax[cluster]"`.
      callback: called with the `Recorded` of each run when it is finished, and written where there is a folder; not
        with those of earlier calls. A run of a `HostTask` is handed out too. An error of the callback ends the sweep;
        runs that were finished together with that one are not handed out any more.
      progress: called with (phase, done, total, note); False for none. By default it is shown as in `train`.

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
    >>> result.losses_before["sgd"].shape
    (3, 2, 20)
    """
    check_types(cfg, None if isinstance(task, HostTask) else task, metrics, progress, callback, folder=folder)
    check_names(cfg.optimizers)
    check_integer("chunk", chunk, 1)
    if isinstance(task, HostTask):
        refuse_given(
            metrics=metrics or None,
            keep_params=keep_params or None,
            devices=devices,
            layout=None if layout == "auto" else layout,
            chunk=None if chunk == CHUNK else chunk,
        )
    trials = make_trials(cfg, space, search=search, budget=budget, search_seed=search_seed)
    if folder is not None and os.path.lexists(pathlib.Path(folder).absolute().parent / "comparison.json"):
        raise InputError(f"output folder {str(folder)!r} belongs to a comparison; choose another")
    with interruptible(), reporting_to(progress) as report, contextlib.ExitStack() as stack:
        plan = plan_sweep(cfg, trials, task, metrics)
        if keep_params and isinstance(plan, SweepPlan):
            check_kept(cfg, plan.task)
        workers = stack.enter_context(make_workers(cluster, devices, layout, task))
        return run_sweep(plan, workers, report, folder, keep_params=keep_params, chunk=chunk, callback=callback)


def run_sweep(
    plan: SweepPlan | HostPlan,
    workers: Workers,
    report: Report,
    folder: str | pathlib.Path | None = None,
    *,
    keep_params: bool = False,
    chunk: int = CHUNK,
    callback: Callback | None = None,
) -> Result:
    """Trains the runs of a plan that are not in the folder; otherwise as `sweep`."""
    cfg, trials = plan.cfg, plan.trials
    with contextlib.ExitStack() as stack:
        stack.enter_context(numerics(cfg.dtype))
        environment = workers.environment()
        job = plan.job(environment, chunk, keep_params)
        about = plan.identity(environment) | {"keep_params": keep_params}
        provenance = {"versions": versions()} | {name: about[name] for name in ("environment", "data", "functions")}
        store = None
        if folder is not None:
            head = make_head(cfg, trials, plan.program_digests(), about)
            store = stack.enter_context(open_store(pathlib.Path(folder), head, cfg, trials))
            finished = store.read_finished()
        else:
            check_histories(cfg, sum(len(group.runs) for group in plan.groups), cfg.loss_after is True)
            finished = StackedRecords({label: len(own) for label, own in trials.items()}, cfg.seed_tuple)
        try:
            finish_runs(workers, job, plan.groups, finished, store, report, callback)
        except KeyboardInterrupt:
            raise Interrupted(
                _result(plan, finished, provenance, store) if len(finished) else None, len(finished)
            ) from None
        return _result(plan, finished, provenance, store)


def _result(
    plan: SweepPlan | HostPlan, finished: StackedRecords, provenance: dict[str, Any], store: Store | None
) -> Result:
    return sweep_result(plan.cfg, plan.trials, finished, provenance, None if store is None else store.reader())
