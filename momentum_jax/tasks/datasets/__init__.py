"""Datasets by name: the embedded MNIST, tensorflow-datasets and folders of IDX files; and an embedded text.

`load_dataset` returns a `Dataset` in a canonical order that does not depend on the source. A new source is a loader
`_name.py` and a branch in `_load.py`. `embed_mnist` is a program that builds the embedded file. `load_text` returns a
`Text`, which encodes its characters and cuts them into windows.
"""

from momentum_jax.tasks.datasets._dataset import Dataset, check_dataset, draw_held_out
from momentum_jax.tasks.datasets._load import load_dataset
from momentum_jax.tasks.datasets._text import Text, load_text

__all__ = ["Dataset", "Text", "check_dataset", "draw_held_out", "load_dataset", "load_text"]
