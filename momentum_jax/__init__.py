"""A laboratory for momentum in JAX: does it help here, by how much, and why?

import momentum_jax as mj

result = mj.train(mj.Config(iterations=500))
"""

import ast
import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

# The list of public names. Type checkers run these imports; at run time a name is imported on first use.
if TYPE_CHECKING:
    from momentum_jax import optimizers as optimizers
    from momentum_jax._base.errors import InputError as InputError
    from momentum_jax.comparison import Comparison as Comparison
    from momentum_jax.comparison import TaskComparison as TaskComparison
    from momentum_jax.comparison import compare as compare
    from momentum_jax.comparison import compare_results as compare_results
    from momentum_jax.comparison import compare_tasks as compare_tasks
    from momentum_jax.config import Config as Config
    from momentum_jax.optimizers import OptimizerConfig as OptimizerConfig
    from momentum_jax.optimizers import Schedule as Schedule
    from momentum_jax.optimizers import adaptive_restart as adaptive_restart
    from momentum_jax.optimizers import aggmo as aggmo
    from momentum_jax.optimizers import cautious as cautious
    from momentum_jax.optimizers import momentum as momentum
    from momentum_jax.optimizers import nesterov as nesterov
    from momentum_jax.optimizers import normalized_momentum as normalized_momentum
    from momentum_jax.optimizers import outer_momentum as outer_momentum
    from momentum_jax.optimizers import qhm as qhm
    from momentum_jax.optimizers import sgd as sgd
    from momentum_jax.optimizers import yellowfin as yellowfin
    from momentum_jax.results import Result as Result
    from momentum_jax.space import LogUniform as LogUniform
    from momentum_jax.space import ReverseLogUniform as ReverseLogUniform
    from momentum_jax.space import Uniform as Uniform
    from momentum_jax.sweeps import sweep as sweep
    from momentum_jax.tasks import MLP as MLP
    from momentum_jax.tasks import HostTask as HostTask
    from momentum_jax.tasks import Landscape as Landscape
    from momentum_jax.tasks import Task as Task
    from momentum_jax.tasks import flax_task as flax_task
    from momentum_jax.tasks import make_task as make_task
    from momentum_jax.tasks.datasets import Dataset as Dataset
    from momentum_jax.tasks.datasets import load_dataset as load_dataset
    from momentum_jax.training import Interrupted as Interrupted
    from momentum_jax.training import Recorded as Recorded
    from momentum_jax.training import Trajectory as Trajectory
    from momentum_jax.training import batch_indices as batch_indices
    from momentum_jax.training import initial_params as initial_params
    from momentum_jax.training import step_keys as step_keys
    from momentum_jax.training import train as train
    from momentum_jax.training import trajectory as trajectory


def _read_public_names() -> dict[str, str]:
    """The module of each public name, read from the imports above, so that there is no second list.

    This needs the source of this file, from a folder or a zip archive. Without it (bytecode alone) the import of the
    package fails with an `OSError` that names the missing file.
    """
    source = pkgutil.get_data(__name__, "__init__.py")
    assert source is not None, "the loader of the package cannot read files"
    blocks = [node for node in ast.parse(source).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or "" for node in imports for alias in node.names}


_MODULES = _read_public_names()
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    # A subpackage: the general import below would ask this module for it, without end.
    if name == "optimizers":
        return importlib.import_module("momentum_jax.optimizers")
    if name not in _MODULES:
        raise AttributeError(f"module 'momentum_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
