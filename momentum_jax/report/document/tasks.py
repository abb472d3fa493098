"""The document of a comparison over tasks: the answer, the profiles, and the verdicts on each task."""

from collections.abc import Mapping
from typing import Any

from momentum_jax._base.display import clip, counted
from momentum_jax.analysis import performance_profile
from momentum_jax.analysis.profiles import LIMIT
from momentum_jax.comparison.task_answer import answer_of_tasks, decisive_protocol
from momentum_jax.comparison.task_comparison import TIME, TaskComparison
from momentum_jax.report.document.documents import Document, against, answer_part, subject
from momentum_jax.report.document.matrix import LONGEST_NAME, verdict_cell
from momentum_jax.report.document.numbers import json_number
from momentum_jax.report.profiles import profile_factors

_NOTE = (
    "A cell is the verdict on the iterations to the task's target: the size of the difference in % of the median of "
    "the optimizer that the other is held against, or in iterations. All verdicts by one metric, over all tasks, hold "
    "together with"
)

_ON_INTERVALS = (
    "the interval over tasks holds its level where tasks differ like a normal distribution; simulated, it covered 75 % "
    "with 3 tasks of two kinds and 97 % with 6, and 85 % to 93 % where an optimizer never solves a fifth of the tasks"
)


def tasks_document(compared: TaskComparison, commands: Mapping[str, str], pages: Mapping[str, str]) -> Document:
    """The document of a comparison over tasks.

    Args:
      compared: the comparison.
      commands: by name of a task, what repeats the comparison on it.
      pages: by name of a task, the relative address of its own page, as far as there are any.
    """
    labels, answer = list(compared.optimizers), answer_of_tasks(compared)
    tasks = counted(len(compared.comparisons), "task")
    first = next(iter(compared.comparisons.values()))
    return {
        "title": f"{against(labels)} on {tasks}",
        "kind": "tasks",
        "question": f"{subject(labels)} help over {tasks}, and how sure is that?",
        "answer": answer_part(answer),
        "profile": profile_part(compared),
        "matrix": task_matrix_part(compared, pages),
        "notes": list(dict.fromkeys([*answer.warnings, _ON_INTERVALS, *_task_notes(compared)])),
        "optimizers": labels,
        "config": {name: own.config.to_json() | {"comparison": own.plan} for name, own in compared.comparisons.items()},
        "provenance": first.judged[0].provenance,
        "command": "\n".join(f"# {name}\n{command}" for name, command in commands.items()),
    }


def _task_notes(compared: TaskComparison) -> list[str]:
    return [f"{name}: {note}" for name, own in compared.comparisons.items() for note in own.notes]


def profile_part(compared: TaskComparison) -> dict[str, Any] | None:
    """The profiles by protocol, the one that the answer is on first; None if no task has times."""
    decisive = decisive_protocol(compared)
    if decisive is None:
        return None
    names = [decisive, *(name for name, own in compared.profiles.items() if own.tasks and name != decisive)]
    return {"limit": LIMIT, "protocols": [_protocol(compared, name) for name in names]}


def _protocol(compared: TaskComparison, name: str) -> dict[str, Any]:
    profile = compared.profiles[name]
    factors = profile_factors(profile)
    curves = performance_profile(profile.ratios, factors)
    return {
        "title": profile.title,
        "tasks": list(profile.tasks),
        "left_out": [f"{task}: {why}" for task, why in profile.left_out.items()],
        "lines": [
            {
                "label": label,
                "factors": [json_number(factor) for factor in factors],
                "proportions": [json_number(proportion) for proportion in curve],
                "score": json_number(profile.scores[label]),
                "times": [json_number(time) for time in times],
                "ratios": [json_number(ratio) for ratio in ratios],
            }
            for label, curve, times, ratios in zip(
                compared.optimizers, curves, profile.times, profile.ratios, strict=True
            )
        ],
    }


def task_matrix_part(compared: TaskComparison, pages: Mapping[str, str]) -> dict[str, Any] | None:
    """The verdicts on the iterations to the target, tasks by protocols, of each optimizer against the first."""
    first, *others = compared.optimizers
    told = {
        (task, v.protocol, v.a, v.b): v
        for task, own in compared.comparisons.items()
        for v in own.verdicts
        if v.metric == TIME
    }
    protocols = [name for name in compared.profiles if any(key[1] == name for key in told)]
    if not told:
        return None
    tasks = [task for task in compared.comparisons if any(key[0] == task for key in told)]
    return {
        "rows": "Task",
        "protocols": [{"name": name, "title": compared.profiles[name].title} for name in protocols],
        "metrics": [
            {"name": task, "title": clip(_row_title(compared, task), LONGEST_NAME), "page": pages.get(task)}
            for task in tasks
        ],
        "pairs": [
            {
                "a": a,
                "b": first,
                "cells": [[verdict_cell(told.get((task, name, a, first))) for name in protocols] for task in tasks],
            }
            for a in others
        ],
        "left_out": 0,
        "note": f"{_NOTE} {100 * compared.level:g} %.",
    }


def _row_title(compared: TaskComparison, task: str) -> str:
    return f"{task}, to a loss of {compared.comparisons[task].target:g}"
