"""Whatever lies in a queue that is no message is quarantined, and stops nobody."""

from __future__ import annotations

import errno
import json
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from protocol.scenes import QUEUE, World, text
from support import Calls, in_time

from ddmq import GarbageAhead, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ddmq import Broker, DeadLetter, Message

ID = "0123456789abcdef0123"
STAMP = 1_600_000_000_000_000_000
BUCKET = f"ready/999/{STAMP}"
SHELF = f"{BUCKET}.shelf"
ENTRY = f"{STAMP}.{ID}.0-0"
LEASE = f"1600000000000.999.{ENTRY}.0123456789abcdef"
DELAYED = f"1600000000000.999.{ENTRY}"

#: Places where something may lie that has the name of a message.
NAMED = [
    f"{BUCKET}/{ENTRY}",
    f"{SHELF}/{STAMP}/{ENTRY}",
    f"work/{LEASE}",
    f"delayed/{DELAYED}",
]
#: Places where something may lie whose name means nothing.
STRAY = ["ready/stray", "ready/999/stray", f"{BUCKET}/0stray", "work/stray"]
STRAY += ["delayed/stray", "ready/007", f"ready/999/{STAMP}0"]
STRAY += [f"{SHELF}/stray", f"{SHELF}/{STAMP}.shelf", f"{SHELF}/{STAMP}/0stray"]


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """Whoever waits for a FIFO is told after a while."""
    with in_time(60):
        yield


def file_of(data: bytes) -> Callable[[str], None]:
    def make(path: str) -> None:
        with open(path, "wb") as file:
            file.write(data)

    return make


def full_directory(path: str) -> None:
    os.mkdir(path)
    file_of(b"mine")(f"{path}/mine")


def link_to_file(path: str) -> None:
    os.symlink(users_own(path, "file"), path)


def link_to_directory(path: str) -> None:
    os.symlink(users_own(path, "directory"), path)


def bound_socket(path: str) -> None:
    here = os.open(".", os.O_RDONLY)
    os.chdir(os.path.dirname(path))  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.basename(path))
    os.fchdir(here)
    os.close(here)


def users_own(path: str, what: str) -> str:
    """Return the path of the user's own file or directory, outside the root."""
    top = path[: path.index("/root/")]
    file_of(json.dumps({"message": "the user's own"}).encode())(f"{top}/file")
    os.makedirs(f"{top}/directory/{STAMP}", exist_ok=True)
    for place in (f"{top}/directory", f"{top}/directory/{STAMP}"):
        file_of(json.dumps({"message": "the user's own"}).encode())(f"{place}/{ENTRY}")
    return f"{top}/{what}"


THINGS: dict[str, Callable[[str], None]] = {
    "empty": file_of(b""),
    "truncated": file_of(b'{"message": "half a mess'),
    "no JSON": file_of(b"Hello World!"),
    "no object": file_of(b'["message"]'),
    "no message": file_of(b'{"priority": 1}'),
    "NUL bytes": file_of(b"\0" * 4096),
    "no UTF-8": file_of(b'{"message": "\xff\xfe"}'),
    "an infinity": file_of(b'{"message": Infinity}'),
    "deep nesting": file_of(b'{"message": ' + b"[" * 200_000),
    "a wrong timeout": file_of(b'{"message": 1, "timeout": -5}'),
    "a wrong limit": file_of(b'{"message": 1, "requeue_limit": "many"}'),
    "directory": os.mkdir,
    "full directory": full_directory,
    "link to a file": link_to_file,
    "link to a directory": link_to_directory,
    "dangling link": lambda path: os.symlink("nowhere", path),
    "link to itself": lambda path: os.symlink(os.path.basename(path), path),
    "FIFO": os.mkfifo,
    "socket": bound_socket,
}
everything = pytest.mark.parametrize("thing", THINGS)


def plant(world: World, place: str, thing: str) -> str:
    path = f"{world.path}/{place}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    THINGS[thing](path)
    return path


def snapshot(directory: Path) -> dict[str, Any]:
    """Return all that is the user's own, with its contents."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for name in ("file", "directory")
        for path in [directory / name, *(directory / name).rglob("*")]
    }


def assert_quarantined(world: World, path: str, codes: tuple[str, ...]) -> DeadLetter:
    """It lies in `dead/`, listed with a reason, and is no longer where it was."""
    assert not os.path.lexists(path)
    [letter] = world.broker().dead(QUEUE)
    assert os.path.lexists(f"{world.path}/dead/{letter.filename}")
    assert letter.filename.rpartition(".")[2] in codes
    assert letter.reason
    return letter


@everything
@pytest.mark.parametrize("place", NAMED, ids=["ready", "shelf", "work", "delayed"])
def test_a_file_with_the_name_of_a_message_that_holds_none_is_a_dead_letter(
    place: str, thing: str, world: World, tmp_path: Path
) -> None:
    path = plant(world, place, thing)
    before = snapshot(tmp_path)
    broker = world.broker()
    broker.publish(QUEUE, text("a"))
    assert [m.message for m in broker.consume(QUEUE)] == [text("a")]
    assert_quarantined(world, path, ("invalid",))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("thing", [t for t in THINGS if t != "directory"])
@pytest.mark.parametrize("place", STRAY)
def test_a_stray_file_is_quarantined_by_whoever_cleans(
    place: str, thing: str, world: World, tmp_path: Path
) -> None:
    path = plant(world, place, thing)
    before = snapshot(tmp_path)
    broker = world.broker()
    broker.publish(QUEUE, text("a"))
    broker.clean(QUEUE)
    assert [m.message for m in broker.consume(QUEUE)] == [text("a")]
    letter = assert_quarantined(world, path, ("foreign",))
    assert place in letter.reason
    assert snapshot(tmp_path) == before


@everything
@pytest.mark.parametrize("place", ["ready/5", BUCKET, SHELF, f"{SHELF}/{STAMP}"])
def test_what_stands_in_the_place_of_a_directory_is_quarantined(
    place: str, thing: str, world: World, tmp_path: Path
) -> None:
    path = plant(world, place, thing)
    before = snapshot(tmp_path)
    broker = world.broker()
    broker.publish(QUEUE, text("a"))
    assert [m.message for m in broker.consume(QUEUE)] == [text("a")]
    if "directory" not in thing or "link" in thing:
        assert_quarantined(world, path, ("foreign",))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("place", ["ready/999", BUCKET, SHELF, f"{SHELF}/{STAMP}"])
@pytest.mark.parametrize("verb", ["publish", "consume", "view", "clean", "purge"])
def test_a_link_in_place_of_a_directory_is_never_followed(
    verb: str, place: str, world: World, tmp_path: Path
) -> None:
    plant(world, place, "link to a directory")
    before = snapshot(tmp_path)
    broker = world.broker()
    arguments = [text("a")] if verb == "publish" else []
    getattr(broker, verb)(QUEUE, *arguments)
    assert broker.consume(QUEUE) == [] or verb == "publish"
    assert snapshot(tmp_path) == before


#: What no name or kind of file in `drop/` tells to be a message.
NO_FILES = [t for t in THINGS if "directory" in t or "link" in t]
NO_FILES += ["FIFO", "socket"]


@pytest.mark.parametrize("thing", NO_FILES)
def test_what_is_dropped_and_is_no_file_is_quarantined(
    thing: str, world: World, tmp_path: Path
) -> None:
    path = plant(world, "drop/thing", thing)
    before = snapshot(tmp_path)
    world.put("drop/z", text("a").encode())
    world.clock.advance(3600)
    broker = world.broker()
    assert broker.clean(QUEUE).adopted == 1
    assert [m.message for m in broker.consume(QUEUE)] == [text("a")]
    assert_quarantined(world, path, ("foreign",))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("data", [b"\xff\xfe\0\1", b'\x80{"message": 1}'])
def test_a_dropped_file_that_is_no_text_is_a_dead_letter(
    data: bytes, world: World
) -> None:
    world.put("drop/a", data, age=60)
    world.put("drop/b", b"text of b", age=60)
    broker = world.broker()
    assert broker.clean(QUEUE).adopted == 2
    assert [m.message for m in broker.consume(QUEUE)] == [text("b")]
    assert [letter.message for letter in broker.dead(QUEUE)] == [None]


def test_a_dropped_file_is_a_message_as_text_or_as_json(world: World) -> None:
    world.put("drop/1", b"plain text\n", age=60)
    world.put("drop/2", b'{"message": [1, 2], "timeout": 5, "priority": 7}', age=60)
    world.put("drop/3", b'{"other": 1}', age=60)
    broker = world.broker()
    broker.clean(QUEUE)
    got = broker.consume(QUEUE, 3)
    assert [m.message for m in got] == [[1, 2], "plain text", '{"other": 1}']
    assert (got[0].priority, got[0].timeout) == (7, 5)


def test_a_dropped_file_is_left_alone_until_it_stands_still(world: World) -> None:
    world.put("drop/growing", b"half of i", age=2)
    world.put("drop/.rsync.x7", b"half of i", age=7200)
    broker = world.broker()
    assert broker.clean(QUEUE).adopted == 0
    world.clock.advance(11)
    assert broker.clean(QUEUE).adopted == 1
    assert os.listdir(f"{world.path}/drop") == [".rsync.x7"]


# Names of the file system, and names of nobody


@pytest.mark.parametrize(
    "directory", ["ready", "ready/999", BUCKET, SHELF, "work", "delayed"]
)
def test_names_that_begin_with_a_dot_are_the_file_systems_own(
    directory: str, world: World
) -> None:
    path = world.put(f"{directory}/.nfs000000000000000a")
    broker = world.broker()
    broker.publish(QUEUE, text("a"))
    broker.clean(QUEUE)
    assert [m.message for m in broker.consume(QUEUE)] == [text("a")]
    assert os.path.exists(path)
    assert broker.view(QUEUE)[QUEUE] == (0, 1, 0, 0)


@pytest.mark.parametrize(
    "name",
    ["a\nb", "x" * 255, "sp ace", "ä", b"\xff\xfe".decode(errors="surrogateescape")],
)
def test_a_stray_file_may_have_any_name(name: str, world: World) -> None:
    path = plant(world, f"ready/{name}", "no JSON")
    broker = world.broker()
    broker.publish(QUEUE, text("a"))
    assert [m.message for m in broker.consume(QUEUE)] == [text("a")]
    assert_quarantined(world, path, ("foreign",))


# Files that are large, or that can't be read


def test_a_file_of_five_million_digits_is_judged_quickly(world: World) -> None:
    world.put(f"{BUCKET}/{ENTRY}", b'{"message": ' + b"7" * 5_000_000 + b"}")
    broker = world.broker()
    broker.publish(QUEUE, text("a"))
    assert text("a") in [m.message for m in broker.consume(QUEUE, 2)]
    assert sum(broker.view(QUEUE)[QUEUE]) == 2


def test_a_file_that_is_too_large_to_be_a_message_is_not_read_to_its_end(
    world: World,
) -> None:
    path = world.put(f"{BUCKET}/{ENTRY}")
    os.truncate(path, 1 << 40)
    broker = world.broker()
    broker.publish(QUEUE, text("a"))
    assert [m.message for m in broker.consume(QUEUE)] == [text("a")]
    assert "over" in assert_quarantined(world, path, ("invalid",)).reason


def refusing(code: int, call_name: str, part: str) -> Calls:
    """Return system calls of which those on some paths fail with `code`."""

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name == call_name and part in os.path.basename(arguments[0]):
            raise OSError(code, os.strerror(code), arguments[0])
        return function(*arguments)

    return Calls(call)


def refusing_all(code: int, part: str) -> Calls:
    """Return system calls that can't move or remove what has a part in its path."""

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name in ("rename", "unlink") and part in arguments[0]:
            raise OSError(code, os.strerror(code), arguments[0])
        return function(*arguments)

    return Calls(call)


def consumer(world: World, calls: Calls) -> Broker:
    broker = world.broker(calls)
    broker.publish(QUEUE, text("a"))
    return broker


def test_a_file_that_can_not_be_read_is_a_dead_letter(world: World) -> None:
    path = world.put(f"{BUCKET}/{ENTRY}", b'{"message": 1}')
    broker = consumer(world, refusing(errno.EACCES, "open", ID))
    assert [m.message for m in broker.consume(QUEUE)] == [text("a")]
    assert "read" in assert_quarantined(world, path, ("invalid",)).reason


@pytest.mark.parametrize("code", [errno.EPERM, errno.EBUSY])
def test_a_file_that_can_not_be_moved_is_passed_over_and_named(
    code: int, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    path = world.put(f"{BUCKET}/{ENTRY}", b'{"message": 1}')
    broker = consumer(world, refusing(code, "rename", ID))
    assert [m.message for m in broker.consume(QUEUE)] == [text("a")]
    assert broker.consume(QUEUE) == []
    assert f"{path} can't be moved" in caplog.text
    assert os.path.exists(path)


def test_what_could_not_be_moved_once_is_tried_again_after_half_a_minute(
    world: World,
) -> None:
    """However long the client runs on: a file that was busy is not lost to it."""
    world.put(f"{BUCKET}/{ENTRY}", b'{"message": 1}')
    busy = [True]

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name == "rename" and ID in arguments[0] and busy:
            busy.clear()
            raise OSError(errno.EBUSY, "busy", arguments[0])
        return function(*arguments)

    broker = world.broker(Calls(call))
    assert broker.consume(QUEUE) == []
    world.clock.advance(29)
    assert broker.consume(QUEUE) == []
    world.clock.advance(2)
    assert [m.message for m in broker.consume(QUEUE)] == [1]


def test_a_file_whose_rename_fails_is_told_of_and_then_passed_over(
    world: World,
) -> None:
    world.put(f"{BUCKET}/{ENTRY}", b'{"message": 1}')
    broker = consumer(world, refusing(errno.EIO, "rename", ID))
    got: list[Any] = []
    for _ in range(3):
        with suppress(StorageError):
            got += [m.message for m in broker.consume(QUEUE)]
        world.clock.advance(0.3)
    assert got == [text("a")]


@pytest.mark.parametrize("kind", ["message", "bundle", "range", "stray"])
def test_a_name_that_only_listings_show_keeps_nobody(kind: str, world: World) -> None:
    """A file server's mistake: it is not there, whatever is asked of it."""
    ghost = {
        "message": ENTRY,
        "bundle": f"{STAMP + 11}.{'a' * 20}.12",
        "range": f"{STAMP}.{'a' * 20}.0-1-12.{'0' * 16}.o.0-0",
        "stray": "0stray",
    }[kind]

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        found = function(*arguments)
        if name == "listdir" and arguments[0].endswith(BUCKET):
            found.append(ghost)
        return found

    os.makedirs(f"{world.path}/{BUCKET}")
    broker = consumer(world, Calls(call))
    assert [m.message for m in broker.consume(QUEUE)] == [text("a")]
    assert broker.consume(QUEUE) == []


@pytest.mark.parametrize("what", ["drained", "invalid", "missing"])
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        *(("entry", code) for code in (errno.EACCES, errno.EPERM, errno.EBUSY)),
        # With EACCES, the whole bucket would be closed.
        *(("range", code) for code in (errno.EPERM, errno.EBUSY)),
    ],
)
def test_what_stands_behind_a_bundle_that_can_not_be_moved_is_consumed(
    kind: str, what: str, code: int, world: World
) -> None:
    """It is in a bucket, say, that somebody keeps to himself."""
    id_ = "a" * 20
    name = f"{STAMP + 11}.{id_}.12"
    if kind == "range":
        name = f"{STAMP}.{id_}.0-12-12.{'0' * 16}.{'o' * 12}.0-0"
    path = world.put(f"{BUCKET}/{name}")
    if what != "missing":
        content = b"no bundle\n" if what == "invalid" else b'{"priority":0}\n'
        world.put(f"bundles/{id_}/lines", content)
    if what == "drained":
        os.symlink(f"12.{'0' * 16}", f"{world.path}/bundles/{id_}/0")
    broker = consumer(world, refusing_all(code, id_))
    assert [m.message for m in broker.consume(QUEUE)] == [text("a")]
    assert broker.consume(QUEUE) == []
    assert os.path.exists(path)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES, errno.EBUSY, errno.EXDEV])
def test_a_stray_file_that_can_not_be_moved_is_passed_over(
    code: int, world: World
) -> None:
    path = world.put(f"{BUCKET}/0stray")
    broker = consumer(world, refusing(code, "rename", "stray"))
    assert [m.message for m in broker.consume(QUEUE)] == [text("a")]
    assert os.path.exists(path)


def test_a_dropped_file_that_can_not_be_read_does_not_stop_the_others(
    world: World,
) -> None:
    world.put("drop/secret", b"text of secret", age=60)
    world.put("drop/z", b"text of a", age=60)
    broker = world.broker(refusing(errno.EACCES, "open", "secret"))
    broker.clean(QUEUE)
    assert text("a") in [m.message for m in broker.consume(QUEUE, 2)]


def test_a_dropped_file_that_can_not_be_moved_does_not_stop_the_others(
    world: World,
) -> None:
    world.put("drop/theirs", b"text of theirs", age=60)
    world.put("drop/z", b"text of a", age=60)
    broker = world.broker(refusing(errno.EPERM, "rename", "theirs"))
    broker.clean(QUEUE)
    assert [m.message for m in broker.consume(QUEUE)] == [text("a")]


def test_a_fifo_that_somebody_writes_to_is_a_dead_letter_as_well(world: World) -> None:
    path = plant(world, f"{BUCKET}/{ENTRY}", "FIFO")
    writer = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    broker = world.broker()
    broker.publish(QUEUE, text("a"))
    assert [m.message for m in broker.consume(QUEUE)] == [text("a")]
    os.close(writer)
    assert_quarantined(world, path, ("invalid",))


@pytest.mark.parametrize(
    "name", ["tmp", "ready", "bundles", "work", "delayed", "dead", "drop"]
)
def test_a_queue_whose_directory_is_a_link_is_not_used(
    name: str, world: World, tmp_path: Path
) -> None:
    os.rmdir(f"{world.path}/{name}")
    link_to_directory(f"{world.path}/{name}")
    before = snapshot(tmp_path)
    broker = world.broker()
    with pytest.raises(Exception, match=f"{QUEUE}/{name}: ") as caught:
        broker.publish(QUEUE, text("a"))
    assert "\n" not in str(caught.value)
    assert snapshot(tmp_path) == before


def _number(n: int) -> str:
    return f"{STAMP + n}.{n:020x}"


#: Things that stand before a message, of which a member of the group may plant thousands.
LITTER: dict[str, Callable[[int], str]] = {
    "empty files": lambda n: f"{BUCKET}/{_number(n)}.0-0",
    "stray files": lambda n: f"{BUCKET}/0stray{n}",
    "entries of no bundle": lambda n: f"{BUCKET}/{_number(n)}.9",
    "ranges of no bundle": lambda n: f"{BUCKET}/{_number(n)}.0-1-9.{0:016x}.o.0-0",
    "a bucket for each": lambda n: f"ready/999/{STAMP + n}/{_number(n)}.0-0",
    "no buckets": lambda n: f"ready/999/stray{n}",
    "no priorities": lambda n: f"ready/stray{n}",
}
MANY = 600


def slowly(world: World, *, clean: bool = False) -> Broker:
    """Return a client for which each rename takes 2 ms."""

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name == "rename":
            world.clock.advance(0.002)
        return function(*arguments)

    return world.broker(Calls(call), clean=clean)


def consumed(world: World, broker: Broker) -> list[Any] | None:
    """Return what one call gets, None where it was not enough; none takes long."""
    began = world.clock.monotonic()
    messages = None
    with suppress(GarbageAhead):
        messages = broker.consume(QUEUE)
    assert world.clock.monotonic() - began <= 0.52
    return None if messages is None else [m.message for m in messages]


@pytest.mark.parametrize("kind", LITTER)
def test_no_call_is_busy_for_long_with_what_is_no_message(
    kind: str, world: World
) -> None:
    for n in range(MANY):
        world.put(LITTER[kind](n), b"")
    behind = "" if kind == "a bucket for each" else BUCKET
    behind = behind or f"ready/999/{STAMP + MANY}"
    world.put(f"{behind}/{_number(MANY)}.0-0", b'{"message": "behind"}')
    broker = slowly(world)
    broker.publish(QUEUE, "in another bucket")
    got: list[Any] = []
    while len(got) < 2:
        messages = consumed(world, broker)
        assert messages != [], "it is not empty"
        got += messages or []
    assert set(got) == {"behind", "in another bucket"}
    quick = kind.endswith("of no bundle")  # they are passed over without a rename
    in_one = LITTER[kind](0).startswith(f"{BUCKET}/") and kind != "a bucket for each"
    if in_one and not quick:
        assert got[0] == "in another bucket"  # in the first call, or soon after it
    for _ in range(20):
        world.clock.advance(2)
        consumed(world, broker)
    left = sum(len(world.files(place)) for place in ("ready", "work"))
    assert left == 2 + kind.endswith("of no bundle") * MANY


@pytest.mark.parametrize("kind", LITTER)
def test_no_housekeeping_is_busy_for_long_with_it_either(
    kind: str, world: World
) -> None:
    for n in range(MANY):
        world.put(LITTER[kind](n), b"")
    broker = slowly(world, clean=True)
    began = world.clock.monotonic()
    broker.publish(QUEUE, "a")
    assert world.clock.monotonic() - began <= 0.6


def test_what_a_consumer_refuses_unread_is_bounded_as_well(world: World) -> None:
    for n in range(MANY):
        world.put(f"{BUCKET}/{_number(n)}.0-9", b'{"message": "x"}')
    broker, asked = slowly(world), []

    def unless(message: Message) -> str | None:
        assert message.message is None
        asked.append(message.losses)
        return "too often" if message.losses else None

    with pytest.raises(GarbageAhead):
        broker.consume(QUEUE, unless=unless)
    assert 40 < len(asked) < 100
    assert {letter.reason for letter in broker.dead(QUEUE)} == {"too often"}
    broker.publish(QUEUE, "good")
    assert [m.message for m in broker.consume(QUEUE, unless=unless)] == ["good"]
