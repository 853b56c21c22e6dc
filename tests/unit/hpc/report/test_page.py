"""The page is whole, loads nothing, and shows what others wrote as text alone."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from ddmq.hpc.report.charts import figures
from ddmq.hpc.report.page import NO_CHARTS, page
from ddmq.hpc.report.sections import sections

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u2028\u202e\x1b[2J"
PLOTLY = "window.Plotly = {}; // </script> <!--"


class Elements(HTMLParser):
    """All elements, and what stands open at the end."""

    EMPTY = ("meta", "link", "br", "img")

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def made(gathered, run, letter, source):
    """Return a function that makes the page of some runs, with charts or without."""

    def make(runs, letters=(), plotly=None, source=source):
        found = gathered(runs, letters)
        return page(source, sections(found, source), figures(found), plotly)

    return make


def hostile(run, letter):
    names = {"host": HOSTILE, "job": HOSTILE, "text": HOSTILE, "signal": HOSTILE}
    runs = [run(result="dead", **names), run(result=HOSTILE, **names), run(**names)]
    letters = [
        letter("a", HOSTILE, HOSTILE, host=HOSTILE, stderr=HOSTILE, signal=HOSTILE)
    ]
    return runs, letters


@pytest.mark.parametrize("plotly", [None, PLOTLY])
def test_what_others_wrote_is_text(made, run, letter, source, plotly):
    its = source._replace(queues=(HOSTILE, "jobs"), root=HOSTILE)
    text = made(*hostile(run, letter), plotly, its)
    elements = Elements(text)
    assert elements.open == []
    assert elements.all("img") == []
    assert len(elements.all("script")) == (0 if plotly is None else 3)
    assert not any("onerror" in attributes for _, attributes in elements.found)
    assert not set("\u2028\u202e\x1b") & set(text)


@pytest.mark.parametrize("plotly", [None, PLOTLY])
def test_nothing_is_loaded_from_anywhere(made, run, plotly):
    elements = Elements(made([run()], plotly=plotly))
    for _, attributes in elements.found:
        for name in attributes.keys() & {"src", "href", "action", "srcset"}:
            assert attributes[name].startswith(("#", "data:"))
    [policy] = [
        each["content"] for each in elements.all("meta") if "http-equiv" in each
    ]
    assert "default-src 'none'" in policy


def test_only_the_scripts_of_the_page_may_run(made, run):
    text = made([run()], plotly=PLOTLY)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    sums = [
        base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts
    ]
    assert re.findall(r"'sha256-([^']+)'", text) == sums
    assert len(scripts) == 2
    assert "<!--" not in scripts[0]
    assert "script-src 'none'" in made([run()])


def test_no_text_of_a_chart_ends_the_script_that_it_stands_in(source):
    charts = {"slots": {"data": HOSTILE}}
    text = page(source, [], charts, PLOTLY)
    [data] = re.findall(r'id="charts">(.*?)</script>', text, re.DOTALL)
    assert json.loads(data) == charts
    assert "<" not in data


def test_every_chart_has_its_numbers_in_a_table(made, run):
    text = made([run(), run(result="dead", id="b", exit=1)], plotly=PLOTLY)
    charts = re.findall(r'id="chart-(\w+)"', text)
    assert charts == ["slots", "throughput", "durations", "memory", "workers"]
    for name in charts:
        inside = text.partition(f'id="chart-{name}"')[2].partition("</section>")[0]
        assert "<details><summary>Numbers: " in inside
        assert "<table>" in inside


def test_without_plotly_all_tables_are_open_and_it_says_how_to_get_charts(made, run):
    text = made([run()])
    assert "<details>" not in text
    assert 'class="chart"' not in text
    assert "pip install &#x27;ddmq[report]&#x27;" in text
    assert "ddmq[report]" in NO_CHARTS
    assert NO_CHARTS[:20] not in made([run()], plotly=PLOTLY)


def test_it_can_be_used_by_the_keyboard_and_read_aloud(made, run):
    elements = Elements(made([run()], plotly=PLOTLY))
    assert elements.all("html")[0]["lang"] == "en"
    sections_ = [each["id"] for each in elements.all("section")]
    assert [each["href"] for each in elements.all("a")][1:] == [
        f"#{id_}" for id_ in sections_
    ]
    ids = {each["id"] for _, each in elements.found if "id" in each}
    assert {each["aria-labelledby"] for each in elements.all("section")} <= ids
    scrolled = [each for each in elements.all("div") if "wide" in each.get("class", "")]
    assert scrolled
    assert all(each["tabindex"] == "0" and each["aria-label"] for each in scrolled)
    charts = [each for each in elements.all("div") if each.get("class") == "chart"]
    assert all(each["role"] == "img" and each["aria-label"] for each in charts)


def test_no_runs_make_a_page(made):
    for plotly in (None, PLOTLY):
        assert "No run is in the journals of queue jobs." in made([], plotly=plotly)
