"""Batches and initial weights: functions of the seed alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from tests.training.small import PAIR, quadratic_task, same_bits, small

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def test_the_initial_weights_are_hes_and_the_same_numbers_in_every_dtype():
    weights = {
        dtype: mj.initial_params(mj.Config(dtype=dtype), 0, "sgd")["params"]
        for dtype in ("float32", "float64", "bfloat16")
    }
    kernel = np.asarray(weights["float32"]["Dense_0"]["kernel"])
    # 78,400 normal draws: their standard deviation is known to 0.25 % (one sigma), and none is truncated at 2 sigma.
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / 784), rtol=0.015)
    assert np.abs(kernel).max() > 4 * np.sqrt(2 / 784)
    assert not np.any(weights["float32"]["Dense_0"]["bias"])
    np.testing.assert_array_equal(np.asarray(weights["float64"]["Dense_0"]["kernel"]), kernel.astype(np.float64))
    np.testing.assert_array_equal(weights["bfloat16"]["Dense_0"]["kernel"], jnp.asarray(kernel).astype(jnp.bfloat16))


@pytest.mark.parametrize(("weight_init", "deviation"), [("xavier", np.sqrt(1 / 784)), (0.01, 0.01)])
def test_the_other_initialisations_have_their_standard_deviation(weight_init, deviation):
    params = mj.initial_params(mj.Config(hidden_sizes=(100,), weight_init=weight_init), 0, "sgd")
    np.testing.assert_allclose(np.std(params["params"]["Dense_0"]["kernel"]), deviation, rtol=0.015)


def test_all_optimizers_of_a_seed_see_the_same_batches_and_weights():
    result = mj.train(small(seeds=2))
    np.testing.assert_array_equal(result.losses_before["sgd"][:, 0], result.losses_before["momentum"][:, 0])


def test_without_shared_init_each_label_draws_its_own_weights_whatever_its_position():
    task = quadratic_task()
    one, other = (
        mj.train(small(shared_init=False, optimizers=dict(order)), task=task)
        for order in (PAIR.items(), reversed(PAIR.items()))
    )
    for label in PAIR:
        assert one.losses[label].tobytes() == other.losses[label].tobytes()
    assert one.losses_before["sgd"][0, 0] != one.losses_before["momentum"][0, 0]
    own = mj.initial_params(small(shared_init=False), 0, "momentum")
    assert not np.array_equal(
        own["params"]["Dense_0"]["kernel"], mj.initial_params(small(), 0, "momentum")["params"]["Dense_0"]["kernel"]
    )


def test_an_epoch_shows_every_example_once():
    task = mj.Task(init=lambda key: {"w": jnp.zeros(1)}, loss=lambda p, x: p["w"].sum(), train=np.arange(50.0))
    cfg = mj.Config(iterations=12, batch_size=16, sampling="epochs")
    batches = mj.batch_indices(cfg, 0, task=task)
    epochs = batches.reshape(4, 48)
    for epoch in epochs:
        assert len(set(epoch.tolist())) == 48
    assert not np.array_equal(epochs[0], epochs[1])


def test_draws_with_replacement_are_uniform_and_independent():
    batches = mj.batch_indices(mj.Config(iterations=2000), 0)
    # 256,000 draws over 10 bins of 6,000 examples: 25,600 each, standard deviation 152.
    counts = np.bincount(batches.reshape(-1) // 6000, minlength=10)
    assert np.abs(counts - 25_600).max() < 5 * 152
    assert len({batch.tobytes() for batch in batches}) == 2000


def test_ones_own_init_draws_the_same_numbers_in_every_dtype():
    task = quadratic_task()
    single, double = (mj.initial_params(small(dtype=d), 0, "sgd", task=task)["w"] for d in ("float32", "float64"))
    np.testing.assert_array_equal(np.asarray(single, np.float64), np.asarray(double))


def test_jaxs_settings_for_debugging_end_no_training_and_no_path():
    wild = mj.OptimizerConfig("sgd", learning_rate=1e30)
    cfg = small(optimizers={"wild": wild, "sgd": PAIR["sgd"]})
    expected = mj.train(cfg, task=quadratic_task())
    with jax.debug_infs(True), jax.debug_nans(True):
        result = mj.train(cfg, task=quadratic_task())
        path = mj.trajectory([wild, PAIR["sgd"]], "valley")
        swept = mj.sweep(cfg, {"learning_rate": [0.1, 1e30]}, task=quadratic_task())
    assert result.failed["wild"].all()
    same_bits(result, expected)
    assert path.diverged.tolist() == [True, False]
    assert swept.failed["sgd"].tolist() == [[False], [True]]
    with jax.transfer_guard("disallow"):
        same_bits(mj.train(cfg, task=quadratic_task()), expected)
