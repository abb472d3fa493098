"""Builds the embedded MNIST from the four original files.

    python -m momentum_jax.tasks.datasets.embed_mnist FOLDER

It checks that the folder holds exactly the original data and writes `mnist.npz` beside this module.
"""

import hashlib
import io
import pathlib
import sys
import zipfile

import numpy as np

from momentum_jax._base.errors import InputError
from momentum_jax.tasks.datasets._idx import load_idx_folder
from momentum_jax.tasks.datasets._mnist import DIGEST, FIELDS, PATH, ROWS_DIGEST, rows_digest


def write_mnist(folder: pathlib.Path, path: pathlib.Path = PATH) -> None:
    """Writes the MNIST files of a folder as an npz file in canonical order. Every run writes the same bytes.

    Raises:
      InputError: the files are not the original ones.
    """
    dataset = load_idx_folder(folder)
    if dataset.digest != DIGEST:
        raise InputError(f"{str(folder)!r} does not hold the original MNIST: its digest is {dataset.digest}")
    if rows_digest(dataset) != ROWS_DIGEST:
        raise InputError(f"the training images in {str(folder)!r} are not in the order of the original MNIST")
    with zipfile.ZipFile(path, "w") as archive:
        for field in FIELDS:
            content = io.BytesIO()
            stored = np.uint16 if field == "file_rows" else np.uint8
            np.lib.format.write_array(content, getattr(dataset, field).astype(stored), allow_pickle=False)
            # A fixed date, so that the file depends on the data alone.
            entry = zipfile.ZipInfo(f"{field}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, content.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)


if __name__ == "__main__":
    write_mnist(pathlib.Path(sys.argv[1]))
    sys.stdout.write(f"{PATH.name}: SHA-256 {hashlib.sha256(PATH.read_bytes()).hexdigest()}\n")
