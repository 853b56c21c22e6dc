"""Which result belongs to which message, whatever stands in the journals."""

from __future__ import annotations

import json
import os

import pytest

from ddmq.errors import DdmqError, StorageError
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


def test_each_message_has_one_row_in_the_order_of_the_runs(told, tmp_path):
    rows = told(run_of("b", 5.0), run_of("a", 3.0), files=["a", "b"])
    assert [tuple(row) for row in rows] == [
        ("in a", "a", "a", 2.0, 0, str(tmp_path / "out"), "acked"),
        ("in b", "b", "b", 2.0, 0, str(tmp_path / "out"), "acked"),
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


@pytest.fixture
def journals(tmp_path):
    """Return a function that writes a journal whose worker kept results in a directory."""
    (tmp_path / "journal").mkdir()

    def write(name, directory, *runs):
        lines = [{"output_dir": str(tmp_path / directory)}] if directory else []
        lines += [run._asdict() for run in runs]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / "journal" / name).write_text(text)
        (tmp_path / "journal" / name).chmod(0o644)

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").touch()
        (tmp_path / name / "b").touch()
    return write


def test_each_result_is_in_the_directory_of_its_own_worker(journals, tmp_path):
    journals("0.jsonl", "one", run_of("a", 1.0), run_of("gone", 2.0))
    journals("1.jsonl", "two", run_of("b", 3.0))
    journals("2.jsonl", None, run_of("c", 4.0))  # whose worker kept none
    rows = manifest(str(tmp_path))
    assert [(row.id, row.file, os.path.basename(row.directory)) for row in rows] == [
        ("a", "a", "one"),
        ("gone", "", "one"),
        ("b", "b", "two"),
        ("c", "", ""),
    ]


def test_a_directory_that_was_removed_has_no_results(journals, tmp_path, caplog):
    journals("0.jsonl", "one", run_of("a", 1.0))
    journals("1.jsonl", "removed", run_of("b", 2.0))
    assert [row.file for row in manifest(str(tmp_path))] == ["a", ""]
    assert "removed: No such file" in caplog.text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "no worker has noted an --output-dir; give the directory of the results"),
        ('{"output_dir": "relative"}\n', "no worker has noted"),
        ('{"output_dir": 7}\n', "no worker has noted"),
        ('{"output_dir": "/a\\u0000b"}\n', "no worker has noted"),
    ],
)
def test_where_none_is_named_the_error_has_the_command(tmp_path, line, said):
    (tmp_path / "q" / "journal").mkdir(parents=True)
    run = json.dumps(run_of("a", 1.0)._asdict()) + "\n"
    (tmp_path / "q" / "journal" / "0.jsonl").write_text(line + run)
    with pytest.raises(DdmqError, match=said) as raised:
        manifest(str(tmp_path / "q"))
    assert str(raised.value).endswith(f"`ddmq results {tmp_path} q DIR`")


def test_a_directory_that_another_user_names_is_not_read(
    journals, tmp_path, monkeypatch, caplog
):
    journals("0.jsonl", "one", run_of("a", 1.0))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(DdmqError, match="workers of other users keep results in") as e:
        manifest(str(tmp_path))
    assert str(tmp_path / "one") in str(e.value)
    assert [x.file for x in manifest(str(tmp_path), str(tmp_path / "one"))] == ["a"]


@pytest.mark.parametrize("results", [("acking", "dead"), ("dead", "acking")])
def test_what_became_of_a_run_may_be_told_by_another_journal(
    journals, tmp_path, results
):
    """Its worker began another one between the line before the ack, and the line after it."""
    for name, result in enumerate(results):
        journals(f"{name}.jsonl", "one", run_of("a", 1.0, result))
    [row] = manifest(str(tmp_path))
    assert (row.result, row.file) == ("dead", "")


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_directory_that_others_can_have_named_is_not_read(journals, tmp_path, mode):
    """A member of the group names one that only we may read, and the file is our own."""
    journals("0.jsonl", "one", run_of("a", 1.0))
    (tmp_path / "journal" / "0.jsonl").chmod(mode)
    with pytest.raises(DdmqError, match="workers of other users keep results in"):
        manifest(str(tmp_path))


def test_the_order_is_that_of_publishing_whenever_they_ran(told):
    bundle, single, late = "ab" * 10, "cd" * 10, "ef" * 10
    rows = told(
        run_of(late, 1.0, stamp=500),
        run_of(f"{bundle}-10", 2.0, stamp=110),
        run_of(
            f"{bundle}-2", 9.0, stamp=10**18
        ),  # it came back to the end of the queue
        run_of(f"{bundle}-1", 8.0, stamp=101),
        run_of(single, 7.0, stamp=99),
        run_of(single, 6.0, "failed", stamp=600),
    )
    ids = [single, f"{bundle}-1", f"{bundle}-2", f"{bundle}-10", late]
    assert [row.id for row in rows] == ids
