"""The dead drop: what is moved in becomes one message, whole, or waits until it stands still."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from protocol.scenes import QUEUE, World, new_world, text
from support import counting, interrupted

from ddmq.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from ddmq import Broker


def moved_in(world: World, name: str, data: bytes) -> None:
    """Write a file beside the root, long ago, and move it into the drop, as `mv` does."""
    beside = f"{world.root}/../outside"
    with open(beside, "wb") as file:
        file.write(data)
    then = world.clock.now_ns - 60 * 10**9
    os.utime(beside, ns=(then, then))
    os.rename(beside, os.fsencode(f"{world.path}/drop/{name}"))


def emptied(broker: Broker) -> list[Any]:
    """Consume and ack all there is."""
    got = []
    while messages := broker.consume(QUEUE, 100):
        got += [m.message for m in messages]
        broker.ack(messages)
    return got


@pytest.mark.parametrize(
    "name",
    [
        *("a\nb", "a'b\"c", "$(touch x)", "--help", "*", "a b", "\\", "ä", "x" * 255),
        *("é".encode("latin-1").decode(errors="surrogateescape"), "a\x1b[2J", "~"),
        *("ddmq.yaml", "lock", f"{10**18}.{'a' * 20}.9", f"{'a' * 20}"),
        f"1600000000000.0.{10**18}.{'a' * 20}.0-1-9.{'0' * 16}.o.0-0.{'0' * 16}.range",
        f"0.{10**18}.{'a' * 20}-1.0-0.{'0' * 16}.{'0' * 6}.detached",
    ],
)
def test_a_file_of_any_name_is_a_message_once(name: str, world: World) -> None:
    moved_in(world, name, b"text of a\n")
    broker, other = world.broker(), world.broker()
    assert broker.clean(QUEUE).adopted + other.clean(QUEUE).adopted == 1
    assert emptied(broker) == [text("a")]
    assert os.listdir(f"{world.path}/drop") == []
    assert broker.view(QUEUE)[QUEUE] == (0, 0, 0, 0)


@pytest.mark.parametrize("short", ["1e-10", "0.5", "1"])
def test_a_timeout_that_is_too_short_is_raised_to_a_second(
    short: str, world: World
) -> None:
    moved_in(world, "file", b'{"message": "x", "timeout": %b}' % short.encode())
    planted = f"ready/0/{10**18}/{10**18}.{'a' * 20}.0-0.t1"
    world.put(planted, b'{"message": "y"}')
    broker = world.broker()
    broker.clean(QUEUE)
    messages = broker.consume(QUEUE, 2)
    assert [(m.message, m.timeout) for m in messages] == [("y", 1), ("x", 1)]
    over = -(-world.clock.now_ns // 10**6) + 1000
    assert [int(m.filename[:13]) for m in messages] == [over, over]


@pytest.mark.parametrize("name", [".hidden", ".a.txt.Xy12", ".nfs0001"])
def test_a_hidden_file_is_nobodys(name: str, world: World) -> None:
    moved_in(world, name, b"text of a")
    broker = world.broker()
    world.clock.advance(10**6)
    assert broker.clean(QUEUE).adopted == 0
    os.rename(f"{world.path}/drop/{name}", f"{world.path}/drop/shown")
    assert broker.clean(QUEUE).adopted == 1


def test_a_file_that_grows_is_left_until_it_is_whole(world: World) -> None:
    broker = world.broker()
    path = world.put("drop/slow", b"")
    for n in range(20):  # a part every 9 seconds
        with open(path, "ab") as file:
            file.write(b"part %d\n" % n)
        os.utime(path, ns=(world.clock.now_ns, world.clock.now_ns))
        world.clock.advance(9)
        assert broker.clean(QUEUE).adopted == 0
    world.clock.advance(2)
    assert broker.clean(QUEUE).adopted == 1
    [message] = emptied(broker)
    assert message == "\n".join(f"part {n}" for n in range(20))


@pytest.mark.parametrize("call", ["lstat", "open", "fstat", "rename"])
def test_what_grows_while_we_look_comes_once_and_whole(
    call: str, tmp_path: Path
) -> None:
    for step in range(12):
        world = new_world(tmp_path / str(step))
        path = world.put("drop/slow", b"half of i", age=60)
        slow = os.open(path, os.O_WRONLY | os.O_APPEND)

        grown: list[int] = []

        def grow(
            world: World = world, slow: int = slow, grown: list[int] = grown
        ) -> None:
            grown.append(os.write(slow, b"t all"))
            os.utime(slow, ns=(world.clock.now_ns, world.clock.now_ns))

        world.broker(interrupted(step, grow, among=call)).clean(QUEUE)
        os.close(slow)
        world.clock.advance(60)
        other = world.broker()
        other.clean(QUEUE)
        assert emptied(other) == ["half of it all" if grown else "half of i"]
        assert os.listdir(f"{world.path}/drop") == []


@pytest.mark.parametrize("call", ["lstat", "open", "fstat", "close", "rename"])
def test_a_name_that_is_used_again_while_we_look_brings_both_files_whole(
    call: str, tmp_path: Path
) -> None:
    """Another client has adopted the first; the second one is still being written."""
    reused = 0
    for step in range(12):
        world = new_world(tmp_path / str(step))
        world.put("drop/name", b"the first", age=60)
        written: list[Any] = []

        def reuse(world: World = world, written: list[Any] = written) -> None:
            world.broker().clean(QUEUE)
            if os.listdir(f"{world.path}/drop"):
                return  # it is another client's turn with this very file
            path = f"{world.path}/drop/name"
            file = open(path, "xb")  # noqa: SIM115 - it stays open
            file.write(b"half of ")
            file.flush()
            os.utime(path, ns=(world.clock.now_ns, world.clock.now_ns))
            written.append(file)

        world.broker(interrupted(step, reuse, among=call)).clean(QUEUE)
        for file in written:
            file.write(b"the second")
            file.close()
        world.clock.advance(60)
        other = world.broker()
        other.clean(QUEUE)
        wanted = ["the first", *["half of the second"] * len(written)]
        assert emptied(other) == wanted
        reused += len(written)
    assert reused


LIMIT = Settings().max_message_size


@pytest.mark.parametrize("size", [0, 1, LIMIT, LIMIT + 1, 1 << 40])
def test_a_file_of_any_size_is_a_message_or_a_dead_letter(
    size: int, world: World
) -> None:
    path = world.put("drop/file")
    os.truncate(path, size)
    os.utime(path, ns=(0, 0))
    world.put("drop/z", b"text of a", age=60)
    broker = world.broker()
    assert broker.clean(QUEUE).adopted == 2 - (size > LIMIT)
    got = emptied(broker)
    dead = [(d.message, d.reason) for d in broker.dead(QUEUE)]
    if size > LIMIT:
        assert got == [text("a")]
        reason = f"its file is over {LIMIT} bytes long (max_message_size)"
        assert dead == [(None, reason)]
        broker.update_settings(QUEUE, max_message_size=64 << 20)
        assert broker.redrive(QUEUE) == (size < 1 << 40)
    else:
        assert got == ["\0" * size, text("a")]
        assert dead == []


def test_a_file_with_a_second_name_is_not_read(world: World, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b'{"message": "secret"}')
    os.utime(tmp_path / "secret", (0, 0))
    os.link(tmp_path / "secret", f"{world.path}/drop/file")
    broker = world.broker()
    assert broker.clean(QUEUE).adopted == 0
    assert emptied(broker) == []
    [letter] = broker.dead(QUEUE)
    assert letter.reason.endswith("it was drop/file")
    assert (tmp_path / "secret").read_bytes() == b'{"message": "secret"}'


def test_two_clients_at_every_step_adopt_each_file_once(tmp_path: Path) -> None:
    wanted = sorted([text(str(n)) for n in range(3)])
    step = ended = 0
    while not ended:
        world = new_world(tmp_path / str(step))
        for n in range(3):
            moved_in(world, str(n), text(str(n)).encode())
        competitor = world.broker()
        adopted = []
        calls = interrupted(
            step,
            lambda: adopted.append(competitor.clean(QUEUE).adopted),  # noqa: B023
        )
        adopted.append(world.broker(calls).clean(QUEUE).adopted)
        assert sum(adopted) == 3
        assert sorted(emptied(competitor)) == wanted
        ended, step = len(adopted) == 1, step + 1
    assert step > 20


def test_two_clients_at_once_adopt_each_file_once(world: World) -> None:
    for n in range(300):
        data = json.dumps({"message": n}) if n % 2 else str(n)
        moved_in(world, f"file {n}", data.encode())
    brokers = [world.broker(), world.broker()]
    adopted: list[int] = []

    def adopt(broker: Broker) -> None:
        adopted.append(broker.clean(QUEUE).adopted)

    threads = [threading.Thread(target=adopt, args=[broker]) for broker in brokers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(adopted) == 300
    assert sorted(map(int, emptied(brokers[0]))) == list(range(300))


def test_a_crowd_in_the_drop_is_adopted_in_order(world: World) -> None:
    for n in range(1200):
        moved_in(world, f"{n:05d}", str(n).encode())
    calls = counting()
    broker = world.broker(calls)
    assert broker.clean(QUEUE).adopted == 1200
    assert emptied(broker) == [str(n) for n in range(1200)]
    assert len(calls.made) < 30 * 1200
