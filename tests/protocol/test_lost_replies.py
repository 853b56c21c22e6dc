"""What is done on the server though the client hears that it failed, and the reverse."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from protocol.scenes import (
    MANY,
    QUEUE,
    SCENES,
    Play,
    Scene,
    World,
    new_world,
    plays,
    text,
)
from support import Calls, counting, losing_reply

from ddmq import Broker, DdmqError, LeaseLost, StorageError
from ddmq.storage.filesystem import FileSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.deep
every_scene = pytest.mark.parametrize("scene", SCENES, ids=str)
cold_and_warm = pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
LOSSES = [
    (("rename", "unlink"), errno.ENOENT),
    (("rename", "unlink"), errno.ESTALE),
    (("mkdir",), errno.EEXIST),
    (("rmdir",), errno.ENOENT),
]


# Done, and the reply is lost


@cold_and_warm
@pytest.mark.parametrize(("names", "code"), LOSSES)
@every_scene
def test_a_verb_succeeds_whichever_reply_is_lost(
    scene: Scene, names: tuple[str, ...], code: int, warm: bool, tmp_path: Path
) -> None:
    for n, play in plays(scene, tmp_path, warm=warm):
        calls = losing_reply(n, names, code)
        result = play.act(calls)
        assert play.scene.says(result)
        assert play.states() == play.ends()
        if sum(map(calls.made.count, names)) <= n:
            break


MUTATING = ("rename", "unlink", "mkdir", "rmdir", "mknod", "open", "write", "close")


@cold_and_warm
@every_scene
def test_what_was_done_though_it_was_called_an_error_loses_nothing(
    scene: Scene, warm: bool, tmp_path: Path
) -> None:
    for n, play in plays(scene, tmp_path, warm=warm):
        calls = losing_reply(n, MUTATING, errno.EIO)
        with suppress(DdmqError):
            play.act(calls)
        play.assert_each_is_somewhere()
        play.world.rescue(scene.mode)
        for name, state in play.states().items():
            may_be_gone = "gone" in scene.path[name] and state == "gone"
            assert may_be_gone or state in ("ready", "dead")
        if sum(map(calls.made.count, MUTATING)) <= n:
            break


def answering_late(name: str, meanwhile: Callable[[], Any]) -> Calls:
    """Return system calls: the first `name` into the ready queue is done, others act, it fails."""
    done: list[str] = []

    def call(_: int, called: str, function: Callable[..., Any], arguments: Any) -> Any:
        result = function(*arguments)
        if called == name and "/ready/" in arguments[-1] and not done:
            done.append(called)
            meanwhile()
            raise FileNotFoundError(errno.ENOENT, "reply lost", arguments[0])
        return result

    return Calls(call)


def test_a_publish_whose_message_is_consumed_before_it_is_missed_succeeds(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    consumed: list[Any] = []

    def consume() -> None:
        consumed.extend(world.broker().consume(QUEUE))

    calls = answering_late("rename", consume)
    assert world.broker(calls).publish(QUEUE, text("a")) == consumed[0].id
    assert world.found() == {"a": ["work"]}


def finishing(world: World) -> Callable[[], None]:
    """Return what lets a competitor finish all messages, and remove the bucket."""

    def finish() -> None:
        competitor = world.broker()
        while taken := competitor.consume(QUEUE, 500):
            competitor.ack(taken)
        world.clock.advance(20)
        competitor.clean(QUEUE)

    return finish


def test_a_publish_whose_message_is_finished_and_bucket_removed_meanwhile_succeeds(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    calls = answering_late("rename", finishing(world))
    assert world.broker(calls).publish(QUEUE, text("a"))
    assert world.found() == {}
    assert os.listdir(f"{world.path}/tmp") == []


@pytest.mark.parametrize("hours", [10, 13])
def test_a_bulk_publish_that_takes_hours_and_misses_its_bundles_succeeds(
    hours: int, tmp_path: Path
) -> None:
    """Only who took half a day can't know whether they were cleaned away."""
    world = new_world(tmp_path)

    def slowly() -> Iterator[str]:
        for number in range(2500):
            yield str(number)
            if number == 2200:  # two bundles are written
                world.clock.advance(hours * 3600)

    broker = world.broker(answering_late("rename", finishing(world)))
    if hours == 10:
        assert broker.publish_many(QUEUE, slowly()) == 2500
    else:
        with pytest.raises(StorageError, match="cleaned away"):
            broker.publish_many(QUEUE, slowly())


def test_an_ack_whose_reply_was_lost_can_be_done_again(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    broker = world.broker()
    broker.publish(QUEUE, text("a"))
    [message] = broker.consume(QUEUE)
    broker.ack(message)
    broker.ack(message)
    assert world.found() == {}


def test_an_ack_after_the_lease_expired_is_not_taken_for_a_lost_reply(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    broker = world.broker()
    broker.publish(QUEUE, text("a"))
    [message] = broker.consume(QUEUE)
    broker.ack(message)
    world.clock.advance(601)
    with pytest.raises(LeaseLost):
        broker.ack(message)


@pytest.mark.parametrize("verb", ["nack", "release", "reject"])
def test_an_ack_of_a_message_that_was_given_back_is_not_taken_for_a_lost_reply(
    verb: str, tmp_path: Path
) -> None:
    world = new_world(tmp_path)
    broker = world.broker()
    broker.publish(QUEUE, text("a"))
    [message] = broker.consume(QUEUE)
    getattr(broker, verb)(message)
    with pytest.raises(LeaseLost):
        broker.ack(message)
    assert list(world.found()) == ["a"]


def test_an_ack_by_an_old_lease_spares_the_new_one(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    broker = world.broker()
    broker.publish(QUEUE, text("a"))
    [old] = broker.consume(QUEUE)
    broker.release(old)
    [new] = broker.consume(QUEUE)
    with pytest.raises(LeaseLost):
        broker.ack(old)
    broker.ack(new)
    assert world.found() == {}


# A server that says ESTALE of whatever another node removed


def saying_stale() -> Calls:
    """Return system calls that answer ESTALE where others answer ENOENT."""

    def call(_: int, __: str, function: Callable[..., Any], arguments: Any) -> Any:
        try:
            return function(*arguments)
        except FileNotFoundError as error:
            raise OSError(
                errno.ESTALE, os.strerror(errno.ESTALE), arguments[0]
            ) from error

    return Calls(call)


@cold_and_warm
@every_scene
def test_each_verb_succeeds_where_what_is_gone_is_called_stale(
    scene: Scene, warm: bool, tmp_path: Path
) -> None:
    play = Play(scene, tmp_path, warm=warm)
    result = play.act(saying_stale())
    assert scene.says(result)
    assert play.states() == play.ends()


@pytest.mark.parametrize("calls", [counting, saying_stale])
@pytest.mark.parametrize("verb", ["publish", "publish_many", "release"])
def test_nobody_needs_the_shelf_that_another_node_removes_meanwhile(
    calls: Callable[[], Calls], verb: str, tmp_path: Path
) -> None:
    world = new_world(tmp_path, bucket_size=1, bundle_size=5)
    broker = world.broker(clean=False)
    for name in "abc":
        broker.publish(QUEUE, text(name))
    *others, third = broker.consume(QUEUE, 3)
    broker.ack(others)
    [shelf] = Path(world.path, "ready/999").glob("*.shelf")
    bare = calls()
    hit = []

    def call(number: int, name: str, function: Callable[..., Any], made: Any) -> Any:
        if name in ("mkdir", "rename") and f"{shelf}/" in made[-1] and not hit:
            hit.append(name)
            shutil.rmtree(shelf)
        return bare.call(number, name, function, made)

    broker = world.broker(Calls(call), clean=False)
    if verb == "publish":
        os.rmdir(shelf / shelf.stem)
        broker.publish(QUEUE, text("d"))
    elif verb == "publish_many":
        broker.publish_many(QUEUE, map(text, MANY))
    else:
        broker.release(third)
    assert hit
    assert set(world.found()) == {"publish": {"c", "d"}, "release": {"c"}}.get(
        verb, {"c", *MANY}
    )


@pytest.mark.parametrize("calls", [counting, saying_stale])
def test_a_publisher_does_without_the_bucket_that_another_node_removed(
    calls: Callable[[], Calls], tmp_path: Path
) -> None:
    world = new_world(tmp_path)
    publisher = world.broker(calls(), clean=False)
    publisher.publish(QUEUE, text("a"))
    shutil.rmtree(f"{world.path}/ready/999")
    publisher.publish(QUEUE, text("b"))
    assert world.found() == {"b": ["ready"]}


@pytest.mark.parametrize("calls", [counting, saying_stale])
def test_a_consumer_does_without_the_bucket_that_another_node_removed(
    calls: Callable[[], Calls], tmp_path: Path
) -> None:
    world = new_world(tmp_path, bucket_size=2)
    consumer = world.broker(calls(), clean=False)
    for name in "abcd":
        consumer.publish(QUEUE, text(name))
    consumer.consume(QUEUE)
    shutil.rmtree(os.path.dirname(world.files("ready")[0]))
    [message] = consumer.consume(QUEUE)
    assert message.message in (text("c"), text("d"))


def test_a_publish_whose_bucket_was_made_anew_is_done_or_refused(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    publisher = world.broker(stale_once("rename"), clean=False)
    try:
        publisher.publish(QUEUE, text("a"))
    except StorageError:
        publisher.publish(QUEUE, text("a"))
    assert world.found() == {"a": ["ready"]}


def stale_once(name: str) -> Calls:
    """Return system calls of which the first `name` answers ESTALE and is not done."""
    refused: list[str] = []

    def call(_: int, called: str, function: Callable[..., Any], arguments: Any) -> Any:
        if called == name and not refused:
            refused.append(called)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), arguments[0])
        return function(*arguments)

    return Calls(call)


# A file that another node just replaced


def test_a_read_that_is_stale_for_a_while_is_tried_again(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    broker = world.broker()
    broker.publish(QUEUE, text("a"))
    reader = world.broker(stale_reads(3))
    assert [m.message for m in reader.consume(QUEUE)] == [text("a")]


def test_a_message_that_stays_stale_is_given_back_and_is_no_garbage(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    broker = world.broker()
    broker.publish(QUEUE, text("a"))
    with pytest.raises(DdmqError, match="try again"):
        world.broker(stale_reads(1000)).consume(QUEUE)
    assert world.found() == {"a": ["ready"]}
    assert [m.message for m in broker.consume(QUEUE)] == [text("a")]


def stale_reads(times: int) -> Calls:
    """Return system calls: so many opens of a file in `work/` answer ESTALE."""
    left = [times]

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name == "open" and Path(arguments[0]).parent.name == "work" and left[0]:
            left[0] -= 1
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), arguments[0])
        return function(*arguments)

    return Calls(call)


# A directory that moved, though its client heard an error


def test_what_was_published_stays_though_the_client_remembers_its_old_name(
    tmp_path: Path,
) -> None:
    """As on NFS and GlusterFS: a path that a client remembers leads to the moved directory."""
    moved: dict[str, str] = {}

    def now(path: object) -> object:
        if not isinstance(path, str):
            return path
        for old, new in moved.items():
            path = path.replace(old, new)
        return path

    def call(
        _: int, name: str, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> Any:
        if name != "rename":  # which names its directories, and the server decides
            return function(*map(now, arguments))
        source, target = arguments
        if os.path.isdir(source) and "/ready/" in target:
            function(source, target)
            moved[source] = target
            raise OSError(errno.ETIMEDOUT, "Connection timed out", source)
        return function(source, target)

    world = new_world(tmp_path)
    broker = Broker(world.root, fs=FileSystem(Calls(call)), bundle_size=20)
    with pytest.raises(StorageError, match="timed out"):
        broker.publish_many(QUEUE, map(str, range(50)))
    assert len(Broker(world.root).consume(QUEUE, 100)) == 50
