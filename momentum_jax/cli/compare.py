"""`momentum-jax compare`: tunes optimizers alike, judges them, prints the verdicts and writes the page."""

import contextlib
import dataclasses
import pathlib
import shlex
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from rich.console import Console

from momentum_jax._base.display import counted
from momentum_jax._base.errors import InputError
from momentum_jax._base.progress import show_progress
from momentum_jax.cli.announcement import announcement
from momentum_jax.cli.arguments import (
    LAYOUT_HELP,
    SEEDS,
    WITHIN_HELP,
    config_flags,
    config_of,
    flag,
    folder_name,
    output_flags,
    parse,
    repeated_flag,
    seconds_of,
)
from momentum_jax.cli.documents import comparison_document, print_json
from momentum_jax.cli.jax_setup import set_up_jax
from momentum_jax.cli.summary import print_answer, table_label, written
from momentum_jax.cli.terminal import console, having_saved, print_table
from momentum_jax.comparison import procedure as comparison
from momentum_jax.comparison.answer import Answer, answer_of, decisive_metric, seeds_needed
from momentum_jax.comparison.folder import JUDGING, RERUNNING, TUNING, read_plan
from momentum_jax.comparison.metrics import median_of
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.wording import format_value, title_of
from momentum_jax.config import Config, task_title
from momentum_jax.optimizers.description import parse_values
from momentum_jax.report import PAGE, write_page
from momentum_jax.results.head import HEAD
from momentum_jax.results.parts import count_runs
from momentum_jax.results.tables import in_words, text_of, varying_hyperparameters
from momentum_jax.space import parse_axis, space_of
from momentum_jax.training.loop import Interrupted

DESCRIPTION = """Compares optimizers at one learning rate, at one effective learning rate, and each at its best.

Each optimizer is tuned with the same number of trials, on held-out examples and with seeds of its own; the best few
are run again before one is chosen. Then all are judged with other seeds, by paired differences with intervals. Without
arguments: plain SGD and Momentum on MNIST.

    momentum-jax compare --seeds 20
    momentum-jax compare --seeds 20 --grid effective_learning_rate=0.01:1:log --grid momentum.momentum=0:0.99:revlog
    momentum-jax compare --within 10m

Finished runs are kept in a folder, and the same command continues from there. The page is report.html in it.

Exit codes: 0 finished, 1 the tables could not be printed (the result is saved), 2 an argument cannot be used or a file
cannot be written (the message says what was saved), 130 interrupted (what was finished is saved)."""

_FOLDER = "folder for the runs and the page; by default one under runs/ named after the dataset and the config."
_DEFAULT_OPTIMIZERS = ("sgd", "momentum")
_GRID = (
    "what the tuning varies, once for each: [LABEL.]NAME=LOW:HIGH:log, or with lin or revlog, or VALUE,VALUE,...; by "
    "default effective_learning_rate=1e-3:10:log and momentum=0:0.99:revlog, or learning_rate=1e-3:1:log."
)
_TARGET = "loss to measure the time to; by default one that the best trials reach, if --rerun-seeds is 10 or more."
_FLAGS = [
    repeated_flag("grid", _GRID, metavar="[LABEL.]NAME=VALUES"),
    flag("search", Literal["random", "sobol", "grid"], "sobol", "how the trials are chosen."),
    flag("trials", int | None, None, "trials of each optimizer in the tuning; by default 16, or all of a grid."),
    flag("within", str | None, None, WITHIN_HELP, metavar="TIME"),
    flag("search_seed", int, 0, "seed of the search's draws."),
    flag("tuning_seeds", SEEDS, (3,), "runs of each trial, with seeds that the judging does not use; or these seeds."),
    flag("rerun_trials", int, 3, "trials of each optimizer, the best, that are run again before one is chosen."),
    flag("rerun_seeds", SEEDS, (10,), "runs of each of these, with seeds of their own; or these seeds; 0 for none."),
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
_SHORT_TITLES = {
    "same": "same learning rate",
    "matched": "same effective rate",
    "tuned": "each at its best",
    "tuned_alone": "best of own trials",
}
_SHORT_HEADS = {"train_loss": "training loss", "test_loss": "test loss", "test_accuracy": "test accuracy"}
# What fits a terminal of 80 columns and 24 lines: rows of a protocol, one less if there are four; and columns.
_MOST_ROWS, _MOST_HYPERPARAMETERS, _MOST_METRICS = 3, 2, 2
# The flags that `compare` takes as they are.
_OPTIONS = (
    *("search", "trials", "search_seed", "tuning_seeds", "rerun_trials", "rerun_seeds", "validation", "tune_by"),
    *("effective_learning_rate", "judge_by", "target", "margin", "level", "layout", "cluster"),
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
    name = f"{folder_name(cfg)}-comparison-{cfg.digest[:8]}"
    folder = arguments.out or pathlib.Path("runs") / (f"{name}-{arguments.within}" if arguments.within else name)
    compared = _compare(cfg, arguments, folder)
    with having_saved("the runs are", folder):
        write_page(compared, folder / PAGE)
    answer = answer_of(compared)
    if arguments.json:
        print_json(comparison_document(compared, answer, folder))
    else:
        _print_comparison(console(quiet=arguments.quiet), compared, answer, folder)


def _compare(cfg: Config, arguments: Any, folder: pathlib.Path) -> Comparison:
    labels = tuple(cfg.optimizers) if arguments.optimizers else _DEFAULT_OPTIMIZERS
    compared = dataclasses.replace(cfg, optimizers={label: cfg.optimizers[label] for label in labels})
    axes = [parse_axis(text) for text in arguments.grid]
    set_up_jax(arguments.compilation_cache)
    options = {name: getattr(arguments, name) for name in _OPTIONS} | {
        "space": space_of(axes, compared.optimizers) if axes else None,
        "learning_rate": None if arguments.learning_rate is None else _rate_of(arguments.learning_rate),
        "within": None if arguments.within is None else seconds_of(arguments.within),
    }

    def headline() -> str:
        plan = None if arguments.within is None else read_plan(folder)
        if arguments.within is not None and plan is None:
            # A pilot is choosing it.
            return ""
        said = announcement(compared, options, _finished_runs(folder), plan)
        return f"{task_title(cfg)}: {', '.join(labels)}\n{said}"

    with show_progress(headline, quiet=arguments.quiet) as progress, _warnings_in_one_line():
        try:
            return comparison.compare(cfg, *labels, folder=folder, progress=progress, **options)
        except Interrupted:
            raise KeyboardInterrupt(
                "interrupted; the runs that were finished are saved, and the same command goes on from there"
            ) from None


def _finished_runs(folder: pathlib.Path) -> int:
    """How many runs an earlier call has left in the folder."""
    stages = [folder / name for name in (TUNING, RERUNNING, JUDGING)]
    return sum(count_runs(stage)[0] for stage in stages if (stage / HEAD).exists())


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


def _print_comparison(out: Console, compared: Comparison, answer: Answer, folder: pathlib.Path) -> None:
    """Prints at most 24 lines: the medians, the answer, and what to do next. The page has the verdicts and notes."""
    _print_medians(out, compared)
    # With more optimizers all would not fit.
    several = len(compared.config.optimizers) > 2
    print_answer(out, answer, brief=several)
    out.print(answer.sure, soft_wrap=False)
    if compared.search_note and not several:
        out.print(f"{compared.search_note}.", soft_wrap=False)
    verdicts = f"{counted(len(compared.findings), 'verdict')} and " if compared.findings else ""
    out.print(written(folder, f"{PAGE}: {verdicts}{counted(len(compared.notes), 'note')}"))
    seeds, needed = compared.config.seed_tuple, seeds_needed(compared)
    if len(seeds) < needed:
        # A count stands for the seeds from 0 on.
        counts = seeds == tuple(range(len(seeds)))
        more = f"--seeds {needed}" if counts else f"{counted(needed - len(seeds), 'more seed')} and"
        out.print(f"next: the same command with {more} --out {shlex.quote(str(folder))} keeps these runs")
    else:
        out.print(f"next: open {shlex.quote(str(folder / PAGE))} in a browser")


def _print_medians(out: Console, compared: Comparison) -> None:
    """A row per protocol and optimizer: its hyperparameters, and medians of what the answer goes by."""
    metrics = _shown_metrics(compared)
    arms = [arm for protocol in compared.protocols.values() for arm in protocol.arms.values()]
    varying = varying_hyperparameters([arm.trial for arm in arms])
    names = [name for name in varying if all(_is_number(value) for value in varying[name])][:_MOST_HYPERPARAMETERS]
    cells = iter([[_cell(varying[name][i]) for name in names] for i in range(len(arms))])
    rows, left_out, most = [], 0, _MOST_ROWS if len(compared.protocols) <= _MOST_ROWS else _MOST_ROWS - 1
    for name, protocol in compared.protocols.items():
        title = _SHORT_TITLES.get(name, protocol.title)
        if protocol.skipped:
            rows.append([title, "left out", *("" for _ in (*names, *metrics))])
        for i, ((label, arm), own) in enumerate(zip(protocol.arms.items(), cells, strict=False)):
            if i >= most:
                left_out += 1
                continue
            medians = [format_value(metric, median_of(metric, arm.values[metric])) for metric in metrics]
            rows.append(["" if i else title, table_label(label), *own, *medians])
    seeds = counted(len(compared.config.seed_tuple), "seed")
    heads = [_SHORT_HEADS.get(metric) or title_of(metric, compared.target) for metric in metrics]
    columns = ["protocol", "optimizer", *map(in_words, names), *heads]
    print_table(out, f"medians of {seeds}", columns, rows, left=2)
    if left_out:
        out.print(f"and {counted(left_out, 'more row')}: --json and the page have all")


def _cell(value: Any) -> str:
    return "" if value is None else text_of(value)


def _shown_metrics(compared: Comparison) -> list[str]:
    """What the answer goes by, and the test accuracy or what else is judged."""
    judged = list(dict.fromkeys(verdict.metric for verdict in compared.verdicts))
    preferred = [decisive_metric(compared), "test_accuracy", *judged]
    return [name for name in dict.fromkeys(preferred) if name in judged][:_MOST_METRICS]


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
