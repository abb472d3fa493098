"""What tasks with labels have in common: the cross-entropy, the evaluation, and the loss of a constant predictor."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int32, Integer, PyTree

from momentum_jax._base.trees import at_least_float32
from momentum_jax.tasks._task import Scalars, mean_over_examples

Logits = Float[Array, "batch classes"]
Labelled = tuple[Any, Int32[Array, " batch"]]
LabelledTests = tuple[Any, Int32[Array, " tests"]]


def widened(outputs: PyTree[Array]) -> Any:
    """Outputs of a network with their floats in at least float32."""
    return jax.tree.map(
        lambda a: a.astype(at_least_float32(a.dtype)) if jnp.issubdtype(a.dtype, jnp.floating) else a, outputs
    )


def cross_entropies(logits: Logits, labels: Int32[Array, " batch"]) -> Float[Array, " batch"]:
    """−log softmax(logits)[label] of each example, in nats."""
    losses: Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses


def evaluate_labels(predict: Callable[[Any], Logits], train: Labelled, test: LabelledTests) -> Scalars:
    """The means "train_loss", "test_loss" and "test_accuracy"; `predict` gives the logits of a slice of inputs."""

    def means(batch: Labelled) -> dict[str, Array]:
        inputs, labels = batch
        logits = predict(inputs)
        losses = cross_entropies(logits, labels)
        correct = jnp.argmax(logits, axis=-1).astype(labels.dtype) == labels
        return {"loss": losses.mean(), "accuracy": correct.mean(dtype=losses.dtype)}

    on_test = mean_over_examples(means, test)
    return {
        "train_loss": mean_over_examples(means, train)["loss"],
        "test_loss": on_test["loss"],
        "test_accuracy": on_test["accuracy"],
    }


def label_entropy(labels: Integer[np.ndarray, "..."]) -> float:
    """The entropy of the labels in nats, the least cross-entropy of a predictor that does not look at its input."""
    frequencies = np.bincount(labels.reshape(-1)) / labels.size
    present = frequencies[frequencies > 0]
    return float(-np.sum(present * np.log(present)))
