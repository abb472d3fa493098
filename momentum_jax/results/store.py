"""A sweep's folder: finished runs in Parquet parts, each written whole or not at all, by one process at a time."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import socket
import time
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

from momentum_jax._base.errors import InputError
from momentum_jax._base.files import left_behind, write_atomically
from momentum_jax._base.trees import json_bytes
from momentum_jax.config import Config
from momentum_jax.optimizers.description import OptimizerConfig
from momentum_jax.results.fingerprint import first_difference
from momentum_jax.results.parquet import read_parquet
from momentum_jax.results.record import Record, Run, from_parquet, to_parquet
from momentum_jax.results.tables import describe
from momentum_jax.space import Trial

HEAD, PARTS, DAMAGED, LOCK, STATUS = "sweep.json", "parts", "damaged", "lock", "status.json"
FORMAT = 1
_NAMED = 16

Trials = Mapping[str, Sequence[Trial]]


class Store:
    """An open folder. Use `open_store`, which locks it.

    Attributes:
      folder: where it is.
      keys: the digest of the config of each run, in the order of the table.
      finished: those that are in the folder, and whether they failed.
    """

    def __init__(self, folder: pathlib.Path, cfg: Config, trials: Trials):
        self.folder = folder
        self.keys = run_digests(cfg, trials)
        self.finished: dict[Run, bool] = {}
        self._described = describe_runs(cfg, trials).append_column("digest", [list(self.keys.values())])
        self._rows = {key: row for row, key in enumerate(self.keys)}

    def write(self, records: Mapping[Run, Record]) -> None:
        """Adds runs as one part, named by the digest of its content.

        Raises:
          InputError: it cannot be written; what was there before is intact.
        """
        content = to_parquet(self._described.take([self._rows[key] for key in records]), list(records.values()))
        try:
            write_atomically(self.folder / PARTS / f"{hashlib.sha256(content).hexdigest()[:_NAMED]}.parquet", content)
        except OSError as error:
            raise InputError(
                f"cannot write to {str(self.folder)!r}: {error.strerror}; the {len(self.finished)} runs finished "
                "before are intact, and the same call goes on from there"
            ) from error
        self.finished.update((key, record.failed) for key, record in records.items())

    def find_finished(self) -> None:
        """Looks which runs are there; a part that is damaged is set aside, with a warning."""
        by_digest = {digest: key for key, digest in self.keys.items()}
        try:
            for table, _ in read_parts(self.folder, by_digest, set_aside=True):
                runs = zip(table.column("digest").to_pylist(), table.column("failed").to_pylist(), strict=True)
                self.finished.update((by_digest[digest], failed) for digest, failed in runs)
        except OSError as error:
            raise InputError(f"the runs in {str(self.folder)!r} cannot be read: {error.strerror}") from error

    def write_status(self, status: Mapping[str, Any]) -> None:
        """What `momentum-jax status` shows; not needed by anything else, so that a full disk does no harm."""
        with contextlib.suppress(OSError):
            write_atomically(self.folder / STATUS, json_bytes(dict(status)))


def sweep_digest(cfg: Config, trials: Trials) -> str:
    """SHA-256 of a config and its trials, in hexadecimal."""
    text = json.dumps([cfg.to_json(), trials_to_json(trials)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def run_digests(cfg: Config, trials: Trials) -> dict[Run, str]:
    """The digest of each run's own config: that with one optimizer, one seed and its batch size."""
    values = cfg.to_json()
    digests = {}
    for label, of_label in trials.items():
        for position, trial in enumerate(of_label):
            values |= {"optimizers": {label: trial.optimizer.to_json()}, "batch_size": trial.batch_size}
            for seed in cfg.seed_tuple:
                text = json.dumps(values | {"seeds": [seed]}, sort_keys=True)
                digests[Run(label, position, trial, seed)] = hashlib.sha256(text.encode()).hexdigest()
    return digests


def describe_runs(cfg: Config, trials: Trials) -> Any:
    """The table of a sweep's runs without what came of them; with a column of batch sizes if they vary."""
    sizes = {trial.batch_size for of_label in trials.values() for trial in of_label}
    return describe(trials, cfg.seed_tuple, batch_size=sizes != {cfg.batch_size})


@contextlib.contextmanager
def open_store(
    folder: pathlib.Path, cfg: Config, trials: Trials, identity: Mapping[str, Any], versions: Mapping[str, str]
) -> Iterator[Store]:
    """Opens a new folder, or one of the same sweep, for this process alone.

    The lock is the operating system's: it ends with the process, however that ends.

    Args:
      folder: where.
      cfg: of the sweep.
      trials: by label.
      identity: what must be the same for a sweep to be gone on with.
      versions: of what it is begun with, kept for those who want to repeat it.

    Raises:
      InputError: the folder cannot be written, holds something else or another sweep, or is in use.
    """
    head = {"format": FORMAT, **identity, "trials": trials_to_json(trials)}
    with contextlib.ExitStack() as stack:
        try:
            there = {path.name for path in folder.iterdir()} if folder.exists() else set()
            unfinished = {path.name for path in left_behind(folder, HEAD)}
            if HEAD not in there and there - {LOCK, PARTS} - unfinished:
                raise InputError(
                    f"output folder {str(folder)!r} holds files that are not a sweep of this program; choose another"
                )
            (folder / PARTS).mkdir(parents=True, exist_ok=True)
            stack.enter_context(_lock(folder))
            if (folder / HEAD).exists():
                _refuse_another(folder, head)
            else:
                write_atomically(folder / HEAD, json_bytes({**head, "versions": dict(versions)}))
            for path in [*left_behind(folder / PARTS), *left_behind(folder, HEAD), *left_behind(folder, STATUS)]:
                path.unlink()
        except OSError as error:
            raise InputError(f"output folder {str(folder)!r} cannot be written: {error.strerror}") from error
        yield Store(folder, cfg, trials)


@contextlib.contextmanager
def _lock(folder: pathlib.Path) -> Iterator[None]:
    with (folder / LOCK).open("a+") as file:
        # `in_use` holds it for a moment.
        for last in (False, False, True):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if last:
                    file.seek(0)
                    by = file.read().strip() or "starting"
                    raise InputError(f"output folder {str(folder)!r} is in use by another sweep ({by})") from None
                time.sleep(0.05)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def count_runs(folder: pathlib.Path) -> tuple[int, int]:
    """How many runs are in the parts of a folder, and how many of them failed."""
    failed = [row for path in (folder / PARTS).glob("*.parquet") for row in _failed_in(path)]
    return len(failed), sum(failed)


def _failed_in(path: pathlib.Path) -> list[bool]:
    try:
        column: list[bool] = read_parquet(path.read_bytes(), ["failed"]).column("failed").to_pylist()
    except (OSError, ValueError, KeyError):
        # Damaged: the sweep sets it aside when it goes on.
        return []
    return column


def in_use(folder: pathlib.Path) -> bool:
    """Whether a sweep is running in a folder."""
    try:
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _refuse_another(folder: pathlib.Path, mine: Mapping[str, Any]) -> None:
    theirs = read_head(folder)
    difference = first_difference({**theirs, "versions": {}}, {**mine, "versions": {}})
    if difference is not None:
        raise InputError(f"output folder {str(folder)!r} holds another sweep: {difference}; choose another folder")


def read_head(folder: pathlib.Path, name: str = HEAD, what: str = "sweep") -> dict[str, Any]:
    """What the folder's sweep, or what else is kept in such a file, is.

    Raises:
      InputError: there is none, or one of another version of this program.
    """
    try:
        head = json.loads((folder / name).read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{str(folder)!r} holds no {what}: {error}") from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise InputError(f"{str(folder)!r}: {name} is not of this version of the program")
    return head


def trials_to_json(trials: Trials) -> dict[str, list[dict[str, Any]]]:
    return {
        label: [trial.optimizer.to_json() | {"batch_size": trial.batch_size} for trial in of_label]
        for label, of_label in trials.items()
    }


def trials_from_json(values: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, tuple[Trial, ...]]:
    def trial(entry: Mapping[str, Any]) -> Trial:
        own = {name: value for name, value in entry.items() if name != "batch_size"}
        return Trial(OptimizerConfig.from_json(own), entry["batch_size"])

    return {label: tuple(map(trial, of_label)) for label, of_label in values.items()}


def read_records(folder: pathlib.Path, digests: Mapping[Run, str]) -> dict[Run, Record]:
    """All finished runs of intact parts."""
    by_digest = {digest: key for key, digest in digests.items()}
    return {
        by_digest[digest]: record
        for table, records in read_parts(folder, by_digest)
        for digest, record in zip(table.column("digest").to_pylist(), records(), strict=True)
    }


def read_parts(
    folder: pathlib.Path, digests: Container[str], *, set_aside: bool = False
) -> Iterator[tuple[Any, Callable[[], list[Record]]]]:
    """The tables of the intact parts, and what gives their records.

    A part that is damaged, or whose name is not the digest of its content, is left out with a warning, and moved
    away if it shall be set aside. So is, where it lies, one with runs of other digests than these.
    """
    for path in sorted((folder / PARTS).glob("*.parquet")):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest()[:_NAMED] == path.stem:
            table, records = from_parquet(content)
            if all(digest in digests for digest in table.column("digest").to_pylist()):
                yield table, records
            else:
                warnings.warn(f"{str(path)!r} holds runs of another sweep, which are left out", stacklevel=2)
            continue
        if set_aside:
            (folder / DAMAGED).mkdir(exist_ok=True)
            path.rename(folder / DAMAGED / path.name)
        warnings.warn(
            f"{str(path)!r} is damaged; its runs are "
            + (f"run again, and it is set aside in {DAMAGED}" if set_aside else "left out"),
            stacklevel=2,
        )
