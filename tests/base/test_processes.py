"""Processes that call a function: results, deaths, and the end of it all."""

import contextlib
import functools
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from momentum_jax._base.processes import Died, Processes, StartError
from tests.base import processes_called as called

ROOT = str(pathlib.Path(__file__).parents[2])


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Processes import the functions by their names."""
    monkeypatch.syspath_prepend(ROOT)


def wait_until(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_alive(pid):
    with contextlib.suppress(OSError):
        return " Z " not in pathlib.Path(f"/proc/{pid}/stat").read_text()
    return False


def pids(folder, count):
    """Of the calls of `note_and_wait`, when so many have begun."""
    wait_until(lambda: len([path for path in folder.iterdir() if path.read_text()]) == count)
    return [int(path.read_text()) for path in folder.iterdir()]


def test_every_call_gives_its_result_in_few_processes_that_are_used_again(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with Processes(called.process_of, 2) as processes:
        first, again = (dict(processes.call([(i,) for i in range(6)])) for _ in range(2))
    assert sorted(first) == list(range(6))
    assert 1 <= len({*first.values(), *again.values()}) <= 2
    assert os.getpid() not in first.values()
    assert not any(map(is_alive, {*first.values(), *again.values()}))
    with Processes(called.threads, 1) as processes:
        assert list(processes.call([(0,)])) == [(0, "1")]
    assert "OMP_NUM_THREADS" not in os.environ


def test_a_call_whose_process_dies_is_made_once_more(tmp_path):
    with Processes(functools.partial(called.die_once, str(tmp_path / "died")), 1) as processes:
        assert dict(processes.call([(0,), (1,)])) == {0: 0, 1: 1}


def test_a_call_whose_processes_die_twice_is_told_and_the_others_are_made():
    with Processes(called.kill_itself_at_2, 2) as processes:
        outcomes = dict(processes.call([(i,) for i in range(5)]))
    assert outcomes == {0: 0, 1: 1, 2: Died(-signal.SIGKILL, 2), 3: 3, 4: 4}


def test_a_process_that_cannot_import_the_function_is_told(monkeypatch, capfd):
    # The function is found here, and not where its module is looked for by name.
    monkeypatch.setattr(called.square, "__module__", "tests.base.nowhere")
    monkeypatch.setitem(sys.modules, "tests.base.nowhere", called)
    with Processes(called.square, 1) as processes, pytest.raises(StartError, match="exit code 1"):
        list(processes.call([(2,)]))
    assert "No module named 'tests.base.nowhere'" in capfd.readouterr().err


def test_leaving_ends_processes_in_the_middle_of_their_calls(tmp_path):
    def press_ctrl_c():
        pids(tmp_path, 2)
        os.kill(os.getpid(), signal.SIGINT)

    def call():
        with Processes(functools.partial(called.note_and_wait, str(tmp_path)), 2) as processes:
            threading.Thread(target=press_ctrl_c).start()
            list(processes.call([(i,) for i in range(4)]))

    with pytest.raises(KeyboardInterrupt):
        call()
    assert not any(map(is_alive, pids(tmp_path, 2)))


def test_processes_end_when_their_parent_is_killed(tmp_path):
    code = (
        "import functools, sys; from momentum_jax._base.processes import Processes; "
        "from tests.base.processes_called import note_and_wait\n"
        "list(Processes(functools.partial(note_and_wait, sys.argv[1]), 2).call([(0,), (1,)]))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([ROOT, *sys.path])}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment) as process:
        children = pids(tmp_path, 2)
        assert all(map(is_alive, children))
        process.kill()
    wait_until(lambda: not any(map(is_alive, children)))
