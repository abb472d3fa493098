"""What worker processes call in the tests of `Processes`."""

import os
import pathlib
import signal
import time


def square(x):
    return x * x


def process_of(x):
    return os.getpid()


def threads(x):
    return os.environ.get("OMP_NUM_THREADS")


def die_once(path, x):
    """Ends its process, unless another has done so before."""
    try:
        with pathlib.Path(path).open("x"):
            os._exit(3)
    except FileExistsError:
        return x


def kill_itself_at_2(x):
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def note_and_wait(path, x):
    pathlib.Path(path, str(x)).write_text(str(os.getpid()))
    time.sleep(600)
