"""The manifest of an output directory is printed for people and for programs."""

from __future__ import annotations

import csv
import io
import json
import os
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
    columns = ["input", "id", "file", "seconds", "exit", "directory", "result"]
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


COPY = [
    *(PYTHON, "-c"),
    "import os, sys; text = sys.argv[1]; sys.exit(3) if 'bad' in text else 0; "
    "text == 'none' or open(os.environ['DDMQ_OUTPUT'], 'w').write(text + '\\n')",
    "{}",
]


@pytest.fixture
def ran(sh, root, tmp_path):
    """Return a function that lets commands copy messages, in two slots, to `out`."""

    def ran(*texts):
        (tmp_path / "texts").write_text("".join(f"{text}\n" for text in texts))
        sh.ok("publish", root, "testmq", "--from-file", tmp_path / "texts")
        options = ["-j", "2", "--retries", "0", "--no-brake", "--output-dir", "out"]
        worker = [PYTHON, "-m", "ddmq", "worker", *options, str(root), "testmq", "--"]
        subprocess.run([*worker, *COPY], cwd=tmp_path, capture_output=True)
        return tmp_path / "out"

    return ran


@pytest.mark.parametrize("number", [5, 12])
def test_results_are_written_in_the_order_of_the_lines(sh, root, tmp_path, ran, number):
    texts = [f"text {n}" for n in reversed(range(number))]
    ran(*texts)
    wanted = "".join(f"{text}\n" for text in texts)
    assert sh("results", root, "testmq", "--cat") == (0, wanted, "")
    assert sh("results", root, "testmq", "--concat", "-") == (0, wanted, "")
    whole = tmp_path / "whole"
    assert sh.ok("results", root, "testmq", "--concat", whole) == str(number)
    assert whole.read_text() == wanted
    rows = json.loads(sh.ok("results", root, "testmq", "--format", "json"))
    assert [row["input"] for row in rows] == texts
    whole.write_text("old")
    request = {"cmd": "results", "root": str(root), "queue": "testmq"}
    reply = json.loads(sh.ok("json", json.dumps({**request, "concat": str(whole)})))
    assert reply == {"results": number, "dead": 0, "unfinished": 0, "unreadable": 0}
    assert whole.read_text() == wanted


@pytest.mark.parametrize(
    ("texts", "later", "status", "said"),
    [
        (["a", "bad", "b"], [], 4, "no result of 1 dead letter; see `ddmq dead "),
        (
            ["a", "b"],
            ["c", "d"],
            5,
            "no result of 2 unfinished messages; see `ddmq view ",
        ),
        (["a", "none", "b"], [], 1, "no result of 1 acked message; see `ddmq log "),
        (["a", "bad", "b"], ["c"], 4, "no result of 1 unfinished message; "),
    ],
)
def test_what_has_no_result_is_told_and_has_a_status(
    sh, root, tmp_path, ran, caplog, texts, later, status, said
):
    ran(*texts)
    for text in later:
        sh.ok("publish", root, "testmq", text)
    caplog.clear()
    assert sh("results", root, "testmq", "--cat")[:2] == (status, "a\nb\n")
    assert said in caplog.text
    assert f" {root} testmq`" in caplog.text
    whole = tmp_path / "whole"
    assert sh("results", root, "testmq", "--concat", whole)[:2] == (status, "2\n")
    assert whole.read_text() == "a\nb\n"


@pytest.mark.parametrize("trap", ["link", "fifo", "directory", "removed"])
def test_no_link_is_followed_in_the_directory(sh, root, tmp_path, ran, caplog, trap):
    out = ran("a", "b")
    first, _ = json.loads(sh.ok("results", root, "testmq", "--format", "json"))
    (tmp_path / "secret").write_text("secret")
    (out / first["file"]).unlink()
    if trap == "link":
        (out / first["file"]).symlink_to(tmp_path / "secret")
    elif trap == "fifo":
        os.mkfifo(out / first["file"])
    elif trap == "directory":
        (out / first["file"]).mkdir()
    assert sh("results", root, "testmq", "--cat")[:2] == (1, "b\n")
    assert f"left out: {first['id']}" in caplog.text
    assert "secret" not in caplog.text


def test_a_file_that_is_no_ordinary_one_or_a_result_is_not_replaced(
    sh, root, tmp_path, ran
):
    out = ran("a")
    [row] = json.loads(sh.ok("results", root, "testmq", "--format", "json"))
    (tmp_path / "link").symlink_to(tmp_path / "target")
    said = sh.wrong("results", root, "testmq", "--concat", tmp_path / "link")
    assert "no ordinary file" in said
    said = sh.wrong("results", root, "testmq", "--concat", out / row["file"])
    assert f"it is the result of message {row['id']}" in said
    missing = tmp_path / "none" / "whole"
    assert "No such file" in sh.error("results", root, "testmq", "--concat", missing)
    assert (out / row["file"]).read_text() == "a\n"


def test_it_writes_to_one_place(sh, root, tmp_path):
    words = ["results", root, "testmq", tmp_path, "--cat"]
    assert "not both" in sh.wrong(*words, "--concat", tmp_path / "x")
    assert "has no --format" in sh.wrong(*words, "--format", "csv")
    request = {"cmd": "results", "root": str(root), "queue": "testmq", "cat": True}
    assert sh("json", json.dumps(request))[0] == 2


def test_only_tables_are_printed_as_such(sh, root):
    status, _, err = sh("view", root, "--format", "csv")
    assert status == 2
    assert "csv" in err
