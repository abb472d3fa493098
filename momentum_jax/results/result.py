"""What a set of runs left behind, in memory and on disk."""

import dataclasses
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, PyTree

from momentum_jax._base.errors import InputError
from momentum_jax._base.files import write_atomically
from momentum_jax._base.trees import array_of, decode_arrays, encode_arrays, json_bytes, pack, unpack
from momentum_jax.config import Config, evaluated_iterations, recorded_iterations
from momentum_jax.results.fingerprint import first_difference
from momentum_jax.results.parquet import history_bytes, history_kinds, read_history
from momentum_jax.results.record import Record, Run
from momentum_jax.results.store import HEAD, read_head, read_records, run_digests, trials_from_json
from momentum_jax.results.tables import FINALS, describe, with_finals
from momentum_jax.space import Trial

ByLabel = dict[str, Any]
_FORMAT = 1
_METRIC = "metric."
_FILES = ("config.json", "history.parquet", "params.npz")


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What `train` returns. Every dict is keyed by the optimizers' labels; every array's first axis is the seeds.

    Attributes:
      config: what was run.
      iterations: int [recorded], which iterations the histories hold; fewer than the config's if interrupted.
      losses: float [seeds, recorded], the loss on the batch just used, after the update: what the tutorial plots.
        It rewards the larger step; do not compare optimizers by it.
      losses_before: float [seeds, recorded], the loss on the same batch before the update: an unbiased estimate
        of the training loss.
      metrics: by name, then label: [seeds, recorded, …], what `metrics=` asked for.
      evaluation_iterations: int [evaluations], updates made before each evaluation; the last is the
        end, unless a Ctrl-C cut that evaluation short: then there are no final losses and accuracies.
      evaluations: by name ("train_loss", …), then label: float [seeds, evaluations].
      failed: bool [seeds], not finite at some iteration, or at the end no better than a constant predictor.
      diverged_at: int [seeds], the first iteration whose loss is not finite, before or after; −1 if never.
      params: pytree whose leaves have a leading axis of seeds: the parameters at the end, those that were evaluated.
      provenance: versions, device, instruction set, source and digest of the data, seconds of each phase.
      trials: of a sweep, by label: the optimizers and batch sizes. All that has an axis of seeds then has one of trials
        before it, in this order.
      missing: of a sweep, bool [trials, seeds]: the runs of an unfinished one that are still to come. Their losses are
        NaN, they neither failed nor diverged, and the table leaves them out.
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
        """Share of the test set classified correctly at the end; empty where the task has no such thing."""
        return self._final("test_accuracy")

    def final_losses(self, label: str) -> Float[np.ndarray, "*trials seeds"]:
        """`train_loss`, or where the task's evaluation has none of that name the last loss before an update."""
        return self.train_loss[label] if self.train_loss else self.losses_before[label][..., -1]

    def _final(self, name: str) -> ByLabel:
        # An interrupt can leave updates after the last evaluation.
        if not len(self.evaluation_iterations) or self.evaluation_iterations[-1] <= self.iterations[-1]:
            return {}
        return {label: values[..., -1] for label, values in self.evaluations.get(name, {}).items()}

    def __eq__(self, other: object) -> bool:
        """Equal in everything, to the bit; a NaN equals a NaN."""
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
        """One row a run, as a `pyarrow.Table`.

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
        """Writes config.json, history.parquet, params.npz and, last, result.json with the digests of the others.

        Each file is written whole or not at all. A folder that holds a result of the same config is written anew.

        Raises:
          InputError: the folder cannot be written, or holds the result of another config or other files of these
            names; it is left as it was.
        """
        folder = pathlib.Path(folder)
        if self.trials is not None:
            raise InputError("a sweep is kept in the folder that it is given: mj.sweep(…, folder=…)")
        check_output_folder(folder, self.config)
        metrics = {f"{_METRIC}{name}": by_label for name, by_label in self.metrics.items()}
        histories = {"loss": self.losses, "loss_before": self.losses_before, **metrics}
        contents = {
            "config.json": json_bytes(self.config.to_json()),
            "history.parquet": history_bytes(
                list(self.config.optimizers), self.config.seed_tuple, self.iterations, histories
            ),
            "params.npz": b"",
        }
        structure, contents["params.npz"] = pack(self.params)
        summary = {
            "format": _FORMAT,
            "evaluation_iterations": self.evaluation_iterations.tolist(),
            "evaluations": encode_arrays(self.evaluations),
            "failed": encode_arrays(self.failed),
            "diverged_at": encode_arrays(self.diverged_at),
            "history": history_kinds(histories),
            "params": structure,
            "provenance": self.provenance,
            "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        }
        summary["sha256"]["result.json"] = _digest_of_summary(summary)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in {**contents, "result.json": json_bytes(summary)}.items():
                write_atomically(folder / name, content)
        except OSError as error:
            raise InputError(f"cannot write the result to {str(folder)!r}: {error.strerror}") from error

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Result":
        """Reads what `save` wrote, equal to the bit, or what is there of a sweep.

        Raises:
          InputError: no result there, or one whose files are damaged, incomplete or not of one saving; a sweep none
            of whose runs is finished.
        """
        folder = pathlib.Path(folder)
        if (folder / HEAD).exists():
            return _load_sweep(folder)
        try:
            summary = json.loads((folder / "result.json").read_bytes())
            contents = {name: (folder / name).read_bytes() for name in _FILES}
        except (OSError, ValueError) as error:
            raise InputError(f"{str(folder)!r} holds no complete result: {error}") from error
        if not isinstance(summary, dict) or not isinstance(summary.get("sha256"), dict):
            raise InputError(f"{str(folder)!r}: result.json is not of this program")
        if summary.get("format") != _FORMAT:
            raise InputError(
                f"{str(folder)!r}: result.json has format {summary.get('format')!r}; this version reads {_FORMAT}"
            )
        if summary["sha256"].get("result.json") != _digest_of_summary(summary):
            raise InputError(f"{str(folder)!r}: result.json is damaged")
        for name, content in contents.items():
            if hashlib.sha256(content).hexdigest() != summary.get("sha256", {}).get(name):
                raise InputError(f"{str(folder)!r}: {name} is damaged, or of another saving than result.json")
        config = Config.from_json(json.loads(contents["config.json"]))
        iterations, histories = read_history(
            contents["history.parquet"], list(config.optimizers), config.seed_tuple, summary["history"]
        )
        return cls(
            config=config,
            iterations=iterations,
            losses=histories.pop("loss"),
            losses_before=histories.pop("loss_before"),
            metrics={name.removeprefix(_METRIC): by_label for name, by_label in histories.items()},
            evaluation_iterations=np.asarray(summary["evaluation_iterations"], np.int64),
            evaluations=decode_arrays(summary["evaluations"]),
            failed=decode_arrays(summary["failed"]),
            diverged_at=decode_arrays(summary["diverged_at"]),
            params=unpack(summary["params"], contents["params.npz"]),
            provenance=summary["provenance"],
        )


def from_records(
    config: Config,
    records: Mapping[str, Sequence[Sequence[Record | None]]],
    iterations: Int[np.ndarray, " recorded"],
    evaluation_iterations: Sequence[int],
    provenance: dict[str, Any],
    trials: dict[str, tuple[Trial, ...]] | None = None,
) -> Result:
    """Sorts what the runs left behind by label.

    Args:
      config: what was run.
      records: by label, then trial, then seed; None for a run that is still to come.
      iterations: those that the histories hold.
      evaluation_iterations: updates made before each evaluation.
      provenance: of the result.
      trials: of a sweep; without them there is one trial, and no axis of trials.
    """
    of_runs = {label: [run for of_trial in by_trial for run in of_trial] for label, by_trial in records.items()}
    some = next(run for runs in of_runs.values() for run in runs if run is not None)
    shape = (-1,) if trials is None else (-1, len(config.seed_tuple))

    def gather(get: Callable[[Record], Any], blank: int = 0) -> dict[str, np.ndarray]:
        by_label = {}
        for label, runs in of_runs.items():
            there = next((run for run in runs if run is not None), some)
            like = np.asarray(get(there))
            hole = np.full_like(like, blank if like.dtype.kind in "biu" else np.nan)
            values = np.stack([hole if run is None else np.asarray(get(run)) for run in runs])
            by_label[label] = values.reshape(*shape, *like.shape)
        return by_label

    def gather_named(get: Callable[[Record], dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
        def one(name: str) -> Callable[[Record], np.ndarray]:
            return lambda run: get(run)[name]

        return {name: gather(one(name)) for name in get(some)}

    def stack(runs: Sequence[Record | None]) -> PyTree[np.ndarray]:
        there = next((run for run in runs if run is not None), some).params
        blank = jax.tree.map(lambda p: np.full_like(p, np.nan), there)
        trees = [blank if run is None else run.params for run in runs]
        return jax.tree.map(lambda *leaves: np.stack(leaves).reshape(*shape, *leaves[0].shape), *trees)

    return Result(
        config=config,
        iterations=iterations,
        losses=gather(lambda run: run.losses),
        losses_before=gather(lambda run: run.losses_before),
        metrics=gather_named(lambda run: run.metrics),
        evaluation_iterations=np.asarray(evaluation_iterations),
        evaluations=gather_named(lambda run: run.evaluations),
        failed=gather(lambda run: np.asarray(run.failed)),
        diverged_at=gather(lambda run: np.asarray(run.diverged_at), blank=-1),
        params={} if some.params is None else {label: stack(runs) for label, runs in of_runs.items()},
        provenance=provenance,
        trials=trials,
        missing={}
        if trials is None
        else {label: np.asarray([run is None for run in runs]).reshape(shape) for label, runs in of_runs.items()},
    )


def _load_sweep(folder: pathlib.Path) -> Result:
    head = read_head(folder)
    config, trials = Config.from_json(head["config"]), trials_from_json(head["trials"])
    records = read_records(folder, run_digests(config, trials))
    provenance = {name: head[name] for name in ("versions", "environment", "data")}
    return sweep_result(config, trials, records, provenance)


def sweep_result(
    config: Config,
    trials: dict[str, tuple[Trial, ...]],
    records: Mapping[Run, Record],
    provenance: dict[str, Any],
) -> Result:
    """The result of the runs of a sweep that are finished.

    Raises:
      InputError: there is none.
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


def check_output_folder(folder: pathlib.Path, config: Config, also: Sequence[str] = ()) -> None:
    """Raises `InputError` unless a result of `config`, and files named in `also`, may be written; leaves no trace."""
    existing = folder
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        # Permissions do not tell everything: really writing does.
        with tempfile.TemporaryDirectory(dir=existing):
            pass
    except OSError as error:
        raise InputError(
            f"output folder {str(folder)!r} cannot be written: {str(existing)!r}: {error.strerror}"
        ) from None
    if not any((folder / name).exists() for name in (*_FILES, "result.json", *also)):
        return
    try:
        loaded = json.loads((folder / "config.json").read_bytes())
        there = Config.from_json(loaded)
        if there.to_json() != loaded:
            raise ValueError("a config that this program did not write")
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(
            f"output folder {str(folder)!r} holds files that are not a result of this program; choose another"
        ) from None
    if there.digest != config.digest:
        raise InputError(
            f"output folder {str(folder)!r} holds the result of another config: its "
            f"{first_difference(there.to_json(), config.to_json())}; choose another folder"
        )


def _digest_of_summary(summary: Mapping[str, Any]) -> str:
    others = {name: digest for name, digest in summary["sha256"].items() if name != "result.json"}
    return hashlib.sha256(json.dumps({**summary, "sha256": others}, sort_keys=True).encode()).hexdigest()


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    a, b = array_of(a), array_of(b)
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
