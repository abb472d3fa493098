"""PyTorch as the oracle of a whole run; collected where torch is installed, which CI does on Python 3.11."""

import numpy as np
import pytest
import torch

import momentum_jax as mj


@pytest.fixture(scope="module")
def result():
    return mj.train(mj.Config(iterations=200, dtype="float64", seeds=(1,)))


@pytest.mark.parametrize("label", ["sgd", "momentum"])
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
