"""Descriptions of optimizers and schedules: values that compare, hash, and can be written as JSON or text.

`OptimizerConfig` describes an optimizer, `Schedule` a hyperparameter that changes. Both are a name with parameters;
`momentum_jax.optimizers.registry` builds the optimizer. The text form is that of the command line.
"""

import ast
import dataclasses
import functools
import inspect
import keyword
import math
import re
import unicodedata
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax

from momentum_jax._base.errors import (
    InputError,
    check_choice,
    check_integer,
    check_real,
    is_utf8,
    plain,
    shown,
    unknown,
)
from momentum_jax.optimizers._hyperparameters import ABOVE_0, RANGES
from momentum_jax.optimizers.schedules import FORMULAS

SCHEDULES: dict[str, dict[str, float | None]] = {
    name: {
        parameter.name: None if parameter.default is parameter.empty else parameter.default
        for parameter in inspect.signature(formula).parameters.values()
    }
    for name, formula in FORMULAS.items()
}
"""Every schedule with its parameters and their defaults; None marks a required one."""

BOOLEANS = {**dict.fromkeys(("true", "yes", "on"), True), **dict.fromkeys(("false", "no", "off"), False)}
"""What the text form reads as True and False, in any case."""
_WORDS: dict[str, Any] = {
    **BOOLEANS,
    "none": None,
    "nan": math.nan,
    "inf": math.inf,
}
"""What the text form writes as a word, in any case; as a string such a word is quoted."""
_QUOTED = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*""")


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
                    f"{key} of {shown(name)} is traced, and a description holds numbers: to jit, vmap or differentiate "
                    "over it, make the optimizer itself, such as mj.momentum(learning_rate, momentum)"
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
        - `"one_cycle"`, for a momentum: half a cosine from max_value (0.95) down to base_value (0.85) in the share
          pct_start (0.3) of transition_steps, then half a cosine up to max_value, where it stays.
        - `"log_time"`, for a momentum: t/(delta + t).

    Raises:
      InputError: the name or a parameter is unknown, or a parameter is missing or out of range.

    >>> Schedule("step_decay", init_value=0.1, transition_steps=1000, decay_rate=0.5)
    Schedule('step_decay', decay_rate=0.5, init_value=0.1, transition_steps=1000)
    """

    def __init__(self, name: str, /, **parameters: float):
        check_choice("schedule", name, SCHEDULES)
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
                allowed_range = {"pct_start": RANGES["pct_start"], "delta": ABOVE_0}.get(key, RANGES["learning_rate"])
                check_real(what, value, allowed_range.low, allowed_range.high)
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
        if not (callable(name) or (isinstance(name, str) and name and name.isprintable())):
            raise InputError(f"an optimizer is named by a printable string or given as a factory, not {shown(name)}")
        super().__init__(name, hyperparameters)
        for key, value in self.items:
            if keyword.iskeyword(key) or not key.isidentifier() or unicodedata.normalize("NFKC", key) != key:
                raise InputError(
                    f"a hyperparameter's name must be one that Python functions can have, not {shown(key)}"
                )
            if not (_is_value(value) or isinstance(value, Schedule)):
                raise InputError(
                    f"hyperparameter {key} must be a number, a boolean, a string, None, a tuple of these or a "
                    f"Schedule, not {shown(value)}"
                )

    @classmethod
    def parse(cls, text: str) -> tuple[str, "OptimizerConfig"]:
        """Reads a label and a description from `LABEL=NAME,hyperparameter=value,…`, the form of the command line.

        Label and name may be quoted, as in `'a=b'=sgd`. Values are those of `parse_values`.

        >>> OptimizerConfig.parse("fast=momentum,learning_rate=step_decay(init_value=0.1,transition_steps=9,\
decay_rate=0.5)")[0]
        'fast'
        """
        label, equals, rest = partition(text, "=")
        name, _, arguments = partition(rest, ",")
        if not (equals and label and name) or ("," in label and not _QUOTED.match(text)):
            raise InputError(f"an optimizer is written LABEL=NAME,hyperparameter=value,…; cannot read {shown(text)}")
        return label, cls(name, **_keywords(arguments, text))

    def text(self, label: str) -> str:
        """The text form, which `parse` reads back. Of a factory it holds only the name.

        >>> OptimizerConfig("momentum", learning_rate=Schedule("constant", value=0.1), momentum=0.9).text("fast")
        'fast=momentum,learning_rate=constant(value=0.1),momentum=0.9'
        """
        return f"{quote_if_needed(label, '=,')}={description_text(self.name_text, self.hyperparameters)}"

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
            raise InputError(f"optimizers must map labels to a name and hyperparameters, not {shown(values)}")
        hyperparameters = values["hyperparameters"]
        if not isinstance(hyperparameters, Mapping):
            raise InputError(f"hyperparameters must map names to values, not {shown(hyperparameters)}")
        return cls(values["name"], **{key: _decode(value) for key, value in hyperparameters.items()})

    @property
    def name_text(self) -> str:
        """The name; of a factory, its module and qualified name."""
        if isinstance(self.name, str):
            return self.name
        factory = self.name.func if isinstance(self.name, functools.partial) else self.name
        return f"{factory.__module__}:{getattr(factory, '__qualname__', type(factory).__qualname__)}"


def parse_description(text: str) -> tuple[str, dict[str, Any]]:
    """Reads a name and its parameters from `NAME,parameter=value,…`.

    >>> parse_description("quadratic,curvatures=(1,100),rotation=0.5")
    ('quadratic', {'curvatures': (1, 100), 'rotation': 0.5})

    Raises:
      InputError: the text has another form.
    """
    name, _, arguments = partition(text, ",")
    return name, _keywords(arguments, text)


def description_text(name: str, parameters: Mapping[str, Any]) -> str:
    """The text of a name and its parameters, which `parse_description` reads back.

    >>> description_text("quadratic", {"curvatures": (1, 100), "rotation": 0.5})
    'quadratic,curvatures=(1, 100),rotation=0.5'
    """
    values = (f"{key}={value_text(value)}" for key, value in parameters.items())
    return ",".join([quote_if_needed(name, ","), *values])


def partition(text: str, separator: str) -> tuple[str, str, str]:
    """Splits a text at the first separator, as `str.partition` does; what comes before may be quoted.

    >>> partition("'a=b'=sgd", "=")
    ('a=b', '=', 'sgd')
    """
    quoted = _QUOTED.match(text)
    if quoted and text[quoted.end() : quoted.end() + 1] in ("", separator):
        literal = _expression(quoted[1])
        if isinstance(literal, ast.Constant):
            return str(literal.value), text[quoted.end() : quoted.end() + 1], text[quoted.end() + 1 :]
    head, found, rest = text.partition(separator)
    return head.strip(), found, rest


def quote_if_needed(text: str, separators: str) -> str:
    """Writes a text as `partition` reads it back: quoted where it holds a separator, outer spaces or a first quote."""
    plain_text = text == text.strip() != "" and text[0] not in "'\"" and not set(text) & set(separators)
    return text if plain_text else repr(text)


def parse_values(text: str) -> tuple[Any, ...]:
    """Reads values that are separated by commas: numbers, words, strings, tuples and schedules.

    The words true, yes and on are True; false, no and off are False; none, nan and inf have their meaning, all in any
    case. Any other word is a string. A quoted string stands for itself: `'on'`.

    >>> parse_values("0.1, constant(value=0.2), off, 'off'")
    (0.1, Schedule('constant', value=0.2), False, 'off')

    Raises:
      InputError: the text has another form.
    """
    call = _call(text)
    if call is None or not call.args or call.keywords:
        raise InputError(f"cannot read the values {shown(text)}: they are numbers, words or schedules, commas between")
    return tuple(_literal(entry, text) for entry in call.args)


def value_text(value: Any) -> str:
    """The text form of a hyperparameter's value, which `parse_values` reads back.

    >>> value_text(True), value_text((0.0, None)), value_text("outside"), value_text("none")
    ('true', '(0.0, none)', 'outside', "'none'")
    """
    if isinstance(value, Schedule):
        return f"{value.name}({','.join(f'{name}={value_text(entry)}' for name, entry in value.items)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(value_text, value))}{',' if len(value) == 1 else ''})"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    is_word = isinstance(value, str) and value.isascii() and value.isidentifier()
    return value if is_word and value.lower() not in _WORDS and not keyword.iskeyword(value) else repr(value)


def _is_value(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_value, value))
    if isinstance(value, str):
        return is_utf8(value)
    # Python writes no longer integers, so that JSON could not hold one.
    return value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 10**1000)


def _expression(source: str) -> ast.expr | None:
    """The syntax tree of an expression, or None if the source is not one."""
    try:
        with warnings.catch_warnings():
            # Python warns of odd code, such as an unknown escape in a string; here it is data.
            warnings.simplefilter("ignore")
            return ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _call(arguments: str) -> ast.Call | None:
    """The syntax tree of a call with these arguments, or None if they are not a call's arguments."""
    source = f"f({arguments})"
    call = _expression(source)
    # The call must end where the source does: "a=1) # b=2" would hide the rest in a comment.
    ends = (
        isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.end_col_offset == len(source.encode())
    )
    return call if isinstance(call, ast.Call) and ends else None


def _keywords(arguments: str, text: str) -> dict[str, Any]:
    """The values of `parameter=value,…` by name; `text` is the whole text, for messages."""
    call = _call(arguments)
    if call is None:
        raise InputError(f"cannot read the hyperparameters of {shown(text)}: they are name=value, comma between")
    return _keyword_values(call, text)


def _keyword_values(call: ast.Call, text: str) -> dict[str, Any]:
    if call.args:
        raise InputError(f"{ast.unparse(call.args[0])!r} in {shown(text)} has no name: write name=value")
    values: dict[str, Any] = {}
    for entry in call.keywords:
        if entry.arg is None or entry.arg in values:
            raise InputError(f"{ast.unparse(entry.value)!r} in {shown(text)} is given twice or without a name")
        values[entry.arg] = _literal(entry.value, text)
    return values


def _literal(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return Schedule(node.func.id, **_keyword_values(node, text))
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_literal(entry, text) for entry in node.elts)
    if isinstance(node, ast.Name):
        return _WORDS.get(node.id.lower(), node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Name):
        value = _literal(node.operand, text)
        if isinstance(value, float):
            return -value
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise InputError(
            f"cannot read {ast.unparse(node)!r} in {shown(text)}: a number, true, false, none, a word, or a schedule "
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
