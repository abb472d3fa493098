"""`momentum-jax` and `momentum-jax train`: trains, saves the result and prints its tables."""

import itertools
import pathlib
import shlex
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich.console import Console

from momentum_jax._base.display import counted
from momentum_jax._base.errors import InputError
from momentum_jax._base.progress import show_progress
from momentum_jax._base.reading import reason
from momentum_jax.analysis import first_reached, smooth_curve
from momentum_jax.cli.agreement import agreements
from momentum_jax.cli.arguments import config_flags, config_of, folder_name, output_flags, parse
from momentum_jax.cli.documents import print_json, training_document
from momentum_jax.cli.jax_setup import set_up_jax
from momentum_jax.cli.summary import MOST_ROWS, print_answer, print_next, table_label, written
from momentum_jax.cli.terminal import console, having_saved, print_table
from momentum_jax.comparison.answer import Answer, answer_of_training
from momentum_jax.comparison.metrics import metric_of
from momentum_jax.comparison.wording import format_value
from momentum_jax.config import Config, task_title
from momentum_jax.report import losses_figure, save_figure
from momentum_jax.report.command import compare_command
from momentum_jax.results.result import Result
from momentum_jax.results.result_folder import check_output_folder
from momentum_jax.training import loop as training

DESCRIPTION = """Trains a network with several optimizers side by side and compares how the loss falls.

Without arguments it runs the tutorial's experiment: plain mini-batch SGD against Momentum on MNIST, and optax.sgd to
check Momentum against.

    momentum-jax
    momentum-jax --iterations 500 --seeds 10 --dataset path/to/idx/folder
    momentum-jax --task "convnet,channels=(8,16),residual=true"
    momentum-jax --optimizer a=nesterov,learning_rate=0.01,momentum=0.9 \\
                 --optimizer "b=sgd,learning_rate=step_decay(init_value=0.1,transition_steps=500,decay_rate=0.5)"

Other commands, each with --help: momentum-jax sweep (grids of runs), compare (does momentum help here), compare-tasks
(and on several tasks), report (a page of results), status (progress of a run), paths (optimizers on a landscape),
optimizers (a list). Without one it is momentum-jax train.

Exit codes: 0 finished, 1 the tables could not be printed (the result is saved), 2 an argument cannot be used or a file
cannot be written (the message says what was saved), 130 interrupted (what was finished is saved, and the same command
continues from there)."""

_FOLDER = "folder for the result; by default one under runs/ named after the dataset and the config."
CHECKPOINT = "checkpoint.npz"
_TARGET = 0.3
# What fits 24 lines: optimizers whose losses are shown, and how often they are.
_MOST_CURVES, _MOST_TIMES = 3, 6
# Characters of a command that is printed: five lines.
_LONGEST_COMMAND = 400
# As many as README's comparison has.
_FAIR_SEEDS = 20


def main(argv: Sequence[str], began: float) -> None:
    """Trains what the arguments describe, saves the result and prints its tables.

    Args:
      argv: the arguments.
      began: `time.perf_counter()` when the program was started, before the imports.

    Raises:
      InputError: an argument cannot be used.
      KeyboardInterrupt: Ctrl-C; with a message if there was something to save.
    """
    arguments = parse(argv, "momentum-jax", DESCRIPTION, [*config_flags(), *output_flags(_FOLDER)])
    cfg = config_of(arguments)
    folder = arguments.out or pathlib.Path("runs") / f"{folder_name(cfg)}-{cfg.digest[:8]}"
    check_output_folder(folder, cfg, also=[f"losses{suffix}" for suffix in (".png", ".svg")])
    set_up_jax(arguments.compilation_cache)
    importing = time.perf_counter() - began

    result, interrupted_at = _train(cfg, folder, quiet=arguments.quiet)
    began = time.perf_counter()
    with having_saved("the result is", folder):
        save_figure(losses_figure(result), folder / "losses")
    seconds = {"importing": importing, **result.provenance["seconds"], "drawing": time.perf_counter() - began}
    answer = answer_of_training(result)
    if arguments.json:
        print_json(training_document(result, answer, seconds, folder))
    else:
        _print_result(console(quiet=arguments.quiet), result, answer, seconds, folder)
    if interrupted_at is not None:
        raise KeyboardInterrupt(
            f"interrupted after {interrupted_at} of {cfg.iterations} iterations; these are saved, and the same command "
            "goes on from there"
        )


def _train(cfg: Config, folder: pathlib.Path, *, quiet: bool) -> tuple[Result, int | None]:
    """Trains and saves; returns the result and, after a Ctrl-C, the number of iterations that are finished."""
    interrupted_at = None
    headline = (
        f"{task_title(cfg)}: {', '.join(cfg.optimizers)}; {cfg.iterations} iterations of batches of {cfg.batch_size}; "
        f"{counted(len(cfg.seed_tuple), 'seed')}"
    )
    with show_progress(headline, quiet=quiet) as progress:
        try:
            result = training.train(cfg, checkpoint=folder / CHECKPOINT, progress=progress)
        except training.Interrupted as stop:
            if stop.result is None:
                raise KeyboardInterrupt from None
            result, interrupted_at = stop.result, stop.done
    result.save(folder)
    if interrupted_at is None:
        try:
            (folder / CHECKPOINT).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"the result is saved, but {str(folder / CHECKPOINT)!r} cannot be removed: {reason(error)}"
            ) from error
    return result, interrupted_at


def _print_result(
    out: Console, result: Result, answer: Answer, seconds: Mapping[str, float], folder: pathlib.Path
) -> None:
    """Prints at most 24 lines: how the losses fell, how they ended, the answer, and what to do next."""
    if len(result.config.optimizers) <= _MOST_CURVES:
        show = _print_evaluations if len(result.evaluation_iterations) > 1 else _print_losses
        show(out, result)
    _print_summary(out, result)
    for sentence in itertools.islice(agreements(result), 1):
        out.print(sentence, soft_wrap=False)
    print_answer(out, answer)
    took = f"{sum(seconds.values()):.0f} seconds"
    out.print(written(folder, f"losses.png and losses.svg, after {took}"))
    page = (f"momentum-jax report {shlex.quote(str(folder))}", "a page of this training")
    fair = (compare_command(result.config, _FAIR_SEEDS), "a fair comparison")
    several = len(result.config.optimizers) > 1 and len(fair[0]) <= _LONGEST_COMMAND
    print_next(out, *([fair] if several else []), page)


def _print_losses(out: Console, result: Result) -> None:
    """The loss on the batch just used, a row for each of at most six iterations."""
    iterations = result.iterations
    last = int(iterations[-1])
    rows = sorted({*np.searchsorted(iterations, np.arange(0, last, _step(last))).tolist(), len(iterations) - 1})
    shown, when = result.batch_losses
    print_table(
        out,
        f"loss on the batch just used, {when} the update{_over_seeds(result)}",
        ["iteration", *map(table_label, shown)],
        ([str(iterations[row]), *(f"{np.median(losses[:, row]):.4f}" for losses in shown.values())] for row in rows),
    )


def _step(last: int) -> int:
    """The least of 1, 2, 5, 10, 20, 50, … of which at most five multiples lie below a number."""
    powers = (int(f"1{'0' * k}") for k in itertools.count())
    return next(factor * power for power in powers for factor in (1, 2, 5) if 5 * factor * power >= last)


def _print_evaluations(out: Console, result: Result) -> None:
    """The training loss that `--evaluate-every` asked for, a row for each of at most six evaluations."""
    count = len(result.evaluation_iterations)
    rows = sorted({round(i * (count - 1) / (_MOST_TIMES - 1)) for i in range(_MOST_TIMES)})
    name = "train_loss" if "train_loss" in result.evaluations else next(iter(result.evaluations))
    print_table(
        out,
        f"{metric_of(name).title}{_over_seeds(result)}",
        ["updates", *map(table_label, result.config.optimizers)],
        (
            [
                str(result.evaluation_iterations[row]),
                *(format_value(name, np.median(values[:, row])) for values in result.evaluations[name].values()),
            ]
            for row in rows
        ),
    )


def _print_summary(out: Console, result: Result) -> None:
    """A row per optimizer: how its runs ended."""

    def median(values: np.ndarray | None, form: str) -> str:
        return "-" if values is None else form.format(np.median(values))

    columns: dict[str, Callable[[str], str]] = {
        "training loss": lambda label: median(result.train_loss.get(label), "{:.4f}"),
        "test accuracy": lambda label: median(result.test_accuracy.get(label), "{:.2%}"),
        "failed runs": lambda label: f"{result.failed[label].sum()} of {result.failed[label].size}",
    }
    if any((at >= 0).any() for at in result.diverged_at.values()):
        columns["diverged at iteration"] = lambda label: _diverged_at(result, label)
    if (result.config.task, result.config.dataset) == (Config().task, Config().dataset):
        columns[f"iterations to {_TARGET}"] = lambda label: _iterations_to(result, label, _TARGET)
    labels = list(result.config.optimizers)
    print_table(
        out,
        f"at the end{_over_seeds(result)}",
        ["optimizer", *columns],
        ([table_label(label), *(column(label) for column in columns.values())] for label in labels[:MOST_ROWS]),
    )
    if len(labels) > MOST_ROWS:
        out.print(f"and {len(labels) - MOST_ROWS} more optimizers: --json and the page have all")


def _over_seeds(result: Result) -> str:
    seeds = len(result.config.seed_tuple)
    return "" if seeds == 1 else f", median of {seeds} seeds"


def _diverged_at(result: Result, label: str) -> str:
    """When the first of the runs diverged."""
    at = result.diverged_at[label]
    return str(at[at >= 0].min()) if (at >= 0).any() else ""


def _iterations_to(result: Result, label: str, level: float) -> str:
    """The median over seeds of the first iteration whose smoothed loss is at the level; a miss counts as infinite."""
    first = first_reached(smooth_curve(result.batch_losses[0][label]), level)
    median = np.median(np.where(first < 0, np.inf, result.iterations[first]))
    return f"{median:.0f}" if np.isfinite(median) else "never"
