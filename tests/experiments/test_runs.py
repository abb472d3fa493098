"""Every script says what it is for, and every study runs."""

import argparse
import importlib
import importlib.util
import json
import pathlib
import subprocess
import sys

import gallery
import own_model
import pytest

import momentum_jax as mj
from momentum_jax.tasks.datasets import load_dataset
from tests.compiling import quick_environment

EXPERIMENTS = pathlib.Path(gallery.__file__).parent
SCRIPTS = (*gallery.STUDIES, "benchmark", "gallery", "gpu_benchmark", "plain_script")
# Those that make their findings of what they measure.
MEASURED = tuple(name for name in gallery.STUDIES if gallery.measured_finding(name))
# The study that runs by default.
QUICKEST = "heavy_ball_cycle"


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_what_it_is_for(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    script = importlib.import_module(name)
    with pytest.raises(SystemExit) as stopped:
        script.main()
    assert stopped.value.code == 0
    # The question, as it stands in the docstring.
    assert script.__doc__.partition("\n")[0] in capsys.readouterr().out


def marks_of(name):
    needs_torch = name in ("own_loop", "pytorch_replay") and not importlib.util.find_spec("torch")
    return [pytest.mark.exhaustive, *([pytest.mark.skip(reason="torch is not installed")] if needs_torch else [])]


@pytest.mark.exhaustive
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


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize(
    "name", [name if name == QUICKEST else pytest.param(name, marks=marks_of(name)) for name in MEASURED]
)
def test_a_study_that_makes_its_own_finding_runs_fast_and_writes_it_beside_its_figure(name, tmp_path, capsys):
    importlib.import_module(name).main(["--fast", "--out", str(tmp_path)])
    more = {".gif"} if name == "contour_paths" else set()
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}{kind}" for kind in {".json", ".png", ".svg"} | more}
    assert all(path.stat().st_size for path in tmp_path.iterdir())
    assert json.loads((tmp_path / f"{name}.json").read_text())["finding"] == capsys.readouterr().out.strip()


@pytest.mark.exhaustive
@pytest.mark.skipif(not own_model.FASHION.is_dir(), reason="needs Debian's dataset-fashion-mnist, which CI installs")
@pytest.mark.usefixtures("compiled_quickly")
def test_the_study_of_a_network_of_ones_own_trains_on_the_files_of_debian():
    dataset = mj.load_dataset(str(own_model.FASHION))
    assert (dataset.image_shape, dataset.num_classes) == ((28, 28), 10)
    images, labels = dataset.x_train[:2000], dataset.y_train[:2000]
    task = mj.flax_task(own_model.ConvNet(), (images, labels), (dataset.x_test[:500], dataset.y_test[:500]))
    momentum = {"momentum": own_model.OPTIMIZERS["momentum"]}
    result = mj.train(mj.Config(iterations=60, batch_size=64, optimizers=momentum), task=task)
    # Guessing gives 0.1.
    assert result.test_accuracy["momentum"] > 0.5


def test_without_the_files_of_debian_the_study_of_a_network_of_ones_own_says_that_it_takes_mnist(monkeypatch):
    loaded = []
    monkeypatch.setattr(own_model, "FASHION", pathlib.Path("nowhere"))
    monkeypatch.setattr(mj, "load_dataset", lambda name: loaded.append(name) or load_dataset(name))
    monkeypatch.setattr(mj, "compare", lambda *_, **__: "compared")
    monkeypatch.setattr(own_model, "of_comparison", lambda _, data: data)
    arguments = argparse.Namespace(fast=False, folder=None)
    assert own_model.study(arguments) == "MNIST in place of Fashion-MNIST"
    assert loaded == ["mnist"]
