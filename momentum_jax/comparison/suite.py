"""Tasks to compare optimizers on: real ones, none of which needs a network."""

import pathlib
from collections.abc import Mapping
from typing import Any

from momentum_jax.config import Config

# Of Debian's package dataset-fashion-mnist.
_FASHION = "/usr/share/datasets/fashion-mnist"
_SUITE: dict[str, dict[str, Any]] = {
    "MNIST MLP": {"iterations": 2000},
    "deep autoencoder": {"task": "autoencoder", "iterations": 1000},
    "Fashion-MNIST convnet": {
        "task": "convnet,batch_norm=true,shift=2",
        "dataset": _FASHION,
        "iterations": 1000,
        "batch_size": 64,
    },
    "logistic regression": {"task": "logistic", "iterations": 1000},
    "Shakespeare transformer": {"task": "char_transformer", "iterations": 1000, "batch_size": 64},
    "least squares": {
        "task": "least_squares,dimensions=64,mu=0.001,spectrum=power,noise=0.1",
        "iterations": 1000,
        "batch_size": 32,
    },
}
_FAST: dict[str, dict[str, Any]] = {
    "MNIST MLP": {"iterations": 300, "batch_size": 64},
    "logistic regression": {"task": "logistic", "iterations": 300},
    "least squares": {"task": "least_squares,mu=0.001,noise=0.1", "iterations": 300, "batch_size": 32},
}


def suite(*, fast: bool = False) -> dict[str, Config]:
    """The tasks of the suite by name, as `compare_tasks` takes them; with `fast` three short ones.

    A task whose dataset is not on this machine is left out.

    >>> list(suite(fast=True))
    ['MNIST MLP', 'logistic regression', 'least squares']
    """
    chosen = _FAST if fast else _SUITE
    return {name: Config(**fields) for name, fields in chosen.items() if _is_there(fields)}


def _is_there(fields: Mapping[str, Any]) -> bool:
    return "dataset" not in fields or pathlib.Path(fields["dataset"]).is_dir()
