"""`momentum-jax report`: writes the page of a comparison, a sweep or trainings."""

import math
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated

import tyro

from momentum_jax._base.errors import InputError
from momentum_jax.cli.arguments import flags_of
from momentum_jax.cli.compare import command_of
from momentum_jax.cli.terminal import console
from momentum_jax.comparison.folder import HEAD
from momentum_jax.comparison.result import Comparison
from momentum_jax.report import PAGE, write_figures, write_page
from momentum_jax.results.result import Result
from momentum_jax.results.tables import varying_hyperparameters
from momentum_jax.space import Trial, text_of_axis

DESCRIPTION = """Writes the page of what momentum-jax compare, sweep or train left in a folder: one HTML file.

    momentum-jax report runs/mnist-comparison-0123abcd
    momentum-jax report runs/a runs/b --out both.html     (two trainings of one task, judged against each other)
    momentum-jax report runs/mnist-comparison-0123abcd --figures paper

Exit codes: 0 written, 2 something given cannot be used."""


def main(argv: Sequence[str], began: float) -> None:
    """Writes the page, and with `--figures` the figures.

    Raises:
      InputError: a folder holds nothing that can be shown, or what several hold cannot be compared.
    """
    del began
    folders, out, figures = tyro.cli(_arguments, args=argv, prog="momentum-jax report", description=DESCRIPTION)
    out = out or folders[0] / PAGE
    shown: Comparison | list[Result]
    if len(folders) == 1 and (folders[0] / HEAD).exists():
        shown = Comparison.load(folders[0])
        command = command_of(shown)
    else:
        for folder in folders:
            if (folder / HEAD).exists():
                raise InputError(f"{str(folder)!r} holds a comparison, which stands for itself; show it alone")
        shown = [Result.load(folder) for folder in folders]
        command = "\n".join(map(_command, shown))
    write_page(shown, out, command)
    console().print(f"written: {out}")
    if figures is not None:
        for path in write_figures(shown, figures):
            console().print(f"written: {path}")


def _arguments(
    folders: Annotated[tuple[pathlib.Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DIR [DIR ...]")],
    /,
    out: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE", help="by default report.html in DIR.")] = None,
    figures: Annotated[
        pathlib.Path | None, tyro.conf.arg(metavar="DIR", help="also write the figures there, as PNG, SVG and PDF.")
    ] = None,
) -> tuple[tuple[pathlib.Path, ...], pathlib.Path | None, pathlib.Path | None]:
    """Reads the words, for the parser."""
    return folders, out, figures


def _command(result: Result) -> str:
    """The command that repeats a training, or the sweep of a grid."""
    flags = flags_of(result.config)
    if result.trials is None:
        return shlex.join(["momentum-jax", "train", *flags])
    axes = {label: varying_hyperparameters(own) for label, own in result.trials.items()}
    if not all(_is_grid(axes[label], own) for label, own in result.trials.items()):
        return "# a search: momentum-jax sweep --search ... with\n" + shlex.join(["momentum-jax", "sweep", *flags])
    words = [
        word
        for label, own in axes.items()
        for name, values in own.items()
        for word in ("--grid", f"{label}.{name}={text_of_axis(list(dict.fromkeys(values)))}")
    ]
    return shlex.join(["momentum-jax", "sweep", *flags, *words])


def _is_grid(axes: Mapping[str, Sequence[object]], trials: Sequence[Trial]) -> bool:
    sizes = [len(dict.fromkeys(map(repr, values))) for values in axes.values()]
    rows = set(map(repr, zip(*axes.values(), strict=True))) if axes else set()
    return math.prod(sizes) == len(trials) == max(len(rows), 1)
