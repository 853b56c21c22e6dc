"""All numbers of a report as JSON, and as rows."""

from __future__ import annotations

import json

from ddmq.hpc.report.numbers import flat, numbers


def test_the_numbers_are_those_that_the_page_tells(gathered, run, letter, source):
    runs = [run(), run(id="b", result="dead", exit=2, host="n2")]
    letters = [letter("b", host="n2"), letter("c", host="n2")]
    told = numbers(gathered(runs, letters), source)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["messages"] == {"done": 1, "failed": 1}
    assert (told["start"], told["end"], told["wall"]) == (1000.0, 1010.0, 10.0)
    assert told["cores"] == {"used": 16.0, "busy": 20.0, "allocated": 20.0}
    assert told["durations"]["number"] == 1
    [group] = told["failures"]
    assert (group["how"], group["host"], group["runs"], group["dead"]) == (
        "exit 2",
        "n2",
        1,
        2,
    )
    assert sum(each["done"] for each in told["timeline"]) == 1
    assert [each["host"] for each in told["workers"]] == ["n1", "n2"]


def test_nothing_has_numbers_too(gathered, source):
    told = numbers(gathered([]), source)
    json.dumps(told, allow_nan=False)
    assert told["start"] is told["tail"] is None
    assert told["durations"]["below"]["0.5"] is None


def test_each_number_is_a_row(gathered, run, source):
    rows = list(flat(numbers(gathered([run()]), source)))
    assert all(set(row) == {"part", "number", "name", "value"} for row in rows)
    found = {(row["part"], row["number"], row["name"]): row["value"] for row in rows}
    assert found["messages", 1, "done"] == 1
    assert found["workers", 1, "host"] == "n1"
    assert found["durations", 1, "below.0.5"] == 10.0
    assert found["runs", 1, ""] == 1
