"""Convex tasks: logistic regression on small images, and least squares with a spectrum that is known exactly."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from momentum_jax._base.errors import InputError, check_choice, check_integer, check_real
from momentum_jax.tasks._labels import (
    Labelled,
    LabelledTests,
    Logits,
    cross_entropies,
    evaluate_labels,
    label_entropy,
    widened,
)
from momentum_jax.tasks._task import Params, Scalars, Task
from momentum_jax.tasks.datasets import Dataset, check_dataset

_SIDE = 8


def logistic(dataset: Dataset, *, l2: float = 0.0) -> Task:
    r"""The task of classifying images of 8×8 with multinomial logistic regression, a convex problem.

    With inputs x of norm at most 8·√channels, the loss is the mean over the batch of

    .. math::
      -\log \operatorname{softmax}(W^T x + b)_y + \tfrac{1}{2} \lambda \|W\|^2

    The images are means of blocks of pixels, scaled to [0, 1]. Each side is divided into 8 blocks of ⌊side/8⌋ pixels,
    and what is left over is cut off at the edges. So 28×28 loses a border of 2 pixels, and the blocks are 3×3. The
    channels of an image remain apart. W and b start at zero.

    The evaluation gives "train_loss" and "test_loss", without the penalty, and "test_accuracy". The baseline is the
    entropy of the training labels. A step with a batch of 128 takes a third of a MFLOP.

    Args:
      dataset: images of at least 8×8.
      l2: λ ≥ 0.

    Raises:
      InputError: the dataset is no `Dataset`, its images are smaller than 8×8, or λ is out of range.

    >>> from momentum_jax.tasks.datasets import load_dataset
    >>> logistic(load_dataset("mnist")).train[0].shape
    (60000, 64)
    """
    check_dataset(dataset)
    check_real("l2", l2, 0, math.inf)
    if min(dataset.image_shape[:2]) < _SIDE:
        raise InputError(
            f"dataset must have images of at least {_SIDE}×{_SIDE} for task 'logistic', not of shape "
            f"{dataset.image_shape}"
        )
    x_train, x_test = (_block_means(x, dataset.image_shape) for x in (dataset.x_train, dataset.x_test))
    init, loss, evaluate = _logistic_functions(x_train.shape[1], dataset.num_classes, l2)
    return Task(
        init=init,
        loss=loss,
        train=(x_train, dataset.y_train),
        test=(x_test, dataset.y_test),
        evaluate=evaluate,
        baseline_loss=label_entropy(dataset.y_train),
        provenance={"source": f"{dataset.source}, averaged to {_SIDE}×{_SIDE}"},
    )


def _block_means(images: np.ndarray, image_shape: tuple[int, ...]) -> Float[np.ndarray, "examples features"]:
    height, width, *channels = image_shape
    (rows, top), (columns, left) = ((side // _SIDE, side % _SIDE // 2) for side in (height, width))
    cut = images.reshape(-1, height, width, *channels)[:, top : top + _SIDE * rows, left : left + _SIDE * columns]
    blocks = cut.reshape(-1, _SIDE, rows, _SIDE, columns, *channels)
    means: np.ndarray = blocks.mean(axis=(2, 4), dtype=np.float32) / np.float32(255)
    return means.reshape(len(images), -1)


@functools.lru_cache(maxsize=64)
def _logistic_functions(
    features: int, num_classes: int, l2: float
) -> tuple[Callable[..., Params], Callable[..., Any], Callable[..., Scalars]]:
    """`init`, `loss` and `evaluate`; cached, because compiled programs are shared by the identity of the functions."""

    def init(key: Key[Array, ""]) -> Params:
        return {"weights": jnp.zeros([features, num_classes]), "bias": jnp.zeros([num_classes])}

    def logits_of(params: Params, inputs: Float[Array, "batch features"]) -> Logits:
        weights = params["weights"]
        logits: Array = widened(inputs.astype(weights.dtype) @ weights + params["bias"][None])
        return logits

    def loss(params: Params, batch: Labelled) -> Float[Array, ""]:
        inputs, labels = batch
        data_loss = cross_entropies(logits_of(params, inputs), labels).mean()
        return data_loss + 0.5 * l2 * jnp.sum(params["weights"].astype(data_loss.dtype) ** 2)

    def evaluate(params: Params, train: Labelled, test: LabelledTests) -> Scalars:
        return evaluate_labels(lambda inputs: logits_of(params, inputs), train, test)

    return init, loss, evaluate


def _power_law(mu: float, L: float, dimensions: int) -> Float[np.ndarray, " dimensions"]:
    places = np.arange(1, dimensions + 1)
    return L * places ** (-math.log(L / mu) / math.log(dimensions))


SPECTRA: dict[str, Callable[[float, float, int], Float[np.ndarray, " dimensions"]]] = {
    "geometric": np.geomspace,
    "power": _power_law,
}


def least_squares(
    *,
    examples: int = 512,
    dimensions: int = 16,
    mu: float = 0.01,
    L: float = 1.0,
    spectrum: str = "geometric",
    noise: float = 0.0,
    seed: int = 0,
) -> Task:
    r"""Least squares on synthetic examples whose Hessian and minimum are known exactly.

    The loss is the mean over the batch of ½(x·w − y)². Over all n examples it is the quadratic

    .. math::
      f(w) = \frac{\sigma^2}{2} + \frac{1}{2} \sum_{i=0}^{d-1} \lambda_i \big(v_i \cdot (w - w^*)\big)^2,
      \qquad \lambda_i = \mu (L/\mu)^{i/(d-1)}

    The curvatures λᵢ are the eigenvalues of X'X/n, evenly spaced on a logarithmic scale, and vᵢ its eigenvectors. With
    the spectrum "power" they follow a power law instead, λᵢ = L·(i + 1)^(−p) with p = ln(L/μ)/ln d, also from L to μ.
    The minimum w* is Σ vᵢ, its loss σ²/2. Training starts at w = 0, where each vᵢ·(w − w*) is −1. Gradient descent on
    all examples (`batch_size=examples` with `sampling="epochs"`) with the rate η has vᵢ·(w − w*) = −(1 − ηλᵢ)ᵗ after t
    iterations, and `momentum_jax.analysis.theory` has the rates of momentum.

    X is √n·U·diag(√λ)·V', where U and V have orthonormal columns that are drawn at random, and y = X·w* + noise. The
    noise is normal noise without its part in the columns of X, scaled to a mean square of σ². The data are float64,
    and the runs compute in the config's dtype. The baseline is the loss at w = 0, Σ λᵢ/2 + σ²/2.

    Args:
      examples: n, more than the dimensions and at most 100,000.
      dimensions: d, from 2 to 1000.
      mu: the least curvature, μ > 0.
      L: the largest curvature, L ≥ μ.
      spectrum: "geometric" or "power".
      noise: σ ≥ 0.
      seed: of the draws.

    Raises:
      InputError: an argument is out of range.

    >>> x, y = least_squares(dimensions=3, mu=0.25, L=4.0).train
    >>> np.linalg.eigvalsh(x.T @ x / len(x)).round(12)
    array([0.25, 1.  , 4.  ])
    """
    check_integer("dimensions", dimensions, 2, 1000)
    check_integer("examples", examples, dimensions + 1, 100_000)
    check_real("mu", mu, math.ulp(0.0), math.inf)
    check_real("L", L, mu, math.inf)
    check_real("noise", noise, 0, math.inf)
    check_choice("spectrum", spectrum, SPECTRA)
    check_integer("seed", seed, 0)
    rng = np.random.default_rng(seed)
    curvatures = SPECTRA[spectrum](mu, L, dimensions)
    # The last column is the direction of the noise.
    columns, _ = np.linalg.qr(rng.normal(size=(examples, dimensions + 1)))
    eigenvectors, _ = np.linalg.qr(rng.normal(size=(dimensions, dimensions)))
    x = math.sqrt(examples) * (columns[:, :-1] * np.sqrt(curvatures)) @ eigenvectors.T
    y = x @ eigenvectors.sum(axis=1) + noise * math.sqrt(examples) * columns[:, -1]
    init, loss = _least_squares_functions(dimensions)
    return Task(
        init=init,
        loss=loss,
        train=(x, y),
        baseline_loss=float((np.sum(curvatures) + noise**2) / 2),
        provenance={"source": f"least squares in {dimensions} dimensions, drawn with seed {seed}"},
    )


@functools.lru_cache(maxsize=64)
def _least_squares_functions(dimensions: int) -> tuple[Callable[..., Params], Callable[..., Any]]:
    """`init` and `loss`; cached, because compiled programs are shared by the identity of the functions."""

    def init(key: Key[Array, ""]) -> Params:
        return jnp.zeros([dimensions])

    def loss(params: Params, batch: tuple[Float[Array, "batch features"], Float[Array, " batch"]]) -> Array:
        inputs, targets = (array.astype(params.dtype) for array in batch)
        return 0.5 * jnp.mean((inputs @ params - targets) ** 2)

    return init, loss
