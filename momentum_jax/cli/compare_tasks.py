"""`momentum-jax compare-tasks`: compares optimizers on several tasks, prints the answer and writes the pages."""

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from rich.console import Console

from momentum_jax._base.display import counted
from momentum_jax._base.reading import digest_of
from momentum_jax.cli.arguments import (
    LAYOUT_HELP,
    SEEDS,
    WITHIN_HELP,
    flag,
    optimizers_flag,
    optimizers_of,
    output_flags,
    parse,
    repeated_flag,
    seconds_of,
    switch,
)
from momentum_jax.cli.documents import print_json, tasks_document
from momentum_jax.cli.jax_setup import set_up_jax
from momentum_jax.cli.summary import print_answer, table_label, written
from momentum_jax.cli.terminal import console, having_saved, print_table
from momentum_jax.comparison.across_tasks import compare_tasks
from momentum_jax.comparison.answer import Answer
from momentum_jax.comparison.suite import suite
from momentum_jax.comparison.task_answer import answer_of_tasks, decisive_protocol
from momentum_jax.comparison.task_comparison import TIME, TaskComparison
from momentum_jax.comparison.task_folder import folder_of
from momentum_jax.comparison.wording import format_value
from momentum_jax.config import Config
from momentum_jax.optimizers import OptimizerConfig
from momentum_jax.report import PAGE, write_page, write_task_page
from momentum_jax.space import parse_axis, space_of
from momentum_jax.training.loop import Interrupted

DESCRIPTION = """Compares optimizers on several tasks, each as momentum-jax compare does.

Which optimizer reaches the target of a task first, and how far behind are the others? Targets come from reruns of the
first optimizer's best trials, or without reruns from its tuning. Without arguments: plain SGD and Momentum on the
whole suite, which takes hours.

    momentum-jax compare-tasks --fast
    momentum-jax compare-tasks --task mlp --task autoencoder --iterations 1000 --seeds 12

Each task has a folder with a page of its own, and the same command continues from there. The page over all tasks is
report.html in the folder above them.

Exit codes: 0 finished, 1 the tables could not be printed (the result is saved), 2 an argument cannot be used or a file
cannot be written (the message says what was saved), 130 interrupted (what was finished is saved)."""

_OPTIMIZERS = {
    "sgd": OptimizerConfig("sgd", learning_rate=0.01),
    "momentum": OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9),
}
_TASK = "a task as in --task of momentum-jax compare, once for each; by default those of the suite."
_GRID = "what the tuning varies, as in momentum-jax compare; by default as there."
_FOLDER = "folder for all tasks and the page; by default one under runs/ named after their configs."
_FLAGS = [
    switch("fast", "three short tasks and a small budget: two minutes on two cores."),
    repeated_flag("tasks", _TASK, name="task", metavar="TASK"),
    optimizers_flag("by default sgd and momentum."),
    flag("seeds", SEEDS, None, "the seeds to judge with, or how many of them; by default 10."),
    flag("iterations", int | None, None, "parameter updates of each run; by default each task has its own number."),
    flag("batch_size", int | None, None, "examples in each batch, likewise."),
    repeated_flag("grid", _GRID, metavar="[LABEL.]NAME=VALUES"),
    flag("search", Literal["random", "sobol", "grid"] | None, None, "how the trials are chosen."),
    flag("trials", int | None, None, "trials of each optimizer on each task; by default 8 with --fast, or else 16."),
    flag("within", str | None, None, WITHIN_HELP, metavar="TIME"),
    flag("search_seed", int | None, None, "seed of the search's draws."),
    flag("tuning_seeds", int | None, None, "runs of each trial, with seeds that the judging does not use."),
    flag("rerun_trials", int | None, None, "trials of each optimizer, the best, that are run again; by default 3."),
    flag("rerun_seeds", int | None, None, "runs of each of these, with seeds of their own; by default 10; 0 for none."),
    flag("level", float, 0.95, "confidence level of all verdicts by one metric together."),
    flag("layout", Literal["auto", "map", "vmap"], "auto", LAYOUT_HELP),
    flag("cluster", str | None, None, "train on a Ray cluster: its address, auto, or local:N.", metavar="ADDRESS"),
    *output_flags(_FOLDER),
]
_OPTIONS = ("search", "trials", "search_seed", "tuning_seeds", "rerun_trials", "rerun_seeds", "cluster")
_FAST_TRIALS = 8


def main(argv: Sequence[str], _: float) -> None:
    """Compares what the arguments describe, prints the answer and writes the pages.

    Raises:
      InputError: an argument cannot be used.
      KeyboardInterrupt: Ctrl-C; with a message if any run is finished.
    """
    arguments = parse(argv, "momentum-jax compare-tasks", DESCRIPTION, _FLAGS)
    optimizers, tasks = optimizers_of(arguments.optimizers) or _OPTIMIZERS, _tasks_of(arguments)
    folder = arguments.out or pathlib.Path("runs") / _folder_name(arguments, tasks, optimizers)
    compared = _compare(arguments, tasks, optimizers, folder)
    with having_saved("the runs are", folder):
        for name, own in compared.comparisons.items():
            write_page(own, folder / folder_of(name) / PAGE)
        pages = {name: f"{folder_of(name)}/{PAGE}" for name in compared.comparisons}
        write_task_page(compared, folder / PAGE, pages)
    answer = answer_of_tasks(compared)
    if arguments.json:
        print_json(tasks_document(compared, answer, folder))
    else:
        _print(console(quiet=arguments.quiet), compared, answer, folder)


def _tasks_of(arguments: Any) -> dict[str, Config]:
    """The tasks that are asked for, by name."""
    changes = {name: getattr(arguments, name) for name in ("iterations", "batch_size")}
    changes = {name: value for name, value in changes.items() if value is not None}
    tasks = {text: Config(task=text) for text in arguments.tasks} or suite(fast=arguments.fast)
    return {name: replace(cfg, **changes) for name, cfg in tasks.items()}


def _folder_name(arguments: Any, tasks: Mapping[str, Config], optimizers: Mapping[str, OptimizerConfig]) -> str:
    """The name of the folder: after a digest of the config of each task, in any order, and the time of all."""
    seeds = 10 if arguments.seeds is None else arguments.seeds
    digests = {name: replace(cfg, optimizers=optimizers, seeds=seeds).digest for name, cfg in tasks.items()}
    name = f"tasks-{digest_of(dict(sorted(digests.items())))[:8]}"
    return f"{name}-{arguments.within}" if arguments.within else name


def _compare(
    arguments: Any, tasks: Mapping[str, Config], optimizers: Mapping[str, OptimizerConfig], folder: pathlib.Path
) -> TaskComparison:
    options = {name: getattr(arguments, name) for name in _OPTIONS if getattr(arguments, name) is not None}
    if arguments.within is not None:
        options["within"] = seconds_of(arguments.within)
    elif arguments.fast:
        options = {"trials": _FAST_TRIALS} | options
    if arguments.grid:
        options["space"] = space_of([parse_axis(text) for text in arguments.grid], optimizers)
    set_up_jax(arguments.compilation_cache)
    try:
        return compare_tasks(
            tasks,
            optimizers,
            cfg=None if arguments.seeds is None else Config(seeds=arguments.seeds),
            level=arguments.level,
            folder=folder,
            layout=arguments.layout,
            progress=False if arguments.quiet else None,
            **options,
        )
    except Interrupted:
        raise KeyboardInterrupt(
            "interrupted; the runs that were finished are saved, and the same command goes on from there"
        ) from None


def _print(out: Console, compared: TaskComparison, answer: Answer, folder: pathlib.Path) -> None:
    """Prints the times of each task in the protocol that the answer is on, and the answer."""
    name = decisive_protocol(compared)
    if name is not None:
        profile = compared.profiles[name]
        rows = [
            [task, *(format_value(TIME, time) for time in times)]
            for task, times in zip(profile.tasks, profile.times.T, strict=True)
        ]
        rows.append(["score", *(f"{profile.scores[label]:.2f}" for label in compared.optimizers)])
        title = f"median iterations to the target, {profile.title}"
        print_table(out, title, ["task", *map(table_label, compared.optimizers)], rows)
    print_answer(out, answer)
    out.print(answer.sure, soft_wrap=False)
    out.print(written(folder, f"{PAGE}: {counted(len(compared.comparisons), 'task')}, with a page each"))
