"""`compare_tasks(tasks, optimizers)`: `compare` on each of several tasks, each with a target from its reruns."""

import contextlib
import dataclasses
import functools
import inspect
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from momentum_jax._base.errors import InputError, check_path, check_real, plain, shown, unknown
from momentum_jax._base.progress import Progress
from momentum_jax.analysis import simultaneous_level
from momentum_jax.comparison.budget import Stopwatch, check_within, choose, chosen_before
from momentum_jax.comparison.folder import HEAD, check_begun, seconds_within
from momentum_jax.comparison.planning import PlannedComparison, plan_comparison
from momentum_jax.comparison.procedure import compare, run_comparison, temporary_folder
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.task_comparison import TIME, TaskComparison, with_reference
from momentum_jax.comparison.task_folder import folder_of, write_tasks_head
from momentum_jax.config import Config
from momentum_jax.optimizers.description import OptimizerConfig
from momentum_jax.tasks import HostTask, Task
from momentum_jax.training.loop import interruptible

AnyTask = str | Config | Task | HostTask
_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(compare).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
}
# What is set for each task, and what is no part of its plan.
_SET = ("folder", "task", "target", "level", "progress")
_UNPLANNED = ("task", "within", "cluster")


@interruptible()
def compare_tasks(
    tasks: Mapping[str, AnyTask] | Sequence[str],
    optimizers: Mapping[str, OptimizerConfig],
    *,
    cfg: Config | None = None,
    level: float = 0.95,
    within: float | None = None,
    folder: str | pathlib.Path | None = None,
    progress: Progress | Literal[False] | None = None,
    **options: Any,
) -> TaskComparison:
    """Compares optimizers on several tasks: which one reaches each task's target first, and how far behind are others?

    `compare` runs on each task, after all of them have been checked. The target of a task comes from the first
    optimizer, the reference: the lowest loss, rounded up to two digits, that 90 % of the reruns of its best trial reach
    in three quarters of the iterations; without reruns, 90 % of the tuning runs. So no run that is judged has chosen
    it. Performance profiles (Dolan and Moré, 2002) and the score of AlgoPerf summarise the times. The summary holds
    each optimizer against the first: on how many tasks it is sooner, and the mean over tasks of its relative time, with
    an interval by a bootstrap over tasks and seeds.

    Args:
      tasks: by name, a text as in `Config(task=…)`, a `Task`, a `HostTask`, or a `Config` of which all but the
        optimizers and the seeds is used; or texts alone, which are their own names.
      optimizers: by label, two or more.
      cfg: what tasks that are no `Config` have in common: iterations, batch size and so on; and the seeds to judge with
        of all tasks, such as 10. By default `Config(seeds=10)`. Its optimizers are not used.
      level: the confidence level of all verdicts by one metric together, over all tasks (Bonferroni), and of intervals
        over tasks.
      within: seconds that all of it may take. The tasks get equal parts of it, and what a task leaves goes to those
        after it. For each task `compare` chooses trials, seeds and iterations: the seeds if `cfg` is not given or has
        only one. A task that is in the folder keeps its part and its plan.
      folder: where the runs are kept, in one folder for each task, named after it; by default nowhere. The same call
        goes on from there. A call with more tasks or seeds uses what is there. `TaskComparison.load` reads it.
      progress: as in `compare`, for each task anew.
      **options: of `compare`, for every task: `space`, `search`, `trials`, `tuning_seeds`, `judge_by`, `cluster` and so
        on.

    Raises:
      InputError: something that was given cannot be used; or on one of the tasks no trial of any optimizer finished
        without failing.
      Interrupted: a KeyboardInterrupt; the same call goes on from there if there is a folder.
    """
    trials, layout, cluster = options.get("trials"), options.get("layout", "auto"), options.get("cluster")
    check_within(within, cluster)
    cfg = Config(seeds=10 if within is None else 1) if cfg is None else cfg
    plans = _plans(tasks, optimizers, cfg, level, options, progress)
    planned = {}
    for name, plan in plans.items():
        with _naming(name):
            planned[name] = plan()
    comparisons: dict[str, Comparison] = {}
    is_kept = folder is not None
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = stack.enter_context(temporary_folder())
        else:
            folder = _checked_folder(folder, planned, plans, within, trials)
        write_tasks_head(folder, list(planned), plain(level))
        for name, of_task in planned.items():
            own, budget = folder / folder_of(name), None
            if within is not None:
                watch, kept = Stopwatch(), seconds_within(own)
                part = max(1.0, within / (len(planned) - len(comparisons))) if kept is None else kept
                with _naming(name):
                    of_task, budget = choose(part, trials, of_task, plans[name], layout, own, progress, watch)
            compared = run_comparison(of_task, own, layout, cluster, progress, budget, by_reference=True)
            comparisons[name] = compared if is_kept else compared.in_memory()
            if within is not None:
                within -= watch.seconds if kept is None else kept
    return with_reference(comparisons, plain(level))


def _plans(
    tasks: Mapping[str, AnyTask] | Sequence[str],
    optimizers: Mapping[str, OptimizerConfig],
    cfg: Config,
    level: float,
    options: Mapping[str, Any],
    progress: Progress | Literal[False] | None,
) -> dict[str, Callable[..., PlannedComparison]]:
    """By name of the task, what checks and plans its comparison, or with another `cfg` and `trials` one like it.

    Raises:
      InputError: something that was given cannot be used.
    """
    configs, own_tasks = _read(tasks, optimizers, cfg)
    check_real("level", level, 0.5, 1, below_high=True)
    _check_options(options)
    own = {"level": simultaneous_level(plain(level), len(configs)), "progress": progress}
    settings = {name: value for name, value in {**_DEFAULTS, **options, **own}.items() if name not in _UNPLANNED}
    return {
        name: functools.partial(plan_comparison, cfg=of_task, labels=(), task=own_tasks[name], **settings)
        for name, of_task in configs.items()
    }


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Says in what is refused which task it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"task {name!r}: {error}") from error


def _read(
    tasks: Mapping[str, AnyTask] | Sequence[str], optimizers: Mapping[str, OptimizerConfig], cfg: Config
) -> tuple[dict[str, Config], dict[str, Task | HostTask | None]]:
    """By name of the task, its config, and the task if it is not named in that.

    Raises:
      InputError: a task or a name cannot be used.
    """
    if not isinstance(tasks, Mapping):
        if isinstance(tasks, str) or not isinstance(tasks, Sequence) or not all(isinstance(t, str) for t in tasks):
            raise InputError(
                f"tasks must map names to tasks, or list texts such as 'convnet,residual=true', not {shown(tasks)}"
            )
        tasks = {text: text for text in tasks}
    if not tasks:
        raise InputError("tasks must hold at least one task")
    if not isinstance(cfg, Config):
        raise InputError(f"cfg must be a Config, not {shown(cfg)}")
    configs: dict[str, Config] = {}
    own: dict[str, Task | HostTask | None] = {}
    for name, task in tasks.items():
        _check_name(name, list(configs))
        if not isinstance(task, str | Config | Task | HostTask):
            raise InputError(f"task {name!r} must be a text, a Config, a Task or a HostTask, not {shown(task)}")
        base = task if isinstance(task, Config) else cfg
        text = task if isinstance(task, str) else base.task
        configs[name] = dataclasses.replace(base, task=text, optimizers=optimizers, seeds=cfg.seeds)
        own[name] = task if isinstance(task, Task | HostTask) else None
    return configs, own


def _check_name(name: object, before: Sequence[str]) -> None:
    if not (isinstance(name, str) and name.isprintable() and name.strip() == name != ""):
        raise InputError(f"a task's name must be printable text, not {shown(name)}")
    for other in before:
        if folder_of(other) == folder_of(name):
            raise InputError(f"tasks {other!r} and {name!r} would have the same folder, {folder_of(name)!r}")


def _checked_folder(
    folder: str | pathlib.Path,
    planned: Mapping[str, PlannedComparison],
    plans: Mapping[str, Callable[..., PlannedComparison]],
    within: float | None,
    trials: int | None,
) -> pathlib.Path:
    """The folder, unless it or that of one of the tasks holds something else."""
    check_path("folder", folder)
    folder = pathlib.Path(folder)
    if (folder / HEAD).exists():
        raise InputError(f"output folder {str(folder)!r} holds a comparison on one task; choose another folder")
    for name, of_task in planned.items():
        own = folder / folder_of(name)
        asked: PlannedComparison | None = of_task
        if within is not None:
            asked = chosen_before(seconds_within(own) or within, trials, of_task, plans[name], own)
        if asked is not None:
            check_begun(own, asked.values)
    return folder


def _check_options(options: Mapping[str, Any]) -> None:
    allowed = [name for name in _DEFAULTS if name not in _SET]
    for name in options:
        if name == "target":
            raise InputError("target is taken from reruns on each task; mj.compare takes one for a single task")
        if name not in allowed:
            raise unknown("option of compare", name, allowed)
    judge_by = options.get("judge_by")
    if judge_by is not None and TIME not in judge_by:
        raise InputError(f"judge_by must hold {TIME!r}, which profiles are made of, not {shown(judge_by)}")
