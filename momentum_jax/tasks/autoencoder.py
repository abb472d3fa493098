"""The task of reconstructing images with a deep autoencoder."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.special
from jaxtyping import Array, Float, Key, UInt8

from momentum_jax._base.errors import InputError, check_integer
from momentum_jax.tasks._labels import widened
from momentum_jax.tasks._task import Params, Scalars, Task, mean_over_examples
from momentum_jax.tasks.datasets import Dataset, check_dataset

Images = UInt8[Array, "batch features"]


def sparse_init(connections: int) -> jax.nn.initializers.Initializer:
    """Sparse initialisation: each unit has so many inputs, drawn at random, with weights N(0, 1); all others are 0.

    A unit's total input does not grow with the size of the layer below, so sigmoid units are not saturated at first.

    Args:
      connections: the nonzero weights of each unit; a unit with fewer inputs is connected to all of them.

    References:
      Martens, Deep learning via Hessian-free optimization, 2010, section 5; Sutskever, Martens, Dahl and Hinton, On the
      importance of initialization and momentum in deep learning, 2013, section 3.1, both with 15 connections.

    >>> kernel = sparse_init(15)(jax.random.key(0), (784, 20), jnp.float32)
    >>> (kernel != 0).sum(axis=0).tolist() == [15] * 20
    True
    """

    def init(key: Key[Array, ""], shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
        places, values = jax.random.split(key)
        first = jnp.broadcast_to(jnp.arange(shape[0])[:, None] < connections, shape)
        connected = jax.random.permutation(places, first, axis=0, independent=True)
        return jnp.where(connected, jax.random.normal(values, shape, dtype), 0)

    return init


class Autoencoder(nn.Module):
    """A deep autoencoder: sigmoid layers down to a linear code, and sigmoid layers back to the logits of the pixels.

    Attributes:
      features: the number of pixels.
      hidden_sizes: the widths of the layers before the code; those after it are their reverse.
      code: the width of the linear code.
      connections: the nonzero initial weights of each unit, as in `sparse_init`. Biases start at zero.

    >>> network = Autoencoder(features=9, hidden_sizes=(6, 4), code=2)
    >>> params = network.init(jax.random.key(0), jnp.zeros([1, 9]))
    >>> [layer["kernel"].shape for layer in params["params"].values()]
    [(9, 6), (6, 4), (4, 2), (2, 4), (4, 6), (6, 9)]
    """

    features: int
    hidden_sizes: tuple[int, ...] = (500, 250, 125)
    code: int = 30
    connections: int = 15

    @nn.compact
    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
        for size in self.hidden_sizes:
            x = nn.sigmoid(self._dense(size)(x))
        x = self._dense(self.code)(x)
        for size in reversed(self.hidden_sizes):
            x = nn.sigmoid(self._dense(size)(x))
        return self._dense(self.features)(x)

    def _dense(self, size: int) -> nn.Dense:
        return nn.Dense(size, kernel_init=sparse_init(self.connections))


def autoencoder(
    dataset: Dataset,
    *,
    hidden_sizes: tuple[int, ...] = (500, 250, 125),
    code: int = 30,
    connections: int = 15,
) -> Task:
    r"""The task of reconstructing the images of a dataset, scaled to [0, 1], with an `Autoencoder`.

    The loss is the cross-entropy in nats, summed over the pixels x and averaged over the batch, where z are the logits:

    .. math::
      -\sum_i \big[x_i \log \sigma(z_i) + (1 - x_i) \log(1 - \sigma(z_i))\big]

    The evaluation gives "train_loss" and "test_loss", and as "train_squared_error" and "test_squared_error" the
    squared errors Σ (xᵢ − σ(zᵢ))² of an image, which the papers report; all averaged over the full sets. The baseline
    is the loss of a predictor that gives each pixel its mean over the training set.

    The network of the papers on MNIST, 784-1000-500-250-30 and back, is `hidden_sizes=(1000, 500, 250)`. A step with a
    batch of 128 takes 2 GFLOP with it, and 0.75 GFLOP with the default, which is half as wide.

    Args:
      dataset: whose images are taken, without their labels.
      hidden_sizes: the widths of the layers before the code.
      code: the width of the code.
      connections: the nonzero initial weights of each unit.

    Raises:
      InputError: the dataset is no `Dataset`, or a size is less than 1.

    References:
      Hinton and Salakhutdinov, Reducing the dimensionality of data with neural networks, 2006; Martens, Deep learning
      via Hessian-free optimization, 2010; Sutskever, Martens, Dahl and Hinton, On the importance of initialization and
      momentum in deep learning, 2013, section 3, where well-tuned momentum reaches what second-order methods do.
    """
    check_dataset(dataset)
    for size in hidden_sizes:
        check_integer("hidden_sizes", size, 1)
    if not hidden_sizes:
        raise InputError("hidden_sizes must hold at least one number, that of the units of the first layer, not ()")
    check_integer("code", code, 1)
    check_integer("connections", connections, 1)
    init, loss, evaluate = _functions(dataset.x_train.shape[1], hidden_sizes, code, connections)
    means = dataset.x_train.mean(axis=0) / 255
    return Task(
        init=init,
        loss=loss,
        train=dataset.x_train,
        test=dataset.x_test,
        evaluate=evaluate,
        baseline_loss=float(np.sum(scipy.special.entr(means) + scipy.special.entr(1 - means))),
        provenance={"source": dataset.source},
    )


@functools.lru_cache(maxsize=64)
def _functions(
    features: int, hidden_sizes: tuple[int, ...], code: int, connections: int
) -> tuple[Callable[..., Params], Callable[..., Any], Callable[..., Scalars]]:
    """`init`, `loss` and `evaluate`; cached, because compiled programs are shared by the identity of the functions."""
    network = Autoencoder(features, hidden_sizes, code, connections)

    def init(key: Key[Array, ""]) -> Params:
        return network.init(key, jnp.zeros([1, features], jnp.float32))

    def outputs_of(params: Params, pixels: Images) -> tuple[Float[Array, "batch features"], Any]:
        """The pixels in [0, 1], and the logits of their reconstruction."""
        outputs: Any = network.apply(params, pixels.astype(jax.tree.leaves(params)[0].dtype) / 255)
        logits = widened(outputs)
        return pixels.astype(logits.dtype) / 255, logits

    def loss(params: Params, pixels: Images) -> Float[Array, ""]:
        images, logits = outputs_of(params, pixels)
        losses: Array = optax.sigmoid_binary_cross_entropy(logits, images).sum(axis=-1)
        return losses.mean()

    def evaluate(params: Params, train: Images, test: UInt8[Array, "tests features"]) -> Scalars:
        def means(pixels: Images) -> dict[str, Array]:
            images, logits = outputs_of(params, pixels)
            losses: Array = optax.sigmoid_binary_cross_entropy(logits, images).sum(axis=-1)
            errors = jnp.sum((images - nn.sigmoid(logits)) ** 2, axis=-1)
            return {"loss": losses.mean(), "squared_error": errors.mean()}

        parts = {"train": mean_over_examples(means, train), "test": mean_over_examples(means, test)}
        return {f"{part}_{name}": values[name] for name in ("loss", "squared_error") for part, values in parts.items()}

    return init, loss, evaluate
