"""The names in `workers/`: what they say, how long they stay, and what others put there."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Calls, Crash

from ddmq import Activity, Broker, Failure, Running
from ddmq.diagnose.doctor import diagnose
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.store import Store
from ddmq.storage.workers import (
    ENDED,
    IDLE,
    KEPT,
    MOST_BYTES,
    WORKING,
    Drain,
    Turn,
    WorkerName,
    Workers,
)

MINUTE, HOUR, WEEK = 60, 3600, 7 * 86400


@pytest.fixture
def workers(broker, root, clock):
    """The workers of a queue, as a process that just started sees them."""
    store = Store(f"{root}/q", FileSystem(root=str(root)), clock)
    store.open()
    return Workers(store)


@pytest.fixture
def place(root):
    return root / "q" / "workers"


@pytest.fixture
def named(clock):
    """Return a function that makes the name of a worker that started just now."""

    def named(number=0, **fields):
        now = int(clock.time() * 1000)
        usual = dict.fromkeys(WorkerName._fields, 0)
        usual.update(token=f"{number:016x}", time=now, state=IDLE, every=60)
        usual.update(started=now, slots=4, process=7, job="", host="node1")
        return WorkerName(**{**usual, **fields})

    return named


texts = st.text(max_size=80)
numbers = st.integers(0, 10**20)


@given(host=texts, job=texts, n=numbers)
def test_whatever_a_worker_is_called_its_name_fits_and_is_read(host, job, n):
    fields = dict.fromkeys(WorkerName._fields, n)
    fields.update(token="0" * 16, time=10**12, started=10**12, process=4194304)
    fields.update(state=WORKING, job=job, host=host)
    name = WorkerName(**fields).filename
    assert len(os.fsencode(name)) <= 255
    assert "/" not in name
    read = WorkerName.parse(name)
    assert read.filename == name
    if host.isascii() and host.isalnum() and len(host) <= 63:
        assert read.host == host


def test_a_name_says_all_that_was_put_into_it(named):
    name = named(busy=3, acked=41, failed=2, released=1, moved=5, work=1234)
    name = name._replace(peak=2048, job="123[4].pbs-1_7", host="nöde.cluster")
    assert WorkerName.parse(name.filename) == name
    assert name.filename.isascii()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "0" * 16,
        "x",
        f"{'0' * 16}.{'9' * 13}.working.60",
        f"drain.{'0' * 13}.{'0' * 16}.root.",
        "\x1b[2J",
    ],
)
def test_what_is_no_name_of_a_worker_is_passed_over(workers, place, name):
    assert (WorkerName.parse(name), Drain.parse(name)) == (None, None)
    place.mkdir()
    if name:
        (place / name).touch()
    assert workers.all() == workers.old() == []
    assert workers.look("0" * 16) == (Turn(), [])


def test_there_are_none_where_no_worker_ever_was(broker, workers, place):
    assert broker.workers("q") == workers.old() == []
    assert not place.exists()


def test_each_change_is_one_rename_of_an_empty_file(broker, workers, place, named):
    first = named()
    workers.show(None, first)
    [inode] = {path.stat().st_ino for path in place.iterdir()}
    workers.show(first, named(busy=2, state=WORKING))
    [file] = place.iterdir()
    assert (file.stat().st_ino, file.stat().st_size) == (inode, 0)
    [seen] = broker.workers("q")
    assert (seen.state, seen.busy, seen.slots, seen.host) == ("working", 2, 4, "node1")


def test_one_whose_name_is_gone_makes_it_anew(workers, place, named):
    workers.show(None, named())
    for path in place.iterdir():
        path.unlink()
    workers.show(named(), named(busy=1))
    place.joinpath(named(busy=1).filename).unlink()
    place.rmdir()
    workers.show(named(busy=1), named(busy=2))
    assert os.listdir(place) == [named(busy=2).filename]


def test_in_a_queue_that_is_shared_others_may_rename_and_read(root, clock, named):
    broker = Broker(root, create=True, clock=clock)
    broker.create_queue("s", mode=0o2770)
    broker.with_workers("s", lambda each: each.show(None, named()))
    runs = Activity((Running(1, "a", 1, ""),))
    broker.with_workers("s", lambda each: each.tell("0" * 16, runs))
    place = root / "s" / "workers"
    assert stat.S_IMODE(place.stat().st_mode) == 0o2770
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o660}


def test_one_that_gives_no_sign_is_lost_until_it_gives_one(workers, named, clock):
    workers.show(None, named(1))
    workers.show(None, named(2, state=ENDED, acked=9))
    clock.advance(4 * MINUTE)
    assert [each.state for each in workers.all()] == ["lost", "ended"]
    assert workers.all()[0].seen == pytest.approx(clock.time() - 4 * MINUTE, abs=0.001)
    assert workers.all()[1].acked == 9
    workers.show(named(1, time=int(clock.time() * 1000) - 240_000), named(1))
    assert {each.state for each in workers.all() if each.seen > clock.time() - 1} == {
        "idle"
    }


def test_one_whose_process_this_node_has_no_more_is_lost_at_once(workers, named):
    with subprocess.Popen(["true"]) as gone:
        pass
    here = os.uname().nodename
    workers.show(None, named(1, host=here, process=gone.pid))
    workers.show(None, named(2, host=here, process=os.getpid()))
    workers.show(None, named(3, host="elsewhere", process=gone.pid))
    workers.show(None, named(4, host=here, process=9_999_999_999))  # nobody has that
    workers.show(None, named(5, host=here, process=gone.pid, state=ENDED))
    states = [each.state for each in workers.all()]
    assert states == ["lost", "idle", "idle", "idle", "ended"]


def test_a_time_far_ahead_is_not_believed(workers, named, clock):
    workers.show(None, named(time=10**13 - 1))
    assert [each.state for each in workers.all()] == ["lost"]
    assert workers.look("0" * 16).turn.number == 1
    assert len(workers.old()) == 1


def test_a_listing_that_shows_one_twice_counts_it_once(workers, named, clock):
    workers.show(None, named(acked=1))
    clock.advance(10)
    workers.show(None, named(acked=2))
    assert [each.acked for each in workers.all()] == [2]
    assert workers.look("1" * 16).turn.number == 1


def test_the_rate_is_that_of_the_busy_slots(workers, named):
    workers.show(None, named(busy=4, acked=9, failed=1, work=20_000))
    [seen] = workers.all()
    assert seen.rate == pytest.approx(2)  # each slot finishes one in two seconds
    assert named(busy=4).seen(0).rate is None


# What runs


def test_what_runs_for_long_is_told_in_a_file(workers, place, named):
    runs = (Running(2, "a1", 1700000000.5, "sample \x1b[2J", "40%"),)
    failures = (Failure("b1", 1700000003.5, "sample 2", "exit 1"),)
    workers.show(None, named(busy=1, state=WORKING))
    workers.tell(named().token, Activity(runs, failures, 1700000100.0))
    [seen] = workers.all(running=True)
    assert (seen.running, seen.failures, seen.ends) == (runs, failures, 1700000100.0)
    assert workers.all()[0].running == ()
    workers.tell(named().token, Activity())
    assert len(os.listdir(place)) == 1


def test_that_file_is_bounded(workers, place, named):
    workers.show(None, named(busy=1, state=WORKING))
    fish = "\U0001f41f" * 999
    runs = tuple(Running(n, "a", 1.0, fish) for n in range(999))
    failures = tuple(Failure("a", 1.0, fish, fish) for n in range(999))
    workers.tell(named().token, Activity(runs, failures))
    [file] = place.glob("*.slots")
    assert MOST_BYTES / 2 < file.stat().st_size <= MOST_BYTES
    [seen] = workers.all(running=True)
    assert len(seen.running) > 15
    assert {len(each.text) for each in seen.running} == {200}
    assert [len(each.reason) for each in seen.failures] == [200] * 3


def _told(fields):
    return b'{"running": [{%s}], "failures": [{%s}], "ends": 1e11}' % (
        (fields.encode(),) * 2
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"[1, null, {}]",
        b'{"running": 1, "failures": {}, "ends": []}',
        b'{"running": [1, null, {}], "failures": [1, {}], "ends": -1}',
        _told('"slot": 1, "id": 2, "started": 3, "text": "a", "progress": ""'),
        _told('"slot": true, "id": "a", "started": 3, "text": "a", "progress": ""'),
        _told('"slot": 1, "id": "a", "started": 1e999, "text": "a", "progress": ""'),
        _told('"slot": 1, "id": "a", "started": 3, "text": "a", "progress": 1'),
        _told('"id": "a", "ended": "x", "text": "a", "reason": "a"'),
        _told('"id": "a", "ended": 1, "text": "a", "reason": []'),
        b"\xff",
        "link",
        "fifo",
        "directory",
    ],
)
def test_whatever_is_in_its_place_tells_nothing(workers, place, named, data, tmp_path):
    workers.show(None, named(busy=1, state=WORKING))
    file = place / f"{named().token}.slots"
    if data == "link":
        sound = json.dumps({"running": [Running(1, "a", 1.0, "x")._asdict()]})
        (tmp_path / "secret").write_text(sound)
        file.symlink_to(tmp_path / "secret")
    elif data == "fifo":
        os.mkfifo(file)
    elif data == "directory":
        file.mkdir()
    else:
        file.write_bytes(data)
    [seen] = workers.all(running=True)
    assert (seen.running, seen.failures) == ((), ())
    assert seen.ends is None or seen.ends == 1e11


# A crash


def test_a_crash_before_any_call_disturbs_nobody(broker, root, clock, named):
    """Whatever it leaves is a worker that is lost, or a draft."""
    broker.publish("q", "a")
    runs = Activity((Running(1, "a", 1.0, "x"),))

    def lives(workers):
        workers.show(None, named())
        workers.tell(named().token, runs)
        workers.show(named(), named(busy=1))
        workers.look(named().token)
        workers.tell(named().token, Activity())
        workers.show(named(busy=1), named(state=ENDED))

    for number in range(99):
        shutil.rmtree(root / "q" / "workers", ignore_errors=True)

        def call(made, _, function, arguments, last=number):
            if made >= last:
                raise Crash
            return function(*arguments)

        store = Store(f"{root}/q", FileSystem(Calls(call), root=str(root)), clock)
        try:
            lives(Workers(store))
        except Crash:
            pass
        else:
            break
        assert len(broker.workers("q", running=True)) <= 1
        assert [each.message for each in broker.peek("q", 9)] == ["a"]
        assert broker.clean("q").dead == broker.clean("q").requeued == 0
        assert diagnose(str(root), ["q"], fix=False).is_well
    assert 12 < number < 98
    assert broker.workers("q")[0].state == "ended"


# What is forgotten


def test_what_ended_is_forgotten_after_a_week(broker, workers, place, named, clock):
    workers.show(None, named(1, state=ENDED))
    workers.show(None, named(2))
    workers.tell(named(2).token, Activity((Running(1, "a", 1.0, ""),)))
    workers.drain("all")
    for path in place.glob("*.slots"):
        os.utime(path, (clock.time(), clock.time()))
    clock.advance(WEEK - MINUTE)
    live = named(3)
    workers.show(None, live)
    broker.clean("q")
    assert len(os.listdir(place)) == 5
    clock.advance(2 * MINUTE)
    broker.clean("q")
    broker.clean("q")  # a slots file goes after the name of its worker
    assert os.listdir(place) == [live.filename]


def test_of_those_that_ended_the_latest_thousand_stay(workers, named, clock, place):
    now = int(clock.time() * 1000)
    for number in range(KEPT + 5):
        workers.show(None, named(number, state=ENDED, time=now + number))
    assert workers.old() == []
    clock.advance(HOUR)
    assert sorted(workers.old()) == [str(path) for path in sorted(place.iterdir())[:5]]


@pytest.mark.parametrize("kind", ["link", "file", "closed"])
def test_a_directory_of_another_kind_shows_nobody(broker, root, place, kind, tmp_path):
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    elif kind == "file":
        place.touch()
    else:
        place.mkdir(0)
    assert broker.workers("q") == []
    broker.clean("q")
    if kind == "link":
        assert os.listdir(tmp_path / "elsewhere") == []


def test_purge_doctor_and_delete_take_it_for_a_part_of_the_queue(
    broker, workers, root, place, named
):
    workers.show(None, named())
    workers.drain("host", "node1")
    broker.publish("q", "a")
    assert broker.purge("q").waiting == 1
    assert len(os.listdir(place)) == 2
    assert "workers" not in str(diagnose(broker.root, ["q"], fix=False))
    broker.delete_queue("q")
    assert not place.exists()
    broker.create_queue("q")
    assert broker.workers("q") == []


# Turns


@pytest.mark.parametrize("number", [1, 10, 100, 101, 1000, 20_000])
def test_all_turns_together_are_ten_a_second_at_most(number):
    tokens = [f"{n:016x}" for n in range(number)]
    turns = [Turn.of(token, tokens) for token in tokens]
    interval = turns[0].interval
    assert interval == max(10, number / 10)
    for moment in (0.0, 1_700_000_000.1):
        begin = sorted(turn.after(moment) for turn in turns)
        assert 0 <= begin[0] <= begin[-1] < interval
        tens = zip(begin, [*begin[10:], *(x + interval for x in begin[:10])])
        assert all(later - sooner >= 1 - 1e-6 for sooner, later in tens) or number <= 10


# Requests to drain


def test_a_request_means_those_that_started_before_it(workers, named, clock):
    early = named(1, host="a.cluster", job="12_3")
    workers.show(None, named(3, host="a.cluster", state=ENDED))
    clock.advance(1)
    workers.show(None, early)
    asked = [
        *(("all", ""), ("host", "a"), ("host", "a.cluster"), ("job", "12_3")),
        *(("job", "12"), ("host", "b"), ("job", "1"), ("job", "")),
    ]
    assert [workers.drain(*each) for each in asked] == [1] * 5 + [0] * 3
    drains = workers.look("0" * 16).drains
    assert sum(drain.means(early) for drain in drains) == 5
    clock.advance(1)
    later = named(2, host="a.cluster", job="12_3")
    assert not any(drain.means(later) for drain in drains)
    assert len(workers.all()) == 2


def test_a_request_makes_the_directory_for_those_that_begin_just_now(workers, place):
    assert workers.drain("all") == 0
    assert len(os.listdir(place)) == 1


def test_a_job_is_meant_by_its_number_and_whatever_fits_into_a_name(named):
    job = named(job="77.pbs-server_4")
    for which in ("77", "77.pbs-server", "77.pbs-server_4"):
        assert Drain(job.started, "job", which).means(job)
    assert not Drain(job.started, "job", "7").means(job)
    long = "1" * 99
    read = WorkerName.parse(named(job=long).filename)
    asked = Drain.parse(Drain(job.started, "job", long).filename)
    assert asked.means(read)


def test_many_files_that_others_plant_do_not_take_all_the_time(root, broker, clock):
    path = root / "q" / "workers"
    path.mkdir()
    for n in range(40):
        (path / f"{n:016x}.slots").touch()

    def slow(_, name, function, arguments):
        clock.advance(0.1 * (name == "lstat"))
        return function(*arguments)

    fs = FileSystem(Calls(slow))
    workers = Workers(Broker(root, fs=fs, clock=clock)._known("q").store)
    before = clock.monotonic()
    workers.old(0.5)
    assert clock.monotonic() - before < 1
