"""`Config`, the description of a set of runs: frozen, comparable, serialisable, and checked without JAX."""

import collections
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Int

from momentum_jax._base.display import LINES, Row, Summary, as_html, as_text, clip, counted
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
from momentum_jax.optimizers.description import OptimizerConfig, description_text, parse_description

Sampling = Literal["with_replacement", "epochs"]
Activation = Literal["relu", "sigmoid", "tanh"]
WeightInit = Literal["he", "xavier"]
DType = Literal["float32", "float64", "bfloat16"]

_MOST_LISTED = 5
MAX_SEED = 2**32 - 1
_EXAMPLE = 'mj.OptimizerConfig("momentum", learning_rate=0.01)'
MAX_INDEX = 2**31 - 1
"""What the programs count with, int32, holds no more."""


def _tutorial_optimizers() -> dict[str, OptimizerConfig]:
    return {
        "sgd": OptimizerConfig("sgd", learning_rate=0.01),
        "momentum": OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9),
        "optax": OptimizerConfig("optax.sgd", learning_rate=0.01, momentum=0.9),
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Config:
    """The description of a set of runs on one task.

    The defaults are the tutorial's experiment, with `optax.sgd` beside it as a check.

    Attributes:
      task: the task by name, with arguments if it takes any, such as "convnet,channels=(8, 16)"; the names are those of
        `momentum_jax.tasks.available()`. The task "mlp" has its arguments in the fields hidden_sizes, activation,
        weight_init and l2.
      dataset: "mnist" (embedded), "tfds:NAME" (a dataset of tensorflow-datasets), or the path of a folder with the four
        MNIST-style IDX files. Only tasks on images take one.
      hidden_sizes: the width of each hidden layer of the network.
      activation: the nonlinearity after each hidden layer.
      weight_init: the normal distribution (not truncated) of the initial weights: "he" for the variance 2/fan_in,
        "xavier" for 1/fan_in, or a number, the standard deviation. Biases start at zero.
      l2: λ of the penalty 0.5·λ·Σ‖W‖² that is added to the training loss; over the weights, not the biases.
      iterations: the parameter updates of each run.
      batch_size: the examples in each batch.
      seeds: the seeds, or an integer n for the seeds 0 … n−1. A seed determines the initial weights and the batches.
      optimizers: the optimizers by label.
      sampling: "with_replacement" draws every batch from all training examples, as the tutorial does; "epochs" goes
        through the examples in a new random order each epoch and drops the last, incomplete batch.
      shared_init: whether all optimizers of a seed start from the same weights, which makes their runs paired;
        otherwise each label draws its own weights, as in the tutorial.
      dtype: the dtype of the parameters, the optimizer's state and the arithmetic. All dtypes start from the same
        float32 draws.
      evaluate_every: iterations between evaluations on the full training and test sets; None evaluates at the end only.
        Every run ends with an evaluation.
      record_every: iterations between the recorded losses and metrics. The last iteration is always recorded.
      loss_after: whether the loss on each batch after its update is recorded too, which takes three tenths of the time
        with the tutorial's network; by default `train` does so, and sweeps and comparisons do not. XLA may round a tiny
        network's step in another way with it than without.

    Raises:
      InputError: a field has a value that is not allowed; the message names the field, the value and what is allowed.

    >>> Config(seeds=3).seeds
    (0, 1, 2)
    """

    task: str = "mlp"
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
    loss_after: bool | None = None

    def __new__(cls, *_: Any, **fields: Any) -> "Config":
        """Refuses a name that is no field, where `__init__` could only raise a TypeError."""
        for name in fields:
            check_choice("field of a config", name, [field.name for field in dataclasses.fields(cls)])
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._set(field.name, plain(getattr(self, field.name)))
        if isinstance(self.seeds, int) and not isinstance(self.seeds, bool):
            check_integer("seeds", self.seeds, 1, 1_000_000)
            self._set("seeds", tuple(range(self.seeds)))
        for name in ("seeds", "hidden_sizes"):
            if not isinstance(getattr(self, name), list | tuple | range):
                raise InputError(f"{name} must be a sequence of integers, not {shown(getattr(self, name))}")
            self._set(name, tuple(map(plain, getattr(self, name))))
        if not isinstance(self.optimizers, Mapping):
            raise InputError(
                f"optimizers must map labels to OptimizerConfig, not {shown(self.optimizers)}; write "
                f'{{"a": {_EXAMPLE}}}'
            )
        self._set("optimizers", dict(self.optimizers))
        self._check()
        self._set("task", self._canonical_task())
        # Equal numbers have equal JSON, and so equal digests; the sum makes 0.0 of -0.0.
        for name in ("l2", "weight_init"):
            if not isinstance(getattr(self, name), str):
                self._set(name, float(getattr(self, name)) + 0.0)

    def _set(self, name: str, value: object) -> None:
        """Assigns a field while the frozen config is constructed."""
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return as_text(self._summary())

    def _repr_html_(self) -> str:
        return as_html(self._summary())

    def _summary(self) -> Summary:
        """Its optimizers, the fields that other results are most often told by, and what is not at its default."""
        told = ("task", "dataset", "iterations", "batch_size", "seeds", "optimizers")
        others = {f.name: f.default for f in dataclasses.fields(self) if f.name not in told}
        changed = [
            f"{name}={getattr(self, name)!r}" for name, default in others.items() if getattr(self, name) != default
        ]
        return Summary(
            title=f"Config of {clip(task_title(self), 50)}: {scale_of(self)}",
            lines=(f"also {', '.join(changed)}",) if changed else (),
            columns=("optimizer", "description"),
            rows=tuple(Row((label, repr(o))) for label, o in itertools.islice(self.optimizers.items(), LINES)),
            total=len(self.optimizers),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Config):
            return NotImplemented
        # The digest holds only the name of an optimizer's factory, and two factories may share a name.
        return self.digest == other.digest and self.optimizers == other.optimizers

    def __hash__(self) -> int:
        return hash(self.digest)

    def _check(self) -> None:
        if not (isinstance(self.dataset, str) and self.dataset and is_utf8(self.dataset) and "\0" not in self.dataset):
            raise InputError(f"dataset must be a name or a folder, in UTF-8, not {shown(self.dataset)}")
        for size in self.hidden_sizes:
            check_integer("hidden_sizes", size, 1, MAX_INDEX)
        for seed in self.seed_tuple:
            check_integer("seeds", seed, 0, MAX_SEED)
        if not self.seed_tuple:
            raise InputError("seeds must hold at least one seed")
        repeated = sorted(seed for seed, times in collections.Counter(self.seed_tuple).items() if times > 1)
        if repeated:
            raise InputError(f"seeds must differ; given more than once: {', '.join(map(str, repeated))}")
        check_integer("iterations", self.iterations, 1, MAX_INDEX)
        check_integer("batch_size", self.batch_size, 1, MAX_INDEX)
        check_integer("record_every", self.record_every, 1, MAX_INDEX)
        if self.evaluate_every is not None:
            check_integer("evaluate_every", self.evaluate_every, 1, MAX_INDEX)
        check_real("l2", self.l2, 0, float("inf"))
        for field, choices in (("activation", Activation), ("sampling", Sampling), ("dtype", DType)):
            check_choice(field, getattr(self, field), get_args(choices))
        if isinstance(self.weight_init, str):
            if self.weight_init not in get_args(WeightInit):
                raise unknown("weight_init", self.weight_init, [*get_args(WeightInit), "a number"])
        else:
            check_real("weight_init", self.weight_init, 0, float("inf"))
        if not isinstance(self.shared_init, bool):
            raise InputError(f"shared_init must be True or False, not {shown(self.shared_init)}")
        if not isinstance(self.loss_after, bool | None):
            raise InputError(f"loss_after must be True, False or None, not {shown(self.loss_after)}")
        if not self.optimizers:
            raise InputError("optimizers must hold at least one optimizer")
        for label, optimizer in self.optimizers.items():
            if not (isinstance(label, str) and label.isprintable() and label.strip() == label != ""):
                raise InputError(f"an optimizer's label must be printable text, not {shown(label)}")
            if not isinstance(optimizer, OptimizerConfig):
                raise InputError(
                    f"optimizers[{label!r}] must be an OptimizerConfig, not {shown(optimizer)}; write "
                    f"{_as_optimizer(optimizer)}"
                )

    def _canonical_task(self) -> str:
        """The text of the task that is the same for equal arguments, checked against the other fields."""
        if self.task == "mlp":
            return "mlp"
        # The networks of other tasks are made of slow imports.
        from momentum_jax.tasks.named import argument_names, check_arguments, takes_dataset

        if not (isinstance(self.task, str) and is_utf8(self.task)):
            raise InputError(
                f'task must be a name with arguments, such as "convnet,residual=true", not {shown(self.task)}'
            )
        try:
            name, arguments = parse_description(self.task)
        except InputError as error:
            raise InputError(f"task: {error}") from None
        checked = check_arguments(name, arguments)
        if "dataset" in checked:
            raise InputError(f"dataset is a field of its own, not an argument in the task {shown(self.task)}")
        if not takes_dataset(name) and self.dataset != Config.dataset:
            raise InputError(f"dataset is of tasks on images; task {name!r} has its own data, not {self.dataset!r}")
        if name == "mlp" and arguments:
            raise InputError(
                f"{next(iter(arguments))} is a field of its own, not an argument in the task {self.task!r}"
            )
        changed = [field for field in argument_names("mlp") if getattr(self, field) != getattr(Config, field)]
        if name != "mlp" and changed:
            own = argument_names(name)
            raise InputError(
                f"{changed[0]} is of task 'mlp'; task {name!r} has {', '.join(own)}, written behind its name as in "
                f"{name},{own[0]}=…"
            )
        return description_text(name, checked)

    @property
    def seed_tuple(self) -> tuple[int, ...]:
        """`seeds` with its type after construction, a tuple, which type checkers cannot infer."""
        assert isinstance(self.seeds, tuple)
        return self.seeds

    def to_json(self) -> dict[str, Any]:
        """The config as JSON values, from which `from_json` makes an equal config."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["optimizers"] = {label: optimizer.to_json() for label, optimizer in self.optimizers.items()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Config":
        """The config from the JSON values that `to_json` returned.

        Raises:
          InputError: a field does not exist, or a value is not allowed.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        if not isinstance(values, Mapping):
            raise InputError(f"a config is an object with the fields {', '.join(names)}, not {shown(values)}")
        for key in values:
            if key not in names:
                raise unknown("field of the config", key, names)
        entries = values.get("optimizers", {})
        if not isinstance(entries, Mapping):
            raise InputError(f"optimizers must map labels to a name and hyperparameters, not {shown(entries)}")
        optimizers = {label: OptimizerConfig.from_json(entry) for label, entry in entries.items()}
        fields = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return cls(**fields | ({"optimizers": optimizers} if optimizers else {}))

    @property
    def digest(self) -> str:
        """SHA-256 of the config's canonical JSON, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()


def _as_optimizer(given: object) -> str:
    """How an optimizer is written that was given as something else."""
    return f'mj.OptimizerConfig("{given}", learning_rate=…)' if isinstance(given, str) else _EXAMPLE


def task_title(cfg: Config) -> str:
    """What is trained, in a few words: the dataset with the task, or the task alone; of the task "mlp" the dataset.

    >>> task_title(Config(task="convnet, residual=yes")), task_title(Config(task="least_squares"))
    ('mnist (convnet,residual=true)', 'least_squares')
    """
    if cfg.task == "mlp":
        return cfg.dataset
    from momentum_jax.tasks.named import takes_dataset

    name, _ = parse_description(cfg.task)
    return f"{cfg.dataset} ({cfg.task})" if takes_dataset(name) else cfg.task


def scale_of(cfg: Config) -> str:
    """The seeds, iterations and batches of a config in words.

    >>> scale_of(Config(seeds=3)), scale_of(Config(seeds=(7,), iterations=1))
    ('3 seeds (0 to 2), 2,000 iterations, batches of 128', '1 seed (7), 1 iteration, batches of 128')
    """
    seeds = cfg.seed_tuple
    listed = ", ".join(map(str, seeds[:_MOST_LISTED])) + (", …" if len(seeds) > _MOST_LISTED else "")
    if len(seeds) > 1 and seeds == tuple(range(seeds[0], seeds[0] + len(seeds))):
        listed = f"{seeds[0]} to {seeds[-1]}"
    times = f"{counted(len(seeds), 'seed')} ({listed}), {counted(cfg.iterations, 'iteration')}"
    return f"{times}, batches of {cfg.batch_size}"


def recorded_iterations(cfg: Config) -> Int[np.ndarray, " recorded"]:
    """The iterations that a history holds: every `record_every`-th and the last."""
    every = np.arange(0, cfg.iterations, cfg.record_every)
    last = cfg.iterations - 1
    return every if every[-1] == last else np.append(every, last)


def evaluated_iterations(cfg: Config) -> list[int]:
    """The numbers of updates after which a run is evaluated: each multiple of `evaluate_every`, and all updates."""
    every = cfg.evaluate_every or cfg.iterations
    return sorted({*range(every, cfg.iterations, every), cfg.iterations})


def count_recorded(cfg: Config) -> int:
    """How many iterations `recorded_iterations` has, without listing them."""
    return -(-(cfg.iterations - 1) // cfg.record_every) + 1


def count_evaluations(cfg: Config) -> int:
    """How many entries `evaluated_iterations` has, without listing them."""
    return -(-cfg.iterations // (cfg.evaluate_every or cfg.iterations))
