"""Several brokers against a queue in memory, whatever is done in whatever order.

`DDMQ_EXAMPLES=5000` tries that many other sequences than those that are always tried.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from protocol.scenes import told
from support import FakeClock, counting

from ddmq import Broker, LeaseLost
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.names import Lease
from ddmq.storage.range_names import Range

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ddmq import Message
    from ddmq.storage.names import Entry

    #: How a message ended, and what the name that it then has tells of its lease.
    _End = tuple[str, Entry, str]

pytestmark = pytest.mark.deep
QUEUE = "q"
BROKERS = 3
KEEPERS = (0, 1)  # the others leave the housekeeping to them
TIMEOUT = 600
PAUSE = 2  # longer than a kept listing is believed, and than sweeps are apart
#: Seconds; the sweep that looks into `drop/` may miss what was delayed for less than ten.
DELAYS = 15, 10.5


def lease_of(message: Message) -> Lease:
    lease = Lease.parse(message.filename)
    assert lease is not None
    return lease


@dataclass
class Item:
    """A message as it should be."""

    text: str
    priority: int
    timeout: float
    requeue: bool
    requeue_prio: int
    requeue_limit: int | None
    id: str = ""
    state: str = "ready"
    at: int = 0
    """The priority at which it waits."""
    place: int = 0
    """Its place in the ready queue among those of its priority."""
    failures: int = 0
    losses: int = 0
    due: int = 0
    lease: Lease | None = None
    code: str = ""
    last: _End | None = None
    """Where it was put under a name that can be foretold, while it is still there."""

    @property
    def options(self) -> dict[str, Any]:
        """What its publisher says besides its text."""
        return {
            "priority": self.priority,
            "timeout": self.timeout,
            "requeue": self.requeue,
            "requeue_prio": self.requeue_prio,
            "requeue_limit": self.requeue_limit,
        }

    @property
    def may_requeue(self) -> bool:
        counter = self.failures + self.losses
        limit = self.requeue_limit
        return self.requeue and (limit is None or counter < limit)


@dataclass
class Model:
    """A queue in memory: the same rules, and no files."""

    clock: FakeClock
    items: list[Item] = field(default_factory=list)
    places: Any = field(default_factory=itertools.count)

    def milliseconds(self, seconds: float = 0) -> int:
        return -(-self.clock.now_ns // 1_000_000) + int(seconds * 1000)

    def among(self, state: str) -> list[Item]:
        return [item for item in self.items if item.state == state]

    def counts(self) -> tuple[int, ...]:
        return tuple(
            len(self.among(state)) for state in ("ready", "work", "delayed", "dead")
        )

    def publish(self, item: Item, delay: float) -> None:
        self.items.append(item)
        self.join(item, item.priority)
        if delay:
            self.postpone(item, delay)

    def join(self, item: Item, priority: int) -> None:
        item.state, item.at, item.lease, item.last = "ready", priority, None, None
        item.place = next(self.places)

    def postpone(self, item: Item, delay: float) -> None:
        item.state, item.lease = "delayed", None
        item.due = self.milliseconds(delay)

    def dead_letter(self, item: Item, code: str, end: _End | None = None) -> None:
        item.state, item.code, item.lease, item.last = "dead", code, None, end

    def remove(self, item: Item) -> None:
        item.state, item.lease, item.last = "gone", None, None

    def dead(self) -> list[Item]:
        return sorted(self.among("dead"), key=lambda item: (item.at, item.place))

    def first(self) -> Item | None:
        return min(self.among("ready"), key=lambda i: (i.at, i.place), default=None)

    def sweep(self) -> None:
        """Do what housekeeping does: names are in the order of their text."""
        now = self.milliseconds()
        over = [i for i in self.among("work") if i.lease and i.lease.expiry < now]
        for item in sorted(over, key=lambda i: i.lease.filename if i.lease else ""):
            self.lose(item)
        due = [item for item in self.among("delayed") if item.due < now]
        for item in sorted(due, key=lambda i: (i.due, str(i.at), i.place)):
            self.join(item, item.at)

    def lose(self, item: Item) -> None:
        again = item.may_requeue
        item.losses += 1
        if again:
            self.join(item, item.requeue_prio)
        else:
            self.dead_letter(item, "expired")

    def holder(self, message: Message) -> Item | None:
        """Return the item that a message is the lease of, whoever renewed it since."""
        lease = lease_of(message)
        for item in self.among("work"):
            if item.lease is not None and item.lease.is_same_claim(lease):
                return item
        return None

    def item(self, message: Message) -> Item:
        [item] = [item for item in self.items if item.id == message.id]
        return item

    def is_finished(self, message: Message) -> bool:
        """Whether an ack that finds nothing is forgiven."""
        item = self.item(message)
        expiry = lease_of(message).expiry
        return item.state == "gone" and self.milliseconds() <= expiry


brokers = st.integers(0, BROKERS - 1)
hurry = st.sampled_from([True, True, False])
verbs = st.sampled_from(["ack", "nack", "delay", "release", "reject", "renew"])
new_items = st.builds(
    Item,
    text=st.just(""),
    priority=st.sampled_from([0, 1, 9, 10]),
    timeout=st.sampled_from([TIMEOUT, TIMEOUT, 20.0]),
    requeue=st.sampled_from([True, True, True, False]),
    requeue_prio=st.sampled_from([0, 9]),
    requeue_limit=st.sampled_from([None, None, 0, 1, 2]),
)


class QueueMachine(RuleBasedStateMachine):
    """Random verbs by several brokers; the model says what must come of each."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp(dir=directory)
        self.clock = FakeClock()
        self.model = Model(self.clock)
        self.brokers = [self._broker(number) for number in range(BROKERS)]
        self.brokers[0].create_queue(QUEUE)
        self.swept_at = [float("-inf")] * BROKERS
        self.last: int | None = None
        self.handles: list[Message] = []

    def _broker(self, number: int) -> Broker:
        return Broker(
            self.root,
            create=True,
            clean=number in KEEPERS,
            clock=self.clock,
            fs=FileSystem(counting()),
            bucket_size=3,
            bundle_size=(4, 11, 1000)[number],
        )

    def teardown(self) -> None:
        for broker in self.brokers:
            broker.close()  # which calls that refer to their client keep alive
        shutil.rmtree(self.root)

    def turn(self, number: int, *, hurry: bool) -> Broker:
        """Let a broker act after a pause, or in a hurry the one that acted last."""
        if hurry and self.last is not None:
            self.clock.advance(0.001)
        else:
            self.last = number
            self.clock.advance(PAUSE)
        return self.brokers[self.last]

    def visit(self, number: int, *, hurry: bool) -> Broker:
        """Let a broker act in a way that lets it keep house when it is time."""
        broker = self.turn(number, hurry=hurry)
        number = self.brokers.index(broker)
        if number in KEEPERS and self.clock.monotonic() - self.swept_at[number] > 1.5:
            self.swept_at[number] = self.clock.monotonic()
            self.model.sweep()
        return broker

    @rule(
        number=brokers,
        hurry=hurry,
        items=st.lists(new_items, min_size=1, max_size=5),
        delay=st.sampled_from([0, 0, 0, 0, *DELAYS]),
        durable=st.booleans(),
    )
    def publish(
        self, number: int, hurry: bool, items: list[Item], delay: float, durable: bool
    ) -> None:
        for item in items:
            broker = self.visit(number, hurry=hurry)
            item.text = f"text {len(self.model.items)}"
            item.id = broker.publish(
                QUEUE, item.text, delay=delay, durable=durable, **item.options
            )
            self.model.publish(item, delay)

    @rule(
        number=brokers,
        hurry=hurry,
        item=new_items,
        n=st.sampled_from([2, 5, 11, 14]),
        delay=st.sampled_from([0, 0, 0, *DELAYS]),
        durable=st.booleans(),
    )
    def publish_many(
        self, number: int, hurry: bool, item: Item, n: int, delay: float, durable: bool
    ) -> None:
        """Publish a few files, a bundle or several, by how many a broker puts into one."""
        broker = self.visit(number, hurry=hurry)
        first = len(self.model.items)
        items = [replace(item, text=f"text {first + more}") for more in range(n)]
        assert n == broker.publish_many(
            QUEUE,
            (item.text for item in items),
            delay=delay,
            durable=durable,
            **item.options,
        )
        self._identify(items)
        for new in items:
            self.model.publish(new, delay)

    def _identify(self, items: list[Item]) -> None:
        """Find out which ids the messages got."""
        ids = {data: id_ for _, id_, data in told(f"{self.root}/{QUEUE}")}
        for item in items:
            text = b'"%b"' % item.text.encode()
            [item.id] = [id_ for data, id_ in ids.items() if text in data]

    @rule(number=brokers, hurry=hurry, n=st.integers(1, 6))
    def consume(self, number: int, hurry: bool, n: int) -> None:
        messages = self.visit(number, hurry=hurry).consume(QUEUE, n)
        for message in messages:
            self._check_consumed(message)
        assert len(messages) == n or self.model.first() is None
        self.handles += messages

    def _check_consumed(self, message: Message) -> None:
        item = self.model.first()
        assert item is not None
        lease = lease_of(message)
        assert message == (
            item.text,
            item.id,
            QUEUE,
            item.at,
            item.timeout,
            item.requeue,
            item.requeue_prio,
            item.requeue_limit,
            item.failures,
            item.losses,
            lease.filename,
        )
        assert lease.expiry == self.model.milliseconds(item.timeout)
        item.state, item.lease, item.last = "work", lease, None

    @precondition(lambda self: self.handles)
    @rule(
        number=brokers,
        hurry=hurry,
        picks=st.lists(st.tuples(st.integers(0, 4), verbs), min_size=1, max_size=4),
    )
    def settle(self, number: int, hurry: bool, picks: list[tuple[int, str]]) -> None:
        """Do something with leases, most often with some that are not lost."""
        for pick, verb in picks:
            held = [m for m in self.handles if self.model.holder(m) is not None]
            some = held if held and pick else self.handles
            message = some[-pick % len(some)]
            getattr(self, f"_{verb}")(self.turn(number, hurry=hurry), message)

    def _ack(self, broker: Broker, message: Message) -> None:
        item = self.model.holder(message)
        forgiven = item is None and self.model.is_finished(message)
        forgiven = forgiven and not self._has_begun_to_leave(message)
        assert self._done(message, broker.ack) == (item is not None or forgiven)
        if item is not None:
            self.model.remove(item)

    def _has_begun_to_leave(self, message: Message) -> bool:
        """Whether there is a file of a line that was lost before it was detached.

        It may be the message for all that a client can tell, who finds no range of it.
        """
        files = os.listdir(f"{self.root}/{QUEUE}/work")
        return any(f".{message.id}." in name for name in files)

    def _range_went_back(self, message: Message) -> bool:
        """Whether a line waits in its range, which one rename put back.

        Who remembers the range by its name in `work/`, and puts it back once more, finds it there.
        """
        line = lease_of(message).line
        files = [
            name
            for _, _, names in os.walk(f"{self.root}/{QUEUE}/ready")
            for name in names
        ]
        ranges = [found for name in files if (found := Range.parse(0, name))]
        return any(line and line[0] == x.bundle and x.is_open(line[1]) for x in ranges)

    def _nack(self, broker: Broker, message: Message, delay: float = 0) -> None:
        def act(message: Message) -> None:
            broker.nack(message, delay=delay, reason="it broke")

        entry = lease_of(message).entry
        failed = entry._replace(failures=entry.failures + 1)
        token = lease_of(message).token
        end = None if message.may_requeue else ("failed", failed, token)
        item = self._holder_after(act, message, end)
        if item is None:
            return
        item.failures += 1
        if end is not None:
            self.model.dead_letter(item, "failed", end)
        elif delay:
            self.model.postpone(item, delay)
            item.at = item.requeue_prio
        else:
            self.model.join(item, item.requeue_prio)

    def _delay(self, broker: Broker, message: Message) -> None:
        self._nack(broker, message, delay=15)

    def _release(self, broker: Broker, message: Message) -> None:
        end = ("released", lease_of(message).entry, "")
        item = self._holder_after(broker.release, message, end)
        if item is not None:
            item.state, item.lease, item.last = "ready", None, end

    def _reject(self, broker: Broker, message: Message) -> None:
        lease = lease_of(message)
        end = ("rejected", lease.entry, lease.token)
        item = self._holder_after(broker.reject, message, end)
        if item is not None:
            self.model.dead_letter(item, "rejected", end)

    def _renew(self, broker: Broker, message: Message) -> None:
        timeout = 5.0 if message.failures else 900
        renewed: list[Message] = []

        def act(message: Message) -> None:
            renewed.append(broker.renew(message, timeout))

        item = self._holder_after(act, message, None)
        if item is not None:
            item.lease = lease_of(renewed[0])
            assert item.lease.expiry == self.model.milliseconds(timeout)
            self.handles += renewed

    def _holder_after(
        self,
        act: Callable[[Message], Any],
        message: Message,
        end: _End | None,
    ) -> Item | None:
        """Do something with a lease, that raises LeaseLost just when the lease is lost.

        What was done already, and by the names that are there could have been this very
        call whose reply was lost, is no error.
        """
        item = self.model.holder(message)
        done = item is None and end is not None and self.model.item(message).last == end
        went_back = done and self._range_went_back(message)
        if lease_of(message).is_line:
            done = False  # its file was written first, and that finds nothing
        found = self._done(message, act)
        assert found == (item is not None or done) or (found and went_back)
        return item

    def _done(self, message: Message, act: Callable[[Message], Any]) -> bool:
        lost = None
        try:
            act(message)
        except LeaseLost as error:
            lost = error
        assert lost is None or lost.messages == (message,)
        return lost is None

    @rule(seconds=st.sampled_from([3, 16, 21, TIMEOUT + 1]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(number=brokers, hurry=hurry)
    def clean(self, number: int, hurry: bool) -> None:
        broker = self.turn(number, hurry=hurry)
        before = self.model.counts()
        swept = broker.clean(QUEUE)
        self.model.sweep()
        after = self.model.counts()
        assert swept.dead == after[3] - before[3]
        assert swept.requeued == before[1] - after[1] - swept.dead
        assert swept.due == before[2] - after[2]

    @precondition(lambda self: self.model.among("dead"))
    @rule(number=brokers, hurry=hurry, some=st.booleans())
    def redrive(self, number: int, hurry: bool, some: bool) -> None:
        broker = self.visit(number, hurry=hurry)
        dead = self.model.dead()[:1] if some else self.model.dead()
        ids = [item.id for item in dead] if some else None
        assert broker.redrive(QUEUE, ids) == len(dead)
        for item in dead:
            item.failures = item.losses = 0
            self.model.join(item, item.priority)

    @precondition(lambda self: sum(self.model.counts()) > 20)
    @rule(
        number=brokers,
        hurry=hurry,
        states=st.sampled_from([["waiting"], ["work"], ["delayed", "dead"]]),
    )
    def purge(self, number: int, hurry: bool, states: list[str]) -> None:
        broker = self.turn(number, hurry=hurry)
        doomed = [
            item
            for state in states
            for item in self.model.among({"waiting": "ready"}.get(state, state))
        ]
        assert sum(broker.purge(QUEUE, states)) == len(doomed)
        for item in doomed:
            self.model.remove(item)

    @precondition(lambda self: self.model.items)
    @rule(number=brokers, hurry=hurry)
    def look(self, number: int, hurry: bool) -> None:
        broker = self.visit(number, hurry=hurry)
        assert broker.view(QUEUE)[QUEUE] == self.model.counts()
        told = [
            (d.id, d.message, d.filename.rpartition(".")[2], d.failures, d.losses)
            for d in broker.dead(QUEUE)
        ]
        dead = self.model.dead()
        assert told == [(i.id, i.text, i.code, i.failures, i.losses) for i in dead]

    @invariant()
    def each_message_is_one_file_or_line_in_its_state(self) -> None:
        found = sorted((state, id_) for state, id_, _ in told(f"{self.root}/{QUEUE}"))
        items = [item for item in self.model.items if item.state != "gone"]
        assert found == sorted((item.state, item.id) for item in items)


def profile() -> settings:
    """Return the same examples each time, or as many others as somebody asks for."""
    more = os.environ.get("DDMQ_EXAMPLES")
    return settings(
        max_examples=int(more or 250),
        stateful_step_count=50,
        derandomize=more is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def test_several_brokers_do_what_a_queue_in_memory_does(tmp_path: Path) -> None:
    run_state_machine_as_test(lambda: QueueMachine(tmp_path), settings=profile())
