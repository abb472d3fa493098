"""The command line, `momentum-jax`: `main` here, and one module per command.

A command module has `main(argv, began)`: it parses its arguments, calls the package and prints. It computes nothing
that a Python caller could not get. `arguments.py` has the flags, `terminal.py` prints, `summary.py` prints what stands
below the tables, `documents.py` what `--json` prints, and `announcement.py` says what a comparison will train.
"""

import importlib
import io
import os
import sys
import time
from collections.abc import Sequence

from momentum_jax._base.errors import InputError, unknown

COMMANDS = ("train", "sweep", "compare", "compare-tasks", "report", "status", "paths", "optimizers")


class PrintError(Exception):
    """Raised where standard output cannot be written, for another reason than that its reader has gone."""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command that the first word names, or `train` if the first word is a flag or missing.

    Exits with 0 (finished), 1 (cannot print), 2 (bad input) or 130 (interrupted).
    """
    began = time.perf_counter()
    _prepare_streams()
    words = sys.argv[1:] if argv is None else argv
    try:
        name, rest = ("train", words) if not words or words[0].startswith("-") else (words[0], words[1:])
        if name not in COMMANDS:
            raise unknown("command", name, COMMANDS)
        # Imported here, so that Ctrl-C during these slow imports is handled too.
        importlib.import_module(f"momentum_jax.cli.{name.replace('-', '_')}").main(rest, began)
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise PrintError(error.strerror) from error
    except InputError as error:
        _exit(2, str(error))
    except KeyboardInterrupt as error:
        _exit(130, str(error) or "interrupted")
    except (BrokenPipeError, PrintError) as error:
        # Python flushes standard output again when it exits; without this the flush would fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _exit(1, f"cannot print: {getattr(error, 'strerror', error)}")


def _prepare_streams() -> None:
    """Makes sure that printing cannot fail for a stream that is closed, or a character that it does not have."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # Otherwise the next file that is opened would take the stream's number, and what is printed go into it.
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and stream.writable():
            stream.reconfigure(errors="backslashreplace")


def _exit(code: int, message: str) -> None:
    sys.stderr.write(f"momentum-jax: {' '.join(message.splitlines())}\n")
    sys.exit(code)
