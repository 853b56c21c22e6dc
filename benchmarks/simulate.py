"""How far one queue reaches: ddmq's own code on a simulated file server, in virtual time.

    python benchmarks/simulate.py --table
    python benchmarks/simulate.py --quick
    python benchmarks/simulate.py --calibrate
    python benchmarks/simulate.py [--slots N] [--length SECONDS] [--server NAME] [...]

Runs `Broker`, and all of `ddmq.storage` below it, in up to 20,000 simulated workers. They share a
simulated NFS server (`virtual_nfs.py`), where requests queue. Virtual time costs nothing, so it
takes minutes to see what 10,000 slots do in an hour.

A worker does what `ddmq.hpc.worker` does: it consumes for each free slot, runs, acks, renews
leases three times in their timeout, looks less and less often at an empty queue, and ends when it
finds it empty. All messages are there before, in bundles or in files of their own. The workers
have looked at the empty queue before, and begin at any time within the length of a task. From then
on, until the last message is taken, calls and the use of the slots are measured. A herd starts within a second, and
is measured until each slot has had a message. Idle workers are simulated by themselves.

`--table` prints the tables of docs/cost.md, and tells on standard error about each run. Without it,
one run is made, and all figures of it are told. `--quick` prints small tables, in seconds.
`--calibrate` compares the requests of each operation with those that real clients made.

How fast a server answers is an assumption, which options change. How many requests it is asked is
counted. Exits with 1 if a message was run twice or never, or if the calibration is off.
"""

from __future__ import annotations

import os
import pickle
import statistics
import sys
import time
from collections import Counter, deque
from heapq import heappop, heappush
from itertools import repeat
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from support import QUEUE, TEXT, Table, arguments, scratch
from virtual_nfs import Calls, Node, Server, Service
from virtual_time import Simulation, VirtualClock

from ddmq import Broker, LeaseLost
from ddmq.hpc.limits import AHEAD_AT_MOST, Durations, to_take
from ddmq.hpc.poller import Poller
from ddmq.storage.bundle_file import BUNDLE_SIZE
from ddmq.storage.filesystem import FileSystem

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

    from ddmq import Message

MS = 1e-3
#: Assumptions. `small`: an NFS server on flash, each change synced; `filer`: an appliance with a
#: battery for its memory; `large`: the metadata server of a parallel file system. `lab`: what the
#: calibration's emulated machines are like.
SERVERS = {
    "small": Service(threads=8, look=0.1 * MS, change=0.5 * MS),
    "filer": Service(threads=16, look=0.05 * MS, change=0.15 * MS),
    "large": Service(threads=64, look=0.03 * MS, change=0.05 * MS),
    "lab": Service(threads=2, look=2 * MS, change=2 * MS, round_trip=2 * MS),
}
IDLE = "idle"
#: What a worker yields before it starts.
READY = 0.0
#: The part of the messages from which on a queue is taken to keep up: the rest is chance.
_KEPT = 0.9


class World:
    """A simulated server with one root, and the clients that are made in it."""

    def __init__(
        self,
        mount: Path,
        service: Service,
        version: str,
        *,
        seed: int,
        cpu: float = 0.0,
    ) -> None:
        self.random = random = Random(seed)
        os.urandom = random.randbytes  # so that a run can be repeated
        self.simulation = Simulation()
        self.clock = VirtualClock(self.simulation)
        self._mount = mount
        self._cpu = cpu
        self.server = Server(
            self.simulation, self.clock, service, version=version, random=random
        )
        self.server.load(mount)

    def broker(
        self, node: Node | None = None, bundle_size: int = BUNDLE_SIZE
    ) -> Broker:
        """Return a new client, on a node of its own or beside others."""
        calls = Calls(node or Node(self.server), self._mount, self._cpu)
        fs = FileSystem(calls)
        root = self._mount / "mq"
        return Broker(root, clock=self.clock, fs=fs, bundle_size=bundle_size)


def made(mount: Path, queues: int = 1) -> None:
    """Make a real root, which is then copied into a simulated server."""
    broker = Broker(mount / "mq", create=True)
    for name in (IDLE, *queue_names(queues)):
        broker.create_queue(name)


def queue_names(number: int) -> list[str]:
    """Return the names of as many queues."""
    return [f"{QUEUE}{n}" for n in range(number)]


def in_fork(act: Callable[[], Any]) -> Any:
    """Return what a forked process returns: its threads and its memory end with it."""
    receiver, sender = os.pipe()
    if os.fork() == 0:
        status = 1
        try:
            os.close(receiver)
            with os.fdopen(sender, "wb") as answer:
                pickle.dump(act(), answer)
            status = 0
        except BaseException:  # noqa: BLE001 - printed here, as nobody is above
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(sender)
    with os.fdopen(receiver, "rb") as answer:
        data = answer.read()
    os.wait()
    if not data:
        raise RuntimeError("the simulation failed; the reason is above")
    return pickle.loads(data)


# Workers


class Setup(NamedTuple):
    """What is simulated."""

    slots: int
    length: float
    """Seconds that a task takes; each takes from `1 - spread` to `1 + spread` times that."""
    each: int = 1
    """Slots of a worker."""
    service: Service = SERVERS["filer"]
    version: str = "4.2"
    per_node: int = 16
    """Slots of a node: so many share its caches."""
    rounds: int = 3
    """Tasks for each slot."""
    spread: float = 0.2
    claim: int = 1
    """The most messages that a worker asks for at once."""
    queues: int = 1
    """Queues among which messages and workers are divided."""
    is_single: bool = False
    """Whether each message has a file of its own."""
    bundle: int = BUNDLE_SIZE
    """The most messages of a bundle."""
    poll_max: float = 5.0
    timeout: float | None = None
    """Seconds that a lease lasts; None: the queue's."""
    is_herd: bool = False
    """Whether all start within a second. Else they have started, and begin at any time."""
    limit: int = 150_000
    """Requests after which a run is given up: its figures are those until then. While all begin,
    as many come on top."""
    seed: int = 1


class Snapshot(NamedTuple):
    """What the server has done until a moment."""

    moment: float
    counts: Counter[str]
    busy: float
    held: Counter[int]
    started: int

    @property
    def requests(self) -> int:
        """Return how many it has answered."""
        return sum(self.counts.values())

    @classmethod
    def of(cls, server: Server, started: int) -> Snapshot:
        """Take one now."""
        counts, held = Counter(server.counts), Counter(server.held)
        return cls(server.simulation.now, counts, server.busy, held, started)


class Phase(NamedTuple):
    """What the server did between two snapshots, each second."""

    seconds: float
    calls: float
    kinds: dict[str, float]
    threads: float
    """The part of the time for which its threads worked."""
    directory: float
    """The part of the time for which the busiest directory was being changed."""
    messages: float
    """How many were taken."""

    @classmethod
    def between(cls, first: Snapshot, last: Snapshot, service: Service) -> Phase:
        """Compare two snapshots."""
        seconds = max(last.moment - first.moment, 1e-9)
        counts, held = last.counts - first.counts, last.held - first.held
        return cls(
            seconds=seconds,
            calls=sum(counts.values()) / seconds,
            kinds={kind: n / seconds for kind, n in counts.most_common()},
            threads=(last.busy - first.busy) / service.threads / seconds,
            directory=max(held.values(), default=0.0) / seconds,
            messages=(last.started - first.started) / seconds,
        )


class Outcome(NamedTuple):
    """What came of a run."""

    setup: Setup
    start: Phase
    """Of a herd, until each slot has had a message; else while they begin."""
    middle: Phase
    """After that, until the last message is taken."""
    first: list[float]
    """Seconds until each slot had its first message."""
    later: list[float]
    """Seconds until a free slot had its next one."""
    use: float
    """The part of the slots' time in which tasks ran, in the middle."""
    longest: float
    """The longest that a request took, in seconds."""
    end: float
    """Seconds from the last message taken to the last ack, beyond the longest task."""
    requests: int
    acked: int
    missing: int
    twice: int
    """Messages that were run more often than once."""
    is_complete: bool
    """Whether it came to its end, within the limit of requests."""

    @property
    def is_right(self) -> bool:
        """Whether each message was run once."""
        return not self.twice and not (self.is_complete and self.missing)


class Run:
    """Workers take the messages of a queue until none is left."""

    def __init__(self, mount: Path, setup: Setup) -> None:
        self.setup = setup
        self.world = World(mount, setup.service, setup.version, seed=setup.seed)
        self.number = setup.slots * setup.rounds
        self.shares = [0] * setup.queues
        """The slots that work for each queue."""
        for number, slots in enumerate(workers_of(setup)):
            self.shares[number % setup.queues] += slots
        self.ran: list[tuple[float, float]] = []
        """When each task began and ends."""
        self.first: list[float] = []
        self.later: list[float] = []
        self.runs: Counter[str] = Counter()
        self.acked = self.alive = 0
        self.over = False
        self.last_ack = 0.0
        self.last_taken: Snapshot | None = None
        self.all_have_one: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        """Note what the server has done."""
        return Snapshot.of(self.world.server, len(self.first) + len(self.later))

    def publish(self) -> None:
        """Publish all messages, before the workers start."""
        setup = self.setup
        broker = self.world.broker(bundle_size=setup.bundle)
        for queue, slots in zip(queue_names(setup.queues), self.shares):
            share = slots * setup.rounds
            if setup.is_single:
                for _ in range(share):
                    broker.publish(queue, TEXT, timeout=setup.timeout)
            else:
                broker.publish_many(queue, repeat(TEXT, share), timeout=setup.timeout)

    def run(self) -> Outcome:
        """Start all workers, and wait until they have ended."""
        setup, simulation, server = self.setup, self.world.simulation, self.world.server
        workers = list(start_all(self.world, setup, self.worker))
        self.publish()
        self.alive = len(workers)
        within = 1.0 if setup.is_herd else setup.length
        for worker in workers:
            simulation.start(worker, self.world.random.uniform(0, within))
        server.longest, server.counts = 0.0, Counter()
        begin = self.snapshot()
        middle = self._waited(setup.limit, within)
        if setup.is_herd:
            while self.all_have_one is None and middle.requests < setup.limit:
                middle = self._waited(setup.limit, 0.1)
            middle = self.all_have_one or middle
            last = middle
        else:
            last = middle
            limit = setup.limit + middle.requests
            while self.alive and last.requests < limit:
                last = self._waited(limit, 0.1)
        is_complete = not self.alive
        last = self.last_taken or last
        self.over = True
        longest = setup.length * (1 + setup.spread)
        window = max(last.moment - middle.moment, 1e-9)
        ran = sum(
            max(min(end, last.moment) - max(start, middle.moment), 0.0)
            for start, end in self.ran
        )
        phase = Phase.between(middle, last, setup.service)
        # In a run that is cut, many tasks are those of before. So if far fewer are taken than
        # must be, what counts is the use if it went on so.
        kept = phase.messages * setup.length / setup.slots
        return Outcome(
            setup=setup,
            start=Phase.between(begin, middle, setup.service),
            middle=phase,
            first=self.first,
            later=self.later,
            use=ran / window / setup.slots if is_complete or kept > _KEPT else kept,
            longest=server.longest,
            end=self.last_ack - last.moment - longest,
            requests=sum(server.counts.values()),
            acked=self.acked,
            missing=self.number - len(self.runs),
            twice=sum(number > 1 for number in self.runs.values()),
            is_complete=is_complete,
        )

    def _waited(self, limit: int, seconds: float) -> Snapshot:
        """Let so many seconds pass, or fewer if that takes too many requests."""
        simulation, counts = self.world.simulation, self.world.server.counts
        end = simulation.now + seconds
        while simulation.now < end and sum(counts.values()) < limit:
            simulation.sleep(min(0.05, end - simulation.now))
        return self.snapshot()

    def started(self, message: Message, waited: float, *, is_first: bool) -> float:
        """Note that a task starts; return how long it takes."""
        setup = self.setup
        self.runs[message.id] += 1
        (self.first if is_first else self.later).append(waited)
        if self.all_have_one is None and len(self.first) == setup.slots:
            self.all_have_one = self.snapshot()
        if len(self.first) + len(self.later) == self.number:
            self.last_taken = self.snapshot()
        spread = self.world.random.uniform(-setup.spread, setup.spread)
        seconds, now = setup.length * (1 + spread), self.world.simulation.now
        self.ran.append((now, now + seconds))
        return seconds

    def worker(self, node: Node, queue: str, slots: int) -> Iterator[float]:
        """Do what a worker does, one call after the other, as its main thread would."""
        simulation, clock = self.world.simulation, self.world.clock
        broker = None
        if not self.setup.is_herd:
            broker = self.world.broker(node)
            broker.consume(queue)
        yield READY
        free = [(simulation.now, True)] * slots
        durations = Durations()
        ahead: deque[Message] = deque()
        broker = broker or self.world.broker(node)
        poller = Poller(clock.monotonic, self.setup.poll_max)
        running: list[tuple[float, int, float]] = []
        held: dict[int, tuple[float, Message]] = {}
        """The messages that run or wait here, and when each lease is renewed."""
        numbers: dict[str, int] = {}
        made, taken = 0, 0.0
        while not self.over:
            ended = []
            while running and running[0][0] <= simulation.now:
                end, number, seconds = heappop(running)
                ended.append(held.pop(number)[1])
                durations.add(seconds)
                free.append((end, False))
                poller.look_at_once()
            if ahead and taken + AHEAD_AT_MOST <= simulation.now:
                broker.release([held.pop(numbers[message.id])[1] for message in ahead])
                ahead.clear()
            while free and (ahead or poller.is_due()):
                if not ahead:
                    asked = to_take(len(free), slots, durations.percentile())
                    ahead.extend(broker.consume(queue, max(asked, self.setup.claim)))
                    poller.looked(found=bool(ahead))
                    taken = simulation.now
                    for message in ahead:
                        made += 1
                        numbers[message.id] = made
                        held[made] = simulation.now + message.timeout / 3, message
                if not ahead:
                    break
                message, (since, is_first) = ahead.popleft(), free.pop(0)
                now = simulation.now
                seconds = self.started(message, now - since, is_first=is_first)
                heappush(running, (now + seconds, numbers.pop(message.id), seconds))
            self.ack(broker, ended)
            due = [n for n, (moment, _) in held.items() if moment <= simulation.now]
            renewed = broker.renew([held[n][1] for n in due], together=True)
            for number, message in zip(due, renewed):
                held[number] = simulation.now + message.timeout / 3, message
            if not running and not ended and poller.has_been_empty_for(0):
                break
            waits = [running[0][0] - simulation.now] if running else []
            waits += [moment - simulation.now for moment, _ in held.values()]
            waits += [poller.due_in()] if free else []
            waits += [taken + AHEAD_AT_MOST - simulation.now] if ahead else []
            yield max(min(waits), 0.0)
        self.alive -= 1

    def ack(self, broker: Broker, messages: list[Message]) -> None:
        """Ack what has ended."""
        if not messages:
            return
        try:
            broker.ack(messages)
        except LeaseLost as error:
            print(f"lost: {error}", file=sys.stderr)
            return
        self.acked += len(messages)
        self.last_ack = self.world.simulation.now


def workers_of(setup: Setup) -> list[int]:
    """Return how many slots each worker has."""
    full, rest = divmod(setup.slots, setup.each)
    return [setup.each] * full + [rest] * bool(rest)


def start_all(
    world: World,
    setup: Setup,
    worker: Callable[[Node, str, int], Iterator[float]],
) -> Iterator[Iterator[float]]:
    """Yield the workers of all nodes, each with what it does before it starts done."""
    queues = queue_names(setup.queues)
    node, room = Node(world.server), setup.per_node
    for number, slots in enumerate(workers_of(setup)):
        if room < slots:
            node, room = Node(world.server), max(setup.per_node, slots)
        room -= slots
        made = worker(node, queues[number % setup.queues], slots)
        next(made)
        yield made


class Idle(NamedTuple):
    """What idle workers cost, and how soon they see a message."""

    phase: Phase
    waited: list[float]


class IdleRun:
    """Workers look at an empty queue, into which a message comes now and then."""

    settle, watched = 25.0, 15.0

    def __init__(self, mount: Path, setup: Setup) -> None:
        self.setup = setup
        self.world = World(mount, setup.service, setup.version, seed=setup.seed)
        self.over = False
        self.taken: dict[str, float] = {}

    def run(self) -> Idle:
        """Let them look; then publish."""
        setup, simulation = self.setup, self.world.simulation
        publisher = self.world.broker()
        for worker in start_all(self.world, setup, self.worker):
            simulation.start(worker, self.world.random.uniform(0, setup.poll_max))
        simulation.sleep(self.settle * max(setup.poll_max / 5, 1))
        before = Snapshot.of(self.world.server, 0)
        simulation.sleep(self.watched)
        after = Snapshot.of(self.world.server, 0)
        came = {}
        for _ in range(min(20, max(setup.slots // 5, 1))):
            simulation.sleep(self.world.random.uniform(0.5, 1.5))
            id_ = publisher.publish(queue_names(1)[0], TEXT)
            came[id_] = simulation.now
        simulation.sleep(3 * setup.poll_max)
        self.over = True
        waited = [self.taken[id_] - moment for id_, moment in came.items()]
        return Idle(Phase.between(before, after, setup.service), waited)

    def worker(self, node: Node, queue: str, slots: int) -> Iterator[float]:
        """Look, less and less often, until a message comes: it is acked at once."""
        del slots
        broker, clock = self.world.broker(node), self.world.clock
        yield READY
        poller = Poller(clock.monotonic, self.setup.poll_max)
        while not self.over:
            messages = broker.consume(queue)
            poller.looked(found=bool(messages))
            for message in messages:
                self.taken[message.id] = clock.monotonic()
                broker.ack(message)
            if messages:
                break
            yield poller.due_in()


def simulated(options: Namespace, kind: type[Run] | type[IdleRun], setup: Setup) -> Any:
    """Simulate in a process of its own."""
    with scratch(options.dir) as mount:
        made(mount, setup.queues)
        return in_fork(lambda: kind(mount, setup).run())


# Calibration

#: The operations that were counted, by their names in the table of docs/cost.md.
OPERATIONS = (
    "publish",
    "publish, durable",
    "consume and ack, a single file",
    "consume and ack from a bundle, one by one",
    "the same by fifties",
    "an idle look",
    "`view`",
)
COST = Path(__file__).parents[1] / "docs" / "cost.md"
#: The columns of that table: the version of NFS, and how many clients.
COLUMNS = (("3", 1), ("3", 3), ("4.2", 1), ("4.2", 3))
#: How far the simulation may be off. Real figures of three clients vary as much.
TOLERANCE = 0.3
#: Runs of which the mean is taken.
CALIBRATIONS = 4
EACH = 15


class Calibration:
    """The operations of `tests/nfs/rpcs.py`, by some clients at once."""

    def __init__(self, mount: Path, version: str, clients: int, seed: int) -> None:
        self.world = World(mount, SERVERS["lab"], version, seed=seed, cpu=5 * MS)
        self.clients = clients
        self.met: Counter[str] = Counter()
        self.figures: dict[str, dict[str, float]] = {}
        self._ended = 0

    def run(self) -> dict[str, dict[str, float]]:
        """Return the requests for each operation, by their kinds."""
        simulation = self.world.simulation
        for number in range(self.clients):
            simulation.start(self.client(number))
        while self._ended < self.clients:
            simulation.sleep(1)
        return self.figures

    def meet(self, name: str) -> Iterator[float]:
        """Wait until all clients are here."""
        self.met[name] += 1
        while self.met[name] < self.clients:
            yield 0.05

    def client(self, number: int) -> Iterator[float]:
        """Do one operation after the other, together with the other clients."""
        broker = self.world.broker()
        if number == 0:
            broker.publish_many(IDLE, ["to", "warm", "up"])
        yield from self.meet("made")
        publish(broker, 1, durable=True)
        yield from self.meet("published")
        for queue in (queue_names(1)[0], IDLE):
            drain(broker, queue, 1)

        def count(name: str, act: Callable[[], int]) -> Iterator[float]:
            yield from self.meet(f"{name} begins")
            counts = self.world.server.counts
            if number == 0:
                counts.clear()
                self.met[f"times {name}"] = 0
            yield from self.meet(f"{name} counts")
            done = act()  # first, as others count meanwhile
            self.met[f"times {name}"] += done
            yield from self.meet(f"{name} ends")
            times = self.met[f"times {name}"]
            self.figures[name] = {kind: n / times for kind, n in counts.items()}
            yield from self.meet(f"{name} told")

        names = OPERATIONS
        yield from count(names[0], lambda: publish(broker, EACH, durable=False))
        yield from count(names[1], lambda: publish(broker, EACH, durable=True))
        queue = queue_names(1)[0]
        yield from count(names[2], lambda: drain(broker, queue, 1))
        for name, n in ((names[3], 1), (names[4], 50)):
            if number == 0:
                waiting = 2 * n if n > 1 else EACH * self.clients
                broker.publish_many(queue, map(str, range(waiting)))
            yield from count(name, lambda n=n: drain(broker, queue, n))
        yield from count(names[5], lambda: look(broker, 10))
        yield from count(names[6], lambda: view(broker, 5))
        self._ended += 1


def publish(broker: Broker, times: int, *, durable: bool) -> int:
    """Publish messages one by one."""
    for number in range(times):
        broker.publish(queue_names(1)[0], str(number), durable=durable)
    return times


def drain(broker: Broker, queue: str, n: int) -> int:
    """Consume and ack until nothing is left; return how many came."""
    times = 0
    while messages := broker.consume(queue, n):
        broker.ack(messages)
        times += len(messages)
    return times


def look(broker: Broker, times: int) -> int:
    """Look at an empty queue."""
    for _ in range(times):
        broker.consume(IDLE)
    return times


def view(broker: Broker, times: int) -> int:
    """Count the messages in all queues."""
    for _ in range(times):
        broker.view()
    return times


def told(counts: Counter[str], per: float) -> str:
    """Tell requests by kind, the most frequent ones."""
    parts = [(kind, number / per) for kind, number in counts.most_common()]
    return ", ".join(f"{number:.1f} {kind}" for kind, number in parts if number >= 0.1)


def counted_requests() -> dict[str, list[float]]:
    """Read from docs/cost.md how many requests real clients made for each operation."""
    counted = {}
    for line in COST.read_text(encoding="utf-8").splitlines():
        name, *cells = line.strip("| ").split(" | ")
        if name in OPERATIONS and len(cells) == len(COLUMNS):
            counted[name] = [float(cell) for cell in cells]
    return {name: counted[name] for name in OPERATIONS}


def calibrate(options: Namespace) -> int:
    """Compare with what was counted; return 1 if a figure is too far off."""
    found: list[dict[str, Counter[str]]] = []
    for version, clients in COLUMNS:
        total: dict[str, Counter[str]] = {name: Counter() for name in OPERATIONS}
        for seed in range(CALIBRATIONS):
            with scratch(options.dir) as mount:
                made(mount)
                each = in_fork(Calibration(mount, version, clients, seed).run)
            for name, kinds in each.items():
                total[name].update(kinds)
        found.append(total)
    heads = [f"v{v}, {n}" for v, n in COLUMNS]
    table = Table("Requests: simulated / counted", "", *heads, "off by at most", "")
    for name, counted in counted_requests().items():
        sums = [sum(each[name].values()) / CALIBRATIONS for each in found]
        pairs = list(zip(sums, counted))
        off = max(abs(ours - real) / real for ours, real in pairs)
        verdict = "met" if off <= TOLERANCE else "MISSED"
        cells = [f"{ours:.1f} / {real:.1f}" for ours, real in pairs]
        table.add(name, *cells, f"{off:.0%}", f"≤ {TOLERANCE:.0%}: {verdict}")
    missed = table.show()
    if options.quick:
        return missed
    for (version, clients), each in zip(COLUMNS, found):
        kinds = Table(f"v{version}, {clients} at once", "", "", "which")
        for name, which in each.items():
            number = sum(which.values()) / CALIBRATIONS
            kinds.add(name, f"{number:.1f}", told(which, CALIBRATIONS))
        kinds.show()
    return missed


# What is printed


def quantiles(values: list[float]) -> str:
    """Tell the median and what 99 % do not exceed."""
    if len(values) < 2:
        return "-"
    points = statistics.quantiles(values, n=100, method="inclusive")
    return f"{digits(points[49])} / {digits(points[98])}"


def digits(seconds: float) -> str:
    """Tell seconds, with as many digits as they deserve."""
    return f"{seconds:.{2 if seconds < 1 else 1 if seconds < 10 else 0}f}"


def percent(part: float) -> str:
    """Tell a part of the whole."""
    return f"{part * 100:.0f} %"


def note(text: str) -> None:
    """Tell how far we are."""
    print(text, file=sys.stderr, flush=True)


def show(outcome: Outcome) -> None:
    """Print all that one run has told."""
    table = Table("One run", "", "while all begin", "then")
    phases = outcome.start, outcome.middle
    rows = {
        "seconds": [digits(each.seconds) for each in phases],
        "messages a second": [f"{each.messages:,.1f}" for each in phases],
        "calls a second": [f"{each.calls:,.0f}" for each in phases],
        "server's threads at work": [f"{each.threads:.0%}" for each in phases],
        "busiest directory": [f"{each.directory:.0%}" for each in phases],
        "a slot waits: median / 99 %, s": [
            quantiles(outcome.first),
            quantiles(outcome.later),
        ],
    }
    for name, cells in rows.items():
        table.add(name, *cells)
    kinds = {**outcome.start.kinds, **outcome.middle.kinds}
    for kind in sorted(kinds, key=lambda kind: -kinds[kind]):
        table.add(kind, *(f"{each.kinds.get(kind, 0):,.0f}" for each in phases))
    table.show()
    is_whole = outcome.is_complete or outcome.setup.is_herd
    part = "" if is_whole else ", not to the end"
    print(
        f"{outcome.requests:,} requests{part}, the longest {digits(outcome.longest)} s; "
        f"use of the slots {outcome.use:.0%}; last ack {digits(max(outcome.end, 0))} s late; "
        f"{outcome.acked:,} acked, {outcome.twice} run twice\n"
    )


LENGTHS = {"1 s": 1.0, "10 s": 10.0, "1 min": 60.0}
#: Tasks of a second for each slot: workers take two seconds' ahead, and the end is not what counts.
_SHORT_ROUNDS = 10
#: How workers and messages come: slots of a worker, and whether each message has its own file.
WAYS = {
    "1 slot, bundles": (1, False),
    "16 slots, bundles": (16, False),
    "1 slot, files": (1, True),
}
#: What helps where one queue does not suffice: what is changed, for tasks of a second.
REMEDIES: dict[str, dict[str, Any]] = {
    "nothing is done": {},
    "the messages are divided among 4 queues": {"queues": 4},
    "each message has a file of its own": {"is_single": True},
    "ten tasks are put into a message": {"length": 10.0},
}


class Sizes(NamedTuple):
    """How much is simulated."""

    slots: tuple[int, ...]
    limit: int
    many: int
    """Slots with which the most is asked of a queue."""
    herd: int
    """Requests at most while a herd starts."""


FULL = Sizes((100, 1000, 10_000), 150_000, 1000, 500_000)
QUICK = Sizes((10, 100), 5000, 100, 20_000)


class Tables:
    """The tables for docs/cost.md."""

    def __init__(self, options: Namespace, base: Setup, sizes: Sizes) -> None:
        self._options = options
        self._base = base
        self._sizes = sizes
        self.wrong = 0
        """Runs in which a message was run twice or never."""

    def show(self) -> int:
        """Print all; return 1 if a message was run twice or never."""
        self._by_length()
        self._at_most()
        self._with_remedies()
        self._of_herds()
        self._of_idle_workers()
        return int(self.wrong > 0)

    def _run(self, way: str, **changes: Any) -> Outcome:
        each, is_single = WAYS[way]
        limit = self._sizes.limit
        setup = self._base._replace(each=each, is_single=is_single, limit=limit)
        outcome = run(self._options, setup._replace(**changes))
        self.wrong += not outcome.is_right
        return outcome

    def _by_length(self) -> None:
        slots = self._sizes.slots
        heads = [f"{n:,} slots" for n in slots]
        table = Table(
            "Calls a second, and use of the slots",
            "tasks, workers, messages in",
            *heads,
        )
        for name, length in LENGTHS.items():
            for way in WAYS:
                rounds = _SHORT_ROUNDS if length == 1 else self._base.rounds
                outcomes = [
                    self._run(way, slots=n, length=length, rounds=rounds) for n in slots
                ]
                cells = [
                    f"{outcome.middle.calls:,.0f}, {percent(outcome.use)}"
                    for outcome in outcomes
                ]
                table.add(f"{name}, {way}", *cells)
        table.show()

    def _at_most(self) -> None:
        slots = self._sizes.many
        title = f"Messages a second at most, by {slots:,} slots (calls for each)"
        table = Table(title, "", *WAYS)
        for name in ("small", "filer", "large"):
            cells = []
            for way in WAYS:
                middle = self._run(
                    way, slots=slots, length=0.1, rounds=20, service=SERVERS[name]
                ).middle
                each = middle.calls / max(middle.messages, 1)
                cells.append(f"{middle.messages:,.0f} ({each:,.0f})")
            table.add(name, *cells)
        table.show()

    def _with_remedies(self) -> None:
        slots = self._sizes.many
        title = f"What helps: {slots:,} slots, tasks of 1 s, workers of 16 slots"
        table = Table(title, "", "calls a second", "use of the slots")
        for name, changes in REMEDIES.items():
            setup = {"slots": slots, "length": 1.0, "rounds": _SHORT_ROUNDS, **changes}
            outcome = self._run("16 slots, bundles", **setup)
            table.add(name, f"{outcome.middle.calls:,.0f}", percent(outcome.use))
        table.show()

    def _of_herds(self) -> None:
        heads = "seconds until half / 99 % of the slots run", "calls a second"
        table = Table("All start within a second", "", *heads, "calls for each slot")
        for way in WAYS:
            for slots in self._sizes.slots[1:]:
                outcome = self._run(
                    way,
                    slots=slots,
                    length=3600.0,
                    is_herd=True,
                    rounds=1,
                    limit=self._sizes.herd,
                )
                start, part = outcome.start, len(outcome.first) / slots
                waited = quantiles(outcome.first)
                if part < 1:
                    waited = f"{percent(part)} run after {digits(start.seconds)}"
                calls = start.calls * start.seconds / slots
                cells = waited, f"{start.calls:,.0f}", f"{calls:,.0f}"
                table.add(f"{slots:,} slots, {way}", *cells)
        table.show()

    def _of_idle_workers(self) -> None:
        heads = "calls a second", "seconds until a message is taken: median / 99 %"
        table = Table("Idle workers", "", *heads)
        for workers in self._sizes.slots[1:]:
            setup = self._base._replace(slots=workers, each=1)
            idle: Idle = simulated(self._options, IdleRun, setup)
            cells = f"{idle.phase.calls:,.0f}", quantiles(idle.waited)
            table.add(f"{workers:,} workers", *cells)
        table.show()


def run(options: Namespace, setup: Setup) -> Outcome:
    """Make one run, and tell in a line what came of it."""
    began = time.perf_counter()
    outcome: Outcome = simulated(options, Run, setup)
    changed = {
        name: value
        for name, value in setup._asdict().items()
        if name not in ("service", "limit") and value != Setup._field_defaults.get(name)
    }
    note(
        f"{changed}: {outcome.start.calls:,.0f} and {outcome.middle.calls:,.0f} calls/s, "
        f"{outcome.middle.messages:,.0f} messages/s, use {outcome.use:.0%}, waits "
        f"{quantiles(outcome.first)} and {quantiles(outcome.later)}, longest request "
        f"{digits(outcome.longest)}, threads {outcome.middle.threads:.0%}, directory "
        f"{outcome.middle.directory:.0%}, end {digits(outcome.end)}, "
        f"{'whole' if outcome.is_complete else 'cut'}, {outcome.requests:,} requests, "
        f"{time.perf_counter() - began:.0f} s"
    )
    return outcome


def service_of(options: Namespace) -> Service:
    """Return the server that the options describe."""
    service = SERVERS[options.server]
    given = {
        "threads": options.threads,
        "look": options.look and options.look * MS,
        "change": options.change and options.change * MS,
        "round_trip": options.round_trip and options.round_trip * MS,
    }
    kinds = {}
    for text in options.ms:
        kind, _, value = text.partition("=")
        kinds[kind.upper()] = float(value) * MS
    changes = {name: value for name, value in given.items() if value is not None}
    return service._replace(kinds=kinds, **changes)


def parsed() -> Namespace:
    """Return the arguments."""
    parser = arguments(__doc__)
    add = parser.add_argument
    add("--table", action="store_true", help="the tables of docs/cost.md")
    add("--calibrate", action="store_true", help="compare with real clients")
    add("--idle", action="store_true", help="one run of workers that find nothing")
    add("--herd", action="store_true", help="one run in which all start at once")
    add("--slots", type=int, default=100, help="of all workers together (%(default)s)")
    add("--length", type=float, default=10.0, help="seconds of a task (%(default)s)")
    add("--each", type=int, default=1, help="slots of a worker (%(default)s)")
    add("--per-node", type=int, default=16, help="slots of a node (%(default)s)")
    add("--rounds", type=int, default=3, help="tasks for each slot (%(default)s)")
    add("--spread", type=float, default=0.2, help="of the tasks' length (%(default)s)")
    add(
        "--claim",
        type=int,
        default=1,
        help="messages asked for at once, if a worker would ask for fewer (%(default)s)",
    )
    add("--queues", type=int, default=1, help="(%(default)s)")
    add("--single", action="store_true", help="a file for each message")
    add("--bundle", type=int, default=BUNDLE_SIZE, help="messages of one (%(default)s)")
    add("--poll-max", type=float, default=5.0, help="as of workers (%(default)s)")
    add("--timeout", type=float, help="of the messages, in seconds")
    add("--limit", type=int, default=FULL.limit, help="requests at most (%(default)s)")
    add("--seed", type=int, default=1, help="another run of chance (%(default)s)")
    add("--server", choices=SERVERS, default="filer", help="(%(default)s)")
    add("--version", choices=("3", "4.2"), default="4.2", help="of NFS (%(default)s)")
    add("--threads", type=int, help="of the server")
    add("--look", type=float, metavar="MS", help="a request that changes nothing")
    add("--change", type=float, metavar="MS", help="a request that changes something")
    add("--round-trip", type=float, metavar="MS", help="on the network")
    add("--ms", nargs="+", default=[], metavar="KIND=MS", help="kinds of requests")
    return parser.parse_args()


def main() -> int:
    """Simulate, print, and return the exit status."""
    options = parsed()
    if options.calibrate:
        return calibrate(options)
    setup = Setup(
        slots=options.slots,
        length=options.length,
        each=options.each,
        service=service_of(options),
        version=options.version,
        per_node=options.per_node,
        rounds=options.rounds,
        spread=options.spread,
        claim=options.claim,
        queues=options.queues,
        is_single=options.single,
        bundle=options.bundle,
        poll_max=options.poll_max,
        timeout=options.timeout,
        is_herd=options.herd,
        limit=options.limit,
        seed=options.seed,
    )
    if options.table or options.quick:
        missed = calibrate(options) if options.quick else 0
        return missed | Tables(options, setup, QUICK if options.quick else FULL).show()
    if options.idle:
        found: Idle = simulated(options, IdleRun, setup)
        print(f"{found.phase.calls:,.0f} calls a second: {found.phase.kinds}")
        print(f"seconds until a message is taken: {quantiles(found.waited)}")
        return 0
    outcome = run(options, setup)
    show(outcome)
    return int(not outcome.is_right)


if __name__ == "__main__":
    sys.exit(main())
