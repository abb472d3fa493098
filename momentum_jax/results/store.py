"""A sweep's folder while one process writes to it."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from momentum_jax._base.errors import InputError
from momentum_jax._base.files import is_locked, lock, remove_left_behind, write_atomically
from momentum_jax._base.reading import read_sealed, reason, seal
from momentum_jax._base.trees import json_bytes
from momentum_jax.config import Config
from momentum_jax.results.head import FORMAT, HEAD, Trials, digests_of, refuse_another
from momentum_jax.results.parquet import records_to_parquet
from momentum_jax.results.parts import PARTS, Reader, empty_records, part_name, read_records
from momentum_jax.results.record import Record, Run
from momentum_jax.results.stacked import StackedRecords
from momentum_jax.results.tables import FINALS, describe, with_finals

STATUS, UNFINISHED = "status.json", "unfinished.npz"
LOCK = f".{HEAD}.lock"
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


class Store:
    """An open folder. Use `open_store`, which locks it.

    Attributes:
      folder: where it is.
      cfg: of the sweep.
      digests: the digest of each run, in the order of the table; see `run_digests`.
      finished: the records of the runs that are known to be in the folder, without their histories.
    """

    def __init__(self, folder: pathlib.Path, cfg: Config, trials: Trials, digests: dict[Run, str]):
        self.folder = folder
        self.cfg = cfg
        self.trials = trials
        self.digests = digests
        self.finished = empty_records(cfg, trials, histories=False)
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
        try:
            write_atomically(self.folder / PARTS / f"{part_name(content)}.parquet", content)
        except OSError as error:
            raise InputError(
                f"cannot write to {str(self.folder)!r}: {reason(error)}; the {len(self.finished)} runs finished "
                "before are intact, and the same call goes on from there"
            ) from error
        self.finished.add(records)

    def read_finished(self) -> StackedRecords:
        """Reads the runs that are in the folder; a damaged part is set aside, with a warning."""
        try:
            self.finished = read_records(
                self.folder, self.cfg, self.trials, self.digests, set_aside=True, histories=False
            )
        except OSError as error:
            raise InputError(f"the runs in {str(self.folder)!r} cannot be read: {reason(error)}") from error
        return self.finished

    def reader(self) -> "Reader":
        """What reads the histories of the runs that are finished now."""
        digests = {run: digest for run, digest in self.digests.items() if run in self.finished}
        return Reader(self.folder.absolute(), self.cfg, self.trials, digests)

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Writes what `momentum-jax status` shows. A sweep does not need it, so a full disk is no error here."""
        with contextlib.suppress(OSError):
            write_atomically(self.folder / STATUS, json_bytes(seal({"format": FORMAT, **status})))


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
            remove_left_behind(folder, UNFINISHED)
            remove_left_behind(folder / PARTS)
            there = {path.name for path in folder.iterdir()}
            if HEAD not in there and there - {LOCK, PARTS}:
                raise InputError(
                    f"output folder {str(folder)!r} holds files that are not a sweep of this program; choose another"
                )
            if HEAD in there:
                # The versions that the sweep began with are kept for those who want to repeat it.
                head = {**head, "versions": refuse_another(folder, head)["versions"]}
            write_atomically(folder / HEAD, json_bytes(seal(head)))
            (folder / PARTS).mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"output folder {str(folder)!r} cannot be written: {reason(error)}") from error
        yield Store(folder, cfg, trials, digests_of(head, cfg, trials))


def read_status(folder: pathlib.Path) -> dict[str, Any]:
    """Reads what `Store.write_status` wrote.

    Raises:
      InputError: there is nothing, or it is damaged.
    """
    status = read_sealed(folder / STATUS, "report on its sweep", FORMAT, _STATUS_SCHEMA)
    if not (0 <= status["updated"] <= _LATEST and 0 <= (status["seconds_left"] or 0) <= _LATEST):
        raise InputError(f"{str(folder)!r}: {STATUS} is damaged: its times are not possible")
    return status


def in_use(folder: pathlib.Path) -> bool:
    """Whether a sweep is running in a folder."""
    return is_locked(folder / LOCK)
