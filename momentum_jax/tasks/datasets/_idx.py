"""The IDX format of the original MNIST files: a magic number, big-endian counts, then the bytes."""

import gzip
import math
import pathlib
import struct
import zlib

import numpy as np
from jaxtyping import UInt8

from momentum_jax._base.errors import InputError
from momentum_jax.tasks.datasets._dataset import Dataset

_UNSIGNED_BYTE = 0x08
_FILES = {
    "x_train": ("train-images-idx3-ubyte", 3),
    "y_train": ("train-labels-idx1-ubyte", 1),
    "x_test": ("t10k-images-idx3-ubyte", 3),
    "y_test": ("t10k-labels-idx1-ubyte", 1),
}


def load_idx_folder(folder: pathlib.Path) -> Dataset:
    """Reads the dataset in the four MNIST-style files of a folder, each plain or gzipped.

    Raises:
      InputError: a file is missing, damaged, truncated or of another kind, or the counts of two files differ.
    """
    arrays = {key: read_idx(_find(folder, name), dimensions) for key, (name, dimensions) in _FILES.items()}
    return Dataset.from_images(
        (arrays["x_train"], arrays["y_train"]),
        (arrays["x_test"], arrays["y_test"]),
        num_classes=None,
        source=f"IDX files of the folder {folder.name}",
    )


def read_idx(path: pathlib.Path, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """Reads an IDX file of unsigned bytes with that many dimensions.

    Raises:
      InputError: the file cannot be read; the message names it and says why.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path.name}: cannot be read: {error}") from error
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise InputError(f"{path.name}: truncated: {len(content)} bytes, but the header alone has {header}")
    magic, *shape = struct.unpack(f">{1 + dimensions}I", content[:header])
    expected = _UNSIGNED_BYTE << 8 | dimensions
    if magic != expected:
        raise InputError(
            f"{path.name}: wrong magic number {magic:#010x}; {dimensions}-dimensional unsigned bytes have "
            f"{expected:#010x}"
        )
    if len(content) - header != math.prod(shape):
        raise InputError(
            f"{path.name}: the header announces {shape}, {math.prod(shape)} bytes, but {len(content) - header} follow"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _find(folder: pathlib.Path, name: str) -> pathlib.Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise InputError(f"dataset folder {str(folder)!r} holds neither {name} nor {name}.gz")
