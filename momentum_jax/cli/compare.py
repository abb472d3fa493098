"""`momentum-jax compare`: tunes optimizers alike, judges them, prints the verdicts and writes the page."""

import os
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any, Literal

import tyro
from rich.table import Table

from momentum_jax.cli.arguments import arguments_type, config_of, counted, flag, flags_of, set_up_jax, slug
from momentum_jax.cli.terminal import console, show_progress, table_of
from momentum_jax.comparison import procedure as comparison
from momentum_jax.comparison.metrics import median_of, metric_of
from momentum_jax.comparison.protocols import Protocol
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.wording import format_value
from momentum_jax.config import Config
from momentum_jax.optimizers.description import parse_values
from momentum_jax.report import PAGE, write_page
from momentum_jax.space import parse_axis, space_of
from momentum_jax.training.loop import Interrupted

DESCRIPTION = """Compares optimizers at one learning rate, at one effective learning rate, and each at its best.

Each is tuned with as many trials, on held-out examples and seeds of its own; then all are judged with other seeds, by
paired differences with intervals. Without arguments: plain SGD and Momentum on MNIST.

    momentum-jax compare --seeds 20
    momentum-jax compare --seeds 20 --grid learning_rate=1e-3:1:log --grid momentum.momentum=0:0.99:lin --trials 32

What is finished is kept in a folder; the same command goes on where it ended. The page is report.html in it.

Exit codes: 0 finished, 1 the tables could not be printed (the result is saved), 2 something given cannot be used,
130 interrupted (what was finished is saved)."""
FOLDER = "folder for the runs and the page; by default one under runs/ named after the dataset and the config."
_GRID = (
    "what the tuning varies, once for each: [LABEL.]NAME=LOW:HIGH:log or LOW:HIGH:lin or VALUE,VALUE,...; by default "
    "learning_rate=1e-3:1:log."
)


def main(argv: Sequence[str], began: float) -> None:
    """Compares what the command line describes, prints the verdicts and writes the page.

    Raises:
      InputError: something that was given cannot be used.
      KeyboardInterrupt: Ctrl-C; with a message if anything is finished.
    """
    del began
    more = [
        flag("grid", tyro.conf.UseAppendAction[tuple[str, ...]], (), _GRID, metavar="[LABEL.]NAME=VALUES"),
        flag("search", Literal["random", "sobol", "grid"], "random", "how the trials are chosen."),
        flag("trials", int | None, None, "of each optimizer in the tuning; by default 16, of a grid all."),
        flag("search_seed", int, 0, "seed of the search's draws."),
        flag("tuning_seeds", int, 3, "runs of each trial, with seeds that the judging does not use."),
        flag("validation", int | None, None, "training examples that the tuning holds out; by default a sixth."),
        flag("tune_by", str | None, None, "metric that chooses; by default the loss on what is held out."),
        flag("learning_rate", str | None, None, "of the first comparison; by default the first optimizer's."),
        flag("effective_learning_rate", float | None, None, "of the second; by default the largest."),
        flag("judge_by", tuple[str, ...], (), "metrics; by default all."),
        flag("target", float | None, None, "loss whose time is taken; by default one that all reach."),
        flag("margin", float | None, None, "differences of at most this share are called equivalent."),
        flag("level", float, 0.95, "of the intervals of a metric, together."),
        flag("layout", Literal["auto", "map", "vmap"], "auto", "how a device goes through its runs."),
        flag("cluster", str | None, None, "train on a Ray cluster: its address, auto, or local:N.", metavar="ADDRESS"),
    ]
    arguments = tyro.cli(arguments_type(FOLDER, more), args=argv, prog="momentum-jax compare", description=DESCRIPTION)
    cfg = config_of(arguments)
    labels = tuple(cfg.optimizers) if arguments.optimizers else ("sgd", "momentum")
    axes = [parse_axis(text) for text in arguments.grid]
    folder = arguments.out or pathlib.Path("runs") / f"{slug(cfg.dataset)}-comparison-{cfg.digest[:8]}"
    set_up_jax(arguments.compilation_cache)
    rate = None if arguments.learning_rate is None else parse_values(arguments.learning_rate)[0]
    names = ["search", "trials", "search_seed", "tuning_seeds", "validation", "tune_by"]
    names += ["effective_learning_rate", "target", "margin", "level", "layout", "cluster"]
    with show_progress(_headline(cfg, labels), quiet=arguments.quiet) as progress:
        try:
            compared = comparison.compare(
                cfg,
                *labels,
                space=space_of(axes, {label: cfg.optimizers[label] for label in labels}) if axes else None,
                learning_rate=rate,
                judge_by=arguments.judge_by or None,
                folder=folder,
                progress=progress,
                **{name: getattr(arguments, name) for name in names},
            )
        except Interrupted as stop:
            raise KeyboardInterrupt(
                f"interrupted after {counted(stop.done, 'run')} of the tuning or judging; these are saved, and the "
                "same command goes on from there"
            ) from None
    write_page(compared, folder / PAGE, command_of(compared))

    out = console(quiet=arguments.quiet)
    for name, protocol in compared.protocols.items():
        if protocol.arms:
            metrics = list(dict.fromkeys(v.metric for v in compared.verdicts if v.protocol == name))
            out.print(_table(protocol, metrics, plain=not out.is_terminal))
    for name, protocol in compared.protocols.items():
        out.print(f"{protocol.title}:" + (f" left out, since {protocol.skipped}" if protocol.skipped else ""))
        for verdict in compared.verdicts:
            if verdict.protocol == name:
                out.print(f"  {verdict.sentence}")
    for note in compared.notes:
        out.print(f"note: {note}")
    out.print(f"written: {folder}{os.sep} with {PAGE}")


def command_of(compared: Comparison) -> str:
    """The command that repeats a comparison, as far as a command can."""
    plan = compared.plan
    words = ["momentum-jax", "compare", *flags_of(compared.config)]
    for label, axes in plan["space"].items():
        words += [word for name, values in axes.items() for word in ("--grid", f"{label}.{name}={values}")]
    words += ["--tuning-seeds", str(len(plan["tuning_seeds"])), *_words("judge_by", *(plan["judge_by"] or ()))]
    names = ("search", "trials", "search_seed", "validation", "tune_by", "learning_rate", "effective_learning_rate")
    for name in (*names, "target", "margin", "level"):
        words += [] if plan[name] is None else _words(name, plan[name])
    note = "# with a task of one's own, which only mj.compare(..., task=...) takes:\n" if plan["own_task"] else ""
    return note + shlex.join(words)


def _words(name: str, *values: Any) -> list[str]:
    return [f"--{name.replace('_', '-')}", *map(str, values)] if values else []


def _headline(cfg: Config, labels: Sequence[str]) -> str:
    return f"{cfg.dataset}: {', '.join(labels)}; {cfg.iterations} iterations; {counted(len(cfg.seed_tuple), 'seed')}"


def _table(protocol: Protocol, metrics: Sequence[str], *, plain: bool) -> Table:
    """What the runs of a protocol come to."""
    table = table_of(
        f"{protocol.title}: medians over seeds", ["optimizer", *(metric_of(m).title for m in metrics)], plain=plain
    )
    for label, arm in protocol.arms.items():
        table.add_row(label, *(format_value(metric, median_of(metric, arm.values[metric])) for metric in metrics))
    return table
