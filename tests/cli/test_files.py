"""Commands that cannot write a file: the message names it and says what was saved; only printing ends with exit 1."""

import errno
import os
import stat
import sys

import pytest

import momentum_jax as mj
from momentum_jax import cli
from momentum_jax.report import figures
from momentum_jax.sweeps import cluster
from tests.results.made import make_result

TRAINING = ["--hidden-sizes", "4", "--iterations", "3", "--batch-size", "4", "--quiet"]


def failure(main, words, capsys):
    """The exit code and the one line on standard error."""
    with pytest.raises(SystemExit) as exit_:
        main(words)
    (line,) = capsys.readouterr().err.splitlines()
    return exit_.value.code, line


@pytest.fixture
def full_disk(monkeypatch):
    """No figure and no page can be written."""

    def fail(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(figures, "write_atomically", fail)


@pytest.mark.usefixtures("compiled_quickly", "full_disk")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train"], "cannot write 'o/losses.png': No space left on device; the result is saved in 'o'"),
        (
            ["sweep", "--grid", "learning_rate=0.1"],
            "cannot write 'o/sensitivity.png': No space left on device; the runs are saved in 'o'",
        ),
    ],
    ids=["train", "sweep"],
)
def test_a_figure_on_a_full_disk_is_named_and_what_was_saved_said(main, idx, capsys, words, said):
    assert failure(main, [*words, "--dataset", str(idx), *TRAINING, "--out", "o"], capsys) == (
        2,
        f"momentum-jax: {said}",
    )
    assert mj.Result.load("o").config.iterations == 3


@pytest.mark.usefixtures("full_disk")
def test_a_page_on_a_full_disk_is_named(main, capsys):
    make_result().save("o")
    said = "momentum-jax: cannot write 'o/report.html': No space left on device"
    assert failure(main, ["report", "o"], capsys) == (2, said)


def test_standard_output_on_a_full_disk_ends_with_1(main, monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        code, line = failure(main, ["optimizers"], capsys)
    assert (code, line) == (1, "momentum-jax: cannot print: No space left on device")


def test_a_reader_that_has_gone_ends_with_1_and_no_traceback(main, monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as exit_:
            main(["optimizers"])
    assert exit_.value.code == 1
    assert "Traceback" not in capsys.readouterr().err


def test_another_error_of_the_system_is_not_called_one_of_printing(main, monkeypatch):
    def fail(argv, began):
        raise PermissionError(errno.EACCES, "Permission denied", "somewhere")

    monkeypatch.setattr("momentum_jax.cli.optimizers.main", fail)
    with pytest.raises(PermissionError):
        cli.main(["optimizers"])


def test_a_page_is_written_through_links_into_devices_and_with_its_mode(main, tmp_path, capsys, monkeypatch):
    make_result().save("o")
    page = tmp_path / "page.html"
    page.touch(0o600)
    (tmp_path / "link.html").symlink_to("page.html")
    main(["report", "o", "--out", "link.html"])
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert (tmp_path / "link.html").is_symlink()
    assert b"<html" in page.read_bytes()
    # Were a device to be replaced, it would be the machine's own.
    monkeypatch.delattr(os, "replace")
    main(["report", "o", "--out", "/dev/null"])
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    capsys.readouterr()
    assert failure(main, ["report", "o", "--out", "/dev/full"], capsys) == (
        2,
        "momentum-jax: cannot write '/dev/full': No space left on device",
    )
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


@pytest.mark.parametrize("name", ["", "x" * 300, "a\0b"], ids=["empty", "long", "zero byte"])
def test_a_folder_of_an_impossible_name_is_refused_in_one_line(main, capsys, name):
    for command in ("report", "status"):
        code, line = failure(main, [command, name], capsys)
        assert code == 2
        assert "holds no" in line or "needs a value" in line


def test_a_ray_that_cannot_write_its_files_is_not_called_an_error_of_printing():
    class Ray:
        @staticmethod
        def init(*_, **__):
            raise PermissionError(errno.EACCES, "Permission denied", "/nowhere/.ray")

    with pytest.raises(mj.InputError, match=r"^Ray cannot start: .*Permission denied: '/nowhere"):
        cluster._start_or_join(Ray, "local:1", 1)
