"""Two that have one lease: two threads, a program and a loop that renews, or who tries again.

Both know the same names. Whatever they do with one line of a range, at whatever moment, one of
them does it, and the other one is told.
"""

from __future__ import annotations

import errno
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from protocol.scenes import HOUR, QUEUE, World, new_world
from support import Calls, counting
from unit.scenes import view

from ddmq import LeaseLost
from ddmq.errors import DdmqError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddmq import Broker, Message

VERBS = ["ack", "renew", "nack", "release", "reject"]
#: Verbs that leave a message with its holder.
KEEPING = {"renew", "start"}


def with_twelve(place: Path, *, alone: bool = False) -> World:
    """Return a queue with twelve messages, in a bundle or alone."""
    world = new_world(place)
    for texts in ([str(n)] for n in range(12)) if alone else [map(str, range(12))]:
        world.broker(clean=False).publish_many(QUEUE, texts)
    return world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return with_twelve(tmp_path / "world")


@pytest.fixture
def held(world: World) -> list[Message]:
    """The first four, as one claim took them."""
    return world.broker(clean=False).consume(QUEUE, 4)


def leaves(name: str, arguments: Any) -> bool:
    """Tell whether a call moves the file of a detached line to where it goes."""
    return name == "rename" and str(arguments[0]).endswith(".detached")


def notes(name: str, arguments: Any) -> bool:
    """Tell whether a call lets the range say that the third of its lines has left."""
    return name == "rename" and ".ood" in str(arguments[0])


def writes(name: str, arguments: Any) -> bool:
    """Tell whether a call makes the file in which a line is to leave."""
    return name == "open" and str(arguments[0]).endswith(".detached")


# One acts before any system call of the other


@pytest.mark.parametrize("kind", ["line of four", "line alone", "single file"])
@pytest.mark.parametrize("is_one_client", [False, True], ids=["two", "one"])
@pytest.mark.parametrize("second", [*VERBS, "start"])
@pytest.mark.parametrize("first", [*VERBS, "start"])
def test_of_two_holders_of_a_message_one_settles_it(
    first: str, second: str, is_one_client: bool, kind: str, tmp_path: Path
) -> None:
    for n in range(60):
        world, done = with_twelve(tmp_path / str(n), alone=kind == "single file"), []
        calls = counting()
        ours = world.broker(calls, clean=False)
        other = ours if is_one_client else world.broker(clean=False)
        one = ours.consume(QUEUE, 4 if kind == "line of four" else 1, started=0)[-1]
        began, acts = len(calls.made), [second]

        def attempt(
            broker: Broker, verb: str, one: Message = one, done: list[str] = done
        ) -> None:
            with suppress(LeaseLost):
                getattr(broker, verb)(one)
                done.append(verb)

        def call(
            number: int,
            _: str,
            do: Callable[..., Any],
            arguments: Any,
            at: int = began + n,
            other: Broker = other,
            acts: list[str] = acts,
            attempt: Callable[[Broker, str], None] = attempt,
        ) -> Any:
            if number >= at and acts:
                attempt(other, acts.pop())
            return do(*arguments)

        calls.call = call
        attempt(ours, first)
        world.rescue()
        assert len(set(done) - KEEPING) <= 1, (n, done)
        assert sum(view(world)) == 12 - ("ack" in done), (n, done)
        if acts:
            assert n
            return
    raise AssertionError("it never ended")


@pytest.mark.parametrize("verb", VERBS[1:])
def test_no_ack_is_said_to_be_done_of_a_line_that_another_holder_moved_on(
    world: World, verb: str
) -> None:
    """The first one still knows an old name of the range."""
    ours = world.broker(clean=False)
    third = ours.consume(QUEUE, 4)[2]
    getattr(world.broker(clean=False), verb)(third)
    if verb == "renew":
        ours.ack(third)
    else:
        with pytest.raises(LeaseLost):
            ours.ack(third)
    world.rescue()
    assert sum(view(world)) == 12 - (verb == "renew")


@pytest.mark.parametrize("is_one_client", [False, True], ids=["two", "one"])
def test_two_holders_that_both_detach_a_line_do_not_double_it(
    world: World, is_one_client: bool
) -> None:
    """One renews it and has moved its file by the time when the other one makes his."""
    moved_on, go_on, begun = threading.Event(), threading.Event(), []
    us = threading.current_thread()

    def call(_: int, name: str, do: Callable[..., Any], arguments: Any) -> Any:
        if threading.current_thread() is us and writes(name, arguments) and not begun:
            begun.append(thread.start())
            assert moved_on.wait(20)
        elif threading.current_thread() is not us and notes(name, arguments):
            moved_on.set()
            assert go_on.wait(20)
        return do(*arguments)

    ours = world.broker(Calls(call), clean=False)
    other = ours if is_one_client else world.broker(Calls(call), clean=False)
    third = ours.consume(QUEUE, 4)[2]
    thread = threading.Thread(target=other.renew, args=(third,))
    try:
        with suppress(LeaseLost):
            ours.nack(third)
    finally:
        go_on.set()
        thread.join()
    assert begun
    assert sum(view(world)) == 12


def test_a_second_line_that_leaves_takes_no_file_from_the_first(
    world: World, held: list[Message]
) -> None:
    """One that was detached in vain gets a lease of its own, and can be settled by that."""

    def refused(_: int, name: str, do: Callable[..., Any], arguments: Any) -> Any:
        if leaves(name, arguments):
            raise OSError(errno.EIO, "io", arguments[0])
        return do(*arguments)

    with pytest.raises(DdmqError):
        world.broker(Calls(refused), clean=False).nack(held[1])
    ours = world.broker(clean=False)
    ours.nack(held[2])
    assert view(world) == (9, 3, 0, 0)
    [alone] = [p for p in world.files("work") if not p.endswith(".range")]
    assert f"{held[1].id}." in alone
    ours.ack(held[:2])
    ours.ack(held[3])
    assert view(world) == (9, 0, 0, 0)
    assert world.files("work") == []


# Faults


@pytest.mark.parametrize("error", [OSError(errno.EIO, "io"), KeyboardInterrupt()])
def test_who_could_not_renew_a_line_may_ack_it_all_the_same(
    world: World, held: list[Message], error: BaseException
) -> None:
    errors = [error]

    def call(_: int, name: str, do: Callable[..., Any], arguments: Any) -> Any:
        if leaves(name, arguments) and errors:
            raise errors.pop()
        return do(*arguments)

    consumer = world.broker(Calls(call), clean=False)
    with suppress(DdmqError, KeyboardInterrupt):
        consumer.renew(held[2])
    assert not errors
    consumer.ack(held[2])
    world.rescue()
    assert sum(view(world)) == 11


@pytest.mark.parametrize("verb", ["nack", "renew", "reject", "delay"])
def test_estale_that_is_said_twice_loses_no_line_that_left_its_range(
    world: World, held: list[Message], verb: str
) -> None:
    """The server's answer proves nothing then, so the line is not said to be over."""
    left = [1, 2]
    ours = world.broker(Calls(_stale(left)), clean=False)
    acts = {
        "nack": ours.nack,
        "renew": ours.renew,
        "reject": ours.reject,
        "delay": partial(ours.nack, delay=5),
    }
    with suppress(DdmqError):
        acts[verb](held[2])
    assert not left
    world.rescue()
    assert sum(view(world)) == 12


def test_estale_twice_while_a_range_is_taken_over(
    world: World, held: list[Message]
) -> None:
    with pytest.raises(DdmqError):
        world.broker(Calls(_stale([0] * 99)), clean=False).nack(held[2])
    world.clock.advance(HOUR)
    left = [1, 2]
    world.broker(Calls(_stale(left))).clean(QUEUE)
    assert not left
    world.rescue()
    assert sum(view(world)) == 12


def _stale(left: list[int]) -> Callable[..., Any]:
    def call(_: int, name: str, do: Callable[..., Any], arguments: Any) -> Any:
        if leaves(name, arguments) and left:
            left.pop()
            raise OSError(errno.ESTALE, "stale", arguments[0])
        return do(*arguments)

    return call


def test_a_range_that_one_listing_misses_is_not_taken_apart_by_a_heartbeat(
    world: World,
) -> None:
    """Its name is changed just then, by the thread that runs the commands."""
    seen: list[str] = []

    def call(_: int, name: str, do: Callable[..., Any], arguments: Any) -> Any:
        is_range = name == "rename" and str(arguments[0]).endswith(".range")
        if seen == ["renews"] and is_range:
            seen.append("acks")
            ours.ack(held[0])
        result = do(*arguments)
        lists = name == "listdir" and arguments[0].endswith("/work")
        if seen == ["renews", "acks"] and lists:
            seen.append("misses")
            return [each for each in result if not each.endswith(".range")]
        return result

    ours = world.broker(Calls(call), clean=False)
    held = ours.consume(QUEUE, 4)
    seen.append("renews")
    ours.renew(held[1:], together=True)
    assert seen == ["renews", "acks", "misses"]
    assert [Path(path).suffix for path in world.files("work")] == [".range"]
