"""Commands killed inside a write, between the temporary file and its new name: the same command ends as if undisturbed.

By default some writes of each command are interrupted in this process; the exhaustive tests interrupt every write, and
send a real SIGKILL too.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.sweeps import batches
from momentum_jax.training.checkpoint import Checkpoint
from tests.compiling import quick_environment
from tests.results.made import make_result
from tests.training.small import same_bits

SMALL = ["--hidden-sizes", "4", "--iterations", "6", "--batch-size", "8", "--quiet", "--out", "o"]
PAIR = ["--optimizer", "a=sgd,learning_rate=0.05", "--optimizer", "b=momentum,learning_rate=0.05,momentum=0.9"]
COMMANDS = {
    "train": ["train", *SMALL, "--evaluate-every", "3"],
    "sweep": ["sweep", *SMALL, *PAIR, "--grid", "learning_rate=0.1,0.2"],
    "compare": [
        "compare",
        *SMALL,
        *PAIR,
        "--trials",
        "2",
        "--tuning-seeds",
        "1",
        "--rerun-seeds",
        "1",
        "--judge-by",
        "test_loss",
    ],
    "report": ["report", "given", "--out", "o/report.html", "--figures", "o"],
}


class Killed(BaseException):
    """What ends a command here in place of SIGKILL."""


class Killer:
    """Kills at the so many-th write; a process that is dead changes no file any more.

    The system would free its locks, as leaving the blocks that hold them does here.
    """

    def __init__(self, patch, at=None):
        self.at, self.written = at, []
        self.dead = False
        self._replace = os.replace
        patch.setattr(os, "replace", self._write)
        for name in ("unlink", "rmdir", "mkdir"):
            patch.setattr(os, name, self._unless_dead(getattr(os, name)))

    def _write(self, temporary, path):
        if self.dead or len(self.written) == self.at:
            self.dead = True
            raise Killed
        self.written.append(pathlib.Path(path).name)
        self._replace(temporary, path)

    def _unless_dead(self, function):
        def guarded(*arguments, **options):
            if self.dead:
                raise Killed
            return function(*arguments, **options)

        return guarded


@pytest.fixture
def run(main, idx, monkeypatch, compiled_quickly):
    """Runs a command in the folder "o", killed at a write if one is given, and gives what was written before."""
    monkeypatch.setattr(batches, "BATCH_ITERATIONS", 6)
    # Written after every chunk.
    monkeypatch.setattr(Checkpoint, "is_due", lambda self: True)
    make_result().save("given")

    def run_(name, at=None):
        data = [] if name == "report" else ["--dataset", str(idx)]
        with monkeypatch.context() as patch:
            killer = Killer(patch, at)
            with contextlib.suppress(Killed):
                main([*COMMANDS[name], *data])
        assert killer.dead == (at is not None)
        return killer.written

    return run_


def read(name, folder):
    """What a command left in a folder."""
    if name == "report":
        return {path.name: path.read_bytes() for path in folder.iterdir()}
    return mj.Comparison.load(folder) if name == "compare" else mj.Result.load(folder)


def check_same(name, one, whole):
    if name == "report":
        assert one == whole
    elif name == "compare":
        assert [repr(verdict) for verdict in one.verdicts] == [repr(verdict) for verdict in whole.verdicts]
        for a, b in ((one.tuning, whole.tuning), *zip(one.judged, whole.judged, strict=True)):
            same_bits(a, b)
    else:
        same_bits(one, whole)


def check_finished(name, undisturbed):
    """The folder "o" is as that of a command that was not disturbed, and nothing was left in it."""
    folder = pathlib.Path("o")
    check_same(name, read(name, folder), read(name, undisturbed))
    names = [sorted(str(path.relative_to(place)) for path in place.rglob("*")) for place in (folder, undisturbed)]
    assert names[0] == names[1]
    assert not [name for name in names[0] if pathlib.Path(name).name.startswith(".")]


@pytest.mark.parametrize(
    ("name", "every"),
    [
        ("sweep", False),
        ("report", False),
        *(pytest.param(name, True, marks=pytest.mark.exhaustive) for name in COMMANDS),
    ],
)
def test_a_command_killed_inside_a_write_is_finished_by_the_same_command(run, name, every):
    written = run(name)
    undisturbed = pathlib.Path(shutil.move("o", "undisturbed"))
    for at in range(len(written)) if every else (0, len(written) // 2, len(written) - 1):
        run(name, at)
        with contextlib.suppress(InputError):
            # Unfinished, it can be read or is refused.
            read(name, pathlib.Path("o"))
        run(name)
        check_finished(name, undisturbed)
        shutil.rmtree("o")


def test_a_second_kill_before_the_first_file_is_whole_keeps_no_one_out(run):
    for name in ("train", "sweep", "compare"):
        run(name, 0)
        run(name, 0)
        run(name)
        read(name, pathlib.Path("o"))
        assert not list(pathlib.Path("o").rglob(".*"))
        shutil.rmtree("o")


PROCESS = """
import os, signal, sys
import jax
from momentum_jax import cli
from momentum_jax.sweeps import batches
from momentum_jax.training.checkpoint import Checkpoint
batches.BATCH_ITERATIONS = 6
Checkpoint.is_due = lambda self: True
replace, left = os.replace, [int(sys.argv[1])]

def kill(temporary, path):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    replace(temporary, path)

os.replace = kill
cli.main(sys.argv[2:])
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", COMMANDS)
def test_a_process_killed_inside_its_writes_one_after_the_other_ends_the_same(run, idx, name):
    written = run(name)
    undisturbed = pathlib.Path(shutil.move("o", "undisturbed"))
    data = [] if name == "report" else ["--dataset", str(idx)]
    environment = quick_environment() | {"PYTHONPATH": os.pathsep.join(sys.path)}
    # Each one goes on where the one before was killed.
    for at in (1, len(written) // 2):
        command = [sys.executable, "-W", "ignore", "-c", PROCESS, str(at), *COMMANDS[name], *data]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=300, check=False)
        assert done.returncode in (0, -9), done.stderr.decode()
    run(name)
    assert not list(pathlib.Path("o").rglob(".*"))
    if name == "report":
        check_finished(name, undisturbed)
