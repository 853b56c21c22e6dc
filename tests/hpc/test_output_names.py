"""Results that are named after their input, and what names each of them."""

from __future__ import annotations

import os

import pytest
from hpc.inside import run

from ddmq.hpc.folder import Folder
from ddmq.hpc.options import WorkerOptions
from ddmq.hpc.results.manifest import manifest
from ddmq.hpc.results.output_names import Reservation, home_of
from ddmq.hpc.running.execution import Execution

WRITE = 'echo "$DDMQ_MESSAGE" > "$DDMQ_OUTPUT"'


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_results_are_named_after_their_input(root, broker, clock, out):
    texts = [f"in/{n}.txt" for n in range(20)]
    broker.publish_many("q", texts, durable=False)
    summary = run(
        root, clock, WRITE, slots=3, output_dir=str(out), output_name="{/.}.gz"
    )
    assert summary.numbers["acked"] == 20
    assert (out / "7.gz").read_text() == "in/7.txt\n"
    assert len(os.listdir(out)) == 22
    assert os.listdir(out / ".ddmq-names") == []
    rows = manifest(f"{root}/q", str(out))
    assert {row.input: row.file for row in rows} == {
        text: f"{text[3:-4]}.gz" for text in texts
    }


@pytest.mark.parametrize("slots", [1, 2])
def test_of_two_messages_with_one_name_the_second_fails_and_says_so(
    root, broker, clock, out, slots, caplog
):
    for directory in "ab":
        broker.publish("q", f"{directory}/x")
    options = {"slots": slots, "output_dir": str(out), "output_name": "{/}"}
    summary = run(root, clock, WRITE, **options)
    assert (summary.numbers["acked"], summary.numbers["failed"]) == (1, 1)
    assert (out / "x").read_text() == "a/x\n"
    [letter] = broker.dead("q")
    assert letter.message == "b/x"
    assert "the name of its result, 'x', is" in letter.reason
    assert (
        f"message {letter.id} (b/x): {letter.reason}; a dead letter" in caplog.messages
    )


@pytest.mark.parametrize("options", [{}, {"brake": False}, {"fast_failures": 2}])
def test_a_failure_keeps_its_name_from_nobody(root, broker, clock, out, options):
    """Not even while it is held, until it is known whose fault it is."""
    broker.publish("q", "a/x", requeue_limit=0)
    broker.publish("q", "b/x")
    command = f'{WRITE}; [ "$DDMQ_MESSAGE" = b/x ]'
    run(root, clock, command, output_dir=str(out), output_name="{/}", **options)
    assert (out / "x").read_text() == "b/x\n"
    assert os.listdir(out / ".ddmq-unfinished") == []
    assert [letter.message for letter in broker.dead("q")] == ["a/x"]


def test_a_text_that_names_no_result_is_a_dead_letter_and_is_not_run(
    root, broker, clock, out, tmp_path
):
    broker.publish("q", "../../ran")
    command = f"touch {tmp_path}/ran; {WRITE}"
    run(root, clock, command, output_dir=str(out), output_name="{}")
    [letter] = broker.dead("q")
    assert "holds a slash" in letter.reason
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("written", [True, False], ids=["kept", "unfinished"])
@pytest.mark.parametrize(
    ("leave", "is_freed"),
    [
        (lambda broker, id_: broker.purge("q"), True),
        (lambda broker, id_: broker.cancel("q", id_), True),
        (lambda broker, id_: None, False),
        (lambda broker, id_: broker.move_waiting("q", id_, "next"), True),
    ],
    ids=["purged", "dead", "waiting", "moved"],
)
def test_a_name_that_a_killed_worker_reserved_is_free_when_its_message_is_over(
    root, broker, clock, out, leave, is_freed, written
):
    """While the worker runs, and whichever state the reservation has."""
    broker.create_queue("next")
    options = {"output_dir": str(out), "output_name": "{/}"}
    id_ = broker.publish("q", "a/x")
    [message] = broker.consume("q")
    given, token = WorkerOptions(**options), "0" * 16
    home = home_of(f"{root}/q")
    Execution(message, 1, given, str(root))  # and its worker is killed
    if written:
        Reservation("x", id_, token, home).confirm(Folder.open(str(out)), sync=False)
    broker.release(message)
    leave(broker, id_)
    is_freed = is_freed and not (written and broker.view("q")["q"].dead)
    broker.publish("q", "b/x", priority=0)
    command = f'{WRITE}; [ "$DDMQ_MESSAGE" = b/x ]'
    summary = run(root, clock, command, retries=0, **options)
    assert summary.numbers["acked"] == is_freed
    reasons = [letter.reason for letter in broker.dead("q")]
    assert any(f"is that of message {id_}" in reason for reason in reasons) != is_freed
    assert out.joinpath("x").exists() == is_freed


@pytest.mark.parametrize("home", ["", "f" * 16])
def test_a_name_that_another_queue_may_have_reserved_is_kept(
    root, broker, clock, out, home
):
    kept = Folder.open(str(out), make=True)
    Reservation("x", "a" * 20, "0" * 16, home).make(kept)
    broker.publish("q", "b/x")
    run(root, clock, WRITE, output_dir=str(out), output_name="{/}")
    [letter] = broker.dead("q")
    assert "is that of message aaaa" in letter.reason
