"""What is committed of the studies is what the pages say: findings, tables, links."""

import ast
import csv
import importlib
import json
import pathlib
import re

import gallery
import pytest
import study
import update_readme

from tests.experiments.pages import check_links

EXPERIMENTS = pathlib.Path(update_readme.__file__).parent
ROOT = EXPERIMENTS.parent
# Those that make their findings of what they measure.
MEASURED = tuple(name for name in gallery.STUDIES if gallery.measured_finding(name))
PAGES = (ROOT / "README.md", *EXPERIMENTS.glob("*.md"), *(ROOT / "momentum_jax").rglob("README.md"))
# The command's own output depends on the processor.
GENERATED = [(file, part) for file, parts in update_readme.PARTS.items() for part in parts if part != "momentum-jax"]


@pytest.mark.parametrize(("file", "part"), GENERATED, ids=[f"{file}: {part}" for file, part in GENERATED])
def test_a_generated_part_is_what_the_code_and_the_measurements_say(file, part):
    text = (ROOT / file).read_text()
    assert update_readme.replace(text, part, update_readme.PARTS[file][part]()) == text


def test_every_generated_part_of_a_page_is_written_by_the_script():
    marked = {(page, part) for page in PAGES for part in re.findall(r"<!-- generated: (.*) -->", page.read_text())}
    assert marked == {(ROOT / file, part) for file, parts in update_readme.PARTS.items() for part in parts}
    with pytest.raises(ValueError, match="0 generated parts are called speed"):
        update_readme.replace("<!-- generated: other -->\n<!-- end -->", "speed", "")


def anchors(page):
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_picture_of_a_page_leads_to_a_file_and_a_heading(page):
    check_links(page, page.read_text())


def test_the_findings_and_the_page_of_the_studies_are_what_was_measured():
    assert len(MEASURED) == 18
    for name in MEASURED:
        assert gallery.read(name).finding == gallery.measured_finding(name), name
    assert gallery.PAGE.read_text() == gallery.page()


@pytest.mark.parametrize("name", MEASURED)
def test_a_finding_is_made_of_the_numbers_beside_it(name):
    written = json.loads((EXPERIMENTS / f"{name}.json").read_text())
    # A study that is one comparison leaves the finding to `study.find`.
    find = getattr(importlib.import_module(name), "find", study.find)
    assert find(written["numbers"]) == written["finding"]


def test_the_intervals_in_the_finding_about_momentum_are_those_that_the_study_wrote():
    finding = ast.get_docstring(ast.parse((EXPERIMENTS / "does_momentum_help.py").read_text())).replace("\n", " ")
    written = (EXPERIMENTS / "does_momentum_help.json").read_text()
    intervals = re.findall(r"[−+][\d.]+ ?%? to [−+][\d.]+", finding)
    assert len(intervals) == 6
    for interval in [*intervals, "338 against 1940", "0.07129 against 0.224"]:
        assert interval in written, interval


def test_the_finding_about_the_printed_losses_is_what_the_committed_table_says():
    with (EXPERIMENTS / "blog_losses_quantiles.csv").open() as file:
        quantiles = [float(row["quantile"]) for row in csv.DictReader(file)]
    inside = sum(0.025 <= quantile <= 0.975 for quantile in quantiles)
    assert inside == len(quantiles) == 19
    assert f"mean quantile is {sum(quantiles) / 19:.2f}" in gallery.read("blog_losses").finding
