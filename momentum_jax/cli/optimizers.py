"""`momentum-jax optimizers`: lists the optimizers and schedules."""

from collections.abc import Sequence

from rich.console import Console

from momentum_jax.cli.arguments import parse
from momentum_jax.cli.terminal import console
from momentum_jax.optimizers import Method, available
from momentum_jax.optimizers.description import SCHEDULES

DESCRIPTION = "Lists the optimizers: rule, hyperparameters with their defaults and ranges, paper; and the schedules."
_SYMBOLS = "p parameters, g gradient, η learning_rate, m momentum, ν nu, β_k the betas, x the iterates"


def main(argv: Sequence[str], _: float) -> None:
    """Prints every method of this package.

    Raises:
      SystemExit: with 0 for --help, with 2 for an argument, as it takes none.
    """
    parse(argv, "momentum-jax optimizers", DESCRIPTION, [])
    out = console()
    out.print(_SYMBOLS)
    for method in available().values():
        _print_method(out, method)
    out.print("\nA hyperparameter that is a number may also be a schedule of the iteration t:")
    for name, parameters in SCHEDULES.items():
        arguments = ", ".join(p if default is None else f"{p}={default:g}" for p, default in parameters.items())
        out.print(f"  {name}({arguments})")
    out.print("\nOptimizers of Optax go by name, such as optax.adam or optax.contrib.muon.")


def _print_method(out: Console, method: Method) -> None:
    out.print(f"\n{method.name}: {method.rule}\n  {method.paper}")
    for name, entry in method.hyperparameters.items():
        default = "required" if entry.required else f"default {entry.default}"
        out.print(f"  {name:<24} {default:<26} {entry.text}")
