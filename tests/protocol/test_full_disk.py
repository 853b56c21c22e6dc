"""The disk is full, by bytes, by inodes or by a quota, and has space again later."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from protocol.scenes import MANY, QUEUE, World, text
from support import Calls

from ddmq import Broker, Message, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow
_LIMITS = {
    "bytes": "size=1m,nr_inodes=2k",
    "inodes": "size=16m,nr_inodes=150",
}
_CREATING = ("mknod", "mkdir", "symlink", "write")


class Disk:
    """A small file system of its own, that can be filled."""

    def __init__(self, path: Path, limit: str) -> None:
        self.limit = limit
        self.world = World(path / "mq", bundle_size=20)
        self.is_full = False
        self._fillers = path / "fillers"
        self._fillers.mkdir()
        self.broker(create=True).create_queue(QUEUE)

    def broker(self, **options: Any) -> Broker:
        return self.world.broker(Calls(self._call), **options)

    def _call(self, _: int, name: str, do: Callable[..., Any], arguments: Any) -> Any:
        """Refuse what needs space when the quota is used up."""
        creates = name in _CREATING or (
            name == "open" and arguments[1] & os.O_CREAT == os.O_CREAT
        )
        if self.limit == "quota" and self.is_full and creates:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), arguments[0])
        return do(*arguments)

    def reserve(self) -> None:
        """Use up a little."""
        for number in range(30):
            (self._fillers / f"reserved{number}").touch()

    def fill(self) -> None:
        """Use up all that is left."""
        self.is_full = True
        if self.limit == "inodes":
            with suppress(OSError):
                for number in range(1000):
                    (self._fillers / str(number)).touch()
        elif self.limit == "bytes":
            with suppress(OSError), open(self._fillers / "0", "ab", 0) as file:
                while True:
                    file.write(bytes(4096))

    def spare_one(self) -> None:
        """Let there be one inode where inodes are scarce."""
        with suppress(FileNotFoundError):
            (self._fillers / "0").unlink()

    def free(self) -> None:
        """Let there be space again."""
        self.is_full = False
        for filler in self._fillers.iterdir():
            filler.unlink()

    @property
    def code(self) -> int:
        return errno.EDQUOT if self.limit == "quota" else errno.ENOSPC

    def refuses(self, act: Callable[[], object]) -> None:
        """Something can't be done, and is told why, where, and what to do."""
        with pytest.raises(StorageError, match=r"free some (space|files)") as caught:
            act()
        assert caught.value.errno == self.code
        assert caught.value.path.startswith(self.world.path)
        assert caught.value.path in str(caught.value)


MOUNTS = pytest.mark.root("mount a small file system")


@pytest.fixture(
    params=[*(pytest.param(name, marks=MOUNTS) for name in _LIMITS), "quota"]
)
def disk(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    mounted: Callable[[Path, str], Path],
) -> Disk:
    limit = request.param
    if limit != "quota":
        mounted(tmp_path, _LIMITS[limit])
    return Disk(tmp_path, limit)


def consumed(broker: Broker, n: int = 100, *, ack: bool = False) -> list[Message]:
    found: list[Message] = []
    while more := broker.consume(QUEUE, n):
        found += more
        if ack:
            broker.ack(more)
    return found


def texts(messages: list[Message]) -> list[str]:
    return sorted(message.message for message in messages)


def until_refused(disk: Disk, publish: Callable[[int], object]) -> int:
    """Publish until there is no space; return how often that succeeded."""
    for number in range(10_000):
        if number == 40 and disk.limit == "quota":
            disk.fill()
        try:
            publish(number)
        except StorageError:
            disk.refuses(partial(publish, number))
            return number
    raise AssertionError


@pytest.mark.parametrize("durable", [True, False])
def test_what_was_published_until_the_disk_was_full_is_consumed_on_the_full_disk(
    disk: Disk, durable: bool
) -> None:
    broker = disk.broker()
    long = "x" * 3000

    def publish(number: int) -> None:
        broker.publish(QUEUE, f"{number} {long}", durable=durable)

    number = until_refused(disk, publish)
    disk.fill()
    assert number >= 40
    assert os.listdir(f"{disk.world.path}/tmp") == []
    found = []
    consumer = disk.broker()
    while messages := consumer.consume(QUEUE):
        found += messages
        consumer.ack(messages)
    assert [int(m.message.split()[0]) for m in found] == list(range(number))
    assert disk.world.files("work") == []


@pytest.mark.parametrize(("size", "durable"), [(9, True), (15, False), (50, True)])
def test_many_are_published_all_or_none_when_the_disk_gets_full(
    disk: Disk, durable: bool, size: int
) -> None:
    broker = disk.broker()

    def publish(number: int) -> None:
        names = (f"{number}-{line}" for line in range(size))
        broker.publish_many(QUEUE, map(text, names), durable=durable)

    disk.reserve()
    number = until_refused(disk, publish)
    assert os.listdir(f"{disk.world.path}/tmp") == []
    disk.free()
    found, consumer = [], disk.broker()
    while more := consumer.consume(QUEUE, 20):
        found += texts(more)
        consumer.ack(more)
        disk.world.clock.advance(
            2
        )  # the next look removes the bundles that are finished
    assert len(set(found)) == len(found)
    whole = {text(f"{n}-{line}") for n in range(number) for line in range(size)}
    others = set(found) - whole
    assert whole <= set(found)
    # Fewer than ten are published one by one.
    assert not others or (
        size < 10 and all(m.startswith(text(f"{number}-")) for m in others)
    )


def test_lines_are_consumed_once_there_is_an_inode_again(disk: Disk) -> None:
    disk.broker().publish_many(QUEUE, map(text, MANY))
    disk.fill()
    consumer = disk.broker()
    if disk.limit == "bytes":  # an empty file needs none
        assert len(consumer.consume(QUEUE, 3)) == 3
    else:
        disk.spare_one()
        disk.refuses(lambda: consumer.consume(QUEUE, 3))
        assert os.listdir(f"{disk.world.path}/tmp") == []
        assert set(map(tuple, disk.world.found().values())) == {("ready",)}
    disk.free()
    rest = texts(consumed(consumer))
    assert rest == [text(n) for n in MANY][-len(rest) :]
    assert len(rest) >= 9


@pytest.mark.parametrize("verb", ["nack", "release", "renew", "reject"])
def test_a_line_that_can_not_be_written_out_stays_leased(disk: Disk, verb: str) -> None:
    broker = disk.broker()
    broker.publish(QUEUE, text("other"))
    broker.publish_many(QUEUE, map(text, MANY))
    [other, message, *_] = broker.consume(QUEUE, 3)
    assert other.message == text("other")
    reason = ["it smelled"] if verb == "reject" else []
    settle = partial(getattr(broker, verb), message, *reason)
    disk.fill()
    disk.refuses(settle)
    assert disk.world.found()["m00"] == ["work"]
    disk.free()
    settle()
    expected = {"renew": ["work"], "reject": ["dead"]}.get(verb, ["ready"])
    assert disk.world.found()["m00"] == expected


def test_lines_are_acked_on_the_full_disk(disk: Disk) -> None:
    broker = disk.broker()
    broker.publish_many(QUEUE, map(text, MANY))
    messages = broker.consume(QUEUE, 20)
    disk.fill()
    broker.ack(messages)
    disk.world.clock.advance(11)
    broker.clean(QUEUE)
    assert disk.world.found() == {}
    assert disk.world.files("work") == []


def test_housekeeping_goes_on_and_what_needs_space_comes_back_later(
    disk: Disk,
) -> None:
    broker = disk.broker()
    broker.publish_many(QUEUE, map(text, MANY))
    broker.consume(QUEUE, 2)
    for name in "abc":
        broker.publish(QUEUE, text(name), priority=0)
    broker.consume(QUEUE, 2)
    broker.publish(QUEUE, text("late"), priority=0, delay=60)
    disk.world.put("drop/d", b"text of d", age=60)
    disk.fill()
    disk.world.clock.advance(700)
    swept = disk.broker().clean(QUEUE)
    assert (swept.due, swept.adopted) == (1, 1)
    assert swept.requeued == 4
    assert all(len(states) == 1 for states in disk.world.found().values())
    disk.free()
    everything = [*MANY, "a", "b", "c", "d", "late"]
    rescuer = disk.world.rescue()
    assert texts(consumed(rescuer)) == sorted(map(text, everything))
