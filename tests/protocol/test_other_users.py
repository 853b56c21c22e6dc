"""Other users of the node: some share a queue through their group, some may only look.

They are real: each test runs children under other user ids, so only root can run these.
"""

from __future__ import annotations

import codecs
import grp
import logging
import os
import pickle
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module, resources
from pathlib import Path
from pkgutil import walk_packages
from typing import TYPE_CHECKING, Any

import filelock
import pytest
import yaml
from protocol.scenes import HOUR, QUEUE, World, text
from support import SYSTEM_CALLS, Calls, Crash, FakeClock, counting, crashing_before

import ddmq
from ddmq import (
    Broker,
    DdmqError,
    LockTimeout,
    printable,
    schedulers,
    untrusted,
)
from ddmq.cli import submit as submit_cli
from ddmq.cli import worker as worker_cli
from ddmq.clock import Clock
from ddmq.diagnose.check.rendezvous import Lobby, Party
from ddmq.diagnose.doctor import diagnose
from ddmq.hpc import chain, journal, submit
from ddmq.hpc.folder import reached
from ddmq.hpc.results.output_names import Holder, NameTaken, free_if_gone
from ddmq.hpc.results.result import NAMES, Result, remove_leftovers, try_output
from ddmq.hpc.running.stream import Stream
from ddmq.storage import lock_file, locks
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.range_names import RangeLease
from ddmq.storage.then import FollowUps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Read before we become somebody who may not read where they are.
READ = (
    grp,
    pwd,
    logging,
    filelock,
    yaml,
    lock_file,
    printable,
    schedulers,
    untrusted,
)
OWNER, MEMBER, READER, STRANGER = 12345, 12346, 12347, 12348
GROUP, READERS, NOBODYS = 12345, 12346, 12347
GROUPS = {OWNER: GROUP, MEMBER: GROUP, READER: READERS, STRANGER: NOBODYS}

pytestmark = pytest.mark.root("be two users")


def load_everything() -> None:
    """Import what will be needed, before we become somebody who may not read where it is."""
    for module in walk_packages(ddmq.__path__, "ddmq."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    for name in ("filelock", "grp", "pwd", "resource", "unicodedata", "yaml"):
        import_module(name)
    for order in ("", "-be", "-le"):
        codecs.lookup(f"utf-16{order}")
        codecs.lookup(f"utf-32{order}")
    resources.files("ddmq.hpc")


@pytest.fixture(scope="module", autouse=True)
def everything() -> None:
    """Leave nothing to be imported by somebody else."""
    load_everything()


class Answer:
    """What another user got: a value, or an error with its text."""

    def __init__(self, value: Any = None, error: str = "", said: str = "") -> None:
        self.value = value
        self.error = error
        self.said = said


def answer(act: Callable[[], Any]) -> Answer:
    try:
        return Answer(act())
    except Exception as error:  # noqa: BLE001 - the parent judges it
        return Answer(None, type(error).__name__, str(error))


def become(user: int) -> None:
    """Be another user from now on, and end if that hangs."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(30)
    os.setgroups([])
    os.setgid(GROUPS[user])
    os.setuid(user)
    os.umask(0o022)


def as_user(user: int, act: Callable[[], Any]) -> Answer:
    """Do something in a child that is another user; it is killed if it hangs."""
    return begun(user, act)()


def begun(user: int, act: Callable[[], Any]) -> Callable[[], Answer]:
    """Begin to do so; return what waits for its answer."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            become(user)
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(answer(act), pipe)
        os._exit(0)
    os.close(writer)

    def ended() -> Answer:
        with os.fdopen(reader, "rb") as pipe:
            data = pipe.read()
        assert os.waitpid(child, 0)[1] == 0, "it hung"
        result = pickle.loads(data)
        assert isinstance(result, Answer)
        return result

    return ended


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory that all users can reach, and where all may write."""
    path = Path(tempfile.mkdtemp(prefix="ddmq-test-"))
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


def queue_of(place: Path, mode: int) -> World:
    """Return a world whose queue the owner made, with a message in each state."""
    world = World(place / "root")

    def make() -> None:
        broker = world.broker(create=True, mode=mode)
        broker.create_queue(QUEUE, mode=mode)
        broker.publish_many(QUEUE, [text(str(n)) for n in range(12)])
        broker.publish(QUEUE, text("single"), priority=0)
        broker.reject(broker.consume(QUEUE))
        broker.consume(QUEUE)
        broker.publish(QUEUE, text("later"), delay=60)
        broker.create_queue("second", mode=mode)

    assert as_user(OWNER, make).error == ""
    return world


def files(directory: str) -> dict[str, Any]:
    """Return all there is, with modes, owners and contents."""
    found = {}
    for path in sorted(Path(directory).rglob("*")):
        known = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(known.st_mode) else None
        found[str(path)] = known.st_mode, known.st_uid, known.st_mtime_ns, data
    return found


CHANGES: dict[str, Callable[[Any], Any]] = {
    "publish": lambda b: b.publish(QUEUE, text("x")),
    "publish_many": lambda b: b.publish_many(QUEUE, [text("x")] * 12),
    "consume": lambda b: b.consume(QUEUE),
    "ack": lambda b: b.ack(b.leased(QUEUE, held(b))),
    "nack": lambda b: b.nack(b.leased(QUEUE, held(b))),
    "release": lambda b: b.release(b.leased(QUEUE, held(b))),
    "reject": lambda b: b.reject(b.leased(QUEUE, held(b))),
    "renew": lambda b: b.renew(b.leased(QUEUE, held(b))),
    "pause": lambda b: b.pause(QUEUE),
    "drain": lambda b: b.drain(QUEUE),
    "move": lambda b: b.move_waiting(QUEUE, [x.id for x in seen(b)], "second"),
    "restore": lambda b: b.restore(QUEUE, seen(b)),
    "redrive": lambda b: b.redrive(QUEUE),
    "purge": lambda b: b.purge(QUEUE),
    "clean": lambda b: b.clean(QUEUE),
    "settings": lambda b: b.update_settings(QUEUE, priority=1),
    "root settings": lambda b: b.update_settings(priority=1),
    "create": lambda b: b.create_queue("other"),
    "delete": lambda b: b.delete_queue(QUEUE),
}


def seen(broker: Any) -> list[Any]:
    """Return what can be seen of the queue, or something if nothing can."""
    with suppress(DdmqError):
        return list(broker.contents(QUEUE))
    return [ddmq.Seen("x", "x", QUEUE, "waiting", 1, 0, 0)]


def held(broker: Any) -> str:
    """Return the file name of the lease that is there, or of none."""
    with suppress(OSError):
        ranges = map(RangeLease.parse, os.listdir(f"{broker.root}/{QUEUE}/work"))
        leases = [lease for held in ranges if held for lease in held.leases()]
        return leases[0].filename if leases else "none"
    return "none"


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("user", [READER, STRANGER])
def test_who_may_not_write_changes_nothing_and_is_told(
    user: int, change: str, place: Path
) -> None:
    world = queue_of(place, 0o755)
    before = files(world.root)
    for hours in (0, 2):  # then all leases are over, and all that is delayed is due
        world.clock.advance(hours * 3600)
        got = as_user(user, lambda: CHANGES[change](world.broker()))
        assert (got.error, got.value) == ("StorageError", None)
        assert "ask its owner for permission" in got.said
        assert got.said.isprintable()
        assert files(world.root) == before


def test_who_may_read_can_look(place: Path) -> None:
    world = queue_of(place, 0o755)
    before = files(world.root)
    world.clock.advance(7200)
    for user in (READER, STRANGER):
        assert as_user(user, lambda: world.broker().view(QUEUE)).value == {
            QUEUE: (11, 1, 1, 1)
        }
        found = as_user(user, lambda: [*world.broker().contents(QUEUE, work=True)])
        states = [each.state for each in found.value]
        assert sorted(states) == ["dead", "delayed", *["waiting"] * 11, "work"]
        assert not any(each.fault for each in found.value)
        [first] = as_user(user, lambda: world.broker().peek(QUEUE)).value
        assert as_user(user, lambda f=first: world.broker().find(QUEUE, f.id)).value
        assert as_user(user, lambda: world.broker().paused(QUEUE)).value is None
        assert as_user(user, lambda: world.broker().workers(QUEUE)).value == []
        dead = as_user(user, lambda: world.broker().dead(QUEUE)[0].message)
        assert dead.value == text("single")
        assert as_user(user, lambda: world.broker().queues()).value == [QUEUE, "second"]
    assert files(world.root) == before


def test_who_may_only_look_hears_nothing_of_what_he_can_not_tidy_up(
    place: Path,
) -> None:
    world = queue_of(place, 0o755)
    world.put("work/foreign", b"")
    world.clock.advance(7200)  # and nobody has tidied up since

    def view() -> list[str]:
        said: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: said.append(record.getMessage())
        logging.getLogger("ddmq").addHandler(handler)
        world.broker().view()
        return said

    got = as_user(READER, view)
    assert (got.error, got.value) == ("", [])


@pytest.mark.parametrize("change", ["view", *CHANGES])
@pytest.mark.parametrize("mode", [0o700, 0o2770])
def test_a_stranger_learns_nothing_of_a_closed_queue(
    mode: int, change: str, place: Path
) -> None:
    world = queue_of(place, mode)
    before = files(world.root)
    act = CHANGES.get(change, lambda b: b.view())
    got = as_user(STRANGER, lambda: act(world.broker()))
    assert (got.error, got.value) == ("StorageError", None)
    assert "ask its owner for permission" in got.said
    assert files(world.root) == before


def test_members_of_a_group_share_all_messages(place: Path) -> None:
    world = queue_of(place, 0o2770)

    def work() -> list[Any]:
        broker = world.broker()
        broker.publish(QUEUE, text("theirs"), priority=0)
        got = broker.consume(QUEUE, 5)
        broker.nack(got[0])
        broker.reject(got[1])
        broker.ack(got[2:])
        return [m.message for m in got]

    assert as_user(MEMBER, work).value == [text(n) for n in ("theirs", *"1234")]
    assert as_user(OWNER, work).value[:2] == [text("theirs"), text("theirs")]


def home_of(user: int, place: Path) -> Path:
    """Return a directory of a user's own, with a secret in a file that nobody else may read."""
    home = place / "home"
    home.mkdir()
    (home / "secret").write_text("-----secret-----")
    (home / "secret").chmod(0o600)
    for path in (home / "secret", home):
        os.chown(path, user, GROUPS[user])
    return home


PLANTED = [
    "tmp",
    "ready",
    "bundles",
    "work",
    "delayed",
    "dead",
    "drop",
    "lock",
    "ddmq.yaml",
]
PLANTED += ["ready/0", "drop/x", "work/x", "tmp/x", "dead/x", "cleaned", "journal"]


@pytest.mark.parametrize("target", ["home", "home/secret"])
@pytest.mark.parametrize("planted", PLANTED)
def test_a_member_leads_another_to_none_of_his_own_files(
    planted: str, target: str, place: Path
) -> None:
    world = queue_of(place, 0o2770)
    home = home_of(OWNER, place)

    def plant() -> None:
        path = f"{world.path}/{planted}"
        with suppress(FileNotFoundError):
            os.rename(path, f"{world.path}/.away")
        os.symlink(place / target, path)

    assert as_user(MEMBER, plant).error == ""
    before = files(str(home))
    world.clock.advance(7200)
    verbs = {**CHANGES, "dead": lambda b: b.dead(QUEUE), "view": lambda b: b.view()}

    def do_all() -> list[Answer]:
        doing = (lambda act=act: act(world.broker()) for act in verbs.values())
        return [answer(do) for do in doing]

    for got in as_user(OWNER, do_all).value:
        assert "-----" not in repr(got.value)
        assert got.error in (
            "",
            "StorageError",
            "QueueNotFound",
            "LeaseLost",
        )
    assert files(str(home)) == before


class Attacker:
    """A member who waits until he is told a directory, and puts a link in its place."""

    def __init__(self, home: str) -> None:
        self._asked, self._answered = os.pipe(), os.pipe()
        self._child = os.fork()
        if self._child:
            return
        with suppress(BaseException):
            os.close(self._asked[1])
            become(MEMBER)
            signal.alarm(600)
            while directory := os.read(self._asked[0], 4096).decode():
                with suppress(OSError):
                    os.rename(directory, f"{directory}.away")
                    os.symlink(home + directory.partition(f"/{QUEUE}")[2], directory)
                os.write(self._answered[1], b".")
        os._exit(0)

    def swap(self, directory: str) -> None:
        """Let him do so now, and wait until it is done."""
        os.write(self._asked[1], directory.encode())
        os.read(self._answered[0], 1)

    def end(self) -> None:
        for descriptor in (*self._asked, *self._answered):
            os.close(descriptor)
        os.waitpid(self._child, 0)


class Swapped(Calls):
    """System calls of which the n-th in a queue finds its directory swapped."""

    def __init__(self, n: int, attacker: Attacker, queue: str) -> None:
        super().__init__(self._swap)
        self.left = n
        self._attacker = attacker
        self._queue = queue

    def _swap(self, _: int, name: str, act: Any, arguments: Any) -> Any:
        path = str(arguments[1 if name == "symlink" else 0])
        if path.startswith(f"{self._queue}/"):
            if self.left == 0:
                self._attacker.swap(os.path.dirname(path))
            self.left -= 1
        return act(*arguments)


@pytest.mark.deep
@pytest.mark.parametrize("change", [*CHANGES, "view", "dead"])
def test_no_directory_that_a_member_swaps_leads_another_to_his_own_files(
    change: str, place: Path
) -> None:
    """At the worst moment, before each call in turn; what he has there has the same names."""
    acts = {**CHANGES, "view": lambda b: b.view(), "dead": lambda b: b.dead(QUEUE)}
    world = queue_of(place, 0o2770)
    litter(world.path)
    home, template = place / "home", place / "template"
    subprocess.run(["cp", "-a", world.path, home], check=True)
    subprocess.run(["cp", "-a", world.root, template], check=True)
    before = files(str(home))
    world.clock.advance(7200)
    attacker = Attacker(str(home))
    for n in range(400):
        calls = Swapped(n, attacker, world.path)

        def act(calls: Swapped = calls) -> bool:
            with suppress(DdmqError):
                acts[change](world.broker(calls))
            return calls.left >= 0

        got = as_user(OWNER, act)
        assert got.error == "", got.said
        assert files(str(home)) == before
        if got.value:
            break
        shutil.rmtree(world.root)
        subprocess.run(["cp", "-a", template, world.root], check=True)
    attacker.end()
    assert got.value, "it made more calls than were tried"


def litter(queue: str) -> None:
    """Leave what is tidied up: a directory of bundles and a temporary file, as old as can be."""
    os.mkdir(f"{queue}/tmp/{'d' * 20}")
    for path in (f"{queue}/tmp/{'d' * 20}/a", f"{queue}/tmp/{'e' * 20}"):
        Path(path).touch()
    for directory, _, names in os.walk(f"{queue}/tmp"):
        for name in (*names, "."):
            os.chown(f"{directory}/{name}", OWNER, GROUP)
            os.utime(f"{directory}/{name}", (1, 1))


def test_a_bucket_that_a_member_keeps_to_himself_stops_no_consumer(
    place: Path,
) -> None:
    world = queue_of(place, 0o2770)
    name = f"{10**18}.{'a' * 20}.0-0"

    def plant() -> None:
        os.mkdir(f"{world.path}/ready/0/{10**18}")
        Path(f"{world.path}/ready/0/{10**18}/{name}").write_text('{"message": 1}')
        os.mkdir(f"{world.path}/ready/0/{10**19 - 1}")

    as_user(OWNER, lambda: world.broker().publish(QUEUE, text("b"), priority=0))
    assert as_user(MEMBER, plant).error == ""

    def work() -> list[Any]:
        broker = world.broker()
        broker.publish(QUEUE, text("a"), priority=0)
        return sorted(m.message for m in broker.consume(QUEUE, 3))

    got = as_user(OWNER, work)
    assert (got.error, got.value) == ("", [text("1"), text("a"), text("b")])


def test_a_file_that_a_member_keeps_to_himself_stops_no_purge(place: Path) -> None:
    world = queue_of(place, 0o2770)
    bucket = f"{world.path}/ready/0/{10**18}"

    def plant() -> None:
        os.mkdir(bucket)
        Path(f"{bucket}/{10**18}.{'a' * 20}.0-0").write_text('{"message": 1}')
        os.chmod(bucket, 0o3770)

    as_user(OWNER, lambda: world.broker().publish(QUEUE, text("b"), priority=0))
    assert as_user(MEMBER, plant).error == ""
    got = as_user(OWNER, lambda: world.broker().purge(QUEUE))
    assert (got.error, bucket in got.said) == ("StorageError", True)
    counts = as_user(OWNER, lambda: world.broker().view(QUEUE)[QUEUE])
    assert counts.value == (1, 0, 0, 0)


def test_a_shelf_that_a_member_keeps_to_himself_stops_no_publisher(
    place: Path,
) -> None:
    world = queue_of(place, 0o2770)

    def publish(names: str) -> None:
        broker = world.broker()
        broker.publish(QUEUE, text(names[0]), priority=0)
        broker = Broker(world.root, clock=world.clock, bundle_size=6)
        broker.publish_many(QUEUE, list(names[1:]), priority=0)

    def plant() -> None:
        os.mkdir(f"{world.path}/ready/0/{10**18}.shelf")
        os.mkdir(f"{world.path}/ready/0/{10**19 - 1}.shelf")

    as_user(OWNER, lambda: world.broker().publish(QUEUE, text("b"), priority=0))
    assert as_user(MEMBER, plant).error == ""
    assert as_user(OWNER, lambda: publish("abcdefghijklmn")).error == ""
    got = as_user(
        OWNER, lambda: sorted(m.message for m in world.broker().consume(QUEUE, 15))
    )
    assert (got.error, got.value) == (
        "",
        [*"bcdefghijklmn", text("a"), text("b")],
    )


@contextmanager
def acting(user: int, act: Callable[[], Any]) -> Iterator[Callable[[], None]]:
    """Let another user do something whenever the function is called, in any process."""
    (asked, ask), (told, tell) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ask)
        become(user)
        while os.read(asked, 1):
            with suppress(OSError):
                act()
            os.write(tell, b"x")
        os._exit(0)

    def call() -> None:
        os.write(ask, b"x")
        os.read(told, 1)

    try:
        yield call
    finally:
        os.close(ask)
        os.waitpid(child, 0)
        for descriptor in (asked, told, tell):
            os.close(descriptor)


class Interrupted:
    """A module before the n-th call of whose functions, from 0, somebody does something."""

    def __init__(self, module: Any, before: Callable[[], None]) -> None:
        self._module = module
        self._before = before

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if not callable(found):
            return found

        def called(*arguments: Any, **named: Any) -> Any:
            self._before()
            return found(*arguments, **named)

        return called


def locked_while(n: int, act: Callable[[], None], path: str) -> tuple[bool, str]:
    """Lock and unlock, and let somebody act before the n-th call: tell whether there was one."""
    made = 0

    def before() -> None:
        nonlocal made
        made += 1
        if made - 1 == n:
            act()

    for name in ("os", "fcntl"):  # in this child alone
        setattr(lock_file, name, Interrupted(getattr(lock_file, name), before))
    said = ""
    try:
        with locks.exclusive(path, 0):
            pass
    except (OSError, LockTimeout) as error:
        said = str(error)
    return made > n, said


SWAPS = {
    "the lock by a link": ("lock", "home/secret"),
    "the lock by a FIFO": ("lock", ""),
    "the queue by a link": ("", "home"),
}


def each_swap(
    lock: str, path: str, plant: Callable[[], None], *, is_new: bool
) -> Iterator[int]:
    """Let a member plant something before each call that the owner makes to lock, in turn.

    Yields the number of the call each time; then all is put back.
    """
    is_made, n = True, 0
    while is_made:
        if is_new:
            Path(lock).unlink(missing_ok=True)
        with acting(MEMBER, plant) as swapped:
            got = as_user(OWNER, lambda: locked_while(n, swapped, lock))  # noqa: B023
        is_made, said = got.value
        yield n
        n += 1
        if is_made:
            os.unlink(path)
        if os.path.lexists(f"{path}.aside"):
            os.rename(f"{path}.aside", path)
    assert said == ""  # the last one was not disturbed
    assert 10 < n < 100


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("is_new", [False, True])
def test_a_lock_that_a_member_swaps_at_any_moment_leads_nobody_to_his_own_files(
    is_new: bool, swap: str, place: Path
) -> None:
    world = queue_of(place, 0o2770)
    home = home_of(OWNER, place)
    shutil.copy2(home / "secret", home / "lock")  # so it looks like a queue
    os.chown(home / "lock", OWNER, GROUP)
    name, target = SWAPS[swap]
    path, lock = f"{world.path}/{name}".rstrip("/"), f"{world.path}/lock"

    def plant() -> None:
        with suppress(FileNotFoundError):
            os.rename(path, f"{path}.aside")
        os.symlink(place / target, path) if target else os.mkfifo(path, 0o666)

    before = files(str(home))
    for n in each_swap(lock, path, plant, is_new=is_new):
        assert files(str(home)) == before, n
    assert stat.S_IMODE(os.lstat(lock).st_mode) == 0o660


def test_a_check_is_led_by_nobody_else(place: Path) -> None:
    """Its clients do what they read in its directory: another could make it before them."""
    path = place / f".ddmq-check-clients-{OWNER}"
    as_user(MEMBER, lambda: path.mkdir(0o700))
    lobby = Lobby(str(place), Party(2, 0, f"clients-{OWNER}"), FileSystem(), "node")
    got = as_user(OWNER, lambda: lobby.meet(Clock(), 0))
    assert (got.error, got.value) == ("InvalidArgument", None)
    as_user(MEMBER, path.rmdir)
    assert as_user(OWNER, lambda: lobby.meet(Clock(), 0)).error == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


# Jobs that the owner submits

#: Tells the member that the scheduler is about to read, and waits until he has done his worst.
SUBMITTER = """#!/bin/sh
echo > {place}/begins
read -r _ < {place}/done
for last; do :; done
if [ -f "$last" ]; then cat "$last"; else cat; fi > {place}/read
echo Submitted
"""


@pytest.fixture
def pipes(place: Path) -> None:
    """Make what a member is told by that the worst moment has come, and what tells he is done."""
    for name in ("begins", "done"):
        os.mkfifo(place / name)
        (place / name).chmod(0o666)


@pytest.fixture
def scheduler(place: Path, pipes: None) -> Path:
    """Make commands of schedulers, which meet a member at the worst moment."""
    bin_ = place / "bin"
    bin_.mkdir()
    for name in ("sbatch", "qsub"):
        (bin_ / name).write_text(SUBMITTER.format(place=place))
        (bin_ / name).chmod(0o755)
    (place / "read").touch()
    (place / "read").chmod(0o666)
    (place / "process.sh").touch(mode=0o755)
    return bin_


def swaps_scripts(world: World, place: Path) -> None:
    """Put a script of one's own in the place of each in `jobs/`, while the scheduler is called."""
    (place / "begins").read_text()
    jobs = f"{world.path}/jobs"
    for name in os.listdir(jobs):
        Path(jobs, ".mine").write_text("#!/bin/sh\nsteal\n")
        os.rename(f"{jobs}/.mine", f"{jobs}/{name}")
    (place / "done").write_text("\n")


@pytest.fixture
def submitting(place: Path, scheduler: Path) -> Callable[..., str]:
    """Return what lets the owner submit while the member swaps; it returns what was submitted."""

    def submits(world: World, act: Callable[[], Any]) -> str:
        def at_home() -> Any:
            os.environ["PATH"] = f"{scheduler}:{os.environ['PATH']}"
            return act()

        member = begun(MEMBER, lambda: swaps_scripts(world, place))
        got = as_user(OWNER, at_home)
        assert (got.error, got.value) == ("", "Submitted")
        assert member().error == ""
        [record] = Path(world.path, "jobs").glob("ddmq-*.sh")
        assert "steal" in record.read_text()
        return (place / "read").read_text()

    return submits


@pytest.mark.parametrize("name", ["slurm", "pbs", "sge"])
def test_what_is_submitted_was_never_where_a_member_may_write(
    name: str, place: Path, submitting: Callable[..., str]
) -> None:
    world, worker = queue_of(place, 0o2770), ["ddmq-worker"]
    script = submit.new_script(world.path)
    arguments = [world.root, QUEUE, "--", "process.sh"]
    request = submit.Request(name, QUEUE, worker, arguments, seconds=3600.0, chain=2)
    text = submit.rendered(request, script)  # its template may be nobody else's to read
    submits = partial(submit_cli._submitted, name, script, text, keeps=True)
    assert submitting(world, submits) == text

    pairs = dict(re.findall(r"\b(DDMQ_CHAIN_[A-Z]+)=(\S+)", text))
    pairs.pop(chain.COMMAND, None)  # a real one that is installed here
    environ = {**pairs, "DDMQ_CHAIN_LEFT": "2", "SLURM_JOB_ID": "7"}
    goes_on = partial(chain.continue_chain, world.path, environ)
    got = as_user(OWNER, goes_on)  # by what is the member's by now
    assert (got.error, script in got.said) == ("SubmitFailed", True)
    os.unlink(script)
    assert as_user(OWNER, lambda: Path(script).write_text(text)).error == ""
    assert submitting(world, goes_on) == text


def test_a_name_of_a_result_that_only_another_user_can_free_is_not_waited_for(
    place: Path,
) -> None:
    """A member can plant a link like that. The worker would try to free it for ever."""
    holder = Holder("a" * 20, "0" * 16, "f" * 16)
    taken = NameTaken("", "x", holder)
    (place / NAMES).mkdir()
    (place / NAMES).chmod(0o1777)
    (place / NAMES / "x").symlink_to(holder.target)

    def free() -> bool:
        return free_if_gone(str(place), taken, holder.home, lambda _: "unknown")

    os.chown(place / NAMES / "x", OWNER, GROUP, follow_symlinks=False)
    assert as_user(MEMBER, free).value is False
    assert as_user(OWNER, free).value is True


# Directories of results, logs, journals and scripts

ID, TOKEN, OLD = "0123456789abcdef0123", "a" * 16, "b" * 16
MADE = {
    "out/.ddmq-unfinished": [
        f"{ID}.{TOKEN}/{ID}.{OLD}/{ID}",
        f"{ID}.{OLD}/{ID}.{OLD}/{ID}/below",
    ],
    "log/worker": ["000/thesis"],
    f"root/{QUEUE}/journal": ["0.jsonl", "1.jsonl"],
    f"root/{QUEUE}/jobs": [f"ddmq-{OLD}.sh", "after-x-1"],
}


def make_all(top: Path) -> None:
    """Make all that workers and submitters leave, long ago, below a directory."""
    for directory, names in MADE.items():
        for name in names:
            path = top / directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name}\n")
            os.utime(path, (1, 1))
    for each, directories, _ in os.walk(top):
        for name in directories:
            os.chmod(f"{each}/{name}", 0o700 if ID in f"{each}/{name}" else 0o2770)


def makes_result(place: Path) -> None:
    result = Result(f"{place}/out", ID, TOKEN)
    with open(result.path, "w") as file:
        file.write("whatever a member said")
    result.keep(sync=True)


def keeps_log(place: Path) -> None:
    stream = Stream(str(place), limit=10)
    os.write(stream.write_end, b"x")
    stream.started()
    stream.pump()
    with reached(f"{place}/log", "worker", "000", make=True) as folder:
        stream.part.save(folder, "log")
    stream.close()


def keeps_journal(place: Path) -> None:
    kept = journal.Journal(f"{place}/root/{QUEUE}", "host", FakeClock(), 0o2770)
    kept.add(journal.Run("id", 1.0, 1.0, "acked", 0, None, "host", "", 1, 1, 0.1, ""))
    kept.flush()
    kept.close()


def queue_in(place: Path) -> str:
    return f"{place}/root/{QUEUE}"


#: What the owner of a job does, and in the place of which directory the member puts a link.
DONE_BY_JOBS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "a result": ("out/.ddmq-unfinished", makes_result),
    "a result of its run": (f"out/.ddmq-unfinished/{ID}.{TOKEN}", makes_result),
    "no result": (
        "out/.ddmq-unfinished",
        lambda place: Result(f"{place}/out", ID, OLD).discard(),
    ),
    "a trial": ("out/.ddmq-unfinished", lambda place: try_output(f"{place}/out")),
    "leftovers": (
        "out/.ddmq-unfinished",
        lambda place: remove_leftovers(f"{place}/out", ID),
    ),
    "leftovers of a run": (
        f"out/.ddmq-unfinished/{ID}.{TOKEN}",
        lambda place: remove_leftovers(f"{place}/out", ID),
    ),
    "a log": ("log/worker", keeps_log),
    "a journal": (f"root/{QUEUE}/journal", keeps_journal),
    "a compaction": (
        f"root/{QUEUE}/journal",
        lambda place: journal.compact(queue_in(place), 1e10),
    ),
    "a script": (
        f"root/{QUEUE}/jobs",
        lambda place: submit.write(
            submit.new_script(queue_in(place)), "true", FileSystem()
        ),
    ),
    "a refusal": (
        f"root/{QUEUE}/jobs",
        lambda place: submit.forget(
            f"{queue_in(place)}/jobs/ddmq-{OLD}.sh", FileSystem()
        ),
    ),
    "a mark": (
        f"root/{QUEUE}/jobs",
        lambda place: chain.continue_chain(
            queue_in(place), {chain.LEFT: "1", chain.SCRIPT: "/x", chain.SUM: "x"}
        ),
    ),
}


@pytest.mark.deep
@pytest.mark.parametrize("done", DONE_BY_JOBS)
def test_no_directory_that_a_member_swaps_leads_a_job_elsewhere(
    done: str, place: Path, pipes: None
) -> None:
    """Before each system call in turn it is a link to files of the owner's with the same names."""
    home, shared, number = place / "home", place / "shared", 0
    for top in (home, shared):
        top.mkdir()
        os.chown(top, OWNER, GROUP)
    assert as_user(OWNER, lambda: make_all(home)).error == ""
    home.chmod(0o700)
    shared.chmod(0o2770)
    before = files(str(home))
    while done_while_swapped(*DONE_BY_JOBS[done], place, number):
        assert files(str(home)) == before
        number += 1
    assert number > 4


def done_while_swapped(
    directory: str, act: Callable[[Path], Any], place: Path, number: int
) -> bool:
    """Let the member swap a directory before the n-th system call; False: there are not so many."""
    shared = place / "shared"

    def swap() -> None:
        (place / "begins").read_text()
        with suppress(FileNotFoundError):  # it is made and removed
            os.rename(shared / directory, shared / f"{directory}-away")
        os.symlink(place / "home" / directory, shared / directory)
        (place / "done").write_text("\n")

    def ask() -> None:
        (place / "begins").write_text("\n")
        (place / "done").read_text()

    def work() -> bool:
        made = meeting(number, ask)
        with suppress(OSError, DdmqError):
            act(shared)
        return len(made) > number

    assert as_user(OWNER, lambda: make_all(shared)).error == ""
    member, got = begun(MEMBER, swap), as_user(OWNER, work)
    if not got.value:
        ask()
    assert (member().error, got.error) == ("", "")
    for path in shared.iterdir():
        shutil.rmtree(path)
    return bool(got.value)


def meeting(number: int, act: Callable[[], Any]) -> list[str]:
    """Do something before the n-th system call of this process; return the names of those made."""
    made: list[str] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            made.append(name)
            if len(made) == number + 1:
                act()
            return function(*arguments, **named)

        return call

    for name in (*SYSTEM_CALLS, "stat"):
        setattr(os, name, counted(name, getattr(os, name)))
    return made


#: Tells the member its id and its run, and opens its output when he has done his worst.
COMMAND = """
echo $DDMQ_ID.$DDMQ_RUN > {place}/begins
read -r _ < {place}/done
echo "$1" > $DDMQ_OUTPUT
"""


def works(place: Path, world: World, command: str, *options: str) -> Answer:
    """Let the owner run a worker; return its exit status."""
    words = ["--output-dir", str(place / "out"), "--retries=3", *options]
    words += ["-j1", world.root, QUEUE, "--", "/bin/sh", "-c", command, "sh", "{}"]

    def work() -> int:
        return worker_cli.main(words)

    return as_user(OWNER, work)


def leads_away(place: Path, swapped: str, target: str) -> str:
    """Put a link in the place of a directory of a run, before its command opens its output."""
    run = (place / "begins").read_text().strip()
    path = f"{place}/out/.ddmq-unfinished{swapped.format(run=run)}"
    os.rename(path, f"{path}-away")
    os.symlink(place / target, path)
    (place / "done").write_text("\n")
    return path


@pytest.mark.parametrize("target", ["home", "home/new", "home/out/.ddmq-unfinished"])
@pytest.mark.parametrize("swapped", ["", "/{run}"])
def test_an_output_that_a_member_leads_away_before_it_is_opened_is_made_nowhere(
    swapped: str, target: str, place: Path, pipes: None
) -> None:
    """Its message has failed, and runs again; nothing of its text is in the owner's home."""
    load_everything()
    world, home, out = World(place / "root"), home_of(OWNER, place), place / "out"
    home.chmod(0o700)
    assert as_user(OWNER, lambda: make_all(home)).error == ""
    shared_by(OWNER, out, out / ".ddmq-unfinished")
    ids = as_user(OWNER, lambda: publish_to_group(world)).value
    before = files(str(home))
    member = begun(MEMBER, lambda: leads_away(place, swapped, target))
    got = works(place, world, COMMAND.format(place=place), "--max-messages=1")
    link = member()
    assert (link.error, got.error) == ("", "")
    assert files(str(home)) == before
    assert not set(os.listdir(out)) & set(ids)
    assert as_user(MEMBER, lambda: os.unlink(link.value)).error == ""
    got = works(place, world, 'echo "$1" > $DDMQ_OUTPUT')
    assert (got.error, got.value) == ("", 0)
    assert [(out / id_).read_text() for id_ in ids] == ["one\n", "other\n"]
    assert files(str(home)) == before


def shared_by(user: int, *directories: Path) -> None:
    """Make directories in which the user's group may write."""
    for path in directories:
        path.mkdir()
        os.chown(path, user, GROUPS[user])
        path.chmod(0o2770)


def publish_to_group(world: World) -> list[str]:
    """Make a queue of a group's with two messages."""
    broker = world.broker(create=True, mode=0o2770)
    broker.create_queue(QUEUE, mode=0o2770)
    return [str(broker.publish(QUEUE, text)) for text in ("one", "other")]


def test_what_another_users_worker_left_stays_and_is_in_nobodys_way(
    place: Path,
) -> None:
    """It is closed to all but him, who removes it; whoever has the message next has its result."""
    out = place / "out"
    shared_by(OWNER, out, out / ".ddmq-unfinished")

    def die_at_work(token: str) -> None:
        with open(Result(str(out), ID, token).path, "w") as file:
            file.write("half")

    def work() -> None:
        remove_leftovers(str(out), ID)
        result = Result(str(out), ID, "c" * 16)
        with open(result.path, "w") as file:
            file.write("whole")
        result.keep(sync=True)

    for user, token in ((OWNER, OLD), (MEMBER, TOKEN)):
        assert as_user(user, lambda: die_at_work(token)).error == ""  # noqa: B023
    assert as_user(MEMBER, work).error == ""
    assert (out / ID).read_text() == "whole"
    assert os.listdir(out / ".ddmq-unfinished") == [f"{ID}.{OLD}"]
    assert as_user(OWNER, lambda: remove_leftovers(str(out), ID)).error == ""
    assert os.listdir(out / ".ddmq-unfinished") == []


@pytest.mark.parametrize(
    "kept",
    [
        *("work", "dead", "ready", "ready/0", "lock"),
        *("then", "workers", "journal", "jobs", "ready/cancelled"),
    ],
)
def test_what_a_member_keeps_to_himself_is_moved_away_by_a_doctor(
    kept: str, place: Path
) -> None:
    world = queue_of(place, 0o2770)
    path = f"{world.path}/{kept}"
    as_user(OWNER, lambda: world.broker().publish(QUEUE, text("x"), priority=0))
    was_there = os.path.exists(path)

    def plant() -> None:
        with suppress(FileNotFoundError):  # nobody has needed it yet
            os.rename(path, f"{world.path}/.away")
        if kept == "lock":
            os.close(os.open(path, os.O_CREAT, 0o600))
        else:
            os.mkdir(path, 0o700)
            Path(f"{path}/his").touch()

    def work() -> list[Any]:
        broker = world.broker()
        broker.create_queue("other")
        broker.publish(QUEUE, text("fresh"), priority=0)
        return [m.message for m in broker.consume(QUEUE, 50)]

    assert as_user(MEMBER, plant).error == ""
    got = as_user(OWNER, lambda: str(diagnose(world.root, [QUEUE], fix=True)))
    assert (got.error, "mended" in str(got.value)) == ("", True), got.said
    assert text("fresh") in as_user(OWNER, work).value
    assert not os.path.exists(f"{path}/his")
    assert os.path.exists(f"{world.path}/.away") == was_there


@pytest.mark.parametrize("kept", ["ready/0", "ready", "delayed"])
def test_what_was_moved_away_with_entries_of_bundles_can_be_put_back(
    kept: str, place: Path
) -> None:
    world = queue_of(place, 0o2770)
    names = [str(n) for n in range(20, 32)]

    def publish() -> None:
        delay = 60 if kept == "delayed" else 0
        messages = [text(name) for name in names]
        world.broker().publish_many(QUEUE, messages, priority=0, delay=delay)

    as_user(MEMBER, publish)
    path = f"{world.path}/{kept}"
    os.chown(path, MEMBER, GROUP)
    os.chmod(path, 0o700)
    got = as_user(OWNER, lambda: str(diagnose(world.root, [QUEUE], fix=True)))
    assert "may be in it" in str(got.value), got.said
    world.clock.advance(25 * HOUR)
    as_user(OWNER, lambda: world.broker().clean(QUEUE))
    above, name = os.path.split(path)
    [hidden] = [x for x in os.listdir(above) if x.startswith(f".{name}-")]
    os.chmod(f"{above}/{hidden}", 0o2770)
    if os.path.exists(path):
        shutil.rmtree(path)
    os.rename(f"{above}/{hidden}", path)
    world.clock.advance(25 * HOUR)
    taken = as_user(OWNER, lambda: all_taken(world)).value
    assert {text(name) for name in names} <= taken


def all_taken(world: World) -> set[str]:
    """Consume whatever there is, after housekeeping."""
    broker = world.broker()
    broker.clean(QUEUE)
    return {message.message for message in broker.consume(QUEUE, 100)}


def test_a_follow_up_that_a_member_keeps_to_himself_is_done_once(place: Path) -> None:
    world = queue_of(place, 0o2770)
    name = f"{1:013d}.0.{'0' * 16}.waiting"

    def plant() -> None:
        world.broker().with_follow_ups(QUEUE, FollowUps.arm)
        for planted in (name, name.replace("0001.", "0002.")):
            os.mkdir(f"{world.path}/then/{planted}", 0o700)
            Path(f"{world.path}/then/{planted}/his").touch()

    def done(then: FollowUps) -> int:
        """Do what is free until nothing is, with time going on."""
        for number in range(9):
            _, free = then.look()
            if not free:
                return number
            held = then.claim(free[-1], 60)
            assert held is not None
            others = then.superseded(held)
            held = then.begin(held, 60)
            assert held is not None
            then.remove(others)
            then.finish(held)
            world.clock.advance(HOUR)
        return 9

    assert as_user(MEMBER, plant).error == ""
    act = partial(world.broker().with_follow_ups, QUEUE, done)
    got = as_user(OWNER, act)
    assert (got.value, got.error) == (3, ""), got.said


def test_a_queue_whose_maker_died_is_made_by_any_other_member(place: Path) -> None:
    world = queue_of(place, 0o2770)
    for number in range(200):
        name = f"new{number}"

        def make(name: str, calls: Calls) -> bool:
            os.umask(0o077)
            with suppress(Crash):
                return world.broker(calls).create_queue(name, mode=0o2770)
            return False

        made = as_user(MEMBER, partial(make, name, crashing_before(number)))
        assert made.error == ""
        other = as_user(OWNER, partial(make, name, counting()))
        assert other.error == "", (number, other.said)
        new = Path(world.root, name)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in [new, *new.iterdir()]}
        assert (modes, number) == ({0o2770, 0o660}, number)
        assert not list(Path(world.root).glob(".*"))
        if made.value:
            return
    raise AssertionError("it was never made whole")


def test_a_pause_that_a_member_keeps_to_himself_can_be_ended(place: Path) -> None:
    world = queue_of(place, 0o2770)
    path = f"{world.path}/ready/paused"

    def plant() -> None:
        os.mkdir(path, 0o700)
        Path(f"{path}/his").touch()

    def resume() -> tuple[bool, Any]:
        broker = world.broker()
        return broker.resume(QUEUE), broker.paused(QUEUE)

    assert as_user(MEMBER, plant).error == ""
    got = as_user(OWNER, resume)
    assert (got.value, got.error) == ((True, None), ""), got.said


def test_keys_that_a_member_keeps_to_himself_are_told_and_stay(place: Path) -> None:
    """Moved away, they would let everything be published once more."""
    world = queue_of(place, 0o2770)

    def plant() -> None:
        world.broker().publish(QUEUE, text("once"), key="k")
        os.chmod(f"{world.path}/keys", 0o700)

    assert as_user(MEMBER, plant).error == ""
    got = as_user(OWNER, lambda: str(diagnose(world.root, [QUEUE], fix=True)))
    assert "somebody keeps it to himself" in str(got.value), got.said
    assert "mended" not in str(got.value)
    assert len(os.listdir(f"{world.path}/keys")) == 1
