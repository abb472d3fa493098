"""Long labels in a document: a page has each of them once in full, in its config, and once more in its command."""

from collections.abc import Mapping, Sequence
from typing import Any

# Characters of a label. A page shows no more of one than that.
_LONGEST = 200
_WHOLE = ("config", "command")


def with_short_labels(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with long labels of `optimizers` shortened everywhere but in its config and command.

    They stay different from each other.
    """
    short = _shortened(document["optimizers"])
    if not short:
        return dict(document)
    shown = {key: value if key in _WHOLE else _replaced(value, short) for key, value in document.items()}
    config = document["config"]
    if document["kind"] == "tasks":
        return shown | {"config": {task: _with_short_plan(own, short) for task, own in config.items()}}
    return shown | {"config": _with_short_plan(config, short)}


def _with_short_plan(config: Mapping[str, Any], short: Mapping[str, str]) -> dict[str, Any]:
    """A config whose comparison's plan, which has the labels of each pair, has short ones."""
    return {key: _replaced(value, short) if key == "comparison" else value for key, value in config.items()}


def _shortened(labels: Sequence[str]) -> dict[str, str]:
    """By long label, its beginning, with a number where two begin alike."""
    short: dict[str, str] = {}
    taken = {label for label in labels if len(label) <= _LONGEST}
    # Labels of one length keep their order.
    for label in sorted((label for label in labels if label not in taken), key=len, reverse=True):
        number = 1
        while (text := f"{label[: _LONGEST - 10]}…{f' ({number})' if number > 1 else ''}") in taken:
            number += 1
        taken.add(text)
        short[label] = text
    return short


def _replaced(value: Any, short: Mapping[str, str]) -> Any:
    """A value of JSON types with the labels replaced, the longest first, since one may begin with another."""
    if isinstance(value, Mapping):
        return {_replaced(key, short): _replaced(entry, short) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(entry, short) for entry in value]
    if isinstance(value, str) and len(value) > _LONGEST:
        for label, text in short.items():
            value = value.replace(label, text)
    return value
