"""What runs for which messages, and in which process."""

from __future__ import annotations

import gc
import os

import pytest
from support import in_time

from ddmq.hpc.running.execution import CommandNotFound, Unfit
from ddmq.hpc.running.launcher import Launcher

#: Acks the message that it gets, in each of its lines.
ACK = """
while read -r line; do
    id=${line#*'"id": "'}
    printf '{"id": "%s", "ack": true}\\n' "${id%%'"'*}" >&3
    $1
done
"""


@pytest.fixture(autouse=True)
def soon():
    with in_time(60):
        yield


@pytest.fixture
def launcher(surroundings):
    """Return a function that makes a launcher, whose processes end with the test."""
    made = []

    def launcher(*words, **options):
        made.append(Launcher(surroundings(*words, **options)))
        return made[-1]

    yield launcher
    for each in made:
        each.close()


def ended(command):
    """Wait for a command that will end, or answer, soon."""
    while command.outcome() is None:
        pass
    command.close(save=False)
    return command.outcome()


def test_a_message_has_a_process(launcher, taken):
    command = launcher("true").launch([taken()], 1)
    assert len(command.executions) == 1
    assert ended(command).succeeded


def test_several_messages_are_of_one_command(launcher, taken):
    messages = [taken() for _ in range(5)]
    command = launcher("true", batch=5).launch(messages, 3)
    assert [each.message for each in command.executions] == messages
    assert {each.slot for each in command.executions} == {command.slot} == {3}
    assert ended(command).succeeded


def test_of_those_that_do_not_fit_the_first_are_taken(launcher, taken):
    messages = [taken(text) for text in ("a", "b", "x" * 100_000, "c")]
    command = launcher("true", batch=4).launch(messages, 1)
    assert [each.message for each in command.executions] == messages[:2]
    assert ended(command).succeeded


def test_one_that_fits_nowhere_concerns_no_other(launcher, taken):
    messages = [taken("a\0b"), taken()]
    with pytest.raises(Unfit, match="NUL"):
        launcher("true", batch=2).launch(messages, 1)


def test_a_process_stays_in_its_slot(launcher, taken):
    each = launcher("sh", "-c", ACK, "sh", persistent=True)
    found = []
    for slot in (1, 2, 1, 2):
        command = each.launch([taken()], slot)
        found.append(command._process)
        assert ended(command).succeeded
    assert found[0] is found[2]
    assert found[1] is found[3]
    assert found[0] is not found[1]


def test_where_one_has_ended_another_is_started(launcher, taken):
    each = launcher("sh", "-c", ACK, "sh", "exit 1", persistent=True)
    opened = []
    for _ in range(100):
        command = each.launch([taken()], 1)
        assert ended(command).succeeded
        while command._process.ended() is None:
            pass
        opened.append(len(os.listdir("/proc/self/fd")))
        assert len(each._leaving) <= 1
    # A client holds a few directories, now more and now fewer.
    assert max(opened) - opened[0] < 20


def test_those_without_a_message_are_listened_to_for_what_they_print(launcher, taken):
    each = launcher("sh", "-c", ACK, "sh", persistent=True)
    command = each.launch([taken()], 1)
    assert ended(command).succeeded
    assert each.idle_readers({1}) == {}
    [descriptor] = each.idle_readers(set())
    assert descriptor == command._process.streams[-1].read_end


@pytest.mark.parametrize("persistent", [False, True])
def test_a_command_says_how_far_it_is_and_the_next_one_forgets_it(
    launcher, taken, persistent
):
    says = 'case $line in *far*) echo "slot $DDMQ_SLOT" > "$DDMQ_PROGRESS" ;; esac'
    script = f"line=$1\n{says}"
    if persistent:
        script = ACK.replace("id=", f"{says}\nid=", 1)
    each = launcher("sh", "-c", script, "sh", persistent=persistent)
    for text in ("far", "near", "far"):
        commands = {slot: each.launch([taken(text)], slot) for slot in (1, 2)}
        for command in commands.values():
            ended(command)
        for slot, command in commands.items():
            assert command.progress() == f"slot {slot}" * (text == "far")
    each.close()


def test_they_end_when_they_are_dismissed(launcher, taken):
    each = launcher("sh", "-c", ACK, "sh", persistent=True)
    assert each.dismiss()  # there are none
    command = each.launch([taken()], 1)
    assert ended(command).succeeded
    while not each.dismiss():
        pass
    assert command._process.ended().status == 0


def test_what_can_not_be_started_leaves_nothing(launcher, taken, tmp_path):
    given = {"persistent": True, "output_dir": str(tmp_path / "out")}
    each, message = launcher("no-such-program", **given), taken()
    open_files = []
    gc.collect()  # what other tests left is not let go of in the middle
    for _ in range(3):
        with pytest.raises(CommandNotFound, match="no-such-program"):
            each.launch([message], 1)
        open_files.append(os.listdir("/proc/self/fd"))
    # In the first one is the file in which commands of the slot say how far they are.
    assert open_files[0] == open_files[1] == open_files[2]
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
