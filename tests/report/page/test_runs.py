"""The table of runs: sorting, filtering and download."""

import csv
import io
import pathlib

import numpy as np

from tests.report.page.browsing import number
from tests.report.synthetic import document


def header(view, name):
    """The button that sorts by a column."""
    return view.tab.locator("#runs-table th button").nth(list(document()["table"]["rows"]).index(name))


def sorted_by(view):
    read = "[...document.querySelectorAll('#runs-table th')].map((th) => th.getAttribute('aria-sort'))"
    return view.tab.evaluate(read)


def test_runs_are_sorted_by_a_column_with_what_is_missing_last(view, given):
    rows = given["table"]["rows"]
    view.tab.fill("#runs-filter", "momentum")
    loss = header(view, "final_train_loss")
    wanted = [i for i, label in enumerate(rows["optimizer"]) if label == "momentum"]
    for direction in ("ascending", "descending"):
        loss.click()
        assert sorted_by(view)[4] == direction
        assert set(sorted_by(view)[:4]) == {"none"}
        expected = sorted((number(rows["final_train_loss"][i]) for i in wanted), reverse=direction == "descending")
        shown = [row[4].replace("∞", "inf") for row in view.rows()]
        # Shown to five digits.
        np.testing.assert_allclose(np.asarray(shown, float), expected[:25], rtol=1e-4)
    view.tab.fill("#runs-filter", "")
    header(view, "momentum").click()
    assert {row[2] for row in view.rows()} == {"0.9"}
    while view.tab.locator("#runs-more").is_visible():
        view.tab.click("#runs-more")
    assert [row[2] for row in view.rows()] == ["0.9"] * 120 + [""] * 60


def test_more_rows_are_shown_step_by_step(view):
    view.tab.fill("#runs-filter", "sgd")
    assert len(view.rows()) == 25
    assert view.text("#runs-count") == "60 runs of 180, the first 25 shown; 1200 more are not in this page."
    view.tab.click("#runs-more")
    assert len(view.rows()) == 50
    # The reader goes on where the new rows begin.
    assert view.tab.evaluate("document.activeElement.rowIndex") == 26
    view.tab.click("#runs-more")
    assert len(view.rows()) == 60
    assert not view.tab.locator("#runs-more").is_visible()
    view.tab.fill("#runs-filter", "no such run")
    assert view.text("#runs-count").startswith("0 runs of 180")


def test_the_file_has_exactly_the_runs_that_the_filter_leaves_in_the_order_shown(view, given):
    rows = given["table"]["rows"]
    view.tab.fill("#runs-filter", "  NESTEROV true ")
    seed = header(view, "seed")
    while sorted_by(view)[3] != "descending":
        seed.click()
    with view.tab.expect_download() as download:
        view.tab.click("#runs-csv")
    text = pathlib.Path(download.value.path()).read_bytes().decode()
    assert download.value.suggested_filename == "runs.csv"
    assert text.count("\r\n") == 1 + 10
    names, *lines = csv.reader(io.StringIO(text, newline=""))
    assert names == list(rows)
    exact = {None: "", True: "true", False: "false"}
    every = list(zip(*rows.values(), strict=True))
    left = [row for row in every if row[0] == "nesterov" and row[6] is True]
    left.sort(key=lambda row: -row[3])
    assert len(left) == 10

    def written(value):
        if value == "=1+1":
            return "'=1+1"
        return exact[value] if value is None or isinstance(value, bool) else value

    for line, row in zip(lines, left, strict=True):
        for trial, value in zip(line, map(written, row), strict=True):
            # Numbers as JavaScript writes them, which is not how Python does; read back they are the same.
            assert trial == value if isinstance(value, str) else float(trial) == value
    assert {line[7] for line in lines} == {"", "plain", 'has "quotes", a comma', "two\nlines", "'=1+1"}


def test_no_text_of_the_file_is_a_formula_and_numbers_stay_numbers(view):
    columns = [{"name": "=x", "kind": "text"}, {"name": "y", "kind": "number"}]
    texts = ["=1+1", "+x", "-x", "@x", "\t=x", "-0.5", "+1e3", "a=b", "-inf"]
    rows = [[text, -1.5] for text in texts]
    text = view.tab.evaluate("([columns, rows]) => csvOf(columns, rows)", [columns, rows])
    names, *lines = csv.reader(io.StringIO(text, newline=""))
    assert names == ["'=x", "y"]
    assert [line[0] for line in lines] == ["'=1+1", "'+x", "'-x", "'@x", "'\t=x", "-0.5", "+1e3", "a=b", "'-inf"]
    assert {line[1] for line in lines} == {"-1.5"}


def test_a_column_of_texts_has_each_of_them_once_and_rows_that_are_positions(view):
    columns = [{"name": "a", "kind": "text", "texts": ["x", "y"]}, {"name": "b", "kind": "number"}]
    rows = {"a": [1, 0, None], "b": [0.5, None, 2]}
    read = view.tab.evaluate("(table) => rowsOf(table)", {"columns": columns, "rows": rows})
    assert read == [["y", 0.5], ["x", None], [None, 2]]
