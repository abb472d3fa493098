"""Networks of Flax as tasks, against a training loop written by hand."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from tests.compiling import jit

pytestmark = pytest.mark.usefixtures("compiled_quickly")

IMAGES, LABELS = np.random.default_rng(0).normal(size=(40, 5, 5, 2)), np.arange(40, dtype=np.int32) % 3
CFG = mj.Config(
    iterations=20,
    batch_size=8,
    dtype="float64",
    seeds=(5,),
    optimizers={"momentum": mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=0.9)},
)


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), strides=2)(x))
        return nn.Dense(3)(x.reshape(len(x), -1))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        # The keys of a list in the tree of parameters are integers.
        self.layers = nnx.List([nnx.Conv(2, 4, (3, 3), strides=2, rngs=rngs), nnx.Linear(36, 3, rngs=rngs)])

    def __call__(self, x):
        return self.layers[1](nnx.relu(self.layers[0](x)).reshape(len(x), -1))


def task(init, apply):
    def loss(params, batch):
        return optax.softmax_cross_entropy_with_integer_labels(apply(params, batch[0]), batch[1]).mean()

    return mj.Task(init=init, loss=loss, train=(IMAGES, LABELS))


# Trainings of one task share their compiled programs.
@functools.cache
def linen_task():
    return task(lambda key: Linen().init(key, jnp.zeros([1, 5, 5, 2])), Linen().apply)


@functools.cache
def nnx_task():
    graph = nnx.graphdef(Nnx(nnx.Rngs(0)))
    return task(lambda key: nnx.state(Nnx(nnx.Rngs(key)), nnx.Param), lambda params, x: nnx.merge(graph, params)(x))


@pytest.mark.exhaustive
@pytest.mark.parametrize("make", [linen_task, nnx_task])
def test_a_network_of_flax_trains_as_in_a_loop_written_by_hand(make):
    own = make()
    result = mj.train(CFG, task=own)
    before, after = [], []
    with jax.enable_x64(True):
        params = mj.initial_params(CFG, 5, "momentum", task=own)
        velocity = jax.tree.map(jnp.zeros_like, params)
        step = jit(jax.value_and_grad(own.loss))
        for rows in mj.batch_indices(CFG, 5, task=own):
            batch = (IMAGES[rows], LABELS[rows])
            loss, grads = step(params, batch)
            velocity = jax.tree.map(lambda v, g: 0.9 * v - 0.1 * g, velocity, grads)
            params = jax.tree.map(jnp.add, params, velocity)
            before.append(loss)
            after.append(step(params, batch)[0])
    # float64: 20 steps, each of sums of at most 200 products.
    np.testing.assert_allclose(result.losses_before["momentum"][0], before, rtol=1e-12)
    np.testing.assert_allclose(result.losses["momentum"][0], after, rtol=1e-12)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-11, atol=1e-13), result.params["momentum"], params
    )


def test_a_sweep_keeps_the_parameters_of_an_nnx_network_as_dicts_that_merge_takes(tmp_path):
    own = nnx_task()
    whole = mj.train(CFG, task=own)
    swept = mj.sweep(CFG, {}, task=own, keep_params=True, folder=tmp_path)
    params = jax.tree.map(lambda p: p[0, 0], swept.params["momentum"])
    assert isinstance(params["layers"][0], dict)
    apart = jax.tree.map(lambda p: p[0], nnx.to_pure_dict(whole.params["momentum"]))
    jax.tree.map(np.testing.assert_array_equal, params, apart)
    with jax.enable_x64(True):
        assert own.loss(params, (IMAGES, LABELS)).dtype == np.float64


def test_random_state_of_a_network_is_refused_by_its_place():
    own = task(lambda key: nnx.state(nnx.Dropout(0.5, rngs=nnx.Rngs(key))), lambda params, x: x)
    with pytest.raises(InputError, match=r"parameter \['rngs'\]\['count'\]\S* has dtype uint32"):
        mj.train(CFG, task=own)
