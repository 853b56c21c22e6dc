"""Queues that are shown again and again: what is said of them, and what it costs."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import FakeClock

import ddmq
from ddmq import Activity, Broker, Failure, Running, WorkerSeen
from ddmq.cli.commands.watch import (
    CALLS_TO_COUNT,
    CALLS_TO_LOOK,
    Screen,
    Seen,
    Watch,
    Watched,
    bar,
    between,
    cut,
    done_within,
    line,
    panel,
)
from ddmq.message import Counts
from ddmq.storage.filesystem import CountedCalls, FileSystem
from ddmq.storage.workers import ENDED, WORKING, WorkerName

CODE = "import sys; from ddmq.cli.main import main; sys.exit(main())"
MINUTE, HOUR = 60, 3600


def worker(**fields):
    usual = dict.fromkeys(WorkerSeen._fields, 0)
    usual.update(host="node11", process=5, job="", state="working", slots=16, busy=15)
    usual.update(running=(), failures=(), ends=None)
    return WorkerSeen(**{**usual, **fields})


def seen(**fields):
    usual = Seen(
        root="/scratch/mq",
        name="jobs",
        counts=Counts(waiting=1700, work=96, delayed=0, dead=4),
        done=3200,
        counted=0.0,
        paused="",
        workers=[worker()],
        running=[],
        rate=None,
        overall=None,
        done_in=None,
        failures=[],
        ends_in=None,
    )
    return usual._replace(**fields)


# Text from numbers


def test_a_panel_says_how_far_how_fast_and_who():
    runs = [(12.2 * MINUTE, worker(), Running(3, "a1", 0.0, "sample 18", "40%"))]
    failure = Failure("a2", 0.0, "sample 7", "exit 1: no such file")
    workers = [worker(), worker(state="draining", busy=1), worker(state="lost")]
    found = seen(
        workers=workers,
        running=runs,
        failures=[(600, worker(), failure)],
        ends_in=(600, 900),
        rate=41 / 60,
        overall=0.5,
        done_in=(1500, 2400),
    )
    assert panel(found, 99, is_coloured=False) == [
        "jobs: 3,200 done, 96 at work, 1,700 waiting, 0 delayed, 4 dead",
        "[" + "#" * 62 + "=" + "." * 33 + "x]",
        "  41 messages a minute now, 30 messages a minute overall, done in 25 to 40 min",
        "  workers: 1 working, 1 draining, 1 lost; 16 of 32 slots busy; jobs end in 10 to 15 min",
        "  12 minutes  node11 slot 3  sample 18 (40%)",
        "  failed 10 minutes ago  node11  sample 7: exit 1: no such file",
        "  why messages are dead: `ddmq dead /scratch/mq jobs`",
    ]


def test_where_messages_wait_and_nobody_works_it_says_what_to_do():
    gone = [worker(state="lost", age=720.0), worker(state="ended", age=9000.0)]
    submit = "submit some (`ddmq-submit … /scratch/mq jobs …`)"
    told = line(seen(workers=gone))
    assert f"No worker has been seen for 12 minutes: {submit}" in told
    assert f"No worker has been seen: {submit}" in line(seen(workers=[]))
    for nothing_to_do in (seen(), seen(workers=gone, counts=Counts(0, 0, 0, 4))):
        assert "No worker" not in line(nothing_to_do)


def test_nothing_is_said_of_what_is_not_known():
    assert "how fast it goes is not known yet" in line(seen())
    idle = seen(workers=[worker(state="idle", busy=0)], counts=Counts(0, 0, 0, 0))
    assert line(idle).endswith("0 dead; workers: 1 idle; 0 of 16 slots busy")
    assert line(seen(counts=None, workers=[], trouble="away")) == (
        "jobs: not counted yet; away"
    )
    assert "(counted 5 minutes ago)" in line(seen(counted=300.0))
    assert "counted" not in line(seen(counted=20.0))


def test_what_others_wrote_is_not_obeyed():
    evil = worker(host="evil\x1b[2J", state="working")
    runs = [(20.0, evil, Running(3, "a1", 0.0, "x\n\x9b1A"))]
    told = seen(workers=[evil], running=runs, trouble="\x1b", paused="by \x1b]0;")
    text = "".join(panel(told, 200, is_coloured=False)) + line(told)
    assert not re.search(r"[\x00-\x1f\x80-\x9f]", text)
    assert "evil\\x1b[2J slot 3  x\\n\\x9b1A" in text


@given(st.lists(st.integers(0, 10**7), min_size=5, max_size=5), st.integers(5, 300))
def test_a_bar_has_its_width_and_shows_every_part(parts, width):
    shown = bar(parts, width, is_coloured=False)
    assert len(shown) == width + 2
    for part, char in zip(parts, "#=.~x"):
        assert (char in shown) == (part > 0)
    coloured = bar(parts, width, is_coloured=True)
    assert re.sub(r"\x1b\[\d+m", "", coloured) == shown
    assert coloured.count("\x1b") == 2 * sum(part > 0 for part in parts)


@given(st.integers(1, 120))
def test_no_line_is_wider_than_the_terminal(columns):
    runs = [(20.0, worker(), Running(3, "a1", 0.0, "測試 " * 90))]
    for shown in panel(seen(running=runs), columns, is_coloured=False):
        assert len(shown) <= columns


def test_a_character_that_takes_two_columns_is_not_cut_in_halves():
    assert cut("a測試", 3) == "a測"
    assert cut("a測試", 4) == "a測"
    assert cut("a測試", 5) == "a測試"


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (25 * MINUTE, 40 * MINUTE, "in 25 to 40 min"),
        (25 * MINUTE, 25.2 * MINUTE, "in about 25 min"),
        (50 * MINUTE, 3 * HOUR, "in 50 min to 3 h"),
        (0.1, 4, "in 1 to 4 s"),
        (30 * HOUR, 100 * HOUR, "in 30 h to 4 days"),
    ],
)
def test_a_time_is_told_as_a_range(low, high, said):
    assert between(low, high) == said


def test_the_range_is_wider_the_fewer_messages_tell_it():
    assert done_within(100, [(1.0, 10**6)]) == pytest.approx((90.9, 111.1), abs=0.1)
    assert done_within(100, [(1.0, 4)]) == pytest.approx((66.7, 200), abs=0.1)
    both = done_within(100, [(1.0, 10**6), (2.0, 10**6)])
    assert both == pytest.approx((45.5, 111.1), abs=0.1)


def test_without_enough_messages_nobody_knows_when_it_is_done():
    assert done_within(100, [(1.0, 3), (None, 0), (0.0, 50)]) is None
    assert done_within(0, [(1.0, 50)]) is None


# Looking


class Queue:
    """A queue `q` with workers that show themselves, and who watches it."""

    def __init__(self, root):
        self.clock = FakeClock()
        self.broker = Broker(root, create=True, clock=self.clock, bucket_size=10)
        self.broker.create_queue("q")
        self._names = {}
        self.calls = CountedCalls()
        fs = FileSystem(self.calls)
        looking = Broker(root, clean=False, clock=self.clock, fs=fs)
        self.watched = Watched(looking, "q", self.clock)
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


# Showing


def test_without_a_terminal_it_is_one_line_for_each_queue(clock):
    out = io.TextIOWrapper(io.BytesIO())
    Screen(out, clock, {}).show([seen(), seen(name="other")])
    lines = out.buffer.getvalue().decode().splitlines()
    assert [each.split()[2] for each in lines] == ["jobs:", "other:"]
    assert "\x1b" not in "".join(lines)


def test_programs_and_times_that_are_none_are_refused(sh, root):
    request = json.dumps({"cmd": "view", "root": str(root), "watch": 1})
    assert "--watch is for people" in sh("json", request)[1]
    assert "for people" in sh.wrong("view", root, "--watch", "--format", "json")
    assert "must be positive" in sh.wrong("view", root, "--watch=-1")
    assert "no such queue" in sh.error("view", root, "nix", "-w")


class Terminal:
    """A terminal with `ddmq view --watch` in it."""

    def __init__(self, root, *options, columns=60, rows=24, **environ):
        self.leader, self._follower = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self._follower)
        self.drawn = ""
        path = str(Path(ddmq.__file__).parent.parent)
        usual = {**os.environ, "PYTHONPATH": path, "TERM": "xterm"}
        usual.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE, "view", str(root), *options],
            stdin=self._follower,
            stdout=self._follower,
            stderr=self._follower,
            env={**usual, **environ},
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.leader)
        os.close(self._follower)

    def resize(self, columns, rows=24):
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._follower, termios.TIOCSWINSZ, size)

    def shows(self, pattern):
        """Read until something is drawn that was not drawn before; forget what is before it."""
        end = time.monotonic() + 60
        os.set_blocking(self.leader, False)
        while not (found := re.search(pattern, self.drawn)):
            assert time.monotonic() < end, self.drawn
            try:
                self.drawn += os.read(self.leader, 9999).decode(errors="replace")
            except BlockingIOError:
                time.sleep(0.01)
        self.drawn = self.drawn[found.end() :]
        return found

    def ended_by(self, number):
        """Send a signal; return the status of the process and the last that it drew."""
        self.process.send_signal(number)
        status = self.process.wait(60)
        last = self.shows(r"(?s).*\x1b\[0m\x1b\[\?25h\x1b\[J")[0]
        assert termios.tcgetattr(self._follower) == self.before
        return status, last


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
)
def test_a_terminal_is_left_as_it_was(root, sh, number):
    with Terminal(root, "-w", "0.05") as terminal:
        terminal.shows(r"testmq: 0 done")
        terminal.shows(r"\x1b\[J\x1b\[\?25h")
        status, last = terminal.ended_by(number)
        assert status == (0 if number == signal.SIGINT else -number)
        assert last.rfind("\x1b[?25h") > last.rfind("\x1b[?25l")
        assert "Traceback" not in last


def test_it_is_drawn_in_place_in_the_width_of_the_terminal(root, sh):
    sh.ok("publish", root, "testmq", "x")
    with Terminal(root, "testmq", "--watch", "0.05", columns=50) as terminal:
        drawn = terminal.shows(r"(?s)\x1b\[\?25l(.*?)\x1b\[J")[1]
        first = re.sub(r"\x1b\[[0-9;]*[mK]|\r", "", drawn).split("\n")[:-1]
        assert first[0] == "testmq: 0 done, 0 at work, 1 waiting, 0 delayed, "
        assert first[1] == f"[{'.' * 47}]"
        assert "\x1b[37m" in drawn
        assert all(len(each) <= 49 for each in first)
        terminal.shows(rf"\x1b\[{len(first)}A\r.*testmq")
        sh.ok("publish", root, "testmq", "y")
        terminal.shows("2 waiting")
        terminal.resize(30)
        terminal.shows(
            r"\x1b\[6A\r"
        )  # 49 columns were two lines each, as wide as it is now
        terminal.shows(rf"\r\[.*{re.escape('.' * 27)}.*\]")


def test_a_terminal_that_wants_no_colour_gets_none(root, sh):
    with Terminal(root, "-w", "0.05", NO_COLOR="1") as terminal:
        drawn = terminal.shows(r"(?s)\x1b\[\?25l(.*?)\x1b\[J")[1]
        assert not re.search(r"\x1b\[\d+m", drawn)
