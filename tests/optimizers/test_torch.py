"""PyTorch's SGD as the oracle; collected where torch is installed, which the project's CI does on Python 3.11."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import momentum_jax as mj


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (mj.sgd(0.05), {"lr": 0.05}),
        (mj.momentum(0.05, 0.9), {"lr": 0.05, "momentum": 0.9}),
        (mj.nesterov(0.05, 0.9), {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    ],
    ids=["sgd", "momentum", "nesterov"],
)
def test_the_path_over_a_curved_loss_is_pytorchs(ours, theirs):
    start = np.random.default_rng(0).normal(size=5)
    weights = torch.nn.Parameter(torch.tensor(start))
    optimizer = torch.optim.SGD([weights], **theirs)
    with jax.enable_x64(True):
        params = jnp.asarray(start)
        state = ours.init(params)
        gradient = jax.jit(jax.grad(lambda w: jnp.sum(jnp.cos(w) + w**2)))
        for _ in range(200):
            updates, state = ours.update(gradient(params), state, params)
            params = optax.apply_updates(params, updates)
            optimizer.zero_grad()
            (torch.cos(weights) + weights**2).sum().backward()
            optimizer.step()
            # Both in float64; the path contracts, so rounding does not pile up.
            np.testing.assert_allclose(params, weights.detach().numpy(), rtol=1e-10, atol=1e-14)
