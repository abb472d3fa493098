"""Datasets for TFDS that need no TensorFlow to prepare: TFDS is handed PNG bytes, which it stores as they are."""

import functools
import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from momentum_jax.tasks.datasets import load_dataset

Split = tuple[np.ndarray, np.ndarray]


@functools.cache
def slice_of_mnist(split: str) -> Split:
    """500 training or 100 test examples of the embedded MNIST, in an order that is nobody's."""
    mnist = load_dataset("mnist")
    x, y, n = (mnist.x_train, mnist.y_train, 500) if split == "train" else (mnist.x_test, mnist.y_test, 100)
    order = np.random.default_rng(0).permutation(n)
    return x[:n].reshape(n, 28, 28, 1)[order], y[:n][order]


def png(image: np.ndarray) -> io.BytesIO:
    content = io.BytesIO()
    Image.fromarray(image.squeeze()).save(content, "PNG")
    content.seek(0)
    return content


def pairs_of_images(shape: tuple[int | None, ...]) -> dict[str, tfds.features.FeatureConnector]:
    return {"image": tfds.features.Image(shape=shape), "label": tfds.features.ClassLabel(num_classes=10)}


class MnistPng(tfds.core.GeneratorBasedBuilder):
    """The slice of MNIST; what derives from it departs from it in one thing."""

    VERSION = tfds.core.Version("1.0.0")
    features = pairs_of_images((28, 28, 1))
    pair: tuple[str, str] | None = ("image", "label")
    splits = ("train", "test")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(dict(self.features)), supervised_keys=self.pair
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.splits}

    def _generate_examples(self, split):
        for i, (image, label) in enumerate(zip(*slice_of_mnist(split), strict=True)):
            yield i, self.example(i, image, int(label))

    def example(self, i, image, label):
        return {"image": png(image), "label": label}


class TwoSizes(MnistPng):
    """Images of two sizes."""

    features = pairs_of_images((None, None, 1))

    def example(self, i, image, label):
        return {"image": png(image[: 28 - i % 2]), "label": label}


class NoImages(MnistPng):
    """Vectors in place of images."""

    features = {**pairs_of_images((28, 28, 1)), "image": tfds.features.Tensor(shape=(3,), dtype=np.float32)}  # noqa: RUF012

    def example(self, i, image, label):
        return {"image": np.ones(3, np.float32), "label": label}


class NoClasses(MnistPng):
    """Numbers in place of classes."""

    features = {**pairs_of_images((28, 28, 1)), "label": tfds.features.Tensor(shape=(), dtype=np.int32)}  # noqa: RUF012


class Unpaired(MnistPng):
    """No pair of image and label is declared."""

    pair = None


class OnlyTrain(MnistPng):
    """No split named test."""

    splits = ("train",)


class Unreachable(MnistPng):
    """Preparing it fails, as a download does without a network."""

    def _split_generators(self, dl_manager):
        raise ConnectionError("no route to host")
