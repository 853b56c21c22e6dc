"""The charts show what was gathered, and are small."""

from __future__ import annotations

import json
from importlib import util

import pytest

from ddmq.hpc.report import charts
from ddmq.hpc.report.charts import figures, script


def test_there_are_no_charts_of_nothing(gathered):
    assert figures(gathered([])) == {}


def test_what_was_busy_and_there_is_drawn(gathered, run):
    found = gathered(
        [run(start=0.0, duration=64.0), run(slot=2, start=0.0, duration=32.0)]
    )
    there, busy = figures(found)["slots"]["data"]
    assert (there["name"], busy["name"]) == ("there", "busy")
    assert busy["y"][0] == 2.0
    assert busy["y"][-3] == 1.0
    assert max(there["y"]) == 2.0
    assert len(busy["x"]) == len(busy["y"]) == len(found.busy) + 1


def test_what_was_done_and_failed_is_drawn(gathered, run):
    runs = [run(id=f"{n}", start=float(n)) for n in range(640)]
    runs += [run(id="x", result="dead", exit=1)]
    found = gathered(runs)
    done, failed = figures(found)["throughput"]["data"]
    minutes = found.width / 60
    assert sum(done["y"][:-1]) * minutes == pytest.approx(640, rel=0.01)
    assert sum(failed["y"][:-1]) * minutes == pytest.approx(1, rel=0.01)


def test_bars_hold_all_runs(gathered, run):
    drawn = figures(gathered([run(duration=float(n)) for n in range(100)]))
    [bars] = drawn["durations"]["data"]
    assert sum(bars["y"]) == 100
    assert len(bars["customdata"]) == len(bars["y"]) <= 40
    assert sum(drawn["memory"]["data"][0]["y"]) == 100


def test_each_worker_is_a_row(gathered, run):
    found = gathered(
        [run(start=0.0, duration=4.0), run(host="n2", start=4.0, duration=4.0)]
    )
    [drawn] = figures(found)["workers"]["data"]
    assert drawn["y"] == ["1 n1", "2 n2"]
    first, second = drawn["z"]
    assert (first[0], second[0]) == (100, None)
    assert (first[-2], second[-2]) == (None, 100)


def test_a_name_that_plotly_would_obey_is_text(gathered, run):
    found = gathered([run(host='<a href="//evil">\x1b')])
    [drawn] = figures(found)["workers"]["data"]
    assert drawn["y"] == ["1 &lt;a href=&quot;//evil&quot;&gt;\\x1b"]


def test_a_thousand_workers_are_not_many_bytes(gathered, run):
    runs = [run(host=f"n{n}", start=float(n), duration=5000.0) for n in range(1000)]
    assert len(json.dumps(figures(gathered(runs)))) < 900_000


def test_figures_are_json_without_nan(gathered, run):
    found = gathered([run(duration=0.0), run(start=1e10, duration=1e10, slot=10**18)])
    json.dumps(figures(found), allow_nan=False)


def test_without_plotly_there_is_no_script(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "plotly", None)
    assert script() is None


def test_the_script_is_that_of_plotly():
    if util.find_spec("plotly") is None:
        pytest.skip("plotly is not installed")
    assert 3_000_000 < len(script()) < 5_000_000
    assert charts.BLUE != charts.ORANGE
