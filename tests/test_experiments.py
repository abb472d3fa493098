"""The studies run, and what is committed of them is what the README says."""

import ast
import csv
import functools
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
import matplotlib.figure
import noise_floor
import numpy as np
import peers
import pytest
import saddle_escape
import study as studies
import update_readme
from numpy_tutorial import MiniSGD, Momentum, gradient, loss

import momentum_jax as mj
from momentum_jax.tasks.landscapes import make_landscape
from tests.compiling import jit, quick_environment, quick_options

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


@pytest.mark.parametrize(
    ("study", "find"),
    [
        (contour_paths, contour_paths.finding),
        (local_minima, local_minima.find),
        (saddle_escape, saddle_escape.find),
        (heavy_ball_cycle, heavy_ball_cycle.find),
        (edge_of_stability, edge_of_stability.finding),
        (loss_surface, loss_surface.finding),
    ],
    ids=lambda part: part.__name__,
)
def test_a_finding_is_made_of_the_numbers_beside_it(study, find):
    written = json.loads((EXPERIMENTS / f"{study.__name__}.json").read_text())
    assert find(written["numbers"]) == written["finding"]


def small_study(arguments):
    return studies.Study(matplotlib.figure.Figure(), "−1 %.", {"a": [1.5]}, {".txt": b"more"})


@pytest.mark.parametrize(("words", "folder"), [([], "here"), (["--fast"], "runs/fast"), (["--out", "a/b"], "a/b")])
def test_what_a_study_found_is_written_beside_it_unless_it_was_a_fast_one(words, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studies, "HERE", tmp_path / "here")
    studies.run(small_study, words)
    written = tmp_path / folder
    assert {path.suffix for path in written.glob("test_experiments.*")} == {".json", ".png", ".svg", ".txt"}
    # As a reader would have it: no \u2212.
    text = (written / "test_experiments.json").read_text()
    assert json.loads(text) == {"finding": "−1 %.", "numbers": {"a": [1.5]}}
    assert "−1 %." in text
    assert (written / "test_experiments.txt").read_text() == "more"


def test_a_finding_takes_the_place_of_the_one_in_the_docstring_and_of_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "HERE", tmp_path)
    code = '"""Why?\n\nFinding: {}\n"""\n\nTEXT = """Finding: kept"""\n'
    (tmp_path / "a.py").write_text(code.format("old,\nover two lines."))
    gallery.write_finding("a", "new, −1 %.")
    assert gallery.read("a") == gallery.Entry("Why?", "new, −1 %.")
    assert (tmp_path / "a.py").read_text() == code.format("new, −1 %.")


def test_a_finding_is_wrapped_between_words_only(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "HERE", tmp_path)
    (tmp_path / "a.py").write_text('"""Why?\n\nFinding: old.\n"""\n')
    # The first half of what is hyphenated would fit into the line, and of a long word a piece.
    finding = f"{'x' * 100} two-parts-of-it {'y' * 130}"
    gallery.write_finding("a", finding)
    assert gallery.read("a").finding == finding
    # What would be a group in a replacement is text.
    gallery.write_finding("a", r"\1 is kept.")
    assert "\nFinding: \\1 is kept.\n" in (tmp_path / "a.py").read_text()


RERUN = '''"""Why?

Finding: old.
"""
import pathlib, sys
path = pathlib.Path(__file__)
path.with_suffix(".json").write_text({found!r})
path.with_suffix(".png").write_text("picture")
sys.exit({code})
'''


@pytest.fixture
def rerun(tmp_path, monkeypatch):
    """From what a study finds and exits with to what is said of it and its finding afterwards."""
    monkeypatch.setattr(gallery, "HERE", tmp_path)

    def run(found, code=0):
        (tmp_path / "a.py").write_text(RERUN.format(found=json.dumps(found), code=code))
        return gallery.rerun("a"), gallery.read("a").finding

    return run


def test_a_study_that_is_run_again_says_what_changed(rerun, tmp_path):
    said, finding = rerun({"finding": "new."})
    assert said == "a.json, a.png, the finding, which was\n  old.\nand is\n  new.\n"
    assert finding == "new."
    assert gallery.rerun("a") == "unchanged"
    # Those whose findings are written by hand.
    (tmp_path / "a.png").unlink()
    assert rerun({"numbers": 1}) == ("a.json, a.png", "old.")


def test_a_study_that_fails_keeps_its_finding(rerun):
    assert rerun({"finding": "new."}, code=1) == (None, "old.")


@pytest.fixture
def run_gallery(tmp_path, monkeypatch):
    """The command, in which batch_size fails; returns what was run."""
    monkeypatch.setattr(gallery, "PAGE", tmp_path / "README.md")

    def run(*words):
        ran = []
        monkeypatch.setattr(gallery, "rerun", lambda name: ran.append(name) or (None if name == "batch_size" else "x"))
        monkeypatch.setattr(sys, "argv", ["gallery.py", *words])
        try:
            gallery.main()
        except SystemExit as stopped:
            return ran, stopped.code
        return ran, 0

    return run


def test_a_study_that_fails_is_named_in_the_end_and_the_others_and_the_page_are_made(run_gallery, tmp_path, capsys):
    assert run_gallery("batch_size", "noise_floor") == (["batch_size", "noise_floor"], "failed: batch_size")
    assert (tmp_path / "README.md").read_text() == gallery.page()
    assert capsys.readouterr().out == "batch_size: failed\nnoise_floor: x\nREADME.md: changed\n"
    assert run_gallery() == (list(gallery.STUDIES), "failed: batch_size")


def test_the_page_alone_runs_nothing_and_an_unknown_study_is_refused(run_gallery, tmp_path, capsys):
    assert run_gallery("noise_flor") == ([], 2)
    assert "unknown 'noise_flor'; did you mean 'noise_floor'?" in capsys.readouterr().err
    assert not (tmp_path / "README.md").exists()
    assert run_gallery("--page") == ([], 0)
    assert run_gallery("--page") == ([], 0)
    assert capsys.readouterr().out == "README.md: changed\nREADME.md: unchanged\n"


# THEORY's rates and iterations to a thousandfold at c = 0.1 and β = 0.9, way by way.
GROWTH = [(1.1, 73), (1.3162, 27), (1.3644, 24), (1.0647, 115), (1.0674, 110)]


@pytest.mark.parametrize("name", saddle_escape.WAYS)
def test_a_way_down_from_a_saddle_is_its_optimizers(name):
    with jax.enable_x64(True):
        found = saddle_escape.grow(saddle_escape.WAYS[name], np.array([0.1]), np.array([0.9]), 120)
    # As many digits as are printed.
    rate, steps = dict(zip(saddle_escape.WAYS, GROWTH, strict=True))[name]
    assert found.closed_rate[0, 0] == pytest.approx(rate, abs=5e-5)
    # The other root has shrunk by (0.9/1.06)¹²⁰ of this one.
    assert found.rate[0, 0] == pytest.approx(found.closed_rate[0, 0], rel=1e-7)
    assert found.steps[0, 0] == found.closed_steps[0, 0] == (found.path >= 1000).argmax() == steps


def test_a_path_that_does_not_get_there_is_no_path_of_0_iterations():
    reached = np.array([[False, True, True], [False, False, True]])
    assert saddle_escape.first(reached).tolist() == [1, 2]
    with pytest.raises(ValueError, match="a path did not get so far"):
        saddle_escape.first(np.array([[True], [False]]))


def growing(rates, steps):
    return saddle_escape.Growing(np.array(rates), np.array(rates), np.array(steps), np.array(steps), np.ones(2))


def test_the_pairs_on_a_saddle_are_counted_where_growth_is_faster_and_where_it_is_slower():
    c, beta = np.array([0.005, 0.1]), np.array([0.5, 0.9])
    descent = growing([[1.005, 1.005], [1.1, 1.1]], [[700, 700], [70, 70]])
    # Faster once, slower twice, alike once; c ≤ (1 − β)/10 in the first row.
    ball = growing([[1.01, 1.005], [1.05, 1.06]], [[350, 770], [280, 140]])
    numbers = saddle_escape.measure(c, beta, {saddle_escape.DESCENT: descent, saddle_escape.BALL: ball}, {})
    assert numbers["pairs where it grows faster than gradient descent"] == {
        saddle_escape.DESCENT: 0,
        saddle_escape.BALL: 1,
    }
    assert numbers["pairs where it grows slower"] == {saddle_escape.DESCENT: 0, saddle_escape.BALL: 2}
    assert numbers["most times gradient descent's iterations, its c, its β"] == [4, 0.1, 0.5]
    assert numbers["most times where c ≤ (1 − β)/10"] == 1.1


def test_the_ratio_of_iterations_until_away_is_to_those_of_gradient_descent(monkeypatch):
    ways = {name: saddle_escape.WAYS[name] for name in (saddle_escape.DESCENT, saddle_escape.BALL)}
    monkeypatch.setattr(saddle_escape, "WAYS", ways)
    monkeypatch.setattr(saddle_escape, "LONGEST", 250)
    monkeypatch.setattr(jax, "jit", functools.partial(jax.jit, compiler_options=quick_options()))
    with jax.enable_x64(True):
        found = saddle_escape.leave(saddle_escape.SADDLES["the saddle"], 20)
    assert found[saddle_escape.DESCENT].ratio[:3] == (1, 1, 1)
    # 1.609 from a thousand paths.
    assert 1.4 < found[saddle_escape.BALL].ratio.value < 1.8


def test_a_path_has_settled_if_all_of_its_last_points_are_near_to_the_same_minimum():
    landscape = make_landscape("double_well")
    deep, shallow = landscape.minima
    away = np.array([0.15, 0.0])
    lasts = [[deep, deep + 0.5 * away], [shallow, shallow], [deep, shallow], [deep, deep + away], [deep, away * np.nan]]
    with jax.enable_x64(True):
        heights = local_minima.settle(np.array([lasts]), landscape)
    # f = (x² − 1)² + 0.3x near ∓1.
    np.testing.assert_allclose(heights, [[-0.3054, 0.2941, np.inf, np.inf, np.inf]], rtol=1e-3)


def test_a_start_moves_to_a_lower_minimum_or_to_a_higher_one_or_to_none_but_for_roundings():
    others = np.array([1.0, 1.0, 1.0, 1.0, np.inf, np.inf])
    moved = local_minima.moved(np.array([1 + 1e-12, 0.5, 2.0, np.inf, np.inf, 1.0]), others)
    assert moved.lower.tolist() == [False, True, False, False, False, True]
    assert moved.higher.tolist() == [False, False, True, True, False, False]
    assert moved.net == 0


def test_momentums_rates_are_as_high_as_sgds_and_as_low_at_the_same_effective_rate():
    assert local_minima.rates(local_minima.WELL, local_minima.PLAIN, 1) == list(range(-30, -7))
    assert local_minima.rates(local_minima.WELL, "momentum 0.9", 10) == [-40, -30, -20, -10]
    assert local_minima.rates(local_minima.BOWL, "momentum 0.99", 20) == [-60, -40, -20]


def test_the_numbers_of_local_minima_are_those_of_starts_that_are_told_where_to_end():
    count, deep, shallow = 400, -0.3, 0.3
    x, y = local_minima.random_starts(make_landscape("double_well"), count).T
    led = np.where(x > 0.1, shallow, deep)
    reached = {}
    for method in local_minima.METHODS:
        tenths = local_minima.rates(local_minima.WELL, method, 1)
        reached[local_minima.WELL, method] = local_minima.Reached(tenths, np.tile(led, (len(tenths), 1)))
    # SGD loses a start at its highest rate but one. Momentum helps all out of the shallow well at the highest, and in
    # the middle, less high, hinders all; there a rate is also the same effective one of another.
    reached[local_minima.WELL, local_minima.PLAIN].heights[-2, 0] = np.inf
    tenths, heights = reached[local_minima.WELL, "momentum 0.9"]
    heights[tenths.index(-8)] = deep
    heights[tenths.index(-20)] = shallow
    with jax.enable_x64(True):
        numbers = local_minima.measure(reached, count)
    found, freed = numbers["double well, momentum 0.9"], round(float((led > 0).mean()), 4)
    assert (found["rates"], found["lowest rate with an escape"], found["best rate"]) == (33, 0.16, 0.16)
    # (1 − β)² is a hundredth.
    assert found["over (1 − β)²"] == 16
    assert (found["escape there"][0], found["are lost there"][0], found["gain there"][0]) == (freed, 0, freed)
    assert list(found[local_minima.SAME].values()) == [22, 1, 1]
    assert list(found[local_minima.EFFECTIVE].values()) == [22, 0, 1]
    assert numbers["double well, momentum 0.99"]["lowest rate with an escape"] is None
    # The pass is at x = 0.0756.
    height = (x**2 - 1) ** 2 + 0.3 * x + y**2 / 2
    below = (led > 0) & (height < (0.0756**2 - 1) ** 2 + 0.3 * 0.0756)
    nobody = dict.fromkeys(local_minima.METHODS)
    assert numbers["trapped"] == nobody | {"starts": int(below.sum()), "momentum 0.9": 0.16}


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
    assert f"mean quantile is {sum(quantiles) / 19:.2f}" in update_readme.studies()


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
