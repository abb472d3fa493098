"""`momentum-jax sweep`: trains a grid of runs, keeps what is finished, and shows the best."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import tyro
from rich.table import Table

from momentum_jax._base.errors import InputError
from momentum_jax.analysis import median_of_trials
from momentum_jax.cli.arguments import arguments_type, config_of, counted, flag, set_up_jax, slug, switch
from momentum_jax.cli.terminal import console, show_progress, table_of
from momentum_jax.comparison.judging import warnings_of_trials
from momentum_jax.config import Config
from momentum_jax.report import heatmap_figure, save_figure
from momentum_jax.results.result import Result
from momentum_jax.results.store import PARTS, sweep_digest
from momentum_jax.results.tables import text_of, varying_hyperparameters
from momentum_jax.space import Trial, make_trials, parse_axis, space_of
from momentum_jax.sweeps.driver import sweep
from momentum_jax.training.loop import Interrupted

DESCRIPTION = """Trains every combination of hyperparameters with every seed, as one program on all cores.

What is finished is kept in a folder; the same command goes on where it ended, however it ended.

    momentum-jax sweep --grid momentum.learning_rate=1e-3:1:log:13 --grid momentum.momentum=0.5,0.9,0.99 --seeds 5
    momentum-jax sweep --grid learning_rate=1e-3:1:log --search sobol --budget 32 --out runs/search
    momentum-jax status runs/search

Exit codes: 0 finished, 1 the tables could not be printed (the result is saved), 2 something given cannot be used,
130 interrupted (what was finished is saved)."""
FOLDER = "folder for the runs; by default one under runs/ named after the dataset and the sweep."
_GRID = (
    "what varies, once for each: [LABEL.]NAME=VALUE,VALUE,... or LOW:HIGH:log:N or LOW:HIGH:lin:N; for a search also "
    "LOW:HIGH:log or LOW:HIGH:lin. NAME is a hyperparameter, one.parameter of a schedule, or batch_size."
)
_CLUSTER = "train on a Ray cluster: its address, auto, or local:N for N worker processes on this machine."
_BEST = 10


def main(argv: Sequence[str], began: float) -> None:
    """Trains what the command line describes, draws the heatmap and prints the best trials.

    Raises:
      InputError: something that was given cannot be used.
      KeyboardInterrupt: Ctrl-C; with a message if anything is finished.
    """
    del began
    more = [
        flag("grid", tyro.conf.UseAppendAction[tuple[str, ...]], (), _GRID, metavar="[LABEL.]NAME=VALUES"),
        flag("search", Literal["grid", "random", "sobol"], "grid", "all combinations, or draws within a budget."),
        flag("budget", int | None, None, "trials of each optimizer, for a search."),
        flag("search_seed", int, 0, "seed of the search's draws."),
        flag("layout", Literal["auto", "map", "vmap"], "auto", "how a device goes through its runs."),
        flag("cluster", str | None, None, _CLUSTER, metavar="ADDRESS"),
        switch("keep_params", "keep the final parameters of every run."),
    ]
    arguments = tyro.cli(arguments_type(FOLDER, more), args=argv, prog="momentum-jax sweep", description=DESCRIPTION)
    cfg = config_of(arguments)
    if not arguments.grid:
        raise InputError("--grid says what varies and is needed at least once, such as --grid learning_rate=0.01,0.1")
    space = space_of([parse_axis(text) for text in arguments.grid], cfg.optimizers)
    searched = {"search": arguments.search, "budget": arguments.budget, "search_seed": arguments.search_seed}
    trials = make_trials(cfg, space, **searched)
    folder = arguments.out or pathlib.Path("runs") / f"{slug(cfg.dataset)}-sweep-{sweep_digest(cfg, trials)[:8]}"
    set_up_jax(arguments.compilation_cache)

    interrupted = None
    with show_progress(_headline(cfg, trials), quiet=arguments.quiet) as progress:
        try:
            result = sweep(
                cfg,
                space,
                folder=folder,
                **searched,
                keep_params=arguments.keep_params,
                layout=arguments.layout,
                cluster=arguments.cluster,
                progress=progress,
            )
        except Interrupted as stop:
            if stop.result is None:
                raise KeyboardInterrupt from None
            result, interrupted = stop.result, stop.done
    save_figure(heatmap_figure(result), folder / "heatmap")

    out = console(quiet=arguments.quiet)
    out.print(_best_table(result, plain=not out.is_terminal))
    for line in warnings_of_trials(result, {label: result.final_losses(label) for label in trials}):
        out.print(line)
    out.print(f"written: {folder}{os.sep} with heatmap.png and heatmap.svg; the runs are in {PARTS}{os.sep}*.parquet")
    if interrupted is not None:
        total = sum(map(len, trials.values())) * len(cfg.seed_tuple)
        raise KeyboardInterrupt(
            f"interrupted after {interrupted} of {total} runs; these are saved, and the same command goes on from there"
        )


def _headline(cfg: Config, trials: Mapping[str, Sequence[Trial]]) -> str:
    of_labels = ", ".join(f"{label} {len(own)}" for label, own in trials.items())
    total = sum(map(len, trials.values())) * len(cfg.seed_tuple)
    return (
        f"{cfg.dataset}: {counted(total, 'run')} of {cfg.iterations} iterations; trials: {of_labels}; "
        f"{counted(len(cfg.seed_tuple), 'seed')}"
    )


def _best_table(result: Result, *, plain: bool) -> Table:
    """The best trials of all optimizers, by the median final training loss over the seeds."""
    assert result.trials is not None
    varying = {label: varying_hyperparameters(own) for label, own in result.trials.items()}
    names = list(dict.fromkeys(name for own in varying.values() for name in own))
    rows = []
    for label, own in result.trials.items():
        losses = median_of_trials(result.final_losses(label), result.failed[label], result.missing[label])
        rows += [(losses[i], label, i) for i in range(len(own)) if not result.missing[label][i].all()]
    seeds = len(result.config.seed_tuple)
    table = table_of(
        f"the best trials of {len(rows)}" + (f", medians of {seeds} seeds" if seeds > 1 else ""),
        ["optimizer", *names, "training loss", "test accuracy", "failed runs"],
        plain=plain,
    )
    for loss, label, i in sorted(rows, key=lambda row: row[0])[:_BEST]:
        accuracy = result.test_accuracy.get(label)
        table.add_row(
            label,
            *(text_of(varying[label][name][i]) if name in varying[label] else "" for name in names),
            f"{loss:.4f}" if np.isfinite(loss) else "failed",
            "-" if accuracy is None else f"{np.median(accuracy[i][~result.missing[label][i]]):.2%}",
            f"{result.failed[label][i].sum()} of {(~result.missing[label][i]).sum()}",
        )
    return table
