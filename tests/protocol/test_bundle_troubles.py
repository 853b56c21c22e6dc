"""Bundles among garbage, unreadable files, wrong clocks, threads and full line-ups."""

from __future__ import annotations

import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from protocol.scenes import (
    HOUR,
    MANY,
    QUEUE,
    World,
    crashing_after_drafts,
    crashing_after_rename_into,
    new_world,
    text,
)
from support import Calls, Crash, counting, interrupted, losing_reply

from ddmq import Broker, InvalidArgument, LeaseLost, StorageError
from ddmq.fs import FileSystem
from ddmq.names import Bundle, Lease
from ddmq.settings import Settings
from ddmq.store import Store
from ddmq.symptoms import Patient, lost_bundles

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
    """Let a client die after it took n lines, before their leases are in place."""
    with pytest.raises(Crash):
        world.broker(crashing_after_rename_into("/ready/")).consume(QUEUE, n)


# A claim whose answer says that it failed


@pytest.mark.parametrize("code", [errno.EIO, errno.ETIMEDOUT, errno.EINTR])
def test_a_claim_that_was_made_though_an_error_was_told_is_no_loss(
    code: int, tmp_path: Path
) -> None:
    world = new_world(tmp_path)
    publish(world)
    with pytest.raises(StorageError):
        world.broker(losing_reply(0, ("rename",), code)).consume(QUEUE, 3)
    assert rest(world) == MANY


def test_a_claim_that_two_stale_answers_hide_is_no_loss(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    publish(world)
    told: list[str] = []

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        result = function(*arguments)
        into_line = name == "rename" and "/ready/" in arguments[1]
        if into_line or (told and name == "lstat" and len(told) < 3):
            told.append(name)
            raise OSError(errno.ESTALE, "stale", arguments[0])
        return result

    world.broker(Calls(call)).consume(QUEUE, 3)
    assert rest(world) == MANY


# Drafts that somebody names, or meets


def draft_in_vain(world: World, n: int) -> None:
    """Let a client die when it made so many drafts, and no claim."""
    with pytest.raises(Crash):
        world.broker(crashing_after_drafts(n)).consume(QUEUE, n)


@pytest.mark.parametrize("verb", ["ack", "nack", "renew"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_others_of_a_claim_cut_short_outlive_a_draft_that_is_settled_by_its_name(
    which: int, verb: str, tmp_path: Path
) -> None:
    world = new_world(tmp_path)
    publish(world)
    cut_short(world, 3)
    broker = world.broker()
    draft = os.path.basename(world.drafts()[which])
    getattr(broker, verb)(broker.leased(QUEUE, draft))
    broker.release(broker.consume(QUEUE, 9))
    gone = [MANY[which]] if verb == "ack" else []
    assert sorted([*rest(world), *gone]) == MANY


def test_a_draft_that_is_no_lease_is_not_settled_by_its_name(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    broker = publish(world)
    draft_in_vain(world, 3)
    with pytest.raises(LeaseLost):
        broker.leased(QUEUE, os.path.basename(world.drafts()[0]))
    assert rest(world) == MANY


@pytest.mark.parametrize("by", ["id", "filename"])
def test_a_draft_that_its_maker_takes_back_is_not_acked(
    by: str, tmp_path: Path
) -> None:
    """An ack of what waits in a bundle would be believed: its id is in no name."""
    world = new_world(tmp_path)
    publish(world)
    draft_in_vain(world, 1)
    [draft] = world.drafts()

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name == "lstat" and arguments[0] == draft:
            os.unlink(draft)
        return function(*arguments)

    name = os.path.basename(draft)
    with pytest.raises(LeaseLost):
        world.broker(Calls(call)).leased(
            QUEUE, name if by == "filename" else name.split(".")[3]
        )


def test_a_claim_that_is_made_while_its_drafts_are_judged_is_no_loss(
    tmp_path: Path,
) -> None:
    """Its client was suspended for long, and comes just before the bundle is renamed."""
    world = new_world(tmp_path)
    publish(world)
    draft_in_vain(world, 2)
    world.clock.advance(601)

    def claim(path: str) -> None:
        bundle = Bundle.parse(999, os.path.basename(path))
        lease = Lease.parse(os.path.basename(world.drafts()[0]))
        assert bundle is not None
        assert lease is not None
        claimed = bundle.taking(2, lease.expiry, lease.token)
        os.rename(path, os.path.join(os.path.dirname(path), claimed.filename))

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name == "rename" and "/ready/" in arguments[0] and world.vain_drafts():
            claim(arguments[0])
        return function(*arguments)

    world.broker(Calls(call)).clean(QUEUE)
    assert world.vain_drafts() == []
    assert rest(world) == MANY


def test_a_live_draft_outlives_the_drafts_of_others_that_are_judged(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    broker = publish(world, clean=False)
    draft_in_vain(world, 2)
    broker.ack(broker.consume(QUEUE))
    world.clock.advance(601)
    broker.consume(QUEUE)
    assert len(world.drafts()) == 3
    world.broker().view(QUEUE)
    assert rest(world) == MANY[1:]


def completing(most: int, error: BaseException) -> Calls:
    """Return system calls that complete so many drafts."""
    done: list[str] = []

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name == "rename" and arguments[0].endswith(".draft"):
            if len(done) == most:
                raise error
            done.append(name)
        return function(*arguments)

    return Calls(call)


@pytest.mark.parametrize("number", [1, 2])
def test_a_claim_that_is_completed_in_part_is_completed_by_who_acked_that_part(
    number: int, tmp_path: Path
) -> None:
    world = new_world(tmp_path)
    publish(world)
    calls = completing(number, OSError(errno.EIO, "who knows"))
    broker = world.broker(calls)
    messages = broker.consume(QUEUE, 3)
    assert len(messages) == number
    broker.ack(messages)
    broker._fs.calls = counting()
    broker.ack(broker.consume(QUEUE))
    assert rest(world) == [*MANY[number:3], *MANY[4:]]


def test_who_dies_while_completing_another_claim_leaves_it_to_the_next(
    tmp_path: Path,
) -> None:
    for n in range(3):
        world = new_world(tmp_path / str(n))
        publish(world)
        cut_short(world, 3)
        with pytest.raises(Crash):
            world.broker(completing(n, Crash())).consume(QUEUE)
        world.broker().release(world.broker().consume(QUEUE))
        assert rest(world) == MANY


def test_the_first_of_several_is_held_when_the_last_is_acked(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    broker = publish(world)
    broker.ack(broker.consume(QUEUE))
    broker.ack(broker.consume(QUEUE, 3)[1:])
    world.broker().release(world.broker().consume(QUEUE))
    assert rest(world) == [MANY[1], *MANY[4:]]


def test_a_draft_that_is_completed_at_that_moment_is_settled_by_its_id(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    publish(world)
    cut_short(world, 3)
    draft = world.drafts()[0]

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name == "lstat" and arguments[0] == draft and world.drafts():
            world.broker().clean(QUEUE)
        return function(*arguments)

    broker = world.broker(Calls(call))
    broker.ack(broker.leased(QUEUE, os.path.basename(draft).split(".")[3]))
    assert rest(world) == MANY[1:]


@pytest.mark.parametrize("drafts", [0, 1, 2, 3])
def test_who_purges_what_is_leased_spares_the_drafts_of_a_claim_that_is_made_later(
    drafts: int, tmp_path: Path
) -> None:
    world = new_world(tmp_path)
    publish(world)
    purged: list[int] = []

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if len(world.drafts()) == drafts and name in ("mknod", "rename") and not purged:
            purged.append(world.broker().purge(QUEUE, ["work"]).work)
        return function(*arguments)

    assert len(world.broker(Calls(call)).consume(QUEUE, 3)) == 3
    assert purged == [0]
    assert world.broker().view(QUEUE)[QUEUE] == (9, 3, 0, 0)
    assert rest(world) == MANY


def test_a_draft_whose_bundle_is_gone_hides_no_lease(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    broker = publish(world)
    draft_in_vain(world, 1)
    [message] = broker.consume(QUEUE)
    bundle = message.id.split("-")[0]
    [path] = world.files("ready")
    renewed = broker.renew(message, 900)  # it needs no bundle any more
    os.rename(path, path.replace(bundle, "f" * 20))
    assert broker.leased(QUEUE, message.id).filename == renewed.filename
    broker.ack(renewed)
    with pytest.raises(StorageError, match="its bundle can't be found"):
        broker.leased(QUEUE, message.id)


def test_a_second_ack_is_harmless_beside_the_draft_of_a_rival(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    broker = publish(world)
    draft_in_vain(world, 1)
    messages = broker.consume(QUEUE)
    broker.ack(messages)
    broker.ack(messages)


@pytest.mark.parametrize("verb", ["ack", "nack", "release", "reject", "renew"])
def test_a_draft_that_somebody_completed_is_held_though_a_listing_is_late(
    verb: str, tmp_path: Path
) -> None:
    world = new_world(tmp_path)
    seen: list[str] = []

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        late = name == "listdir" and arguments[0].endswith("/work")
        return list(seen) if late and seen else function(*arguments)

    broker = publish(world, calls=Calls(call))
    broker.ack(broker.consume(QUEUE))
    message = broker.consume(QUEUE)
    seen += os.listdir(f"{world.path}/work")
    world.broker().consume(QUEUE)
    assert not world.drafts()
    getattr(broker, verb)(message)


def test_a_draft_that_was_made_when_its_bundle_was_gone_is_no_lease_and_stays(
    tmp_path: Path,
) -> None:
    """Nobody can tell it from one whose bundle is only hidden: it is reported, and harms nobody."""
    world = new_world(tmp_path)
    publish(world)
    made: list[str] = []

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if made:
            raise Crash
        if name == "mknod":
            made.append(name)
            assert rest(world) == MANY
            world.clock.advance(11)
            world.broker().clean(QUEUE)
        return function(*arguments)

    with pytest.raises(Crash):
        world.broker(Calls(call)).consume(QUEUE)
    assert len(world.files("work")) == len(world.drafts()) == 1
    rescuer = world.rescue()
    assert rescuer.dead(QUEUE) == []
    assert rescuer.is_empty(QUEUE)
    assert len(world.files("work")) == 1
    assert_doctor_reports_a_lost_bundle(world)


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


def test_a_claim_whose_bucket_is_called_stale_as_well_is_no_loss(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    publish(world)
    told: list[str] = []

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        into_line = name == "rename" and "/ready/" in arguments[1]
        if told == ["rename"] or (into_line and not told):
            told.append(name)
            if into_line:
                function(*arguments)
            raise OSError(errno.ESTALE, "stale", arguments[0])
        return function(*arguments)

    world.broker(Calls(call)).consume(QUEUE, 3)
    assert told == ["rename", "open"]
    assert rest(world) == MANY


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_draft_that_is_called_stale_again_and_again_is_not_taken_for_complete(
    which: int, tmp_path: Path
) -> None:
    world = new_world(tmp_path)
    publish(world)
    cut_short(world, 3)
    draft = world.drafts()[which]

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if arguments[0] == draft:
            raise OSError(errno.ESTALE, "stale", draft)
        return function(*arguments)

    with pytest.raises(StorageError):
        world.broker(Calls(call)).consume(QUEUE)
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


def test_nobody_waits_for_a_bundle_that_is_only_not_put_away(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    broker = publish(world)
    messages = broker.consume(QUEUE, 12)
    [spent] = world.files("work")[-1:]
    # As if its last rename had failed: it stands in line, and nothing of it waits.
    name = messages[-1].filename.split(".")[3].split("-")[0]
    back = f"{1_700_000_000_000_000_000}.{name}.12-12-0.{0:013d}.{'0' * 16}"
    bucket = Path(world.path, "ready/999").iterdir()
    Path(spent).rename(next(bucket) / back)
    broker.ack(messages)
    assert broker.is_empty(QUEUE)
    broker.clean(QUEUE)
    assert world.files("ready") == []


# What others put there


def test_what_only_looks_like_a_spent_bundle_stops_nobody(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    publish(world)
    Path(world.path, f"work/spent.{0:013d}.{'a' * 20}").mkdir()
    assert len(world.broker().consume(QUEUE, 3)) == 3
    world.broker().clean(QUEUE)
    assert os.listdir(f"{world.path}/work/") != []
    assert rest(world) == MANY


def test_a_lease_of_no_bundle_stays_and_the_doctor_says_so(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    name = f"{1:013d}.5.{1:019d}.{'a' * 20}-3.0-0.{'b' * 16}.line"
    world.put(f"work/{name}")
    broker = world.broker()
    broker.clean(QUEUE)
    assert broker.dead(QUEUE) == []
    assert not broker.is_empty(QUEUE)
    assert os.listdir(f"{world.path}/work") == [name]
    assert_doctor_reports_a_lost_bundle(world)


def test_a_bundle_that_claims_more_lines_than_any_has_is_set_aside(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    publish(world)
    [path] = world.files("ready")
    Path(path).rename(path.replace(".12-0-0.", ".123456-0-0."))
    broker = world.broker()
    assert broker.consume(QUEUE) == []
    assert len(broker.dead(QUEUE)) == 1


def test_lines_that_a_bundle_lacks_are_dead_letters_and_the_others_are_consumed(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    publish(world)
    [path] = world.files("ready")
    Path(path).write_bytes(Path(path).read_bytes()[:-20])
    broker = world.broker()
    assert len(broker.consume(QUEUE, 20)) == 10
    assert {letter.reason for letter in broker.dead(QUEUE)} == {
        "its bundle is cut short"
    }


def test_what_is_no_bundle_is_set_aside_whole(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    publish(world)
    [path] = world.files("ready")
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
    [path] = [p for p in world.files("ready") if ".12-0-0." in p]

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
