"""What goes on in the next queue when a command succeeded: once, whoever dies when."""

from __future__ import annotations

import os
from itertools import count
from types import SimpleNamespace

import pytest
from hpc.inside import run
from support import Crash, crashing_before

from ddmq import Broker
from ddmq.holding.heartbeat import Heartbeat
from ddmq.hpc.journal import Journal
from ddmq.hpc.options import Next, WorkerOptions
from ddmq.hpc.results.manifest import manifest
from ddmq.hpc.running.execution import Ended, Execution
from ddmq.hpc.running.process import Outcome
from ddmq.hpc.settling import Settler
from ddmq.storage.filesystem import FileSystem

QUEUE, LINES = Next("queue", "next"), Next("lines", "next")
TWO_LINES = (
    'printf "%s\\n\\n%s\\r\\n" "$DDMQ_MESSAGE 1" "$DDMQ_MESSAGE 2" > "$DDMQ_OUTPUT"'
)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def broker(broker):
    broker.create_queue("next")
    return broker


def texts(broker, queue="next"):
    return [message.message for message in broker.consume(queue, 100)]


@pytest.mark.parametrize("options", [{"slots": 3}, {"batch": 4}])
def test_what_succeeded_waits_in_the_next_queue_and_is_done_here(
    root, broker, clock, options
):
    published = [str(n) for n in range(10)]
    broker.publish_many("q", published, durable=False)
    ids = [seen.id for seen in broker.contents("q")]
    summary = run(root, clock, "exit 0", on_success=QUEUE, **options)
    assert summary.numbers["acked"] == 10
    assert summary.numbers["moved"] == 0
    assert set(broker.status("q", ids).values()) == {"acked"}
    assert set(broker.status("next", ids).values()) == {"waiting"}
    assert sorted(texts(broker)) == published


def test_what_failed_stays_and_what_failed_before_goes_on_as_if_new(
    root, broker, clock, tmp_path
):
    broker.publish("q", "bad", requeue_limit=0)
    broker.publish("q", "at last", timeout=77)
    command = f'[ "$DDMQ_MESSAGE" != bad ] && {{ [ -e {tmp_path}/ran ] || ! touch {tmp_path}/ran; }}'
    run(root, clock, command, on_success=QUEUE, brake=False)
    assert [letter.message for letter in broker.dead("q")] == ["bad"]
    [message] = broker.consume("next")
    assert (message.message, message.requeue_counter, message.timeout) == (
        "at last",
        0,
        77,
    )


def test_a_result_is_kept_and_found_though_its_message_has_gone_on(
    root, broker, clock, out
):
    broker.publish("q", "x")
    options = {"output_dir": str(out), "output_name": "{}.txt", "on_success": QUEUE}
    run(root, clock, TWO_LINES, **options)
    [row] = manifest(f"{root}/q", str(out))
    assert (row.file, os.listdir(out / ".ddmq-names")) == ("x.txt", [])
    assert texts(broker) == ["x"]


def test_each_line_of_an_output_is_a_message_of_the_next_queue(
    root, broker, clock, out
):
    broker.publish_many("q", ["a", "b", "c"], durable=False)
    summary = run(root, clock, TWO_LINES, output_dir=str(out), on_success=LINES)
    assert summary.numbers["acked"] == 3
    assert sorted(texts(broker)) == ["a 1", "a 2", "b 1", "b 2", "c 1", "c 2"]
    assert len(list(out.iterdir())) == 4


@pytest.mark.parametrize("command", ["exit 0", 'echo > "$DDMQ_OUTPUT"'])
def test_an_output_without_lines_publishes_nothing(root, broker, clock, out, command):
    broker.publish("q", "x")
    summary = run(root, clock, command, output_dir=str(out), on_success=LINES)
    assert summary.numbers["acked"] == 1
    assert broker.is_empty("next")


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ('mkdir "$DDMQ_OUTPUT"', "is no file, and has no lines"),
        ('mkfifo "$DDMQ_OUTPUT"', "is neither a file nor a directory"),
        ('printf "fine\\n\\377\\n" > "$DDMQ_OUTPUT"', "is no text: it is not UTF-8"),
        (
            '{ echo fine; head -c 2000000 /dev/zero | tr "\\0" x; } > "$DDMQ_OUTPUT"',
            "its lines can't be published in next: ",
        ),
        (
            'echo fine > "$DDMQ_OUTPUT"; rm -r "$DDMQ_ROOT/next"',
            "its lines can't be published in next: ",
        ),
    ],
)
def test_what_has_no_lines_that_can_be_messages_has_failed(
    root, broker, clock, out, command, why
):
    broker.publish("q", "x", requeue_limit=0)
    run(root, clock, command, output_dir=str(out), on_success=LINES)
    [letter] = broker.dead("q")
    assert why in letter.reason
    if "rm -r" not in command:
        assert broker.is_empty("next")
    assert [each.name for each in out.iterdir()] == [".ddmq-unfinished"]


def test_what_can_not_go_on_has_failed_and_the_reason_says_so(root, broker, clock):
    broker.publish("q", "x", requeue_limit=0)
    run(root, clock, "rm -r $DDMQ_ROOT/next", on_success=QUEUE)
    [letter] = broker.dead("q")
    assert "it can't be moved: " in letter.reason
    assert "/next: no such queue" in letter.reason


# Whoever dies when


class Lab:
    """One message, whose runs end as a test says: with an output, and no process."""

    def __init__(self, root, clock, out, goes_on):
        self.root, self.clock = root, clock
        self.options = WorkerOptions(output_dir=str(out), on_success=goes_on)

    def settle(self, text, *, fs=None, before=lambda execution: None, status=0):
        """Consume the message, let its command write a text, and settle it."""
        broker = Broker(self.root, clock=self.clock, fs=fs)
        job = SimpleNamespace(
            host="node",
            id="",
            clock=self.clock,
            signals=None,
            journal=Journal(f"{self.root}/q", "node", self.clock, None),
        )
        heartbeat = Heartbeat(broker, self.clock)
        settler = Settler(broker, "q", heartbeat, options=self.options, job=job)
        [message] = Broker(self.root, clock=self.clock).consume("q")
        execution = Execution(message, 1, self.options)
        execution.command = Ran([execution], self.clock)
        with open(execution.output_path, "w") as output:
            output.write(text)
        settler.begin(execution)
        before(execution)
        settler.settle(Ended(execution, Outcome(status)))
        if fs is None:  # else it dies now, at the latest
            job.journal.flush(at_end=True)
            job.journal.close()
        return settler.numbers


class Ran:
    """A command that has ended."""

    def __init__(self, executions, clock):
        self.executions, self.started, self.duration = executions, clock.time(), 1.0
        self.timed_out = self.was_killed = False
        self.log = self.logged = ""

    def save(self):
        """Nothing was printed."""

    def tail(self):
        """Nothing was printed."""
        return ""

    def close(self, *, save):
        """Nothing was printed."""


@pytest.mark.deep
@pytest.mark.parametrize("goes_on", [QUEUE, LINES])
def test_a_worker_that_dies_at_any_moment_loses_and_doubles_nothing(
    tmp_path, clock, goes_on
):
    for n in count():
        root = tmp_path / str(n)
        broker = Broker(root, create=True, clock=clock)
        broker.create_queue("next")
        id_ = broker.publish("q", "text", durable=False)
        lab = Lab(root, clock, root / "out", goes_on)
        try:
            lab.settle("1\n2\n", fs=FileSystem(crashing_before(n)))
            break
        except Crash:
            clock.advance(4000)
        # What a key names is published by whoever tidies up, if nobody runs the message again.
        broker.clean("next")
        arrived = texts(broker)
        broker.clean("q")
        if broker.view("q")["q"].waiting:
            lab.settle("1\n2\n3\n")
            again = texts(broker)
            assert not (arrived and again)
            arrived += again
        if goes_on == QUEUE:
            assert arrived == ["text"]
        else:
            assert arrived in (["1", "2"], ["1", "2", "3"])
            assert (root / "out" / id_).exists()
        assert tuple(broker.view("q")["q"]) == (0, 0, 0, 0)
    assert n > 30
    assert texts(broker) == (["text"] if goes_on == QUEUE else ["1", "2"])


@pytest.mark.parametrize("goes_on", [None, QUEUE])
def test_a_worker_that_dies_at_any_moment_leaves_journals_that_are_right(
    tmp_path, clock, goes_on
):
    """What was acked is called acked; what was not and has died later is called dead."""
    seen = set()
    for n in count():
        root, out = tmp_path / str(n), tmp_path / str(n) / "out"
        broker = Broker(root, create=True, clock=clock)
        broker.create_queue("next")
        id_ = broker.publish("q", "text", durable=False, requeue_limit=1)
        lab = Lab(root, clock, out, goes_on)
        died = True
        try:
            lab.settle("result", fs=FileSystem(crashing_before(n)))
            died = False
        except Crash:
            clock.advance(4000)
        broker.clean("q")
        state = "acked"
        while broker.view("q")["q"].waiting:
            state = "dead"
            lab.settle("result", status=1)
        assert broker.status("q", id_) == {id_: state}
        [row] = manifest(f"{root}/q", str(out))
        assert (row.file, row.exit) == ((id_, 0) if state == "acked" else ("", 1))
        broker.purge("q")
        left = "acked" if state == "acked" else "unknown"
        assert broker.status("q", id_) == {id_: left}
        seen.add((died, state, len(list(root.glob("q/journal/*")))))
        if not died:
            break
    # It died before it wrote that it was about to ack, before it did, and after that.
    assert seen >= {(True, "dead", 1), (True, "dead", 2), (False, "acked", 1)}


def test_lines_that_are_there_before_their_result_is_kept_are_there_once(
    root, broker, clock, out
):
    def die(execution):
        def dying(*, sync):
            raise Crash(sync)

        execution.keep_result = dying

    lab = Lab(root, clock, out, LINES)
    id_ = broker.publish("q", "text")
    with pytest.raises(Crash):
        lab.settle("1\n2\n", before=die)
    clock.advance(700)
    assert lab.settle("other\n")["acked"] == 1
    assert texts(broker) == ["1", "2"]
    assert (out / id_).read_text() == "other\n"


@pytest.mark.parametrize("goes_on", [QUEUE, LINES])
def test_who_has_lost_the_lease_lets_nothing_go_on(root, broker, clock, out, goes_on):
    def lose(execution):
        clock.advance(700)
        broker.clean("q")
        broker.consume("q")

    broker.publish("q", "text")
    numbers = Lab(root, clock, out, goes_on).settle("1\n2\n", before=lose)
    assert (numbers["acked"], numbers["lost"]) == (0, 1)
    assert broker.is_empty("next")
