"""The command on a terminal."""

import contextlib
import os
import pty
import re
import subprocess
import sys

from tests.compiling import quick_environment

COMMAND = [sys.executable, "-c", "from momentum_jax.cli import main; main()"]


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
    return process.wait(timeout=60), sent.decode()


def test_a_terminal_shows_live_progress_with_an_eta_and_then_the_tables(idx, tmp_path):
    # Some two seconds of training, so that there is something to foresee.
    training = ["--hidden-sizes", "8", "--iterations", "10000", "--batch-size", "16"]
    optimizer = ["--optimizer", "a=sgd,learning_rate=0.01"]
    code, sent = run_on_a_terminal(["--dataset", str(idx), *training, *optimizer, "--out", "o"], tmp_path)
    assert code == 0, sent
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", sent)
    bars = re.findall(r"training +\S+ +(\d+)/10000 +(-:--:--|\d+:\d\d:\d\d)", text)
    assert len({done for done, _ in bars}) > 2
    assert any(eta != "-:--:--" for _, eta in bars)
    # A bar that is redrawn in place moves the cursor up or back.
    assert re.search(r"\x1b\[\d*A|\r", sent)
    tables = text[text.index("loss on the batch just used") :]
    assert "training   " not in tables
    assert re.search(r"iteration +a\s", tables)
    assert re.search(r"^ *a +\d\.\d{4} +\d\.\d{4} +\d+\.\d\d% +(never|\d+) +[01] of 1", tables, re.MULTILINE)
    assert "written: o/ with losses.png and losses.svg" in tables
