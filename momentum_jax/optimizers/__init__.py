"""The momentum family as Optax transformations, and everything that is said of an optimizer before it is trained.

- `sgd`, `momentum`, `nesterov`, `qhm`, `aggmo`, `adaptive_restart`, `normalized_momentum`,
  `yellowfin`: the methods, one file each.
  `scale_by_momentum`, `scale_by_nesterov`, `scale_by_qhm`, `scale_by_aggmo`: the rules of some without the learning
  rate, for `optax.chain`.
- `cautious`, `outer_momentum`: what wraps any of these, or of Optax.
- `accelerated_sgd`, `accsgd`, `grokfast`, `mars`, `mass`, `outer_nesterov`, `primal_averaging`,
  `synthesized_nesterov`: QHM under other papers' parameters, all in `_presets.py`; `FAMILY` is the table of them.
  `dana` is QHM under schedules.
- `_core.py`: where the learning rate enters, inside or outside of the velocity; checks and dtypes of all methods.
- `demon`, `sutskever`, `one_cycle`, `log_time`: schedules of the momentum.
- `optimal_sgd`, `optimal_momentum`, `optimal_nesterov`, `standard_nesterov`: hyperparameters for quadratics.
- `OptimizerConfig`, `Schedule`: descriptions that a config can hold. `available` lists the methods by name, and
  `momentum_jax.optimizers.registry` builds an optimizer from its description.
- `effective.py`: the effective learning rate of a description, and the learning rate that gives one.
- `convert`: hyperparameters from one library's convention to another's, as listed in `CONVENTIONS` and `FAMILY`.
- `from_optax`, `to_optax`, `from_torch`, `to_torch`: optimizer states.

This folder trains nothing and reads no files. It imports only `momentum_jax._base`.
"""

from momentum_jax.optimizers._adaptive_restart import AdaptiveRestartState, adaptive_restart
from momentum_jax.optimizers._aggmo import AggMoState, aggmo, scale_by_aggmo
from momentum_jax.optimizers._cautious import cautious
from momentum_jax.optimizers._dana import dana
from momentum_jax.optimizers._momentum import (
    CorrectedMomentumState,
    MomentumState,
    momentum,
    scale_by_momentum,
)
from momentum_jax.optimizers._nesterov import nesterov, scale_by_nesterov
from momentum_jax.optimizers._normalized_momentum import (
    NormalizedMomentumState,
    TransportedMomentumState,
    normalized_momentum,
)
from momentum_jax.optimizers._outer_momentum import OuterMomentumState, outer_momentum
from momentum_jax.optimizers._presets import (
    accelerated_sgd,
    accsgd,
    grokfast,
    mars,
    mass,
    outer_nesterov,
    primal_averaging,
    synthesized_nesterov,
)
from momentum_jax.optimizers._qhm import QHMState, qhm, scale_by_qhm
from momentum_jax.optimizers._sgd import SGDState, sgd
from momentum_jax.optimizers._yellowfin import YellowFinState, yellowfin
from momentum_jax.optimizers.conventions import CONVENTIONS, Convention, convert, effective_learning_rate
from momentum_jax.optimizers.description import OptimizerConfig, Schedule
from momentum_jax.optimizers.family import FAMILY, Member
from momentum_jax.optimizers.migration import from_optax, from_torch, to_optax, to_torch
from momentum_jax.optimizers.registry import Hyperparameter, Method, available
from momentum_jax.optimizers.schedules import demon, log_time, one_cycle, sutskever
from momentum_jax.optimizers.tunings import (
    Tuning,
    optimal_momentum,
    optimal_nesterov,
    optimal_sgd,
    standard_nesterov,
)

__all__ = [
    "CONVENTIONS",
    "FAMILY",
    "AdaptiveRestartState",
    "AggMoState",
    "Convention",
    "CorrectedMomentumState",
    "Hyperparameter",
    "Member",
    "Method",
    "MomentumState",
    "NormalizedMomentumState",
    "OptimizerConfig",
    "OuterMomentumState",
    "QHMState",
    "SGDState",
    "Schedule",
    "TransportedMomentumState",
    "Tuning",
    "YellowFinState",
    "accelerated_sgd",
    "accsgd",
    "adaptive_restart",
    "aggmo",
    "available",
    "cautious",
    "convert",
    "dana",
    "demon",
    "effective_learning_rate",
    "from_optax",
    "from_torch",
    "grokfast",
    "log_time",
    "mars",
    "mass",
    "momentum",
    "nesterov",
    "normalized_momentum",
    "one_cycle",
    "optimal_momentum",
    "optimal_nesterov",
    "optimal_sgd",
    "outer_momentum",
    "outer_nesterov",
    "primal_averaging",
    "qhm",
    "scale_by_aggmo",
    "scale_by_momentum",
    "scale_by_nesterov",
    "scale_by_qhm",
    "sgd",
    "standard_nesterov",
    "sutskever",
    "synthesized_nesterov",
    "to_optax",
    "to_torch",
    "yellowfin",
]
