"""Datasets by name: the embedded MNIST, tensorflow-datasets, folders of IDX files; all in one canonical order."""

from momentum_jax.tasks.datasets._dataset import Dataset, draw_held_out
from momentum_jax.tasks.datasets._load import load_dataset

__all__ = ["Dataset", "draw_held_out", "load_dataset"]
