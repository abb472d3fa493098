"""Says how closely an optimizer of this package agrees with Optax's own of the same rule and hyperparameters."""

import itertools
from collections.abc import Iterator

import numpy as np

from momentum_jax.analysis import first_reached
from momentum_jax.optimizers.description import OptimizerConfig, Schedule
from momentum_jax.results.result import Result

_TOLERANCE = {"float32": 1e-6, "float64": 1e-12, "bfloat16": 1e-2}


def agreements(result: Result) -> Iterator[str]:
    """One sentence per pair of an optimizer and its twin in Optax: whether their losses agree, or since when not."""
    tolerance, (losses, _) = _TOLERANCE[result.config.dtype], result.batch_losses
    for (label, own), (witness, theirs) in itertools.product(result.config.optimizers.items(), repeat=2):
        if theirs != _in_optax(own):
            continue
        difference = _difference(losses[label], losses[witness])
        first_apart = first_reached(-np.nan_to_num(difference, nan=np.inf), -tolerance)
        if (first_apart < 0).all():
            yield f"{label} and {witness} agree to {tolerance:g} at every iteration."
            continue
        parted = result.iterations[np.sort(first_apart[first_apart >= 0])]
        first, last = parted[0], parted[-1]
        when = f"iteration {first}" if first == last else f"iterations {first} to {last}"
        yield f"{label} and {witness} agree to {tolerance:g} until {when}; {_ends(result, label, witness)}."


def _difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The relative difference. Two runs that diverged in the same way agree; if only one diverged, they do not."""
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.where(ours == theirs, 0, np.abs(ours - theirs) / np.abs(theirs))
    return np.where(np.isnan(ours) & np.isnan(theirs), 0, difference)


def _ends(result: Result, label: str, witness: str) -> str:
    """How far apart two optimizers end, beside how far apart the seeds of one do."""
    ours, theirs = (np.asarray(result.final_losses(name), np.float64) for name in (label, witness))
    with np.errstate(invalid="ignore"):
        apart, spread = np.median(_difference(ours, theirs)), np.ptp(ours) / np.median(ours)
    if not (np.isfinite(apart) and np.isfinite(ours).all()):
        return "not all of their runs end finite"
    seeds = "" if len(ours) == 1 else f", and the seeds of {label} by {spread:.2%}"
    return f"at the end their losses differ by {apart:.2%}{seeds}"


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
