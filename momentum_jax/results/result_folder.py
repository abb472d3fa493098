"""A training's folder: files that are written whole or not at all, and believed only if their digests agree."""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from momentum_jax._base.errors import InputError, shown
from momentum_jax._base.files import lock, remove_left_behind, write_atomically
from momentum_jax._base.reading import MOST_JSON_BYTES, check_schema, parse_json, read_bytes, reason
from momentum_jax._base.trees import json_bytes
from momentum_jax.config import Config
from momentum_jax.results.fingerprint import first_difference
from momentum_jax.results.stored import config_of

CONFIG, RUNS, SUMMARY = "config.json", "runs.parquet", "result.json"
_FORMAT = 3
_SCHEMA = {"provenance": dict, "evaluation_iterations": [int], "sha256": {str: str}}


def write_result_folder(
    folder: pathlib.Path, config: Config, contents: Mapping[str, bytes], about: Mapping[str, Any]
) -> None:
    """Writes files and, last, result.json, which holds what is said about them and the digests of all.

    Raises:
      InputError: the folder cannot be written, is in use, or holds something else than a result of the config.
    """
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    summary = {"format": _FORMAT, **about, "sha256": digests}
    digests[SUMMARY] = _digest_of_summary(summary)
    try:
        with _lock(folder):
            _refuse_other(folder, config, ())
            for name, content in {**contents, SUMMARY: json_bytes(summary)}.items():
                remove_left_behind(folder, name)
                write_atomically(folder / name, content)
    except OSError as error:
        raise InputError(f"cannot write the result to {str(folder)!r}: {reason(error)}") from error


def read_result_folder(folder: pathlib.Path) -> tuple[dict[str, Any], Config, bytes]:
    """Reads the summary in result.json, the config, and the content of the file of the runs.

    Raises:
      InputError: no result there, one of another format, or one whose files are damaged, incomplete or not of one
        saving.
    """
    try:
        summary = parse_json(read_bytes(folder / SUMMARY, MOST_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise InputError(f"{str(folder)!r} holds no complete result: {_named(error)}") from error
    _check_format(folder, summary)
    try:
        contents = {CONFIG: read_bytes(folder / CONFIG, MOST_JSON_BYTES), RUNS: read_bytes(folder / RUNS)}
    except (OSError, ValueError) as error:
        raise InputError(f"{str(folder)!r} holds no complete result: {_named(error)}") from error
    try:
        check_schema(summary, _SCHEMA)
    except ValueError as error:
        raise InputError(f"{str(folder)!r}: {SUMMARY} is not of this program: {error}") from error
    if summary["sha256"].get(SUMMARY) != _digest_of_summary(summary):
        raise InputError(f"{str(folder)!r}: {SUMMARY} is damaged")
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != summary["sha256"].get(name):
            raise InputError(f"{str(folder)!r}: {name} is damaged, or of another saving than {SUMMARY}")
    try:
        config = config_of(parse_json(contents[CONFIG]))
    except ValueError as error:
        raise InputError(f"{str(folder)!r}: {CONFIG} is not of this program: {reason(error)}") from error
    return summary, config, contents[RUNS]


def check_output_folder(folder: pathlib.Path, config: Config, also: Sequence[str] = ()) -> None:
    """Raises `InputError` unless a result of `config`, and files named in `also`, may be written; leaves no trace."""
    try:
        # Permissions do not tell everything; to write does, and taking the lock writes.
        with _lock(folder):
            _refuse_other(folder, config, also)
    except OSError as error:
        raise InputError(f"output folder {str(folder)!r} cannot be written: {_named(error)}") from error


def _lock(folder: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    return lock(folder / f".{SUMMARY}.lock", f"output folder {str(folder)!r}", "training")


def _refuse_other(folder: pathlib.Path, config: Config, also: Sequence[str]) -> None:
    """Refuses a folder in which there are such files, unless they are the result of this config in this format."""
    for name, what in {"sweep.json": "a sweep", "comparison.json": "a comparison"}.items():
        if os.path.lexists(folder / name):
            raise InputError(f"output folder {str(folder)!r} holds {what}; choose another")
    if not any(os.path.lexists(folder / name) for name in (CONFIG, RUNS, SUMMARY, *also)):
        return
    there = _read_config(folder)
    if there.digest != config.digest:
        raise InputError(
            f"output folder {str(folder)!r} holds the result of another config: its "
            f"{first_difference(there.to_json(), config.to_json())}; choose another folder"
        )
    _refuse_other_format(folder)


def _read_config(folder: pathlib.Path) -> Config:
    """Reads the config of the result in a folder, if this program wrote it."""
    try:
        return config_of(parse_json(read_bytes(folder / CONFIG, MOST_JSON_BYTES)))
    except (OSError, ValueError):
        raise InputError(
            f"output folder {str(folder)!r} holds files that are not a result of this program; choose another"
        ) from None


def _refuse_other_format(folder: pathlib.Path) -> None:
    """Refuses to write beside the files of another format, which would stay; what is damaged may be replaced."""
    try:
        summary = parse_json(read_bytes(folder / SUMMARY, MOST_JSON_BYTES))
    except (OSError, ValueError):
        return
    if isinstance(summary, dict) and "format" in summary:
        _check_format(folder, summary)


def _named(error: Exception) -> str:
    """What went wrong, with the name of the file."""
    name = getattr(error, "filename", None)
    return reason(error) if name is None else f"{str(name)!r}: {reason(error)}"


def _check_format(folder: pathlib.Path, summary: Any) -> None:
    if not isinstance(summary, dict):
        raise InputError(f"{str(folder)!r}: {SUMMARY} is not of this program")
    if summary.get("format") != _FORMAT:
        raise InputError(
            f"{str(folder)!r} holds a result of format {shown(summary.get('format'))}, and this version of the program "
            f"reads and writes format {_FORMAT}, whose runs are in {RUNS}; use the version that wrote it, or train "
            "again into another folder"
        )


def _digest_of_summary(summary: Mapping[str, Any]) -> str:
    others = {name: digest for name, digest in summary["sha256"].items() if name != SUMMARY}
    return hashlib.sha256(json.dumps({**summary, "sha256": others}, sort_keys=True).encode()).hexdigest()
