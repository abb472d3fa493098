"""What a step minimises: a task's loss with the state, the key and the augmentation that it declares."""

import dataclasses
from typing import Any, TypeAlias

from jaxtyping import Array, Float, Int32, Key, PyTree, UInt32

from momentum_jax._base.weak import Handle, weak_handle
from momentum_jax.tasks import Data, Params, Task, Variables
from momentum_jax.training.sampling import augment_key, loss_key

ModelState: TypeAlias = PyTree[Array]
"""What a task keeps beside its parameters; () where it keeps nothing."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """The loss of a task in one form: (parameters, state, batch, key) → (scalar, new state).

    Attributes:
      loss: as the task gives it.
      augment: likewise.
      has_state: likewise.
      has_key: likewise.
    """

    loss: Handle
    augment: Handle | None = None
    has_state: bool = False
    has_key: bool = False

    @classmethod
    def of(cls, task: Task) -> "Objective":
        augment = None if task.augment is None else weak_handle(task.augment)
        return cls(weak_handle(task.loss), augment, task.has_state, task.has_key)

    @property
    def handles(self) -> tuple[Handle, ...]:
        """The functions that it is made of."""
        return (self.loss,) if self.augment is None else (self.loss, self.augment)

    def split(self, variables: Variables) -> tuple[Params, ModelState]:
        """Parameters and state, from what `init` gives."""
        return variables if self.has_state else (variables, ())

    def join(self, params: Params, state: ModelState) -> Variables:
        """Parameters and state as `init` gives them."""
        return (params, state) if self.has_state else params

    def prepare(
        self, batch: Data, seed: UInt32[Array, ""], iteration: Int32[Array, ""]
    ) -> tuple[Data, Key[Array, ""] | None]:
        """The batch of an iteration, augmented, and the key of its loss."""
        key = loss_key(seed, iteration) if self.has_key else None
        return (batch if self.augment is None else self.augment(augment_key(seed, iteration), batch)), key

    def __call__(
        self, params: Params, state: ModelState, batch: Data, key: Key[Array, ""] | None
    ) -> tuple[Float[Array, ""], ModelState]:
        given: list[Any] = [params, *([state] if self.has_state else []), batch, *([key] if self.has_key else [])]
        value = self.loss(*given)
        return value if self.has_state else (value, state)
