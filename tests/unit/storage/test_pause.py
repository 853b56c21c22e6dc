"""A queue is paused by one link, made by one client, and seen by the next look."""

from __future__ import annotations

import os

import pytest
from support import counting, remembering_missing
from unit.scenes import texts

from ddmq import Broker, QueuePaused
from ddmq.storage.filesystem import FileSystem


@pytest.fixture
def link(root):
    return root / "q" / "ready" / "paused"


def test_who_pauses_first_is_named_and_others_are_told(broker, other, link, clock):
    assert broker.paused("q") is None
    assert broker.pause("q")
    before = os.readlink(link)
    clock.advance(60)
    assert not other.pause("q")
    assert os.readlink(link) == before
    found = other.paused("q")
    assert (found.host, found.since) == (
        os.uname().nodename,
        pytest.approx(clock.time() - 60),
    )
    assert found.user
    assert other.resume("q")
    assert not broker.resume("q")
    assert broker.paused("q") is None


def test_who_heeds_it_takes_nothing_and_all_else_goes_on(broker, other, clock):
    broker.publish("q", "a", timeout=5)
    [held] = broker.consume("q")
    broker.pause("q")
    broker.publish("q", "b", delay=5)
    with pytest.raises(QueuePaused, match=r"q is paused by .* until `ddmq resume`"):
        other.consume("q", heed_pause=True)
    clock.advance(6)
    for _ in range(3):
        clock.advance(1)
        with pytest.raises(QueuePaused):
            other.consume("q", heed_pause=True)
    assert other.view("q")["q"] == (2, 0, 0, 0)  # its lease is over, and one is due
    other.resume("q")
    assert sorted(texts(other.consume("q", 9, heed_pause=True))) == ["a", "b"]
    del held


def test_a_pause_is_seen_by_the_next_look_in_the_middle_of_a_bundle(
    broker, other, clock
):
    broker.publish_many("q", list("abcdefghijkl"))
    assert texts(other.consume("q", 2, heed_pause=True)) == ["a", "b"]
    broker.pause("q")
    assert texts(other.consume("q", heed_pause=True)) == ["c"]  # within 0.2 s
    clock.advance(0.2)
    for _ in range(3):
        with pytest.raises(QueuePaused):
            other.consume("q", heed_pause=True)
    broker.resume("q")
    assert texts(other.consume("q", 9, heed_pause=True)) == list("defghijkl")


def test_a_plain_consumer_takes_all_the_same_and_is_told_once(broker, caplog):
    broker.publish("q", "a")
    broker.publish("q", "b")
    broker.pause("q")
    assert texts(broker.consume("q")) == ["a"]
    assert texts(broker.consume("q")) == ["b"]
    assert caplog.text.count("queue q is paused by ") == 1


def test_it_survives_the_housekeeping_and_is_no_garbage(broker, other, link, clock):
    broker.pause("q")
    broker.clean("q")
    clock.advance(3600)
    other.consume("q")
    assert link.is_symlink()
    assert other.view("q")["q"] == (0, 0, 0, 0)
    assert other.is_empty("q")
    assert other.dead("q") == []


@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "elsewhere", "hostile"])
def test_whatever_is_planted_there_pauses_and_can_be_removed(broker, link, kind):
    if kind == "file":
        link.write_text("x")
    elif kind == "directory":
        (link / "within").mkdir(parents=True)
    elif kind == "fifo":
        os.mkfifo(link)
    elif kind == "elsewhere":
        link.symlink_to("/etc")
    else:
        link.symlink_to("root\x1b[2J@\u202e:1")
    broker.publish("q", "a")
    assert not broker.pause("q")
    assert str(broker.paused("q")) == "by nobody knows whom"
    with pytest.raises(QueuePaused):
        broker.consume("q", heed_pause=True)
    assert broker.resume("q")
    assert not os.path.lexists(link)
    assert texts(broker.consume("q", heed_pause=True)) == ["a"]


def test_it_is_resumed_though_an_nfs_client_looked_for_the_pause_too_early(
    broker, root, clock, link
):
    ours = Broker(root, clock=clock)
    assert not ours.resume("q")
    broker.pause("q")
    ours._known("q").store.fs.calls = remembering_missing(str(link))
    assert ours.resume("q")
    assert not link.is_symlink()


def test_a_queue_that_is_not_paused_costs_nothing_more(broker, root, clock):
    """As `test_cost` counts it, a look is three listings, whether a pause is heeded or not."""
    broker.pause("q")
    broker.resume("q")
    broker.publish_many("q", ["x"] * 100)
    made = {}
    for heeds in (False, True):
        calls = counting()
        client = Broker(root, clock=clock, fs=FileSystem(calls))
        client.consume("q", heed_pause=heeds)
        for _ in range(3):
            clock.advance(5)
            client.consume("q", heed_pause=heeds)
        before = len(calls.made)
        clock.advance(5)
        client.consume("q", heed_pause=heeds)
        made[heeds] = calls.made[before:]
    assert made[True] == made[False]


def test_a_user_and_a_host_of_any_name_can_pause(broker, monkeypatch):
    import pwd

    odd = os.uname_result(("Linux", "nöde\n:1", "", "", ""))
    monkeypatch.setattr(os, "uname", lambda: odd)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: {}["nobody"])
    assert broker.pause("q")
    found = broker.paused("q")
    assert (found.user, found.host) == (str(os.getuid()), "n_de__1")
