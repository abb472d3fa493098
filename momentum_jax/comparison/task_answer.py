"""The answer of a comparison over tasks in two sentences, and its parts."""

import math
from collections.abc import Iterator

from momentum_jax._base.display import counted
from momentum_jax.analysis.profiles import LEAST_TASKS
from momentum_jax.comparison.answer import Answer, ProtocolAnswer, answer_of
from momentum_jax.comparison.answer_sentences import Kind, joined, name_of, sentence
from momentum_jax.comparison.task_comparison import Profile, TaskComparison, TaskSummary, relative_time_text

# Optimizers in a sentence, and tasks of which it holds without a word that they are few.
_MOST_NAMED, _FEW = 3, 6


def answer_of_tasks(compared: TaskComparison) -> Answer:
    """The answer of a comparison over tasks.

    The sentences are on the tuned protocol, or if that has no times on the last one that has: on how many tasks each
    optimizer is sooner at the target than the first, and its time over that of the first. The kind of a part goes by
    the interval of the relative time.
    """
    name = decisive_protocol(compared)
    parts = tuple(_part(entry) for entry in compared.summary)
    if name is None:
        return Answer(
            ("Nothing can be told: no task has a target.",), parts, _sure(compared), tuple(_warnings(compared))
        )
    entries = [entry for entry in compared.summary if entry.protocol == name]
    sentences = (sentence(_on_verdicts(compared.profiles[name], entries)), sentence(_on_time(entries)))
    return Answer(sentences, parts, _sure(compared), tuple(_warnings(compared)))


def decisive_protocol(compared: TaskComparison) -> str | None:
    """The name of the protocol that the answer is on: "tuned" if it has times, else the last one with times or None."""
    with_times = [name for name, profile in compared.profiles.items() if profile.tasks]
    return "tuned" if "tuned" in with_times else next(reversed(with_times), None)


def _on_verdicts(profile: Profile, entries: list[TaskSummary]) -> str:
    """On how many tasks each optimizer is sooner than the first, and if there is only one other, later."""
    tasks, first = counted(len(profile.tasks), "task"), name_of(entries[0].b)
    where = f"{profile.title}," if profile.title.startswith("each") else f"at the {profile.title},"
    if len(entries) == 1:
        (entry,) = entries
        text = (
            f"{where} {name_of(entry.a)} reaches the target sooner than {first} on {entry.sooner or 'none'} of {tasks}"
        )
        return f"{text} and {_rest(entry)}"
    shown = [f"{name_of(entry.a)} on {entry.sooner}" for entry in entries[:_MOST_NAMED]]
    more = [f"{len(entries) - _MOST_NAMED} more"] if len(entries) > _MOST_NAMED else []
    return f"{where} of {tasks} the target is reached sooner than with {first} by {joined([*shown, *more])}"


def _rest(entry: TaskSummary) -> str:
    rest = [f"later on {entry.later or 'none'}"]
    rest += [f"without a difference found on {entry.undecided}"] if entry.undecided else []
    rest += [f"without a verdict on {entry.no_verdict}"] if entry.no_verdict else []
    return ", ".join(rest)


def _on_time(entries: list[TaskSummary]) -> str:
    """The relative times with their intervals, and what these rest on."""
    first, solved = name_of(entries[0].b), [entry for entry in entries if entry.solved]
    if not solved:
        return f"{'neither' if len(entries) == 1 else 'none'} of them reaches the target of a task"
    tasks = min(entry.solved for entry in solved)
    times = [_time(entry, named=len(entries) > 1) for entry in solved[:_MOST_NAMED]]
    where = f"over {counted(tasks, 'task')}"
    if len(entries) == 1:
        text = f"{where} it needs {times[0]} times the iterations of {first}"
    else:
        text = f"{where} the iterations needed are {joined(times)} times those of {first}"
    if tasks < LEAST_TASKS:
        return f"{text}, and so few tasks give no interval"
    few = " only" if tasks < _FEW else ""
    return f"{text} (in brackets: {100 * entries[0].relative_time.level:g} %, for tasks like these, from {tasks}{few})"


def _time(entry: TaskSummary, *, named: bool) -> str:
    text = relative_time_text(entry.relative_time)
    return f"{text} with {name_of(entry.a)}" if named else text


def _part(entry: TaskSummary) -> ProtocolAnswer:
    if not entry.solved:
        why = "neither reaches the target of a task" if entry.tasks else "no task has times"
        return ProtocolAnswer(entry.protocol, entry.title, entry.a, entry.b, "cannot be told", why)
    low, high = entry.relative_time.low, entry.relative_time.high
    kind: Kind = "no difference found"
    if math.isnan(low):
        kind = "cannot be told"
    elif high < 1 or low > 1:
        kind = "helps" if high < 1 else "does not help"
    time = relative_time_text(entry.relative_time)
    counts = f"sooner on {entry.sooner}, later on {entry.later} of {counted(entry.tasks, 'task')}"
    why = f"{counts}; {time} times the iterations"
    return ProtocolAnswer(entry.protocol, entry.title, entry.a, entry.b, kind, why)


def _sure(compared: TaskComparison) -> str:
    seeds = {len(c.config.seed_tuple) for c in compared.comparisons.values()}
    trials = {c.plan["trials"] for c in compared.comparisons.values()}
    text = f"{counted(len(compared.comparisons), 'task')}, {counted(max(seeds), 'seed')} on each"
    text += f"; each optimizer tuned by {counted(max(trials), 'trial')} on each task"
    return f"{text}; all verdicts on the tasks hold at {100 * compared.level:g} % together."


def _warnings(compared: TaskComparison) -> Iterator[str]:
    """The notes on tasks that are left out, and what could change the answer on each task."""
    yield from compared.notes
    for task, own in compared.comparisons.items():
        for note in answer_of(own).warnings:
            yield f"{task}: {note}"
