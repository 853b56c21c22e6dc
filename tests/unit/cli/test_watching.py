"""Queues that are looked at again and again: what is known of them, and what it costs."""

from __future__ import annotations

import os

import pytest
from support import FakeClock

from ddmq import Activity, Broker, Failure, Running
from ddmq.cli.watching import CALLS, FIRST_CALLS, Watch, Watched
from ddmq.storage.filesystem import CountedCalls, FileSystem
from ddmq.storage.workers import ENDED, WORKING, WorkerName


class Queue:
    """A queue `q` with workers that show themselves, and who watches it."""

    def __init__(self, root):
        self.clock = FakeClock()
        self.broker = Broker(root, create=True, clock=self.clock, bucket_size=10)
        self.broker.create_queue("q")
        self._names = {}
        self.calls = CountedCalls()
        fs = FileSystem(self.calls)
        self.looking = Broker(root, clean=False, clock=self.clock, fs=fs)
        self.watched = Watched(self.looking, "q", self.clock)
        self.watch = Watch([self.watched], self.calls.numbers)

    def shows(self, number, runs=(), failures=(), ends=None, **fields):
        """Let a worker show itself."""
        now = int(self.clock.time() * 1000)
        usual = dict.fromkeys(WorkerName._fields, 0)
        usual.update(token=f"{number:016x}", time=now, state=WORKING, every=600)
        usual.update(started=1_700_000_000_000, slots=1, busy=1, process=number)
        name = WorkerName(**{**usual, "host": f"node{number}", "job": "", **fields})

        def show(workers):
            workers.show(self._names.get(number), name)
            workers.tell(name.token, Activity(tuple(runs), tuple(failures), ends))

        self.broker.with_workers("q", show)
        self._names[number] = name

    def observed(self):
        self.watched.observe()
        return self.watched.seen()

    def made(self):
        return sum(self.calls.numbers.values())


@pytest.fixture
def queue(tmp_path):
    return Queue(tmp_path / "mq")


def test_a_worker_knows_its_own_number_before_it_shows_it(queue):
    acked = 2
    own = Watched(queue.looking, "q", queue.clock, lambda: acked)
    watch = Watch([own], queue.calls.numbers)
    queue.shows(1, acked=5)
    queue.shows(2, acked=2, host=os.uname().nodename, process=os.getpid())
    assert watch.begin(raises=True)[0].done == 7
    acked = 30
    assert watch.refresh()[0].done == 35


def test_the_rate_now_is_that_of_the_last_minute(queue):
    queue.broker.publish_many("q", ["x"] * 400)
    queue.shows(1, acked=0)
    [found] = queue.watch.begin(raises=True)
    assert (found.lately.rate, found.overall, found.done_in) == (None, None, None)
    for second in range(10, 210, 10):
        queue.broker.ack(queue.broker.consume("q", 10 if second <= 100 else 20))
        queue.clock.advance(10)
        queue.shows(
            1, acked=400 - queue.broker.view("q")["q"].waiting, work=second * 1000
        )
        found = queue.observed()
    assert found.lately.rate == pytest.approx(2.0)
    assert found.overall == pytest.approx(1.5)
    queue.broker.consume("q")
    found = queue.observed()
    # 100 are still there, of which 2 a second were done of late; 1.5 by how long they took
    assert found.done_in == pytest.approx((100 / 2 / 1.1, 100 / 1.5 / 0.9), rel=0.03)
    queue.clock.advance(30)
    low, high = found.done_in
    assert queue.watched.seen().done_in == pytest.approx((low - 30, high - 30))


def test_an_estimate_needs_ten_messages_or_five_seconds(queue):
    queue.broker.publish_many("q", ["x"] * 400)
    queue.shows(1, slots=4, acked=0)
    queue.watch.begin(raises=True)
    held = queue.broker.consume("q", 20)
    estimates = []
    for seconds, number in ((1, 9), (1, 1), (1, 0)):
        queue.clock.advance(seconds)
        queue.broker.ack(held[:number])
        held = held[number:]
        estimates.append(queue.observed().done_in is not None)
    assert estimates == [False, True, True]
    queue.clock.advance(100)
    queue.observed()
    queue.clock.advance(4)
    queue.observed()
    queue.broker.ack(held[:1])
    queue.clock.advance(2)
    assert queue.observed().done_in is not None


def test_when_the_last_ones_are_done_is_not_said(queue):
    queue.broker.publish_many("q", ["a", "b"])
    queue.shows(1, slots=2, acked=0)
    queue.watch.begin(raises=True)
    queue.broker.consume("q", 2)
    queue.clock.advance(60)
    queue.shows(1, slots=2, acked=60, work=60_000)
    found = queue.observed()
    assert found.counts == (0, 2, 0, 0)
    assert (found.lately.rate, found.done_in) == (1.0, None)
    queue.broker.publish("q", "c")
    assert queue.observed().done_in is not None


def test_what_is_no_more_is_done_before_a_worker_says_so(queue):
    queue.broker.publish_many("q", ["x"] * 50)
    queue.shows(1, slots=4, acked=7)
    [found] = queue.watch.begin(raises=True)
    assert (found.published, found.done) == (57, 7)
    queue.broker.ack(queue.broker.consume("q", 20))
    queue.broker.consume("q", 9)
    found = queue.observed()
    assert (found.published, found.states) == (57, (27, 4, 5, 0, 21, 0, 0))
    queue.broker.publish_many("q", ["x"] * 10)
    queue.shows(1, slots=4, acked=27)
    found = queue.observed()
    assert (found.published, found.states) == (67, (27, 4, 5, 0, 31, 0, 0))


def test_done_never_decreases_when_a_worker_is_forgotten(queue):
    queue.broker.publish("q", "x")
    queue.shows(1, acked=36)
    assert queue.watch.begin(raises=True)[0].done == 36
    queue.broker.with_workers(
        "q", lambda each: os.unlink(f"{each._path}/{each._names()[0]}")
    )
    assert queue.observed().done == 36


def test_leases_that_no_live_worker_renews_do_not_run(queue):
    queue.broker.publish_many("q", ["x"] * 9)
    queue.broker.consume("q", 3)
    [found] = queue.watch.begin(raises=True)
    assert found.states == (0, 0, 0, 3, 6, 0, 0)
    queue.clock.advance(400)
    queue.shows(1, slots=2)
    queue.broker.consume("q", 4)
    assert queue.observed().states == (0, 2, 2, 3, 2, 0, 0)


def test_the_slowest_messages_are_those_of_busy_workers(queue):
    began = queue.clock.time()
    for number, ago in enumerate((30, 300, 60, 90)):
        queue.shows(number, runs=[Running(0, "a", began - ago, f"text {ago}")])
    [found] = queue.watch.begin(raises=True)
    assert [each.text for _, _, each in found.running] == [
        "text 300",
        "text 90",
        "text 60",
    ]
    assert found.running[0][0] == pytest.approx(300, abs=1)
    queue.shows(1, state=ENDED, busy=0)
    queue.shows(2, runs=[Running(0, "b", began, "new")])
    for _ in range(20):  # one worker after the other is read again
        queue.clock.advance(2)
        found = queue.observed()
    assert [each.text for _, _, each in found.running] == ["text 90", "text 30", "new"]


def test_the_latest_failures_are_shown_of_workers_that_are_idle_too(queue):
    now = queue.clock.time()
    for number, ago in enumerate((30, 3700, 60, 90, 4)):
        failure = Failure("a", now - ago, f"text {ago}", "exit 1")
        queue.shows(number, failures=[failure], failed=1, busy=number % 2)
    [found] = queue.watch.begin(raises=True)
    told = [each.text for _, _, each in found.failures]
    assert told == ["text 4", "text 30", "text 60"]
    assert found.failures[0][0] == pytest.approx(4, abs=1)
    queue.shows(4, state=ENDED, failed=1)
    told = [each.text for _, _, each in queue.observed().failures]
    assert told == ["text 30", "text 60", "text 90"]


def test_it_is_known_between_which_times_the_jobs_end(queue):
    now = queue.clock.time()
    for number, ends in enumerate((now + 900, now + 600, None)):
        queue.shows(number, runs=[Running(0, "a", now, "x")], ends=ends)
    [found] = queue.watch.begin(raises=True)
    assert found.ends_in == pytest.approx((600, 900), abs=1)
    queue.clock.advance(700)
    assert queue.observed().ends_in == pytest.approx((0, 200), abs=1)


@pytest.mark.parametrize("messages", [0, 400])
def test_a_refresh_makes_eight_calls_on_the_average(queue, messages):
    for number in range(messages):
        queue.broker.publish("q", f"{number}")
    for number in range(30):
        queue.shows(number, runs=[Running(0, "a", queue.clock.time(), "x")])
    queue.watch.begin(raises=True)
    before, each = queue.made(), []
    for _ in range(400):
        start = queue.made()
        queue.clock.advance(2)
        queue.watch.refresh()
        each.append(queue.made() - start)
    assert CALLS == 8
    assert queue.made() - before <= 400 * CALLS + FIRST_CALLS + max(each)
    assert min(each) == 0
    assert sum(map(bool, each)) > 400 * CALLS / max(each)  # each look costs as much


def test_a_queue_that_is_gone_is_told_and_the_last_numbers_stay(queue):
    queue.broker.publish("q", "x")
    queue.watch.begin(raises=True)
    queue.broker.delete_queue("q")
    for _ in range(20):
        queue.clock.advance(400)
        [found] = queue.watch.refresh()
    assert "no such queue" in found.trouble
    assert found.counts.waiting == 1
