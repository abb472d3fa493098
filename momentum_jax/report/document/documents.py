"""The documents of a comparison, a sweep and a training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from momentum_jax.analysis import median_of_trials
from momentum_jax.comparison.arms import arm_of
from momentum_jax.comparison.procedure import check_same_task, compare_results
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.tuning import tuning_losses
from momentum_jax.comparison.wording import title_of, title_of_tuning, warnings_of_trials
from momentum_jax.report.document.curves import curves_part
from momentum_jax.report.document.protocols import protocols_part
from momentum_jax.report.document.table import table_part
from momentum_jax.report.document.trials import trials_part
from momentum_jax.results.result import Result

Document = dict[str, Any]


def comparison_document(compared: Comparison, command: str) -> Document:
    """The document of a comparison: verdicts, all protocols, and the tuning.

    Args:
      compared: the comparison.
      command: what repeats it.
    """
    level = f"{100 * compared.plan['level']:g} %"
    labels = list(compared.config.optimizers)
    document = _common(compared.judged, command) | {
        "title": f"{' against '.join(labels[::-1])} on {compared.plan.get('data', _data_of(compared.judged[0]))}",
        "kind": "comparison",
        "question": "Does it help here, and by how much: at one learning rate, at one effective learning rate, and "
        f"each at its best? The intervals of one metric hold together with {level}, over all its pairs and protocols.",
        "verdicts": [
            {
                "protocol": compared.protocols[v.protocol].title,
                "metric": title_of(v.metric, compared.target),
                **{name: getattr(v, name) for name in ("a", "b", "outcome", "sentence")},
            }
            for v in compared.findings
        ],
        "notes": list(compared.notes),
        "optimizers": labels,
        **curves_part(
            {(s.title, label): arm for s in compared.protocols.values() for label, arm in s.arms.items()},
            compared.iterations,
        ),
        "three_way": protocols_part(compared),
        "config": compared.config.to_json() | {"comparison": compared.plan},
    }
    stages = {f"training {i}": result for i, result in enumerate(compared.judged, 1)}
    if compared.tuning is not None:
        losses = tuning_losses(compared.tuning, compared.plan["tune_by"])
        document |= trials_part(compared.tuning, losses, title_of_tuning(compared.plan))
        stages = {"judging": compared.judged[0], "tuning": compared.tuning}
    return document | {"table": table_part(stages)}


def sweep_document(result: Result, command: str) -> Document:
    """The document of a sweep: its trials, without verdicts, since the same runs chose the best trials.

    Args:
      result: of a sweep.
      command: what repeats it.
    """
    assert result.trials is not None
    losses = {label: result.final_losses(label) for label in result.trials}
    best = {}
    for label in result.trials:
        medians = median_of_trials(losses[label], result.failed[label], result.missing[label])
        best[label] = arm_of(result, label, int(np.argmin(medians)))
    missing = sum(int(m.sum()) for m in result.missing.values())
    unfinished = f"unfinished: {missing} runs are still to come; the page shows those that are finished"
    return (
        _common([result], command)
        | {
            "title": f"{', '.join(result.trials)} on {result.config.dataset}: a sweep",
            "kind": "sweep",
            "question": "Which hyperparameters are best, and how much depends on them?",
            "verdicts": [],
            "notes": [
                *([unfinished] if missing else []),
                *warnings_of_trials(result, losses),
                "the best trials are shown by the runs that chose them, which flatters them: momentum-jax compare "
                "tunes with one set of seeds and judges with another",
            ],
            "optimizers": list(result.trials),
            **curves_part({("the best trial of each", label): arm for label, arm in best.items()}, result.iterations),
            "three_way": None,
            "table": table_part({"sweep": result}),
        }
        | trials_part(result, losses, "final training loss (nats)")
    )


def training_document(results: Sequence[Result], command: str) -> Document:
    """The document of trainings: their optimizers judged as they were configured, or one optimizer alone.

    Args:
      results: of `train`.
      command: what repeats them.

    Raises:
      InputError: the results are not of one task.
    """
    check_same_task(results)
    if sum(len(result.config.optimizers) for result in results) > 1:
        compared = compare_results(*results)
        level = f"{100 * compared.plan['level']:g} %"
        return comparison_document(compared, command) | {
            "kind": "training",
            "title": f"{', '.join(compared.config.optimizers)} on {_data_of(results[0])}",
            "question": "How do they compare as they were configured? That is not yet an answer to which is better: "
            f"momentum-jax compare tunes them too. The intervals of one metric hold together with {level}.",
        }
    (result,) = results
    (label,) = result.config.optimizers
    return _common(results, command) | {
        "title": f"{label} on {_data_of(result)}",
        "kind": "training",
        "question": "How does the loss fall?",
        "verdicts": [],
        "notes": [],
        "optimizers": [label],
        **curves_part({("as configured", label): arm_of(result, label, None)}, result.iterations),
        "three_way": None,
        "table": table_part({"training": result}),
    }


def _data_of(result: Result) -> str:
    """The source of the data, or the name of the dataset if the result does not record a source."""
    data = result.provenance.get("data")
    return str(data.get("source", "a task of one's own") if isinstance(data, Mapping) else result.config.dataset)


def _common(results: Sequence[Result], command: str) -> Document:
    return {
        "heatmaps": [],
        "sensitivity": [],
        "sensitivity_title": "",
        "sensitivity_note": "",
        "budget": [],
        "budget_title": "",
        "budget_note": "",
        "config": results[0].config.to_json(),
        "provenance": results[0].provenance,
        "command": command,
    }
