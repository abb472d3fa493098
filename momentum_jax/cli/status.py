"""`momentum-jax status`: shows the progress of a sweep, from another terminal."""

import datetime
import pathlib
from collections.abc import Sequence
from typing import Any

from momentum_jax.cli.arguments import parse, positional
from momentum_jax.cli.terminal import console
from momentum_jax.results.store import count_runs, in_use, read_head, read_status

DESCRIPTION = (
    "Shows the progress of the sweep in a folder: runs finished and failed, speed, memory, and the time that is left."
)


def main(argv: Sequence[str], _: float) -> None:
    """Prints the progress of the sweep in a folder.

    Raises:
      InputError: there is no sweep in the folder, or it has not reported yet.
    """
    fields = [positional("folder", pathlib.Path, "DIR")]
    folder = parse(argv, "momentum-jax status", DESCRIPTION, fields).folder
    read_head(folder)
    status = read_status(folder)
    # A sweep that is killed after it wrote runs and before it wrote its report leaves a report that is too old.
    finished, failed = count_runs(folder)
    console().print("\n".join(_lines(status | {"finished": finished, "failed": failed}, running=in_use(folder))))


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
