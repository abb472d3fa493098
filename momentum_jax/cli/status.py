"""`momentum-jax status`: how far a sweep is, from another terminal."""

import datetime
import json
import pathlib
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from momentum_jax._base.errors import InputError
from momentum_jax.cli.terminal import console
from momentum_jax.results.store import STATUS, count_runs, in_use, read_head

DESCRIPTION = "Shows how far the sweep in a folder is: runs finished and failed, speed, memory, time left."


def main(argv: Sequence[str], began: float) -> None:
    """Prints how far the sweep in a folder is.

    Raises:
      InputError: there is no sweep in the folder.
    """
    del began
    folder = tyro.cli(_folder, args=argv, prog="momentum-jax status", description=DESCRIPTION)
    read_head(folder)
    try:
        status = json.loads((folder / STATUS).read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{str(folder)!r} says nothing yet of how far its sweep is: {error}") from error
    # The parts know better than the report how many are done, where a process was killed between the two.
    finished, failed = count_runs(folder)
    console().print("\n".join(_lines(status | {"finished": finished, "failed": failed}, running=in_use(folder))))


def _folder(folder: Annotated[pathlib.Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]) -> pathlib.Path:
    """Reads the words, for the parser."""
    return folder


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
