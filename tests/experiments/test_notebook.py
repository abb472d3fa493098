"""The notebook runs, and what is stored in it is what its cells give."""

import json
import math
import re

import nbformat
import pytest
import run_notebook

from tests.experiments.pages import check_links

NUMBER = re.compile(r"\d+(?:\.\d+)?")
BRACKETS = re.compile(r"\([^()]*\)")
# Other processors and versions of JAX round differently, and 300 iterations at a large learning rate magnify that: a
# median of seven runs may differ by 5 %. Brackets hold extremes, in %: one is 14.3 with JAX 0.12, and 8.6 before.
MEDIANS, EXTREMES = {"rel_tol": 0.05}, {"abs_tol": 10}


def texts(notebook):
    """What each cell of code printed, and whether it drew."""
    return {
        cell.id: [(output.get("text"), sorted(output.get("data", ()))) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    }


def are_close(stored, given):
    """Whether two texts have the same words, and numbers that differ by what rounding explains."""

    def numbers(text):
        inside = "".join(BRACKETS.findall(text))
        return [[float(number) for number in NUMBER.findall(part)] for part in (BRACKETS.sub("", text), inside)]

    return NUMBER.sub("#", stored) == NUMBER.sub("#", given) and all(
        math.isclose(one, other, **tolerance)
        for tolerance, ones, others in zip((MEDIANS, EXTREMES), numbers(stored), numbers(given), strict=True)
        for one, other in zip(ones, others, strict=True)
    )


def test_the_notebook_is_small_and_says_nothing_of_the_machine_or_the_moment_it_ran_on():
    text = run_notebook.NOTEBOOK.read_text()
    assert len(text) < 400_000
    assert not re.search(r"/tmp|/home|/root|/Users|site-packages|Warning|Traceback", text)
    notebook = run_notebook.read()
    nbformat.validate(notebook)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    # Run from top to bottom.
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(cell.metadata == {} for cell in notebook.cells)
    assert json.loads(text)["nbformat_minor"] == 5


def test_every_link_of_the_notebook_leads_to_a_file_and_a_heading():
    cells = run_notebook.read().cells
    check_links(run_notebook.NOTEBOOK, "\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))


@pytest.mark.exhaustive
def test_the_notebook_runs_without_a_warning_and_gives_what_is_stored_in_it(tmp_path, monkeypatch):
    # Nothing of the user's configuration counts, and nothing is left in it.
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    stored = texts(run_notebook.read())
    given = texts(run_notebook.execute(run_notebook.read()))
    assert stored.keys() == given.keys()
    for cell, outputs in stored.items():
        for (before, drawn), (after, drawn_now) in zip(outputs, given[cell], strict=True):
            assert drawn == drawn_now, cell
            assert before is None or are_close(before, after), cell


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ("sgd: 0.32 (−1.4 % to +4.4 %; 7 seeds)", True),
        ("sgd: 0.33 (−7.4 % to +9.9 %; 7 seeds)", True),
        ("sgd: 0.34 (−1.4 % to +4.4 %; 7 seeds)", False),
        ("sgd: 0.32 (−1.4 % to +14.5 %; 7 seeds)", False),
        ("sgd: 0.32 (+1.4 % to +4.4 %; 7 seeds)", False),
        ("momentum: 0.32 (−1.4 % to +4.4 %; 7 seeds)", False),
    ],
)
def test_outputs_with_other_words_or_other_numbers_are_told_apart(given, same):
    assert are_close("sgd: 0.32 (−1.4 % to +4.4 %; 7 seeds)", given) == same


def test_an_output_that_is_a_warning_is_an_error_and_one_that_shows_progress_is_left_out():
    def printed(name, text):
        return nbformat.v4.new_output("stream", name=name, text=text)

    assert run_notebook.is_kept(printed("stdout", "0.5"))
    assert not run_notebook.is_kept(printed("stderr", "training: 3 of 7"))
    assert not run_notebook.is_kept(nbformat.v4.new_output("display_data", {"text/plain": "3 of 7"}))
    with pytest.raises(RuntimeError, match="verdicts need 7"):
        run_notebook.is_kept(printed("stderr", "UserWarning: verdicts need 7 seeds"))
