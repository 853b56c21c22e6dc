"""The queues of the first ddmq are taken over, whatever interrupts that."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from former import ROOT, former_root
from former import make as maker
from support import Calls, Crash, crashing_before, losing_reply

import ddmq
from ddmq import Broker, InvalidArgument
from ddmq.cli.commands.migrate import Migrate, migrate
from ddmq.cli.spec import Context
from ddmq.storage.filesystem import FileSystem

LETTERS = [
    ("first", 5, {"timeout": 30, "requeue": False}),
    ("a", 999, {"requeue": False}),
    ("b", 999, {"requeue": False}),
    ("c", 999, {"requeue": False}),
    ("Grüße\n\u4e2d\U0001f600", 999, {"requeue": True}),
    ("once more", 999, {"requeue": True, "requeue_limit": 1}),
    ("to 7", 999, {"requeue": True, "requeue_prio": 7}),
    ("", 999, {"requeue": False}),
    ({"any": ["JSON", 1.5, None]}, 1000, {"requeue": False}),
]


@pytest.fixture
def old(tmp_path):
    return former_root(tmp_path / "old")


@pytest.fixture
def new(tmp_path):
    return tmp_path / "new"


def texts(new, queue):
    return [seen.message for seen in Broker(new).peek(queue, 1000)]


def migrated(old, new, fs=None, **more):
    given = {"queues": None, "force": True, "copy": False, "work": False, **more}
    context = Context(fs or FileSystem(), lambda _: None, is_typed=True)
    return migrate(Migrate(str(old), str(new), **given), context)


def permissions(path):
    return f"{path.stat().st_mode & 0o7777:o}"


def files(root):
    return {
        path.relative_to(root): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_each_message_is_published_with_what_it_set_itself_in_the_old_order(
    sh, old, new, umask
):
    umask(0o022)  # Where the group may write, the doctor says so.
    told = sh.ok("migrate", "-f", old, new, "letters,nacked")
    assert told == "letters: 9 migrated\nnacked: 2 migrated, of which 1 were at work"
    seen = Broker(new).peek("letters", 20)
    assert [(s.message, s.priority, dict(s.own)) for s in seen] == LETTERS
    assert texts(new, "nacked") == ["x", "y"]
    assert list((new / "letters" / "keys").iterdir()) == []
    assert {path.parent.name for path in (old / "letters").rglob("*.ddmq*")} == {
        "migrated"
    }
    assert sh.ok("migrate", old, new, "letters") == "letters: 0 migrated"
    assert sh.ok("doctor", new) == "all is well"


def test_a_copy_leaves_the_old_files_as_they_are_and_adds_nothing_twice(sh, old, new):
    before = files(old)
    assert sh.ok("migrate", "-f", "--copy", old, new, "letters") == (
        "letters: 9 migrated"
    )
    assert files(old) == before
    sh.ok("migrate", "--copy", old, new, "letters")
    assert texts(new, "letters") == [text for text, _, _ in LETTERS]
    sh.ok("migrate", old, new, "letters")
    assert texts(new, "letters") == [text for text, _, _ in LETTERS]


def test_what_a_consumer_holds_stays_until_somebody_says_otherwise(
    sh, old, new, caplog
):
    status, out, _ = sh("migrate", "-f", old, new, "tasks")
    assert (status, out) == (
        1,
        "tasks: 2 migrated, of which 1 were at work; 1 still held\n",
    )
    assert "consumers hold 1 until 20" in caplog.text
    assert texts(new, "tasks") == ["lost", "waits"]
    assert sh.ok("migrate", "--work", old, new, "tasks") == (
        "tasks: 1 migrated, of which 1 were at work"
    )
    assert texts(new, "tasks") == ["lost", "waits", "held"]


def test_settings_of_the_old_queue_hold_unless_the_new_one_has_its_own(
    sh, old, new, caplog
):
    sh.ok("create", "-f", new, "tasks")
    sh.ok("config", new, "tasks", "--set", "priority=7")
    sh("migrate", old, new, "tasks")
    settings = Broker(new).settings("tasks")
    assert (settings.message_timeout, settings.priority) == (3600, 7)
    (old / "nacked" / "ddmq.yaml").write_text("priority: first\n")
    status, _, _ = sh("migrate", "-f", old, new, "nacked")
    assert status == 0
    assert "priority is 'first'" in caplog.text
    assert "not taken over" in caplog.text


def test_what_is_no_message_stays_and_is_told(sh, old, new, caplog):
    letters = old / "letters"
    for number in range(12):
        (letters / f"0.{number}.ddmqbad").write_text('{"message"')
    (letters / "1.5.17.ddmqfraction").write_text('{"message": 1}')
    large = json.dumps({"message": "x" * (1 << 20)})
    (letters / "0.99.ddmqlarge").write_text(large)
    status, out, _ = sh("migrate", "-f", old, new, "letters")
    assert (status, out) == (1, "letters: 9 migrated; 14 left out\n")
    assert "1.5.17.ddmqfraction: not a name of ddmq 0.9" in caplog.text
    assert caplog.text.count("left out: ") == 11
    assert "left out: 14 in all" in caplog.text
    assert (letters / "0.99.ddmqlarge").read_text() == large
    assert len(texts(new, "letters")) == 9


def test_all_queues_of_the_old_root_are_taken_unless_some_are_named(
    sh, old, new, caplog
):
    (old / "work" / "work").mkdir(parents=True)
    (old / "work" / "ddmq.yaml").write_text("")
    Broker(old, create=True).create_queue("modern")
    status, out, _ = sh("migrate", "-f", old, new)
    assert status == 1
    assert [line.split(":")[0] for line in out.splitlines()] == [
        "letters",
        "nacked",
        "tasks",
    ]
    assert "'work' is reserved" in caplog.text
    assert "no queue of ddmq 0.9" in sh.error("migrate", old, new, "modern")
    assert "reserved" in sh.wrong("migrate", old, new, "work")


def test_it_says_what_it_can_not_take_over(sh, old, new, tmp_path):
    assert "no ddmq root" in sh.error("migrate", old, new)
    Broker(new, create=True)
    assert "no such queue" in sh.error("migrate", old, new)
    assert "No such file" in sh.error("migrate", "-f", tmp_path / "none", new)
    (tmp_path / "link").symlink_to(new)
    for same in (new, tmp_path / "link"):
        assert "the same directory" in sh.wrong("migrate", "-f", same, new)
    assert "no queue of ddmq 0.9 in here" in sh.error("migrate", new, old, "-f")
    for no_path in ("", "a\0b"):
        assert "not the path" in sh.wrong("migrate", "-f", no_path, new)


def test_the_error_for_an_old_queue_names_the_command(sh, old):
    assert "`ddmq migrate` if ddmq 0.9 made it" in sh.error("peek", old, "letters")


def test_json_takes_and_tells_the_same(sh, old, new):
    request = {"cmd": "migrate", "old": str(old), "new": str(new), "force": True}
    answer = sh.ok("json", json.dumps({**request, "queues": ["nacked"]}))
    assert json.loads(answer) == {
        "migrated": {"nacked": {"waiting": 1, "work": 1, "held": 0, "left_out": 0}}
    }


@pytest.mark.deep
@pytest.mark.parametrize("copy", [False, True])
def test_a_crash_before_any_call_loses_nothing_and_doubles_nothing(tmp_path, copy):
    number, is_over = 0, False
    while not is_over:
        old = former_root(tmp_path / f"old{number}")
        new = tmp_path / f"new{number}"
        try:
            fs = FileSystem(crashing_before(number))
            migrated(old, new, fs, queues=["nacked"], copy=copy)
            is_over = True
        except Crash:
            pass
        migrated(old, new, queues=["nacked"], copy=copy)
        assert texts(new, "nacked") == ["x", "y"], number
        number += 1
    assert number > 50


def test_a_reply_that_is_lost_loses_nothing_and_doubles_nothing(tmp_path):
    for number in range(12):
        old = former_root(tmp_path / f"old{number}")
        new = tmp_path / f"new{number}"
        fs = FileSystem(losing_reply(number))
        migrated(old, new, fs, queues=["nacked"])
        assert texts(new, "nacked") == ["x", "y"], number
        assert len(list((old / "nacked" / "migrated").iterdir())) == 2, number


def test_a_key_is_forgotten_when_no_power_cut_can_bring_its_file_back(old, new):
    made = []

    def call(_, name, function, arguments):
        made.append((name, str(arguments[-1])))
        return function(*arguments)

    migrated(old, new, FileSystem(Calls(call)), queues=["nacked"])
    last = max(n for n, each in enumerate(made) if "/migrated/" in each[1])
    forgotten = [n for n, (name, at) in enumerate(made) if "/keys/" in at]
    forgotten = [n for n in forgotten if made[n][0] == "unlink"]
    assert len(forgotten) == 2
    between = [name for name, _ in made[last : forgotten[0]]]
    assert between.count("fsync") == 4  # the queue, and what else the file was in


@pytest.mark.parametrize(
    ("old_root", "old_queue", "new_root", "mask", "mode"),
    [
        (0o755, 0o700, 0o755, 0o022, "700"),
        (0o700, 0o755, 0o755, 0o022, "700"),
        (0o755, 0o755, 0o755, 0o022, "755"),
        (0o755, 0o755, 0o755, 0o077, "700"),
        (0o777, 0o775, 0o755, 0o022, "755"),
        (0o777, 0o775, 0o755, 0o002, "2775"),
        (0o777, 0o1777, 0o755, 0o000, "2777"),
        (0o755, 0o700, 0o2770, 0o022, "700"),
        (0o755, 0o750, 0o2770, 0o022, "2750"),
        (0o2770, 0o2770, 0o2770, 0o022, "2770"),
        (0o2775, 0o2775, 0o2770, 0o022, "2770"),
    ],
)
@pytest.mark.parametrize("copy", [False, True])
def test_a_new_queue_lets_nobody_in_whom_the_old_one_kept_out(
    old, new, umask, caplog, old_root, old_queue, new_root, mask, mode, copy
):
    Broker(new, create=True)
    for path, bits in ((old, old_root), (old / "nacked", old_queue), (new, new_root)):
        path.chmod(bits)
    umask(mask)
    migrated(old, new, queues=["nacked"], copy=copy)
    found = [new / "nacked", *(p for p in (new / "nacked").iterdir() if p.is_dir())]
    assert {permissions(path) for path in found if path.name != "keys"} == {mode}
    assert texts(new, "nacked") == ["x", "y"]
    assert os.umask(mask) == mask
    assert "may read it" not in caplog.text


def test_a_queue_that_we_may_only_read_can_be_copied(old, new, refusing):
    (old / "nacked").chmod(0o500)
    closed = refusing("mkdir", errno.EACCES, "/old/nacked/")
    with pytest.raises(InvalidArgument, match=r"may not write there.*--copy"):
        migrated(old, new, force=True, fs=closed)
    assert not (new / "nacked").exists()
    migrated(old, new, queues=["nacked"], copy=True, fs=closed)
    assert texts(new, "nacked") == ["x", "y"]


@pytest.mark.parametrize(
    ("old_queue", "new_root", "new_queue", "who"),
    [
        (0o700, 0o755, 0o755, "all users may read it"),
        (0o750, 0o755, 0o755, "all users may read it"),
        (0o700, 0o755, 0o2770, "its group may read it"),
        (0o750, 0o755, 0o2770, None),
        (0o700, 0o700, 0o755, None),
        (0o755, 0o755, 0o700, None),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_a_queue_that_exists_keeps_its_mode_and_more_readers_are_told(
    old, new, umask, caplog, old_queue, new_root, new_queue, who, force
):
    umask(0o022)
    Broker(new, create=True).create_queue("nacked", mode=new_queue)
    for path, bits in ((old, 0o755), (old / "nacked", old_queue), (new, new_root)):
        path.chmod(bits)
    migrated(old, new, queues=["nacked"], force=force)
    assert permissions(new / "nacked") == f"{new_queue:o}"
    if who is None:
        assert "may read it" not in caplog.text
    else:
        assert who in caplog.text


@pytest.mark.root("give files away")
@pytest.mark.parametrize(
    ("old_queue", "mode", "is_told"),
    [(0o750, "700", True), (0o2770, "700", True), (0o755, "2750", False)],
)
def test_another_group_gets_what_everybody_could_do(
    old, tmp_path, umask, caplog, old_queue, mode, is_told
):
    umask(0o022)
    os.chown(old / "nacked", -1, os.getegid() + 4711)
    for path, bits in ((old, 0o755), (old / "nacked", old_queue)):
        path.chmod(bits)
    for new in (tmp_path / "made", tmp_path / "found"):
        Broker(new, create=True)
        new.chmod(0o2770)
    migrated(old, tmp_path / "made", queues=["nacked"], copy=True)
    assert permissions(tmp_path / "made" / "nacked") == mode
    assert "may read it" not in caplog.text
    Broker(tmp_path / "found").create_queue("nacked")
    migrated(old, tmp_path / "found", queues=["nacked"])
    assert ("its group may read it" in caplog.text) == is_told


def begun(old, new):
    """Kill a migration when it has published its first message."""

    def call(_, name, function, arguments):
        if name == "rename" and "/migrated/" in str(arguments[1]):
            raise Crash
        return function(*arguments)

    with pytest.raises(Crash):
        migrated(old, new, FileSystem(Calls(call)), queues=["nacked"])
    [taking] = (old / "nacked").glob("migrating-*")
    return taking


@pytest.mark.parametrize("copy", [False, True])
def test_what_was_begun_into_one_root_is_not_done_into_another(
    sh, old, new, tmp_path, copy
):
    taking, other = begun(old, new), tmp_path / "other"
    assert texts(new, "nacked") == ["x"]
    words = ["migrate", "-f", *(["--copy"] if copy else []), old, other]
    error = sh.wrong(*words)
    assert f"{taking}: has messages that a migration into another root took" in error
    assert Broker(other).queues() == []  # nor were those before it taken
    sh.ok("migrate", old, new, "nacked")
    assert texts(new, "nacked") == ["x", "y"]
    assert not taking.exists()
    assert sh.ok("migrate", "-f", old, other, "nacked") == "nacked: 0 migrated"


def test_when_the_first_root_is_gone_a_rename_lets_another_one_have_all(
    sh, old, new, tmp_path
):
    taking, other = begun(old, new), tmp_path / "other"
    error = sh.wrong("migrate", "-f", old, other, "nacked")
    name = error.split("rename the directory to ")[1].split(":")[0]
    taking.rename(taking.with_name(name))
    sh.ok("migrate", old, other, "nacked", "-f")
    assert texts(other, "nacked") == ["x", "y"]


def test_of_two_that_were_begun_at_once_each_is_finished_by_itself(
    sh, old, new, tmp_path, caplog
):
    taking, other = begun(old, new), tmp_path / "other"
    aside = taking.rename(tmp_path / taking.name)
    begun(old, other)
    aside.rename(taking)
    status, out, _ = sh("migrate", old, new, "nacked")
    expected = "nacked: 1 migrated, of which 1 were at work; 1 left out\n"
    assert (status, out) == (1, expected)
    assert "taken by a migration into another root" in caplog.text
    assert sh.ok("migrate", old, other, "nacked") == "nacked: 1 migrated"
    assert (texts(new, "nacked"), texts(other, "nacked")) == (["x"], ["y"])


@pytest.mark.deep
def test_a_crash_anywhere_and_then_another_root_doubles_nothing(tmp_path):
    number, is_over, refused = 0, False, 0
    while not is_over:
        old = former_root(tmp_path / f"old{number}")
        roots = [tmp_path / f"{which}{number}" for which in ("new", "other")]
        try:
            fs = FileSystem(crashing_before(number))
            migrated(old, roots[0], fs, queues=["nacked"])
            is_over = True
        except Crash:
            pass
        try:
            migrated(old, roots[1], queues=["nacked"])
        except InvalidArgument:
            refused += 1
        for root in roots:
            migrated(old, root, queues=["nacked"])
        found = [text for root in roots for text in texts(root, "nacked")]
        assert sorted(found) == ["x", "y"], number
        number += 1
    assert number > 50
    assert refused > 10


def doing_before(number, act):
    """Do something before the call of this number, from 0; return also when that was done."""
    done = []

    def call(n, _, function, arguments):
        if n == number:
            done.append(n)
            act()
        return function(*arguments)

    return FileSystem(Calls(call)), done


@pytest.mark.deep
@pytest.mark.parametrize("is_killed", [False, True])
def test_two_at_once_into_two_roots_take_each_message_once(tmp_path, is_killed):
    """Before any call of the first one, the second one runs, to its end or until it is killed."""
    number, is_over = 0, False
    while not is_over:
        old = former_root(tmp_path / f"old{number}")
        roots = [tmp_path / f"{which}{number}" for which in ("new", "other")]
        second = FileSystem(crashing_before(number // 2)) if is_killed else FileSystem()

        def act(old=old, other=roots[1], fs=second):
            with suppress(Crash, InvalidArgument):
                migrated(old, other, fs, queues=["nacked"])

        fs, done = doing_before(number, act)
        with suppress(InvalidArgument):
            migrated(old, roots[0], fs, queues=["nacked"])
        is_over = not done
        with suppress(InvalidArgument):  # if the other one is to be finished first
            migrated(old, roots[0], queues=["nacked"])
        for root in reversed(roots):
            migrated(old, root, queues=["nacked"])
        found = [text for root in roots for text in texts(root, "nacked")]
        assert sorted(found) == ["x", "y"], number
        number += 3 if is_killed else 1
    assert number > 50


@pytest.mark.slow
def test_one_that_is_killed_again_and_again_takes_each_message_once(tmp_path):
    old, new = former_root(tmp_path / "old"), tmp_path / "new"
    row = next((ROOT / "nacked").glob("999.*")).read_text()
    for number in range(1000, 1400):
        text = row.replace('"y"', f'"{number}"')
        (old / "nacked" / f"999.{number}.ddmqz{number}").write_text(text)
    words = [sys.executable, "-m", "ddmq", "migrate", "-f", old, new, "nacked"]
    environ = {**os.environ, "PYTHONPATH": str(Path(ddmq.__file__).parents[1])}
    done, kills = old / "nacked" / "migrated", 0
    Broker(new, create=True).create_queue("nacked")
    while kills < 4:
        before = len(list(done.iterdir())) if done.exists() else 0
        process = subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            if done.exists() and len(list(done.iterdir())) > before + 10 * kills:
                process.kill()
                break
            time.sleep(0.001)
        kills += 1
        process.wait()
    subprocess.run(words, env=environ, check=True, stdout=subprocess.DEVNULL)
    expected = [*map(str, range(1000, 1400)), "x", "y"]
    assert texts(new, "nacked") == expected


@pytest.mark.slow
def test_the_first_ddmq_itself_makes_what_these_tests_take_over(tmp_path):
    package = os.environ.get("DDMQ_0_9_14")
    if package is None:
        pytest.skip(
            "DDMQ_0_9_14 names no wheel of it: `pip download --no-deps ddmq==0.9.14`"
        )
    made = tmp_path / "made"
    words = [sys.executable, "-I", maker.__file__, os.path.abspath(package), made]
    subprocess.run(words, check=True)
    assert files(made) == files(ROOT)
