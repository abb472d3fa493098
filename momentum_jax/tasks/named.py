"""Tasks by name: `make_task`, what there is, and the check of a task's arguments without its data."""

import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from momentum_jax._base.errors import InputError, check_choice, plain, shown, unknown
from momentum_jax.tasks._task import Task
from momentum_jax.tasks.autoencoder import autoencoder
from momentum_jax.tasks.classification import image_classification
from momentum_jax.tasks.convnet import convnet
from momentum_jax.tasks.datasets import load_dataset
from momentum_jax.tasks.language import char_transformer
from momentum_jax.tasks.linear import least_squares, logistic

_TASKS: dict[str, tuple[Callable[..., Task], str]] = {
    "autoencoder": (
        autoencoder,
        "a deep sigmoid autoencoder of images with a sparse start, on which momentum made its name",
    ),
    "char_transformer": (char_transformer, "a transformer that predicts the next character of a text"),
    "convnet": (
        convnet,
        "images classified by a convolutional network, also with batch normalisation and dropout",
    ),
    "least_squares": (least_squares, "a synthetic quadratic with a given spectrum, for which theory is exact"),
    "logistic": (logistic, "images of 8×8 classified by multinomial logistic regression, a convex problem"),
    "mlp": (image_classification, "images classified by a multilayer perceptron, the tutorial's task"),
}
"""By name, the function that makes the task, and what the task is."""


def available() -> dict[str, str]:
    """What each task is, in a line, by name. `momentum_jax.make_task` makes them.

    >>> available()["mlp"]
    "images classified by a multilayer perceptron, the tutorial's task"
    """
    return {name: description for name, (_, description) in _TASKS.items()}


def make_task(name: str, **arguments: Any) -> Task:
    """The task of that name with these arguments. Equal arguments give the same functions.

    Args:
      name: one of `momentum_jax.tasks.available()`.
      **arguments: those of the function that makes the task. A task on images takes `dataset`, by default "mnist": a
        name or folder as in `load_dataset`, or a `Dataset`.

    Raises:
      InputError: there is no such task, argument or dataset, or a value has another type or is out of range.

    >>> make_task("least_squares", dimensions=4).num_examples
    512
    """
    checked = check_arguments(name, arguments)
    if takes_dataset(name):
        dataset = checked.get("dataset", "mnist")
        checked["dataset"] = load_dataset(dataset) if isinstance(dataset, str) else dataset
    return _function(name)(**checked)


def argument_names(name: str) -> list[str]:
    """The names of a task's arguments, without the dataset.

    Raises:
      InputError: there is no such task.

    >>> argument_names("autoencoder")
    ['hidden_sizes', 'code', 'connections']
    """
    return [argument for argument in inspect.signature(_function(name)).parameters if argument != "dataset"]


def takes_dataset(name: str) -> bool:
    """Whether the task of that name is one on the images of a dataset.

    Raises:
      InputError: there is no such task.
    """
    return "dataset" in inspect.signature(_function(name)).parameters


def check_arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in one form: in the task's order, with tuples for lists, without those at their defaults.

    Ranges are checked when the task is made.

    Raises:
      InputError: there is no such task or argument, or a value has another type.

    >>> check_arguments("convnet", {"dropout": 1, "channels": [8], "residual": False})
    {'channels': (8,), 'dropout': 1.0}
    """
    allowed = inspect.signature(_function(name)).parameters
    for argument in arguments:
        if argument not in allowed:
            raise unknown(f"argument of task {name!r}", argument, allowed)
    given = {
        key: _read(f"{key} of task {name!r}", parameter.annotation, arguments[key])
        for key, parameter in allowed.items()
        if key in arguments
    }
    return {key: value for key, value in given.items() if not _is_default(value, allowed[key].default)}


def _is_default(value: Any, default: Any) -> bool:
    # An array that is given for a function has no truth value when compared.
    return type(value) is type(default) and value == default


def _function(name: str) -> Callable[..., Task]:
    check_choice("task", name, _TASKS)
    return _TASKS[name][0]


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    # A comparison, because the integer may be too large for a float; a NaN is not less either.
    return (_is_integer(value) or isinstance(value, float)) and abs(value) <= sys.float_info.max


def _are_integers(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_is_integer, value))


_KINDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("True or False", lambda value: isinstance(value, bool)),
    int: ("an integer", _is_integer),
    float: ("a finite number", _is_finite),
    str: ("text", lambda value: isinstance(value, str)),
    tuple[int, ...]: ("a sequence of integers", _are_integers),
}
"""The types of arguments: what messages call them, and which values they have. Functions are checked by the task."""


def _read(what: str, annotation: Any, value: Any) -> Any:
    """A value as its type, or refused."""
    value = plain(value)
    kinds = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    known = [_KINDS[kind] for kind in kinds if kind in _KINDS]
    if known and not any(is_one(value) for _, is_one in known):
        raise InputError(f"{what} must be {' or '.join(text for text, _ in known)}, not {shown(value)}")
    # Equal numbers have one text, and so configs with them one digest; the sum makes 0.0 of -0.0.
    return float(value) + 0.0 if float in kinds and not isinstance(value, str) else value
