"""Atomic writes and locks."""

import contextlib
import fcntl
import os
import stat
import subprocess
import sys
import threading

import pytest

from momentum_jax._base.errors import InputError
from momentum_jax._base.files import is_locked, lock, open_regular, remove_left_behind, write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "a.json"
    for content in (b"old", b"new"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert names(tmp_path) == ["a.json"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(monkeypatch, tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, b"old")

    def fail(*arguments):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.json"]


def test_a_new_file_has_the_mode_of_any_new_file_without_the_umask_being_touched(monkeypatch, tmp_path):
    # It belongs to the whole process, other threads among it.
    monkeypatch.setattr(os, "umask", None)
    (tmp_path / "plain").write_bytes(b"")
    write_atomically(tmp_path / "file", b"content")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_a_file_that_exists_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "page.html"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "dangling"])
def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path, there):
    (tmp_path / "place").mkdir()
    target, link = tmp_path / "place" / "page.html", tmp_path / "link.html"
    if there:
        target.write_bytes(b"old")
    link.symlink_to("place/page.html")
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["link.html", "place"]
    assert names(tmp_path / "place") == ["page.html"]


def test_links_that_lead_nowhere_are_an_error_and_stay(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match=r"symbolic links|No such file"):
        write_atomically(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a", "b"]


def test_a_pipe_or_a_device_is_written_into_and_stays_what_it_is(tmp_path, monkeypatch):
    # Were a device to be replaced, it would be the machine's own.
    monkeypatch.delattr(os, "replace")
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_atomically(pipe, b"content")
    reader.join(10)
    assert read == [b"content"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    device = tmp_path / "null"
    device.symlink_to("/dev/null")
    write_atomically(device, b"content")
    assert stat.S_ISCHR(device.stat().st_mode)
    device.unlink()
    device.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_atomically(device, b"content")
    assert names(tmp_path) == ["null", "pipe"]


KILLED = """
import os, pathlib, signal, sys
from momentum_jax._base import files
files.os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
files.write_atomically(pathlib.Path(sys.argv[1]), b"half")
"""


def write_and_be_killed(path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, timeout=300)
    assert done.returncode == -9


def test_what_killed_writers_left_is_removed_by_the_name_of_its_file(tmp_path):
    write_and_be_killed(tmp_path / "a[1].json")
    write_and_be_killed(tmp_path / "b.json")
    left = names(tmp_path)
    assert len(left) == 2
    # A copy that someone keeps, and the file of another name.
    for name in (".a[1].json.20240101", ".a1.json.0123456789abcdef.tmp"):
        (tmp_path / name).write_bytes(b"of another")
    remove_left_behind(tmp_path, "a[1].json")
    assert names(tmp_path) == sorted([left[1], ".a[1].json.20240101", ".a1.json.0123456789abcdef.tmp"])
    remove_left_behind(tmp_path)
    assert names(tmp_path) == [".a[1].json.20240101"]


def test_what_was_left_beside_the_target_of_a_link_is_removed(tmp_path):
    (tmp_path / "place").mkdir()
    (tmp_path / "link").symlink_to("place/page")
    write_and_be_killed(tmp_path / "link")
    assert len(names(tmp_path / "place")) == 1
    remove_left_behind(tmp_path, "link")
    assert names(tmp_path / "place") == []


def test_the_temporary_file_of_a_writer_that_lives_is_left_alone(monkeypatch, tmp_path):
    replace = os.replace

    def meanwhile(temporary, path):
        remove_left_behind(tmp_path)
        replace(temporary, path)

    monkeypatch.setattr(os, "replace", meanwhile)
    write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_pipe_with_the_name_of_a_temporary_file_holds_no_one_up(tmp_path):
    os.mkfifo(tmp_path / ".a.0123456789abcdef.tmp")
    remove_left_behind(tmp_path)
    with pytest.raises(ValueError, match="is not a regular file"):
        open_regular(tmp_path / ".a.0123456789abcdef.tmp")


def test_a_lock_is_held_by_one_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "new" / "deeper" / "lock"
    with lock(path, "the folder", "training"):
        assert is_locked(path)
        with (
            pytest.raises(InputError, match=rf"^the folder is in use by another training \(process {os.getpid()} on "),
            lock(path, "the folder", "training"),
        ):
            pass
        assert is_locked(path)
    assert not is_locked(path)
    assert names(tmp_path) == []


def test_the_folder_of_a_lock_stays_where_it_was_there_or_something_else_is_in_it(tmp_path):
    with lock(tmp_path / "lock", "it", "sweep"):
        pass
    with lock(tmp_path / "new" / "lock", "it", "sweep"):
        (tmp_path / "new" / "result").touch()
    assert names(tmp_path) == ["new"]
    assert names(tmp_path / "new") == ["result"]


def test_a_lock_that_a_killed_process_left_is_taken(tmp_path):
    (tmp_path / "lock").write_text("process 7 on host")
    with lock(tmp_path / "lock", "it", "sweep"):
        assert (tmp_path / "lock").read_text() == f"process {os.getpid()} on {os.uname().nodename}\n"
    assert names(tmp_path) == []


def test_of_many_that_want_a_lock_one_at_a_time_has_it(tmp_path):
    inside, most, taken = [], [0], [0]

    def work():
        for _ in range(30):
            with contextlib.suppress(InputError), lock(tmp_path / "lock", "it", "sweep"):
                inside.append(1)
                most[0], taken[0] = max(most[0], len(inside)), taken[0] + 1
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1]
    assert taken[0] > 30
    assert names(tmp_path) == []


def test_to_look_whether_a_lock_is_held_keeps_no_one_out(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.02, lambda: fcntl.flock(file, fcntl.LOCK_UN)).start()
        with lock(path, "it", "sweep"):
            pass


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path):
    (tmp_path / "letter").write_text("all I have")
    (tmp_path / "lock").symlink_to("letter")
    with pytest.raises(OSError, match="symbolic links"), lock(tmp_path / "lock", "it", "sweep"):
        pass
    assert (tmp_path / "letter").read_text() == "all I have"


def test_a_folder_of_an_impossible_name_leaves_none_of_those_above_it(tmp_path):
    with pytest.raises(OSError, match="too long"), lock(tmp_path / "new" / ("x" * 300) / "lock", "it", "sweep"):
        pass
    assert names(tmp_path) == []
