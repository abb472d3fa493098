"""Datasets by name: the embedded MNIST, tensorflow-datasets, folders of IDX files; all in one canonical order."""

from momentum_jax.data._dataset import Dataset, draw_held_out
from momentum_jax.data._load import load_dataset

__all__ = ["Dataset", "draw_held_out", "load_dataset"]
