"""Data on the host: which sources are read, which rows they are asked for, and what is refused."""

import importlib.util

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.results.fingerprint import data_digest
from momentum_jax.tasks import HostData
from momentum_jax.training import make_run

INPUTS = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 5, 200).astype(np.int32)
ROWS = np.array([7, 3, 3, 199, 0, 7])


class Stored:
    """As an array of h5py: it has a shape and a dtype, and takes ascending rows without repetitions only."""

    def __init__(self, array):
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.most = 0

    def __len__(self):
        return len(self._array)

    def __getitem__(self, rows):
        if (np.diff(rows) <= 0).any():
            raise TypeError("Indexing elements must be in increasing order")
        self.most = max(self.most, len(rows))
        return self._array[rows]


class WithoutLength:
    """As an array of zarr: with a shape, without `__len__`."""

    def __init__(self, array):
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("read as a whole")

    def __getitem__(self, rows):
        return self._array[rows]


class Examples:
    """As a data source of TFDS without reading at once: examples one by one, here pairs."""

    def __init__(self, *arrays):
        self._arrays = arrays

    def __len__(self):
        return len(self._arrays[0])

    def __getitem__(self, row):
        return tuple(array[row] for array in self._arrays)


class ExamplesAtOnce:
    """As a data source of TFDS: dictionaries of features, read many at once."""

    def __init__(self, **arrays):
        self._arrays = arrays

    def __len__(self):
        return len(next(iter(self._arrays.values())))

    def __getitem__(self, row):
        raise AssertionError("one by one")

    def __getitems__(self, rows):
        assert all(type(row) is int for row in rows)
        return [{name: array[row] for name, array in self._arrays.items()} for row in rows]


class ToNumpy:
    """As a frame or series of polars: of its own kind, with `to_numpy`."""

    def __init__(self, array):
        self._array = array

    def __len__(self):
        return len(self._array)

    def __getitem__(self, column):
        raise AssertionError(f"no column {column}")

    def to_numpy(self):
        return self._array


def memmap(tmp_path, array):
    stored = np.memmap(tmp_path / "array", array.dtype, "w+", shape=array.shape)
    stored[:] = array
    return stored


def init(key):
    return {"w": jax.random.normal(key, [3])}


def loss(params, batch):
    inputs = batch["inputs"] if isinstance(batch, dict) else batch[0] if isinstance(batch, tuple) else batch
    return jnp.mean(jnp.sum((params["w"][None] - inputs.astype(params["w"].dtype)) ** 2, axis=-1)) / 2


def task(train, **changes):
    return mj.Task(init, loss, train, **changes)


def sources(tmp_path):
    return {
        "memmap": (memmap(tmp_path, INPUTS), INPUTS),
        "ascending rows only": (Stored(INPUTS), INPUTS),
        "without length": (WithoutLength(INPUTS), INPUTS),
        "one by one": (Examples(INPUTS, LABELS), (INPUTS, LABELS)),
        "dictionaries": (ExamplesAtOnce(inputs=INPUTS, label=LABELS), {"inputs": INPUTS, "label": LABELS}),
        "two beside each other": ((Stored(INPUTS), Stored(LABELS)), (INPUTS, LABELS)),
        "beside an array in memory": ((Stored(INPUTS), LABELS), (INPUTS, LABELS)),
        "beside an array of JAX": ((Stored(INPUTS), jnp.asarray(LABELS)), (INPUTS, LABELS)),
    }


KINDS = [
    *("memmap", "ascending rows only", "without length", "one by one", "dictionaries"),
    *("two beside each other", "beside an array in memory", "beside an array of JAX"),
]


def assert_rows(read, arrays, rows):
    assert jax.tree.structure(read) == jax.tree.structure(arrays)
    for ours, whole in zip(jax.tree.leaves(read), jax.tree.leaves(arrays), strict=True):
        assert (type(ours), ours.dtype) == (np.ndarray, whole.dtype)
        np.testing.assert_array_equal(ours, whole[rows])


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_gives_its_rows_in_any_order_with_repetitions(kind, tmp_path):
    source, arrays = sources(tmp_path)[kind]
    held = task(source).train
    assert isinstance(held, HostData)
    assert len(held) == 200
    assert_rows(held.read(ROWS), arrays, ROWS)


@pytest.mark.parametrize("kind", KINDS)
def test_validation_holds_out_the_rows_that_it_holds_out_in_memory(kind, tmp_path):
    source, arrays = sources(tmp_path)[kind]
    ours, expected = task(source).split_validation(30, seed=4), task(arrays).split_validation(30, seed=4)
    for part in ("train", "test"):
        held, whole = getattr(ours, part), getattr(expected, part)
        assert_rows(held.read(np.arange(len(held))), whole, slice(None))
    assert len(ours.train) == ours.num_examples == 170
    # What is held out can be divided again.
    again, twice = ours.split_validation(20, seed=5), expected.split_validation(20, seed=5)
    assert_rows(again.test.read(np.arange(20)), twice.test, slice(None))


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_from_a_source_is_the_one_from_memory(kind, tmp_path):
    source, arrays = sources(tmp_path)[kind]
    cfg = mj.Config(iterations=6, batch_size=8, optimizers={"sgd": mj.OptimizerConfig("sgd", learning_rate=0.1)})
    ours, expected = mj.train(cfg, task=task(source), chunk=4), mj.train(cfg, task=task(arrays), chunk=4)
    np.testing.assert_array_equal(ours.losses["sgd"], expected.losses["sgd"])
    assert ours.train_loss["sgd"] == expected.train_loss["sgd"]


def test_double_precision_on_a_disk_is_trained_on_as_in_memory(tmp_path):
    wide = INPUTS.astype(np.float64) + 1e-12
    for dtype in ("float32", "float64"):
        cfg = mj.Config(
            iterations=3, dtype=dtype, batch_size=8, optimizers={"sgd": mj.OptimizerConfig("sgd", learning_rate=0.1)}
        )
        ours = mj.train(cfg, task=task(memmap(tmp_path, wide)))
        np.testing.assert_array_equal(ours.losses["sgd"], mj.train(cfg, task=task(wide)).losses["sgd"])


@pytest.mark.parametrize("count", [200, 10_000, 10_001, 25_000])
def test_the_evaluation_gets_at_most_ten_thousand_evenly_spaced_examples(count):
    source = Stored(np.arange(count))
    (train, test) = task(source, test=source).evaluation_data
    # The oracle: places i·count/10,000 rounded down; all rows where there are no more.
    expected = np.arange(count) if count <= 10_000 else np.floor(np.linspace(0, count, 10_001)[:-1] + 1e-6)
    np.testing.assert_array_equal(train, expected)
    np.testing.assert_array_equal(test, expected)
    assert source.most == min(count, 10_000)


def test_the_digest_is_taken_in_parts_and_changes_with_one_byte_of_one_row():
    digests = set()
    for changed in (None, (0, 0), (4095, 2), (4096, 0), (9999, 1)):
        array = np.zeros([10_000, 3], np.uint8)
        if changed:
            array[changed] = 1
        source = Stored(array)
        digests.add(data_digest(task(source)))
        assert source.most <= 4096
    assert len(digests) == 5


def test_the_digest_is_of_the_rows_that_there_are_and_of_their_order():
    whole = task(Stored(np.arange(20)))
    halves = [whole.split_validation(10, seed) for seed in (0, 0, 1)]
    first, same, other = map(data_digest, halves)
    assert first == same != other
    assert data_digest(whole) == data_digest(task(Stored(np.arange(20))))


def test_series_and_other_tables_are_taken_into_memory():
    for leaf in (ToNumpy(INPUTS), *([_torch(INPUTS)] if importlib.util.find_spec("torch") else [])):
        held = task(leaf).train
        assert type(held) is np.ndarray
        np.testing.assert_array_equal(held, INPUTS)


def _torch(array):
    import torch

    return torch.from_numpy(array.copy())


@pytest.mark.parametrize("of", ["polars", "torch", "pandas", "a masked array"])
def test_what_stands_in_memory_beside_a_source_is_an_array_too(of):
    if of in ("torch", "pandas"):
        pytest.importorskip(of)
    if of == "torch":
        labels = _torch(LABELS)
    elif of == "pandas":
        import pandas as pd

        # The rows of a series are not those of its labels.
        labels = pd.Series(LABELS, index=np.arange(200)[::-1])
    else:
        labels = ToNumpy(LABELS) if of == "polars" else np.ma.asarray(LABELS)
    held = task((Stored(INPUTS), labels)).train
    assert_rows(held.read(ROWS), (INPUTS, LABELS), ROWS)


def test_a_tree_of_arrays_is_no_source_whatever_its_nodes_are():
    held = task(flax.core.freeze({"inputs": INPUTS, "label": LABELS}))
    assert not isinstance(held.train, HostData)
    assert held.num_examples == 200


def _numbered(forms):
    """A source whose example i is forms[i]."""

    class Source:
        def __len__(self):
            return len(forms)

        def __getitem__(self, row):
            return forms[row]

    return Source()


@pytest.mark.parametrize(
    "other",
    [np.zeros(4, np.float32), np.zeros(3, np.float64), (np.zeros(3, np.float32),), "text"],
    ids=["shape", "dtype", "structure", "text"],
)
def test_examples_that_change_their_form_are_refused_in_one_line(other):
    held = task(_numbered([*[np.zeros(3, np.float32)] * 5, other])).train
    for rows in ([5], [0, 5], [5, 0]):
        with pytest.raises(InputError) as error:
            held.read(np.array(rows))
        # Examples of several shapes are no array, which NumPy says.
        assert str(error.value).startswith(
            ("the examples of a task's data changed from", "the task's data cannot be read: ValueError")
        )
        assert "\n" not in str(error.value)


def test_a_source_that_fails_is_refused_in_one_line_with_its_error():
    class Broken:
        def __len__(self):
            return 5

        def __getitem__(self, row):
            raise OSError("the disk\nis gone")

    with pytest.raises(InputError, match=r"the task's data cannot be read: OSError: the disk$"):
        task(Broken())


@pytest.mark.parametrize("other", [LABELS[:100], Stored(LABELS[:100]), 3, np.float32(3), "text", None])
def test_what_has_another_length_or_none_beside_a_source_is_refused_in_one_line(other):
    if other is None:
        assert task((Stored(INPUTS), None)).num_examples == 200
        return
    with pytest.raises(InputError, match="the sources of a task's data must have") as error:
        task((Stored(INPUTS), other))
    assert "\n" not in str(error.value)


def test_no_examples_are_refused_in_one_line():
    cfg = mj.Config(iterations=3, optimizers={"sgd": mj.OptimizerConfig("sgd", learning_rate=0.1)})
    for empty in (Stored(INPUTS[:0]), Examples(INPUTS[:0])):
        with pytest.raises(InputError) as error:
            mj.train(cfg, task=task(empty))
        assert "\n" not in str(error.value)


def test_a_run_made_of_a_task_refuses_training_data_on_the_host_and_takes_such_test_data():
    sgd = mj.OptimizerConfig("sgd", learning_rate=0.1)
    with pytest.raises(InputError, match="make_run needs training data in memory"):
        make_run(task(Stored(INPUTS)), sgd, iterations=3, batch_size=8)
    run = make_run(task(INPUTS, test=Stored(INPUTS)), sgd, iterations=3, batch_size=8)
    trained = jax.jit(run)({"learning_rate": jnp.float32(0.1)}, jnp.uint32(0))
    assert trained.evaluation["test_loss"] == trained.evaluation["train_loss"]
