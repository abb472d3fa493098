"""Progress of long computations: what is done, and the time left."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

Progress = Callable[..., None]
"""A callback `progress(phase, done, total, note="")`.

The phase is "compiling", "training" or "evaluating", or "runs" in a sweep; `done` and `total` count its units. The note
of a sweep tells speed, failures and memory.
"""

_QUIET_SECONDS = 2.0
_SECONDS_BETWEEN_LINES = 2.0


def no_progress(phase: str, done: int, total: int, note: str = "") -> None:
    """A `Progress` that shows nothing."""


def default_progress() -> Progress:
    """The `Progress` for interactive use: one updated line on standard error if that is a terminal, else nothing."""
    return line_progress(sys.stderr, end="\r") if sys.stderr.isatty() else no_progress


def line_progress(stream: TextIO, end: str = "\n", clock: Callable[[], float] = time.perf_counter) -> Progress:
    """A `Progress` that writes lines such as "training: 700 of 2000, 3 s left" to a stream.

    It writes at most one line in two seconds, and none for phases that take less than that.
    """
    began: dict[str, tuple[float, int]] = {}
    last = clock()

    def progress(phase: str, done: int, total: int, note: str = "") -> None:
        nonlocal last
        now = clock()
        start, done_then = began.setdefault(phase, (now, done))
        elapsed, since = now - start, done - done_then
        if elapsed < _QUIET_SECONDS or now - last < _SECONDS_BETWEEN_LINES:
            return
        last = now
        left = f", {elapsed * (total - done) / since:.0f} s left" if since else ""
        stream.write(f"{phase}: {done} of {total}{left}{', ' if note else ''}{note}{end}")
        stream.flush()

    return progress
