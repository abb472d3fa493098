"""What `study` makes of a comparison."""

import dataclasses

import numpy as np
import study

from tests.report.judged import comparison_of


def by_accuracy():
    """Judged by the accuracy first."""
    compared = comparison_of()
    verdicts = sorted(compared.verdicts, key=lambda verdict: verdict.metric != "test_accuracy")
    return dataclasses.replace(compared, verdicts=tuple(verdicts))


def test_the_finding_of_a_comparison_begins_with_the_answer_of_its_tuned_optimizers():
    compared = by_accuracy()
    found = study.of_comparison(compared, "toys")
    tuned = next(v for v in compared.verdicts if (v.protocol, v.metric) == ("tuned", "test_accuracy"))
    first, second = (
        f"{100 * np.median(arm.values['test_accuracy']):.2f} % with {label}"
        for label, arm in compared.protocols["tuned"].arms.items()
    )
    low, high = (f"{100 * end:+.1f}".replace("-", "−") for end in tuned.difference[1:3])
    assert (
        f" on toys is, each at its best, {first} and {second} ({low} to {high}); at the same learning rate"
        in found.finding
    )
    assert found.finding == study.find(found.numbers)
    assert compared.notes[0] == "a note"
    assert found.finding.endswith("".join(f" {note[0].upper()}{note[1:]}." for note in compared.notes))
    answers = {
        outcome: study.find(found.numbers | {"outcome": outcome}).partition(":")[0]
        for outcome in ("better", "worse", "equivalent", "no difference found", "no verdict")
    }
    assert answers == {
        "better": "Yes",
        "worse": "No, it harms",
        "equivalent": "No gain was found",
        "no difference found": "No gain was found",
        "no verdict": "There is no verdict",
    }


def test_the_finding_of_a_comparison_names_optimizers_that_failed():
    numbers = study.of_comparison(by_accuracy(), "toys").numbers
    texts = {"sgd": ["80.00 %"], "momentum": ["81.00 %", "+0.1 to +2.0"], "lion": ["failed"]}
    found = study.find(numbers | {"protocols": {"same learning rate, 0.1": texts}})
    assert "80.00 % with sgd, 81.00 % with momentum (+0.1 to +2.0) and none with lion, which failed." in found
