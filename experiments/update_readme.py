"""Writes the generated parts of the README anew: the command's output, the optimizers, the findings, the speed."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

from gallery import STUDIES, read

from momentum_jax.optimizers import CONVENTIONS, Convention, Hyperparameter, available

HERE = pathlib.Path(__file__).parent
README = HERE.parent / "README.md"
# Options that several methods have, in a table of their own.
SHARED = ("weight_decay", "decoupled_weight_decay", "mask", "accumulator_dtype")
CACHES = {"empty": "an empty", "warm": "a warm"}


def main() -> None:
    text = README.read_text()
    for name, content in {
        "momentum-jax": command_output(),
        "optimizers": optimizers(),
        "conventions": conventions(),
        "comparison": comparison(),
        "studies": studies(),
        "benchmark": benchmark(),
    }.items():
        text = replace(text, name, content)
    README.write_text(text)


def replace(text: str, name: str, content: str) -> str:
    pattern = rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda match: f"{match[1]}\n{content}\n\n{match[2]}", text, flags=re.DOTALL)


def command_output() -> str:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", "from momentum_jax.cli import main; main()"]
        output = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    return "\n".join(f"    {line.rstrip()}" for line in output.splitlines())


def optimizers() -> str:
    methods = available().values()
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


def conventions() -> str:
    rows = [
        "| convention | rule | arguments | the iterates of `mj.momentum` and `mj.nesterov` |",
        "|---|---|---|---|",
    ]
    for name, convention in CONVENTIONS.items():
        arguments = ", ".join(f"`{argument}`" for argument in convention.arguments)
        rows.append(
            f"| {name}: {convention.library} | {convention.rule} | {arguments} | {coincidence(name, convention)} |"
        )
    return "\n".join(rows)


def coincidence(name: str, convention: Convention) -> str:
    """When its iterates are those of this package's default."""
    if name == "momentum_jax":
        return "always"
    if convention.rate == "constant":
        return "at constants; η is this times 1 − m"
    rate = {
        "inside": "under any schedule",
        "outside": 'at a constant rate; under any schedule with `convention="outside"`',
    }[convention.rate]
    if not convention.normalised:
        return rate
    forms = "ν = 1 is the heavy ball and ν = m Nesterov" if "nu" in convention.arguments else "the heavy ball only"
    return f"{rate}, at a constant m; η is its rate times 1 − m; {forms}"


def studies() -> str:
    entries = []
    for study in STUDIES:
        entry = read(study)
        entries.append(f"- [`{study}.py`](experiments/README.md#{study}). {entry.question} **{entry.answer}**")
    return "\n".join(entries)


def comparison() -> str:
    """The verdicts of the study, as it printed them."""
    verdicts = json.loads((HERE / "does_momentum_help.json").read_text())
    lines = []
    for protocol, sentences in verdicts.items():
        lines += [f"- *{protocol[0].upper()}{protocol[1:]}.* " + " ".join(sentences)]
    return "\n".join(lines)


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


if __name__ == "__main__":
    main()
