"""Writes the command that repeats a training, a sweep or a comparison."""

import dataclasses
import itertools
import shlex
from collections.abc import Sequence
from typing import Any

from momentum_jax._base.errors import InputError
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.tuning import seeds_apart
from momentum_jax.config import Config
from momentum_jax.optimizers.description import quote_if_needed, value_text
from momentum_jax.results.result import Result
from momentum_jax.space import BATCH_SIZE, Trial, make_trials, parse_axis, space_of

# Where the functions of this package are.
_PACKAGE = "momentum_jax."


def command_of(shown: Comparison | Sequence[Result]) -> str:
    """The command that repeats a comparison, or the one of each result, a line each."""
    if isinstance(shown, Comparison):
        # Results that were only judged are repeated by training them.
        return comparison_command(shown) if "space" in shown.plan else command_of(shown.judged)
    return "\n".join(map(result_command, shown))


def comparison_command(compared: Comparison) -> str:
    """The `momentum-jax compare` command that repeats a comparison.

    A comparison of a task of one's own cannot be repeated from the command line; the command then begins with a
    comment that says so.
    """
    plan = compared.plan
    words = ["momentum-jax", "compare", *flags_of(compared.config)]
    for label, own in plan["space"].items():
        axes = [f"{quote_if_needed(label, '=')}.{name}={values}" for name, values in own.items()]
        words += [word for axis in axes for word in _flag("grid", axis)]
    own = {name: tuple(plan[name]) for name in ("tuning_seeds", "rerun_seeds")}
    by_default = seeds_apart(compared.config, *map(len, own.values()))
    for (name, seeds), default in zip(own.items(), by_default, strict=True):
        words += _flag(name, *([len(seeds)] if seeds == default else _seeds(seeds)))
    words += _flag("judge_by", *plan["judge_by"]) if plan["judge_by"] else []
    names = ("search", "trials", "search_seed", "rerun_trials", "validation", "tune_by", "learning_rate")
    for name in (*names, "effective_learning_rate", "target", "margin", "level"):
        words += [] if plan[name] is None else _flag(name, plan[name])
    note = "# with a task of one's own, which only mj.compare(..., task=...) takes:\n" if plan["own_task"] else ""
    return note + shlex.join(words)


def compare_command(cfg: Config, seeds: int) -> str:
    """The `momentum-jax compare` command on a config's task and optimizers."""
    words = flags_of(dataclasses.replace(cfg, seeds=seeds))
    if cfg.optimizers == Config().optimizers:
        # The command has its own defaults.
        first = words.index("--optimizer")
        del words[first : first + 2 * len(cfg.optimizers)]
    return shlex.join(["momentum-jax", "compare", *words])


def result_command(result: Result) -> str:
    """The command that repeats a training or the sweep of a grid.

    The result of a search does not hold its ranges; the command then begins with a comment that says so.
    """
    note = _note(result)
    words = flags_of(result.config)
    if result.trials is None:
        return note + shlex.join(["momentum-jax", "train", *words])
    axes = [axis for label, own in result.trials.items() for axis in _axes(result.config, label, own)]
    # A sweep needs an axis, also where nothing varies.
    axes = axes or [f"batch_size={result.config.batch_size}"]
    try:
        repeated = make_trials(result.config, space_of([parse_axis(axis) for axis in axes], result.config.optimizers))
    except InputError:
        repeated = {}
    if repr(sorted(repeated.items())) != repr(sorted((label, tuple(own)) for label, own in result.trials.items())):
        note, axes = f"{note}# a search: momentum-jax sweep --search ... with\n", []
    words += [word for axis in axes for word in _flag("grid", axis)]
    return note + shlex.join(["momentum-jax", "sweep", *words])


def _note(result: Result) -> str:
    """A comment above the command, where it cannot repeat the result."""
    functions = result.provenance.get("functions", {})
    names = ("init", "loss", "evaluate", "run")
    own = [name for name in names if not functions.get(name, _PACKAGE).startswith(_PACKAGE)]
    own += [label for label, optimizer in result.config.optimizers.items() if not isinstance(optimizer.name, str)]
    return f"# with functions of one's own ({', '.join(own)}), which only Python takes:\n" if own else ""


def _axes(cfg: Config, label: str, trials: Sequence[Trial]) -> list[str]:
    """The axes of the grid that trials of an optimizer form, if they form one; the slowest first."""

    def columns(trial: Trial) -> dict[str, Any]:
        return {**trial.optimizer.hyperparameters, BATCH_SIZE: trial.batch_size}

    base, rows = columns(Trial(cfg.optimizers[label], cfg.batch_size)), list(map(columns, trials))
    texts = {name: [value_text(row.get(name)) for row in rows] for name in dict.fromkeys(itertools.chain(*rows))}
    changes = {name: sum(a != b for a, b in itertools.pairwise(own)) for name, own in texts.items()}
    varying = [
        name for name, own in texts.items() if changes[name] or name not in base or own[0] != value_text(base[name])
    ]
    return [
        f"{quote_if_needed(label, '=')}.{name}={','.join(dict.fromkeys(texts[name]))}"
        for name in sorted(varying, key=changes.__getitem__)
    ]


def flags_of(cfg: Config) -> list[str]:
    """The flags that make this config: those of its fields that are not at their defaults, and all optimizers."""
    flags = []
    defaults = Config()
    for field in dataclasses.fields(Config):
        value = getattr(cfg, field.name)
        if field.name == "optimizers":
            flags += [word for label, o in cfg.optimizers.items() for word in _flag("optimizer", o.text(label))]
        elif field.name == "seeds":
            flags += _flag("seeds", *([len(value)] if value == tuple(range(len(value))) else _seeds(value)))
        elif value == getattr(defaults, field.name):
            continue
        elif isinstance(value, bool) and field.default is None:
            flags += _flag(field.name, value_text(value))
        elif isinstance(value, bool):
            flags += _flag(field.name if value else f"no_{field.name}")
        else:
            flags += _flag(field.name, *(value if isinstance(value, tuple) else [value]))
    return flags


def _seeds(seeds: Sequence[int]) -> list[str]:
    """Seeds as words; a number alone would be a count."""
    return [f"{seeds[0]},"] if len(seeds) == 1 else list(map(str, seeds))


def _flag(name: str, *values: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if len(values) == 1 and str(values[0]).startswith("-"):
        # Behind a space it would be taken for a flag.
        return [f"{flag}={values[0]}"]
    return [flag, *map(str, values)]
