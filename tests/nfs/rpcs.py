"""Count the RPCs of each operation, on one client or on several at once.

Run on each client: `rpcs.py ROOT DIRECTORY NUMBER CLIENTS EACH`. The clients begin each operation
together: they meet in a directory that is not on NFS, and leave their figures there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Callable, NamedTuple

from ddmq import Broker

QUEUE = "q"
IDLE = "idle"


def rpcs(mount: str) -> Counter[str]:
    """Return how many RPCs of each kind a mount has made."""
    made: Counter[str] = Counter()
    ours = False
    with open("/proc/self/mountstats") as stream:
        for line in stream:
            if line.startswith("device"):
                ours = f" mounted on {mount} " in line
            name, _, figures = line.strip().partition(": ")
            if ours and line.startswith("\t") and name.isupper():
                made[name] += int(figures.split()[0])
    return made


class Figures(NamedTuple):
    """What one client needed for an operation that it did so many times."""

    rpcs: dict[str, int]
    """By kind."""
    times: int
    seconds: float


class Client:
    """Does one operation after the other, together with the other clients."""

    def __init__(self, root: str, directory: Path, number: int, clients: int) -> None:
        self.mount = "/".join(root.split("/")[:3])
        self.directory = directory
        self.number = number
        self.clients = clients
        self.figures: dict[str, Figures] = {}
        if number == 0:
            self.make(root)
        self.meet("made")
        self.broker = Broker(root)
        # What a client does only once, it has done then.
        self.publish(1, True)
        self.meet("published")
        for queue in (QUEUE, IDLE):
            self.drain(queue, 1)
        self.meet("warm")

    def make(self, root: str) -> None:
        """Make two queues, one of which stays empty."""
        broker = Broker(root, create=True)
        for queue in (QUEUE, IDLE):
            broker.create_queue(queue)
        broker.publish_many(IDLE, ["to", "warm", "up"])

    def meet(self, name: str) -> None:
        """Wait until all clients are here."""
        (self.directory / f"{name}.{self.number}").touch()
        others = [self.directory / f"{name}.{n}" for n in range(self.clients)]
        while not all(map(os.path.exists, others)):
            time.sleep(0.05)

    def count(self, name: str, act: Callable[..., int], *arguments: object) -> None:
        """Note how many RPCs something took, and how often it was done."""
        self.meet(f"{name} begins")
        before, began = rpcs(self.mount), time.monotonic()
        times = act(*arguments)
        seconds = time.monotonic() - began
        self.figures[name] = Figures(rpcs(self.mount) - before, times, seconds)
        self.meet(f"{name} ends")

    def publish(self, times: int, durable: bool) -> int:
        for number in range(times):
            self.broker.publish(QUEUE, str(number), durable=durable)
        return times

    def drain(self, queue: str, n: int) -> int:
        """Consume and ack until nothing is left; return how many came."""
        times = 0
        while messages := self.broker.consume(queue, n):
            self.broker.ack(messages)
            times += len(messages)
        return times

    def look(self, times: int) -> int:
        for _ in range(times):
            assert not self.broker.consume(IDLE)
        return times

    def view(self, times: int) -> int:
        for _ in range(times):
            self.broker.view()
        return times

    def count_all(self, each: int) -> None:
        """Count all operations; of messages there are so many for each client."""
        self.count("publish", self.publish, each, False)
        self.count("publish, durable", self.publish, each, True)
        self.count("consume, ack: its own file", self.drain, QUEUE, 1)
        for n, name in ((1, "one by one"), (50, "by fifties")):
            if self.number == 0:
                texts = map(str, range(2 * n if n > 1 else each * self.clients))
                self.broker.publish_many(QUEUE, texts)
            self.count(f"consume, ack: a bundle's, {name}", self.drain, QUEUE, n)
        self.count("idle look", self.look, 10)
        self.count("view", self.view, 5)


def main(root: str, directory: str, *numbers: str) -> None:
    number, clients, each = map(int, numbers)
    client = Client(root, Path(directory), number, clients)
    client.count_all(each)
    Path(directory, f"{number}.json").write_text(json.dumps(client.figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
