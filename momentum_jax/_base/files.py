"""Atomic writes: a file is written completely or not at all, also when the process is killed."""

import contextlib
import glob
import os
import pathlib
import tempfile


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Writes a file atomically: writes a temporary file beside it, flushes it to disk and renames it.

    A kill at any moment leaves the old file or the new one. It may leave a temporary file, which `left_behind` finds.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _sync(path.parent)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise


def left_behind(folder: pathlib.Path, name: str | None = None) -> list[pathlib.Path]:
    """The temporary files that killed processes left in a folder: all of them, or those of one file name."""
    return list(folder.glob(f".{'*' if name is None else glob.escape(name)}.????????"))


def _sync(folder: pathlib.Path) -> None:
    """Flushes the names in a folder to disk, where the system supports that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    """The process's umask, which the system only tells in exchange for a new one."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
