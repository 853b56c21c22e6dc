"""Which result belongs to which message, whatever stands in the journals."""

from __future__ import annotations

import json

import pytest

from ddmq.errors import StorageError
from ddmq.hpc.journal import Run
from ddmq.hpc.results.manifest import manifest


def run_of(id_, start, result="acked", **more):
    run = Run(
        id_, start, 2.0, result, 0, None, "host", "", 1, 2048, 0.5, "", "in " + id_
    )
    return run._replace(**more)


@pytest.fixture
def told(tmp_path):
    """Return a function that writes a journal, and returns the manifest of a directory."""
    (tmp_path / "out").mkdir()
    (tmp_path / "journal").mkdir()

    def told(*runs, files=()):
        lines = "".join(json.dumps(run._asdict()) + "\n" for run in runs)
        (tmp_path / "journal" / "0.jsonl").write_text(lines)
        for name in files:
            (tmp_path / "out" / name).touch()
        return manifest(str(tmp_path), str(tmp_path / "out"))

    return told


def test_each_message_has_one_row_in_the_order_of_the_runs(told):
    rows = told(run_of("b", 5.0), run_of("a", 3.0), files=["a", "b"])
    assert [tuple(row) for row in rows] == [
        ("in a", "a", "a", 2.0, 0),
        ("in b", "b", "b", 2.0, 0),
    ]


def test_the_run_that_succeeded_counts_and_else_the_last(told):
    failed = {"result": "dead", "exit": 3}
    [a, b] = told(
        *(
            run_of("a", 1.0),
            run_of("a", 9.0, **failed),
        ),  # the clock of a node was wrong
        *(run_of("b", 4.0, **failed), run_of("b", 2.0, result="failed", exit=1)),
        *(run_of("c", 1.0, "released"), run_of("d", 1.0, "lost")),
        files=["a", "b"],
    )
    assert (a.exit, a.file) == (0, "a")
    assert (b.exit, b.file) == (3, "")


def test_a_signal_is_named(told):
    [row] = told(run_of("a", 1.0, "failed", exit=None, signal="SIGKILL"))
    assert row.exit == "SIGKILL"


def test_a_file_is_named_only_where_it_is_seen(told):
    rows = told(
        run_of("a", 1.0, output="a.gz"),
        run_of("b", 2.0, output="gone.gz"),
        run_of("c", 3.0, output="../journal/0.jsonl"),
        run_of("d", 4.0, output="/etc/passwd"),
        files=["a.gz"],
    )
    assert [row.file for row in rows] == ["a.gz", "", "", ""]


def test_a_directory_that_can_not_be_listed_is_an_error(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        manifest(str(tmp_path), str(tmp_path / "none"))
