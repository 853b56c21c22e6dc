"""How many descriptors a client holds, and that it gives them back at once."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import re
import subprocess
import sys
import weakref
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from protocol.scenes import QUEUE
from support import Calls

from ddmq import Broker, DdmqError
from ddmq.storage.directories import MOST_HELD, SHARE
from ddmq.storage.filesystem import FileSystem

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.scenes import World

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
_NUMBERS = re.compile(
    r"at\s+most (?P<most>\d+) directories, .* the (?P<share>\d+)nd part .* "
    r"up to (?P<more>\d+) descriptors",
    re.DOTALL,
)


def documented() -> dict[str, int]:
    """Return the numbers in the documentation, by name."""
    found = _NUMBERS.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    return {name: int(number) for name, number in found.groupdict().items()}


def open_now() -> int:
    return len(os.listdir("/proc/self/fd"))


def failing_in(part: str, code: int, *names: str) -> FileSystem:
    """Return a file system where such calls fail at paths with `part` in them."""

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name in names and part in str(arguments[0]):
            raise OSError(code, os.strerror(code), arguments[0])
        return function(*arguments)

    return FileSystem(Calls(call))


def everything(broker: Broker) -> None:
    broker.publish_many(QUEUE, list("abcdefgh"))
    broker.publish(QUEUE, "i", delay=60, key="i")
    acked, nacked, rejected, cancelled, *_ = broker.consume(QUEUE, 6)
    broker.ack(acked)
    broker.nack(nacked, delay=1)
    broker.reject(rejected)
    broker.cancel(QUEUE, [cancelled.id])
    broker.redrive(QUEUE)
    assert list(broker.contents(QUEUE))
    broker.view()
    broker.clean(QUEUE)
    broker.move(broker.consume(QUEUE), QUEUE)
    broker.update_settings(QUEUE, priority=5)
    broker.purge(QUEUE)


def creating_while_others_lock(broker: Broker) -> None:
    with open(f"{broker.root}/lock", "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        broker.create_queue("another")


@pytest.mark.parametrize(
    ("act", "part", "names"),
    [
        (everything, "nowhere", ()),
        (lambda b: b.publish(QUEUE, "a"), "/q/tmp/", ("open",)),
        (lambda b: b.consume(QUEUE), "/q/ready", ("listdir",)),
        (lambda b: b.consume(QUEUE), "/q/work", ("listdir",)),  # of the housekeeping
        (lambda b: b.ack(b.consume(QUEUE)), "/q/work/", ("unlink",)),
        (lambda b: b.clean(QUEUE), "/q/tmp", ("listdir",)),
        (lambda b: b.view("none"), "nowhere", ()),
        (creating_while_others_lock, "nowhere", ()),
    ],
    ids=["well", "publish", "consume", "sweep", "ack", "clean", "no queue", "lock"],
)
def test_a_broker_that_nobody_uses_any_more_closes_all_at_once(
    act: Callable[[Broker], object], part: str, names: tuple[str, ...], world: World
) -> None:
    """Neither a cycle of its parts nor an error keeps it alive."""
    with Broker(world.root) as first:
        first.publish_many(QUEUE, list("abcdefgh"))
    gc.collect()
    gc.disable()
    try:
        before = open_now()
        fs = failing_in(part, errno.EIO, *names)
        broker = Broker(world.root, fs=fs, lock_timeout=0)
        with nullcontext() if act is everything else pytest.raises(DdmqError) as error:
            act(broker)
        alive = weakref.ref(broker)
        del broker, fs, error
        assert alive() is None
        assert open_now() == before
    finally:
        gc.enable()


# How many


MANY_CLIENTS = """
import os, resource, sys
from concurrent.futures import ThreadPoolExecutor
from ddmq import Broker
from ddmq.storage.directories import most_held

LIMIT, CLIENTS = 256, 20
resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))

def open_now():
    return len(os.listdir("/proc/self/fd"))

def use(client, act):
    for queue in queues:
        act(clients[client], queue, f"{client} in {queue}")

def publish(broker, queue, text):
    broker.publish(queue, text)

def consume(broker, queue, _):
    [message] = broker.consume(queue)
    came.append(message.message)
    broker.ack(message)

root, before, came = sys.argv[1], open_now(), []
clients = [Broker(root, create=True) for _ in range(CLIENTS)]
queues = [f"q{number}" for number in range(50)]
for queue in queues:
    clients[0].create_queue(queue)
for act in (publish, consume):
    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(use, range(CLIENTS), [act] * CLIENTS))
    print(open_now() - before)
assert sorted(came) == sorted(f"{c} in {q}" for c in range(CLIENTS) for q in queues)
assert all(clients[-1].is_empty(queue) for queue in queues)
clients[0].close()
print(open_now() - before)
del clients[1:]
print(open_now() - before)
"""


def test_twenty_clients_of_fifty_queues_need_no_more_than_is_documented(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", MANY_CLIENTS, str(tmp_path / "root")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    *used, one_is_closed, all_are = map(int, done.stdout.split())
    each = min(MOST_HELD, 256 // SHARE)
    assert used == [20 * each] * 2
    assert (one_is_closed, all_are) == (19 * each, 0)


FEW_LEFT = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from ddmq import Broker, QueueNotFound, StorageError

def only(free):
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        for descriptor in taken[len(taken) - free:]:
            os.close(descriptor)
    return taken[:len(taken) - free]

def attempt(free, act):
    taken = only(free)
    try:
        return act()
    except StorageError as error:
        assert "too many files open" in str(error), error
        refused.append(act)
    finally:
        for descriptor in taken:
            os.close(descriptor)
    return act()

root, is_new, refused = sys.argv[1], sys.argv[2] == "new", []

def client():
    return Broker(root) if is_new else kept

for free in range(12):
    kept = Broker(root, create=True)
    queue = f"q{free}"
    attempt(free, lambda: client().create_queue(queue))
    attempt(free, lambda: client().update_settings(queue, priority=free))
    assert client().settings(queue).priority == free
    attempt(free, lambda: client().publish(queue, "a", key="k"))
    attempt(free, lambda: client().publish_many(queue, ["b", "c"], key="l"))
    assert client().view(queue)[queue].waiting == 3, (free, client().view())
    found = attempt(free, lambda: client().consume(queue, 3))
    assert len(found) == 3, (free, found)
    attempt(free, lambda: client().reject(found[0]))
    attempt(free, lambda: client().ack(found[1:]))
    assert client().view(queue)[queue] == (0, 0, 0, 1)
    attempt(free, lambda: client().clean(queue))
    assert attempt(free, lambda: client().redrive(queue)) == 1
    assert sum(attempt(free, lambda: client().purge(queue))) == 1
    attempt(free, lambda: client().queues())
    try:
        attempt(free, lambda: client().delete_queue(queue))
    except QueueNotFound:
        pass
    assert queue not in client().queues()
client().create_queue("last")  # and remove what could not be removed of the others
client().delete_queue("last")
assert sorted(os.listdir(root)) == ["ddmq.yaml", "lock"], os.listdir(root)
print(len(refused))
"""


@pytest.mark.parametrize("client", ["kept", "new"])
def test_whatever_is_left_of_the_descriptors_all_works_or_says_so(
    client: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", FEW_LEFT, str(tmp_path / "root"), client]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 10


def test_a_call_opens_few_more_than_are_held(world: World) -> None:
    most = 0

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        nonlocal most
        result = function(*arguments)
        most = max(most, open_now() - before - len(client._fs.directories.held))
        return result

    before = open_now()
    fs = FileSystem()
    client = world.broker(fs)
    fs.calls = Calls(call)
    everything(client)
    assert 0 < most <= documented()["more"]


def test_the_documented_numbers_are_those_of_the_code() -> None:
    assert documented()["most"] == MOST_HELD
    assert documented()["share"] == SHARE
