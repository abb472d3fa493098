"""One iteration: what every optimizer, dtype, metric and schedule does in the step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.results.record import Run
from momentum_jax.space import Trial
from momentum_jax.training.groups import group_runs
from tests.training.small import PAIR, quadratic_task, small

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
    mj.OptimizerConfig("normalized_momentum", learning_rate=0.01, transported=True),
    mj.OptimizerConfig("yellowfin", smoothing=0.9, clip=True),
    mj.OptimizerConfig("dana", learning_rate=0.05, gamma3=0.01),
]
PRESETS = [
    mj.OptimizerConfig("accelerated_sgd", learning_rate=0.05, gamma=0.5, alpha=0.9, beta=0.1),
    mj.OptimizerConfig("accsgd", learning_rate=0.02),
    mj.OptimizerConfig("mass", learning_rate=0.05, eta2=0.01),
    mj.OptimizerConfig("synthesized_nesterov", learning_rate=0.05, beta1=0.9, beta2=0.5),
    mj.OptimizerConfig("primal_averaging", learning_rate=0.5),
    mj.OptimizerConfig("mars", learning_rate=0.5, beta1=DEMON),
    mj.OptimizerConfig("grokfast", learning_rate=0.05),
    mj.OptimizerConfig("outer_nesterov", learning_rate=0.05),
]


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


WARMUP = mj.Schedule("warmup_cosine", peak_value=0.3, warmup_steps=5, decay_steps=100)
MORE = [
    mj.OptimizerConfig("optax.adamw", learning_rate=0.01, weight_decay=1e-4),
    mj.OptimizerConfig("optax.lion", learning_rate=0.003),
    mj.OptimizerConfig("optax.signum", learning_rate=0.003),
    mj.OptimizerConfig(
        lambda rate: optax.chain(optax.ema(0.5, debias=False), optax.scale_by_learning_rate(rate)), rate=0.1
    ),
    mj.OptimizerConfig("optax.lbfgs"),
    mj.OptimizerConfig("optax.contrib.muon", learning_rate=0.01),
    mj.OptimizerConfig("optax.contrib.ademamix", learning_rate=0.01),
    mj.OptimizerConfig("optax.contrib.prodigy", learning_rate=1.0),
]


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize(
    "optimizer",
    [
        mj.OptimizerConfig("optax.polyak_sgd", max_learning_rate=0.1),
        mj.OptimizerConfig("optax.contrib.schedule_free_sgd", learning_rate=0.5),
        mj.OptimizerConfig("optax.sgd", learning_rate=WARMUP),
        mj.OptimizerConfig(lambda rate: optax.chain(optax.clip(1.0), mj.momentum(rate, 0.5)), rate=0.1),
        *(pytest.param(optimizer, marks=pytest.mark.exhaustive) for optimizer in MORE),
    ],
    ids=lambda optimizer: optimizer.name_text,
)
def test_what_optax_has_trains_by_name_and_a_factory_by_itself(optimizer):
    result = mj.train(small(optimizers={"it": optimizer}, iterations=100))
    assert result.losses_before["it"][0, -5:].mean() < 0.8 * result.losses_before["it"][0, 0]
    assert not result.failed["it"].any()


def test_a_step_of_every_method_of_this_package_can_be_made_in_a_config():
    assert {optimizer.name for optimizer in OWN + PRESETS} == set(mj.optimizers.available())
    cfg = small(optimizers={str(i): optimizer for i, optimizer in enumerate(OWN + PRESETS)})
    runs = [Run(label, 0, Trial(optimizer, 16), 0) for label, optimizer in cfg.optimizers.items()]
    groups = group_runs(cfg, quadratic_task(), {}, runs, loss_after=True)
    assert [group.runs for group in groups] == [(run,) for run in runs]


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_method_of_this_package_trains_by_name(dtype):
    optimizers = {str(i): optimizer for i, optimizer in enumerate(OWN)}
    result = mj.train(small(optimizers=optimizers, iterations=100, dtype=dtype))
    for label in optimizers:
        assert result.losses_before[label][0, -5:].mean() < 0.8 * result.losses_before[label][0, 0]
        assert not result.failed[label].any()
    assert result.table().column("betas").to_pylist()[5] == [0, 0.9]


@pytest.mark.usefixtures("compiled_quickly")
def test_schedule_free_is_evaluated_at_its_average():
    optimizer = mj.OptimizerConfig("optax.contrib.schedule_free_sgd", learning_rate=0.5)
    result = mj.train(
        small(optimizers={"it": optimizer}),
        task=quadratic_task(),
        metrics={
            "y": lambda params, state, grads: params["w"],
            "z": lambda params, state, grads: state.z["w"],
        },
    )
    y, z = (result.metrics[name]["it"][0, -1] for name in "yz")
    # Defazio et al. 2024: y = (1 − β)·z + β·x with Optax's default β = 0.9, so x = (y − 0.1·z)/0.9.
    np.testing.assert_allclose(result.params["it"]["w"][0], (y - 0.1 * z) / 0.9, atol=1e-6)


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


@pytest.mark.usefixtures("compiled_quickly")
def test_schedule_free_in_bfloat16_is_evaluated_beside_others():
    free = mj.OptimizerConfig("optax.contrib.schedule_free_sgd", learning_rate=0.1)
    result = mj.train(small(dtype="bfloat16", optimizers={"sgd": PAIR["sgd"], "free": free}))
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(result.params)} == {"bfloat16"}


@pytest.mark.usefixtures("compiled_quickly")
def test_a_partial_is_a_factory_too(tmp_path):
    factory = functools.partial(optax.sgd, momentum=0.9)
    cfg = small(optimizers={"it": mj.OptimizerConfig(factory, learning_rate=0.1)})
    result = mj.train(cfg)
    result.save(tmp_path)
    assert mj.Result.load(tmp_path) == result
    with pytest.raises(InputError, match="nothing is imported by a name"):
        mj.train(mj.Result.load(tmp_path).config)
