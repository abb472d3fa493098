"""Says how closely an optimizer of this package agrees with Optax's own of the same rule and hyperparameters."""

import itertools
from collections.abc import Iterator

import numpy as np

from momentum_jax.analysis import first_reached
from momentum_jax.optimizers.description import OptimizerConfig, Schedule
from momentum_jax.results.result import Result

_TOLERANCE = {"float32": 1e-6, "float64": 1e-12, "bfloat16": 1e-2}


def agreements(result: Result) -> Iterator[str]:
    """One sentence per pair of an optimizer and its twin in Optax: up to which iteration their losses agree."""
    tolerance = _TOLERANCE[result.config.dtype]
    for (label, own), (witness, theirs) in itertools.product(result.config.optimizers.items(), repeat=2):
        if theirs != _in_optax(own):
            continue
        ours, reference = result.losses[label], result.losses[witness]
        # Two runs that diverged in the same way agree. If only one of them is not finite, they do not.
        with np.errstate(invalid="ignore", divide="ignore"):
            difference = np.where(ours == reference, 0, np.abs(ours - reference) / np.abs(reference))
        difference[np.isnan(ours) & np.isnan(reference)] = 0
        first_apart = first_reached(-np.nan_to_num(difference, nan=np.inf), -tolerance)
        if (first_apart < 0).all():
            yield f"{label} and {witness} agree to {tolerance:g} at every iteration (relative difference of the loss)"
            continue
        parted = result.iterations[np.sort(first_apart[first_apart >= 0])]
        when = f"iteration {parted[0]}" if len(parted) == 1 else f"iterations {parted[0]} to {parted[-1]}, by seed"
        cause = "rounding has flipped a ReLU" if result.config.activation == "relu" else "rounding errors have grown"
        yield (
            f"{label} and {witness} agree to {tolerance:g} up to {when}; from there {cause}, and they differ as two "
            "roundings of one run do"
        )


def _in_optax(config: OptimizerConfig) -> OptimizerConfig | None:
    """The same rule with the same hyperparameters as `optax.sgd`; None if `optax.sgd` cannot express it.

    `optax.sgd` keeps the learning rate outside the velocity. Under a schedule that is another rule than keeping it
    inside.
    """
    defaults = {"sgd": {}, "momentum": {"momentum": 0.9}, "nesterov": {"momentum": 0.9, "nesterov": True}}
    hyperparameters = config.hyperparameters
    convention = hyperparameters.pop("convention", "outside" if config.name == "sgd" else "inside")
    differs = convention != "outside" and isinstance(hyperparameters.get("learning_rate"), Schedule)
    if config.name not in defaults or differs:
        return None
    return OptimizerConfig("optax.sgd", **{**defaults[config.name], **hyperparameters})
