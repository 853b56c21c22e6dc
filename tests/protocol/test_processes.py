"""Real processes on one queue, some killed; what they did is told by their own logs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ddmq import Broker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

pytestmark = pytest.mark.slow
QUEUE, ASIDE = "q", "aside"
ACTOR = Path(__file__).with_name("actor.py")
LEASE = 1.5
PATIENCE = 50


class Stage:
    """A queue, the processes that use it, and their logs.

    `roots` are several ways to one directory, on two mounts say: the processes use them in
    turn. `open_root` opens the first for us; where it is on another machine, from there.
    """

    def __init__(
        self,
        directory: Path,
        *roots: Path,
        bucket_size: int = 500,
        open_root: Callable[..., Any] = Broker,
        patience: float = PATIENCE,
    ) -> None:
        self.roots = roots or (directory / "root",)
        self.root = self.roots[0]
        self.logs = directory / "logs"
        self.stop = directory / "stop.several"
        self.bucket_size = bucket_size
        self.patience = patience
        self.logs.mkdir()
        self.broker = open_root(self.root, create=True)
        self.broker.create_queue(QUEUE)
        self.broker.update_settings(QUEUE, message_timeout=LEASE, durable=False)
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, role: str, argument: object) -> subprocess.Popen[str]:
        """Start a process with a log of its own."""
        number = len(self.processes)
        root = self.roots[number % len(self.roots)]
        log = self.logs / f"{number:03d}.{role}"
        errors = open(f"{log}.stderr", "w")  # noqa: SIM115 - the process writes to it
        with errors:
            process = subprocess.Popen(
                [
                    *(sys.executable, ACTOR, role, root, log),
                    *map(str, (argument, self.bucket_size)),
                ],
                stderr=errors,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
                text=True,
            )
        self.processes.append(process)
        return process

    def consumer(self) -> subprocess.Popen[str]:
        return self.start("consume", self.stop)

    def finish(self) -> None:
        """Wait until all is consumed, then let everybody go home."""
        assert self.broker.wait(QUEUE, self.patience)
        self.stop.touch()
        for process in self.processes:
            assert process.wait(self.patience) in (0, -signal.SIGKILL)

    def abandon(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def events(self, role: str = "*") -> Iterator[list[str]]:
        """Yield the words of each line of the logs, one process after the other."""
        for log in sorted(self.logs.glob(f"*.{role}")):
            yield from (line.split() for line in log.read_text().splitlines())

    def told(self, what: str) -> list[str]:
        """Return the messages of all events of one kind."""
        return [words[1] for words in self.events() if words[0] == what]

    def files(self, *names: str) -> list[str]:
        """Return the paths of all files in some directories of the queue."""
        walks = [os.walk(self.root / QUEUE / name) for name in names]
        return [
            f"{top}/{file}"
            for walk in walks
            for top, _, files in walk
            for file in files
        ]

    def assert_nobody_complained(self) -> None:
        assert self.told("away") == []
        for log in self.logs.glob("*.stderr"):
            assert log.read_text() == ""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.abandon()


@pytest.fixture
def shelved(tmp_path: Path) -> Iterator[Stage]:
    """Give a stage whose buckets are so small that shelves come and go."""
    stage = Stage(tmp_path, bucket_size=2)
    yield stage
    stage.abandon()


def next_of(publisher: str, stage: Stage, first: int) -> int:
    """Return the number that a publisher has not tried yet."""
    tried = [text.split("-") for text in stage.told("publishing")]
    return max((int(n) + 1 for owner, n in tried if owner == publisher), default=first)


class Cast:
    """Publishers, consumers and a cleaner, each replaced when it is killed."""

    def __init__(self, stage: Stage, each: int, others: Sequence[str] = ()) -> None:
        self.stage = stage
        self.each = each
        publishers = ["p0", "p1", "many2", "many3"]
        self.roles = [*publishers, *["consume"] * 4, "clean", *others]
        self.running = [self.enter(role) for role in self.roles]

    def enter(self, role: str) -> subprocess.Popen[str]:
        if role in ("consume", "clean", "administer"):
            return self.stage.start(role, self.stage.stop)
        first = next_of(role, self.stage, 0)
        verb = "publish" if role.startswith("p") else "publish_many"
        return self.stage.start(verb, f"{role}:{first}:{self.each}")

    def kill(self, number: int) -> None:
        """Kill one at whatever it is doing, and let another take its place."""
        self.running[number].kill()
        self.running[number].wait()
        self.running[number] = self.enter(self.roles[number])


def test_killed_processes_lose_no_message_and_finish_none_twice(stage: Stage) -> None:
    kill_some(stage, each=600, times=25)


def test_nor_do_they_while_shelves_come_and_go(shelved: Stage) -> None:
    kill_some(shelved, each=300, times=12)


def test_nor_do_they_while_messages_are_moved_cancelled_and_redriven(
    stage: Stage,
) -> None:
    chance, broker = random.Random(7), stage.broker
    broker.create_queue(ASIDE)
    cast = Cast(stage, each=200, others=("administer", "administer"))
    for _ in range(30):
        time.sleep(chance.uniform(0.02, 0.25))
        cast.kill(chance.randrange(len(cast.running)))
    for publisher in cast.running[:4]:
        assert publisher.wait(PATIENCE) == 0
    stage.abandon()  # who moved messages and was killed has a lease for a minute
    for queue in (QUEUE, ASIDE):
        broker.clean(queue, end_leases=True)
    assert stage.told("administered")
    stage.consumer()
    stage.consumer()
    end = time.monotonic() + PATIENCE
    while (
        True
    ):  # what is cancelled is dead when it is consumed, and comes back once more
        aside = [each.id for each in broker.contents(ASIDE)]
        broker.move_waiting(ASIDE, aside, QUEUE)
        assert broker.wait(QUEUE, PATIENCE)
        if not broker.redrive(QUEUE) and not aside:
            break
        assert time.monotonic() < end
    stage.finish()
    stage.assert_nobody_complained()
    assert_each_is_finished_once(stage)


def kill_some(stage: Stage, *, each: int, times: int) -> None:
    chance = random.Random(7)
    cast = Cast(stage, each=each)
    for _ in range(times):
        time.sleep(chance.uniform(0.02, 0.25))
        cast.kill(chance.randrange(len(cast.running)))
    for publisher in cast.running[:4]:
        assert publisher.wait(PATIENCE) == 0
    stage.finish()
    stage.assert_nobody_complained()
    assert_each_is_finished_once(stage)


def assert_each_is_finished_once(stage: Stage) -> None:
    published = set(stage.told("published"))
    acked = Counter(stage.told("acked"))
    perhaps = Counter(stage.told("acking"))  # killed before it could tell more
    assert published
    assert set(acked) <= set(stage.told("publishing"))
    assert [text for text, times in acked.items() if times > 1] == []
    assert [text for text in published if not acked[text] and not perhaps[text]] == []
    assert tuple(stage.broker.view(QUEUE)[QUEUE]) == (0, 0, 0, 0)
    stage.broker.clean(QUEUE)
    left = os.listdir(stage.root / QUEUE / "work")
    assert all(name.startswith("spent.") for name in left)  # gone in ten seconds


def test_one_consumer_gets_the_messages_of_each_publisher_in_order(
    stage: Stage,
) -> None:
    assert_each_publishers_order_is_kept(stage)


def test_so_does_one_while_shelves_come_and_go(shelved: Stage) -> None:
    assert_each_publishers_order_is_kept(shelved)


def assert_each_publishers_order_is_kept(stage: Stage) -> None:
    stage.broker.update_settings(QUEUE, message_timeout=600)
    stage.consumer()
    publishers = [stage.start("publish", f"p{number}:0:120") for number in range(2)]
    publishers.append(stage.start("publish_many", "p2:0:120"))
    for publisher in publishers:
        assert publisher.wait(PATIENCE) == 0
    stage.finish()
    stage.assert_nobody_complained()
    consumed = [text.split("-") for text in stage.told("consumed")]
    for number in range(3):
        numbers = [int(n) for owner, n in consumed if owner == f"p{number}"]
        assert numbers == list(range(120))


@pytest.mark.parametrize("bundled", [False, True], ids=["single", "bundled"])
def test_consumers_that_start_together_rarely_want_the_same_message(
    stage: Stage, capsys: pytest.CaptureFixture[str], bundled: bool
) -> None:
    """A line of a bundle takes two renames: the bundle, and its lease into place.

    They all begin with one bundle, and need a while until each has another.
    """
    renames = start_together(stage, bundled=bundled, messages=1200 if bundled else 600)
    with capsys.disabled():
        print(f"\n8 consumers tried {renames:.2f} renames for each message")  # noqa: T201
    assert renames <= (2.5 if bundled else 1.5)


def start_together(stage: Stage, *, bundled: bool, messages: int) -> float:
    """Let 8 consumers share messages; return how many renames each message took them."""
    stage.broker.update_settings(QUEUE, message_timeout=600)
    texts = [f"p-{number}" for number in range(messages)]
    if bundled:
        Broker(stage.root, bundle_size=40).publish_many(QUEUE, texts)
    else:
        for text in texts:
            stage.broker.publish(QUEUE, text)
    stage.stop = stage.stop.with_suffix(".one")
    for _ in range(8):
        stage.consumer()
    stage.finish()
    stage.assert_nobody_complained()
    assert len(set(stage.told("acked"))) == len(stage.told("acked")) == len(texts)
    assert len(stage.told("consumed")) == len(texts)
    return sum(map(int, stage.told("renames"))) / len(texts)
