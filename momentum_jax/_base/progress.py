"""How far a long computation is, and when it will end."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

Progress = Callable[..., None]
"""Called with a phase ("compiling", "training", "evaluating", of a sweep "runs"), the units done in it and their total;
of a sweep also with a note on speed, failures and memory."""

_QUIET_SECONDS = 2.0
_SECONDS_BETWEEN_LINES = 2.0


def no_progress(phase: str, done: int, total: int, note: str = "") -> None:
    """Says nothing."""


def default_progress() -> Progress:
    """A line on standard error that rewrites itself, where that is a terminal; otherwise nothing."""
    return line_progress(sys.stderr, end="\r") if sys.stderr.isatty() else no_progress


def line_progress(stream: TextIO, end: str = "\n", clock: Callable[[], float] = time.perf_counter) -> Progress:
    """Writes "training: 700 of 2000, 3 s left" for phases of over two seconds, at most every two seconds."""
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
