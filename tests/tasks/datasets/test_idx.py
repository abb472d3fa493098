"""Folders of MNIST-style IDX files, sound and damaged in every way."""

import gzip
import os
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
    np.testing.assert_array_equal(arrays[X_TRAIN].reshape(30, -1)[dataset.file_rows], dataset.x_train)


def names(spelling, part="t10k"):
    """The four names, with PART and KIND of a spelling filled in."""
    return {
        f"{where}-{kind}-{idx}-ubyte": spelling.format(part=part if where == "t10k" else where, kind=kind, idx=idx)
        for where in ("train", "t10k")
        for kind, idx in (("images", "idx3"), ("labels", "idx1"))
    }


def nested(*folders):
    return names("/".join([*folders, "{part}-{kind}-{idx}-ubyte"]))


LAYOUTS = {
    "with a point": names("{part}-{kind}.{idx}-ubyte"),
    "EMNIST": names("emnist-letters-{part}-{kind}-{idx}-ubyte", part="test"),
    "upper case": {name: name.upper() for name in NAMES},
    "mixed case": {name: name.title() for name in NAMES},
    "Kaggle": names("{part}-{kind}-{idx}-ubyte/{part}-{kind}-{idx}-ubyte"),
    "Kaggle, with a point": names("{part}-{kind}.{idx}-ubyte/{part}-{kind}.{idx}-ubyte"),
    "an archive in its own folder": nested("archive"),
    "the folder of torchvision's root": nested("raw"),
    "torchvision's root": nested("MNIST", "raw"),
    "torchvision's EMNIST": names("EMNIST/raw/emnist-digits-{part}-{kind}-{idx}-ubyte", part="test"),
}


@pytest.mark.parametrize("ending", ["", ".gz", "gzipped without the ending", "plain with the ending"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_names_and_layouts_of_others_are_read(tmp_path, layout, ending):
    arrays = make_arrays()
    (tmp_path / "plain").mkdir()
    write(tmp_path / "plain", arrays)
    folder = tmp_path / "theirs"
    for name, theirs in LAYOUTS[layout].items():
        path = folder / (theirs + (".gz" if ending in (".gz", "plain with the ending") else ""))
        path.parent.mkdir(parents=True, exist_ok=True)
        content = idx(arrays[name])
        path.write_bytes(gzip.compress(content) if ending in (".gz", "gzipped without the ending") else content)
    (folder / "README.txt").write_text("about the data")
    dataset, plain = load_dataset(str(folder)), load_dataset(str(tmp_path / "plain"))
    assert dataset.digest == plain.digest
    np.testing.assert_array_equal(dataset.file_rows, plain.file_rows)


def test_of_several_copies_the_least_deep_is_read_and_of_two_the_plain_one(tmp_path):
    write(tmp_path, make_arrays())
    write(tmp_path, make_arrays(), zipped=NAMES)
    for name in NAMES:
        (tmp_path / f"{name}.gz").write_bytes(b"never read")
    (tmp_path / "raw").mkdir()
    write(tmp_path / "raw", make_arrays((9, 9)))
    assert load_dataset(str(tmp_path)).image_shape == (4, 5)


def test_several_datasets_in_a_folder_are_refused_by_name(tmp_path):
    for name in ("letters", "digits"):
        write(tmp_path, {LAYOUTS["EMNIST"][k].replace("letters", name): v for k, v in make_arrays().items()})
    with pytest.raises(InputError, match="holds several datasets: emnist-digits, emnist-letters; give a folder"):
        load_dataset(str(tmp_path))
    for name in ("KMNIST", "FashionMNIST"):
        (tmp_path / "root" / name / "raw").mkdir(parents=True)
        write(tmp_path / "root" / name / "raw", make_arrays())
    with pytest.raises(InputError, match=r"holds several datasets: FashionMNIST/raw, KMNIST/raw; give a folder"):
        load_dataset(str(tmp_path / "root"))


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
def test_a_missing_file_is_named_with_both_of_its_spellings_and_with_what_is_there(tmp_path, name):
    write(tmp_path, {file: array for file, array in make_arrays().items() if file != name})
    there = ", ".join(sorted(set(NAMES) - {name}))
    with pytest.raises(InputError, match=f"holds neither {name} nor {name}.gz; it holds {there}$"):
        load_dataset(str(tmp_path))


def test_a_folder_of_something_else_is_refused_with_what_is_there(tmp_path):
    with pytest.raises(InputError, match=f"holds neither {X_TRAIN} nor {X_TRAIN}.gz; it holds no files$"):
        load_dataset(str(tmp_path))
    (tmp_path / "cats").mkdir()
    for number in range(15):
        (tmp_path / "cats" / f"{number:02}.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"it holds cats/00\.png, .*, cats/11\.png and 3 more$"):
        load_dataset(str(tmp_path))


def test_what_is_no_regular_file_is_never_opened(tmp_path):
    write(tmp_path, {file: array for file, array in make_arrays().items() if file != Y_TEST})
    os.mkfifo(tmp_path / Y_TEST)
    with pytest.raises(InputError, match=f"holds neither {Y_TEST} nor"):
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
}
GZIP_DAMAGE = {
    "cut": (lambda content: content[: len(content) // 2], "cannot be read"),
    "header cut": (lambda content: content[:5], "cannot be read"),
    "checksum": (lambda content: content[:-8] + b"\0\0\0\0" + content[-4:], "cannot be read"),
    "deflate": (corrupt_deflate, "cannot be read"),
    "not gzip": (lambda content: b"rubbish", "truncated: 7 bytes"),
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
        ({X_TRAIN: np.zeros((30, 0, 0)), X_TEST: np.zeros((7, 0, 0))}, "images of 0×0 have no pixels"),
    ],
)
def test_files_that_do_not_fit_together_are_refused_by_folder(tmp_path, changes, said):
    write(tmp_path, make_arrays() | changes)
    with pytest.raises(InputError, match=f"IDX files of the folder {tmp_path.name}: {said}"):
        load_dataset(str(tmp_path))


def test_a_file_that_cannot_be_opened_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"^nothing: cannot be read"):
        read_idx(tmp_path / "nothing", 1)
