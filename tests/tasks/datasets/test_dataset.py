"""Datasets in their canonical order, and the embedded MNIST."""

import dataclasses
import gzip
import hashlib
import io
import math
import pathlib
import struct
import time
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.tasks.datasets import Dataset, _mnist, embed_mnist, load_dataset
from momentum_jax.tasks.datasets._dataset import canonical_order

TRAIN_DIGITS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_DIGITS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def images_and_labels(n, *, seed=0, shape=(2, 3), classes=4):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *shape), np.uint8), rng.permutation(np.arange(n) % classes)


def make_dataset(train=None, test=None, **arguments):
    train, test = train or images_and_labels(12), test or images_and_labels(8, seed=1)
    return Dataset.from_images(train, test, **({"num_classes": None, "source": "the test"} | arguments))


# Few distinct values, so that equal rows and equal examples come up.
EXAMPLES = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.uint8, (n, 2), elements=st.integers(0, 2)),
        hnp.arrays(np.int32, n, elements=st.integers(0, 2)),
        st.permutations(range(n)),
    )
)


@given(EXAMPLES)
def test_the_canonical_order_does_not_depend_on_the_order_given(examples):
    x, y, order = examples
    rows, again = canonical_order(x, y), canonical_order(x[order], y[order])
    np.testing.assert_array_equal(x[rows], x[order][again])
    np.testing.assert_array_equal(y[rows], y[order][again])
    assert sorted(rows) == list(range(len(y)))


def test_the_canonical_order_does_not_change_between_versions():
    # Sorted by hand with hashlib.sha256(bytes([pixel, label, 0, 0, 0])): a changed order changes every run's batches.
    rows = canonical_order(np.arange(5, dtype=np.uint8)[:, None], np.arange(5, dtype=np.int32))
    assert rows.tolist() == [4, 2, 0, 1, 3]


def test_a_prefix_of_mnist_is_a_random_sample(mnist):
    # Each count is hypergeometric; ten of them are all within four standard deviations 99.9% of the time.
    n, total = 6000, 60000
    for digit, count in enumerate(np.bincount(mnist.y_train[:n])):
        proportion = TRAIN_DIGITS[digit] / total
        deviation = math.sqrt(n * proportion * (1 - proportion) * (total - n) / (total - 1))
        assert abs(count - n * proportion) < 4 * deviation


def test_the_embedded_mnist_is_the_original(mnist):
    assert np.bincount(mnist.y_train).tolist() == TRAIN_DIGITS
    assert np.bincount(mnist.y_test).tolist() == TEST_DIGITS
    assert mnist.digest == _mnist.DIGEST
    assert (mnist.image_shape, mnist.num_classes, mnist.source) == ((28, 28), 10, "embedded MNIST")
    assert (mnist.x_train.dtype, mnist.y_train.dtype) == (np.uint8, np.int32)
    # Known moments of the pixels of the training set.
    assert mnist.x_train.mean(dtype=np.float64) / 255 == pytest.approx(0.1306604762738429, abs=1e-12)


def test_the_embedded_mnist_is_in_canonical_order(mnist):
    np.testing.assert_array_equal(canonical_order(mnist.x_test, mnist.y_test), np.arange(10_000))


def test_the_file_rows_of_the_embedded_mnist_are_those_of_the_original_file(mnist):
    original = np.argsort(mnist.file_rows)
    images = struct.pack(">4I", 0x803, 60_000, 28, 28) + mnist.x_train[original].tobytes()
    labels = struct.pack(">2I", 0x801, 60_000) + mnist.y_train[original].astype(np.uint8).tobytes()
    # The SHA-256 of train-images-idx3-ubyte and train-labels-idx1-ubyte as published, unpacked.
    assert (hashlib.sha256(images).hexdigest(), hashlib.sha256(labels).hexdigest()) == (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    )


def test_batches_are_found_again_in_the_files(tmp_path):
    images, labels = images_and_labels(12)
    dataset = make_dataset((images, labels))
    write_idx_folder(tmp_path, dataset)
    cfg = mj.Config(dataset=str(tmp_path), iterations=3, batch_size=4)
    batches = mj.batch_indices(cfg, 0)
    loaded = load_dataset(str(tmp_path))
    in_files = loaded.file_rows[batches]
    np.testing.assert_array_equal(images.reshape(12, -1)[in_files], loaded.x_train[batches])
    np.testing.assert_array_equal(labels[in_files], loaded.y_train[batches])
    assert loaded.file_rows.tolist() != list(range(12))


def test_the_training_part_of_a_validation_split_keeps_its_file_rows():
    images, labels = images_and_labels(12)
    split = make_dataset((images, labels)).split_validation(5)
    np.testing.assert_array_equal(images.reshape(12, -1)[split.file_rows], split.x_train)
    by_hand = dataclasses.replace(make_dataset(), file_rows=None)
    assert by_hand.split_validation(5).file_rows is None


def npz_of(**changes):
    content = io.BytesIO()
    np.savez(content, **({field: np.zeros([4], np.uint8) for field in _mnist.FIELDS} | changes))
    return content.getvalue()


def npy():
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    return content.getvalue()


def flipped(content, offset):
    return content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"text",
        lambda content: content[: len(content) // 2],
        lambda content: flipped(content, 5_000_000),
        lambda content: npz_of(),
        lambda content: npz_of(y_train=np.asarray(["a"])),
        lambda content: npz_of(y_train=np.asarray(None, dtype=object)),
        lambda content: npz_of(y_train=np.uint8(3)),
        lambda content: npy(),
        # In the zip's directory: an unknown compression method, and the flag that says that an entry is encrypted.
        lambda content: flipped(content, content.rindex(b"PK\x01\x02") + 11),
        lambda content: flipped(content, content.rindex(b"PK\x01\x02") + 8),
        None,
    ],
    ids=[
        "empty",
        "text",
        "truncated",
        "a bit of an image",
        "other numbers",
        "words",
        "pickles",
        "a scalar",
        "a npy",
        "compression",
        "encryption",
        "missing",
    ],
)
def test_a_damaged_embedded_file_is_refused_with_what_to_do(monkeypatch, tmp_path, damage):
    copy = tmp_path / "mnist.npz"
    if damage:
        copy.write_bytes(damage(_mnist.PATH.read_bytes()))
    monkeypatch.setattr(_mnist, "PATH", copy)
    with pytest.raises(InputError, match=r"embedded mnist\.npz is .*damaged .*install momentum-jax again"):
        load_dataset("mnist")


def test_one_changed_label_is_noticed(monkeypatch, tmp_path, mnist):
    labels = mnist.y_test.astype(np.uint8)
    labels[0] = (labels[0] + 1) % 10
    arrays = {field: getattr(mnist, field) for field in _mnist.FIELDS}
    np.savez(tmp_path / "mnist.npz", **(arrays | {"y_test": labels}))
    monkeypatch.setattr(_mnist, "PATH", tmp_path / "mnist.npz")
    with pytest.raises(InputError, match="its digest is"):
        load_dataset("mnist")


def test_two_changed_file_rows_are_noticed(monkeypatch, tmp_path, mnist):
    rows = mnist.file_rows.copy()
    rows[:2] = rows[1::-1]
    np.savez(
        tmp_path / "mnist.npz", **({field: getattr(mnist, field) for field in _mnist.FIELDS} | {"file_rows": rows})
    )
    monkeypatch.setattr(_mnist, "PATH", tmp_path / "mnist.npz")
    with pytest.raises(InputError, match=r"is damaged .*install momentum-jax again"):
        load_dataset("mnist")


def write_idx_folder(folder: pathlib.Path, dataset: Dataset):
    """Writes the four files that a dataset may have come from; the test images are gzipped and in another order."""
    for part, x, y in (("train", dataset.x_train, dataset.y_train), ("t10k", dataset.x_test, dataset.y_test)):
        order = np.argsort(dataset.file_rows) if part == "train" else np.arange(len(y))[::-1]
        images = struct.pack(">4I", 0x803, len(y), *dataset.image_shape) + x[order].tobytes()
        if part == "t10k":
            (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(images, compresslevel=1))
        else:
            (folder / "train-images-idx3-ubyte").write_bytes(images)
        labels = struct.pack(">2I", 0x801, len(y)) + y[order].astype(np.uint8).tobytes()
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)


def test_the_embedded_file_is_rebuilt_from_the_four_original_files(monkeypatch, tmp_path, mnist):
    write_idx_folder(tmp_path, mnist)
    rebuilt = tmp_path / "mnist.npz"
    writestr = zipfile.ZipFile.writestr
    with monkeypatch.context() as patch:
        # Compressing as well as can be takes twenty seconds and changes nothing of what is read back.
        patch.setattr(zipfile.ZipFile, "writestr", lambda self, entry, data, *_, **__: writestr(self, entry, data))
        embed_mnist.write_mnist(tmp_path, rebuilt)
    with np.load(rebuilt, allow_pickle=False) as arrays, np.load(_mnist.PATH, allow_pickle=False) as embedded:
        assert arrays.files == embedded.files
        for field in arrays.files:
            assert arrays[field].dtype == embedded[field].dtype
            np.testing.assert_array_equal(arrays[field], embedded[field])
    monkeypatch.setattr(_mnist, "PATH", rebuilt)
    assert load_dataset("mnist").digest == _mnist.DIGEST


def test_building_twice_gives_the_same_bytes(monkeypatch, tmp_path):
    dataset = make_dataset()
    monkeypatch.setattr(embed_mnist, "DIGEST", dataset.digest)
    monkeypatch.setattr(embed_mnist, "ROWS_DIGEST", _mnist.rows_digest(dataset))
    for name, now in (("a", 1e9), ("b", 1.5e9)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        (tmp_path / name).mkdir()
        write_idx_folder(tmp_path / name, dataset)
        embed_mnist.write_mnist(tmp_path / name, tmp_path / f"{name}.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_nothing_but_the_original_mnist_is_embedded(tmp_path):
    write_idx_folder(tmp_path, make_dataset())
    with pytest.raises(InputError, match="does not hold the original MNIST: its digest is"):
        embed_mnist.write_mnist(tmp_path, tmp_path / "mnist.npz")
    assert not (tmp_path / "mnist.npz").exists()


def test_the_original_mnist_in_another_order_is_not_embedded(monkeypatch, tmp_path):
    dataset = make_dataset()
    monkeypatch.setattr(embed_mnist, "DIGEST", dataset.digest)
    write_idx_folder(tmp_path, dataset)
    with pytest.raises(InputError, match="not in the order of the original MNIST"):
        embed_mnist.write_mnist(tmp_path, tmp_path / "mnist.npz")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: {"x_train": d.x_train ^ 1},
        lambda d: {"y_train": d.y_train[::-1]},
        lambda d: {"x_test": d.x_test[::-1]},
        lambda d: {"y_test": d.y_test + 1},
        lambda d: {"image_shape": (3, 2)},
        lambda d: {"num_classes": 5},
        lambda d: {"x_train": d.x_train[:, ::-1]},
    ],
)
def test_the_digest_covers_all_but_the_source(change):
    dataset = make_dataset()
    assert dataclasses.replace(dataset, **change(dataset)).digest != dataset.digest
    assert dataclasses.replace(dataset, source="elsewhere").digest == dataset.digest


def test_images_of_one_channel_are_images_without_channels():
    x, y = images_and_labels(12)
    with_channel, without = make_dataset((x[..., None], y)), make_dataset((x, y))
    assert with_channel.image_shape == without.image_shape == (2, 3)
    assert with_channel.digest == without.digest
    colours = images_and_labels(12, shape=(2, 3, 3))
    assert make_dataset(colours, colours).image_shape == (2, 3, 3)
    assert make_dataset(colours, colours).x_train.shape == (12, 18)


@pytest.mark.parametrize(
    ("train", "test", "num_classes", "said"),
    [
        (images_and_labels(12, shape=(3, 2)), None, None, r"training images are \(3, 2\), test images \(2, 3\)"),
        ((images_and_labels(12)[0], np.zeros(11, int)), None, None, "12 training images but 11 labels"),
        (None, (images_and_labels(8)[0], np.zeros(9, int)), None, "8 test images but 9 labels"),
        (images_and_labels(0), None, None, "no training examples"),
        (None, images_and_labels(0), None, "no test examples"),
        (None, (images_and_labels(8)[0], np.full(8, 4)), None, "test label 4 is outside the classes 0 to 3"),
        ((images_and_labels(12)[0], np.full(12, -1)), None, 4, "training label -1 is outside the classes 0 to 3"),
        (None, None, 3, "training label 3 is outside the classes 0 to 2"),
        (images_and_labels(12, shape=(0, 0)), images_and_labels(8, shape=(0, 0)), None, "images of 0×0 have no pixels"),
        (images_and_labels(12, shape=(4, 0)), images_and_labels(8, shape=(4, 0)), None, "images of 4×0 have no pixels"),
        ((np.ones((12, 2, 3)), np.zeros(12, int)), None, None, r"training images must be uint8 .* not float64"),
        (images_and_labels(12, shape=(6,)), None, None, r"training images must be uint8 .* of shape \(12, 6\)"),
        (None, (images_and_labels(8)[0], np.zeros(8)), None, "test labels must be integers .* not float64"),
        ((images_and_labels(12)[0], np.zeros((12, 1), int)), None, None, r"training labels .* of shape \(12, 1\)"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused_by_source(train, test, num_classes, said):
    with pytest.raises(InputError, match=f"the test: .*{said}"):
        make_dataset(train, test, num_classes=num_classes)


@given(st.integers(1, 11), st.integers(0, 2**32))
def test_a_validation_split_divides_the_training_set_and_keeps_the_order(n, seed):
    dataset = make_dataset()
    split = dataset.split_validation(n, seed)
    assert (len(split.y_test), len(split.y_train)) == (n, 12 - n)
    assert split.digest == dataset.split_validation(n, seed).digest
    for x, y in ((split.x_train, split.y_train), (split.x_test, split.y_test)):
        np.testing.assert_array_equal(canonical_order(x, y), np.arange(len(y)))
    x, y = np.concatenate([split.x_train, split.x_test]), np.concatenate([split.y_train, split.y_test])
    both = canonical_order(x, y)
    np.testing.assert_array_equal(x[both], dataset.x_train)
    np.testing.assert_array_equal(y[both], dataset.y_train)


def test_a_validation_split_depends_on_its_seed_and_says_so_in_the_source():
    dataset = make_dataset()
    splits = [dataset.split_validation(4, seed) for seed in range(3)]
    assert len({split.digest for split in splits}) == 3
    assert splits[2].source == "the test, 4 training examples held out by seed 2"


@pytest.mark.parametrize("n", [0, 12, -1, 2.0, True])
def test_a_validation_split_leaves_something_on_both_sides(n):
    with pytest.raises(InputError, match="n must be an integer of at least 1 and at most 11, not"):
        make_dataset().split_validation(n)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mnst", "unknown 'mnst'; did you mean 'mnist'?"),
        ("no/such/folder", "unknown 'no/such/folder'"),
        ("~nobody-of-this-name/data", "unknown '~nobody"),
        ("a" * 300, "unknown 'aaa"),
    ],
    ids=["mistyped", "folder", "home", "long"],
)
def test_an_unknown_dataset_is_refused_with_what_there_is(name, said):
    with pytest.raises(InputError) as error:
        load_dataset(name)
    assert said in str(error.value)
    assert "Allowed: <folder of IDX files>, mnist, tfds:<name>" in str(error.value)
