"""What the command prints on terminals of any width, and on streams of any kind."""

import contextlib
import io
import itertools
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.console import Console

import momentum_jax as mj
from momentum_jax import cli
from momentum_jax.cli.terminal import print_table
from tests.compiling import quick_environment

COMMAND = [sys.executable, "-c", "from momentum_jax.cli import main; main()"]


TABLE = {
    "title": "at the end, median of 3 seeds",
    "columns": ["optimizer", "final smoothed loss", "training loss", "test accuracy", "failed runs"],
    "rows": [
        ["momentum at sgd's effective rate", "0.1234", "0.2345", "95.12%", "0 of 3"],
        ["a-label-without-any-space-in-it", "0.5678", "12345.6789", "5.12%", "3 of 3, diverged at iteration 123456"],
    ],
}


@pytest.mark.parametrize("width", [1, 20, 30, 40, 60, 100])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_table_keeps_every_number_and_word_on_a_terminal_of_any_width(width, terminal):
    file = io.StringIO()
    print_table(Console(width=width, file=file, force_terminal=terminal, color_system=None, soft_wrap=True), **TABLE)
    words = file.getvalue().split()
    for cell in itertools.chain(TABLE["columns"], *TABLE["rows"]):
        assert set(cell.split()) <= set(words)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_stream_without_a_character_gets_its_escape(encoding, monkeypatch):
    bytes_ = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_, encoding))
    cli.main(["optimizers"])
    assert r"\u03b7 learning_rate" in bytes_.getvalue().decode(encoding)


def test_a_closed_stream_is_no_reason_to_fail(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        patch.setattr(sys, "stderr", None)
        cli.main(["optimizers"])
        with pytest.raises(SystemExit) as stop:
            cli.main(["nonesuch"])
        sys.stdout.close()
        sys.stderr.close()
    assert stop.value.code == 2


@pytest.mark.exhaustive
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_training_whose_streams_are_closed_is_saved(closed, idx, tmp_path):
    training = ["--dataset", str(idx), "--hidden-sizes", "8", "--iterations", "9", "--batch-size", "16", "--out", "o"]
    command = ["sh", "-c", f'"$@" {closed}', "sh", *COMMAND, *training, "--optimizer", "a=sgd,learning_rate=0.01"]
    done = subprocess.run(command, cwd=tmp_path, env=quick_environment(), timeout=120, check=True, capture_output=True)
    assert b"Traceback" not in done.stdout + done.stderr
    assert mj.Result.load(tmp_path / "o").losses["a"].shape == (1, 9)


def run_on_a_terminal(arguments, cwd):
    """Exit code and everything that a terminal of 100 columns was sent."""
    master, slave = pty.openpty()
    switches = {"NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
    environment = {key: value for key, value in quick_environment().items() if key not in switches}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=cwd, env=environment, stdin=slave, stdout=slave, stderr=slave, close_fds=True
    )
    os.close(slave)
    sent = b""
    # Linux reports the other end's closing as an error.
    with contextlib.suppress(OSError):
        while block := os.read(master, 65536):
            sent += block
    os.close(master)
    return process.wait(timeout=300), sent.decode()


@pytest.mark.exhaustive
def test_a_terminal_shows_live_progress_with_an_eta_and_then_the_tables(idx, tmp_path):
    # Some four seconds of training, of which the first two may show nothing, so that there is something to foresee.
    training = ["--hidden-sizes", "8", "--iterations", "40000", "--batch-size", "16"]
    optimizer = ["--optimizer", "a=sgd,learning_rate=0.01"]
    code, sent = run_on_a_terminal(["--dataset", str(idx), *training, *optimizer, "--out", "o"], tmp_path)
    assert code == 0, sent
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", sent)
    bars = re.findall(r"training +\S+ +(\d+) of 40000 +(\d+:\d\d:\d\d) left", text)
    assert len({done for done, _ in bars}) > 2
    # A bar that is redrawn in place moves the cursor up or back.
    assert re.search(r"\x1b\[\d*A|\r", sent)
    tables = text[text.index("loss on the batch just used") :]
    assert "training   " not in tables
    assert re.search(r"iteration +a\s", tables)
    assert re.search(r"^ *a +\d\.\d{4} +\d+\.\d\d% +[01] of 1", tables, re.MULTILINE)
    assert "written: o/ with losses.png and losses.svg" in tables
