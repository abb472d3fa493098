"""The simulation of coverages: what is committed is what the script writes, and its counting is right."""

import json
import re

import coverage_simulation
import numpy as np
import pytest

from momentum_jax.analysis import Interval
from momentum_jax.report.document import tasks


def test_the_committed_table_has_the_rows_that_the_script_writes(tmp_path, monkeypatch):
    committed = json.loads(coverage_simulation.FILE.read_text())
    monkeypatch.setattr(coverage_simulation, "FILE", tmp_path / "coverage.json")
    monkeypatch.setattr("sys.argv", ["coverage_simulation.py", "--simulations", "10"])
    coverage_simulation.main()
    written = json.loads((tmp_path / "coverage.json").read_text())
    for part in ("runs", "tasks"):
        kinds = [
            [(row["what"], row["distribution"], row["n"]) for row in table[part]] for table in (committed, written)
        ]
        assert kinds[0] == kinds[1]
    # Of 10,000 a coverage of 95 % is known to ±0.4 %.
    assert committed["simulations"] >= 10_000


def test_the_page_over_tasks_says_the_coverages_of_the_committed_table():
    rows = json.loads(coverage_simulation.FILE.read_text())["tasks"]
    coverages = {
        (row["distribution"], row["n"]): f"{100 * row['coverage']:.0f}"
        for row in rows
        if row["what"] == "relative time"
    }
    two_kinds = [coverages["half equal, half twice as fast", n] for n in (3, 6)]
    never = sorted(own for (name, _), own in coverages.items() if name == "a fifth never gets there")
    said = re.findall(r"\d+", tasks._ON_INTERVALS)
    assert said == [two_kinds[0], "3", two_kinds[1], "6", never[0], never[-1]]


def test_a_coverage_is_the_proportion_of_intervals_that_hold_the_truth():
    ends = iter([(0.0, 1.0), (1.0, 2.0), (-1.0, 0.5), (3.0, 4.0)])
    counted = coverage_simulation.row("", "", 1, 4, lambda rng, n: Interval(np.nan, *next(ends), 0.95), 0.5)
    assert counted["coverage"] == pytest.approx(2 / 4)
