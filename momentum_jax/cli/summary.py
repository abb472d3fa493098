"""What the commands print at their end below their tables: the answer, where everything is, and what to type next."""

import os
import pathlib

from rich.console import Console

from momentum_jax._base.display import counted
from momentum_jax.comparison.answer import Answer
from momentum_jax.comparison.answer_sentences import shortened

MOST_ROWS = 8
"""Optimizers in a table."""

_LONGEST_LABEL, _LONGEST_WARNING, _WIDEST_COMMAND = 24, 125, 60


def print_answer(out: Console, answer: Answer, *, brief: bool = False) -> None:
    """Prints the sentences of an answer and the first of its warnings, or what of it fits in a line."""
    for text in answer.sentences:
        out.print(text, style="bold", soft_wrap=False)
    if answer.warnings:
        first, *others = answer.warnings
        more = f" (and {counted(len(others), 'more warning')})" if others else ""
        longest = out.width - len(f"warning: {more}") if brief else _LONGEST_WARNING
        out.print(f"warning: {shortened(first, longest)}{more}", soft_wrap=False)


def print_next(out: Console, *commands: tuple[str, str]) -> None:
    """Prints what to type next: commands, and what each is for."""
    widest = min(max(len(command) for command, _ in commands), _WIDEST_COMMAND)
    for i, (command, purpose) in enumerate(commands):
        out.print(f"{'     ' if i else 'next:'} {command:<{widest}}  # {purpose}")


def table_label(label: str) -> str:
    """A label as tables show it: no more than the beginning of a long one."""
    return shortened(label, _LONGEST_LABEL)


def written(folder: pathlib.Path, what: str) -> str:
    """The line that says where everything is."""
    return f"written: {folder}{os.sep} with {what}"
