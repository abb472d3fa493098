"""`momentum-jax compare`: tunes optimizers alike, judges them, prints the verdicts and writes the page."""

import contextlib
import os
import pathlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from rich.console import Console

from momentum_jax._base.errors import InputError
from momentum_jax.cli.arguments import (
    LAYOUT_HELP,
    SEEDS,
    config_flags,
    config_of,
    flag,
    output_flags,
    parse,
    repeated_flag,
    slug,
)
from momentum_jax.cli.jax_setup import set_up_jax
from momentum_jax.cli.repeat import comparison_command
from momentum_jax.cli.terminal import console, counted, having_saved, print_table, show_progress
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

Each optimizer is tuned with the same number of trials, on held-out examples and with seeds of its own. Then all are
judged with other seeds, by paired differences with intervals. Without arguments: plain SGD and Momentum on MNIST.

    momentum-jax compare --seeds 20
    momentum-jax compare --seeds 20 --grid learning_rate=1e-3:1:log --grid momentum.momentum=0:0.99:lin --trials 32

Finished runs are kept in a folder, and the same command continues from there. The page is report.html in it.

Exit codes: 0 finished, 1 the tables could not be printed (the result is saved), 2 an argument cannot be used or a file
cannot be written (the message says what was saved), 130 interrupted (what was finished is saved)."""

_FOLDER = "folder for the runs and the page; by default one under runs/ named after the dataset and the config."
_DEFAULT_OPTIMIZERS = ("sgd", "momentum")
_GRID = (
    "what the tuning varies, once for each: [LABEL.]NAME=LOW:HIGH:log or LOW:HIGH:lin or VALUE,VALUE,...; by default "
    "learning_rate=1e-3:1:log."
)
_TARGET = (
    "loss to measure the time to; by default one that the tuning's best trials reach, if --tuning-seeds is 10 or more."
)
_FLAGS = [
    repeated_flag("grid", _GRID, metavar="[LABEL.]NAME=VALUES"),
    flag("search", Literal["random", "sobol", "grid"], "random", "how the trials are chosen."),
    flag("trials", int | None, None, "trials of each optimizer in the tuning; by default 16, or all of a grid."),
    flag("search_seed", int, 0, "seed of the search's draws."),
    flag("tuning_seeds", SEEDS, (3,), "runs of each trial, with seeds that the judging does not use; or these seeds."),
    flag("validation", int | None, None, "training examples that the tuning holds out; by default a sixth."),
    flag("tune_by", str | None, None, "metric that chooses; by default the loss on what is held out."),
    flag("learning_rate", str | None, None, "rate of the first protocol; by default the first optimizer's."),
    flag("effective_learning_rate", float | None, None, "rate of the second protocol; by default the largest."),
    flag("judge_by", tuple[str, ...] | None, None, "metrics; by default all."),
    flag("target", float | None, None, _TARGET),
    flag("margin", float | None, None, "relative difference up to which two optimizers are called equivalent."),
    flag("level", float, 0.95, "confidence level of the intervals of one metric together."),
    flag("layout", Literal["auto", "map", "vmap"], "auto", LAYOUT_HELP),
    flag("cluster", str | None, None, "train on a Ray cluster: its address, auto, or local:N.", metavar="ADDRESS"),
]
# The flags that `compare` takes as they are.
_OPTIONS = (
    *("search", "trials", "search_seed", "tuning_seeds", "validation", "tune_by", "effective_learning_rate"),
    *("judge_by", "target", "margin", "level", "layout", "cluster"),
)


def main(argv: Sequence[str], _: float) -> None:
    """Compares what the arguments describe, prints the verdicts and writes the page.

    Raises:
      InputError: an argument cannot be used.
      KeyboardInterrupt: Ctrl-C; with a message if any run is finished.
    """
    fields = [*config_flags("by default sgd and momentum."), *_FLAGS, *output_flags(_FOLDER)]
    arguments = parse(argv, "momentum-jax compare", DESCRIPTION, fields)
    cfg = config_of(arguments)
    folder = arguments.out or pathlib.Path("runs") / f"{slug(cfg.dataset)}-comparison-{cfg.digest[:8]}"
    compared = _compare(cfg, arguments, folder)
    with having_saved("the runs are", folder):
        write_page(compared, folder / PAGE, comparison_command(compared))
    _print_comparison(console(quiet=arguments.quiet), compared)
    console(quiet=arguments.quiet).print(f"written: {folder}{os.sep} with {PAGE}")


def _compare(cfg: Config, arguments: Any, folder: pathlib.Path) -> Comparison:
    labels = tuple(cfg.optimizers) if arguments.optimizers else _DEFAULT_OPTIMIZERS
    axes = [parse_axis(text) for text in arguments.grid]
    set_up_jax(arguments.compilation_cache)
    rate = None if arguments.learning_rate is None else _rate_of(arguments.learning_rate)
    headline = (
        f"{cfg.dataset}: {', '.join(labels)}; {cfg.iterations} iterations; {counted(len(cfg.seed_tuple), 'seed')}"
    )
    with show_progress(headline, quiet=arguments.quiet) as progress, _warnings_in_one_line():
        try:
            return comparison.compare(
                cfg,
                *labels,
                space=space_of(axes, {label: cfg.optimizers[label] for label in labels}) if axes else None,
                learning_rate=rate,
                folder=folder,
                progress=progress,
                **{name: getattr(arguments, name) for name in _OPTIONS},
            )
        except Interrupted:
            raise KeyboardInterrupt(
                "interrupted; the runs that were finished are saved, and the same command goes on from there"
            ) from None


def _rate_of(text: str) -> Any:
    """The one learning rate, a number or a schedule, that `--learning-rate` gives."""
    values = parse_values(text)
    if len(values) > 1 or values[0] is None:
        raise InputError(f"--learning-rate is one number or schedule, not {text!r}; --grid has what the tuning varies")
    return values[0]


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Shows warnings without the line of code that they come from."""
    err = Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: err.print(f"warning: {message}")
        yield


def _print_comparison(out: Console, compared: Comparison) -> None:
    for name, protocol in compared.protocols.items():
        metrics = list(dict.fromkeys(v.metric for v in compared.verdicts if v.protocol == name))
        if metrics:
            _print_medians(out, protocol, metrics, ranges=not compared.findings)
    for name, protocol in compared.protocols.items():
        sentences = [verdict.sentence for verdict in compared.findings if verdict.protocol == name]
        if protocol.skipped or sentences:
            out.print(f"{protocol.title}:" + (f" left out, since {protocol.skipped}" if protocol.skipped else ""))
        for sentence in sentences:
            out.print(f"  {sentence}")
    for note in compared.notes:
        out.print(f"note: {note}")


def _print_medians(out: Console, protocol: Protocol, metrics: Sequence[str], *, ranges: bool) -> None:
    """A row per optimizer: the median of each metric over the runs, and with `ranges` the least and the greatest."""

    def cell(metric: str, values: Float[np.ndarray, " runs"]) -> str:
        median = format_value(metric, median_of(metric, values))
        if metric == "failed" or not ranges or len(values) < 2:
            return median
        return f"{median} ({format_value(metric, values.min())} to {format_value(metric, values.max())})"

    print_table(
        out,
        f"{protocol.title}: medians{' and ranges' if ranges else ''} over seeds",
        ["optimizer", *(metric_of(metric).title for metric in metrics)],
        ([label, *(cell(metric, arm.values[metric]) for metric in metrics)] for label, arm in protocol.arms.items()),
    )
