"""Messages are seen without being taken: in order, wherever they are, whatever is planted there."""

from __future__ import annotations

import os

import pytest
from protocol.scenes import QUEUE
from support import Calls
from unit.scenes import claim_in_vain, texts

from ddmq.storage.filesystem import FileSystem
from ddmq.storage.names import LINES


def everything(root):
    """Return all names in a root, and where links lead."""
    return {
        path: os.readlink(path) if path.is_symlink() else path.lstat().st_ino
        for path in root.rglob("*")
        if path.name != "cleaned"
    }


def test_what_is_peeked_at_is_what_is_consumed_next(broker, root):
    broker.publish_many("q", [f"b{n}" for n in range(12)])
    broker.publish("q", "late")
    broker.publish("q", "first", priority=3)
    broker.publish_many("q", [f"c{n}" for n in range(12)], priority=5, timeout=9)
    held = broker.consume("q", 4)
    assert texts(held) == ["first", "c0", "c1", "c2"]
    broker.release(held[3])  # a range that waits, before its bundle
    broker.nack(held[1])  # which has a file of its own from now on
    before = everything(root)
    seen = broker.peek("q", 99)
    assert everything(root) == before
    assert broker.peek("q", 3) == seen[:3]
    assert [found.state for found in seen] == ["waiting"] * len(seen)
    taken = broker.consume("q", 99)
    assert [(m.id, m.message, m.priority, m.failures) for m in taken] == [
        (s.id, s.message, s.priority, s.failures) for s in seen
    ]
    assert texts(seen)[:3] == ["c0", "c2", "c3"]
    assert seen[1].own == {"timeout": 9}
    assert broker.peek("q") == []


def test_one_is_found_in_every_state(broker, clock):
    broker.publish_many("q", [f"x{n}" for n in range(20)])
    single = broker.publish("q", "single")
    delayed = broker.publish("q", "later", delay=60)
    broker.publish_many("q", ["y"] * 10, delay=90)
    lines = broker.consume("q", 3)
    bundle = lines[0].id.partition("-")[0]
    broker.nack(lines[0])  # detached, and gone on
    at_work = broker.find("q", lines[1].id)
    assert (at_work.state, at_work.message) == ("work", "x1")
    assert at_work.until == pytest.approx(clock.time() + 600, abs=1)
    assert (at_work.host, at_work.process) == (os.uname().nodename, os.getpid())
    assert broker.find("q", lines[0].id).failures == 1
    waiting = broker.find("q", f"{bundle}-17")
    assert (waiting.state, waiting.message) == ("waiting", "x17")
    assert broker.find("q", f"{bundle}-20") is None
    assert broker.find("q", single).message == "single"
    later = broker.find("q", delayed)
    assert (later.state, later.message) == ("delayed", "later")
    assert later.until == pytest.approx(clock.time() + 60, abs=1)
    broker.reject(lines[2], "bad sample", details={"job": "7"})
    dead = broker.find("q", lines[2].id)
    assert (dead.state, dead.message, dead.reason) == ("dead", "x2", "bad sample")
    assert (dead.code, dead.note["job"]) == ("rejected", "7")
    broker.ack(lines[1])
    assert broker.find("q", lines[1].id) is None


def test_a_single_file_at_work_is_found_though_its_holder_renews_it(
    broker, other, root, clock
):
    id_ = broker.publish("q", "x")
    [held] = broker.consume("q")
    renewals = [0]

    def call(_, name, function, arguments):
        if name == "open" and ".0-0." in str(arguments[0]) and renewals[0] < 3:
            renewals[0] += 1
            clock.advance(1)
            held_now[0] = other.renew(held_now[0])
        return function(*arguments)

    held_now = [held]
    client = type(broker)(root, clock=clock, fs=FileSystem(Calls(call)), clean=False)
    found = client.find("q", id_)
    assert renewals[0] == 3
    assert (found.state, found.message) == ("work", "x")
    assert found.host == ""


def test_a_lease_without_its_claim_is_none(world, bundler):
    claim_in_vain(world, 3)
    contents = bundler._known(QUEUE).contents
    assert list(contents.leased()) == []
    assert texts(contents.waiting())[:3] == ["0", "1", "2"]


def test_what_is_no_message_is_told_and_stays(broker, root):
    ids = [broker.publish("q", text) for text in ("a", "b", "c", "d", "e")]
    [bucket] = (root / "q" / "ready" / "999").iterdir()
    for path in bucket.iterdir():
        if ids[0] in path.name:
            path.write_bytes(b"no JSON")
        elif ids[1] in path.name:
            path.unlink()
            os.mkfifo(path)
        elif ids[2] in path.name:
            path.unlink()
            path.symlink_to("/etc/passwd")
        elif ids[3] in path.name:
            path.unlink()
            path.mkdir()
    before = everything(root)
    seen = broker.peek("q", 9)
    assert everything(root) == before
    assert [found.id for found in seen] == ids
    assert [found.message for found in seen] == [None] * 4 + ["e"]
    assert all(found.fault for found in seen[:4])
    assert "symbolic link" in seen[2].fault
    assert all(found.is_none for found in seen[:4])


def test_one_that_is_gone_before_it_is_read_is_left_out(broker, other, root, clock):
    for text in "ab":
        broker.publish("q", text)
    taken = []

    def call(_, name, function, arguments):
        if name == "open" and ".0-0" in str(arguments[0]) and not taken:
            taken.extend(other.consume("q"))
        return function(*arguments)

    client = type(broker)(root, clock=clock, fs=FileSystem(Calls(call)), clean=False)
    assert texts(client.peek("q", 9)) == ["b"]


def test_lines_whose_bundle_is_hidden_are_told(broker, root):
    broker.publish_many("q", list("x" * 10))
    [bundle] = (root / "q" / "bundles").iterdir()
    (bundle / LINES).rename(root / "hidden")
    seen = broker.peek("q", 99)
    assert len(seen) == 10
    assert "can't be found" in seen[0].fault
    assert not seen[0].is_none


def test_one_that_is_sought_lists_no_claims_of_other_bundles(broker, root, clock):
    for _ in range(5):
        broker.publish_many("q", list("x" * 10))
    calls = []

    def call(_, name, function, arguments):
        calls.append((name, str(arguments[0])))
        return function(*arguments)

    client = type(broker)(root, clock=clock, fs=FileSystem(Calls(call)), clean=False)
    wanted = broker.peek("q", 15)[-1].id
    assert client.find("q", wanted).id == wanted
    listed = {path for name, path in calls if name == "listdir"}
    assert len([path for path in listed if "/bundles/" in path]) == 1
