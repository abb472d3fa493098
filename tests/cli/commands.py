"""Commands as processes, and small arguments for them."""

import os
import signal
import subprocess
import sys

from tests.compiling import quick_environment

COMMAND = [sys.executable, "-c", "from momentum_jax.cli import main; main()"]
SMALL = ["--hidden-sizes", "8", "--iterations", "30", "--batch-size", "16"]
ONE = ["--optimizer", "a=sgd,learning_rate=0.01"]
# What makes a program believe that it writes to a terminal.
TERMINAL_VARIABLES = {"FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in TERMINAL_VARIABLES}
QUICK = ENVIRONMENT | {"XLA_FLAGS": quick_environment()["XLA_FLAGS"]}


def run(arguments, cwd, environment=QUICK):
    return subprocess.run([*COMMAND, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def tree(folder):
    """Every file below a folder with its bytes, and every folder."""
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def interrupt(arguments, cwd, *, stream, beginning):
    """Sends Ctrl-C once a line of the stream begins so; gives exit code and what came on standard error since."""
    with subprocess.Popen(
        [*COMMAND, *arguments], cwd=cwd, env=QUICK, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            next(line for line in getattr(process, stream) if line.startswith(beginning))
            for last in (False, False, True):
                process.send_signal(signal.SIGINT)
                try:
                    # Long enough to save on a busy machine: a second interrupt would end the saving.
                    _, errors = process.communicate(timeout=60)
                    break
                except subprocess.TimeoutExpired:
                    # Python drops an interrupt that comes while JAX's callback of the garbage collector runs.
                    if last:
                        raise
        finally:
            process.kill()
    return process.returncode, errors
