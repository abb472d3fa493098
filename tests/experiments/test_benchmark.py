"""The benchmark: its ratios and targets, and that it runs."""

import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import textwrap

import benchmark
import pytest

from tests.compiling import quick_environment

EXPERIMENTS = pathlib.Path(benchmark.__file__).parent
SIZES = benchmark.Sizes(iterations=2000, seeds=8, parameters=1000)
COMPILING = {"seconds of compiling for 8 runs": 1.0, "seconds of compiling for 512 runs": 1.0}


def test_the_benchmarks_medians_ranges_and_verdicts_follow_from_its_rounds():
    report = json.loads((EXPERIMENTS / "benchmark.json").read_text())
    ratios = [r["flax"] / r["momentum_jax"] for r in report["rounds"]]
    name = "times faster than the Flax and Optax loop"
    assert report["median ratios"][name] == statistics.median(ratios)
    assert report["ranges"][name] == [min(ratios), max(ratios)]
    for name, target in report["targets"].items():
        assert target["measured"] == report["median ratios"][name]
        over = target["measured"] >= target["target"]
        assert target["met"] == (over if target["sense"] == "at least" else not over)


@pytest.mark.exhaustive
def test_the_benchmark_measures_the_contenders_that_it_is_asked_for_and_says_which_it_could_not(tmp_path):
    # Those that compile little.
    chosen = ["momentum_jax", "flax", "numpy", "torch_eager", "peak", "update"]
    sizes = ["--rounds", "1", "--iterations", "20", "--parameters", "1000", "--contenders", ",".join(chosen)]
    command = [sys.executable, str(EXPERIMENTS / "benchmark.py"), *sizes, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=quick_environment())
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in tmp_path.iterdir()} == {"benchmark.json", "benchmark.png", "benchmark.svg"}
    report = json.loads((tmp_path / "benchmark.json").read_text())
    missing = {} if importlib.util.find_spec("torch") else {"torch_eager": "torch is not installed"}
    assert report["left out"] == missing
    assert set(report["rounds"][0]) == set(chosen) - set(missing)
    assert ("times faster than PyTorch" in report["targets"]) == (not missing)
    assert "times faster than the NumPy loop, float64" not in report["median ratios"]


def test_a_missed_target_is_named_as_missed():
    rounds = [{"momentum_jax": 1.0, "flax": flax, "numpy": 8.0} for flax in (2.0, 2.5, 4.0)]
    report = benchmark.summarize(rounds, {}, SIZES)
    name = "times faster than the Flax and Optax loop"
    assert report["targets"][name] == {"sense": "at least", "target": 2.8, "measured": 2.5, "met": False}
    assert report["targets"]["times faster than the NumPy loop, float32"]["met"]
    assert report["ranges"][name] == [2.0, 4.0]
    assert benchmark.verdict(report, name) == " (target: at least 2.8, missed)"


def test_a_target_to_stay_under_is_met_below_it():
    report = benchmark.summarize([{"cost": {"ratio": r} | COMPILING} for r in (0.9, 1.04, 1.2)], {}, SIZES)
    target = report["targets"]["sweep: time a run of 512 over that of 8"]
    assert target == {"sense": "at most", "target": 1.05, "measured": 1.04, "met": True}


def test_a_contender_that_stops_half_way_counts_in_the_rounds_that_it_was_in():
    report = benchmark.summarize([{"momentum_jax": 1.0, "flax": 3.0}, {"momentum_jax": 1.0}], {}, SIZES)
    assert report["median ratios"] == {"times faster than the Flax and Optax loop": 3.0}


def test_every_ratio_is_made_of_contenders_that_there_are():
    assert {c for ratio in benchmark.ratios(SIZES).values() for c in ratio.contenders} == set(benchmark.CONTENDERS)


def test_the_phases_of_the_command_are_read_from_what_it_prints():
    printed = textwrap.dedent(
        (EXPERIMENTS.parent / "README.md").read_text().split("<!-- generated: momentum-jax -->")[1]
    )
    (line,) = (line.strip() for line in printed.splitlines() if line.strip().startswith("seconds: "))
    phases = benchmark.phases(f"a table\n{line}\nwritten: somewhere\n")
    assert list(phases) == ["importing", "loading", "compiling", "training", "evaluating", "drawing"]
    assert line == "seconds: " + ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in phases.items())


@pytest.mark.exhaustive
def test_the_gpu_benchmark_runs_tiny_where_nothing_but_what_it_names_can_be_imported(tmp_path):
    out = tmp_path / "gpu.json"
    sizes = ["--runs", "4", "--iterations", "5", "--chunks", "2", "--repeats", "1", "--peak-size", "256"]
    code = f"""
        import runpy, sys

        class Missing:
            names = {{"tyro", "pyarrow", "matplotlib", "tensorflow", "tensorflow_datasets", "platformdirs"}}

            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in self.names:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        sys.meta_path.insert(0, Missing())
        sys.argv[1:] = {[*sizes, "--out", str(out)]!r}
        runpy.run_path({str(EXPERIMENTS / "gpu_benchmark.py")!r}, run_name="__main__")
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=quick_environment())
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(out.read_text())
    assert report["failed"] == []
    assert set(report["fastest"]) == {"float32", "tf32", "bfloat16"}
    work = 4 * 5 * benchmark.flops_per_step()
    for entry in report["measured"]:
        assert entry["TFLOP/s"] * entry["seconds"] * 1e12 == pytest.approx(work)
        assert 1 < entry["mean loss at the end"] < 4
        assert entry["runs that are not finite"] == 0
