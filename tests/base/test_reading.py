"""What comes from a disk is read within limits, and refused in one line."""

import json
import os

import pytest

from momentum_jax._base import reading
from momentum_jax._base.errors import InputError
from momentum_jax._base.reading import check_schema, parse_json, read_bytes, read_sealed, seal

SCHEMA = {"name": str, "values": [float], "by_label": {str: {"at": int}}, "note?": (str, type(None))}
GOOD = {"format": 3, "name": "it", "values": [1, 2.5], "by_label": {"a": {"at": 1}}, "more": [[]]}


def write(path, value):
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 10_000 + b"]" * 10_000, "nested more than 200 deep"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "nested more than 200 deep"),
        (b"[NaN]", "NaN is no JSON"),
        (b'"\xff"', "can't decode"),
        (b"1" * 5000, "limit"),
        (b"", "Expecting value"),
    ],
    ids=["10,000 deep", "300 deep", "NaN", "no UTF-8", "a long number", "empty"],
)
def test_json_that_is_no_json_or_too_deep_is_a_value_error(content, words):
    with pytest.raises(ValueError, match=words):
        parse_json(content)


def test_json_is_read_up_to_the_depth_that_is_allowed():
    content = b"[" * 200 + b"]" * 200
    assert json.dumps(parse_json(content)).encode() == content
    with pytest.raises(ValueError, match="nested more than 200 deep"):
        parse_json(b"[" + content + b"]")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": 3}, r"^name must be text, not 3$"),
        ({"values": [1, True]}, r"^values\[1\] must be a finite number, not True$"),
        ({"values": {}}, r"^values must be a list, not \{\}$"),
        ({"values": [1e999]}, r"^values\[0\] must be a finite number, not inf$"),
        ({"by_label": {"a": {}}}, r"^by_label\.a\.at is missing$"),
        ({"by_label": {"a": {"at": 1.0}}}, r"^by_label\.a\.at must be an integer, not 1\.0$"),
        ({"by_label": None}, r"^by_label must be an object, not None$"),
        ({"note": 3}, r"^note must be text, not 3$"),
        ({"name": ["x" * 1000]}, r"^name must be text, not \['x{98}…$"),
    ],
)
def test_what_has_another_form_is_said_with_its_place(change, words):
    check_schema(GOOD, SCHEMA)
    check_schema(GOOD | {"note": None}, SCHEMA)
    with pytest.raises(ValueError, match=words):
        check_schema(GOOD | change, SCHEMA)
    for name in ("name", "values", "by_label"):
        with pytest.raises(ValueError, match=f"^{name} is missing$"):
            check_schema({key: value for key, value in GOOD.items() if key != name}, SCHEMA)


def test_what_was_sealed_comes_back_and_a_changed_digit_does_not(tmp_path):
    path = write(tmp_path / "it.json", seal(GOOD))
    assert read_sealed(path, "thing", 3, SCHEMA) == GOOD
    for change in ({"values": [1, 2.6]}, {"sha256": "0"}, {"sha256": None}, {"extra": 1}):
        write(path, seal(GOOD) | change)
        with pytest.raises(InputError, match=r"it\.json is damaged: its digest is of another content"):
            read_sealed(path, "thing", 3, SCHEMA)


def test_the_order_of_names_is_part_of_what_is_sealed(tmp_path):
    changed = seal(GOOD)
    changed["more"] = changed.pop("more")
    with pytest.raises(InputError, match="its digest is of another content"):
        read_sealed(write(tmp_path / "it.json", dict(reversed(seal(GOOD).items()))), "thing", 3, SCHEMA)


@pytest.mark.parametrize("form", [2, None, "3", [3] * 1000, True])
def test_another_format_is_said_before_the_digest_is_looked_at(tmp_path, form):
    path = write(tmp_path / "it.json", GOOD | {"format": form})
    with pytest.raises(InputError, match=r"it has format .*, and this version reads and writes format 3") as error:
        read_sealed(path, "thing", 3, SCHEMA)
    assert len(str(error.value)) < 500


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    for name, words in (("pipe", "not a regular file"), ("device", "not a regular file"), ("folder", "directory")):
        with pytest.raises(InputError, match=f"holds no thing that can be read: {name}: .*{words}"):
            read_sealed(tmp_path / name, "thing", 3, SCHEMA)


def test_a_file_larger_than_the_memory_is_refused_unread(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**43)
    with pytest.raises(ValueError, match=r"large has 8796093022208 bytes, and at most \d+ can be read"):
        read_bytes(tmp_path / "large")
    with pytest.raises(ValueError, match="at most 10 can be read"):
        read_bytes(tmp_path / "large", 10)


def test_what_is_nested_too_deep_to_be_read_is_not_written():
    deep = []
    for _ in range(reading.DEPTH):
        deep = [deep]
    from momentum_jax._base.trees import json_bytes

    with pytest.raises(InputError, match="cannot be read again: it is nested more than 200 deep"):
        json_bytes(deep)
