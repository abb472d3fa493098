"""`Task`, the interface between a problem and its training."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from momentum_jax._base.errors import InputError, summary
from momentum_jax.tasks.datasets import draw_held_out

Params: TypeAlias = PyTree[Any]
"""A pytree of arrays, or of tracers while a function is traced."""
Data: TypeAlias = PyTree[Any]
"""A pytree of arrays whose leading axis counts the examples."""
Scalars = dict[str, Float[Array, ""]]
Metric: TypeAlias = Callable[[Params, PyTree[Any], Params], Any]
"""A quantity recorded at every iteration: (parameters and optimizer state after the update, its gradients) → array."""


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A problem that `train` minimises: initial parameters, a loss, data and an evaluation.

    The functions must be pure. Do not change the data in place: its digest is taken once. Tasks with the same functions
    share their compiled programs. Everything that `init` returns is trained with the gradients of `loss`. A network
    that needs more than its parameters and a batch in a step is not supported: neither random numbers (dropout) nor
    running statistics (batch normalisation).

    Parameters of Flax networks work as they are: what `init` of a linen module returns, and for an NNX module
    `nnx.state(module, nnx.Param)` or `nnx.to_pure_dict` of it. A result from files or from a sweep has dicts in place
    of an `nnx.State`; `nnx.merge` accepts both.

    Attributes:
      init: from a key to the initial parameters, a pytree; float leaves are cast to the config's dtype.
      loss: from parameters and a batch (`train` with `batch_size` examples) to a scalar, the mean over the batch.
      train: the training examples, a pytree of arrays whose leading axis counts them. Frames and series of pandas and
        other leaves that NumPy reads become NumPy arrays.
      test: the test examples, likewise, or None.
      evaluate: from parameters, `train` and `test` to scalars by name. The default gives "train_loss" and, with test
        examples, "test_loss": the loss averaged over each set.
      baseline_loss: the training loss of a constant predictor, where that makes sense. A run that ends no better than
        this has failed.
      provenance: where the data came from, as JSON values by name; it is kept with the result.

    Raises:
      InputError: NumPy cannot read a leaf of the data.
    """

    init: Callable[[Key[Array, ""]], Params]
    loss: Callable[[Params, Data], Float[Array, ""]]
    train: Data
    test: Data | None = None
    evaluate: Callable[[Params, Data, Data | None], Scalars] | None = None
    baseline_loss: float | None = None
    provenance: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for field in ("train", "test"):
            arrays = jax.tree.map_with_path(functools.partial(_array, field), getattr(self, field))
            object.__setattr__(self, field, arrays)

    @property
    def num_examples(self) -> int:
        return int(jax.tree.leaves(self.train)[0].shape[0])

    def split_validation(self, n: int, seed: int = 0) -> "Task":
        """The task for tuning: n training examples are held out and replace the test set, which is left out.

        The n examples are drawn as in `Dataset.split_validation`. Both parts keep their order. The baseline remains
        that of all training examples.

        Raises:
          InputError: n is less than 1, or not less than the number of training examples.
        """
        held_out = draw_held_out(self.num_examples, n, seed)
        about = {name: text for name, text in self.provenance.items() if name != "digest"}
        return dataclasses.replace(
            self,
            train=jax.tree.map(lambda a: np.asarray(a)[~held_out], self.train),
            test=jax.tree.map(lambda a: np.asarray(a)[held_out], self.train),
            provenance=about | {"held_out": f"{n} training examples by seed {seed}"},
        )


def _array(field: str, path: Any, leaf: Any) -> Any:
    """A leaf of the data as an array: `to_numpy` of pandas, `__array__` of others."""
    if isinstance(leaf, np.ndarray | jax.Array):
        return leaf
    try:
        return leaf.to_numpy() if hasattr(leaf, "to_numpy") else np.asarray(leaf)
    except Exception as error:
        # Whatever the leaf's library raises.
        raise InputError(f"{field}{jax.tree_util.keystr(path)} of the task is no array: {summary(error)}") from error


def mean_over_examples(function: Callable[[Data], PyTree[Array]], data: Data, slice_size: int = 1000) -> PyTree[Array]:
    """The mean over all examples of a function that returns batch means, computed slice by slice in bounded memory.

    Args:
      function: from a slice of `data` to a pytree of means over its examples.
      data: pytree of arrays [examples, …].
      slice_size: the examples in a slice.

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
