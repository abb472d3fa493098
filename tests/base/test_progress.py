"""Estimates and displays of progress, with a clock that the test turns; and a bar in a notebook's kernel."""

import contextlib
import io
import itertools
import sys
import threading
import time

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbclient import NotebookClient

from momentum_jax._base import progress as module
from momentum_jax._base.progress import Display, Lines, TerminalBar, no_progress, reporting_to, show_progress


class Turned:
    """A display whose clock is turned by hand, second by second."""

    def __init__(self, screen, headline=""):
        self.now = 0.0
        self.display = Display(screen, headline, clock=lambda: self.now)

    def wait(self, seconds):
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.display.tick()


class Noted:
    """A screen that notes what is drawn."""

    quiet_seconds, seconds = 2.0, 1.0

    def __init__(self):
        self.said, self.drawn = [], []
        self.say, self.draw = self.said.append, self.drawn.append


def test_a_bar_begins_after_two_seconds_also_where_nothing_is_reported():
    screen = Noted()
    shown = Turned(screen)
    shown.wait(1.8)
    assert screen.drawn == []
    shown.wait(0.4)
    assert [drawn.line for drawn in screen.drawn] == ["loading, 0:00:02 so far"]


def test_lines_begin_after_ten_seconds_and_are_ten_seconds_apart():
    stream = io.StringIO()
    shown = Turned(Lines(stream), "MNIST: sgd")
    shown.display("training", 0, 100, whole=0.0)
    shown.wait(9.8)
    assert stream.getvalue() == "MNIST: sgd\n"
    shown.wait(20.5)
    assert stream.getvalue().count("\n") == 1 + 3


def test_a_headline_that_is_empty_at_first_is_said_once_as_soon_as_it_is_known():
    screen, headlines = Noted(), iter(["", "", "two trials"])
    shown = Turned(screen, lambda: next(headlines))
    for phase in ("planning", "planning", "tuning", "tuning"):
        shown.display(phase, 0, 100)
    assert screen.said == ["two trials"]


@pytest.mark.parametrize(
    ("calls", "line"),
    [
        # 25 of 100 in 10 s: 75 more take 30 s.
        ([(0, "training", 0, 100, "", 0.0), (10, "training", 25, 100, "", 0.25)], "training: 25 of 100, 0:00:30 left"),
        # Nothing is done, so nothing is known.
        ([(0, "training", 0, 100, "", 0.0)], "training, 0:00:10 so far"),
        # What is compiled is no time of the training: 10 of 40 in 5 s.
        (
            [(0, "compiling", 1, 5), (5, "training", 0, 40, "", 0.0), (10, "training", 10, 40, "", 0.25)],
            "training: 10 of 40, 0:00:15 left",
        ),
        # A training that goes on from 100 of 1000; the 100 since took 4 s, so 800 take 32 s.
        (
            [(6, "training", 100, 1000, "", 0.1), (10, "training", 200, 1000, "", 0.2)],
            "training: 200 of 1000, 0:00:32 left",
        ),
        # Of all the work, not of the phase: a quarter took 5 s, and the clock stands while something is compiled.
        (
            [(0, "tuning", 0, 4, "", 0.0), (5, "tuning", 2, 4, "a note", 0.25), (5, "compiling", 0, 9)],
            "compiling, 0:00:15 left",
        ),
        # What was there already took no time: judging begins at 0.5, and 0.1 takes 2 s.
        (
            [
                (0, "tuning", 4, 4, "", 0.5),
                (0, "judging", 0, 4),
                (8, "judging", 2, 4, "", 0.8),
                (10, "judging", 3, 4, "", 0.9),
            ],
            "judging: 3 of 4, 0:00:02 left",
        ),
        # Parts of runs count.
        ([(0, "runs", 0.0, 8, "", 0.0), (10, "runs", 0.8, 8, "", 0.1)], "runs: 0 of 8, 0:01:30 left"),
        ([(0, "compiling", 350, 1000)], "compiling: 35 %, 0:00:10 so far"),
    ],
)
def test_the_time_left_is_what_the_rest_of_all_the_work_takes_at_the_speed_so_far(calls, line):
    shown, screen = None, Noted()
    shown = Turned(screen)
    for now, *call in calls:
        shown.now = now
        shown.display(*call[:4], whole=call[4] if len(call) > 4 else None)
    shown.now = 10.0
    shown.display.tick()
    assert screen.drawn[-1].line.replace(", a note", "") == line


def test_between_reports_the_time_left_runs_down_and_then_the_time_so_far_is_shown():
    screen = Noted()
    shown = Turned(screen)
    shown.display("training", 0, 100, whole=0.0)
    shown.now = 10.0
    shown.display("training", 80, 100, whole=0.8)
    shown.wait(4)
    times = [drawn.time for drawn in screen.drawn]
    assert times[:3] == ["0:00:02 left", "0:00:01 left", "0:00:00 left"]
    assert times[-1].endswith("so far")


@given(st.lists(st.floats(0.05, 5), min_size=3, max_size=40), st.floats(1, 500))
def test_at_a_steady_speed_every_estimate_is_right_however_the_reports_lie(pauses, compiling):
    # Oracle: one unit a second. The tolerance is that of sums of floats; the display rounds to seconds.
    total = sum(pauses)
    estimate = module.Estimate(0.0).after(0.0, None).after(compiling, 0.0)
    now = compiling
    for pause in pauses[:-1]:
        now += pause
        estimate = estimate.after(now, (now - compiling) / total)
        assert estimate.left(now) == pytest.approx(compiling + total - now, rel=1e-6, abs=1e-6)


def test_a_pause_that_is_still_to_come_takes_as_long_as_the_last_one():
    # Compiling took 4 s, a quarter of the work 2 s. Left are 6 s of work and a pause of 4 s.
    estimate = module.Estimate(0.0).after(1.0, None).after(4.0, 0.0, 1).after(6.0, 0.25, 1)
    assert estimate.left(6.0) == 10.0
    # It begins after 3 s more of work, and 3 s are left of it and 3 s of work; were it longer, nothing ran down.
    paused = estimate.after(9.0, 0.625, 1).after(9.0, None)
    assert paused.left(10.0) == 3.0 + 3.0
    assert paused.left(99.0) == 3.0
    # When it is over only work is left, and 3 s of it are 0.375.
    assert paused.after(15.0, 0.625, 0).left(16.0) == 2.0


def test_the_headline_is_said_once_at_the_first_report():
    screen = Noted()
    shown = Turned(screen, "MNIST")
    shown.wait(3)
    assert screen.said == []
    for done in (1, 2):
        shown.display("training", done, 2, whole=done / 2)
    assert screen.said == ["MNIST"]


def test_false_shows_nothing_and_a_function_is_not_told_of_the_whole(capsys):
    with reporting_to(False) as report:
        assert report is no_progress
    calls = []
    with reporting_to(lambda *call: calls.append(call)) as report:
        report("training", 1, 2, whole=0.5)
        report("runs", 1.5, 2, "3 runs/s", whole=0.75)
    assert calls == [("training", 1, 2), ("runs", 1.5, 2, "3 runs/s")]
    assert capsys.readouterr() == ("", "")


def test_a_display_that_is_given_as_progress_is_not_shown_twice():
    display = Display(Noted())
    with reporting_to(display) as report:
        assert report is display


class Broken(io.StringIO):
    """A pipe that nobody reads."""

    def write(self, text):
        raise BrokenPipeError


class Gone(Lines):
    """Whose end needs the stream too, as that of a bar."""

    def close(self):
        self.say("")


@pytest.mark.parametrize("headline", ["", "MNIST: sgd"])
@pytest.mark.parametrize("stream", [io.StringIO, Broken])
def test_a_stream_that_is_closed_meanwhile_is_no_reason_to_fail(monkeypatch, stream, headline):
    shown_on = stream()
    monkeypatch.setattr(Lines, "quiet_seconds", 0.0)
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_TICKS", 0.001)
    monkeypatch.setattr(module, "_screen", lambda: Gone(shown_on))
    with show_progress(headline) as report:
        if stream is io.StringIO:
            shown_on.close()
        for _ in itertools.repeat(None, 3):
            report("training", 1, 2, whole=0.5)


def test_an_error_of_the_headline_is_raised():
    def headline():
        raise ValueError("of the headline")

    with pytest.raises(ValueError, match="of the headline"):
        Turned(Noted(), headline).display("training", 1, 2)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_that_begins_where_standard_output_is_redirected_leaves_it_as_it_was(monkeypatch):
    stdout, stderr, captured = Terminal(), Terminal(), io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(TerminalBar, "quiet_seconds", 0.0)
    with show_progress("MNIST: sgd") as report:
        report("training", 1, 2, whole=0.5)
        with contextlib.redirect_stdout(captured):
            began = time.monotonic()
            while "1 of 2" not in stderr.getvalue():
                assert time.monotonic() - began < 300
                time.sleep(0.01)
            sys.stdout.write("captured\n")
        sys.stdout.write("above the bar\n")
        sys.stderr.write("also above\n")
    assert (sys.stdout, sys.stderr) == (stdout, stderr)
    assert captured.getvalue() == "captured\n"
    assert "above the bar\n" in stderr.getvalue()
    assert "also above\n" in stderr.getvalue()


def test_a_ctrl_c_at_the_start_leaves_no_thread_that_ticks(monkeypatch):
    screen, start = Noted(), threading.Thread.start
    screen.close = lambda: screen.said.append("closed")

    def start_and_press(thread):
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_screen", lambda: screen)
    monkeypatch.setattr(threading.Thread, "start", start_and_press)
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt), show_progress():
        pass
    assert set(threading.enumerate()) <= before
    assert screen.said == ["closed"]


def test_a_notebook_gets_one_output_that_is_updated_and_empty_at_the_end():
    cell = nbformat.v4.new_code_cell(
        "import time\n"
        "from momentum_jax._base.progress import NotebookBar, show_progress\n"
        "NotebookBar.quiet_seconds, NotebookBar.seconds = 0.0, 0.2\n"
        "with show_progress() as progress:\n"
        "    for done in range(1, 4):\n"
        "        progress('<b>training', done, 4, whole=done / 4)\n"
        # Long enough to be drawn on a busy machine.
        "        time.sleep(2)\n"
    )
    messages = []

    class Client(NotebookClient):
        def process_message(self, message, *rest):
            messages.append((message["msg_type"], message["content"].get("data", {}).get("text/html")))
            return super().process_message(message, *rest)

    Client(nbformat.v4.new_notebook(cells=[cell]), kernel_name="python3").execute()
    (output,) = cell.outputs
    assert output["data"] == {"text/plain": "", "text/html": ""}
    shown = [markup for kind, markup in messages if kind in ("display_data", "update_display_data")]
    assert len(shown) > 3
    assert any(
        markup.startswith('<progress value="0.500"></progress> &lt;b&gt;training: 2 of 4, 0:00:0') for markup in shown
    )
