"""Any system call fails in any way: some of all combinations; the campaign has the rest."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from protocol.faults import NO_DESCRIPTOR, cases, inject
from protocol.scenes import MANY, QUEUE, World, new_world, text
from support import Calls, losing_reply

from ddmq import LeaseLost, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from protocol.faults import Case

pytestmark = pytest.mark.deep
#: Each scene with one or two of the faults, in turn.
SAMPLE = [case for case in cases()[::8] if case.fault not in NO_DESCRIPTOR]


@pytest.mark.parametrize("case", SAMPLE, ids=str)
def test_whichever_call_fails_no_message_is_lost_and_the_next_try_succeeds(
    case: Case, tmp_path: Path
) -> None:
    injected = inject(case, tmp_path)
    assert injected or case.fault.among  # some verbs make no such calls


@pytest.mark.parametrize("case", cases(*NO_DESCRIPTOR), ids=str)
def test_without_a_descriptor_no_message_is_lost_and_the_error_says_so(
    case: Case, tmp_path: Path
) -> None:
    assert inject(case, tmp_path) or case.warm  # who just settles opens nothing


# What the campaign found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return new_world(tmp_path, bundle_size=5)


def refusing_once(code: int, name: str, part: str) -> Calls:
    """Return system calls of which the first such one, on such a path, fails."""
    refused: list[str] = []

    def call(_: int, called: str, function: Callable[..., Any], arguments: Any) -> Any:
        if called == name and part in str(arguments[0]) and not refused:
            refused.append(name)
            raise OSError(code, os.strerror(code), arguments[0])
        return function(*arguments)

    return Calls(call)


def texts(world: World) -> list[str]:
    return sorted(m.message for m in world.rescue().consume(QUEUE, 100))


@pytest.mark.parametrize("code", [errno.EIO, errno.EINTR, errno.ETIMEDOUT])
def test_lines_that_were_claimed_though_the_reply_was_an_error_come_back(
    code: int, world: World
) -> None:
    world.broker().publish_many(QUEUE, map(text, MANY))
    with pytest.raises(StorageError):
        world.broker(losing_reply(0, ("rename",), code)).consume(QUEUE, 3)
    assert texts(world) == [text(name) for name in MANY]
    assert world.files("tmp") == []


@pytest.mark.parametrize("reply", [errno.EIO, errno.ETIMEDOUT, errno.EEXIST])
@pytest.mark.parametrize("then", [errno.EIO, errno.ETIMEDOUT, errno.EACCES])
def test_lines_come_back_that_were_claimed_while_the_server_went_away(
    reply: int, then: int, world: World
) -> None:
    world.broker().publish_many(QUEUE, map(text, MANY))
    failed: list[str] = []

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        """Make the claim, though its reply says something else; and fail the call after it."""
        if failed == ["symlink"]:
            failed.append(name)
            raise OSError(then, os.strerror(then), arguments[0])
        done = function(*arguments)
        if name == "symlink" and "/bundles/" in arguments[1] and not failed:
            failed.append(name)
            raise OSError(reply, os.strerror(reply), arguments[0])
        return done

    with pytest.raises(StorageError):
        world.broker(Calls(call)).consume(QUEUE, 3)
    assert failed == ["symlink", "open"]
    assert texts(world) == [text(name) for name in MANY]


@pytest.mark.parametrize("then", ["open", "write", "close", "listdir"])
def test_a_line_stays_that_left_its_range_without_a_reply(
    then: str, world: World
) -> None:
    world.broker().publish_many(QUEUE, map(text, MANY))
    broken: list[str] = []

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        """Let the range be renamed without a reply, and then fail one call of the next try."""
        if broken == ["rename"] and name == then:
            broken.append(name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), arguments[0])
        done = function(*arguments)
        if name == "rename" and ".range" in arguments[0] and not broken:
            broken.append(name)
            raise OSError(errno.EIO, os.strerror(errno.EIO), arguments[0])
        return done

    client = world.broker(Calls(call))
    messages = client.consume(QUEUE, 3)
    for _ in range(2):
        with suppress(StorageError, LeaseLost):
            client.nack(messages[1])
    assert broken[:1] == ["rename"]
    assert texts(world) == [text(name) for name in MANY]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_claim_that_was_refused_leaves_no_tentative_leases(
    code: int, world: World
) -> None:
    world.broker().publish_many(QUEUE, map(text, MANY))
    with pytest.raises(StorageError):
        world.broker(refusing_once(code, "rename", "/ready/")).consume(QUEUE, 3)
    assert world.files("tmp") == []


def test_a_bundle_that_we_may_not_read_stays_for_those_who_may(world: World) -> None:
    world.broker().publish_many(QUEUE, map(text, MANY))
    assert world.broker().consume(QUEUE)
    [opened] = [p for p in world.files("ready") if p.endswith(".open")]
    bundle = os.path.basename(opened).split(".")[1]
    lines = f"{world.path}/bundles/{bundle}/lines"
    stranger = world.broker(refusing_once(errno.EACCES, "open", lines))
    [message] = stranger.consume(QUEUE)
    assert message.message in (text("m05"), text("m10"))
    world.clock.advance(31)
    assert text("m01") in [m.message for m in stranger.consume(QUEUE, 11)]
    assert world.files("dead") == []


def test_a_bucket_that_we_may_not_list_is_looked_at_again_later(world: World) -> None:
    world.broker().publish(QUEUE, text("a"))
    consumer = world.broker(refusing_once(errno.EACCES, "listdir", "/ready/999/"))
    assert consumer.consume(QUEUE) == []
    world.clock.advance(31)
    assert [m.message for m in consumer.consume(QUEUE)] == [text("a")]


def test_several_bundles_that_can_not_join_the_line_are_removed(world: World) -> None:
    publisher = world.broker(refusing_moves_of_directories(errno.ESTALE))
    with pytest.raises(StorageError):
        publisher.publish_many(QUEUE, map(text, MANY))
    assert os.listdir(f"{world.path}/tmp") == []
    assert world.found() == {}


def test_a_directory_that_was_made_though_it_was_called_an_error_is_removed(
    world: World,
) -> None:
    publisher = world.broker(losing_reply(0, ("mkdir",), errno.EIO))
    with pytest.raises(StorageError):
        publisher.publish_many(QUEUE, map(text, MANY))
    assert os.listdir(f"{world.path}/tmp") == []


def refusing_moves_of_directories(code: int) -> Calls:
    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        into_line = name == "rename" and "/ready/" in arguments[1]
        if into_line and os.path.isdir(arguments[0]):
            raise OSError(code, os.strerror(code), arguments[0])
        return function(*arguments)

    return Calls(call)


def test_an_error_of_a_descriptor_names_its_file(world: World) -> None:
    for name in ("close", "read", "fsync", "write"):
        with pytest.raises(StorageError) as caught:
            world.broker(losing_reply(0, (name,), errno.EIO)).publish(QUEUE, text("a"))
        assert caught.value.path.startswith(world.root)
