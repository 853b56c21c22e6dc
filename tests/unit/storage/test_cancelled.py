"""What is cancelled is never run again, unless it is redriven; each crash leaves it in one state."""

from __future__ import annotations

import errno
import os

import pytest
from protocol.scenes import QUEUE
from support import Calls, Crash, FakeClock, crashing_before
from unit.scenes import texts

from ddmq import Broker, InvalidArgument
from ddmq.storage.filesystem import FileSystem


def names(root):
    """Return the names of what is cancelled and not dead yet; None: there is no directory."""
    path = root / QUEUE / "ready" / "cancelled"
    return sorted(os.listdir(path)) if path.exists() else None


def state_of(broker, id_):
    return broker.status(QUEUE, id_)[id_]


@pytest.mark.parametrize("delay", [0, 60])
def test_a_single_file_is_dead_at_once(broker, root, delay):
    id_ = broker.publish(QUEUE, "x", delay=delay)
    assert broker.cancel(QUEUE, id_) == {id_: "dead"}
    [letter] = broker.dead(QUEUE)
    assert (letter.id, letter.message) == (id_, "x")
    assert letter.reason.startswith("cancelled by ")
    assert letter.reason.endswith(f" on {os.uname().nodename}")
    assert broker.view(QUEUE)[QUEUE] == (0, 0, 0, 1)
    assert names(root) is None
    assert broker.cancel(QUEUE, [id_]) == {id_: "dead"}  # as often as one likes


def test_a_line_is_dead_when_its_turn_comes(broker, root):
    broker.publish_many(QUEUE, [f"x{n}" for n in range(12)])
    ids = [seen.id for seen in broker.peek(QUEUE, 12)]
    wanted = ids[0], ids[2], ids[11]
    assert broker.cancel(QUEUE, wanted) == dict.fromkeys(wanted, "waiting")
    assert broker.to_cancel(QUEUE) == set(wanted)
    taken = broker.consume(QUEUE, 4)
    assert texts(taken) == ["x1", "x3", "x4", "x5"]
    assert [letter.message for letter in broker.dead(QUEUE)] == ["x0", "x2"]
    assert names(root) == [ids[11]]
    assert texts(broker.consume(QUEUE, 12)) == ["x6", "x7", "x8", "x9", "x10"]
    assert names(root) is None
    assert broker.view(QUEUE)[QUEUE] == (0, 9, 0, 3)


def test_one_at_work_is_dead_when_its_consumer_gives_it_up(broker, root, clock):
    broker.publish_many(QUEUE, [f"x{n}" for n in range(12)], timeout=10)
    held = broker.consume(QUEUE, 5)
    ids = [message.id for message in held]
    assert broker.cancel(QUEUE, ids) == dict.fromkeys(ids, "work")
    broker.ack(held[0])  # it was done
    broker.nack(held[1])
    broker.release(held[2])
    assert broker.view(QUEUE)[QUEUE] == (9, 2, 0, 0)
    assert texts(broker.consume(QUEUE, 1)) == ["x5"]
    assert {x.message for x in broker.dead(QUEUE)} <= {"x1", "x2"}
    clock.advance(11)
    broker.clean(QUEUE)
    assert {"x3", "x4"} <= {x.message for x in broker.dead(QUEUE)}
    broker.consume(QUEUE, 12)
    assert {x.message for x in broker.dead(QUEUE)} == {"x1", "x2", "x3", "x4"}
    assert names(root) == [ids[0]]


def test_names_of_what_is_not_in_the_queue_go_away_after_an_hour(broker, root):
    clock = FakeClock(root.stat().st_mtime)  # names bear the real time
    cleaner = Broker(root, clock=clock)
    broker.publish_many(QUEUE, ["x"] * 12)
    held = broker.consume(QUEUE, 3)
    ids = [message.id for message in held]
    broker.cancel(QUEUE, ids)
    broker.ack(held[0])
    broker.reject(held[1])
    broker.release(held[2])
    clock.advance(3500)
    cleaner.clean(QUEUE)
    assert names(root) == sorted(ids)
    clock.advance(200)
    cleaner.clean(QUEUE)
    assert names(root) == [ids[2]]  # however long it waits


def test_a_lease_that_is_over_is_not_requeued(broker, root, clock):
    id_ = broker.publish(QUEUE, "x", timeout=10)
    broker.consume(QUEUE)
    broker.cancel(QUEUE, id_)
    clock.advance(11)
    assert broker.clean(QUEUE).dead == 1
    [letter] = broker.dead(QUEUE)
    assert letter.reason.startswith("cancelled by ")
    assert names(root) is None


def test_what_is_redriven_is_not_cancelled_any_more(broker, root):
    broker.publish_many(QUEUE, ["x"] * 12)
    [held] = broker.consume(QUEUE)
    broker.cancel(QUEUE, held.id)
    broker.reject(held, "by its consumer, at the same time")
    assert names(root) == [held.id]
    assert broker.redrive(QUEUE, [held.id]) == 1
    assert names(root) is None
    assert held.id in {message.id for message in broker.consume(QUEUE, 12)} | {
        message.id for message in broker.consume(QUEUE, 12)
    }


def test_what_nobody_has_is_not_cancelled(broker, root):
    id_ = broker.publish(QUEUE, "x")
    broker.ack(broker.consume(QUEUE))
    assert broker.cancel(QUEUE, [id_, "nowhere"]) == {
        id_: "unknown",
        "nowhere": "unknown",
    }
    assert names(root) is None
    for wrong in ("../../x", "", "A", "x" * 65, "a\n"):
        with pytest.raises(InvalidArgument):
            broker.cancel(QUEUE, [id_, wrong])


@pytest.mark.parametrize("plant", [os.mkdir, lambda path: open(path, "x").close()])
def test_what_others_plant_there_stops_nobody(broker, root, plant):
    path = root / QUEUE / "ready" / "cancelled"
    plant(path)
    if path.is_dir():
        (path / "no id\n").touch()
        (path / "x").mkdir()
    id_ = broker.publish(QUEUE, "x")
    assert broker.to_cancel(QUEUE) <= {"x"}
    assert [message.id for message in broker.consume(QUEUE)] == [id_]
    assert broker.cancel(QUEUE, id_) == {id_: "work"}
    assert broker.to_cancel(QUEUE) >= {id_}


@pytest.mark.parametrize("number", [1, 12])
@pytest.mark.parametrize("is_held", [False, True])
def test_a_cancel_that_was_interrupted_is_done_again(
    broker, root, clock, number, is_held
):
    """Wherever it stopped, the message is in one state; after the second, it is never run."""
    for n in range(200):
        broker.publish_many(QUEUE, ["x"] * number)
        held = broker.consume(QUEUE) if is_held else []
        id_ = held[0].id if held else broker.peek(QUEUE)[0].id
        fs = FileSystem(crashing_before(n))
        try:
            Broker(root, fs=fs, clean=False, clock=clock).cancel(QUEUE, id_)
            has_crashed = False
        except Crash:
            has_crashed = True
        assert state_of(broker, id_) in ("waiting", "work", "dead")
        assert sum(broker.view(QUEUE)[QUEUE]) == number
        broker.cancel(QUEUE, id_)
        if held:
            broker.release(held)
        taken = [m for _ in range(number + 1) for m in broker.consume(QUEUE, number)]
        assert id_ not in {message.id for message in taken}
        assert state_of(broker, id_) == "dead"
        assert names(root) is None
        broker.clean(QUEUE)
        notes = [x for x in os.listdir(root / QUEUE / "dead") if x.endswith(".note")]
        assert has_crashed or len(notes) == 1  # one without a letter goes in an hour
        broker.purge(QUEUE)
        if not has_crashed:
            assert n > 3
            return


def test_whoever_dies_while_he_ends_one_leaves_it_cancelled(broker, root, clock):
    for n in range(200):
        broker.publish_many(QUEUE, ["x"] * 12, timeout=10)
        id_ = broker.peek(QUEUE)[0].id
        broker.cancel(QUEUE, id_)
        fs = FileSystem(crashing_before(n))
        try:
            crashing = Broker(root, fs=fs, clean=False, clock=clock)
            assert id_ not in {message.id for message in crashing.consume(QUEUE, 3)}
            has_crashed = False
        except Crash:
            has_crashed = True
        assert state_of(broker, id_) in ("waiting", "work", "dead")
        clock.advance(60)
        broker.clean(QUEUE)
        taken = [m for _ in range(13) for m in broker.consume(QUEUE, 12)]
        assert id_ not in {message.id for message in taken}
        assert len({message.id for message in taken}) == 11
        assert state_of(broker, id_) == "dead"
        broker.purge(QUEUE)
        if not has_crashed:
            assert n > 10
            return


def test_a_queue_with_cancelled_ones_is_deleted(broker, root):
    broker.publish_many(QUEUE, ["x"] * 12)
    broker.cancel(QUEUE, broker.peek(QUEUE)[0].id)
    broker.delete_queue(QUEUE)
    assert QUEUE not in os.listdir(root)


def test_a_directory_in_place_of_a_name_keeps_no_other_name(broker, root):
    broker.publish_many(QUEUE, ["x"] * 12)
    held = broker.consume(QUEUE, 12)
    ids = [message.id for message in held]
    broker.cancel(QUEUE, ids)
    for message in held:
        broker.reject(message)
    for id_ in ids[:6]:
        path = root / QUEUE / "ready" / "cancelled" / id_
        path.unlink()
        path.mkdir()
    broker.redrive(QUEUE, ids)
    assert names(root) == sorted(ids[:6])


def test_what_is_no_name_of_a_message_is_moved_away_after_an_hour(broker, root):
    """Else each claim would look there for ever."""
    clock = FakeClock(root.stat().st_mtime)  # names bear the real time
    cleaner = Broker(root, clock=clock)
    path = root / QUEUE / "ready" / "cancelled"
    path.mkdir()
    (path / "No Id").touch()
    (path / "x").mkdir()
    (path / "y").symlink_to("nowhere")
    clock.advance(3500)
    cleaner.clean(QUEUE)
    assert names(root) == ["No Id", "x", "y"]
    clock.advance(200)
    cleaner.clean(QUEUE)
    assert names(root) is None
    assert len(broker.dead(QUEUE)) == 2


def test_many_names_do_not_take_all_the_time_of_a_cleaning(broker, root):
    clock = FakeClock(root.stat().st_mtime)
    path = root / QUEUE / "ready" / "cancelled"
    path.mkdir()
    for n in range(40):
        (path / f"x{n}").symlink_to("nowhere")
    clock.advance(3700)

    def slow(_, name, function, arguments):
        clock.advance(0.1 * (name == "lstat" and "/cancelled/" in arguments[0]))
        return function(*arguments)

    store = Broker(root, fs=FileSystem(Calls(slow)), clock=clock)._known(QUEUE).store
    store.cancelled.tidy(clock.now_ns, 0.5)
    assert 30 < len(names(root)) < 40


def test_a_listing_that_takes_long_is_not_made_for_each_claim(broker, root, clock):
    path = root / QUEUE / "ready" / "cancelled"
    path.mkdir()
    ids = [broker.publish(QUEUE, f"x{n}") for n in range(30)]
    for id_ in (ids[1], ids[2], "z"):
        (path / id_).symlink_to("nowhere")

    def slow(_, name, function, arguments):
        if name == "listdir" and arguments[0] == str(path):
            clock.advance(1)
        return function(*arguments)

    calls = Calls(slow)
    ours = Broker(root, fs=FileSystem(calls), clock=clock, clean=False)
    before = clock.monotonic()
    assert [x.id for x in ours.consume(QUEUE)] == ids[:1]
    (path / ids[1]).unlink()  # as a redrive does
    for n in (1, 3, *range(4, 30)):
        assert [x.id for x in ours.consume(QUEUE)] == [ids[n]]
    assert clock.monotonic() - before == 1
    assert ours.cancel(QUEUE, ids[5]) == {ids[5]: "work"}
    assert broker.to_cancel(QUEUE) == {ids[5], "z"}


def test_a_disk_that_is_full_keeps_no_line_that_others_share_a_claim_with(
    broker, root, clock
):
    broker.publish_many(QUEUE, ["x"] * 12, timeout=10)
    ids = [message.id for message in broker.consume(QUEUE, 12)]
    broker.cancel(QUEUE, ids[3])

    def full(_, name, function, arguments):
        if name == "open" and str(arguments[0]).endswith(".detached"):
            raise OSError(errno.ENOSPC, "full", arguments[0])
        return function(*arguments)

    clock.advance(11)
    Broker(root, fs=FileSystem(Calls(full)), clock=clock).clean(QUEUE)
    assert broker.view(QUEUE)[QUEUE] == (12, 0, 0, 0)
    assert [x.id for x in broker.consume(QUEUE, 12)] == ids[:3] + ids[4:]
    assert [x.id for x in broker.dead(QUEUE)] == [ids[3]]


@pytest.mark.parametrize("code", [errno.ESTALE, errno.ENOENT])
def test_a_directory_that_is_made_anew_is_listed_again(broker, root, clock, code):
    broker.publish_many(QUEUE, ["x"] * 12)
    [seen] = broker.peek(QUEUE)
    broker.cancel(QUEUE, seen.id)
    missed = []

    def stale(_, name, function, arguments):
        if name == "listdir" and arguments[0].endswith("/cancelled") and not missed:
            missed.append(name)
            raise OSError(code, "stale", arguments[0])
        return function(*arguments)

    ours = Broker(root, fs=FileSystem(Calls(stale)), clock=clock, clean=False)
    assert seen.id not in {message.id for message in ours.consume(QUEUE, 3)}
    assert missed


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE])
def test_a_directory_that_others_remove_and_make_while_we_mark_is_used(
    broker, root, clock, code
):
    """An NFS client then finds a stale handle in each of its two tries, and a directory there."""
    broker.publish_many(QUEUE, ["x"] * 12)
    first, second = [seen.id for seen in broker.peek(QUEUE, 2)]
    broker.cancel(QUEUE, first)
    missed = []

    def stale(_, name, function, arguments):
        is_mark = name == "symlink" and str(arguments[1]).endswith(second)
        if is_mark and len(missed) < 2:
            missed.append(name)
            raise OSError(code, "stale", arguments[1])
        return function(*arguments)

    ours = Broker(root, fs=FileSystem(Calls(stale)), clock=clock, clean=False)
    assert ours.cancel(QUEUE, second) == {second: "waiting"}
    assert missed == ["symlink"] * 2
    assert names(root) == sorted([first, second])
