"""The documents of a comparison, a sweep and a training."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from momentum_jax.analysis import median_of_trials
from momentum_jax.comparison.answer import Answer, answer_of, answer_of_sweep, answer_of_training
from momentum_jax.comparison.answer_sentences import name_of
from momentum_jax.comparison.procedure import check_same_task, compare_results
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.tuning import tuning_losses
from momentum_jax.comparison.wording import title_of_tuning, warnings_of_trials
from momentum_jax.report.document.curves import curves_part, read_trial_curves, trial_curves_part
from momentum_jax.report.document.matrix import matrix_part
from momentum_jax.report.document.protocols import protocols_part
from momentum_jax.report.document.table import table_part
from momentum_jax.report.document.trials import trials_part
from momentum_jax.report.drawing import listed
from momentum_jax.results.result import Result
from momentum_jax.results.summary import data_of, loss_unit
from momentum_jax.results.tables import with_unit

Document = dict[str, Any]


def comparison_document(compared: Comparison, command: str) -> Document:
    """The document of a comparison: the answer, the verdicts, all protocols, and the tuning.

    Args:
      compared: the comparison.
      command: what repeats it.
    """
    labels, answer = list(compared.config.optimizers), answer_of(compared)
    document = _common(compared.judged, command) | {
        "title": f"{against(labels)} on {compared.plan.get('data', data_of(compared.judged[0]))}",
        "kind": "comparison",
        "question": f"{subject(labels)} help here, and how sure is that?",
        "answer": answer_part(answer),
        "matrix": matrix_part(compared),
        "notes": list(dict.fromkeys([*answer.warnings, *compared.notes])),
        "optimizers": labels,
        **curves_part(
            {(p.title, label): arm.losses_before for p in compared.protocols.values() for label, arm in p.arms.items()},
            compared.iterations,
            loss_unit(compared.judged[0]),
        ),
        "three_way": protocols_part(compared),
        "config": compared.config.to_json() | {"comparison": compared.plan},
    }
    stages = {f"training {i}": result for i, result in enumerate(compared.judged, 1)}
    if compared.tuning is not None:
        losses = tuning_losses(compared.tuning, compared.plan["tune_by"])
        title = title_of_tuning(compared.plan, loss_unit(compared.tuning))
        document |= trials_part(compared.tuning, losses, title, compared.plan["space"])
        if "tuned" in compared.protocols:
            curves = read_trial_curves(compared.tuning, {})
            document |= trial_curves_part(compared.tuning, curves, compared.protocols["tuned"].title)
        again = {} if compared.rerun is None else {"rerunning": compared.rerun}
        stages = {"judging": compared.judged[0], "tuning": compared.tuning, **again}
    return document | {"table": table_part(stages)}


def sweep_document(result: Result, command: str) -> Document:
    """The document of a sweep: its trials, without verdicts, since the same runs chose the best trials.

    Args:
      result: of a sweep.
      command: what repeats it.
    """
    assert result.trials is not None
    losses = {label: result.final_losses(label) for label in result.trials}
    positions = {
        label: int(np.argmin(median_of_trials(own, result.failed[label], result.missing[label])))
        for label, own in losses.items()
    }
    curves = read_trial_curves(result, positions)
    best = {
        ("the best trial of each", label): curves.whole[label][~result.missing[label][position]]
        for label, position in positions.items()
    }
    answer = answer_of_sweep(result)
    return (
        _common([result], command)
        | {
            "title": f"{listed(list(map(name_of, result.trials)))} on {data_of(result)}: a sweep",
            "kind": "sweep",
            "question": "Which hyperparameters are best, and how much depends on them?",
            "answer": answer_part(answer),
            "notes": list(dict.fromkeys([*answer.warnings, *warnings_of_trials(result, losses)])),
            "optimizers": list(result.trials),
            **curves_part(best, result.iterations, loss_unit(result)),
            "three_way": None,
            "table": table_part({"sweep": result}),
        }
        | trials_part(result, losses, with_unit("final training loss", loss_unit(result)))
        | trial_curves_part(result, curves, "the best trial of each")
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
        document = comparison_document(compared, command)
        document["answer"]["sure"] += " momentum-jax compare also tunes them, which can change the answer."
        return document | {
            "kind": "training",
            "title": f"{listed(list(map(name_of, compared.config.optimizers)))} on {data_of(results[0])}",
            "question": "How do they compare as they were configured?",
        }
    (result,) = results
    (label,) = result.config.optimizers
    return _common(results, command) | {
        "title": f"{label} on {data_of(result)}",
        "kind": "training",
        "question": "How does the loss fall?",
        "answer": answer_part(answer_of_training(result)),
        "notes": [],
        "optimizers": [label],
        **curves_part({("as configured", label): result.losses_before[label]}, result.iterations, loss_unit(result)),
        "three_way": None,
        "table": table_part({"training": result}),
    }


def against(labels: Sequence[str]) -> str:
    """Two optimizers by name, the one that is judged first; more of them by their number."""
    return " against ".join(map(name_of, labels[::-1])) if len(labels) == 2 else f"{len(labels)} optimizers compared"


def subject(labels: Sequence[str]) -> str:
    return f"Does {name_of(labels[1])}" if len(labels) == 2 else "Which optimizers"


def answer_part(answer: Answer) -> dict[str, Any]:
    return answer._asdict() | {
        "sentences": list(answer.sentences),
        "parts": [part._asdict() for part in answer.parts],
        "warnings": list(answer.warnings),
    }


def _common(results: Sequence[Result], command: str) -> Document:
    return {
        "matrix": None,
        "trial_curves": [],
        "heatmaps": [],
        "parallel": [],
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
