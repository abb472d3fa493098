"""What a checkpoint or a folder belongs to, and how that differs from what is asked for."""

import hashlib
import json
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.tree_util import keystr

from momentum_jax._base.display import function_name
from momentum_jax.config import Config
from momentum_jax.tasks import HostData, HostTask, Metric, Task, Variables

# Characters of JSON up to which a list is shown whole.
_SHORT = 80
# Examples of data on the host that are read at a time.
_ROWS = 4096
_data_digests: weakref.WeakKeyDictionary[Task, str] = weakref.WeakKeyDictionary()


def identity(
    cfg: Config,
    task: Task,
    variables: Variables,
    metrics: Mapping[str, Metric],
    computed: Mapping[str, str],
    surroundings: Mapping[str, str],
) -> dict[str, Any]:
    """Returns, as JSON, what the bits of a config's runs depend on.

    Args:
      cfg: of the runs.
      task: whose data and function names count.
      variables: what `init` gives, of which the names and shapes count.
      metrics: whose names count.
      computed: the digests of what the task's functions compute. The loss and the metrics are part of an iteration,
        whose digest is known for each optimizer.
      surroundings: an `environment`.
    """
    return {
        "config": cfg.to_json(),
        "data": data_digest(task),
        "baseline_loss": None if task.baseline_loss is None else repr(float(task.baseline_loss)),
        "functions": function_names(task) | {name: function_name(function) for name, function in metrics.items()},
        "params": {
            keystr(path, simple=True, separator="."): list(leaf.shape)
            for path, leaf in jax.tree.leaves_with_path(variables)
        },
        "computed": dict(computed),
        "environment": dict(surroundings),
    }


def host_identity(cfg: Config, task: HostTask, surroundings: Mapping[str, str]) -> dict[str, Any]:
    """Returns, as JSON, what tells the runs of a task whose code and data are not known here from those of another."""
    return {
        "config": cfg.to_json(),
        "data": task.data,
        "baseline_loss": None if task.baseline_loss is None else repr(float(task.baseline_loss)),
        "functions": {"run": task.run_name},
        "version": task.version,
        "scores": sorted(task.scores),
        "environment": dict(surroundings),
    }


def data_digest(task: Task) -> str:
    """Returns the SHA-256 of the arrays of a task's data, in hexadecimal. They are read once a task."""
    if task not in _data_digests:
        _data_digests[task] = _digest_of_data((task.train, task.test))
    return _data_digests[task]


def function_names(task: Task) -> dict[str, str]:
    """Returns "module:name" of each function that a task has."""
    functions = {"init": task.init, "loss": task.loss, "evaluate": task.evaluate, "augment": task.augment}
    return {name: function_name(function) for name, function in functions.items() if function}


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


def _digest_of_data(data: Any) -> str:
    """The same for arrays in memory and for the same examples on the host."""
    digest = hashlib.sha256()
    for part in jax.tree.leaves(data):
        slices = _slices(part) if isinstance(part, HostData) else [part]
        for of_leaf in _digests_of_leaves(slices, len(part)):
            digest.update(of_leaf)
    return digest.hexdigest()


def _slices(data: HostData) -> Iterator[Any]:
    """All examples, some at a time, so that the memory holds them."""
    for start in range(0, len(data), _ROWS):
        yield data.read(np.arange(start, min(start + _ROWS, len(data))))


def _digests_of_leaves(slices: Iterable[Any], length: int) -> list[bytes]:
    """The digest of each leaf of the examples that some slices make up."""
    digests: list[Any] = []
    for part in slices:
        arrays = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(part)]
        digests = digests or [hashlib.sha256(f"{a.dtype} {(length, *a.shape[1:])} ".encode()) for a in arrays]
        for digest, array in zip(digests, arrays, strict=True):
            digest.update(array.tobytes())
    return [digest.digest() for digest in digests]
