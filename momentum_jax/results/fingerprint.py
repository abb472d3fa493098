"""What a checkpoint or a folder belongs to, and how that differs from what is asked for."""

import hashlib
import json
import weakref
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.tree_util import keystr

from momentum_jax._base.jaxprs import jaxpr_digest
from momentum_jax.config import Config
from momentum_jax.tasks import Data, Metric, Params, Task

# Characters of JSON up to which a list is shown whole.
_SHORT = 80
_data_digests: weakref.WeakKeyDictionary[Task, str] = weakref.WeakKeyDictionary()


def identity(
    cfg: Config, task: Task, params: Params, metrics: Mapping[str, Metric], surroundings: Mapping[str, str]
) -> dict[str, Any]:
    """Returns, as JSON, what the bits of a config's runs depend on: config, data, functions, `environment`.

    The functions are known by their names and by what they compute, but for the loss and the metrics: these are part of
    an iteration, whose digest is known for each optimizer. Of the parameters only shapes and dtypes count.
    """
    return {
        "config": cfg.to_json(),
        "data": data_digest(task),
        "baseline_loss": None if task.baseline_loss is None else repr(float(task.baseline_loss)),
        "functions": function_names(task) | {name: _qualified_name(function) for name, function in metrics.items()},
        "params": {
            keystr(path, simple=True, separator="."): list(leaf.shape)
            for path, leaf in jax.tree.leaves_with_path(params)
        },
        "computed": computed_by(task, params),
        "environment": dict(surroundings),
    }


def data_digest(task: Task) -> str:
    """Returns the SHA-256 of a task's data, in hexadecimal: that of its provenance, or that of its arrays.

    The arrays are read once a task.
    """
    if task not in _data_digests:
        _data_digests[task] = task.provenance.get("digest") or _digest_of_arrays((task.train, task.test))
    return _data_digests[task]


def computed_by(task: Task, params: Params, batch: Data | None = None) -> dict[str, str]:
    """Returns, by name, the digests of what the functions of a task compute; that of the loss for a batch only."""
    traced = {"init": jax.jit(task.init).trace(jax.random.key(0))}
    if task.evaluate is not None:
        traced["evaluate"] = jax.jit(task.evaluate).trace(params, task.train, task.test)
    if batch is not None:
        traced["loss"] = jax.jit(task.loss).trace(params, batch)
    return {name: jaxpr_digest(there.jaxpr) for name, there in traced.items()}


def function_names(task: Task) -> dict[str, str]:
    """Returns "module:name" of each function that a task has."""
    functions = {"init": task.init, "loss": task.loss, "evaluate": task.evaluate}
    return {name: _qualified_name(function) for name, function in functions.items() if function}


def first_difference(theirs: Any, mine: Any, path: str = "") -> str | None:
    """Says in words where two JSON values first differ; None where they are the same. 1 and 1.0 differ.

    >>> first_difference({"a": {"b": 2}}, {"a": {"b": 3}})
    'a.b is 2, not 3'
    """
    if isinstance(theirs, Mapping) and isinstance(mine, Mapping):
        for name in dict.fromkeys([*mine, *theirs]):
            where = f"{path}.{name}" if path else str(name)
            if name not in theirs:
                return f"{where} is not there, not {json.dumps(mine[name])}"
            if name not in mine:
                return f"{where} is {json.dumps(theirs[name])}, which is not asked for"
            if (difference := first_difference(theirs[name], mine[name], where)) is not None:
                return difference
        return None
    texts = [json.dumps(value, sort_keys=True) for value in (theirs, mine)]
    if isinstance(theirs, list) and isinstance(mine, list) and max(map(len, texts)) > _SHORT:
        for i, (their, own) in enumerate(zip(theirs, mine, strict=False)):
            if (difference := first_difference(their, own, f"{path}[{i}]")) is not None:
                return difference
        return f"{path} has {len(theirs)} entries, not {len(mine)}" if len(theirs) != len(mine) else None
    return None if texts[0] == texts[1] else f"{path} is {texts[0]}, not {texts[1]}"


def _digest_of_arrays(data: Any) -> str:
    digest = hashlib.sha256()
    for array in map(np.ascontiguousarray, jax.tree.leaves(data)):
        digest.update(f"{array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _qualified_name(function: Any) -> str:
    return f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__qualname__)}"
