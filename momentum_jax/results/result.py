"""`Result`: the arrays of a set of runs, in memory and on disk."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, PyTree

from momentum_jax._base.errors import InputError, check_path
from momentum_jax._base.reading import reason
from momentum_jax._base.trees import array_of, flatten, json_bytes, unflatten
from momentum_jax.config import Config, evaluated_iterations, recorded_iterations
from momentum_jax.results.parquet import records_from_parquet, records_to_parquet
from momentum_jax.results.record import Record, Run
from momentum_jax.results.result_folder import (
    CONFIG,
    RUNS,
    read_result_folder,
    write_result_folder,
)
from momentum_jax.results.store import HEAD, described_by, digests_of, read_head, read_records
from momentum_jax.results.stored import check_records
from momentum_jax.results.tables import FINALS, ITERATIONS, describe, with_finals
from momentum_jax.space import Trial

ByLabel = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What `train` and `sweep` return: histories, evaluations and parameters of all runs.

    Every dict is keyed by the optimizers' labels. The first axis of every array is the seeds.

    Attributes:
      config: what was run.
      iterations: int [recorded], which iterations the histories hold; fewer than the config's if interrupted.
      losses: float [seeds, recorded], the loss on each batch after its update: what the tutorial plots. It rewards
        the larger step; do not compare optimizers by it.
      losses_before: float [seeds, recorded], the loss on the same batch before the update: an unbiased estimate
        of the training loss.
      metrics: by name, then label: [seeds, recorded, …], what `metrics=` asked for.
      evaluation_iterations: int [evaluations], updates made before each evaluation. The last evaluation is at the
        end, unless a Ctrl-C cut it short: then there are no final losses and accuracies.
      evaluations: by name ("train_loss", …), then label: float [seeds, evaluations].
      failed: bool [seeds], whether a loss was not finite, or the end was no better than a constant predictor.
      diverged_at: int [seeds], the first iteration whose loss, before or after the update, is not finite; −1 if
        there is none.
      params: pytree whose leaves have a leading axis of seeds: the parameters at the end, those that were evaluated.
      provenance: versions, device, instruction set, source and digest of the data, seconds of each phase.
      trials: of a sweep, by label: the optimizers and batch sizes. Every array that has an axis of seeds then has an
        axis of trials before it, in this order.
      missing: of a sweep, bool [trials, seeds], the runs that are not finished yet. Their losses are NaN, they neither
        failed nor diverged, and the table leaves them out.
    """

    config: Config
    iterations: Int[np.ndarray, " recorded"]
    losses: dict[str, Float[np.ndarray, "*trials seeds recorded"]]
    losses_before: dict[str, Float[np.ndarray, "*trials seeds recorded"]]
    metrics: dict[str, dict[str, np.ndarray]]
    evaluation_iterations: Int[np.ndarray, " evaluations"]
    evaluations: dict[str, dict[str, Float[np.ndarray, "*trials seeds evaluations"]]]
    failed: dict[str, Bool[np.ndarray, "*trials seeds"]]
    diverged_at: dict[str, Int[np.ndarray, "*trials seeds"]]
    params: dict[str, PyTree[np.ndarray]]
    provenance: dict[str, Any]
    trials: dict[str, tuple[Trial, ...]] | None = None
    missing: dict[str, Bool[np.ndarray, "trials seeds"]] = dataclasses.field(default_factory=dict)

    @property
    def train_loss(self) -> dict[str, Float[np.ndarray, "*trials seeds"]]:
        """Loss over the whole training set at the end, for image classification without the L2 penalty."""
        return self._final("train_loss")

    @property
    def test_loss(self) -> dict[str, Float[np.ndarray, "*trials seeds"]]:
        """Loss over the whole test set at the end; empty where the task has none."""
        return self._final("test_loss")

    @property
    def test_accuracy(self) -> dict[str, Float[np.ndarray, "*trials seeds"]]:
        """Proportion of the test set classified correctly at the end; empty where the task does not evaluate it."""
        return self._final("test_accuracy")

    def final_losses(self, label: str) -> Float[np.ndarray, "*trials seeds"]:
        """`train_loss`, or the last loss before an update where the task's evaluation has no "train_loss"."""
        return self.train_loss[label] if self.train_loss else self.losses_before[label][..., -1]

    def _final(self, name: str) -> ByLabel:
        # An interrupt can leave updates after the last evaluation.
        if not len(self.evaluation_iterations) or self.evaluation_iterations[-1] <= self.iterations[-1]:
            return {}
        return {label: values[..., -1] for label, values in self.evaluations.get(name, {}).items()}

    def __eq__(self, other: object) -> bool:
        """Whether two results are equal in everything, to the bit; a NaN equals a NaN."""
        if not isinstance(other, Result):
            return NotImplemented
        if self.config.to_json() != other.config.to_json() or self.provenance != other.provenance:
            return False
        if repr(self.trials) != repr(other.trials):
            return False
        return _same(self._arrays(), other._arrays())

    __hash__ = None  # type: ignore[assignment]

    def _arrays(self) -> dict[str, Any]:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if name not in ("config", "provenance", "trials")}

    def table(self) -> Any:
        """Returns a `pyarrow.Table` with one row a run.

        Columns: optimizer (its label), each hyperparameter under its name (those of a schedule as name.parameter),
        seed, final_train_loss, test_loss, test_accuracy, failed, diverged_at (null if never).
        """
        trials = self._trials_by_label()
        described = describe(trials, self.config.seed_tuple, batch_size=self._batch_sizes_vary())
        finals: dict[str, list[Any]] = {name: [] for name in FINALS}
        evaluated = dict(zip(FINALS, (self.train_loss, self.test_loss, self.test_accuracy), strict=False))
        present: list[bool] = []
        for label in trials:
            runs = self.failed[label].size
            for name, by_label in evaluated.items():
                finals[name] += by_label[label].reshape(-1).astype(float).tolist() if by_label else [None] * runs
            finals["failed"] += self.failed[label].reshape(-1).tolist()
            finals["diverged_at"] += [None if at < 0 else at for at in self.diverged_at[label].reshape(-1).tolist()]
            present += (~self.missing[label].reshape(-1)).tolist() if self.missing else [True] * runs
        return with_finals(described, finals).filter(present)

    def _trials_by_label(self) -> Mapping[str, Sequence[Trial]]:
        if self.trials is not None:
            return self.trials
        return {label: (Trial(o, self.config.batch_size),) for label, o in self.config.optimizers.items()}

    def _batch_sizes_vary(self) -> bool:
        sizes = {trial.batch_size for own in self._trials_by_label().values() for trial in own}
        return sizes != {self.config.batch_size}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes config.json, runs.parquet and, last, result.json with the digests of the others.

        runs.parquet has one row a run: the columns of `table()`, the histories as lists, the recorded iterations
        and the parameters. Each file is written whole or not at all. A folder that holds a result of the same config
        is written anew.

        Raises:
          InputError: the folder cannot be written, or holds the result of another config, of another version of the
            program, or other files of these names; it is left as it was.
        """
        check_path("folder", folder)
        folder = pathlib.Path(folder)
        if self.trials is not None:
            raise InputError("a sweep is kept in the folder that it is given: mj.sweep(…, folder=…)")
        table = self.table()
        table = table.append_column(ITERATIONS, [[self.iterations] * len(table)])
        contents = {
            CONFIG: json_bytes(self.config.to_json()),
            RUNS: records_to_parquet(table, [record for label in self.config.optimizers for record in self._of(label)]),
        }
        about = {"provenance": self.provenance, "evaluation_iterations": self.evaluation_iterations.tolist()}
        write_result_folder(folder, self.config, contents, about)

    def _of(self, label: str) -> list[Record]:
        """The records of a label's runs, seed by seed."""
        structure, leaves = flatten(self.params.get(label))
        return [
            Record(
                losses=self.losses[label][i],
                losses_before=self.losses_before[label][i],
                metrics={name: by_label[label][i] for name, by_label in self.metrics.items()},
                diverged_at=int(self.diverged_at[label][i]),
                evaluations={name: by_label[label][i] for name, by_label in self.evaluations.items()},
                failed=bool(self.failed[label][i]),
                params=unflatten(structure, {name: leaf[i] for name, leaf in leaves.items()}),
            )
            for i in range(len(self.config.seed_tuple))
        ]

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Result":
        """Reads what `save` wrote, equal to the bit, or the finished runs of a sweep's folder.

        Raises:
          InputError: no result there, one of another version of the program, or one whose files are damaged,
            incomplete or not of one saving; a sweep none of whose runs is finished.
        """
        check_path("folder", folder)
        folder = pathlib.Path(folder)
        return _load_sweep(folder) if os.path.lexists(folder / HEAD) else _load_training(folder)


def from_records(
    config: Config,
    records: Mapping[str, Sequence[Sequence[Record | None]]],
    iterations: Int[np.ndarray, " recorded"],
    evaluation_iterations: Sequence[int] | Int[np.ndarray, " evaluations"],
    provenance: dict[str, Any],
    trials: dict[str, tuple[Trial, ...]] | None = None,
) -> Result:
    """Builds a result from the records of its runs.

    Args:
      config: what was run.
      records: by label, then trial, then seed; None for a run that is not finished, of which some other must be.
      iterations: those that the histories hold.
      evaluation_iterations: updates made before each evaluation.
      provenance: of the result.
      trials: of a sweep; without them there is one trial, and no axis of trials.
    """
    of_runs = {label: [record for of_trial in by_trial for record in of_trial] for label, by_trial in records.items()}
    some = next(record for runs in of_runs.values() for record in runs if record is not None)
    complete = {label: _fill_missing(runs, some) for label, runs in of_runs.items()}
    seeds = len(config.seed_tuple)
    axes = {label: (seeds,) if trials is None else (len(of_trials), seeds) for label, of_trials in records.items()}

    def stacked(field: str, name: str | None = None) -> dict[str, Any]:
        """By label, a field of the records, or what it has under a name."""
        entries = {label: [getattr(record, field) for record in runs] for label, runs in complete.items()}
        if name is not None:
            entries = {label: [entry[name] for entry in of_runs] for label, of_runs in entries.items()}
        return {label: _stack(of_runs, axes[label]) for label, of_runs in entries.items()}

    missing = {label: _stack([record is None for record in runs], axes[label]) for label, runs in of_runs.items()}
    return Result(
        config=config,
        iterations=iterations,
        losses=stacked("losses"),
        losses_before=stacked("losses_before"),
        metrics={name: stacked("metrics", name) for name in some.metrics},
        evaluation_iterations=np.asarray(evaluation_iterations),
        evaluations={name: stacked("evaluations", name) for name in some.evaluations},
        failed=stacked("failed"),
        diverged_at=stacked("diverged_at"),
        params={} if some.params is None else stacked("params"),
        provenance=provenance,
        trials=trials,
        missing={} if trials is None else missing,
    )


def sweep_result(
    config: Config,
    trials: dict[str, tuple[Trial, ...]],
    records: Mapping[Run, Record],
    provenance: dict[str, Any],
) -> Result:
    """Builds the result of a sweep from the records of its finished runs.

    Raises:
      InputError: no run is finished.
    """
    if not records:
        raise InputError("no run of this sweep is finished")
    by_label = {
        label: [
            [records.get(Run(label, position, trial, seed)) for seed in config.seed_tuple]
            for position, trial in enumerate(of_label)
        ]
        for label, of_label in trials.items()
    }
    iterations, evaluations = recorded_iterations(config), evaluated_iterations(config)
    return from_records(config, by_label, iterations, evaluations, provenance, trials)


def _load_training(folder: pathlib.Path) -> Result:
    summary, config, content = read_result_folder(folder)
    seeds = len(config.seed_tuple)
    try:
        table, records = records_from_parquet(content)
        if len(records) != seeds * len(config.optimizers):
            raise ValueError("the number of its runs is not that of the config")
        # The digests say that config and rows are of one saving, so rows are in the order of the config's labels.
        by_label = {label: records[i * seeds : (i + 1) * seeds] for i, label in enumerate(config.optimizers)}
        iterations = table.column(ITERATIONS)[0].values.to_numpy()
        if not np.issubdtype(iterations.dtype, np.integer):
            raise ValueError("its iterations are not integers")
        evaluation_iterations = np.asarray(summary["evaluation_iterations"], np.int64)
        check_records(by_label, len(iterations), len(evaluation_iterations))
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise InputError(f"{str(folder)!r}: {RUNS} cannot be used: {reason(error)}") from error
    runs = {label: [own] for label, own in by_label.items()}
    return from_records(config, runs, iterations, evaluation_iterations, summary["provenance"])


def _load_sweep(folder: pathlib.Path) -> Result:
    head = read_head(folder)
    config, trials = described_by(folder, head)
    records = read_records(folder, config, digests_of(head, config, trials))
    provenance = {name: head[name] for name in ("versions", "environment", "data", "functions")}
    return sweep_result(config, trials, records, provenance)


def _fill_missing(records: Sequence[Record | None], other: Record) -> list[Record]:
    """Puts a blank record where a run is missing, with the shapes of its label's, or else of another label's."""
    present = [record for record in records if record is not None]
    if len(present) == len(records):
        return present
    like = present[0] if present else other
    blank = Record(
        losses=_blank(like.losses),
        losses_before=_blank(like.losses_before),
        metrics={name: _blank(values) for name, values in like.metrics.items()},
        diverged_at=-1,
        evaluations={name: _blank(values) for name, values in like.evaluations.items()},
        failed=False,
        params=jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), like.params),
    )
    return [blank if record is None else record for record in records]


def _blank(values: np.ndarray) -> np.ndarray:
    """An array of NaN, or of zeros where the dtype has no NaN."""
    return np.full_like(values, 0 if values.dtype.kind in "biu" else np.nan)


def _stack(trees: Sequence[PyTree[Any]], axes: tuple[int, ...]) -> PyTree[np.ndarray]:
    """Stacks the leaves of the runs' trees along these leading axes."""

    def stack(*leaves: Any) -> np.ndarray:
        stacked = np.stack(leaves)
        return stacked.reshape(*axes, *stacked.shape[1:])

    return jax.tree.map(stack, *trees)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    a, b = array_of(a), array_of(b)
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
