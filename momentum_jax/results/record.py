"""One run and the record that it leaves behind."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, PyTree

from momentum_jax.space import Trial


class Run(NamedTuple):
    """One trial with one seed.

    Attributes:
      label: of the optimizer.
      position: of the trial among those of the label; 0 outside of sweeps.
      trial: the optimizer with its hyperparameters, and the batch size.
      seed: of the initial weights and the batches.
    """

    label: str
    position: int
    trial: Trial
    seed: int


class Record(NamedTuple):
    """What one run left behind.

    Attributes:
      losses: after each recorded update; None where they are not recorded.
      losses_before: before each recorded update, on the same batch.
      metrics: by name: [recorded, …].
      diverged_at: the first iteration whose loss is not finite; −1 if never.
      evaluations: by name, one entry an evaluation.
      failed: whether the run diverged, or ended no better than a constant predictor.
      params: the parameters that the last evaluation is of; None where they are not kept.
      error: of a run of a `HostTask`, what it raised, with the traceback, or empty; None for other runs.
    """

    losses: Float[np.ndarray, " recorded"] | None
    losses_before: Float[np.ndarray, " recorded"]
    metrics: dict[str, np.ndarray]
    diverged_at: int
    evaluations: dict[str, Float[np.ndarray, " evaluations"]]
    failed: bool
    params: PyTree[np.ndarray] | None
    error: str | None = None

    @property
    def finals(self) -> dict[str, Any]:
        """The entries of the columns `tables.FINALS`."""
        last = {name: float(values[-1]) for name, values in self.evaluations.items() if len(values)}
        return {
            "final_train_loss": last.get("train_loss"),
            "test_loss": last.get("test_loss"),
            "test_accuracy": last.get("test_accuracy"),
            "failed": self.failed,
            "diverged_at": None if self.diverged_at < 0 else self.diverged_at,
        }
