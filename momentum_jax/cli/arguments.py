"""Declares flags, parses them, and makes a `Config` of them."""

import dataclasses
import pathlib
import re
import typing
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import docstring_parser
import tyro

from momentum_jax._base.errors import InputError
from momentum_jax.cli.jax_setup import HELP as CACHE_HELP
from momentum_jax.config import Config
from momentum_jax.optimizers.description import OptimizerConfig

Field = tuple[str, Any] | tuple[str, Any, Any]
"""Name and annotation of an argument, and its default if it has one."""

LAYOUT_HELP = "whether a device trains its runs one by one (map) or together (vmap); auto chooses by the device."


def flag(name: str, kind: Any, default: Any, text: str, /, **options: Any) -> Field:
    """Declares a flag; `options` are those of `tyro.conf.arg`."""
    return name, Annotated[kind, tyro.conf.arg(help=text, **options)], default


def positional(name: str, kind: Any, metavar: str) -> Field:
    """Declares an argument that is given without a flag; a tuple may be empty, anything else is required."""
    return name, Annotated[kind, tyro.conf.Positional, tyro.conf.arg(metavar=metavar)]


def switch(name: str, text: str) -> Field:
    """Declares a flag without a value, off by default."""
    return flag(name, tyro.conf.FlagCreatePairsOff[bool], False, text)


def repeated_flag(name: str, text: str, /, **options: Any) -> Field:
    """Declares a flag that may be given many times; its value is a tuple of texts."""
    return flag(name, tyro.conf.UseAppendAction[tuple[str, ...]], (), text, **options)


def optimizers_flag(default: str) -> Field:
    """Declares `--optimizer`; `default` is the sentence that says what is compared without it."""
    metavar = "LABEL=NAME,learning_rate=0.01,..."
    return repeated_flag("optimizers", f"what to compare, once for each; {default}", name="optimizer", metavar=metavar)


def config_flags(default_optimizers: str = "by default sgd, momentum and optax.") -> list[Field]:
    """Declares a flag for each field of `Config`, with the help text from its docstring."""
    helps = {
        p.arg_name: (p.description or "").replace("\n", " ")
        for p in docstring_parser.parse(Config.__doc__ or "").params
    }
    types = typing.get_type_hints(Config)
    fields: list[Field] = []
    for field in dataclasses.fields(Config):
        if field.name == "optimizers":
            fields.append(optimizers_flag(default_optimizers))
        else:
            # On the command line a single number is a count of seeds, so the default is shown as one.
            default = 1 if field.name == "seeds" else field.default
            fields.append(flag(field.name, types[field.name], default, helps[field.name]))
    return fields


def output_flags(folder: str) -> list[Field]:
    """Declares the flags of every command that trains; `folder` is the help text of `--out`."""
    return [
        flag("out", pathlib.Path | None, None, folder, metavar="DIR"),
        flag("compilation_cache", str | None, None, CACHE_HELP, metavar="DIR"),
        switch("quiet", "print nothing but errors."),
    ]


def parse(argv: Sequence[str], command: str, description: str, fields: Iterable[Field]) -> Any:
    """Parses the arguments of a command into an object with one attribute per field.

    Raises:
      InputError: a flag whose last value would replace the first is given twice.
      SystemExit: with 0 for --help, with 2 for what cannot be parsed.
    """
    fields = list(fields)
    given = [word.partition("=")[0].replace("_", "-") for word in argv]
    for name, annotation, *_ in fields:
        option = f"--{name.replace('_', '-')}"
        if given.count(option) > 1 and tyro.conf.UseAppendAction not in annotation.__metadata__:
            raise InputError(f"{option} is given twice; give it once, with all its values")
    kind = dataclasses.make_dataclass("Arguments", fields, frozen=True)
    return tyro.cli(kind, args=argv, prog=command, description=description)


def optimizers_of(texts: Iterable[str]) -> dict[str, OptimizerConfig]:
    """Reads the values of `--optimizer` into optimizers by label.

    Raises:
      InputError: a value cannot be read, or a label is given twice.
    """
    optimizers: dict[str, OptimizerConfig] = {}
    for text in texts:
        label, optimizer = OptimizerConfig.parse(text)
        if label in optimizers:
            raise InputError(f"--optimizer: the label {label!r} is given twice")
        optimizers[label] = optimizer
    return optimizers


def config_of(arguments: Any) -> Config:
    """Makes the config that the parsed `config_flags` describe.

    Raises:
      InputError: a value cannot be used.
    """
    values: dict[str, Any] = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Config)}
    optimizers = optimizers_of(values.pop("optimizers"))
    return Config(**values | ({"optimizers": optimizers} if optimizers else {}))


def slug(dataset: str) -> str:
    """A dataset's name as part of a folder's name: letters, digits and hyphens."""
    return re.sub(r"[^A-Za-z0-9]+", "-", dataset.rstrip("/").rsplit("/", 1)[-1]).strip("-") or "data"
