"""The text of a page; what a browser makes of it is tested in `page/`."""

import copy
import json

import numpy as np
import pytest

from momentum_jax.report.page import page
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


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_json_does_not_have_is_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        page({"title": "", "budget": [{"label": "sgd", "trials": [1], "best": [float(value)]}]})
