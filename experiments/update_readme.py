"""Writes the generated parts of all README files: the command's output, tables of optimizers, findings, the speed.

    python experiments/update_readme.py

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`. The tests check that the parts are up to
date, except for the command's output, which depends on the processor.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping

import korean
from gallery import read
from when_does_momentum_help import effective, overall, without_variants

from momentum_jax.optimizers import CONVENTIONS, FAMILY, Convention, Hyperparameter, available
from momentum_jax.optimizers.registry import WRAPPERS

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
# The studies that README names; experiments/README.md has all of them.
HEADLINES = ("rate_and_momentum", "noise_floor", "noisy_quadratic", "local_minima")
# Options that several methods have, in a table of their own.
SHARED = ("weight_decay", "decoupled_weight_decay", "mask", "accumulator_dtype")
CACHES = {"empty": "an empty", "warm": "a warm"}


def main() -> None:
    for file, parts in PARTS.items():
        path = ROOT / file
        text = path.read_text()
        for name, make in parts.items():
            text = replace(text, name, make())
        path.write_text(text)


def replace(text: str, name: str, content: str) -> str:
    """The text with new content in a generated part.

    Raises:
      ValueError: the text has no such part.
    """
    pattern = rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)"
    text, count = re.subn(pattern, lambda match: f"{match[1]}\n{content}\n\n{match[2]}", text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{count} generated parts are called {name}")
    return text


def command_output() -> str:
    """What `momentum-jax` prints, as an indented block."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", "from momentum_jax.cli import main; main()"]
        output = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    return "\n".join(f"    {line.rstrip()}" for line in output.splitlines())


def optimizers() -> str:
    methods = [method for name, method in available().items() if name not in FAMILY] + list(WRAPPERS.values())
    rows = ["| method | rule | hyperparameters | source |", "|---|---|---|---|"]
    for method in methods:
        own = (describe(name, entry) for name, entry in method.hyperparameters.items() if name not in SHARED)
        rows.append(f"| `{method.name}` | {method.rule} | {'; '.join(own)} | {method.paper} |")
    rows += ["", "| option | of |", "|---|---|"]
    for option in SHARED:
        entries = {
            method.name: method.hyperparameters[option] for method in methods if option in method.hyperparameters
        }
        rows.append(f"| {describe(option, next(iter(entries.values())))} | {', '.join(entries)} |")
    return "\n".join(rows)


def describe(name: str, entry: Hyperparameter) -> str:
    return f"`{name}` {entry.text}" + ("" if entry.required else f", default {entry.default}")


def family() -> str:
    rows = [
        "| preset | rule | as a QHM | `params` are | same iterates from | source |",
        "|---|---|---|---|---|---|",
    ]
    for name, member in FAMILY.items():
        arguments = ", ".join(f"{symbol} `{key}`" for key, symbol in member.symbols.items())
        rows.append(
            f"| `{name}`: {arguments} | {member.rule} | {member.formulas}; needs {member.needs} | {member.params} | "
            f"{member.start} | {member.paper} |"
        )
    return "\n".join(rows)


def conventions() -> str:
    rows = [
        "| convention | rule | arguments | same iterates as `mj.momentum` and `mj.nesterov` |",
        "|---|---|---|---|",
    ]
    for name, convention in CONVENTIONS.items():
        arguments = ", ".join(f"`{argument}`" for argument in convention.arguments)
        rows.append(
            f"| {name}: {convention.library} | {convention.rule} | {arguments} | {coincidence(name, convention)} |"
        )
    return "\n".join(rows)


def coincidence(name: str, convention: Convention) -> str:
    """When a convention's iterates are those of this package's default."""
    if name == "momentum_jax":
        return "always"
    if convention.rate == "constant":
        return "at constant hyperparameters; η is this times 1 − m"
    rate = {
        "inside": "under any schedule",
        "outside": 'at a constant rate; under any schedule with `convention="outside"`',
    }[convention.rate]
    if not convention.normalised:
        return rate
    forms = "ν = 1 is the heavy ball and ν = m Nesterov" if "nu" in convention.arguments else "the heavy ball only"
    return f"{rate}, at a constant m; η is its rate times 1 − m; {forms}"


def when() -> str:
    """What the study of many tasks and batch sizes says first."""
    plain = without_variants(json.loads((HERE / "when_does_momentum_help.json").read_text())["numbers"]["points"])
    return " ".join([f"**{overall(plain)}**", *effective(plain)])


def answer() -> str:
    """For each protocol, the verdict of the study on the loss on the training set."""
    return verdicts(1)


def comparison() -> str:
    """For each protocol, all verdicts that the study wrote."""
    return verdicts(None)


def verdicts(count: int | None) -> str:
    written = json.loads((HERE / "does_momentum_help.json").read_text())
    return "\n".join(
        f"- *{protocol[0].upper()}{protocol[1:]}.* {' '.join(sentences[:count])}"
        for protocol, sentences in written.items()
    )


def studies() -> str:
    """The questions of the headline studies, with the first sentence of each finding."""
    entries = [(study, read(study)) for study in HEADLINES]
    return "\n".join(
        f"- [{entry.question.partition('?')[0]}?](experiments/README.md#{study}) {entry.answer}"
        for study, entry in entries
    )


def speed() -> str:
    """The benchmark in a few words."""
    report = json.loads((HERE / "benchmark.json").read_text())
    ratios = report["median ratios"]
    flax, numpy, torch = (
        f"{ratios[f'times faster than {peer}']:.1f}"
        for peer in ("the Flax and Optax loop", "the NumPy loop, float32", "PyTorch")
    )
    runs_a_second = ": runs a second"
    sweep = next(name.removesuffix(runs_a_second) for name in ratios if name.endswith(runs_a_second))
    by_vmap, by_torch = (
        f"{ratios[f'times faster than {peer}, {sweep}']:.1f}" for peer in ("vmap by hand", "PyTorch on each core")
    )
    seconds = {cache: phases["total"] for cache, phases in report["median seconds of the command"].items()}
    plain = ratios["command: time over that of the plain script, warm cache"]
    return (
        f"On {report['machine'].split(',')[0]}, training is {flax} times faster than a loop with Flax and Optax, "
        f"{numpy} times faster than NumPy and {torch} times\nfaster than PyTorch. A sweep trains "
        f"{ratios[sweep + runs_a_second]:.2f} runs of 2,000 iterations a second, {by_vmap} times as many as with "
        f"`vmap` by hand\nand {by_torch} times as many as with PyTorch on each core. `momentum-jax` takes "
        f"{seconds['empty']:.0f} seconds, or {seconds['warm']:.0f} with\n"
        f"cached programs, {plain:.1f} times as long as a plain script."
    )


def benchmark() -> str:
    report = json.loads((HERE / "benchmark.json").read_text())
    rounds = len(report["rounds"])
    rows = [
        f"| {report['work']}; {report['machine']} | median | range of {rounds} rounds | target |",
        "|---|---|---|---|",
    ]
    for name, median in report["median ratios"].items():
        low, high = report["ranges"][name]
        target = report["targets"].get(name)
        met = "met" if target and target["met"] else "missed"
        verdict = f"{target['sense']} {target['target']:g}: {met}" if target else ""
        rows.append(f"| {name} | {median:.2f} | {low:.2f} to {high:.2f} | {verdict} |")
    for cache, phases in report["median seconds of the command"].items():
        parts = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in phases.items() if phase != "total")
        rows += ["", f"`momentum-jax` with {CACHES[cache]} compilation cache: {phases['total']:.1f} seconds; {parts}."]
    if report["left out"]:
        reasons = "; ".join(f"`{name}`, {reason}" for name, reason in report["left out"].items())
        rows += ["", f"Left out: {reasons}."]
    return "\n".join(rows)


def coverage() -> str:
    """How often intervals of runs cover, at a level of 95 %."""
    return _coverage_table("runs", "runs", "interval of the")


def coverage_over_tasks() -> str:
    """How often intervals over tasks cover, and how often a comparison of identical optimizers finds a difference."""
    found = json.loads((HERE / "coverage.json").read_text())["family"]
    return (
        f"{_coverage_table('tasks', 'tasks', 'mean over tasks of the')}\n\n"
        f"Of {found['simulations']:,} comparisons of two identical optimizers on {found['tasks']} tasks, in "
        f"{found['protocols']} protocols with {found['seeds']} seeds, {100 * found['false']:.1f} %\n"
        f"found any difference in the time to the target. At most {100 * (1 - found['level']):.0f} % may."
    )


def _coverage_table(part: str, unit: str, head: str) -> str:
    """A row for each quantity and distribution, a column for each number of runs or tasks."""
    rows = json.loads((HERE / "coverage.json").read_text())[part]
    counts = list(dict.fromkeys(row["n"] for row in rows))
    lines = [
        f"| {head} | distribution | level | " + " | ".join(f"{n} {unit}" for n in counts) + " |",
        "|---" * (3 + len(counts)) + "|",
    ]
    for what, name in dict.fromkeys((row["what"], row["distribution"]) for row in rows):
        own = [row for row in rows if (row["what"], row["distribution"]) == (what, name)]
        covered = " | ".join(f"{100 * row['coverage']:.1f} %" for row in own)
        lines.append(f"| {what} | {name} | {100 * own[0]['level']:.0f} % | {covered} |")
    return "\n".join(lines)


PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "README.md": {"when": when, "momentum-jax": command_output, "answer": answer, "studies": studies, "speed": speed},
    "momentum_jax/optimizers/README.md": {
        "optimizers": optimizers,
        "family": family,
        "conventions": conventions,
    },
    "momentum_jax/analysis/README.md": {"coverage": coverage, "coverage over tasks": coverage_over_tasks},
    "momentum_jax/comparison/README.md": {"comparison": comparison},
    "experiments/performance.md": {"benchmark": benchmark},
    "experiments/README.ko.md": korean.PARTS,
}

if __name__ == "__main__":
    main()
