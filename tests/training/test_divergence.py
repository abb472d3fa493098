"""A run whose loss is not finite is trained no more: by hand, in any company, in chunks of any length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.config import Config
from momentum_jax.training.program import Program
from tests.training.small import same_trees

# The data of one row each: a batch of size 1 that is row 7 makes the loss infinite, with a finite gradient.
ROWS = np.arange(20, dtype=np.float32)
BAD = 7


def loss(params, batch):
    return jnp.mean((params["p"] - batch / 20) ** 2) + jnp.where(jnp.any(batch == BAD), jnp.inf, 0)


TASK = mj.Task(init=lambda key: {"p": jnp.float32(3)}, loss=loss, train=ROWS)
METRICS = {"position": lambda params, state, grads: params["p"], "uphill": lambda params, state, grads: grads["p"] > 0}


def config(**changes):
    given = {
        "iterations": 40,
        "batch_size": 1,
        "seeds": 6,
        "optimizers": {"sgd": mj.OptimizerConfig("sgd", learning_rate=0.1)},
    }
    return Config(**given | changes)


def by_hand(cfg, seed):
    """Losses before the updates, positions after them and the first infinite loss, in NumPy's float32."""
    p, losses, positions = np.float32(3), [], []
    for row in mj.batch_indices(cfg, seed, task=TASK)[:, 0]:
        error = p - ROWS[row] / np.float32(20)
        losses.append(np.inf if row == BAD else error**2)
        p = p - np.float32(0.1) * 2 * error
        positions.append(p)
        if row == BAD:
            return losses, positions, len(losses) - 1
    return losses, positions, -1


@pytest.mark.parametrize(
    "chunk", [pytest.param(1, marks=pytest.mark.exhaustive), 7, pytest.param(100, marks=pytest.mark.exhaustive)]
)
def test_after_an_infinite_loss_nothing_is_trained_though_later_losses_would_be_finite(chunk):
    cfg = config(evaluate_every=10)
    result = mj.train(cfg, task=TASK, metrics=METRICS, chunk=chunk)
    diverged = []
    for seed in range(6):
        losses, positions, at = by_hand(cfg, seed)
        diverged.append(at)
        done = len(losses)
        # A handful of float32 operations an iteration, on a contracting recurrence: rounding of 6e-8 adds up to less.
        np.testing.assert_allclose(result.losses_before["sgd"][seed, :done], losses, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(result.metrics["position"]["sgd"][seed, :done], positions, rtol=1e-5)
        np.testing.assert_allclose(result.params["sgd"]["p"][seed], positions[-1], rtol=1e-5)
        assert np.isnan(result.losses_before["sgd"][seed, done:]).all()
        assert np.isnan(result.losses["sgd"][seed, done:]).all()
        assert np.isnan(result.metrics["position"]["sgd"][seed, done:]).all()
        assert not result.metrics["uphill"]["sgd"][seed, done:].any()
        finite = result.evaluation_iterations < done if at >= 0 else np.ones(4, bool)
        assert (
            np.isfinite(result.evaluations["train_loss"]["sgd"][seed]).tolist() == [False] * 4
        )  # of all rows: infinite
        assert np.isnan(result.evaluations["train_loss"]["sgd"][seed]).tolist() == (~finite).tolist()
    assert result.diverged_at["sgd"].tolist() == diverged
    # Some of the seeds draw the bad row, at different times, and some do not.
    assert len(set(diverged)) > 3
    assert -1 in diverged


def test_train_and_sweep_agree_to_the_bit_with_and_without_the_loss_after_the_update(tmp_path):
    for loss_after in (False, True):
        cfg = config(evaluate_every=10, loss_after=loss_after)
        apart = mj.train(cfg, task=TASK, metrics=METRICS)
        swept = mj.sweep(
            cfg,
            {},
            task=TASK,
            metrics=METRICS,
            keep_params=True,
            folder=tmp_path / str(loss_after),
            chunk=7,
        )
        assert swept.diverged_at["sgd"][0].tolist() == apart.diverged_at["sgd"].tolist()
        same_trees(jax.tree.map(lambda a: a[0], swept.params["sgd"]), apart.params["sgd"])
        for name in METRICS:
            same_trees(swept.metrics[name]["sgd"][0], apart.metrics[name]["sgd"])
        same_trees(swept.losses_before["sgd"][0], apart.losses_before["sgd"])
        same_trees(swept.evaluations["train_loss"]["sgd"][0], apart.evaluations["train_loss"]["sgd"])
        assert bool(swept.losses_after) == bool(loss_after)
        if loss_after:
            same_trees(swept.losses["sgd"][0], apart.losses["sgd"])


@pytest.mark.parametrize("layout", ["map", "vmap"])
def test_the_runs_that_are_left_go_evenly_to_the_devices_and_a_batch_without_any_ends(monkeypatch, layout):
    """By the masks that the compiled programs are given."""
    dispatched = []
    step = Program.step

    def counted(program, states, start, stop):
        for state in states:
            width = program.capacities[state.group].per_device
            on = [place // width for place, active in zip(state.places, state.active, strict=True) if active]
            dispatched.append((start, sorted(on)))
        return step(program, states, start, stop)

    monkeypatch.setattr(Program, "step", counted)
    # Runs are dealt to the devices in turns, so those that diverge would all be on the second.
    rates = {"wild": 1e30, "tame": 0.1, "mild": 0.05, "wilder": 1e32}
    optimizers = {"sgd": mj.OptimizerConfig("sgd", learning_rate=0.1)}
    quadratic = mj.Task(init=TASK.init, loss=lambda p, batch: jnp.mean((p["p"] - batch) ** 2), train=ROWS)
    cfg = Config(iterations=40, batch_size=4, optimizers=optimizers)
    space = {"learning_rate": [rates["tame"], rates["wild"], rates["mild"], rates["wilder"]]}
    result = mj.sweep(cfg, space, task=quadratic, chunk=10, layout=layout, devices=jax.devices()[:2])
    assert (result.diverged_at["sgd"].ravel() >= 0).tolist() == [False, True, False, True]
    assert dispatched[0] == (0, [0, 0, 1, 1])
    if layout == "map":
        assert [on for _, on in dispatched[1:]] == [[0, 1]] * 3
    for position, rate in enumerate(space["learning_rate"]):
        alone = mj.train(
            Config(iterations=40, batch_size=4, optimizers={"sgd": mj.OptimizerConfig("sgd", learning_rate=rate)}),
            task=quadratic,
            devices=jax.devices()[:1],
        )
        own = result.losses_before["sgd"][position]
        if layout == "map":
            same_trees(alone.losses_before["sgd"], own)
        # Under vmap sums may be rounded in another order; losses that grow to infinity keep their relative error.
        np.testing.assert_allclose(own, alone.losses_before["sgd"], rtol=1e-5)

    dispatched.clear()
    result = mj.sweep(cfg, {"learning_rate": [1e30, 1e32]}, task=quadratic, chunk=10, layout=layout)
    assert result.failed["sgd"].all()
    assert [len(on) for _, on in dispatched] == [2, 0, 0, 0]
    assert np.isnan(result.train_loss["sgd"]).all()
