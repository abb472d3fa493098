"""What all tests share: two CPU devices, and JAX's strictest settings."""

import importlib.util
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# The user's own cache of compiled programs is none of the tests' business.
os.environ["MOMENTUM_JAX_COMPILATION_CACHE"] = "off"

import jax
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

from momentum_jax.data import Dataset, load_dataset


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    return load_dataset("mnist")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


_TORCH = ["optimizers/test_torch.py", "optimizers/test_migration_torch.py", "test_torch_replay.py"]
# Tests of what is not always installed; CI installs torch on Python 3.11, and Ray.
_NEEDS = {"torch": _TORCH, "ray": ["test_cluster.py"]}
collect_ignore = [name for module, names in _NEEDS.items() if not importlib.util.find_spec(module) for name in names]
