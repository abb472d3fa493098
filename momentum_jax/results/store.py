"""A sweep's folder: finished runs in Parquet parts, written by one process at a time."""

import contextlib
import hashlib
import json
import pathlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from momentum_jax._base.errors import InputError
from momentum_jax._base.files import is_locked, lock, remove_left_behind, write_atomically
from momentum_jax._base.machine import versions
from momentum_jax._base.reading import check_schema, read_bytes, read_sealed, reason, seal
from momentum_jax._base.trees import json_bytes
from momentum_jax.config import Config, count_evaluations, count_recorded
from momentum_jax.optimizers.description import OptimizerConfig
from momentum_jax.results.fingerprint import first_difference
from momentum_jax.results.parquet import read_parquet, records_from_parquet, records_to_parquet
from momentum_jax.results.record import Record, Run
from momentum_jax.results.stored import check_records, config_of
from momentum_jax.results.tables import FINALS, describe, with_finals
from momentum_jax.space import Trial

HEAD, PARTS, DAMAGED, STATUS = "sweep.json", "parts", "damaged", "status.json"
LOCK = f".{HEAD}.lock"
# 3: digests in sweep.json and status.json, and of what the functions compute.
FORMAT = 3
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
_STATUS_SCHEMA = {
    "runs": int,
    "finished": int,
    "failed": int,
    "runs_per_second": float,
    "seconds_left": (float, type(None)),
    "memory_bytes": float,
    "updated": float,
}
# The end of the year 9999.
_LATEST = 253_402_300_799
# Characters of its digest that name a part.
_NAME_LENGTH = 16

Trials = Mapping[str, Sequence[Trial]]


class Store:
    """An open folder. Use `open_store`, which locks it.

    Attributes:
      folder: where it is.
      cfg: of the sweep.
      digests: the digest of each run, in the order of the table; see `run_digests`.
      finished: the records of the runs that are known to be in the folder.
    """

    def __init__(self, folder: pathlib.Path, cfg: Config, trials: Trials, digests: dict[Run, str]):
        self.folder = folder
        self.cfg = cfg
        self.digests = digests
        self.finished: dict[Run, Record] = {}
        sizes = {trial.batch_size for of_label in trials.values() for trial in of_label}
        described = describe(trials, cfg.seed_tuple, batch_size=sizes != {cfg.batch_size})
        self._described = described.append_column("digest", [list(self.digests.values())])
        self._rows = {run: row for row, run in enumerate(self.digests)}

    def write(self, records: Mapping[Run, Record]) -> None:
        """Adds runs as one part, which is named by the digest of its content.

        Raises:
          InputError: it cannot be written; what was there before is intact.
        """
        finals = [record.finals for record in records.values()]
        table = with_finals(
            self._described.take([self._rows[run] for run in records]),
            {name: [of_run[name] for of_run in finals] for name in FINALS},
        )
        content = records_to_parquet(table, list(records.values()))
        name = hashlib.sha256(content).hexdigest()[:_NAME_LENGTH]
        try:
            write_atomically(self.folder / PARTS / f"{name}.parquet", content)
        except OSError as error:
            raise InputError(
                f"cannot write to {str(self.folder)!r}: {reason(error)}; the {len(self.finished)} runs finished "
                "before are intact, and the same call goes on from there"
            ) from error
        self.finished.update(records)

    def read_finished(self) -> dict[Run, Record]:
        """Reads the runs that are in the folder; a damaged part is set aside, with a warning."""
        try:
            self.finished = read_records(self.folder, self.cfg, self.digests, set_aside=True)
        except OSError as error:
            raise InputError(f"the runs in {str(self.folder)!r} cannot be read: {reason(error)}") from error
        return self.finished

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Writes what `momentum-jax status` shows. A sweep does not need it, so a full disk is no error here."""
        with contextlib.suppress(OSError):
            write_atomically(self.folder / STATUS, json_bytes(seal({"format": FORMAT, **status})))


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


@contextlib.contextmanager
def open_store(folder: pathlib.Path, head: Mapping[str, Any], cfg: Config, trials: Trials) -> Iterator[Store]:
    """Opens a new folder, or one whose sweep differs in trials and seeds only, for this process alone.

    The lock is the operating system's: it ends with the process, however that ends.

    Args:
      folder: where.
      head: what `make_head` gives.
      cfg: of the sweep.
      trials: by label.

    Raises:
      InputError: the folder cannot be written, holds something else or another sweep, or is in use.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(folder / LOCK, f"output folder {str(folder)!r}", "sweep"))
            remove_left_behind(folder, HEAD)
            remove_left_behind(folder, STATUS)
            remove_left_behind(folder / PARTS)
            there = {path.name for path in folder.iterdir()}
            if HEAD not in there and there - {LOCK, PARTS}:
                raise InputError(
                    f"output folder {str(folder)!r} holds files that are not a sweep of this program; choose another"
                )
            if HEAD in there:
                # The versions that the sweep began with are kept for those who want to repeat it.
                head = {**head, "versions": _refuse_another(folder, head)["versions"]}
            write_atomically(folder / HEAD, json_bytes(seal(head)))
            (folder / PARTS).mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"output folder {str(folder)!r} cannot be written: {reason(error)}") from error
        yield Store(folder, cfg, trials, digests_of(head, cfg, trials))


def read_head(folder: pathlib.Path) -> dict[str, Any]:
    """Reads what the sweep in a folder is.

    Raises:
      InputError: there is none, or one that is damaged or of another version of this program.
    """
    return read_sealed(folder / HEAD, "sweep", FORMAT, _HEAD_SCHEMA)


def read_status(folder: pathlib.Path) -> dict[str, Any]:
    """Reads what `Store.write_status` wrote.

    Raises:
      InputError: there is nothing, or it is damaged.
    """
    status = read_sealed(folder / STATUS, "report on its sweep", FORMAT, _STATUS_SCHEMA)
    if not (0 <= status["updated"] <= _LATEST and 0 <= (status["seconds_left"] or 0) <= _LATEST):
        raise InputError(f"{str(folder)!r}: {STATUS} is damaged: its times are not possible")
    return status


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


def read_records(
    folder: pathlib.Path, cfg: Config, digests: Mapping[Run, str], *, set_aside: bool = False
) -> dict[Run, Record]:
    """Reads all runs of the intact parts of a folder.

    A part whose name is not the digest of its content is damaged. It is left out with a warning, and moved to another
    folder if it is to be set aside. Runs of other digests than these are left out: they are of trials or seeds that
    were asked for before.

    Raises:
      InputError: a part cannot be read, or its runs are not of this config though their digests are.
      OSError: a damaged part cannot be set aside.
    """
    runs = {digest: run for run, digest in digests.items()}
    found: dict[Run, Record] = {}
    for path in sorted((folder / PARTS).glob("*.parquet")):
        try:
            of_part, records = _read_part(path)
        except OSError as error:
            raise InputError(f"{str(path)!r} cannot be read: {reason(error)}") from error
        except ValueError:
            _leave_out_damaged(path, folder / DAMAGED if set_aside else None)
            continue
        found |= {runs[key]: record for key, record in zip(of_part, records, strict=True) if key in runs}
    by_label: dict[str, list[Record]] = {}
    for run, record in found.items():
        by_label.setdefault(run.label, []).append(record)
    try:
        check_records(by_label, count_recorded(cfg), count_evaluations(cfg))
    except ValueError as error:
        raise InputError(f"the runs in {str(folder / PARTS)!r} cannot be used: {error}") from error
    return found


def _read_part(path: pathlib.Path) -> tuple[list[str], list[Record]]:
    """The digests and the records of the runs in a part; `ValueError` if it is damaged."""
    table, records = records_from_parquet(_read_intact(path))
    if "digest" not in table.column_names:
        raise ValueError("it has no digests of runs")
    return table.column("digest").to_pylist(), records


def _read_intact(path: pathlib.Path) -> bytes:
    content = read_bytes(path)
    if hashlib.sha256(content).hexdigest()[:_NAME_LENGTH] != path.stem:
        raise ValueError("its name is not the digest of its content")
    return content


def count_runs(folder: pathlib.Path) -> tuple[int, int]:
    """Counts the finished runs of the sweep in a folder, and those of them that failed."""
    head = read_head(folder)
    known = set(digests_of(head, *described_by(folder, head)).values())
    failed: dict[str, bool] = {}
    for path in (folder / PARTS).glob("*.parquet"):
        failed |= {digest: value for digest, value in _failed_in(path).items() if digest in known}
    return len(failed), sum(failed.values())


def in_use(folder: pathlib.Path) -> bool:
    """Whether a sweep is running in a folder."""
    return is_locked(folder / LOCK)


def _refuse_another(folder: pathlib.Path, mine: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the head of the sweep in the folder, if its runs and those asked for can be of one sweep."""
    theirs = read_head(folder)
    for name in ("jax", "jaxlib"):
        there, here = theirs["environment"].get(name), mine["environment"][name]
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


def _leave_out_damaged(path: pathlib.Path, aside: pathlib.Path | None) -> None:
    """Warns of a damaged part, and moves it to another folder if one is given."""
    if aside is not None:
        aside.mkdir(exist_ok=True)
        path.rename(aside / path.name)
    warnings.warn(
        f"{str(path)!r} is damaged; its runs are "
        + ("left out" if aside is None else f"run again, and it is set aside in {aside.name}"),
        stacklevel=3,
    )


def _failed_in(path: pathlib.Path) -> dict[str, bool]:
    """By digest, whether each run of a part failed."""
    try:
        table = read_parquet(_read_intact(path), ["digest", "failed"])
        digests, failed = table.column("digest").to_pylist(), table.column("failed").to_pylist()
        check_schema([digests, failed], [([str], [bool])])
        return dict(zip(digests, failed, strict=True))
    except (OSError, ValueError, LookupError):
        # A damaged part; the sweep sets it aside when it is resumed.
        return {}
