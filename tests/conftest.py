"""What all tests share: two CPU devices, and JAX's strictest settings."""

import functools
import gc
import importlib.util
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Tests must not depend on programs that the user has cached.
os.environ["MOMENTUM_JAX_COMPILATION_CACHE"] = "off"

import hypothesis
import jax
import numpy as np
import pytest

# How long an example takes depends on the machine and on what runs beside it.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

from momentum_jax import cli
from momentum_jax.cli import jax_setup
from momentum_jax.tasks.datasets import Dataset, load_dataset
from momentum_jax.training import compile as programs
from momentum_jax.training import validate
from tests.chromium import find_chromium
from tests.cli.commands import tree
from tests.compiling import compile_quickly, quick_options
from tests.idx import write_idx

# Unpacking MNIST takes as long as a small training, and every training would begin with it.
_unpack_once = functools.cache(load_dataset)
validate.load_dataset = lambda name: _unpack_once(name) if name == "mnist" else load_dataset(name)


def pytest_collection_finish():
    """Thousands of tests and all modules stay: no collection of garbage needs to look at them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def few_memory_maps():
    """Forgets compiled programs before there are too many.

    Each has some ten memory maps, and Linux kills a process that needs more than 65,530.
    """
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 15_000:
        jax.clear_caches()


@pytest.fixture
def compiled_quickly(monkeypatch):
    """Trainings compile without XLA's optimisations. Not for tests of bits, roundings or speed."""
    # Query the options first: the query itself compiles, and some tests count compilations.
    quick_options()
    monkeypatch.setattr(programs, "_compile", compile_quickly)


@pytest.fixture(
    params=[
        pytest.param("quickly", marks=pytest.mark.contained),
        pytest.param("as for users", marks=pytest.mark.exhaustive),
    ]
)
def compiled(request):
    """For tests of bits: trainings compile quickly by default, and in CI as for users, which could change the bits."""
    if request.param == "quickly":
        request.getfixturevalue("compiled_quickly")
    return request.param


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    return _unpack_once("mnist")


@pytest.fixture(scope="session")
def idx(tmp_path_factory):
    """A folder with a dataset that loads fast; see `write_idx`."""
    return write_idx(tmp_path_factory.mktemp("data") / "idx")


@pytest.fixture
def main(monkeypatch, tmp_path):
    """The command line's `main`, run in this process and in an empty folder.

    JAX has fixed the number of CPU devices already, so that the command must not ask for more.
    """
    monkeypatch.setattr(jax_setup, "cores", lambda: len(jax.devices()))
    monkeypatch.chdir(tmp_path)
    return cli.main


@pytest.fixture
def refused(main, monkeypatch, capsys):
    """Runs the command on what it must refuse, and gives its message."""

    def run(*arguments):
        monkeypatch.setattr(
            "momentum_jax.training.compile._compile_all", lambda *_: pytest.fail("compiled for bad input")
        )
        before = tree(pathlib.Path.cwd())
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
        assert tree(pathlib.Path.cwd()) == before
        return capsys.readouterr().err

    return run


@pytest.fixture
def float64():
    """Computes in float64 where arrays are not given another dtype."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


_TORCH = ["optimizers/test_torch.py", "optimizers/test_migration_torch.py", "training/test_torch_replay.py"]
# These tests need what is not always installed. CI installs Ray, the system's Chromium and, on Python 3.11, torch.
_NEEDS = {"torch": _TORCH, "ray": ["sweeps/test_cluster.py"]}
collect_ignore = [name for module, names in _NEEDS.items() if not importlib.util.find_spec(module) for name in names]
collect_ignore += [] if find_chromium() else ["report/page"]
