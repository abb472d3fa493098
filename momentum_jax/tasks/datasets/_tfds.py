"""Image-classification datasets of tensorflow-datasets, decoded once and cached."""

import hashlib
import importlib.util
import io
import json
import pathlib
import re
import zipfile
import zlib
from typing import Any

import numpy as np

from momentum_jax._base.errors import InputError, summary, unknown
from momentum_jax._base.files import remove_left_behind, write_atomically
from momentum_jax.tasks.datasets._dataset import Dataset

_FIELDS = ("x_train", "y_train", "x_test", "y_test", "file_rows")
_RANDOM_ACCESS = ("array_record", "parquet")


def load_tfds(name: str) -> Dataset:
    """Reads the splits "train" and "test" of a dataset of tensorflow-datasets (TFDS), and prepares it if necessary.

    Preparing one of TFDS's own datasets downloads it, with TFDS's checksums, and needs TensorFlow. Reading a prepared
    dataset does not need TensorFlow if it was prepared as array_record. TFDS chooses the folder (`TFDS_DATA_DIR`).

    Args:
      name: a name for `tfds.builder`, such as "fashion_mnist", "cifar10" or "emnist/letters".

    Raises:
      InputError: the dataset is unknown, is no classification of images of one size, needs a package that is not
        installed, or what is prepared is damaged; the message then names the folder.
    """
    import platformdirs
    import tensorflow_datasets as tfds

    builder = _builder(tfds, name)
    if not builder.info.splits:
        builder = _prepare(tfds, name)
    cache = platformdirs.user_cache_path("momentum_jax") / "tfds"
    try:
        return _read_prepared(builder, name, cache)
    except InputError:
        raise
    except Exception as error:
        # What damaged files make TFDS, its readers and its decoders raise has no common class.
        raise _damaged(name, builder.data_path, summary(error)) from error


def _builder(tfds: Any, name: str) -> Any:
    """TFDS's builder of a dataset, whether prepared or not.

    Raises:
      InputError: the dataset is unknown, or what says what is prepared is damaged.
    """
    folder = pathlib.Path(tfds.core.constants.DATA_DIR, *re.split("[/:]", name))
    try:
        builder = tfds.builder(name)
    except Exception as error:
        # What TFDS raises here has no common class either.
        if name and folder.is_dir():
            raise _damaged(name, folder, summary(error)) from error
        if isinstance(error, tfds.core.DatasetNotFoundError):
            known = tfds.list_builders(with_community_datasets=False)
            raise unknown("tensorflow-datasets' dataset", name, known) from None
        raise InputError(f"tfds:{name}: {summary(error)}") from error
    if not builder.info.splits and pathlib.Path(builder.data_path).is_dir():
        raise _damaged(name, builder.data_path, "there are no splits")
    return builder


def _damaged(name: str, folder: Any, reason: str) -> InputError:
    return InputError(
        f"tfds:{name}: what is prepared in {str(folder)!r} is damaged: {reason}; move that folder away and prepare the "
        "dataset again"
    )


def _read_prepared(builder: Any, name: str, cache: pathlib.Path) -> Dataset:
    """Reads a prepared dataset, from the cache if it has been decoded before."""
    _check_readable(builder, name)
    cache = cache / f"{_fingerprint(builder)}.npz"
    source = f"tfds:{builder.info.full_name}"
    cached = _read_cache(cache, source)
    if cached is not None:
        return cached
    _check_shards(builder, name)
    image_key, label_key = builder.info.supervised_keys
    dataset = Dataset.from_images(
        _decode(builder, "train", image_key, label_key),
        _decode(builder, "test", image_key, label_key),
        num_classes=builder.info.features[label_key].num_classes,
        source=source,
    )
    _write_cache(cache, dataset)
    return dataset


def _prepare(tfds: Any, name: str) -> Any:
    if importlib.util.find_spec("tensorflow") is None:
        raise InputError(
            f"tfds:{name} has not been prepared on this machine, and preparing it needs TensorFlow: "
            'pip install "momentum-jax[tfds]", or set TFDS_DATA_DIR to where it has been prepared'
        )
    builder = tfds.builder(name, file_format="array_record")
    try:
        builder.download_and_prepare()
    except Exception as error:
        # TFDS passes on whatever its downloaders, decoders and checksums raise.
        raise InputError(f"tfds:{name} could not be downloaded and prepared: {summary(error)}") from error
    return builder


def _check_readable(builder: Any, name: str) -> None:
    info = builder.info
    for split in ("train", "test"):
        if split not in info.splits:
            raise InputError(f"tfds:{name} has no split {split!r}; it has {', '.join(info.splits)}")
    keys = info.supervised_keys
    if not (isinstance(keys, tuple) and len(keys) == 2):
        raise InputError(f"tfds:{name} is not a dataset of (image, label) pairs")
    image, label = (info.features[key] for key in keys)
    if len(image.shape or ()) != 3 or np.dtype(image.np_dtype) != np.uint8 or not hasattr(label, "num_classes"):
        raise InputError(f"tfds:{name} does not pair an 8-bit image with a class: {keys[0]} {image}, {keys[1]} {label}")
    stored = info.file_format.value
    if stored not in _RANDOM_ACCESS and importlib.util.find_spec("tensorflow") is None:
        raise InputError(
            f"tfds:{name} was prepared as {stored}, which only TensorFlow reads: "
            'pip install "momentum-jax[tfds]", or prepare it as array_record'
        )


def _check_shards(builder: Any, name: str) -> None:
    """Refuses shards that hold another number of examples than the info says, which TFDS does not notice.

    Only those without TensorFlow's pipeline, which counts what it reads.
    """
    stored = builder.info.file_format.value
    if stored not in _RANDOM_ACCESS:
        return
    for split in ("train", "test"):
        of_split = builder.info.splits[split]
        for path, said in zip(of_split.filepaths, of_split.shard_lengths, strict=True):
            held = _count_examples(path, stored)
            if held != said:
                raise _damaged(
                    name, builder.data_path, f"{path.name} holds {held} examples, and dataset_info.json says {said}"
                )


def _count_examples(path: pathlib.Path, stored: str) -> int:
    """The number of examples in a shard."""
    if stored == "parquet":
        import pyarrow.parquet

        rows: int = pyarrow.parquet.read_metadata(path).num_rows
        return rows
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    return len(ArrayRecordDataSource([str(path)]))


def _fingerprint(builder: Any) -> str:
    """A digest of the names, sizes and times of the prepared files: a dataset prepared again is decoded again."""
    files = sorted(pathlib.Path(builder.data_path).iterdir())
    listing = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(json.dumps([builder.info.full_name, listing]).encode()).hexdigest()[:32]


def _decode(builder: Any, split: str, image_key: str, label_key: str) -> tuple[np.ndarray, np.ndarray]:
    if builder.info.file_format.value in _RANDOM_ACCESS:
        examples = builder.as_data_source(split=split)
    else:
        examples = builder.as_dataset(split=split).as_numpy_iterator()
    images, labels = [], []
    for example in examples:
        images.append(example[image_key])
        labels.append(example[label_key])
        if images[-1].shape != images[0].shape:
            raise InputError(
                f"tfds:{builder.info.full_name} has images of several sizes: {images[0].shape}, {images[-1].shape}"
            )
    if not images:
        raise InputError(f"tfds:{builder.info.full_name}: split {split!r} is empty")
    return np.stack(images), np.asarray(labels)


def _read_cache(path: pathlib.Path, source: str) -> Dataset | None:
    """The cached dataset, or None if there is none with the right digest; it is then decoded again."""
    try:
        # np.load would leave the file open if it is no zip archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            dataset = Dataset(
                **{field: arrays[field] for field in _FIELDS},
                image_shape=tuple(int(size) for size in arrays["image_shape"]),
                num_classes=int(arrays["num_classes"]),
                source=source,
            )
            return dataset if dataset.digest == str(arrays["digest"]) else None
    except (OSError, KeyError, ValueError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None


def _write_cache(path: pathlib.Path, dataset: Dataset) -> None:
    content = io.BytesIO()
    np.savez_compressed(
        content,
        image_shape=np.asarray(dataset.image_shape),
        num_classes=np.asarray(dataset.num_classes),
        digest=np.asarray(dataset.digest),
        **{field: getattr(dataset, field) for field in _FIELDS},
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_left_behind(path.parent, path.name)
        write_atomically(path, content.getvalue())
    except OSError:
        # Without a cache the dataset is only decoded again next time.
        return
