"""Commands that stay: one message after the other, each answered, whatever the command does."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter

import pytest
from hpc.inside import Hurried, run, worker

from ddmq import Broker
from ddmq.hpc import journal

#: A command whose messages say what it does. It notes its process and the message of each.
COMMAND = """
import json, os, signal, sys, time
replies = open(int(os.environ["DDMQ_REPLY_FD"]), "w")
def say(**answer):
    print(json.dumps(answer), file=replies, flush=True)
for line in sys.stdin:
    told = json.loads(line)
    text, id_ = told["message"], told["id"]
    with open("runs", "a") as runs:
        print(os.getpid(), text[:20], file=runs)
    what, _, why = text.partition(":")
    if what in ("nack", "release", "reject"):
        say(id=id_, **{what: True, "reason": why})
    elif what == "die":
        os._exit(3)
    elif what == "end":
        sys.exit()
    elif what == "wrong":
        say(id="another", ack=True)
    elif what == "two":
        say(id=id_, ack=True, nack=True)
    elif what == "none":
        say(id=id_)
    elif what == "garbage":
        print("no json", file=replies, flush=True)
    elif what == "endless":
        print("x" * 100_000, end="", file=replies, flush=True)
        time.sleep(1000)
    elif what == "silent":
        time.sleep(1000)
    elif what == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    elif what == "polite":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        time.sleep(1000)
    elif what == "hang up":
        replies.close()
        time.sleep(1000)
    else:
        if what == "result":
            open(told["output"], "w").write(why)
        print("out", text[:20], flush=True)
        print("err", text[:20], file=sys.stderr, flush=True)
        if what == "ack and say more":  # both at once
            replies.write(json.dumps({"id": id_, "ack": True}) + "\\n")
        say(id=id_, ack=True)
        if what == "ack and leave":
            time.sleep(0.05)
            sys.exit()
if os.path.exists("tell"):
    open("ended", "a").write("x")
if os.path.exists("stay deaf"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)
if os.path.exists("stay"):
    def asked(*_):
        open("signalled", "w").close()
        os._exit(0)
    signal.signal(signal.SIGTERM, asked)
    time.sleep(1000)
"""


pytestmark = pytest.mark.usefixtures("here", "patience")


@pytest.fixture
def work(root, broker, clock):
    """Return a function that lets a worker work on some messages; it returns the summary."""

    def work(*texts, **options):
        for text in texts:
            broker.publish("q", text, requeue_limit=0)
        options = {"persistent": True, "brake": False, **options}
        return run(root, clock, [sys.executable, "-c", COMMAND], **options)

    return work


def runs():
    """Return the process and the message of each run, in order."""
    with open("runs") as lines:
        return [line.rstrip("\n").split(" ", 1) for line in lines]


def processes():
    return len({pid for pid, _ in runs()})


def reasons(broker):
    return {letter.message: letter.reason for letter in broker.dead("q")}


def test_one_process_gets_one_message_after_the_other(work, broker, root):
    summary = work(*"abc")
    assert summary.numbers["acked"] == 3
    assert [text for _, text in runs()] == list("abc")
    assert processes() == 1
    assert [run.result for run in journal.read(f"{root}/q")] == ["acked"] * 3


def test_each_slot_has_its_process(work):
    assert work(*map(str, range(20)), slots=3).numbers["acked"] == 20
    assert processes() <= 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nack:it is bad", "it is bad on node"),
        ("nack:", "it answered nack on node"),
        ("reject:never", "never on node"),
        ("release:later", None),
    ],
)
def test_an_answer_decides(work, broker, text, reason):
    work(text, "b", max_messages=2)
    counts = broker.view("q")["q"]
    back = counts.waiting + counts.delayed
    assert (back, counts.work, counts.dead) == ((0, 0, 1) if reason else (1, 0, 0))
    assert reasons(broker) == ({text: reason} if reason else {})
    assert processes() == 1


def test_a_rejected_message_is_not_tried_again(work, broker):
    broker.publish("q", "reject:no")
    assert work(retries=3).numbers["failed"] == 1
    assert len(runs()) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("die", "exit status 3"),
        ("end", "it ended and answered nothing"),
        ("wrong", "it answered for 'another', and was asked for"),
        ("two", "write one of ack, nack, release, reject"),
        ("none", "write one of ack, nack, release, reject"),
        ("garbage", "which is no JSON"),
        ("endless", "which is no JSON"),
        ("silent", "timed out after 30 s"),
        ("deaf", "timed out after 30 s"),
        ("polite", "timed out after 30 s"),
        ("hang up", "killed by SIGTERM"),
    ],
)
def test_what_does_not_answer_fails_and_is_started_anew(work, broker, text, reason):
    summary = work("a", text, "b", timeout=30, grace=5)
    if text == "end":  # after others, that was no failure yet: the next process had it
        assert [t for _, t in runs()] == ["a", "end", "end", "b"]
    assert (summary.numbers["acked"], summary.numbers["failed"]) == (2, 1)
    assert reason in reasons(broker)[text]
    assert len({pid for pid, t in runs() if t in "ab"}) == 2


def test_one_that_leaves_between_two_messages_costs_none_of_them(work):
    summary = work(*["ack and leave"] * 5)
    assert (summary.numbers["acked"], summary.numbers["failed"]) == (5, 0)


def test_what_it_says_unasked_is_no_answer_for_the_next(work):
    summary = work("ack and say more", "a", "b")
    assert (summary.numbers["acked"], summary.numbers["failed"]) == (3, 0)


def test_a_message_that_is_larger_than_a_pipe_arrives_whole(work, broker):
    assert work("x" * 500_000, "b").numbers["acked"] == 2


def test_each_message_has_its_result(work, here):
    out = here / "out"
    options = {"output_dir": str(out)}
    assert work("result:1", "result:2", "nack:", **options).numbers["acked"] == 2
    found = [p.read_text() for p in out.iterdir() if not p.name.startswith(".")]
    assert sorted(found) == ["1", "2"]
    assert os.listdir(out / ".ddmq-unfinished") == []


@pytest.mark.parametrize("slots", [1, 2])
def test_logs_are_of_single_messages(work, here, slots):
    options = {"log_dir": str(here / "logs"), "logs": "all", "slots": slots}
    assert work("a", "b", **options).numbers["acked"] == 2
    logs = sorted(p.read_text() for p in (here / "logs").rglob("*.out"))
    assert logs == ["out a\n", "out b\n"]
    assert len([*(here / "logs").rglob("*.err")]) == 2


def test_a_tag_names_the_message_that_is_run(work, capfd):
    work("a", "b", tag=True)
    assert capfd.readouterr().out == "a\tout a\nb\tout b\n"


def test_what_failed_says_what_it_printed_for_that_message_alone(work, broker):
    work("a", "die")
    [letter] = broker.dead("q")
    assert "err" not in letter.note["stderr"]


def test_it_may_end_by_itself_in_the_end(work, here):
    (here / "tell").touch()
    work("a", "b", slots=2)
    assert Counter((here / "ended").read_text())["x"] >= 1


def test_what_does_not_end_with_its_input_gets_a_signal_and_a_second_grace(work, here):
    here.joinpath("stay").touch()
    assert work("a", "b", grace=5).numbers["acked"] == 2
    assert (here / "signalled").exists()


def test_what_ignores_all_is_killed_in_the_end(work, here):
    here.joinpath("stay deaf").touch()
    assert work("a", grace=5).numbers["acked"] == 1
    [[pid, _]] = runs()
    assert not os.path.exists(
        f"/proc/{pid}"
    )  # nor is there a zombie in a program's care


def test_one_whose_lease_is_lost_is_killed_and_another_started(root, broker, clock):
    first = broker.publish("q", "silent")
    broker.publish("q", "a")
    taken = []

    def step():
        if os.path.exists("runs") and not taken:
            taken.append(broker.release(broker.leased("q", first)))
            broker.ack(broker.consume("q"))

    words = [sys.executable, "-c", COMMAND]
    with Hurried(clock, step, pace=10) as signals:
        mine = Broker(root, clock=clock)
        summary = worker(mine, root, signals, clock, words, persistent=True).run()
    assert (summary.numbers["acked"], summary.numbers["lost"]) == (1, 1)
    assert processes() == 2


@pytest.mark.parametrize("text", ["silent", "polite"])
def test_a_drain_gives_back_what_runs_and_lets_the_idle_ones_go(
    root, broker, clock, text
):
    """Also where it ends with 0 when it is asked to: only an answer says that it is done."""
    for each in ("a", text):
        broker.publish("q", each)

    def step():
        is_answered = broker.view("q")["q"].work == 1
        signals.drain_requested = is_answered and len(runs()) == 2

    words = [sys.executable, "-c", COMMAND]
    with Hurried(clock, step) as signals:
        mine = Broker(root, clock=clock)
        summary = worker(
            mine, root, signals, clock, words, persistent=True, slots=2, grace=2
        ).run()
    assert (summary.numbers["acked"], summary.numbers["released"]) == (1, 1)
    [message] = broker.consume("q")
    assert (message.message, message.requeue_counter) == (text, 0)


def test_no_process_outlives_its_worker_nor_leaves_a_zombie(work):
    work("a", "hang up", "b", "die", "c", "silent", "d", timeout=10, grace=1)
    for pid, _ in runs():
        assert not os.path.exists(f"/proc/{pid}")


def test_the_line_tells_all_of_a_message(broker, root, clock, here):
    broker.publish("q", {"a": [1, "ä"]}, priority=7)
    command = (
        "import sys, os; line = sys.stdin.readline(); open('line', 'w').write(line);"
        "import json; id_ = json.loads(line)['id'];"
        "os.write(3, json.dumps({'id': id_, 'ack': True}).encode() + b'\\n')"
    )
    run(root, clock, [sys.executable, "-c", command], persistent=True)
    told = json.loads((here / "line").read_text())
    assert told.pop("id")
    assert told == {
        "message": {"a": [1, "ä"]},
        "output": None,
        "priority": 7,
        "slot": 1,
        "failures": 0,
        "losses": 0,
        "requeue_counter": 0,
    }
