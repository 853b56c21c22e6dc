"""When a worker runs what follows, and what becomes of that, on a clock that can be turned."""

from __future__ import annotations

import errno
import os

import pytest
from hpc.inside import Hurried, worker
from support import Calls

from ddmq import Broker, StorageError
from ddmq.hpc.limits import Deadline
from ddmq.storage.filesystem import FileSystem


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def work(root, broker, clock, here):
    """Return a function that lets a worker work, and time pass while it waits."""

    def work(
        then="echo then >> log", fs=None, step=lambda _: None, until="empty", **options
    ):
        with Hurried(clock, lambda: step(signals), pace=3.0, busy=0.1) as signals:
            client = Broker(root, clock=clock, fs=fs)
            made = worker(
                client,
                root,
                signals,
                clock,
                'echo "$0" >> log; eval "$0"',
                then=("sh", "-c", then),
                until=until,
                **options,
            )
            return made.run()

    return work


def log(here):
    path = here / "log"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def states(root):
    return sorted(x.rpartition(".")[2] for x in os.listdir(root / "q" / "then"))


def test_it_runs_when_all_is_done_and_knows_of_what(broker, work, here, root):
    broker.publish_many("q", ["true", "true"])
    told = 'env | grep "^DDMQ_" | sort >> log'
    summary = work(told)
    assert (summary.numbers["acked"], summary.then_is_left) == (2, False)
    variables = dict(line.partition("=")[::2] for line in log(here)[2:])
    assert variables.keys() == {
        *("DDMQ_ROOT", "DDMQ_RUN", "DDMQ_THEN_DEAD", "DDMQ_THEN_ID")
    }
    assert variables["DDMQ_THEN_DEAD"] == "0"
    assert states(root) == []


def test_it_is_armed_before_a_message_is_run(broker, work, here):
    broker.publish("q", f"ls {broker.root}/q/then >> log")
    work()
    assert log(here)[1:] == ["armed", "then"]


def test_no_message_is_run_before_it_is_armed(broker, work, here, refusing):
    broker.publish("q", "true")
    fs = refusing("symlink", errno.EIO, times=3)
    summary = work(fs=fs)
    assert (summary.numbers["acked"], log(here)) == (1, ["true", "then"])
    assert broker.view("q")["q"] == (0, 0, 0, 0)


def test_where_it_can_not_be_armed_for_good_nothing_is_run(
    broker, work, here, refusing
):
    broker.publish("q", "true")
    with pytest.raises(StorageError):
        work(fs=refusing("symlink", errno.EACCES))
    assert log(here) == []
    [message] = broker.consume("q")
    assert message.requeue_counter == 0


def test_it_does_not_run_where_nothing_was_taken(work, here, root):
    work()
    assert log(here) == []
    assert not (root / "q" / "then").exists()


@pytest.mark.parametrize("verb", ["hold", "delay"])
def test_it_does_not_run_while_others_have_some(broker, work, here, root, verb):
    broker.publish_many("q", ["true", "true"])
    if verb == "hold":
        broker.consume("q")
    else:
        broker.nack(broker.consume("q"), delay=10**6)
    work()
    assert (log(here), states(root)) == (["true"], ["armed"])


def test_who_goes_on_until_all_is_done_runs_it_then(broker, clock, work, here):
    broker.publish_many("q", ["true", "true"], timeout=30)
    broker.consume("q")  # by somebody who dies
    work(until="done")
    assert log(here) == ["true", "true", "then"]


def test_who_never_ends_runs_it_each_time(broker, work, here):
    broker.publish("q", "true")
    later = ["true"]

    def step(signals):
        signals.drain_requested = log(here).count("then") == 2
        if later and log(here) == ["true", "then"]:
            broker.publish("q", later.pop())

    work(until="forever", step=step)
    assert log(here) == ["true", "then"] * 2


def test_what_it_publishes_is_run_and_followed_by_it(broker, work, here, root):
    broker.publish("q", "true")
    publish = f"""mkdir once && printf %s '"true"' > {root}/q/drop/x; echo then >> log; exit 0"""
    work(publish, until="done", wait=60)
    assert log(here)[:2] == ["true", "then"]


def test_it_is_not_begun_at_the_end_of_the_job(
    broker, work, here, root, clock, monkeypatch
):
    broker.publish("q", "true")
    end = Deadline(clock.monotonic() + 15, fixed=0)

    real = Broker.ack

    def ack(self, message):
        real(self, message)
        clock.advance(10)  # less than the grace is left

    monkeypatch.setattr(Broker, "ack", ack)
    monkeypatch.setattr("hpc.inside.Deadline", lambda _: end)
    summary = work()
    assert (log(here), states(root)) == (["true"], ["armed"])
    assert (summary.then_is_left, summary.at_end) == (True, True)


def test_it_is_interrupted_at_the_end_of_the_job(
    broker, work, here, root, clock, monkeypatch
):
    broker.publish("q", "true")
    end = Deadline(clock.monotonic() + 100, fixed=0)
    monkeypatch.setattr("hpc.inside.Deadline", lambda _: end)
    summary = work("echo then >> log; exec sleep 600")
    assert (log(here), states(root)) == (["true", "then"], ["waiting"])
    assert (summary.then_is_left, summary.at_end) == (True, True)
    assert clock.monotonic() <= end.at + 3


def test_its_lease_is_renewed_however_long_it_takes(broker, work, here, root, clock):
    broker.publish("q", "true")
    began = clock.monotonic()
    places = set()

    def step(signals):
        if "then" in log(here):
            places.update(os.listdir(root / "q" / "then"))
            clock.advance(30)
        if clock.monotonic() - began > 1500:
            (here / "go").touch()

    work("echo then >> log; until [ -e go ]; do sleep 0.01; done", step=step)
    assert len(places) >= 1500 // (200 + 30)  # after a third of it, seen a step later
    assert states(root) == []


def test_one_whose_lease_is_lost_is_killed(broker, work, here, root, clock):
    broker.publish("q", "true")
    stolen = []

    def step(signals):
        if "then" in log(here) and not stolen:
            clock.advance(601)
            [mine] = broker.with_follow_ups("q", lambda x: x.look()[1])
            stolen.append(broker.with_follow_ups("q", lambda x: x.claim(mine, 600)))

    summary = work("echo then >> log; exec sleep 600", step=step)
    assert (log(here), states(root)) == (["true", "then"], ["leased"])
    assert not summary.then_is_left


def test_a_file_server_that_is_away_for_a_while_harms_nothing(broker, work, here, root):
    broker.publish("q", "true")
    failures = [3]

    def call(_, name, function, arguments):
        at = str(arguments[0])
        if name == "unlink" and "/then/" in at and failures[0]:
            failures[0] -= 1
            raise OSError(errno.EIO, "away", at)
        return function(*arguments)

    work(fs=FileSystem(Calls(call)))
    assert (log(here), states(root), failures) == (["true", "then"], [], [0])


@pytest.mark.parametrize("number", range(3))
def test_who_is_not_told_what_became_of_a_change_stays_until_it_is_run(
    broker, work, here, root, number
):
    """The claim, its beginning, or its end was made though it was called an error."""
    broker.publish("q", "true")
    left = [number]

    def call(_, name, function, arguments):
        result = function(*arguments)
        if name in ("rename", "unlink") and "/then/" in str(arguments[0]):
            left[0] -= 1
            if left[0] == -1:
                raise OSError(errno.EIO, "away", arguments[0])
        return result

    work(fs=FileSystem(Calls(call)))
    assert (log(here), states(root)) == (["true", "then"], [])
    assert left[0] < 0


def test_one_that_can_not_be_started_has_failed(broker, root, clock, here):
    broker.publish("q", "true")
    with Hurried(clock) as signals:
        made = worker(
            *(Broker(root, clock=clock), root, signals, clock, "true"),
            then=("/no/such",),
            retries=1,
        )
        summary = made.run()
    assert summary.then_has_failed
    assert states(root) == ["failed"]


def test_dead_letters_are_told_once_and_leave_it_armed(
    broker, work, here, root, caplog
):
    broker.publish("q", "exit 1", requeue_limit=0)

    def step(signals):
        signals.drain_requested = bool(broker.dead("q")) and signals.steps > 50
        signals.steps += 1

    Hurried.steps = 0
    try:
        summary = work(step=step, until="forever")
    finally:
        del Hurried.steps
    assert caplog.text.count("--then is not run") == 1
    assert (log(here), states(root)) == (["exit 1"], ["armed"])
    assert not summary.then_is_left


def test_a_worker_with_a_brake_leaves_it(broker, work, here, root):
    broker.publish_many("q", ["exit 1"] * 10, requeue_limit=0)
    summary = work()
    assert summary.braked
    assert states(root) == ["armed"]
    assert "then" not in log(here)
