"""Several clients, each on a node that remembers: the model and the interleavings once more.

The nodes and their server are emulated (`protocol.mounts`). The model says what must come of
each verb, to the letter: whatever a node remembers and whichever reply is lost, a verb does
what it says, and only purges may count too few. In the interleavings, a client may be
stopped at every call and between the pages of a listing, for as long as a lease lasts.

Each test fails if the nodes were hardly ever told wrongly.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis.stateful import run_state_machine_as_test
from protocol import test_interleavings as several
from protocol.mounts import Mount, Nodes, Rates, Server
from protocol.scenes import QUEUE
from protocol.test_interleavings import (
    CONSUMING,
    SCRIPTS,
    Client,
    Explorer,
    Story,
)
from protocol.test_model import KEEPERS, QueueMachine, profile
from support import in_time

from ddmq import Broker
from ddmq.fs import FileSystem

if TYPE_CHECKING:
    from pathlib import Path

both_versions = pytest.mark.parametrize("version", [3, 4], ids=["v3", "v4"])


# The model


class NodesMachine(QueueMachine):
    """Brokers on nodes of their own; replies are lost, but not while a purge counts."""

    version = 4
    told: Counter[str]

    def __init__(self, directory: Path, version: int, told: Counter[str]) -> None:
        self.version, self.told = version, told
        super().__init__(directory)

    def _broker(self, number: int) -> Broker:
        if number == 0:
            rates = Rates(lost=0.02)
            self.server = Server(
                *(self.root, self.clock),
                version=self.version,
                rates=rates,
                told=self.told,
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


class _PurgesSurely(Broker):
    def purge(self, *arguments: Any) -> Any:
        server = self._fs.calls.server
        rates, server.rates = server.rates, server.rates._replace(lost=0)
        try:
            return super().purge(*arguments)
        finally:
            server.rates = rates


@pytest.mark.deep
@both_versions
def test_brokers_on_nodes_that_remember_do_what_a_queue_in_memory_does(
    version: int, tmp_path: Path
) -> None:
    told: Counter[str] = Counter()
    run_state_machine_as_test(
        lambda: NodesMachine(tmp_path, version, told), settings=profile()
    )
    print(told)


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


class NodeClient(Client):
    """A client on a node: others go on between the pages of what it lists, too."""

    def __init__(self, number: int, story: Story) -> None:
        super().__init__(number, story)
        node = self.broker._fs.calls.module
        assert isinstance(node, Mount)
        node.meanwhile = self._meanwhile
        self._chance = random.Random(number)

    def _meanwhile(self, function: str, path: str) -> bool:
        if self.turns is None or function != "page":
            return False
        if self._chance.random() < 0.3:
            self.story.world.clock.advance(25)
        self.turns.step(self.number, function)
        return True


def is_step(name: str, arguments: tuple[Any, ...]) -> bool:
    """Tell whether a call is at a file of the queue, or at one that is open."""
    return name in STEPS and (
        not isinstance(arguments[0], str) or f"/{QUEUE}/" in arguments[0]
    )


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
    return told


def try_at_random(root: Path, number: int, seed: int) -> None:
    chance = random.Random(seed)
    for n in range(number):
        scripts = [chance.choice(CONSUMING), *chance.choices(SCRIPTS, k=2)]
        explorer = Explorer(root / str(n), scripts, chance.choice([2, 3, 6]))
        explorer.attempt(several.at_random(chance, range(len(scripts))))


def test_no_schedule_at_random_loses_or_doubles_a_message(
    told: Counter[str], tmp_path: Path
) -> None:
    with in_time(300):
        try_at_random(tmp_path, 100, seed=1)
    print(told)
    assert 0
