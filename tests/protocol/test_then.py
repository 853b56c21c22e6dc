"""What is to be run when a queue is done: in all orders, through crashes and lost replies.

The clients do what workers do (`ddmq.hpc.then`): take a message, arm, run, ack, and in the end see to
the follow-up. Only its command is no process.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from protocol.scenes import QUEUE, World, new_world
from protocol.test_interleavings import Schedule, Turns
from support import Calls, Crash, counting, crashing_before, in_time, losing_reply

import ddmq.hpc.then
from ddmq import StorageError
from ddmq.hpc.limits import Deadline, Durations, Limits
from ddmq.hpc.options import WorkerOptions
from ddmq.hpc.running.process import Outcome
from ddmq.hpc.signals import Signals
from ddmq.hpc.then import Then
from ddmq.hpc.worker import Job
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.then import FollowUps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ddmq import Broker

deep = pytest.mark.deep
SUCCESS, FAILURE = Outcome(0), Outcome(1 << 8)


class Story:
    """What became of messages and commands, told by those who did it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.done: list[str] = []
        self.runs: list[tuple[str, tuple[str, ...]]] = []
        """The id of each run, and which messages were done when it began."""

    def ids(self) -> set[str]:
        return {id_ for id_, _ in self.runs}

    def ran_after(self, *messages: str) -> bool:
        """Tell whether one began when these messages were done."""
        return any({*messages} <= {*done} for _, done in self.runs)

    def left(self) -> list[str]:
        """Return what is still to be done, by its name."""
        with suppress(FileNotFoundError):
            return os.listdir(f"{self.world.path}/then")
        return []


class Worker:
    """Does what a worker does, with a command of which a test says how it ends."""

    def __init__(self, story: Story, broker: Broker, **options: Any) -> None:
        self.story = story
        self.broker = broker
        clock = story.world.clock
        self.signals = signals = Signals(clock)
        empty: dict[str, str] = {}
        job = Job(
            "node",
            "",
            empty,
            signals,
            Deadline(None),
            None,  # type: ignore[arg-type]
            Durations(),
            clock,
        )
        given = WorkerOptions(then=("true",), **options)
        self.then = Then(
            broker,
            QUEUE,
            options=given,
            job=job,
            limits=Limits(given, job),
            poller=self,  # type: ignore[arg-type]
            sleep=self._sleep,
        )
        self.outcomes: list[Outcome | Callable[[], None]] = []
        """How the commands end, or what happens while one runs; all others succeed."""

    def look_at_once(self) -> None:
        """As a poller does."""

    def _sleep(self, seconds: float) -> None:
        self.story.world.clock.advance(seconds)

    def start(self, _: object, environ: dict[str, str]) -> Worker:
        """Stand in for the command's process."""
        self.story.runs.append((environ["DDMQ_THEN_ID"], tuple(self.story.done)))
        return self

    def outcome(self) -> Outcome | None:
        if not self.outcomes:
            return SUCCESS
        next_ = self.outcomes.pop(0)
        if isinstance(next_, Outcome):
            return next_
        next_()
        return None

    def send(self, number: int) -> None:
        """Die of any signal."""
        del self.outcomes[:]
        self.outcomes.append(Outcome(-number))

    def kill(self) -> None:
        """Die at once."""
        self.send(9)

    def work(self) -> None:
        """Do all messages that wait."""
        while messages := self.broker.consume(QUEUE):
            self.then.arm()
            for message in messages:
                self.broker.ack(message)
                self.story.done.append(str(message.message))

    def end(self) -> None:
        """See to what is to be run when the queue is done."""
        started.here = self.start
        while not self.then.is_settled():
            if self.signals.drain_requested:
                break
            self.story.world.clock.advance(1)
            self.work()


#: Who starts a command, in each thread.
started = threading.local()


@pytest.fixture(autouse=True)
def _commands_are_noted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def process(words: object, environ: dict[str, str], *, mark: str) -> object:
        assert mark == f"DDMQ_RUN={environ['DDMQ_RUN']}"
        return started.here(words, environ)

    monkeypatch.setattr(ddmq.hpc.then, "Process", process)
    with in_time(900):
        yield


# All orders of two clients: one takes a message that comes just now, one finds the queue done


class Stopped:
    """A broker that waits for its turn before each call."""

    def __init__(self, broker: Broker, turns: Turns, me: int) -> None:
        self._broker = broker
        self._turns = turns
        self._me = me

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._broker, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if name != "settings":
                self._turns.step(self._me, name)
            return method(*arguments, **options)

        return call


def late_message(worker: Worker) -> None:
    worker.broker.publish(QUEUE, "late")
    worker.work()
    worker.end()


def play(
    story: Story, schedule: Schedule, brokers: Callable[[Turns, int], Any]
) -> Turns:
    """Let one client do a message that comes just now, and the other one end."""
    scripts = [late_message, Worker.end]
    turns = Turns(schedule, len(scripts))
    errors: list[BaseException] = []

    def act(me: int) -> None:
        worker = Worker(story, brokers(turns, me))
        turns.wait(me)
        try:
            scripts[me](worker)
        except Crash:
            pass
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)
        finally:
            turns.end(me)

    threads = [threading.Thread(target=act, args=(me,)) for me in range(len(scripts))]
    for thread in threads:
        thread.start()
    turns.begin()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return turns


@pytest.fixture
def told(tmp_path: Path) -> Callable[[], Story]:
    """Return a function that makes a queue in which all is done and a follow-up is armed."""
    made = new_world(tmp_path / "first")
    broker = made.broker()
    broker.publish(QUEUE, "early")
    first = Worker(Story(made), broker)
    first.work()
    numbers = itertools.count()

    def new() -> Story:
        number = next(numbers)
        shutil.rmtree(tmp_path / f"{number - 1}", ignore_errors=True)
        story = Story(made.copied(tmp_path / f"{number}"))
        story.done.append("early")
        return story

    return new


def by_method(story: Story) -> Callable[[Turns, int], Any]:
    def broker(turns: Turns, me: int) -> Stopped:
        return Stopped(story.world.broker(clean=False), turns, me)

    return broker


def judge(story: Story, schedule: object) -> None:
    """Both have ended, and nobody died: it was run when all was done, and nothing is left."""
    assert story.done == ["early", "late"]
    assert story.ran_after("early", "late"), schedule
    assert story.left() == [], schedule
    assert len(story.ids()) == len(story.runs) <= 2, schedule


def test_with_two_or_three_switches_it_is_run_after_all(
    told: Callable[[], Story],
) -> None:
    """Each call of the broker is a step; whoever ends begins."""
    numbers = set()
    two, three = (itertools.combinations(range(10), number) for number in (2, 3))
    for steps in (*two, *three):
        story = told()
        schedule = Schedule((1, 0), tuple(zip(steps, (0, 1, 0))))
        play(story, schedule, by_method(story))
        judge(story, schedule)
        numbers.add(len(story.runs))
    assert numbers == {1, 2}  # once for both, or once for each


@deep
def test_in_whatever_order_they_act_it_is_run_after_all(
    told: Callable[[], Story],
) -> None:
    """All orders of the first eleven steps."""
    for order in itertools.product((0, 1), repeat=11):
        story = told()
        schedule = Schedule((order[0], 1 - order[0]), tuple(enumerate(order)))
        play(story, schedule, by_method(story))
        judge(story, schedule)


@deep
@pytest.mark.parametrize("first", [0, 1])
def test_whoever_dies_at_whatever_step_it_is_run_after_all(
    first: int, told: Callable[[], Story]
) -> None:
    """One switch, and one death anywhere; whoever comes much later sees to what is left."""
    for switch, dies in itertools.product(range(14), range(20)):
        story = told()
        schedule = Schedule((first, 1 - first), ((switch, 1 - first),), dies)
        play(story, schedule, by_method(story))
        story.world.clock.advance(7200)
        last = Worker(story, story.world.broker())
        last.work()
        last.end()
        assert story.ran_after(*story.done), schedule
        assert story.left() == [], schedule


SHARED = ("symlink", "rename", "unlink", "readlink", "listdir", "lstat")


def by_call(story: Story) -> Callable[[Turns, int], Any]:
    """Return brokers that wait for their turn before system calls at follow-ups and leases."""

    def broker(turns: Turns, me: int) -> Broker:
        is_on: list[bool] = []

        def call(_: int, name: str, do: Callable[..., Any], arguments: Any) -> Any:
            places = [x for x in arguments if isinstance(x, str)]
            is_shared = any(
                f"{QUEUE}/{p}" in x for x in places for p in ("then", "work")
            )
            if is_on and name in SHARED and is_shared:
                turns.step(me, name)
            return do(*arguments)

        made = story.world.broker(FileSystem(Calls(call)), clean=False)
        made.settings(QUEUE)
        is_on.append(True)
        return made

    return broker


@deep
@pytest.mark.parametrize("first", [0, 1])
def test_system_calls_in_whatever_order_with_two_switches_it_is_run_after_all(
    first: int, told: Callable[[], Story]
) -> None:
    story = told()
    alone = play(story, Schedule((first, 1 - first)), by_call(story))
    steps = len(alone.made) + 10
    for one, two in itertools.combinations(range(steps), 2):
        story = told()
        switches = (one, 1 - first), (two, first)
        schedule = Schedule((first, 1 - first), switches)
        play(story, schedule, by_call(story))
        judge(story, schedule)


# One client alone, that dies or is not told


def succeeds(_: Worker) -> None:
    """All goes well."""


def is_renewed(worker: Worker) -> None:
    def passes() -> None:
        worker.story.world.clock.advance(250)

    worker.outcomes += [passes] * 5


def fails_once(worker: Worker) -> None:
    worker.outcomes.append(FAILURE)


def is_interrupted(worker: Worker) -> None:
    def drain() -> None:
        worker.signals.drain_requested = True

    worker.outcomes.append(drain)


COURSES = [succeeds, is_renewed, fails_once, is_interrupted]
every_course = pytest.mark.parametrize("course", COURSES)


def once(story: Story, calls: Calls, course: Callable[[Worker], None]) -> None:
    """Do a message and what follows, with these system calls."""
    worker = Worker(story, story.world.broker(calls))
    course(worker)
    worker.work()
    worker.end()


def rescued(story: Story) -> None:
    """Come back much later, and see to all that is left."""
    story.world.clock.advance(7200)
    worker = Worker(story, story.world.broker())
    worker.work()
    worker.end()


@deep
@every_course
def test_who_dies_before_any_system_call_leaves_it_to_others_with_the_same_id(
    course: Callable[[Worker], None], tmp_path: Path
) -> None:
    for n in itertools.count():
        story = Story(new_world(tmp_path / str(n)))
        story.world.broker().publish(QUEUE, "a")
        try:
            once(story, crashing_before(n), course)
        except Crash:
            crashed = True
        else:
            crashed = False
        rescued(story)
        assert story.runs
        assert len(story.ids()) == 1
        assert story.left() == []
        shutil.rmtree(tmp_path / str(n))
        if not crashed:
            break
    assert n > 50


LOSSES = [
    (("rename", "unlink"), errno.ENOENT),
    (("rename", "unlink"), errno.ESTALE),
    (("symlink", "mkdir"), errno.EEXIST),
]


@deep
@pytest.mark.parametrize(("names", "code"), LOSSES)
@every_course
def test_it_is_run_once_whichever_reply_is_lost(
    course: Callable[[Worker], None],
    names: tuple[str, ...],
    code: int,
    tmp_path: Path,
) -> None:
    for n in itertools.count():
        story = Story(new_world(tmp_path / str(n)))
        story.world.broker().publish(QUEUE, "a")
        calls = losing_reply(n, names, code)
        once(story, calls, course)
        if course is not is_interrupted:
            assert story.left() == []
            assert len(story.runs) == (2 if course is fails_once else 1)
        rescued(story)
        assert (len(story.ids()), story.left()) == (1, [])
        if sum(map(calls.made.count, names)) <= n:
            break
    assert n > 0


MUTATING = ("rename", "unlink", "mkdir", "symlink", "open")


@deep
@every_course
def test_what_was_done_though_it_was_called_an_error_is_run_all_the_same(
    course: Callable[[Worker], None], tmp_path: Path
) -> None:
    for n in itertools.count():
        story = Story(new_world(tmp_path / str(n)))
        story.world.broker().publish(QUEUE, "a")
        calls = losing_reply(n, MUTATING, errno.EIO)
        with suppress(StorageError):
            once(story, calls, course)
        rescued(story)
        assert (len(story.ids()), story.left()) == (1, [])
        if sum(map(calls.made.count, MUTATING)) <= n:
            break
    assert n > 10


def test_a_claim_that_is_carried_out_once_more_takes_no_other_follow_up_away(
    tmp_path: Path,
) -> None:
    """An NFS server may do so, late: then what was armed meanwhile waits for the lease's end."""
    story = Story(new_world(tmp_path / "root"))
    claims: list[tuple[str, str]] = []

    def call(_: int, name: str, do: Callable[..., Any], arguments: Any) -> Any:
        if name == "rename" and arguments[0].endswith("/then/armed"):
            claims.append(arguments[:2])
        return do(*arguments)

    story.world.broker().publish(QUEUE, "a")
    worker = Worker(story, story.world.broker(Calls(call)))

    def again() -> None:
        other = Worker(story, story.world.broker())
        other.broker.publish(QUEUE, "b")
        other.work()
        os.rename(*claims[0])

    worker.outcomes.append(again)
    worker.work()
    worker.end()
    assert not story.ran_after("a", "b")
    rescued(story)
    assert story.ran_after("a", "b")
    assert len(story.ids()) == 2


def test_of_several_that_arm_at_once_one_does(tmp_path: Path) -> None:
    world = new_world(tmp_path / "root")
    for _ in range(3):
        world.broker(counting()).with_follow_ups(QUEUE, FollowUps.arm)
    assert os.listdir(f"{world.path}/then") == ["armed"]
