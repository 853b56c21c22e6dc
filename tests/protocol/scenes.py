"""Every verb in a small scene of its own, for the tests that disturb it."""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from support import FakeClock, counting

from ddmq import Broker
from ddmq.fs import FileSystem

if TYPE_CHECKING:
    from collections.abc import Callable

    from support import Calls

QUEUE = "q"
STATES = ("ready", "work", "delayed", "dead", "drop")
HOUR = 3600
_TEXT = re.compile(rb"text of (\w+)")


def text(name: str) -> str:
    """Return the text by which a message is known wherever its file is."""
    return f"text of {name}"


class World:
    """A root with one queue, and one clock for all its clients."""

    def __init__(self, root: Path, *, bucket_size: int = 500) -> None:
        self.root = os.fspath(root)
        self.path = f"{self.root}/{QUEUE}"
        self.clock = FakeClock(time.time())
        self.bucket_size = bucket_size

    def broker(self, calls: Calls | FileSystem | None = None, **options: Any) -> Broker:
        """Return a new client, as a process that just started has it."""
        fs = calls if isinstance(calls, FileSystem) else FileSystem(calls or counting())
        options.setdefault("bucket_size", self.bucket_size)
        return Broker(self.root, clock=self.clock, fs=fs, **options)

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

    def found(self) -> dict[str, list[str]]:
        """Tell in which states each message is, by the texts that the files hold."""
        found = defaultdict(list)
        for state in STATES:
            for path in self.files(state):
                for name in _TEXT.findall(Path(path).read_bytes()):
                    found[name.decode()].append(state)
        return dict(found)

    def rescue(self, mode: int | None = None) -> Broker:
        """Come back much later with a new client that keeps house."""
        self.clock.advance(2 * HOUR)
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
    mode: int | None = None

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


class Play:
    """A scene in a world of its own, up to its verb.

    The actor is the client that prepared the scene, or (cold) a process just started.
    """

    def __init__(self, scene: Scene, root: Path, *, warm: bool) -> None:
        self.scene = scene
        self.warm = warm
        self.world = World(root, bucket_size=scene.bucket_size)
        self._fs = FileSystem(counting())
        self._first = self.world.broker(self._fs, create=True)
        self._first.create_queue(QUEUE, mode=scene.mode)
        self._handle = scene.prepare(self.world, self._first)

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


def _later(
    prepare: Callable[[World, Broker], Any], seconds: float
) -> Callable[[World, Broker], Any]:
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


def _cleaning(broker: Broker, _: Any) -> Any:
    return broker.clean(QUEUE)


_NEW = {"new": "gone ready"}
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
    Scene("publish with a delay", {"new": "gone delayed"}, _publishing(delay=60)),
    Scene("publish for a group", _NEW, _publishing(), mode=0o2770),
]

CONSUMING = [
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
        "reject", {"a": "work dead"}, lambda b, m: b.reject(m, "it smelled"), _consume()
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
        "expire",
        _EXPIRES,
        _cleaning,
        _later(_consume(), 700),
        lambda swept: swept.requeued == 1,
        returns=1,
        retries=True,
    ),
    Scene(
        "expire for good",
        {"a": "work dead"},
        _cleaning,
        _later(_consume(requeue=False), 700),
        lambda swept: swept.dead == 1,
        retries=True,
    ),
    Scene(
        "expire and consume",
        {"a": "work ready work"},
        _consuming,
        _later(_consume(), 700),
        _received("a"),
        retries=True,
    ),
    Scene(
        "show what is due",
        {"a": "delayed ready"},
        _cleaning,
        _later(_publish("a", delay=60), 61),
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

SCENES = [*PUBLISHING, *CONSUMING, *SETTLING, *HOUSEKEEPING, *ADMINISTRATION]
