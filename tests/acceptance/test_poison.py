"""Files that need more memory than whoever meets them may have: real processes with a limit."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from acceptance.workers import counts, python, start

import ddmq

pytestmark = pytest.mark.slow

#: What a process may have, in bytes; and a message that took 1.7 GB when it was parsed.
MEMORY = 400 << 20
POISON = b"[]," * (20 << 20)
HEAD = b'{"durable":false,"priority":0}'
STAMP, TOKEN = 1_600_000_000_000_000_000, "0123456789abcdef"
GOOD = ["good 0", "good 1", "good 2"]


def poor():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def run(*arguments):
    """Return exit status, output and errors of a command of `ddmq` that may have little memory."""
    done = subprocess.run(
        [sys.executable, "-m", "ddmq", *map(str, arguments)],
        capture_output=True,
        text=True,
        preexec_fn=poor,
        check=False,
        timeout=60,
        cwd=Path(ddmq.__file__).parent.parent,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def work(root, *options):
    """Let a worker with little memory empty the queue; return exit status, output, errors."""
    options = ("-j", 1, "--wait", 1, *options)
    process = start(*options, root, "jobs", *python("print(1)"), preexec_fn=poor)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.fixture
def poison(root, broker, tmp_path):
    """Return a function that plants a huge file at a path in the queue."""
    (tmp_path / "poison").write_bytes(b'{"message": [' + POISON + b"[]]}")

    def plant(path, *pieces):
        path = root / "jobs" / path
        path.parent.mkdir(parents=True, exist_ok=True)
        if pieces:
            path.write_bytes(b"".join(pieces))
        else:
            shutil.copyfile(tmp_path / "poison", path)
        os.utime(path, (0, 0))

    broker.update_settings("jobs", durable=False)
    return plant


def id_of(number):
    return f"{number:020x}"


def entry(number):
    return f"{STAMP + number}.{id_of(number)}.0-0"


def bundle(number, lines, *content):
    """Return an entry of a bundle, and the file with its messages."""
    entry_ = f"{STAMP + number + lines - 1}.{id_of(number)}.{lines}"
    lines_ = f"bundles/{id_of(number)}/lines"
    return [(f"ready/0/{STAMP}/{entry_}", b""), (lines_, *content)]


def leased_range(number):
    """Return the name of the lease of two lines, whose claim was not made yet."""
    range_ = f"{STAMP}.{id_of(number)}.0-2-2.{TOKEN}.oo.0-0"
    return f"work/1600000000000.0.{range_}.{TOKEN}.range"


PLANTED = {
    "waiting": [(f"ready/0/{STAMP}/{entry(1)}",)],
    "waiting as a line": bundle(2, 2, HEAD, b'\n"good"\n[', POISON, b"[]]\n"),
    "waiting as a first line": bundle(3, 2, b"[", POISON),
    "waiting as no lines": bundle(4, 20, HEAD, b"\n" * (60 << 20)),
    "leased": [(f"work/1600000000000.0.{entry(5)}.{TOKEN}",)],
    "leased lines": [
        (leased_range(6), b""),
        (f"bundles/{id_of(6)}/lines", HEAD, b'\n"good"\n[', POISON, b"[]]\n"),
    ],
    "delayed": [(f"delayed/1600000000000.0.{entry(7)}",)],
    "dead": [
        (f"dead/0.{entry(8)}.{TOKEN}.rejected",),
        (f"dead/{id_of(8)}.{TOKEN}.rejected.note",),
    ],
    "dropped": [("drop/file",)],
}


@pytest.mark.parametrize("place", PLANTED)
def test_a_huge_message_becomes_a_dead_letter_and_stops_nobody(
    place, root, broker, poison
):
    for planted in PLANTED[place]:
        poison(*planted)
    for text in GOOD:
        broker.publish("jobs", text)
    assert run("view", root)[0] == 0
    assert run("clean", root)[0] == 0
    assert run("publish", root, "jobs", "good 3")[0] == 0
    status, out, err = run("consume", root, "jobs", "-n", 2)
    assert (status, err) == (0, "")
    texts = [message["message"] for message in json.loads(out)]
    assert len(set(texts) & {"good", "good 3", *GOOD}) == 2
    status, _, err = work(root)
    assert status == 0, err
    assert counts(broker)[:3] == (0, 2, 0)
    status, out, err = run("dead", root, "jobs", "--format", "json")
    letters = json.loads(out)
    assert (status, len(letters)) == (0, counts(broker)[3])
    assert [letter["message"] for letter in letters] == [None] * len(letters)
    assert len(letters) >= 1
    assert run("doctor", root)[0] == 0
    assert run("redrive", root, "jobs")[1] == "0\n"


def test_a_message_that_nobody_can_read_counts_losses_and_stops_nobody(
    root, broker, poison
):
    broker.update_settings("jobs", max_message_size=64 << 20)
    content = b'{"message": [', POISON[: 24 << 20], b"[]]}"
    poison(f"ready/0/{STAMP}/{entry(1)}", *content)
    for text in GOOD:
        broker.publish("jobs", text)
    status, out, _ = run("consume", root, "jobs")
    assert (status, json.loads(out)["message"]) == (0, GOOD[0])
    [path] = (root / "jobs/ready/0").rglob("*.*")
    assert path.name == f"{STAMP + 1}.{id_of(1)}.0-1"
    status, out, _ = run("consume", root, "jobs", "-n", 3)
    assert [m["message"] for m in json.loads(out)] == GOOD[1:]
    status, out, err = run("consume", root, "jobs")
    assert (status, out) == (1, "")
    assert "not enough memory to read it; this process may have no more memory" in err
    [path] = (root / "jobs/ready/0").rglob("*.*")
    assert path.name == f"{STAMP + 1}.{id_of(1)}.0-3"
    broker.publish("jobs", "good 3")
    status, _, err = work(root, "--retries", 2)
    assert (status, counts(broker)[:3]) == (4, (0, 3, 0)), err
    [letter] = json.loads(run("dead", root, "jobs", "--format", "json")[1])
    assert letter["reason"] == "tried too often: 0 failures, 3 losses"
    assert letter["message"] is None


@pytest.mark.parametrize("options", [(), ("--fix",)])
def test_doctor_reads_no_more_of_bundles_than_their_names_and_one_line(
    root, broker, poison, options
):
    first = root / "jobs" / f"bundles/{id_of(0)}/lines"
    poison(first, HEAD, b"\n1\n", b"\n" * (60 << 20))
    os.truncate(first, 1 << 40)  # there is nothing in most of it
    for number in range(20):
        if number:
            lines = root / "jobs" / f"bundles/{id_of(number)}/lines"
            lines.parent.mkdir()
            os.link(first, lines)
        poison(
            leased_range(number).replace(".0-2-2.", ".0-1-1.").replace(".oo.", ".o."),
            b"",
        )
    status, out, err = run("doctor", root, *options)
    assert (status, err) == (not options, "")
    assert "20 leases are over" in out
    if options:
        assert counts(broker) == (20, 0, 0, 0)
        assert {message.message for message in broker.consume("jobs", 20)} == {1}
