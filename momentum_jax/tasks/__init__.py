"""Tasks: what is minimised. Initial parameters, the loss on a batch, the data and an evaluation.

It exports `Task` for problems of one's own, `HostTask` for training loops of one's own, `flax_task` for networks of
Flax, `make_task` for the tasks by name, which `available` lists, `image_classification` with its network `MLP`,
`char_transformer` with its network `CharTransformer`, and `Landscape`, a function of a few coordinates.
`tasks.landscapes` has the landscapes by name, `tasks.datasets` the datasets, `tasks.augmentation` random changes of
images. A task knows nothing of optimizers, configs or training.
"""

from momentum_jax.tasks._task import Data, Metric, Params, Scalars, Task, Variables, mean_over_examples
from momentum_jax.tasks.autoencoder import Autoencoder
from momentum_jax.tasks.classification import image_classification
from momentum_jax.tasks.convnet import ConvNet
from momentum_jax.tasks.flax import flax_task
from momentum_jax.tasks.host import HostTask
from momentum_jax.tasks.host_data import HostData
from momentum_jax.tasks.landscapes import Landscape
from momentum_jax.tasks.language import CharTransformer, char_transformer
from momentum_jax.tasks.mlp import MLP
from momentum_jax.tasks.named import available, make_task

__all__ = [
    "MLP",
    "Autoencoder",
    "CharTransformer",
    "ConvNet",
    "Data",
    "HostData",
    "HostTask",
    "Landscape",
    "Metric",
    "Params",
    "Scalars",
    "Task",
    "Variables",
    "available",
    "char_transformer",
    "flax_task",
    "image_classification",
    "make_task",
    "mean_over_examples",
]
