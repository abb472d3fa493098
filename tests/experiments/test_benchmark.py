"""The benchmark: its ratios and targets, and that it runs."""

import argparse
import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import textwrap

import benchmark
import command_costs
import jax
import pytest
import sweep_costs

from tests.compiling import quick_environment

EXPERIMENTS = pathlib.Path(benchmark.__file__).parent
SIZES = benchmark.Sizes(iterations=2000, seeds=8, parameters=1000, trials=64)
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
    chosen = ["momentum_jax", "torch_eager", "sweep"]
    small = ["--rounds", "1", "--iterations", "20", "--trials", "8", "--before", str(EXPERIMENTS.parent)]
    script = [sys.executable, str(EXPERIMENTS / "benchmark.py"), "--out", str(tmp_path)]
    command = [*script, "--contenders", ",".join(chosen), *small]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=quick_environment())
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in tmp_path.iterdir()} == {"benchmark.json", "benchmark.png", "benchmark.svg"}
    report = json.loads((tmp_path / "benchmark.json").read_text())
    missing = {} if importlib.util.find_spec("torch") else {"torch_eager": "torch is not installed"}
    assert report["left out"] == missing
    assert set(report["rounds"][0]) == {*chosen, "sweep before"} - set(missing)
    assert ("times faster than PyTorch" in report["targets"]) == (not missing)
    assert "times faster than the NumPy loop, float64" not in report["median ratios"]


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize(
    "name", ["flax", "numpy", "update", "sweep_diverging", "sweep_vmap", "sweep_vmap_one_key", "sweep_torch", "command"]
)
def test_a_contender_is_measured(name, monkeypatch):
    # This process has its devices already.
    monkeypatch.setattr(sweep_costs, "use_all_cores", lambda: None)
    monkeypatch.setenv("XLA_FLAGS", quick_environment()["XLA_FLAGS"])
    measured = benchmark.measure(name, SIZES._replace(iterations=20, trials=8))
    if "left out" in measured:
        assert name == "sweep_torch"
        assert not importlib.util.find_spec("torch")
    else:
        assert all(number > 0 for number in jax.tree.leaves(measured)), measured


@pytest.mark.exhaustive
def test_the_plain_script_is_measured_as_the_command_is(monkeypatch):
    monkeypatch.setattr(command_costs, "CACHES", ("empty",))
    monkeypatch.setenv("XLA_FLAGS", quick_environment()["XLA_FLAGS"])
    assert command_costs.plain_script(20)["empty"]["total"] > 0


def test_what_is_measured_before_is_the_package_of_that_checkout(tmp_path):
    (tmp_path / "momentum_jax").mkdir()
    (tmp_path / "momentum_jax" / "__init__.py").write_text("raise SystemExit(7)")
    with pytest.raises(subprocess.CalledProcessError) as stopped:
        benchmark.run("sweep", SIZES._replace(iterations=1, trials=8), tmp_path)
    assert stopped.value.returncode == 7


def test_the_ratios_of_sweeps_and_of_the_command_follow_from_their_seconds():
    seconds = {"total": 10.0, "compiling": 2.0, "training": 5.0, "drawing": 1.0}
    measured = {
        "sweep": {"compiling": 9.0, "training": 32.0},
        "sweep before": {"compiling": 9.0, "training": 48.0},
        "sweep_diverging": {"compiling": 9.0, "training": 16.0},
        "sweep_vmap": {"training": 64.0},
        "sweep_vmap_one_key": {"training": 48.0},
        # 64 runs x 2,000 iterations x 64.0 MFLOP in 32 seconds are 256 GFLOP/s.
        "limit": 512e9,
        "command": {"empty": seconds | {"total": 20.0}, "warm": seconds},
        "plain_script": {"empty": {"total": 10.0}, "warm": {"total": 40.0}},
    }
    found = benchmark.summarize([measured], {}, SIZES)["median ratios"]
    assert found == pytest.approx(
        {
            "times faster than vmap by hand, sweep of 64 trials": 2,
            "times faster than vmap by hand with one key, sweep of 64 trials": 1.5,
            "times faster than before, sweep of 64 trials": 1.5,
            "sweep of 64 trials: runs a second": 2,
            "sweep of 64 trials: time with half of the runs diverging over that with none": 0.5,
            f"sweep of 64 trials: share of the limit of {benchmark.cores()} cores while training": 0.5,
            "command: time over that of the plain script, warm cache": 0.25,
            "command: time over that of the plain script, empty cache": 2,
            "command: seconds of all but training and drawing, warm cache": 4,
            "command: seconds of all but training and drawing, empty cache": 14,
            "command: seconds of tracing and compiling, warm cache": 2,
            "time of the command with a warm compilation cache over that with an empty one": 0.5,
        },
        rel=1e-3,
    )


def test_half_of_the_learning_rates_of_a_diverging_sweep_are_too_large_and_the_others_as_without():
    rates = sweep_costs.learning_rates(16)
    diverging = sweep_costs.learning_rates(16, diverging=True)
    assert diverging[:8] == rates[:8]
    assert diverging == sorted(diverging)
    assert [rate > 1 for rate in diverging] == [False] * 8 + [True] * 8
    assert max(rates) < 1


def test_every_trial_is_a_pair_of_the_rates_and_momenta_of_the_sweep():
    assert len(set(benchmark.grid(SIZES))) == 64
    assert {momentum for _, momentum in benchmark.grid(SIZES)} == set(sweep_costs.MOMENTA)
    with pytest.raises(argparse.ArgumentTypeError, match="must be a multiple of 8, not 12"):
        benchmark.trials("12")


@pytest.mark.usefixtures("compiled_quickly")
def test_a_sweep_in_which_other_runs_diverge_than_it_was_made_for_is_not_measured(monkeypatch):
    # This process has its devices already.
    monkeypatch.setattr(sweep_costs, "use_all_cores", lambda: None)
    with pytest.raises(RuntimeError, match=r"the runs diverged at \[-1, -1, -1, -1\]"):
        # Too large, but not within the three iterations.
        sweep_costs.sweep_seconds([1.5], 3)


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
    contenders = {c for ratio in benchmark.ratios(SIZES).values() for c in ratio.contenders}
    assert contenders == {*benchmark.CONTENDERS, *benchmark.BEFORE.values()}
    assert set(benchmark.BEFORE) < set(benchmark.CONTENDERS)


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
