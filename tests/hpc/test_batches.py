"""Batches: several messages for one command, and each alone where that fails."""

from __future__ import annotations

import errno
import os

import pytest
from hpc.inside import Hurried, run, worker
from support import Calls, counting, failing, losing_reply

from ddmq import Broker
from ddmq.clock import Clock
from ddmq.hpc import journal
from ddmq.hpc.signals import Signals
from ddmq.storage.filesystem import FileSystem

pytestmark = pytest.mark.usefixtures("here", "patience")


@pytest.fixture
def work(root, broker, clock):
    """Return a function that lets a worker work on some messages; it returns the summary."""

    def work(texts, script, *words, **options):
        broker.publish_many("q", texts)
        command = ["sh", "-c", script, "sh", *words]
        options = {"batch": 10, "brake": False, "retries": 0, **options}
        return run(root, clock, command, **options)

    return work


class Stepping(Signals):
    """Signals in real time, with a step before each wait."""

    def __init__(self, clock, step):
        super().__init__(clock)
        self._step = step

    def wait(self, seconds, readers, writers=()):
        self._step()
        super().wait(min(seconds, 0.05), readers, dict(writers))


#: Notes its arguments, a line for each run.
NOTE = 'echo "$@" >> runs'


#: Acks each message that it gets.
ACK = """
while read -r line; do
    id=${line#*'"id": "'}
    printf '{"id": "%s", "ack": true}\\n' "${id%%'"'*}" >&3
done
"""


def noted():
    with open("runs") as lines:
        return [line.split() for line in lines]


def texts(number):
    return [f"m{n}" for n in range(number)]


def test_messages_become_several_arguments(work, root):
    summary = work(texts(25), NOTE)
    assert summary.numbers["acked"] == 25
    assert noted() == [texts(25)[:10], texts(25)[10:20], texts(25)[20:]]
    runs = list(journal.read(f"{root}/q"))
    assert sorted({run.batch for run in runs}) == [5, 10]


def test_each_argument_with_a_placeholder_comes_for_each_message(work):
    work(texts(2), NOTE, "-s{slot}", "--in={}", "{/.}.out")
    assert noted() == [["-s1", "--in=m0", "--in=m1", "m0.out", "m1.out"]]


def test_standard_input_has_a_line_for_each(work, here):
    work(texts(3), "cat > lines; echo $DDMQ_BATCH $DDMQ_ID >> runs", stdin=True)
    assert (here / "lines").read_text() == "m0\nm1\nm2\n"
    assert noted() == [["3"]]  # nothing that is of one message only


def test_a_text_with_several_lines_is_not_given_among_lines(work, here):
    work(
        ["a", "b\nc", "d", *texts(8)],
        "cat >> lines; echo $DDMQ_BATCH >> runs",
        stdin=True,
    )
    assert sum(int(n) for [n] in noted()) == 11
    assert ["1"] in noted()


def test_one_bad_message_fails_none_of_the_others(work, broker):
    script = f"{NOTE}; for x; do [ $x != m3 ] || exit 1; done"
    summary = work(texts(10), script)
    assert (summary.numbers["acked"], summary.numbers["failed"]) == (9, 1)
    assert noted() == [texts(10), *([text] for text in texts(10))]
    [dead] = broker.dead("q")
    assert dead.message == "m3"


@pytest.mark.parametrize(
    ("end", "states"), [("exit 75", (0, 0, 10, 0)), ("exit 7", (0, 0, 0, 10))]
)
def test_a_status_with_a_meaning_is_of_all_or_of_each(work, broker, end, states):
    work(texts(10), f"{NOTE}; {end}", fatal=frozenset([7]), max_messages=20)
    assert tuple(broker.view("q")["q"]) == states
    assert len(noted()) == (1 if end == "exit 75" else 11)


@pytest.mark.parametrize(
    ("length", "limit", "env"),
    [(2_500, 1 << 62, {}), (1_000, None, {f"V{n}": "v" * 100_000 for n in range(12)})],
    ids=["no upper bound is known", "variables take the room"],
)
def test_what_the_kernel_does_not_take_together_is_run_in_parts(
    work, monkeypatch, length, limit, env
):
    """With `ulimit -s unlimited`, some C libraries know no limit, but the kernel has one."""
    real = os.sysconf
    limits = {"SC_ARG_MAX": limit or real("SC_ARG_MAX")}
    monkeypatch.setattr(os, "sysconf", lambda name: limits.get(name) or real(name))
    many = [f"{n}".ljust(length, "x") for n in range(1_200)]
    summary = work(many, "echo $# >> runs", batch=len(many), env=env)
    assert (summary.numbers["acked"], summary.numbers["failed"]) == (len(many), 0)
    assert sum(int(number) for [number] in noted()) == len(many)
    assert len(noted()) < 20


def test_one_that_takes_too_long_fails_alone(work, broker):
    script = f"{NOTE}; for x; do [ $x != m3 ] || sleep 1000; done"
    summary = work(texts(5), script, timeout=20, grace=1)
    assert (summary.numbers["acked"], summary.numbers["failed"]) == (4, 1)


def test_what_came_back_runs_alone(root, broker, clock):
    broker.publish_many("q", texts(12))
    broker.nack(broker.consume("q"))
    run(root, clock, ["sh", "-c", NOTE, "sh"], batch=10)
    assert sorted(map(len, noted())) == [1, 2, 9]
    assert ["m0"] in noted()


def test_slots_share_what_there_is(work):
    work(texts(12), NOTE, slots=3)
    assert sorted(map(len, noted())) == [4, 4, 4]


def test_no_more_are_started_than_may_be(work, broker):
    assert work(texts(30), NOTE, max_messages=13).numbers["acked"] == 13
    assert broker.view("q")["q"].waiting == 17


def test_what_waits_behind_a_failed_batch_is_given_back_for_others(root, broker, clock):
    """And the worker sleeps meanwhile, though messages of that batch wait for the slot, too."""
    broker.publish_many("q", texts(40))
    seen = []

    def step():
        seen.append(broker.view("q")["q"].work)
        if seen[-1] == 3 or len(seen) > 100:
            signals.drain_requested = True

    with Hurried(clock, step, pace=1) as signals:
        words = ["sh", "-c", "[ $# = 1 ] && exec sleep 600; exit 1", "sh"]
        known = [0.1] * 20  # so many are taken ahead
        made = worker(broker, root, signals, clock, words, known, batch=3, brake=False)
        made.run()
    assert 3 in seen  # the one that runs, and the others of its batch
    assert 10 <= seen.count(40) <= 30


@pytest.mark.parametrize("slots", [1, 2])
def test_a_message_of_a_batch_that_failed_counts_once(work, broker, slots):
    script = f"{NOTE}; [ $# = 1 ] && [ $1 != m3 ]"
    summary = work(texts(30), script, max_messages=10, slots=slots)
    assert (summary.numbers["acked"], summary.numbers["failed"]) == (9, 1)
    assert broker.view("q")["q"].waiting == 20


def test_what_is_told_of_many_is_of_none_of_them(work):
    script = 'echo "$A $B" >> runs'
    work(texts(3), script, env={"A": "{slot}", "B": "{x}{}"}, stdin=True)
    assert noted() == [["1", "{x}{}"]]


@pytest.mark.parametrize("code", [0, errno.ESTALE])
@pytest.mark.parametrize("options", [{"batch": 10}, {"persistent": True}])
def test_a_reply_that_is_lost_loses_no_ack(root, broker, clock, options, code):
    words = ["sh", "-c", ACK] if "persistent" in options else ["true"]
    for n in range(24):
        broker.publish_many("q", texts(10))
        calls = failing(n + 10, code) if code else losing_reply(n)
        fs = FileSystem(calls)
        summary = run(root, clock, words, fs=fs, until="done", brake=False, **options)
        assert (summary.numbers["acked"], summary.numbers["lost"]) == (10, 0), n
        assert not any(broker.view("q")["q"])


def test_a_file_server_that_is_away_is_told_of_once_for_all(
    root, broker, clock, caplog
):
    broker.publish_many("q", texts(50))
    away = []

    def call(_, name, function, arguments):
        if away and clock.now_ns < away[0]:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), arguments[0])
        return function(*arguments)

    def step():
        if os.path.exists("runs") and not away:
            away.append(clock.now_ns + int(20e9))

    words = ["sh", "-c", f"{NOTE}; exec sleep 0.1", "sh"]
    fs = FileSystem(Calls(call))
    summary = run(root, clock, words, fs=fs, step=step, batch=50)
    assert away
    assert summary.numbers["acked"] == 50
    said = [m for m in caplog.messages if "could not be settled yet" in m]
    assert len(said) == 1
    assert len(noted()) == 1


def test_long_texts_make_smaller_batches(work):
    long = [f"{n:02}" + "x" * 30_000 for n in range(90)]
    summary = work(long, "echo $# >> runs", batch=90)
    assert summary.numbers["acked"] == 90
    counts = [int(n) for [n] in noted()]
    assert sum(counts) == 90
    assert 1 < len(counts) < 10


@pytest.mark.parametrize("bad", ["a\0b", "x" * 200_000])
def test_a_text_that_can_be_no_argument_is_rejected_alone(work, broker, bad):
    summary = work(["a", bad, "b", *texts(8)], "echo $# >> runs")
    assert (summary.numbers["acked"], summary.numbers["failed"]) == (10, 1)
    [dead] = broker.dead("q")
    assert dead.message == bad


def test_one_log_and_one_line_tell_of_a_batch(work, here, caplog):
    work(texts(3), "echo out; exit 1", logs="all", log_dir=str(here / "logs"))
    assert caplog.messages[0] == (
        "exit status 1 of a batch: each of its 3 messages is run by itself"
    )
    assert len([*(here / "logs").rglob("*.out")]) == 4


def test_a_drain_gives_all_of_it_back_uncounted(root, broker, clock):
    broker.publish_many("q", texts(12))

    def step():
        signals.drain_requested = os.path.exists("runs")

    with Hurried(clock, step) as signals:
        mine = Broker(root, clock=clock)
        words = ["sh", "-c", f"{NOTE}; exec sleep 1000", "sh"]
        summary = worker(mine, root, signals, clock, words, batch=10, grace=1).run()
    assert summary.numbers["released"] >= 10
    back = broker.consume("q", 12)
    assert [m.message for m in back] == texts(12)
    assert not any(m.requeue_counter for m in back)


def test_a_drain_between_a_batch_and_its_messages_gives_them_back(root, broker, clock):
    broker.publish_many("q", texts(10))

    def step():
        signals.drain_requested = os.path.exists("runs") and len(noted()) >= 3

    with Hurried(clock, step) as signals:
        mine = Broker(root, clock=clock)
        words = ["sh", "-c", f"{NOTE}; [ $# = 1 ]", "sh"]
        summary = worker(mine, root, signals, clock, words, batch=10, grace=1).run()
    left = broker.consume("q", 10)
    assert len(left) + summary.numbers["acked"] == 10
    assert not any(m.requeue_counter for m in left)


def test_when_one_lease_is_lost_the_others_are_given_back(root, here):
    client = Broker(root, create=True)
    client.create_queue("q")
    client.publish_many("q", texts(10), timeout=3)  # it is renewed each second
    taken = []

    def step():
        if os.path.exists("runs") and not taken:
            taken.append(ids[4])
            client.nack(client.leased("q", ids[4]))
            here.joinpath("taken").touch()

    ids = [message.id for message in client.consume("q", 10)]
    client.release([client.leased("q", id_) for id_ in ids])
    clock = Clock()
    with Stepping(clock, step) as signals:
        # It looks before it notes that it runs: one is taken as soon as that is seen.
        script = f"[ -e taken ] || first=1; {NOTE}; [ -z $first ] || exec sleep 1000"
        words = ["sh", "-c", script, "sh"]
        mine = Broker(root)
        summary = worker(mine, root, signals, clock, words, batch=10).run()
    assert taken
    assert summary.numbers == {
        "acked": 10,
        "failed": 0,
        "released": 9,
        "moved": 0,
        "lost": 1,
    }


def test_all_that_went_well_is_acked_by_one_call(root, broker, clock):
    broker.publish_many("q", texts(50))
    calls = counting()
    fs = FileSystem(calls)
    summary = run(root, clock, ["true"], batch=50, fs=fs)
    assert summary.numbers["acked"] == 50
    assert calls.made.count("rename") <= 5


def test_those_that_are_acked_together_count_for_the_share_that_failed(work):
    script = "for x; do [ $x != bad ] || exit 1; done"
    summary = work(["bad"] * 5 + texts(15), script, batch=5, max_failed_share=0.5)
    # The next batch begins before the acks of the one before, and is the last.
    assert (summary.numbers["failed"], summary.numbers["acked"]) == (5, 10)
    assert summary.stopped == "5 of 10 messages failed"
