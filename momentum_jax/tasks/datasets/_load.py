"""`load_dataset`, which loads a dataset by name."""

import os
import pathlib

from momentum_jax._base.errors import unknown
from momentum_jax.tasks.datasets._dataset import Dataset
from momentum_jax.tasks.datasets._idx import load_idx_folder
from momentum_jax.tasks.datasets._mnist import load_mnist
from momentum_jax.tasks.datasets._tfds import load_tfds

_ALLOWED = ("mnist", "tfds:<name>", "<folder of IDX files>")


def load_dataset(name: str) -> Dataset:
    """Loads a dataset of labelled images, checked and in canonical order. Every source gives the same bits.

    Args:
      name: "mnist" (embedded, no network), "tfds:NAME" (an image-classification dataset of tensorflow-datasets),
        or the path of a folder with the four MNIST-style IDX files, gzipped or not, in it or in a folder of it.

    Returns:
      A `Dataset`: images uint8 [examples, features], labels int32 [examples]; its `file_rows` are the rows in the
      source's own order.

    Raises:
      InputError: the name is unknown, or files are missing or damaged.

    >>> mnist = load_dataset("mnist")
    >>> mnist.x_train.shape, mnist.x_test.shape, mnist.image_shape, mnist.num_classes
    ((60000, 784), (10000, 784), (28, 28), 10)
    """
    if not isinstance(name, str):
        raise unknown("dataset", name, _ALLOWED)
    if name == "mnist":
        return load_mnist()
    if name.startswith("tfds:"):
        return load_tfds(name.removeprefix("tfds:"))
    # Unlike the methods of pathlib, these functions accept every string.
    folder = os.path.expanduser(name)
    if os.path.isdir(folder):
        return load_idx_folder(pathlib.Path(folder))
    raise unknown("dataset", name, _ALLOWED)
