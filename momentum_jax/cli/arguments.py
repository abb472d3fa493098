"""The flags that describe an experiment, which `train` and `sweep` share."""

import dataclasses
import os
import pathlib
import re
import typing
from collections.abc import Iterable
from typing import Annotated, Any

import docstring_parser
import jax
import tyro

from momentum_jax._base.errors import InputError
from momentum_jax._base.machine import cores
from momentum_jax.cli.compilation_cache import HELP as CACHE_HELP
from momentum_jax.cli.compilation_cache import use_compilation_cache
from momentum_jax.config import Config
from momentum_jax.optimizers.description import OptimizerConfig

Field = tuple[str, Any, Any]
"""Name, annotation and default of a flag."""


def flag(name: str, kind: Any, default: Any, text: str, /, **options: Any) -> Field:
    return name, Annotated[kind, tyro.conf.arg(help=text, **options)], default


def switch(name: str, text: str) -> Field:
    return flag(name, tyro.conf.FlagCreatePairsOff[bool], False, text)


def arguments_type(folder: str, more: Iterable[Field] = ()) -> type[Any]:
    """A flag for each field of `Config`, explained by its docstring, and those that only the command line has."""
    helps = {
        p.arg_name: (p.description or "").replace("\n", " ")
        for p in docstring_parser.parse(Config.__doc__ or "").params
    }
    types = typing.get_type_hints(Config)
    fields: list[Field] = []
    for field in dataclasses.fields(Config):
        if field.name == "optimizers":
            fields.append(optimizers_flag("by default sgd, momentum and optax."))
        else:
            # Typed, a single number is how many seeds, so that is how the default is shown.
            default = 1 if field.name == "seeds" else field.default
            fields.append(flag(field.name, types[field.name], default, helps[field.name]))
    fields += more
    fields += [
        flag("out", pathlib.Path | None, None, folder, metavar="DIR"),
        flag("compilation_cache", str | None, None, CACHE_HELP, metavar="DIR"),
        switch("quiet", "print nothing but errors."),
    ]
    return dataclasses.make_dataclass("Arguments", fields, frozen=True)


def optimizers_flag(default: str) -> Field:
    """What is compared; says what by default."""
    kind = tyro.conf.UseAppendAction[tuple[str, ...]]
    metavar = "LABEL=NAME,learning_rate=0.01,..."
    return flag("optimizers", kind, (), f"what to compare, once for each; {default}", name="optimizer", metavar=metavar)


def optimizers_of(texts: Iterable[str]) -> dict[str, OptimizerConfig]:
    """What `--optimizer` said, by label.

    Raises:
      InputError: it cannot be read, or a label is given twice.
    """
    optimizers: dict[str, OptimizerConfig] = {}
    for text in texts:
        label, optimizer = OptimizerConfig.parse(text)
        if label in optimizers:
            raise InputError(f"--optimizer: the label {label!r} is given twice")
        optimizers[label] = optimizer
    return optimizers


def config_of(arguments: Any) -> Config:
    """The config that the flags describe."""
    values: dict[str, Any] = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Config)}
    optimizers = optimizers_of(values.pop("optimizers"))
    return Config(**values | ({"optimizers": optimizers} if optimizers else {}))


def flags_of(cfg: Config) -> list[str]:
    """The flags from which `config_of` makes a config, as far as they are not the defaults."""
    flags = []
    defaults = Config()
    for field in dataclasses.fields(Config):
        value = getattr(cfg, field.name)
        name = "--" + field.name.replace("_", "-")
        if field.name == "optimizers":
            flags += [word for label, o in cfg.optimizers.items() for word in ("--optimizer", o.text(label))]
        elif field.name == "seeds" and value == tuple(range(len(value))):
            flags += [name, str(len(value))]
        elif isinstance(value, bool):
            flags += [] if value == getattr(defaults, field.name) else [name if value else f"--no-{name[2:]}"]
        elif value != getattr(defaults, field.name):
            flags += [name, *map(str, value if isinstance(value, tuple) else [value])]
    return flags


def set_up_jax(compilation_cache: str | None) -> None:
    """A device a core, and the cache of compiled programs."""
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", cores())
    use_compilation_cache(compilation_cache)


def slug(dataset: str) -> str:
    """A dataset's name as part of a folder's."""
    return re.sub(r"[^A-Za-z0-9]+", "-", dataset.rstrip("/").rsplit("/", 1)[-1]).strip("-") or "data"


def counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
