"""What runs in the slots of a worker, and which of them are free."""

from __future__ import annotations

import pytest
from support import in_time

from ddmq.hpc.limits import Limits
from ddmq.hpc.options import WorkerOptions
from ddmq.hpc.running.execution import CommandNotFound
from ddmq.hpc.running.slots import Slots


@pytest.fixture(autouse=True)
def soon():
    with in_time(60):
        yield


@pytest.fixture
def slots(surroundings, job):
    """Return a function that makes slots, in which nothing runs when the test is over."""
    made = []

    def slots(*words, **options):
        made.append(Slots(surroundings(*words, **options), job.signals, job.clock))
        return made[-1]

    yield slots
    for each in made:
        each.kill()
        each.close()


def collected(slots, number):
    """Wait for so many that have ended."""
    ended = []
    while len(ended) < number:
        ended += slots.collect()
    return ended


def test_a_slot_is_free_again_when_what_ran_in_it_has_ended(slots, taken):
    mine = slots("sh", "-c", "exit $DDMQ_SLOT", slots=2)
    commands = [mine.launch([taken()]) for _ in range(2)]
    assert (mine.free, mine.running) == ([], commands)
    ended = collected(mine, 2)
    assert sorted(each.outcome.exit for each in ended) == [1, 2]
    assert (sorted(mine.free), mine.running) == ([1, 2], [])


def test_a_slot_stays_free_when_nothing_could_be_started(slots, taken):
    mine = slots("/no/such/tool", slots=1)
    with pytest.raises(CommandNotFound):
        mine.launch([taken()])
    assert (mine.free, mine.running) == ([1], [])


def test_only_what_runs_for_a_lost_message_is_killed(slots, taken, caplog):
    mine = slots("sh", "-c", 'test "$0" = a || exec sleep 100', "{}", slots=2)
    a, b = taken("a"), taken("b")
    mine.launch([b])
    mine.launch([a])
    mine.lose(b)
    by_text = {e.execution.message.message: e for e in collected(mine, 2)}
    assert by_text["a"].outcome.succeeded
    assert by_text["b"].outcome.signal == "SIGKILL"
    assert by_text["b"].execution.lost
    assert not by_text["a"].execution.lost
    assert f"message {b.id}: its lease is lost" in caplog.text


def test_what_is_left_is_killed(slots, taken):
    mine = slots("sleep", "{}", slots=1)
    command = mine.launch([taken("100")])
    mine.kill()
    assert command.outcome().signal == "SIGKILL"
    assert mine.running == []


def test_commands_that_stay_have_one_grace_until_they_are_told_to_go(
    slots, taken, job, clock
):
    """It does not read its input to the end: a signal ends it, when the time is over."""
    stays = 'read -r line; id=${line#*\'"id": "\'}; echo \'{"id": "\'${id%%\'"\'*}\'", "ack": true}\' >&3'
    mine = slots("sh", "-c", f"{stays}; exec sleep 100", slots=1, persistent=True)
    mine.launch([taken()])
    [ended] = collected(mine, 1)
    assert ended.outcome.succeeded
    mine.dismiss(clock.monotonic() + 5, Limits(WorkerOptions(), job))
    assert mine._launcher.dismiss()
