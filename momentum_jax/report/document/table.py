"""The table of runs."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from momentum_jax.report.document.numbers import json_number
from momentum_jax.results.result import Result
from momentum_jax.results.tables import in_words

# Limits on the size of a page: rows, and entries of all columns.
MOST_ROWS, MOST_ENTRIES = 3000, 45_000


def table_part(results: Mapping[str, Result]) -> dict[str, Any]:
    """The first runs of the results, column by column, and how many are left out.

    A column of texts has its `texts` once; its rows are positions among them. A column without any value is left out.

    Args:
      results: by stage, which is the first column: "tuning", "judging", …
    """
    tables = {stage: result.table() for stage, result in results.items()}
    names = list(dict.fromkeys(itertools.chain.from_iterable(table.column_names for table in tables.values())))
    rows: dict[str, list[Any]] = {"stage": [], **{name: [] for name in names}}
    for stage, table in tables.items():
        rows["stage"] += [stage] * len(table)
        for name in names:
            own = table.column(name).to_pylist() if name in table.column_names else [None] * len(table)
            rows[name] += [json_number(entry) if isinstance(entry, float) else entry for entry in own]
    total = len(rows["stage"])
    most = min(MOST_ROWS, MOST_ENTRIES // len(rows))
    shown = {name: values[:most] for name, values in rows.items() if any(value is not None for value in values)}
    columns = [_column(name, values) for name, values in shown.items()]
    return {
        "columns": columns,
        "rows": {name: _entries(column, shown[name]) for name, column in zip(shown, columns, strict=True)},
        "left_out": max(0, total - most),
    }


def _column(name: str, values: Sequence[Any]) -> dict[str, Any]:
    title, kind = in_words(name), _kind(values)
    column: dict[str, Any] = {"name": name, "title": title[:1].upper() + title[1:], "kind": kind}
    if kind == "text":
        column["texts"] = list(dict.fromkeys(value for value in values if value is not None))
    return column


def _entries(column: Mapping[str, Any], values: Sequence[Any]) -> list[Any]:
    if column["kind"] != "text":
        return list(values)
    positions = {text: position for position, text in enumerate(column["texts"])}
    return [positions.get(value) for value in values]


def _kind(values: Sequence[Any]) -> str:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return "bool"
    # `json_number` makes strings of infinities.
    return "number" if all(isinstance(v, int | float) or v in (None, "inf", "-inf") for v in values) else "text"
