"""Clients on nodes that remember: what each of them is told wrongly harms no message.

The nodes and their server are emulated (`protocol.mounts`). Each test says which wrong answers
it is about, and fails if there were none.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from protocol import mounts
from protocol.mounts import Nodes, Rates
from protocol.scenes import QUEUE, text
from support import Calls

from ddmq import QueueNotFound
from ddmq.storage.filesystem import FileSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ddmq import Broker, Message

NAMES = [f"m{number}" for number in range(12)]
pytestmark = pytest.mark.real_times  # they are those of the emulated server
both_versions = pytest.mark.parametrize("version", [3, 4], ids=["v3", "v4"])


class Site(Nodes):
    """A queue on an emulated server, of which each node knows what is most out of date."""

    def __init__(self, root: Path, **options: Any) -> None:
        options.setdefault("rates", Rates(early=1))
        super().__init__(root, **options)

    def client(self, call: Any = None, meanwhile: Any = None, **options: Any) -> Broker:
        """Return a client that has opened the queue already."""
        node = self.server.mount()
        node.meanwhile = meanwhile
        client = self.broker_at(node, Calls(call) if call else None, **options)
        client.settings(QUEUE)
        return client

    def consumed(self, **options: Any) -> list[Message]:
        """Publish a message and consume it, before what a test is about."""
        first = self.broker()
        first.publish(QUEUE, text("a"), **options)
        return first.consume(QUEUE)

    def slowly(
        self, where: str, act: Callable[[], Any], seconds: float
    ) -> Callable[[str, str], bool]:
        """Let others act once between the pages of the first listing of a directory."""
        done: list[str] = []

        def meanwhile(function: str, path: str) -> bool:
            if done or function != "page" or not path.endswith(where):
                return False
            done.append(path)
            act()
            self.clock.advance(seconds)
            return True

        return meanwhile

    def left(self) -> Counter[str]:
        """Consume, much later and with a fresh client, all that is there; count the texts.

        Dead letters are shown: they are messages as well, unless their file is empty.
        """
        self.server.rates = Rates(early=0)
        self.clock.advance(7200)
        last = self.client()
        found = Counter(dead.message for dead in last.dead(QUEUE))
        for _ in range(3):
            while messages := last.consume(QUEUE, 50):
                found.update(message.message for message in messages)
                last.ack(messages)
            self.clock.advance(120)
        return found


def once(names: list[str]) -> Counter[str]:
    return Counter(map(text, names))


def at_each_call(
    root: Path, version: int, meanwhile: Callable[[Broker], Any], **options: Any
) -> Iterator[tuple[Site, Broker]]:
    """Yield a site and a client, before whose n-th call another one acts, for each n.

    The client makes each file exclusively, as clients of ddmq may.
    """
    for n in itertools.count():
        made: list[str] = []

        def call(_: int, name: str, do: Any, arguments: Any, made: Any = made) -> Any:
            if name == "open" and arguments[1] & os.O_CREAT:
                path, flags, *mode = arguments
                arguments = (path, flags | os.O_EXCL, *mode)
            if made and made[0] == "on":
                made.append(name)
                if len(made) - 2 == n:  # noqa: B023 - it is called in this round
                    meanwhile(other)  # noqa: B023
            return do(*arguments)

        site = Site(root / str(n), version=version, **options)
        client, other = site.client(call), site.client()
        made.append("on")
        yield site, client
        shutil.rmtree(site.root)
        if len(made) - 2 < n:
            return


# A file that is being made shows a time long ago


def clean(broker: Broker) -> None:
    broker.clean(QUEUE)


def publish(broker: Broker) -> list[str]:
    broker.publish(QUEUE, text("a"))
    return ["a"]


def publish_many(broker: Broker) -> list[str]:
    broker.publish_many(QUEUE, map(text, NAMES))
    return NAMES


def publish_bundles(broker: Broker) -> list[str]:
    names = [f"n{number}" for number in range(25)]
    broker.publish_many(QUEUE, map(text, names))
    return names


each_publish = pytest.mark.parametrize(
    "act",
    [
        publish,
        publish_many,
        pytest.param(
            publish_bundles, marks=pytest.mark.deep
        ),  # it makes the most calls
    ],
)


@both_versions
@each_publish
def test_a_cleaner_spares_what_is_being_published(
    act: Callable[[Broker], list[str]], version: int, tmp_path: Path
) -> None:
    told: Counter[str] = Counter()
    for site, client in at_each_call(tmp_path, version, clean, bundle_size=12):
        names = act(client)
        told += site.server.told
        assert site.left() == once(names)
    assert told[mounts.GARBAGE] > 0


@both_versions
@pytest.mark.parametrize("verb", ["nack", "reject"])
def test_a_cleaner_spares_the_reason_of_a_dead_letter(
    verb: str, version: int, tmp_path: Path
) -> None:
    told: Counter[str] = Counter()
    for site, client in at_each_call(tmp_path, version, clean):
        [message] = site.consumed(requeue=False)
        getattr(client, verb)(message, reason="it broke")
        told += site.server.told
        site.clock.advance(120)
        assert [dead.reason for dead in client.dead(QUEUE)] == ["it broke"]
    assert told[mounts.GARBAGE] > 0


# A name that was looked up too early


@both_versions
@each_publish
def test_of_two_publishers_that_open_a_bucket_at_once_both_succeed(
    act: Callable[[Broker], list[str]], version: int, tmp_path: Path
) -> None:
    told: Counter[str] = Counter()

    def publish_too(broker: Broker) -> None:
        broker.publish(QUEUE, text("b"))

    for site, client in at_each_call(tmp_path, version, publish_too, bundle_size=12):
        names = act(client)
        told += site.server.told
        assert site.left() - once(["b"]) == once(names)
    assert told[mounts.NEGATIVE] > 0


@both_versions
def test_a_queue_that_was_looked_for_too_early_is_used_once_it_is_made(
    version: int, tmp_path: Path
) -> None:
    site = Site(tmp_path, version=version)
    client = site.client()
    for queue in ("r", "s"):
        with pytest.raises(QueueNotFound):
            client.publish(queue, "early")
        assert queue not in client.queues()
        site.client().create_queue(queue)
        client.publish(queue, "in time")
        assert [m.message for m in client.consume(queue)] == ["in time"]


# A listing that takes so long that its first page is of the past


def test_a_bundle_stays_though_a_slow_listing_shows_none_of_its_leases(
    tmp_path: Path,
) -> None:
    """They came while it was listed, before the bundle did: to its first page."""
    site = Site(tmp_path, rates=Rates(paged=1), bundle_size=12)
    other = site.client(clean=False)
    held: list[str] = []

    def take_all_of_a_bundle() -> None:
        other.publish_many(QUEUE, map(text, NAMES))
        *messages, last = other.consume(QUEUE, 12)
        other.ack(messages)
        held.append(last.id)

    take_all_of_a_bundle()
    with same_names():
        told, rounds = site.server.told, 0
        while rounds < 12 or (told[mounts.OLD_PAGE] < 4 and rounds < 100):
            meanwhile = site.slowly("/work", take_all_of_a_bundle, 25)
            assert site.client(meanwhile=meanwhile).consume(QUEUE) == []
            rounds += 1
    assert len(held) == rounds + 1
    assert told[mounts.OLD_PAGE] >= 4
    assert site.left() == Counter({text(NAMES[-1]): len(held)})


@contextmanager
def same_names(seed: int = 1) -> Iterator[None]:
    """Let ids and tokens be the same in each run, and so the order of a listing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "urandom", random.Random(seed).randbytes)
        yield


# What is not found


MANY = [f"n{number}" for number in range(400)]


def lines_of_the_dead(site: Site, names: list[str]) -> str:
    """Let a client die that has two lines of a bundle; return the path of its entry."""
    before = set(site.files("ready"))
    site.client(clean=False).publish_many(QUEUE, map(text, names))
    assert len(site.client(clean=False).consume(QUEUE, 2)) == 2
    [path] = set(site.files("ready")) - before
    return path


def test_no_lease_is_given_up_because_a_listing_missed_its_bundle(
    tmp_path: Path,
) -> None:
    """After another bundle was looked for in vain, too: that says nothing of this one."""
    told: Counter[str] = Counter()
    for seed in range(12):
        rates = Rates(paged=1)
        site = Site(tmp_path / str(seed), seed=seed, rates=rates, bundle_size=400)
        other = site.client(clean=False)

        def meanwhile(function: str, path: str, other: Broker = other) -> bool:
            return path.endswith("/work") and bool(other.consume(QUEUE))

        with same_names(seed):
            entry = lines_of_the_dead(site, ["lost"] * 12)
            lost = os.path.basename(entry).split(".")[1]
            shutil.rmtree(f"{site.path}/bundles/{lost}")
            lines_of_the_dead(site, MANY)
            site.clock.advance(2 * 3600)
            site.client(meanwhile=meanwhile).clean(QUEUE)
        told += site.server.told
        assert not once(MANY) - site.left()
    assert told[mounts.OLD_PAGE] >= 10


class Kept:
    """The calls of a node whose user may change nothing in a directory."""

    def __init__(self, calls: Any, directory: str) -> None:
        self._calls = calls
        self._directory = directory

    def __getattr__(self, name: str) -> Any:
        return getattr(self._calls, name)

    def access(self, name: str, mode: int, *, dir_fd: int) -> bool:
        path = os.readlink(f"/proc/self/fd/{dir_fd}") + f"/{name}"
        return path != self._directory and bool(
            self._calls.access(name, mode, dir_fd=dir_fd)
        )

    def rename(self, source: str, target: str, **directories: int) -> None:
        old = os.readlink(f"/proc/self/fd/{directories['src_dir_fd']}")
        if old == self._directory:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), source)
        self._calls.rename(source, target, **directories)


def test_no_lease_is_given_up_because_its_bundle_is_in_a_bucket_that_is_passed_over(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path, bundle_size=400)
    [message] = site.consumed()
    bucket = os.path.dirname(lines_of_the_dead(site, MANY))
    site.clock.advance(2 * 3600)
    site.broker(clean=False).release(message)
    calls = Kept(site.server.mount(), bucket)
    keeper = site.broker(FileSystem(calls), clean=False)
    assert keeper.consume(QUEUE) == []
    keeper.clean(QUEUE)
    assert site.left() == once(["a", *MANY])


def test_what_was_busy_once_is_tried_again_a_minute_later(tmp_path: Path) -> None:
    site = Site(tmp_path)
    busy = [True]

    def call(_: int, name: str, do: Any, arguments: Any) -> Any:
        if name == "rename" and "/ready/" in arguments[0] and busy:
            busy.pop()
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), arguments[0])
        return do(*arguments)

    client = site.client(call)
    client.publish(QUEUE, text("a"))
    assert client.consume(QUEUE) == []
    site.clock.advance(60)
    assert [message.message for message in client.consume(QUEUE)] == [text("a")]
