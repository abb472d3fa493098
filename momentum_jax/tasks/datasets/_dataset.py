"""What a dataset is here, and the order that its examples always have."""

import dataclasses
import functools
import hashlib

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from momentum_jax._base.errors import InputError, check_integer

Images = UInt8[np.ndarray, "examples features"]
Labels = Int32[np.ndarray, " examples"]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, flattened, one byte a value.

    Attributes:
      x_train: uint8 [examples, features], 0 to 255.
      y_train: int32 [examples], 0 to num_classes − 1.
      x_test: uint8 [test examples, features].
      y_test: int32 [test examples].
      image_shape: what `features` folds back to: (height, width), or (height, width, channels) for more than one.
      num_classes: how many classes there are.
      source: where the data came from, for the provenance of a result.
    """

    x_train: Images
    y_train: Labels
    x_test: UInt8[np.ndarray, "tests features"]
    y_test: Int32[np.ndarray, " tests"]
    image_shape: tuple[int, ...]
    num_classes: int
    source: str

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the shapes and of every image and label in order; not of the source."""
        sha = hashlib.sha256(repr((self.image_shape, self.num_classes, len(self.y_test))).encode())
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()

    def split_validation(self, n: int, seed: int = 0) -> "Dataset":
        """Holds n training examples out for tuning: they take the place of the test set, which is left out.

        Which n is drawn by `numpy.random.default_rng(seed)`; both parts keep the canonical order.

        Raises:
          InputError: n is not at least 1 and less than the number of training examples.
        """
        held_out = draw_held_out(len(self.y_train), n, seed)
        return dataclasses.replace(
            self,
            x_train=self.x_train[~held_out],
            y_train=self.y_train[~held_out],
            x_test=self.x_train[held_out],
            y_test=self.y_train[held_out],
            source=f"{self.source}, {n} training examples held out by seed {seed}",
        )

    @classmethod
    def from_images(
        cls,
        train: tuple[np.ndarray, np.ndarray],
        test: tuple[np.ndarray, np.ndarray],
        *,
        num_classes: int | None,
        source: str,
    ) -> "Dataset":
        """Checks, flattens and puts into the canonical order images uint8 [N, height, width(, channels)] and labels.

        Without `num_classes`, the largest training label says how many there are.

        Raises:
          InputError: no examples, unequal counts or image sizes, or a label outside the classes.
        """
        image_shape = _image_shape(train[0])
        if _image_shape(test[0]) != image_shape:
            raise InputError(
                f"{source}: training images are {image_shape}, test images {_image_shape(test[0])}; "
                "images must have one size"
            )
        arrays: dict[str, np.ndarray] = {}
        for name, part, (images, labels) in (("training", "train", train), ("test", "test", test)):
            if len(images) != len(labels):
                raise InputError(f"{source}: {len(images)} {name} images but {len(labels)} labels")
            if len(images) == 0:
                raise InputError(f"{source}: no {name} examples")
            classes = num_classes or int(train[1].max()) + 1
            wrong = labels[(labels < 0) | (labels >= classes)]
            if len(wrong):
                raise InputError(f"{source}: {name} label {wrong[0]} is outside the classes 0 to {classes - 1}")
            x, y = canonical_order(images.reshape(len(images), -1), labels.astype(np.int32))
            arrays |= {f"x_{part}": x, f"y_{part}": y}
        return cls(**arrays, image_shape=image_shape, num_classes=classes, source=source)


def draw_held_out(examples: int, n: int, seed: int) -> Bool[np.ndarray, " examples"]:
    """Which n of the examples are held out.

    Raises:
      InputError: n is not at least 1 and less than the number of examples.
    """
    check_integer("n", n, 1, examples - 1)
    held_out = np.zeros(examples, dtype=bool)
    held_out[np.random.default_rng(seed).choice(examples, size=n, replace=False)] = True
    return held_out


def canonical_order(x: Images, y: Labels) -> tuple[Images, Labels]:
    """Sorts examples by the SHA-256 of their bytes (label last, little-endian).

    The order depends on the set of examples alone, whatever order a source gives them in, and has nothing to do
    with what they show: any prefix is a random sample.
    """
    tails = y.astype("<i4")
    digests = [hashlib.sha256(row.tobytes() + tail.tobytes()).digest() for row, tail in zip(x, tails, strict=True)]
    order = sorted(range(len(digests)), key=digests.__getitem__)
    return np.ascontiguousarray(x[order]), np.ascontiguousarray(y[order])


def _image_shape(images: np.ndarray) -> tuple[int, ...]:
    shape = images.shape[1:]
    return shape[:2] if len(shape) == 3 and shape[2] == 1 else shape
