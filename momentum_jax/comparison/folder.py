"""The folder of a comparison: `comparison.json`, and beside it the sweeps of the tuning, reruns and judging.

`comparison.json` holds "format" and "plan" from the beginning, "judging" and "protocols" from the end of the tuning,
and "seconds_per_step" from the end of the judging. A protocol's "trials" are positions in the sweep of the judging.
"""

import contextlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from momentum_jax._base.errors import InputError
from momentum_jax._base.files import lock, remove_left_behind, write_atomically
from momentum_jax._base.reading import read_sealed, reason, seal
from momentum_jax._base.trees import json_bytes
from momentum_jax.results.fingerprint import first_difference
from momentum_jax.results.head import HEAD as SWEEP
from momentum_jax.results.parts import count_runs

HEAD, TUNING, RERUNNING, JUDGING = "comparison.json", "tuning", "rerunning", "judging"
# 5: with the best trials run again.
FORMAT = 5
_LOCK = f".{HEAD}.lock"
_SCHEMA = {
    "plan": {
        "config": dict,
        "tuning_seeds": [int],
        "rerun_trials": int,
        "rerun_seeds": [int],
        "tune_by": str,
        "trials": int,
        "schedules_replaced": [str],
        "space": {str: {str: str}},
        "search": str,
        "search_seed": int,
        "validation": (int, type(None)),
        "learning_rate": (str, type(None)),
        "effective_learning_rate": (str, type(None)),
        "own_task": bool,
        "contained": [[str]],
    },
    "judging?": {
        "judge_by": ([str], type(None)),
        "target": (float, type(None)),
        "margin": (float, type(None)),
        "level": float,
    },
    "protocols?": {str: {"title": str, "skipped": (str, type(None)), "trials": {str: int}}},
    "seconds_per_step?": {str: [[float]]},
}


@contextlib.contextmanager
def open_head(folder: pathlib.Path, plan: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Opens a folder for this process alone, and gives what `comparison.json` holds; begins it in a new folder.

    A comparison may go on with other seeds to judge with: they are in the plan that is given.

    Raises:
      InputError: the folder cannot be written, is in use, or holds something else or another comparison.
    """
    plan = json.loads(json_bytes(dict(plan)))
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(folder / _LOCK, f"output folder {str(folder)!r}", "comparison"))
            remove_left_behind(folder, HEAD)
            there = {path.name for path in folder.iterdir()}
        except OSError as error:
            raise InputError(f"output folder {str(folder)!r} cannot be written: {reason(error)}") from error
        if HEAD not in there:
            if there - {_LOCK}:
                raise InputError(
                    f"output folder {str(folder)!r} holds files that are not a comparison of this program; choose "
                    "another"
                )
            write_head(folder, {"format": FORMAT, "plan": plan})
        head = read_head(folder)
        difference = first_difference(_without_seeds(head["plan"]), _without_seeds(plan))
        if difference is not None:
            raise InputError(
                f"output folder {str(folder)!r} holds another comparison: {difference}; choose another folder"
            )
        yield {**head, "plan": plan}


def _without_seeds(plan: Mapping[str, Any]) -> dict[str, Any]:
    return {**plan, "config": {name: value for name, value in plan["config"].items() if name != "seeds"}}


def read_head(folder: pathlib.Path) -> dict[str, Any]:
    """What `comparison.json` holds.

    Raises:
      InputError: there is none, or it is damaged or has another format.
    """
    return read_sealed(folder / HEAD, "comparison", FORMAT, _SCHEMA)


def has_judged_runs(folder: pathlib.Path) -> bool:
    """Whether a run of the judging is finished in the folder of a comparison, if it is one."""
    return (folder / JUDGING / SWEEP).exists() and count_runs(folder / JUDGING)[0] > 0


def write_head(folder: pathlib.Path, head: Mapping[str, Any]) -> None:
    """Writes `comparison.json`, whole or not at all.

    Raises:
      InputError: it cannot be written; what was there before is intact.
    """
    try:
        write_atomically(folder / HEAD, json_bytes(seal(head)))
    except OSError as error:
        raise InputError(
            f"cannot write {str(folder / HEAD)!r}: {reason(error)}; the finished runs are intact, and the same call "
            "goes on from there"
        ) from error
