"""One measurement of one queue: publish messages one by one, then consume and ack each.

    python benchmarks/peer.py KIND PLACE NUMBER

`peers.py` starts this in a process of its own for each measurement. PLACE is a new
directory, or the port of a RabbitMQ server. Prints the seconds that publishing took, and
those that consuming took. Each kind is used as its manual says; making the client is not
measured. Each kind imports what it needs, since `ddmq` may be the first ddmq (0.9.14).
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    #: Publishes one message; consumes all of them, acking each.
    Client = tuple[Callable[[], object], Callable[[int], None]]

QUEUE = "jobs"
TEXT = "Hello World!"
PREFETCH = 100


def each(consume_and_ack: Callable[[], object]) -> Callable[[int], None]:
    """Return how to consume a number of messages, one by one."""

    def consume(number: int) -> None:
        for _ in range(number):
            consume_and_ack()

    return consume


# Queues that need no server


def ddmq(place: str, *, durable: bool) -> Client:
    """Use the ddmq that is installed."""
    from ddmq import Broker

    broker = Broker(place, create=True)
    broker.create_queue(QUEUE)
    publish = partial(broker.publish, QUEUE, TEXT, durable=durable)
    return publish, each(lambda: broker.ack(broker.consume(QUEUE)[0]))


def ddmq_0_9_14(place: str) -> Client:
    """Use the first ddmq, which can't work with PyYAML 6."""
    import yaml

    import ddmq

    yaml.load = partial(yaml.load, Loader=yaml.SafeLoader)

    broker: Any = ddmq.broker(place, create=True)
    publish = partial(broker.publish, QUEUE, TEXT)
    return publish, each(lambda: broker.ack(broker.consume(QUEUE)))


def dirq(place: str) -> Client:
    """Use dirq: a file for each message, locked by a hard link."""
    from dirq.QueueSimple import QueueSimple

    queue = QueueSimple(place)

    def consume(number: int) -> None:
        left = number
        for name in queue:
            if queue.lock(name):
                queue.get(name)
                queue.remove(name)
                left -= 1
        assert left == 0

    return partial(queue.add, TEXT), consume


def persist_queue_files(place: str) -> Client:
    """Use persist-queue's queue in files, for one process."""
    from persistqueue import Queue

    queue = Queue(place, tempdir=place)

    def consume_and_ack() -> None:
        queue.get()
        queue.task_done()

    return partial(queue.put, TEXT), each(consume_and_ack)


def persist_queue_sqlite(place: str) -> Client:
    """Use persist-queue's queue in SQLite that has acks."""
    from persistqueue import SQLiteAckQueue

    queue = SQLiteAckQueue(place)
    return partial(queue.put, TEXT), each(lambda: queue.ack(queue.get()))


def huey_files(place: str) -> Client:
    """Use huey's storage in files. It has no acks."""
    from huey.storage import FileStorage

    return _huey(FileStorage(QUEUE, place))


def huey_sqlite(place: str, *, fsync: bool) -> Client:
    """Use huey's storage in SQLite. It has no acks."""
    from huey.storage import SqliteStorage

    return _huey(SqliteStorage(QUEUE, f"{place}.db", fsync=fsync))


def _huey(storage: Any) -> Client:
    def consume() -> None:
        assert storage.dequeue() is not None

    return partial(storage.enqueue, TEXT.encode()), each(consume)


# RabbitMQ


def rabbitmq(place: str, *, quorum: bool, prefetch: bool) -> Client:
    """Use RabbitMQ through pika: a durable queue, persistent messages; quorum: confirmed."""
    import pika

    where = pika.ConnectionParameters("127.0.0.1", int(place), heartbeat=0)
    channel: Any = pika.BlockingConnection(where).channel()
    name = f"{QUEUE}-{time.time_ns()}"
    kind = {"x-queue-type": "quorum" if quorum else "classic"}
    channel.queue_declare(name, durable=True, arguments=kind)
    if quorum:
        channel.confirm_delivery()
    persistent = pika.BasicProperties(delivery_mode=2)
    publish = partial(channel.basic_publish, "", name, TEXT.encode(), persistent)
    if prefetch:
        return publish, partial(_pushed, channel, name)
    return publish, each(partial(_polled, channel, name))


def _polled(channel: Any, name: str) -> None:
    """Ask for one message, and ack it."""
    method = None
    while method is None:  # a quorum queue may answer before it has the message
        method, _, _ = channel.basic_get(name)
    channel.basic_ack(method.delivery_tag)


def _pushed(channel: Any, name: str, number: int) -> None:
    """Let the server send messages, a hundred ahead; ack each."""

    def received(_channel: Any, method: Any, _properties: Any, _body: bytes) -> None:
        channel.basic_ack(method.delivery_tag)
        left.pop()
        if not left:
            channel.stop_consuming()

    left = [None] * number
    channel.basic_qos(prefetch_count=PREFETCH)
    channel.basic_consume(name, received)
    channel.start_consuming()


KINDS: dict[str, Callable[[str], Client]] = {
    "ddmq": partial(ddmq, durable=False),
    "ddmq-durable": partial(ddmq, durable=True),
    "ddmq-0.9.14": ddmq_0_9_14,
    "dirq": dirq,
    "persist-queue-files": persist_queue_files,
    "persist-queue-sqlite": persist_queue_sqlite,
    "huey-files": huey_files,
    "huey-sqlite": partial(huey_sqlite, fsync=False),
    "huey-sqlite-fsync": partial(huey_sqlite, fsync=True),
    "rabbitmq-get": partial(rabbitmq, quorum=False, prefetch=False),
    "rabbitmq-prefetch": partial(rabbitmq, quorum=False, prefetch=True),
    "rabbitmq-quorum-get": partial(rabbitmq, quorum=True, prefetch=False),
    "rabbitmq-quorum-prefetch": partial(rabbitmq, quorum=True, prefetch=True),
}


def main() -> None:
    """Measure, and print."""
    kind, place, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    publish, consume = KINDS[kind](place)
    began = time.perf_counter()
    for _ in range(number):
        publish()
    published = time.perf_counter()
    consume(number)
    print(published - began, time.perf_counter() - published)


if __name__ == "__main__":
    main()
