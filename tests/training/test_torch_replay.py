"""PyTorch as the oracle of a whole run and as a peer; collected where torch is installed (in CI on Python 3.11)."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import peers
import pytest
import pytorch_replay
import torch
from numpy_tutorial import MiniSGD, Momentum
from numpy_tutorial import train as train_with_numpy

import momentum_jax as mj
from momentum_jax.comparison.suite import suite


@pytest.fixture(scope="module")
def result():
    return mj.train(mj.Config(iterations=200, dtype="float64", seeds=(1,)))


@pytest.mark.parametrize("label", [pytest.param("sgd", marks=pytest.mark.exhaustive), "momentum"])
def test_pytorch_replays_a_run_from_its_batches_and_initial_weights(mnist, result, label):
    cfg = result.config
    layers = mj.initial_params(cfg, 1, label)["params"]
    modules: list[torch.nn.Module] = []
    for i in range(5):
        kernel = np.array(layers[f"Dense_{i}"]["kernel"])
        linear = torch.nn.Linear(*kernel.shape, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(kernel.T))
            linear.bias.zero_()
        modules += [linear, torch.nn.ReLU()]
    network = torch.nn.Sequential(*modules[:-1])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9 if label == "momentum" else 0.0)
    before, after = [], []
    for rows in mj.batch_indices(cfg, 1):
        x, y = torch.tensor(mnist.x_train[rows] / 255), torch.tensor(mnist.y_train[rows].astype(np.int64))
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        before.append(loss.item())
        with torch.no_grad():
            after.append(torch.nn.functional.cross_entropy(network(x), y).item())
    # float64 on both sides; rounding grows by the curvature over 200 steps and stays far below 1e-9.
    np.testing.assert_allclose(result.losses_before[label][0], before, rtol=1e-9)
    np.testing.assert_allclose(result.losses[label][0], after, rtol=1e-9)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("name", pytorch_replay.TASKS)
def test_pytorch_repeats_the_tuned_run_of_momentum_on_tasks_of_the_suite(name):
    written = json.loads(pathlib.Path(pytorch_replay.__file__).with_suffix(".json").read_text())["numbers"]["runs"]
    (run,) = (run for run in written if (run["task"], run["optimizer"]) == (name, "momentum"))
    tuned = {"momentum": mj.OptimizerConfig("momentum", **run["hyperparameters"])}
    fields = {"optimizers": tuned, "iterations": 100, "seeds": (pytorch_replay.SEED,), "dtype": "float64"}
    cfg = dataclasses.replace(suite()[name], **fields)
    # float64 on both sides; over whole runs the differences are in the study's JSON.
    theirs = pytorch_replay.replayed(name, cfg, "momentum")
    np.testing.assert_allclose(theirs, mj.train(cfg).losses_before["momentum"][0], rtol=1e-9)


def losses_after(params, batches):
    optimizers = [MiniSGD(peers.LEARNING_RATE), Momentum(peers.LEARNING_RATE, peers.MOMENTUM)]
    in_float64 = {key: value.astype(np.float64) for key, value in params.items()}
    return train_with_numpy(in_float64, *peers.mnist(), batches, optimizers)[1]


def test_pytorch_as_a_peer_does_the_work_of_the_numpy_loop(rng):
    params = peers.initial_params(0)
    batches = rng.integers(0, 60_000, [20, peers.BATCH])
    _, after = peers.torch_eager(params)(batches)
    # In float32 a ReLU may fall on the other side of zero.
    np.testing.assert_allclose(after, losses_after(params, batches), rtol=1e-4)
    # On the same batch again, the loss before an update is the one after the update before.
    repeated = np.repeat(batches[:1], 3, axis=0)
    before, after = peers.torch_eager(params)(repeated)
    np.testing.assert_allclose(before[:, 1:], after[:, :-1], rtol=1e-6)


def test_a_trial_of_pytorchs_sweep_does_the_work_of_pytorch_as_a_peer(rng):
    batches = rng.integers(0, 60_000, [20, peers.BATCH])
    before, _ = peers.torch_eager(peers.initial_params(0))(batches)
    for losses, momentum in zip(before, (0.0, peers.MOMENTUM), strict=True):
        # Products may have other threads; in float32 a ReLU may then fall on the other side of zero.
        np.testing.assert_allclose(peers.torch_run(peers.LEARNING_RATE, momentum, batches), losses, rtol=1e-4)


def test_every_seed_of_pytorchs_vmap_does_the_work_of_the_numpy_loop(rng):
    params = [peers.initial_params(seed) for seed in range(3)]
    batches = rng.integers(0, 60_000, [10, 3, peers.BATCH])
    losses = peers.torch_vmap(params)(batches)
    assert losses.shape == (2, 2, 10, 3)
    for seed in range(3):
        # In float32 a ReLU may fall on the other side of zero.
        np.testing.assert_allclose(losses[1, :, :, seed], losses_after(params[seed], batches[:, seed]), rtol=1e-4)


@pytest.mark.exhaustive
def test_where_torch_cannot_compile_the_benchmark_says_so(tmp_path):
    benchmark = pathlib.Path(peers.__file__).with_name("benchmark.py")
    command = [sys.executable, str(benchmark), "--measure", "torch_compiled", "--iterations", "1"]
    # No compiler on the path, and nothing that an earlier one has left.
    without = {"CXX": "/nowhere/c++", "PATH": "/nowhere", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | without)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "No working C++ compiler" in json.loads(done.stdout)["left out"]
