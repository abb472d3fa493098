"""Descriptions of optimizers and schedules: a name with hyperparameters, which compares, hashes and is JSON or text."""

import ast
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax

from momentum_jax._base.errors import InputError, check_integer, check_real, unknown

_WARMUP: dict[str, float | None] = {
    "peak_value": None,
    "warmup_steps": None,
    "decay_steps": None,
    "init_value": 0.0,
    "end_value": 0.0,
}
# Every schedule with its parameters and their defaults; None: required.
SCHEDULES: dict[str, dict[str, float | None]] = {
    "constant": {"value": None},
    "warmup_cosine": _WARMUP,
    "warmup_linear": _WARMUP,
    "step_decay": {"init_value": None, "transition_steps": None, "decay_rate": None},
    "demon": {"init_value": None, "decay_steps": None},
    "sutskever": {"max_value": 0.99, "transition_steps": 250},
}


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class _Description:
    """A name with hyperparameters, kept sorted so that equal descriptions compare and hash equal."""

    name: Any
    items: tuple[tuple[str, Any], ...]

    def __init__(self, name: Any, hyperparameters: Mapping[str, Any]):
        for key, value in hyperparameters.items():
            if isinstance(value, jax.core.Tracer):
                raise InputError(
                    f"{key} of {name!r} is traced, and a description holds numbers: to jit, vmap or differentiate over "
                    "it, make the optimizer itself, such as mj.momentum(learning_rate, momentum)"
                )
        values = {key: plain(value) for key, value in hyperparameters.items()}
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "items", tuple(sorted(values.items())))

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return dict(self.items)

    def __repr__(self) -> str:
        arguments = [repr(self.name), *(f"{key}={value!r}" for key, value in self.items)]
        return f"{type(self).__name__}({', '.join(arguments)})"


class Schedule(_Description):
    """A hyperparameter that changes with the iteration t, as a value that a config can hold.

    Names and formulas (`momentum_jax.optimizers.schedules` evaluates them):

    - `"constant"`: value.
    - `"warmup_cosine"`: linear from init_value (0) to peak_value over warmup_steps, then half a cosine down to
      end_value (0) at iteration decay_steps, which counts the warm-up, and constant from there.
    - `"warmup_linear"`: the same with a straight line down.
    - `"step_decay"`: init_value · decay_rate^⌊t / transition_steps⌋, with 0 < decay_rate ≤ 1.
    - `"demon"`, of a momentum: init_value·u/(1 − init_value + init_value·u), u = 1 − t/decay_steps, then 0.
    - `"sutskever"`, of a momentum: 1 − 1/(2(⌊t / transition_steps⌋ + 1)), at most max_value (0.99); transition_steps
      is 250 by default.

    Raises:
      InputError: an unknown name or parameter, a missing one, or one out of range.

    >>> Schedule("step_decay", init_value=0.1, transition_steps=1000, decay_rate=0.5)
    Schedule('step_decay', decay_rate=0.5, init_value=0.1, transition_steps=1000)
    """

    def __init__(self, name: str, /, **parameters: float):
        if name not in SCHEDULES:
            raise unknown("schedule", name, SCHEDULES)
        allowed = SCHEDULES[name]
        for key in parameters:
            if key not in allowed:
                raise unknown(f"parameter of schedule {name!r}", key, allowed)
        values = {**allowed, **parameters}
        for key, value in values.items():
            what = f"{key} of schedule {name!r}"
            if value is None:
                raise InputError(f"{what} is missing; it takes {', '.join(allowed)}")
            if key == "warmup_steps":
                check_integer(what, value, 0, 2**31 - 1)
            elif key.endswith("_steps"):
                check_integer(what, value, 1, 2**31 - 1)
            elif key == "decay_rate":
                check_real(what, value, 1e-300, 1)
            else:
                check_real(what, value, 0, float("inf"))
                values[key] = float(value)
        if "warmup_steps" in values and values["decay_steps"] <= values["warmup_steps"]:  # type: ignore[operator]
            raise InputError(
                f"decay_steps of schedule {name!r} counts the warm-up, so it must be more than warmup_steps "
                f"({values['warmup_steps']}), not {values['decay_steps']}"
            )
        super().__init__(name, values)


class OptimizerConfig(_Description):
    """A serialisable description of an optimizer: a name and its hyperparameters.

    Args:
      name: one of `momentum_jax.optimizers.available()`, or `"optax.<factory>"`, `"optax.contrib.<factory>"`.
        In Python also a factory itself, a function of the hyperparameters that returns an
        `optax.GradientTransformation`; a result with one loads read-only, since nothing is imported by a name
        found in a file.
      **hyperparameters: numbers, booleans, strings, None, tuples of these, or a `Schedule`. Floats are arguments
        of the compiled program; anything else is part of it. Names and ranges are checked where the optimizer
        is built.

    >>> OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9)
    OptimizerConfig('momentum', learning_rate=0.01, momentum=0.9)
    """

    def __init__(self, name: str | Callable[..., Any], /, **hyperparameters: Any):
        if not (callable(name) or (isinstance(name, str) and name)):
            raise InputError(f"an optimizer is named by a string or given as a factory, not {name!r}")
        super().__init__(name, hyperparameters)
        for key, value in self.items:
            if not (_is_value(value) or isinstance(value, Schedule)):
                raise InputError(
                    f"hyperparameter {key} must be a number, a boolean, a string, None, a tuple of these or a "
                    f"Schedule, not {value!r}"
                )

    @classmethod
    def parse(cls, text: str) -> tuple[str, "OptimizerConfig"]:
        """Reads `LABEL=NAME,hyperparameter=value,…`, the form of the command line.

        >>> OptimizerConfig.parse("fast=momentum,learning_rate=step_decay(init_value=0.1,transition_steps=9,\
decay_rate=0.5)")[0]
        'fast'
        """
        label, equals, rest = text.partition("=")
        if not (equals and label.strip() and rest.partition(",")[0].strip()) or "," in label:
            raise InputError(f"an optimizer is written LABEL=NAME,hyperparameter=value,…; cannot read {text!r}")
        name, hyperparameters = parse_description(rest, text)
        return label.strip(), cls(name, **hyperparameters)

    def text(self, label: str) -> str:
        """The form of the command line, which `parse` reads back equal; a factory as the name of it.

        >>> OptimizerConfig("momentum", learning_rate=Schedule("constant", value=0.1), momentum=0.9).text("fast")
        'fast=momentum,learning_rate=constant(value=0.1),momentum=0.9'
        """
        return ",".join([f"{label}={self.name_text}", *(f"{name}={value_text(value)}" for name, value in self.items)])

    def to_json(self) -> dict[str, Any]:
        """The description as JSON types; `from_json` reads it back equal, a factory as the name of it."""
        return {"name": self.name_text, "hyperparameters": _encode(self.hyperparameters)}

    @classmethod
    def from_json(cls, values: Any) -> "OptimizerConfig":
        """Reads what `to_json` wrote.

        Raises:
          InputError: something else.
        """
        if not (isinstance(values, Mapping) and set(values) == {"name", "hyperparameters"}):
            raise InputError(f"optimizers must map labels to a name and hyperparameters, not {values!r}")
        return cls(values["name"], **_decode(values["hyperparameters"]))

    @property
    def name_text(self) -> str:
        """The name, or for a factory where it is defined."""
        if isinstance(self.name, str):
            return self.name
        factory = self.name.func if isinstance(self.name, functools.partial) else self.name
        return f"{factory.__module__}:{getattr(factory, '__qualname__', type(factory).__qualname__)}"


def parse_description(text: str, whole: str | None = None) -> tuple[str, dict[str, Any]]:
    """Reads `NAME,parameter=value,…`, the form of the command line of what has a name and parameters.

    >>> parse_description("quadratic,curvatures=(1,100),rotation=0.5")
    ('quadratic', {'curvatures': (1, 100), 'rotation': 0.5})

    Args:
      text: what is read.
      whole: what messages show, if that is more.

    Raises:
      InputError: something else.
    """
    name, _, arguments = text.partition(",")
    whole = whole or text
    source = f"f({arguments})"
    try:
        call = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        call = None
    # All of the text must stand inside the parentheses of this one call.
    if not (
        isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.end_col_offset == len(source.encode())
    ):
        raise InputError(f"cannot read the hyperparameters of {whole!r}: they are name=value, comma between")
    return name.strip(), _keywords(call, whole)


def parse_values(text: str) -> tuple[Any, ...]:
    """Reads values with commas between: numbers, true, false, none, words, tuples and schedules.

    >>> parse_values("0.1, constant(value=0.2)")
    (0.1, Schedule('constant', value=0.2))

    Raises:
      InputError: something else.
    """
    try:
        node = ast.parse(f"({text},)", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        node = None
    if not (isinstance(node, ast.Tuple) and node.elts):
        raise InputError(f"cannot read the values {text!r}: they are numbers, words or schedules, commas between")
    return tuple(_literal(entry, text) for entry in node.elts)


def value_text(value: Any) -> str:
    """The form of the command line of a hyperparameter's value, which `parse_values` reads back.

    >>> value_text(True), value_text((0.0, 0.9)), value_text("outside")
    ('true', '(0.0, 0.9)', 'outside')
    """
    if isinstance(value, Schedule):
        return f"{value.name}({','.join(f'{name}={value_text(entry)}' for name, entry in value.items)})"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) and value.isidentifier() else repr(value)


def plain(value: Any) -> Any:
    """Turns NumPy scalars and lists into what JSON and hashing take."""
    if isinstance(value, list | tuple):
        return tuple(plain(entry) for entry in value)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def _is_value(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_value, value))
    return value is None or isinstance(value, bool | int | float | str)


def _keywords(call: ast.Call, text: str) -> dict[str, Any]:
    if call.args:
        raise InputError(f"{ast.unparse(call.args[0])!r} in {text!r} has no name: write name=value")
    values: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in values:
            raise InputError(f"{ast.unparse(keyword.value)!r} in {text!r} is given twice or without a name")
        values[keyword.arg] = _literal(keyword.value, text)
    return values


def _literal(node: ast.expr, text: str) -> Any:
    words = {"true": True, "false": False, "none": None, "nan": float("nan"), "inf": float("inf")}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return Schedule(node.func.id, **_keywords(node, text))
    if isinstance(node, ast.Name):
        return words.get(node.id.lower(), node.id)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise InputError(
            f"cannot read {ast.unparse(node)!r} in {text!r}: a number, true, false, none, a word, or a schedule "
            f"such as constant(value=0.1)"
        ) from None


def _encode(value: Any) -> Any:
    if isinstance(value, Schedule):
        return {"schedule": value.name, **value.hyperparameters}
    if isinstance(value, dict):
        return {key: _encode(entry) for key, entry in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return [_encode(entry) for entry in value] if isinstance(value, tuple) else value


def _decode(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(hyperparameters, Mapping):
        raise InputError(f"hyperparameters must map names to values, not {hyperparameters!r}")
    return {key: _decode_value(value) for key, value in hyperparameters.items()}


def _decode_value(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_decode_value, value))
    if isinstance(value, dict) and "schedule" in value:
        return Schedule(value["schedule"], **{k: v for k, v in value.items() if k != "schedule"})
    if isinstance(value, dict) and "float" in value:
        return float(value["float"])
    return value
