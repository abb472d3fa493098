"""The table of runs."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from momentum_jax.report.document.numbers import json_number
from momentum_jax.results.result import Result

# Limit on the size of a page.
MOST_ROWS = 3000


def table_part(results: Mapping[str, Result]) -> dict[str, Any]:
    """The first `MOST_ROWS` runs of the results, column by column, and how many are left out.

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
    columns = [{"name": name, "title": name.replace("_", " "), "kind": _kind(rows[name])} for name in rows]
    total = len(rows["stage"])
    return {
        "columns": columns,
        "rows": {name: values[:MOST_ROWS] for name, values in rows.items()},
        "left_out": max(0, total - MOST_ROWS),
    }


def _kind(values: Sequence[Any]) -> str:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return "bool"
    # `json_number` makes strings of infinities.
    return "number" if all(isinstance(v, int | float) or v in (None, "inf", "-inf") for v in values) else "text"
