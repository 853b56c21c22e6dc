"""`scripts/sh/ddmq-publish`, by each shell that is here: what it drops, the Python module takes."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from daemons import install
from support import FakeClock, in_time

from ddmq import Broker

SCRIPT = Path(__file__).parents[2] / "scripts" / "sh" / "ddmq-publish"
#: All that the script calls, for a PATH on which there is nothing but busybox.
APPLETS = [
    "awk",
    "cat",
    "date",
    "find",
    "ls",
    "mkdir",
    "mv",
    "od",
    "rm",
    "sh",
    "tr",
    "wc",
]
HOSTILE = [
    *(
        "",
        " ",
        "-",
        "\\",
        '"',
        "\\\\n\\u0041\\",
        "'; touch x; '",
        "$(touch x)`touch x`",
    ),
    *(
        '{"message": "no object"}',
        "%s%d%c\\c",
        "*",
        "--help",
        "ends\n\n",
        "\n",
        "a\r\nb\r",
    ),
    *(
        "".join(map(chr, range(1, 160))),
        "\x7f\x01\x81",
        "\ufeffmark",
        "é€😀\U0010ffff\ue000",
    ),
    *("\u2028\u202e", "end", "next", "&\\&/|", "x" * 100_000, "é" * 50_000),
]


BUSYBOX = pytest.param("busybox", marks=pytest.mark.root("install busybox"))


@pytest.fixture(params=["dash", BUSYBOX, "bash"])
def publish(request):
    """Run the script by one shell; return its exit status and its standard error."""
    if shutil.which(request.param) is None:
        install([request.param])
    program = shutil.which(request.param)
    applets = TemporaryDirectory()
    os.chmod(applets.name, 0o755)
    shell, path = [program], os.environ["PATH"]
    if request.param == "busybox":
        path = applets.name
        for name in APPLETS:
            os.symlink(program, f"{path}/{name}")
        shell = [f"{path}/sh"]

    def run(*words, stdin=b"", user=None, script=SCRIPT):
        done = subprocess.run(
            [*shell, script, *words],
            input=stdin,
            capture_output=True,
            env={"PATH": path},
            umask=0o077,
            user=user,
        )
        assert bool(done.stdout) == ("--help" in words[:1])
        return done.returncode, done.stderr.decode()

    with applets:
        yield run


@pytest.fixture
def queue(root):
    Broker(root, create=True).create_queue("jobs")
    return Path(root) / "jobs"


def taken(queue):
    """Return the texts and priorities of all that was dropped, a minute later."""
    assert os.listdir(queue / "tmp") == []
    ages = [
        os.stat(queue / "drop" / each).st_ctime for each in os.listdir(queue / "drop")
    ]
    broker = Broker(queue.parent, clock=FakeClock(max(ages, default=0) + 60))
    assert broker.clean("jobs").adopted == len(ages)
    assert broker.dead("jobs") == []
    return [(m.message, m.priority) for m in broker.consume("jobs", 10_000)]


def test_hostile_texts_arrive_as_they_are(publish, queue):
    assert publish(queue.parent, "jobs", *HOSTILE) == (0, "")
    assert taken(queue) == [(text, 999) for text in HOSTILE]


@pytest.mark.parametrize("words", [[], ["-"]])
def test_each_line_is_a_message_as_publish_from_file_has_it(publish, queue, words):
    lines = b"\xef\xbb\xbffirst\r\n\n\r\nsecond\r\rone\0\t\\\n\xef\xbb\xbf\nend\nlast"
    assert publish("-p", "7", queue.parent, "jobs", *words, stdin=lines) == (0, "")
    wanted = ["first", "second\r\rone\0\t\\", "\ufeff", "end", "last"]
    assert taken(queue) == [(text, 7) for text in wanted]


def test_no_lines_are_no_message(publish, queue):
    assert publish(queue.parent, "jobs", stdin=b"\n\n") == (0, "")
    assert taken(queue) == []


@pytest.mark.parametrize(
    "bad",
    [
        *(b"\x80", b"\xff", b"\xc3", b"\xc3\n", b"\xe2\x82", b"\xc0\xaf", b"\xc1\xbf"),
        *(b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80"),
        *(b"\xf5\x80\x80\x80", b"\xe2\x28\xa1"),
    ],
)
def test_what_is_no_utf_8_publishes_nothing(publish, queue, bad):
    status, err = publish(queue.parent, "jobs", stdin=b"fine\nx" + bad + b"\nfine\n")
    assert (status, err.splitlines()) == (
        1,
        [
            "ddmq-publish: line 2: not UTF-8 text",
            "ddmq-publish: nothing is published",
        ],
    )
    assert "TEXT 2: not UTF-8" in publish(queue.parent, "jobs", "fine", b"x" + bad)[1]
    assert taken(queue) == []


def test_two_publishers_never_overwrite_one_another(publish, queue):
    for _ in range(3):
        assert publish(queue.parent, "jobs", "a", "b") == (0, "")
    assert sorted(taken(queue)) == [("a", 999)] * 3 + [("b", 999)] * 3


@pytest.mark.parametrize(("mode", "wanted"), [(0o2770, 0o660), (0o2775, 0o664)])
def test_a_group_that_shares_the_queue_can_use_what_was_dropped(
    publish, root, mode, wanted
):
    Broker(root, create=True).create_queue("jobs", mode=mode)
    assert publish(root, "jobs", "x") == (0, "")
    [dropped] = os.scandir(Path(root) / "jobs" / "drop")
    assert stat.S_IMODE(dropped.stat().st_mode) == wanted


def test_in_a_queue_of_ones_own_the_umask_decides(publish, queue):
    assert publish(queue.parent, "jobs", "x") == (0, "")
    [dropped] = os.scandir(queue / "drop")
    assert stat.S_IMODE(dropped.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["none", "jobs"], "none: no root of ddmq"),
        (["mq", "none"], "mq/none: no such queue"),
        (["mq", "tmp"], "mq/tmp: no such queue"),
    ],
)
def test_what_is_not_there_is_named(publish, queue, monkeypatch, words, why):
    monkeypatch.chdir(queue.parents[1])
    status, err = publish(*words, "x")
    assert (status, err) == (1, f"ddmq-publish: ./{why}; nothing is published\n")


@pytest.mark.parametrize(
    "words",
    [
        *([], ["ROOT"], ["-x", "ROOT", "jobs"], ["-p"], ["ROOT", "../jobs", "x"]),
        *(
            ["-p", each, "ROOT", "jobs", "x"]
            for each in ("", "-1", "01", "x", "1" * 19)
        ),
    ],
)
def test_wrong_usage_ends_with_status_2(publish, queue, words):
    status, err = publish(*(str(queue.parent) if w == "ROOT" else w for w in words))
    assert (status, err.count("\n")) == (2, 1)
    assert "usage: ddmq-publish [-p PRIORITY] ROOT QUEUE [TEXT...]" in err
    assert taken(queue) == []


def test_the_help_is_printed(publish):
    assert publish("--help") == (0, "")


@pytest.mark.parametrize("closed", ["tmp", "drop"])
@pytest.mark.root("be two users")
def test_who_may_not_write_is_told_and_leaves_nothing(publish, closed):
    with TemporaryDirectory() as place:  # pytest's own are closed to others
        os.chmod(place, 0o755)
        queue = Path(place) / "mq" / "jobs"
        Broker(queue.parent, create=True).create_queue("jobs")
        for name in ("tmp", "drop"):
            (queue / name).chmod(0o755 if name == closed else 0o777)
        script = shutil.copy(SCRIPT, place)
        status, err = publish(queue.parent, "jobs", "x", user=12345, script=script)
        assert (status, err.count("nothing is published")) == (1, 1)
        assert f"{queue}/{closed}" in err
        assert taken(queue) == []


@pytest.mark.root("mount a small file system")
def test_a_full_disk_leaves_nothing_half_written(publish, mounted, tmp_path):
    disk = mounted(tmp_path / "disk", "size=1m")
    Broker(disk / "mq", create=True).create_queue("jobs")
    with open(disk / "filler", "wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    os.truncate(disk / "filler", os.path.getsize(disk / "filler") - (1 << 16))
    lines = b"x\n" * 3 + b"y" * 200_000 + b"\nx\n"
    status, err = publish(disk / "mq", "jobs", stdin=lines)
    assert (status, err.endswith("ddmq-publish: nothing is published\n")) == (1, True)
    assert taken(disk / "mq" / "jobs") == []


@pytest.fixture
def publisher(request, queue):
    """Start one that waits for more lines, and has written drafts of the first ones."""
    publisher = subprocess.Popen(
        [request.param, SCRIPT, queue.parent, "jobs"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    with in_time(60):
        publisher.stdin.write(b"x\n" * 100_000)
        while not any(files for _, _, files in os.walk(queue / "tmp")):
            pass
    yield publisher
    publisher.stdin.close()


@pytest.mark.slow
@pytest.mark.parametrize("publisher", ["dash", "bash"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_one_that_is_interrupted_leaves_nothing(queue, publisher, number):
    os.killpg(publisher.pid, number)
    assert publisher.wait(60) == 128 + number
    assert taken(queue) == []


@pytest.mark.slow
@pytest.mark.parametrize("publisher", ["dash"], indirect=True)
def test_what_one_left_that_was_killed_is_cleared_away(queue, publisher):
    os.killpg(publisher.pid, signal.SIGKILL)
    publisher.wait(60)
    [left] = (queue / "tmp").iterdir()
    days_later = FakeClock(left.stat().st_ctime + 2 * 86_400)
    Broker(queue.parent, clock=days_later).clean("jobs")
    assert taken(queue) == []
