"""Results write their own page, and each page shows the command that repeats what it shows."""

import dataclasses
import html
import json
import re

import pytest
from plotly.offline import get_plotlyjs

import momentum_jax as mj
from momentum_jax.report import write_page
from tests.report.judged import comparison_among, comparison_of, sweep_of
from tests.results.made import make_result

GRID = [{"learning_rate": rate, "momentum": 0.9} for rate in (0.01, 0.1)]


def trained(label, **fields):
    cfg = mj.Config(iterations=5, seeds=2, optimizers={label: mj.OptimizerConfig("sgd", learning_rate=0.1)})
    return dataclasses.replace(make_result(cfg, provenance={}), evaluation_iterations=[2, 5], **fields)


@pytest.mark.filterwarnings("ignore:verdicts need")
@pytest.mark.parametrize(
    ("make", "command"),
    [
        (lambda: trained("a"), "momentum-jax train --iterations 5 --seeds 2"),
        (lambda: sweep_of({"m": GRID}, (0, 1)), "momentum-jax sweep "),
        (comparison_of, "momentum-jax compare "),
        # What was only judged is repeated by training it again.
        (lambda: mj.compare_results(trained("a"), trained("b")), "momentum-jax train --iterations 5 --seeds 2"),
    ],
    ids=["training", "sweep", "comparison", "judged trainings"],
)
def test_a_result_writes_its_page_with_the_command_that_repeats_it(make, command, tmp_path):
    make().report(tmp_path / "new folder" / "page.html")
    page = (tmp_path / "new folder" / "page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert f'"command":"{command}' in html.unescape(page)


@pytest.mark.filterwarnings("ignore:verdicts need")
def test_thirty_labels_of_five_thousand_letters_fit_a_page_and_stay_different(tmp_path):
    labels = ["sgd", *(f"{'x' * 5000}{i}" for i in range(29))]
    compared = comparison_among(labels, seeds=3)
    plan = {**compared.plan, "contained": [[a, b] for a in labels for b in labels]}
    write_page(dataclasses.replace(compared, plan=plan), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    # plotly.js alone has 4.8 MB.
    assert len(text) - len(get_plotlyjs()) < 1_500_000
    document = json.loads(re.search(r'id="document">(.*?)</script>', text)[1])
    assert len(set(document["optimizers"])) == 30
    assert max(map(len, document["optimizers"])) <= 200
    assert {part["a"] for part in document["answer"]["parts"]} == set(document["optimizers"][1:])
    assert list(document["config"]["optimizers"]) == labels
    # What repeats it needs each label whole.
    assert labels[7] in document["command"]


def test_the_path_of_a_page_may_be_text_and_must_be_one_that_can_be_written(tmp_path):
    trained("a").report(str(tmp_path / "page.html"))
    assert (tmp_path / "page.html").stat().st_size > 1_000_000
    with pytest.raises(mj.InputError, match="path must be a path"):
        trained("a").report("")
    with pytest.raises(mj.InputError, match="cannot write"):
        trained("a").report(tmp_path)
    with pytest.raises(mj.InputError, match="path must be a path"):
        comparison_of().report(3)
