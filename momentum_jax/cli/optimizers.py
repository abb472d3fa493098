"""`momentum-jax optimizers`: lists the optimizers and schedules."""

from collections.abc import Sequence

from rich.console import Console

from momentum_jax.cli.arguments import parse, switch
from momentum_jax.cli.terminal import console
from momentum_jax.optimizers import FAMILY, Method, available
from momentum_jax.optimizers.description import SCHEDULES
from momentum_jax.optimizers.family import to_qhm
from momentum_jax.optimizers.registry import WRAPPERS

DESCRIPTION = "Lists the optimizers: rule, hyperparameters with their defaults and ranges, paper; and the schedules."
_FAMILY_HELP = "prints instead which methods of other papers are a QHM, and which one."
_SYMBOLS = "p parameters, g gradient, η learning_rate, m momentum, ν nu, β_k the betas, w_k the weights, x the iterates"

_FAMILY_SENTENCE = (
    "These methods of other papers are QHM, quasi-hyperbolic momentum, with other constants. Below the rule and the "
    "paper of each, with the paper's symbols, stand:"
)
_FAMILY_ROWS = {
    "as a QHM": "the constants of QHM that give the same steps",
    "by default": "these constants for the defaults of its arguments",
    "needs": "what its arguments must satisfy to be a QHM",
    "parameters": "which of the paper's sequences `params` is",
    "same start": "the start from which both are equal",
}


def main(argv: Sequence[str], _: float) -> None:
    """Prints every method of this package, or the family of QHM.

    Raises:
      SystemExit: with 0 for --help, with 2 for an unknown argument.
    """
    values = parse(argv, "momentum-jax optimizers", DESCRIPTION, [switch("family", _FAMILY_HELP)])
    out = console()
    if values.family:
        _print_family(out)
        return
    out.print(_SYMBOLS)
    for method in available().values():
        _print_method(out, method)
    out.print("\nAround any other optimizer, from Python only:")
    for method in WRAPPERS.values():
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


def _print_family(out: Console) -> None:
    methods = available()
    out.print(_FAMILY_SENTENCE, soft_wrap=False)
    for what, meaning in _FAMILY_ROWS.items():
        out.print(f"  {what:<12}{meaning}")
    out.print(f"\nqhm: {methods['qhm'].rule}")
    out.print("  ν = 0 is sgd, ν = 1 momentum and ν = m nesterov, both at the learning rate η·(1 − m)")
    for name, member in FAMILY.items():
        symbols = (f"{key} {symbol}" for key, symbol in member.symbols.items() if key != symbol)
        out.print(f"\n{name}: {member.rule}\n  {member.paper}; {', '.join(symbols)}")
        for what, text in (
            ("as a QHM", member.formulas),
            ("by default", _default_point(name)),
            ("needs", member.needs),
            ("parameters", member.params),
            ("same start", member.start),
        ):
            if text:
                out.print(f"  {what:<12}{text}")


def _default_point(name: str) -> str:
    """Where the defaults are on the map; nothing where an argument beside the learning rate has none."""
    hyperparameters = available()[name].hyperparameters
    values = {key: 1.0 if key == "learning_rate" else entry.default for key, entry in hyperparameters.items()}
    if None in values.values():
        return ""
    qhm = to_qhm(name, values)
    return f"learning_rate = {qhm.learning_rate:.3g} times its own, momentum = {qhm.momentum:.4g}, nu = {qhm.nu:.4g}"
