"""The small parts of a worker: options, placeholders, journal, streams, deadline, results."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import threading
import tracemalloc
from contextlib import ExitStack, suppress
from functools import partial
from queue import SimpleQueue

import pytest
from support import SYSTEM_CALLS, Calls, FakeClock, in_time

from ddmq import Broker
from ddmq.clock import Clock
from ddmq.errors import InvalidArgument, StorageError
from ddmq.fs import FileSystem
from ddmq.hpc import guardian, journal, options, placeholders
from ddmq.hpc.arguments import divided
from ddmq.hpc.deadline import Deadline, Durations
from ddmq.hpc.execution import Execution
from ddmq.hpc.folder import Folder
from ddmq.hpc.heartbeat import Heartbeat
from ddmq.hpc.result import (
    UNFINISHED,
    Result,
    Unfinished,
    remove_leftovers,
    remove_leftovers_of_dead,
    try_output,
)
from ddmq.hpc.runner import Outcome, Process
from ddmq.hpc.signals import Notice, Signals
from ddmq.hpc.stream import Stream
from ddmq.hpc.trouble import may_pass

# Options


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90", 90),
        ("0.5", 0.5),
        ("2:00", 120),
        ("1:00:00", 3600),
        ("2-00:00:30", 172830),
    ],
)
def test_times_are_read_as_schedulers_write_them(text, value):
    assert options.seconds(text) == value


@pytest.mark.parametrize("text", ["", "x", "1:2:3:4", "-1", "nan", "inf", "1-x", ":"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InvalidArgument, match="no time"):
        options.seconds(text)


def test_a_moment_is_a_number_or_a_date():
    assert options.moment("1700000000") == 1.7e9
    assert options.moment("2023-11-14T22:13:20+00:00") == 1.7e9
    with pytest.raises(InvalidArgument, match="no time"):
        options.moment("soon")


def test_exit_statuses_are_lists_with_ranges():
    assert options.codes("2,64-66,") == {2, 64, 65, 66}
    assert options.codes("") == frozenset()
    for text in ("x", "256", "-1", "1-x"):
        with pytest.raises(InvalidArgument, match="no exit status"):
            options.codes(text)


def test_sizes_have_units():
    assert (options.size("10"), options.size("10k")) == (10, 10240)
    assert options.size("2G") == 2 << 30
    for text in ("", "K", "1.5M", "10KB"):
        with pytest.raises(InvalidArgument, match="no size"):
            options.size(text)


def test_signals_have_names_and_numbers():
    assert options.signal_number("term") == signal.SIGTERM
    assert options.signal_number("SIGUSR1") == signal.SIGUSR1
    assert options.signal_number("9") == signal.SIGKILL
    for text in ("NOPE", "999", ""):
        with pytest.raises(InvalidArgument, match="no signal"):
            options.signal_number(text)


def test_a_limit_is_a_number_or_a_share():
    assert options.limit("3") == (3, None)
    assert options.limit("3%") == (None, 0.03)
    for text in ("", "0", "101%", "x%", "-1"):
        with pytest.raises(InvalidArgument, match="neither"):
            options.limit(text)


def test_a_queue_to_move_to_has_a_proper_name():
    assert options.on_exit("137=queue:bigmem") == (137, "bigmem")
    for text in ("137", "137=bigmem", "x=queue:a", "1=queue:../a", "1=queue:"):
        with pytest.raises(InvalidArgument):
            options.on_exit(text)


# Placeholders


def test_what_is_put_in_is_not_looked_at_again():
    values = placeholders.values_of("{id} {}", "i1", 3)
    assert placeholders.filled(["{}-{id}", "{slot}"], values) == ["{id} {}-i1", "3"]


def test_a_field_can_not_take_the_place_of_a_placeholder():
    values = placeholders.values_of({"id": "mine", "a b": 1}, "i1", 1)
    assert placeholders.filled(["{id}", "{a b}"], values) == ["i1", "{a b}"]


@pytest.mark.parametrize(
    ("text", "directory", "name", "stem"),
    [
        ("a", ".", "a", "a"),
        ("a/b.c", "a", "b.c", "b"),
        ("/x/.hidden", "/x", ".hidden", ".hidden"),
        ("a.b/c", "a.b", "c", "c"),
    ],
)
def test_paths_are_taken_apart(text, directory, name, stem):
    values = placeholders.values_of(text, "", 1)
    assert (values["//"], values["/"], values["/."]) == (directory, name, stem)


def test_names_of_variables_are_made_fit():
    assert placeholders.variable("in-put é") == "FIELD_IN_PUT__"


# The journal


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

    monkeypatch.setattr(os, "listdir", refuse)
    before = set(os.scandir("/proc/self/fd"))
    assert journal.durations(str(tmp_path)) == []
    with pytest.raises(StorageError, match=f"{tmp_path}/journal: Permission denied"):
        list(journal.read(str(tmp_path)))
    with pytest.raises(StorageError):
        journal.compact(str(tmp_path), 1e10)
    assert len(set(os.scandir("/proc/self/fd"))) == len(before)


def test_journals_are_merged_into_such_as_are_read_to_their_end(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "_MOST", 10 * len(line_with()))
    monkeypatch.setattr(journal, "_LINE", 2 * len(line_with()))
    monkeypatch.setattr(journal, "_MERGED", 5)
    names = [f"{n:02d}" for n in range(22)]
    for name in names:
        journal_with(tmp_path, b"no run\n", line_with(id=name), name=f"{name}.jsonl")
        os.utime(tmp_path / "journal" / f"{name}.jsonl", (1, 1))
    assert journal.compact(str(tmp_path), 1e9) == 22
    files = list((tmp_path / "journal").iterdir())
    assert 5 <= len(files) <= 8
    assert max(path.stat().st_size for path in files) <= journal._MOST
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


def test_a_journal_that_can_not_be_written_stops_nobody(tmp_path, kept, caplog):
    (tmp_path / "journal").write_text("in the way")
    kept.add(run_of("a"))
    kept.flush()
    kept.add(run_of("b"))
    kept.flush()
    assert len(caplog.records) == 1


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


def test_durations_are_those_of_successes(tmp_path, kept):
    assert journal.durations(str(tmp_path)) == []
    kept.add(run_of("a", 2.0))
    kept.add(run_of("b", 9.0, "failed"))
    kept.flush()
    kept.close()
    assert journal.durations(str(tmp_path)) == [2.0]


# The deadline


def test_without_a_deadline_everything_may_start():
    assert Deadline(None).allows(1e12, Durations([1e9]))
    assert Deadline(None).passes_in(0, 10) is None


@pytest.mark.parametrize(
    ("deadline", "durations", "allowed"),
    [
        (Deadline(100), [], True),
        (Deadline(100), [49.0] * 95 + [1000.0] * 5, False),
        (Deadline(100), [49.0] * 96 + [1000.0] * 4, True),
        (Deadline(100, least=90), [1.0], False),
        (Deadline(100, least=90, fixed=5), [1000.0], True),
        (Deadline(100, fixed=51), [], False),
    ],
)
def test_nothing_starts_that_would_not_finish(deadline, durations, allowed):
    assert deadline.allows(50, Durations(durations)) == allowed


def test_the_commands_are_asked_to_end_before_the_deadline():
    assert Deadline(100).passes_in(50, 10) == 40


@pytest.mark.parametrize(
    ("deadline", "notice", "ended"),
    [
        (Deadline(None), None, False),
        (Deadline(None), Notice("SIGTERM", 1000), False),
        (Deadline(1310), None, True),
        (Deadline(1311), None, False),
        (Deadline(2010, fixed=1000), None, True),
        (Deadline(1100), Notice("SIGTERM", 1000), False),
        (Deadline(1011), Notice("SIGUSR1", 1000), False),
        (Deadline(1009), Notice("SIGTERM", 998), False),  # our clock: while it drained
        (Deadline(1010), Notice("SIGTERM", 1000), True),
        (Deadline(1310, warning="SIGUSR1"), Notice("SIGUSR1", 1000), True),
        (Deadline(1311, warning="SIGUSR1"), Notice("SIGUSR1", 1000), False),
        (Deadline(1011, warning="SIGUSR1"), Notice("SIGTERM", 1000), False),
    ],
)
def test_the_end_of_a_job_is_no_cancellation(deadline, notice, ended):
    assert deadline.ended(1000, 10, Durations(), notice) == ended


def test_of_nothing_known_the_percentile_is_zero():
    assert Durations().percentile() == 0
    assert Durations([3.0]).percentile() == 3.0


def test_old_durations_are_forgotten():
    durations = Durations([9.0] * 3000)
    for _ in range(1901):
        durations.add(1.0)
    assert durations.percentile() == 1.0


# Streams and results


def saved(stream, directory):
    with Folder.open(str(directory)) as folder:
        return stream.save(folder, "log")


def test_both_ends_of_an_output_are_kept(tmp_path):
    stream = Stream(str(tmp_path), limit=10)
    for part in (b"01", b"23456789", b"ab", b"cdefgh"):
        os.write(stream.write_end, part)
    stream.started()
    assert not stream.pump()
    assert stream.tail() == "0123456789abcdefgh"
    assert saved(stream, tmp_path)
    stream.close()
    text = (tmp_path / "log").read_text()
    assert text == "01234\n[... 8 bytes left out ...]\ndefgh"


def test_a_short_output_is_kept_whole(tmp_path):
    stream = Stream(str(tmp_path), limit=10)
    os.write(stream.write_end, b"0123456")
    stream.started()
    stream.pump()
    saved(stream, tmp_path)
    stream.close()
    assert (tmp_path / "log").read_text() == "0123456"


def test_no_output_makes_no_file(tmp_path):
    stream = Stream(str(tmp_path), limit=10)
    stream.started()
    assert not saved(stream, tmp_path)
    stream.close()
    assert os.listdir(tmp_path) == []


ID, TOKEN = "0123456789abcdef0123", "0123456789abcdef"


def test_a_result_replaces_an_earlier_one(tmp_path):
    for text in ("first", "second"):
        result = Result(str(tmp_path), "id", TOKEN)
        with open(result.path, "w") as file:
            file.write(text)
        result.keep(sync=True)
    assert (tmp_path / "id").read_text() == "second"


@pytest.mark.parametrize("sync", [True, False])
def test_a_result_is_synced_before_it_has_its_name_and_the_name_after(
    tmp_path, monkeypatch, sync
):
    synced, real = [], os.fsync

    def noted(descriptor):
        synced.append((os.fstat(descriptor).st_ino, (tmp_path / "id").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    result = Result(str(tmp_path), "id", "a")
    with open(result.path, "w") as file:
        file.write("text")
    wanted = [(os.stat(result.path).st_ino, False), (tmp_path.stat().st_ino, True)]
    result.keep(sync=sync)
    assert synced == (wanted if sync else [])


def test_of_two_directories_the_first_stays(tmp_path):
    for token in "ab":
        result = Result(str(tmp_path), "id", token)
        os.mkdir(result.path)
        with open(f"{result.path}/{token}", "w"):
            pass
        result.keep(sync=False)
    assert os.listdir(tmp_path / "id") == ["a"]
    assert os.listdir(tmp_path / ".ddmq-unfinished") == []


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
@pytest.mark.parametrize("mode", [0o777, 0o2770])
def test_what_a_run_makes_is_closed_to_others_and_its_result_is_the_groups(
    tmp_path, umask, mode
):
    tmp_path.chmod(mode)
    before = os.umask(umask)
    try:
        result = Result(str(tmp_path), ID, TOKEN)
        with open(result.path, "w"):
            pass
    finally:
        os.umask(before)
    run = (tmp_path / UNFINISHED / f"{ID}.{TOKEN}").stat()
    assert stat.S_IMODE(run.st_mode) == 0o700 | (mode & 0o2000)
    result.keep(sync=False)
    kept = (tmp_path / ID).stat()
    assert kept.st_gid == tmp_path.stat().st_gid
    assert stat.S_IMODE(kept.st_mode) == 0o666 & ~umask


@pytest.mark.parametrize(
    "planted",
    [
        *("open to others", "a link", "a file"),
        pytest.param("another user's", marks=pytest.mark.skipif("os.getuid() != 0")),
    ],
)
def test_a_run_writes_to_no_directory_that_others_have_put_there(tmp_path, planted):
    path = tmp_path / UNFINISHED / f"{ID}.{TOKEN}"
    (tmp_path / "home").mkdir(mode=0o700)
    path.parent.mkdir()
    if planted == "a link":
        path.symlink_to(tmp_path / "home")
    elif planted == "a file":
        path.touch()
    else:
        path.mkdir()
        path.chmod(0o700 if planted == "another user's" else 0o770)
        os.chown(path, 12346 if planted == "another user's" else -1, -1)
    with pytest.raises(OSError, match="no directory of ours") as error:
        Result(str(tmp_path), ID, TOKEN)
    assert may_pass(error.value)
    assert os.listdir(tmp_path / "home") == []
    assert left_in(tmp_path) == [path.name]


def test_a_run_whose_directory_others_have_put_away_has_no_result(tmp_path):
    result = Result(str(tmp_path), ID, TOKEN)
    path = os.path.dirname(os.path.dirname(result.path))
    with open(result.path, "w"):
        pass
    os.rename(path, tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        result.keep(sync=False)
    os.symlink(tmp_path / "away", path)
    with pytest.raises(BlockingIOError):
        result.keep(sync=False)
    assert sorted(os.listdir(tmp_path)) == [UNFINISHED, "away"]
    assert os.path.exists(f"{tmp_path}/away/{'/'.join(result.path.split('/')[-2:])}")


def test_whom_a_file_server_takes_for_another_user_has_results_and_leaves_nothing(
    tmp_path, monkeypatch
):
    """As root on an NFS that takes it for nobody: what we make is not ours, by its number."""
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    leave(tmp_path, ID)
    remove_leftovers(str(tmp_path), ID)
    assert left_in(tmp_path) == []
    result = Result(str(tmp_path), ID, TOKEN)
    with open(result.path, "w") as file:
        file.write("text")
    result.keep(sync=True)
    try_output(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == [UNFINISHED, ID]
    assert left_in(tmp_path) == []


class Stopped(BaseException):
    """The node is gone."""


def command_of(kind):
    """Return what makes a result, and a file beside it, by calls that nobody disturbs."""
    mkdir = os.mkdir

    def command(path):
        if kind == "a directory":
            mkdir(path)
        file = f"{path}/file" if kind == "a directory" else path
        for each in (file, f"{path}.scratch") if kind != "nothing" else ():
            with open(each, "w") as opened:
                opened.write("whole")

    return command


@pytest.fixture
def run_once(monkeypatch):
    """Return what does with a message what a worker does, which then acks it.

    `disturb` is called in place of the system call `number` of the worker's; the names of all
    that were made are returned.
    """

    def run(directory, kind, token, number=-1, disturb=None):
        made, command = [], command_of(kind)

        def noted(name, function):
            def call(*arguments, **named):
                made.append(name)
                act = partial(function, *arguments, **named)
                return disturb(name, act) if len(made) == number + 1 else act()

            return call

        with monkeypatch.context() as patched:
            for name in (SYSTEM_CALLS | {"stat"}) - {"close"}:  # finalizers close, too
                patched.setattr(os, name, noted(name, getattr(os, name)))
            result = Result(str(directory), ID, token)
            command(result.path)
            result.keep(sync=True)
        return made

    return run


def kept_in(directory):
    """Return what is in the output directory, with what is in its files."""
    return {
        str(path.relative_to(directory)): path.read_text() if path.is_file() else None
        for path in directory.rglob("*")
    }


WHOLE = {
    "a file": {UNFINISHED: None, ID: "whole"},
    "a directory": {UNFINISHED: None, ID: None, f"{ID}/file": "whole"},
    "nothing": {UNFINISHED: None},
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("after", [False, True], ids=["before a call", "after it"])
def test_who_dies_at_any_call_leaves_a_whole_result_or_none_and_the_next_run_nothing_else(
    tmp_path, run_once, kind, after
):
    def stop(_, act):
        with suppress(OSError):
            act() if after else None
        raise Stopped

    number, ended = 0, False
    while not ended:
        out = tmp_path / str(number)
        try:
            run_once(out, kind, TOKEN, number, stop)
            ended = True
        except Stopped:
            kept = {x: y for x, y in kept_in(out).items() if UNFINISHED not in x}
            assert kept in (
                {},
                {x: y for x, y in WHOLE[kind].items() if x != UNFINISHED},
            )
            remove_leftovers(str(out), ID)
            run_once(out, kind, OTHER)
        assert kept_in(out) == WHOLE[kind]
        number += 1
    assert number > 20


#: What is said of a request that was sent again, after what the first one did.
AGAIN = {"mkdir": errno.EEXIST}
AGAIN |= dict.fromkeys(("rename", "unlink", "rmdir"), errno.ENOENT)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_reply_that_is_lost_costs_no_result_and_leaves_nothing(
    tmp_path, run_once, kind
):
    def lose(name, act):
        done = act()
        if name in AGAIN:
            raise OSError(AGAIN[name], os.strerror(AGAIN[name]))
        return done

    number, made = 0, [""]
    while number < len(made):
        out = tmp_path / str(number)
        out.mkdir()
        made = run_once(out, kind, TOKEN, number, lose)
        assert kept_in(out) == WHOLE[kind]
        number += 1
    assert ("rename" in made) == (kind != "nothing")


FILE, DIRECTORY, OTHER = "f" * 16, "d" * 16, "a" * 16


def leave(directory, *names):
    """Leave what a killed worker leaves: a file, and a directory that is not empty."""
    for name in names:
        with open(Result(str(directory), name, FILE).path, "w"):
            pass
        os.makedirs(f"{Result(str(directory), name, DIRECTORY).path}/below")


def left_in(directory):
    return sorted(os.listdir(directory / ".ddmq-unfinished"))


def test_leftovers_of_earlier_runs_are_removed_and_no_others(tmp_path):
    leave(tmp_path, ID, f"{ID}-1")
    remove_leftovers(str(tmp_path), ID)
    assert left_in(tmp_path) == [f"{ID}-1.{DIRECTORY}", f"{ID}-1.{FILE}"]


def test_a_directory_of_ours_that_got_the_name_of_a_run_is_not_emptied(tmp_path):
    """A member can rename one of ours in a directory of his, but not what is in there."""
    leave(tmp_path, ID)
    path = tmp_path / UNFINISHED / f"{ID}.{OTHER}"
    for name in ("thesis", f"{ID}.x", f"{ID[::-1]}.{TOKEN}"):
        (path / name).mkdir(parents=True)
    path.chmod(0o700)
    remove_leftovers(str(tmp_path), ID)
    assert left_in(tmp_path) == [path.name]
    assert len(os.listdir(path)) == 3


@pytest.mark.parametrize("id_", [ID, f"{ID}-99999", f"drop-{ID}", f"foreign-{ID}"])
def test_what_a_run_makes_has_a_name_that_is_known_again(id_):
    made = Unfinished(id_, TOKEN)
    assert Unfinished.parse(made.filename) == made


@pytest.mark.parametrize(
    "name",
    [
        *("documents", ID, f"{ID}.", f"{ID}.{TOKEN}x", f"{ID}.{TOKEN}.x", f".{TOKEN}"),
        *(f"{ID}\n.{TOKEN}", f"{ID}.{TOKEN}\n", f"thesis.{TOKEN}", f"{ID}.f", "..", ""),
        *(f"../{ID}.{TOKEN}", f"{ID}-1234567.{TOKEN}", f"{ID.upper()}.{TOKEN}"),
    ],
)
def test_a_name_that_ddmq_did_not_make_is_never_removed(root, broker, tmp_path, name):
    assert Unfinished.parse(name) is None
    if name.strip("./") and "/" not in name:
        (tmp_path / UNFINISHED / name).mkdir(parents=True)
        remove_leftovers(str(tmp_path), name.partition(".")[0])
        assert left_in(tmp_path) == [name]


def test_leftovers_are_not_looked_for_where_a_link_leads(root, broker, tmp_path):
    """Whoever may write to queue and output directory names what he would have removed."""
    leave(tmp_path / "home", ID)
    kept = sorted(os.listdir(tmp_path / "home" / UNFINISHED))
    broker.publish("q", "a")
    broker.reject(broker.consume("q"))
    [letter] = os.listdir(root / "q" / "dead")
    os.rename(
        root / "q/dead" / letter, root / f"q/dead/5.{1:019d}.{ID}.1-0.{TOKEN}.failed"
    )
    os.mkdir(tmp_path / "out")
    os.symlink(tmp_path / "home" / UNFINISHED, tmp_path / "out" / UNFINISHED)
    remove_leftovers(str(tmp_path / "out"), ID)
    remove_leftovers_of_dead(str(tmp_path / "out"), f"{root}/q", FileSystem())
    assert sorted(os.listdir(tmp_path / "home" / UNFINISHED)) == kept
    remove_leftovers_of_dead(str(tmp_path / "home"), f"{root}/q", FileSystem())
    assert os.listdir(tmp_path / "home" / UNFINISHED) == []


def test_leftovers_of_dead_letters_are_removed_and_no_others(root, broker, tmp_path):
    dead = broker.publish("q", "a", requeue=False)
    broker.nack(broker.consume("q"))
    at_work, waiting = broker.publish("q", "b"), broker.publish("q", "c")
    broker.consume("q")
    leave(tmp_path, dead, at_work, waiting, ID)
    remove_leftovers_of_dead(str(tmp_path), f"{root}/q", FileSystem())
    assert {name.partition(".")[0] for name in left_in(tmp_path)} == {
        at_work,
        waiting,
        ID,  # of another queue
    }


def test_where_there_is_nothing_unfinished_nothing_is_removed(tmp_path):
    remove_leftovers(str(tmp_path), ID)
    remove_leftovers_of_dead(str(tmp_path), "/no/such/queue", FileSystem())
    leave(tmp_path, ID)
    remove_leftovers_of_dead(str(tmp_path), "/no/such/queue", FileSystem())
    assert len(left_in(tmp_path)) == 2


# Processes


def test_outcomes_are_told_in_words():
    assert str(Outcome(3)) == "exit status 3"
    assert str(Outcome(-9)) == "killed by SIGKILL"
    assert (Outcome(-9).code, Outcome(-99).signal) == (137, "99")


def test_a_process_that_is_gone_gets_no_signal():
    process = Process(["true"], {"PATH": "/usr/bin:/bin"})
    assert process.wait().succeeded
    process.send(signal.SIGTERM)
    assert process.outcome() == process.wait()


def test_what_is_not_ours_to_signal_is_killed_again_and_again(
    root, broker, clock, monkeypatch
):
    broker.publish("q", "1")
    [message] = broker.consume("q")
    sent = []

    def refuse(pid, number):
        sent.append(number)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    given = options.Options(timeout=5, grace=2)
    environ = {"PATH": "/usr/bin:/bin"}
    run = Execution(message, 1, ["sleep", "100"], given, environ, clock)
    with monkeypatch.context() as patched:
        patched.setattr(os, "killpg", refuse)
        patched.setattr("ddmq.hpc.execution.kill_marked", lambda mark: None)
        for pause in (5, 2, 1, 1):
            assert run.due_in() == pause
            run.watch()  # nothing yet
            clock.advance(pause)
            run.watch()
    assert sent == [signal.SIGTERM] + [signal.SIGKILL] * 3
    assert run.timed_out
    run.kill()
    os.waitid(os.P_PID, run._process.pid, os.WEXITED | os.WNOWAIT)
    assert str(run.outcome()) == "killed by SIGKILL"
    run.close("")


def test_nothing_bears_a_mark_that_nobody_set():
    guardian.kill_marked("DDMQ_RUN=nobody-has-this")


def test_a_guardian_that_is_dismissed_leaves():
    with guardian.Guardian("DDMQ_WORKER=nobody") as kept:
        assert os.path.exists(f"/proc/{kept.pid}")
    assert not os.path.exists(f"/proc/{kept.pid}")


# Signals


def test_the_same_signal_later_means_haste():
    clock = FakeClock()
    with Signals(clock) as signals:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGUSR1)
            signals.wait(0, {})
        assert (signals.drain_requested, signals.haste_requested) == (True, False)
        assert signals.notice == Notice("SIGUSR1", clock.own_ns() / 1e9)
        clock.advance(6)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.haste_requested


def test_what_can_be_read_is_read():
    read, write = os.pipe()
    got = []
    with Signals(FakeClock()) as signals:
        os.write(write, b"x")
        signals.wait(10, {read: lambda: got.append(os.read(read, 9))})
    os.close(read)
    os.close(write)
    assert got == [b"x"]


# The heartbeat


@pytest.fixture
def held(root, broker, clock):
    """A message whose lease lasts for 30 s."""
    broker.publish("q", "a", timeout=30)
    [message] = broker.consume("q")
    return message


@pytest.fixture
def beating(broker, clock, held):
    """A heartbeat without its thread, which keeps `held` alive."""
    heartbeat = Heartbeat(broker, clock)
    heartbeat.start(held)
    return heartbeat


def due_in(heartbeat):
    return heartbeat._seconds_to(heartbeat._next_due())


def test_a_lease_is_renewed_after_a_third_of_its_time(root, beating, clock, held):
    assert (due_in(beating), beating.over_in()) == (10, 30)
    beating.beat()
    assert os.listdir(root / "q" / "work") == [held.filename]
    clock.advance(10)
    beating.beat()
    assert (due_in(beating), beating.over_in()) == (10, 30)
    renewed = beating.stop(held)
    assert os.listdir(root / "q" / "work") == [renewed.filename] != [held.filename]
    assert (due_in(beating), beating.over_in(), beating.lost()) == (None, None, [])


def test_a_lease_that_was_old_when_it_came_is_renewed_sooner(broker, clock, held):
    heartbeat = Heartbeat(broker, clock)
    clock.advance(15)
    heartbeat.start(held)
    assert (due_in(heartbeat), heartbeat.over_in()) == (0, 15)


def test_a_lost_lease_is_told_once_and_renewed_no_more(broker, beating, clock, held):
    broker.release(held)
    clock.advance(10)
    beating.beat()
    assert beating.lost() == [held]
    assert beating.lost() == []
    assert (due_in(beating), beating.over_in()) == (None, None)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE])
@pytest.mark.parametrize("away", ["", "/q"])
def test_while_the_queue_is_away_a_lease_is_held_as_long_as_it_can_be(
    root, broker, beating, clock, held, caplog, away, code
):
    def call(_, name, function, arguments):
        path = str(arguments[0])
        if is_away[0] and f"{path}/".startswith(f"{root}{away}/"):
            raise OSError(code, os.strerror(code), path)
        return function(*arguments)

    broker._fs.calls, is_away = Calls(call), [True]
    clock.advance(10)
    for _ in range(19):
        beating.beat()
        assert (due_in(beating), beating.lost()) == (1, [])
        clock.advance(1)
    is_away[0] = False
    beating.beat()
    assert (beating.over_in(), beating.lost()) == (30, [])
    assert ["leases are not renewed now" in r.message for r in caplog.records] == [True]
    is_away[0] = True
    clock.advance(29)
    beating.beat()
    assert beating.lost() == []
    clock.advance(1)
    assert [message.id for message in beating.lost()] == [held.id]


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.EROFS])
def test_a_refused_renewal_is_tried_again(root, clock, held, refusing, code):
    fs = refusing("rename", code, "/work/", times=2)
    heartbeat = Heartbeat(Broker(root, clock=clock, fs=fs), clock)
    heartbeat.start(held)
    clock.advance(10)
    heartbeat.beat()
    clock.advance(1)
    heartbeat.beat()
    assert (due_in(heartbeat), heartbeat.lost()) == (1, [])
    clock.advance(1)
    heartbeat.beat()
    assert heartbeat.over_in() == 30


class Threads(FakeClock):
    """A clock that stands still, under which threads do what may take long."""

    begin = Clock.begin


@pytest.mark.parametrize(("hanging", "done_beside"), [(1, 3), (2, 0)])
def test_renewals_that_hang_hold_up_others_only_where_they_are_too_many(
    root, broker, monkeypatch, hanging, done_beside
):
    monkeypatch.setattr("ddmq.hpc.heartbeat._PATIENCE", 0.01)
    monkeypatch.setattr("ddmq.hpc.heartbeat._HANGING", 2)
    broker.publish_many("q", "abcd", timeout=30)
    clock, go_on, begun, done = Threads(), threading.Event(), [], SimpleQueue()
    mine = Broker(root, clock=clock)
    renew, messages = mine.renew, mine.consume("q", 4)

    def maybe_hang(message):
        begun.append(message.id)
        if len(begun) <= hanging:
            assert go_on.wait(30)
        renewed = renew(message)
        done.put(message.id)
        return renewed

    monkeypatch.setattr(mine, "renew", maybe_hang)
    heartbeat = Heartbeat(mine, clock)
    for message in messages:
        heartbeat.start(message)
    clock.advance(10)
    with heartbeat:
        beside = [done.get(timeout=10) for _ in range(done_beside)]
        while len(begun) < hanging:
            pass
        assert begun[hanging:] == beside
        go_on.set()
        late = [done.get(timeout=10) for _ in messages[done_beside:]]
        assert sorted(beside + late) == sorted(m.id for m in messages)
        mine.ack([heartbeat.stop(message) for message in messages])


def test_two_leases_of_one_message_are_two(broker, beating, clock, held):
    broker.release(held)
    [again] = broker.consume("q")
    beating.start(again)
    clock.advance(10)
    beating.beat()
    assert beating.lost() == [held]
    beating.stop(held)
    broker.ack(beating.stop(again))


class Hanging:
    """A file system whose renames within `work/` hang until they are told to go on."""

    def __init__(self):
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, _, name, function, arguments):
        if name == "rename" and "/work/" in arguments[0]:
            self.reached.set()
            assert self.go_on.wait(30)
        return function(*arguments)


@pytest.fixture
def hanging(root, clock, held):
    """A heartbeat with its thread, which hangs in a renewal of `held`."""
    calls, woken = Hanging(), threading.Event()
    broker = Broker(root, clock=clock, fs=FileSystem(Calls(calls)))
    with ExitStack() as stack:
        heartbeat = stack.enter_context(Heartbeat(broker, clock, woken.set))
        stack.callback(calls.go_on.set)
        clock.advance(10)
        heartbeat.start(held)
        assert calls.reached.wait(30)
        yield heartbeat, calls.go_on, stack
    assert heartbeat.lost() == []
    assert not woken.is_set()


def test_whoever_settles_sees_the_name_that_a_renewal_makes(root, hanging, held):
    heartbeat, go_on, _ = hanging
    threading.Timer(0.01, go_on.set).start()
    renewed = heartbeat.stop(held)
    assert os.listdir(root / "q" / "work") == [renewed.filename] != [held.filename]


def test_nobody_waits_for_ever_for_a_renewal(root, broker, hanging, held, monkeypatch):
    monkeypatch.setattr("ddmq.hpc.heartbeat._PATIENCE", 0.01)
    heartbeat, _, stack = hanging
    with pytest.raises(StorageError, match="hangs"):
        heartbeat.confirm(held)
    broker.ack(heartbeat.stop(held))
    stack.close()  # the renewal comes too late, and complains to nobody
    assert os.listdir(root / "q" / "work") == []


def test_a_renewal_that_hangs_for_too_long_loses_the_lease(hanging, clock, held):
    heartbeat, _, stack = hanging
    assert heartbeat.over_in() == 20
    clock.advance(20)
    assert heartbeat.lost() == [held]
    stack.close()  # it comes through at last, and the lease is held again
    assert (heartbeat.over_in(), heartbeat.stop(held).id) == (10, held.id)
    assert heartbeat.over_in() is None


def test_a_lease_that_is_confirmed_after_it_was_lost_is_kept_alive(
    beating, clock, held
):
    clock.advance(30)
    assert beating.lost() == [held]
    beating.confirm(held)
    for _ in range(4):
        assert (beating.over_in(), beating.lost()) == (30, [])
        clock.advance(10)
        beating.beat()


def test_its_thread_renews_what_somebody_else_renewed_before(
    broker, clock, held, monkeypatch
):
    heartbeat, renew, sleeps = Heartbeat(broker, clock), broker.renew, SimpleQueue()
    sleep = heartbeat._sleep
    monkeypatch.setattr(heartbeat, "_sleep", lambda s: (sleeps.put(s), sleep(s)))

    def slow(message):
        while not sleeps.empty():
            sleeps.get()
        heartbeat._rouse()
        while sleeps.get(timeout=10) is not None:  # until it passed over what is busy
            pass
        return renew(message)

    monkeypatch.setattr(broker, "renew", slow)
    with heartbeat:
        heartbeat.confirm(held)
        while sleeps.get(timeout=10) != 10:  # until it knows when the next one is due
            pass


def test_its_thread_renews_by_itself_and_wakes_whoever_waits(root, broker, clock, held):
    woken = threading.Event()
    with Heartbeat(broker, clock, woken.set) as heartbeat:
        broker.release(held)
        clock.advance(10)
        heartbeat.start(held)
        assert woken.wait(30)
        assert heartbeat.lost() == [held]


def test_a_journal_line_is_told_in_words():
    line = json.loads(json.dumps(run_of("abc", 2.5)._asdict()))
    told = journal.told({**line, "job": "7"})
    assert told.split() == [
        "abc",
        "acked",
        "exit",
        "0",
        "2.50",
        "s",
        "2",
        "MiB",
        "host",
        "job",
        "7",
    ]


def test_only_the_names_of_options_get_dashes():
    arguments = ["--log_dir=my_logs", "my_root", "--", "--a_b=c_d"]
    ours, command = divided(arguments)
    assert ours == ["--log-dir=my_logs", "my_root"]
    assert command == ["--a_b=c_d"]
