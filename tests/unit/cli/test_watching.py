"""Queues that are looked at again and again: what is known of them, and what it costs."""

from __future__ import annotations

import os

import pytest
from support import FakeClock

from ddmq import Activity, Broker, Failure, Running
from ddmq.cli.watching import CALLS_TO_COUNT, CALLS_TO_LOOK, Watch, Watched
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
    for number in range(100):
        queue.broker.publish("q", f"{number}")
    queue.shows(1, acked=0)
    [found] = queue.watch.begin(raises=True)
    assert (found.rate, found.overall, found.done_in) == (None, None, None)
    acked = 0
    for second in range(10, 210, 10):
        acked += 10 if second <= 100 else 20
        queue.clock.advance(10)
        queue.shows(1, acked=acked, work=second * 1000)
        queue.watch.refresh()
    queue.watched.count()
    found = queue.watched.seen()
    assert found.rate == pytest.approx(2.0)
    assert found.overall == pytest.approx(1.5)
    # 100 are still there, of which 2 a second were done of late; 1.5 by how long they took
    assert found.done_in == pytest.approx((100 / 2 / 1.1, 100 / 1.5 / 0.9), rel=0.02)


def test_when_the_last_ones_are_done_is_not_said(queue):
    queue.broker.publish_many("q", ["a", "b"])
    queue.shows(1, acked=0)
    queue.watch.begin(raises=True)
    queue.broker.consume("q", 2)
    queue.clock.advance(60)
    queue.shows(1, acked=60, work=60_000)
    queue.watched.look(lambda _: False)
    queue.watched.count()
    found = queue.watched.seen()
    assert found.counts == (0, 2, 0, 0)
    assert (found.rate, found.done_in) == (1.0, None)
    queue.broker.publish("q", "c")
    queue.watched.count()
    assert queue.watched.seen().done_in is not None


def test_what_was_done_since_the_last_count_waits_no_more(queue):
    for number in range(50):
        queue.broker.publish("q", f"{number}")
    queue.shows(1, acked=7)
    [found] = queue.watch.begin(raises=True)
    assert (found.done, found.counts.waiting) == (7, 50)
    queue.shows(1, acked=27)
    queue.watched.look(lambda _: False)
    assert (queue.watched.seen().done, queue.watched.seen().counts.waiting) == (27, 30)


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
        [found] = queue.watch.refresh()
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
    queue.watched.look(lambda _: False)
    told = [each.text for _, _, each in queue.watched.seen().failures]
    assert told == ["text 30", "text 60", "text 90"]


def test_it_is_known_between_which_times_the_jobs_end(queue):
    now = queue.clock.time()
    for number, ends in enumerate((now + 900, now + 600, None)):
        queue.shows(number, runs=[Running(0, "a", now, "x")], ends=ends)
    [found] = queue.watch.begin(raises=True)
    assert found.ends_in == pytest.approx((600, 900), abs=1)
    queue.clock.advance(700)
    assert queue.watched.seen().ends_in == pytest.approx((600, 900), abs=1)
    queue.watched.look(lambda _: False)
    assert queue.watched.seen().ends_in == pytest.approx((0, 200), abs=1)


@pytest.mark.parametrize("messages", [0, 400])
def test_a_refresh_makes_eight_calls_on_the_average(queue, messages):
    for number in range(messages):
        queue.broker.publish("q", f"{number}")
    for number in range(30):
        queue.shows(number, runs=[Running(0, "a", queue.clock.time(), "x")])
    queue.watch.begin(raises=True)
    queue.clock.advance(2)
    before, each = queue.made(), []
    queue.watched.count()
    of_count, before = queue.made() - before, queue.made()
    for _ in range(200):
        start = queue.made()
        queue.clock.advance(2)
        queue.watch.refresh()
        each.append(queue.made() - start)
    most = CALLS_TO_LOOK + CALLS_TO_COUNT
    assert most == 8
    assert queue.made() - before <= 200 * most + of_count
    assert sum(number > most for number in each) <= 200 * CALLS_TO_COUNT / of_count + 1
    assert max(each) > most  # it was counted again
    assert min(each) >= 3  # and the workers are looked at each time


def test_a_queue_that_is_gone_is_told_and_the_last_numbers_stay(queue):
    queue.broker.publish("q", "x")
    queue.watch.begin(raises=True)
    queue.broker.delete_queue("q")
    for _ in range(20):
        queue.clock.advance(400)
        [found] = queue.watch.refresh()
    assert "no such queue" in found.trouble
    assert found.counts.waiting == 1
