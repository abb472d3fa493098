"""`momentum-jax optimizers`: what there is to compare."""

from collections.abc import Sequence

import tyro
from rich.console import Console

from momentum_jax.cli.terminal import console
from momentum_jax.optimizers import Method, available
from momentum_jax.optimizers.description import SCHEDULES

DESCRIPTION = "Lists the optimizers: rule, hyperparameters with their defaults and ranges, paper; and the schedules."
SYMBOLS = "p parameters, g gradient, η learning_rate, m momentum, ν nu, β_k the betas, x the points it goes through"


def main(argv: Sequence[str], began: float) -> None:
    """Prints every method of this package.

    Raises:
      SystemExit: for --help (0) and for arguments, of which it takes none (2).
    """
    del began
    tyro.cli(_no_arguments, args=argv, prog="momentum-jax optimizers", description=DESCRIPTION)
    out = console()
    out.print(SYMBOLS)
    for method in available().values():
        _print_method(out, method)
    out.print("\nA hyperparameter that is a number may also be a schedule of the iteration t:")
    for name, parameters in SCHEDULES.items():
        arguments = ", ".join(p if default is None else f"{p}={default:g}" for p, default in parameters.items())
        out.print(f"  {name}({arguments})")
    out.print("\nOptimizers of Optax go by name, such as optax.adam or optax.contrib.muon.")


def _no_arguments() -> None:
    """Takes no arguments, for the parser."""


def _print_method(out: Console, method: Method) -> None:
    out.print(f"\n{method.name}: {method.rule}\n  {method.paper}")
    for name, entry in method.hyperparameters.items():
        default = "required" if entry.required else f"default {entry.default}"
        out.print(f"  {name:<24} {default:<26} {entry.text}")
