"""Descriptions of optimizers and schedules: values that compare, hash, and can be written as JSON or text.

`OptimizerConfig` describes an optimizer, `Schedule` a hyperparameter that changes. Both are a name with parameters;
`momentum_jax.optimizers.registry` builds the optimizer. The text form is that of the command line.
"""

import ast
import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax

from momentum_jax._base.errors import InputError, check_integer, check_real, unknown
from momentum_jax.optimizers.schedules import FORMULAS

SCHEDULES: dict[str, dict[str, float | None]] = {
    name: {
        parameter.name: None if parameter.default is parameter.empty else parameter.default
        for parameter in inspect.signature(formula).parameters.values()
    }
    for name, formula in FORMULAS.items()
}
"""Every schedule with its parameters and their defaults; None marks a required one."""


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class _Description:
    """A name with hyperparameters."""

    name: Any
    items: tuple[tuple[str, Any], ...]
    """The hyperparameters, sorted so that descriptions compare and hash equal whatever the order of the arguments."""

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
    """A serialisable description of a schedule: a hyperparameter that changes with the iteration t.

    Args:
      name: one of the names below.
      **parameters: those of the formula.

        - `"constant"`: value.
        - `"warmup_cosine"`: a line from init_value (0) to peak_value over warmup_steps, then half a cosine down to
          end_value (0) at iteration decay_steps, then constant. decay_steps includes the warm-up.
        - `"warmup_linear"`: the same, with a line instead of the cosine.
        - `"step_decay"`: init_value · decay_rate^⌊t / transition_steps⌋, with 0 < decay_rate ≤ 1.
        - `"demon"`, for a momentum: init_value·u/(1 − init_value + init_value·u), u = max(1 − t/decay_steps, 0).
        - `"sutskever"`, for a momentum: min(1 − 1/(2(⌊t / transition_steps⌋ + 1)), max_value), with max_value 0.99
          and transition_steps 250 by default.

    Raises:
      InputError: the name or a parameter is unknown, or a parameter is missing or out of range.

    >>> Schedule("step_decay", init_value=0.1, transition_steps=1000, decay_rate=0.5)
    Schedule('step_decay', decay_rate=0.5, init_value=0.1, transition_steps=1000)
    """

    def __init__(self, name: str, /, **parameters: float):
        if not isinstance(name, str) or name not in SCHEDULES:
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
    """A serialisable description of an optimizer: a name and hyperparameters.

    Args:
      name: one of `momentum_jax.optimizers.available()`, `"optax.<factory>"` or `"optax.contrib.<factory>"`. In Python
        it can be a factory itself: a function of the hyperparameters that returns an `optax.GradientTransformation`.
        A saved result with such a factory can be read but not run again, because nothing is imported by a name found
        in a file.
      **hyperparameters: numbers, booleans, strings, None, tuples of these, or a `Schedule`. Floats are arguments of
        the compiled program; anything else is part of it. Names and ranges are checked when the optimizer is built.

    Raises:
      InputError: the name is neither a string nor a factory, or a hyperparameter has another type.

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
        """Reads a label and a description from `LABEL=NAME,hyperparameter=value,…`, the form of the command line.

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
        """The text form, which `parse` reads back. Of a factory it holds only the name.

        >>> OptimizerConfig("momentum", learning_rate=Schedule("constant", value=0.1), momentum=0.9).text("fast")
        'fast=momentum,learning_rate=constant(value=0.1),momentum=0.9'
        """
        return ",".join([f"{label}={self.name_text}", *(f"{name}={value_text(value)}" for name, value in self.items)])

    def to_json(self) -> dict[str, Any]:
        """The description as JSON types, which `from_json` reads back. Of a factory it holds only the name."""
        return {"name": self.name_text, "hyperparameters": {key: _encode(value) for key, value in self.items}}

    @classmethod
    def from_json(cls, values: Any) -> "OptimizerConfig":
        """The description that `to_json` gave these values.

        Raises:
          InputError: `to_json` cannot have given them.
        """
        if not (isinstance(values, Mapping) and set(values) == {"name", "hyperparameters"}):
            raise InputError(f"optimizers must map labels to a name and hyperparameters, not {values!r}")
        hyperparameters = values["hyperparameters"]
        if not isinstance(hyperparameters, Mapping):
            raise InputError(f"hyperparameters must map names to values, not {hyperparameters!r}")
        return cls(values["name"], **{key: _decode(value) for key, value in hyperparameters.items()})

    @property
    def name_text(self) -> str:
        """The name; of a factory, its module and qualified name."""
        if isinstance(self.name, str):
            return self.name
        factory = self.name.func if isinstance(self.name, functools.partial) else self.name
        return f"{factory.__module__}:{getattr(factory, '__qualname__', type(factory).__qualname__)}"


def parse_description(text: str, whole: str | None = None) -> tuple[str, dict[str, Any]]:
    """Reads a name and its parameters from `NAME,parameter=value,…`.

    >>> parse_description("quadratic,curvatures=(1,100),rotation=0.5")
    ('quadratic', {'curvatures': (1, 100), 'rotation': 0.5})

    Args:
      text: the text to read.
      whole: the longer text that it is part of, for messages.

    Raises:
      InputError: the text has another form.
    """
    name, _, arguments = text.partition(",")
    whole = whole or text
    source = f"f({arguments})"
    call = _expression(source)
    # The call must end where the source does: "a=1) # b=2" would hide the rest in a comment.
    if not (
        isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.end_col_offset == len(source.encode())
    ):
        raise InputError(f"cannot read the hyperparameters of {whole!r}: they are name=value, comma between")
    return name.strip(), _keywords(call, whole)


def parse_values(text: str) -> tuple[Any, ...]:
    """Reads values that are separated by commas: numbers, true, false, none, words, tuples and schedules.

    >>> parse_values("0.1, constant(value=0.2)")
    (0.1, Schedule('constant', value=0.2))

    Raises:
      InputError: the text has another form.
    """
    node = _expression(f"({text},)")
    if not (isinstance(node, ast.Tuple) and node.elts):
        raise InputError(f"cannot read the values {text!r}: they are numbers, words or schedules, commas between")
    return tuple(_literal(entry, text) for entry in node.elts)


def value_text(value: Any) -> str:
    """The text form of a hyperparameter's value, which `parse_values` reads back.

    >>> value_text(True), value_text((0.0, 0.9)), value_text("outside")
    ('true', '(0.0, 0.9)', 'outside')
    """
    if isinstance(value, Schedule):
        return f"{value.name}({','.join(f'{name}={value_text(entry)}' for name, entry in value.items)})"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) and value.isidentifier() else repr(value)


def plain(value: Any) -> Any:
    """The value with NumPy scalars as Python numbers and lists as tuples, so that it hashes and is JSON."""
    if isinstance(value, list | tuple):
        return tuple(plain(entry) for entry in value)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def _is_value(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_value, value))
    return value is None or isinstance(value, bool | int | float | str)


def _expression(source: str) -> ast.expr | None:
    """The syntax tree of an expression, or None if the source is not one."""
    try:
        return ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


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
            "such as constant(value=0.1)"
        ) from None


def _encode(value: Any) -> Any:
    if isinstance(value, Schedule):
        return {"schedule": value.name, **value.hyperparameters}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return [_encode(entry) for entry in value] if isinstance(value, tuple) else value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_decode, value))
    if isinstance(value, dict) and "schedule" in value:
        return Schedule(value["schedule"], **{k: v for k, v in value.items() if k != "schedule"})
    if isinstance(value, dict) and "float" in value:
        return float(value["float"])
    return value
