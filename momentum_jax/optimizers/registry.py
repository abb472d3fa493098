"""Builds optimizers from their descriptions, and lists the methods of this package."""

import dataclasses
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax
import optax.contrib

from momentum_jax._base.errors import InputError, is_number, shown, unknown
from momentum_jax.optimizers import _presets
from momentum_jax.optimizers._adaptive_restart import adaptive_restart
from momentum_jax.optimizers._aggmo import aggmo
from momentum_jax.optimizers._cautious import cautious
from momentum_jax.optimizers._dana import dana
from momentum_jax.optimizers._hyperparameters import CHOICES, RANGES, Range, check_hyperparameter
from momentum_jax.optimizers._momentum import momentum
from momentum_jax.optimizers._nesterov import nesterov
from momentum_jax.optimizers._normalized_momentum import normalized_momentum
from momentum_jax.optimizers._outer_momentum import outer_momentum
from momentum_jax.optimizers._qhm import qhm
from momentum_jax.optimizers._sgd import sgd
from momentum_jax.optimizers._yellowfin import yellowfin
from momentum_jax.optimizers.description import OptimizerConfig, Schedule
from momentum_jax.optimizers.family import FAMILY
from momentum_jax.optimizers.schedules import FORMULAS


class Hyperparameter(NamedTuple):
    """The allowed values of a hyperparameter and its default."""

    default: Any
    allowed: Range | str
    required: bool = False

    @property
    def text(self) -> str:
        """The allowed values in words."""
        return f"in {self.allowed}" if isinstance(self.allowed, Range) else self.allowed


_OTHERS = {
    "weight_decay": f"in {RANGES['weight_decay']}, or None",
    **{name: " or ".join(f'"{choice}"' for choice in choices) for name, choices in CHOICES.items()},
    "betas": f"one or more numbers in {RANGES['betas']}",
    "weights": f"None for the mean, or a number in {RANGES['weights']} for each beta",
    "decoupled_weight_decay": "True or False",
    "transported": "True or False",
    "clip": "True or False",
    "inner": "an optimizer; from Python only",
    "every": "a whole number of at least 1",
    "mask": "booleans in a tree like the parameters, or a function that makes one of them; from Python only",
    "accumulator_dtype": "a floating-point dtype, or None for that of the parameters",
}


@dataclasses.dataclass(frozen=True)
class Method:
    """One of this package's optimizers."""

    name: str
    factory: Callable[..., optax.GradientTransformation]
    rule: str
    paper: str

    @property
    def ranges(self) -> Mapping[str, Range]:
        """The ranges of numbers by name."""
        return {**RANGES, **FAMILY[self.name].ranges} if self.name in FAMILY else RANGES

    @property
    def hyperparameters(self) -> dict[str, Hyperparameter]:
        allowed: dict[str, Range | str] = {**self.ranges, **_OTHERS}
        return {
            name: Hyperparameter(None, allowed[name], required=True)
            if parameter.default is parameter.empty
            else Hyperparameter(parameter.default, allowed[name])
            for name, parameter in inspect.signature(self.factory).parameters.items()
        }


_METHODS = {
    method.name: method
    for method in (
        Method("sgd", sgd, "p ← p − η·g", "Robbins and Monro 1951"),
        Method("momentum", momentum, "v ← m·v − η·g; p ← p + v", "Polyak 1964"),
        Method("nesterov", nesterov, "v ← m·v − η·g; p ← p + m·v − η·g", "Nesterov 1983; Sutskever et al. 2013"),
        Method("qhm", qhm, "a ← m·a + (1 − m)·g; p ← p − η·((1 − ν)·g + ν·a)", "Ma and Yarats 2019 (1810.06801)"),
        Method("aggmo", aggmo, "b_k ← β_k·b_k + g; p ← p − η·Σ w_k·b_k", "Lucas et al. 2019 (1804.00325)"),
        Method(
            "adaptive_restart",
            adaptive_restart,
            "x ← p − η·g; p ← x + β·(x − x_before); β grows from 0, and falls back to it when the step leads uphill",
            "O'Donoghue and Candès 2012 (1204.3982)",
        ),
        Method(
            "normalized_momentum",
            normalized_momentum,
            "a ← m·a + (1 − m)·g, at first a ← g; p ← p − η·a/‖a‖",
            "Cutkosky and Mehta 2020 (2002.03305)",
        ),
        Method(
            "yellowfin",
            yellowfin,
            "v ← μ·v − η·α·g; p ← p + v; μ and α tuned by the range of ‖g‖², the variance of g and ‖g‖/‖g‖²",
            "Zhang and Mitliagkas 2017 (1706.03471)",
        ),
        Method(
            "dana",
            dana,
            "y ← (1 − δ/(δ + t))·y + g; p ← p − γ₂·g − γ₃·(1 + t)^(−κ₃)·y, γ₂ the learning rate",
            "Ferbach et al. 2025 (2505.16098)",
        ),
        *(Method(name, getattr(_presets, name), member.rule, member.paper) for name, member in FAMILY.items()),
    )
}
WRAPPERS = {
    method.name: method
    for method in (
        Method(
            "cautious",
            cautious,
            "u is the step of inner; φ = 1 where u·g < 0, else 0; p ← p + d/(Σφ + ξ)·φ·u in each array of d entries",
            "Liang et al. 2024 (2411.16085)",
        ),
        Method(
            "outer_momentum",
            outer_momentum,
            "after K steps of inner, from s to p: b ← μ·b + s − p; p, s ← s − η·(s − p + μ·b)",
            "Douillard et al. 2023 (2311.08105), Kallusky et al. 2025 (2510.15830)",
        ),
    )
}
"""What wraps another optimizer. A config cannot hold it by name, since text holds no optimizer in an optimizer."""
_OPTAX_MODULES: dict[str, types.ModuleType] = {"optax.contrib.": optax.contrib, "optax.": optax}


def available() -> dict[str, Method]:
    """Returns every optimizer of this package by name, with its rule, hyperparameters and paper.

    >>> available()["momentum"].hyperparameters["momentum"]
    Hyperparameter(default=0.9, allowed=Range(low=0, high=1, below_high=True), required=False)
    """
    return dict(_METHODS)


def is_bound(config: OptimizerConfig, name: str, value: float) -> bool:
    """Whether a value is an end of the range of a hyperparameter of this package, such as 0 for the momentum."""
    method = _METHODS.get(config.name) if isinstance(config.name, str) else None
    allowed = method.hyperparameters[name].allowed if method and name in method.hyperparameters else None
    return isinstance(allowed, Range) and value in (allowed.low, allowed.high)


class TracedSchedule(NamedTuple):
    """The static part of a schedule."""

    name: str
    fixed: tuple[tuple[str, int], ...]
    """The static parameters, such as numbers of steps: name and value."""
    traced: tuple[str, ...]
    """The names of the traced parameters."""


@dataclasses.dataclass(frozen=True)
class Structure:
    """The static part of an optimizer: its description without the traced hyperparameters.

    It is part of the compiled program. Optimizers of the same structure share one program, whose arguments are the
    traced hyperparameters.
    """

    name: str | Callable[..., Any]
    fixed: tuple[tuple[str, str, Any], ...]
    """The static hyperparameters: name, repr and value. The repr distinguishes True, 1 and 1.0, which are equal."""
    traced: tuple[str, ...]
    """The names of the traced hyperparameters that are numbers."""
    tuples: tuple[tuple[str, int], ...]
    """The hyperparameters that are tuples of traced numbers, such as the betas of `aggmo`: name and length."""
    schedules: tuple[tuple[str, TracedSchedule], ...]
    """The hyperparameters that are schedules."""


Traced = dict[str, float]
"""Traced hyperparameters by name; "name.i" is entry i of a tuple, "name.parameter" a parameter of a schedule."""


def split(config: OptimizerConfig) -> tuple[Structure, Traced]:
    """Splits a description into its static part and its traced hyperparameters.

    Traced are floats, the float parameters of schedules, and an integer learning rate. For methods of this package,
    also all other integers and tuples of numbers. Where the default is a boolean, 0 and 1 become booleans.

    Raises:
      InputError: an integer is too large for a float.
    """
    is_own = config.name in _METHODS
    fixed: dict[str, Any] = {}
    traced: Traced = {}
    tuples: dict[str, int] = {}
    schedules: dict[str, TracedSchedule] = {}
    switches = {
        p.name for p in _parameters(config.name) if isinstance(p.default, bool) or p.annotation in (bool, "bool")
    }
    for key, value in config.items:
        if key in switches and not isinstance(value, Schedule):
            fixed[key] = bool(value) if isinstance(value, int) and value in (0, 1) else value
        elif isinstance(value, Schedule):
            values = {k: v for k, v in value.items if isinstance(v, float)}
            steps = tuple((k, v) for k, v in value.items if k not in values)
            schedules[key] = TracedSchedule(value.name, steps, tuple(values))
            traced |= {f"{key}.{k}": v for k, v in values.items()}
        elif isinstance(value, float) or (is_number(value) and (is_own or key == "learning_rate")):
            traced[key] = _as_float(key, value)
        elif isinstance(value, tuple) and value and is_own and all(map(is_number, value)):
            tuples[key] = len(value)
            traced |= {f"{key}.{i}": _as_float(key, entry) for i, entry in enumerate(value)}
        else:
            fixed[key] = value
    numbers = tuple(key for key in traced if "." not in key)
    return Structure(config.name, _with_repr(fixed), numbers, tuple(tuples.items()), tuple(schedules.items())), traced


def _parameters(name: str | Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a factory; none of one that does not exist or does not tell, which `build` refuses."""
    try:
        return list(inspect.signature(factory(name)).parameters.values())
    except (InputError, TypeError, ValueError):
        return []


def _as_float(key: str, value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"{key} must be finite, not an integer of {len(str(value))} digits") from None


def _with_repr(values: Mapping[str, Any]) -> tuple[tuple[str, str, Any], ...]:
    return tuple((key, repr(value), value) for key, value in values.items())


def fixed(config: OptimizerConfig) -> Structure:
    """The structure of an optimizer without traced hyperparameters: every value is part of the program."""
    return Structure(config.name, _with_repr(config.hyperparameters), (), (), ())


def build(structure: Structure, traced: Mapping[str, Any]) -> optax.GradientTransformationExtraArgs:
    """Builds the optimizer of a structure with values for its traced hyperparameters, numbers or JAX tracers.

    Raises:
      InputError: an optimizer or hyperparameter is unknown, or a hyperparameter is missing or out of its range.
    """
    make = factory(structure.name)
    arguments: dict[str, Any] = {
        key: FORMULAS[value.name](**value.hyperparameters) if isinstance(value, Schedule) else value
        for key, _, value in structure.fixed
    }
    arguments |= {key: traced[key] for key in structure.traced}
    arguments |= {key: tuple(traced[f"{key}.{i}"] for i in range(length)) for key, length in structure.tuples}
    for key, schedule in structure.schedules:
        values = {name: traced[f"{key}.{name}"] for name in schedule.traced}
        arguments[key] = FORMULAS[schedule.name](**dict(schedule.fixed), **values)
    _check_arguments(structure.name, make, arguments)
    try:
        optimizer = make(**arguments)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError | jax.errors.ConcretizationTypeError):
            raise
        raise InputError(f"{_text(structure.name)} refuses {arguments}: {error}") from error
    if not isinstance(optimizer, optax.GradientTransformation):
        raise InputError(f"{_text(structure.name)} made no optax.GradientTransformation, but {shown(optimizer)}")
    transformation = optax.with_extra_args_support(optimizer)
    return transformation if structure.name in _METHODS else _leniently(transformation)


def _leniently(optimizer: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """The optimizer under JAX's default promotion rules, which Optax needs where a program sets stricter ones."""

    def lenient(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **extra: Any) -> Any:
            with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                return function(*args, **extra)

        return call

    return optax.GradientTransformationExtraArgs(lenient(optimizer.init), lenient(optimizer.update))


def check(config: OptimizerConfig) -> None:
    """Checks a description by building the optimizer with its concrete values.

    Raises:
      InputError: as `build`; also if a schedule leaves the range of its hyperparameter.
    """
    structure, traced = split(config)
    if config.name not in _METHODS:
        build(structure, traced)
        return
    ranges = _METHODS[config.name].ranges
    for key, value in config.items:
        if isinstance(value, Schedule) and key in _OTHERS and key not in ranges:
            raise InputError(f"{key} must be {_OTHERS[key]}; it cannot be a schedule")
    build(structure, traced)
    for key, value in traced.items():
        hyperparameter, _, parameter = key.partition(".")
        if parameter.endswith("value"):
            check_hyperparameter(hyperparameter, value, allowed=ranges[hyperparameter])


def factory(name: str | Callable[..., Any]) -> Callable[..., Any]:
    """The factory of an optimizer of this package or of Optax by name; a callable is returned as it is.

    Raises:
      InputError: there is no such optimizer.
    """
    if callable(name):
        return name
    if name in _METHODS:
        return _METHODS[name].factory
    if name in WRAPPERS:
        rest = ", every=8" if name == "outer_momentum" else ""
        raise InputError(
            f"optimizer {name!r} wraps another one, which a name cannot hold: in Python give a function that makes "
            f"both, such as OptimizerConfig(lambda rate: mj.{name}(mj.momentum(rate){rest}), rate=0.1)"
        )
    if ":" in name:
        raise InputError(
            f"optimizer {name!r} is a factory of the program that made this result; nothing is imported by a name "
            "found in a file, so it can be read but not run: give the factory itself"
        )
    for prefix, module in _OPTAX_MODULES.items():
        if name.startswith(prefix):
            factories = _optax_factories(module)
            if (short := name.removeprefix(prefix)) in factories:
                return factories[short]
            raise unknown("optimizer", name, [prefix + other for other in factories])
    qualified = [p for p, module in _OPTAX_MODULES.items() if name in _optax_factories(module)]
    if qualified:
        raise InputError(f"optimizer: unknown {shown(name)}; did you mean {qualified[0] + name!r}?")
    raise unknown("optimizer", name, [*_METHODS, *WRAPPERS, "optax.<factory>", "optax.contrib.<factory>"])


def _optax_factories(module: types.ModuleType) -> dict[str, Callable[..., Any]]:
    """The public functions of a module of Optax that return a transformation, by their signatures."""
    return {
        name: function
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and not name.startswith("_")
        and (
            "GradientTransformation" in str(inspect.signature(function).return_annotation)
            or "learning_rate" in inspect.signature(function).parameters
        )
    }


def _check_arguments(name: str | Callable[..., Any], factory: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    parameters = inspect.signature(factory).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for argument in arguments:
        if argument not in names and not open_ended:
            raise unknown(f"hyperparameter of {_text(name)}", argument, names)
    for p in parameters:
        if p.name in names and p.default is p.empty and p.name not in arguments:
            raise InputError(f"{_text(name)} needs the hyperparameter {p.name!r}")
        # The methods of this package check their own.
        if p.name in arguments and name not in _METHODS:
            _check_type(f"{p.name} of {_text(name)}", p, arguments[p.name])


def _check_type(what: str, parameter: inspect.Parameter, value: Any) -> None:
    """Checks a value against the type of the default: Python takes any text for true, and true for 1.

    Without a default the annotation says whether it is a boolean.
    """
    if isinstance(parameter.default, bool) or parameter.annotation in (bool, "bool"):
        is_tree = "mask" in parameter.name and isinstance(value, tuple)
        if not (is_tree or isinstance(value, bool)):
            raise InputError(f"{what} must be True or False, not {shown(value)}; as text also yes, no, on, off, 1 or 0")
    elif isinstance(parameter.default, str) and not isinstance(value, str):
        raise InputError(f"{what} must be text, not {shown(value)}")
    elif isinstance(value, str | bool) and (parameter.name in RANGES or is_number(parameter.default)):
        raise InputError(f"{what} must be a number, not {shown(value)}")


def _text(name: str | Callable[..., Any]) -> str:
    return f"optimizer {OptimizerConfig(name).name_text!r}"
