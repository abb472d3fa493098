"""The folder of a comparison over tasks: `tasks.json`, and a folder with the comparison on each task.

`tasks.json` holds "format", the names of the "tasks" of the last call in their order, and the "level" of all verdicts
by one metric together.
"""

import pathlib
import re
from collections.abc import Sequence
from typing import Any

from momentum_jax._base.errors import InputError
from momentum_jax._base.files import remove_left_behind, write_atomically
from momentum_jax._base.reading import read_sealed, reason, seal
from momentum_jax._base.trees import json_bytes

TASKS = "tasks.json"
_FORMAT = 1
_SCHEMA = {"tasks": [str], "level": float}
_LONGEST_NAME = 100


def folder_of(name: str) -> str:
    """The name of a task's folder.

    >>> folder_of("convnet,channels=(8, 16)")
    'convnet-channels-8-16'
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", name)[:_LONGEST_NAME].strip("-").lower() or "task"


def read_tasks_head(folder: pathlib.Path) -> dict[str, Any]:
    """What `tasks.json` holds.

    Raises:
      InputError: there is none, or it is damaged or has another format.
    """
    head = read_sealed(folder / TASKS, "comparison over tasks", _FORMAT, _SCHEMA)
    if not (head["tasks"] and 0.5 <= head["level"] < 1):
        raise InputError(f"{str(folder)!r}: {TASKS} is damaged: it names no task, or has an impossible level")
    return head


def write_tasks_head(folder: pathlib.Path, tasks: Sequence[str], level: float) -> None:
    """Writes `tasks.json`, whole or not at all, into a folder that is made if need be.

    Raises:
      InputError: it cannot be written; what was there before is intact.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_left_behind(folder, TASKS)
        content = seal({"format": _FORMAT, "tasks": list(tasks), "level": level})
        write_atomically(folder / TASKS, json_bytes(content))
    except OSError as error:
        raise InputError(f"output folder {str(folder)!r} cannot be written: {reason(error)}") from error
