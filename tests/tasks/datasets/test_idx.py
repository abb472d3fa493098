"""Folders of MNIST-style IDX files, sound and damaged in every way."""

import gzip
import pathlib
import struct

import numpy as np
import pytest

from momentum_jax._base.errors import InputError
from momentum_jax.tasks.datasets import Dataset, load_dataset
from momentum_jax.tasks.datasets._idx import read_idx

X_TRAIN, Y_TRAIN = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
X_TEST, Y_TEST = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
NAMES = (X_TRAIN, Y_TRAIN, X_TEST, Y_TEST)


def idx(array):
    header = struct.pack(f">{1 + array.ndim}I", 0x800 | array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def make_arrays(shape=(4, 5)):
    rng = np.random.default_rng(0)
    return {
        X_TRAIN: rng.integers(0, 256, (30, *shape)),
        Y_TRAIN: rng.permutation(np.arange(30) % 6),
        X_TEST: rng.integers(0, 256, (7, *shape)),
        Y_TEST: np.arange(7) % 6,
    }


def write(folder, arrays, zipped=()):
    for name, array in arrays.items():
        if name in zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))


@pytest.mark.parametrize("shape", [(4, 5), (28, 28), (1, 1), (64, 3)], ids=str)
@pytest.mark.parametrize("zipped", [(), NAMES, (X_TRAIN, Y_TEST)], ids=["plain", "gzipped", "mixed"])
def test_a_folder_of_plain_or_gzipped_files_is_read(tmp_path, shape, zipped):
    arrays = make_arrays(shape)
    write(tmp_path, arrays, zipped)
    dataset = load_dataset(str(tmp_path))
    assert (dataset.image_shape, dataset.num_classes) == (shape, 6)
    assert (dataset.x_train.dtype, dataset.y_train.dtype) == (np.uint8, np.int32)
    assert dataset.source == f"IDX files of the folder {tmp_path.name}"
    expected = Dataset.from_images(
        (arrays[X_TRAIN].astype(np.uint8), arrays[Y_TRAIN]),
        (arrays[X_TEST].astype(np.uint8), arrays[Y_TEST]),
        num_classes=6,
        source="memory",
    )
    assert dataset.digest == expected.digest


# Debian's package dataset-fashion-mnist: real gzipped files, where it is installed.
DEBIAN = [folder for folder in [pathlib.Path("/usr/share/datasets/fashion-mnist")] if folder.is_dir()]


@pytest.fixture(params=["in the shape of the real files", *map(str, DEBIAN)])
def real_folder(request, tmp_path):
    if request.param in map(str, DEBIAN):
        return request.param
    rng = np.random.default_rng(0)
    for part, n in (("train", 60000), ("t10k", 10000)):
        images = rng.integers(0, 256, (n, 1), np.uint8) * np.ones((1, 784), np.uint8)
        labels = np.arange(n) % 10
        write(tmp_path, {f"{part}-images-idx3-ubyte": images.reshape(n, 28, 28), f"{part}-labels-idx1-ubyte": labels})
    return str(tmp_path)


def test_a_folder_of_full_size_is_read(real_folder):
    dataset = load_dataset(real_folder)
    assert dataset.x_train.shape == (60000, 784)
    assert dataset.x_test.shape == (10000, 784)
    # Fashion-MNIST too has as many examples of each of its ten classes.
    assert np.bincount(dataset.y_train).tolist() == [6000] * 10
    assert np.bincount(dataset.y_test).tolist() == [1000] * 10


def test_the_order_of_the_examples_in_the_files_does_not_matter(tmp_path):
    arrays = make_arrays()
    digests = []
    for name, step in (("a", 1), ("b", -1)):
        (tmp_path / name).mkdir()
        write(tmp_path / name, {file: array[::step] for file, array in arrays.items()})
        digests.append(load_dataset(str(tmp_path / name)).digest)
    assert digests[0] == digests[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named_with_both_of_its_spellings(tmp_path, name):
    write(tmp_path, {file: array for file, array in make_arrays().items() if file != name})
    with pytest.raises(InputError, match=f"holds neither {name} nor {name}.gz"):
        load_dataset(str(tmp_path))


def corrupt_deflate(content):
    return content[:20] + bytes(byte ^ 0xFF for byte in content[20:30]) + content[30:]


PLAIN_DAMAGE = {
    "empty": (lambda content: b"", "truncated: 0 bytes"),
    "header cut": (lambda content: content[:7], "truncated: 7 bytes"),
    "body cut": (lambda content: content[:-1], "the header announces"),
    "a byte too many": (lambda content: content + b"\0", "the header announces"),
    "a larger count": (lambda content: content[:4] + b"\x01\x02\x03\x04" + content[8:], "the header announces"),
    "wrong magic": (lambda content: b"\0\0\x08\x07" + content[4:], "wrong magic number 0x00000807"),
    "floats": (lambda content: b"\0\0\x0d" + content[3:], "wrong magic number 0x00000d"),
    "gzipped without the ending": (gzip.compress, "wrong magic number 0x1f8b"),
}
GZIP_DAMAGE = {
    "cut": (lambda content: content[: len(content) // 2], "cannot be read"),
    "header cut": (lambda content: content[:5], "cannot be read"),
    "checksum": (lambda content: content[:-8] + b"\0\0\0\0" + content[-4:], "cannot be read"),
    "deflate": (corrupt_deflate, "cannot be read"),
    "not gzip": (gzip.decompress, "cannot be read"),
    "rubbish after it": (lambda content: content + b"rubbish", "cannot be read"),
    "empty": (lambda content: b"", "truncated: 0 bytes"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", PLAIN_DAMAGE)
def test_a_damaged_plain_file_is_refused_by_name(tmp_path, name, damage):
    write(tmp_path, make_arrays())
    change, said = PLAIN_DAMAGE[damage]
    (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
    with pytest.raises(InputError, match=f"^{name}: {said}"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", GZIP_DAMAGE)
def test_a_damaged_gzipped_file_is_refused_by_name(tmp_path, name, damage):
    write(tmp_path, make_arrays(), NAMES)
    change, said = GZIP_DAMAGE[damage]
    path = tmp_path / f"{name}.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=rf"^{name}\.gz: {said}"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({Y_TRAIN: np.zeros(29)}, "30 training images but 29 labels"),
        ({X_TEST: np.zeros((6, 4, 5))}, "6 test images but 7 labels"),
        ({X_TEST: np.zeros((7, 5, 4))}, r"training images are \(4, 5\), test images \(5, 4\)"),
        ({Y_TEST: np.full(7, 6)}, "test label 6 is outside the classes 0 to 5"),
        ({X_TRAIN: np.zeros((0, 4, 5)), Y_TRAIN: np.zeros(0)}, "no training examples"),
        ({X_TEST: np.zeros((0, 4, 5)), Y_TEST: np.zeros(0)}, "no test examples"),
    ],
)
def test_files_that_do_not_fit_together_are_refused_by_folder(tmp_path, changes, said):
    write(tmp_path, make_arrays() | changes)
    with pytest.raises(InputError, match=f"IDX files of the folder {tmp_path.name}: {said}"):
        load_dataset(str(tmp_path))


def test_a_file_that_cannot_be_opened_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"^nothing: cannot be read"):
        read_idx(tmp_path / "nothing", 1)
