"""`momentum-jax`: what a person types, one module a command. Thin: it reads words, calls the package and prints.

The commands are imported where mistakes and Ctrl-C are answered, so that an interrupt during the imports is too.
"""

import importlib
import os
import sys
import time
from collections.abc import Sequence

from momentum_jax._base.errors import InputError, unknown

COMMANDS = ("train", "sweep", "compare", "report", "status", "paths", "optimizers")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command that the first word names; without one, `train`.

    Exits with 0, 1 (nowhere to print), 2 (bad input) or 130 (interrupted).
    """
    began = time.perf_counter()
    words = sys.argv[1:] if argv is None else argv
    try:
        name, rest = ("train", words) if not words or words[0].startswith("-") else (words[0], words[1:])
        if name not in COMMANDS:
            raise unknown("command", name, COMMANDS)
        importlib.import_module(f"momentum_jax.cli.{name}").main(rest, began)
        sys.stdout.flush()
    except InputError as error:
        _exit(2, str(error))
    except KeyboardInterrupt as error:
        _exit(130, str(error) or "interrupted")
    except OSError as error:
        # What is left in the buffer cannot be printed either, when Python closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _exit(1, f"cannot print: {error.strerror}")


def _exit(code: int, message: str) -> None:
    sys.stderr.write(f"momentum-jax: {message}\n")
    sys.exit(code)
