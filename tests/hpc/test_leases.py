"""Whose lease it is, while commands run, results are synced, and a scheduler ends a job."""

from __future__ import annotations

import errno
import os
import signal
import threading

import pytest
from hpc.inside import Hurried, run, worker
from support import Calls

from ddmq import Broker
from ddmq.clock import Clock
from ddmq.hpc.options import Next
from ddmq.hpc.results.result import UNFINISHED
from ddmq.hpc.signals import Signals
from ddmq.storage.filesystem import FileSystem

pytestmark = pytest.mark.usefixtures("patience")


def leases(root):
    return os.listdir(root / "q" / "work")


def token(name):
    return name.removesuffix(".line").rpartition(".")[2]


# A lease that was lost comes back to the worker that lost it


class Lines:
    """What happens at the waits of a worker, step by step: each goes on when it returns True."""

    def __init__(self, *steps):
        self._steps = list(steps)

    def __call__(self):
        while self._steps and self._steps[0]():
            self._steps.pop(0)

    def assert_done(self):
        assert self._steps == []


def test_a_message_that_comes_back_while_it_runs_is_not_started_again(
    root, broker, clock, here
):
    id_ = broker.publish("q", "a")
    os.mkfifo("go")
    seen = []

    def taken_away():
        if here.joinpath("runs").exists():
            seen.extend(leases(root))
            broker.release(broker.leased("q", id_))
        return bool(seen)

    def came_back():
        now = leases(root)
        if now and token(now[0]) != token(seen[0]):
            os.close(os.open("go", os.O_WRONLY))
            return True
        return False

    lines = Lines(taken_away, came_back)
    script = "echo x >> runs; : < go"
    summary = run(root, clock, script, step=lines, slots=2)
    lines.assert_done()
    assert here.joinpath("runs").read_text() == "x\n"
    assert (summary.numbers["acked"], summary.numbers["lost"]) == (1, 0)
    assert broker.view("q")["q"] == (0, 0, 0, 0)


def test_a_run_that_is_killed_for_its_lease_fails_nothing_when_it_comes_back(
    root, broker, clock, here
):
    broker.publish("q", "a", requeue_limit=1)
    asked, kills = [], []

    def over():
        if not here.joinpath("runs").exists():
            return False
        [command] = asked[0]._slots.running
        kills.append(command.kill)
        command.kill = lambda: None  # it hangs in the kernel, for a while
        clock.advance(601)  # as if the worker had been suspended
        return True

    def came_back():
        [command] = asked[0]._slots.running
        [execution] = command.executions
        if command.was_killed and not execution.lost:
            kills[0]()
            return True
        return False

    script = "echo x >> runs; [ $(wc -l < runs) = 2 ] || exec sleep 100"
    lines = Lines(over, came_back)
    with Hurried(clock, lines) as signals:
        mine = Broker(root, clock=clock)
        asked.append(worker(mine, root, signals, clock, script, slots=2))
        summary = asked[0].run()
    lines.assert_done()
    assert here.joinpath("runs").read_text() == "x\n" * 2
    assert summary.numbers == {
        **dict.fromkeys(("failed", "moved", "lost"), 0),
        "acked": 1,
        "released": 1,
    }
    assert broker.view("q")["q"] == (0, 0, 0, 0)


@pytest.mark.parametrize("verb", ["ack", "nack"])
def test_what_is_owed_is_settled_with_the_lease_that_came_back(
    root, broker, clock, here, refusing, verb
):
    id_ = broker.publish("q", "a", requeue_limit=0)
    status, call = (0, "unlink") if verb == "ack" else (1, "rename")
    where = {"unlink": "/work/", "rename": "/work/"}[call]
    fs = refusing(call, errno.EIO, where, times=1)

    def taken_away():
        if not here.joinpath("ended").exists() or not owes(summary_of[0]):
            return False
        broker.release(broker.leased("q", id_))
        return True

    summary_of = []
    script = f"echo x >> runs; : > ended; exit {status}"
    lines = Lines(taken_away)
    with Hurried(clock, lines) as signals:
        mine = worker(
            Broker(root, clock=clock, fs=fs), root, signals, clock, script, slots=2
        )
        summary_of.append(mine)
        summary = mine.run()
    lines.assert_done()
    assert here.joinpath("runs").read_text() == "x\n"
    assert summary.numbers["lost"] == 0
    assert summary.numbers["acked" if verb == "ack" else "failed"] == 1
    assert broker.view("q")["q"] == (0, 0, 0, verb == "nack")


def owes(worker):
    return worker._settler.due_in() is not None


# Heartbeats go on whatever the main thread does


def test_a_lease_is_renewed_while_its_result_is_synced(root, here, monkeypatch):
    clock = Clock()
    broker = Broker(root, create=True)
    broker.publish("q", "a", timeout=1)
    sync, synced = os.fsync, []

    def slow(descriptor):
        if UNFINISHED in os.readlink(f"/proc/self/fd/{descriptor}"):
            began = leases(root)
            while len(synced) < 3:  # three more renewals, so longer than the lease
                if leases(root) != began:
                    began = leases(root)
                    synced.append(began)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    with Signals(clock) as signals:
        mine = Broker(root, clock=clock)
        script = "echo result > $DDMQ_OUTPUT"
        out = {"output_dir": "out"}
        summary = worker(mine, root, signals, clock, script, **out).run()
    assert (len(synced), summary.numbers["acked"]) == (3, 1)
    assert broker.view("q")["q"] == (0, 0, 0, 0)


# A reply that was lost


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOENT, errno.ETIMEDOUT])
@pytest.mark.parametrize("output", [{}, {"output_dir": "out"}])
@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("number", [1, 20])
def test_an_ack_that_was_done_but_whose_reply_was_lost_is_none_lost(
    root, broker, clock, here, refusing, code, output, written, number
):
    broker.publish_many("q", ["a"] * number)
    fs = refusing("unlink", code, "/work/", times=1, done=True)
    script = "echo result > ${DDMQ_OUTPUT-/dev/null}" if written else "true"
    summary = run(root, clock, script, fs=fs, **output)
    assert (summary.numbers["acked"], summary.numbers["lost"]) == (number, 0)
    if output:
        assert len(os.listdir("out")) == 1 + number * written


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOENT, errno.ETIMEDOUT])
@pytest.mark.parametrize("number", [1, 20])
@pytest.mark.parametrize(
    ("command", "counted", "options"),
    [
        ("exit 0", "acked", {"on_success": Next("queue", "next")}),
        ("exit 7", "moved", {"on_exit": {7: "next"}}),
    ],
)
def test_a_move_that_was_done_but_whose_reply_was_lost_is_none_lost(
    root, broker, clock, refusing, code, number, command, counted, options
):
    broker.create_queue("next")
    published = [str(n) for n in range(number)]
    broker.publish_many("q", published)
    renames = {1: "/q/work/", 20: ".detached"}
    fs = refusing("rename", code, renames[number], times=1, done=True)
    summary = run(root, clock, command, fs=fs, brake=False, **options)
    assert (summary.numbers[counted], summary.numbers["lost"]) == (number, 0)
    assert sorted(m.message for m in broker.consume("next", 20)) == sorted(published)
    assert broker.is_empty("q")


@pytest.mark.parametrize(("status", "counted"), [(1, 1), (75, 0)])
def test_what_was_done_but_whose_reply_was_lost_counts_once(
    root, broker, clock, here, refusing, status, counted
):
    broker.publish("q", "a", requeue_limit=2)
    fs = refusing("rename", errno.EIO, "/work/", times=1, done=True)
    script = f"echo x >> runs; [ $(wc -l < runs) != 1 ] || exit {status}; exit 1"
    summary = run(root, clock, script, fs=fs, backoff=(0.0,))
    assert here.joinpath("runs").read_text() == "x\n" * (4 - counted)
    assert [letter.failures for letter in broker.dead("q")] == [3]
    assert (summary.numbers["failed"], summary.numbers["lost"]) == (1, 0)
    assert summary.numbers["released"] == 1 - counted


@pytest.mark.parametrize("status", [0, 1])
def test_the_lease_of_what_is_owed_is_kept_alive(
    root, broker, clock, here, refusing, status
):
    broker.publish("q", "a", requeue_limit=0)
    call = "rename" if status else "unlink"
    fs = refusing(call, errno.EIO, "/work/", times=1)
    asked, seen = [], []

    def renewed():
        if not owes(asked[0]):
            return False
        seen.extend(leases(root))
        clock.advance(201)
        asked[0]._heartbeat.beat()
        seen.extend(leases(root))
        return True

    with Hurried(clock, Lines(renewed)) as signals:
        mine = Broker(root, clock=clock, fs=fs)
        asked.append(worker(mine, root, signals, clock, f"exit {status}"))
        summary = asked[0].run()
    assert token(seen[0]) == token(seen[1])
    assert seen[0] < seen[1]
    assert summary.numbers["lost"] == 0


def test_an_ack_in_doubt_is_not_lost_by_a_renewal_meanwhile(
    root, broker, clock, here, refusing, caplog
):
    broker.publish("q", "a")
    fs = refusing("unlink", errno.EIO, "/work/", times=1, done=True)
    asked = []

    def renewed():
        if owes(asked[0]):
            clock.advance(201)
            asked[0]._heartbeat.beat()
            return True
        return False

    lines = Lines(renewed)
    with Hurried(clock, lines) as signals:
        mine = Broker(root, clock=clock, fs=fs)
        asked.append(
            worker(
                mine, root, signals, clock, "echo x > $DDMQ_OUTPUT", output_dir="out"
            )
        )
        summary = asked[0].run()
    lines.assert_done()
    assert (summary.numbers["acked"], summary.numbers["lost"]) == (1, 0)
    assert "is lost" not in caplog.text


# A scheduler that signals the commands first


def drained_when(signals, claim):
    """Return a step that asks for a drain once something is so."""

    def step():
        if claim():
            signals.drain_requested = True

    return step


@pytest.fixture
def ended(root, broker, clock, here):
    """Run what a line of shell says of each message; drain or not when the first has ended."""

    def ended(texts, *, drain, others=lambda: None, **options):
        for text in texts:
            broker.publish("q", text, requeue_limit=0)
        with Hurried(clock) as signals:
            mine = Broker(root, clock=clock)
            made = worker(mine, root, signals, clock, 'eval "$0"', **options)

            def step():
                others()
                if made._suspects.held:
                    doubts.append([e.duration for e, _ in made._suspects.held])
                    if drain == len(made._suspects.held):
                        os.kill(os.getpid(), signal.SIGTERM)

            signals.step, doubts = step, []
            if drain:
                signals.pace = 0  # the half second is long enough for all
            return made.run(), doubts

    return ended


SIGNALLED = ["kill -TERM $$", "kill -INT $$", "kill -USR1 $$", "exit 143", "exit 140"]


@pytest.mark.parametrize("text", SIGNALLED)
def test_what_a_signal_ended_before_ours_came_is_given_back(root, broker, ended, text):
    summary, _ = ended([text, "echo x > never"], drain=1)
    assert (summary.numbers["released"], summary.numbers["failed"]) == (1, 0)
    messages = broker.consume("q", 2)
    assert [(m.message, m.failures) for m in messages] == [
        (text, 0),
        ("echo x > never", 0),
    ]
    assert not os.path.exists("never")


@pytest.mark.parametrize("text", SIGNALLED)
def test_what_a_signal_ended_alone_has_failed(broker, ended, clock, text):
    summary, doubts = ended([text, "exit 0"], drain=0)
    assert 5 <= len(doubts) <= 20  # half a second, which is not the command's
    assert doubts == doubts[:1] * len(doubts)
    assert (summary.numbers["acked"], summary.numbers["failed"]) == (1, 1)
    [letter] = broker.dead("q")
    assert letter.message == text


def test_what_fails_just_then_is_given_back_too(here, broker, ended):
    for name in "ab":
        os.mkfifo(name)
    wrapped = ": < a; exit 1"  # because a child of its own was ended
    summary, doubts = ended(
        ["kill -TERM $$; exit", ": > a; kill -TERM $$", wrapped], drain=3, slots=3
    )
    assert (summary.numbers["released"], summary.numbers["failed"]) == (3, 0)
    assert len(doubts[-1]) == 3


@pytest.mark.parametrize("text", ["exit 1", "kill -KILL $$", "exit 75", "exit 0"])
def test_what_no_such_signal_ended_is_settled_at_once(ended, text):
    summary, doubts = ended([text], drain=0)
    assert (doubts, summary.stopped) == ([], "")


def test_what_is_given_back_waits_for_nobody_who_still_ends(root, broker, ended, clock):
    os.mkfifo("go")

    def back():
        if broker.view("q")["q"].waiting:
            os.close(os.open("go", os.O_WRONLY))
            return True
        return False

    slow = "trap '' TERM; : > ready; : < go"
    first = "until [ -e ready ]; do :; done; kill -TERM $$"
    lines = Lines(back)
    summary, _ = ended([first, slow], drain=1, slots=2, others=lines)
    lines.assert_done()
    assert (summary.numbers["acked"], summary.numbers["released"]) == (1, 1)


def test_a_command_that_we_asked_to_end_ourselves_does_not_wait(broker, ended):
    summary, doubts = ended(["exec sleep 100"], drain=0, timeout=1)
    assert (doubts, summary.numbers["failed"]) == ([], 1)


# Taking ahead

SHORT = [0.1] * 20


def test_short_messages_are_taken_for_two_seconds_at_once(
    root, broker, clock, monkeypatch
):
    broker.publish_many("q", list(map(str, range(60))))
    asked, consume = [], broker.consume

    def consumed(queue, n=1, **options):
        asked.append(n)
        return consume(queue, n, **options)

    monkeypatch.setattr(broker, "consume", consumed)
    with Hurried(clock, pace=0.01) as signals:
        summary = worker(broker, root, signals, clock, "true", SHORT, slots=2).run()
    assert summary.numbers["acked"] == 60
    assert asked[0] == 2 + 2 * 20
    assert len(asked) < 10


def test_a_worker_takes_no_more_ahead_than_it_may_start(root, broker, clock):
    broker.publish_many("q", list(map(str, range(60))))
    most = {"slots": 2, "max_messages": 5}
    with Hurried(clock, pace=0.01) as signals:
        summary = worker(broker, root, signals, clock, "true", SHORT, **most).run()
    assert summary.numbers["acked"] == 5
    assert broker.view("q")["q"][:2] == (55, 0)


def test_what_waits_for_a_slot_is_given_back_as_if_it_was_never_taken(
    root, broker, clock
):
    broker.publish_many("q", list(map(str, range(40))))

    def step():
        if broker.view("q")["q"].work == 21:
            os.kill(os.getpid(), signal.SIGTERM)

    with Hurried(clock, step, pace=0.01) as signals:
        command = "exec sleep 600"
        summary = worker(broker, root, signals, clock, command, SHORT, slots=1).run()
    assert summary.numbers["released"] == 1  # the one that ran
    messages = broker.consume("q", 50)
    assert sorted(int(message.message) for message in messages) == list(range(40))
    assert {(message.failures, message.losses) for message in messages} == {(0, 0)}


def test_what_finds_no_slot_for_long_is_given_back_for_others(root, broker, clock):
    broker.publish_many("q", list(map(str, range(40))))
    seen = []

    def step():
        seen.append(broker.view("q")["q"].work)
        if seen[0] == 21 and seen[-1] == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with Hurried(clock, step, pace=1) as signals:
        command = "exec sleep 600"
        worker(broker, root, signals, clock, command, SHORT, slots=1).run()
    assert 10 <= seen.count(21) <= 13


def test_what_was_lost_before_its_start_is_kept_from_nobody(
    root, broker, clock, monkeypatch
):
    """A renewal may hang, and come through after the worker has given the message up."""
    broker.publish("q", "a", timeout=6)
    second, began = broker.publish("q", "b", timeout=6), clock.monotonic() + 2
    monkeypatch.setattr("ddmq.holding.heartbeat._PATIENCE", 0.01)
    hung, comes_through = threading.Event(), threading.Event()

    def maybe_hang(_, name, function, arguments):
        if (
            name == "rename"
            and f".{second}." in arguments[0]
            and clock.monotonic() > began
        ):
            hung.set()
            assert comes_through.wait(30)
        return function(*arguments)

    files = FileSystem(Calls(maybe_hang))
    ours = Broker(root, clock=clock, clean=False, fs=files)  # nobody takes it meanwhile
    steps = Lines(
        lambda: broker.view("q")["q"].work == 2 and (clock.advance(2.5) or True),
        lambda: mine._heartbeat._rouse() or True,
        lambda: hung.is_set() and (clock.advance(4) or True),
        lambda: not mine._supply._ahead and (comes_through.set() or True),
        lambda: not any(each.busy for each in mine._heartbeat._held.values()),
        lambda: os.kill(os.getpid(), signal.SIGTERM) or True,
    )
    with Hurried(clock, steps, pace=0.001) as signals:
        how = {"slots": 1, "until": "forever"}
        mine = worker(ours, root, signals, clock, "exec sleep 600", SHORT, **how)
        mine.run()
    steps.assert_done()
    assert mine._heartbeat.over_in() is None


@pytest.mark.parametrize("done", [False, True], ids=["refused", "reply lost"])
@pytest.mark.parametrize("number", [1, 20])
@pytest.mark.parametrize(
    ("texts", "counted"), [("x\0y", "failed"), ("x", "cancelled"), ("x", "released")]
)
def test_what_was_not_run_is_settled_when_the_file_system_is_back(
    root, broker, clock, refusing, texts, counted, number, done
):
    """It is not left leased; nothing is counted as lost."""
    broker.publish_many("q", [texts] * number)
    fs = refusing("rename", errno.EIO, "/q/work/", times=1, done=done)
    messages = broker.consume("q", number)
    with Hurried(clock) as signals:
        mine = Broker(root, clock=clock, fs=fs)
        settler = worker(mine, root, signals, clock, "true")._settler
        for message in messages:
            if counted == "failed":
                settler.reject(message, "it can't be run")
            elif counted == "cancelled":
                settler.cancel(message)
            else:
                settler.give_back(message)
        assert settler.due_in() is not None
        clock.advance(2)
        settler.retry()
        assert settler.due_in() is None
    assert settler.numbers[counted] == number
    is_back = counted == "released"
    states = (number * is_back, 0, 0, number * (not is_back))
    assert broker.view("q")["q"] == states
    assert broker.is_empty("q") != is_back


def test_a_message_that_can_not_be_run_is_rejected_though_the_first_try_fails(
    root, broker, clock, refusing
):
    id_ = broker.publish("q", "x\0y")
    fs = refusing("rename", errno.EIO, "/q/work/", times=1)
    summary = run(root, clock, ["echo", "{}"], fs=fs)
    assert summary.numbers["failed"] == 1
    assert broker.status("q", id_) == {id_: "dead"}
