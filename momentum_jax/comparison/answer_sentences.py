"""The sentences of an answer: what several protocols or optimizers have in common is said once."""

import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

Kind = Literal["helps", "does not help", "no difference found", "cannot be told"]

LONGEST, MOST_WORDS = 300, 60
"""Characters and words of a sentence."""
LONGEST_TITLE = 50
"""Characters of the title of a metric or a protocol."""

_KINDS: tuple[Kind, ...] = ("helps", "does not help", "no difference found", "cannot be told")
_NUMBERS = ("three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_MOST_NAMED, _MOST_AFTER, _MOST_INTERVALS = 3, 2, 2
_LONGEST_NAME, _LONGEST_REASON = 30, 125
# What is left out of sentences that are too long: first intervals, then numbers in titles and effective learning rates,
# then reasons.
_WITH_INTERVALS, _WITH_NUMBERS, _WITH_REASONS, _BRIEF = _DETAILS = (3, 2, 1, 0)

_T = TypeVar("_T")


class Size(NamedTuple):
    """How large a difference is.

    Attributes:
      number: in the unit.
      unit: such as "percentage points"; "" for that of the metric.
      way: such as "lower".
      low: the lower end of the interval of the number; NaN if no interval is told.
      high: the upper end; infinite if it is open.
      relative: the same relative to b, in "%" or "times"; None if it is not told so.
    """

    number: float
    unit: str
    way: str
    low: float = math.nan
    high: float = math.nan
    relative: "Size | None" = None

    @property
    def amount(self) -> str:
        """The number with its unit."""
        return f"{_number(self.number)} {self.unit}".rstrip()

    @property
    def amount_with_interval(self) -> str:
        """The same with the interval, if there is one."""
        if math.isnan(self.low):
            return self.amount
        high = f"to {_number(self.high)}" if math.isfinite(self.high) else "or more"
        return f"{self.amount} ({_number(self.low)} {high})"


class Clause(NamedTuple):
    """What one protocol says of optimizer a, held against b.

    Attributes:
      protocol: its name.
      title: its title.
      a: the label of the optimizer that is judged.
      b: the label of the one that it is held against.
      kind: whether a helps.
      reason: why that cannot be told, why there is no size, or how close equivalent optimizers are; "" for none.
      ratio: how much larger the effective learning rate of a is, such as "ten times larger"; "" if it is not.
      size: of the difference; None if there is none.
      interval: where no difference was found, that of the difference, such as "−1.6 % to +7.1 %"; "" if it is not told.
    """

    protocol: str
    title: str
    a: str
    b: str
    kind: Kind
    reason: str
    ratio: str
    size: Size | None
    interval: str = ""


def of_two(clauses: Sequence[Clause], title: str) -> tuple[str, ...]:
    """The sentences on two optimizers, from one clause for each protocol and the title of the metric that decides."""
    groups = sorted(_grouped(clauses, lambda c: (c.kind, c.reason)), key=lambda group: _KINDS.index(group[0].kind))

    def at(detail: int) -> list[str]:
        return [_on_pair(group, clauses, title, detail, named=i > 0) for i, group in enumerate(groups)]

    return _fitting(at)


def _on_pair(group: Sequence[Clause], clauses: Sequence[Clause], title: str, detail: int, *, named: bool) -> str:
    """What is alike in a group of protocols; `named` if a sentence before it has named the optimizers."""
    first, where = group[0], _where(group, detail)
    a, b, reason = name_of(first.a), name_of(first.b), first.reason if detail else ""
    if first.kind == "no difference found":
        between, remarks = "" if named else f" between {a} and {b}", _remarks_on_none(group, detail)
        return f"{where}, no difference was found in the {title}{between}{f' ({remarks})' if remarks else ''}"
    because = f": {reason}" if reason else ""
    if first.kind == "cannot be told":
        if named:
            return f"{where}, it cannot be told{because}"
        return f"whether {a} helps {where}{',' if len(group) == 1 and ',' in where else ''} cannot be told{because}"
    sizes = [c.size for c in group if c.size]
    measured = f": {_measured(sizes, title, b, detail)}" if sizes else ""
    rates = _on_rates(group, clauses) if sizes and detail >= _WITH_NUMBERS else ""
    return f"{'it' if named else a} {first.kind} {where}{measured or because}{rates}"


def _remarks_on_none(group: Sequence[Clause], detail: int) -> str:
    """How close optimizers are of which no difference was found, in each protocol; "" for nothing to say."""
    intervals = [clause.interval for clause in group if clause.interval]
    reasons = [group[0].reason] if group[0].reason and detail >= _WITH_REASONS else []
    if intervals and detail >= _WITH_INTERVALS:
        reasons.append(f"{'interval' if len(intervals) == 1 else 'intervals'} {joined(intervals)}")
    return ", ".join(reasons)


def _measured(sizes: Sequence[Size], title: str, b: str, detail: int) -> str:
    amounts, way = _amounts(_in_one_unit(sizes), detail), sizes[0].way
    alike = len(set(amounts)) == 1
    text, respectively = (amounts[0], "") if alike else (joined(amounts), ", respectively")
    if way in ("fewer", "more"):
        return f"it needs {text} {way} {title} than {b}{respectively}"
    return f"its {title} is {text} {way} than with {b}{respectively}"


def _amounts(sizes: Sequence[Size], detail: int) -> list[str]:
    return [size.amount_with_interval if detail >= _WITH_INTERVALS else size.amount for size in sizes]


def _number(number: float) -> str:
    digits = ".1e" if number >= 1e6 else ",.0f" if number >= 100 else ".1f" if number >= 0.1 else ".2g"
    return f"{number:{digits}}"


def _in_one_unit(sizes: Sequence[Size]) -> Sequence[Size]:
    """The sizes relative to b if each of them is told so."""
    relative = [size.relative for size in sizes if size.relative is not None]
    return relative if len(relative) == len(sizes) else sizes


def _on_rates(group: Sequence[Clause], clauses: Sequence[Clause]) -> str:
    """The effective learning rate, as the cause if a difference is not there once the rates are equal."""
    ratio = group[0].ratio
    if not ratio:
        return ""
    if len(group) > 1:
        return f", the first at an effective learning rate {ratio}"
    at_equal_rates = [c.kind for c in clauses if c.protocol == "matched"]
    if at_equal_rates and at_equal_rates[0] not in (group[0].kind, "cannot be told"):
        return f", since its effective learning rate is {ratio}"
    return f", at an effective learning rate {ratio}"


def of_several(clauses: Sequence[Clause], title: str) -> tuple[str, ...]:
    """The sentences on optimizers that are each held against the first, from a clause for each protocol and optimizer.

    Protocols that say the same of each optimizer are joined, and more than three optimizers are counted.
    """
    protocols = _grouped(clauses, lambda c: c.protocol)
    alike = _grouped(protocols, lambda own: tuple((c.a, c.kind, c.reason) for c in own))

    def at(detail: int) -> list[str]:
        return [
            f"{'' if i else f'against {name_of(clauses[0].b)} '}{_where([own[0] for own in group], detail)}: "
            + joined(_on_several([c for own in group for c in own], len(group), title, detail))
            for i, group in enumerate(alike)
        ]

    return _fitting(at)


def _on_several(clauses: Sequence[Clause], protocols: int, title: str, detail: int) -> list[str]:
    """What is alike in a group of protocols, an entry for each kind and reason."""
    total = len({c.a for c in clauses})
    if total > _MOST_INTERVALS:
        clauses = [clause._replace(interval="") for clause in clauses]
    groups = _grouped(clauses, lambda c: (c.kind, c.reason if detail else ""))
    texts: list[str] = []
    for group in sorted(groups, key=lambda group: _KINDS.index(group[0].kind)):
        labels = list(dict.fromkeys(c.a for c in group))
        one, kind = len(labels) == 1, group[0].kind
        who = (
            joined([name_of(label) for label in labels])
            if len(labels) <= _MOST_NAMED and detail
            else (f"{len(labels)} of {total}" if len(labels) < total else f"all {total}")
        )
        # In several protocols the title would not fit, and once is enough.
        which = f" in the {title}" if detail and not any(title in text for text in texts) else ""
        told = {
            "helps": f"{who} {'helps' if one else 'help'}",
            "does not help": f"{who} {'does' if one else 'do'} not help",
            "no difference found": f"no difference{which} was found for {who}",
            "cannot be told": f"it cannot be told for {who}",
        }[kind]
        remarks = _remarks(group, protocols, title, detail)
        texts.append(told + (f" ({', '.join(remarks)})" if remarks else ""))
    return texts


def _remarks(group: Sequence[Clause], protocols: int, title: str, detail: int) -> list[str]:
    """In brackets: the sizes or the reason, and the ratio of effective learning rates if all have the same one."""
    if detail < _WITH_REASONS:
        return []
    if group[0].kind == "no difference found":
        # Two intervals can be told apart by the order of the optimizers or protocols, more cannot.
        of_few = group if len(group) <= _MOST_INTERVALS else [clause._replace(interval="") for clause in group]
        return [remark for remark in [_remarks_on_none(of_few, detail)] if remark]
    if group[0].reason:
        return [group[0].reason]
    sizes = [c.size for c in group if c.size]
    if not sizes:
        return []
    # A factor is larger than any percentage.
    ordered = sorted(_in_one_unit(sizes), key=lambda size: (size.unit == "times", size.number))
    amounts = _amounts(ordered, detail if len(ordered) == 1 else _WITH_NUMBERS)
    between = amounts[0] if amounts[0] == amounts[-1] else f"{amounts[0]} to {amounts[-1]}"
    way, ratios = sizes[0].way, {c.ratio for c in group}
    remark = f"{between} {way} {title}" if way in ("fewer", "more") else f"{title} {between} {way}"
    same = len(ratios) == 1 and protocols == 1 and detail >= _WITH_NUMBERS
    return [remark, *(f"effective learning rate {ratio}" for ratio in ratios if ratio and same)]


def _where(group: Sequence[Clause], detail: int) -> str:
    """The protocols as a phrase; only one alone has its number."""
    numbered = len(group) == 1 and len(group[0].title) <= LONGEST_TITLE and detail >= _WITH_NUMBERS
    return joined([phrase_of(c.protocol, c.title, numbered=numbered) for c in group])


def phrase_of(protocol: str, title: str, *, numbered: bool) -> str:
    """A protocol as a sentence has it, such as "at the same learning rate, 0.01", with the number if asked for."""
    if protocol in ("same", "matched"):
        return f"at the {title if numbered else title.partition(', ')[0]}"
    return f"with {title}" if protocol in ("tuned", "tuned_alone") else title


def _fitting(at: Callable[[int], list[str]]) -> tuple[str, ...]:
    """At most two sentences, the first clause and the others, each in as much detail as fits."""

    def in_detail(part: slice) -> str:
        for detail in _DETAILS:
            text = sentence("; ".join(at(detail)[part]))
            if len(text) <= LONGEST and len(text.split()) <= MOST_WORDS:
                break
        return text

    parts = (slice(0, 1), slice(1, None)) if len(at(_BRIEF)) > 1 else (slice(0, 1),)
    return tuple(map(in_detail, parts))


def best_trials_sentences(
    title: str,
    best: Sequence[tuple[float, str]],
    ends: Mapping[str, Sequence[str]],
    failed: Sequence[str],
    failures: str = "",
) -> tuple[str, ...]:
    """The sentences of a sweep.

    Args:
      title: of what the best trials are best by.
      best: its value and the trial in words, the best first.
      ends: by label, where the best trial lies at an end of what was tried, such as "highest learning rate".
      failed: the labels of optimizers of which every trial failed.
      failures: how many trials and runs failed, such as "2 of 9 trials failed"; "" if none did.
    """
    lost = f"every trial of {listed(failed)} failed" if failed else ""
    if not best:
        return (sentence(lost or "no run is finished yet"),)

    def at(detail: int) -> list[str]:
        trials = [f"{text} ({value:.4g})" for value, text in best[: 1 + min(detail, _MOST_AFTER)]]
        others = [f"{len(best) - len(trials)} more"] if len(best) > len(trials) else []
        after = [*trials[1:], *others]
        then = f"; after it {'comes' if len(after) == 1 else 'come'} {joined(after)}" if after else ""
        beyond = _beyond(ends, detail) if ends else ""
        return [f"the lowest {title} is that of {trials[0]}{then}", *filter(None, (beyond, lost, failures))]

    return _fitting(at)


def _beyond(ends: Mapping[str, Sequence[str]], detail: int) -> str:
    """At which ends the best trials lie, a clause for those that lie at the same ones."""
    if not detail:
        return f"better may lie beyond what was tried for {listed(list(ends))}"
    clauses = [
        f"the best {'trial' if len(group) == 1 else 'trials'} of {listed(group)} had the {joined(ends[group[0]])}"
        for group in _grouped(ends, lambda label: tuple(ends[label]))
    ]
    return f"{joined(clauses)} that was tried, so that better may lie beyond"


def listed(labels: Sequence[str]) -> str:
    """The labels by name, or how many there are of more than three."""
    if len(labels) > _MOST_NAMED:
        return f"{len(labels)} optimizers"
    return joined([name_of(label) for label in labels])


def sentence(text: str) -> str:
    """The text with a full stop unless it is cut, and a capital if it begins with a word; "sgd" stays as it is."""
    word = text.split()[0]
    if re.fullmatch("[a-z]{4,}", word) or word in ("at", "as", "it", "no", "all", "the"):
        text = text[0].upper() + text[1:]
    return text if text.endswith("…") else f"{text}."


def name_of(label: str) -> str:
    r"""A label as a sentence has it: as it is if it is a short plain word, else in quotes and no more than begun.

    >>> name_of("optax.lion"), name_of("my lion"), name_of("it's")
    ('optax.lion', "'my lion'", '"it\'s"')
    """
    if len(label) <= _LONGEST_NAME and re.fullmatch(r"[^\W_]([\w.+=-]*\w)?", label):
        return label
    text = shortened(label, _LONGEST_NAME - 2)
    # Of both kinds of quotes in a label one is left, so that each that opens is closed.
    return f'"{text.replace(chr(34), chr(39))}"' if "'" in text else f"'{text}'"


def shortened(text: str, longest: int = _LONGEST_REASON) -> str:
    """The text in one line, or its beginning if it is long.

    >>> shortened("a long  story", 8)
    'a long …'
    """
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def ratio_text(ratio: float) -> str:
    """How many times larger something is; "" if it is larger or smaller by less than 5 %.

    >>> [ratio_text(ratio) for ratio in (10.0, 0.5, 3.33, 1 / 12, 1.01)]
    ['ten times larger', 'half as large', '3.3 times larger', 'twelve times smaller', '']
    """
    more, way = (ratio, "larger") if ratio >= 1 else (1 / ratio, "smaller")
    if more < 1.05:
        return ""
    nearest = round(more)
    if abs(more - nearest) > 0.005 * more:
        return f"{more:.2g} times {way}" if more >= 2 else f"{ratio:.2g} times as large"
    if nearest == 2:
        return "twice as large" if ratio > 1 else "half as large"
    if nearest - 3 < len(_NUMBERS):
        return f"{_NUMBERS[nearest - 3]} times {way}"
    return f"{float(f'{more:.2g}'):,.0f} times {way}" if more < 1e6 else f"more than a million times {way}"


def joined(texts: Sequence[str], conjunction: str = "and") -> str:
    """The texts as a list of a sentence.

    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = texts
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def _grouped(items: Iterable[_T], key: Callable[[_T], Hashable]) -> list[list[_T]]:
    groups: dict[Hashable, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())
