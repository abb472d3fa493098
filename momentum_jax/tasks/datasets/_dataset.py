"""`Dataset`, and the canonical order of its examples."""

import dataclasses
import functools
import hashlib

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt8

from momentum_jax._base.display import Row, Summary, as_html, as_text, clip, counted
from momentum_jax._base.errors import InputError, check_integer, shown

Images = UInt8[np.ndarray, "examples features"]
Labels = Int32[np.ndarray, " examples"]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, flattened, with one byte per value.

    Examples are in canonical order, that of the SHA-256 of their bytes, not in that of the files. So the rows that
    `batch_indices` gives are rows of `x_train`. To replay a run with the files themselves, look the rows up in
    `file_rows`: `dataset.file_rows[batch_indices(cfg, seed)]`.

    Attributes:
      x_train: uint8 [examples, features], 0 to 255.
      y_train: int32 [examples], 0 to num_classes − 1.
      x_test: uint8 [test examples, features].
      y_test: int32 [test examples].
      image_shape: the shape of an image, (height, width), or (height, width, channels) for several channels.
      num_classes: the number of classes.
      source: where the data came from, for the provenance of a result.
      file_rows: int64 [examples], the row of each training example in its source, counted from 0: in the IDX file of
        the training images (for "mnist", in the original one), or in the order in which tensorflow-datasets gives the
        split "train". None if the dataset was not loaded from a source.
    """

    x_train: Images
    y_train: Labels
    x_test: UInt8[np.ndarray, "tests features"]
    y_test: Int32[np.ndarray, " tests"]
    image_shape: tuple[int, ...]
    num_classes: int
    source: str
    file_rows: Int64[np.ndarray, " examples"] | None = None

    def __repr__(self) -> str:
        return as_text(self._summary())

    def _repr_html_(self) -> str:
        return as_html(self._summary())

    def _summary(self) -> Summary:
        size = "×".join(map(str, self.image_shape))
        parts = {"training": self.y_train, "test": self.y_test}
        counts = {part: np.bincount(y, minlength=self.num_classes) for part, y in parts.items()}
        return Summary(
            f"Dataset {clip(self.source, 60)}: images of {size}, {counted(self.num_classes, 'class', 'classes')}",
            columns=("part", "examples", "of each class"),
            rows=tuple(
                Row((part, f"{len(y):,}", f"{counts[part].min():,} to {counts[part].max():,}"))
                for part, y in parts.items()
            ),
        )

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256, in hexadecimal, of the shapes and of all images and labels in order; not of their source."""
        sha = hashlib.sha256(repr((self.image_shape, self.num_classes, len(self.y_test))).encode())
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()

    def split_validation(self, n: int, seed: int = 0) -> "Dataset":
        """The dataset for tuning: n training examples are held out and replace the test set, which is left out.

        `numpy.random.default_rng(seed)` draws the n examples, which are rows of the canonical order. Both parts keep
        that order, and `file_rows` remains that of the training examples.

        Raises:
          InputError: n is less than 1, or not less than the number of training examples.
        """
        held_out = draw_held_out(len(self.y_train), n, seed)
        return dataclasses.replace(
            self,
            x_train=self.x_train[~held_out],
            y_train=self.y_train[~held_out],
            x_test=self.x_train[held_out],
            y_test=self.y_train[held_out],
            source=f"{self.source}, {n} training examples held out by seed {seed}",
            file_rows=None if self.file_rows is None else self.file_rows[~held_out],
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
        """The dataset of images and labels: checked, flattened and in canonical order.

        Args:
          train: uint8 images [examples, height, width] or [examples, height, width, channels], and integer labels
            [examples]. `file_rows` are their rows.
          test: likewise.
          num_classes: the number of classes; None for the largest training label + 1.
          source: where the data came from.

        Raises:
          InputError: arrays have other dtypes or dimensions, there are no examples or pixels, counts or image sizes
            differ, or a label is outside the classes.
        """
        for name, (images, labels) in (("training", train), ("test", test)):
            if images.dtype != np.uint8 or images.ndim not in (3, 4):
                raise InputError(
                    f"{source}: {name} images must be uint8 [examples, height, width] or with channels last, not "
                    f"{images.dtype} of shape {images.shape}"
                )
            if labels.dtype.kind not in "iu" or labels.ndim != 1:
                raise InputError(
                    f"{source}: {name} labels must be integers [examples], not {labels.dtype} of shape {labels.shape}"
                )
        image_shape = _image_shape(train[0])
        if _image_shape(test[0]) != image_shape:
            raise InputError(
                f"{source}: training images are {image_shape}, test images {_image_shape(test[0])}; "
                "images must have one size"
            )
        if 0 in image_shape:
            raise InputError(f"{source}: images of {'×'.join(map(str, image_shape))} have no pixels")
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
            x, y = images.reshape(len(images), -1), labels.astype(np.int32)
            rows = canonical_order(x, y)
            arrays |= {f"x_{part}": x[rows], f"y_{part}": y[rows]}
            if part == "train":
                arrays["file_rows"] = rows
        return cls(**arrays, image_shape=image_shape, num_classes=classes, source=source)


def check_dataset(value: object) -> None:
    """Raises `InputError` unless `value` is a `Dataset`."""
    if not isinstance(value, Dataset):
        raise InputError(f'dataset must be a Dataset, such as mj.load_dataset("mnist"), not {shown(value)}')


def draw_held_out(examples: int, n: int, seed: int) -> Bool[np.ndarray, " examples"]:
    """A mask of the n examples to hold out, drawn by `numpy.random.default_rng(seed)`.

    Raises:
      InputError: n is less than 1, or not less than the number of examples.
    """
    check_integer("n", n, 1, examples - 1)
    held_out = np.zeros(examples, dtype=bool)
    held_out[np.random.default_rng(seed).choice(examples, size=n, replace=False)] = True
    return held_out


def canonical_order(x: Images, y: Labels) -> Int64[np.ndarray, " examples"]:
    """The rows of examples in the order of the SHA-256 of their bytes (the label last, as a little-endian int32).

    The order depends only on the set of examples, not on the order in which a source gives them. It has nothing to do
    with what the images show, so that every prefix is a random sample.
    """
    tails = y.astype("<i4")
    digests = [hashlib.sha256(row.tobytes() + tail.tobytes()).digest() for row, tail in zip(x, tails, strict=True)]
    return np.asarray(sorted(range(len(digests)), key=digests.__getitem__), np.int64)


def _image_shape(images: np.ndarray) -> tuple[int, ...]:
    shape = images.shape[1:]
    return shape[:2] if len(shape) == 3 and shape[2] == 1 else shape
