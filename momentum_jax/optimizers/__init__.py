"""The momentum family as pure Optax transformations, written from their rules."""

from momentum_jax.optimizers._adaptive_restart import AdaptiveRestartState, adaptive_restart
from momentum_jax.optimizers._aggmo import AggMoState, aggmo, scale_by_aggmo
from momentum_jax.optimizers._momentum import (
    CorrectedMomentumState,
    MomentumState,
    momentum,
    scale_by_momentum,
)
from momentum_jax.optimizers._nesterov import nesterov, scale_by_nesterov
from momentum_jax.optimizers._qhm import QHMState, qhm, scale_by_qhm
from momentum_jax.optimizers._sgd import SGDState, sgd
from momentum_jax.optimizers.conventions import CONVENTIONS, Convention, convert, effective_learning_rate
from momentum_jax.optimizers.description import OptimizerConfig, Schedule
from momentum_jax.optimizers.migration import from_optax, from_torch, to_optax, to_torch
from momentum_jax.optimizers.registry import Hyperparameter, Method, available
from momentum_jax.optimizers.schedules import demon, sutskever
from momentum_jax.optimizers.tunings import (
    Tuning,
    optimal_momentum,
    optimal_nesterov,
    optimal_sgd,
    standard_nesterov,
)

__all__ = [
    "CONVENTIONS",
    "AdaptiveRestartState",
    "AggMoState",
    "Convention",
    "CorrectedMomentumState",
    "Hyperparameter",
    "Method",
    "MomentumState",
    "OptimizerConfig",
    "QHMState",
    "SGDState",
    "Schedule",
    "Tuning",
    "adaptive_restart",
    "aggmo",
    "available",
    "convert",
    "demon",
    "effective_learning_rate",
    "from_optax",
    "from_torch",
    "momentum",
    "nesterov",
    "optimal_momentum",
    "optimal_nesterov",
    "optimal_sgd",
    "qhm",
    "scale_by_aggmo",
    "scale_by_momentum",
    "scale_by_nesterov",
    "scale_by_qhm",
    "sgd",
    "standard_nesterov",
    "sutskever",
    "to_optax",
    "to_torch",
]
