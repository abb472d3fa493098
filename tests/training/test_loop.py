"""`train` against independent oracles, and its promise: the same run gives the same bits in whatever company."""

import dataclasses
import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy_tutorial import MiniSGD, Momentum
from numpy_tutorial import train as train_in_numpy

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from tests.compilations import compilations

SMALL = {"hidden_sizes": (10,), "iterations": 30, "batch_size": 16}
PAIR = {
    "sgd": mj.OptimizerConfig("sgd", learning_rate=0.1),
    "momentum": mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=0.9),
}
TUTORIAL = mj.Config().optimizers
# The order gives each a device of its own, and momentum the same as beside sgd, for which it is compiled already.
OPTAX_AND_MOMENTUM = {"optax": TUTORIAL["optax"], "momentum": TUTORIAL["momentum"]}


WARMUP = mj.Schedule("warmup_cosine", peak_value=0.3, warmup_steps=5, decay_steps=100)
CONSTANT = mj.Schedule("constant", value=1.5)


def with_a_key():
    return optax.GradientTransformation(lambda params: jax.random.key(0), lambda g, state, params=None: (g, state))


def small(**changes):
    return mj.Config(**{**SMALL, "optimizers": PAIR, **changes})


def same_bits(a, b):
    """Histories, evaluations and parameters, to the last bit."""
    jax.tree.map(
        lambda x, y: np.testing.assert_array_equal(x.view(np.uint8), y.view(np.uint8)),
        [a.losses, a.losses_before, a.metrics, a.evaluations, a.params],
        [b.losses, b.losses_before, b.metrics, b.evaluations, b.params],
    )


@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_losses_and_weights_are_those_of_the_tutorials_loop_in_numpy(mnist, l2):
    optimizers = {"sgd": TUTORIAL["sgd"], "momentum": TUTORIAL["momentum"]}
    cfg = mj.Config(iterations=100, dtype="float64", seeds=(3,), l2=l2, optimizers=optimizers)
    result = mj.train(cfg)
    layers = mj.initial_params(cfg, 3, "momentum")["params"]
    params = {}
    for i in range(5):
        params[f"W{i}"] = np.asarray(layers[f"Dense_{i}"]["kernel"])
        params[f"b{i}"] = np.asarray(layers[f"Dense_{i}"]["bias"])
    networks, losses = train_in_numpy(
        params, mnist.x_train / 255, mnist.y_train, mj.batch_indices(cfg, 3), [MiniSGD(), Momentum()], l2
    )
    for label, network, expected in zip(("sgd", "momentum"), networks, losses, strict=True):
        # float64 on both sides: sums of up to 784 products, 100 steps. No ReLU flips at this distance.
        np.testing.assert_allclose(result.losses[label][0], expected, rtol=1e-9)
        for i in range(5):
            layer = result.params[label]["params"][f"Dense_{i}"]
            np.testing.assert_allclose(layer["kernel"][0], network[f"W{i}"], rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(layer["bias"][0], network[f"b{i}"], rtol=1e-9, atol=1e-12)


def test_in_float64_momentum_is_optax_over_the_whole_tutorial():
    result = mj.train(mj.Config(dtype="float64", optimizers=OPTAX_AND_MOMENTUM))
    for history in (result.losses, result.losses_before):
        np.testing.assert_allclose(history["momentum"], history["optax"], rtol=1e-12)


def test_in_float32_momentum_is_optax_until_rounding_flips_a_relu():
    result = mj.train(mj.Config(iterations=200, seeds=4, optimizers=OPTAX_AND_MOMENTUM))
    # The earliest flip seen over many seeds is at iteration 9; float32 rounds at 6e-8.
    np.testing.assert_allclose(result.losses["momentum"][:, :8], result.losses["optax"][:, :8], rtol=1e-6)
    # From there they are two roundings of one run: near each other, not equal.
    np.testing.assert_allclose(result.train_loss["momentum"], result.train_loss["optax"], atol=0.02)


def test_a_run_can_be_replayed_outside_from_its_batches_and_initial_weights(mnist):
    cfg = small(dtype="float64", seeds=(5,), l2=0.01, optimizers={"momentum": PAIR["momentum"]})
    result = mj.train(cfg)
    mlp = mj.MLP(hidden_sizes=(10,))
    optimizer = optax.sgd(0.1, 0.9)

    @jax.jit
    def loss(params, x, y):
        weights = [layer["kernel"] for layer in params["params"].values()]
        data_loss = optax.softmax_cross_entropy_with_integer_labels(mlp.apply(params, x / 255), y).mean()
        return data_loss + 0.5 * 0.01 * sum(jnp.sum(w**2) for w in weights)

    with jax.enable_x64(True):
        params = mj.initial_params(cfg, 5, "momentum")
        state = optimizer.init(params)
        for iteration, rows in enumerate(mj.batch_indices(cfg, 5)):
            x, y = mnist.x_train[rows].astype(np.float64), mnist.y_train[rows]
            before, grads = jax.value_and_grad(loss)(params, x, y)
            updates, state = optimizer.update(grads, state)
            params = optax.apply_updates(params, updates)
            np.testing.assert_allclose(result.losses_before["momentum"][0, iteration], before, rtol=1e-12)
            np.testing.assert_allclose(result.losses["momentum"][0, iteration], loss(params, x, y), rtol=1e-12)


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


@pytest.mark.parametrize("chunk", [1, 7, 29])
@pytest.mark.parametrize("sampling", ["with_replacement", "epochs"])
def test_the_length_of_a_chunk_does_not_change_a_bit(chunk, sampling):
    cfg = small(sampling=sampling)
    same_bits(mj.train(cfg, chunk=chunk), mj.train(cfg, chunk=100))


@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "sigmoid", "batch_size": 1},
        {"activation": "tanh", "l2": 0.01},
        {"activation": "relu", "batch_size": 1, "l2": 0.01},
    ],
    ids=str,
)
def test_steps_one_at_a_time_with_an_evaluation_after_each_have_the_same_bits(changes):
    # XLA unrolls a loop of one iteration and would fuse, and so round, the step in another way.
    optimizers = {**PAIR, "adam": mj.OptimizerConfig("optax.adam", learning_rate=0.01)}
    cfg = small(iterations=12, optimizers=optimizers, **changes)
    singly = mj.train(dataclasses.replace(cfg, evaluate_every=1))
    together = mj.train(cfg)
    assert singly.evaluation_iterations.tolist() == list(range(1, 13))
    same_bits(dataclasses.replace(singly, evaluations=together.evaluations), together)
    assert singly.train_loss == together.train_loss


@pytest.mark.usefixtures("compiled_quickly")
def test_any_pattern_of_chunks_and_evaluations_needs_one_program():
    cfg = small(iterations=60, optimizers={"momentum": PAIR["momentum"]})
    plain = compilations(lambda: mj.train(dataclasses.replace(cfg, hidden_sizes=(14,))))
    # Chunk ends at 13, 20, 26, 39, 40, …: many lengths of chunk.
    pattern = compilations(lambda: mj.train(dataclasses.replace(cfg, hidden_sizes=(15,), evaluate_every=13), chunk=20))
    assert pattern <= plain


def test_evaluating_along_the_way_does_not_change_a_bit():
    often, once = mj.train(small(evaluate_every=13)), mj.train(small())
    same_bits(dataclasses.replace(often, evaluations=once.evaluations), once)
    assert often.evaluation_iterations.tolist() == [13, 26, 30]
    for name, by_label in often.evaluations.items():
        for label, values in by_label.items():
            assert values.shape == (1, 3)
            assert values[0, -1] == once.evaluations[name][label][0, -1]


def test_one_device_and_two_give_the_same_bits():
    cfg = small(seeds=3)
    same_bits(mj.train(cfg, devices=jax.devices()[:1]), mj.train(cfg, devices=jax.devices()[:2]))


def test_a_seed_has_the_same_bits_alone_and_among_ten():
    ten = mj.train(small(seeds=10))
    alone = mj.train(small(seeds=(7,)))
    for label in PAIR:
        assert ten.losses[label][7].tobytes() == alone.losses[label][0].tobytes()
        assert ten.train_loss[label][7] == alone.train_loss[label][0]
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[7], b[0]), ten.params[label], alone.params[label])


def test_the_tutorials_network_too_has_the_same_bits_alone_in_company_and_in_pieces():
    tutorial = {"iterations": 40, "optimizers": {"momentum": mj.OptimizerConfig("momentum", learning_rate=0.01)}}
    company = mj.train(mj.Config(seeds=3, **tutorial), chunk=100)
    alone = mj.train(mj.Config(seeds=(1,), **tutorial), chunk=7, devices=jax.devices()[:1])
    assert company.losses["momentum"][1].tobytes() == alone.losses["momentum"][0].tobytes()
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a[1], b[0]), company.params["momentum"], alone.params["momentum"]
    )


def test_an_optimizer_has_the_same_bits_alone_and_beside_others():
    alone = mj.train(small(optimizers={"momentum": PAIR["momentum"]}))
    beside = mj.train(small(optimizers={**PAIR, "faster": mj.OptimizerConfig("momentum", learning_rate=0.3)}))
    assert alone.losses["momentum"].tobytes() == beside.losses["momentum"].tobytes()


def test_the_ambient_x64_setting_does_not_change_a_bit():
    with jax.enable_x64(True):
        with_x64 = mj.train(small())
        batches = mj.batch_indices(small(), 0)
    same_bits(with_x64, mj.train(small()))
    np.testing.assert_array_equal(batches, mj.batch_indices(small(), 0))
    assert batches.dtype == np.int32


IN_ANOTHER_PROCESS = """
import sys, hashlib, jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
import momentum_jax as mj
result = mj.train(mj.Config(hidden_sizes=(10,), iterations=30, batch_size=16, seeds=2, optimizers={
    "momentum": mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=0.9)}))
kernel = result.params["momentum"]["params"]["Dense_0"]["kernel"]
print(hashlib.sha256(result.losses["momentum"].tobytes() + kernel.tobytes()).hexdigest())
"""


def test_another_process_with_other_devices_gives_the_same_bits():
    result = mj.train(small(seeds=2, optimizers={"momentum": PAIR["momentum"]}))
    kernel = result.params["momentum"]["params"]["Dense_0"]["kernel"]
    expected = hashlib.sha256(result.losses["momentum"].tobytes() + kernel.tobytes()).hexdigest()
    for devices in ("2", "3"):
        command = [sys.executable, "-W", "ignore", "-c", IN_ANOTHER_PROCESS, devices]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == expected


@pytest.mark.usefixtures("compiled_quickly")
def test_other_hyperparameters_and_seeds_compile_nothing_new():
    def run(rate, momentum, seed, decay):
        schedule = mj.Schedule("step_decay", init_value=decay, transition_steps=10, decay_rate=0.5)
        optimizers = {
            "momentum": mj.OptimizerConfig("momentum", learning_rate=rate, momentum=momentum),
            "scheduled": mj.OptimizerConfig("momentum", learning_rate=schedule, momentum=momentum),
            "adam": mj.OptimizerConfig("optax.adam", learning_rate=rate, b1=momentum),
        }
        return mj.train(small(seeds=(seed,), hidden_sizes=(11,), optimizers=optimizers))

    assert compilations(lambda: run(0.1, 0.9, 0, 0.1)) > 0
    assert compilations(lambda: run(0.01, 0.5, 1, 0.2)) == 0


@pytest.mark.usefixtures("compiled_quickly")
def test_optimizers_of_one_structure_share_one_program():
    rates = {f"rate {rate}": mj.OptimizerConfig("momentum", learning_rate=rate) for rate in (0.1, 0.2, 0.3, 0.4)}
    few = compilations(lambda: mj.train(small(hidden_sizes=(12,), optimizers={"a": rates["rate 0.1"]})))
    many = compilations(lambda: mj.train(small(hidden_sizes=(13,), optimizers=rates)))
    # Eager initialisation compiles small operations of its own; the chunk, the draw and the evaluation are one each.
    assert many <= few


def test_all_optimizers_of_a_seed_see_the_same_batches_and_weights():
    result = mj.train(small(seeds=2))
    np.testing.assert_array_equal(result.losses_before["sgd"][:, 0], result.losses_before["momentum"][:, 0])


def test_without_shared_init_each_label_draws_its_own_weights_whatever_its_position():
    one, other = (
        mj.train(small(shared_init=False, optimizers=dict(order))) for order in (PAIR.items(), reversed(PAIR.items()))
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


def test_evaluations_are_over_the_full_sets(mnist):
    result = mj.train(small(seeds=2))
    for i in range(2):
        layers = jax.tree.map(lambda p, i=i: p[i].astype(np.float64), result.params["sgd"])["params"]
        for x, y, loss in ((mnist.x_train, mnist.y_train, "train_loss"), (mnist.x_test, mnist.y_test, "test_loss")):
            hidden = np.maximum(x / 255 @ layers["Dense_0"]["kernel"] + layers["Dense_0"]["bias"], 0)
            logits = hidden @ layers["Dense_1"]["kernel"] + layers["Dense_1"]["bias"]
            logits -= logits.max(axis=1, keepdims=True)
            log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            # float32 against float64: each example rounds at some 1e-7, and so does the mean over slices.
            np.testing.assert_allclose(getattr(result, loss)["sgd"][i], -log_p[np.arange(len(y)), y].mean(), rtol=2e-6)
        assert abs(result.test_accuracy["sgd"][i] - np.mean(logits.argmax(axis=1) == y)) < 3e-4


def test_a_diverging_run_is_recorded_and_its_neighbours_are_untouched():
    wild = {**PAIR, "wild": mj.OptimizerConfig("sgd", learning_rate=1e20)}
    result, tame = mj.train(small(optimizers=wild)), mj.train(small())
    assert result.failed["wild"].all()
    first = result.diverged_at["wild"][0]
    assert np.isfinite(result.losses["wild"][0, :first]).all()
    assert not (np.isfinite(result.losses["wild"][0, first]) and np.isfinite(result.losses_before["wild"][0, first]))
    for label in PAIR:
        assert result.losses[label].tobytes() == tame.losses[label].tobytes()
        assert result.diverged_at[label].tolist() == [-1]
        assert not result.failed[label].any()


@pytest.mark.usefixtures("compiled_quickly")
def test_a_dead_network_has_failed_although_its_loss_is_finite():
    # Steps this large push every ReLU of a narrow network below zero; the output is constant from there.
    result = mj.train(small(hidden_sizes=(2, 2), optimizers={"dead": mj.OptimizerConfig("sgd", learning_rate=50.0)}))
    assert np.isfinite(result.losses["dead"]).all()
    assert result.diverged_at["dead"].tolist() == [-1]
    assert result.failed["dead"].tolist() == [True]


def quadratic_task():
    def init(key):
        return {"w": jax.random.normal(key, [3])}

    def loss(params, batch):
        return jnp.mean(jnp.sum((params["w"][None] - batch) ** 2, axis=-1)) / 2

    rows = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    return mj.Task(init=init, loss=loss, train=rows, test=rows[:50])


@pytest.mark.usefixtures("compiled_quickly")
def test_a_task_of_ones_own_trains_and_is_evaluated_by_its_loss():
    task = quadratic_task()
    result = mj.train(small(iterations=300), task=task)
    best = float(np.mean(np.sum((task.train - task.train.mean(axis=0)) ** 2, axis=1)) / 2)
    np.testing.assert_allclose(result.train_loss["sgd"], best, rtol=0.02)
    assert set(result.evaluations) == {"train_loss", "test_loss"}
    assert result.test_accuracy == {}
    assert result.table().column("test_accuracy").null_count == 2


@pytest.mark.usefixtures("compiled_quickly")
def test_metrics_see_parameters_state_and_gradients_of_every_iteration():
    cfg = small(optimizers={"momentum": PAIR["momentum"]}, seeds=2)
    result = mj.train(
        cfg,
        task=quadratic_task(),
        metrics={
            "position": lambda params, state, grads: params["w"],
            "speed": lambda params, state, grads: jnp.linalg.norm(state.velocity["w"]),
            "gradient": lambda params, state, grads: grads["w"],
        },
    )
    position, gradient = result.metrics["position"]["momentum"], result.metrics["gradient"]["momentum"]
    assert position.shape == (2, 30, 3)
    # The velocity is the last move, and v' = 0.9·v − 0.1·g; float32.
    moves = np.diff(position, axis=1)
    np.testing.assert_allclose(
        result.metrics["speed"]["momentum"][:, 1:], np.linalg.norm(moves, axis=-1), rtol=1e-3, atol=1e-6
    )
    np.testing.assert_allclose(moves[:, 1:], 0.9 * moves[:, :-1] - 0.1 * gradient[:, 2:], atol=1e-5)
    np.testing.assert_array_equal(result.params["momentum"]["w"], position[:, -1])


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_parameters_and_histories_have_the_dtype_asked_for(dtype):
    result = mj.train(small(dtype=dtype))
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(result.params)} == {dtype}
    assert result.losses["sgd"].dtype == (np.float64 if dtype == "float64" else np.float32)
    reference = mj.train(small())
    # bfloat16 has 8 bits of precision; after 30 steps the loss is right to a few percent.
    tolerance = 1e-4 if dtype == "float64" else 0.1
    np.testing.assert_allclose(result.losses["sgd"], reference.losses["sgd"], rtol=tolerance)


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize(
    "optimizer",
    [
        mj.OptimizerConfig("optax.sgd", learning_rate=0.1, momentum=0.9),
        mj.OptimizerConfig("optax.adam", learning_rate=0.01),
    ],
)
def test_optax_keeps_its_state_in_bfloat16_through_the_scan(optimizer):
    result = mj.train(small(dtype="bfloat16", optimizers={"it": optimizer}))
    assert result.losses["it"][0, -1] < result.losses["it"][0, 0]


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize(
    "optimizer",
    [
        mj.OptimizerConfig("optax.adamw", learning_rate=0.01, weight_decay=1e-4),
        mj.OptimizerConfig("optax.lion", learning_rate=0.003),
        mj.OptimizerConfig("optax.signum", learning_rate=0.003),
        mj.OptimizerConfig(
            lambda rate: optax.chain(optax.ema(0.5, debias=False), optax.scale_by_learning_rate(rate)), rate=0.1
        ),
        mj.OptimizerConfig("optax.polyak_sgd", max_learning_rate=0.1),
        mj.OptimizerConfig("optax.lbfgs"),
        mj.OptimizerConfig("optax.contrib.schedule_free_sgd", learning_rate=0.5),
        mj.OptimizerConfig("optax.contrib.muon", learning_rate=0.01),
        mj.OptimizerConfig("optax.contrib.ademamix", learning_rate=0.01),
        mj.OptimizerConfig("optax.contrib.prodigy", learning_rate=1.0),
        mj.OptimizerConfig(
            "optax.sgd", learning_rate=mj.Schedule("warmup_cosine", peak_value=0.3, warmup_steps=5, decay_steps=100)
        ),
        mj.OptimizerConfig(lambda rate: optax.chain(optax.clip(1.0), mj.momentum(rate, 0.5)), rate=0.1),
    ],
    ids=lambda optimizer: optimizer.name_text,
)
def test_what_optax_has_trains_by_name_and_a_factory_by_itself(optimizer):
    result = mj.train(small(optimizers={"it": optimizer}, iterations=100))
    assert result.losses_before["it"][0, -5:].mean() < 0.8 * result.losses_before["it"][0, 0]
    assert not result.failed["it"].any()


DEMON = mj.Schedule("demon", init_value=0.9, decay_steps=100)
OWN = [
    mj.OptimizerConfig("sgd", learning_rate=0.1, weight_decay=1e-4),
    mj.OptimizerConfig("momentum", learning_rate=0.02, dampening=0.5, convention="outside", weight_decay=1e-4),
    mj.OptimizerConfig("nesterov", learning_rate=0.05, momentum=DEMON, decoupled_weight_decay=True, weight_decay=1e-3),
    mj.OptimizerConfig("momentum", learning_rate=0.02, momentum=mj.Schedule("sutskever"), convention="corrected"),
    mj.OptimizerConfig("qhm", learning_rate=0.2, accumulator_dtype="float32"),
    mj.OptimizerConfig("aggmo", learning_rate=0.02, betas=(0, 0.9)),
    mj.OptimizerConfig("adaptive_restart", learning_rate=0.05),
    mj.OptimizerConfig("adaptive_restart", learning_rate=0.05, q=0.1, scheme="function"),
]


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_method_of_this_package_trains_by_name(dtype):
    assert {optimizer.name for optimizer in OWN} == set(mj.optimizers.available())
    optimizers = {str(i): optimizer for i, optimizer in enumerate(OWN)}
    result = mj.train(small(optimizers=optimizers, iterations=100, dtype=dtype))
    for label in optimizers:
        assert result.losses_before[label][0, -5:].mean() < 0.8 * result.losses_before[label][0, 0]
        assert not result.failed[label].any()
    assert result.table().column("betas").to_pylist()[5] == [0, 0.9]


@pytest.mark.usefixtures("compiled_quickly")
def test_other_numbers_in_a_tuple_compile_nothing_anew():
    def attempt(*betas):
        return mj.train(small(optimizers={"it": mj.OptimizerConfig("aggmo", learning_rate=0.02, betas=betas)}))

    attempt(0.0, 0.9)
    assert compilations(lambda: attempt(0.1, 0.8)) == 0
    assert compilations(lambda: attempt(0.1, 0.8, 0.9)) > 0


@pytest.mark.usefixtures("compiled_quickly")
def test_schedule_free_is_evaluated_at_its_average():
    optimizer = mj.OptimizerConfig("optax.contrib.schedule_free_sgd", learning_rate=0.5)
    result = mj.train(
        small(optimizers={"it": optimizer}),
        metrics={
            "y": lambda params, state, grads: params["params"]["Dense_0"]["bias"],
            "z": lambda params, state, grads: state.z["params"]["Dense_0"]["bias"],
        },
    )
    y, z = (result.metrics[name]["it"][0, -1] for name in "yz")
    # Defazio et al. 2024: y = (1 − β)·z + β·x with Optax's default β = 0.9, so x = (y − 0.1·z)/0.9.
    np.testing.assert_allclose(result.params["it"]["params"]["Dense_0"]["bias"][0], (y - 0.1 * z) / 0.9, atol=1e-6)


@pytest.mark.usefixtures("compiled_quickly")
def test_a_factory_that_branches_on_a_value_is_compiled_with_it():
    def picky(learning_rate):
        return mj.sgd(learning_rate) if learning_rate > 0.05 else mj.momentum(learning_rate)

    result = mj.train(small(optimizers={"picky": mj.OptimizerConfig(picky, learning_rate=0.1)}))
    reference = mj.train(small(optimizers={"sgd": mj.OptimizerConfig("sgd", learning_rate=0.1)}))
    np.testing.assert_allclose(result.losses["picky"], reference.losses["sgd"], rtol=1e-5)


@pytest.mark.usefixtures("compiled_quickly")
def test_a_schedule_is_followed_and_equals_its_constant_where_it_is_constant():
    constant = mj.Schedule("constant", value=0.1)
    both = mj.train(
        small(
            optimizers={
                "float": mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=0.9),
                "schedule": mj.OptimizerConfig(
                    "momentum", learning_rate=constant, momentum=mj.Schedule("constant", value=0.9)
                ),
                "stopped": mj.OptimizerConfig(
                    "sgd",
                    learning_rate=mj.Schedule("step_decay", init_value=0.1, transition_steps=10, decay_rate=1e-30),
                ),
            }
        )
    )
    np.testing.assert_allclose(both.losses["schedule"], both.losses["float"], rtol=1e-5)
    before, after = both.losses_before["stopped"][0], both.losses["stopped"][0]
    assert (before[:10] != after[:10]).all()
    np.testing.assert_allclose(before[10:], after[10:], rtol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (mj.OptimizerConfig("momentm", learning_rate=0.1), "did you mean 'momentum'?"),
        (mj.OptimizerConfig("optax.sgdd", learning_rate=0.1), "did you mean 'optax.sgd'?"),
        (mj.OptimizerConfig("optax.os.system", learning_rate=0.1), "unknown 'optax.os.system'"),
        (mj.OptimizerConfig("numpy.save", learning_rate=0.1), "unknown 'numpy.save'"),
        (mj.OptimizerConfig("os:system", learning_rate=0.1), "nothing is imported by a name"),
        (mj.OptimizerConfig("momentum", learning_rte=0.1), "did you mean 'learning_rate'?"),
        (mj.OptimizerConfig("momentum"), "needs the hyperparameter 'learning_rate'"),
        (mj.OptimizerConfig("sgd", learning_rate=0.1, momentum=0.9), "unknown 'momentum'"),
        (mj.OptimizerConfig("momentum", learning_rate=-1.0), "learning_rate must be finite and at least 0, not -1.0"),
        (mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=1), "momentum must be in [0, 1), not 1.0"),
        (mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=CONSTANT), "not 1.5"),
        (
            mj.OptimizerConfig("optax.sgd", learning_rate=0.1, momentum=mj.Schedule("constant", value=0.5)),
            "cannot train with",
        ),
        (mj.OptimizerConfig(with_a_key), "a random key"),
        (mj.OptimizerConfig("adam", learning_rate=0.1), "did you mean 'optax.adam'?"),
        (mj.OptimizerConfig(lambda: 3), "made no optax.GradientTransformation"),
    ],
)
def test_an_optimizer_that_cannot_be_is_refused_before_anything_is_compiled(optimizer, words):
    def attempt():
        with pytest.raises(InputError) as error:
            mj.train(small(optimizers={"fine": PAIR["sgd"], "odd": optimizer}))
        assert words in str(error.value)
        assert "optimizers['odd']" in str(error.value)

    assert compilations(attempt) == 0


def test_ones_own_init_draws_the_same_numbers_in_every_dtype():
    task = quadratic_task()
    single, double = (mj.initial_params(small(dtype=d), 0, "sgd", task=task)["w"] for d in ("float32", "float64"))
    np.testing.assert_array_equal(np.asarray(single, np.float64), np.asarray(double))


def test_the_draws_do_not_depend_on_jaxs_ambient_settings_nor_does_debugging_stop_a_run():
    expected = mj.train(small())
    with jax.threefry_partitionable(False), jax.debug_nans(True):
        same_bits(mj.train(small()), expected)
        np.testing.assert_array_equal(mj.batch_indices(small(), 0), mj.batch_indices(small(), 0))
        wild = mj.train(small(optimizers={"wild": mj.OptimizerConfig("sgd", learning_rate=1e20)}))
    assert wild.failed["wild"].all()


@pytest.mark.usefixtures("compiled_quickly")
def test_schedule_free_in_bfloat16_is_evaluated_beside_others():
    free = mj.OptimizerConfig("optax.contrib.schedule_free_sgd", learning_rate=0.1)
    result = mj.train(small(dtype="bfloat16", optimizers={"sgd": PAIR["sgd"], "free": free}))
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(result.params)} == {"bfloat16"}


@pytest.mark.usefixtures("compiled_quickly")
def test_hyperparameters_that_are_equal_but_not_the_same_have_programs_of_their_own():
    def factory(learning_rate, mode):
        return mj.sgd(learning_rate) if mode is True else mj.sgd(10 * learning_rate)

    both = {str(mode): mj.OptimizerConfig(factory, learning_rate=0.01, mode=mode) for mode in (True, 1)}
    result = mj.train(small(optimizers=both))
    alone = mj.train(small(optimizers={"1": both["1"]}))
    assert result.losses["1"].tobytes() == alone.losses["1"].tobytes()


@pytest.mark.usefixtures("compiled_quickly")
def test_a_partial_is_a_factory_too(tmp_path):
    factory = functools.partial(optax.sgd, momentum=0.9)
    cfg = small(optimizers={"it": mj.OptimizerConfig(factory, learning_rate=0.1)})
    result = mj.train(cfg)
    result.save(tmp_path)
    assert mj.Result.load(tmp_path) == result
    with pytest.raises(InputError, match="nothing is imported by a name"):
        mj.train(mj.Result.load(tmp_path).config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": (np.zeros([200, 3]), np.zeros(50))}, "one leading axis of examples"),
        ({"train": np.zeros([0, 3])}, "of at least 1"),
        ({"test": np.zeros([])}, "the task's test data"),
        ({"init": lambda key: {}}, "init gives no parameters"),
        ({"init": lambda key: {"n": jnp.zeros([], jnp.int32)}}, "parameter ['n'] has dtype int32"),
        ({"init": lambda key: {"z": jnp.zeros([], jnp.complex64)}}, "parameter ['z'] has dtype complex64"),
        ({"loss": lambda params, batch: batch.sum(axis=-1)}, "loss must give a scalar, not an array of shape (16,)"),
        ({"evaluate": lambda params, train, test: jnp.zeros(3)}, "evaluate must give a dict of scalars"),
        ({"evaluate": lambda params, train, test: {"train_loss": jnp.zeros(3)}}, "evaluate must give a dict"),
    ],
)
def test_a_task_that_cannot_be_trained_is_refused_before_anything_is_compiled(changes, words):
    task = dataclasses.replace(quadratic_task(), **changes)

    def attempt():
        with pytest.raises(InputError) as error:
            mj.train(small(), task=task)
        assert words in str(error.value)

    assert compilations(attempt) == 0


@pytest.mark.usefixtures("compiled_quickly")
def test_a_batch_larger_than_the_data_is_refused_in_epochs_only():
    with pytest.raises(InputError, match="batch_size must be at most the 200 training examples"):
        mj.train(small(batch_size=201, sampling="epochs"), task=quadratic_task())
    assert mj.train(small(batch_size=201), task=quadratic_task()).losses["sgd"].shape == (1, 30)


@pytest.mark.usefixtures("compiled_quickly")
def test_progress_reaches_its_end_in_both_phases():
    seen = []
    mj.train(small(), chunk=10, progress=lambda *call: seen.append(call))
    assert [call for call in seen if call[0] == "training"] == [("training", n, 30) for n in (10, 20, 30)]
    assert seen[0][0] == "compiling"


def test_ctrl_c_leaves_what_was_finished_with_the_bits_of_an_uninterrupted_run():
    whole = mj.train(small())

    def interrupt(phase, done, total):
        if phase == "training" and done == 20:
            os.kill(os.getpid(), signal.SIGINT)
            # The signal is handled at the next bytecode of the main thread, which this is.
            time.sleep(0.1)

    with pytest.raises(mj.Interrupted) as stop:
        mj.train(small(), chunk=10, progress=interrupt)
    result = stop.value.result
    assert result.iterations.tolist() == list(range(20))
    assert result.evaluation_iterations.tolist() == [20]
    for label in PAIR:
        assert result.losses[label].tobytes() == np.ascontiguousarray(whole.losses[label][:, :20]).tobytes()


def test_the_provenance_says_what_the_bits_depend_on(mnist):
    origin = mj.train(small()).provenance
    assert origin["versions"]["jaxlib"]
    assert origin["data"] == {"source": "embedded MNIST", "digest": mnist.digest}
    assert origin["platform"] == "cpu"
    assert origin["devices"] == 2
    assert set(origin["seconds"]) == {"loading", "compiling", "training", "evaluating"}
    json.dumps(origin)
