"""The momentum family as pure Optax transformations, written from their rules."""

from momentum_jax.optimizers._momentum import MomentumState, momentum
from momentum_jax.optimizers._nesterov import nesterov
from momentum_jax.optimizers._sgd import SGDState, sgd
from momentum_jax.optimizers.registry import Hyperparameter, Method, available

__all__ = [
    "Hyperparameter",
    "Method",
    "MomentumState",
    "SGDState",
    "available",
    "momentum",
    "nesterov",
    "sgd",
]
