"""Other users of the node: some share a queue through their group, some may only look.

They are real: each test runs children under other user ids, so only root can run these.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import pytest
import yaml
from protocol.scenes import QUEUE, World, text

from ddmq import Broker
from ddmq.doctor import diagnose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Read before we become somebody who may not read where they are.
READ = (logging, filelock, yaml)
OWNER, MEMBER, READER, STRANGER = 12345, 12346, 12347, 12348
GROUP, READERS, NOBODYS = 12345, 12346, 12347
GROUPS = {OWNER: GROUP, MEMBER: GROUP, READER: READERS, STRANGER: NOBODYS}

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")


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


def as_user(user: int, act: Callable[[], Any]) -> Answer:
    """Do something in a child that is another user; it is killed if it hangs."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(30)
            os.setgroups([])
            os.setgid(GROUPS[user])
            os.setuid(user)
            os.umask(0o022)
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(answer(act), pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    assert os.waitpid(child, 0)[1] == 0, "it hung"
    result = pickle.loads(data)
    assert isinstance(result, Answer)
    return result


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
    "redrive": lambda b: b.redrive(QUEUE),
    "purge": lambda b: b.purge(QUEUE),
    "clean": lambda b: b.clean(QUEUE),
    "settings": lambda b: b.update_settings(QUEUE, priority=1),
    "root settings": lambda b: b.update_settings(priority=1),
    "create": lambda b: b.create_queue("other"),
    "delete": lambda b: b.delete_queue(QUEUE),
}


def held(broker: Any) -> str:
    """Return the file name of the lease that is there, or of none."""
    with suppress(OSError):
        return str(([*os.listdir(f"{broker.root}/{QUEUE}/work"), "none"])[0])
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
        assert as_user(user, lambda: world.broker().view()).value == {
            QUEUE: (11, 1, 1, 1)
        }
        dead = as_user(user, lambda: world.broker().dead(QUEUE)[0].message)
        assert dead.value == text("single")
        assert as_user(user, lambda: world.broker().queues()).value == [QUEUE]
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


PLANTED = ["tmp", "ready", "work", "delayed", "dead", "drop", "lock", "ddmq.yaml"]
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
    for act in verbs.values():
        got = as_user(OWNER, lambda: act(world.broker()))  # noqa: B023
        assert "-----" not in repr(got.value)
        assert got.error in (
            "",
            "StorageError",
            "QueueNotFound",
            "LeaseLost",
        )
    assert files(str(home)) == before


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


def test_a_shelf_that_a_member_keeps_to_himself_stops_no_publisher(
    place: Path,
) -> None:
    world = queue_of(place, 0o2770)

    def publish(names: str) -> None:
        broker = world.broker()
        broker.publish(QUEUE, text(names[0]), priority=0)
        broker = Broker(world.root, clock=world.clock, bundle_size=6)
        broker.publish_many(QUEUE, names[1:], priority=0)

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


@pytest.mark.parametrize("kept", ["work", "dead", "ready", "ready/0", "lock"])
def test_what_a_member_keeps_to_himself_is_moved_away_by_a_doctor(
    kept: str, place: Path
) -> None:
    world = queue_of(place, 0o2770)
    path = f"{world.path}/{kept}"
    as_user(OWNER, lambda: world.broker().publish(QUEUE, text("x"), priority=0))

    def plant() -> None:
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
    assert (got.error, "mended" in str(got.value)) == ("", True)
    assert text("fresh") in as_user(OWNER, work).value
    assert os.path.exists(f"{world.path}/.away")
