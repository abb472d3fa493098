"""The tutorial's network."""

from collections.abc import Callable

import flax.linen as nn
import jax
from jaxtyping import Array, Float

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "sigmoid": nn.sigmoid,
    "tanh": nn.tanh,
}
SCALES = {"he": 2.0, "xavier": 1.0}
"""The variance of the initial weights by name, times fan_in."""


class MLP(nn.Module):
    """A multilayer perceptron: layers x ← a(x·W + b), the last one without the nonlinearity a.

    Attributes:
      hidden_sizes: the width of each hidden layer.
      num_classes: the width of the output, the logits.
      activation: "relu", "sigmoid" or "tanh".
      weight_init: "he" for W ~ N(0, 2/fan_in) (He et al. 2015, 1502.01852), "xavier" for N(0, 1/fan_in) (the form
        of Glorot and Bengio 2010 that the tutorial's network uses), or a number, the standard deviation. The
        distribution is not truncated. b starts at zero.

    >>> import jax, jax.numpy as jnp
    >>> mlp = MLP(hidden_sizes=(5,), num_classes=3)
    >>> params = mlp.init(jax.random.key(0), jnp.zeros([1, 4]))
    >>> mlp.apply(params, jnp.zeros([2, 4])).shape
    (2, 3)
    """

    hidden_sizes: tuple[int, ...] = (100, 100, 100, 100)
    num_classes: int = 10
    activation: str = "relu"
    weight_init: str | float = "he"

    @nn.compact
    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch classes"]:
        for size in self.hidden_sizes:
            x = ACTIVATIONS[self.activation](nn.Dense(size, kernel_init=self._kernel_init())(x))
        return nn.Dense(self.num_classes, kernel_init=self._kernel_init())(x)

    def _kernel_init(self) -> jax.nn.initializers.Initializer:
        if isinstance(self.weight_init, str):
            scale = SCALES[self.weight_init]
            return nn.initializers.variance_scaling(scale, "fan_in", "normal")
        return nn.initializers.normal(self.weight_init)
