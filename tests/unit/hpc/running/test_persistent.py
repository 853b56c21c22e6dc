"""The process of one slot, and one message at it."""

from __future__ import annotations

import json
import os
import select
import signal

import pytest
from support import in_time, open_files, ready

from ddmq.errors import DdmqError
from ddmq.hpc.running.execution import Execution
from ddmq.hpc.running.persistent import Exchange, Standing, _read


@pytest.fixture(autouse=True)
def soon():
    with in_time(30):
        yield


@pytest.fixture
def standing(surroundings):
    """Return a function that starts a line of shell, which stays."""
    started = []

    def standing(script="read x", **options):
        started.append(Standing(1, surroundings("sh", "-c", script, **options)))
        return started[-1]

    yield standing
    for each in started:
        each.close()


@pytest.fixture
def turn(taken, surroundings):
    """Return a function that gives a message to a process."""

    def turn(standing, text="a", anew=None, **options):
        given = surroundings("sh", **options)
        execution = Execution(taken(text), 1, given.options)
        return Exchange(execution, given, standing, anew)

    return turn


def heard(standing):
    """Wait until something can be read of what it answers."""
    ready(standing._read, select.POLLIN)


def gone(standing):
    """Wait until it is a zombie."""
    os.waitid(os.P_PID, standing._process.pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.parametrize("name", ["ack", "nack", "release", "reject"])
def test_an_answer_is_one_word_for_one_id(name):
    def read(**said):
        return _read(json.dumps(said).encode(), "1")

    assert read(id="1", **{name: True}) == (name, "")
    assert read(id="1", **{name: True}, reason="why") == (name, "why")
    assert read(id="1", **{name: "why"}) == (name, "why")
    assert read(id="1", **{name: True}, reason=5) == (name, "")
    assert read(id="1", **{name: True}, reason="x" * 2000) == (name, "x" * 1000)
    assert read(id="2", **{name: True})[0] == ""
    assert read(**{name: True})[0] == ""
    assert read(id="1", **{name: False})[0] == ""


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"1", b"{", b"\xff", b"[" * 5000, b'{"id": "1", "ack": 1, "nack": 1}'],
)
def test_all_else_is_no_answer(line):
    answer, why = _read(line, "1")
    assert not answer
    assert why.startswith("it answered b")
    assert len(why) < 500


def test_lines_are_taken_one_by_one_and_whole(standing):
    each = standing("printf 'a\\nbc' >&3; read x; printf 'd\\n' >&3; read y")
    heard(each)
    assert each.answer() == b"a"
    assert each.answer() is None
    each.give(b"\n")
    heard(each)
    assert each.answer() == b"bcd"


def test_a_line_that_does_not_end_is_returned_when_it_is_too_long(standing):
    each = standing("exec head -c 200000 /dev/zero >&3")
    line = None
    while line is None:
        heard(each)
        line = each.answer()
    assert line.startswith(b"\0\0")


def test_what_is_larger_than_a_pipe_is_sent_when_there_is_room(standing):
    each = standing("exec head -c 300000 | wc -c >&3")
    each.give(b"x" * 300_000)
    while each.writers():
        [(descriptor, send)] = each.writers().items()
        ready(descriptor, select.POLLOUT)
        send()
    heard(each)
    assert int(each.answer()) == 300_000


@pytest.mark.parametrize("closed", ["<&-", "3>&-"])
def test_who_does_not_read_or_can_not_answer_is_not_idle(standing, tmp_path, closed):
    os.mkfifo(tmp_path / "closed")
    each = standing(f"exec {closed}; : > {tmp_path}/closed; exec sleep 1000")
    (tmp_path / "closed").read_bytes()
    assert not each.is_idle


def test_who_has_ended_is_not_idle(standing):
    each = standing("exit")
    gone(each)
    assert not each.is_idle


def test_who_waits_for_a_message_is_idle_until_it_is_signalled(standing):
    each = standing()
    assert each.is_idle
    each.send(signal.SIGCONT)
    assert not each.is_idle


def test_who_says_what_nobody_asked_is_not_idle(standing):
    each = standing("echo hello >&3; read x")
    heard(each)
    assert not each.is_idle


def test_only_who_has_a_message_is_listened_to_for_an_answer(standing):
    each = standing("exit")
    gone(each)
    assert each._read in each.readers(answers=True)
    assert each._read not in each.readers(answers=False)


def test_cpu_time_is_counted_from_message_to_message(standing):
    count = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"
    each = standing(f"{count}; echo >&3; read x; echo >&3; read x")
    heard(each)
    each.answer()
    first, memory = each.used()
    assert first > 0
    assert 100 < memory < 100_000
    each.give(b"\n")
    heard(each)
    assert each.used()[0] < first


def test_one_that_has_ended_used_nothing_more(standing):
    each = standing("exit")
    gone(each)
    assert each.ended().status == 0
    assert each.used() == (0.0, 0)


def test_the_number_of_one_that_ended_is_not_signalled(standing, monkeypatch):
    each, sent = standing("exit"), []
    gone(each)
    assert each.ended() is not None
    monkeypatch.setattr(os, "killpg", lambda *given: sent.append(given))
    each.send(signal.SIGKILL)
    assert sent == []


def test_what_it_started_is_killed_with_it(standing):
    each = standing("setsid sh -c 'echo $$ >&3; exec sleep 1000' & read x")
    heard(each)
    child = int(each.answer())
    each.close()
    with open(f"/proc/{child}/stat") as stat:
        assert stat.read().rpartition(") ")[2][0] in "ZX"
    each.streams, each._read = [], os.open(os.devnull, os.O_RDONLY)


def test_a_message_is_told_as_one_line(turn, standing):
    run = turn(standing(), 'a\n"b"')
    told = json.loads(run._line)
    assert run._line.count(b"\n") == 1
    assert (told["message"], told["slot"], told["output"]) == ('a\n"b"', 1, None)
    run.close(save=False)


def answering(word):
    """Return a script that gives an answer to each message."""
    return (
        'while read -r line; do id=${line#*\'"id": "\'}; '
        f'printf \'{{"id": "%s", "{word}": true}}\\n\' "${{id%%\'"\'*}}" >&3; done'
    )


def test_an_answer_leaves_the_process_for_the_next(turn, standing):
    each = standing(answering("ack"))
    for _ in range(3):
        run = turn(each)
        heard(each)
        assert run.outcome().succeeded
        run.close(save=False)
        assert each.is_idle
    assert each.answered == 3


#: A line of shell that answers for the message that a variable holds.
SAY = """say() { id=${1#*'"id": "'}; printf '{"id": "%s", "%s": true}\\n' "${id%%'"'*}" "$2" >&3; }; """


def ended(run, standing):
    """Return the outcome of a run; it has answered, or will."""
    while run.outcome() is None:
        heard(standing)
    return run.outcome()


@pytest.mark.parametrize("later", [":", "read -r go"], ids=["at once", "later"])
def test_a_second_answer_comes_too_late_to_be_the_next_ones(
    turn, standing, caplog, later
):
    script = (
        f'{SAY}read -r a; say "$a" ack; read -r b; say "$a" nack; '
        f'{later}; say "$b" ack; read -r c; say "$c" ack; read -r d'
    )
    each = standing(script)
    for text in "abc":
        run = turn(each, text)
        if text == "b" and later != ":":
            heard(each)
            assert run.outcome() is None
            each.give(b"\n")
        assert ended(run, each).succeeded
        run.close(save=False)
        assert each.is_idle
    assert caplog.text.count("answered once more for the one before") == 1


@pytest.mark.parametrize(
    "said",
    [
        'say "$a" ack; say "$a" ack',  # a third one
        'say "${a}" ack; echo x >&3',
        """say '"id": "1"' ack""",
    ],
)
def test_it_is_passed_over_once_and_nothing_else_is(turn, standing, said):
    each = standing(
        f'{SAY}read -r a; say "$a" ack; read -r b; {said}; say "$b" ack; read -r x'
    )
    run = turn(each)
    assert ended(run, each).succeeded
    run.close(save=False)
    run = turn(each)
    assert ended(run, each).answer == "nack"
    run.close(save=False)


def test_the_last_word_of_one_that_ended_is_heard(turn, standing):
    each = standing(f"{answering('ack')}; exit 1")
    run, looks = turn(each), []
    answer = each.answer

    def look():
        looks.append(1)
        if len(looks) > 1:
            return answer()
        each.dismiss()  # it answers and ends between our two looks
        gone(each)
        return None

    each.answer = look
    assert run.outcome().answer == "ack"
    run.close(save=False)


def test_a_late_answer_is_heard_but_the_time_was_over(turn, standing, clock):
    each = standing("read -r line; trap : TERM; read -r x; exit")
    run = turn(each, timeout=5)
    clock.advance(5)
    run.watch()
    assert run.timed_out
    id_ = json.loads(run._line)["id"]
    each._heard = json.dumps({"id": id_, "ack": True}).encode() + b"\n"
    assert run.outcome().succeeded
    assert not each.is_idle
    run.close(save=False)


def test_who_hangs_up_has_a_few_seconds_to_end(turn, standing, clock):
    each = standing("trap '' TERM; exec 3>&-; while :; do sleep 1000; done")
    heard(each)
    run = turn(each, grace=2)
    assert run.outcome() is None
    assert run.due_in() == 5
    clock.advance(5)
    run.watch()
    assert run.due_in() == 2
    clock.advance(2)
    run.watch()
    gone(each)
    assert run.outcome().signal == "SIGKILL"
    assert not run.timed_out
    run.close(save=False)


def test_who_reads_no_more_has_hung_up(turn, standing):
    each = standing("exec <&-; echo >&3; sleep 1000")
    heard(each)
    each.answer()
    run = turn(each)
    assert run.outcome() is None
    assert run.due_in() == 5
    run.kill()
    gone(each)
    run.outcome()
    run.close(save=False)


@pytest.mark.parametrize("error", [OSError(24, "too many"), DdmqError("no command")])
def test_where_none_can_be_started_anew_the_message_is_given_back(
    turn, standing, error
):
    def anew():
        raise error

    each = standing("exit")
    each.answered = 1
    gone(each)
    run = turn(each, anew=anew)
    assert run.outcome().answer == "release"
    assert run.outcome().answer == "release"  # and it is not tried again
    run.close(save=False)


def test_the_time_of_a_message_begins_again_with_another_process(turn, standing, clock):
    each, other = standing("exit"), standing()
    each.answered = 1
    gone(each)
    run = turn(each, anew=lambda: other, timeout=5)
    clock.advance(10)
    assert (run.outcome(), run.due_in()) == (None, 5)
    run.close(save=False)


def test_what_it_printed_is_known_where_none_can_be_started_anew(turn, surroundings):
    def anew():
        each.close()  # as the launcher does, before it starts another
        raise DdmqError("no command")

    script = "read x; read y; echo why >&2; sleep 60 & exit 0"
    each = Standing(1, surroundings("sh", "-c", script))
    each.answered = 1
    each.give(b"an earlier one\n")
    run = turn(each, anew=anew)
    gone(each)  # and what it left has its standard error open
    assert run.outcome().answer == "release"
    assert run.tail() == "why"
    run.close(save=False)


def test_where_there_is_no_room_no_descriptor_is_left(surroundings, monkeypatch):
    before, real = open_files(), os.sysconf
    free = [os.dup(0) for _ in range(6)]
    for descriptor in free:
        os.close(descriptor)
    limits = {"SC_OPEN_MAX": free[4] + 8}  # its outputs have room, its input has not
    monkeypatch.setattr(os, "sysconf", lambda name: limits.get(name) or real(name))
    with pytest.raises(OSError, match="Too many open files"):
        Standing(1, surroundings("cat"))
    assert os.listdir("/proc/self/fd") == before
