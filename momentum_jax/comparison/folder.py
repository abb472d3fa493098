"""The folder of a comparison: `comparison.json`, and beside it the sweeps of the tuning, reruns and judging.

`comparison.json` holds "format" and "plan" from the beginning, "judging" and "protocols" from the end of the tuning,
and "seconds_per_step" from the end of the judging. A protocol's "trials" are positions in the sweep of the judging.
A comparison within a time has the time and what it was chosen from as "within" of the plan, and at its end the
"seconds" that it took, if one call did all of it.
"""

import contextlib
import json
import pathlib
from collections.abc import Collection, Iterator, Mapping
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
        "within?": {
            "seconds": float,
            "asked": {"trials": (int, type(None)), "seeds": [int], "iterations": int},
            "seeds": int,
            "predicted": float,
            "metric": str,
            "resolves": (float, type(None)),
        },
    },
    "judging?": {
        "judge_by": ([str], type(None)),
        "target": (float, type(None)),
        "margin": (float, type(None)),
        "level": float,
    },
    "protocols?": {str: {"title": str, "skipped": (str, type(None)), "trials": {str: int}}},
    "seconds_per_step?": {str: [[float]]},
    "seconds?": float,
}


@contextlib.contextmanager
def open_head(folder: pathlib.Path, plan: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Opens a folder for this process alone, and gives what `comparison.json` holds; begins it in a new folder.

    A comparison may go on with other seeds to judge with, or without a time to keep within: what holds is the plan
    that is given.

    Raises:
      InputError: the folder cannot be written, is in use, or holds something else or another comparison.
    """
    plan = json.loads(json_bytes(dict(plan)))
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(folder / _LOCK, f"output folder {str(folder)!r}", "comparison"))
            remove_left_behind(folder, HEAD)
        except OSError as error:
            raise InputError(f"output folder {str(folder)!r} cannot be written: {reason(error)}") from error
        if check_begun(folder, plan) is None:
            write_head(folder, {"format": FORMAT, "plan": plan})
        yield {**read_head(folder), "plan": plan}


def check_begun(folder: pathlib.Path, plan: Mapping[str, Any]) -> dict[str, Any] | None:
    """The plan in a folder that may go on as another one; None if the folder is empty or not there.

    Raises:
      InputError: the folder holds something else or another comparison, or `comparison.json` is damaged.
    """
    begun = read_plan(folder)
    if begun is not None:
        check_same(folder, _without_seeds(begun), _without_seeds(json.loads(json_bytes(dict(plan)))))
    return begun


def check_same(folder: pathlib.Path, there: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuses a folder in which something else is than what is asked for.

    Raises:
      InputError: naming the first difference.
    """
    difference = first_difference(there, asked)
    if difference is not None:
        raise InputError(f"output folder {str(folder)!r} holds another comparison: {difference}; choose another folder")


def _check_nothing_else(folder: pathlib.Path, there: Collection[str]) -> None:
    """Refuses a folder with files that are not what a comparison begins with, or what a killed one left of that."""
    if not all(name.startswith(f".{HEAD}.") for name in there):
        raise InputError(
            f"output folder {str(folder)!r} holds files that are not a comparison of this program; choose another"
        )


def _without_seeds(plan: Mapping[str, Any]) -> dict[str, Any]:
    config = {name: value for name, value in plan["config"].items() if name != "seeds"}
    return {**{name: value for name, value in plan.items() if name != "within"}, "config": config}


def read_plan(folder: pathlib.Path) -> dict[str, Any] | None:
    """The plan of the comparison in a folder; None if the folder is empty or not there.

    Raises:
      InputError: the folder holds something else, or `comparison.json` is damaged or has another format.
    """
    try:
        there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    except OSError as error:
        raise InputError(f"output folder {str(folder)!r} cannot be read: {reason(error)}") from error
    if HEAD in there:
        plan: dict[str, Any] = read_head(folder)["plan"]
        return plan
    _check_nothing_else(folder, there)
    return None


def seconds_within(folder: pathlib.Path) -> float | None:
    """The time that the comparison in a folder was chosen for; None if there is none."""
    plan = read_plan(folder)
    return None if plan is None or "within" not in plan else float(plan["within"]["seconds"])


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
