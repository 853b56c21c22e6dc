"""Bundles among garbage, unreadable files, wrong clocks, threads and full line-ups."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from protocol.scenes import (
    HOUR,
    MANY,
    QUEUE,
    World,
    crashing_after_files,
    crashing_after_links,
    crashing_after_rename_into,
    new_world,
    text,
)
from support import Calls, Crash, interrupted, losing_reply

from ddmq import Broker, InvalidArgument, LeaseLost, StorageError
from ddmq.diagnose.patient import Patient
from ddmq.diagnose.symptoms.contents import lost_bundles
from ddmq.settings import Settings
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.range_names import RangeLease
from ddmq.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ddmq import Message


def publish(world: World, **options: Any) -> Broker:
    broker = world.broker(**options)
    assert broker.publish_many(QUEUE, map(text, MANY)) == len(MANY)
    return broker


def rest(world: World) -> list[str]:
    """Consume and ack all that is left, much later."""
    rescuer = world.rescue()
    texts = []
    while messages := rescuer.consume(QUEUE, 5):
        texts += [message.message.split()[-1] for message in messages]
        rescuer.ack(messages)
    return sorted(texts)


def cut_short(world: World, n: int) -> None:
    """Let a client die as soon as its claim of n lines is made."""
    with pytest.raises(Crash):
        world.broker(crashing_after_links(2)).consume(QUEUE, n)


def claim_in_vain(world: World, n: int) -> None:
    """Let a client die when it made its lease of n lines, and no claim."""
    with pytest.raises(Crash):
        world.broker(crashing_after_rename_into("/work/")).consume(QUEUE, n)


# A claim whose answer says that it failed


@pytest.mark.parametrize("code", [errno.EIO, errno.ETIMEDOUT, errno.EINTR])
@pytest.mark.parametrize(("call", "which"), [("rename", 0), ("symlink", 1)])
def test_a_claim_that_was_made_though_an_error_was_told_is_no_loss(
    call: str, which: int, code: int, tmp_path: Path
) -> None:
    """The first is the reply about the lease, the second the one about its claim."""
    world = new_world(tmp_path)
    publish(world)
    with suppress(StorageError):
        world.broker(losing_reply(which, (call,), code)).consume(QUEUE, 3)
    assert rest(world) == MANY


def test_a_claim_that_two_stale_answers_hide_is_no_loss(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    publish(world)
    told: list[str] = []

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        result = function(*arguments)
        is_lease = name == "rename" and arguments[1].endswith(".range")
        if is_lease or (told and name == "lstat" and len(told) < 3):
            told.append(name)
            raise OSError(errno.ESTALE, "stale", arguments[0])
        return result

    with suppress(StorageError):
        world.broker(Calls(call)).consume(QUEUE, 3)
    assert told
    assert rest(world) == MANY


# Ranges that somebody names, or meets


def id_of_line(path: str, line: int) -> str:
    """Return the id of a message of a leased range."""
    held = RangeLease.parse(os.path.basename(path))
    assert held is not None
    return held.range.entry(line).id


def name_of_line(path: str, line: int) -> str:
    """Return the name under which everybody knows the lease of a line."""
    held = RangeLease.parse(os.path.basename(path))
    assert held is not None
    return held.lease_of(line).filename


@pytest.mark.parametrize("by", [id_of_line, name_of_line])
@pytest.mark.parametrize("verb", ["ack", "nack", "renew"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_others_of_a_claim_cut_short_outlive_a_line_that_is_settled_by_its_name(
    which: int, verb: str, by: Callable[[str, int], str], tmp_path: Path
) -> None:
    world = new_world(tmp_path)
    publish(world)
    cut_short(world, 3)
    broker = world.broker()
    [path] = world.ranges()
    getattr(broker, verb)(broker.leased(QUEUE, by(path, which)))
    broker.release(broker.consume(QUEUE, 9))
    gone = [MANY[which]] if verb == "ack" else []
    assert sorted([*rest(world), *gone]) == MANY


@pytest.mark.parametrize("by", [id_of_line, name_of_line])
def test_a_line_that_was_not_claimed_is_not_settled_by_its_name(
    by: Callable[[str, int], str], tmp_path: Path
) -> None:
    """An ack of what waits in a bundle would be believed: its id is in no name."""
    world = new_world(tmp_path)
    broker = publish(world)
    claim_in_vain(world, 3)
    with pytest.raises(LeaseLost):
        broker.leased(QUEUE, by(world.ranges()[0], 0))
    assert rest(world) == MANY


def test_a_claim_that_is_made_while_its_lease_is_taken_over_is_no_loss(
    tmp_path: Path,
) -> None:
    """Its client was suspended for long, and comes just before or after the lease is renamed."""
    for after in (False, True):
        world = new_world(tmp_path / str(after))
        publish(world)
        claim_in_vain(world, 2)
        world.clock.advance(601)
        held = RangeLease.parse(os.path.basename(world.ranges()[0]))
        assert held is not None
        link = f"{world.path}/bundles/{held.range.bundle}/0"

        def call(_: int, name: str, do: Callable[..., Any], arguments: Any) -> Any:
            is_it = name == "rename" and arguments[0].endswith(".range")
            result = do(*arguments) if after else None  # noqa: B023
            if is_it and not os.path.lexists(link):  # noqa: B023
                os.symlink(held.range.target, link)  # type: ignore[union-attr]  # noqa: B023
            return result if after else do(*arguments)  # noqa: B023

        world.broker(Calls(call)).clean(QUEUE)
        assert os.path.lexists(link)
        assert world.ranges() == []
        assert rest(world) == MANY


def test_a_live_lease_outlives_those_of_the_dead_that_are_taken_over(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    broker = publish(world, clean=False)
    claim_in_vain(world, 2)
    broker.ack(broker.consume(QUEUE))
    world.clock.advance(601)
    [held] = broker.consume(QUEUE)
    world.broker().view(QUEUE)
    broker.ack(held)
    assert rest(world) == MANY[2:]


def test_the_claim_of_a_lease_that_is_over_is_made_once_and_counts_no_loss(
    tmp_path: Path,
) -> None:
    """Nobody received these lines. So they go back to their old place as they were."""
    world = new_world(tmp_path)
    publish(world)
    claim_in_vain(world, 3)
    world.clock.advance(601)
    broker = world.broker()
    assert broker.clean(QUEUE).requeued == 0
    messages = broker.consume(QUEUE, 12)
    assert [m.message for m in messages] == list(map(text, MANY))
    assert {m.losses for m in messages} == {0}


def test_of_two_leases_of_the_same_lines_one_is_valid(tmp_path: Path) -> None:
    """The other one's client died before its claim, and another one has claimed the lines."""
    world = new_world(tmp_path)
    broker = publish(world)
    claim_in_vain(world, 3)
    held = broker.consume(QUEUE, 2)
    assert len(world.ranges()) == 2
    assert broker.view(QUEUE)[QUEUE] == (10, 2, 0, 0)
    broker.nack(broker.leased(QUEUE, held[1].id))
    broker.ack(broker.leased(QUEUE, held[0].id))
    assert rest(world) == MANY[1:]
    assert world.ranges() == []


def test_who_dies_while_taking_over_leaves_it_to_the_next(tmp_path: Path) -> None:
    for prepare in (cut_short, claim_in_vain):
        for n in itertools.count():
            world = new_world(tmp_path / f"{prepare.__name__}-{n}")
            publish(world)
            prepare(world, 3)
            world.clock.advance(601)
            calls = interrupted(n, crash)
            with suppress(Crash):
                world.broker(calls).clean(QUEUE)
            assert rest(world) == MANY
            if len(calls.made) <= n:
                break


def crash() -> None:
    raise Crash


@pytest.mark.parametrize("which", ["holder", "next holder", "housekeeper"])
def test_a_line_that_was_not_started_counts_no_loss_wherever_its_release_ends(
    which: str, tmp_path: Path
) -> None:
    """The line leaves its range alone: by its holder, or as the only one that was not started."""
    for n in itertools.count():
        world = new_world(tmp_path / str(n))
        broker = publish(world)
        messages = broker.consume(QUEUE, 3, started=2)
        calls = interrupted(n, crash)
        if which == "housekeeper":
            world.clock.advance(601)
        with suppress(Crash):
            if which == "housekeeper":
                world.broker(calls).clean(QUEUE)
            else:
                world.broker(calls).release(messages[2])
        if which == "next holder":  # the detached file gets a lease of its own
            world.broker().reject(messages[0])
            world.broker().redrive(QUEUE)
        rescuer = world.rescue()
        found = {m.message: m.losses for m in rescuer.consume(QUEUE, 12)}
        assert len(found) == len(MANY)
        assert found[text(MANY[2])] == 0
        assert found[text(MANY[1])] == 1
        if len(calls.made) <= n:
            break


def test_the_first_of_several_is_held_when_the_last_is_acked(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    broker = publish(world)
    broker.ack(broker.consume(QUEUE))
    broker.ack(broker.consume(QUEUE, 3)[1:])
    world.broker().release(world.broker().consume(QUEUE))
    assert rest(world) == [MANY[1], *MANY[4:]]


def test_who_purges_what_is_leased_spares_the_lease_of_a_claim_that_is_made_later(
    tmp_path: Path,
) -> None:
    for n in itertools.count():
        world = new_world(tmp_path / str(n))
        publish(world)
        purged: list[int] = []

        def purge(world: World = world, purged: list[int] = purged) -> None:
            purged.append(world.broker().purge(QUEUE, ["work"]).work)

        messages = world.broker(interrupted(n, purge)).consume(QUEUE, 3)
        if not purged:
            break
        assert len(messages) == 3
        left = MANY[3:] if purged == [3] else MANY  # it came after the claim
        assert purged in ([0], [3])
        assert rest(world) == left


def test_a_second_ack_is_harmless_beside_the_lease_of_a_dead_competitor(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    broker = publish(world)
    claim_in_vain(world, 1)
    messages = broker.consume(QUEUE)
    broker.ack(messages)
    broker.ack(messages)


@pytest.mark.parametrize("verb", ["ack", "nack", "release", "reject", "renew"])
def test_a_line_is_held_though_a_listing_is_late(verb: str, tmp_path: Path) -> None:
    """Another process detached a line of the same range, so that has another name."""
    world = new_world(tmp_path)
    broker = publish(world)
    messages = broker.consume(QUEUE, 3)
    seen = os.listdir(f"{world.path}/work")
    late = [2]

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name == "listdir" and arguments[0].endswith("/work") and late[0]:
            late[0] -= 1
            return list(seen)
        return function(*arguments)

    world.broker().nack(messages[0])
    getattr(world.broker(Calls(call)), verb)(messages[1])
    assert late[0] < 2
    world.broker().ack(messages[2])
    gone = [MANY[1]] if verb == "ack" else []
    gone += [MANY[1]] if verb == "reject" else []
    assert rest(world) == [name for name in MANY if name not in (*gone, MANY[2])]


@pytest.mark.parametrize("n", [1, 3])
def test_a_file_that_was_written_in_vain_is_no_message(n: int, tmp_path: Path) -> None:
    """Its client died before the range said that the line is detached."""
    world = new_world(tmp_path)
    messages = publish(world).consume(QUEUE, n)
    with pytest.raises(Crash):
        world.broker(crashing_after_files(1)).reject(messages[0])
    world.broker().ack(messages)
    assert rest(world) == MANY[n:]
    assert world.broker().dead(QUEUE) == []
    assert world.files("work") == []


def test_a_lease_that_was_made_when_its_bundle_was_gone_is_no_lease_and_goes(
    tmp_path: Path,
) -> None:
    """Who can tell it from one whose bundle was taken away? For a day it is only reported."""
    world = new_world(tmp_path)
    publish(world)
    made: list[str] = []

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if made:
            raise Crash
        if name == "rename" and arguments[1].endswith(".range"):
            made.append(name)
            assert rest(world) == MANY
            world.clock.advance(11)
            world.broker().clean(QUEUE)
            held = RangeLease.parse(os.path.basename(arguments[1]))
            over = int(world.clock.now_ns / 10**6) - HOUR * 1000
            late = held._replace(expiry=over).filename  # type: ignore[union-attr]
            arguments = (arguments[0], f"{world.path}/work/{late}")
            os.symlink("late", arguments[0]) if not os.path.lexists(
                arguments[0]
            ) else None
        return function(*arguments)

    with pytest.raises(Crash):
        world.broker(Calls(call)).consume(QUEUE)
    assert world.files("work") == world.ranges() != []
    assert_doctor_reports_a_lost_bundle(world)
    rescuer = world.rescue()
    assert rescuer.dead(QUEUE) == []
    assert rescuer.is_empty(QUEUE)
    assert world.files("work") == []


def assert_doctor_reports_a_lost_bundle(world: World) -> None:
    store = Store(world.path, FileSystem(), world.clock)
    [symptom] = lost_bundles(Patient(store, Settings()))
    assert "the bundle with the message can't be found" in symptom.text
    assert symptom.paths == tuple(world.files("work"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_leases_that_are_over_for_long_are_kept_while_the_disk_is_full(
    code: int, tmp_path: Path
) -> None:
    world = new_world(tmp_path)
    publish(world).consume(QUEUE, 3)
    world.clock.advance(2 * HOUR)

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name == "write":
            raise OSError(code, os.strerror(code))
        return function(*arguments)

    world.broker(Calls(call)).clean(QUEUE)
    assert rest(world) == MANY


# What is only called stale


def test_a_claim_that_is_called_stale_though_it_was_made_is_no_loss(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    publish(world)
    told: list[str] = []

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        is_claim = name == "symlink" and "/bundles/" in arguments[1]
        if told == ["symlink"] or (is_claim and not told):
            told.append(name)
            if is_claim:
                function(*arguments)
            raise OSError(errno.ESTALE, "stale", arguments[1])
        return function(*arguments)

    with suppress(StorageError):
        world.broker(Calls(call)).consume(QUEUE, 3)
    assert len(told) == 2
    assert rest(world) == MANY


@pytest.mark.parametrize("verb", ["ack", "nack"])
def test_a_range_that_is_called_stale_again_and_again_is_not_taken_for_gone(
    verb: str, tmp_path: Path
) -> None:
    world = new_world(tmp_path)
    messages = publish(world).consume(QUEUE, 3)

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if str(arguments[0]).endswith(".range"):
            raise OSError(errno.ESTALE, "stale", arguments[0])
        return function(*arguments)

    with suppress(StorageError, LeaseLost):
        getattr(world.broker(Calls(call)), verb)(messages[0])
    assert rest(world) == MANY


# Buckets and stamps


def test_a_bundle_is_found_in_a_bucket_that_is_younger_than_it(tmp_path: Path) -> None:
    """Two publishers had one stamp, so the second one's bucket got a later name."""
    world = new_world(tmp_path, bundle_size=5)
    publish(world)
    [bucket] = Path(world.path, "ready/999").iterdir()
    bucket.rename(bucket.with_name(f"{int(bucket.name) + 1:019d}"))
    cut_short(world, 3)
    assert rest(world) == MANY


def test_a_priority_that_is_removed_while_a_bucket_joins_it_is_made_again(
    tmp_path: Path,
) -> None:
    for n in range(200):
        world = new_world(tmp_path / str(n), bundle_size=5)
        ready = Path(world.path, "ready/999")

        def remove(ready: Path = ready) -> None:
            if ready.exists() and not any(ready.iterdir()):
                ready.rmdir()

        calls = interrupted(n, remove)
        publish(world, calls=calls)
        [bucket] = ready.iterdir()
        assert all(name >= bucket.name for name in os.listdir(bucket))
        if len(calls.made) <= n:
            break
        shutil.rmtree(world.root)


def test_bundles_behind_a_bucket_from_the_far_future_are_consumed(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    Path(world.path, "ready/999/9999999999999999999").mkdir(parents=True)
    publish(world)
    cut_short(world, 3)
    assert rest(world) == MANY


def test_a_copy_beside_a_bundle_does_not_hide_it(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    publish(world)
    cut_short(world, 3)
    [path] = world.files("ready")
    shutil.copy(path, f"{path}.bak")
    [bundle] = Path(world.path, "bundles").glob("*")
    shutil.copytree(bundle, f"{bundle}.bak", symlinks=True)
    assert rest(world) == MANY


def test_a_claim_of_all_that_was_cut_short_comes_back_after_its_timeout(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    publish(world)
    cut_short(world, 12)
    viewer = world.broker()
    assert viewer.view(QUEUE)[QUEUE] == (0, 12, 0, 0)
    for _ in range(2):
        world.clock.advance(605)
        counts = viewer.view(QUEUE)[QUEUE]
    assert counts == (12, 0, 0, 0)


def test_nobody_waits_for_the_entry_of_a_bundle_of_which_no_line_waits(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    broker = publish(world)
    cut_short(world, 12)
    assert len(world.files("ready")) == 1  # as he who made the last claim left it
    broker.purge(QUEUE, ["work"])
    assert broker.view(QUEUE)[QUEUE] == (0, 0, 0, 0)
    assert broker.is_empty(QUEUE)
    assert broker.consume(QUEUE) == []
    broker.clean(QUEUE)
    assert world.files("ready") == []


# What others put there


def test_what_only_looks_like_a_bundle_stops_nobody(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    publish(world)
    Path(world.path, f"bundles/{'a' * 20}").mkdir()
    world.put(f"bundles/{'b' * 20}")
    assert len(world.broker().consume(QUEUE, 3)) == 3
    world.broker().clean(QUEUE)
    assert rest(world) == MANY
    assert not os.path.lexists(f"{world.path}/bundles/{'b' * 20}")


def test_a_lease_of_no_bundle_stays_and_the_doctor_says_so(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    over = int(world.clock.now_ns / 10**6) - HOUR * 1000
    range_ = f"{1:019d}.{'a' * 20}.3-4-9.{'b' * 16}.o.0-0"
    name = f"{over:013d}.5.{range_}.{'b' * 16}.range"
    world.put(f"work/{name}")
    broker = world.broker()
    broker.clean(QUEUE)
    assert broker.dead(QUEUE) == []
    assert os.listdir(f"{world.path}/work") == [name]
    assert_doctor_reports_a_lost_bundle(world)


def test_a_bundle_that_claims_more_lines_than_any_has_is_quarantined(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    publish(world)
    [path] = world.files("ready")
    Path(path).rename(path.removesuffix(".12") + ".123456")
    broker = world.broker()
    assert broker.consume(QUEUE) == []
    assert len(broker.dead(QUEUE)) == 1


def test_lines_that_a_bundle_lacks_are_dead_letters_and_the_others_are_consumed(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    publish(world)
    [path] = world.files("bundles")
    Path(path).write_bytes(Path(path).read_bytes()[:-20])
    broker = world.broker()
    assert len(broker.consume(QUEUE, 20)) == 10
    assert {letter.reason for letter in broker.dead(QUEUE)} == {
        "its bundle is cut short"
    }


def test_what_is_no_bundle_is_quarantined_whole(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    publish(world)
    [path] = world.files("bundles")
    Path(path).write_bytes(b"who knows")
    broker = world.broker()
    assert broker.consume(QUEUE) == []
    [letter] = broker.dead(QUEUE)
    assert "holds no messages" in letter.reason


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_bundle_that_can_not_be_read_by_one_client_stays_for_others(
    code: int, tmp_path: Path
) -> None:
    world = new_world(tmp_path)
    broker = publish(world)
    broker.publish(QUEUE, text("behind"))
    [path] = world.files("bundles")

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name == "open" and arguments[0] == path:
            raise OSError(code, os.strerror(code), path)
        return function(*arguments)

    poor = world.broker(Calls(call))
    found: list[Message] = []
    for _ in range(3):
        try:
            found += poor.consume(QUEUE)
        except StorageError:
            assert code == errno.EIO
    assert [message.message for message in found] == [text("behind")]
    assert poor.view(QUEUE)[QUEUE] == (12, 1, 0, 0)
    assert [m.message for m in world.broker().consume(QUEUE)] == [text("m00")]


# Publishers


def test_an_error_of_the_messages_is_the_callers_own(tmp_path: Path) -> None:
    def messages() -> Iterator[str]:
        yield "a"
        raise FileNotFoundError(errno.ENOENT, "no such input", "/no/such")

    world = new_world(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such input"):
        world.broker().publish_many(QUEUE, messages())
    assert world.found() == {}


@pytest.mark.parametrize("number", [3, 50])
def test_a_publisher_that_is_interrupted_publishes_and_leaves_nothing(
    number: int, tmp_path: Path
) -> None:
    def messages() -> Iterator[str]:
        yield from map(text, MANY[:number])
        raise KeyboardInterrupt

    world = new_world(tmp_path, bundle_size=4)
    with pytest.raises(KeyboardInterrupt):
        world.broker().publish_many(QUEUE, messages())
    assert world.found() == {}
    assert os.listdir(f"{world.path}/tmp") == []


def test_bundles_with_a_delay_are_published_though_their_directory_stays(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path, bundle_size=5)

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name == "rmdir" and "/tmp/" in arguments[0]:
            raise OSError(errno.ENOTEMPTY, "a file of the server's own", arguments[0])
        return function(*arguments)

    broker = world.broker(Calls(call))
    assert broker.publish_many(QUEUE, map(text, MANY), delay=60) == 12
    assert broker.view(QUEUE)[QUEUE].delayed == 12


def test_one_message_that_is_too_large_publishes_none(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    world.broker().update_settings(QUEUE, max_message_size=1024)
    with pytest.raises(InvalidArgument, match="over 1024"):
        world.broker().publish_many(QUEUE, [*map(text, MANY), "x" * 1000])
    assert world.found() == {}


# Threads


def test_threads_share_bundles(tmp_path: Path) -> None:
    world = new_world(tmp_path, bundle_size=20)
    broker = Broker(world.root, bundle_size=20)
    texts = [f"text {number}" for number in range(2000)]
    broker.publish_many(QUEUE, texts, durable=False)

    def consume_all(_: int) -> list[str]:
        found = []
        while messages := broker.consume(QUEUE, 3):
            found += [message.message for message in messages]
            broker.ack(messages)
        return found

    with ThreadPoolExecutor(8) as threads:
        consumed = [t for texts in threads.map(consume_all, range(8)) for t in texts]
    assert sorted(consumed) == sorted(texts)


def test_a_message_of_ours_with_a_higher_priority_comes_before_the_rest_of_a_bundle(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    broker = publish(world)
    broker.consume(QUEUE)
    broker.publish(QUEUE, text("urgent"), priority=5)
    assert [m.message for m in broker.consume(QUEUE)] == [text("urgent")]
    assert [m.message for m in broker.consume(QUEUE)] == [text("m01")]


def test_a_line_that_was_released_comes_before_the_rest_of_its_bundle(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    broker = publish(world)
    messages = broker.consume(QUEUE, 4)
    broker.release(messages[2])
    broker.release(messages[0])
    texts = [m.message for m in broker.consume(QUEUE, 4)]
    assert texts == [text(name) for name in ("m00", "m02", "m04", "m05")]
