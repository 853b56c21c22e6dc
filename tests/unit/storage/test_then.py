"""The follow-ups of one queue: armed, leased, given back, failed, and what others put there."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol.scenes import QUEUE
from support import FakeClock, counting
from unit.storage.some_names import counts, milliseconds, tokens

from ddmq import Broker, StorageError
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.names import parse_id
from ddmq.storage.store import Store
from ddmq.storage.then import ARMED, FAILED, LEASED, WAITING, FollowUp, FollowUps

TIMEOUT = 60.0


@pytest.fixture
def then(broker, root, clock):
    """The follow-ups of a queue, as a process that just started sees them."""
    return follow_ups(root, clock)


@pytest.fixture
def place(root):
    return root / "q" / "then"


def follow_ups(root, clock, calls=None):
    fs = FileSystem(calls or counting(), root=str(root))
    store = Store(f"{root}/q", fs, clock)
    store.open()
    return FollowUps(store)


def taken(then):
    """Claim and begin the first one that is free."""
    [first, *_] = then.look()[1]
    return then.begin(then.claim(first, TIMEOUT), TIMEOUT)


def test_there_are_none_where_nobody_armed_any(then, place):
    assert then.all() == []
    assert not place.exists()


def test_it_is_armed_once_however_often_that_is_asked(then, place):
    then.arm()
    id_ = os.readlink(place / ARMED)
    then.arm()
    assert os.listdir(place) == [ARMED]
    assert os.readlink(place / ARMED) == id_ == parse_id(id_)


def test_where_the_queue_is_shared_its_directory_is_so(root, clock, tmp_path):
    broker = Broker(root, create=True, clock=clock)
    broker.create_queue("q", mode=0o2770)
    broker.with_follow_ups("q", lambda each: each.arm())
    assert stat.S_IMODE(os.stat(root / "q" / "then").st_mode) == 0o2770


def test_one_is_leased_by_one_and_comes_free_in_its_time(then, clock):
    then.arm()
    [armed] = then.look()[1]
    held = then.claim(armed, TIMEOUT)
    assert then.claim(armed, TIMEOUT) is None
    assert then.look() == ([held.follow_up], [])
    clock.advance(TIMEOUT + 1)
    assert then.look()[1] == [held.follow_up]


def test_it_keeps_its_id_whoever_takes_it(then, place, clock):
    then.arm()
    id_ = os.readlink(place / ARMED)
    first = taken(then)
    clock.advance(TIMEOUT + 1)
    second = taken(then)
    assert (first.id, second.id) == (id_, id_)
    assert (first.is_new, second.is_new) == (True, False)
    assert then.renew(first, TIMEOUT) is None
    assert not then.finish(first)
    assert then.finish(second)
    assert os.listdir(place) == []


def test_a_renewal_that_was_made_though_it_was_an_error_is_found(then, clock):
    then.arm()
    held = taken(then)
    clock.advance(1)
    assert then.renew(held, TIMEOUT)  # of which we were told nothing
    clock.advance(1)
    assert then.renew(held, TIMEOUT).follow_up.time > held.follow_up.time
    assert then.finish(held)


def test_one_that_never_began_is_armed_again_and_becomes_one_with_another(then, place):
    then.arm()
    held = then.claim(FollowUp(ARMED), TIMEOUT)
    then.arm()
    assert then.give_back(held)
    assert os.listdir(place) == [ARMED]


def test_one_that_has_begun_is_never_armed(then, place):
    then.arm()
    held = taken(then)
    assert then.give_back(held)
    then.arm()
    found, free = then.look()
    assert [each.state for each in found] == [ARMED, "waiting"]
    assert free == found
    assert free[1].failures == 0


def test_it_waits_after_a_failure_and_fails_for_good_in_the_end(then, clock):
    then.arm()
    for number in (1, 2):
        failed, was_ours = then.fail(taken(then), 2, 10)
        assert (failed.state, failed.failures, was_ours) == ("waiting", number, True)
        assert then.look() == ([failed], [])
        clock.advance(11)
    failed, _ = then.fail(taken(then), 2, 10)
    assert (failed.state, failed.failures) == ("failed", 3)
    clock.advance(10**6)
    assert then.look() == ([failed], [])


def test_a_new_one_does_the_work_of_those_that_nobody_holds(then, clock):
    for delay in (10, 1000):
        then.arm()
        then.fail(taken(then), 3, delay)
    then.arm()
    then.fail(taken(then), 0, 0)
    then.arm()
    dead = taken(then)
    clock.advance(TIMEOUT + 1)
    then.arm()
    then.claim(FollowUp(ARMED), TIMEOUT)  # somebody else's
    then.arm()
    ours = then.claim(FollowUp(ARMED), TIMEOUT)
    then.arm()  # for what came later
    others = then.superseded(ours)
    assert [each.state for each in others].count("waiting") == 2
    assert dead.follow_up in others
    then.remove(others)
    assert [each.state for each in then.all()] == [ARMED, "leased", "leased"]


def test_an_old_one_does_the_work_of_none(then, clock):
    then.arm()
    then.fail(taken(then), 3, 0)
    then.arm()
    taken(then)
    clock.advance(TIMEOUT + 1)
    old = then.claim(then.look()[1][0], TIMEOUT)
    assert not old.is_new
    assert then.superseded(old) == []


def test_one_that_was_taken_since_it_was_listed_is_not_removed(then, clock):
    then.arm()
    then.fail(taken(then), 3, 0)
    then.arm()
    others = then.superseded(then.claim(FollowUp(ARMED), TIMEOUT))
    old = then.claim(others[0], TIMEOUT)
    then.remove(others)
    assert old.follow_up in then.all()


# What others put there


@pytest.mark.parametrize("what", ["file", "directory", "link", "long", "fifo"])
def test_what_is_no_follow_up_of_ours_is_run_with_an_id_of_our_own(then, place, what):
    place.mkdir()
    {
        "file": lambda path: path.write_text("x"),
        "directory": lambda path: (path.mkdir(), (path / "x").mkdir()),
        "link": lambda path: path.symlink_to("/etc/passwd"),
        "long": lambda path: path.symlink_to("$(id)" * 100),
        "fifo": os.mkfifo,
    }[what](place / ARMED)
    then.arm()
    held = taken(then)
    assert parse_id(held.id)
    assert then.renew(held, TIMEOUT)
    assert then.finish(held)
    assert os.listdir(place) == []


def test_a_directory_with_the_name_of_an_old_one_is_no_trouble_for_a_new_one(
    then, place, root
):
    then.arm()
    (place / f"{1:013d}.0.{'0' * 16}.{WAITING}").mkdir()
    held = then.claim(FollowUp(ARMED), TIMEOUT)
    others = then.superseded(held)
    held = then.begin(held, TIMEOUT)
    then.remove(others)
    assert then.all() == [held.follow_up]
    assert len(os.listdir(root / "q" / "tmp")) == 1


def test_what_stands_where_one_is_to_be_armed_again_stays(then, place):
    then.arm()
    held = then.claim(FollowUp(ARMED), TIMEOUT)
    (place / ARMED).mkdir()
    assert then.give_back(held)
    assert [each.state for each in then.all()] == [ARMED, "waiting"]


def test_names_that_are_not_ours_are_ignored(then, place):
    then.arm()
    for name in ("x", ".armed", "1.2.3.leased", "armed.failed"):
        (place / name).write_text("")
    assert then.all() == [FollowUp(ARMED)]


def test_a_link_in_the_place_of_the_directory_leads_nowhere(broker, place, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place.symlink_to(elsewhere)
    with pytest.raises(StorageError):
        broker.with_follow_ups("q", lambda each: each.arm())
    assert os.listdir(elsewhere) == []


def test_who_can_not_arm_it_is_told(root, broker, refusing):
    client = Broker(root, fs=refusing("symlink", errno.EDQUOT))
    with pytest.raises(StorageError, match="then/armed"):
        client.with_follow_ups("q", lambda each: each.arm())


def test_a_client_that_does_not_know_the_time_takes_none(root, broker, refusing):
    broker.with_follow_ups("q", lambda each: each.arm())

    class Unknown(FakeClock):
        def compared_ns(self):
            return None

    fs = refusing("open", errno.EROFS, "q/tmp")
    client = Broker(root, clock=Unknown(), fs=fs, clean=False)
    fs.touched_ns = lambda _: (_ for _ in ()).throw(OSError(errno.EROFS, "no"))
    with pytest.raises(StorageError, match="can't be compared"):
        client.with_follow_ups("q", lambda each: each.look())


def test_a_queue_is_deleted_with_them(broker, root):
    broker.with_follow_ups("q", lambda each: each.arm())
    broker.delete_queue("q")
    assert "q" not in os.listdir(root)


def test_housekeeping_and_a_purge_leave_them_as_they_are(world):
    broker = world.broker()
    broker.with_follow_ups(QUEUE, lambda each: each.arm())
    world.clock.advance(10**6)
    broker.clean(QUEUE)
    broker.purge(QUEUE)
    assert os.listdir(f"{world.path}/then") == [ARMED]


# Its names


@given(
    st.builds(
        FollowUp,
        st.sampled_from([LEASED, WAITING, FAILED]),
        milliseconds,
        counts,
        tokens,
    )
)
def test_a_follow_up_survives_its_name(found):
    assert FollowUp.parse(found.filename) == found
    again = found.failed(3, 2, 3)
    assert FollowUp.parse(again.filename) == again


@pytest.mark.parametrize(
    "name",
    ["", "armed.", "Armed", "1.0.x.leased", "0" * 13 + ".0." + "f" * 16 + ".armed"],
)
def test_what_is_no_follow_up_is_none(name):
    assert FollowUp.parse(name) is None


@pytest.mark.parametrize(
    ("found", "is_free"),
    [
        (FollowUp(ARMED), True),
        (FollowUp(LEASED, 5), True),
        (FollowUp(LEASED, 6), False),
        (FollowUp(WAITING, 5), True),
        (FollowUp(WAITING, 6), False),
        (FollowUp(FAILED, 5), False),
    ],
)
def test_a_follow_up_is_free_when_its_time_is_over_unless_it_failed(found, is_free):
    assert found.is_free(5) == is_free
