"""The manifest of an output directory is printed for people and for programs."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest

from ddmq import Broker

PYTHON = sys.executable
RUN = {"id": "a1", "start": 1.0, "duration": 2.0, "result": "acked", "exit": 0}
RUN.update(signal=None, host="n1", job="", slot=0, peak_kib=1, cpu=0.0, log="")


def ddmq_worker(*words):
    """Run a worker, as a process, until the queue is empty."""
    command = [PYTHON, "-m", "ddmq", "worker", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def listed(sh, root, tmp_path):
    """Return a function that prints the manifest of two messages, in some format."""
    runs = [
        {**RUN, "text": 'in, "a"\x1b[2J.txt', "output": "a.gz"},
        {**RUN, "id": "b2", "result": "failed", "exit": 3, "text": "b", "start": 2.0},
    ]
    (root / "testmq" / "journal").mkdir()
    text = "".join(json.dumps(run) + "\n" for run in runs)
    (root / "testmq" / "journal" / "n1.1.jsonl").write_text(text)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.gz").touch()
    return lambda *form: sh.ok("results", root, "testmq", tmp_path / "out", *form)


def test_a_row_is_told_in_words(listed):
    a, b = listed().splitlines()
    assert a.split() == [
        "a1",
        "exit",
        "0",
        "2.00",
        "s",
        "a.gz",
        "in,",
        '"a"\\x1b[2J.txt',
    ]
    assert b.split() == ["b2", "exit", "3", "2.00", "s", "-", "b"]


def test_a_program_gets_objects_or_a_table(listed):
    objects = json.loads(listed("--format", "json"))
    assert objects[0]["input"] == 'in, "a"\x1b[2J.txt'
    table = list(csv.DictReader(io.StringIO(listed("--format", "csv"))))
    columns = ["input", "id", "file", "seconds", "exit", "directory"]
    assert list(table[0]) == columns
    assert table[0]["input"] == 'in, "a"\\x1b[2J.txt'
    assert table[1] == {k: str(v) for k, v in objects[1].items()}


def test_a_table_has_one_line_for_each_message(listed, root):
    [journal] = (root / "testmq" / "journal").iterdir()
    journal.write_text(journal.read_text().replace("in, ", "in,\\n\\r\\u2028"))
    assert len(listed("--format", "csv").splitlines()) == 3


def test_there_must_be_such_a_queue_and_directory(sh, root, tmp_path):
    assert "no such queue" in sh.error("results", root, "nothing", tmp_path)
    assert "/none: No such" in sh.error("results", root, "testmq", tmp_path / "none")


def test_the_directory_is_that_of_the_workers(sh, root, tmp_path):
    broker = Broker(root, create=True)
    for number, name in enumerate(("one", "two")):
        broker.publish("q", name)
        write = [PYTHON, "-c", "import os; open(os.environ['DDMQ_OUTPUT'], 'w')"]
        ddmq_worker("--output-dir", tmp_path / name, root, "q", "--", *write)
        told = sh.ok("results", root, "q").splitlines()
        assert len(told) == number + 1
    rows = json.loads(sh.ok("results", root, "q", "--format", "json"))
    assert [row["directory"] for row in rows] == [
        str(tmp_path / "one"),
        str(tmp_path / "two"),
    ]
    assert f"  {tmp_path / 'two' / rows[1]['file']}  two" in told[1]
    request = {"cmd": "results", "root": str(root), "queue": "q"}
    assert json.loads(sh.ok("json", json.dumps(request))) == {"results": rows}


def test_without_any_the_error_says_what_to_type(sh, root):
    said = sh.error("results", root, "testmq")
    assert said.endswith(f"`ddmq results {root} testmq DIR`\n")


def test_only_tables_are_printed_as_such(sh, root):
    status, _, err = sh("view", root, "--format", "csv")
    assert status == 2
    assert "csv" in err
