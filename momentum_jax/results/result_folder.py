"""A training's folder: files that are written whole or not at all, and believed only if their digests agree."""

import hashlib
import json
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from momentum_jax._base.errors import InputError
from momentum_jax._base.files import write_atomically
from momentum_jax._base.trees import json_bytes
from momentum_jax.config import Config
from momentum_jax.results.fingerprint import first_difference

CONFIG, RUNS, SUMMARY = "config.json", "runs.parquet", "result.json"
_FORMAT = 2


def write_result_folder(folder: pathlib.Path, contents: Mapping[str, bytes], about: Mapping[str, Any]) -> None:
    """Writes files and, last, result.json, which holds what is said about them and the digests of all.

    Raises:
      InputError: the folder cannot be written.
    """
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    summary = {"format": _FORMAT, **about, "sha256": digests}
    digests[SUMMARY] = _digest_of_summary(summary)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in {**contents, SUMMARY: json_bytes(summary)}.items():
            write_atomically(folder / name, content)
    except OSError as error:
        raise InputError(f"cannot write the result to {str(folder)!r}: {error.strerror}") from error


def read_result_folder(folder: pathlib.Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Reads the summary in result.json, and the other files by name.

    Raises:
      InputError: no result there, one of another format, or one whose files are damaged, incomplete or not of one
        saving.
    """
    try:
        summary = json.loads((folder / SUMMARY).read_bytes())
        _check_format(folder, summary)
        contents = {name: (folder / name).read_bytes() for name in (CONFIG, RUNS)}
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{str(folder)!r} holds no complete result: {error}") from error
    if not isinstance(summary.get("sha256"), dict):
        raise InputError(f"{str(folder)!r}: {SUMMARY} is not of this program")
    if summary["sha256"].get(SUMMARY) != _digest_of_summary(summary):
        raise InputError(f"{str(folder)!r}: {SUMMARY} is damaged")
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != summary["sha256"].get(name):
            raise InputError(f"{str(folder)!r}: {name} is damaged, or of another saving than {SUMMARY}")
    return summary, contents


def check_output_folder(folder: pathlib.Path, config: Config, also: Sequence[str] = ()) -> None:
    """Raises `InputError` unless a result of `config`, and files named in `also`, may be written; leaves no trace."""
    existing = folder
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        # Permissions do not tell everything; to write does.
        with tempfile.TemporaryDirectory(dir=existing):
            pass
    except OSError as error:
        raise InputError(
            f"output folder {str(folder)!r} cannot be written: {str(existing)!r}: {error.strerror}"
        ) from None
    if not any((folder / name).exists() for name in (CONFIG, RUNS, SUMMARY, *also)):
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
        loaded = json.loads((folder / CONFIG).read_bytes())
        config = Config.from_json(loaded)
        if config.to_json() != loaded:
            raise ValueError("a config that this program did not write")
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(
            f"output folder {str(folder)!r} holds files that are not a result of this program; choose another"
        ) from None
    return config


def _refuse_other_format(folder: pathlib.Path) -> None:
    """Refuses to write beside the files of another format, which would stay; what is damaged may be replaced."""
    try:
        summary = json.loads((folder / SUMMARY).read_bytes())
    except (OSError, ValueError):
        return
    if isinstance(summary, dict) and "format" in summary:
        _check_format(folder, summary)


def _check_format(folder: pathlib.Path, summary: Any) -> None:
    if not isinstance(summary, dict):
        raise InputError(f"{str(folder)!r}: {SUMMARY} is not of this program")
    if summary.get("format") != _FORMAT:
        raise InputError(
            f"{str(folder)!r} holds a result of format {summary.get('format')!r}, and this version of the program "
            f"reads and writes format {_FORMAT}, whose runs are in {RUNS}; use the version that wrote it, or train "
            "again into another folder"
        )


def _digest_of_summary(summary: Mapping[str, Any]) -> str:
    others = {name: digest for name, digest in summary["sha256"].items() if name != SUMMARY}
    return hashlib.sha256(json.dumps({**summary, "sha256": others}, sort_keys=True).encode()).hexdigest()
