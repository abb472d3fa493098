"""The text of a page; what a browser makes of it is tested in `page/`."""

import copy
import html.parser
import json

import numpy as np
import pytest

from momentum_jax.comparison.answer import answer_of
from momentum_jax.report.document import comparison_document
from momentum_jax.report.page import page
from tests.report.judged import comparison_of
from tests.report.synthetic import document

MARKUP = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def given():
    return document()


def test_a_page_is_one_file_of_less_than_six_megabytes_and_the_same_each_time(given):
    text = page(given)
    assert text == page(copy.deepcopy(given))
    assert len(text.encode()) < 6_000_000


def test_what_ends_a_script_or_begins_markup_is_escaped_where_data_are_embedded(given):
    text = page({**given, "title": f"{MARKUP}\u2028", "notes": ["{{document}}", "<!--"]})
    start = text.index('id="document">') + len('id="document">')
    embedded = text[start : text.index("</script>", start)]
    assert not set("<>&\u2028") & set(embedded)
    back = json.loads(embedded)
    assert back == {**given, "title": f"{MARKUP}\u2028", "notes": ["{{document}}", "<!--"]}
    assert "<h1>&lt;/script&gt;&lt;img" in text


class Embedded(html.parser.HTMLParser):
    """The text of the script element with the id "document", as a program finds it."""

    def __init__(self, text):
        super().__init__()
        self.inside, self.text = False, ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.inside = tag == "script" and ("id", "document") in attributes

    def handle_data(self, data):
        self.text += data if self.inside else ""


def test_a_program_reads_the_answer_and_the_verdicts_from_the_page():
    compared = comparison_of()
    read = json.loads(Embedded(page(comparison_document(compared, "momentum-jax compare"))).text)
    assert read["answer"]["sentences"] == list(answer_of(compared).sentences)
    protocols = [protocol["name"] for protocol in read["matrix"]["protocols"]]
    metrics = [metric["name"] for metric in read["matrix"]["metrics"]]
    (pair,) = read["matrix"]["pairs"]
    cell = pair["cells"][metrics.index("test_loss")][protocols.index("tuned")]
    verdict = compared.verdict("tuned", "test_loss", pair["a"], pair["b"])
    assert (cell["outcome"], cell["median_a"], cell["low"]) == (
        verdict.outcome,
        verdict.median_a,
        verdict.difference.low,
    )


def test_the_answer_is_there_before_any_script_and_a_number_stays_with_its_sign(given):
    text = page({**given, "answer": {**given["answer"], "sentences": [f"{MARKUP} is 5 % lower."]}})
    said = "<p>&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt; is 5\xa0% lower.</p>"
    assert text.index(said) < text.index("<script")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_json_does_not_have_is_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        page({"title": "", "budget": [{"label": "sgd", "trials": [1], "best": [float(value)]}]})
