"""`Task`, the interface between a problem and its training."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from momentum_jax._base.display import Summary, as_html, as_text, counted, fields_summary, function_name
from momentum_jax._base.errors import refusing, shown
from momentum_jax._base.trees import aligned
from momentum_jax.tasks.datasets import draw_held_out
from momentum_jax.tasks.host_data import HostData, is_source

# Of those that are shown.
_MOST_LEAVES = 4
Params: TypeAlias = PyTree[Any]
"""A pytree of arrays, or of tracers while a function is traced."""
Data: TypeAlias = PyTree[Any]
"""A pytree of arrays whose leading axis counts the examples."""
Variables: TypeAlias = PyTree[Any]
"""What `init` gives: the parameters, or for a task with a state (parameters, state)."""
Scalars = dict[str, Float[Array, ""]]
Metric: TypeAlias = Callable[..., Any]
"""A quantity recorded at every iteration: (parameters and optimizer state after the update, its gradients) → array.

For a task with `has_state` it also gets the state after the iteration, last.
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A problem that `train` minimises: initial parameters, a loss, data and an evaluation.

    The functions must be pure. Do not change the data in place: its digest is taken once. Tasks with the same
    function objects share their compiled programs, which are kept as long as the functions.

    A network may need more than its parameters and a batch in a step. With `has_state` it has a state that is not
    trained, such as running statistics: `init(key)` gives (parameters, state), and the loss gives (scalar, new state).
    With `has_key` the loss gets a key that is fresh in each iteration, for dropout. In full they are
    `loss(params, state, batch, key)` and `evaluate(params, state, train, test)`; what is not declared is left out.

    Parameters of Flax networks work as they are: what `init` of a linen module returns, and for an NNX module
    `nnx.state(module, nnx.Param)` or `nnx.to_pure_dict` of it. A result from files or from a sweep has dicts in place
    of an `nnx.State`; `nnx.merge` accepts both.

    Attributes:
      init: from a key to the initial parameters, a pytree; float leaves are cast to the config's dtype. The leaves of a
        state are cast to float64 where that is the config's dtype, and otherwise stay as they are.
      loss: from parameters and a batch (`train` with `batch_size` examples) to a scalar, the mean over the batch.
      train: the training examples, a pytree of arrays whose leading axis counts them. Frames and series of pandas and
        other leaves that NumPy reads become NumPy arrays. Arrays whose memory JAX cannot use are copied. What has a
        length and gives rows by `[…]` but is no array in memory (`np.memmap`, arrays of h5py and zarr, a data source of
        TFDS) stays where it is: each chunk of iterations reads its rows while the one before trains. `evaluate` then
        gets 10,000 of the examples, evenly spaced.
      test: the test examples, likewise, or None.
      evaluate: from parameters, `train` and `test` to scalars by name. The default gives "train_loss" and, with test
        examples, "test_loss": the loss averaged over each set. A task with a state or a key needs its own.
      has_state: whether there is a state beside the parameters. The optimizer does not see it.
      has_key: whether the loss gets a key, a function of seed and iteration alone.
      augment: from a key and a batch to a batch of the same shapes and dtypes, on the device, before each step.
      baseline_loss: the training loss of a constant predictor, where that makes sense. A run that ends no better than
        this has failed.
      provenance: where the data came from, as JSON values by name; it is kept with the result.

    Raises:
      InputError: NumPy cannot read a leaf of the data.
    """

    init: Callable[[Key[Array, ""]], Any]
    loss: Callable[..., Any]
    train: Data
    test: Data | None = None
    evaluate: Callable[..., Scalars] | None = None
    has_state: bool = False
    has_key: bool = False
    augment: Callable[[Key[Array, ""], Data], Data] | None = None
    baseline_loss: float | None = None
    provenance: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for field in ("train", "test"):
            data = getattr(self, field)
            if isinstance(data, HostData):
                continue
            if any(is_source(leaf) for leaf in jax.tree.leaves(data, is_leaf=is_source)):
                held: Data = HostData(data)
            else:
                held = jax.tree.map_with_path(functools.partial(_array, field), data)
            object.__setattr__(self, field, held)

    def __repr__(self) -> str:
        return as_text(self._summary())

    def _repr_html_(self) -> str:
        return as_html(self._summary())

    def _summary(self) -> Summary:
        functions = {"init": self.init, "loss": self.loss, "evaluate": self.evaluate, "augment": self.augment}
        fields = {name: function_name(f) for name, f in functions.items() if f is not None}
        fields |= {name: _form(data) for name, data in (("train", self.train), ("test", self.test)) if data is not None}
        fields |= {name: "yes" for name in ("has_state", "has_key") if getattr(self, name)}
        fields |= {} if self.baseline_loss is None else {"baseline_loss": shown(self.baseline_loss)}
        return fields_summary(f"Task: {source_of(self.provenance)}", fields)

    @property
    def num_examples(self) -> int:
        if isinstance(self.train, HostData):
            return len(self.train)
        return int(jax.tree.leaves(self.train)[0].shape[0])

    @property
    def evaluation_data(self) -> tuple[Data, Data | None]:
        """The training and test data that `evaluate` gets: all that is in memory, and a sample of what is not."""
        train, test = (data.sample if isinstance(data, HostData) else data for data in (self.train, self.test))
        return train, test

    def split_validation(self, n: int, seed: int = 0) -> "Task":
        """The task for tuning: n training examples are held out and replace the test set, which is left out.

        The n examples are drawn as in `Dataset.split_validation`. Both parts keep their order. The baseline remains
        that of all training examples.

        Raises:
          InputError: n is less than 1, or not less than the number of training examples.
        """
        held_out = draw_held_out(self.num_examples, n, seed)
        about = {name: text for name, text in self.provenance.items() if name != "digest"}
        if isinstance(self.train, HostData):
            train, test = self.train.select(~held_out), self.train.select(held_out)
        else:
            train = jax.tree.map(lambda a: np.asarray(a)[~held_out], self.train)
            test = jax.tree.map(lambda a: np.asarray(a)[held_out], self.train)
        return dataclasses.replace(
            self,
            train=train,
            test=test,
            provenance=about | {"held_out": f"{n} training examples by seed {seed}"},
        )


def source_of(provenance: Mapping[str, Any]) -> str:
    """Where the data of a task came from, as far as that is known."""
    return str(provenance.get("source", "data of one's own"))


def _form(data: Data) -> str:
    """The dtypes and shapes of the leaves of data in memory, and how many examples there are elsewhere."""
    if isinstance(data, HostData):
        return f"{counted(len(data), 'example')}, read when they are needed"
    leaves = jax.tree.leaves(data)
    listed = [f"{leaf.dtype}[{', '.join(map(str, leaf.shape))}]" for leaf in leaves[:_MOST_LEAVES]]
    return ", ".join([*listed, *(["…"] if len(leaves) > _MOST_LEAVES else [])])


def _array(field: str, path: Any, leaf: Any) -> Any:
    """A leaf of the data as an array: `to_numpy` of pandas, `__array__` of others."""
    if isinstance(leaf, jax.Array):
        return leaf
    with refusing(f"{field}{jax.tree_util.keystr(path)} of the task is no array"):
        return aligned(leaf.to_numpy() if hasattr(leaf, "to_numpy") else np.asarray(leaf))


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
