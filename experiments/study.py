"""Runs a study from its command line: `Study`, what a study returns, and `run`, which writes it.

`of_comparison` makes a study of what `mj.compare` returns, and `find` its finding.
"""

import argparse
import inspect
import itertools
import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from matplotlib.figure import Figure

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax._base.files import write_atomically
from momentum_jax._base.machine import cores
from momentum_jax.analysis import Interval
from momentum_jax.comparison.metrics import median_of
from momentum_jax.comparison.wording import format_value
from momentum_jax.report import save_figure, three_way_figure

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


def of_comparison(compared: mj.Comparison, data: str) -> Study:
    """The study whose finding is what a comparison says of its first metric, an accuracy, the tuned optimizers first.

    Each optimizer is held against the one that was given before it.

    Args:
      compared: a comparison.
      data: what the optimizers were trained on.
    """
    metrics = list(dict.fromkeys(verdict.metric for verdict in compared.verdicts))
    accuracy, cfg = metrics[0], compared.config
    protocols: dict[str, dict[str, list[str]]] = {}
    for name, protocol in reversed(compared.protocols.items()):
        medians = {label: median_of(accuracy, arm.values[accuracy]) for label, arm in protocol.arms.items()}
        texts = {label: [format_value(accuracy, median)] for label, median in medians.items()}
        for before, label in itertools.pairwise(texts):
            _, low, high, _ = compared.verdict(name, accuracy, label, before).difference
            if math.isfinite(low) and math.isfinite(high):
                texts[label].append(f"{100 * low:+.1f} to {100 * high:+.1f}".replace("-", "−"))
        protocols |= {protocol.title: texts} if texts else {}
    first, second, *_ = cfg.optimizers
    tuned = [v.outcome for v in compared.verdicts if (v.protocol, v.a, v.b) == ("tuned", second, first)]
    numbers = {
        "data": data,
        "iterations": cfg.iterations,
        "seeds": len(cfg.seed_tuple),
        "outcome": tuned[0] if tuned else "no verdict",
        "protocols": protocols,
        "notes": list(compared.notes),
    }
    return Study(three_way_figure(compared, metrics), find(numbers), numbers)


def find(numbers: Mapping[str, Any]) -> str:
    """The finding of `of_comparison`, from its numbers."""
    answers = {"better": "Yes", "worse": "No, it harms", "no verdict": "There is no verdict"}
    said = []
    for title, texts in numbers["protocols"].items():
        *most, last = (
            f"none with {label}, which failed"
            if text == "failed"
            else " ".join([f"{text} with {label}", *(f"({interval})" for interval in intervals)])
            for label, (text, *intervals) in texts.items()
        )
        said.append(f"{'at the ' if title.startswith('same') else ''}{title}, {', '.join(most)} and {last}")
    # A protocol that is left out is not among what is said.
    notes = "".join(f" {note[0].upper()}{note[1:]}." for note in numbers["notes"] if ": left out" not in note)
    return (
        f"{answers.get(numbers['outcome'], 'No gain was found')}: after {numbers['iterations']:,} iterations the "
        f"median test accuracy on {numbers['data']} is, {'; '.join(said)}. Brackets hold the interval of the "
        f"difference to the optimizer before, in percentage points, from {numbers['seeds']} seeds.{notes}"
    )


def run(
    study: Callable[[argparse.Namespace], Study],
    argv: Sequence[str] | None = None,
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> None:
    """Runs a study, prints its finding, and writes NAME.json, NAME.png and NAME.svg (which is not committed).

    Args:
      study: a function of the arguments: `fast` (a small study, to see that it runs), `folder` (where runs may be
        kept, or None) and `out` (where its files go). The docstring of its module is the help.
      argv: the words of the command line. By default those of this process, which then gets one JAX device per core.
      add_arguments: adds arguments of the study's own.
    """
    file = pathlib.Path(inspect.getfile(study))
    parser = argparse.ArgumentParser(
        description=inspect.getdoc(inspect.getmodule(study)), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fast", action="store_true", help="run a small study, to see that it runs")
    parser.add_argument("--out", type=pathlib.Path, help="folder for the figure; by default this one, or runs/fast")
    parser.add_argument("--folder", type=pathlib.Path, help="keep runs here, to continue after an interruption")
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    if argv is None:
        jax.config.update("jax_num_cpu_devices", cores())

    arguments.out = out = arguments.out or (pathlib.Path("runs/fast") if arguments.fast else HERE)
    try:
        # A folder that cannot be written must fail before the study, which may take hours.
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"folder {str(out)!r} cannot be made: {error.strerror}")
    try:
        found = study(arguments)
    except InputError as error:
        parser.error(str(error))
    save_figure(found.figure, out / file.stem)
    for suffix, content in found.files.items():
        write_atomically(out / f"{file.stem}{suffix}", content)
    write_numbers(out / f"{file.stem}.json", found.finding, found.numbers)
    print(found.finding)


def write_numbers(file: pathlib.Path, finding: str, numbers: Mapping[str, Any]) -> None:
    text = json.dumps({"finding": finding, "numbers": numbers}, indent=1, ensure_ascii=False)
    write_atomically(file, f"{text}\n".encode())
