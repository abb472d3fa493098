"""`line_progress` with a clock that the test turns."""

import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_jax._base.progress import default_progress, line_progress


def lines(calls, **options):
    """What is written when progress is called with (time, phase, done, total)."""
    stream, now = io.StringIO(), [0.0]
    progress = line_progress(stream, clock=lambda: now[0], **options)
    for time, *call in calls:
        now[0] = time
        progress(*call)
    return stream.getvalue()


def test_phases_of_under_two_seconds_are_not_mentioned():
    calls = [(0, "compiling", 0, 5), (1.9, "compiling", 5, 5), (2, "training", 0, 50), (3.9, "training", 50, 50)]
    assert lines(calls) == ""


@pytest.mark.parametrize(
    ("calls", "written"),
    [
        # 25 of 100 in 10 s: 75 more take 30 s.
        ([(0, "training", 0, 100), (10, "training", 25, 100)], "training: 25 of 100, 30 s left\n"),
        ([(0, "training", 0, 100), (10, "training", 100, 100)], "training: 100 of 100, 0 s left\n"),
        # Nothing is done, so nothing is known.
        ([(0, "compiling", 0, 5), (10, "compiling", 0, 5)], "compiling: 0 of 5\n"),
        # The clock of a phase starts with the phase: 10 of 40 in 5 s.
        (
            [(0, "compiling", 0, 5), (100, "training", 0, 40), (105, "training", 10, 40)],
            "training: 10 of 40, 15 s left\n",
        ),
        # A phase is first heard of when 100 are done; the 100 since took 4 s, so 800 take 32 s.
        ([(7, "training", 100, 1000), (11, "training", 200, 1000)], "training: 200 of 1000, 32 s left\n"),
    ],
)
def test_the_time_left_is_what_the_rest_takes_at_the_rate_so_far(calls, written):
    assert lines(calls) == written


@given(st.lists(st.floats(0.01, 5), min_size=2, max_size=60))
def test_lines_are_at_least_two_seconds_apart(pauses):
    times = [sum(pauses[: i + 1]) for i in range(len(pauses))]
    written = lines([(time, "training", i, 100) for i, time in enumerate(times)])
    at = [times[int(line.split()[1])] for line in written.splitlines()]
    assert all(later - sooner >= 2 for sooner, later in itertools.pairwise(at))
    # Nor is it silent for longer than it must be: a line is due once two seconds have passed.
    if times[-1] - times[0] >= 2 and (not at or times[-1] - at[-1] >= 2):
        assert at
        assert at[-1] == times[-1]


def test_on_a_terminal_a_line_rewrites_itself():
    written = lines([(0, "training", 0, 10), (3, "training", 5, 10), (6, "training", 10, 10)], end="\r")
    assert written == "training: 5 of 10, 3 s left\rtraining: 10 of 10, 0 s left\r"


def test_by_default_nothing_is_written_where_standard_error_is_no_terminal(capsys):
    default_progress()("training", 1, 2)
    assert capsys.readouterr() == ("", "")
