"""`momentum-jax status`: says how far what is in a folder is, from another terminal."""

import datetime
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from momentum_jax._base.errors import InputError
from momentum_jax._base.files import is_locked
from momentum_jax.cli.arguments import parse, positional
from momentum_jax.cli.terminal import console, counted
from momentum_jax.cli.train import CHECKPOINT
from momentum_jax.comparison import folder as comparison
from momentum_jax.results.result import Result
from momentum_jax.results.result_folder import SUMMARY
from momentum_jax.results.store import HEAD, count_runs, in_use, read_head, read_status
from momentum_jax.training.checkpoint import lock_path, read_checkpoint

DESCRIPTION = (
    "Shows how far the sweep, the training or the comparison in a folder is: of a sweep the runs finished and failed, "
    "speed, memory, and the time that is left; of a training the iterations."
)


def main(argv: Sequence[str], _: float) -> None:
    """Prints how far what is in a folder is.

    Raises:
      InputError: there is nothing of this program in the folder, or it has not reported yet.
    """
    folders = parse(argv, "momentum-jax status", DESCRIPTION, [positional("folders", "DIR")]).folders
    if len(folders) != 1:
        raise InputError("DIR: one folder is needed, such as momentum-jax status runs/mnist-0123abcd")
    (folder,) = folders
    if os.path.exists(folder / comparison.HEAD):
        lines = _lines_of_comparison(folder)
    elif any(os.path.exists(folder / name) for name in (SUMMARY, CHECKPOINT, lock_path(folder / CHECKPOINT).name)):
        lines = [_line_of_training(folder)]
    else:
        lines = _lines_of_sweep(folder)
    console().print("\n".join(lines))


def _line_of_training(folder: pathlib.Path) -> str:
    """A training whose checkpoint is there goes on, or went on, from its result."""
    running = is_locked(lock_path(folder / CHECKPOINT))
    if (folder / CHECKPOINT).exists():
        state, about = read_checkpoint(folder / CHECKPOINT)
        done, total = int(state["step"]), int(about["config"]["iterations"])
        now = "running" if running else "not finished"
        return f"{now}: {done} of {total} iterations in the checkpoint; the same command goes on from there"
    if running:
        return "running: no checkpoint is written yet"
    result = Result.load(folder)
    done, total = int(result.iterations[-1]) + 1, result.config.iterations
    failed = sum(int(of_label.sum()) for of_label in result.failed.values())
    runs = sum(of_label.size for of_label in result.failed.values())
    ended = "finished" if done == total else "interrupted"
    return f"{ended}: {done} of {total} iterations of {counted(runs, 'run')}, {failed} failed"


def _lines_of_comparison(folder: pathlib.Path) -> list[str]:
    begun = [name for name in (comparison.TUNING, comparison.JUDGING) if (folder / name / HEAD).exists()]
    return [f"{name}: {line}" for name in begun for line in _lines_of_sweep(folder / name)] or [
        "nothing is trained yet"
    ]


def _lines_of_sweep(folder: pathlib.Path) -> list[str]:
    read_head(folder)
    status = read_status(folder)
    # A sweep that is killed after it wrote runs and before it wrote its report leaves a report that is too old.
    finished, failed = count_runs(folder)
    return _lines(status | {"finished": finished, "failed": failed}, running=in_use(folder))


def _lines(status: dict[str, Any], *, running: bool) -> list[str]:
    done, total = status["finished"], status["runs"]
    state = "running" if running else "finished" if done == total else "stopped; the same call goes on from there"
    lines = [f"{state}: {done} of {total} runs, {status['failed']} failed"]
    if running and status["runs_per_second"]:
        left = datetime.timedelta(seconds=round(status["seconds_left"]))
        lines.append(f"{status['runs_per_second']:.3g} runs/s, {left} left")
    if running:
        lines.append(f"{status['memory_bytes'] / 2**20:.0f} MiB of memory")
    updated = datetime.datetime.fromtimestamp(status["updated"]).astimezone()
    lines.append(f"as of {updated:%Y-%m-%d %H:%M:%S %Z}")
    return lines
