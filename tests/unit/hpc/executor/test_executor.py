"""Futures on a queue, with the test as the only worker: what it makes is made."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import stat
import sys
import threading
import types
from concurrent import futures

import pytest

from ddmq import Broker, InvalidArgument, QueueNotFound
from ddmq.hpc import CallFailed, Executor
from ddmq.hpc.executor.caller import Caller
from ddmq.hpc.functions.serving import Reject

TASKS = """
def double(x, plus=0):
    return 2 * x + plus

def fails(x):
    raise ValueError(x)
"""
pytestmark = pytest.mark.usefixtures("umask")
#: Seconds for which a test waits for what comes within milliseconds.
PATIENCE = 30


@pytest.fixture(autouse=True)
def tasks(tmp_path, monkeypatch):
    """A module of a user's, in whose directory he is."""
    (tmp_path / "executed_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield __import__("executed_tasks")
    sys.modules.pop("executed_tasks", None)


@pytest.fixture
def made(broker, root, clock):
    """Return a function that makes an Executor which starts no workers; it is ended."""
    all_ = []

    def make(queue="calls", **options):
        executor = Executor(root, queue, clock=clock, **options)
        executor._workers.are_started = True
        all_.append(executor)
        return executor

    yield make
    for executor in all_:
        executor._collector._fail(RuntimeError("the test is over"))
        executor.shutdown()
    gc.collect()  # an exception, its traceback and its future hold each other, and brokers


@pytest.fixture
def other(broker, root, clock):
    """Another client, which remembers nothing of the queue."""
    return Broker(root, clock=clock)


@pytest.fixture
def work(broker, root, tmp_path):
    """Return a function that makes so many calls, as a worker does; return how many it made."""

    def work(number, queue="calls", allowed="executed_tasks"):
        messages = broker.consume(queue, number)
        results = str(tmp_path / "ddmq-results" / queue)
        for message in messages:
            made = Caller(f"{root}/{queue}", results, "", "json", allowed)
            made._broker = broker  # which has the clock of the test
            made(message.message, message.requeue_counter)
            made._results.close()
            broker.ack(message)
        return len(messages)

    return work


@pytest.fixture
def pickled(made, root, tmp_path):
    """Return a function that makes an Executor of pickled calls, and their worker."""
    pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")
    root.chmod(0o700)
    opened = []

    def pickled(queue="calls", **options):
        executor = made(queue, serializer="cloudpickle", **options)
        places = f"{root.resolve()}/{queue}", executor.results
        caller = Caller(*places, "", "cloudpickle")
        opened.extend([caller._results, caller._form])
        return executor, caller

    yield pickled
    for each in opened:
        each.close()


@pytest.fixture
def later(clock):
    """Return a function that lets time pass until something comes of a future, and returns that."""

    def later(future, seconds=20):
        for _ in range(PATIENCE * 50):
            if futures.wait([future], 0.02).done:
                return future.exception() or future.result()
            clock.advance(seconds)
            future._collector._news.set()  # it may think that a look took so long
        raise AssertionError("nothing comes of it")

    return later


def test_a_call_is_a_message_and_its_result_a_file(made, work, tasks, broker):
    executor = made()
    future = executor.submit(tasks.double, 4, plus=1)
    assert not future.done()
    [seen] = broker.peek("calls")
    assert seen.message["function"] == "executed_tasks:double"
    assert seen.message["key"] == future.key
    assert work(1) == 1
    assert future.result(PATIENCE) == 9
    assert os.listdir(executor.results) == [future.key]


def test_queue_and_results_are_for_their_user_alone(made, broker, root):
    executor = made()
    for path in (root / "calls", executor.results):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert broker.settings("calls").message_timeout == 60


def test_what_is_there_stays_as_it_is(made, broker, tmp_path):
    broker.update_settings("q", message_timeout=5)
    (tmp_path / "out").mkdir(0o755)
    executor = made("q", results=tmp_path / "out")
    assert broker.settings("q").message_timeout == 5
    assert executor.results == f"{tmp_path}/out"
    executor.shutdown()
    assert "q" in broker.queues()
    assert (tmp_path / "out").is_dir()


def test_what_nobody_named_is_removed_in_the_end(made, broker, tasks, work, tmp_path):
    executor = made(None)
    future = executor.submit(tasks.double, 1)
    work(1, executor.queue)
    executor.shutdown()
    assert future.result() == 2
    assert broker.queues() == ["q"]
    assert not (tmp_path / "ddmq-results").exists()


def test_all_of_a_map_is_published_at_once_and_comes_in_order(made, work, tasks):
    results = made().map(tasks.double, range(50))
    assert work(100) == 50
    assert list(results) == list(range(0, 100, 2))


def test_a_map_can_make_several_calls_for_one_message(made, work, tasks):
    results = made().map(tasks.double, range(50), range(50), chunksize=20)
    assert work(100) == 3
    assert list(results) == [3 * n for n in range(50)]
    assert list(made("other").map(tasks.double, [])) == []
    with pytest.raises(ValueError, match="chunksize"):
        made("third").map(tasks.double, [1], chunksize=0)


def test_a_map_that_is_left_takes_out_what_waits(made, work, tasks, other):
    results = made().map(tasks.double, range(50))
    work(1)
    assert next(results) == 0
    results.close()
    assert other.consume("calls") == []


def test_an_exception_is_that_of_the_call(made, work, tasks):
    future = made().submit(tasks.fails, "bad")
    work(1)
    with pytest.raises(ValueError, match="bad") as found:
        future.result(PATIENCE)
    assert "in fails" in str(found.value.__cause__)


def test_a_call_that_waits_can_be_taken_out(made, work, tasks, broker):
    executor = made()
    first, second = (executor.submit(tasks.double, n) for n in (1, 2))
    assert first.cancel()
    assert first.cancelled()
    assert first.cancel()
    assert work(10) == 1
    assert second.result(PATIENCE) == 4
    assert not second.cancel()
    assert futures.wait([first, second], PATIENCE).not_done == set()


def test_a_call_that_a_worker_has_can_not_be_taken_out(
    made, tasks, broker, other, work
):
    executor = made()
    results = executor.map(tasks.double, range(10))
    held = broker.consume("calls", 3)
    found = list(executor._collector._pending.values())
    assert [future.cancel() for future in found] == [False] * 3 + [True] * 7
    assert len(other.to_cancel("calls")) == 7
    assert other.to_cancel("calls").isdisjoint(message.id for message in held)
    broker.release(held)
    assert work(10) == 3
    assert [next(results) for _ in range(3)] == [0, 2, 4]


def test_the_call_of_a_submit_that_a_worker_has_goes_on(
    made, tasks, broker, other, work
):
    future = made().submit(tasks.double, 1)
    [held] = broker.consume("calls")
    assert not future.cancel()
    assert other.to_cancel("calls") == frozenset()
    broker.release(held)
    work(1)
    assert future.result(PATIENCE) == 2


def test_what_can_not_be_published_is_expected_of_nobody(made, tasks, broker):
    executor = made()
    with pytest.raises(InvalidArgument, match="no JSON"):
        executor.submit(tasks.double, {1})
    with pytest.raises(InvalidArgument, match="max_message_size"):
        executor.submit(tasks.double, "x" * 2_000_000)
    with pytest.raises(InvalidArgument, match="max_message_size"):
        executor.map(tasks.double, ["x" * 2_000_000])
    executor.shutdown()
    assert broker.is_empty("calls")


def test_only_functions_of_the_modules_that_workers_know_are_taken(made, tasks):
    executor = made()
    executor.submit(tasks.double, 1)
    with pytest.raises(InvalidArgument, match=r"allow=\[…, 'posix'\]"):
        executor.submit(os.getpid)
    with pytest.raises(InvalidArgument, match="at the top of a module"):
        executor.submit(lambda: 1)
    both = made("both", allow=["json", "executed_tasks"])
    both.submit(tasks.double, 1)


def test_a_call_that_is_a_dead_letter_has_failed(made, tasks, broker, clock):
    future = made().submit(tasks.double, 1)
    broker.reject(broker.consume("calls"), "killed by SIGKILL", {"stderr": "oh\nno"})
    clock.advance(3)
    with pytest.raises(CallFailed, match="double was not called: killed by SIGKILL"):
        future.result(PATIENCE)
    assert "oh\nno" in str(future.exception())


def test_what_is_no_result_is_left_out(made, work, tasks, tmp_path, caplog):
    executor = made()
    future = executor.submit(tasks.double, 1)
    results = tmp_path / "ddmq-results" / "calls"
    secret = tmp_path / "secret"
    secret.write_text("secret")
    keys = [f"{n:023d}-{n:09d}" for n in range(5)]
    (results / keys[0]).symlink_to(secret)
    os.mkfifo(results / keys[1])
    said = {"key": future.key, "value": 1, "error": None}
    planted = {
        keys[2]: "no JSON",
        keys[3]: json.dumps(said),  # another call's
        keys[4]: json.dumps({**said, "key": keys[4]}),  # no call's
    }
    for (
        name,
        text,
    ) in planted.items():  # whole at once: it is read as soon as it is there
        (tmp_path / name).write_text(text)
        (tmp_path / name).rename(results / name)
    (results / "mine").write_text("not even a name of one")
    work(1)
    assert future.result(PATIENCE) == 2
    executor.shutdown()
    assert caplog.text.count("is left out") == 4


def test_a_result_that_can_not_be_read_now_is_read_later(made, work, tasks, caplog):
    def refuse(name):
        if len(asked) < 3:
            asked.append(name)
            raise OSError(errno.EIO, "away", name)
        return real(name)

    executor = made()
    asked, real = [], executor._answers.ordinary_file
    executor._answers.ordinary_file = refuse
    future = executor.submit(tasks.double, 1)
    work(1)
    assert future.result(PATIENCE) == 2
    assert len(asked) == 3
    assert caplog.text.count("tried again") == 1


def test_the_calls_of_a_process_that_ended_are_found_again(
    made, work, tasks, broker, clock
):
    first = made()
    first.map(tasks.double, range(4))
    first.submit(tasks.fails, "bad")
    keys = sorted(first._collector._pending)
    broker.reject(broker.consume("calls"))
    work(2)
    [held] = broker.consume("calls")
    other = Executor.attach(broker.root, "calls", clock=clock)
    assert [future.key for future in other.futures] == keys
    clock.advance(3)
    with pytest.raises(CallFailed):
        other.futures[0].result(PATIENCE)
    assert [f.result(PATIENCE) for f in other.futures[1:3]] == [2, 4]
    broker.release(held)
    work(2)
    assert other.futures[3].result(PATIENCE) == 6
    assert isinstance(other.futures[4].exception(PATIENCE), ValueError)
    assert not other._workers.are_started
    other.shutdown()


def test_after_the_end_no_call_is_taken(made, tasks):
    executor = made()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(tasks.double, 1)
    executor.shutdown()


def test_the_end_waits_or_does_not(made, tasks, work):
    executor = made()
    future = executor.submit(tasks.double, 1)
    executor.shutdown(wait=False)
    assert not future.done()
    ending = threading.Thread(target=executor.shutdown)
    ending.start()
    assert ending.is_alive()
    work(1)
    ending.join(PATIENCE)
    assert future.result() == 2


def test_whatever_goes_wrong_with_looking_fails_the_calls(made, tasks, broker):
    executor = made()

    def look():
        raise ZeroDivisionError("never thought of")

    executor._collector._look = look
    future = executor.submit(tasks.double, 1)
    with pytest.raises(futures.BrokenExecutor, match="never thought of"):
        future.result(PATIENCE)


def test_workers_that_can_not_go_on_fail_the_calls(made, tasks):
    executor = made()
    executor._workers.trouble = lambda *, has_come: "the worker ended with status 5"
    future = executor.submit(tasks.double, 1)
    with pytest.raises(futures.BrokenExecutor, match="status 5"):
        future.result(PATIENCE)
    with pytest.raises(RuntimeError):
        executor.submit(tasks.double, 1)


def open_queue(root, results):
    (root / "q").chmod(0o770)


def linked_queue(root, results):
    (root / "q").rename(root.parent / "elsewhere")
    (root / "q").symlink_to(root.parent / "elsewhere")


def open_results(root, results):
    results.mkdir()
    results.chmod(0o757)


def linked_results(root, results):
    (results.parent / "mine").mkdir(0o700)
    results.symlink_to("mine")


def open_root(root, results):
    root.chmod(0o775)


@pytest.mark.parametrize(
    ("spoil", "advice"),
    [
        (open_queue, "/q: it may be written to by others; `chmod"),
        (linked_queue, "/q: it is a link"),
        (open_results, "/out: it may be written to by others"),
        (linked_results, "/out: it is a link"),
        (open_root, "others may write there, and so replace a queue; `chmod"),
    ],
)
def test_where_others_may_write_no_calls_are_made(
    made, broker, root, tmp_path, spoil, advice, clock
):
    results = tmp_path / "out"
    spoil(root, results)
    was_there = results.exists()
    with pytest.raises(InvalidArgument, match=advice) as found:
        made("q", results=results)
    assert "shared=True" in str(found.value)
    assert results.exists() == was_there
    results.mkdir(exist_ok=True)
    with pytest.raises((InvalidArgument, QueueNotFound)):
        Executor.attach(root, "q", results=results, clock=clock)


@pytest.mark.parametrize("spoil", [open_queue, open_results, linked_results, open_root])
def test_that_others_may_write_can_be_meant(made, broker, root, tmp_path, spoil):
    spoil(root, tmp_path / "out")
    made("q", results=tmp_path / "out", shared=True)


def test_of_a_root_for_all_nobody_removes_what_another_made(made, broker, root):
    root.chmod(0o1777)
    made("q")


@pytest.mark.root("give files away")
@pytest.mark.parametrize("which", ["mq/q", "out"])
def test_what_belongs_to_somebody_else_is_not_used(made, broker, tmp_path, which):
    (tmp_path / "out").mkdir()
    os.chown(tmp_path / which, 12345, -1)
    with pytest.raises(InvalidArgument, match=f"{which}: it belongs to somebody else"):
        made("q", results=tmp_path / "out")


def test_to_attach_makes_nothing(broker, root, tmp_path, clock):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(QueueNotFound):
        Executor.attach(root, "none", clock=clock)
    with pytest.raises(InvalidArgument, match="results="):
        Executor.attach(root, "q", clock=clock)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_call_for_which_a_map_did_not_wait_longer_is_taken_out(
    made, tasks, other, clock
):
    results = made().map(tasks.double, range(20), timeout=0)
    with pytest.raises(futures.TimeoutError):
        next(results)
    assert other.consume("calls") == []


def test_calls_whose_queue_is_deleted_fail(made, tasks, broker, later):
    future = made().submit(tasks.double, 1)
    broker.delete_queue("calls")
    found = later(future, 3)
    assert isinstance(found, futures.BrokenExecutor)
    assert "/calls: no such queue" in str(found)


def test_calls_whose_root_is_gone_fail(made, tasks, root, later):
    future = made().submit(tasks.double, 1)
    shutil.rmtree(root)
    found = later(future, 3)
    assert isinstance(found, futures.BrokenExecutor)
    assert "no ddmq root" in str(found)


def test_that_workers_are_in_trouble_is_told_while_results_are_away(made, tasks):
    def refuse():
        raise OSError(errno.EIO, "away")

    executor = made()
    executor._answers.names = refuse
    executor._workers.trouble = lambda *, has_come: "the worker ended with status 5"
    with pytest.raises(futures.BrokenExecutor, match="status 5"):
        executor.submit(tasks.double, 1).result(PATIENCE)


def test_a_call_that_was_purged_fails_and_no_other(made, tasks, other, work, later):
    executor = made()
    first = executor.submit(tasks.double, 1)
    other.purge("calls", ["waiting"])
    second = executor.submit(tasks.double, 2)
    found = later(first)
    assert isinstance(found, CallFailed)
    assert "was it purged" in str(found)
    assert not second.done()
    work(1)
    assert later(second) == 4


def test_calls_whose_directory_of_results_is_gone_are_looked_for_all_the_same(
    made, tasks, other, later, monkeypatch
):
    def stale():
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))  # as NFS says of it

    executor = made()
    monkeypatch.setattr(executor._collector._results, "names", stale)
    future = executor.submit(tasks.double, 1)
    other.ack(other.consume("calls"))
    assert isinstance(later(future), CallFailed)


def test_a_call_that_is_long_at_work_does_not_fail(made, tasks, broker):
    executor = made()
    executor.submit(tasks.double, 1)
    future = executor.submit(tasks.double, 2)
    broker.ack(broker.consume("calls"))
    broker.consume("calls")
    for now in (0, 100, 200):
        executor._collector._look_for_lost(now)
    assert list(executor._collector._pending.values()) == [future]


def test_calls_fail_when_no_job_is_left(made, tasks, later):
    executor = made()
    executor._workers._jobs = {"": ["1"]}
    executor._workers.have_left = lambda: True
    found = later(executor.submit(tasks.double, 1))
    assert isinstance(found, futures.BrokenExecutor)
    assert "all Slurm jobs have ended" in str(found)


def test_calls_wait_for_jobs_and_for_other_workers(made, tasks, broker):
    executor = made()
    executor._workers.have_left = lambda: False
    assert [executor._collector._missing_jobs(now) for now in (0, 100, 200)] == [""] * 3
    executor._workers.have_left = lambda: True
    assert executor._collector._missing_jobs(300) == ""
    executor._broker.workers = lambda queue: [seen]
    seen = types.SimpleNamespace(is_live=True)
    assert executor._collector._missing_jobs(400) == ""
    seen.is_live = False
    assert executor._collector._missing_jobs(500) == ""
    assert "have ended" in executor._collector._missing_jobs(600)


def test_the_end_takes_back_jobs_that_wait(made):
    executor = made()
    asked = []
    executor._workers.are_jobs = True
    executor._workers.cancel_waiting = lambda: asked.append("cancelled")
    executor.shutdown()
    assert asked == ["cancelled"]


# Several calls in one message


def test_many_calls_of_a_map_are_in_few_messages(made, work, tasks, broker):
    results = made().map(tasks.double, range(400))
    assert broker.view("calls")["calls"].waiting == 100
    assert work(1000) == 100
    assert list(results) == list(range(0, 800, 2))


def test_a_message_of_several_is_taken_out_when_nobody_wants_any(made, tasks, other):
    executor = made()
    executor.map(tasks.double, range(200))
    keys = sorted(executor._collector._pending)
    pending = executor._collector._pending
    first, second, *_ = (pending[key] for key in keys)
    assert not first.cancel()  # the other one in its message is wanted
    executor._collector.take_out([first, second])
    assert first.cancelled()
    assert second.cancelled()
    assert len(other.to_cancel("calls")) == 1
    executor.shutdown(wait=False, cancel_futures=True)
    assert other.consume("calls") == []


def test_the_calls_of_a_message_that_came_back_are_messages_of_their_own(
    made, work, tasks, broker
):
    results = made().map(tasks.double, range(200))
    broker.nack(broker.consume("calls"))
    assert work(1000) == 100
    assert work(1000) == 2
    assert list(results) == list(range(0, 400, 2))


def test_each_call_of_a_message_that_is_dead_has_failed(made, tasks, broker, later):
    executor = made()
    executor.map(tasks.double, range(200))
    keys = sorted(executor._collector._pending)
    found = [executor._collector._pending[key] for key in keys]
    broker.reject(broker.consume("calls"), "no module")
    assert "no module" in str(later(found[0], 3))
    assert "no module" in str(later(found[1], 3))
    assert not found[2].done()


def test_another_process_finds_each_call_of_a_message(made, work, tasks, broker, clock):
    made().map(tasks.double, range(200))
    work(3)
    other = Executor.attach(broker.root, "calls", clock=clock)
    work(100)
    assert [f.result(PATIENCE) for f in other.futures] == list(range(0, 400, 2))
    other.shutdown()


# Pickled calls


def test_a_pickled_call_is_made_of_anything(pickled, broker):
    executor, caller = pickled()
    more = {3}
    futures_ = [executor.submit(lambda x: more | x, {n}) for n in range(2)]
    for message in broker.consume("calls", 2):
        assert message.message["function"].startswith(f"{__name__}:test_a_pickled")
        caller(message.message, 0)
    assert [f.result(PATIENCE) for f in futures_] == [{3, 0}, {3, 1}]
    for name in os.listdir(executor.results):
        mode = os.stat(f"{executor.results}/{name}").st_mode
        assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize(
    ("spoil", "advice"),
    [
        (open_queue, "/q: it may be written to by others; `chmod"),
        (linked_queue, "/q: it is a link"),
        (open_results, "/out: it may be written to by others"),
        (open_root, "others may write there"),
        (lambda root, _: root.chmod(0o1777), "/mq: it may be written to by others"),
        (lambda root, _: root.parent.chmod(0o775), "it may be written to by others"),
        (lambda root, _: (root / "q" / "ready").chmod(0o770), "/ready: it may be writ"),
    ],
)
def test_where_others_may_write_no_calls_are_pickled(
    pickled, broker, root, tmp_path, spoil, advice
):
    spoil(root, tmp_path / "out")
    with pytest.raises(InvalidArgument, match=advice):
        pickled("q", results=tmp_path / "out")


@pytest.mark.root("give files away")
@pytest.mark.parametrize("which", ["mq", "mq/q", "out", "mq/q/ready", "mq/q/ddmq.yaml"])
def test_what_belongs_to_somebody_else_is_no_place_for_pickles(
    pickled, broker, tmp_path, which
):
    broker.update_settings("q", message_timeout=5)
    (tmp_path / "out").mkdir(mode=0o700)
    os.chown(tmp_path / which, 12345, -1)
    with pytest.raises(InvalidArgument, match=f"{which}: it belongs to somebody else"):
        pickled("q", results=tmp_path / "out")


def test_links_on_the_way_are_resolved_once(pickled, root, tmp_path):
    (tmp_path / "link").symlink_to("ddmq-results")
    executor, _ = pickled(results=tmp_path / "link" / "calls")
    assert executor.results == f"{tmp_path}/ddmq-results/calls"


def test_no_call_is_published_when_the_queue_was_opened_meanwhile(
    pickled, broker, root
):
    executor, _ = pickled()
    (root / "calls").chmod(0o770)
    with pytest.raises(InvalidArgument, match="it may be written to by others"):
        executor.submit(len, "")
    with pytest.raises(InvalidArgument, match="it may be written to by others"):
        executor.map(len, ["", ""])
    executor.shutdown()
    assert broker.is_empty("calls")


def test_a_call_is_rejected_when_the_queue_was_opened_meanwhile(pickled, broker, root):
    executor, caller = pickled()
    executor.submit(len, "")
    [message] = broker.consume("calls")
    (root / "calls").chmod(0o770)
    with pytest.raises(Reject, match="it may be written to by others"):
        caller(message.message, 0)
    assert os.listdir(executor.results) == []


def test_no_result_is_unpickled_when_its_directory_was_opened_meanwhile(
    pickled, broker, monkeypatch
):
    executor, caller = pickled()
    future = executor.submit(len, "")
    [message] = broker.consume("calls")
    os.chmod(executor.results, 0o770)
    monkeypatch.setattr(caller._form._enclosure, "check", lambda: None)
    caller(message.message, 0)  # as whoever may write there now would
    with pytest.raises(InvalidArgument, match="it may be written to by others"):
        future.result(PATIENCE)


def test_a_result_that_others_may_write_to_is_left_out(pickled, broker, caplog):
    executor, caller = pickled()
    future = executor.submit(len, "")
    [message] = broker.consume("calls")
    caller._results = types.SimpleNamespace(
        create=lambda name, data, **_: made.append(data), move=lambda *_: None
    )
    made = []
    caller(message.message, 0)
    planted = f"{executor.results}/{future.key}"
    with open(planted + ".new", "wb") as file:
        file.write(made[0])
    os.chmod(planted + ".new", 0o666)
    os.rename(planted + ".new", planted)
    executor.shutdown(wait=False)
    for _ in range(PATIENCE * 100):
        if "is left out" in caplog.text or futures.wait([future], 0.01).done:
            break
    assert "is left out" in caplog.text
    assert not future.done()


def test_workers_of_json_reject_a_pickled_call(pickled, broker, work, later):
    executor, _ = pickled()
    future = executor.submit(len, "")
    [message] = broker.consume("calls")
    with pytest.raises(Reject, match="it is pickled"):
        Caller("root/calls", executor.results, "", "json", "builtins")(
            message.message, 0
        )
    broker.reject(message, "it is pickled, and …")
    assert "it is pickled" in str(later(future, 3))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"serializer": "pickle"}, "serializer is 'pickle'; it must be"),
        ({"serializer": "cloudpickle", "shared": True}, "shared=True is not for"),
        ({"serializer": "cloudpickle", "allow": ["os"]}, "allow= is not for"),
        ({"slots": 0}, "slots is 0; it must be greater than 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(made, options, why, tmp_path):
    with pytest.raises(InvalidArgument, match=why):
        made(**options)
    assert not (tmp_path / "ddmq-results").exists()


@pytest.fixture
def forked():
    """Return a function that has something done in a child; it returns what that printed."""

    def forked(act):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.write(writer, str(act()).encode())
            except BaseException as error:  # noqa: BLE001 - the parent is told
                os.write(writer, repr(error).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader) as said:
            text = said.read()
        os.waitpid(child, 0)
        return text

    return forked


fork = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@fork
def test_calls_of_a_child_are_no_calls_of_this_process(made, work, tasks, forked):
    executor = made()
    assert "RuntimeError" in forked(lambda: executor.submit(tasks.double, 100))
    assert "RuntimeError" in forked(lambda: list(executor.map(tasks.double, [1, 2])))
    future = executor.submit(tasks.double, 2)
    assert work(2) == 1
    assert future.result(PATIENCE) == 4


@fork
def test_a_child_waits_for_no_call_of_this_process(made, work, tasks, forked):
    executor = made()
    first, future = [executor.submit(tasks.double, n) for n in (1, 2)]
    assert work(1) == 1
    assert first.result(PATIENCE) == 2
    called = []
    future.add_done_callback(called.append)
    assert "BrokenExecutor" in forked(lambda: future.result(PATIENCE))
    assert forked(lambda: (first.result(), future.cancel(), called)) == "(2, False, [])"
    with executor._collector.lock, future._condition:
        other = []
        thread = threading.Thread(
            target=lambda: other.append(
                forked(lambda: executor.shutdown(cancel_futures=True))
            )
        )
        thread.start()
        thread.join(PATIENCE)
    assert other == ["None"]
    assert work(1) == 1
    assert future.result(PATIENCE) == 4


@fork
def test_a_child_that_ends_removes_nothing_of_this_process(made, broker, forked):
    executor = made(None)
    assert forked(executor.shutdown) == "None"
    assert os.path.isdir(executor.results)
    assert executor.queue in broker.queues()
