"""Tasks: what is minimised. Initial parameters, the loss on a batch, the data and an evaluation.

It exports `Task` for problems of one's own, `image_classification` with its network `MLP`, and `Landscape`, a function
of a few coordinates. `tasks.landscapes` has the landscapes by name, `tasks.datasets` the datasets. A task knows nothing
of optimizers, configs or training.
"""

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
