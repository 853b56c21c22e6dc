"""A hostile neighbour: somebody else plants things in a queue, with permission or without.

`docs/threat-model.md` says what is promised to whom. Here all files are of one user; in
`test_other_users.py` the neighbour is another one.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from protocol.scenes import HOUR, QUEUE, World, new_world, text
from support import Calls, FakeClock, in_time

from ddmq import Broker, DdmqError
from ddmq.hpc import journal, submit
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.layout import DIRECTORIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ID = "0123456789abcdef0123"
TOKEN = "0123456789abcdef"
STAMP = 1_600_000_000_000_000_000
BUCKET = f"ready/0/{STAMP}"
SHELF = f"{BUCKET}.shelf"
ENTRY = f"{STAMP}.{ID}.0-0"
BUNDLE = f"{STAMP + 4}.{ID}.5"
RANGE = f"{STAMP + 2}.{ID}.2-4-5.{TOKEN}.oo.0-0"
LEASE = f"1600000000000.0.{ENTRY}.{TOKEN}"
RANGE_LEASE = f"1600000000000.0.{RANGE}.{TOKEN}.range"
DETACHED = f"0.{STAMP + 2}.{ID}-2.0-0.{TOKEN}.0123ab.detached"
DIRECTORY = f"bundles/{ID}"
SECRET = "-----the user's own secret-----"

PLACES = [
    *("tmp/thing", f"tmp/{ID}", "ready/thing", "ready/0", "ready/0/thing"),
    *(BUCKET, f"{BUCKET}/thing", f"{BUCKET}/{ENTRY}", f"{BUCKET}/{BUNDLE}"),
    f"{BUCKET}/{BUNDLE}.open",
    *(f"{BUCKET}/{RANGE}", f"work/{LEASE}", f"work/{RANGE_LEASE}", f"work/{DETACHED}"),
    *(DIRECTORY, f"{DIRECTORY}/lines", f"{DIRECTORY}/0", f"{DIRECTORY}/2"),
    *(
        f"{DIRECTORY}/drained",
        f"{DIRECTORY}/0-5-5.{TOKEN}.xlxxx.done",
        f"{DIRECTORY}/thing",
    ),
    *(SHELF, f"{SHELF}/thing", f"{SHELF}/{STAMP}", f"{SHELF}/{STAMP}/{ENTRY}"),
    *("work/thing", f"delayed/1600000000000.0.{ENTRY}", "delayed/thing"),
    *(f"delayed/1600000000000.0.{BUNDLE}", f"delayed/1600000000000.0.{RANGE}"),
    f"dead/0.{ENTRY}.failed",
    *(f"dead/{ID}.note", "dead/thing", "drop/thing", "cleaned"),
    *("journal/thing.jsonl", "journal/compacted-thing.jsonl"),
]
INSTEAD = [*DIRECTORIES, "journal", "jobs"]
INSTEAD += ["ddmq.yaml", "lock", "../ddmq.yaml", "../lock", "../.deleted-0"]


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """Nobody hangs: whoever waits is told after a while."""
    with in_time(20):
        yield


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a directory of the user's own, outside of the root, with files of some kinds."""
    return new_home(tmp_path)


def new_home(directory: Path) -> Path:
    home = directory / "home"
    (home / "private" / str(STAMP)).mkdir(parents=True)
    for name in (
        "file",
        "private/file",
        f"private/{STAMP}/{ENTRY}",
        f"private/{LEASE}",
    ):
        (home / name).write_text(SECRET)
        os.utime(home / name, (1, 1))
    (home / "private" / "old.jsonl").write_text(SECRET)
    return home


def snapshot(home: Path) -> dict[str, Any]:
    """Return all that can be told of what is the user's own."""
    found = {}
    for path in [home, *home.rglob("*")]:
        known = path.lstat()
        data = path.read_bytes() if path.is_file() else None
        owner = known.st_uid, known.st_gid
        found[str(path)] = (known.st_mode, *owner, known.st_mtime_ns, data)
    return found


def bound_socket(path: str) -> None:
    here = os.open(".", os.O_RDONLY)
    os.chdir(os.path.dirname(path))  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    os.rename("socket", os.path.basename(path))  # most names are too long for a socket
    os.fchdir(here)
    os.close(here)


def device(path: str) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero


THINGS: dict[str, Callable[[Path, str], None]] = {
    "link to a file": lambda home, path: os.symlink(home / "file", path),
    "link to a directory": lambda home, path: os.symlink(home / "private", path),
    "hard link": lambda home, path: os.link(home / "file", path),
    "FIFO": lambda _, path: os.mkfifo(path),
    "socket": lambda _, path: bound_socket(path),
    "device": lambda _, path: device(path),
}
MAKES_DEVICES = pytest.mark.root("make devices")
each_thing = pytest.mark.parametrize(
    "thing",
    [pytest.param(t, marks=MAKES_DEVICES if t == "device" else ()) for t in THINGS],
)


def plant(world: World, home: Path, place: str, thing: str) -> str:
    """Put something where it does not belong, instead of what is there."""
    path = os.path.normpath(f"{world.path}/{place}")
    if os.path.isdir(path):
        shutil.rmtree(path)
    with suppress(FileNotFoundError):
        os.unlink(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    THINGS[thing](home, path)
    return path


def messaging(broker: Broker) -> Iterator[Callable[[], Any]]:
    """Yield all that a client can do with messages."""
    held: list[Any] = []

    def consumed(n: int) -> Any:
        held.extend(got := broker.consume(QUEUE, n))
        return got

    def settled(verb: str, *arguments: Any) -> Callable[[], Any]:
        return lambda: getattr(broker, verb)(held.pop(), *arguments) if held else None

    yield broker.view
    yield lambda: broker.publish(QUEUE, text("a"), priority=0)
    yield lambda: broker.publish(QUEUE, text("a"), delay=1)
    yield lambda: broker.publish_many(QUEUE, [text("a")] * 12, priority=0)
    yield lambda: broker.clean(QUEUE)
    yield from (lambda: consumed(7), lambda: consumed(1))
    yield from (settled(verb) for verb in ("nack", "renew", "release", "ack"))
    yield settled("reject", "it smelled")
    yield from (lambda: broker.dead(QUEUE), lambda: broker.redrive(QUEUE))
    yield lambda: consumed(20)
    yield from (lambda: broker.wait(QUEUE, 1), lambda: broker.is_empty(QUEUE))


def administration(broker: Broker) -> Iterator[Callable[[], Any]]:
    """Yield what else a client can do, and what it can read of the queue."""
    path = f"{broker.root}/{QUEUE}"
    yield lambda: broker.update_settings(QUEUE, priority=5)
    yield lambda: broker.update_settings(priority=5)
    yield lambda: broker.create_queue(QUEUE)
    yield lambda: broker.create_queue("other", mode=0o2770)
    yield lambda: [run.id for run in journal.read(path)]
    yield lambda: journal.durations(path)
    yield lambda: journal.compact(path, time.time() + 1e7)
    yield lambda: noted(path)
    yield lambda: submit.write(submit.new_script(path), "true", FileSystem())
    yield lambda: broker.dead(QUEUE)
    yield lambda: broker.purge(QUEUE)


def noted(path: str) -> None:
    """Keep a journal as a worker does."""
    kept = journal.Journal(path, "host", FakeClock(), 0o2770)
    kept.add(journal.Run("id", 1.0, 1.0, "acked", 0, None, "host", "", 1, 1, 0.1, ""))
    kept.flush()
    kept.close()


def told_by(broker: Broker) -> list[Any]:
    """Do everything; return all messages and other answers. Errors are ddmq's own."""
    answers = []
    for verb in (*messaging(broker), *administration(broker)):
        with suppress(DdmqError):
            answers.append(verb())
    return answers


def opened(world: World) -> list[Broker]:
    """Return a client that just starts, as far as it can, and does so later."""
    world.clock.advance(2 * HOUR)
    with suppress(DdmqError):
        return [world.broker()]
    return []


@each_thing
@pytest.mark.parametrize("place", [*PLACES, *INSTEAD])
def test_what_is_planted_leads_nobody_out_of_the_root(
    place: str, thing: str, world: World, home: Path
) -> None:
    running = world.broker()
    running.publish(QUEUE, text("a"), priority=0)
    running.dead(QUEUE)
    plant(world, home, place, thing)
    before = snapshot(home)
    for broker in (*opened(world), running):
        assert SECRET not in repr(told_by(broker))
        assert snapshot(home) == before
    with suppress(DdmqError):
        running.delete_queue(QUEUE)
    assert snapshot(home) == before


@each_thing
@pytest.mark.parametrize("place", PLACES)
def test_what_is_planted_stops_no_consumer(
    place: str, thing: str, world: World, home: Path
) -> None:
    plant(world, home, place, thing)
    world.clock.advance(2 * HOUR)
    broker = world.broker()
    wanted = [text(str(n)) for n in range(30)]
    broker.publish_many(QUEUE, wanted[:12])
    for message in wanted[12:]:
        broker.publish(QUEUE, message)
    assert sorted(m.message for m in broker.consume(QUEUE, 50)) == sorted(wanted)
    broker.clean(QUEUE)


# A name in a journal


def test_a_journal_that_names_other_files_removes_none(
    world: World, home: Path
) -> None:
    names = [
        "../../../home/private/old.jsonl",
        str(home / "file"),
        "../ddmq.yaml",
        5,
        None,
    ]
    for number in range(3):
        journal_ = json.dumps({"compacted": names}).encode()
        world.put(f"journal/compacted-{number}.jsonl", journal_, age=30 * 86400)
    before = snapshot(home)
    assert journal.compact(world.path, world.clock.now_ns / 1e9) == 3
    assert snapshot(home) == before
    assert world.broker().view()


# Swapped between a look and a leap


def swapped(draft: str, home: Path, how: Callable[[Path, str], None]) -> Calls:
    """Return system calls that meet, after a draft is made, something else in its place."""

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        result = function(*arguments)
        made = name == "mkdir" or (name in ("mknod", "open") and arguments[1] & _NEW)
        if made and f"/tmp/{draft}" in arguments[0]:
            os.rename(arguments[0], f"{arguments[0]}-away")
            how(home, arguments[0])
        return result

    return Calls(call)


_NEW = os.O_CREAT | stat.S_IFREG


@pytest.mark.parametrize(
    "thing", ["link to a file", "link to a directory", "hard link"]
)
@pytest.mark.parametrize("verb", ["publish", "publish_many", "consume"])
def test_a_draft_that_was_swapped_changes_no_mode_outside(
    verb: str, thing: str, tmp_path: Path, home: Path
) -> None:
    world = World(tmp_path / "root")
    owner = world.broker(create=True)
    owner.create_queue(QUEUE, mode=0o2770)
    owner.publish_many(QUEUE, [text("a")] * 12)
    before = snapshot(home)
    broker = world.broker(swapped("", home, THINGS[thing]))
    arguments = {"publish": [text("b")], "publish_many": [[text("b")] * 2000]}
    with suppress(DdmqError, FileExistsError):
        getattr(broker, verb)(
            QUEUE,
            *arguments.get(verb, []),
            **({"priority": 7} if "publish" in verb else {}),
        )
    assert snapshot(home) == before


# Names that lie

_CONTENT = b'{"priority":0}\n1\n2\n3\n4\n5\n'
LIES = [
    *(f"{STAMP}.{ID}.1000", f"{STAMP}.{ID}.0", BUNDLE),
    *(f"{0:019d}.{ID}.9", f"{8:019d}.{ID}.9", f"{10**19 - 1}.{ID}.9"),
    *(f"{10**19 - 1}.{ID}.0-0", RANGE, f"{STAMP}.{ID}.0-5-5.{TOKEN}.ooddx.0-0"),
    *(f"{STAMP}.{ID}.0-1-5.{TOKEN}.d.0-0", f"{STAMP}.{ID}.0-1-5.{TOKEN}.x.0-0"),
    f"{STAMP}.{ID}.0-1000-1000.{TOKEN}.x.0-0",
    f"{10**19 - 2}.{ID}.0-1-1.{TOKEN}.o.999999999-999999999",
]
#: What others put into a bundle's directory: links, and their targets.
FALSE_CLAIMS: dict[str, dict[str, str]] = {
    "none": {},
    "one that ends where it begins": {"0": f"0.{TOKEN}"},
    "one that goes back": {"0": f"3.{TOKEN}", "3": f"0.{TOKEN}"},
    "one beyond the end": {"0": f"99999.{TOKEN}"},
    "one that leads out": {"0": "/etc/passwd", "1": "../../../home/private"},
    "gaps": {"2": f"4.{TOKEN}", "4": f"5.{TOKEN}", "0": f"1.{TOKEN}"},
    "one that is over": {"0": f"5.{TOKEN}", f"0-5-5.{TOKEN}.xlxxx.done": "x"},
    "too many that are over": {
        f"0-5-5.{TOKEN}.xlxxx.done": "x",
        f"0-9-9.{TOKEN}.done": "x",
        f"3-2-5.{TOKEN}.done": "x",
    },
    "all over but not claimed": {
        f"0-99999-1.{TOKEN}.done": "x",
        "drained": "drained",
    },
    "strange numbers": {
        "00": "5",
        "-1": f"5.{TOKEN}",
        "٣": f"5.{TOKEN}",
        "9" * 200: "x",
    },
}


@pytest.mark.parametrize("content", [b"", _CONTENT, b"\0" * 4096])
@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("place", [f"{BUCKET}/", "delayed/1600000000000.0.", "work/"])
def test_a_name_that_lies_about_a_bundle_keeps_nobody_busy(
    place: str, lie: str, content: bytes, world: World
) -> None:
    name = f"1600000000000.0.{lie}.{TOKEN}.range" if place == "work/" else lie
    world.put(f"{place}{name}")
    world.put(f"{DIRECTORY}/lines", content)
    assert_each_comes_once(world)


@pytest.mark.parametrize("claims", FALSE_CLAIMS)
@pytest.mark.parametrize(
    "name", [f"{BUCKET}/{BUNDLE}", f"{BUCKET}/{BUNDLE}.open", f"{BUCKET}/{RANGE}"]
)
def test_claims_that_lie_keep_nobody_busy(
    name: str, claims: str, world: World, home: Path
) -> None:
    world.put(name)
    world.put(f"{DIRECTORY}/lines", _CONTENT)
    for link, target in FALSE_CLAIMS[claims].items():
        os.symlink(target, f"{world.path}/{DIRECTORY}/{link}")
    world.put(f"work/{RANGE_LEASE}")
    before = snapshot(home)
    assert_each_comes_once(world)
    assert snapshot(home) == before


def assert_each_comes_once(world: World) -> None:
    """What is published comes once, and what else there was comes once at most."""
    broker = world.broker()
    broker.publish_many(QUEUE, [text("a")] * 12)
    got = []
    for _ in range(100):
        messages = broker.consume(QUEUE, 5)
        got += [m.message for m in messages]
        broker.ack(messages)
        if not messages:
            break
    assert got.count(text("a")) == 12
    world.rescue()
    assert len(broker.dead(QUEUE)) <= 1000
    while more := broker.consume(QUEUE, 5):
        got += [m.message for m in more]
        broker.ack(more)
    assert got.count(text("a")) == 12
    assert len(got) < 12 + 3 * 5
    broker.is_empty(QUEUE)


def test_one_bundle_in_two_queues_stays_in_each(world: World) -> None:
    """Somebody copied the files of one queue into another."""
    broker = world.broker()
    broker.publish_many(QUEUE, map(text, "abcdefghijkl"))
    broker.ack(broker.consume(QUEUE, 2))
    held = broker.consume(QUEUE, 3)
    shutil.copytree(world.path, f"{world.root}/copy", symlinks=True)
    other = world.broker()
    other.ack(other.consume("copy", 12))
    world.clock.advance(11)
    other.clean("copy")
    broker.release(held[0])
    broker.ack(held[1:])
    got = [m.message for m in broker.consume(QUEUE, 20)]
    assert got == list(map(text, "cfghijkl"))


def test_an_entry_of_a_bundle_that_stands_twice_gives_each_line_once(
    world: World,
) -> None:
    broker = world.broker()
    broker.publish_many(QUEUE, map(text, "abcdefghijkl"))
    [path] = world.files("ready")
    world.put(f"{BUCKET}/{os.path.basename(path)}")
    got = []
    for _ in range(10):
        for client in (broker, world.broker()):
            messages = client.consume(QUEUE, 2)
            got += [m.message for m in messages]
            client.ack(messages)
    assert sorted(got) == list(map(text, "abcdefghijkl"))
    world.rescue()
    assert not [*world.files("ready"), *world.files("work")]


# Crowds


def crowded(world: World, place: str, form: str, n: int) -> None:
    directory = f"{world.path}/{place}"
    os.makedirs(directory, exist_ok=True)
    for number in range(n):
        os.mknod(
            f"{directory}/{form.format(number, stamp=STAMP + number)}",
            0o600 | stat.S_IFREG,
        )


CROWDS = {
    "strays in a bucket": (BUCKET, "thing{}"),
    "strays in ready": ("ready", "thing{}"),
    "buckets": ("ready/0", "{stamp}"),
    "shelves": ("ready/0", "{stamp}.shelf"),
    "strays on a shelf": (SHELF, "thing{}"),
    "buckets on a shelf": (SHELF, "{stamp}"),
    "messages of one bucket": (BUCKET, "{stamp}.{:020d}.0-0"),
    "strays in work": ("work", "thing{}"),
    "files with the names of bundles": ("bundles", "{:020d}"),
    "leases": ("work", f"9000000000000.0.{{stamp}}.{{:020d}}.0-0.{TOKEN}"),
    "leases that are over": (
        "work",
        f"1600000000000.0.{{stamp}}.{{:020d}}.0-0.{TOKEN}",
    ),
    "ranges of no bundle": (
        "work",
        f"1600000000000.0.{{stamp}}.{{:020d}}.0-1-9.{TOKEN}.o.0-0.{TOKEN}.range",
    ),
    "ranges that wait of no bundle": (
        BUCKET,
        f"{{stamp}}.{{:020d}}.0-1-9.{TOKEN}.o.0-0",
    ),
    "entries of no bundle": (BUCKET, "{stamp}.{:020d}.9"),
    "drafts": ("tmp", "{:020d}"),
    "detached files of no range": (
        "work",
        f"0.{{stamp}}.{{:020d}}-1.0-0.{TOKEN}.0123ab.detached",
    ),
    "false claims": (DIRECTORY, "{}"),
    "claims that are over": (DIRECTORY, f"{{0}}-{{0}}-99999.{TOKEN}.x.done"),
    "notes": ("dead", "{:020d}.note"),
    "dropped": ("drop", "thing{}"),
    "hidden": ("drop", ".thing{}"),
}
FEW = 150


def cost_with(world: World, place: str, form: str, n: int) -> int:
    """Return how many calls and names in listings everything takes beside so many names.

    Nobody pauses for each of them.
    """
    crowded(world, place, form, n)
    world.clock.advance(2 * HOUR)
    began = world.clock.monotonic()
    cost = [0]

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        result = function(*arguments)
        cost[0] += 1 + (len(result) if name == "listdir" else 0)
        return result

    broker = world.broker(Calls(call))
    broker.publish_many(QUEUE, [text("a")] * 12, priority=0)
    broker.clean(QUEUE)
    broker.consume(QUEUE, 20)
    broker.view(QUEUE)
    broker.dead(QUEUE)
    assert world.clock.monotonic() - began < 10
    return cost[0]


@pytest.mark.parametrize("crowd", CROWDS)
def test_what_a_verb_costs_grows_with_the_names_and_no_faster(
    crowd: str, tmp_path: Path
) -> None:
    place, form = CROWDS[crowd]
    none, some, more = (
        cost_with(new_world(tmp_path / str(n)), place, form, n)
        for n in (0, FEW, 2 * FEW)
    )
    assert more - none <= 2.5 * (some - none) + 20
    assert more - none <= 60 * 2 * FEW
