"""The studies run, and what is committed of them is what the README says."""

import csv
import json
import pathlib
import subprocess
import sys

import pytest
import update_readme

EXPERIMENTS = pathlib.Path(update_readme.__file__).parent


@pytest.mark.parametrize(
    ("script", "arguments", "written"),
    [
        (
            "mnist_comparison.py",
            ["--seeds", "2", "--iterations", "120"],
            {"mnist_comparison.png", "mnist_comparison.svg"},
        ),
        (
            "blog_losses.py",
            ["--seeds", "1"],
            {"blog_losses.png", "blog_losses.svg", "blog_losses_quantiles.csv"},
        ),
        ("benchmark.py", ["--rounds", "1", "--iterations", "20", "--parameters", "1000"], {"benchmark.json"}),
    ],
)
def test_a_study_runs_and_writes_its_figure_or_table(script, arguments, written, tmp_path):
    command = [sys.executable, str(EXPERIMENTS / script), *arguments, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in tmp_path.iterdir()} == written
    assert all(path.stat().st_size for path in tmp_path.iterdir())


@pytest.mark.parametrize("part", ["optimizers", "conventions", "studies", "benchmark"])
def test_a_generated_part_of_the_readme_is_what_the_code_and_the_measurements_say(part):
    text = update_readme.README.read_text()
    assert update_readme.replace(text, part, getattr(update_readme, part)()) == text


def test_the_finding_about_the_printed_losses_is_what_the_committed_table_says():
    with (EXPERIMENTS / "blog_losses_quantiles.csv").open() as file:
        quantiles = [float(row["quantile"]) for row in csv.DictReader(file)]
    inside = sum(0.025 <= quantile <= 0.975 for quantile in quantiles)
    assert inside == len(quantiles) == 19
    assert f"mean quantile is {sum(quantiles) / 19:.2f}" in update_readme.studies()


def test_the_benchmarks_medians_follow_from_its_rounds():
    report = json.loads((EXPERIMENTS / "benchmark.json").read_text())
    ratios = sorted(r["flax"] / r["momentum_jax"] for r in report["rounds"])
    assert report["median ratios"]["times faster than the Flax and Optax loop"] == ratios[len(ratios) // 2]
