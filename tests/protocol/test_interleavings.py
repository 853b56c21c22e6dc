"""Several clients at a few small bundles, stopped before each step, in all orders.

A step is a system call at a name in `ready/` or `work/`. One client acts at a time; a
switch at a step lets another one go on in its place. All schedules with few switches are
tried, and some at random with many; in each, a client may die at a step, or a reply may be
lost. Whatever happens, each message is then in one state, and comes once more if it was not
acked.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from protocol.scenes import (
    QUEUE,
    crashing_after_rename_into,
    leases_seen_by,
    new_world,
    purge_unlocked,
    text,
)
from support import Calls, Crash, in_time

from ddmq import LeaseLost, StorageError
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.names import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from protocol.scenes import World

    from ddmq import Message

    Script = Callable[["Client"], None]

#: The calls at which somebody else may be faster.
STEPS = ("rename", "unlink", "mknod", "symlink", "readlink", "listdir", "lstat", "open")
#: Those whose reply may be lost, and what the second answer says then.
CHANGING = {"rename": errno.ENOENT, "unlink": errno.ENOENT, "symlink": errno.EEXIST}
NAMES = [f"m{number}" for number in range(8)]
#: Which share of the schedules the campaign tries that are too many: all take a day.
SHARE = float(os.environ.get("DDMQ_SHARE", "0.01"))


def is_step(name: str, arguments: tuple[Any, ...]) -> bool:
    """Tell whether a system call is at a ready message or a lease, or lists them."""
    if name not in STEPS or not isinstance(arguments[0], str):
        return False
    is_place = name in ("rename", "unlink", "mknod", "symlink", "listdir")
    path = arguments[0]
    if is_place:
        paths = [path for path in arguments[:2] if isinstance(path, str)]
        return any(is_shared(path) for path in paths)
    if f"/{QUEUE}/ready/" in path:
        return path.count(".") > 1
    return f"/{QUEUE}/work/" in path or f"/{QUEUE}/bundles/" in path


def is_shared(path: str) -> bool:
    """Tell whether a path is at a ready message, a bundle or a lease."""
    return any(f"/{QUEUE}/{place}" in path for place in ("ready/", "work", "bundles/"))


class Schedule(NamedTuple):
    """Who acts when."""

    order: tuple[int, ...] = (0, 1, 2)
    """Whoever ends is followed by the next one that has not."""
    switches: tuple[tuple[int, int], ...] = ()
    """At which step, counted over all clients, which of them goes on."""
    dies: int | None = None
    """The step that is not made: whoever was to make it dies."""
    lost: int | None = None
    """The step of which the reply is lost, where it changes something."""


class Turns:
    """Lets one client act at a time, as a schedule says."""

    def __init__(self, schedule: Schedule, clients: int) -> None:
        self.schedule = schedule
        self.made: list[tuple[int, frozenset[int], str]] = []
        """Of each step whose it was, who had not ended, and the name of the call."""
        self.dead: set[int] = set()
        self._switches = dict(schedule.switches)
        self._running = list(schedule.order)
        self._may_go = [threading.Semaphore(0) for _ in range(clients)]

    def begin(self) -> None:
        """Let the first one go."""
        self._may_go[self._running[0]].release()

    def wait(self, me: int) -> None:
        """Wait for our turn."""
        self._may_go[me].acquire()

    def step(self, me: int, name: str) -> bool:
        """Be stopped before a step; tell whether its reply is lost."""
        number = len(self.made)
        self.made.append((me, frozenset(self._running), name))
        if number == self.schedule.dies:
            self.dead.add(me)
            raise Crash(number)
        other = self._switches.get(number, me)
        if other != me and other in self._running:
            self._may_go[other].release()
            self.wait(me)
        return number == self.schedule.lost and name in CHANGING

    def end(self, me: int) -> None:
        """Let the next one go, if there is one."""
        after = self._running.index(me)
        self._running.remove(me)
        if self._running:
            self._may_go[self._running[after % len(self._running)]].release()


class Story:
    """What the clients were told; it complains about what they must not be told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.published = set(NAMES)
        self.acked: set[str] = set()
        self.doubtful: set[str] = set()
        """Those whose end nobody was told: their client died, or heard an error."""
        self.purged = 0
        self.is_purged = False
        self.is_meddled_with = False
        """Whether somebody settles what others hold."""
        self.loses_replies = False
        self._held: dict[str, Message] = {}

    def came(self, message: Message) -> None:
        name = name_of(message)
        if self._is_over(message):
            return  # its client was stopped for so long: others may have it
        again = name in self.acked and not self.is_meddled_with
        assert not again, f"{name} comes after its ack"
        is_held = self._is_held(name) and not self.is_meddled_with
        assert not is_held, f"{name} comes while it is held"
        self._held[name] = message

    def _is_held(self, name: str) -> bool:
        return name in self._held and not self._is_over(self._held[name])

    def _is_over(self, message: Message) -> bool:
        lease = Lease.parse(message.filename)
        return lease is None or lease.expiry <= self.world.clock.now_ns / 1e6

    def let_go(self, message: Message) -> bool:
        """Note that a message may come again; tell whether it was held."""
        held = self._held.get(name_of(message))
        if held is None or held.filename != message.filename:
            return False
        del self._held[name_of(message)]
        return not self._is_over(message)

    def lost(self, message: Message, *, was_held: bool) -> None:
        name = name_of(message)
        excused = self.is_meddled_with or self.loses_replies or name in self.acked
        is_held = was_held and not self._is_over(message)
        assert excused or not is_held, f"{name} is called lost, and is not"

    def was_acked(self, name: str) -> None:
        again = name in self.acked and not self.is_meddled_with
        assert not again, f"{name} is acked twice"
        self.acked.add(name)

    def looked_empty(self) -> None:
        left = self.published - self.acked - self.doubtful
        assert self.is_purged or not left, f"{left} are there, and it is called empty"


def name_of(message: Message) -> str:
    return str(message.message).split()[-1]


class Client:
    """One client with what it does; it notes in the story what it is told."""

    def __init__(self, number: int, story: Story) -> None:
        self.number = number
        self.story = story
        self.turns: Turns | None = None
        self.broker = story.world.broker(FileSystem(Calls(self._call)))
        self.broker.settings(QUEUE)

    def _call(self, _: int, name: str, do: Callable[..., Any], arguments: Any) -> Any:
        turns = self.turns
        if turns is None:
            return do(*arguments)
        if self.number in turns.dead and name != "close":
            raise Crash
        is_lost = is_step(name, arguments) and turns.step(self.number, name)
        result = do(*arguments)
        if is_lost:
            raise OSError(CHANGING[name], "the reply was lost", arguments[0])
        return result

    def take(self, n: int = 1) -> list[Message]:
        messages = self.broker.consume(QUEUE, n)
        for message in messages:
            self.story.came(message)
        return messages

    def ack(self, messages: Iterable[Message]) -> None:
        for message in messages:
            name = name_of(message)
            self.story.doubtful.add(name)
            if self._settled("ack", message):
                self.story.was_acked(name)
            elif self.story.loses_replies:
                continue  # it may be done, of which the reply was lost
            self.story.doubtful.discard(name)

    def give_back(self, verb: str, messages: Iterable[Message]) -> None:
        for message in messages:
            was_held = self.story.let_go(message)
            self._settled(verb, message, was_held=was_held)

    def renew(self, message: Message) -> Message:
        with suppress(LeaseLost):
            message = self.broker.renew(message)
        return message

    def _settled(
        self, verb: str, message: Message, *, was_held: bool | None = None
    ) -> bool:
        try:
            getattr(self.broker, verb)(message)
        except LeaseLost:
            if was_held is None:
                was_held = self.story.let_go(message)
            self.story.lost(message, was_held=was_held)
            return False
        return True


# What clients do


def in_turn(client: Client) -> None:
    for _ in range(2):
        client.ack(client.take())


def two_at_once(client: Client) -> None:
    first = client.take()
    client.ack(client.take())
    client.ack(first)


def several(client: Client) -> None:
    client.ack(client.take(3))


def all_of_them(client: Client) -> None:
    client.ack(client.take(6))


def keeping(client: Client) -> None:
    client.ack(client.take())
    for _ in range(2):
        client.take()


def keeping_the_first(client: Client) -> None:
    client.ack(client.take(3)[1:])


def nacking(client: Client) -> None:
    client.give_back("nack", client.take())
    client.ack(client.take())


def releasing(client: Client) -> None:
    client.give_back("release", client.take(2))


def renewing(client: Client) -> None:
    client.ack([client.renew(message) for message in client.take()])


def cleaning(client: Client) -> None:
    client.broker.clean(QUEUE)


def cleaning_later(client: Client) -> None:
    client.story.world.clock.advance(601)
    client.broker.clean(QUEUE)


def cleaning_much_later(client: Client) -> None:
    client.story.world.clock.advance(7200)
    for _ in range(2):
        client.broker.clean(QUEUE)
        client.story.world.clock.advance(11)


def purging_waiting(client: Client) -> None:
    purging(client, "waiting")


def purging_work(client: Client) -> None:
    client.story.is_meddled_with = True
    purging(client, "work")


def purging(client: Client, state: str) -> None:
    client.story.is_purged = True
    number = purge_unlocked(client.broker, state)  # meanwhile others may add to it, too
    client.story.purged += number


def acking_by_id(client: Client) -> None:
    """Settle what others hold, as an operator does: by the id, and by the name."""
    client.story.is_meddled_with = True
    found = leases_seen_by(client.broker)
    for lease in found[:1]:
        settle_by(client, lease.entry.id)
    for lease in found[1:2]:
        settle_by(client, lease.filename)


def settle_by(client: Client, name: str) -> None:
    with suppress(LeaseLost, StorageError):  # that its bundle can't be found
        message = client.broker.leased(QUEUE, name)
        client.ack([message])


def meddling(client: Client) -> None:
    """Renew and give back what others hold, with their own leases."""
    client.story.is_meddled_with = True
    for number, lease in enumerate(leases_seen_by(client.broker)[:3]):
        with suppress(LeaseLost, StorageError):
            message = client.broker.leased(QUEUE, lease.entry.id)
            getattr(client.broker, ["renew", "nack", "release"][number])(message)


def publishing(client: Client) -> None:
    names = [f"n{client.number}{number}" for number in range(len(NAMES))]
    with suppress(StorageError):  # it took so long that it was cleaned away
        client.broker.publish_many(QUEUE, map(text, names))
        client.story.published |= set(names)


def looking(client: Client) -> None:
    for _ in range(2):
        if client.broker.is_empty(QUEUE):
            client.story.looked_empty()
        client.broker.view(QUEUE)


CONSUMING = [
    *(in_turn, two_at_once, several, all_of_them),
    *(keeping, keeping_the_first, nacking, releasing, renewing),
]
SCRIPTS = [
    *(*CONSUMING, cleaning, cleaning_later, cleaning_much_later),
    *(purging_waiting, purging_work, acking_by_id, meddling, publishing, looking),
]
TRIPLES = [
    (in_turn, several, cleaning_later),
    (two_at_once, in_turn, cleaning),
    (keeping, keeping, cleaning),
    (keeping_the_first, two_at_once, cleaning_later),
    (nacking, acking_by_id, several),
    (renewing, in_turn, cleaning_later),
    (several, meddling, renewing),
    (in_turn, all_of_them, purging_waiting),
    (releasing, purging_work, cleaning_much_later),
    (several, in_turn, looking),
]
every_triple = pytest.mark.parametrize(
    "scripts", TRIPLES, ids=lambda scripts: "-".join(s.__name__ for s in scripts)
)


class Play:
    """Some scripts in a world of their own, under one schedule."""

    def __init__(self, root: Path, scripts: Sequence[Script], size: int) -> None:
        self.world = new_world(root, bundle_size=size)
        self.story = Story(self.world)
        self.world.broker().publish_many(QUEUE, map(text, NAMES))
        self.clients = [Client(n, self.story) for n in range(len(scripts))]
        with suppress(Crash):  # its lease is over soon, and it claimed nothing
            calls = crashing_after_rename_into("/work/")
            self.world.broker(calls).consume(QUEUE, 3)
        self.clients[0].ack(self.clients[0].take())
        self.world.clock.advance(601)
        self.scripts = scripts
        self.failures: list[BaseException] = []

    def run(self, schedule: Schedule) -> Turns:
        """Let all clients do what they do; raise what went wrong."""
        turns = Turns(schedule, len(self.clients))
        self.story.loses_replies = schedule.lost is not None
        threads = [
            threading.Thread(target=self._act, args=(client, turns), daemon=True)
            for client in self.clients
        ]
        for thread in threads:
            thread.start()
        turns.begin()
        for thread in threads:
            thread.join()
        for client in self.clients:
            client.turns = None
        if self.failures:
            raise self.failures[0]
        return turns

    def _act(self, client: Client, turns: Turns) -> None:
        turns.wait(client.number)
        client.turns = turns
        try:
            self.scripts[client.number](client)
        except Crash:
            pass
        except StorageError as error:
            if turns.schedule.lost is None:
                self.failures.append(error)
        except BaseException as error:  # noqa: BLE001 - `run` raises whatever it is
            self.failures.append(error)
        turns.end(client.number)

    def assert_none_is_lost_or_doubled(self, *, all_live: bool) -> None:
        """Each message is in one state, and comes once if it was not acked."""
        found, story = self.world.found(), self.story
        assert all(len(states) == 1 for states in found.values()), found
        assert not story.acked & set(found), "acked, and there"
        gone = story.published - story.acked - story.doubtful - set(found)
        if all_live and not story.is_meddled_with:
            assert len(gone) == story.purged, f"{gone} are gone"
        assert story.is_purged or not gone, f"{gone} are gone"
        assert self._rest() == Counter(dict.fromkeys(found, 1))
        assert not any(
            map(self.world.files, ("ready", "bundles", "work", "tmp", "dead"))
        )

    def _rest(self) -> Counter[str]:
        """Consume and ack what is left, much later."""
        names: list[str] = []
        last = self.world.rescue()
        last.redrive(QUEUE)  # somebody may have died before he did
        while more := last.consume(QUEUE, 4):
            names += map(name_of, more)
            last.ack(more)
        self.world.clock.advance(11)
        last.clean(QUEUE)
        return Counter(names)


class Explorer:
    """Tries schedules of some scripts, and counts them."""

    def __init__(self, root: Path, scripts: Sequence[Script], size: int = 3) -> None:
        self.root = root
        self.scripts = scripts
        self.size = size
        self.tried = 0

    def attempt(self, schedule: Schedule) -> Turns:
        """Try one schedule; return what was done."""
        self.tried += 1
        place = self.root / str(self.tried)
        random_bytes = random.Random(repr(schedule)).randbytes
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "urandom", random_bytes)
            try:
                turns = self._play(place, schedule)
            except BaseException as error:
                names = [script.__name__ for script in self.scripts]
                raise AssertionError(f"{names}, {self.size}: {schedule}") from error
            finally:
                shutil.rmtree(place, ignore_errors=True)
        return turns

    def _play(self, place: Path, schedule: Schedule) -> Turns:
        play = Play(place, self.scripts, self.size)
        turns = play.run(schedule)
        all_live = not turns.dead and schedule.lost is None
        play.assert_none_is_lost_or_doubled(all_live=all_live)
        return turns

    def all_of(
        self, order: tuple[int, ...], switches: int, share: float = 1
    ) -> Iterator[Schedule]:
        """Try and yield all schedules with so many switches at most; a `share` of the last."""
        chance = random.Random(f"{order} {self.size}")
        left = [Schedule(order)]
        while left:
            schedule = left.pop()
            made = self.attempt(schedule).made
            yield schedule
            missing = switches - len(schedule.switches)
            if missing:
                found = further(schedule, made)
                left += (s for s in found if missing > 1 or chance.random() < share)

    def troubled(self, schedule: Schedule) -> None:
        """Try a schedule with each step of it not made, and with each reply lost."""
        for number, (_, _, name) in enumerate(self.attempt(schedule).made):
            self.attempt(schedule._replace(dies=number))
            if name in CHANGING:
                self.attempt(schedule._replace(lost=number))


def further(schedule: Schedule, made: list[Any]) -> Iterator[Schedule]:
    """Yield schedules with one more switch, later than the others."""
    first = schedule.switches[-1][0] + 1 if schedule.switches else 0
    for number in range(first, len(made)):
        me, running, _ = made[number]
        for other in running - {me}:
            yield schedule._replace(switches=(*schedule.switches, (number, other)))


def at_random(chance: random.Random, clients: range) -> Schedule:
    """Return a schedule with many switches, and maybe trouble."""
    steps = sorted(chance.sample(range(80), chance.randrange(3, 30)))
    switches = tuple((step, chance.choice(clients)) for step in steps)
    schedule = Schedule(tuple(chance.sample(clients, len(clients))), switches)
    number, trouble = chance.randrange(60), chance.randrange(3)
    if trouble == 1:
        return schedule._replace(dies=number)
    return schedule._replace(lost=number) if trouble else schedule


def try_at_random(root: Path, number: int, seed: int) -> None:
    """Try schedules of any scripts, the first of which consumes."""
    chance = random.Random(seed)
    for n in range(number):
        scripts = [chance.choice(CONSUMING), *chance.choices(SCRIPTS, k=2)]
        explorer = Explorer(root / str(n), scripts, chance.choice([2, 3, 6]))
        explorer.attempt(at_random(chance, range(len(scripts))))


@pytest.mark.deep
@every_triple
def test_no_switch_loses_or_doubles_a_message(
    scripts: Sequence[Script], tmp_path: Path
) -> None:
    with in_time(300):
        tried = list(Explorer(tmp_path, scripts).all_of((0, 1, 2), switches=1))
    assert len(tried) > 20


def test_no_schedule_at_random_loses_or_doubles_a_message(tmp_path: Path) -> None:
    with in_time(300):
        try_at_random(tmp_path, 100, seed=1)


@pytest.mark.deep
@every_triple
def test_no_death_and_no_lost_reply_loses_or_doubles_a_message(
    scripts: Sequence[Script], tmp_path: Path
) -> None:
    explorer = Explorer(tmp_path, scripts)
    for order in ((0, 1, 2), (2, 1, 0)):
        explorer.troubled(Schedule(order))


@pytest.mark.campaign
@every_triple
@pytest.mark.parametrize("size", [2, 3, 6])
def test_no_two_switches_lose_or_double_a_message(
    size: int,
    scripts: Sequence[Script],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    explorer, chance = Explorer(tmp_path, scripts, size), random.Random(size)
    tried = 0
    for order in itertools.permutations(range(len(scripts))):
        for schedule in explorer.all_of(order, switches=2, share=SHARE):
            tried += 1
            if len(schedule.switches) == 1 and chance.random() < SHARE:
                explorer.troubled(schedule)
    with capsys.disabled():
        print(f"\n{tried} schedules")  # noqa: T201


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(2, 12))
def test_no_schedule_of_many_loses_or_doubles_a_message(
    seed: int, tmp_path: Path
) -> None:
    try_at_random(tmp_path, int(5000 * SHARE) or 1, seed)
