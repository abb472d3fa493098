"""Writes the command that repeats a training, a sweep or a comparison."""

import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from momentum_jax.comparison.result import Comparison
from momentum_jax.config import Config
from momentum_jax.results.result import Result
from momentum_jax.results.tables import varying_hyperparameters
from momentum_jax.space import Trial, text_of_axis


def comparison_command(compared: Comparison) -> str:
    """The `momentum-jax compare` command that repeats a comparison.

    A comparison of a task of one's own cannot be repeated from the command line; the command then begins with a
    comment that says so.
    """
    plan = compared.plan
    words = ["momentum-jax", "compare", *flags_of(compared.config)]
    for label, axes in plan["space"].items():
        words += [word for name, values in axes.items() for word in ("--grid", f"{label}.{name}={values}")]
    words += _flag("tuning_seeds", len(plan["tuning_seeds"]))
    words += _flag("judge_by", *plan["judge_by"]) if plan["judge_by"] else []
    names = ("search", "trials", "search_seed", "validation", "tune_by", "learning_rate", "effective_learning_rate")
    for name in (*names, "target", "margin", "level"):
        words += [] if plan[name] is None else _flag(name, plan[name])
    note = "# with a task of one's own, which only mj.compare(..., task=...) takes:\n" if plan["own_task"] else ""
    return note + shlex.join(words)


def result_command(result: Result) -> str:
    """The command that repeats a training or the sweep of a grid.

    The result of a search does not hold its ranges; the command then begins with a comment that says so.
    """
    flags = flags_of(result.config)
    if result.trials is None:
        return shlex.join(["momentum-jax", "train", *flags])
    axes = {label: varying_hyperparameters(own) for label, own in result.trials.items()}
    if not all(_is_grid(axes[label], own) for label, own in result.trials.items()):
        return "# a search: momentum-jax sweep --search ... with\n" + shlex.join(["momentum-jax", "sweep", *flags])
    words = [
        word
        for label, own in axes.items()
        for name, values in own.items()
        for word in ("--grid", f"{label}.{name}={text_of_axis(list(dict.fromkeys(values)))}")
    ]
    return shlex.join(["momentum-jax", "sweep", *flags, *words])


def flags_of(cfg: Config) -> list[str]:
    """The flags that make this config: those of its fields that are not at their defaults, and all optimizers."""
    flags = []
    defaults = Config()
    for field in dataclasses.fields(Config):
        value = getattr(cfg, field.name)
        if field.name == "optimizers":
            flags += [word for label, o in cfg.optimizers.items() for word in ("--optimizer", o.text(label))]
        elif field.name == "seeds" and value == tuple(range(len(value))):
            flags += _flag("seeds", len(value))
        elif isinstance(value, bool):
            flags += (
                [] if value == getattr(defaults, field.name) else _flag(field.name if value else f"no_{field.name}")
            )
        elif value != getattr(defaults, field.name):
            flags += _flag(field.name, *(value if isinstance(value, tuple) else [value]))
    return flags


def _flag(name: str, *values: Any) -> list[str]:
    return [f"--{name.replace('_', '-')}", *map(str, values)]


def _is_grid(axes: Mapping[str, Sequence[object]], trials: Sequence[Trial]) -> bool:
    sizes = [len(dict.fromkeys(map(repr, values))) for values in axes.values()]
    rows = set(map(repr, zip(*axes.values(), strict=True))) if axes else set()
    return math.prod(sizes) == len(trials) == max(len(rows), 1)
