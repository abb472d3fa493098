"""Grids and searches: from a config and what varies in it to trials."""

import dataclasses
import hashlib
import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np

from momentum_jax._base.errors import (
    InputError,
    check_choice,
    check_integer,
    check_real,
    plain,
    plain_scalar,
    shown,
    unknown,
)
from momentum_jax.config import MAX_INDEX, Config
from momentum_jax.optimizers import registry
from momentum_jax.optimizers.description import OptimizerConfig, Schedule, parse_values, partition, value_text
from momentum_jax.optimizers.effective import has_effective_learning_rate, with_effective_learning_rate

BATCH_SIZE = "batch_size"
EFFECTIVE = "effective_learning_rate"
"""The learning rate is computed from it and the trial's other hyperparameters."""
SEARCHES = ("grid", "random", "sobol")
MAX_TRIALS = 100_000
"""The most trials of one optimizer; to list more would take minutes."""
_ROUNDS = 64


class Trial(NamedTuple):
    """One optimizer with one set of hyperparameters, and its batch size."""

    optimizer: OptimizerConfig
    batch_size: int


@dataclasses.dataclass(frozen=True)
class Uniform:
    """A uniform distribution between two numbers.

    >>> Uniform(0.5, 0.9).grid(3)
    (0.5, 0.7, 0.9)
    """

    low: float
    high: float
    scale: ClassVar[str] = "lin"
    """Its name in texts."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", plain_scalar(self.low))
        object.__setattr__(self, "high", plain_scalar(self.high))
        check_real("low", self.low, -math.inf, math.inf)
        check_real("high", self.high, -math.inf, math.inf)
        if not self.low < self.high:
            raise InputError(f"low must be less than high, not {self.low!r} to {self.high!r}")

    def at(self, u: float) -> float:
        """Returns the quantile of u in [0, 1], to twelve digits."""
        return float(f"{self.low + (self.high - self.low) * u:.12g}")

    def grid(self, count: int) -> tuple[float, ...]:
        """Returns `count` quantiles, evenly spaced from `low` to `high`.

        Raises:
          InputError: count is not an integer of at least 2.
        """
        check_integer("count", count, 2, MAX_TRIALS)
        return tuple(self.at(i / (count - 1)) for i in range(count))


@dataclasses.dataclass(frozen=True)
class LogUniform(Uniform):
    """A distribution of positive numbers between two, whose logarithms are uniform.

    >>> LogUniform(1e-3, 1).grid(4)
    (0.001, 0.01, 0.1, 1.0)
    """

    scale = "log"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise InputError(f"low must be more than 0 on a logarithmic scale, not {self.low!r}")

    def at(self, u: float) -> float:
        return float(f"{math.exp(math.log(self.low) + (math.log(self.high) - math.log(self.low)) * u):.12g}")


@dataclasses.dataclass(frozen=True)
class ReverseLogUniform(Uniform):
    """A distribution of numbers x below 1, such as momenta, for which the logarithms of 1 − x are uniform.

    >>> ReverseLogUniform(0, 0.99).grid(3)
    (0.0, 0.9, 0.99)
    """

    scale = "revlog"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.high >= 1:
            raise InputError(f"high must be less than 1 on a reversed logarithmic scale, not {self.high!r}")

    def at(self, u: float) -> float:
        return float(f"{1 - (1 - self.low) ** (1 - u) * (1 - self.high) ** u:.12g}")


Values = Sequence[Any] | Uniform
"""Values to try, or (for a search) a distribution to draw them from."""
Space = Mapping[str, Values | Mapping[str, Values]]
"""What varies: values by label and hyperparameter, or by hyperparameter for every optimizer that has it."""


def make_trials(
    cfg: Config, space: Space, *, search: str = "grid", budget: int | None = None, search_seed: int = 0
) -> dict[str, tuple[Trial, ...]]:
    """Returns the trials of each optimizer of a config, by label, no two the same.

    Args:
      cfg: what every trial has where the space does not say otherwise.
      space: by label, or bare: hyperparameters, "batch_size", "hyperparameter.parameter" inside a schedule, or
        "effective_learning_rate" in place of the learning rate, for optimizers that have one; each with the values to
        try.
      search: "grid" for all combinations, in the order of the values; "random" for independent draws; "sobol" for
        the points of a scrambled Sobol sequence (Sobol 1967; Owen 1998), which fill the space more evenly.
      budget: trials of each optimizer that has something to vary; for a search only.
      search_seed: of the draws. The draws of one optimizer do not depend on the others.

    Raises:
      InputError: a label or hyperparameter does not exist, there are no values, or a grid has a distribution.

    >>> trials = make_trials(Config(), {"learning_rate": [0.1, 0.2], "momentum": {"momentum": [0.5, 0.9]}})
    >>> {label: len(of_label) for label, of_label in trials.items()}
    {'sgd': 2, 'momentum': 4, 'optax': 2}
    """
    budget, search_seed = plain_scalar(budget), plain_scalar(search_seed)
    check_choice("search", search, SEARCHES)
    if search == "grid" and budget is not None:
        raise InputError("budget is for search='random' or 'sobol'; a grid has as many trials as it has combinations")
    if search != "grid":
        check_integer("budget", budget, 1, MAX_TRIALS)
    check_integer("search_seed", search_seed, 0)
    axes = axes_of(cfg, space)
    trials = {}
    for label, optimizer in cfg.optimizers.items():
        own, base = axes[label], Trial(optimizer, cfg.batch_size)
        if search == "grid" or not own:
            listed = [_values(name, values) for name, values in own.items()]
            check_integer(f"the number of combinations for {label!r}", math.prod(map(len, listed)), 1, MAX_TRIALS)
            trials[label] = _combinations(base, label, own)
        else:
            assert budget is not None
            trials[label] = _draw(base, label, own, search, budget, search_seed)
    return trials


def axes_of(cfg: Config, space: Space) -> dict[str, dict[str, Values]]:
    """Returns what varies for each optimizer, by label. Values under a label replace those under the bare name.

    Raises:
      InputError: a label or hyperparameter does not exist.
    """
    if not isinstance(space, Mapping):
        raise InputError(f"what varies is a mapping from names to values, not {shown(space)}")
    bare = {name: values for name, values in space.items() if not isinstance(values, Mapping)}
    by_label = {name: values for name, values in space.items() if isinstance(values, Mapping)}
    for label in by_label:
        if label not in cfg.optimizers:
            raise unknown("optimizer's label", label, cfg.optimizers)
    axes = {}
    for label, optimizer in cfg.optimizers.items():
        own = by_label.get(label, {})
        for name in own:
            if not accepts(optimizer, name):
                raise unknown(f"hyperparameter of {label!r}", name, names_of(optimizer))
        axes[label] = {name: values for name, values in bare.items() if accepts(optimizer, name)} | dict(own)
        if EFFECTIVE in axes[label] and "learning_rate" in axes[label]:
            raise InputError(f"the learning rate of {label!r} varies twice, also by its effective learning rate")
    for name in bare:
        if not any(accepts(optimizer, name) for optimizer in cfg.optimizers.values()):
            known = {name for optimizer in cfg.optimizers.values() for name in names_of(optimizer)}
            raise unknown("hyperparameter or optimizer's label", name, known | set(cfg.optimizers))
    return axes


def parse_axis(text: str) -> tuple[str, Values]:
    """Reads `NAME=VALUE,VALUE,…`, `NAME=LOW:HIGH:log:N`, or for a search `NAME=LOW:HIGH:log`.

    In place of log it may be lin, or revlog, for which 1 − x is on a logarithmic scale. NAME may begin with a label and
    a point. A label that holds "=" is quoted, as in `'a=b'.momentum=0.5`.

    >>> parse_axis("momentum.learning_rate=1e-3:1:log:4")
    ('momentum.learning_rate', (0.001, 0.01, 0.1, 1.0))
    >>> parse_axis("momentum=0.5:0.9:lin")
    ('momentum', Uniform(low=0.5, high=0.9))

    Raises:
      InputError: the text is none of these.
    """
    label, point, rest = partition(text, ".")
    if not (point and text.lstrip()[:1] in ("'", '"')):
        label, point, rest = "", "", text
    name, equals, values = rest.partition("=")
    name = label + point + name.strip()
    if not (equals and name and values.strip()):
        raise InputError(f"what varies is written NAME=VALUE,VALUE,… or NAME=LOW:HIGH:log:N, not {shown(text)}")
    if ":" not in values or "'" in values or '"' in values:
        return name, parse_values(values)
    low, high, *scale = values.split(":")
    kinds = {kind.scale: kind for kind in (LogUniform, Uniform, ReverseLogUniform)}
    try:
        if len(scale) not in (1, 2):
            raise ValueError
        numbers = float(low), float(high)
        count = [int(entry) for entry in scale[1:]]
    except ValueError:
        raise InputError(f"a range is written LOW:HIGH:log:N, or with lin or revlog, not {shown(values)}") from None
    if scale[0] not in kinds:
        raise unknown("scale of a range", scale[0], kinds)
    distribution = kinds[scale[0]](*numbers)
    if not count:
        return name, distribution
    grid = distribution.grid(count[0])
    return name, tuple(dict.fromkeys(map(round, grid))) if _is_count(name) else grid


def text_of_axis(values: Values) -> str:
    """Writes values as `parse_axis` reads them behind the name.

    >>> text_of_axis(LogUniform(0.001, 1.0)), text_of_axis([0.5, 0.9])
    ('0.001:1.0:log', '0.5,0.9')
    """
    if isinstance(values, Uniform):
        return f"{float(values.low)!r}:{float(values.high)!r}:{values.scale}"
    return ",".join(value_text(plain(value)) for value in values)


def space_of(axes: Sequence[tuple[str, Values]], optimizers: Mapping[str, OptimizerConfig]) -> Space:
    """Builds a space from axes, whose names may begin with a label and a point.

    Raises:
      InputError: an axis is given twice.
    """
    labels = sorted(optimizers, key=len, reverse=True)
    bare: dict[str, Values] = {}
    by_label: dict[str, dict[str, Values]] = {}
    for name, values in axes:
        label = next((label for label in labels if name.startswith(f"{label}.")), None)
        mine = bare if label is None else by_label.setdefault(label, {})
        own = name if label is None else name.removeprefix(f"{label}.")
        if own in mine:
            raise InputError(f"{name} varies twice; give all its values at once")
        mine[own] = values
    for name in set(bare) & set(by_label):
        # A space has one entry a name: a hyperparameter with the name of a label goes to each optimizer that has it.
        values = bare.pop(name)
        for label, optimizer in optimizers.items():
            if accepts(optimizer, name):
                by_label.setdefault(label, {}).setdefault(name, values)
    return {**bare, **by_label}


def names_of(optimizer: OptimizerConfig) -> list[str]:
    """Lists what of an optimizer can vary: its hyperparameters, the parameters of its schedules, and the batch size.

    The effective learning rate is among them where it is defined for the optimizer.
    """
    parameters = inspect.signature(factory_of(optimizer)).parameters.values()
    taken = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    inside = [
        f"{name}.{parameter}"
        for name, value in optimizer.items
        if isinstance(value, Schedule)
        for parameter in value.hyperparameters
    ]
    effective = [EFFECTIVE] if has_effective_learning_rate(optimizer) else []
    return list(dict.fromkeys([*taken, *optimizer.hyperparameters, *inside, *effective, BATCH_SIZE]))


def accepts(optimizer: OptimizerConfig, name: str) -> bool:
    return name in names_of(optimizer)


def factory_of(optimizer: OptimizerConfig) -> Callable[..., Any]:
    return registry.factory(optimizer.name)


def _values(name: str, values: Any) -> Sequence[Any]:
    if isinstance(values, Uniform):
        raise InputError(f"{name} varies over {values}; a grid needs values: .grid(n) gives n of them")
    is_text, is_array = isinstance(values, str | bytes), isinstance(values, np.ndarray) and values.ndim == 1
    if is_text or not (isinstance(values, Sequence) or is_array) or len(values) == 0:
        raise InputError(f"{name} needs a sequence of at least one value, not {shown(values)}")
    return cast(Sequence[Any], values)


def _with(base: Trial, label: str, changes: Mapping[str, Any]) -> Trial:
    hyperparameters, batch_size = base.optimizer.hyperparameters, base.batch_size
    changes, effective = dict(changes), None
    if EFFECTIVE in changes and has_effective_learning_rate(base.optimizer):
        effective = plain_scalar(changes.pop(EFFECTIVE))
        check_real(f"{EFFECTIVE} of {label!r}", effective, 0, math.inf)
    for name, value in changes.items():
        hyperparameter, dot, parameter = name.partition(".")
        if name == BATCH_SIZE:
            check_integer(f"{BATCH_SIZE} of {label!r}", value, 1, MAX_INDEX)
            batch_size = int(value)
        elif dot:
            schedule = hyperparameters[hyperparameter]
            if not isinstance(schedule, Schedule):
                raise InputError(f"{name} of {label!r}: {hyperparameter} is no schedule but {shown(schedule)}")
            hyperparameters[hyperparameter] = Schedule(
                schedule.name, **{**schedule.hyperparameters, parameter: plain_scalar(value)}
            )
        else:
            hyperparameters[name] = value
    optimizer = OptimizerConfig(base.optimizer.name, **hyperparameters)
    if effective is not None:
        optimizer = with_effective_learning_rate(label, optimizer, effective)
    return Trial(optimizer, batch_size)


def _combinations(base: Trial, label: str, axes: Mapping[str, Values]) -> tuple[Trial, ...]:
    """All combinations of values, each once, in the order of the values."""
    combinations = itertools.product(*(_values(name, values) for name, values in axes.items()))
    trials = (_with(base, label, dict(zip(axes, values, strict=True))) for values in combinations)
    return tuple({_training_key(trial): trial for trial in trials}.values())


def _training_key(trial: Trial) -> Any:
    """What decides how a trial trains: as a learning rate 1 equals 1.0, as a static hyperparameter it does not."""
    structure, traced = registry.split(trial.optimizer)
    return structure, tuple(traced.items()), trial.batch_size


def _draw(
    base: Trial, label: str, axes: Mapping[str, Values], search: str, budget: int, search_seed: int
) -> tuple[Trial, ...]:
    """Draws `budget` distinct trials, or all if there are no more. A larger budget begins with the same trials."""
    listed: tuple[Trial, ...] = ()
    combinations = 1.0
    for name, values in axes.items():
        combinations *= math.inf if isinstance(values, Uniform) else len(_values(name, values))
    if combinations <= budget:
        listed = _combinations(base, label, axes)
        budget = len(listed)
    word = int.from_bytes(hashlib.sha256(label.encode()).digest()[:4], "little")
    points = _points(len(axes), budget, search, np.random.default_rng([search_seed, word]))
    trials: dict[Any, Trial] = {}
    for point in points:
        trial = _with(base, label, {name: _pick(name, v, u) for (name, v), u in zip(axes.items(), point, strict=True)})
        trials.setdefault(_training_key(trial), trial)
        if len(trials) == budget:
            break
    # Draws may leave out some of the last.
    for trial in listed:
        trials.setdefault(_training_key(trial), trial)
    return tuple(trials.values())


def _points(dimensions: int, budget: int, search: str, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Draws points of the unit cube, more than the budget, since several may give the same trial."""
    if search == "random":
        for _ in range(_ROUNDS * budget):
            yield rng.random(dimensions)
        return
    from scipy.stats import qmc

    sequence = qmc.Sobol(dimensions, rng=rng)
    # The sequence is balanced over powers of two.
    size = 2 ** math.ceil(math.log2(budget))
    for _ in range(_ROUNDS):
        yield from sequence.random(size)


def _pick(name: str, values: Values, u: float) -> Any:
    if isinstance(values, Uniform):
        return round(values.at(u)) if _is_count(name) else values.at(u)
    return values[min(int(u * len(values)), len(values) - 1)]


def _is_count(name: str) -> bool:
    """Whether a hyperparameter is a whole number: a batch size, or steps of a schedule."""
    return name.split(".")[-1] == BATCH_SIZE or name.endswith("_steps")
