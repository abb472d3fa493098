"""Results write their own page, and each page shows the command that repeats what it shows."""

import dataclasses
import html

import pytest

import momentum_jax as mj
from tests.report.judged import comparison_of, sweep_of
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


def test_the_path_of_a_page_may_be_text_and_must_be_one_that_can_be_written(tmp_path):
    trained("a").report(str(tmp_path / "page.html"))
    assert (tmp_path / "page.html").stat().st_size > 1_000_000
    with pytest.raises(mj.InputError, match="path must be a path"):
        trained("a").report("")
    with pytest.raises(mj.InputError, match="cannot write"):
        trained("a").report(tmp_path)
    with pytest.raises(mj.InputError, match="path must be a path"):
        comparison_of().report(3)
