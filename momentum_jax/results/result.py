"""`Result`: the arrays of a set of runs, in memory and on disk."""

import dataclasses
import functools
import operator
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, PyTree

from momentum_jax._base.display import Summary, as_html, as_text
from momentum_jax._base.errors import InputError, check_path, shown
from momentum_jax._base.reading import reason
from momentum_jax._base.trees import array_of, flatten, json_bytes, unflatten
from momentum_jax.config import Config, evaluated_iterations, recorded_iterations
from momentum_jax.results.head import HEAD, described_by, digests_of, read_head
from momentum_jax.results.labelled import labelled_arrays
from momentum_jax.results.parquet import records_from_parquet, records_to_parquet
from momentum_jax.results.parts import read_records
from momentum_jax.results.record import Record
from momentum_jax.results.result_folder import (
    CONFIG,
    RUNS,
    read_result_folder,
    write_result_folder,
)
from momentum_jax.results.stacked import OnDemand, Reads, StackedRecords
from momentum_jax.results.stored import check_forms
from momentum_jax.results.summary import summary_of
from momentum_jax.results.tables import FINALS, ITERATIONS, describe, trials_by_label, with_finals
from momentum_jax.space import Trial

ByLabel = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What `train` and `sweep` return: histories, evaluations and parameters of all runs.

    Every dict is keyed by the optimizers' labels. The first axis of every array is the seeds.

    Attributes:
      config: what was run.
      iterations: int [recorded], which iterations the histories hold; fewer than the config's if interrupted.
      losses_after: float [seeds, recorded], the loss on each batch after its update; empty where it was not recorded.
        See `losses`.
      losses_before: float [seeds, recorded], the loss on the same batch before the update: an unbiased estimate
        of the training loss.
      metrics: by name, then label: [seeds, recorded, …], what `metrics=` asked for.
      evaluation_iterations: int [evaluations], updates made before each evaluation. The last evaluation is at the
        end, unless a Ctrl-C cut it short: then there are no final losses and accuracies.
      evaluations: by name ("train_loss", …), then label: float [seeds, evaluations].
      failed: bool [seeds], whether a loss before an update was not finite, or "train_loss" at the end is not below that
        of a constant predictor.
      diverged_at: int [seeds], the first iteration whose loss before the update is not finite; −1 if there is none.
        The iterations after it are not trained: their losses and metrics are NaN (0 for integers), and so are the
        evaluations from there on.
      params: pytree whose leaves have a leading axis of seeds: the parameters at the end, those that were evaluated.
        Histories and parameters of a sweep with a folder are read from it when one of them is first asked for.
      provenance: versions, device, instruction set, source and digest of the data, seconds of each phase.
      trials: of a sweep, by label: the optimizers and batch sizes. Every array that has an axis of seeds then has an
        axis of trials before it, in this order.
      missing: of a sweep, bool [trials, seeds], the runs that are not finished yet. Their losses are NaN, they neither
        failed nor diverged, and the table leaves them out.
      errors: of a sweep of a `HostTask`, by label and (position of the trial, seed): what runs raised, in one line, and
        below it the traceback. These runs failed; their losses are NaN.
    """

    config: Config
    iterations: Int[np.ndarray, " recorded"]
    losses_after: Mapping[str, Float[np.ndarray, "*trials seeds recorded"]]
    losses_before: Mapping[str, Float[np.ndarray, "*trials seeds recorded"]]
    metrics: dict[str, Mapping[str, np.ndarray]]
    evaluation_iterations: Int[np.ndarray, " evaluations"]
    evaluations: dict[str, dict[str, Float[np.ndarray, "*trials seeds evaluations"]]]
    failed: dict[str, Bool[np.ndarray, "*trials seeds"]]
    diverged_at: dict[str, Int[np.ndarray, "*trials seeds"]]
    params: Mapping[str, PyTree[np.ndarray]]
    provenance: dict[str, Any]
    trials: dict[str, tuple[Trial, ...]] | None = None
    missing: dict[str, Bool[np.ndarray, "trials seeds"]] = dataclasses.field(default_factory=dict)
    errors: dict[str, dict[tuple[int, int], str]] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return as_text(self._summary(curves=False))

    def _repr_html_(self) -> str:
        return as_html(self._summary(curves=True))

    def _summary(self, *, curves: bool) -> Summary:
        """The summary, of a finished training of several optimizers with the answer."""
        from momentum_jax.comparison.answer import answer_of_training

        summary = summary_of(self, curves=curves)
        finished = len(self.iterations) > 0 and self.iterations[-1] == self.config.iterations - 1
        whole = set(self.config.optimizers) <= set(self.losses_before)
        if self.trials is not None or len(self.config.optimizers) < 2 or not finished or not whole:
            return summary
        return summary._replace(lines=(" ".join(answer_of_training(self).sentences), *summary.lines))

    @property
    def losses(self) -> Mapping[str, Float[np.ndarray, "*trials seeds recorded"]]:
        """The loss on each batch after its update: what the tutorial plots.

        It rewards the larger step; do not compare optimizers by it.

        Raises:
          InputError: it was not recorded.
        """
        if not self.losses_after:
            raise InputError(
                "the loss after each update was not recorded; ask for it with Config(loss_after=True), or "
                "--loss-after yes. losses_before is there always"
            )
        return self.losses_after

    @property
    def batch_losses(self) -> tuple[Mapping[str, Float[np.ndarray, "*trials seeds recorded"]], str]:
        """`losses` where they were recorded, else `losses_before`; and which it is, "after" or "before"."""
        return (self.losses_after, "after") if self.losses_after else (self.losses_before, "before")

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

    def in_memory(self) -> "Result":
        """The same result with all histories and parameters in memory, so that its folder may go.

        Raises:
          InputError: they are not in the folder any more, or cannot be read.
        """
        return dataclasses.replace(
            self,
            losses_after=dict(self.losses_after),
            losses_before=dict(self.losses_before),
            metrics={name: dict(by_label) for name, by_label in self.metrics.items()},
            params=dict(self.params),
        )

    def check_histories(self, needed_by: str) -> None:
        """Checks that each optimizer has its `losses_before`, which `dataclasses.replace` can take out.

        Args:
          needed_by: what needs them, for the message.

        Raises:
          InputError: an optimizer has none.
        """
        lacking = [label for label in self.config.optimizers if label not in self.losses_before]
        if lacking:
            raise InputError(
                f"{needed_by} needs losses_before, and this result has none of {shown(lacking)}; leave losses_before "
                "as it is in dataclasses.replace, or read the result again with mj.Result.load(folder)"
            )

    def final_losses(self, label: str) -> Float[np.ndarray, "*trials seeds"]:
        """`train_loss`, or the last loss before an update where the task's evaluation has no "train_loss"."""
        if self.train_loss:
            return self.train_loss[label]
        self.check_histories("the final loss of a task without a train_loss")
        return self.losses_before[label][..., -1]

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
        trials = trials_by_label(self.config, self.trials)
        sizes = {trial.batch_size for own in trials.values() for trial in own}
        described = describe(trials, self.config.seed_tuple, batch_size=sizes != {self.config.batch_size})
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

    def to_xarray(self) -> Any:
        """Returns an `xarray.Dataset` of the arrays, to select, plot and write with xarray.

        Its dimensions are trial (of a training one for each optimizer, in their order), seed, iteration and evaluation
        (the updates made before it). The variables are losses_before, losses_after where it was recorded, failed,
        diverged_at, of a sweep missing, and each evaluation and metric under its name. Further axes of a metric are
        named as in norm_0, norm_1. The values are those of the result: of a missing run NaN, False, or −1 in
        diverged_at. bfloat16 becomes float32. Parameters are left out.

        Coordinates along trial are optimizer (its label), batch_size, and each hyperparameter under its name in
        `table()`: numbers, with NaN where an optimizer has none of that name, or else text. A name that is taken gets a
        prefix, as in evaluation.failed, metric.failed and hyperparameter.seed. Histories that are in a sweep's folder
        are read from it.

        Raises:
          InputError: xarray is not installed, the arrays of a metric have other shapes for other optimizers, or the
            histories were taken out of the result.
        """
        return labelled_arrays(self)

    def plot(self, ax: Any = None, *, label: str | None = None, log: bool = False) -> Any:
        """Draws the losses of a training, or of a sweep the final loss against the hyperparameters that vary.

        That is a heatmap if two hyperparameters of an optimizer vary, and the loss against the one if one does. These
        are the figures of `momentum-jax`.

        Args:
          ax: the matplotlib Axes to draw into. Without it a figure is made by `matplotlib.pyplot`, which shows it in
            notebooks and with `plt.show()`.
          label: the optimizer to draw; by default all.
          log: of a training, whether the loss has a logarithmic axis, with the start of the curves.

        Returns:
          The Axes, or the Figure if it has several.

        Raises:
          InputError: there is nothing to draw, no such optimizer, `log` with a sweep, or `ax` with several panels.
        """
        from momentum_jax.report.plotting import plot_result

        return plot_result(self, ax, label, log=log)

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
        self.check_histories("save")
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

    def report(self, path: str | os.PathLike[str]) -> None:
        """Writes the page of a training or a sweep: one HTML file, which needs no network.

        Raises:
          InputError: the file cannot be written, or the histories are not in the result or its folder any more.
        """
        from momentum_jax.report.writing import write_page

        check_path("path", path)
        write_page([self], pathlib.Path(path))

    def _of(self, label: str) -> list[Record]:
        """The records of a label's runs, seed by seed."""
        structure, leaves = flatten(self.params.get(label))
        return [
            Record(
                losses=self.losses_after[label][i] if self.losses_after else None,
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


def from_stacked(
    config: Config,
    stacked: StackedRecords,
    iterations: Int[np.ndarray, " recorded"],
    evaluation_iterations: Sequence[int] | Int[np.ndarray, " evaluations"],
    provenance: dict[str, Any],
    trials: dict[str, tuple[Trial, ...]] | None = None,
    read: Reads | None = None,
) -> Result:
    """Builds a result from the records of its runs, of which at least one is finished.

    Args:
      config: what was run.
      stacked: the records.
      iterations: those that the histories hold.
      evaluation_iterations: updates made before each evaluation.
      provenance: of the result.
      trials: of a sweep. Without them there is one trial, and no axis of trials.
      read: gives the histories and parameters, by label, where `stacked` does not keep them.
    """
    fields = stacked.complete()
    if trials is None:
        fields = {label: jax.tree.map(lambda a: a[0], of_label) for label, of_label in fields.items()}
    form = next(iter(stacked.forms.values()))
    labels = tuple(fields)

    def now(*keys: str) -> dict[str, Any]:
        return {label: functools.reduce(operator.getitem, keys, fields[label]) for label in labels}

    def histories(*keys: str) -> Mapping[str, Any]:
        return now(*keys) if read is None else OnDemand(labels, read, keys)

    return Result(
        config=config,
        iterations=iterations,
        losses_after={} if form.losses is None else histories("losses"),
        losses_before=histories("losses_before"),
        metrics={name: histories("metrics", name) for name in form.metrics},
        evaluation_iterations=np.asarray(evaluation_iterations),
        evaluations={name: now("evaluations", name) for name in form.evaluations},
        failed=now("failed"),
        diverged_at=now("diverged_at"),
        params={} if form.params is None else histories("params"),
        provenance=provenance,
        trials=trials,
        missing={} if trials is None else {label: ~finished for label, finished in stacked.finished.items()},
        errors={
            label: {(position, config.seed_tuple[column]): own[position, column] for position, column in sorted(own)}
            for label in labels
            if (own := stacked.errors.get(label))
        },
    )


def sweep_result(
    config: Config,
    trials: dict[str, tuple[Trial, ...]],
    stacked: StackedRecords,
    provenance: dict[str, Any],
    read: Reads | None = None,
) -> Result:
    """Builds the result of a sweep from the records of its finished runs.

    Args:
      config: of the sweep.
      trials: by label.
      stacked: the records.
      provenance: of the result.
      read: gives the histories and parameters, by label, where `stacked` does not keep them.

    Raises:
      InputError: no run is finished.
    """
    if not len(stacked):
        raise InputError("no run of this sweep is finished")
    iterations, evaluations = recorded_iterations(config), evaluated_iterations(config)
    return from_stacked(config, stacked, iterations, evaluations, provenance, trials, read)


def _load_training(folder: pathlib.Path) -> Result:
    summary, config, content = read_result_folder(folder)
    seeds, labels = len(config.seed_tuple), list(config.optimizers)
    try:
        runs = seeds * len(config.optimizers)
        table, records = records_from_parquet(content, runs)
        if len(records) != runs:
            raise ValueError("the number of its runs is not that of the config")
        iterations = table.column(ITERATIONS)[0].values.to_numpy()
        if not np.issubdtype(iterations.dtype, np.integer):
            raise ValueError("its iterations are not integers")
        evaluation_iterations = np.asarray(summary["evaluation_iterations"], np.int64)
        # The digests say that config and rows are of one saving, so rows are in the order of the config's labels.
        stacked = StackedRecords(dict.fromkeys(config.optimizers, 1), config.seed_tuple)
        for i, record in enumerate(records):
            stacked.put(labels[i // seeds], (0, i % seeds), record)
        check_forms(stacked.forms, len(iterations), len(evaluation_iterations))
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise InputError(f"{str(folder)!r}: {RUNS} cannot be used: {reason(error)}") from error
    return from_stacked(config, stacked, iterations, evaluation_iterations, summary["provenance"])


def _load_sweep(folder: pathlib.Path) -> Result:
    head = read_head(folder)
    config, trials = described_by(folder, head)
    records = read_records(folder, config, trials, digests_of(head, config, trials))
    provenance = {name: head[name] for name in ("versions", "environment", "data", "functions")}
    return sweep_result(config, trials, records, provenance)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    a, b = array_of(a), array_of(b)
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
