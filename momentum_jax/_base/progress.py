"""Progress of long computations: what is done, the time left, and where that is shown."""

import contextlib
import contextvars
import datetime
import functools
import html
import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Protocol, TextIO, runtime_checkable

Progress = Callable[..., None]
"""A function `progress(phase, done, total)`, in sweeps and comparisons `progress(phase, done, total, note)`.

The phase is "compiling", "training" or "evaluating", "runs" in a sweep, and "tuning", "rerunning", "judging" or
"timing" in a comparison, which with `within` begins with "planning". `done` and `total` count its units: iterations,
runs (of which `done` may hold parts) or rounds, and in "compiling" the size of what is compiled. The note of a sweep
tells speed, failures and memory.
"""

Report = Callable[..., None]
"""A `Progress` that is also told, by name, how far the whole is.

`whole` is the proportion of all work that is done, from 0 after compiling to 1 at the result; None while that work
pauses, as it does for compiling. `pauses` says how many of them, as long as the last one, are still to come.
"""

_QUIET_SECONDS = 2.0
_SECONDS_BETWEEN_TICKS = 0.2
_SECONDS_BETWEEN_LINES = 10.0


def no_progress(phase: str, done: float, total: float, note: str = "", **whole: Any) -> None:
    """A `Report` that shows nothing."""


@contextlib.contextmanager
def reporting_to(progress: Progress | Literal[False] | None) -> Iterator[Report]:
    """Gives what to report to: the caller's function, nothing for False, and a display in the block for None."""
    if progress is None:
        with show_progress() as shown:
            yield shown
    elif progress is False:
        yield no_progress
    else:
        yield progress if isinstance(progress, Display) else functools.partial(_call, progress)


def _call(progress: Progress, *reported: Any, **whole: Any) -> None:
    """Calls a function that is not told of the whole."""
    del whole
    progress(*reported)


@contextlib.contextmanager
def show_progress(headline: str | Callable[[], str] = "", *, quiet: bool = False) -> Iterator[Report]:
    """Shows in the block what is reported: a bar in notebooks and on terminals, elsewhere a line every ten seconds.

    A bar begins after two seconds and vanishes at the end. The headline is printed at the first report, since the
    arguments have been checked by then. One that is still empty is asked for again at the next report.
    """
    screen = None if quiet else _screen()
    if screen is None:
        yield no_progress
        return
    display, ended = Display(screen, headline), threading.Event()

    def tick() -> None:
        with _without_a_reader():
            while not ended.wait(_SECONDS_BETWEEN_TICKS):
                display.tick()

    # A notebook's kernel finds in the context which of its inputs the output belongs to.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(tick,), daemon=True)
    try:
        thread.start()
        yield display
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()
        with _without_a_reader():
            screen.close()


def _without_a_reader() -> contextlib.suppress:
    """What has no reader any more, such as a closed pipe, is no reason to fail."""
    return contextlib.suppress(OSError, ValueError)


class Estimate(NamedTuple):
    """How long the rest of the work takes, at the speed of what was done so far.

    Attributes:
      at: when the last report was, or the pause began.
      works: whether the work goes on; else it pauses.
      seconds: that were worked.
      done: the proportion of all the work that was done in them.
      whole: the proportion that is done.
      pause: seconds of the last pause.
      pauses: how many are still to come, or under way.
    """

    at: float
    works: bool = False
    seconds: float = 0.0
    done: float = 0.0
    whole: float = 0.0
    pause: float = 0.0
    pauses: int = 0

    def after(self, now: float, whole: float | None, pauses: int = 0) -> "Estimate":
        """The estimate when this proportion of the work is done, or when it pauses."""
        if whole is None:
            return self._replace(at=now, works=False) if self.works else self
        if not self.works:
            return self._replace(at=now, works=True, whole=whole, pause=now - self.at, pauses=pauses)
        seconds, done = self.seconds + now - self.at, self.done + whole - self.whole
        return self._replace(at=now, seconds=seconds, done=done, whole=whole, pauses=pauses)

    def left(self, now: float) -> float | None:
        """The seconds left; None if nothing is known, or more has passed than was left."""
        if self.done <= 0:
            return None
        passed = now - self.at if self.works else min(now - self.at, self.pause)
        left = self.seconds / self.done * (1 - self.whole) + self.pauses * self.pause - passed
        return left if left >= 0 else None


class Shown(NamedTuple):
    """What is shown.

    Attributes:
      phase: what is going on.
      how_far: that is, such as "700 of 2000" or "35 %"; empty if it has just begun.
      whole: from 0 to 1, the length of the bar; None if it is not known.
      time: that is left, or has passed.
      note: more about it.
    """

    phase: str
    how_far: str
    whole: float | None
    time: str
    note: str

    @property
    def line(self) -> str:
        return ", ".join(text for text in (f"{self.phase}: {self.how_far}".strip(": "), self.time, self.note) if text)


@runtime_checkable
class Screen(Protocol):
    """Where progress is shown.

    Attributes:
      quiet_seconds: from the beginning to what is shown first.
      seconds: from one drawing to the next.
    """

    quiet_seconds: float
    seconds: float

    def say(self, text: str) -> None:
        """Shows a text that stays."""

    def draw(self, shown: Shown) -> None:
        """Shows how far the work is, in place of what it showed before where it can."""

    def close(self) -> None:
        """Ends."""


class Display:
    """A `Report` that is shown on a screen, whenever `tick` finds that it is time."""

    def __init__(
        self, screen: Screen, headline: str | Callable[[], str] = "", clock: Callable[[], float] = time.monotonic
    ):
        self._screen, self._headline, self._clock = screen, headline, clock
        self._began = clock()
        self._due = self._began + screen.quiet_seconds
        self._estimate = Estimate(self._began)
        # Until the first report the task is prepared.
        self._reported: tuple[str, float, float, str, float | None] = ("loading", 0, 0, "", None)

    def __call__(
        self, phase: str, done: float, total: float, note: str = "", *, whole: float | None = None, pauses: int = 0
    ) -> None:
        if headline := self._headline() if callable(self._headline) else self._headline:
            self._headline = ""
            with _without_a_reader():
                self._screen.say(headline)
        self._estimate = self._estimate.after(self._clock(), whole, pauses)
        self._reported = phase, done, total, note, whole

    def tick(self) -> None:
        """Draws if it is time."""
        now = self._clock()
        if now >= self._due:
            self._due = now + self._screen.seconds
            self._screen.draw(self._shown(now))

    def _shown(self, now: float) -> Shown:
        phase, done, total, note, whole = self._reported
        left = self._estimate.left(now)
        spent = f"{_clock_text(now - self._began)} so far" if left is None else f"{_clock_text(left)} left"
        if not done:
            return Shown(phase, "", whole, spent, note)
        # The size of what is compiled says nothing to anybody.
        how_far = f"{done / total:.0%}".replace("%", " %") if phase == "compiling" else f"{int(done)} of {total}"
        return Shown(phase, how_far, done / total if whole is None else whole, spent, note)


def _clock_text(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))


def _screen() -> Screen | None:
    """Where this process shows progress; None if it has nothing to show it on."""
    if _in_notebook():
        return NotebookBar()
    if sys.stderr is None or sys.stderr.closed:
        return None
    redraws = sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")
    return TerminalBar() if redraws and importlib.util.find_spec("rich") else Lines(sys.stderr)


def _in_notebook() -> bool:
    # Whoever runs in a notebook has imported it.
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


class Lines:
    """A line every ten seconds."""

    quiet_seconds = seconds = _SECONDS_BETWEEN_LINES

    def __init__(self, stream: TextIO):
        self._stream = stream

    def say(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def draw(self, shown: Shown) -> None:
        self.say(shown.line)

    def close(self) -> None:
        pass


class TerminalBar:
    """A bar on the terminal that is standard error.

    What is printed meanwhile goes above the bar, but stays in its file where standard output is one. It is redirected
    from here to `close`, in the caller's thread: a bar begins later and in another, where the caller may have
    redirected standard output himself.
    """

    quiet_seconds = _QUIET_SECONDS
    seconds = _SECONDS_BETWEEN_TICKS

    def __init__(self) -> None:
        from rich.console import Console
        from rich.file_proxy import FileProxy
        from rich.live import Live

        console = Console(stderr=True)
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._redirected = contextlib.ExitStack()
        for stream, redirect in ((sys.stdout, contextlib.redirect_stdout), (sys.stderr, contextlib.redirect_stderr)):
            if stream is not None and stream.isatty():
                # It may have been redirected for another bar.
                original = getattr(stream, "rich_proxied_file", stream)
                self._redirected.enter_context(redirect(FileProxy(console, original)))

    def say(self, text: str) -> None:
        self._live.console.print(text, markup=False, emoji=False, highlight=False)

    def draw(self, shown: Shown) -> None:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        row = Table.grid(padding=(0, 1))
        row.add_row(
            f"{shown.phase:<10}",
            ProgressBar(total=1.0, completed=shown.whole or 0.0, pulse=shown.whole is None, width=40),
            *(Text(text, no_wrap=True) for text in (shown.how_far, shown.time, shown.note)),
        )
        self._live.start()
        self._live.update(row, refresh=True)

    def close(self) -> None:
        with self._redirected:
            self._live.stop()


class NotebookBar:
    """A bar in one output of a notebook's cell, which is updated in place and empty at the end."""

    quiet_seconds = _QUIET_SECONDS
    seconds = 1.0

    def __init__(self) -> None:
        self._handle: Any = None

    def say(self, text: str) -> None:
        print(text)  # noqa: T201

    def draw(self, shown: Shown) -> None:
        value = "" if shown.whole is None else f' value="{shown.whole:.3f}"'
        self._show(shown.line, f"<progress{value}></progress> {html.escape(shown.line)}")

    def close(self) -> None:
        if self._handle is not None:
            self._show("", "")

    def _show(self, text: str, markup: str) -> None:
        from IPython.display import display

        bundle = {"text/plain": text, "text/html": markup}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
