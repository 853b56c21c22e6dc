"""Two clients at one bundle: one acts before any system call of the other."""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from protocol.scenes import (
    HOUR,
    MANY,
    QUEUE,
    crashing_after_rename_into,
    later,
    text,
)
from protocol.test_competitors import Duel, duels
from support import Crash

from ddmq import LeaseLost, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from protocol.scenes import World

    from ddmq import Broker, Message


def with_a_bundle(_: World, broker: Broker) -> None:
    broker.publish_many(QUEUE, map(text, MANY))


def with_two_bundles(world: World, broker: Broker) -> None:
    world.bundle_size = 7
    world.broker(bundle_size=7).publish_many(QUEUE, map(text, MANY))


def with_a_few_left(world: World, broker: Broker) -> Any:
    with_a_bundle(world, broker)
    return broker.consume(QUEUE, 10)[-1]


with_some_expired = later(with_a_few_left, 601)


def with_one_acked(world: World, broker: Broker) -> list[Message]:
    """Return what is done: this client goes on with the bundle."""
    with_a_bundle(world, broker)
    done = broker.consume(QUEUE)
    broker.ack(done)
    return done


def with_one_taken_in_turn(world: World, broker: Broker) -> Message:
    """Return the only line of a range."""
    with_one_acked(world, broker)
    return broker.consume(QUEUE)[0]


def with_three_held(world: World, broker: Broker) -> list[Message]:
    """Return the lines of one range."""
    with_a_bundle(world, broker)
    return broker.consume(QUEUE, 3)


def with_a_claim_that_was_not_made(world: World, broker: Broker) -> None:
    """Let a client die between its lease and its claim; the lease is over."""
    with_a_bundle(world, broker)
    with suppress(Crash):
        world.broker(crashing_after_rename_into("/work/")).consume(QUEUE, 3)
    assert len(world.ranges()) == 1
    world.clock.advance(601)


def with_a_line_detached_in_vain(world: World, broker: Broker) -> None:
    """Let a client die when a line of its range is in a file; the lease is over."""
    messages = with_three_held(world, broker)
    with suppress(Crash):
        world.broker(crashing_after_rename_into(".range")).nack(messages[1])
    assert any(".odo." in path for path in world.ranges())
    world.clock.advance(601)


def taking(n: int) -> Callable[..., list[Message]]:
    return lambda broker, _=None: broker.consume(QUEUE, n)


def clean(broker: Broker, _: Any = None) -> Any:
    return broker.clean(QUEUE)


def assert_all_come_once(world: World, *held: list[Message]) -> None:
    """What is held can be acked, the rest can be consumed, and nothing comes twice."""
    assert all(len(states) == 1 for states in world.found().values())
    messages = [message for some in held for message in some]
    for message in messages:
        world.broker().ack(message)
    world.clock.advance(2 * HOUR)  # whoever gave up left leases
    last = world.broker()
    last.clean(QUEUE)
    while more := last.consume(QUEUE, 5):
        messages += more
        last.ack(more)
    assert Counter(m.message for m in messages) == Counter(map(text, MANY))
    world.clock.advance(11)
    last.clean(QUEUE)
    assert not any(world.files(state) for state in ("ready", "work", "tmp", "dead"))


@pytest.mark.deep
@pytest.mark.parametrize("prepare", [with_a_bundle, with_two_bundles])
@pytest.mark.parametrize(
    ("mine", "yours"), list(itertools.product((1, 3, 12), (1, 3, 12))), ids=str
)
def test_of_two_consumers_each_gets_other_lines(
    prepare: Any, mine: int, yours: int, tmp_path: Path
) -> None:
    for world, first, second in duels(tmp_path, prepare, taking(mine), taking(yours)):
        assert len(first) + len(second) == min(mine + yours, 12)
        assert_all_come_once(world, first, second)


def test_the_last_lines_of_a_bundle_go_to_one_each(tmp_path: Path) -> None:
    for world, first, second in duels(tmp_path, with_a_few_left, taking(1), taking(9)):
        assert len(first) + len(second) == 2
        held = {message.id for message in (*first, *second)}
        assert len(held) == 2
        assert all(len(states) == 1 for states in world.found().values())


def clean_much_later(world: World) -> Callable[..., Any]:
    def act(broker: Broker, _: Any = None) -> Any:
        world.clock.advance(25 * HOUR)
        return broker.clean(QUEUE)

    return act


def taking_in_turn(broker: Broker, done: list[Message] | None = None) -> list[Message]:
    """Ack two, and keep the third."""
    messages = list(done or ())
    for _ in range(2):
        messages += broker.consume(QUEUE)
        broker.ack(messages[-1])
    return messages + broker.consume(QUEUE)


@pytest.mark.parametrize(
    "competitor", [taking(1), taking(3), taking(12), taking_in_turn]
)
def test_who_takes_in_turn_and_a_competitor_get_different_lines(
    competitor: Any, tmp_path: Path
) -> None:
    """What is acked can be acked again, while the lease would last."""
    for world, first, second in duels(
        tmp_path, with_one_acked, taking_in_turn, competitor
    ):
        assert_all_come_once(world, first, second)


@pytest.mark.parametrize("number", [1, 3, 12])
def test_a_consumer_that_was_suspended_for_hours_loses_and_doubles_nothing(
    number: int, tmp_path: Path
) -> None:
    for n in itertools.count():
        world, messages, came = suspended(tmp_path / str(n), n, taking(number))
        if not came:
            break
        mine = [message for message in messages if is_held(world, message)]
        assert_all_come_once(world, mine)


def suspended(
    directory: Path, n: int, act: Callable[..., Any]
) -> tuple[World, Any, bool]:
    """Stop a client before its n-th system call, and let others clean hours later."""
    duel = Duel(directory, with_a_bundle)
    result, came = duel.interrupted_at(n, act, clean_much_later(duel.world))
    return duel.world, result, came


def is_held(world: World, message: Message) -> bool:
    """Whether a lease still is, which may have expired while its holder was suspended."""
    try:
        world.broker().renew(message)
    except LeaseLost:
        return False
    return True


def test_a_publisher_that_was_suspended_for_hours_publishes_all_or_says_so(
    tmp_path: Path,
) -> None:
    def publish(broker: Broker, _: Any) -> Any:
        try:
            return broker.publish_many(QUEUE, map(text, MANY))
        except StorageError:
            return None

    def nothing(world: World, _: Broker) -> None:
        world.bundle_size = 5

    for n in itertools.count():
        duel = Duel(tmp_path / str(n), nothing)
        duel.broker = duel.world.broker()
        published, came = duel.interrupted_at(n, publish, clean_much_later(duel.world))
        if not came:
            assert n > 10
            break
        found = duel.world.found()
        # Who says that it may have failed need not know that it did.
        assert published == 12 or (published is None and len(found) in (0, 12))
        assert len(found) == 12 or not duel.world.files("ready")
        got = [m.message for m in duel.world.broker().consume(QUEUE, 5)]
        assert got == list(map(text, MANY[:5] if found else []))


@pytest.mark.parametrize(
    ("verb", "end"),
    [
        ("ack", "gone"),
        ("nack", "ready"),
        ("release", "ready"),
        ("reject", "dead"),
        ("renew", "work"),
    ],
)
def test_a_late_holder_of_a_line_and_a_housekeeper_do_not_both_win(
    verb: str, end: str, tmp_path: Path
) -> None:
    def settle(broker: Broker, message: Message) -> Any:
        return getattr(broker, verb)(message)

    for world, result, _ in duels(
        tmp_path / "alone", later(with_one_taken_in_turn, 601), settle, clean
    ):
        found = world.found()
        assert all(len(states) == 1 for states in found.values())
        state = " ".join(found.get("m01", ["gone"]))
        assert state == ("ready" if result is LeaseLost else end)
    for world, result, swept in duels(tmp_path, with_some_expired, settle, clean):
        found = world.found()
        assert all(len(states) == 1 for states in found.values())
        state = " ".join(found.get("m09", ["gone"]))
        assert state == ("ready" if result is LeaseLost else end)
        assert swept.requeued == 9 + (result is LeaseLost)


def test_who_purges_and_who_consumes_share_the_lines(tmp_path: Path) -> None:
    def purge(broker: Broker, _: Any = None) -> Any:
        return broker.purge(QUEUE, ["waiting"])

    for act, competitor in ((taking(3), purge), (purge, taking(3))):
        place = tmp_path / ("first" if act is purge else "second")
        for world, one, other in duels(place, with_a_bundle, act, competitor):
            purged, held = (one, other) if act is purge else (other, one)
            assert purged.waiting + len(held) == 12
            assert set(world.found()) == {m.message.split()[-1] for m in held}
            world.broker().nack(held)  # their bundle is still there
            assert world.broker().view(QUEUE)[QUEUE].waiting == len(held)


def test_no_entry_of_a_bundle_outlives_it(tmp_path: Path) -> None:
    """Not even if one client has listed it by a name that it lost by the other's claim."""

    def purge(broker: Broker, _: Any = None) -> Any:
        broker.purge(QUEUE, ["waiting"])

    def take_and_ack(n: int) -> Callable[..., Any]:
        return lambda broker, _=None: broker.ack(broker.consume(QUEUE, n))

    acts = [(purge, take_and_ack(3)), (take_and_ack(3), purge)]
    acts += [(take_and_ack(12), take_and_ack(3)), (take_and_ack(12), purge)]
    for number, (mine, yours) in enumerate(acts):
        for world, *_ in duels(tmp_path / str(number), with_a_bundle, mine, yours):
            last = world.broker()
            last.clean(QUEUE)
            last.ack(last.consume(QUEUE, 12))
            last.clean(QUEUE)
            left = [*world.files("ready"), *world.files("bundles")]
            assert left == []


def test_who_purges_a_bundle_that_another_empties_fails_at_no_bucket_that_went(
    tmp_path: Path,
) -> None:
    def purge(broker: Broker, _: Any = None) -> Any:
        return broker.purge(QUEUE, ["waiting"]).waiting

    def take_all_and_clean(world: World) -> Callable[..., Any]:
        def act(broker: Broker) -> Any:
            taken = len(broker.consume(QUEUE, 12))
            world.clock.advance(11)
            broker.clean(QUEUE)
            return taken

        return act

    for n in itertools.count():
        duel = Duel(tmp_path / str(n), with_a_bundle)
        act = take_all_and_clean(duel.world)
        purged, came = duel.interrupted_at(n, purge, act)
        if not came:
            break
        assert purged + duel.said[0] == 12


def test_a_bundle_is_kept_while_a_line_needs_it(tmp_path: Path) -> None:
    last: list[Message] = []

    def with_one_line_left(world: World, broker: Broker) -> None:
        with_a_bundle(world, broker)
        *done, message = broker.consume(QUEUE, 12)
        broker.ack(done)
        last[:] = [message]

    def nack(broker: Broker, _: Any = None) -> Any:
        return broker.nack(last)

    for act, competitor in ((clean, nack), (nack, clean)):
        place = tmp_path / act.__name__
        for world, _, _ in duels(place, with_one_line_left, act, competitor):
            assert world.found() == {"m11": ["ready"]}
            world.clock.advance(25 * HOUR)
            clean(world.broker())
            [message] = world.broker().consume(QUEUE)
            assert message.message == text("m11")
            world.broker().ack(message)
            world.clock.advance(11)
            clean(world.broker())
            assert world.files("work") == []


@pytest.mark.parametrize("n", [1, 3, 12])
@pytest.mark.parametrize(
    "prepare", [with_a_claim_that_was_not_made, with_a_line_detached_in_vain]
)
def test_a_claimant_and_who_takes_over_from_the_dead_get_different_lines(
    prepare: Any, n: int, tmp_path: Path
) -> None:
    for act, competitor in ((taking(n), clean), (clean, taking(n))):
        place = tmp_path / ("first" if act is clean else "second")
        for world, one, other in duels(place, prepare, act, competitor):
            assert_all_come_once(world, other if act is clean else one)


@pytest.mark.parametrize(
    "prepare", [with_a_claim_that_was_not_made, with_a_line_detached_in_vain]
)
def test_of_two_who_take_over_from_the_dead_each_line_comes_back_once(
    prepare: Any, tmp_path: Path
) -> None:
    for world, *swept in duels(tmp_path, prepare, clean, clean):
        lost = prepare is with_a_line_detached_in_vain
        assert sum(each.requeued for each in swept) == 3 * lost
        counts = [m.losses for m in world.broker().consume(QUEUE, 12)]
        assert set(counts) <= {0, 1}
        assert_all_come_once(world)


def test_a_late_claimant_gets_nothing_of_a_bundle_that_is_removed(
    tmp_path: Path,
) -> None:
    """What the late one knows is the end of the chain as it was, and the messages."""

    def finish(world: World) -> Callable[..., Any]:
        def act(broker: Broker) -> Any:
            got = broker.consume(QUEUE, 12)
            broker.ack(got)
            world.clock.advance(11)
            broker.clean(QUEUE)
            return got

        return act

    for n in itertools.count():
        duel = Duel(tmp_path / str(n), with_one_acked)
        done = duel.handle
        mine, came = duel.interrupted_at(n, taking(3), finish(duel.world))
        if not came:
            break
        got = [m.message for m in (*done, *mine, *duel.said[0])]
        assert sorted(got) == list(map(text, MANY))
        duel.world.broker().ack(mine)
        duel.world.clock.advance(11)
        duel.world.broker().clean(QUEUE)
        assert not duel.world.files("work")
        assert not duel.world.files("ready")


@pytest.mark.parametrize("mine", ["ack", "nack", "reject", "renew", "release"])
@pytest.mark.parametrize("yours", ["ack", "nack"])
def test_two_processes_settle_different_lines_of_one_range(
    yours: str, mine: str, tmp_path: Path
) -> None:
    ends = {"nack": "ready", "release": "ready", "reject": "dead", "renew": "work"}
    held: list[Message] = []

    def prepare(world: World, broker: Broker) -> Any:
        held[:] = with_three_held(world, broker)
        return held[0]

    def act(broker: Broker, message: Message) -> Any:
        return getattr(broker, mine)(message)

    def other(broker: Broker) -> Any:
        return getattr(broker, yours)(held[1])

    for world, *results in duels(tmp_path, prepare, act, other):
        assert LeaseLost not in results
        found = {name: " ".join(states) for name, states in world.found().items()}
        wanted = dict.fromkeys(MANY[3:], "ready") | {"m02": "work"}
        for name, verb in (("m00", mine), ("m01", yours)):
            if verb in ends:
                wanted[name] = ends[verb]
        assert found == wanted
        world.broker().ack(held[2])


@pytest.mark.parametrize("verb", ["ack", "nack", "release", "reject"])
def test_of_two_processes_that_settle_one_line_one_succeeds(
    verb: str, tmp_path: Path
) -> None:
    held: list[Message] = []

    def prepare(world: World, broker: Broker) -> Any:
        held[:] = with_three_held(world, broker)
        return held[0]

    def ack(broker: Broker) -> Any:
        broker.ack(held[0])
        return "acked"

    def settle(broker: Broker, message: Message) -> Any:
        getattr(broker, verb)(message)
        return "settled"

    for world, result, acked in duels(tmp_path, prepare, settle, ack):
        state = " ".join(world.found().get("m00", ["gone"]))
        assert (result, acked) != (LeaseLost, LeaseLost)
        if verb != "ack":  # an ack of what is gone succeeds, while the lease lasts
            wanted = "dead" if verb == "reject" else "ready"
            assert state == (wanted if acked is LeaseLost else "gone")
            assert (result is LeaseLost) == (acked == "acked")
        world.broker().ack(held[1:])
        assert all(len(states) == 1 for states in world.found().values())
