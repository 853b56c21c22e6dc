"""One message being run."""

from __future__ import annotations

import pytest

from ddmq.hpc.options import WorkerOptions
from ddmq.hpc.running.execution import Ended, Execution, Unfit
from ddmq.hpc.running.process import Outcome


class Known:
    """A command of which all is known."""

    def __init__(self, *, timed_out=False, was_killed=False):
        self.timed_out, self.was_killed = timed_out, was_killed
        self.started, self.duration, self.log, self.logged = 1.0, 2.0, "log", "out"
        self.closed, self.executions = [], []

    def close(self, *, save):
        self.closed.append(save)


@pytest.fixture
def execution(taken):
    """Return a function that prepares the run of a message."""

    def execution(text="a", slot=2, **options):
        run = Execution(taken(text), slot, WorkerOptions(**options))
        run.command = Known()
        return run

    return execution


def test_a_command_is_told_all_of_its_message(execution, tmp_path):
    run = execution({"in put": 5, "b": ["ä"]}, output_dir=str(tmp_path))
    told = run.variables()
    assert told.pop("output") == run.output_path
    assert told.pop("id") == run.message.id
    assert told == {
        "message": '{"in put": 5, "b": ["ä"]}',
        "priority": "999",
        "slot": "2",
        "failures": "0",
        "losses": "0",
        "requeue_counter": "0",
        "FIELD_IN_PUT": "5",
        "FIELD_B": '["ä"]',
    }


def test_where_no_result_is_wanted_there_is_no_place_for_one(execution):
    run = execution()
    assert (run.output_path, run.may_have_result) == (None, False)
    assert "output" not in run.variables()
    run.keep_result(sync=False)
    run.forgo_result()
    assert run.output == ""


def test_a_result_is_kept_under_its_name(execution, tmp_path):
    run = execution(output_dir=str(tmp_path))
    with open(run.output_path, "w") as file:
        file.write("result")
    run.keep_result(sync=False)
    assert (tmp_path / run.output).read_text() == "result"
    run.close(save=False, acked=True)
    assert (tmp_path / run.output).exists()
    assert run.command.closed == [False]


def test_what_failed_has_no_result(execution, tmp_path):
    run = execution(output_dir=str(tmp_path / "out"))
    open(run.output_path, "w").close()
    run.forgo_result()
    assert not run.may_have_result
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_a_message_that_makes_no_name_can_have_no_result(execution, tmp_path):
    with pytest.raises(Unfit):
        execution(".", output_dir=str(tmp_path), output_name="{}")


def test_it_is_told_of_its_command(execution):
    run = execution()
    assert (run.started, run.duration, run.log, run.logged) == (1.0, 2.0, "log", "out")
    assert not run.timed_out
    run.command = Known(timed_out=True, was_killed=True)
    assert (run.timed_out, run.was_killed) == (True, True)


@pytest.mark.parametrize(
    ("outcome", "command", "claims"),
    [  # went well, is certain, was signalled
        (Outcome(0), Known(), (True, True, False)),
        (Outcome(0), Known(timed_out=True), (False, True, False)),
        (Outcome(1), Known(), (False, False, False)),
        (Outcome(-15), Known(), (False, False, True)),
        (Outcome(143), Known(), (False, False, True)),
        (Outcome(-15), Known(was_killed=True), (False, True, False)),
        (Outcome(-9), Known(), (False, False, False)),
        (Outcome(0, answer="ack"), Known(), (True, True, False)),
        (Outcome(0, answer="nack"), Known(), (False, False, False)),
    ],
)
def test_how_it_ended(execution, outcome, command, claims):
    run = execution()
    run.command = command
    end = Ended(run, outcome)
    assert (end.went_well, end.is_certain, end.was_signalled) == claims


def test_what_is_lost_is_no_riddle(execution):
    run = execution()
    run.lost = True
    assert Ended(run, Outcome(-15)).is_certain
