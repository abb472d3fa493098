"""`compare_tasks(tasks, optimizers)`: `compare` on each of several tasks, each with a target from its tuning."""

import contextlib
import dataclasses
import inspect
import math
import pathlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from momentum_jax._base.display import counted
from momentum_jax._base.errors import InputError, check_path, check_real, plain, shown, unknown
from momentum_jax._base.progress import Progress
from momentum_jax.analysis import simultaneous_level
from momentum_jax.comparison.arms import arm_of
from momentum_jax.comparison.budget import Stopwatch
from momentum_jax.comparison.folder import HEAD, seconds_within
from momentum_jax.comparison.metrics import TIMES
from momentum_jax.comparison.procedure import compare, temporary_folder
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.target import LEAST_RUNS, reachable_loss
from momentum_jax.comparison.task_comparison import TIME, TaskComparison, task_comparison_of
from momentum_jax.comparison.tuning import choices
from momentum_jax.config import Config
from momentum_jax.optimizers.description import OptimizerConfig
from momentum_jax.tasks import HostTask, Task

AnyTask = str | Config | Task | HostTask
# What is set for each task.
_SET = ("cfg", "labels", "folder", "task", "target", "level", "progress")
_LONGEST_NAME = 100


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

    `compare` runs on each task. The target of a task comes from the reruns of the first optimizer, the reference: the
    lowest loss, rounded up to two digits, that 90 % of the runs of its best trial reach in three quarters of the
    iterations. So no run that is judged has chosen it. Performance profiles (Dolan and Moré, 2002) and the score of
    AlgoPerf summarise the times. The summary holds each optimizer against the first: on how many tasks it is sooner,
    and the mean over tasks of its relative time, with an interval by a bootstrap over tasks and seeds.

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
        goes on from there. A call with more tasks or seeds uses what is there.
      progress: as in `compare`, for each task anew.
      **options: of `compare`, for every task: `space`, `search`, `trials`, `tuning_seeds`, `judge_by`, `cluster` and so
        on.

    Raises:
      InputError: something that was given cannot be used; or on one of the tasks no trial of any optimizer finished
        without failing.
      Interrupted: a KeyboardInterrupt; the same call goes on from there if there is a folder.
    """
    configs, given = _read(tasks, optimizers, Config(seeds=10 if within is None else 1) if cfg is None else cfg)
    check_real("level", level, 0.5, 1, below_high=True)
    if within is not None:
        check_real("within", within, 1, math.inf)
    _check_options(options)
    each = simultaneous_level(plain(level), len(configs))
    comparisons: dict[str, Comparison] = {}
    runs: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder()) if folder is None else _checked_folder(folder)
        for name, of_task in configs.items():
            own: dict[str, Any] = {"level": each, "folder": folder / folder_of(name), "task": given[name]}
            if within is not None:
                watch, kept = Stopwatch(), seconds_within(own["folder"])
                own["within"] = max(1.0, within / (len(configs) - len(runs))) if kept is None else kept
            comparisons[name], runs[name] = _compare(of_task, options | own, progress)
            if within is not None:
                within -= watch.seconds if kept is None else kept
    return task_comparison_of(comparisons, plain(level), list(_notes(comparisons, runs)))


def _notes(comparisons: Mapping[str, Comparison], runs: Mapping[str, int]) -> Iterator[str]:
    """On tasks without a target, and on targets that rest on few runs."""
    first = next(iter(next(iter(comparisons.values())).config.optimizers))
    for name in runs:
        if not runs[name]:
            yield f"{name} has no target and is left out: too many runs of the best trial of {first} failed"
    fewest = min(filter(None, runs.values()), default=LEAST_RUNS)
    if fewest < LEAST_RUNS:
        yield (
            f"targets rest on {counted(fewest, 'tuning run')} of {first}; runs that miss one count as never, and "
            f"{LEAST_RUNS} tuning runs make a target that nine of ten runs reach"
        )


def folder_of(name: str) -> str:
    """The name of a task's folder.

    >>> folder_of("convnet,channels=(8, 16)")
    'convnet-channels-8-16'
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", name)[:_LONGEST_NAME].strip("-").lower() or "task"


def _compare(
    cfg: Config, options: Mapping[str, Any], progress: Progress | Literal[False] | None
) -> tuple[Comparison, int]:
    """The comparison on one task, with times to its target; and how many runs this rests on, 0 if there is none."""
    judge_by = options.get("judge_by")
    # A target is known after the tuning only, and times cannot be asked for by name without one.
    others = None if judge_by is None else [name for name in judge_by if name not in TIMES] or None
    compared = compare(cfg, **{**options, "judge_by": others}, progress=progress)
    target, runs = _target(compared)
    if target is None:
        return dataclasses.replace(compared, target=None), 0
    with warnings.catch_warnings():
        # The first call has warned already. Nothing is left to train.
        warnings.simplefilter("ignore")
        return compare(cfg, **options, target=target, progress=False), runs


def _target(compared: Comparison) -> tuple[float | None, int]:
    """The loss that the first optimizer's best trial reached in reruns or the tuning, and the number of its runs."""
    result, plan = compared.rerun or compared.tuning, compared.plan
    assert result is not None
    chosen = choices(result, plan["tune_by"], plan["contained"])
    first = next(iter(compared.config.optimizers))
    if first not in chosen:
        return None, 0
    best = arm_of(result, *chosen[first])
    return reachable_loss([best], result.config), len(best.seeds)


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


def _checked_folder(folder: str | pathlib.Path) -> pathlib.Path:
    check_path("folder", folder)
    if (pathlib.Path(folder) / HEAD).exists():
        raise InputError(f"output folder {str(folder)!r} holds a comparison on one task; choose another folder")
    return pathlib.Path(folder)


def _check_options(options: Mapping[str, Any]) -> None:
    allowed = [name for name in inspect.signature(compare).parameters if name not in _SET]
    for name in options:
        if name == "target":
            raise InputError("target is taken from the tuning on each task; mj.compare takes one for a single task")
        if name not in allowed:
            raise unknown("option of compare", name, allowed)
    judge_by = options.get("judge_by")
    if judge_by is not None and TIME not in judge_by:
        raise InputError(f"judge_by must hold {TIME!r}, which profiles are made of, not {shown(judge_by)}")
