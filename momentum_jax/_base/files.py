"""Files that are written whole or not at all."""

import contextlib
import glob
import os
import pathlib
import tempfile


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Writes a file whole or not at all: a temporary file beside it, flushed to the disk, takes its name."""
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
    """What `write_atomically` was writing in a folder, or of one file in it, when its process was killed."""
    return list(folder.glob(f".{'*' if name is None else glob.escape(name)}.????????"))


def _sync(folder: pathlib.Path) -> None:
    """Has the names in a folder on the disk too, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
