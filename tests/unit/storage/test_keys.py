"""A second publish with a key adds nothing, wherever the first one stopped."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import pytest
from protocol.scenes import QUEUE
from support import Calls, Crash, FakeClock, crashing_before, remembering_missing
from unit.scenes import texts

from ddmq import Broker, InvalidArgument, StorageError
from ddmq.storage import keys
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.keys import Keys, name_of

#: How many messages: a file of its own, one bundle, several, in a broker with small bundles.
NUMBERS = pytest.mark.parametrize("number", [0, 3, 25])
DELAYS = pytest.mark.parametrize("delay", [0, 100])
TEXTS = [f"x{n}" for n in range(25)]


def publish(broker, number, key="k", **options):
    """Publish one message, or several together."""
    if not number:
        return broker.publish(QUEUE, TEXTS[0], key=key, **options)
    return broker.publish_many(QUEUE, iter(TEXTS[:number]), key=key, **options)


def client(root, clock, calls=None):
    fs = FileSystem(calls) if calls else FileSystem()
    return Broker(root, fs=fs, clock=clock, clean=False, bundle_size=10)


def drained(broker, clock):
    """Return all messages, delayed ones too."""
    clock.advance(200)
    broker.clean(QUEUE)
    found = []
    while taken := broker.consume(QUEUE, 50):
        found += taken
        broker.ack(taken)
    broker.clean(QUEUE)
    return texts(found)


def inside(root, name):
    path = root / QUEUE / name
    return sorted(os.listdir(path)) if path.exists() else None


@DELAYS
def test_a_draft_that_one_listing_says_is_stale_is_published_all_the_same(
    root, clock, broker, delay, refusing
):
    """Else what was confirmed would be there an hour later: when housekeeping finds the draft."""
    fs = refusing("listdir", errno.ESTALE, times=1)
    ours = Broker(root, fs=fs, clock=clock, clean=False, bundle_size=10)
    publish(ours, 25, delay=delay)
    assert sum(broker.view(QUEUE)[QUEUE]) == 25


@NUMBERS
@DELAYS
def test_a_second_publish_adds_nothing_and_answers_the_same(
    root, clock, broker, number, delay
):
    ours = client(root, clock)
    first = publish(ours, number, delay=delay)
    assert publish(ours, number, delay=delay) == first
    assert publish(client(root, clock), number, priority=3) == first
    assert drained(broker, clock) == TEXTS[: number or 1]
    assert publish(ours, number) == first  # also when all is done
    assert drained(broker, clock) == []
    assert inside(root, "tmp") == []
    assert len(inside(root, "keys")) == 1
    assert publish(ours, number, key="another") != first or number
    assert ours.forget(QUEUE, "k")
    assert not ours.forget(QUEUE, "k")
    publish(ours, number)
    assert drained(broker, clock) == TEXTS[: number or 1] * 2


@NUMBERS
def test_what_is_published_with_a_key_is_as_its_publisher_wanted_it(
    root, clock, broker, number
):
    options = {"priority": 3, "timeout": 70, "requeue_limit": 2, "delay": 100}
    publish(broker, number, priority=9)
    publish(client(root, clock), number, key="k2", **options)
    clock.advance(98)
    broker.clean(QUEUE)
    first = TEXTS[: number or 1]
    assert [m.priority for m in broker.peek(QUEUE, 99)] == [9] * len(first)
    clock.advance(4)
    broker.clean(QUEUE)
    found = broker.consume(QUEUE, len(first))
    assert texts(found) == first
    assert {(m.priority, m.timeout, m.requeue_limit) for m in found} == {(3, 70, 2)}


@NUMBERS
def test_the_dead_letters_of_a_key_are_known_without_their_texts(
    root, clock, broker, number
):
    ours = client(root, clock)
    publish(ours, number)
    publish(ours, 25, key="k2")
    ours.publish_many(QUEUE, TEXTS)
    assert ours.count_dead(QUEUE, "k") == ours.count_dead(QUEUE) == 0
    while found := broker.consume(QUEUE, 50):
        broker.reject(found)
    numbers = [ours.count_dead(QUEUE, key) for key in ("k", "k2", "none", None)]
    assert numbers == [number or 1, 25, 0, (number or 1) + 50]


@NUMBERS
def test_what_is_published_with_a_key_belongs_to_the_group(root, clock, broker, number):
    os.chmod(root / QUEUE, 0o2770)
    publish(client(root, clock), number)
    publish(broker, 0, key="k2")
    found = [p for p in (root / QUEUE).rglob("*") if p.is_file()]
    made = [p for p in found if p.parent.name[:1].isdigit() or p.name == "lines"]
    assert {p.stat().st_mode & 0o777 for p in made} == {0o660}


@NUMBERS
@pytest.mark.parametrize(
    ("name", "where"), [("mkdir", "keys"), ("symlink", f".{name_of('k')}")]
)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_what_can_not_be_made_ready_is_neither_published_nor_left(
    root, clock, broker, refusing, number, name, where, code
):
    fs = refusing(name, code, where)
    refused = Broker(root, fs=fs, clock=clock, clean=False, bundle_size=10)
    with pytest.raises(StorageError):
        publish(refused, number)
    assert fs.calls.made.count(name)
    assert inside(root, "tmp") == inside(root, "bundles") == []
    assert not inside(root, "keys")
    publish(broker, number)
    assert drained(broker, clock) == TEXTS[: number or 1]


@NUMBERS
def test_who_was_held_up_for_too_long_makes_no_link_at_all(root, broker, number):
    """It might die just after it has made one, and nobody would publish what is gone."""
    clock = FakeClock(root.stat().st_mtime)

    def slow(_, name, function, arguments):
        if name == "open" and "/tmp/" in arguments[0]:
            clock.now_ns += 86400 * 10**9
        return function(*arguments)

    calls = Calls(slow)
    with pytest.raises(StorageError, match="nothing was published"):
        publish(client(root, clock, calls), number)
    assert "symlink" not in calls.made
    assert inside(root, "tmp") == inside(root, "bundles") == []


@NUMBERS
@pytest.mark.parametrize(("durable", "delay"), [(False, 0), (True, 0), (True, 100)])
def test_a_publisher_that_dies_anywhere_is_run_again(
    root, clock, broker, number, delay, durable
):
    """Exactly one set of messages comes, whether or not housekeeping was faster."""
    for n in range(400):
        options = {"key": f"k{n}", "delay": delay, "durable": durable}
        try:
            dying = client(root, clock, crashing_before(n))
            publish(dying, number, **options)
            has_crashed = False
        except Crash:
            has_crashed = True
        seen = list(broker.contents(QUEUE))
        assert len(seen) in (0, number or 1) or delay
        again = publish(client(root, clock), number, **options)
        assert publish(client(root, clock), number, **options) == again
        found = drained(broker, clock)
        assert sorted(found) == sorted(TEXTS[: number or 1])
        if not has_crashed:
            assert n > 9
            return
    raise AssertionError("it never ended")


@NUMBERS
@pytest.mark.usefixtures("broker")
def test_what_a_key_names_is_published_by_housekeeping_in_time(root, number):
    """Who published died, and nobody publishes again for two days."""
    clock = FakeClock(root.stat().st_mtime)
    for n in range(400):
        try:
            dying = client(root, clock, crashing_before(n))
            publish(dying, number, key=f"k{n}")
            has_crashed = False
        except Crash:
            has_crashed = True
        keeper = client(root, clock)
        before = len(inside(root, "keys") or ())
        clock.now_ns += 2 * 86400 * 10**9
        keeper.clean(QUEUE)
        keeper.clean(QUEUE)
        came = drained(keeper, clock)
        assert sorted(came) in ([], sorted(TEXTS[: number or 1]))
        publish(keeper, number, key=f"k{n}")
        assert len(inside(root, "keys")) == n + 1
        if before == n + 1:  # the link was made, so it was published once for all
            assert came
            assert drained(keeper, clock) == []
        else:
            assert not came
            assert sorted(drained(keeper, clock)) == sorted(TEXTS[: number or 1])
        clock.now_ns = int(root.stat().st_mtime * 1e9)
        if not has_crashed:
            return
    raise AssertionError("it never ended")


@NUMBERS
@pytest.mark.parametrize("among", ["symlink", "rename"])
def test_of_two_who_publish_at_once_one_does(root, clock, broker, number, among):
    for n in range(100):
        key, seen = f"k{n}", []

        def call(_, name, function, arguments, key=key, seen=seen, n=n):
            if name == among:
                seen.append(name)
                if len(seen) == n + 1:
                    seen.append(publish(client(root, clock), number, key=key))
            return function(*arguments)

        mine = publish(client(root, clock, Calls(call)), number, key=key)
        assert sorted(drained(broker, clock)) == sorted(TEXTS[: number or 1])
        assert inside(root, "tmp") == []
        assert inside(root, "bundles") == []
        if len(seen) <= n:
            assert n
            return
        assert seen[n + 1] == mine


def test_an_error_of_the_messages_uses_no_key(root, clock, broker):
    def wrong():
        yield "x"
        yield object()

    with pytest.raises(InvalidArgument):
        client(root, clock).publish_many(QUEUE, wrong(), key="k")
    assert inside(root, "tmp") == inside(root, "bundles") == []
    assert client(root, clock).publish_many(QUEUE, [], key="k") == 0
    assert publish(client(root, clock), 3) == 3
    with pytest.raises(InvalidArgument, match="3 messages that were published tog"):
        publish(client(root, clock), 0)


@pytest.mark.parametrize("key", ["", "x" * 1001, 7, "\ud800"])
def test_what_is_no_key_is_refused(broker, root, key):
    with pytest.raises(InvalidArgument):
        broker.publish(QUEUE, "x", key=key)
    assert broker.view(QUEUE)[QUEUE].waiting == 0


@pytest.mark.parametrize(
    "plant", [os.mkdir, lambda path: os.symlink("../../x", path)], ids=["dir", "link"]
)
def test_a_key_is_data_and_what_others_plant_there_is_told(broker, root, plant):
    broker.publish(QUEUE, "x", key="../../../x\n\x1b[2J")
    [name] = inside(root, "keys")
    assert len(name) == 40
    plant(root / QUEUE / "keys" / ("0" * 40))
    path = root / QUEUE / "keys" / name
    path.unlink()
    plant(path)
    with pytest.raises(StorageError, match="ddmq forget"):
        broker.publish(QUEUE, "x", key="../../../x\n\x1b[2J")


def test_a_planted_number_of_bundles_is_not_counted_to_its_end(
    broker, root, monkeypatch
):
    """A thousand million would take hours, and more memory than any node has."""
    monkeypatch.setattr(keys, "_MOST_BUNDLES", 100)
    broker.publish(QUEUE, "x", key="k")
    broker.reject(broker.consume(QUEUE))
    [name] = inside(root, "keys")
    path = root / QUEUE / "keys" / name
    fields = os.readlink(path).split(".")
    path.unlink()
    path.symlink_to(".".join([*fields[:-4], str(10**9 - 1), *fields[-3:]]))
    assert broker.count_dead(QUEUE, "k") == 1


def test_a_queue_with_keys_is_deleted_and_is_well(broker, root):
    publish(broker, 0)
    broker.purge(QUEUE)
    publish(broker, 0)
    assert broker.view(QUEUE)[QUEUE].waiting == 0
    broker.delete_queue(QUEUE)
    assert QUEUE not in os.listdir(root)


@pytest.mark.parametrize("plant", [os.mkdir, lambda path: path.touch()])
def test_what_others_plant_keeps_no_leftovers(broker, root, plant):
    clock = FakeClock(root.stat().st_mtime)
    queue, key = root / QUEUE, "1" * 40
    (queue / "keys").mkdir()
    plant(queue / "keys" / key)
    (queue / "tmp" / f"{'0' * 20}.{key}").touch()
    (queue / "tmp" / ("2" * 20)).touch()
    clock.now_ns += 2 * 3600 * 10**9
    client(root, clock).clean(QUEUE)
    assert inside(root, "tmp") == [f"{'0' * 20}.{key}"]


@pytest.mark.parametrize("number", [3, 25])
def test_the_bundles_of_a_draft_that_can_not_be_published_now_stay(
    root, broker, number
):
    clock = FakeClock(root.stat().st_mtime)
    with pytest.raises(Crash):
        publish(client(root, clock, Calls(_dies_at_a_bucket)), number)
    ours, there = inside(root, "tmp"), inside(root, "bundles")
    clock.now_ns += 3 * 86400 * 10**9
    os.mkdir(root / QUEUE / "bundles" / ("a" * 20))
    os.utime(root / QUEUE / "bundles" / ("a" * 20), (0, 0))
    client(root, clock, Calls(_refuses_a_bucket)).clean(QUEUE)
    assert (inside(root, "tmp"), inside(root, "bundles")) == (ours, there)
    client(root, clock).clean(QUEUE)
    assert inside(root, "tmp") == []
    assert drained(broker, clock) == TEXTS[:number]


def _is_to_a_bucket(name, arguments):
    """Tell whether a call publishes a draft with a key."""
    return (
        name == "rename"
        and "." in os.path.basename(arguments[0])
        and ("/ready/" in arguments[1])
    )


def _dies_at_a_bucket(_, name, function, arguments):
    if _is_to_a_bucket(name, arguments):
        raise Crash(name)
    return function(*arguments)


def _refuses_a_bucket(_, name, function, arguments):
    if _is_to_a_bucket(name, arguments):
        raise OSError(errno.EIO, "refused", arguments[0])
    return function(*arguments)


@NUMBERS
@pytest.mark.parametrize(
    ("name", "where", "times"), [("lstat", "/tmp/", 3), ("open", "/keys", 99)]
)
def test_a_draft_is_kept_where_nobody_can_tell_whether_its_key_names_it(
    root, broker, number, name, where, times
):
    """The file server calls all stale for a moment, in the middle of a cleaning."""
    clock, told = FakeClock(root.stat().st_mtime), []
    with pytest.raises(Crash):
        publish(client(root, clock, Calls(_dies_at_a_bucket)), number)
    clock.now_ns += 2 * 86400 * 10**9

    def stale(_, called, function, arguments):
        if called == name and where in arguments[0] and len(told) < times:
            told.append(arguments[0])
            raise OSError(errno.ESTALE, "stale", arguments[0])
        return function(*arguments)

    client(root, clock, Calls(stale)).clean(QUEUE)
    assert told
    client(root, clock).clean(QUEUE)
    assert drained(broker, clock) == TEXTS[: number or 1]


def test_many_drafts_that_others_plant_do_not_take_all_the_time(root, broker):
    clock = FakeClock(root.stat().st_mtime)
    for n in range(30):
        (root / QUEUE / "tmp" / f"{n:020d}.{'1' * 40}").touch()
    clock.now_ns += 2 * 3600 * 10**9

    def slow(_, name, function, arguments):
        clock.advance(0.1 * (name == "lstat"))
        return function(*arguments)

    store = client(root, clock, Calls(slow))._known(QUEUE).store
    kept = Keys(store).complete_old(clock.now_ns, 0.5)
    assert len(kept) > 20
    assert (
        store.layout.bundles in kept
    )  # any of them may be of a draft that was not seen


def _suspended(clock, cleaner, *, before):
    """Return system calls of a publisher that sleeps for two days before or after its link."""

    def sleep():
        clock.now_ns += 2 * 86400 * 10**9
        for _ in range(2):
            cleaner.clean(QUEUE)

    def call(_, name, function, arguments):
        if name != "symlink" or "/keys/" not in arguments[1]:
            return function(*arguments)
        if before:
            sleep()
        function(*arguments)
        times = clock.now_ns, clock.now_ns
        os.utime(arguments[1], ns=times, follow_symlinks=False)
        if not before:
            sleep()
        return None

    return Calls(call)


@NUMBERS
def test_who_was_suspended_before_the_link_leaves_none(root, broker, number):
    """Its draft was cleaned away meanwhile, so its key must not say that it was published."""
    clock = FakeClock(root.stat().st_mtime)
    cleaner = client(root, clock)
    with pytest.raises(StorageError, match="nothing was published"):
        publish(client(root, clock, _suspended(clock, cleaner, before=True)), number)
    assert inside(root, "keys") == []
    publish(cleaner, number)
    assert drained(cleaner, clock) == TEXTS[: number or 1]


@NUMBERS
def test_who_was_suspended_after_the_link_has_published(root, broker, number):
    clock = FakeClock(root.stat().st_mtime)
    cleaner = client(root, clock)
    publish(client(root, clock, _suspended(clock, cleaner, before=False)), number)
    assert len(inside(root, "keys")) == 1
    publish(cleaner, number)
    assert drained(cleaner, clock) == TEXTS[: number or 1]


def test_who_was_suspended_before_the_link_trusts_no_bundles_of_yesterday(root, broker):
    """A cleaner may have come as far as these, and not to their draft."""
    clock = FakeClock(root.stat().st_mtime)
    idle = SimpleNamespace(clean=lambda _: None)
    calls = _suspended(clock, idle, before=True)
    with pytest.raises(StorageError, match="nothing was published"):
        publish(client(root, clock, calls), 2)
    assert inside(root, "keys") == []
    assert broker.view(QUEUE)[QUEUE].waiting == 0


def test_a_key_is_forgotten_though_an_nfs_client_looked_for_it_too_early(
    root, clock, broker
):
    publish(broker, 0, key="another")
    ours = client(root, clock)
    assert not ours.forget(QUEUE, "k")
    publish(broker, 0)
    path = root / QUEUE / "keys" / name_of("k")
    ours._known(QUEUE).store.fs.calls = remembering_missing(str(path))
    assert ours.forget(QUEUE, "k")
    assert not path.is_symlink()


@NUMBERS
@pytest.mark.parametrize("minutes", [40, 50])
def test_who_was_held_up_before_the_link_withdraws_nothing_that_others_rely_on(
    root, broker, number, minutes
):
    """As after an outage of the file server, when all go on at the same moment.

    Its draft was not cleaned away, and another client with the same key has published it.
    """
    clock, others = FakeClock(root.stat().st_mtime), []

    def call(_, name, function, arguments):
        if others == ["link"]:
            others.append(publish(client(root, clock), number))
        if name != "symlink" or "/keys/" not in arguments[1] or others:
            return function(*arguments)
        clock.advance(minutes * 60)
        function(*arguments)
        times = clock.now_ns, clock.now_ns
        os.utime(arguments[1], ns=times, follow_symlinks=False)
        others.append("link")
        return None

    assert publish(client(root, clock, Calls(call)), number) == others[1]
    assert publish(client(root, clock), number) == others[1]
    assert drained(broker, clock) == TEXTS[: number or 1]


@NUMBERS
def test_a_draft_that_is_still_there_is_published_however_late_its_link_is(
    root, broker, number
):
    clock = FakeClock(root.stat().st_mtime)

    def call(_, name, function, arguments):
        if name != "symlink" or "/keys/" not in arguments[1]:
            return function(*arguments)
        clock.advance(5 * 3600)
        function(*arguments)
        times = clock.now_ns, clock.now_ns
        os.utime(arguments[1], ns=times, follow_symlinks=False)
        return None

    publish(client(root, clock, Calls(call)), number)
    publish(client(root, clock), number)
    assert drained(broker, clock) == TEXTS[: number or 1]
