"""The folder of a comparison: `comparison.json`, and the sweeps of the tuning and of the judging beside it.

`comparison.json` holds "format" and "plan" from the beginning, "judging" and "protocols" from the end of the tuning,
and "seconds_per_step" from the end of the judging. A protocol's "trials" are positions in the sweep of the judging.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from momentum_jax._base.errors import InputError
from momentum_jax._base.files import left_behind, write_atomically
from momentum_jax._base.trees import json_bytes
from momentum_jax.results.fingerprint import first_difference

HEAD, TUNING, JUDGING = "comparison.json", "tuning", "judging"
FORMAT = 2


def open_head(folder: pathlib.Path, plan: Mapping[str, Any]) -> dict[str, Any]:
    """What `comparison.json` holds, after it was begun if the folder is new or empty.

    Raises:
      InputError: the folder cannot be written, or holds something else or another comparison.
    """
    plan = json.loads(json_bytes(dict(plan)))
    try:
        if not (folder / HEAD).exists():
            return _begin(folder, plan)
    except OSError as error:
        raise InputError(f"output folder {str(folder)!r} cannot be written: {error.strerror}") from error
    head = read_head(folder)
    difference = first_difference(head["plan"], plan)
    if difference is not None:
        raise InputError(f"output folder {str(folder)!r} holds another comparison: {difference}; choose another folder")
    return head


def _begin(folder: pathlib.Path, plan: Mapping[str, Any]) -> dict[str, Any]:
    # A process that is killed while it begins leaves a temporary file, which must not keep the next one out.
    if folder.exists() and set(folder.iterdir()) - set(left_behind(folder, HEAD)):
        raise InputError(
            f"output folder {str(folder)!r} holds files that are not a comparison of this program; choose another"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for path in left_behind(folder, HEAD):
        path.unlink()
    head = {"format": FORMAT, "plan": plan}
    write_head(folder, head)
    return head


def read_head(folder: pathlib.Path) -> dict[str, Any]:
    """What `comparison.json` holds.

    Raises:
      InputError: there is none, or it has another format.
    """
    try:
        head = json.loads((folder / HEAD).read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{str(folder)!r} holds no comparison: {error}") from error
    found = head.get("format") if isinstance(head, dict) else None
    if found != FORMAT:
        raise InputError(
            f"{str(folder)!r} holds a comparison in format {found!r}, and this version of the program reads format "
            f"{FORMAT} only; read it with the version that wrote it, or compare again in another folder"
        )
    assert isinstance(head, dict)
    return head


def write_head(folder: pathlib.Path, head: Mapping[str, Any]) -> None:
    """Writes `comparison.json`, whole or not at all.

    Raises:
      InputError: it cannot be written.
    """
    try:
        write_atomically(folder / HEAD, json_bytes(dict(head)))
    except OSError as error:
        raise InputError(f"cannot write to {str(folder)!r}: {error.strerror}") from error
