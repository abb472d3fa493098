"""The task of classifying images with an MLP."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key, UInt8

from momentum_jax._base.errors import check_choice, check_integer, check_real, unknown
from momentum_jax.tasks._labels import Logits, cross_entropies, evaluate_labels, label_entropy, widened
from momentum_jax.tasks._task import Params, Scalars, Task
from momentum_jax.tasks.datasets import Dataset, check_dataset
from momentum_jax.tasks.mlp import ACTIVATIONS, MLP, SCALES

Pixels = UInt8[Array, "batch features"]
Batch = tuple[Pixels, Int32[Array, " batch"]]
Tests = tuple[UInt8[Array, "tests features"], Int32[Array, " tests"]]


def image_classification(
    dataset: Dataset,
    *,
    hidden_sizes: tuple[int, ...] = (100, 100, 100, 100),
    activation: str = "relu",
    weight_init: str | float = "he",
    l2: float = 0.0,
) -> Task:
    """The task of classifying the images of a dataset with an MLP on pixels scaled to [0, 1].

    The loss is the softmax cross-entropy in nats plus 0.5·λ·Σ‖W‖² over the weights, with λ = `l2`. The evaluation gives
    "train_loss" and "test_loss", without the penalty, and "test_accuracy", all over the full sets. The baseline is the
    entropy of the training labels, the least loss of a predictor that does not look at the image.

    Raises:
      InputError: the dataset is no `Dataset`, a number is out of range, or there is no such activation or
        initialisation.
    """
    check_dataset(dataset)
    for size in hidden_sizes:
        check_integer("hidden_sizes", size, 1)
    check_real("l2", l2, 0, math.inf)
    check_choice("activation", activation, ACTIVATIONS)
    if isinstance(weight_init, str) and weight_init not in SCALES:
        raise unknown("weight_init", weight_init, [*SCALES, "a number"])
    init, loss, evaluate = _functions(
        hidden_sizes, dataset.num_classes, activation, weight_init, l2, dataset.x_train.shape[1]
    )
    return Task(
        init=init,
        loss=loss,
        train=(dataset.x_train, dataset.y_train),
        test=(dataset.x_test, dataset.y_test),
        evaluate=evaluate,
        baseline_loss=label_entropy(dataset.y_train),
        provenance={"source": dataset.source},
    )


@functools.lru_cache(maxsize=64)
def _functions(
    hidden_sizes: tuple[int, ...],
    num_classes: int,
    activation: str,
    weight_init: str | float,
    l2: float,
    features: int,
) -> tuple[Callable[..., Params], Callable[..., Any], Callable[..., Scalars]]:
    """`init`, `loss` and `evaluate`; cached, because compiled programs are shared by the identity of the functions."""
    mlp = MLP(hidden_sizes, num_classes, activation, weight_init)

    def init(key: Key[Array, ""]) -> Params:
        return mlp.init(key, jnp.zeros([1, features], jnp.float32))

    def logits_of(params: Params, pixels: Pixels) -> Logits:
        dtype = jax.tree.leaves(params)[0].dtype
        outputs: Any = mlp.apply(params, pixels.astype(dtype) / 255)
        logits: Array = widened(outputs)
        return logits

    def loss(params: Params, batch: Batch) -> Float[Array, ""]:
        pixels, labels = batch
        data_loss = cross_entropies(logits_of(params, pixels), labels).mean()
        if l2 == 0:
            return data_loss
        weights = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
        return data_loss + 0.5 * l2 * sum(jnp.sum(w.astype(data_loss.dtype) ** 2) for w in weights)

    def evaluate(params: Params, train: Batch, test: Tests) -> Scalars:
        return evaluate_labels(lambda pixels: logits_of(params, pixels), train, test)

    return init, loss, evaluate
