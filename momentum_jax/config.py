"""The description of an experiment: frozen, comparable, serialisable, and checked without JAX."""

import ast
import collections
import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import jax
import numpy as np
from jaxtyping import Int

from momentum_jax.errors import InputError, check_integer, check_real, unknown

Sampling = Literal["with_replacement", "epochs"]
Activation = Literal["relu", "sigmoid", "tanh"]
WeightInit = Literal["he", "xavier"]
DType = Literal["float32", "float64", "bfloat16"]

MAX_SEED = 2**32 - 1

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


def _tutorial_optimizers() -> dict[str, OptimizerConfig]:
    return {
        "sgd": OptimizerConfig("sgd", learning_rate=0.01),
        "momentum": OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9),
        "optax": OptimizerConfig("optax.sgd", learning_rate=0.01, momentum=0.9),
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Config:
    """A set of runs on one task; the defaults are the tutorial's experiment with `optax.sgd` as a witness.

    Attributes:
      dataset: "mnist" (embedded), "tfds:NAME" (a dataset of tensorflow-datasets) or the path of a folder that
        holds the four MNIST-style IDX files.
      hidden_sizes: width of each hidden layer of the network.
      activation: nonlinearity after each hidden layer.
      weight_init: "he" (variance 2/fan_in), "xavier" (1/fan_in) or a number, the standard deviation itself;
        normal, not truncated. Biases start at zero.
      l2: λ of the penalty 0.5·λ·Σ‖W‖² on the weights, not the biases, that is added to the training loss.
      iterations: parameter updates of each run.
      batch_size: examples in each batch.
      seeds: the seeds to run, or one whole number n for the seeds 0 … n−1. A seed fixes the initial weights and
        the batches.
      optimizers: what is compared, by label.
      sampling: "with_replacement" draws every batch from all of the data, as the tutorial does; "epochs" goes
        through a new random order of the data each epoch and drops its last, incomplete batch.
      shared_init: start all optimizers of a seed from the same weights, which pairs them; otherwise each label
        draws its own, as in the tutorial.
      dtype: of the parameters, the optimizer's state and the arithmetic. The same float32 draws initialise all.
      evaluate_every: also evaluate on the full training and test sets every so many iterations; by default at the
        end only.
      record_every: keep the losses and metrics of every so many iterations only, and of the last.

    Raises:
      InputError: naming the field, the value and what is allowed.

    >>> Config(seeds=3).seeds
    (0, 1, 2)
    """

    dataset: str = "mnist"
    hidden_sizes: tuple[int, ...] = (100, 100, 100, 100)
    activation: Activation = "relu"
    weight_init: WeightInit | float = "he"
    l2: float = 0.0
    iterations: int = 2000
    batch_size: int = 128
    seeds: int | tuple[int, ...] = (0,)
    optimizers: Mapping[str, OptimizerConfig] = dataclasses.field(default_factory=_tutorial_optimizers)
    sampling: Sampling = "with_replacement"
    shared_init: bool = True
    dtype: DType = "float32"
    evaluate_every: int | None = None
    record_every: int = 1

    def __post_init__(self) -> None:
        for name in (f.name for f in dataclasses.fields(self)):
            object.__setattr__(self, name, plain(getattr(self, name)))
        if isinstance(self.seeds, int) and not isinstance(self.seeds, bool):
            check_integer("seeds", self.seeds, 1, 1_000_000)
            object.__setattr__(self, "seeds", tuple(range(self.seeds)))
        for field in ("seeds", "hidden_sizes"):
            if not isinstance(getattr(self, field), list | tuple | range):
                raise InputError(f"{field} must be a sequence of integers, not {getattr(self, field)!r}")
            object.__setattr__(self, field, tuple(map(plain, getattr(self, field))))
        if not isinstance(self.optimizers, Mapping):
            raise InputError(f"optimizers must map labels to OptimizerConfig, not {self.optimizers!r}")
        object.__setattr__(self, "optimizers", dict(self.optimizers))
        self._check()
        for field in ("l2", "weight_init"):
            if not isinstance(getattr(self, field), str):
                object.__setattr__(self, field, float(getattr(self, field)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Config):
            return NotImplemented
        # Factories have no digest of their own: two may share a name.
        return self.digest == other.digest and self.optimizers == other.optimizers

    def __hash__(self) -> int:
        return hash(self.digest)

    def _check(self) -> None:
        if not (isinstance(self.dataset, str) and self.dataset):
            raise InputError(f"dataset must be a name or a folder, not {self.dataset!r}")
        for size in self.hidden_sizes:
            check_integer("hidden_sizes", size, 1)
        for seed in self.seed_tuple:
            check_integer("seeds", seed, 0, MAX_SEED)
        if not self.seed_tuple:
            raise InputError("seeds must hold at least one seed")
        repeated = sorted(seed for seed, times in collections.Counter(self.seed_tuple).items() if times > 1)
        if repeated:
            raise InputError(f"seeds must differ; given more than once: {', '.join(map(str, repeated))}")
        check_integer("iterations", self.iterations, 1, 2**31 - 1)
        check_integer("batch_size", self.batch_size, 1)
        check_integer("record_every", self.record_every, 1)
        if self.evaluate_every is not None:
            check_integer("evaluate_every", self.evaluate_every, 1)
        check_real("l2", self.l2, 0, float("inf"))
        for field, choices in (("activation", Activation), ("sampling", Sampling), ("dtype", DType)):
            if getattr(self, field) not in get_args(choices):
                raise unknown(field, getattr(self, field), get_args(choices))
        if isinstance(self.weight_init, str):
            if self.weight_init not in get_args(WeightInit):
                raise unknown("weight_init", self.weight_init, [*get_args(WeightInit), "a number"])
        else:
            check_real("weight_init", self.weight_init, 0, float("inf"))
        if not isinstance(self.shared_init, bool):
            raise InputError(f"shared_init must be True or False, not {self.shared_init!r}")
        if not self.optimizers:
            raise InputError("optimizers must hold at least one optimizer")
        for label, optimizer in self.optimizers.items():
            if not (isinstance(label, str) and label.isprintable() and label.strip() == label != ""):
                raise InputError(f"an optimizer's label must be printable text, not {label!r}")
            if not isinstance(optimizer, OptimizerConfig):
                raise InputError(f"optimizers[{label!r}] must be an OptimizerConfig, not {optimizer!r}")

    @property
    def seed_tuple(self) -> tuple[int, ...]:
        """The seeds, for type checkers: after construction `seeds` is always this tuple."""
        assert isinstance(self.seeds, tuple)
        return self.seeds

    def to_json(self) -> dict[str, Any]:
        """The config as JSON types; `from_json` reads it back equal."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["optimizers"] = {label: optimizer.to_json() for label, optimizer in self.optimizers.items()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Config":
        """Reads what `to_json` wrote.

        Raises:
          InputError: a field that does not exist, or a value out of range.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        if not isinstance(values, Mapping):
            raise InputError(f"a config is an object with the fields {', '.join(names)}, not {values!r}")
        for key in values:
            if key not in names:
                raise unknown("field of the config", key, names)
        entries = values.get("optimizers", {})
        if not isinstance(entries, Mapping):
            raise InputError(f"optimizers must map labels to a name and hyperparameters, not {entries!r}")
        optimizers = {label: OptimizerConfig.from_json(entry) for label, entry in entries.items()}
        fields = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return cls(**fields | ({"optimizers": optimizers} if optimizers else {}))

    @property
    def digest(self) -> str:
        """SHA-256 of the config's canonical JSON, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()


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


def recorded_iterations(cfg: Config) -> Int[np.ndarray, " recorded"]:
    """The iterations that histories hold: every `record_every`th and the last."""
    every = np.arange(0, cfg.iterations, cfg.record_every)
    last = cfg.iterations - 1
    return every if every[-1] == last else np.append(every, last)


def evaluated_iterations(cfg: Config) -> list[int]:
    """The updates made before each evaluation: every `evaluate_every`, and all."""
    every = cfg.evaluate_every or cfg.iterations
    return sorted({*range(every, cfg.iterations, every), cfg.iterations})
