"""Every verb in a small scene of its own, for the tests that disturb it."""

from __future__ import annotations

import copy
import itertools
import os
import re
import shutil
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from support import Calls, Crash, FakeClock, counting, remove_empty

from ddmq import Broker
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.housekeeping import find_due
from ddmq.storage.purge import purge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUEUE = "q"
STATES = ("ready", "work", "delayed", "dead", "drop")
HOUR = 3600
_TEXT = re.compile(rb"text of (\w+)")
_POLICY = r"(?:\.[trpl][a-z0-9]+)?"
_BUNDLE = re.compile(
    r"/(?:ready|delayed)/[^.]*(?:\.shelf/[^.]*)?(?:/|\.[0-9]+\.)[0-9]{19}\.(?P<id>[0-9a-f]{20})"
    rf"\.(?P<lines>[0-9]+){_POLICY}(?:\.open)?$"
)
_CLAIM = re.compile(r"/bundles/(?P<id>[0-9a-f]{20})/(?P<first>[0-9]+)$")
_SINGLE = re.compile(r"[/.][0-9]{19}\.(?P<id>[a-z0-9-]{1,64})\.[0-9]+-[0-9]+(?:\.|$)")
_RANGE = re.compile(
    r"[/.](?P<stamp>[0-9]{19})\.(?P<id>[0-9a-f]{20})\.(?P<first>[0-9]+)-(?P<end>[0-9]+)-[0-9]+"
    r"\.(?P<claim>[0-9a-f]{16})\.(?P<state>[odltux]+)\.[0-9]+-[0-9]+"
    rf"{_POLICY}(?:\.(?P<token>[0-9a-f]{{16}})(?:\.(?P<mark>[0-9a-f]{{6}}))?\.range)?$"
)


def text(name: str) -> str:
    """Return the text by which a message is known wherever its file is."""
    return f"text of {name}"


def told(queue: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield the state, the id and the content of each message, as the protocol has it.

    Of a bundle each line is one: it waits behind the last claim, or a range has it, or a file to
    which it was detached.
    """
    paths = [f"{d}/{name}" for d, _, names in os.walk(queue) for name in names]
    bundles, claims = {}, {}
    for path in paths:
        directory, _, name = path.rpartition("/")
        if name == "lines" and os.path.dirname(directory) == f"{queue}/bundles":
            bundles[os.path.basename(directory)] = Path(path).read_bytes().split(b"\n")
        match = _CLAIM.search(path)
        if match is not None:
            claims[match["id"], int(match["first"])] = os.readlink(path)
    for path in paths:
        state = os.path.relpath(path, queue).split("/")[0]
        bundle, range_ = _BUNDLE.search(path), _RANGE.search(path)
        if bundle is not None:
            first, id_ = 0, bundle["id"]
            while (id_, first) in claims:
                first = int(claims[id_, first].split(".")[0])
            for number in range(first, int(bundle["lines"])):
                yield state, f"{id_}-{number}", bundles[id_][1 + number]
        elif range_ is not None:
            yield from _lines_of(range_, state, paths, claims, bundles)
        elif "/ready/cancelled/" in path:
            continue
        elif state in STATES and not path.endswith((".note", ".detached")):
            single = _SINGLE.search(path)
            yield state, single["id"] if single else "", Path(path).read_bytes()


def _lines_of(
    match: re.Match[str],
    state: str,
    paths: list[str],
    claims: dict[tuple[str, int], str],
    bundles: dict[str, list[bytes]],
) -> Iterator[tuple[str, str, bytes]]:
    """Yield the lines of a range, if its claim was made, and those that it says are detached."""
    id_, first = match["id"], int(match["first"])
    if claims.get((id_, first)) != f"{match['end']}.{match['claim']}":
        return
    for number, letter in enumerate(match["state"], first):
        if letter in "ot":
            yield state, f"{id_}-{number}", bundles[id_][1 + number]
        elif letter in "du":
            end = rf"\.{id_}-{number}\.[0-9]+-[0-9]+{_POLICY}"
            end = rf"{end}\.{match['token']}\.{match['mark']}\.detached$"
            for path in filter(re.compile(end).search, paths):
                yield state, f"{id_}-{number}", Path(path).read_bytes()


#: The clients of all worlds.
_CLIENTS: WeakSet[Broker] = WeakSet()


def _close_clients_of_removed_roots() -> None:
    """Close what they hold open. A disturbed call that refers to its client keeps it alive."""
    for client in list(_CLIENTS):
        if not os.path.isdir(client.root):
            client._fs.let_go()
            _CLIENTS.discard(client)


class World:
    """A root with one queue, and one clock for all its clients."""

    def __init__(
        self, root: Path, *, bucket_size: int = 500, bundle_size: int = 1000
    ) -> None:
        self.root = os.fspath(root)
        self.path = f"{self.root}/{QUEUE}"
        self.clock = FakeClock(time.time())
        self.bucket_size = bucket_size
        self.bundle_size = bundle_size

    def copied(self, root: Path) -> World:
        """Return a copy of it at another place, whose clock goes on by itself."""
        shutil.copytree(self.root, root, symlinks=True)
        other = copy.copy(self)
        other.root = os.fspath(root)
        other.path = f"{other.root}/{QUEUE}"
        other.clock = FakeClock()
        other.clock.now_ns = self.clock.now_ns
        return other

    def broker(self, calls: Calls | FileSystem | None = None, **options: Any) -> Broker:
        """Return a new client, as a process that just started has it."""
        fs = calls if isinstance(calls, FileSystem) else FileSystem(calls or counting())
        options.setdefault("bucket_size", self.bucket_size)
        options.setdefault("bundle_size", self.bundle_size)
        made = Broker(self.root, clock=self.clock, fs=fs, **options)
        _close_clients_of_removed_roots()
        _CLIENTS.add(made)
        return made

    def put(self, path: str, data: bytes = b"", *, age: float = 0) -> str:
        """Write a file in the queue as somebody else would; return its whole path."""
        whole = Path(self.path, path)
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_bytes(data)
        modified = self.clock.now_ns - int(age * 1e9)
        os.utime(whole, ns=(modified, modified))
        return os.fspath(whole)

    def files(self, state: str) -> list[str]:
        """Return the paths of all files below one directory of the queue, sorted."""
        return sorted(
            f"{directory}/{name}"
            for directory, _, names in os.walk(f"{self.path}/{state}")
            for name in names
        )

    def ranges(self) -> list[str]:
        """Return the paths of the leased ranges, sorted."""
        return [path for path in self.files("work") if path.endswith(".range")]

    def vain_ranges(self) -> list[str]:
        """Return the paths of those whose claim was not made."""
        claims = {
            (m["id"], int(m["first"])): os.readlink(m.string)
            for m in map(_CLAIM.search, self.files("bundles"))
            if m
        }
        found = map(_RANGE.search, self.ranges())
        return [
            m.string
            for m in found
            if m
            and claims.get((m["id"], int(m["first"]))) != f"{m['end']}.{m['claim']}"
        ]

    def found(self) -> dict[str, list[str]]:
        """Tell in which states each message is, by the texts that the files hold."""
        found = defaultdict(list)
        for state, _, data in told(self.path):
            for name in _TEXT.findall(data):
                found[name.decode()].append(state)
        return dict(found)

    def rescue(self, mode: int | None = None) -> Broker:
        """Come back much later with a new client that keeps house."""
        self.clock.advance(25 * HOUR)
        rescuer = self.broker()
        rescuer.create_queue(QUEUE, mode=mode)
        rescuer.clean(QUEUE)
        return rescuer


def new_world(root: Path, **options: Any) -> World:
    """Return a world with an empty queue that nobody has used yet."""
    world = World(root, **options)
    world.broker(create=True).create_queue(QUEUE)
    return world


class Scene(NamedTuple):
    """One verb, with what must be there before it."""

    name: str
    path: dict[str, str]
    """For each message the states that it goes through, the first and the last at least."""
    act: Callable[[Broker, Any], Any]
    prepare: Callable[[World, Broker], Any] = lambda world, broker: None
    says: Callable[[Any], bool] = lambda result: True
    """Whether what the verb returns tells of its success."""
    returns: int | None = None
    """How often each message came back when it is consumed after a crash, if that is sure."""
    retries: bool = False
    """Whether it may leave to the next call, without an error, what it could not do."""
    bucket_size: int = 500
    bundle_size: int = 1000
    mode: int | None = None
    may_stay: tuple[str, ...] = ()
    """Messages that an error may leave leased, until that lease is over."""

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


class Play:
    """A scene in a world of its own, up to its verb.

    The actor is the client that prepared the scene, or (cold) a process just started.
    """

    def __init__(self, scene: Scene, root: Path, *, warm: bool) -> None:
        self.scene = scene
        self.warm = warm
        self.world = World(
            root, bucket_size=scene.bucket_size, bundle_size=scene.bundle_size
        )
        self._fs = FileSystem(counting())
        self._first = self.world.broker(self._fs, create=True)
        self._first.create_queue(QUEUE, mode=scene.mode)
        self._handle = scene.prepare(self.world, self._first)

    def copied(self, root: Path) -> Play:
        """Return the same play at another place; who acts there is a process just started."""
        other = copy.copy(self)
        other.warm = False
        other.world = self.world.copied(root)
        return other

    def act(self, calls: Calls) -> Any:
        """Do the verb with these system calls."""
        self._fs.calls = calls
        broker = self._first if self.warm else self.world.broker(calls)
        return self.scene.act(broker, self._handle)

    def states(self) -> dict[str, str]:
        """Tell where each message is: `gone`, a state, or several, which is wrong."""
        found = self.world.found()
        assert set(found) <= set(self.scene.path)
        return {name: " ".join(found.get(name, ["gone"])) for name in self.scene.path}

    def ends(self) -> dict[str, str]:
        """Return the state of each message after the verb."""
        return {name: path.split()[-1] for name, path in self.scene.path.items()}

    def assert_each_is_somewhere(self) -> None:
        """Each message is in one state, and one that the verb can bring it to."""
        for name, state in self.states().items():
            assert state in self.scene.path[name].split()


def plays(scene: Scene, directory: Path, *, warm: bool) -> Iterator[tuple[int, Play]]:
    """Yield a scene again and again up to its verb, with a number that counts.

    A process just started knows nothing of who prepared the scene: for it, the scene is
    prepared once and copied.
    """
    prepared = None if warm else Play(scene, directory / f"{scene}-first", warm=False)
    for n in itertools.count():
        place = directory / f"{scene}-{n}"
        yield n, prepared.copied(place) if prepared else Play(scene, place, warm=True)
        shutil.rmtree(place)


def _publish(*names: str, **options: Any) -> Callable[[World, Broker], None]:
    def prepare(_: World, broker: Broker) -> None:
        for name in names:
            broker.publish(QUEUE, text(name), **options)

    return prepare


def _consume(**options: Any) -> Callable[[World, Broker], Any]:
    def prepare(_: World, broker: Broker) -> Any:
        broker.publish(QUEUE, text("a"), **options)
        return broker.consume(QUEUE)[0]

    return prepare


def _take_one_ahead(_: World, broker: Broker) -> Any:
    broker.publish(QUEUE, text("a"))
    return broker.consume(QUEUE, started=0)[0]


def later(
    prepare: Callable[[World, Broker], Any], seconds: float
) -> Callable[[World, Broker], Any]:
    """Return what prepares the same, and lets time pass."""

    def prepare_and_wait(world: World, broker: Broker) -> Any:
        handle = prepare(world, broker)
        world.clock.advance(seconds)
        return handle

    return prepare_and_wait


def _empty_bucket_first(world: World, broker: Broker) -> None:
    _publish("gone_before", "a")(world, broker)
    broker.ack(broker.consume(QUEUE))
    world.clock.advance(20)


def _garbage_first(world: World, broker: Broker) -> None:
    _publish("bad", "a")(world, broker)
    [bad] = [p for p in world.files("ready") if b"bad" in Path(p).read_bytes()]
    Path(bad).write_bytes(b'{"message": "text of bad')


def _stray_beside(world: World, broker: Broker) -> None:
    _publish("a")(world, broker)
    [path] = world.files("ready")
    bucket = os.path.relpath(os.path.dirname(path), world.path)
    world.put(f"{bucket}/0stray", b"text of stray")
    world.clock.advance(1)


def _all_but_the_last_taken(world: World, broker: Broker) -> None:
    """Leave empty buckets, and an empty one on a shelf, before the only message."""
    _publish("one", "two", "three", "four", "a")(world, broker)
    broker.ack(broker.consume(QUEUE, 4))
    assert len(_shelves(world)) == 2


def _on_a_shelf(world: World, broker: Broker) -> Any:
    _publish("one", "two", "a")(world, broker)
    *others, message = broker.consume(QUEUE, 3)
    broker.ack(others)
    assert len(_shelves(world)) == 1
    return message


def _shelf_vanished(world: World, broker: Broker) -> Any:
    message = _on_a_shelf(world, broker)
    world.clock.advance(20)
    broker.clean(QUEUE)
    assert os.listdir(f"{world.path}/ready") == []
    return message


def _shelves(world: World) -> list[Path]:
    return list(Path(world.path, "ready").glob("*/*.shelf"))


def _bucket_vanished(world: World, broker: Broker) -> Any:
    message = _consume()(world, broker)
    world.clock.advance(20)
    broker.clean(QUEUE)
    assert os.listdir(f"{world.path}/ready") == []
    return message


def _dead(world: World, broker: Broker) -> None:
    broker.reject(_consume()(world, broker), "it smelled")


def _dropped(world: World, _: Broker) -> None:
    world.put("drop/a.txt", b"text of a", age=60)


def _abandoned(world: World, _: Broker) -> None:
    world.put("tmp/abandoned", b"text of somebody", age=2 * HOUR)
    world.put("dead/orphan.note", b"{}", age=2 * HOUR)
    world.put("work/stray", b"text of stray")


def _one_in_each_state(world: World, broker: Broker) -> None:
    _dead(world, broker)
    _publish("b")(world, broker)
    broker.consume(QUEUE)
    _publish("c")(world, broker)
    _publish("d", delay=60)(world, broker)


def _no_queue(world: World, broker: Broker) -> None:
    broker.delete_queue(QUEUE)


def _received(*names: str) -> Callable[[Any], bool]:
    return lambda result: [m.message for m in result] == [text(name) for name in names]


def _publishing(**options: Any) -> Callable[[Broker, Any], Any]:
    return lambda broker, _: broker.publish(QUEUE, text("new"), **options)


def _consuming(broker: Broker, _: Any) -> Any:
    return broker.consume(QUEUE)


def _cancelling(broker: Broker, ids: list[str]) -> Any:
    return broker.cancel(QUEUE, ids)


def _to_cancel(
    prepare: Callable[[World, Broker], Any],
) -> Callable[[World, Broker], list[str]]:
    """Return what prepares something, and returns the id of what would be consumed first."""

    def prepared(world: World, broker: Broker) -> list[str]:
        prepare(world, broker)
        return [seen.id for seen in broker.peek(QUEUE)]

    return prepared


def _with_one_cancelled(world: World, broker: Broker) -> None:
    _cancelling(broker, _to_cancel(_bundle())(world, broker))


def _cleaning(broker: Broker, _: Any) -> Any:
    return broker.clean(QUEUE)


_NEW = {"new": "gone ready"}
_BEHIND_TWO = {"old": "ready", "older": "ready", **_NEW}
_EXPIRES = {"a": "work ready"}
_IS_CONSUMED = {"a": "ready work"}
_NEVER = {"requeue": False}
_ALL = {"a": "dead gone", "b": "work gone", "c": "ready gone", "d": "delayed gone"}

PUBLISHING = [
    Scene("publish durably", _NEW, _publishing(), says=bool, returns=0),
    Scene("publish not durably", _NEW, _publishing(durable=False), says=bool),
    Scene(
        "publish behind others",
        {"old": "ready", **_NEW},
        _publishing(),
        _publish("old"),
        bool,
        returns=0,
    ),
    Scene(
        "publish behind a full bucket",
        {"old": "ready", **_NEW},
        _publishing(),
        _publish("old"),
        bool,
        bucket_size=1,
    ),
    Scene(
        "publish on a new shelf",
        _BEHIND_TWO,
        _publishing(),
        _publish("old", "older"),
        bool,
        bucket_size=1,
        returns=0,
    ),
    Scene(
        "publish on a shelf",
        {**_BEHIND_TWO, "third": "ready"},
        _publishing(),
        _publish("old", "older", "third"),
        bool,
        bucket_size=1,
        returns=0,
    ),
    Scene(
        "publish for a group on a new shelf",
        _BEHIND_TWO,
        _publishing(),
        _publish("old", "older"),
        mode=0o2770,
        bucket_size=1,
    ),
    Scene("publish with a delay", {"new": "gone delayed"}, _publishing(delay=60)),
    Scene("publish for a group", _NEW, _publishing(), mode=0o2770),
    Scene("publish with a key", _NEW, _publishing(key="k"), says=bool, returns=0),
    Scene(
        "publish with a key and a delay for a group",
        {"new": "gone delayed"},
        _publishing(key="k", delay=60),
        mode=0o2770,
    ),
]

CONSUMING = [
    Scene(
        "cancel what waits",
        {"a": "ready dead"},
        _cancelling,
        _to_cancel(_publish("a")),
        lambda states: [*states.values()] == ["dead"],
        retries=True,  # what can't be listed waits, and is dead as soon as it is claimed
    ),
    Scene(
        "consume",
        _IS_CONSUMED,
        _consuming,
        _publish("a"),
        _received("a"),
        retries=True,
    ),
    Scene(
        "consume with a timeout of its own",
        _IS_CONSUMED,
        _consuming,
        _publish("a", timeout=30),
        _received("a"),
        retries=True,
    ),
    Scene(
        "consume behind an empty bucket",
        _IS_CONSUMED,
        _consuming,
        _empty_bucket_first,
        _received("a"),
        bucket_size=1,
        retries=True,
    ),
    Scene(
        "consume behind an empty shelf",
        _IS_CONSUMED,
        _consuming,
        _all_but_the_last_taken,
        _received("a"),
        bucket_size=1,
        retries=True,
    ),
    Scene(
        "consume behind garbage",
        {"bad": "ready work dead", **_IS_CONSUMED},
        _consuming,
        _garbage_first,
        _received("a"),
        retries=True,
    ),
    Scene(
        "consume beside a stray file",
        {"stray": "ready dead", **_IS_CONSUMED},
        _consuming,
        _stray_beside,
        _received("a"),
        retries=True,
    ),
]

SETTLING = [
    Scene("ack", {"a": "work gone"}, lambda b, m: b.ack(m), _consume()),
    Scene("nack", _EXPIRES, lambda b, m: b.nack(m), _consume(), returns=1),
    Scene(
        "nack with a delay",
        {"a": "work delayed"},
        lambda b, m: b.nack(m, delay=60),
        _consume(),
        returns=1,
    ),
    Scene(
        "nack what is not requeued",
        {"a": "work dead"},
        lambda b, m: b.nack(m, reason="it broke"),
        _consume(requeue=False),
    ),
    Scene(
        "nack at the limit",
        {"a": "work dead"},
        lambda b, m: b.nack(m),
        _consume(requeue_limit=0),
    ),
    Scene("release", _EXPIRES, lambda b, m: b.release(m), _consume()),
    Scene(
        "release into a bucket that vanished",
        _EXPIRES,
        lambda b, m: b.release(m),
        _bucket_vanished,
    ),
    Scene(
        "release on a shelf",
        _EXPIRES,
        lambda b, m: b.release(m),
        _on_a_shelf,
        bucket_size=1,
    ),
    Scene(
        "release on a shelf that vanished",
        _EXPIRES,
        lambda b, m: b.release(m),
        _shelf_vanished,
        bucket_size=1,
    ),
    Scene(
        "reject", {"a": "work dead"}, lambda b, m: b.reject(m, "it smelled"), _consume()
    ),
    Scene(
        "take ahead",
        {"a": "ready work"},
        lambda b, _: b.consume(QUEUE, started=0),
        _publish("a"),
        _received("a"),
    ),
    Scene(
        "start",
        {"a": "work"},
        lambda b, m: b.start([m]),
        _take_one_ahead,
        lambda started: [m.message for m in started] == [text("a")],
    ),
    Scene(
        "renew",
        {"a": "work"},
        lambda b, m: b.renew(m, 900),
        _consume(),
        lambda renewed: renewed.message == text("a"),
        returns=1,
    ),
]

HOUSEKEEPING = [
    Scene(
        "expire what was taken ahead",
        _EXPIRES,
        _cleaning,
        later(_take_one_ahead, 700),
        lambda swept: swept.requeued == 1,
        retries=True,
    ),
    Scene(
        "expire",
        _EXPIRES,
        _cleaning,
        later(_consume(), 700),
        lambda swept: swept.requeued == 1,
        returns=1,
        retries=True,
    ),
    Scene(
        "expire for good",
        {"a": "work dead"},
        _cleaning,
        later(_consume(requeue=False), 700),
        lambda swept: swept.dead == 1,
        retries=True,
    ),
    Scene(
        "expire and consume",
        {"a": "work ready work"},
        _consuming,
        later(_consume(), 700),
        _received("a"),
        retries=True,
    ),
    Scene(
        "show what is due",
        {"a": "delayed ready"},
        _cleaning,
        later(_publish("a", delay=60), 61),
        lambda swept: swept.due == 1,
        returns=0,
        retries=True,
    ),
    Scene(
        "adopt what was dropped",
        {"a": "drop ready"},
        _cleaning,
        _dropped,
        lambda swept: swept.adopted == 1,
        returns=0,
        retries=True,
    ),
    Scene(
        "clean an empty shelf",
        {"a": "ready"},
        _cleaning,
        _all_but_the_last_taken,
        bucket_size=1,
        retries=True,
    ),
    Scene(
        "clean up after the dead",
        {"stray": "work dead"},
        _cleaning,
        _abandoned,
        retries=True,
    ),
    Scene(
        "redrive",
        {"a": "dead ready"},
        lambda b, _: b.redrive(QUEUE),
        _dead,
        lambda number: number == 1,
        returns=0,
        retries=True,
    ),
    Scene("purge", _ALL, lambda b, _: b.purge(QUEUE), _one_in_each_state, retries=True),
]

ADMINISTRATION = [
    Scene("create", {}, lambda b, _: b.create_queue(QUEUE), _no_queue, bool),
    Scene(
        "create for a group",
        {},
        lambda b, _: b.create_queue(QUEUE, mode=0o2770),
        _no_queue,
        bool,
        mode=0o2770,
    ),
    Scene("delete", _ALL, lambda b, _: b.delete_queue(QUEUE), _one_in_each_state),
    Scene(
        "change settings",
        {"a": "ready"},
        lambda b, _: b.update_settings(QUEUE, message_timeout=77),
        _publish("a"),
        lambda settings: settings.message_timeout == 77,
    ),
]

MANY = [f"m{number:02d}" for number in range(12)]


def _bundle(**options: Any) -> Callable[[World, Broker], None]:
    def prepare(_: World, broker: Broker) -> None:
        broker.publish_many(QUEUE, map(text, MANY), **options)

    return prepare


def _take(n: int, **options: Any) -> Callable[[World, Broker], Any]:
    """Publish a bundle and consume some of it; the handle is the last of those."""

    def prepare(world: World, broker: Broker) -> Any:
        _bundle(**options)(world, broker)
        return broker.consume(QUEUE, n)[-1]

    return prepare


def _take_together(n: int) -> Callable[[World, Broker], Any]:
    def prepare(world: World, broker: Broker) -> Any:
        _bundle()(world, broker)
        return broker.consume(QUEUE, n)

    return prepare


def _take_ahead(n: int, started: int, **options: Any) -> Callable[[World, Broker], Any]:
    """Consume some of a bundle, of which so many are started at once; return them all."""

    def prepare(world: World, broker: Broker) -> Any:
        _bundle(**options)(world, broker)
        return broker.consume(QUEUE, n, started=started)

    return prepare


def _take_in_turn(n: int, **options: Any) -> Callable[[World, Broker], Any]:
    """Take one after the other, and ack all but the last."""

    def prepare(world: World, broker: Broker) -> Any:
        _ack_in_turn(n - 1, **options)(world, broker)
        [message] = broker.consume(QUEUE)
        return message

    return prepare


def _ack_in_turn(n: int, **options: Any) -> Callable[[World, Broker], None]:
    def prepare(world: World, broker: Broker) -> None:
        _bundle(**options)(world, broker)
        for _ in range(n):
            broker.ack(broker.consume(QUEUE))

    return prepare


def _claim_in_vain(world: World, broker: Broker) -> None:
    """Let two clients die before they make their claims."""
    _bundle()(world, broker)
    for number in (1, 3):
        with suppress(Crash):
            client = world.broker(crashing_after_rename_into("/work/"))
            client.consume(QUEUE, number)
    assert len(world.ranges()) == 2


def _take_in_vain(world: World, broker: Broker) -> None:
    """Let a client die as soon as its claim is made."""
    _bundle()(world, broker)
    with suppress(Crash):
        world.broker(crashing_after_links(2)).consume(QUEUE, 3)
    assert len(world.ranges()) == 1


def _take_all_in_vain(world: World, broker: Broker) -> None:
    _bundle()(world, broker)
    with suppress(Crash):
        world.broker(crashing_after_links(2)).consume(QUEUE, 12)


def _detach_in_vain(world: World, broker: Broker) -> None:
    """Let clients die when a line of theirs is in a file of its own: one before it counts."""
    _bundle()(world, broker)
    for place in (0, 1):
        messages = broker.consume(QUEUE, 2)
        with suppress(Crash):
            client = world.broker(crashing_after_rename_into(".range"))
            if not place:
                client = world.broker(crashing_after_files(1))
            client.nack(messages[0])
    assert sum(path.endswith(".detached") for path in world.files("work")) == 2


def crashing_after_rename_into(place: str) -> Calls:
    """Return system calls that end with the first rename into a place."""
    return _crashing_after(1, lambda name, a: name == "rename" and place in a[1])


def crashing_after_links(number: int) -> Calls:
    """Return system calls that end when so many links are made: a lease, and then its claim."""
    return _crashing_after(number, lambda name, _: name == "symlink")


def crashing_after_files(number: int) -> Calls:
    """Return system calls that end when so many detached files are written."""
    return _crashing_after(
        number, lambda name, a: name == "open" and str(a[0]).endswith(".detached")
    )


def _some_came_back(n: int, **options: Any) -> Callable[[World, Broker], None]:
    """Let the lease of some lines be over: a range of them waits again."""

    def prepare(world: World, broker: Broker) -> None:
        _take(n, **options)(world, broker)
        world.clock.advance(700)
        broker.clean(QUEUE)

    return prepare


def _crashing_after(number: int, counts: Callable[[str, Any], bool]) -> Calls:
    done: list[str] = []

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if len(done) == number:
            raise Crash
        result = function(*arguments)
        if counts(name, arguments):
            done.append(name)
        return result

    return Calls(call)


def _taken_back(world: World, broker: Broker) -> None:
    """Take all, let all but the last come back."""
    _bundle()(world, broker)
    messages = broker.consume(QUEUE, 12)
    broker.renew(messages[-1], 2000)
    world.clock.advance(700)
    broker.clean(QUEUE)


def _finish_all(world: World, broker: Broker) -> None:
    _bundle()(world, broker)
    broker.ack(broker.consume(QUEUE, 12))


def _garbage_bundle(world: World, broker: Broker) -> None:
    broker.publish_many(QUEUE, map(text, ("bad", *MANY[1:])))
    [path] = world.files("bundles")
    data = Path(path).read_bytes()
    Path(path).write_bytes(data.replace(b'"text of bad"', b'"text of bad'))


def _publishing_many(**options: Any) -> Callable[[Broker, Any], Any]:
    return lambda broker, _: broker.publish_many(QUEUE, map(text, MANY), **options)


def _all(path: str, **others: str) -> dict[str, str]:
    return {**dict.fromkeys(MANY, path), **others}


def _counted(number: int) -> Callable[[Any], bool]:
    return lambda result: result == number


_PUBLISHED = _all("gone ready")
_LAST = _received("m11")

BUNDLES = [
    Scene("publish many durably", _PUBLISHED, _publishing_many(), says=_counted(12)),
    Scene(
        "publish several bundles",
        _PUBLISHED,
        _publishing_many(durable=False),
        says=_counted(12),
        bundle_size=5,
    ),
    Scene(
        "publish several bundles durably for a group",
        _PUBLISHED,
        _publishing_many(),
        says=_counted(12),
        bundle_size=5,
        mode=0o2770,
    ),
    Scene(
        "publish several bundles on a new shelf",
        _all("gone ready", old="ready", older="ready"),
        _publishing_many(),
        _publish("old", "older"),
        _counted(12),
        bucket_size=1,
        bundle_size=5,
    ),
    Scene(
        "publish many with a key",
        _PUBLISHED,
        _publishing_many(key="k"),
        says=_counted(12),
    ),
    Scene(
        "publish several bundles with a key",
        _PUBLISHED,
        _publishing_many(key="k"),
        says=_counted(12),
        bundle_size=5,
    ),
    Scene(
        "publish several bundles with a key and a delay",
        _all("gone delayed"),
        _publishing_many(key="k", delay=60, durable=False),
        says=_counted(12),
        bundle_size=5,
    ),
    Scene(
        "cancel a line",
        _all("ready"),
        _cancelling,
        _to_cancel(_bundle()),
        lambda states: [*states.values()] == ["waiting"],
    ),
    Scene(
        "consume lines of which one is cancelled",
        _all("ready work", m00="ready work dead"),
        lambda b, _: b.consume(QUEUE, 12),
        _with_one_cancelled,
        retries=True,
        may_stay=("m00",),
    ),
    Scene(
        "publish many with a delay",
        _all("gone delayed"),
        _publishing_many(delay=60),
        says=_counted(12),
    ),
    Scene(
        "consume from a bundle",
        _all("ready", m00="ready work"),
        _consuming,
        _bundle(),
        _received("m00"),
        retries=True,
    ),
    Scene(
        "consume several from a bundle for a group",
        _all("ready", m00="ready work", m01="ready work", m02="ready work"),
        lambda b, _: b.consume(QUEUE, 3),
        _bundle(timeout=30),
        _received(*MANY[:3]),
        retries=True,
        mode=0o2770,
    ),
    Scene(
        "consume all of a bundle",
        _all("ready work"),
        lambda b, _: b.consume(QUEUE, 20),
        _bundle(),
        _received(*MANY),
        retries=True,
    ),
    Scene(
        "consume the last of a bundle",
        _all("work", m11="ready work"),
        _consuming,
        _take(11),
        _LAST,
        retries=True,
    ),
    Scene(
        "consume from two bundles",
        _all("ready work"),
        lambda b, _: b.consume(QUEUE, 20),
        _bundle(),
        _received(*MANY),
        bundle_size=7,
        retries=True,
    ),
    Scene(
        "consume after a claim cut short",
        _all("ready", m00="work", m01="work", m02="work", m03="ready work"),
        _consuming,
        _take_in_vain,
        _received("m03"),
        retries=True,
    ),
    Scene(
        "find nothing after a claim cut short",
        _all("work"),
        _consuming,
        _take_all_in_vain,
        _received(),
        retries=True,
    ),
    Scene(
        "consume behind garbage in a bundle",
        {"bad": "ready work dead", **dict.fromkeys(MANY[1:], "ready work")},
        lambda b, _: b.consume(QUEUE, 20),
        _garbage_bundle,
        _received(*MANY[1:]),
        retries=True,
    ),
    Scene(
        "ack a line",
        _all("ready", m00="work", m01="work gone"),
        lambda b, m: b.ack(m),
        _take(2),
    ),
    Scene(
        "nack a line",
        _all("ready", m00="work ready"),
        lambda b, m: b.nack(m),
        _take(1),
    ),
    Scene(
        "nack the last line with a delay",
        _all("work", m11="work delayed"),
        lambda b, m: b.nack(m, delay=60),
        _take(12),
    ),
    Scene(
        "release a line",
        _all("ready", m00="work", m01="work ready"),
        lambda b, m: b.release(m),
        _take(2),
    ),
    Scene(
        "reject a line",
        _all("ready", m00="work dead"),
        lambda b, m: b.reject(m, "it smelled"),
        _take(1),
    ),
    Scene(
        "renew a line",
        _all("ready", m00="work"),
        lambda b, m: b.renew(m, 900),
        _take(1),
        lambda renewed: renewed.message == text("m00"),
    ),
    Scene(
        "expire lines",
        _all("ready", m00="work ready", m01="work ready"),
        _cleaning,
        later(_take(2), 700),
        lambda swept: swept.requeued == 2,
        retries=True,
    ),
    Scene(
        "expire the lines of a drained bundle for good",
        _all("work dead"),
        _cleaning,
        later(_take(12, requeue=False), 700),
        lambda swept: swept.dead == 12,
        retries=True,
    ),
    Scene(
        "show a bundle that is due",
        _all("delayed ready"),
        _cleaning,
        later(_bundle(delay=60), 61),
        retries=True,
    ),
    Scene(
        "remove a finished bundle", _all("gone"), _cleaning, _finish_all, retries=True
    ),
    Scene(
        "purge what waits in a bundle",
        _all("ready gone", m00="work", m01="work"),
        lambda b, _: b.purge(QUEUE, ["waiting"]),
        _take(2),
        lambda purged: purged.waiting == 10,
        retries=True,
    ),
]

_IN_TURN = _all("ready", m00="gone", m01="work")

RANGES = [
    Scene(
        "consume in turn",
        _all("ready", m00="gone", m01="ready work"),
        _consuming,
        _ack_in_turn(1),
        _received("m01"),
        retries=True,
    ),
    Scene(
        "consume in turn for a group",
        _all("ready", m00="gone", m01="ready work"),
        _consuming,
        _ack_in_turn(1),
        _received("m01"),
        retries=True,
        mode=0o2770,
    ),
    Scene(
        "consume beside one",
        {**_IN_TURN, "m02": "ready work"},
        _consuming,
        _take_in_turn(2),
        _received("m02"),
        retries=True,
    ),
    Scene(
        "consume the rest beside one",
        _all("ready work", m00="gone", m01="work"),
        lambda b, _: b.consume(QUEUE, 20),
        _take_in_turn(2),
        _received(*MANY[2:]),
        retries=True,
    ),
    Scene(
        "consume the last in turn",
        _all("gone", m11="ready work"),
        _consuming,
        _ack_in_turn(11),
        _received("m11"),
        retries=True,
    ),
    Scene(
        "ack a line taken in turn",
        {**_IN_TURN, "m01": "work gone"},
        lambda b, m: b.ack(m),
        _take_in_turn(2),
    ),
    Scene(
        "ack a line taken in turn by its id",
        {**_IN_TURN, "m01": "work gone"},
        lambda b, m: b.ack(b.leased(QUEUE, m.id)),
        _take_in_turn(2),
    ),
    Scene(
        "ack a line taken in turn by its name",
        {**_IN_TURN, "m01": "work gone"},
        lambda b, m: b.ack(b.leased(QUEUE, m.filename)),
        _take_in_turn(2),
    ),
    Scene(
        "nack a line taken in turn",
        {**_IN_TURN, "m01": "work ready"},
        lambda b, m: b.nack(m),
        _take_in_turn(2),
    ),
    Scene(
        "release a line taken in turn",
        {**_IN_TURN, "m01": "work ready"},
        lambda b, m: b.release(m),
        _take_in_turn(2),
    ),
    Scene(
        "reject a line taken in turn",
        {**_IN_TURN, "m01": "work dead"},
        lambda b, m: b.reject(m, "it smelled"),
        _take_in_turn(2),
    ),
    Scene(
        "renew a line taken in turn",
        _IN_TURN,
        lambda b, m: b.renew(m, 900),
        _take_in_turn(2),
        lambda renewed: renewed.message == text("m01"),
    ),
    Scene(
        "expire a line taken in turn",
        {**_IN_TURN, "m01": "work ready"},
        _cleaning,
        later(_take_in_turn(2), 700),
        lambda swept: swept.requeued == 1,
        retries=True,
    ),
    Scene(
        "expire a claim cut short",
        _all("ready", m00="work ready", m01="work ready", m02="work ready"),
        _cleaning,
        later(_take_in_vain, 700),
        retries=True,
    ),
    Scene(
        "expire claims that were not made",
        _all("ready", **dict.fromkeys(MANY[:3], "ready work ready")),
        _cleaning,
        later(_claim_in_vain, 700),
        lambda swept: swept.requeued == 0,
        retries=True,
    ),
    Scene(
        "purge what waits beside one",
        _all("ready gone", m00="gone", m01="work"),
        lambda b, _: b.purge(QUEUE, ["waiting"]),
        _take_in_turn(2),
        lambda purged: purged.waiting == 10,
        retries=True,
    ),
    Scene(
        "ack several lines",
        _all("ready", m00="work gone", m01="work gone", m02="work gone"),
        lambda b, m: b.ack(m),
        _take_together(3),
    ),
    Scene(
        "renew several lines",
        _all("ready", m00="work", m01="work", m02="work"),
        lambda b, m: b.renew(m, 900),
        _take_together(3),
    ),
    Scene(
        "release several lines",
        _all("ready", m00="work ready", m01="work ready", m02="work ready"),
        lambda b, m: b.release(m),
        _take_together(3),
    ),
    Scene(
        "nack one of several lines",
        _all("ready", m00="work", m01="work", m02="work ready"),
        lambda b, m: b.nack(m),
        _take(3),
    ),
    Scene(
        "nack one of several lines with a delay",
        _all("ready", m00="work", m01="work", m02="work delayed"),
        lambda b, m: b.nack(m, delay=60),
        _take(3),
    ),
    Scene(
        "reject one of several lines",
        _all("ready", m00="work", m01="work", m02="work dead"),
        lambda b, m: b.reject(m, "it smelled"),
        _take(3),
    ),
    Scene(
        "renew one of several lines",
        _all("ready", m00="work", m01="work", m02="work"),
        lambda b, m: b.renew(m, 900),
        _take(3),
        lambda renewed: renewed.message == text("m02"),
    ),
    Scene(
        "take lines ahead",
        _all("ready", m00="ready work", m01="ready work", m02="ready work"),
        lambda b, _: b.consume(QUEUE, 3, started=1),
        _bundle(),
    ),
    Scene(
        "start lines that were taken ahead",
        _all("ready", m00="work", m01="work", m02="work"),
        lambda b, m: b.start(m[1:]),
        _take_ahead(3, 1),
        lambda started: [m.message for m in started] == [text("m01"), text("m02")],
    ),
    Scene(
        "renew lines that were taken ahead",
        _all("ready", m00="work", m01="work", m02="work"),
        lambda b, m: b.renew(m, 900),
        _take_ahead(3, 1),
    ),
    Scene(
        "release lines that were taken ahead",
        _all("ready", m00="work ready", m01="work ready", m02="work ready"),
        lambda b, m: b.release(m),
        _take_ahead(3, 1),
    ),
    *(
        Scene(
            f"expire lines of which {started} were started",
            _all("ready", **dict.fromkeys(MANY[:5], "work ready")),
            _cleaning,
            later(_take_ahead(5, started), 700),
            lambda swept: swept.requeued == 5,
            retries=True,
        )
        for started in (0, 1, 4)
    ),
    Scene(
        "expire detached lines",
        _all("ready", m00="work ready", m01="work ready", m02="work ready")
        | {"m03": "work ready"},
        _cleaning,
        later(_detach_in_vain, 700),
        lambda swept: swept.requeued == 4,
        retries=True,
    ),
    Scene(
        "consume what came back",
        _all(
            "ready",
            m00="ready work",
            m01="ready work",
            # These are taken where the bundle can't be read for those at first.
            **dict.fromkeys(MANY[2:4], "ready work ready"),
        ),
        lambda b, _: b.consume(QUEUE, 2),
        _some_came_back(2),
        _received("m00", "m01"),
        retries=True,
        may_stay=("m02", "m03"),
    ),
    Scene(
        "consume one of what came back",
        # The last of these is taken where the bundle can't be read for m00 at first.
        _all("ready", m00="ready work", **dict.fromkeys(MANY[1:4], "ready work ready")),
        _consuming,
        _some_came_back(3),
        _received("m00"),
        retries=True,
        may_stay=("m01", "m02", "m03"),
    ),
    Scene(
        "purge what came back",
        _all("gone", m11="work", **dict.fromkeys(MANY[:11], "ready gone")),
        lambda b, _: b.purge(QUEUE, ["waiting"]),
        _taken_back,
        lambda purged: purged.waiting == 11,
        retries=True,
    ),
    Scene(
        "purge a line taken in turn",
        {**_IN_TURN, "m01": "work gone"},
        lambda b, _: b.purge(QUEUE, ["work"]),
        _take_in_turn(2),
        retries=True,
    ),
]

SCENES = [
    *(*PUBLISHING, *CONSUMING, *SETTLING, *HOUSEKEEPING, *ADMINISTRATION),
    *(*BUNDLES, *RANGES),
]


# Inside a client: what no verb offers. The tests of the protocol reach in here, and nowhere else.


def store_of(client: Broker) -> Any:
    """Return the queue as the client keeps it."""
    return client._queue(QUEUE).store


def leases_seen_by(client: Broker) -> list[Any]:
    """Return the leases that the client finds, the tentative ones too."""
    return list(store_of(client).leases.all())


def make_one_due(client: Broker) -> None:
    """Let the only delayed message join the ready queue, and do nothing else."""
    store = store_of(client)
    [delayed] = find_due(store)[0]
    assert store.delayed.make_due(delayed)


def purge_unlocked(client: Broker, state: str) -> int:
    """Purge without the lock, which is not what messages depend on; return how many went."""
    return sum(purge(store_of(client), [state]))


def remove_empty_buckets(client: Broker) -> None:
    """Remove what is empty of the ready queue's directories, as housekeeping does."""
    remove_empty(store_of(client).buckets)


def unwatched_sweeps(client: Broker) -> list[Any]:
    """Return the sweeps for which the client waits no more."""
    return list(client._queue(QUEUE).housekeeper._hanging)
