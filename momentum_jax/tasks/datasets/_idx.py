"""The IDX format of the original MNIST files: a magic number, big-endian counts, then the bytes."""

import gzip
import itertools
import math
import os
import pathlib
import re
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from momentum_jax._base.errors import InputError
from momentum_jax.tasks.datasets._dataset import Dataset

_UNSIGNED_BYTE = 0x08
_GZIP = b"\x1f\x8b"
# What each file is, with its original name and dimensions.
_FILES = {
    ("train", "images"): ("train-images-idx3-ubyte", 3),
    ("train", "labels"): ("train-labels-idx1-ubyte", 1),
    ("t10k", "images"): ("t10k-images-idx3-ubyte", 3),
    ("t10k", "labels"): ("t10k-labels-idx1-ubyte", 1),
}
# "train-images-idx3-ubyte", "train-images.idx3-ubyte.gz", "emnist-letters-test-images-idx3-ubyte", …
_NAME = re.compile(r"(.*?)(train|t10k|test)[-._](images|labels)[-._]idx[13][-._]ubyte(?:\.gz)?", re.IGNORECASE)
# torchvision's "MNIST/raw" is two levels below the folder that it is given, Kaggle's files are in folders of their own.
_DEPTH = 3
_MOST_LISTED = 12

Files = dict[tuple[str, str], pathlib.Path]
"""The four files of a dataset."""


def load_idx_folder(folder: pathlib.Path) -> Dataset:
    """Reads the dataset in the four MNIST-style files of a folder or of a folder in it, each plain or gzipped.

    Names may be written with points and in capitals, and begin with the name of the dataset, as EMNIST's do.

    Raises:
      InputError: a file is missing, damaged, truncated or of another kind, the counts of two files differ, or there are
        several datasets.
    """
    files = _find(folder)
    arrays = {key: read_idx(files[key], dimensions) for key, (_, dimensions) in _FILES.items()}
    return Dataset.from_images(
        (arrays["train", "images"], arrays["train", "labels"]),
        (arrays["t10k", "images"], arrays["t10k", "labels"]),
        num_classes=None,
        source=f"IDX files of the folder {folder.name}",
    )


def read_idx(path: pathlib.Path, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """Reads an IDX file of unsigned bytes with that many dimensions, gzipped or not whatever its name says.

    Raises:
      InputError: the file cannot be read; the message names it and says why.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(_GZIP) else content
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


def _find(folder: pathlib.Path) -> Files:
    """The files of the one dataset in a folder, or of the one that is less deep in it than others."""
    found = list(_walk(folder))
    datasets = _group(folder, found)
    complete = {key: files for key, files in datasets.items() if len(files) == len(_FILES)}
    if not complete:
        nearest = max(datasets.values(), key=len, default={})
        name = next(name for key, (name, _) in _FILES.items() if key not in nearest)
        raise InputError(f"dataset folder {str(folder)!r} holds neither {name} nor {name}.gz{_listed(folder, found)}")
    least = min(len(where.parts) for where, _ in complete)
    (first, *others) = sorted(key for key in complete if len(key[0].parts) == least)
    if others:
        names = ", ".join(str(where.relative_to(folder) / prefix.rstrip("-._")) for where, prefix in (first, *others))
        raise InputError(
            f"dataset folder {str(folder)!r} holds several datasets: {names}; give a folder that holds one of them"
        )
    return complete[first]


def _group(folder: pathlib.Path, found: list[pathlib.Path]) -> dict[tuple[pathlib.Path, str], Files]:
    """The files of each dataset, by its folder and the beginning of its names."""
    datasets: dict[tuple[pathlib.Path, str], Files] = {}
    for path in found:
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        prefix, part, kind = (group.lower() for group in match.groups())
        # A file in a folder of its own name belongs to the folder above.
        alone = path.parent != folder and _NAME.fullmatch(path.parent.name) is not None
        where = path.parent.parent if alone else path.parent
        # The first one is the least deep, and plain where there is a gzipped one too.
        datasets.setdefault((where, prefix), {}).setdefault(("t10k" if part == "test" else part, kind), path)
    return datasets


def _walk(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The files of a folder and of those in it: the least deep first, then by name."""
    level = [folder]
    for _ in range(_DEPTH + 1):
        below = []
        for parent in level:
            for name in _names(parent):
                path = parent / name
                if path.is_file():
                    yield path
                elif path.is_dir():
                    below.append(path)
        level = below


def _names(folder: pathlib.Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _listed(folder: pathlib.Path, found: list[pathlib.Path]) -> str:
    names = [str(path.relative_to(folder)) for path in itertools.islice(found, _MOST_LISTED)]
    more = f" and {len(found) - len(names)} more" if len(found) > len(names) else ""
    return f"; it holds {', '.join(names)}{more}" if names else "; it holds no files"
