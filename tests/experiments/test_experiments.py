"""The studies run, and what is committed of them is what the README says."""

import ast
import csv
import importlib.util
import json
import pathlib
import re
import statistics
import subprocess
import sys
import textwrap

import batch_size
import benchmark
import contour_paths
import convergence_rates
import edge_of_stability
import gallery
import heavy_ball_cycle
import jax
import local_minima
import loss_surface
import noise_floor
import numpy as np
import peers
import pytest
import saddle_escape
import update_readme
from numpy_tutorial import MiniSGD, Momentum, gradient, loss

import momentum_jax as mj
from tests.compiling import jit, quick_environment

EXPERIMENTS = pathlib.Path(update_readme.__file__).parent
# Those that make their findings of what they measure.
MEASURED = (
    contour_paths,
    local_minima,
    saddle_escape,
    convergence_rates,
    noise_floor,
    heavy_ball_cycle,
    edge_of_stability,
    batch_size,
    loss_surface,
)
SIZES = benchmark.Sizes(iterations=2000, seeds=8, parameters=1000)
COMPILING = {"seconds of compiling for 8 runs": 1.0, "seconds of compiling for 512 runs": 1.0}


def numpy_losses(params, batches):
    """The tutorial's work in float64, losses [before and after, optimizers, iterations]: the oracle of all peers."""
    x, labels = peers.mnist()
    losses = np.zeros([2, 2, len(batches)])
    for i, optimizer in enumerate([MiniSGD(peers.LEARNING_RATE), Momentum(peers.LEARNING_RATE, peers.MOMENTUM)]):
        network = {key: value.astype(np.float64) for key, value in params.items()}
        for iteration, rows in enumerate(batches):
            losses[0, i, iteration] = loss(network, x[rows], labels[rows])
            optimizer.update(network, gradient(network, x[rows], labels[rows]))
            losses[1, i, iteration] = loss(network, x[rows], labels[rows])
    return losses


@pytest.mark.parametrize(
    ("script", "arguments", "written"),
    [
        (
            "mnist_comparison.py",
            ["--seeds", "2", "--iterations", "120"],
            {"mnist_comparison.png", "mnist_comparison.svg"},
        ),
        (
            "rate_and_momentum.py",
            ["--seeds", "1", "--iterations", "5", "--rates", "2"],
            {"rate_and_momentum.png", "rate_and_momentum.svg"},
        ),
        (
            "blog_losses.py",
            ["--seeds", "1"],
            {"blog_losses.png", "blog_losses.svg", "blog_losses_quantiles.csv"},
        ),
        (
            "does_momentum_help.py",
            ["--fast", "--folder", "OUT/runs"],
            {
                "does_momentum_help.json",
                *(f"does_momentum_help{part}.{kind}" for part in ("", "_tuning") for kind in ("png", "svg")),
                "runs",
            },
        ),
    ],
)
def test_a_study_runs_and_writes_its_figure_or_table(script, arguments, written, tmp_path):
    arguments = [argument.replace("OUT", str(tmp_path)) for argument in arguments]
    command = [sys.executable, str(EXPERIMENTS / script), *arguments, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=quick_environment())
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in tmp_path.iterdir()} == written
    assert all(path.stat().st_size for path in tmp_path.iterdir())


@pytest.mark.parametrize("study", MEASURED, ids=lambda study: study.__name__)
def test_a_study_that_makes_its_own_finding_runs_fast_and_writes_it_beside_its_figure(
    study, tmp_path, capsys, compiled_quickly
):
    study.main(["--fast", "--out", str(tmp_path)])
    name = study.__name__
    more = {".gif"} if study is contour_paths else set()
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}{kind}" for kind in {".json", ".png", ".svg"} | more}
    assert all(path.stat().st_size for path in tmp_path.iterdir())
    assert json.loads((tmp_path / f"{name}.json").read_text())["finding"] == capsys.readouterr().out.strip()


def test_the_findings_and_the_page_of_the_studies_are_what_was_measured():
    made = {name: EXPERIMENTS / f"{name}.json" for name in gallery.STUDIES}
    findings = {name: json.loads(path.read_text()).get("finding") for name, path in made.items() if path.exists()}
    for name, finding in findings.items():
        assert finding in (None, gallery.read(name).finding), name
    assert {name for name, finding in findings.items() if finding} == {study.__name__ for study in MEASURED}
    assert gallery.PAGE.read_text() == gallery.page()


@pytest.mark.parametrize("part", ["optimizers", "conventions", "comparison", "studies", "benchmark"])
def test_a_generated_part_of_the_readme_is_what_the_code_and_the_measurements_say(part):
    text = update_readme.README.read_text()
    assert update_readme.replace(text, part, getattr(update_readme, part)()) == text


def test_the_study_of_a_network_of_ones_own_takes_images_of_any_size(idx, tmp_path):
    # Held out are 50 of the 300 images.
    command = [
        sys.executable,
        str(EXPERIMENTS / "own_model.py"),
        "--dataset",
        str(idx),
        "--fast",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=quick_environment())
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in tmp_path.iterdir()} == {"own_model.png", "own_model.svg"}
    for label in ("sgd", "momentum", "lion"):
        assert f"{label} at its best: OptimizerConfig(" in done.stdout
    assert "No verdict on the accuracy on the test set of momentum and sgd" in done.stdout


def test_the_intervals_in_the_finding_about_momentum_are_those_that_the_study_wrote():
    finding = ast.get_docstring(ast.parse((EXPERIMENTS / "does_momentum_help.py").read_text())).replace("\n", " ")
    written = (EXPERIMENTS / "does_momentum_help.json").read_text()
    intervals = re.findall(r"[−+][\d.]+ ?%? to [−+][\d.]+", finding)
    assert len(intervals) == 6
    for interval in [*intervals, "334 against 1940", "0.07197 against 0.224"]:
        assert interval in written, interval


def test_the_finding_about_the_printed_losses_is_what_the_committed_table_says():
    with (EXPERIMENTS / "blog_losses_quantiles.csv").open() as file:
        quantiles = [float(row["quantile"]) for row in csv.DictReader(file)]
    inside = sum(0.025 <= quantile <= 0.975 for quantile in quantiles)
    assert inside == len(quantiles) == 19
    assert f"mean quantile is {sum(quantiles) / 19:.2f}" in gallery.read("blog_losses").finding


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
    printed = textwrap.dedent(update_readme.README.read_text().split("<!-- generated: momentum-jax -->")[1])
    (line,) = (line.strip() for line in printed.splitlines() if line.strip().startswith("seconds: "))
    phases = benchmark.phases(f"a table\n{line}\nwritten: somewhere\n")
    assert list(phases) == ["importing", "loading", "compiling", "training", "evaluating", "drawing"]
    assert line == "seconds: " + ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in phases.items())


@pytest.fixture(scope="module")
def tutorial():
    """Weights, some batches, and the losses that are right."""
    params = peers.initial_params(0)
    batches = np.random.default_rng(0).integers(0, 60_000, [20, peers.BATCH])
    return params, batches, numpy_losses(params, batches)


@pytest.mark.parametrize("peer", [peers.numpy_loop, peers.flax_loop])
def test_a_peer_does_the_work_of_the_numpy_loop(peer, tutorial):
    params, batches, expected = tutorial
    # The NumPy loop itself has no losses before the updates. In float32 a ReLU may fall on the other side of zero.
    losses = peer(params)(batches)
    np.testing.assert_allclose(losses, expected[-len(losses) :], rtol=1e-4)


def drawn(key, iterations):
    """The weights and batches that PureJaxRL's way draws from a key."""
    key, init_key = jax.random.split(key)
    layers = mj.MLP().init(init_key, np.zeros([1, 784], np.float32))["params"]
    params = {}
    for i in range(len(layers)):
        params[f"W{i}"], params[f"b{i}"] = (np.asarray(layers[f"Dense_{i}"][part]) for part in ("kernel", "bias"))
    batches = []
    for _ in range(iterations):
        key, batch_key = jax.random.split(key)
        batches.append(np.asarray(jax.random.randint(batch_key, [peers.BATCH], 0, 60_000)))
    return params, batches


def test_a_seed_of_purejaxrls_way_does_the_work_of_the_numpy_loop():
    _, momentum = peers.flax_optimizers()
    x, labels = peers.mnist()
    keys = jax.random.split(jax.random.key(3), 2)
    train = peers.make_train(momentum, iterations=10)
    _, losses = jit(jax.vmap(train, in_axes=(0, None, None)))(keys, x, labels)
    for key, of_seed in zip(keys, losses, strict=True):
        params, batches = drawn(key, 10)
        # In float32 a ReLU may fall on the other side of zero.
        np.testing.assert_allclose(of_seed.T, numpy_losses(params, batches)[:, 1], rtol=1e-4)


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
