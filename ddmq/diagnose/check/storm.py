"""Processes publish, consume and ack, and are killed; what became of each message is counted.

The record of what was published, consumed and acked is kept outside of the queue, in files of
this node with one writer each.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ddmq.broker import Broker
from ddmq.diagnose.check.channel import Silence
from ddmq.diagnose.check.children import Family
from ddmq.errors import DdmqError, LeaseLost

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ddmq.diagnose.check.channel import Bench
    from ddmq.diagnose.check.children import Child

QUEUE = "storm"
#: Of each client: messages, consumers, kills.
MESSAGES, CONSUMERS, KILLS = 150, 2, 8
#: Of so many messages, how many are published together, as a bundle.
_EVERY, _TOGETHER = 25, 15
_BATCH = 3
_BETWEEN_MESSAGES, _BETWEEN_KILLS = 0.004, 0.12
_WORK = 0.002


class Line(NamedTuple):
    """One event of the record."""

    what: str
    message: str
    detail: str = ""


class Account(NamedTuple):
    """What became of all messages."""

    published: int
    lost: int
    """Published, and never acked, nor in the queue any more."""
    acked_twice: int
    consumed_twice: int
    """Leased to two at once: with the same count of requeueings."""
    foreign: int
    """Acked, and never published."""
    again: int
    """Consumed once more, since the consumer that had it was killed."""
    kills: int
    left: int
    """Still in the queue when we had waited long enough."""
    errors: Sequence[str]
    """What workers complained about."""


def root_of(bench: Bench) -> str:
    """Return the root of the queue, as a client sees it."""
    return f"{bench.path}/mq"


def make_queue(bench: Bench, lease: float) -> Broker:
    """Make the queue through which the storm goes; leases last for `lease` seconds."""
    broker = Broker(root_of(bench), create=True, fs=bench.fs)
    broker.create_queue(QUEUE)
    broker.update_settings(QUEUE, message_timeout=lease, durable=False)
    return broker


class Storm:
    """The processes of one client."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._records = f"{bench.records}/{bench.side}"
        os.mkdir(self._records)
        self._family = Family()
        self._started = self.kills = 0
        self._dice = random.Random()

    def run(self) -> None:
        """Publish all messages while processes are killed; consumers go on afterwards."""
        publisher = self._start_publisher()
        consumers = [self._start_consumer() for _ in range(CONSUMERS)]
        clock = self._bench.clock
        deadline = clock.monotonic() + self._bench.patience
        while self.kills < KILLS or publisher.is_alive():
            clock.sleep(_BETWEEN_KILLS * (0.5 + self._dice.random()))
            if clock.monotonic() > deadline:
                raise Silence("publishing takes too long")
            if self.kills == KILLS:
                continue
            self.kills += 1
            number = self._dice.randrange(CONSUMERS + 1)
            if number < CONSUMERS:
                consumers[number].kill()
                consumers[number] = self._start_consumer()
            elif publisher.is_alive():
                publisher.kill()
                publisher = self._start_publisher()

    def _start_publisher(self) -> Child:
        first = sum(line.what == "publishing" for line in self.record())
        log, us = self._next_log(), os.getpid()
        return self._family.start(lambda: publish(self._bench, log, first, us))

    def _start_consumer(self) -> Child:
        log, us = self._next_log(), os.getpid()
        return self._family.start(lambda: consume(self._bench, log, us))

    def _next_log(self) -> str:
        self._started += 1
        return f"{self._records}/{self._started:03d}"

    def record(self) -> list[Line]:
        """Return what our processes noted."""
        lines = []
        for name in sorted(os.listdir(self._records)):
            with open(f"{self._records}/{name}", encoding="utf-8") as file:
                # The last line of a killed process may be cut off.
                lines += [text.split("\t") for text in file if text.endswith("\n")]
        return [Line(*(word.rstrip("\n") for word in words)) for words in lines]

    def stop(self) -> None:
        """End all processes."""
        self._family.end()


class Log:
    """Lines that survive the death of this process."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, *words: str) -> None:
        """Add a line."""
        os.write(self._descriptor, ("\t".join(words) + "\n").encode())


def publish(bench: Bench, path: str, first: int, parent: int) -> None:
    """Be a publisher: note in a file at `path` all that is published, from message `first` on.

    It ends when its `parent` is gone, which may have died before this begins.
    """
    log = Log(path)
    try:
        broker = Broker(root_of(bench), fs=bench.fs)
        while first < MESSAGES and os.getppid() == parent:
            together = _TOGETHER if first % _EVERY == 0 else 1
            end = min(first + together, MESSAGES)
            texts = [f"{bench.side}{number}" for number in range(first, end)]
            for text in texts:
                log.write("publishing", text)
            broker.publish_many(QUEUE, texts, durable=first % 10 == 0)
            for text in texts:
                log.write("published", text)
            bench.clock.sleep(_BETWEEN_MESSAGES)
            first = end
    except DdmqError as error:
        log.write("failed", " ".join(str(error).split()))


def consume(bench: Bench, path: str, parent: int) -> None:
    """Be a consumer, and note all that is consumed, until our `parent` is gone."""
    log = Log(path)
    broker = None
    while os.getppid() == parent:
        try:
            broker = broker or Broker(root_of(bench), fs=bench.fs)
            if not consume_some(bench, broker, log):
                bench.clock.sleep(_WORK * 5)
        except DdmqError as error:
            log.write("failed", " ".join(str(error).split()))
            bench.clock.sleep(_BETWEEN_KILLS)


def consume_some(bench: Bench, broker: Broker, log: Log) -> bool:
    """Consume and ack a few messages; tell whether there were any."""
    messages = broker.consume(QUEUE, _BATCH)
    for message in messages:
        text = str(message.message)
        log.write("consumed", text, str(message.requeue_counter))
        bench.clock.sleep(_WORK)
        log.write("acking", text)
        try:
            broker.ack(message)
        except LeaseLost:
            log.write("overrun", text)
        else:
            log.write("acked", text)
    return bool(messages)


def left_after(bench: Bench, broker: Broker, seconds: float) -> int:
    """Wait until the queue is empty; return how many messages are left in it."""
    with suppress(DdmqError):
        bench.until(lambda: broker.is_empty(QUEUE), seconds)
    return sum(broker.view(QUEUE)[QUEUE])


def account(lines: Iterable[Line], kills: int, left: int) -> Account:
    """Settle what became of each message from what all processes noted.

    A process that was killed while it published or acked may or may not have done so.
    """
    by: dict[str, Counter[str]] = {}
    consumed: Counter[tuple[str, str]] = Counter()
    for line in lines:
        by.setdefault(line.what, Counter())[line.message] += 1
        if line.what == "consumed":
            consumed[line.message, line.detail] += 1
    published, acked = by.get("published", Counter()), by.get("acked", Counter())
    gone = set(acked) | set(by.get("acking", ()))
    took = by.get("consumed", Counter())
    return Account(
        published=len(published),
        lost=max(0, len(set(published) - gone) - left),
        acked_twice=sum(times > 1 for times in acked.values()),
        consumed_twice=sum(times > 1 for times in consumed.values()),
        foreign=len(gone - set(by.get("publishing", ()))),
        again=sum(took.values()) - len(took),
        kills=kills,
        left=left,
        errors=sorted(by.get("failed", ()))[:5],
    )
