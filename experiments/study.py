"""Runs a study from its command line: `Study`, what a study returns, and `run`, which writes it."""

import argparse
import inspect
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from matplotlib.figure import Figure

from momentum_jax._base.files import write_atomically
from momentum_jax._base.machine import cores
from momentum_jax.analysis import Interval
from momentum_jax.report import save_figure

HERE = pathlib.Path(__file__).parent


class Study(NamedTuple):
    """What a study returns.

    Attributes:
      figure: its figure.
      finding: sentences that are made of `numbers`.
      numbers: what was measured, as JSON types.
      files: the content of more files, by suffix, such as ".gif".
    """

    figure: Figure
    finding: str
    numbers: Mapping[str, Any]
    files: Mapping[str, bytes] = {}


def rounded(interval: Interval, digits: int) -> list[float]:
    """The value and the ends of an interval, as `numbers` hold them."""
    return [round(number, digits) for number in interval[:3]]


def run(study: Callable[[argparse.Namespace], Study], argv: Sequence[str] | None = None) -> None:
    """Runs a study, prints its finding, and writes NAME.json, NAME.png and NAME.svg (which is not committed).

    Args:
      study: a function of the arguments: `fast` (a small study, to see that it runs) and `folder` (where runs may be
        kept, or None). The docstring of its module is the help.
      argv: the words of the command line. By default those of this process, which then gets one JAX device per core.
    """
    file = pathlib.Path(inspect.getfile(study))
    parser = argparse.ArgumentParser(
        description=inspect.getdoc(inspect.getmodule(study)), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fast", action="store_true", help="run a small study, to see that it runs")
    parser.add_argument("--out", type=pathlib.Path, help="folder for the figure; by default this one, or runs/fast")
    parser.add_argument("--folder", type=pathlib.Path, help="keep runs here, to continue after an interruption")
    arguments = parser.parse_args(argv)
    if argv is None:
        jax.config.update("jax_num_cpu_devices", cores())

    out = arguments.out or (pathlib.Path("runs/fast") if arguments.fast else HERE)
    try:
        # A folder that cannot be written must fail before the study, which may take hours.
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"folder {str(out)!r} cannot be made: {error.strerror}")
    found = study(arguments)
    save_figure(found.figure, out / file.stem)
    for suffix, content in found.files.items():
        write_atomically(out / f"{file.stem}{suffix}", content)
    text = json.dumps({"finding": found.finding, "numbers": found.numbers}, indent=1, ensure_ascii=False)
    write_atomically(out / f"{file.stem}.json", f"{text}\n".encode())
    print(found.finding)
