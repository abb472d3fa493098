"""The task of classifying images with a convolutional network."""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from momentum_jax._base.errors import InputError, check_integer, check_real, shown
from momentum_jax.tasks._labels import Logits, cross_entropies, evaluate_labels, label_entropy, widened
from momentum_jax.tasks._task import Data, Scalars, Task
from momentum_jax.tasks.augmentation import shift as shifted
from momentum_jax.tasks.datasets import Dataset, check_dataset

_he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class ConvNet(nn.Module):
    r"""A convolutional network: stages of two 3×3 convolutions, the mean over the image, and a dense layer.

    With the normalisation N and the convolution ∗, padded by 1, each stage computes

    .. math::
      u = \max(0, N(W_1 * x)), \qquad x \leftarrow \max(0, N(W_2 * u) + s u)

    W₁ has stride 2 and halves the image. s is 1 with `residual` and otherwise 0, so both networks have the same
    parameters. Without `batch_norm`, N adds a bias.

    Attributes:
      num_classes: the width of the output, the logits.
      channels: the channels of each stage.
      batch_norm: whether N is batch normalisation. Its running means and variances, in the collection "batch_stats",
        move by a tenth at each training step.
      residual: whether each stage adds the input of its second convolution to its output (He et al. 2015, 1512.03385).
      dropout: the probability with which each input of the dense layer is dropped in training.

    Weights start as N(0, 2/fan_in), not truncated (He et al. 2015, 1502.01852), biases at zero.

    >>> network = ConvNet(num_classes=3, channels=(4,))
    >>> images = jnp.zeros([2, 8, 8, 1])
    >>> network.apply(network.init(jax.random.key(0), images), images).shape
    (2, 3)
    """

    num_classes: int = 10
    channels: tuple[int, ...] = (16, 32)
    batch_norm: bool = False
    residual: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch classes"]:
        x = images
        for size in self.channels:
            x = nn.relu(self._convolve(x, size, train, strides=2))
            y = self._convolve(x, size, train, strides=1)
            x = nn.relu(x + y if self.residual else y)
        x = nn.Dropout(self.dropout, deterministic=not train)(x.mean(axis=(1, 2)))
        return nn.Dense(self.num_classes, kernel_init=_he_normal)(x)

    def _convolve(self, x: Array, size: int, train: bool, *, strides: int) -> Array:
        x = nn.Conv(size, (3, 3), strides=strides, padding=1, use_bias=not self.batch_norm, kernel_init=_he_normal)(x)
        if not self.batch_norm:
            return x
        # The statistics are kept in float32 where the network is in bfloat16.
        with jax.numpy_dtype_promotion("standard"):
            normalised: Array = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=x.dtype)(x)
        return normalised


def convnet(
    dataset: Dataset,
    *,
    channels: tuple[int, ...] = (16, 32),
    batch_norm: bool = False,
    residual: bool = False,
    dropout: float = 0.0,
    shift: int = 0,
    augment: Callable[[Key[Array, ""], Data], Data] | None = None,
) -> Task:
    """The task of classifying the images of a dataset with a `ConvNet` on pixels scaled to [0, 1].

    The loss is the softmax cross-entropy in nats. The evaluation gives "train_loss", "test_loss" and "test_accuracy"
    over the full sets, with the running statistics, without dropout and without augmentation. The baseline is the
    entropy of the training labels. On images of 28×28 the default network has 16,698 parameters, and a step with a
    batch of 128 takes 0.8 GFLOP.

    Args:
      dataset: its images have the shape `image_shape`, (height, width) or (height, width, channels).
      channels: the channels of each stage, which halves the image.
      batch_norm: with batch normalisation the task has a state, the running statistics.
      residual: whether each stage has a residual connection.
      dropout: in [0, 1); if it is positive, the loss takes a key.
      shift: before each step every image is moved by up to so many pixels, as `momentum_jax.tasks.augmentation.shift`
        does; not together with `augment`.
      augment: from a key and a batch (uint8 pixels [batch, features], int32 labels [batch]) to a batch of the same
        shapes and dtypes, applied before each step.

    Raises:
      InputError: the dataset is no `Dataset` or not of images, or an argument is out of range.
    """
    check_dataset(dataset)
    if len(dataset.image_shape) not in (2, 3) or math.prod(dataset.image_shape) != dataset.x_train.shape[1]:
        raise InputError(
            f"dataset must be of images, of height × width (× channels) = {dataset.x_train.shape[1]} values, not of "
            f"image_shape {dataset.image_shape}"
        )
    if not channels:
        raise InputError("channels must hold at least one number, that of the channels of the first stage, not ()")
    for size in channels:
        check_integer("channels", size, 1)
    check_real("dropout", dropout, 0, 1, below_high=True)
    if not (augment is None or callable(augment)):
        raise InputError(f"augment must be a function of (key, batch), not {shown(augment)}")
    check_integer("shift", shift, 0, min(dataset.image_shape[:2]) - 1)
    if shift and augment is not None:
        raise InputError(
            f"shift {shift} and augment cannot both be given; momentum_jax.tasks.augmentation.chain joins them"
        )
    network = ConvNet(dataset.num_classes, channels, batch_norm, residual, dropout)
    # Grey images have no axis of channels.
    init, loss, evaluate = _functions(network, (*dataset.image_shape, 1)[:3])
    return Task(
        init=init,
        loss=loss,
        train=(dataset.x_train, dataset.y_train),
        test=(dataset.x_test, dataset.y_test),
        evaluate=evaluate,
        has_state=batch_norm,
        has_key=dropout > 0,
        augment=shifted(shift, dataset.image_shape) if shift else augment,
        baseline_loss=label_entropy(dataset.y_train),
        provenance={"source": dataset.source},
    )


@functools.lru_cache(maxsize=64)
def _functions(network: ConvNet, image_shape: tuple[int, ...]) -> tuple[Callable[..., Any], ...]:
    """`init`, `loss` and `evaluate`; cached, because compiled programs are shared by the identity of the functions."""

    def init(key: Key[Array, ""]) -> Any:
        variables = network.init(key, jnp.zeros([1, *image_shape], jnp.float32))
        state = {name: variables[name] for name in variables if name != "params"}
        params = {"params": variables["params"]}
        return (params, state) if network.batch_norm else params

    def apply(params: Any, state: Any, pixels: UInt8[Array, "batch features"], **options: Any) -> Any:
        images = pixels.reshape(-1, *image_shape).astype(jax.tree.leaves(params)[0].dtype) / 255
        return network.apply(params | state, images, **options)

    def loss(params: Any, *inputs: Any) -> Any:
        state, (batch, *keys) = (inputs[0], inputs[1:]) if network.batch_norm else ({}, inputs)
        pixels, labels = batch
        rngs = {"dropout": keys[0]} if keys else None
        logits, state = apply(params, state, pixels, train=True, rngs=rngs, mutable=["batch_stats"])
        value = cross_entropies(widened(logits), labels).mean()
        return (value, state) if network.batch_norm else value

    def evaluate(params: Any, *inputs: Any) -> Scalars:
        state, (train, test) = (inputs[0], inputs[1:]) if network.batch_norm else ({}, inputs)

        def predict(pixels: UInt8[Array, "batch features"]) -> Logits:
            logits: Array = widened(apply(params, state, pixels))
            return logits

        return evaluate_labels(predict, train, test)

    return init, loss, evaluate
