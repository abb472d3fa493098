"""The embedded MNIST, which `embed_mnist` builds."""

import hashlib
import pathlib
import zipfile
import zlib

import numpy as np

from momentum_jax._base.errors import InputError
from momentum_jax.tasks.datasets._dataset import Dataset

PATH = pathlib.Path(__file__).with_name("mnist.npz")
# The `Dataset.digest` of MNIST in canonical order.
DIGEST = "a3ccb6b0d70ed08f65e7fdc3a6ecc7cf97e161c2c91490f0255f0ff93ae38905"
# The SHA-256 of the rows of the original training file in canonical order, as little-endian uint16.
ROWS_DIGEST = "c256e279aa515fabeaa5df115be643d46c70bfdafb14fb56448962ae7f20d4f6"
_REINSTALL = "install momentum-jax again"
FIELDS = ("x_train", "y_train", "x_test", "y_test", "file_rows")


def load_mnist() -> Dataset:
    """Reads the embedded MNIST and checks its digest.

    Raises:
      InputError: the file is missing, damaged or changed.
    """
    try:
        # np.load would leave the file open if it is no zip archive.
        with PATH.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            x_train, y_train, x_test, y_test, file_rows = (arrays[field] for field in FIELDS)
        dataset = Dataset(
            x_train,
            y_train.astype(np.int32),
            x_test,
            y_test.astype(np.int32),
            image_shape=(28, 28),
            num_classes=10,
            source="embedded MNIST",
            file_rows=file_rows.astype(np.int64),
        )
        digests = dataset.digest, rows_digest(dataset)
    except (OSError, KeyError, ValueError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"the embedded {PATH.name} is missing or damaged ({error}): {_REINSTALL}") from error
    if digests != (DIGEST, ROWS_DIGEST):
        raise InputError(f"the embedded {PATH.name} is damaged (its digest is {digests[0]}): {_REINSTALL}")
    return dataset


def rows_digest(dataset: Dataset) -> str:
    """The SHA-256, in hexadecimal, of the rows of the original training file."""
    return hashlib.sha256(np.asarray(dataset.file_rows, "<u2").tobytes()).hexdigest()
