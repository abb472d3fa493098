"""`momentum-jax`: answers Ctrl-C and mistakes; what it does is in `commands`, imported where that can be answered."""

import os
import sys
import time
from collections.abc import Sequence

from momentum_jax.errors import InputError


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line; exits with 0, 1 (nowhere to print), 2 (bad input) or 130 (interrupted)."""
    began = time.perf_counter()
    try:
        from momentum_jax import commands

        commands.run(sys.argv[1:] if argv is None else argv, began)
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
