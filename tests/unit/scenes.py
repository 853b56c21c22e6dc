"""What several tests begin with, or look at in the end."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from protocol.scenes import (
    HOUR,
    QUEUE,
    crashing_after_links,
    crashing_after_rename_into,
)
from support import Calls, Crash

from ddmq.storage.filesystem import FileSystem
from ddmq.storage.range_names import RangeLease
from ddmq.storage.store import Store

TOKEN = "0123456789abcdef"


def view(world):
    """Count as a client does that touches nothing else."""
    return world.broker(clean=False).view(QUEUE)[QUEUE]


def store_of(world, fs=None):
    store = Store(world.path, fs or FileSystem(), world.clock)
    store.open()
    return store


def names(root, place):
    return sorted(path.name for path in (root / "q" / place).iterdir())


def leftover(root, aged):
    path = root / "q" / "tmp" / "left"
    path.touch()
    return aged(path, 2 * HOUR)


def crashing(world, name):
    """Return a client that dies before its first system call of a name in `tmp/`."""

    def call(_, made, function, arguments):
        if made == name and f"{QUEUE}/tmp" in str(arguments[0]):
            raise Crash
        return function(*arguments)

    return world.broker(Calls(call), clean=False)


def claim_cut_short(world, n):
    """Let a client die as soon as its claim is made, before it has received a message."""
    with suppress(Crash):
        world.broker(crashing_after_links(2), clean=False).consume(QUEUE, n)
    assert len(world.ranges()) == 1


def claim_in_vain(world, n):
    """Let a client die when it has its lease, and has not made its claim."""
    with suppress(Crash):
        crashing = crashing_after_rename_into("/work/")
        world.broker(crashing, clean=False).consume(QUEUE, n)
    assert len(world.ranges()) == 1


def bundle_directories(world):
    """Return the paths of the bundles' directories, sorted."""
    return sorted(map(str, Path(world.path, "bundles").glob("*")))


def claims(world):
    """Return the claims in the only bundle: where each begins and ends, in order."""
    [directory] = bundle_directories(world)
    links = [path for path in Path(directory).iterdir() if path.is_symlink()]
    made = [(int(x.name), os.readlink(x)) for x in links if x.name.isdecimal()]
    return sorted((first, int(target.split(".")[0])) for first, target in made)


def ended_claims(world):
    """Return of each claim in the only bundle that is over what its name says without its token."""
    [directory] = bundle_directories(world)
    return sorted(x.name.partition(".")[0] for x in Path(directory).glob("*.done"))


def states(world):
    """Return the letters of each leased range."""
    return [RangeLease.parse(os.path.basename(p)).range.state for p in world.ranges()]


def texts(messages):
    return [message.message for message in messages]


def consumed(broker, message="x", **options):
    """Publish a message and consume it."""
    broker.publish("q", message, **options)
    (taken,) = broker.consume("q")
    return taken


def lost(broker, clock, **options):
    """Publish a message and let its lease expire."""
    broker.publish("q", "x", timeout=5, **options)
    (message,) = broker.consume("q")
    clock.advance(6)
    return message


def lost_to(other, broker, clock, **options):
    """Return a message as its first consumer has it, and as the second one has it."""
    mine = consumed(broker, timeout=5, **options)
    clock.advance(6)
    (theirs,) = other.consume("q")
    assert theirs.id == mine.id
    return mine, theirs


def files(root):
    return sorted(path for path in root.rglob("*") if path.is_file())


def leased(world, publisher, timeout=5):
    """Publish a message and consume it, by a client that leaves the housekeeping to others."""
    publisher.publish(QUEUE, "x", timeout=timeout)
    [message] = publisher.consume(QUEUE)
    return message
