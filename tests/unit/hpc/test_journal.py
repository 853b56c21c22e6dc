"""What workers ran: written together, read in spite of whoever else writes there."""

from __future__ import annotations

import errno
import json
import os
import resource
import stat
import tracemalloc

import pytest
from support import FakeClock, in_time, open_files

from ddmq.clock import date
from ddmq.errors import StorageError
from ddmq.hpc import journal


def run_of(id_, duration=1.0, result="acked"):
    return journal.Run(
        id_, 1.0, duration, result, 0, None, "host", "", 1, 2048, 0.5, ""
    )


@pytest.fixture
def kept(tmp_path):
    return journal.Journal(str(tmp_path), "host", FakeClock(), None)


def test_lines_are_collected_and_written_together(tmp_path, kept):
    kept.add(run_of("a"))
    assert list(journal.read(str(tmp_path))) == []
    assert kept.due_in() == 1.0
    kept._clock.advance(1)
    kept.add(run_of("b"))
    assert kept.due_in() is None
    assert [run.id for run in journal.read(str(tmp_path))] == ["a", "b"]
    kept.close()


def journal_with(directory, *lines, name="0.jsonl"):
    """Make a journal that somebody else wrote."""
    (directory / "journal").mkdir(exist_ok=True)
    with open(directory / "journal" / name, "ab") as file:
        file.writelines(lines)


def line_with(**values):
    return json.dumps({**run_of("x")._asdict(), **values}).encode() + b"\n"


HOSTILE = [
    *(line_with(duration=value) for value in ("9", [], {}, None, True, "1e3", -1.0)),
    *(
        line_with(duration=value)
        for value in (float("nan"), float("inf"), 1e300, 10**400)
    ),
    *(line_with(start=value) for value in ("x", 1e300, float("nan"), -1e300)),
    *(line_with(**{key: []}) for key in run_of("x")._fields),
    *(line_with(**{key: {}}) for key in run_of("x")._fields),
    *(line_with(text=7), line_with(timed_out=1), line_with(timed_out=None)),
    *(line_with(peak_kib=1.5), line_with(peak_kib="1"), line_with(exit="0")),
    *(
        b"\xff\n",
        b"[]\n",
        b"\n",
        b"\0" * 100 + b"\n",
        b"[" * 60_000 + b"\n",
        b"1" * 9999 + b"\n",
    ),
    *(b'{"id": 1}\n', b"NaN\n", b"x" * 200_000 + b"\n", line_with(log="x" * 70_000)),
]


def test_what_is_no_run_is_left_out_and_counted(tmp_path, caplog):
    journal_with(tmp_path, line_with(id="a"), *HOSTILE, line_with(id="b"))
    runs = list(journal.read(str(tmp_path)))
    assert [run.id for run in runs] == ["a", "b"]
    assert [journal.told(run) for run in sorted(runs, key=lambda run: run.start)]
    [record] = caplog.records
    assert f"{tmp_path}/journal that are left out: {len(HOSTILE)};" in record.message
    assert journal.durations(str(tmp_path)) == [1.0]  # the end of it is recent


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"exit": None, "signal": "SIGKILL", "timed_out": True},
        {"text": "samples/a b.txt", "host": "n1.x-y", "log": "/l", "logged": "out err"},
        {"start": 1e10, "duration": 0.0, "cpu": 123456.789, "peak_kib": 10**17},
    ],
)
def test_a_line_that_is_read_quickly_is_what_a_worker_wrote(values):
    line, run = line_with(**values), run_of("x")._replace(**values)
    assert journal._usual.fullmatch(line.decode())
    assert journal._parsed(line) == journal._as_json(line) == run
    assert [*map(type, journal._parsed(line))] == [*map(type, run)]


@pytest.mark.parametrize(
    "values",
    [
        *(
            {"text": text}
            for text in ('"', "\\", "\n", "\x1f", "\x7f", "\xe9", "\ud800", "\u2028")
        ),
        *({"start": 1}, {"duration": 1e-9}, {"cpu": 1e300}, {"peak_kib": 10**18}),
        *({"signal": "x y"}, {"signal": ""}, {"slot": 1.0}, {"more": 1}),
    ],
)
def test_a_line_that_is_not_read_quickly_is_read_as_json(values):
    line = line_with(**values)
    assert not journal._usual.fullmatch(line.decode())
    assert journal._parsed(line) == (
        None if {"cpu", "slot"} & values.keys() else journal._as_json(line)
    )


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (b'"x"', b'"\tx"'),
        (b'"x"', b'"\xc3\xa9"'),
        (b'"x"', b'"\xff"'),
        (b'"slot": 1', b'"slot": 01'),
        (b'"start": 1.0', b'"start": 1.'),
        (b'"start": 1.0', b'"start": 9' + b"9" * 400 + b".0"),
        (b'"batch": 1}', b'"batch": 1} '),
        (b'"batch": 1}', b'"batch": 1}{'),
    ],
)
def test_both_ways_of_reading_find_the_same_in_what_nobody_writes(was, becomes):
    line = line_with().replace(was, becomes)
    assert line != line_with()
    found = journal._as_json(line)
    sound = found is not None and found.start < 1e10
    assert journal._parsed(line) == (found if sound else None)


def test_a_line_that_is_still_being_written_is_no_wrong_one(tmp_path, caplog):
    journal_with(tmp_path, line_with(id="a"), b'{"id": "b", "st')
    assert [run.id for run in journal.read(str(tmp_path))] == ["a"]
    assert caplog.records == []


def test_a_journal_without_end_takes_neither_memory_nor_time(tmp_path, caplog):
    """A terabyte of nothing, which takes no room on disk."""
    journal_with(tmp_path, line_with(id="a"))
    os.truncate(tmp_path / "journal" / "0.jsonl", 1 << 40)
    journal_with(tmp_path, line_with(id="b"), name="1.jsonl")
    os.utime(tmp_path / "journal" / "0.jsonl", (1, 1))
    tracemalloc.start()
    try:
        with in_time(20):
            assert [run.id for run in journal.read(str(tmp_path))] == ["a", "b"]
            assert journal.durations(str(tmp_path)) == [1.0]
            assert journal.compact(str(tmp_path), 1e10) == 2
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert "left out: 2;" in caplog.text


def test_where_journals_can_not_be_listed_nobody_knows_how_long_a_message_takes(
    tmp_path, monkeypatch
):
    """Whoever may write to the queue keeps the directory to himself."""
    journal_with(tmp_path, line_with())

    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    before = open_files()
    monkeypatch.setattr(os, "listdir", refuse)
    assert journal.durations(str(tmp_path)) == []
    with pytest.raises(StorageError, match=f"{tmp_path}/journal: Permission denied"):
        list(journal.read(str(tmp_path)))
    with pytest.raises(StorageError):
        journal.compact(str(tmp_path), 1e10)
    assert len(set(os.scandir("/proc/self/fd"))) == len(before)


def test_journals_are_merged_into_such_as_are_read_to_their_end(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "JOURNAL_BYTES", 10 * len(line_with()))
    monkeypatch.setattr(journal, "JOURNAL_LINE", 2 * len(line_with()))
    monkeypatch.setattr(journal, "_MERGED", 5)
    names = [f"{n:02d}" for n in range(22)]
    for name in names:
        journal_with(tmp_path, b"no run\n", line_with(id=name), name=f"{name}.jsonl")
        os.utime(tmp_path / "journal" / f"{name}.jsonl", (1, 1))
    assert journal.compact(str(tmp_path), 1e9) == 22
    files = list((tmp_path / "journal").iterdir())
    assert 5 <= len(files) <= 8
    assert max(path.stat().st_size for path in files) <= journal.JOURNAL_BYTES
    assert sorted(run.id for run in journal.read(str(tmp_path))) == names


def test_a_journal_that_is_away_while_others_are_merged_is_not_removed(
    tmp_path, monkeypatch
):
    for name in ("0.jsonl", "1.jsonl"):
        journal_with(tmp_path, line_with(id=name), name=name)
        os.utime(tmp_path / "journal" / name, (1, 1))
    monkeypatch.setattr(journal, "_parsed", _refuse)
    with pytest.raises(StorageError):
        journal.compact(str(tmp_path), 1e9)
    assert sorted(os.listdir(tmp_path / "journal")) == ["0.jsonl", "1.jsonl"]


def _refuse(_):
    raise OSError(errno.EIO, "Input/output error", "./0.jsonl")


def test_a_journal_that_can_not_be_read_is_left_out_and_told(tmp_path, kept, caplog):
    kept.add(run_of("a"))
    kept.flush()
    kept.close()
    (tmp_path / "journal" / "0.jsonl").symlink_to(
        next((tmp_path / "journal").iterdir())
    )
    (tmp_path / "journal" / "1.jsonl").mkdir()
    assert [run.id for run in journal.read(str(tmp_path))] == ["a"]
    assert [record.message.split()[1:4] for record in caplog.records] == [
        ["is", "left", "out:"],
        ["is", "left", "out:"],
    ]


def test_a_journal_goes_on_in_another_file(tmp_path, kept, monkeypatch):
    monkeypatch.setattr(journal, "_ROTATED", 100)
    for name in "abc":
        kept.add(run_of(name))
        kept.flush()
    kept.close()
    assert len(os.listdir(tmp_path / "journal")) > 1
    assert sorted(run.id for run in journal.read(str(tmp_path))) == ["a", "b", "c"]


def test_a_journal_that_can_not_be_written_stops_nobody_and_is_written_later(
    tmp_path, kept, caplog
):
    (tmp_path / "journal").write_text("in the way")
    for name in "ab":
        kept.add(run_of(name))
        kept.flush()
    assert len(caplog.records) == 1
    assert kept.due_in() == 30
    (tmp_path / "journal").unlink()
    kept.flush()
    assert (
        list(journal.read(str(tmp_path))) == []
    )  # the server is not asked at each ack
    kept._clock.advance(30)
    kept.add(run_of("c"))
    assert [run.id for run in journal.read(str(tmp_path))] == ["a", "b", "c"]
    kept.close()


def test_what_was_written_in_part_is_read_once(tmp_path, kept):
    kept.add(run_of("a"))
    kept.flush()
    for name in "bc":
        kept.add(run_of(name))
    [path] = (tmp_path / "journal").iterdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 9, before[1]))
    try:
        kept.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert b"".join(path.read_bytes().splitlines(keepends=True)[1:]) == b'{"id": "b'
    assert [run.id for run in journal.read(str(tmp_path))] == ["a"]
    kept.flush(at_end=True)
    kept.close()
    assert [run.id for run in journal.read(str(tmp_path))] == ["a", "b", "c"]


def test_lines_that_can_not_be_written_take_no_memory_without_end(
    tmp_path, kept, monkeypatch
):
    monkeypatch.setattr(journal, "_MOST_KEPT", 2)
    (tmp_path / "journal").write_text("in the way")
    for name in "abc":
        kept.add(run_of(name))
        kept.flush()
    (tmp_path / "journal").unlink()
    kept.flush(at_end=True)
    kept.close()
    assert [run.id for run in journal.read(str(tmp_path))] == ["a", "b"]


def test_old_journals_are_merged_once(tmp_path):
    for name in "abc":
        kept = journal.Journal(str(tmp_path), "host", FakeClock(), None)
        kept.add(run_of(name))
        kept.flush()
        kept.close()
    files = sorted((tmp_path / "journal").iterdir())
    saved = {path: path.read_bytes() for path in files[:2]}
    for path in files[:2]:
        os.utime(path, (1, 1))
    now = os.stat(files[2]).st_mtime
    assert journal.compact(str(tmp_path), now) == 2
    for path, data in saved.items():  # as if it had died before it removed them
        path.write_bytes(data)
    assert sorted(run.id for run in journal.read(str(tmp_path))) == ["a", "b", "c"]
    journal.compact(str(tmp_path), now)
    assert not any(path.exists() for path in saved)
    assert sorted(run.id for run in journal.read(str(tmp_path))) == ["a", "b", "c"]


def test_a_worker_whose_journal_was_merged_while_it_idled_goes_on_in_another(
    tmp_path, kept
):
    journal_with(tmp_path, line_with(id="other"))
    kept.add(run_of("a"))
    kept.flush()
    for path in (tmp_path / "journal").iterdir():
        os.utime(path, (1, 1))
    assert journal.compact(str(tmp_path), 1e9) == 2
    kept.add(run_of("b"))
    kept.flush()
    kept.close()
    assert ids(tmp_path) == ["a", "b", "other"]


def test_where_names_are_not_counted_each_line_is_written_once(
    tmp_path, kept, monkeypatch
):
    real = os.fstat

    def fstat(descriptor):
        fields = list(real(descriptor))
        fields[stat.ST_NLINK] = 0
        return os.stat_result(fields)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fstat)
        for id_ in "abc":
            kept.add(run_of(id_))
            kept.flush()
    kept.close()
    assert ids(tmp_path) == ["a", "b", "c"]
    assert len(os.listdir(tmp_path / "journal")) == 1


def test_a_worker_that_idled_for_long_goes_on_in_another_before_any_is_merged(
    tmp_path, clock
):
    """An NFSv4 client may write to a removed file, and is told neither by an error nor a count."""
    kept = journal.Journal(str(tmp_path), "host", clock, None)
    for name, hours in (("a", 23), ("b", 25), ("c", 0)):
        kept.add(run_of(name))
        kept.flush()
        clock.advance(hours * 3600)
    kept.close()
    files = sorted((tmp_path / "journal").iterdir())
    assert [path.read_bytes().count(b"\n") for path in files] == [2, 1]


def test_a_journal_that_is_removed_each_time_keeps_nobody_busy(
    tmp_path, kept, monkeypatch
):
    new_file = kept._new_file

    def removed():
        descriptor = new_file()
        for path in (tmp_path / "journal").iterdir():
            path.unlink()
        return descriptor

    monkeypatch.setattr(kept, "_new_file", removed)
    kept.add(run_of("a"))
    with in_time(5):
        kept.flush()
    kept.close()


@pytest.fixture
def old(tmp_path):
    """Three journals of workers that ended long ago, with a run each."""
    for name in "abc":
        journal_with(tmp_path, line_with(id=name), name=f"{name}.jsonl")
        os.utime(tmp_path / "journal" / f"{name}.jsonl", (1, 1))
    return tmp_path / "journal"


@pytest.mark.parametrize(("mode", "expected"), [(0o2770, 0o640), (0o700, 0o600)])
def test_what_is_merged_can_be_read_by_all_who_share_the_queue(
    tmp_path, old, mode, expected
):
    old.chmod(mode)
    umask = os.umask(0o077)
    try:
        journal.compact(str(tmp_path), 1e9)
    finally:
        os.umask(umask)
    [merged] = old.iterdir()
    assert oct(merged.stat().st_mode & 0o7777) == oct(expected)


def ids(place):
    return sorted(run.id for run in journal.read(str(place)))


def test_what_two_merge_at_the_same_time_is_read_once(tmp_path, old, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(journal._Journals, "remove", lambda *_: None)
        journal.compact(str(tmp_path), 1e9)
    for path in old.glob("compacted-*"):  # as if the other one did not see it
        path.rename(tmp_path / path.name)
    journal.compact(str(tmp_path), 1e9)
    for path in tmp_path.glob("compacted-*"):
        path.rename(old / path.name)
        os.utime(old / path.name, (1, 1))
    assert len(os.listdir(old)) == 2
    assert ids(tmp_path) == ["a", "b", "c"]
    for path in old.iterdir():
        os.utime(path, (1, 1))
    journal.compact(str(tmp_path), 1e9)
    assert len(os.listdir(old)) == 1
    assert ids(tmp_path) == ["a", "b", "c"]


def test_what_another_merges_meanwhile_is_no_error(tmp_path, old, monkeypatch):
    grouped = journal._grouped

    def others_are_faster(names, journals):
        for group in grouped(names, journals):
            monkeypatch.setattr(journal, "_grouped", grouped)
            journal.compact(str(tmp_path), 1e9)
            yield group

    monkeypatch.setattr(journal, "_grouped", others_are_faster)
    journal.compact(str(tmp_path), 1e9)
    assert len(os.listdir(old)) == 1
    assert ids(tmp_path) == ["a", "b", "c"]


@pytest.mark.parametrize("after", [0, 1, 2])
def test_what_is_merged_while_it_is_read_is_read_once(tmp_path, old, after):
    found = []
    for number, (_, runs) in enumerate(journal.read_each(str(tmp_path))):
        found += [run.id for run in runs]
        if number == after:
            journal.compact(str(tmp_path), 1e9)
    assert sorted(found) == ["a", "b", "c"]


def test_each_run_of_a_merged_journal_is_told_with_its_own(tmp_path, old):
    journal.compact(str(tmp_path), 1e9)
    [_] = os.listdir(old)
    found = {name: [x.id for x in runs] for name, runs in journal.read_each(tmp_path)}
    assert found == {f"{name}.jsonl": [name] for name in "abc"}


def test_no_name_of_a_journal_reads_as_lines_of_it(tmp_path, old):
    evil = 'x"}\n{"from": "d.jsonl"}\n\udcff.jsonl'
    journal_with(tmp_path, line_with(id="evil"), name=evil)
    os.utime(old / evil, (1, 1))
    journal_with(tmp_path, line_with(id="d"), name="d.jsonl")
    journal.compact(str(tmp_path), 1e9)
    assert ids(tmp_path) == ["a", "b", "c", "d", "evil"]
    [merged] = old.glob("compacted-*")
    with open(merged, "ab") as file:
        file.write(b'{"from": \n{"from": [1]}\n' + line_with(id="e"))
    assert ids(tmp_path) == ["a", "b", "c", "d", "e", "evil"]


def test_a_worker_merges_what_others_left_where_there_is_much(
    tmp_path, old, kept, monkeypatch
):
    kept.tidy()  # it wrote nothing
    kept.add(run_of("d"))
    kept.flush()
    kept.close()
    kept.tidy()
    assert len(os.listdir(old)) == 4
    monkeypatch.setattr(journal, "_MANY", 3)
    kept.tidy()
    assert len(os.listdir(old)) == 2  # its own is too young
    assert ids(tmp_path) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize(
    ("then", "result", "is_unsure"),
    [
        (lambda kept: None, "acked", True),
        (lambda kept: kept.confirm(run_of("b", result="acked")), "acked", False),
        (lambda kept: kept.add(run_of("b", result="lost")), "lost", False),
        (lambda kept: kept.add(run_of("b", result="dead")), "dead", False),
    ],
)
def test_what_a_worker_was_about_to_ack_is_acked_unless_it_says_otherwise(
    tmp_path, kept, then, result, is_unsure, merged
):
    for id_ in "ab":
        kept.add(run_of(id_, result="acking"))
        kept.flush()
        kept.confirm(run_of("a"))
        assert kept.due_in() is None  # what confirms waits for other lines, or the end
    then(kept)
    kept.flush(at_end=True)
    kept.close()
    if merged:
        [name] = os.listdir(tmp_path / "journal")
        os.utime(tmp_path / "journal" / name, (1, 1))
        journal_with(tmp_path, line_with(id="c"))
        os.utime(tmp_path / "journal" / "0.jsonl", (1, 1))
        assert journal.compact(str(tmp_path), 1e9) == 2
    unsure = []
    runs = journal.read(str(tmp_path), unsure.append)
    told = {run.id: run.result for run in runs if run.id != "c"}
    assert told == {"a": "acked", "b": result}
    assert [run.id for run in unsure] == ["b"] * is_unsure


def test_durations_are_those_of_successes(tmp_path, kept):
    assert journal.durations(str(tmp_path)) == []
    kept.add(run_of("a", 2.0))
    kept.add(run_of("b", 9.0, "failed"))
    kept.flush()
    kept.close()
    assert journal.durations(str(tmp_path)) == [2.0]


def test_a_journal_line_is_told_in_words():
    run = run_of("abc", 2.5)._replace(job="7", text="a.txt")
    wanted = "abc acked exit 0 2.50 s 2 MiB host job 7 a.txt"
    assert journal.told(run).split() == [*date(1.0).split(), *wanted.split()]
    assert "timed out" in journal.told(run._replace(timed_out=True, signal="SIGTERM"))


def test_a_journal_of_before_there_were_texts_is_read(tmp_path):
    old = json.loads(line_with())
    del old["text"], old["timed_out"]
    journal_with(tmp_path, json.dumps(old).encode() + b"\n")
    assert list(journal.read(str(tmp_path))) == [run_of("x")]


def test_the_longest_text_that_is_kept_is_read_again(tmp_path, kept):
    text = journal.beginning("\U0001f600" * 5000)
    assert (len(text), text[-1]) == (1000, "…")
    assert journal.beginning("short") == "short"
    kept.add(run_of("a")._replace(text=text))
    kept.flush()
    assert [run.text for run in journal.read(str(tmp_path))] == [text]
    kept.close()


# What the job of a worker may use

GRANTED = journal.Granted(1000.0, 4, 4 << 20, 7200.0)


def all_of(directory):
    """Return all runs, and what is noted of jobs."""
    noted = []
    parts = journal.read_each(str(directory), noted.append)
    return [run.id for _, runs in parts for run in runs], noted


def test_what_a_job_may_use_is_noted_once_before_the_first_run(tmp_path, monkeypatch):
    kept = journal.Journal(str(tmp_path), "host", FakeClock(), None, granted=GRANTED)
    kept.flush()
    assert not (
        tmp_path / "journal"
    ).exists()  # of one that ran nothing, nothing is told
    monkeypatch.setattr(journal, "_ROTATED", 1)
    for id_ in "abc":
        kept.add(run_of(id_))
        kept.flush()
    kept.close()
    assert len(list((tmp_path / "journal").iterdir())) == 3
    assert all_of(tmp_path) == (["a", "b", "c"], [GRANTED])
    assert [run.id for run in journal.read(str(tmp_path))] == ["a", "b", "c"]
    assert journal.durations(str(tmp_path)) == [1.0] * 3


def outputs_of(directory):
    """Return the directories of results that journals name, with the owners of these."""
    named = []
    parts = journal.read_each(
        str(directory), note_output=lambda *each: named.append(each)
    )
    ids = [run.id for _, runs in parts for run in runs]
    return ids, named


def test_each_file_of_a_journal_names_the_directory_of_results(tmp_path, monkeypatch):
    kept = journal.Journal(
        str(tmp_path), "host", FakeClock(), None, output_dir="/a b\n"
    )
    monkeypatch.setattr(journal, "_ROTATED", 1)
    for id_ in "ab":
        kept.add(run_of(id_))
        kept.flush()
    kept.close()
    ours = ("/a b\n", os.getuid())
    assert outputs_of(tmp_path) == (["a", "b"], [ours, ours])
    for file in (tmp_path / "journal").iterdir():
        os.utime(file, (0, 0))
    assert journal.compact(str(tmp_path), 1e9) == 2
    ids, named = outputs_of(tmp_path)
    assert (sorted(ids), named) == (["a", "b"], [ours, ours])


@pytest.mark.parametrize("mode", [None, 0o2770])
def test_nobody_else_can_write_to_a_journal(tmp_path, monkeypatch, mode):
    """Neither to what a worker writes nor to what is merged: it names a directory as its owner's."""
    kept = journal.Journal(str(tmp_path), "h", FakeClock(), mode, output_dir="/a")
    monkeypatch.setattr(journal, "_ROTATED", 1)
    umask = os.umask(0o002)
    try:
        for id_ in "ab":
            kept.add(run_of(id_))
            kept.flush()
        kept.close()
        for merged in (0, 2):
            files = [*(tmp_path / "journal").iterdir()]
            assert len(files) == 2 - merged // 2
            for file in files:
                assert file.stat().st_mode & 0o022 == 0
                os.utime(file, (0, 0))
            assert outputs_of(tmp_path)[1] == [("/a", os.getuid())] * 2
            journal.compact(str(tmp_path), 1e9)
    finally:
        os.umask(umask)


def test_a_merged_journal_names_no_directory_that_others_can_have_named(tmp_path):
    for id_ in "ab":
        kept = journal.Journal(str(tmp_path), "h", FakeClock(), None, output_dir="/x")
        kept.add(run_of(id_))
        kept.flush()
        kept.close()
    for file in (tmp_path / "journal").iterdir():
        os.utime(file, (0, 0))
        file.chmod(0o664)
    assert journal.compact(str(tmp_path), 1e9) == 2
    assert outputs_of(tmp_path)[1] == []


@pytest.mark.root("make a file of another user")
def test_a_merged_journal_names_no_directory_that_another_user_named(tmp_path):
    for id_ in "ab":
        kept = journal.Journal(
            str(tmp_path), "host", FakeClock(), None, output_dir=f"/{id_}"
        )
        kept.add(run_of(id_))
        kept.flush()
        kept.close()
        for file in (tmp_path / "journal").iterdir():
            if b'"/a"' in file.read_bytes():
                os.chown(file, 12345, -1)
            os.utime(file, (0, 0))
    assert journal.compact(str(tmp_path), 1e9) == 2
    ids, named = outputs_of(tmp_path)
    assert (sorted(ids), named) == (["a", "b"], [("/b", 0)])


def test_it_survives_that_journals_are_merged(tmp_path):
    for id_ in "ab":
        kept = journal.Journal(
            str(tmp_path), "host", FakeClock(), None, granted=GRANTED
        )
        kept.add(run_of(id_))
        kept.flush()
        kept.close()
    for file in (tmp_path / "journal").iterdir():
        os.utime(file, (0, 0))
    assert journal.compact(str(tmp_path), 1e9) == 2
    ids, noted = all_of(tmp_path)
    assert (sorted(ids), noted) == (["a", "b"], [GRANTED] * 2)


def test_what_no_worker_would_note_is_left_out(tmp_path, caplog):
    sound = GRANTED._asdict()
    wrong = [
        *({**sound, "memory_kib": None, "seconds": None}, [], 7, None, {}),
        *({**sound, "start": x} for x in (None, -1, "1", [], True, 10**400)),
        *({**sound, "slots": x} for x in (None, -1, 1e300)),
    ]
    journal_with(
        tmp_path, *(json.dumps({"granted": x}).encode() + b"\n" for x in wrong)
    )
    journal_with(
        tmp_path, b'{"granted": NaN}\n', b'{"granted": {"start": ' + b"[" * 9000
    )
    journal_with(tmp_path, b"\n")
    assert all_of(tmp_path) == ([], [])
    assert f"left out: {len(wrong) + 2};" in caplog.text
    half = {**sound, "memory_kib": "much"}
    journal_with(tmp_path, json.dumps({"granted": half}).encode() + b"\n")
    assert all_of(tmp_path)[1] == [GRANTED._replace(memory_kib=None)]
