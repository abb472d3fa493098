"""`momentum-jax` and `momentum-jax train`: trains, saves the result and prints its tables."""

import itertools
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tyro
from rich.table import Table

from momentum_jax.analysis import first_reached, smooth_curve
from momentum_jax.cli.arguments import arguments_type, config_of, counted, set_up_jax, slug
from momentum_jax.cli.terminal import console, show_progress, table_of
from momentum_jax.config import Config
from momentum_jax.optimizers.description import OptimizerConfig, Schedule
from momentum_jax.report import losses_figure, save_figure
from momentum_jax.results.result import Result
from momentum_jax.results.result_folder import check_output_folder
from momentum_jax.training import loop as training

DESCRIPTION = """Trains a network with several optimizers side by side and compares how the loss falls.

Without arguments: the tutorial's experiment, plain mini-batch SGD against Momentum on MNIST, with optax.sgd as a
witness.

    momentum-jax
    momentum-jax --iterations 500 --seeds 10 --dataset path/to/idx/folder
    momentum-jax --optimizer a=nesterov,learning_rate=0.01,momentum=0.9 \\
                 --optimizer "b=sgd,learning_rate=step_decay(init_value=0.1,transition_steps=500,decay_rate=0.5)"

Other commands, each with --help: momentum-jax sweep (grids of runs), status (how far one is), compare (does momentum
help here), report (a page of results), paths (optimizers on a landscape), optimizers (a list).

Exit codes: 0 finished, 1 the tables could not be printed (the result is saved), 2 something given cannot be used,
130 interrupted (what was finished is saved, and the same command goes on from there)."""

FOLDER = "folder for the result; by default one under runs/ named after the dataset and the config."
CHECKPOINT = "checkpoint.npz"
TARGET = 0.3
_AGREEMENT = {"float32": 1e-6, "float64": 1e-12, "bfloat16": 1e-2}


def main(argv: Sequence[str], began: float) -> None:
    """Trains what the command line describes, saves the result and prints its tables.

    Args:
      argv: the flags.
      began: `time.perf_counter()` when the program was started, before the imports.

    Raises:
      InputError: something that was given cannot be used.
      KeyboardInterrupt: Ctrl-C; with a message if there was something to save.
    """
    arguments = tyro.cli(arguments_type(FOLDER), args=argv, prog="momentum-jax", description=DESCRIPTION)
    cfg = config_of(arguments)
    folder = arguments.out or pathlib.Path("runs") / f"{slug(cfg.dataset)}-{cfg.digest[:8]}"
    check_output_folder(folder, cfg, also=[f"losses{suffix}" for suffix in (".png", ".svg")])
    set_up_jax(arguments.compilation_cache)
    importing = time.perf_counter() - began

    interrupted = 0
    with show_progress(_headline(cfg), quiet=arguments.quiet) as progress:
        try:
            result = training.train(cfg, checkpoint=folder / CHECKPOINT, progress=progress)
        except training.Interrupted as stop:
            if stop.result is None:
                raise KeyboardInterrupt from None
            result, interrupted = stop.result, stop.done
    result.save(folder)
    if not interrupted:
        (folder / CHECKPOINT).unlink(missing_ok=True)
    began = time.perf_counter()
    save_figure(losses_figure(result), folder / "losses")
    seconds = {"importing": importing, **result.provenance["seconds"], "drawing": time.perf_counter() - began}

    out = console(quiet=arguments.quiet)
    out.print(_loss_table(result, plain=not out.is_terminal))
    if len(result.evaluation_iterations) > 1:
        out.print(_evaluation_table(result, plain=not out.is_terminal))
    out.print(_summary_table(result, plain=not out.is_terminal))
    for line in _agreements(result):
        out.print(line)
    out.print("seconds: " + ", ".join(f"{phase} {value:.1f}" for phase, value in seconds.items()))
    out.print(f"written: {folder}{os.sep} with losses.png and losses.svg")
    if interrupted:
        raise KeyboardInterrupt(
            f"interrupted after {interrupted} of {cfg.iterations} iterations; these are saved, and the same command "
            "goes on from there"
        )


def _headline(cfg: Config) -> str:
    return (
        f"{cfg.dataset}: {', '.join(cfg.optimizers)}; {cfg.iterations} iterations of batches of {cfg.batch_size}; "
        f"{counted(len(cfg.seed_tuple), 'seed')}"
    )


def _over_seeds(result: Result) -> str:
    seeds = len(result.config.seed_tuple)
    return "" if seeds == 1 else f", median of {seeds} seeds"


def _loss_table(result: Result, *, plain: bool) -> Table:
    """The loss on the batch just used, every 100 iterations, or in some 20 rows for a longer run."""
    last = int(result.iterations[-1])
    every = 100 * max(1, last // 2000)
    rows = sorted({*np.searchsorted(result.iterations, np.arange(0, last, every)).tolist(), len(result.iterations) - 1})
    title = f"loss on the batch just used, after the update{_over_seeds(result)}"
    table = table_of(title, ["iteration", *result.losses], plain=plain)
    for row in rows:
        table.add_row(
            str(result.iterations[row]),
            *(f"{np.median(losses[:, row]):.4f}" for losses in result.losses.values()),
        )
    return table


def _summary_table(result: Result, *, plain: bool) -> Table:
    def median(values: np.ndarray | None, form: str) -> str:
        return "-" if values is None else form.format(np.median(values))

    columns: dict[str, Callable[[str], str]] = {
        "final smoothed loss": lambda label: median(smooth_curve(result.losses[label])[:, -1], "{:.4f}"),
        "training loss": lambda label: median(result.train_loss.get(label), "{:.4f}"),
        "test accuracy": lambda label: median(result.test_accuracy.get(label), "{:.2%}"),
        f"iterations to {TARGET}": lambda label: _iterations_to(result, label, TARGET),
        "failed runs": lambda label: _failures(result, label),
    }
    table = table_of(f"at the end{_over_seeds(result)}", ["optimizer", *columns], plain=plain)
    for label in result.losses:
        table.add_row(label, *(column(label) for column in columns.values()))
    return table


def _evaluation_table(result: Result, *, plain: bool) -> Table:
    """What `--evaluate-every` asked for."""
    kinds = {"train_loss": ("training loss", "{:.4f}"), "test_accuracy": ("test accuracy", "{:.2%}")}
    shown = {name: kind for name, kind in kinds.items() if name in result.evaluations}
    headers = [f"{label}: {kind}" for label in result.losses for kind, _ in shown.values()]
    table = table_of(f"over the full sets{_over_seeds(result)}", ["updates", *headers], plain=plain)
    for i, updates in enumerate(result.evaluation_iterations):
        entries = [
            form.format(np.median(result.evaluations[name][label][:, i]))
            for label in result.losses
            for name, (_, form) in shown.items()
        ]
        table.add_row(str(updates), *entries)
    return table


def _failures(result: Result, label: str) -> str:
    """How many runs failed, and when the first of them diverged."""
    at = result.diverged_at[label]
    first = f", diverged at iteration {at[at >= 0].min()}" if (at >= 0).any() else ""
    return f"{result.failed[label].sum()} of {len(at)}{first}"


def _iterations_to(result: Result, label: str, level: float) -> str:
    """Median over seeds of the first iteration whose smoothed loss is at the level; a miss counts as later than all."""
    first = first_reached(smooth_curve(result.losses[label]), level)
    middle = np.median(np.where(first < 0, np.inf, result.iterations[first]))
    return f"{middle:.0f}" if np.isfinite(middle) else "never"


def _agreements(result: Result) -> Iterator[str]:
    """How closely an optimizer of this package agrees with Optax's own of the same rule and hyperparameters."""
    tolerance = _AGREEMENT[result.config.dtype]
    for (label, own), (witness, theirs) in itertools.product(result.config.optimizers.items(), repeat=2):
        if theirs != _in_optax(own):
            continue
        ours, reference = result.losses[label], result.losses[witness]
        # Two runs that diverged in the same way agree; one that alone is not finite does not.
        with np.errstate(invalid="ignore", divide="ignore"):
            difference = np.where(ours == reference, 0, np.abs(ours - reference) / np.abs(reference))
        difference[np.isnan(ours) & np.isnan(reference)] = 0
        apart = first_reached(-np.nan_to_num(difference, nan=np.inf), -tolerance)
        if (apart < 0).all():
            yield f"{label} and {witness} agree to {tolerance:g} at every iteration (relative difference of the loss)"
            continue
        parted = result.iterations[np.sort(apart[apart >= 0])]
        when = f"iteration {parted[0]}" if len(parted) == 1 else f"iterations {parted[0]} to {parted[-1]}, by seed"
        cause = "rounding has flipped a ReLU" if result.config.activation == "relu" else "rounding errors have grown"
        yield (
            f"{label} and {witness} agree to {tolerance:g} up to {when}; from there {cause}, and they differ as two "
            "roundings of one run do"
        )


def _in_optax(config: OptimizerConfig) -> OptimizerConfig | None:
    """The same rule with the same hyperparameters as `optax.sgd` has it, which keeps the rate outside the velocity."""
    defaults = {"sgd": {}, "momentum": {"momentum": 0.9}, "nesterov": {"momentum": 0.9, "nesterov": True}}
    hyperparameters = config.hyperparameters
    convention = hyperparameters.pop("convention", "outside" if config.name == "sgd" else "inside")
    differs = convention != "outside" and isinstance(hyperparameters.get("learning_rate"), Schedule)
    if config.name not in defaults or differs:
        return None
    return OptimizerConfig("optax.sgd", **{**defaults[config.name], **hyperparameters})
