"""What a sweep's folder says of its sweep, and whether another is the same."""

import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from momentum_jax._base.errors import InputError
from momentum_jax._base.machine import versions
from momentum_jax._base.reading import read_sealed, reason
from momentum_jax.config import Config
from momentum_jax.optimizers.description import OptimizerConfig
from momentum_jax.results.fingerprint import first_difference
from momentum_jax.results.record import Run
from momentum_jax.results.stored import config_of
from momentum_jax.space import Trial

HEAD = "sweep.json"
# 4: the loss after the update is recorded where it is asked for, and a run that has diverged is trained no more.
FORMAT = 4
# Fields of a config that may differ among the runs of a sweep.
_OF_EACH_RUN = ("optimizers", "seeds", "batch_size")
_HEAD_SCHEMA = {
    "config": dict,
    "trials": {str: [{"name": str, "hyperparameters": dict, "batch_size": int, "program": str}]},
    "data": str,
    "functions": {str: str},
    "environment": {str: str},
    "versions": {str: str},
}

Trials = Mapping[str, Sequence[Trial]]


def sweep_digest(cfg: Config, trials: Trials) -> str:
    """Returns the SHA-256 of a config and its trials, in hexadecimal."""
    text = json.dumps([cfg.to_json(), trials_to_json(trials)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def run_digests(cfg: Config, trials: Trials, programs: Mapping[str, Sequence[str]]) -> dict[Run, str]:
    """Returns the digest of each run: of its own config and of what an iteration computes.

    The config has one optimizer, one seed and the trial's batch size.
    """
    values = cfg.to_json()
    digests = {}
    for label, of_label in trials.items():
        for position, trial in enumerate(of_label):
            values |= {"optimizers": {label: trial.optimizer.to_json()}, "batch_size": trial.batch_size}
            values |= {"program": programs[label][position]}
            for seed in cfg.seed_tuple:
                text = json.dumps(values | {"seeds": [seed]}, sort_keys=True)
                digests[Run(label, position, trial, seed)] = hashlib.sha256(text.encode()).hexdigest()
    return digests


def make_head(
    cfg: Config, trials: Trials, programs: Mapping[str, Sequence[str]], identity: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns what `sweep.json` is to hold.

    Args:
      cfg: of the sweep.
      trials: by label.
      programs: by label, the digest of what an iteration of each trial computes.
      identity: what else the bits of the runs depend on.
    """
    described = trials_to_json(trials)
    with_programs = {
        label: [{**entry, "program": digest} for entry, digest in zip(own, programs[label], strict=True)]
        for label, own in described.items()
    }
    return {"format": FORMAT, **identity, "config": cfg.to_json(), "trials": with_programs, "versions": versions()}


def read_head(folder: pathlib.Path) -> dict[str, Any]:
    """Reads what the sweep in a folder is.

    Raises:
      InputError: there is none, or one that is damaged or of another version of this program.
    """
    return read_sealed(folder / HEAD, "sweep", FORMAT, _HEAD_SCHEMA)


def trials_to_json(trials: Trials) -> dict[str, list[dict[str, Any]]]:
    return {
        label: [trial.optimizer.to_json() | {"batch_size": trial.batch_size} for trial in of_label]
        for label, of_label in trials.items()
    }


def trials_from_json(values: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, tuple[Trial, ...]]:
    def trial(entry: Mapping[str, Any]) -> Trial:
        own = {name: value for name, value in entry.items() if name not in ("batch_size", "program")}
        return Trial(OptimizerConfig.from_json(own), entry["batch_size"])

    return {label: tuple(map(trial, of_label)) for label, of_label in values.items()}


def described_by(folder: pathlib.Path, head: Mapping[str, Any]) -> tuple[Config, dict[str, tuple[Trial, ...]]]:
    """The config and the trials of the sweep that the head of a folder describes.

    Raises:
      InputError: it describes none.
    """
    try:
        config, trials = config_of(head["config"]), trials_from_json(head["trials"])
        if set(trials) != set(config.optimizers) or not all(trials.values()):
            raise ValueError("its trials are not of the optimizers of its config")
    except ValueError as error:
        raise InputError(f"{str(folder)!r}: {HEAD} is not of this program: {reason(error)}") from error
    return config, trials


def digests_of(head: Mapping[str, Any], cfg: Config, trials: Trials) -> dict[Run, str]:
    """The digest of each run of the sweep that a head describes."""
    programs = {label: [entry["program"] for entry in own] for label, own in head["trials"].items()}
    return run_digests(cfg, trials, programs)


def refuse_another(folder: pathlib.Path, mine: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the head of the sweep in the folder, if its runs and those asked for can be of one sweep."""
    theirs = read_head(folder)
    for name in ("jax", "jaxlib"):
        there, here = theirs["environment"].get(name), mine["environment"].get(name)
        if there != here:
            raise InputError(
                f"output folder {str(folder)!r} is of {name} {there} and this is {here}, which gives other bits: it "
                "can be read, but no runs can be added; choose another folder"
            )
    difference = first_difference(_shared(theirs), _shared(mine)) or _other_program(theirs["trials"], mine["trials"])
    if difference is not None:
        raise InputError(f"output folder {str(folder)!r} holds another sweep: {difference}; choose another folder")
    return theirs


def _shared(head: Mapping[str, Any]) -> dict[str, Any]:
    """What all runs of a sweep have in common, by the names that the user gave it."""
    config = {name: value for name, value in head["config"].items() if name not in _OF_EACH_RUN}
    return config | {name: value for name, value in head.items() if name not in ("config", "trials", "versions")}


def _other_program(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str | None:
    """Says which trial of both computes something else in each; None if there is no such trial."""
    for label, own in mine.items():
        there = {json.dumps(entry | {"program": ""}): entry["program"] for entry in theirs.get(label, ())}
        for entry in own:
            if there.get(json.dumps(entry | {"program": ""}), entry["program"]) != entry["program"]:
                return (
                    f"its runs of {label!r} were trained with functions of the same names that compute something else "
                    "(loss, optimizer or metrics)"
                )
    return None
