"""Several clients, each on a node that remembers: the model and the interleavings once more.

The nodes and their server are emulated (`protocol.mounts`). The model says what must come of
each verb, to the letter: whatever a node remembers and whichever reply is lost, a verb does
what it says. Three things may happen besides. A purge of which a reply is lost counts too few. An ack
of which the reply is lost says that the lease is lost, if its time was over. And who settles
what others have purged may be told that it can't be found or is stale: to try again says that
the lease is lost, at most a minute later.

In the interleavings a client may be stopped at every call, between the pages of a listing too,
while it takes 25 seconds and more. None is lost or doubled then, and what is left comes once
the clock has gone on and a fresh client looks.

Each test fails if the nodes were hardly ever told wrongly.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
from collections import Counter
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from protocol import mounts
from protocol import test_interleavings as several
from protocol.mounts import Mount, Nodes, Rates, Server
from protocol.scenes import QUEUE, text
from protocol.test_interleavings import (
    CONSUMING,
    SCRIPTS,
    Client,
    Explorer,
    Schedule,
    Story,
    Turns,
    cleaning,
    cleaning_later,
    in_turn,
    looking,
    nacking,
    releasing,
    two_at_once,
)
from protocol.test_model import KEEPERS, QueueMachine, lease_of, profile
from support import in_time

from ddmq import Broker, LeaseLost, StorageError
from ddmq.storage.filesystem import FileSystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ddmq import Message

pytestmark = pytest.mark.real_times  # they are those of the emulated server
both_versions = pytest.mark.parametrize("version", [3, 4], ids=["v3", "v4"])


def assert_often(told: Counter[str], **least: int) -> None:
    """Fail unless nodes were told wrongly at least so often, by the names of the kinds."""
    few = {k: told[getattr(mounts, k)] for k in least}
    assert all(few[kind] >= number for kind, number in least.items()), few


# The model


class NodesMachine(QueueMachine):
    """Brokers on nodes of their own; replies are lost, where that can be told."""

    def __init__(self, directory: Path, version: int, told: Counter[str]) -> None:
        self._server_options = {"version": version, "told": told}
        super().__init__(directory)

    def _broker(self, number: int) -> Broker:
        if number == 0:
            rates = Rates(early=1, lost=0.05)
            self.server = Server(
                self.root, self.clock, rates=rates, **self._server_options
            )
        return _PurgesSurely(
            self.root,
            create=True,
            clean=number in KEEPERS,
            clock=self.clock,
            fs=FileSystem(self.server.mount()),
            bucket_size=3,
            bundle_size=(4, 11, 1000)[number],
        )

    def _ack(self, broker: Broker, message: Message) -> None:
        is_over = lease_of(message).expiry < self.model.milliseconds()
        with surely(self.server) if is_over else nullcontext():
            super()._ack(broker, message)

    def _done(self, message: Message, act: Any) -> bool:
        try:
            return super()._done(message, act)
        except StorageError as error:
            if "can't be found" in str(error) and self.model.holder(message) is None:
                return False
            raise


class _PurgesSurely(Broker):
    def purge(self, *arguments: Any) -> Any:
        with surely(self._fs.calls.server):
            return super().purge(*arguments)


@contextmanager
def surely(server: Server) -> Iterator[None]:
    """Lose no reply of what nobody could tell later whether it was done."""
    rates, server.rates = server.rates, server.rates._replace(lost=0)
    try:
        yield
    finally:
        server.rates = rates


@pytest.mark.deep
@both_versions
def test_brokers_on_nodes_that_remember_do_what_a_queue_in_memory_does(
    version: int, tmp_path: Path
) -> None:
    told: Counter[str] = Counter()
    usual = profile()
    few = usual if "DDMQ_EXAMPLES" in os.environ else settings(usual, max_examples=60)
    run_state_machine_as_test(
        lambda: NodesMachine(tmp_path, version, told), settings=few
    )
    assert_often(told, OF_DIRECTORY=2000, LOST=50)
    # Which of the two, depends on the examples that this Hypothesis makes.
    assert told[mounts.NEGATIVE] + told[mounts.POSITIVE] >= 3


# The interleavings

#: The calls of a client at which others may go on.
STEPS = frozenset(
    [
        "open",
        "close",
        "write",
        "rename",
        "unlink",
        "mknod",
        "mkdir",
        "rmdir",
        "listdir",
        "lstat",
    ]
)
#: How often others do, besides where a schedule says so.
SWITCHES = {"page": 0.7, "write": 0.3}


def is_step(name: str, arguments: tuple[Any, ...]) -> bool:
    """Tell whether a call is at a file of the queue, or at one that is open."""
    if name not in STEPS:
        return False
    return not isinstance(arguments[0], str) or f"/{QUEUE}/" in arguments[0]


class NodeTurns(Turns):
    """Others go on where that matters most: between pages, and while a file is written."""

    def __init__(self, schedule: Schedule, clients: int) -> None:
        super().__init__(schedule, clients)
        self._chance = random.Random(repr(schedule))

    def step(self, me: int, name: str) -> bool:
        others = [other for other in self._running if other != me]
        if self._chance.random() < SWITCHES.get(name, 0) and others:
            self._switches.setdefault(len(self.made), self._chance.choice(others))
        return super().step(me, name)


class NodeClient(Client):
    """A client on a node of its own; some of its listings take 25 seconds.

    It makes each file exclusively, as clients of ddmq may.
    """

    def __init__(self, number: int, story: Story) -> None:
        super().__init__(number, story)
        node = self.broker._fs.calls.module
        assert isinstance(node, Mount)
        node.meanwhile = self._list_on
        self._chance = random.Random(number)

    def _call(self, number: int, name: str, do: Any, arguments: Any) -> Any:
        if name == "open" and arguments[1] & os.O_CREAT:
            path, flags, *mode = arguments
            arguments = (path, flags | os.O_EXCL, *mode)
        return super()._call(number, name, do, arguments)

    def _list_on(self, function: str, path: str) -> bool:
        if self.turns is None or function != "page":
            return False
        if self._chance.random() < 0.3:
            self.story.world.clock.advance(25)
        self.turns.step(self.number, function)
        return True

    def _settled(
        self, verb: str, message: Message, *, was_held: bool | None = None
    ) -> bool:
        """Settle a message, and once more if its file is stale: then it says so."""
        try:
            return super()._settled(verb, message, was_held=was_held)
        except StorageError as error:
            if error.errno != errno.ESTALE:
                raise
            return super()._settled(verb, message, was_held=was_held)


def publishing_singly(client: Client) -> None:
    for number in range(4):
        name = f"s{client.number}{number}"
        with suppress(StorageError):  # it took so long that it was cleaned away
            client.broker.publish(QUEUE, text(name), durable=number % 2 == 0)
            client.story.published.add(name)


def publishing_with_a_delay(client: Client) -> None:
    names = [f"d{client.number}{number}" for number in range(3)]
    with suppress(StorageError):
        client.broker.publish_many(QUEUE, map(text, names), delay=5)
        client.story.published |= set(names)
    client.ack(client.take())


def delaying(client: Client) -> None:
    for message in client.take(2):
        was_held = client.story.let_go(message)
        try:
            client.broker.nack(message, delay=15)
        except LeaseLost:
            client.story.lost(message, was_held=was_held)
    client.story.world.clock.advance(16)
    client.ack(client.take())


def reviving(client: Client) -> None:
    """Read dead letters which others may redrive, and so rename, at this moment.

    Of all files that one client opens, these are about the only ones that others rename: a lease
    is its holder's alone, and the lines of a bundle keep their name.
    """
    for message in client.take(2):
        was_held = client.story.let_go(message)
        client._settled("reject", message, was_held=was_held)
    client.broker.dead(QUEUE)
    client.broker.redrive(QUEUE)
    client.ack(client.take())


MORE_SCRIPTS = [*SCRIPTS, publishing_singly, publishing_with_a_delay, delaying]
MORE_SCRIPTS += [reviving, reviving]
TRIPLES = [
    (publishing_singly, cleaning, in_turn),
    (several.several, cleaning_later, two_at_once),
    (delaying, cleaning, publishing_with_a_delay),
    (nacking, releasing, looking),
]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Let the interleavings be on nodes that remember; return what they are told wrongly."""
    told: Counter[str] = Counter()
    rates = Rates(early=1, paged=0.5)

    def new_nodes(root: Path, **options: Any) -> Nodes:
        version = 3 + options["bundle_size"] % 2
        return Nodes(root, rates=rates, told=told, version=version, **options)

    monkeypatch.setattr(several, "new_world", new_nodes)
    monkeypatch.setattr(several, "is_step", is_step)
    monkeypatch.setattr(several, "Client", NodeClient)
    monkeypatch.setattr(several, "Turns", NodeTurns)
    return told


def at_random(chance: random.Random, clients: range) -> Schedule:
    """Return a schedule with many switches, and maybe trouble."""
    steps = sorted(chance.sample(range(500), chance.randrange(3, 80)))
    switches = tuple((step, chance.choice(clients)) for step in steps)
    schedule = Schedule(tuple(chance.sample(clients, len(clients))), switches)
    number, trouble = chance.randrange(300), chance.randrange(3)
    if trouble == 1:
        return schedule._replace(dies=number)
    return schedule._replace(lost=number) if trouble else schedule


def try_at_random(root: Path, seeds: range) -> None:
    """Try a schedule of any scripts, the first of which consumes, for each seed."""
    for seed in seeds:
        chance = random.Random(seed)
        scripts = [chance.choice(CONSUMING), *chance.choices(MORE_SCRIPTS, k=2)]
        explorer = Explorer(root / str(seed), scripts, chance.choice([2, 3, 6]))
        explorer.attempt(at_random(chance, range(len(scripts))))


def test_no_schedule_at_random_loses_or_doubles_a_message(
    told: Counter[str], tmp_path: Path
) -> None:
    with in_time(300):
        try_at_random(tmp_path, range(150))
    assert_often(told, OLD_PAGE=50, POSITIVE=5, STALE=5, GARBAGE=5)


def test_dead_letters_that_have_another_name_by_now_are_redriven_once(
    told: Counter[str], tmp_path: Path
) -> None:
    """Schedules at random hardly ever let a node open a file by its former name.

    Two clients that redrive the same dead letters do.
    """
    explorer = Explorer(tmp_path, [reviving, reviving], size=2)
    with in_time(300):
        schedules = explorer.all_of((0, 1), switches=1)
        assert len(list(itertools.islice(schedules, 220))) == 220
    assert_often(told, OLD_NAME=1)


@pytest.mark.deep
@pytest.mark.parametrize(
    "scripts", TRIPLES, ids=lambda scripts: "-".join(s.__name__ for s in scripts)
)
def test_no_switch_loses_or_doubles_a_message(
    scripts: Sequence[Any], told: Counter[str], tmp_path: Path
) -> None:
    explorer = Explorer(tmp_path, scripts)
    with in_time(600):
        schedules = explorer.all_of((0, 1, 2), switches=1)
        assert len(list(itertools.islice(schedules, 60))) == 60
    assert_often(told, OLD_PAGE=30, POSITIVE=1)


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(1000, 11000, 1000))
def test_no_schedule_of_many_loses_or_doubles_a_message(
    first: int, told: Counter[str], tmp_path: Path
) -> None:
    try_at_random(tmp_path, range(first, first + 1000))
    assert_often(told, OLD_PAGE=500, POSITIVE=50, NEGATIVE=5, STALE=50)
