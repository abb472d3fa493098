"""Atomic writes and locks: a file is written completely or not at all, and one process at a time works on a result."""

import contextlib
import fcntl
import glob
import os
import pathlib
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from typing import IO, BinaryIO

from momentum_jax._base.errors import InputError

_RANDOM_BYTES = 8


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Writes a file atomically: writes a temporary file beside it, flushes it to disk and renames it.

    A kill at any moment leaves the old file or the new one. It may leave a temporary file, which `remove_left_behind`
    removes. A symbolic link stays, and the file it points to is written. A file that exists keeps its mode. What is
    not a regular file, such as a device or a pipe, is written into.

    Raises:
      OSError: the file cannot be written; the old one is intact.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        path.write_bytes(content)
        return
    path = pathlib.Path(os.path.realpath(path))
    temporary, file = _create_temporary(path)
    try:
        with file:
            if mode is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
        _sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_left_behind(folder: pathlib.Path, name: str | None = None) -> None:
    """Removes the temporary files that killed writers left in a folder: of all files, or of one file name.

    The file of a writer that is alive stays.
    """
    place = pathlib.Path(os.path.realpath(folder / (name or "*")))
    of_file = place.name if name is None else glob.escape(place.name)
    for path in place.parent.glob(f".{of_file}.{'[0-9a-f]' * 2 * _RANDOM_BYTES}.tmp"):
        with contextlib.suppress(OSError, ValueError), open_regular(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def open_regular(path: pathlib.Path) -> BinaryIO:
    """Opens a regular file for reading; of a pipe or a device it would not know when it ends.

    Raises:
      OSError: it cannot be opened.
      ValueError: it is not a regular file.
    """
    # Without O_NONBLOCK, opening a pipe waits for a writer.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(f"{path.name} is not a regular file")
    return file


@contextlib.contextmanager
def lock(path: pathlib.Path, what: str, kind: str) -> Iterator[None]:
    """Holds a lock, which is a file; other processes, and other callers in this one, are refused meanwhile.

    The lock is the operating system's: it ends with the process, however that ends. The file is removed at the end, and
    so are the folders that were made for it, if nothing else is in them.

    Args:
      path: of the file.
      what: it stands for, for the message.
      kind: of work that holds it, for the message.

    Raises:
      InputError: it is held by another.
      OSError: the file cannot be written.
    """
    made = [folder for folder in path.parents if not os.path.lexists(folder)]
    try:
        if made:
            path.parent.mkdir(parents=True, exist_ok=True)
        with _take(path, what, kind):
            try:
                yield
            finally:
                # Removed while it is held: who waits for this file notices, and makes another.
                path.unlink(missing_ok=True)
    finally:
        for folder in made:
            # Some may not have been made, and others hold files by now.
            with contextlib.suppress(OSError):
                folder.rmdir()


def is_locked(path: pathlib.Path) -> bool:
    """Whether a process holds the lock of this path."""
    try:
        with open_regular(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _create_temporary(path: pathlib.Path) -> tuple[pathlib.Path, BinaryIO]:
    """Creates a temporary file beside a path, locked, so that others know that its writer is alive."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(_RANDOM_BYTES)}.tmp")
        file = temporary.open("xb")
        # Some file systems have no locks.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        # Another process may have removed it before it was locked.
        if temporary.exists():
            return temporary, file
        file.close()


def _take(path: pathlib.Path, what: str, kind: str) -> IO[str]:
    # `is_locked` holds the lock for a moment, and one that is being removed is not to be taken.
    for _ in range(3):
        # A link would lead to a file of someone else's.
        file = open(path, "a+", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666))  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
                file.flush()
                return file
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            file.close()
            raise
        file.seek(0)
        by = file.read(100).strip()
        file.close()
        time.sleep(0.05)
    raise InputError(f"{what} is in use by another {kind} ({by or 'starting'})")


def _sync(folder: pathlib.Path) -> None:
    """Flushes the names in a folder to disk, where the system supports that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
