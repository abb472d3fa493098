"""Runs studies again, says what changed, and writes the page that shows them all.

Without arguments it runs all studies, which takes hours. A study that fails keeps its files, and the others continue.

    python experiments/gallery.py contour_paths noise_floor
    python experiments/gallery.py --page
"""

import argparse
import ast
import json
import pathlib
import re
import subprocess
import sys
import textwrap
from typing import NamedTuple

from momentum_jax._base.errors import unknown
from momentum_jax._base.files import write_atomically

HERE = pathlib.Path(__file__).parent
PAGE = HERE / "README.md"
STUDIES = (
    "mnist_comparison",
    "blog_losses",
    "rate_and_momentum",
    "does_momentum_help",
    "when_does_momentum_help",
    "own_model",
    "contour_paths",
    "local_minima",
    "saddle_escape",
    "convergence_rates",
    "noise_floor",
    "heavy_ball_cycle",
    "edge_of_stability",
    "edge_of_stochastic_stability",
    "batch_size",
    "batch_size_law",
    "log_time_momentum",
    "noisy_quadratic",
    "loss_surface",
    "own_loop",
    "pytorch_replay",
    "momentum_atlas",
)
WIDTH = 120


class Entry(NamedTuple):
    """The question and the finding in a study's docstring."""

    question: str
    finding: str

    @property
    def answer(self) -> str:
        """The first sentence of the finding."""
        return re.split(r"(?<=\.) (?=[A-Z])", self.finding)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help="by default all")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page alone")
    arguments = parser.parse_args()
    for name in arguments.studies:
        if name not in STUDIES:
            parser.error(str(unknown("study", name, STUDIES)))
    failed = []
    for name in () if arguments.page else arguments.studies or STUDIES:
        changes = rerun(name)
        failed += [name] if changes is None else []
        print(f"{name}: {changes or 'failed'}", flush=True)
    text = page()
    changed = not PAGE.exists() or PAGE.read_text() != text
    write_atomically(PAGE, text.encode())
    print(f"{PAGE.name}: {'changed' if changed else 'unchanged'}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def rerun(name: str) -> str | None:
    """Runs a study, puts its finding into its docstring, and returns what changed, or None if the study failed."""
    before = files_of(name), read(name).finding
    done = subprocess.run([sys.executable, str(HERE / f"{name}.py")], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return None
    finding = measured_finding(name)
    if finding is not None:
        write_finding(name, finding)
    after = files_of(name), read(name).finding
    changes = [file for file in sorted(before[0] | after[0]) if before[0].get(file) != after[0].get(file)]
    if before[1] != after[1]:
        changes.append(f"the finding, which was\n  {before[1]}\nand is\n  {after[1]}\n")
    return ", ".join(changes) or "unchanged"


def files_of(name: str) -> dict[str, bytes]:
    """The content of the files that a study writes and that are committed, by name."""
    return {path.name: path.read_bytes() for path in own_files(name) if path.suffix not in (".py", ".svg")}


def own_files(name: str) -> list[pathlib.Path]:
    """The files whose names begin with that of a study, and not with the longer one of another."""
    longer = tuple(other for other in STUDIES if other != name and other.startswith(name))
    return sorted(path for path in HERE.glob(f"{name}*") if not path.name.startswith(longer))


def measured_finding(name: str) -> str | None:
    """The finding that the study wrote beside its figure; None if the finding is written by hand."""
    written = HERE / f"{name}.json"
    return json.loads(written.read_text()).get("finding") if written.exists() else None


def read(name: str) -> Entry:
    docstring = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or ""
    question, _, rest = docstring.partition("Finding:")
    finding, _, _ = rest.partition("\n\n")
    return Entry(*(" ".join(part.split()) for part in (question, finding)))


def write_finding(name: str, finding: str) -> None:
    """Replaces the finding in a study's docstring."""
    path = HERE / f"{name}.py"
    wrapped = textwrap.fill(f"Finding: {finding}", WIDTH, break_long_words=False, break_on_hyphens=False)
    text = re.sub(
        r'^Finding:.*?\n(?=\n|""")', lambda _: f"{wrapped}\n", path.read_text(), count=1, flags=re.DOTALL | re.MULTILINE
    )
    write_atomically(path, text.encode())


def page() -> str:
    """Each study with its question, figures, finding and command."""
    by_hand = [name for name in STUDIES if measured_finding(name) is None]
    parts = [
        "# The studies",
        "Each study is one file with one question, one figure and one finding. A program makes each finding from the "
        f"numbers in the `.json` file beside the figure. People wrote the findings of {', '.join(by_hand)}. "
        "`python experiments/gallery.py STUDY ...` runs studies again, says what changed and writes this page.",
        "[Momentum in ten minutes](momentum_in_ten_minutes.ipynb) is a notebook to begin with; "
        "`python experiments/run_notebook.py` runs it again. [한국어 안내](README.ko.md) is an introduction in Korean.",
    ]
    for name in STUDIES:
        question, finding = read(name)
        pictures = [path.name for path in own_files(name) if path.suffix in (".png", ".gif")]
        parts += [f"## {name}", f"*{question}*", f"**{finding}**"]
        parts += [f"![{name.replace('_', ' ')}]({picture})" for picture in pictures]
        parts += [f"    python experiments/{name}.py"]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
