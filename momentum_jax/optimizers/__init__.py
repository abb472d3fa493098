"""The momentum family as Optax transformations, and everything that is said of an optimizer before it is trained.

- `sgd`, `momentum`, `nesterov`, `qhm`, `aggmo`, `adaptive_restart`: the methods, one file each. `scale_by_momentum`,
  `scale_by_nesterov`, `scale_by_qhm`, `scale_by_aggmo`: their rules without the learning rate, for `optax.chain`.
- `_core.py`: where the learning rate enters, inside or outside of the velocity; checks and dtypes of all methods.
- `demon`, `sutskever`: schedules of the momentum.
- `optimal_sgd`, `optimal_momentum`, `optimal_nesterov`, `standard_nesterov`: hyperparameters for quadratics.
- `OptimizerConfig`, `Schedule`: descriptions that a config can hold. `available` lists the methods by name, and
  `momentum_jax.optimizers.registry` builds an optimizer from its description.
- `convert`: hyperparameters from one library's convention to another's, as listed in `CONVENTIONS`.
- `from_optax`, `to_optax`, `from_torch`, `to_torch`: optimizer states.

This folder trains nothing and reads no files. It imports only `momentum_jax._base`.
"""

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
