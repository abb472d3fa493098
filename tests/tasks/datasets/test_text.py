"""The embedded text: its plays, its split and its windows."""

import hashlib
import lzma

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_jax._base.errors import InputError
from momentum_jax.tasks.datasets import Text, _text, load_text

TITLES = [
    "THE TRAGEDY OF CORIOLANUS",
    "HAMLET, PRINCE OF DENMARK",
    "JULIUS CAESAR",
    "THE TRAGEDY OF KING LEAR",
    "MACBETH",
    "A MIDSUMMER NIGHT'S DREAM",
    "OTHELLO, THE MOOR OF VENICE",
    "THE LIFE AND DEATH OF KING RICHARD III",
    "ROMEO AND JULIET",
    "THE TEMPEST",
]
TWO = Text(("abcdefghij" * 3, "zyxwvutsrqponmlkjihgfedcba" * 2), source="the test")


@pytest.fixture(scope="module")
def shakespeare():
    return load_text("shakespeare")


def test_the_text_is_ten_plays_that_begin_with_their_titles(shakespeare):
    assert [play.splitlines()[0] for play in shakespeare.documents] == TITLES
    whole = "".join(shakespeare.documents)
    assert len(whole) == 1_377_114
    assert shakespeare.vocabulary == "".join(sorted(set(whole)))
    assert len(shakespeare.vocabulary) == 76
    assert hashlib.sha256(whole.encode()).hexdigest() == _text.DIGEST


def test_the_last_tenth_of_each_play_is_held_out(shakespeare):
    train, test = shakespeare.split()
    assert tuple(first + last for first, last in zip(train, test, strict=True)) == shakespeare.documents
    assert [len(last) for last in test] == [len(play) // 10 for play in shakespeare.documents]
    assert [first.splitlines()[0] for first in train] == TITLES
    assert "by William Shakespeare" not in "".join(test)
    assert test[-1].endswith("Let your indulgence set me free.\n")


def test_windows_begin_at_every_multiple_of_the_context_in_each_part():
    # By hand: the last 3 of 30 characters and the last 5 of 52 are held out.
    train, test = TWO.windows(context=2)
    assert [TWO.decode(window) for window in test] == ["hij", "edc", "cba"]
    # 27 characters make 13 windows of 3, and 47 make 23.
    assert len(train) == 13 + 23
    assert [TWO.decode(window) for window in train[[0, 1, 12, 13]]] == ["abc", "cde", "efg", "zyx"]


@pytest.mark.parametrize("context", [3, 0, -1, True, 2.0])
def test_a_context_without_a_window_in_every_part_is_refused(context):
    with pytest.raises(InputError, match=f"context must be an integer of at least 1 and at most 2, not {context}"):
        TWO.windows(context)


@pytest.mark.parametrize("context", [32, 100])
def test_no_window_crosses_from_one_play_to_another_or_from_training_into_test(context, shakespeare):
    for part, windows in zip(shakespeare.split(), shakespeare.windows(context), strict=True):
        assert windows.dtype == np.uint8
        cut = [play[i : i + context + 1] for play in part for i in range(0, len(play) - context, context)]
        assert [shakespeare.decode(window) for window in windows] == cut


@given(st.lists(st.integers(0, 75), max_size=30))
def test_decoding_is_the_inverse_of_encoding(shakespeare, places):
    text = shakespeare.decode(np.asarray(places, np.int32))
    assert shakespeare.encode(text).tolist() == places


def test_symbols_outside_the_vocabulary_are_refused_by_name(shakespeare):
    with pytest.raises(InputError, match="symbol 'é' at character 3 is none of the 76 of the text: "):
        shakespeare.encode("café")
    with pytest.raises(InputError, match=r"must be a string, not \['a'\]"):
        shakespeare.encode(["a"])


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([0, 76], "character 76 is outside the vocabulary, 0 to 75"),
        ([-1], "character -1 is outside the vocabulary"),
        ([0.5], r"must be integers \[characters\], not float64 \[1\]"),
        ([[0]], r"must be integers \[characters\], not int64 \[1, 1\]"),
    ],
)
def test_what_is_no_place_in_the_vocabulary_is_refused(places, message, shakespeare):
    with pytest.raises(InputError, match=message):
        shakespeare.decode(np.asarray(places))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:1000] + bytes([content[1000] ^ 1]) + content[1001:],
        lambda content: b"no archive",
        lambda content: b"",
        lambda content: lzma.compress(lzma.decompress(content).replace(b"Denmark", b"denmark", 1)),
        None,
    ],
    ids=["truncated", "one bit", "no archive", "empty", "another text", "missing"],
)
def test_a_damaged_embedded_text_is_refused_with_what_to_do(monkeypatch, tmp_path, damage):
    copy = tmp_path / "shakespeare.txt.xz"
    if damage:
        copy.write_bytes(damage(_text.PATH.read_bytes()))
    monkeypatch.setattr(_text, "PATH", copy)
    with pytest.raises(InputError, match=r"embedded shakespeare\.txt\.xz is .*damaged .*install momentum-jax again"):
        load_text("shakespeare")


def test_an_unknown_text_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="text: unknown 'shakespear'; did you mean 'shakespeare'"):
        load_text("shakespear")
