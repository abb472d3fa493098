"""Datasets by name: the embedded MNIST, tensorflow-datasets and folders of IDX files.

`load_dataset` returns a `Dataset` in a canonical order that does not depend on the source. A new source is a loader
`_name.py` and a branch in `_load.py`. `embed_mnist` is a program that builds the embedded file.
"""

from momentum_jax.tasks.datasets._dataset import Dataset, draw_held_out
from momentum_jax.tasks.datasets._load import load_dataset

__all__ = ["Dataset", "draw_held_out", "load_dataset"]
