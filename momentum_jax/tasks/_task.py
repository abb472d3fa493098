"""The interface between a problem and its training."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from momentum_jax.tasks.datasets import draw_held_out

Params: TypeAlias = PyTree[Any]
"""Arrays, or what stands for them while a function is traced."""
Data: TypeAlias = PyTree[Any]
"""Arrays with one leading axis of examples."""
Scalars = dict[str, Float[Array, ""]]
Metric: TypeAlias = Callable[[Params, PyTree[Any], Params], Any]
"""A function recorded along a run: (parameters and optimizer state after the update, the gradients it used) → array."""


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What `train` minimises.

    The functions must be pure; runs of tasks that share them share their compiled programs. All that `init` gives is
    trained, by the gradients of `loss`: a network that needs more in a step than its parameters and a batch, such as
    random numbers (dropout) or statistics that it keeps (batch normalisation), is no task.

    The parameters of Flax's networks are such trees as they are: what `init` of a linen module gives, and of an NNX
    module `nnx.state(module, nnx.Param)` or `nnx.to_pure_dict` of that. A result that was read from files, and that of
    a sweep, has dicts in place of an `nnx.State`; `nnx.merge` takes both.

    Attributes:
      init: from a key to the initial parameters, a pytree; float leaves are cast to the config's dtype.
      loss: from parameters and a batch (`train` with `batch_size` examples) to a scalar, a mean over the batch.
      train: pytree of arrays whose leading axis counts the training examples.
      test: likewise, the examples to judge by, or None.
      evaluate: from parameters, `train` and `test` to named scalars; by default "train_loss" and, with test data,
        "test_loss": the loss averaged over each set.
      baseline_loss: the training loss that a constant predictor reaches, if there is such a thing. A run that ends
        no better has failed.
      provenance: where the data came from, kept with the result.
    """

    init: Callable[[Key[Array, ""]], Params]
    loss: Callable[[Params, Data], Float[Array, ""]]
    train: Data
    test: Data | None = None
    evaluate: Callable[[Params, Data, Data | None], Scalars] | None = None
    baseline_loss: float | None = None
    provenance: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def num_examples(self) -> int:
        return int(jax.tree.leaves(self.train)[0].shape[0])

    def split_validation(self, n: int, seed: int = 0) -> "Task":
        """Holds n training examples out for tuning: they take the place of the test set, which is left out.

        Which n is drawn as by `Dataset.split_validation`; both parts keep their order, and the baseline that of all.

        Raises:
          InputError: n is not at least 1 and less than the number of training examples.
        """
        held_out = draw_held_out(self.num_examples, n, seed)
        about = {name: text for name, text in self.provenance.items() if name != "digest"}
        return dataclasses.replace(
            self,
            train=jax.tree.map(lambda a: np.asarray(a)[~held_out], self.train),
            test=jax.tree.map(lambda a: np.asarray(a)[held_out], self.train),
            provenance=about | {"held_out": f"{n} training examples by seed {seed}"},
        )


def mean_over_examples(function: Callable[[Data], PyTree[Array]], data: Data, slice_size: int = 1000) -> PyTree[Array]:
    """The mean over all examples of a function that returns means over a batch, in bounded memory.

    Args:
      function: from `data` with fewer examples to a pytree of means over them.
      data: pytree of arrays [examples, …].
      slice_size: examples at a time.

    >>> print(mean_over_examples(jnp.mean, jnp.arange(5.0), slice_size=2))
    2.0
    """
    examples = jax.tree.leaves(data)[0].shape[0]
    slices, rest = divmod(examples, slice_size)
    parts: list[PyTree[Array]] = []
    if slices:
        head = jax.tree.map(lambda a: a[: slices * slice_size].reshape(slices, slice_size, *a.shape[1:]), data)
        means = jax.lax.map(function, head)
        parts.append(jax.tree.map(lambda m: m.mean(axis=0) * (slices * slice_size / examples), means))
    if rest:
        tail = function(jax.tree.map(lambda a: a[slices * slice_size :], data))
        parts.append(jax.tree.map(lambda m: m * (rest / examples), tail))
    return jax.tree.map(lambda *means: jnp.stack(means).sum(axis=0), *parts)
