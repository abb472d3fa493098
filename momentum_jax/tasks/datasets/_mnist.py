"""The embedded MNIST, which `embed_mnist` builds."""

import pathlib
import zipfile
import zlib

import numpy as np

from momentum_jax._base.errors import InputError
from momentum_jax.tasks.datasets._dataset import Dataset

PATH = pathlib.Path(__file__).with_name("mnist.npz")
# The `Dataset.digest` of MNIST in canonical order.
DIGEST = "a3ccb6b0d70ed08f65e7fdc3a6ecc7cf97e161c2c91490f0255f0ff93ae38905"
_REINSTALL = "install momentum-jax again"
FIELDS = ("x_train", "y_train", "x_test", "y_test")


def load_mnist() -> Dataset:
    """Reads the embedded MNIST and checks its digest.

    Raises:
      InputError: the file is missing, damaged or changed.
    """
    try:
        # np.load would leave the file open if it is no zip archive.
        with PATH.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            x_train, y_train, x_test, y_test = (arrays[field] for field in FIELDS)
        dataset = Dataset(
            x_train,
            y_train.astype(np.int32),
            x_test,
            y_test.astype(np.int32),
            image_shape=(28, 28),
            num_classes=10,
            source="embedded MNIST",
        )
        digest = dataset.digest
    except (OSError, KeyError, ValueError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"the embedded {PATH.name} is missing or damaged ({error}): {_REINSTALL}") from error
    if digest != DIGEST:
        raise InputError(f"the embedded {PATH.name} is damaged (its digest is {digest}): {_REINSTALL}")
    return dataset
