"""What a set of runs left behind, in memory and on disk."""

import dataclasses
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, PyTree

from momentum_jax.config import Config, Schedule
from momentum_jax.errors import InputError
from momentum_jax.files import write_atomically
from momentum_jax.formats import (
    decode_arrays,
    encode_arrays,
    history_bytes,
    history_kinds,
    json_bytes,
    pack,
    read_history,
    unpack,
)

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
    """

    config: Config
    iterations: Int[np.ndarray, " recorded"]
    losses: dict[str, Float[np.ndarray, "seeds recorded"]]
    losses_before: dict[str, Float[np.ndarray, "seeds recorded"]]
    metrics: dict[str, dict[str, np.ndarray]]
    evaluation_iterations: Int[np.ndarray, " evaluations"]
    evaluations: dict[str, dict[str, Float[np.ndarray, "seeds evaluations"]]]
    failed: dict[str, Bool[np.ndarray, " seeds"]]
    diverged_at: dict[str, Int[np.ndarray, " seeds"]]
    params: dict[str, PyTree[np.ndarray]]
    provenance: dict[str, Any]

    @property
    def train_loss(self) -> dict[str, Float[np.ndarray, " seeds"]]:
        """Loss over the whole training set at the end, for image classification without the L2 penalty."""
        return self._final("train_loss")

    @property
    def test_loss(self) -> dict[str, Float[np.ndarray, " seeds"]]:
        """Loss over the whole test set at the end; empty where the task has none."""
        return self._final("test_loss")

    @property
    def test_accuracy(self) -> dict[str, Float[np.ndarray, " seeds"]]:
        """Share of the test set classified correctly at the end; empty where the task has no such thing."""
        return self._final("test_accuracy")

    def _final(self, name: str) -> ByLabel:
        if self.evaluation_iterations[-1:].tolist() != [len(self.iterations)]:
            return {}
        return {label: values[:, -1] for label, values in self.evaluations.get(name, {}).items()}

    def __eq__(self, other: object) -> bool:
        """Equal in everything, to the bit; a NaN equals a NaN."""
        if not isinstance(other, Result):
            return NotImplemented
        if self.config.to_json() != other.config.to_json() or self.provenance != other.provenance:
            return False
        return _same(self._arrays(), other._arrays())

    __hash__ = None  # type: ignore[assignment]

    def _arrays(self) -> dict[str, Any]:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if name not in ("config", "provenance")}

    def table(self) -> Any:
        """One row a run, as a `pyarrow.Table`.

        Columns: optimizer (its label), each hyperparameter under its name (those of a schedule as name.parameter),
        seed, final_train_loss, test_loss, test_accuracy, failed, diverged_at (null if never).
        """
        import pyarrow as pa

        rows = []
        for label, optimizer in self.config.optimizers.items():
            hyperparameters = _flat_hyperparameters(optimizer.hyperparameters)
            for i, seed in enumerate(self.config.seed_tuple):
                diverged_at = int(self.diverged_at[label][i])
                rows.append(
                    {
                        "optimizer": label,
                        **hyperparameters,
                        "seed": seed,
                        "final_train_loss": _entry(self.train_loss, label, i),
                        "test_loss": _entry(self.test_loss, label, i),
                        "test_accuracy": _entry(self.test_accuracy, label, i),
                        "failed": bool(self.failed[label][i]),
                        "diverged_at": None if diverged_at < 0 else diverged_at,
                    }
                )
        names: dict[str, None] = {"optimizer": None}
        for row in rows:
            names |= dict.fromkeys(row)
        last = ("seed", "final_train_loss", "test_loss", "test_accuracy", "failed", "diverged_at")
        order = [name for name in names if name not in last] + list(last)
        return pa.table({name: _column([row.get(name) for row in rows], _arrow_type(name)) for name in order})

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes config.json, history.parquet, params.npz and, last, result.json with the digests of the others.

        Each file is written whole or not at all. A folder that holds a result of the same config is written anew.

        Raises:
          InputError: the folder cannot be written, or holds the result of another config or other files of these
            names; it is left as it was.
        """
        folder = pathlib.Path(folder)
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
        """Reads what `save` wrote, equal to the bit.

        Raises:
          InputError: no result there, or one whose files are damaged, incomplete or not of one saving.
        """
        folder = pathlib.Path(folder)
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
        mine, theirs = config.to_json(), there.to_json()
        # As text: 1 and 1.0, or True and 1, are equal but not the same.
        texts = {name: [json.dumps(values[name], sort_keys=True) for values in (mine, theirs)] for name in mine}
        field = next(name for name, (here, there_) in texts.items() if here != there_)
        raise InputError(
            f"output folder {str(folder)!r} holds the result of another config: its {field} is {theirs[field]!r}, "
            f"not {mine[field]!r}; choose another folder"
        )


def _entry(values: Mapping[str, np.ndarray], label: str, i: int) -> float | None:
    return float(values[label][i]) if label in values else None


def _arrow_type(name: str) -> Any:
    import pyarrow as pa

    return {
        "optimizer": pa.string(),
        "seed": pa.int64(),
        "final_train_loss": pa.float64(),
        "test_loss": pa.float64(),
        "test_accuracy": pa.float64(),
        "failed": pa.bool_(),
        "diverged_at": pa.int64(),
    }.get(name)


def _digest_of_summary(summary: Mapping[str, Any]) -> str:
    others = {name: digest for name, digest in summary["sha256"].items() if name != "result.json"}
    return hashlib.sha256(json.dumps({**summary, "sha256": others}, sort_keys=True).encode()).hexdigest()


def _column(values: list[Any], kind: Any) -> Any:
    """A column of hyperparameters; as text where optimizers give them different types."""
    import pyarrow as pa

    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values])


def _flat_hyperparameters(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in hyperparameters.items():
        if isinstance(value, Schedule):
            flat |= {name + ".schedule": value.name}
            flat |= {f"{name}.{parameter}": entry for parameter, entry in value.items}
        else:
            flat[name if _arrow_type(name) is None else f"hyperparameter.{name}"] = value
    return flat


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    a, b = np.asarray(a), np.asarray(b)
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
