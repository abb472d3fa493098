"""What all tests share: two CPU devices, and JAX's strictest settings."""

import functools
import importlib.util
import os
import struct

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# The user's own cache of compiled programs is none of the tests' business.
os.environ["MOMENTUM_JAX_COMPILATION_CACHE"] = "off"

import jax
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

from momentum_jax import cli
from momentum_jax.cli import jax_setup
from momentum_jax.tasks.datasets import Dataset, load_dataset
from momentum_jax.training import compile as programs
from momentum_jax.training import waves
from tests.chromium import find_chromium
from tests.compiling import compile_quickly, quick_options

# To unpack MNIST takes as long as a small training, which every one of them would begin with.
_unpack_once = functools.cache(load_dataset)
waves.load_dataset = lambda name: _unpack_once(name) if name == "mnist" else load_dataset(name)


@pytest.fixture
def compiled_quickly(monkeypatch):
    """For tests of what trainings do: XLA leaves its optimisations out. Not for those of bits, roundings or speed."""
    # Asked before anything is counted.
    quick_options()
    monkeypatch.setattr(programs, "_compile", compile_quickly)


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    return load_dataset("mnist")


@pytest.fixture(scope="session")
def idx(tmp_path_factory):
    """A dataset that loads at once: 300 + 50 images of 5×5, told apart by which row is bright."""
    folder = tmp_path_factory.mktemp("data") / "idx"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, count in (("train", 300), ("t10k", 50)):
        labels = rng.integers(0, 5, count).astype(np.uint8)
        images = rng.integers(0, 100, (count, 5, 5)).astype(np.uint8)
        images[np.arange(count), labels] += 150
        header = struct.pack(">4I", 0x803, count, 5, 5)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, count) + labels.tobytes())
    return folder


@pytest.fixture
def main(monkeypatch, tmp_path):
    """The command in this process, whose CPU devices are already counted, in an empty folder."""
    monkeypatch.setattr(jax_setup, "cores", lambda: len(jax.devices()))
    monkeypatch.chdir(tmp_path)
    return cli.main


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


_TORCH = ["optimizers/test_torch.py", "optimizers/test_migration_torch.py", "training/test_torch_replay.py"]
# Tests of what is not always installed; CI installs torch on Python 3.11, Ray, and the system's Chromium.
_NEEDS = {"torch": _TORCH, "ray": ["sweeps/test_cluster.py"]}
collect_ignore = [name for module, names in _NEEDS.items() if not importlib.util.find_spec(module) for name in names]
collect_ignore += [] if find_chromium() else ["report/page"]
