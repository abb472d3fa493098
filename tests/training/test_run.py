"""`make_run`, the pure function of one run: `train` gives its bits, and it can be vmapped and differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.optimizers import registry
from momentum_jax.tasks import image_classification
from momentum_jax.training import make_run
from momentum_jax.training.sampling import numerics
from momentum_jax.training.validate import traced_arrays
from tests.compiling import jit
from tests.training.small import PAIR, quadratic_task, same_trees, small

SCHEDULED = mj.OptimizerConfig(
    "nesterov", learning_rate=mj.Schedule("warmup_cosine", peak_value=0.1, warmup_steps=5, decay_steps=100)
)


@pytest.mark.parametrize(
    ("optimizer", "changes"),
    [
        (PAIR["momentum"], {}),
        pytest.param(PAIR["momentum"], {"loss_after": False}, marks=pytest.mark.exhaustive),
        pytest.param(PAIR["momentum"], {"dtype": "float64"}, marks=pytest.mark.exhaustive),
        pytest.param(SCHEDULED, {"sampling": "epochs"}, marks=pytest.mark.exhaustive),
        pytest.param(PAIR["sgd"], {"dtype": "bfloat16"}, marks=pytest.mark.exhaustive),
        pytest.param(mj.OptimizerConfig("optax.adam", learning_rate=0.01), {}, marks=pytest.mark.exhaustive),
    ],
    ids=str,
)
def test_train_gives_the_bits_of_the_pure_function(optimizer, changes):
    cfg = small(seeds=(3, 5), optimizers={"it": optimizer}, **changes)
    metrics = {"norm": lambda params, state, grads: jnp.sum(grads["params"]["Dense_0"]["bias"] ** 2)}
    result = mj.train(cfg, metrics=metrics, chunk=7)
    task = image_classification(mj.load_dataset(cfg.dataset), hidden_sizes=cfg.hidden_sizes)
    run = make_run(
        task,
        optimizer,
        iterations=cfg.iterations,
        batch_size=cfg.batch_size,
        sampling=cfg.sampling,
        dtype=cfg.dtype,
        metrics=metrics,
        loss_after=cfg.loss_after is not False,
    )
    with numerics(cfg.dtype):
        alone = jax.jit(run, compiler_options={"xla_cpu_multi_thread_eigen": False})
        hyperparameters = traced_arrays(registry.split(optimizer)[1])
        trained = jax.device_get(alone(hyperparameters, jnp.uint32(5), (task.train, task.test)))
    own = {name: by_label["it"][1, -1] for name, by_label in result.evaluations.items()}
    same_trees(trained.history.loss_before, result.losses_before["it"][1])
    assert (trained.history.loss is None) == (cfg.loss_after is False)
    if trained.history.loss is not None:
        same_trees(trained.history.loss, result.losses["it"][1])
    same_trees(trained.history.metrics["norm"], result.metrics["norm"]["it"][1])
    same_trees(trained.params, jax.tree.map(lambda p: p[1], result.params["it"]))
    same_trees(trained.evaluation, own)


def test_a_grid_of_hyperparameters_and_seeds_is_one_vmap():
    run = make_run(quadratic_task(), PAIR["momentum"], iterations=30, batch_size=16)
    rates, seeds = jnp.array([0.01, 0.1]), jnp.arange(3, dtype=jnp.uint32)

    def over_seeds(rate):
        return jax.vmap(lambda seed: run({"learning_rate": rate, "momentum": jnp.float32(0.9)}, seed))(seeds)

    trained = jit(jax.vmap(over_seeds))(rates)
    optimizers = {
        str(i): mj.OptimizerConfig("momentum", learning_rate=float(r), momentum=0.9) for i, r in enumerate(rates)
    }
    result = mj.train(small(seeds=3, optimizers=optimizers), task=quadratic_task())
    for i in range(2):
        # float32; a vmap may add up in another order.
        np.testing.assert_allclose(trained.history.loss_before[i], result.losses_before[str(i)], rtol=1e-5)
        np.testing.assert_allclose(trained.evaluation["train_loss"][i], result.train_loss[str(i)], rtol=1e-5)


def test_it_can_be_differentiated_with_respect_to_a_hyperparameter():
    run = make_run(quadratic_task(), PAIR["sgd"], iterations=5, batch_size=16)

    def final_loss(rate):
        return run({"learning_rate": rate}, jnp.uint32(0)).evaluation["train_loss"]

    slope, compiled = jit(jax.grad(final_loss))(0.1), jit(final_loss)
    # float32 differences over ±1e-2: the third derivative and the rounding are both some 1e-3 of the slope.
    np.testing.assert_allclose(slope, (compiled(0.11) - compiled(0.09)) / 0.02, rtol=2e-2)


def test_it_can_be_differentiated_with_respect_to_what_the_loss_closes_over():
    """The oracle is the closed form: after n steps of SGD on (p − s)²/2 from 0, p = s·(1 − (1 − η)ⁿ)."""

    def end(s):
        task = mj.Task(lambda key: jnp.zeros([]), lambda p, batch: ((p - s) ** 2).mean() / 2, np.zeros(4, np.float32))
        run = make_run(task, mj.OptimizerConfig("sgd", learning_rate=0.1), iterations=5, batch_size=2)
        return run({"learning_rate": jnp.float32(0.1)}, jnp.uint32(0)).params

    value, slope = jit(jax.value_and_grad(end))(jnp.float32(3))
    # A few float32 roundings.
    np.testing.assert_allclose([value, slope], [3 * (1 - 0.9**5), 1 - 0.9**5], rtol=1e-6)
