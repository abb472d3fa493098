"""A laboratory for momentum in JAX: does it help here, by how much, and why?

import momentum_jax as mj

result = mj.train(mj.Config(iterations=500))
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from momentum_jax import optimizers as optimizers
    from momentum_jax.comparison import Comparison as Comparison
    from momentum_jax.comparison import compare as compare
    from momentum_jax.comparison import compare_results as compare_results
    from momentum_jax.config import Config as Config
    from momentum_jax.config import OptimizerConfig as OptimizerConfig
    from momentum_jax.config import Schedule as Schedule
    from momentum_jax.data import Dataset as Dataset
    from momentum_jax.data import load_dataset as load_dataset
    from momentum_jax.errors import InputError as InputError
    from momentum_jax.grids import LogUniform as LogUniform
    from momentum_jax.grids import Uniform as Uniform
    from momentum_jax.optimizers import adaptive_restart as adaptive_restart
    from momentum_jax.optimizers import aggmo as aggmo
    from momentum_jax.optimizers import momentum as momentum
    from momentum_jax.optimizers import nesterov as nesterov
    from momentum_jax.optimizers import qhm as qhm
    from momentum_jax.optimizers import sgd as sgd
    from momentum_jax.results import Result as Result
    from momentum_jax.sweeps import sweep as sweep
    from momentum_jax.tasks import MLP as MLP
    from momentum_jax.tasks import Landscape as Landscape
    from momentum_jax.tasks import Task as Task
    from momentum_jax.training import Interrupted as Interrupted
    from momentum_jax.training import batch_indices as batch_indices
    from momentum_jax.training import initial_params as initial_params
    from momentum_jax.training import train as train
    from momentum_jax.trajectories import Trajectory as Trajectory
    from momentum_jax.trajectories import trajectory as trajectory

# Loaded on first use, so that the import costs no more than what is used.
_HOMES = {
    "MLP": "tasks",
    "Comparison": "comparison",
    "Config": "config",
    "Dataset": "data",
    "InputError": "errors",
    "Interrupted": "training",
    "Landscape": "tasks",
    "LogUniform": "grids",
    "OptimizerConfig": "config",
    "Result": "results",
    "Schedule": "config",
    "Task": "tasks",
    "Trajectory": "trajectories",
    "Uniform": "grids",
    "adaptive_restart": "optimizers",
    "aggmo": "optimizers",
    "batch_indices": "training",
    "compare": "comparison",
    "compare_results": "comparison",
    "initial_params": "training",
    "load_dataset": "data",
    "momentum": "optimizers",
    "nesterov": "optimizers",
    "qhm": "optimizers",
    "sgd": "optimizers",
    "sweep": "sweeps",
    "train": "training",
    "trajectory": "trajectories",
}
__all__ = [*_HOMES, "optimizers"]


def __getattr__(name: str) -> Any:
    if name == "optimizers":
        return importlib.import_module("momentum_jax.optimizers")
    if name not in _HOMES:
        raise AttributeError(f"module 'momentum_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(f"momentum_jax.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
