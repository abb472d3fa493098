"""`momentum-jax status`: says how far what is in a folder is, from another terminal."""

import datetime
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from momentum_jax._base.display import clip, counted
from momentum_jax._base.errors import InputError
from momentum_jax._base.files import is_locked
from momentum_jax.cli.arguments import json_switch, parse, positional
from momentum_jax.cli.documents import print_json
from momentum_jax.cli.terminal import console
from momentum_jax.cli.train import CHECKPOINT
from momentum_jax.comparison import folder as comparison
from momentum_jax.comparison.task_folder import TASKS, folder_of, read_tasks_head
from momentum_jax.results.head import HEAD, read_head
from momentum_jax.results.parts import count_runs
from momentum_jax.results.result import Result
from momentum_jax.results.result_folder import SUMMARY
from momentum_jax.results.store import in_use, read_status
from momentum_jax.training.checkpoint import lock_path, read_checkpoint

DESCRIPTION = (
    "Shows how far the sweep, the training or the comparison in a folder is: of a sweep the runs finished and failed, "
    "speed, memory, and the time that is left; of a training the iterations; of a comparison the same of its sweeps."
)


def main(argv: Sequence[str], _: float) -> None:
    """Prints how far what is in a folder is.

    Raises:
      InputError: there is nothing of this program in the folder, or it has not reported yet.
    """
    fields = [positional("folders", "DIR"), json_switch()]
    arguments = parse(argv, "momentum-jax status", DESCRIPTION, fields)
    if len(arguments.folders) != 1:
        raise InputError("DIR: one folder is needed, such as momentum-jax status runs/mnist-0123abcd")
    (folder,) = arguments.folders
    status = _status(folder)
    if arguments.json:
        print_json({"folder": folder, **status})
    else:
        console().print("\n".join(_LINES[status["kind"]](status)))


def _status(folder: pathlib.Path) -> dict[str, Any]:
    """How far what is in a folder is: its "kind", its "state" and what is counted."""
    if os.path.exists(folder / comparison.HEAD):
        return {"kind": "comparison", "stages": _status_of_stages(folder)}
    if os.path.exists(folder / TASKS):
        names = read_tasks_head(folder)["tasks"]
        return {"kind": "tasks", "tasks": {name: _status_of_stages(folder / folder_of(name)) for name in names}}
    if any(os.path.exists(folder / name) for name in (SUMMARY, CHECKPOINT, lock_path(folder / CHECKPOINT).name)):
        return {"kind": "training", **_status_of_training(folder)}
    return {"kind": "sweep", **_status_of_sweep(folder)}


def _status_of_stages(folder: pathlib.Path) -> dict[str, Any]:
    """How far each stage of a comparison is that has begun."""
    stages = (comparison.TUNING, comparison.RERUNNING, comparison.JUDGING)
    return {name: _status_of_sweep(folder / name) for name in stages if (folder / name / HEAD).exists()}


def _status_of_training(folder: pathlib.Path) -> dict[str, Any]:
    """A training whose checkpoint is there goes on, or went on, from its result."""
    running = is_locked(lock_path(folder / CHECKPOINT))
    if (folder / CHECKPOINT).exists():
        state, about = read_checkpoint(folder / CHECKPOINT)
        now = "running" if running else "not finished"
        return {"state": now, "done": int(state["step"]), "iterations": int(about["config"]["iterations"])}
    if running:
        return {"state": "running", "done": None, "iterations": None}
    result = Result.load(folder)
    done, total = int(result.iterations[-1]) + 1, result.config.iterations
    return {
        "state": "finished" if done == total else "interrupted",
        "done": done,
        "iterations": total,
        "runs": sum(of_label.size for of_label in result.failed.values()),
        "failed": sum(int(of_label.sum()) for of_label in result.failed.values()),
    }


def _status_of_sweep(folder: pathlib.Path) -> dict[str, Any]:
    read_head(folder)
    status = read_status(folder)
    # A sweep that is killed after it wrote runs and before it wrote its report leaves a report that is too old.
    finished, failed = count_runs(folder)
    state = "running" if in_use(folder) else "finished" if finished == status["runs"] else "stopped"
    reported = {name: value for name, value in status.items() if name != "format"}
    return {"state": state, **reported, "finished": finished, "failed": failed}


def _lines_of_training(status: Mapping[str, Any]) -> list[str]:
    state, done = status["state"], status["done"]
    if done is None:
        return ["running: no checkpoint is written yet"]
    of_all = f"{state}: {done} of {status['iterations']} iterations"
    if "runs" in status:
        return [f"{of_all} of {counted(status['runs'], 'run')}, {status['failed']} failed"]
    return [f"{of_all} in the checkpoint; the same command goes on from there"]


def _lines_of_comparison(status: Mapping[str, Any]) -> list[str]:
    return _lines_of_stages(status["stages"])


def _lines_of_tasks(status: Mapping[str, Any]) -> list[str]:
    return [
        f"{clip(name, 40)}: {line}" for name, stages in status["tasks"].items() for line in _lines_of_stages(stages)
    ]


def _lines_of_stages(stages: Mapping[str, Any]) -> list[str]:
    return [f"{name}: {line}" for name, stage in stages.items() for line in _lines_of_sweep(stage)] or [
        "nothing is trained yet"
    ]


def _lines_of_sweep(status: Mapping[str, Any]) -> list[str]:
    running = status["state"] == "running"
    state = "stopped; the same call goes on from there" if status["state"] == "stopped" else status["state"]
    lines = [f"{state}: {status['finished']} of {status['runs']} runs, {status['failed']} failed"]
    if running and status["runs_per_second"]:
        left = datetime.timedelta(seconds=round(status["seconds_left"]))
        lines.append(f"{status['runs_per_second']:.3g} runs/s, {left} left")
    if running:
        lines.append(f"{status['memory_bytes'] / 2**20:.0f} MiB of memory")
    updated = datetime.datetime.fromtimestamp(status["updated"]).astimezone()
    lines.append(f"as of {updated:%Y-%m-%d %H:%M:%S %Z}")
    return lines


_LINES = {
    "training": _lines_of_training,
    "comparison": _lines_of_comparison,
    "tasks": _lines_of_tasks,
    "sweep": _lines_of_sweep,
}
