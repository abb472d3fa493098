"""`momentum-jax` and `momentum-jax train`: trains, saves the result and prints its tables."""

import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich.console import Console

from momentum_jax._base.errors import InputError
from momentum_jax._base.reading import reason
from momentum_jax.analysis import first_reached, smooth_curve
from momentum_jax.cli.agreement import agreements
from momentum_jax.cli.arguments import config_flags, config_of, output_flags, parse, slug
from momentum_jax.cli.jax_setup import set_up_jax
from momentum_jax.cli.terminal import console, counted, having_saved, print_table, show_progress
from momentum_jax.config import Config
from momentum_jax.report import losses_figure, save_figure
from momentum_jax.results.result import Result
from momentum_jax.results.result_folder import check_output_folder
from momentum_jax.training import loop as training

DESCRIPTION = """Trains a network with several optimizers side by side and compares how the loss falls.

Without arguments it runs the tutorial's experiment: plain mini-batch SGD against Momentum on MNIST, and optax.sgd to
check Momentum against.

    momentum-jax
    momentum-jax --iterations 500 --seeds 10 --dataset path/to/idx/folder
    momentum-jax --optimizer a=nesterov,learning_rate=0.01,momentum=0.9 \\
                 --optimizer "b=sgd,learning_rate=step_decay(init_value=0.1,transition_steps=500,decay_rate=0.5)"

Other commands, each with --help: momentum-jax sweep (grids of runs), status (progress of a run), compare (does
momentum help here), report (a page of results), paths (optimizers on a landscape), optimizers (a list).

Exit codes: 0 finished, 1 the tables could not be printed (the result is saved), 2 an argument cannot be used or a file
cannot be written (the message says what was saved), 130 interrupted (what was finished is saved, and the same command
continues from there)."""

_FOLDER = "folder for the result; by default one under runs/ named after the dataset and the config."
CHECKPOINT = "checkpoint.npz"
_TARGET = 0.3


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
    folder = arguments.out or pathlib.Path("runs") / f"{slug(cfg.dataset)}-{cfg.digest[:8]}"
    check_output_folder(folder, cfg, also=[f"losses{suffix}" for suffix in (".png", ".svg")])
    set_up_jax(arguments.compilation_cache)
    importing = time.perf_counter() - began

    result, interrupted_at = _train(cfg, folder, quiet=arguments.quiet)
    began = time.perf_counter()
    with having_saved("the result is", folder):
        save_figure(losses_figure(result), folder / "losses")
    seconds = {"importing": importing, **result.provenance["seconds"], "drawing": time.perf_counter() - began}
    _print_result(console(quiet=arguments.quiet), result, seconds, folder)
    if interrupted_at is not None:
        raise KeyboardInterrupt(
            f"interrupted after {interrupted_at} of {cfg.iterations} iterations; these are saved, and the same command "
            "goes on from there"
        )


def _train(cfg: Config, folder: pathlib.Path, *, quiet: bool) -> tuple[Result, int | None]:
    """Trains and saves; returns the result and, after a Ctrl-C, the number of iterations that are finished."""
    interrupted_at = None
    headline = (
        f"{cfg.dataset}: {', '.join(cfg.optimizers)}; {cfg.iterations} iterations of batches of {cfg.batch_size}; "
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


def _print_result(out: Console, result: Result, seconds: Mapping[str, float], folder: pathlib.Path) -> None:
    _print_losses(out, result)
    if len(result.evaluation_iterations) > 1:
        _print_evaluations(out, result)
    _print_summary(out, result)
    for sentence in agreements(result):
        out.print(sentence)
    out.print("seconds: " + ", ".join(f"{phase} {value:.1f}" for phase, value in seconds.items()))
    out.print(f"written: {folder}{os.sep} with losses.png and losses.svg")


def _print_losses(out: Console, result: Result) -> None:
    """The loss on the batch just used: a row every 100 iterations, and about 20 rows for a long run."""
    last = int(result.iterations[-1])
    every = 100 * max(1, last // 2000)
    rows = sorted({*np.searchsorted(result.iterations, np.arange(0, last, every)).tolist(), len(result.iterations) - 1})
    print_table(
        out,
        f"loss on the batch just used, after the update{_over_seeds(result)}",
        ["iteration", *result.losses],
        (
            [str(result.iterations[row]), *(f"{np.median(losses[:, row]):.4f}" for losses in result.losses.values())]
            for row in rows
        ),
    )


def _print_evaluations(out: Console, result: Result) -> None:
    """The evaluations that `--evaluate-every` asked for, a row each."""
    kinds = {"train_loss": ("training loss", "{:.4f}"), "test_accuracy": ("test accuracy", "{:.2%}")}
    shown = {name: kind for name, kind in kinds.items() if name in result.evaluations}
    print_table(
        out,
        f"over the full sets{_over_seeds(result)}",
        ["updates", *(f"{label}: {title}" for label in result.losses for title, _ in shown.values())],
        (
            [
                str(updates),
                *(
                    form.format(np.median(result.evaluations[name][label][:, i]))
                    for label in result.losses
                    for name, (_, form) in shown.items()
                ),
            ]
            for i, updates in enumerate(result.evaluation_iterations)
        ),
    )


def _print_summary(out: Console, result: Result) -> None:
    """A row per optimizer: how its runs ended."""

    def median(values: np.ndarray | None, form: str) -> str:
        return "-" if values is None else form.format(np.median(values))

    columns: dict[str, Callable[[str], str]] = {
        "final smoothed loss": lambda label: median(smooth_curve(result.losses[label])[:, -1], "{:.4f}"),
        "training loss": lambda label: median(result.train_loss.get(label), "{:.4f}"),
        "test accuracy": lambda label: median(result.test_accuracy.get(label), "{:.2%}"),
        f"iterations to {_TARGET}": lambda label: _iterations_to(result, label, _TARGET),
        "failed runs": lambda label: _failures(result, label),
    }
    print_table(
        out,
        f"at the end{_over_seeds(result)}",
        ["optimizer", *columns],
        ([label, *(column(label) for column in columns.values())] for label in result.losses),
    )


def _over_seeds(result: Result) -> str:
    seeds = len(result.config.seed_tuple)
    return "" if seeds == 1 else f", median of {seeds} seeds"


def _failures(result: Result, label: str) -> str:
    """How many runs failed, and when the first of them diverged."""
    at = result.diverged_at[label]
    first = f", diverged at iteration {at[at >= 0].min()}" if (at >= 0).any() else ""
    return f"{result.failed[label].sum()} of {len(at)}{first}"


def _iterations_to(result: Result, label: str, level: float) -> str:
    """The median over seeds of the first iteration whose smoothed loss is at the level; a miss counts as infinite."""
    first = first_reached(smooth_curve(result.losses[label]), level)
    median = np.median(np.where(first < 0, np.inf, result.iterations[first]))
    return f"{median:.0f}" if np.isfinite(median) else "never"
