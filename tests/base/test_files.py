"""Atomic writes."""

import os

import pytest

from momentum_jax._base.files import left_behind, write_atomically


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "a.json"
    for content in (b"old", b"new"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    mask = os.umask(0o077)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(monkeypatch, tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, b"old")

    def fail(*arguments):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_what_killed_processes_left_is_found_by_the_name_of_its_file(monkeypatch, tmp_path):
    # Neither the replacement nor the clean-up of a killed process happens.
    monkeypatch.setattr(os, "replace", lambda *paths: None)
    for name in ("a[1].json", "b.json"):
        write_atomically(tmp_path / name, b"")
    (tmp_path / ".a1.json.12345678").write_bytes(b"of another file")
    assert len(left_behind(tmp_path)) == 3
    assert [file.name[:-8] for file in left_behind(tmp_path, "a[1].json")] == [".a[1].json."]
