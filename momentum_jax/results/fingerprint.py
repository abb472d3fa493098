"""What a checkpoint or a sweep's folder belongs to, and how it differs from what is asked for."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.tree_util import keystr

from momentum_jax.config import Config
from momentum_jax.tasks import Metric, Task

# A list that is shorter than this, in characters, is shown whole.
_SHORT = 80


def identity(cfg: Config, task: Task, metrics: Mapping[str, Metric], surroundings: Mapping[str, str]) -> dict[str, Any]:
    """All that the bits of a config's runs depend on, as JSON: config, data, functions, `environment`.

    Of functions only the names are known, and of a network the shapes of its parameters.
    """
    params = jax.eval_shape(lambda: task.init(jax.random.key(0)))
    return {
        "config": cfg.to_json(),
        "data": data_digest(task),
        "baseline_loss": None if task.baseline_loss is None else repr(float(task.baseline_loss)),
        "functions": function_names(task) | {name: _qualified(function) for name, function in metrics.items()},
        "params": {
            keystr(path, simple=True, separator="."): list(leaf.shape)
            for path, leaf in jax.tree.leaves_with_path(params)
        },
        "environment": dict(surroundings),
    }


def data_digest(task: Task) -> str:
    """SHA-256 of a task's data, in hexadecimal: that of its provenance, or that of its arrays."""
    return task.provenance.get("digest") or _digest((task.train, task.test))


def function_names(task: Task) -> dict[str, str]:
    functions = {"init": task.init, "loss": task.loss, "evaluate": task.evaluate}
    return {name: _qualified(function) for name, function in functions.items() if function}


def _digest(data: Any) -> str:
    digest = hashlib.sha256()
    for array in map(np.ascontiguousarray, jax.tree.leaves(data)):
        digest.update(f"{array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _qualified(function: Any) -> str:
    return f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__qualname__)}"


def first_difference(theirs: Any, mine: Any, path: str = "") -> str | None:
    """The first place where two JSON values differ, in words; None where they are the same, 1 and 1.0 told apart.

    >>> first_difference({"a": {"b": 2}}, {"a": {"b": 3}})
    'a.b is 2, not 3'
    """
    if isinstance(theirs, Mapping) and isinstance(mine, Mapping):
        for name in dict.fromkeys([*mine, *theirs]):
            where = f"{path}.{name}" if path else str(name)
            if name not in theirs or name not in mine:
                return f"{where} is {'not there' if name not in theirs else json.dumps(theirs[name])}, " + (
                    f"not {json.dumps(mine[name])}" if name in mine else "which is not asked for"
                )
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
