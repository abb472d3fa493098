"""Declares flags, parses them, and makes a `Config` of them."""

import contextlib
import dataclasses
import io
import itertools
import os
import pathlib
import re
import shutil
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import docstring_parser
import tyro

from momentum_jax._base.errors import InputError, shown, unknown
from momentum_jax.cli.jax_setup import HELP as CACHE_HELP
from momentum_jax.config import Config
from momentum_jax.optimizers.description import BOOLEANS, OptimizerConfig, parse_description
from momentum_jax.tasks.named import takes_dataset

LAYOUT_HELP = "whether a device trains its runs one by one (map) or together (vmap); auto chooses by the device."
SEEDS = int | tuple[int, ...]
_SEEDS_HELP = (
    "the seeds; one number n stands for the seeds 0 … n−1, and one with a comma, such as 5, for that seed alone."
)
WITHIN_HELP = (
    "time that all of it may take, such as 90s, 10m or 2h: a pilot chooses --trials and --seeds where they are not "
    "given, and fewer --iterations if nothing else fits."
)
_NUMBERS = {int: "an integer", float: "a number"}
# In fewer than five columns tyro's help never ends.
_LEAST_COLUMNS = 40


class Field(typing.NamedTuple):
    """An argument of a command.

    Tyro splits the words and writes the help, and sees texts only. What they mean is read here, so that an error is one
    line.
    """

    name: str
    kind: Any
    """The type of the value."""
    seen: Any
    """The annotation for tyro."""
    default: Any
    """The default for tyro."""
    text: str
    """What messages call it."""


def flag(name: str, kind: Any, default: Any, text: str, /, **options: Any) -> Field:
    """Declares a flag; `options` are those of `tyro.conf.arg`."""
    seen: Any = str | None
    if kind is bool:
        seen = bool
    elif _is_several(kind) and default is None:
        seen = tuple[str, ...] | None
    elif _is_several(kind):
        seen, default = tuple[str, ...], tuple(map(str, default))
    elif default is not None:
        seen, default = str, str(default)
    options = {"metavar": _metavar(kind), **options}
    return Field(name, kind, Annotated[seen, tyro.conf.arg(help=text, **options)], default, _flag_text(name))


def positional(name: str, metavar: str) -> Field:
    """Declares folders that are given without a flag."""
    seen = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar=metavar)]
    return Field(name, tuple[pathlib.Path, ...], seen, (), "DIR")


def switch(name: str, text: str) -> Field:
    """Declares a flag without a value, off by default."""
    return Field(
        name, bool, Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(help=text)], False, _flag_text(name)
    )


def repeated_flag(name: str, text: str, /, **options: Any) -> Field:
    """Declares a flag that may be given many times; its value is a tuple of texts."""
    seen = Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(help=text, **options)]
    return Field(name, tuple[str, ...], seen, (), _flag_text(options.get("name", name)))


def json_switch() -> Field:
    """Declares `--json`."""
    return switch("json", "print the result as one JSON document on standard output, also with --quiet.")


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
    kinds = typing.get_type_hints(Config)
    fields: list[Field] = []
    for field in dataclasses.fields(Config):
        if field.name == "optimizers":
            fields.append(optimizers_flag(default_optimizers))
        elif field.name == "seeds":
            fields.append(flag("seeds", SEEDS, (1,), _SEEDS_HELP))
        else:
            fields.append(flag(field.name, kinds[field.name], field.default, helps[field.name]))
    return fields


def output_flags(folder: str) -> list[Field]:
    """Declares the flags of every command that trains; `folder` is the help text of `--out`."""
    return [
        flag("out", pathlib.Path | None, None, folder, metavar="DIR"),
        flag("compilation_cache", str | None, None, CACHE_HELP, metavar="DIR"),
        switch("quiet", "print nothing but errors."),
        json_switch(),
    ]


def parse(argv: Sequence[str], command: str, description: str, fields: Iterable[Field]) -> Any:
    """Parses the arguments of a command into an object with one attribute per field.

    Raises:
      InputError: the arguments cannot be parsed, or a value is not of its kind.
      SystemExit: with 0, for --help.
    """
    fields = list(fields)
    if shutil.get_terminal_size().columns < _LEAST_COLUMNS:
        os.environ["COLUMNS"] = str(_LEAST_COLUMNS)
    kind = dataclasses.make_dataclass("Arguments", [(field.name, field.seen, field.default) for field in fields])
    said = io.StringIO()
    parsed: Any
    try:
        with contextlib.redirect_stderr(said):
            parsed, left = tyro.cli(
                kind, args=list(argv), prog=command, description=description, return_unknown_args=True
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise InputError(_in_one_line(said.getvalue())) from None
    if left:
        raise unknown("argument", left[0].partition("=")[0], [f.text for f in fields if f.text.startswith("--")])
    return types.SimpleNamespace(**{field.name: _read(field, getattr(parsed, field.name)) for field in fields})


def _flag_text(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _in_one_line(box: str) -> str:
    """The message of tyro, which stands in a box between a title and a rule; where there is no UTF-8, between rules."""

    def is_rule(line: str) -> bool:
        return set(line) <= set("─-╰╯")

    below_title = itertools.dropwhile(is_rule, (line.strip("│ ") for line in box.splitlines()[1:]))
    return " ".join(itertools.takewhile(lambda line: not is_rule(line), below_title))


def _is_several(kind: Any) -> bool:
    return kind == SEEDS or typing.get_origin(_members(kind)[0]) is tuple


def _members(kind: Any) -> list[Any]:
    """The types that a kind is a union of, without None."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return [kind]
    return [member for member in typing.get_args(kind) if member is not types.NoneType]


def _metavar(kind: Any) -> str:
    if kind == SEEDS:
        return "N|SEED,|SEED SEED ..."
    if _is_several(kind):
        one = _metavar(typing.get_args(_members(kind)[0])[0])
        return f"[{one} [{one} ...]]"
    names = {int: "INT", float: "FLOAT", bool: "{yes,no}"}
    choices = (typing.get_args(member) for member in _members(kind))
    return "|".join(
        f"{{{','.join(own)}}}" if own else names.get(member, "STR")
        for own, member in zip(choices, _members(kind), strict=True)
    )


def _read(field: Field, given: Any) -> Any:
    """What was given for an argument, as its kind."""
    if given is None or isinstance(given, bool):
        return given
    if field.kind == SEEDS:
        return _read_seeds(field.text, given)
    if _is_several(field.kind):
        return tuple(_read_word(field.text, typing.get_args(_members(field.kind)[0])[0], word) for word in given)
    return _read_word(field.text, field.kind, given)


def _read_word(what: str, kind: Any, word: str) -> Any:
    if not word or "\0" in word:
        raise InputError(f"{what} needs a value, not {word!r}")
    choices = [choice for member in _members(kind) for choice in typing.get_args(member)]
    if word in choices:
        return word
    if bool in _members(kind):
        if word.lower() not in BOOLEANS:
            raise unknown(what, word, BOOLEANS)
        return BOOLEANS[word.lower()]
    for member in _members(kind):
        if member in (str, pathlib.Path):
            return member(word)
        if member in _NUMBERS:
            with contextlib.suppress(ValueError):
                return member(word)
    numbers = [_NUMBERS[member] for member in _members(kind) if member in _NUMBERS]
    if choices:
        raise unknown(what, word, [*choices, *numbers])
    raise InputError(f"{what} must be {numbers[0]}, not {shown(word)}")


def _read_seeds(what: str, words: Sequence[str]) -> int | tuple[int, ...]:
    """A number alone is a count of seeds; numbers, or one with a comma behind it, are the seeds themselves."""
    numbers = [number for word in words for number in word.split(",") if number.strip()]
    seeds = tuple(_read_word(what, int, number) for number in numbers)
    return seeds[0] if len(seeds) == 1 and "," not in words[0] else seeds


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


def seconds_of(text: str) -> float:
    """Reads the value of `--within`, a number with its unit, as seconds.

    Raises:
      InputError: it cannot be read.

    >>> seconds_of("90s"), seconds_of("10m"), seconds_of("1.5h")
    (90.0, 600.0, 5400.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None:
        raise InputError(f"--within must be a time such as 90s, 10m or 2h, not {shown(text)}")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def config_of(arguments: Any) -> Config:
    """Makes the config that the parsed `config_flags` describe.

    Raises:
      InputError: a value cannot be used.
    """
    values: dict[str, Any] = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Config)}
    optimizers = optimizers_of(values.pop("optimizers"))
    return Config(**values | ({"optimizers": optimizers} if optimizers else {}))


def folder_name(cfg: Config) -> str:
    """The beginning of the name of a folder for a config's runs: the dataset, the task, or both.

    >>> folder_name(Config()), folder_name(Config(task="convnet,channels=(8,)"))
    ('mnist', 'mnist-convnet')
    """
    name, _ = parse_description(cfg.task)
    return "-".join([*([slug(cfg.dataset)] if takes_dataset(name) else []), *([] if name == "mlp" else [slug(name)])])


def slug(dataset: str) -> str:
    """A dataset's name as part of a folder's name: at most 100 letters, digits and hyphens."""
    return re.sub(r"[^A-Za-z0-9]+", "-", dataset.rstrip("/").rsplit("/", 1)[-1])[:100].strip("-") or "data"
