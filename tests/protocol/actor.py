"""A process that publishes, consumes or cleans, and notes what it does in a log of its own.

Started by `test_processes.py`: `actor.py ROLE ROOT LOG ARGUMENT BUCKET_SIZE`. Each line of the log
is written whole before and after what it tells of, so that a killed process leaves a
record that does not depend on the queue. A file server that is away is noted as such and
tried again; only what was being published then stays in doubt.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import time
from functools import partial

from support import Calls

from ddmq import Broker, LeaseLost, Message, StorageError
from ddmq.storage.filesystem import FileSystem

QUEUE, ASIDE = "q", "aside"
BUCKET_SIZE = int(sys.argv[5])


class Log:
    """BundleContent that survive the death of this process."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, *words: object) -> None:
        """Note one event."""
        os.write(self._descriptor, (" ".join(map(str, words)) + "\n").encode())


def patiently(log: Log, act, *arguments, **options):
    """Do something until the file server lets us; return its result."""
    while True:
        try:
            return act(*arguments, **options)
        except StorageError as error:
            away(log, error)


def client(root: str, log: Log, **options) -> Broker:
    """Open the root as a client of this process."""
    return patiently(log, Broker, root, bucket_size=BUCKET_SIZE, **options)


def away(log: Log, error: StorageError) -> None:
    log.write("away", error.errno, error.path)
    time.sleep(0.3)


def published(log: Log, texts: list[str], act) -> None:
    """Publish some texts at once; who hears an error can't know whether they are."""
    for text in texts:
        log.write("publishing", text)
    word = "published"
    try:
        act()
    except StorageError as error:
        away(log, error)
        word = "doubtful"
    for text in texts:
        log.write(word, text)


def publish(root: str, log: Log, texts: str) -> None:
    """Publish `<owner>:<first>:<last>` one by one."""
    broker = client(root, log)
    owner, first, last = texts.split(":")
    for number in range(int(first), int(last)):
        text, durable = f"{owner}-{number}", number % 10 == 0
        act = partial(broker.publish, QUEUE, text, durable=durable)
        published(log, [text], act)
        time.sleep(0.001)


def publish_many(root: str, log: Log, texts: str) -> None:
    """Publish `<owner>:<first>:<last>` in bundles, of which some need several."""
    broker = client(root, log, bundle_size=20)
    owner, first, last = texts.split(":")
    numbers = list(range(int(first), int(last)))
    while numbers:
        size = (3, 15, 50)[numbers[0] % 3]
        told, numbers = numbers[:size], numbers[size:]
        texts, durable = [f"{owner}-{n}" for n in told], told[0] % 10 == 0
        act = partial(broker.publish_many, QUEUE, iter(texts), durable=durable)
        published(log, texts, act)
        time.sleep(0.01)


def consume(root: str, log: Log, stop: str) -> None:
    """Consume and ack until a file tells that no more will come: one, then several."""
    renames = [0]
    fs = FileSystem(counting_claims(renames))
    broker = client(root, log, fs=fs)
    for n in itertools.cycle((1, 1, 4, 12) if stop.endswith(".several") else (1,)):
        messages = patiently(log, broker.consume, QUEUE, n)
        for message in messages:
            log.write("consumed", message.message)
            time.sleep(0.001)
            log.write("acking", message.message)
            log.write(patiently(log, ack, broker, message), message.message)
        if not messages and os.path.exists(stop):
            break
        if not messages:
            time.sleep(0.01)
    log.write("renames", renames[0])


def hold(root: str, log: Log, number: str) -> None:
    """Consume so many messages and keep them, and their files open, until killed."""
    broker = client(root, log)
    messages: list[Message] = []
    while len(messages) < int(number):
        messages += patiently(log, broker.consume, QUEUE, 1)
    work = f"{root}/{QUEUE}/work"
    opened = [os.open(f"{work}/{name}", os.O_RDONLY) for name in os.listdir(work)]
    for message in messages:
        log.write("consumed", message.message)
    log.write("holding", len(opened))
    while True:
        time.sleep(60)


def work(root: str, log: Log, _: str) -> None:
    """Become a worker, whose commands note what they do in the log."""
    command = 'echo consumed "$2" "$3" >> "$1"; sleep 0.01; echo acking "$2" >> "$1"'
    main = "import sys; from ddmq.cli.worker import main; sys.exit(main())"
    options = [root, QUEUE, "-j2", "--forever", "--poll-max=0.2", "--grace=1"]
    options.append(
        "--retries=1000"
    )  # who is killed often loses a message more than thrice
    words = [sys.executable, "-c", main, *options, "--"]
    os.execv(
        sys.executable, [*words, "sh", "-c", command, "sh", log.path, "{}", "{id}"]
    )


def counting_claims(renames: list[int]) -> Calls:
    """Return system calls that count the renames of messages that are to be consumed."""

    def call(_: int, name: str, function, arguments):
        if name == "rename" and ("/ready/" in arguments[0] or "/work/" in arguments[1]):
            renames[0] += 1
        return function(*arguments)

    return Calls(call)


def ack(broker: Broker, message) -> str:
    """Finish a message; say what became of it."""
    try:
        broker.ack(message)
    except LeaseLost:
        return "lost"
    return "acked"


def clean(root: str, log: Log, stop: str) -> None:
    """Keep house all the time."""
    broker = client(root, log)
    while not os.path.exists(stop):
        log.write("cleaned", patiently(log, broker.clean, QUEUE))
        time.sleep(0.02)


def administer(root: str, log: Log, stop: str) -> None:
    """Move messages aside and back, cancel some and redrive them, and keep house."""
    broker, chance = client(root, log), random.Random(os.getpid())

    def some(queue: str) -> list[str]:
        ids = [each.id for each in broker.contents(queue, work=True)]
        return chance.sample(ids, min(len(ids), 20))

    while not os.path.exists(stop):
        for act in (
            lambda: broker.move_waiting(QUEUE, some(QUEUE), ASIDE),
            lambda: broker.cancel(QUEUE, some(QUEUE)),
            lambda: broker.redrive(QUEUE),
            lambda: broker.move_waiting(ASIDE, some(ASIDE), QUEUE),
            lambda: broker.update_settings(QUEUE, priority=chance.randrange(3)),
            lambda: broker.clean(QUEUE),
        ):
            patiently(log, act)
            log.write("administered", "once")


if __name__ == "__main__":
    roles = [publish, publish_many, consume, hold, work, clean, administer]
    {role.__name__: role for role in roles}[sys.argv[1]](
        sys.argv[2], Log(sys.argv[3]), sys.argv[4]
    )
