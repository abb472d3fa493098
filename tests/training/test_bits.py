"""The same run gives the same bits in whatever company, on any devices, in any pieces."""

import dataclasses
import hashlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import momentum_jax as mj
from tests.training.small import DATASET, PAIR, same_bits, small

IN_ANOTHER_PROCESS = """
import sys, hashlib, jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
import momentum_jax as mj
result = mj.train(mj.Config(dataset=sys.argv[2], hidden_sizes=(10,), iterations=30, batch_size=16, seeds=2, optimizers={
    "momentum": mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=0.9)}))
kernel = result.params["momentum"]["params"]["Dense_0"]["kernel"]
print(hashlib.sha256(result.losses["momentum"].tobytes() + kernel.tobytes()).hexdigest())
"""


@pytest.mark.parametrize(
    ("chunk", "sampling"),
    [
        (1, "with_replacement"),
        pytest.param(29, "with_replacement", marks=pytest.mark.exhaustive),
        pytest.param(1, "epochs", marks=pytest.mark.exhaustive),
        pytest.param(7, "epochs", marks=pytest.mark.exhaustive),
        pytest.param(7, "with_replacement", marks=pytest.mark.exhaustive),
        pytest.param(29, "epochs", marks=pytest.mark.exhaustive),
    ],
)
def test_the_length_of_a_chunk_does_not_change_a_bit(chunk, sampling):
    cfg = small(sampling=sampling, optimizers={"momentum": PAIR["momentum"]})
    same_bits(mj.train(cfg, chunk=chunk), mj.train(cfg, chunk=100))


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"activation": "sigmoid", "batch_size": 1}, marks=pytest.mark.exhaustive),
        pytest.param({"activation": "tanh", "l2": 0.01}, marks=pytest.mark.exhaustive),
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


@pytest.mark.usefixtures("compiled")
def test_evaluating_along_the_way_does_not_change_a_bit():
    often, once = mj.train(small(evaluate_every=13)), mj.train(small())
    same_bits(dataclasses.replace(often, evaluations=once.evaluations), once)
    assert often.evaluation_iterations.tolist() == [13, 26, 30]
    for name, by_label in often.evaluations.items():
        for label, values in by_label.items():
            assert values.shape == (1, 3)
            assert values[0, -1] == once.evaluations[name][label][0, -1]


@pytest.mark.usefixtures("compiled")
def test_one_device_and_two_give_the_same_bits():
    cfg = small(seeds=3)
    same_bits(mj.train(cfg, devices=jax.devices()[:1]), mj.train(cfg, devices=jax.devices()[:2]))


@pytest.mark.usefixtures("compiled")
def test_a_seed_has_the_same_bits_alone_and_among_ten():
    ten = mj.train(small(seeds=10))
    alone = mj.train(small(seeds=(7,)))
    for label in PAIR:
        assert ten.losses[label][7].tobytes() == alone.losses[label][0].tobytes()
        assert ten.train_loss[label][7] == alone.train_loss[label][0]
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[7], b[0]), ten.params[label], alone.params[label])


@pytest.mark.exhaustive
def test_the_tutorials_network_too_has_the_same_bits_alone_in_company_and_in_pieces():
    tutorial = {"iterations": 40, "optimizers": {"momentum": mj.OptimizerConfig("momentum", learning_rate=0.01)}}
    company = mj.train(mj.Config(seeds=3, **tutorial), chunk=100)
    alone = mj.train(mj.Config(seeds=(1,), **tutorial), chunk=7, devices=jax.devices()[:1])
    assert company.losses["momentum"][1].tobytes() == alone.losses["momentum"][0].tobytes()
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a[1], b[0]), company.params["momentum"], alone.params["momentum"]
    )


@pytest.mark.usefixtures("compiled")
def test_an_optimizer_has_the_same_bits_alone_and_beside_others():
    alone = mj.train(small(optimizers={"momentum": PAIR["momentum"]}))
    beside = mj.train(small(optimizers={**PAIR, "faster": mj.OptimizerConfig("momentum", learning_rate=0.3)}))
    assert alone.losses["momentum"].tobytes() == beside.losses["momentum"].tobytes()


@pytest.mark.usefixtures("compiled")
def test_the_ambient_x64_setting_does_not_change_a_bit():
    with jax.enable_x64(True):
        with_x64 = mj.train(small())
        batches = mj.batch_indices(small(), 0)
    same_bits(with_x64, mj.train(small()))
    np.testing.assert_array_equal(batches, mj.batch_indices(small(), 0))
    assert batches.dtype == np.int32


@pytest.mark.exhaustive
@pytest.mark.parametrize("devices", ["2", "3"])
def test_another_process_with_other_devices_gives_the_same_bits(devices):
    result = mj.train(small(seeds=2, optimizers={"momentum": PAIR["momentum"]}))
    kernel = result.params["momentum"]["params"]["Dense_0"]["kernel"]
    expected = hashlib.sha256(result.losses["momentum"].tobytes() + kernel.tobytes()).hexdigest()
    command = [sys.executable, "-W", "ignore", "-c", IN_ANOTHER_PROCESS, devices, DATASET]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == expected


@pytest.mark.usefixtures("compiled")
def test_the_draws_do_not_depend_on_jaxs_ambient_settings_nor_does_debugging_stop_a_run():
    expected = mj.train(small())
    with jax.threefry_partitionable(False), jax.debug_nans(True):
        same_bits(mj.train(small()), expected)
        np.testing.assert_array_equal(mj.batch_indices(small(), 0), mj.batch_indices(small(), 0))
        wild = mj.train(small(optimizers={"wild": mj.OptimizerConfig("sgd", learning_rate=1e20)}))
    assert wild.failed["wild"].all()
