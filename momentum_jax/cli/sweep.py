"""`momentum-jax sweep`: trains a grid or a search of trials, saves every finished run, and shows the best trials."""

import os
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from rich.console import Console

from momentum_jax._base.display import counted
from momentum_jax._base.errors import InputError
from momentum_jax._base.progress import show_progress
from momentum_jax.analysis import median_of_trials
from momentum_jax.cli.arguments import (
    LAYOUT_HELP,
    config_flags,
    config_of,
    flag,
    folder_name,
    output_flags,
    parse,
    repeated_flag,
    switch,
)
from momentum_jax.cli.documents import print_json, sweep_document
from momentum_jax.cli.jax_setup import set_up_jax
from momentum_jax.cli.summary import print_answer, print_next, table_label, written
from momentum_jax.cli.terminal import console, having_saved, print_table
from momentum_jax.comparison.answer import Answer, answer_of_sweep
from momentum_jax.config import Config, task_title
from momentum_jax.report import save_figure, sweep_figure
from momentum_jax.results.head import sweep_digest
from momentum_jax.results.parts import PARTS
from momentum_jax.results.result import Result
from momentum_jax.results.tables import text_of, varying_hyperparameters
from momentum_jax.space import Trial, make_trials, parse_axis, space_of
from momentum_jax.sweeps.driver import sweep
from momentum_jax.training.loop import Interrupted

DESCRIPTION = """Trains every combination of hyperparameters with every seed, as one program on all cores.

Finished runs are kept in a folder. However the command ended, the same command continues from there.

    momentum-jax sweep --grid momentum.learning_rate=1e-3:1:log:13 --grid momentum.momentum=0.5,0.9,0.99 --seeds 5
    momentum-jax sweep --grid learning_rate=1e-3:1:log --search sobol --budget 32 --out runs/search
    momentum-jax status runs/search

Exit codes: 0 finished, 1 the tables could not be printed (the result is saved), 2 an argument cannot be used or a file
cannot be written (the message says what was saved), 130 interrupted (what was finished is saved)."""

_FOLDER = "folder for the runs; by default one under runs/ named after the dataset and the sweep."
_GRID = (
    "what varies, once for each: [LABEL.]NAME=VALUE,VALUE,... or LOW:HIGH:log:N, for a search also LOW:HIGH:log; lin "
    "or revlog in place of log. NAME is a hyperparameter, one.parameter of a schedule, effective_learning_rate, or "
    "batch_size."
)
_CLUSTER = "train on a Ray cluster: its address, auto, or local:N for N worker processes on this machine."
_FLAGS = [
    repeated_flag("grid", _GRID, metavar="[LABEL.]NAME=VALUES"),
    flag("search", Literal["grid", "random", "sobol"], "grid", "all combinations, or draws within a budget."),
    flag("budget", int | None, None, "trials of each optimizer, for a search."),
    flag("search_seed", int, 0, "seed of the search's draws."),
    flag("layout", Literal["auto", "map", "vmap"], "auto", LAYOUT_HELP),
    flag("cluster", str | None, None, _CLUSTER, metavar="ADDRESS"),
    switch("keep_params", "keep the final parameters of every run."),
]
_BEST = 10


def main(argv: Sequence[str], _: float) -> None:
    """Trains the trials that the arguments describe, draws the figure and prints the best trials.

    Raises:
      InputError: an argument cannot be used.
      KeyboardInterrupt: Ctrl-C; with a message if any run is finished.
    """
    fields = [*config_flags(), *_FLAGS, *output_flags(_FOLDER)]
    arguments = parse(argv, "momentum-jax sweep", DESCRIPTION, fields)
    cfg = config_of(arguments)
    if not arguments.grid:
        raise InputError("--grid says what varies and is needed at least once, such as --grid learning_rate=0.01,0.1")
    space = space_of([parse_axis(text) for text in arguments.grid], cfg.optimizers)
    search = {"search": arguments.search, "budget": arguments.budget, "search_seed": arguments.search_seed}
    trials = make_trials(cfg, space, **search)
    folder = arguments.out or pathlib.Path("runs") / f"{folder_name(cfg)}-sweep-{sweep_digest(cfg, trials)[:8]}"
    set_up_jax(arguments.compilation_cache)

    options = search | {name: getattr(arguments, name) for name in ("keep_params", "layout", "cluster")}
    interrupted_at = None
    with show_progress(_headline(cfg, trials), quiet=arguments.quiet) as progress:
        try:
            result = sweep(cfg, space, folder=folder, progress=progress, **options)
        except Interrupted as stop:
            if stop.result is None:
                count = counted(_count_runs(cfg, trials), "run")
                raise KeyboardInterrupt(f"interrupted before any of {count} was finished; begin again") from None
            result, interrupted_at = stop.result, stop.done
    with having_saved("the runs are", folder):
        name, figure = sweep_figure(result)
        save_figure(figure, folder / name)
    answer = answer_of_sweep(result)
    if arguments.json:
        print_json(sweep_document(result, answer, folder))
    else:
        _print_result(console(quiet=arguments.quiet), result, answer, folder, name)
    if interrupted_at is not None:
        raise KeyboardInterrupt(
            f"interrupted after {interrupted_at} of {_count_runs(cfg, trials)} runs; these are saved, and the same "
            "command goes on from there"
        )


def _headline(cfg: Config, trials: Mapping[str, Sequence[Trial]]) -> str:
    of_labels = ", ".join(f"{label} {len(own)}" for label, own in trials.items())
    return (
        f"{task_title(cfg)}: {counted(_count_runs(cfg, trials), 'run')} of {cfg.iterations} iterations; "
        f"trials: {of_labels}; {counted(len(cfg.seed_tuple), 'seed')}"
    )


def _count_runs(cfg: Config, trials: Mapping[str, Sequence[Trial]]) -> int:
    return sum(map(len, trials.values())) * len(cfg.seed_tuple)


def _print_result(out: Console, result: Result, answer: Answer, folder: pathlib.Path, figure: str) -> None:
    assert result.trials is not None
    _print_best(out, result, result.trials)
    print_answer(out, answer)
    out.print(answer.sure, soft_wrap=False)
    out.print(written(folder, f"{figure}.png and {figure}.svg; the runs are in {PARTS}{os.sep}*.parquet"))
    print_next(out, (f"momentum-jax report {shlex.quote(str(folder))}", "a page of this sweep"))


def _print_best(out: Console, result: Result, trials: Mapping[str, Sequence[Trial]]) -> None:
    """The best trials of all optimizers, by the median final training loss over the seeds."""
    varying = {label: varying_hyperparameters(own) for label, own in trials.items()}
    names = list(dict.fromkeys(name for own in varying.values() for name in own))
    finished = []
    for label, own in trials.items():
        losses = median_of_trials(result.final_losses(label), result.failed[label], result.missing[label])
        finished += [(losses[i], label, i) for i in range(len(own)) if not result.missing[label][i].all()]

    def row(loss: Any, label: str, i: int) -> list[str]:
        accuracy, there = result.test_accuracy.get(label), ~result.missing[label][i]
        return [
            table_label(label),
            *(text_of(varying[label][name][i]) if name in varying[label] else "" for name in names),
            f"{loss:.4f}" if np.isfinite(loss) else "failed",
            "-" if accuracy is None else f"{np.median(accuracy[i][there]):.2%}",
            f"{result.failed[label][i].sum()} of {there.sum()}",
        ]

    seeds = len(result.config.seed_tuple)
    print_table(
        out,
        f"the best trials of {len(finished)}" + (f", medians of {seeds} seeds" if seeds > 1 else ""),
        ["optimizer", *names, "training loss", "test accuracy", "failed runs"],
        (row(*trial) for trial in sorted(finished, key=lambda trial: trial[0])[:_BEST]),
    )
