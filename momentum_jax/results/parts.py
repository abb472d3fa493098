"""The finished runs in a sweep's folder: Parquet files, each named by its digest."""

import hashlib
import pathlib
import warnings
from collections.abc import Iterator, Mapping

from momentum_jax._base.errors import InputError
from momentum_jax._base.reading import check_schema, read_bytes, reason
from momentum_jax.config import Config, count_evaluations, count_recorded
from momentum_jax.results.head import Trials, described_by, digests_of, read_head
from momentum_jax.results.parquet import read_parquet, records_from_parquet
from momentum_jax.results.record import Record, Run
from momentum_jax.results.stacked import Fields, StackedRecords
from momentum_jax.results.stored import check_forms

PARTS, DAMAGED = "parts", "damaged"
# Characters of its digest that name a part.
_NAME_LENGTH = 16


def read_records(
    folder: pathlib.Path,
    cfg: Config,
    trials: Trials,
    digests: Mapping[Run, str],
    *,
    set_aside: bool = False,
    histories: bool = True,
) -> StackedRecords:
    """Reads all runs of the intact parts of a folder, one part at a time.

    A part whose name is not the digest of its content is damaged. It is left out with a warning, and moved to another
    folder if it is to be set aside. Runs of other digests than these are left out: they are of trials or seeds that
    were asked for before.

    Args:
      folder: of the sweep.
      cfg: of the sweep.
      trials: by label.
      digests: of the runs that are wanted.
      set_aside: whether damaged parts are.
      histories: whether they are kept.

    Raises:
      InputError: a part cannot be read, or its runs are not of this config though their digests are.
      OSError: a damaged part cannot be set aside.
    """
    runs = {digest: run for run, digest in digests.items()}
    found = empty_records(cfg, trials, histories=histories)
    try:
        for part in _intact_parts(folder, set_aside):
            found.add({runs[key]: record for key, record in part if key in runs})
        check_forms(found.forms, count_recorded(cfg), count_evaluations(cfg))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"the runs in {str(folder / PARTS)!r} cannot be used: {error}") from error
    return found


class Reader:
    """Reads the records of the finished runs of a result from its folder, once.

    Args:
      folder: where.
      cfg: of the sweep.
      trials: by label.
      digests: of the runs.
    """

    def __init__(self, folder: pathlib.Path, cfg: Config, trials: Trials, digests: Mapping[Run, str]):
        self._given = folder, cfg, trials, digests
        self._fields: dict[str, Fields] | None = None

    def __call__(self) -> dict[str, Fields]:
        """By label, the fields of the records [trials, seeds, …].

        Raises:
          InputError: they are not in the folder any more, or cannot be read.
        """
        if self._fields is None:
            folder, cfg, trials, digests = self._given
            stacked = read_records(folder, cfg, trials, digests)
            if len(stacked) < len(digests):
                raise _gone(folder)
            self._fields = stacked.complete()
        return self._fields

    def each(self) -> Iterator[tuple[str, tuple[int, int], Record]]:
        """The label, the place (positions of trial and seed) and the record of each run, one part in memory at a time.

        Raises:
          InputError: the runs are not in the folder any more, or cannot be read.
        """
        folder, cfg, _, digests = self._given
        runs = {digest: run for run, digest in digests.items()}
        columns = {seed: column for column, seed in enumerate(cfg.seed_tuple)}
        for part in _intact_parts(folder, set_aside=False):
            for digest, record in part:
                # A run may be in two parts.
                if (run := runs.pop(digest, None)) is not None:
                    yield run.label, (run.position, columns[run.seed]), record
        if runs:
            raise _gone(folder)


def _gone(folder: pathlib.Path) -> InputError:
    return InputError(
        f"{str(folder)!r} no longer holds all runs of this result, whose histories are read there; keep the folder, or "
        "result.in_memory() before it goes"
    )


def empty_records(cfg: Config, trials: Trials, *, histories: bool) -> StackedRecords:
    return StackedRecords({label: len(own) for label, own in trials.items()}, cfg.seed_tuple, histories=histories)


def count_runs(folder: pathlib.Path) -> tuple[int, int]:
    """Counts the finished runs of the sweep in a folder, and those of them that failed."""
    head = read_head(folder)
    known = set(digests_of(head, *described_by(folder, head)).values())
    failed: dict[str, bool] = {}
    for path in (folder / PARTS).glob("*.parquet"):
        failed |= {digest: value for digest, value in _failed_in(path).items() if digest in known}
    return len(failed), sum(failed.values())


def _intact_parts(folder: pathlib.Path, set_aside: bool) -> Iterator[Iterator[tuple[str, Record]]]:
    """The digests and records of the runs of each part."""
    for path in sorted((folder / PARTS).glob("*.parquet")):
        try:
            digests, records = _read_part(path)
        except OSError as error:
            raise InputError(f"{str(path)!r} cannot be read: {reason(error)}") from error
        except ValueError:
            _leave_out_damaged(path, folder / DAMAGED if set_aside else None)
        else:
            yield zip(digests, records, strict=True)


def _read_part(path: pathlib.Path) -> tuple[list[str], list[Record]]:
    """The digests and the records of the runs in a part; `ValueError` if it is damaged."""
    content = _read_intact(path)
    table, records = records_from_parquet(content, _most_runs(content))
    if "digest" not in table.column_names:
        raise ValueError("it has no digests of runs")
    return table.column("digest").to_pylist(), records


def part_name(content: bytes) -> str:
    """The name of the part with this content."""
    return hashlib.sha256(content).hexdigest()[:_NAME_LENGTH]


def _read_intact(path: pathlib.Path) -> bytes:
    content = read_bytes(path)
    if part_name(content) != path.stem:
        raise ValueError("its name is not the digest of its content")
    return content


def _most_runs(content: bytes) -> int:
    """How many runs a part can hold: each has a digest of its own, which no compression makes shorter."""
    return len(content) // hashlib.sha256().digest_size


def _failed_in(path: pathlib.Path) -> dict[str, bool]:
    """By digest, whether each run of a part failed."""
    try:
        content = _read_intact(path)
        table = read_parquet(content, _most_runs(content), ["digest", "failed"])
        digests, failed = table.column("digest").to_pylist(), table.column("failed").to_pylist()
        check_schema([digests, failed], [([str], [bool])])
        return dict(zip(digests, failed, strict=True))
    except (OSError, ValueError, LookupError):
        # A damaged part; the sweep sets it aside when it is resumed.
        return {}


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
