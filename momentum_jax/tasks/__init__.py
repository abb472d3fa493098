"""What is minimised: initial parameters, the loss on a batch, the data, an evaluation."""

from momentum_jax.tasks._task import Data, Metric, Params, Scalars, Task, mean_over_examples
from momentum_jax.tasks.classification import image_classification
from momentum_jax.tasks.landscapes import Landscape
from momentum_jax.tasks.mlp import MLP

__all__ = [
    "MLP",
    "Data",
    "Landscape",
    "Metric",
    "Params",
    "Scalars",
    "Task",
    "image_classification",
    "mean_over_examples",
]
