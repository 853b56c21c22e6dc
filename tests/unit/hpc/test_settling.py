"""What becomes of a message, by how its command ended."""

from __future__ import annotations

import errno
import os

import pytest

from ddmq.errors import StorageError
from ddmq.holding.heartbeat import Heartbeat
from ddmq.hpc import journal
from ddmq.hpc.options import Next, WorkerOptions
from ddmq.hpc.results.manifest import manifest
from ddmq.hpc.running.command import Invocation
from ddmq.hpc.running.execution import Execution
from ddmq.hpc.settling import TROUBLED, Settler


@pytest.fixture
def settler(broker, clock, job):
    """Return a function that makes one, with some options."""

    def settler(**options):
        heartbeat = Heartbeat(broker, clock)
        given = WorkerOptions(**options)
        return Settler(broker, "q", heartbeat, options=given, job=job)

    return settler


@pytest.mark.parametrize(
    ("text", "result", "counts"),
    [
        ("exit 0", "acked", (0, 0, 0, 0)),
        ("exit 1", "failed", (1, 0, 0, 0)),
        ("exit 2", "failed", (0, 0, 0, 1)),
        ("exit 75", "released", (0, 0, 1, 0)),
        ("exit 7", "moved", (0, 0, 0, 0)),
    ],
)
def test_the_exit_status_decides(broker, settler, ended, text, result, counts):
    broker.create_queue("other")
    mine, run = settler(fatal=frozenset((2,)), on_exit={7: "other"}), ended(text)
    mine.begin(run.execution)
    mine.settle(run)
    assert {name for name, n in mine.numbers.items() if n} == {result}
    assert broker.view("q")["q"] == counts
    assert broker.view("other")["other"].waiting == (result == "moved")
    assert mine.unsettled == {}


@pytest.mark.parametrize(("retries", "counts"), [(1, (1, 0, 0, 0)), (0, (0, 0, 0, 1))])
def test_a_message_without_a_limit_is_tried_so_often(
    broker, settler, ended, retries, counts
):
    settler(retries=retries).settle(ended("exit 1"))
    assert broker.view("q")["q"] == counts


def test_what_failed_waits_for_its_backoff(broker, settler, ended):
    mine = settler(backoff=(10.0, 60.0))
    mine.settle(ended("exit 1"))
    assert mine.delay == 10
    assert broker.view("q")["q"] == (0, 0, 1, 0)
    assert settler().delay == TROUBLED


def test_what_was_killed_is_given_back_and_what_is_lost_is_left(broker, settler, ended):
    mine, killed = settler(), ended("exit 1")
    killed.execution.command.was_killed = True
    mine.settle(killed)
    assert broker.view("q")["q"] == (1, 0, 0, 0)
    lost = ended("exit 0")
    lost.execution.lost = True
    mine.settle(lost)
    assert (mine.numbers["released"], mine.numbers["lost"]) == (1, 1)


def test_what_its_limit_does_not_bind_is_not_run_too_often(broker, settler):
    broker.publish("q", "a")
    [message] = broker.consume("q")
    mine = settler(retries=2)
    assert mine.why_not(message._replace(losses=2)) is None
    assert mine.why_not(message._replace(losses=3, requeue_limit=9)) is None
    why_not = mine.why_not(message._replace(failures=1, losses=2))
    assert why_not == "tried too often: 1 failures, 2 losses"
    assert mine.numbers["failed"] == 1


def test_logs_are_named_when_a_run_begins(settler, ended, tmp_path):
    options = WorkerOptions(log_dir=str(tmp_path / "log"))
    mine, run = settler(log_dir=str(tmp_path / "log")), ended("echo x; exit 1", options)
    mine.begin(run.execution)
    where = f"{tmp_path}/log/node-no-job-{os.getpid()}/000/"
    assert run.execution.log.startswith(f"{where}{run.execution.message.id}.")
    mine.settle(run)
    with open(f"{run.execution.log}.out") as log:
        assert log.read() == "x\n"


def test_the_journal_names_the_text_and_what_took_too_long(settler, ended, job, root):
    mine, slow, quick = settler(timeout=5), ended("kill $$"), ended("true")
    slow.execution.command.timed_out = True
    for run in (slow, quick):
        mine.settle(run)
    job.journal.flush()
    runs = {run.text: run for run in journal.read(f"{root}/q")}
    assert [runs[text].timed_out for text in ("kill $$", "true")] == [True, False]
    job.journal.close()


def test_the_journal_tells_what_is_dead_from_what_is_tried_again(
    broker, settler, ended, job, root
):
    mine = settler(retries=1, fatal=(9,))
    for run, result in {
        ended("exit 1"): "failed",  # once more
        ended("exit 9"): "dead",
        ended("exit 2", requeue=False): "dead",
        ended("exit 3", requeue_limit=1): "failed",
    }.items():
        mine.settle(run)
        job.journal.flush()
        last = list(journal.read(f"{root}/q"))
        told = {each.text: each.result for each in last}
        assert told[run.execution.message.message] == result
    assert mine.numbers["failed"] == len(mine.failed) == 4
    assert broker.view("q")["q"] == (2, 0, 0, 2)


def test_an_ack_that_came_too_late_is_taken_back(broker, settler, ended, root, job):
    """Somebody else has the message, so the journal says that its lease was lost."""
    mine, late = settler(), ended("exit 0")
    broker.release(late.execution.message)
    id_ = late.execution.message.id
    mine.settle(late)
    job.journal.flush()
    runs = [run.result for run in journal.read(f"{root}/q")]
    assert runs == ["lost"]
    assert broker.status("q", id_) == {id_: "waiting"}
    broker.purge("q")
    assert broker.status("q", id_) == {id_: "unknown"}


@pytest.mark.parametrize(("limit", "state"), [(0, "dead"), (9, "waiting")])
def test_what_can_not_go_on_is_never_called_acked(
    broker, settler, ended, job, root, limit, state, tmp_path
):
    broker.create_queue("next")
    mine = settler(on_success=Next("queue", "next"))
    run = ended("exit 0", requeue_limit=limit)
    broker.delete_queue("next")
    mine.settle(run)
    job.journal.flush(at_end=True)
    id_ = run.execution.message.id
    said = [each.result for each in journal.read(f"{root}/q")]
    assert said == ["dead" if state == "dead" else "failed"]
    (tmp_path / id_).touch()
    assert [row.file for row in manifest(f"{root}/q", str(tmp_path))] == [""]
    assert broker.status("q", id_) == {id_: state}
    broker.purge("q")
    assert broker.status("q", id_) == {id_: "unknown"}
    [written] = (root / "q" / "journal").iterdir()
    assert "acked" not in written.read_text()


@pytest.mark.parametrize(
    ("options", "published", "follows"),
    [
        ({}, {}, "tried again (2 of 4)"),
        ({"retries": 0}, {}, "a dead letter"),
        ({"backoff": (60.0,)}, {}, "tried again in 60 s (2 of 4)"),
        (
            {"backoff": (600.0,)},
            {"requeue_limit": 1},
            "tried again in 10 minutes (2 of 2)",
        ),
        ({}, {"requeue": False}, "a dead letter"),
        ({"fatal": frozenset((1,))}, {}, "a dead letter"),
    ],
)
def test_a_failure_is_told_with_its_text_and_what_follows(
    settler, ended, caplog, options, published, follows
):
    run = ended("exit 1", **published)
    settler(**options).settle(run)
    id_ = run.execution.message.id
    assert caplog.messages == [
        f"message {id_} (exit 1): exit status 1 on node; {follows}"
    ]


def test_a_long_text_is_told_in_short_and_obeyed_by_no_terminal(settler, ended, caplog):
    settler().settle(ended("exit 1 # \x1b]0;\n" + "x" * 100))
    [said] = caplog.messages
    assert "(exit 1 # \\x1b]0;\\n" + "x" * 41 + "…): exit status 1" in said


def test_what_was_owed_before_it_ran_is_given_back_in_the_end(
    broker, settler, surroundings, clock, monkeypatch
):
    """Its lease ended while it could not be given back; it came back to us, and was started."""
    broker.publish("q", "a")
    [message], mine = broker.consume("q"), settler()

    def refused(*_):
        raise StorageError(OSError(errno.EIO, os.strerror(errno.EIO), "/mq"))

    with monkeypatch.context() as patched:
        patched.setattr(broker, "release", refused)
        mine.give_back_unstarted([message])
    assert mine.due_in() is not None
    clock.advance(message.timeout + 1)
    [again] = broker.consume("q")
    assert again.id == message.id
    given = WorkerOptions()
    command = Invocation([Execution(again, 1, given)], surroundings("sleep", "100"))
    mine.begin(command.executions[0])
    command.kill()
    mine.close()
    assert mine.left_behind == 0
    assert broker.view("q")["q"][:2] == (1, 0)


def test_what_was_given_back_without_a_reply_is_not_called_lost(
    broker, settler, clock, monkeypatch, caplog
):
    broker.publish_many("q", ["a", "b"])
    held, mine, release = broker.consume("q", 2), settler(), broker.release

    def unanswered(messages):
        release(messages)
        raise StorageError(OSError(errno.EIO, os.strerror(errno.EIO), "/mq"))

    with monkeypatch.context() as patched:
        patched.setattr(broker, "release", unanswered)
        mine.give_back_unstarted(held)
    assert len(broker.consume("q", 2)) == 2  # somebody has them by now
    clock.advance(mine.due_in())
    mine.retry()
    assert (mine.due_in(), mine.left_behind) == (None, 0)
    [said] = caplog.messages
    assert said.startswith("2 messages could not be given back yet")
    assert broker.view("q")["q"][:2] == (0, 2)


@pytest.mark.parametrize(
    ("code", "is_owed"), [(errno.EIO, True), (errno.EACCES, False)]
)
def test_what_can_not_be_given_back_keeps_its_lease_or_is_left(
    broker, settler, monkeypatch, code, is_owed
):
    broker.publish("q", "a")
    held, mine = broker.consume("q"), settler()

    def refused(*_):
        raise StorageError(OSError(code, os.strerror(code), "/mq"))

    monkeypatch.setattr(broker, "release", refused)
    mine.give_back_unstarted(held)
    assert (mine.due_in() is not None) == is_owed
    assert (mine._heartbeat.over_in() is not None) == is_owed
    assert mine.left_behind == (not is_owed)
