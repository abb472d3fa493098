"""Datasets of tensorflow-datasets, really prepared and read, without TensorFlow."""

import functools
import importlib.util
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys

import numpy as np
import platformdirs
import pytest
import tensorflow_datasets as tfds

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.tasks.datasets import Dataset, _tfds, load_dataset
from tests.tasks.datasets.mnist_png import slice_of_mnist

OPTIMIZERS = {"momentum": mj.OptimizerConfig("momentum", learning_rate=0.01)}


def prepare(name: str, folder: pathlib.Path, stored: str = "array_record") -> None:
    tfds.builder(name, data_dir=folder, file_format=stored).download_and_prepare()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data directory of TFDS's with the slice of MNIST in it."""
    folder = tmp_path_factory.mktemp("tfds")
    prepare("mnist_png", folder)
    return folder


@pytest.fixture
def data_dir(monkeypatch, tmp_path):
    """An empty data directory as TFDS's default; TFDS reads TFDS_DATA_DIR into this constant when it is imported."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(folder))
    return folder


@pytest.fixture
def prepared_dir(monkeypatch, prepared):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(prepared))
    return prepared


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """The cache of the decoded datasets, empty at first."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "momentum_jax" / "tfds"


@pytest.fixture
def tensorflow_is(monkeypatch):
    """Says that TensorFlow is installed, or that it is not, whatever is true here."""
    find_spec = importlib.util.find_spec

    def pretend(installed):
        answer = importlib.util.spec_from_loader("tensorflow", loader=None) if installed else None
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: answer if name == "tensorflow" else find_spec(name, *rest)
        )

    return pretend


@pytest.fixture
def decodings(monkeypatch):
    """The splits that are decoded, as they are decoded."""
    decode, seen = _tfds._decode, []

    def counted(builder, split, *keys):
        seen.append(split)
        return decode(builder, split, *keys)

    monkeypatch.setattr(_tfds, "_decode", counted)
    return seen


@functools.cache
def expected():
    return Dataset.from_images(
        slice_of_mnist("train"), slice_of_mnist("test"), num_classes=10, source="the embedded MNIST"
    )


def test_a_prepared_dataset_has_the_bits_of_the_same_images_from_elsewhere(prepared_dir, tensorflow_is):
    tensorflow_is(False)
    dataset = load_dataset("tfds:mnist_png")
    assert dataset.digest == expected().digest
    assert (dataset.image_shape, dataset.num_classes) == ((28, 28), 10)
    assert (dataset.x_train.dtype, dataset.y_train.dtype) == (np.uint8, np.int32)
    assert dataset.source == "tfds:mnist_png/1.0.0"


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize(
    "optimizers", [OPTIMIZERS, pytest.param(mj.Config().optimizers, marks=pytest.mark.exhaustive)], ids=list
)
def test_training_on_it_has_the_bits_of_training_on_the_same_images_in_idx_files(prepared_dir, tmp_path, optimizers):
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = slice_of_mnist(part)
        for array, name in ((images.reshape(-1, 28, 28), "images-idx3"), (labels, "labels-idx1")):
            header = struct.pack(f">{1 + array.ndim}I", 0x0800 | array.ndim, *array.shape)
            (tmp_path / f"{prefix}-{name}-ubyte").write_bytes(header + array.astype(np.uint8).tobytes())
    # Both trainings run the same program, so that only the data can make a difference.
    one, other = (
        mj.train(mj.Config(dataset=dataset, hidden_sizes=(10,), iterations=20, batch_size=16, optimizers=optimizers))
        for dataset in ("tfds:mnist_png", str(tmp_path))
    )
    for label in optimizers:
        assert one.losses[label].tobytes() == other.losses[label].tobytes()
        assert np.isfinite(one.losses[label]).all()
    assert one.provenance["data"]["digest"] == other.provenance["data"]["digest"]


def test_a_dataset_is_found_where_tfds_data_dir_says_by_a_process_that_has_no_builder_for_it(prepared, tmp_path):
    script = "from momentum_jax import load_dataset; print(load_dataset('tfds:mnist_png').digest)"
    environment = os.environ | {"TFDS_DATA_DIR": str(prepared), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected().digest


def test_a_dataset_is_decoded_once_and_then_read_from_the_cache(prepared_dir, cache, decodings):
    first = load_dataset("tfds:mnist_png")
    second = load_dataset("tfds:mnist_png")
    assert decodings == ["train", "test"]
    assert len(list(cache.iterdir())) == 1
    # Rows in the order in which TFDS gives the examples.
    images = np.stack([example["image"] for example in tfds.builder("mnist_png").as_data_source(split="train")])
    np.testing.assert_array_equal(images.reshape(500, -1)[first.file_rows], first.x_train)
    for field in ("digest", "image_shape", "num_classes", "source"):
        assert getattr(second, field) == getattr(first, field)
    for field in ("x_train", "y_train", "x_test", "y_test", "file_rows"):
        assert getattr(second, field).dtype == getattr(first, field).dtype
    np.testing.assert_array_equal(second.file_rows, first.file_rows)


def as_npy(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def with_other_pixels(path):
    with np.load(path) as arrays:
        fields = dict(arrays)
    fields["x_train"] = fields["x_train"] ^ 1
    np.savez(path, **fields)


def without_labels(path):
    with np.load(path) as arrays:
        fields = dict(arrays)
    del fields["y_test"]
    np.savez(path, **fields)


def without_rows(path):
    with np.load(path) as arrays:
        fields = dict(arrays)
    del fields["file_rows"]
    np.savez(path, **fields)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"text"),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        with_other_pixels,
        without_labels,
        without_rows,
        as_npy,
        lambda path: path.unlink(),
    ],
    ids=["empty", "text", "truncated", "other pixels", "no labels", "of an older version", "a npy", "gone"],
)
def test_a_damaged_cache_is_decoded_and_written_again(prepared_dir, cache, decodings, damage):
    load_dataset("tfds:mnist_png")
    (file,) = cache.iterdir()
    sound = file.stat().st_size
    damage(file)
    assert load_dataset("tfds:mnist_png").digest == expected().digest
    assert decodings == ["train", "test"] * 2
    assert file.stat().st_size == sound
    load_dataset("tfds:mnist_png")
    assert len(decodings) == 4


def emptied(path):
    for file in path.parent.iterdir():
        file.unlink()


def with_shards_of(train):
    """Lets the info say that the one shard of "train" has so many examples, of 500."""

    def change(path):
        info = json.loads(path.read_bytes())
        info["splits"][0]["shardLengths"] = [str(train)]
        path.write_text(json.dumps(info))

    return change


SHARD = "mnist_png-train.array_record-00000-of-00001"
DAMAGE = {
    "truncated shard": (SHARD, lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])),
    "empty shard": (SHARD, lambda path: path.write_bytes(b"")),
    "shard of something else": (SHARD, lambda path: path.write_bytes(b"x" * 100_000)),
    "missing shard": (SHARD, lambda path: path.unlink()),
    "empty info": ("dataset_info.json", lambda path: path.write_bytes(b"")),
    "info in no encoding": ("dataset_info.json", lambda path: path.write_bytes(b"\xff\xfe")),
    "half the info": ("dataset_info.json", lambda path: path.write_bytes(path.read_bytes()[:300])),
    "info of nothing": ("dataset_info.json", lambda path: path.write_bytes(b"{}")),
    "deep info": ("dataset_info.json", lambda path: path.write_bytes(b"[" * 100_000)),
    **{f"info of {n} of 500 examples": ("dataset_info.json", with_shards_of(n)) for n in (499, 501, 1, 0)},
    "no info": ("dataset_info.json", lambda path: path.unlink()),
    "no files": ("dataset_info.json", emptied),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_prepared_dataset_is_refused_with_its_name_and_its_folder(
    prepared, data_dir, cache, tensorflow_is, damage
):
    tensorflow_is(True)
    name, change = DAMAGE[damage]
    folder = data_dir / "mnist_png"
    shutil.copytree(prepared / "mnist_png", folder)
    change(folder / "1.0.0" / name)
    with pytest.raises(InputError) as error:
        load_dataset("tfds:mnist_png")
    assert str(error.value).startswith(f"tfds:mnist_png: what is prepared in '{folder}")
    assert "\n" not in str(error.value)
    assert not cache.exists()


@pytest.mark.parametrize("stored", ["array_record", "parquet"])
def test_an_info_of_another_number_of_examples_than_a_shard_holds_is_refused_with_both(data_dir, stored):
    prepare("mnist_png", data_dir, stored)
    info = data_dir / "mnist_png" / "1.0.0" / "dataset_info.json"
    # TFDS 4.9.10 writes 200 of the 500 examples to a Parquet file.
    held = len(tfds.builder("mnist_png").as_data_source(split="train"))
    with_shards_of(held)(info)
    assert len(load_dataset("tfds:mnist_png").x_train) == held
    for said in (held - 1, held + 1):
        with_shards_of(said)(info)
        with pytest.raises(InputError) as error:
            load_dataset("tfds:mnist_png")
        words = f"train.{stored}-00000-of-00001 holds {held} examples, and dataset_info.json says {said}; move"
        assert words in str(error.value)


def test_a_dataset_that_was_prepared_anew_is_decoded_anew(data_dir, decodings):
    prepare("mnist_png", data_dir)
    load_dataset("tfds:mnist_png")
    for file in (data_dir / "mnist_png" / "1.0.0").glob("*array_record*"):
        os.utime(file, ns=(1, 1))
    load_dataset("tfds:mnist_png")
    assert len(decodings) == 4


def test_a_cache_that_cannot_be_written_costs_only_the_decoding(prepared_dir, cache, decodings):
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"a file where the folder should be")
    for _ in range(2):
        assert load_dataset("tfds:mnist_png").digest == expected().digest
    assert len(decodings) == 4


def test_a_dataset_that_is_not_prepared_is_prepared_as_array_record(data_dir, tensorflow_is):
    tensorflow_is(True)
    assert load_dataset("tfds:mnist_png").digest == expected().digest
    assert list((data_dir / "mnist_png" / "1.0.0").glob("*.array_record*"))


@pytest.mark.parametrize("name", ["mnist_png", "fashion_mnist", "emnist/letters"])
def test_a_dataset_that_is_not_prepared_says_what_to_install_to_prepare_it(data_dir, tensorflow_is, name):
    tensorflow_is(False)
    with pytest.raises(InputError) as error:
        load_dataset(f"tfds:{name}")
    assert f"tfds:{name} has not been prepared" in str(error.value)
    assert 'pip install "momentum-jax[tfds]"' in str(error.value)
    assert "TFDS_DATA_DIR" in str(error.value)


def test_a_dataset_prepared_in_a_format_of_tensorflows_says_what_to_install_to_read_it(
    prepared_dir, tensorflow_is, monkeypatch
):
    tensorflow_is(False)
    # Writing a TFRecord needs TensorFlow itself, so only what the description says is changed.
    tfrecord = tfds.core.FileFormat.TFRECORD
    monkeypatch.setattr(tfds.core.DatasetInfo, "file_format", property(lambda info: tfrecord))
    with pytest.raises(InputError, match=r"prepared as tfrecord, .* pip install \"momentum-jax\[tfds\]\""):
        load_dataset("tfds:mnist_png")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("two_sizes", r"images of several sizes: \(\d+, 28, 1\), \(\d+, 28, 1\)"),
        ("no_images", "does not pair an 8-bit image with a class: image Tensor"),
        ("no_classes", "does not pair an 8-bit image with a class: .*label Tensor|label Scalar"),
        ("unpaired", r"not a dataset of \(image, label\) pairs"),
        ("only_train", "has no split 'test'; it has train"),
    ],
)
def test_a_dataset_that_is_not_classification_of_images_of_one_size_is_refused(data_dir, cache, name, said):
    prepare(name, data_dir)
    with pytest.raises(InputError, match=f"tfds:{name}.*({said})"):
        load_dataset(f"tfds:{name}")
    assert not cache.exists()


def test_a_preparation_that_fails_is_reported_with_its_reason(data_dir, tensorflow_is):
    tensorflow_is(True)
    with pytest.raises(InputError, match=r"tfds:unreachable could not be downloaded and prepared: .*no route to host"):
        load_dataset("tfds:unreachable")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fashion_mnits", "unknown 'fashion_mnits'; did you mean 'fashion_mnist'?"),
        ("mnist_pgn", "unknown 'mnist_pgn'; did you mean 'mnist_png'?"),
        ("emnist/lettres", "tfds:emnist/lettres"),
        ("mnist:9.9.9", "tfds:mnist:9.9.9"),
        ("mnist/a=1", "tfds:mnist/a=1"),
        ("", "tfds:"),
        ("../mnist", "tfds:../mnist"),
    ],
)
def test_an_unknown_dataset_is_refused_by_name(data_dir, name, said):
    with pytest.raises(InputError) as error:
        load_dataset(f"tfds:{name}")
    assert said in str(error.value)
