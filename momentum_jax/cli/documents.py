"""What the commands print with `--json`: one JSON document each, whose keys momentum_jax/cli/README.md lists."""

import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from momentum_jax.cli.terminal import printing
from momentum_jax.comparison.answer import Answer, answer_of, best_of_sweep
from momentum_jax.comparison.arms import Arm, arm_of
from momentum_jax.comparison.metrics import median_of
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.task_comparison import TaskComparison
from momentum_jax.comparison.task_folder import folder_of
from momentum_jax.report import PAGE
from momentum_jax.report.document.numbers import json_number
from momentum_jax.results.result import Result


def print_json(document: Mapping[str, Any]) -> None:
    """Prints a document to standard output, in ASCII, so that any stream can hold it."""
    text = json.dumps(plain(document), allow_nan=False)
    with printing():
        sys.stdout.write(f"{text}\n")


def plain(value: Any) -> Any:
    """A value in JSON types: arrays and tuples are lists, named tuples objects, numbers as `json_number` has them."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, pathlib.Path):
        return str(value)
    return json_number(value) if isinstance(value, float) else value


def training_document(
    result: Result, answer: Answer, seconds: Mapping[str, float], folder: pathlib.Path
) -> dict[str, Any]:
    """What `momentum-jax train --json` prints."""
    trained = int(result.iterations[-1]) + 1
    return {
        "kind": "training",
        "folder": folder,
        "state": "finished" if trained == result.config.iterations else "interrupted",
        "iterations": trained,
        "answer": answer,
        "optimizers": {
            label: _arm(arm_of(result, label, None)) | {"diverged_at": _diverged_at(result.diverged_at[label])}
            for label in result.config.optimizers
        },
        "config": result.config.to_json(),
        "seconds": seconds,
    }


def sweep_document(result: Result, answer: Answer, folder: pathlib.Path) -> dict[str, Any]:
    """What `momentum-jax sweep --json` prints."""
    assert result.trials is not None
    missing = sum(int(own.sum()) for own in result.missing.values())
    return {
        "kind": "sweep",
        "folder": folder,
        "state": "interrupted" if missing else "finished",
        "runs": sum(own.size for own in result.missing.values()),
        "missing": missing,
        "failed": sum(int(own.sum()) for own in result.failed.values()),
        "trials": {label: len(own) for label, own in result.trials.items()},
        "answer": answer,
        "best": {
            label: _arm(arm_of(result, label, position)) for label, (position, _) in best_of_sweep(result).items()
        },
        "config": result.config.to_json(),
    }


def comparison_document(compared: Comparison, answer: Answer, folder: pathlib.Path) -> dict[str, Any]:
    """What `momentum-jax compare --json` prints."""
    return {
        "kind": "comparison",
        "folder": folder,
        "page": folder / PAGE,
        "answer": answer,
        "protocols": {
            name: {
                "title": protocol.title,
                "skipped": protocol.skipped,
                "optimizers": {label: _arm(arm) for label, arm in protocol.arms.items()},
            }
            for name, protocol in compared.protocols.items()
        },
        "verdicts": compared.verdicts,
        "notes": compared.notes,
        "target": compared.target,
        "plan": compared.plan,
        "config": compared.config.to_json(),
    }


def tasks_document(compared: TaskComparison, answer: Answer, folder: pathlib.Path) -> dict[str, Any]:
    """What `momentum-jax compare-tasks --json` prints."""
    return {
        "kind": "tasks",
        "folder": folder,
        "page": folder / PAGE,
        "answer": answer,
        "profiles": compared.profiles,
        "summary": compared.summary,
        "tasks": {
            name: comparison_document(own, answer_of(own), folder / folder_of(name))
            for name, own in compared.comparisons.items()
        },
        "level": compared.level,
        "notes": compared.notes,
    }


def _arm(arm: Arm) -> dict[str, Any]:
    """The runs of a trial: what it is, and each metric's median and values by seed."""
    return {
        "name": arm.trial.optimizer.name_text,
        "hyperparameters": arm.trial.optimizer.to_json()["hyperparameters"],
        "batch_size": arm.trial.batch_size,
        "seeds": arm.seeds,
        "failed": arm.failed,
        "metrics": {
            name: {"median": median_of(name, values), "values": values}
            for name, values in arm.values.items()
            if name != "failed"
        },
    }


def _diverged_at(iterations: np.ndarray) -> list[int | None]:
    return [None if at < 0 else int(at) for at in iterations]
