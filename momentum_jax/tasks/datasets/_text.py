"""Texts by name, as windows of characters: the embedded ten plays by Shakespeare."""

import dataclasses
import functools
import hashlib
import lzma
import pathlib
import re

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import UInt8

from momentum_jax._base.errors import InputError, check_choice, check_integer, shown

PATH = pathlib.Path(__file__).with_name("shakespeare.txt.xz")
# The SHA-256 of the uncompressed text.
DIGEST = "8a3f9dc02d2eb4289f3a64125a2fd0856f015b2753b3baf03e6bf813f818ba8f"
TEXTS = ("shakespeare",)
# A play begins with its title, and the author's name follows it.
_TITLE = re.compile(r"^.+\n\nby William Shakespeare$", re.MULTILINE)
_HELD_OUT = 10

Characters = UInt8[np.ndarray, " characters"]
Windows = UInt8[np.ndarray, "windows window"]


@dataclasses.dataclass(frozen=True, eq=False)
class Text:
    """A text of several documents, and its characters as numbers.

    Attributes:
      documents: the documents in order, such as plays, with at most 256 different symbols. Joined they are the whole
        text.
      source: where the text came from, for the provenance of a result.
    """

    documents: tuple[str, ...]
    source: str

    @functools.cached_property
    def vocabulary(self) -> str:
        """The symbols of the text, sorted by code point. A character is encoded as its place among them."""
        return "".join(sorted(set().union(*self.documents)))

    def encode(self, text: str) -> Characters:
        """The places in the vocabulary of a string's characters.

        Raises:
          InputError: a character is not in the vocabulary.
        """
        if not isinstance(text, str):
            raise InputError(f"what is encoded must be a string, not {shown(text)}")
        places = {symbol: place for place, symbol in enumerate(self.vocabulary)}
        try:
            return np.asarray([places[character] for character in text], np.uint8)
        except KeyError as error:
            (symbol,) = error.args
            raise InputError(
                f"symbol {symbol!r} at character {text.index(symbol)} is none of the {len(places)} of the text: "
                f"{self.vocabulary!r}"
            ) from None

    def decode(self, characters: ArrayLike) -> str:
        """The string whose characters have these places in the vocabulary, the inverse of `encode`.

        Args:
          characters: integers [characters].

        Raises:
          InputError: they are no integers [characters], or one is outside the vocabulary.
        """
        array = np.asarray(characters)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise InputError(f"what is decoded must be integers [characters], not {array.dtype} {list(array.shape)}")
        outside = array[(array < 0) | (array >= len(self.vocabulary))]
        if outside.size:
            raise InputError(f"character {outside[0]} is outside the vocabulary, 0 to {len(self.vocabulary) - 1}")
        return "".join(self.vocabulary[place] for place in array)

    def split(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The training and the test part of each document: the last tenth of its characters is the test part."""
        cuts = [len(document) - len(document) // _HELD_OUT for document in self.documents]
        pairs = list(zip(self.documents, cuts, strict=True))
        return tuple(document[:cut] for document, cut in pairs), tuple(document[cut:] for document, cut in pairs)

    def windows(self, context: int) -> tuple[Windows, Windows]:
        """The training and the test windows of context + 1 characters, encoded.

        A window begins at every multiple of `context` in each part of `split`, so that the last character of one is the
        first of the next. Each character but the first of a part is predicted once. What is left at the end of a part,
        fewer than `context` characters, is left out. No window holds characters of two parts.

        Args:
          context: the number of characters that are predicted in a window.

        Raises:
          InputError: the context is less than 1, or a part has no window that long.
        """
        train, test = self.split()
        check_integer("context", context, 1, min(map(len, train + test)) - 1)
        return self._cut(train, context), self._cut(test, context)

    def _cut(self, parts: tuple[str, ...], context: int) -> Windows:
        encoded = map(self.encode, parts)
        views = [np.lib.stride_tricks.sliding_window_view(part, context + 1)[::context] for part in encoded]
        return np.concatenate(views)


def load_text(name: str) -> Text:
    r"""Loads a text by name. "shakespeare", ten plays of 1,377,114 characters and 76 symbols, is embedded.

    Raises:
      InputError: the name is unknown, or the embedded file is missing, damaged or changed.

    >>> text = load_text("shakespeare")
    >>> len(text.documents), len(text.vocabulary)
    (10, 76)
    >>> text.encode("Hamlet")
    array([27, 48, 60, 59, 52, 67], dtype=uint8)
    >>> train, test = text.windows(context=32)
    >>> text.decode(train[0])
    'THE TRAGEDY OF CORIOLANUS\n\nby Wil'
    """
    check_choice("text", name, TEXTS)
    reinstall = "install momentum-jax again"
    try:
        content = lzma.decompress(PATH.read_bytes())
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise InputError(f"the embedded {PATH.name} is missing or damaged ({error}): {reinstall}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != DIGEST:
        raise InputError(f"the embedded {PATH.name} is damaged (its digest is {digest}): {reinstall}")
    text = content.decode("ascii")
    starts = [match.start() for match in _TITLE.finditer(text)]
    documents = tuple(text[start:stop] for start, stop in zip(starts, [*starts[1:], len(text)], strict=True))
    return Text(documents, source="embedded ten plays by Shakespeare")
