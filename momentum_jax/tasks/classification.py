"""The task of classifying images with an MLP."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int32, Key, UInt8

from momentum_jax._base.errors import InputError, check_choice, shown, unknown
from momentum_jax.tasks._task import Params, Scalars, Task, mean_over_examples
from momentum_jax.tasks.datasets import Dataset
from momentum_jax.tasks.mlp import ACTIVATIONS, MLP, SCALES

Batch = tuple[UInt8[Array, "batch features"], Int32[Array, " batch"]]
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
      InputError: the dataset is no `Dataset`, or there is no such activation or initialisation.
    """
    if not isinstance(dataset, Dataset):
        raise InputError(f'dataset must be a Dataset, such as mj.load_dataset("mnist"), not {shown(dataset)}')
    check_choice("activation", activation, ACTIVATIONS)
    if isinstance(weight_init, str) and weight_init not in SCALES:
        raise unknown("weight_init", weight_init, [*SCALES, "a number"])
    init, loss, evaluate = _functions(
        hidden_sizes, dataset.num_classes, activation, weight_init, l2, dataset.x_train.shape[1]
    )
    frequencies = np.bincount(dataset.y_train) / len(dataset.y_train)
    present = frequencies[frequencies > 0]
    return Task(
        init=init,
        loss=loss,
        train=(dataset.x_train, dataset.y_train),
        test=(dataset.x_test, dataset.y_test),
        evaluate=evaluate,
        baseline_loss=float(-np.sum(present * np.log(present))),
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

    def cross_entropy(params: Params, batch: Batch) -> tuple[Float[Array, " batch"], Float[Array, "batch classes"]]:
        pixels, labels = batch
        dtype = jax.tree.leaves(params)[0].dtype
        outputs: Any = mlp.apply(params, pixels.astype(dtype) / 255)
        logits = outputs.astype(jnp.float64 if dtype == jnp.float64 else jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels), logits

    def loss(params: Params, batch: Batch) -> Float[Array, ""]:
        data_loss = cross_entropy(params, batch)[0].mean()
        if l2 == 0:
            return data_loss
        weights = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
        return data_loss + 0.5 * l2 * sum(jnp.sum(w.astype(data_loss.dtype) ** 2) for w in weights)

    def evaluate(params: Params, train: Batch, test: Tests) -> Scalars:
        def means(batch: Batch) -> dict[str, Array]:
            losses, logits = cross_entropy(params, batch)
            correct = jnp.argmax(logits, axis=-1).astype(batch[1].dtype) == batch[1]
            return {"loss": losses.mean(), "accuracy": correct.mean(dtype=losses.dtype)}

        on_test = mean_over_examples(means, test)
        return {
            "train_loss": mean_over_examples(means, train)["loss"],
            "test_loss": on_test["loss"],
            "test_accuracy": on_test["accuracy"],
        }

    return init, loss, evaluate
