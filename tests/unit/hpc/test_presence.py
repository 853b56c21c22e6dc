"""A worker shows itself to others, seldom, and whatever goes wrong with that is no matter."""

from __future__ import annotations

import errno
import os
from collections import Counter
from math import inf

import pytest
from support import Calls
from unit.hpc.conftest import parts_of
from unit.storage.test_workers import WorkerName

from ddmq import Broker
from ddmq.hpc.limits import Deadline
from ddmq.hpc.options import WorkerOptions
from ddmq.hpc.presence import Presence
from ddmq.hpc.running.command import Invocation
from ddmq.hpc.running.execution import Execution
from ddmq.hpc.running.progress import SlotProgress
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.workers import ENDED

SLOTS = 4
#: Seconds between two looks of all workers.
STEP = 0.25


class Node:
    """What a worker consists of that can be seen, without its loop."""

    def __init__(self, broker, job, *, by_hand=False, **options):
        given = WorkerOptions(slots=SLOTS, **options)
        parts = parts_of(broker, job, given)
        self.settler, self.limits = parts.settler, parts.limits
        self.poller = parts.poller
        self.presence = Presence(
            broker,
            "q",
            given,
            job,
            settler=parts.settler,
            limits=parts.limits,
            poller=parts.poller,
            triage=parts.triage,
            by_hand=by_hand,
        )

    def acks(self):
        self.settler.numbers["acked"] += 1


@pytest.fixture
def node(broker, job):
    return Node(broker, job)


@pytest.fixture
def progress(tmp_path):
    made = SlotProgress(str(tmp_path))
    yield made
    made.close()


@pytest.fixture
def running(taken, surroundings, progress):
    """A command that runs until the test ends."""
    given = surroundings("sleep", "600")._replace(progress=progress)
    command = Invocation([Execution(taken("sample 1"), 1, given.options)], given)
    yield command
    command.kill()
    command._process.wait()


@pytest.fixture
def names(root):
    """Return a function that tells the names of workers."""
    return lambda: sorted(os.listdir(root / "q" / "workers"))


def passes(clock, node, seconds, running=()):
    """Let so many seconds pass, in which the worker looks every second."""
    for _ in range(seconds):
        clock.advance(1)
        node.presence.look(running)


def test_it_is_shown_at_once_and_what_changed_some_seconds_later(
    node, broker, clock, running
):
    node.presence.look([])
    [seen] = broker.workers("q")
    assert (seen.host, seen.process, seen.slots) == ("node", os.getpid(), SLOTS)
    assert (seen.state, seen.busy, seen.acked) == ("idle", 0, 0)
    node.acks()
    passes(clock, node, 21, [running])
    [seen] = broker.workers("q")
    assert (seen.state, seen.busy, seen.acked) == ("working", 1, 1)


def test_nothing_is_renamed_while_nothing_changes_but_for_a_sign_a_minute(
    node, names, clock
):
    node.presence.look([])
    seen = set()
    for _ in range(600):
        passes(clock, node, 1)
        seen |= set(names())
    assert 9 <= len(seen) <= 11


def test_however_much_changes_it_renames_every_ten_seconds(node, names, clock):
    node.presence.look([])
    seen = set()
    for _ in range(600):
        node.acks()
        passes(clock, node, 1)
        seen |= set(names())
    assert 55 <= len(seen) <= 65


def test_who_started_it_by_hand_sees_its_first_minute_every_two_seconds(
    broker, job, names, clock
):
    node = Node(broker, job, by_hand=True)
    seen = [set(), set(), set()]
    for minute in seen:
        for _ in range(60):
            node.acks()
            passes(clock, node, 1)
            minute |= set(names())
    first, *later = map(len, seen)
    assert 28 <= first <= 32
    assert all(5 <= number <= 7 for number in later)


def test_where_many_work_one_started_by_hand_is_no_exception(broker, job, names, clock):
    others = [Node(broker, job) for _ in range(12)]
    for each in others:
        each.presence.look([])
    node = Node(broker, job, by_hand=True)
    seen = set()
    for _ in range(60):
        node.acks()
        passes(clock, node, 1)
        seen |= set(names())
    assert len(seen) <= 12 + 8


@pytest.mark.parametrize(("number", "each_in"), [(3, 10), (95, 10), (250, 25)], ids=str)
def test_all_workers_of_a_queue_rename_ten_times_a_second_at_most(
    root, broker, job, clock, number, each_in
):
    """All start at once, and each has something new to show at any time."""
    renames = []

    def call(_, name, function, arguments):
        if name == "rename":
            renames.append((clock.monotonic(), str(arguments[1]).split(".")[0]))
        return function(*arguments)

    client = Broker(root, clock=clock, fs=FileSystem(Calls(call)), clean=False)
    nodes = [Node(client, job) for _ in range(number)]
    began = clock.monotonic()
    for _ in range(int(5 * each_in / STEP)):
        for node in nodes:
            node.acks()
            node.presence.look([])
        clock.advance(STEP)
    times = sorted(moment for moment, _ in renames)
    # Whoever has just come may be late for his turn by a second, and takes it all the same.
    assert all(b - a > 10 - 1 - 1.5 * STEP for a, b in zip(times, times[100:]))
    settled = [(t, who) for t, who in renames if t - began >= 2 * each_in]
    times = sorted(moment for moment, _ in settled)
    # Ten that are due within a second are seen within one by a clock that goes in steps.
    assert all(b - a > 1 - 1.5 * STEP for a, b in zip(times, times[10:]))
    assert all(b - a > 10 - 1.5 * STEP for a, b in zip(times, times[100:]))
    counts = Counter(who for _, who in settled)
    assert len(counts) == number  # nobody is left out
    assert 2 <= min(counts.values()) <= max(counts.values()) <= 4


def test_what_runs_for_long_is_told(node, broker, clock, running, progress):
    node.presence.look([running])
    assert broker.workers("q", running=True)[0].running == ()
    passes(clock, node, 30, [running])
    [told] = broker.workers("q", running=True)[0].running
    assert (told.slot, told.text, told.progress) == (1, "sample 1", "")
    with open(progress.path, "w") as said_by_command:
        said_by_command.write("40%\n")
    passes(clock, node, 20, [running])
    [told] = broker.workers("q", running=True)[0].running
    assert told.progress == "40%"
    passes(clock, node, 20)
    assert broker.workers("q", running=True)[0].running == ()


def test_what_failed_of_late_is_told_and_when_the_job_ends(
    broker, clock, job, taken, root
):
    ends = clock.time() + 5000
    node = Node(broker, job._replace(deadline=Deadline(ends)))
    node.presence.look([])
    assert broker.workers("q", running=True)[0].ends is None
    assert not list((root / "q" / "workers").glob("*.slots"))
    for number in range(5):
        clock.advance(1)
        node.settler.reject(taken(f"sample {number}"), f"reason {number}")
    failed = clock.time()
    passes(clock, node, 30)
    [seen] = broker.workers("q", running=True)
    told = [(each.text, each.reason) for each in seen.failures]
    assert told == [(f"sample {n}", f"reason {n}") for n in (2, 3, 4)]
    assert seen.failures[-1].ended == pytest.approx(failed, abs=0.01)
    assert seen.ends == pytest.approx(ends, abs=1)
    node.presence.end()
    assert not list((root / "q" / "workers").glob("*.slots"))


def test_work_is_what_slots_did_that_has_ended(node, broker, clock, running):
    node.presence.look([running])
    passes(clock, node, 50, [running])
    assert broker.workers("q")[0].work == pytest.approx(0, abs=0.01)
    node.acks()
    passes(clock, node, 30)
    seen = broker.workers("q")[0]
    assert seen.work == pytest.approx(51, abs=1)


def test_its_end_is_told_at_once_with_the_totals(node, broker, clock, names, running):
    passes(clock, node, 30, [running])
    assert len(names()) == 2  # it has told what runs
    node.acks()
    clock.advance(1)
    node.presence.end()
    [seen] = broker.workers("q")
    assert (seen.state, seen.acked) == (ENDED, 1)
    assert len(names()) == 1


def test_one_that_had_nothing_to_do_leaves_nothing(node, root):
    node.presence.end()
    assert not (root / "q" / "workers").exists()


def test_the_state_tells_why_nothing_is_taken(node, broker, clock, job):
    def state():
        passes(clock, node, 21)
        return broker.workers("q")[0].state

    assert state() == "idle"
    node.poller.is_paused(OSError("paused"))
    assert state() == "paused"
    node.poller.server_is_away(OSError("away"))
    assert state() == "away"
    job.signals.drain_requested = True
    assert state() == "draining"
    node.limits.brake("all failed")
    assert state() == "braking"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("mkdir", errno.EACCES),
        ("mknod", errno.ENOSPC),
        ("mknod", errno.EROFS),
        ("rename", errno.EACCES),
        ("rename", errno.ESTALE),
        ("listdir", errno.EIO),
    ],
)
def test_what_is_refused_is_told_once_and_stops_nobody(
    root, broker, clock, job, caplog, refusing, call, code
):
    fs = refusing(call, code, "" if call == "mkdir" else "workers")
    node = Node(Broker(root, clock=clock, fs=fs, clean=False), job)
    node.presence.look([])
    for _ in range(90):
        node.acks()
        passes(clock, node, 1)
    node.presence.end()
    assert caplog.text.count("can't be seen by others") <= 1
    assert node.limits.stopped == ""


@pytest.mark.parametrize("kind", ["file", "link", "gone", "queue"])
def test_whatever_becomes_of_its_directory_it_goes_on(
    node, root, clock, caplog, tmp_path, kind
):
    place = root / "q" / "workers"
    if kind == "file":
        place.touch()
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    node.presence.look([])
    if kind == "gone":
        place.rename(root / "q" / "away")
    elif kind == "queue":
        (root / "q").rename(root / "away")
    for _ in range(40):
        node.acks()
        passes(clock, node, 1)
    # That the queue is gone, the worker's loop says.
    told = caplog.text.count("can't be seen by others")
    assert told == (kind in ("file", "link"))
    if kind == "link":
        assert os.listdir(tmp_path / "elsewhere") == []
    if kind == "gone":
        assert [WorkerName.parse(name).acked > 0 for name in os.listdir(place)] == [
            True
        ]


def test_a_call_that_hangs_holds_up_nobody(broker, root, job, clock):
    node = Node(broker, job)
    begun = []

    class Hanging:
        has_ended = False

        def ends_within(self, seconds):
            return False

    clock.begin = lambda act: begun.append(act) or Hanging()
    for _ in range(60):
        node.acks()
        passes(clock, node, 1)
    node.presence.end()
    assert len(begun) == 1
    assert not (root / "q" / "workers").exists()


def test_who_is_asked_to_drain_takes_no_more(node, broker, clock):
    node.presence.look([])
    assert broker.drain("q", host="other") == 0
    passes(clock, node, 90)
    assert node.limits.stopped == ""
    assert broker.drain("q", host="node") == 1
    passes(clock, node, 90)
    assert "asked to drain, by `ddmq drain`" in node.limits.stopped


def test_a_request_from_before_it_started_is_none_for_it(node, broker, clock, job):
    node.presence.look([])
    broker.drain("q")
    clock.advance(1)
    later = Node(broker, job)
    later.presence.look([])
    passes(clock, later, 90)
    assert later.limits.stopped == ""


def test_a_busy_worker_wakes_up_for_it_only_when_it_is_its_turn(node, clock, running):
    assert node.presence.look([]) == inf
    waits = []
    for _ in range(10):
        waits.append(node.presence.look([running]))
        clock.advance(waits[-1] + 1e-3)
    assert 8 < min(waits) <= max(waits) <= 20
