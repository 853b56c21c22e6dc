"""One result for each message, whatever dies and whoever plants something."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import subprocess
from contextlib import suppress
from functools import partial

import pytest
from support import SYSTEM_CALLS

from ddmq.hpc.faults import may_pass
from ddmq.hpc.results.result import (
    UNFINISHED,
    Result,
    Unfinished,
    remove_leftovers,
    remove_leftovers_of_dead,
    try_output,
)
from ddmq.storage.filesystem import FileSystem

ID, TOKEN = "0123456789abcdef0123", "0123456789abcdef"


def test_a_result_replaces_an_earlier_one(tmp_path):
    for text in ("first", "second"):
        result = Result(str(tmp_path), "id", TOKEN)
        with open(result.path, "w") as file:
            file.write(text)
        result.keep(sync=True)
    assert (tmp_path / "id").read_text() == "second"


def test_the_lines_of_what_was_written_are_read_where_its_command_wrote_it(tmp_path):
    result = Result(str(tmp_path), "id", TOKEN)
    assert list(result.lines()) == []
    with open(result.path, "wb") as file:
        file.write("one\r\n\n tw\u00f6 \nthree".encode())
    assert list(result.lines()) == ["one", " tw\u00f6 ", "three"]


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


@pytest.fixture
def nearly_full(monkeypatch):
    """A disk of an NFS server, as its client tells of it: when a file is closed."""
    real = os.close

    def close(descriptor):
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        is_written = flags & os.O_ACCMODE and os.fstat(descriptor).st_size
        real(descriptor)
        if is_written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "close", close)


def of_a_careless_command(directory):
    """Return the result of a command that did not look whether its output was stored."""
    result = Result(str(directory), "id", TOKEN)
    with open(result.path, "w") as file:  # which does not call `os.close`
        file.write("some\nlines\n")
    return result


@pytest.mark.parametrize("sync", [True, False])
def test_what_was_not_stored_is_no_result_though_its_command_did_not_look(
    tmp_path, nearly_full, sync
):
    result = of_a_careless_command(tmp_path)
    with pytest.raises(OSError, match="No space left") as caught:
        result.keep(sync=sync)
    assert caught.value.filename == result.path
    assert not (tmp_path / "id").exists()


def test_no_line_is_read_of_what_was_not_stored(tmp_path, nearly_full):
    """They would be published once and for all: those of a later run are not."""
    result = of_a_careless_command(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        next(result.lines())


def test_a_program_that_runs_is_kept_though_nobody_may_write_to_it(tmp_path):
    result = Result(str(tmp_path), "id", TOKEN)
    shutil.copy("/bin/sleep", result.path)
    with subprocess.Popen([result.path, "600"]) as process:
        result.keep(sync=False)
        process.kill()
    assert (tmp_path / "id").stat().st_size == os.stat("/bin/sleep").st_size


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
        pytest.param("another user's", marks=pytest.mark.root("give files away")),
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
