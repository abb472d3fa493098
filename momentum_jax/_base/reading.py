"""Reading what comes from a disk: only regular files, within limits of size and depth, of the form that is expected.

Functions raise `OSError` for a file that cannot be read and `ValueError` for one that is not what it should be;
`reason` says either in one line.
"""

import hashlib
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from momentum_jax._base.errors import InputError, shown
from momentum_jax._base.files import open_regular
from momentum_jax._base.machine import memory_of_machine

DEPTH = 200
MOST_JSON_BYTES = 2**26
DIGEST = "sha256"
_NAMES = {str: "text", int: "an integer", float: "a finite number", bool: "true or false", type(None): "null"}
# Characters of a reason in a message.
_LONG = 300


def read_bytes(path: pathlib.Path, most: int | None = None) -> bytes:
    """Reads a regular file of at most so many bytes, by default those of the memory."""
    most = memory_of_machine() if most is None else most
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"{path.name} has {size} bytes, and at most {most} can be read")
        return file.read(size)


def parse_json(content: bytes) -> Any:
    """Reads JSON text in UTF-8, without NaN and infinities and at most `DEPTH` deep."""
    try:
        value = json.loads(content.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEPTH} deep") from None
    check_depth(value)
    return value


def check_depth(value: Any, left: int = DEPTH) -> None:
    """Raises `ValueError` if a JSON value is nested more than `DEPTH` deep."""
    if isinstance(value, dict | list | tuple):
        if not left:
            raise ValueError(f"it is nested more than {DEPTH} deep")
        for entry in value.values() if isinstance(value, dict) else value:
            check_depth(entry, left - 1)


def check_schema(value: Any, schema: Any, where: str = "") -> None:
    """Raises `ValueError` unless a JSON value has the form of a schema.

    A schema is a type; a tuple of alternatives; a list of one schema, that of all entries; a dict of one entry
    `{str: schema}`, for any names; or a dict of the names that must be there. A name that ends with "?" may be missing.
    Names beyond these are allowed.

    >>> check_schema({"trials": {"a": [1, "x"]}}, {"trials": {str: [int]}, "title?": str})
    Traceback (most recent call last):
    ...
    ValueError: trials.a[1] must be an integer, not 'x'
    """
    if isinstance(schema, tuple):
        if not any(_has_form(value, alternative, where) for alternative in schema):
            check_schema(value, schema[0], where)
    elif isinstance(schema, list):
        _check_type(value, list, "a list", where)
        for i, entry in enumerate(value):
            check_schema(entry, schema[0], f"{where}[{i}]")
    elif isinstance(schema, dict):
        _check_type(value, dict, "an object", where)
        names = dict.fromkeys(value, schema[str]) if str in schema else schema
        for name, of_name in names.items():
            key = name.removesuffix("?") if str not in schema else name
            at = f"{where}.{key}" if where else key
            if key in value:
                check_schema(value[key], of_name, at)
            elif key == name:
                raise ValueError(f"{at} is missing")
    else:
        is_whole_float = schema is float and type(value) is int
        _check_type(value, int if is_whole_float else schema, _NAMES.get(schema, schema.__name__), where)
        if schema is float and not math.isfinite(value):
            raise ValueError(f"{where} must be a finite number, not {value}")


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object together with its digest, which `read_sealed` checks."""
    return {**value, DIGEST: digest_of(value)}


def digest_of(value: Any) -> str:
    """The SHA-256 of a JSON value in hexadecimal. Objects with their names in another order have another one."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, allow_nan=False).encode()).hexdigest()


def read_sealed(path: pathlib.Path, what: str, form: int, schema: Any) -> dict[str, Any]:
    """Reads a JSON object that `seal` made, without the digest.

    Args:
      path: of the file.
      what: it holds, for messages.
      form: its entry "format".
      schema: what it must have.

    Raises:
      InputError: there is no such file, or it is of another format or damaged.
    """
    folder = repr(str(path.parent))
    try:
        value = parse_json(read_bytes(path, MOST_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no {what} that can be read: {path.name}: {reason(error)}") from error
    there = value.get("format") if isinstance(value, dict) else None
    if type(there) is not int or there != form:
        raise InputError(
            f"{folder}: {path.name} is not of this version of the program: it has format {shown(there)}, and this "
            f"version reads and writes format {form}; use the version that wrote it, or choose another folder"
        )
    try:
        digest = value.pop(DIGEST, None)
        if digest != digest_of(value):
            raise ValueError("its digest is of another content")
        check_schema(value, schema)
    except ValueError as error:
        raise InputError(f"{folder}: {path.name} is damaged: {reason(error)}") from error
    assert isinstance(value, dict)
    return value


def reason(error: Exception) -> str:
    """What went wrong, in one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    line = "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))
    return line if len(line) <= _LONG else f"{line[:_LONG]}…"


def _has_form(value: Any, schema: Any, where: str) -> bool:
    try:
        check_schema(value, schema, where)
    except ValueError:
        return False
    return True


def _check_type(value: Any, kind: type, name: str, where: str) -> None:
    if type(value) is not kind:
        raise ValueError(f"{where or 'it'} must be {name}, not {shown(value)}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
