"""What `momentum-jax` does, one module a command."""

import importlib
from collections.abc import Sequence

from momentum_jax.errors import unknown

COMMANDS = ("train", "sweep", "compare", "report", "status", "paths", "optimizers")


def run(argv: Sequence[str], began: float) -> None:
    """Runs the command that the first word names; without one, `train`.

    Args:
      argv: the words after the program's name.
      began: `time.perf_counter()` when the program was started, before the imports.

    Raises:
      InputError: an unknown command, or something else that was given cannot be used.
      KeyboardInterrupt: Ctrl-C; with a message if there was something to save.
    """
    name, rest = ("train", argv) if not argv or argv[0].startswith("-") else (argv[0], argv[1:])
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    importlib.import_module(f"momentum_jax.commands.{name}").main(rest, began)
