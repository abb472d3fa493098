"""Writes the generated parts of the README anew: the command's output, the optimizers, the findings, the speed."""

import ast
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from momentum_jax.optimizers import available

HERE = pathlib.Path(__file__).parent
README = HERE.parent / "README.md"
STUDIES = ("mnist_comparison.py", "blog_losses.py")


def main() -> None:
    text = README.read_text()
    for name, content in {
        "momentum-jax": command_output(),
        "optimizers": optimizers(),
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
    rows = ["| method | rule | hyperparameters | source |", "|---|---|---|---|"]
    for method in available().values():
        hyperparameters = ", ".join(
            f"`{name}` in {entry.range}" + ("" if entry.default is None else f", default {entry.default}")
            for name, entry in method.hyperparameters.items()
        )
        rows.append(f"| `{method.name}` | {method.rule} | {hyperparameters} | {method.paper} |")
    return "\n".join(rows)


def studies() -> str:
    entries = []
    for study in STUDIES:
        question, _, finding = (ast.get_docstring(ast.parse((HERE / study).read_text())) or "").partition("Finding:")
        entries.append(f"- `experiments/{study}`. {' '.join(question.split())} **{' '.join(finding.split())}**")
    return "\n".join(entries)


def benchmark() -> str:
    report = json.loads((HERE / "benchmark.json").read_text())
    rows = [f"| {report['work']}; {report['machine']} | median |", "|---|---|"]
    return "\n".join(rows + [f"| {name} | {value:.2f} |" for name, value in report["median ratios"].items()])


if __name__ == "__main__":
    main()
