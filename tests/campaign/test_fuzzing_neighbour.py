"""A user works beside a malicious neighbour; nothing of the user's own is touched.

One member of a group, the owner, uses a queue as people do: publishers, workers with
results and logs, a cleaner, a doctor, batch jobs. Another member does what `neighbour.py`
does, wherever the group may write. The short form takes 5 seconds, the neighbour making the same
choices each time, and

    pytest -m campaign tests/campaign/test_fuzzing_neighbour.py

takes 60, or as many as `DDMQ_NEIGHBOUR` says, with new choices. `DDMQ_SEED` repeats them.
"""

from __future__ import annotations

import faulthandler
import io
import json
import mmap
import os
import random
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from campaign.neighbour import (
    MARK,
    Area,
    Neighbour,
    all_of,
    home_of_canaries,
    leave,
)
from protocol.test_other_users import GROUP, GROUPS, MEMBER, OWNER, load_everything

from ddmq import Broker, DdmqError
from ddmq.cli import main as cli
from ddmq.cli import submit as submit_cli
from ddmq.cli import worker as worker_cli
from ddmq.hpc import chain, submit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root("be two users"),
]
QUEUE = "q"
#: Seconds after which whoever has not answered hangs; for administration, which waits for
#: locks, so many more.
HANGS, LOCKED = 5.0, 10.0
#: Seconds for which a worker may run until it is asked to end.
RUNS = 4.0
#: Bytes of memory that a process of the owner's may have beside those that it began with.
MEMORY = 700 << 20
#: Where directories for tests are made, as pytest has it.
TEMPORARY = "PYTEST_DEBUG_TEMPROOT"
#: Seconds in which each thing must have succeeded once.
PATIENCE = 90.0
#: How many processes the neighbour has.
NEIGHBOURS = 3
#: How things end that were done, by a worker too.
GOOD = (0, 3, 4, 5)
#: How things may end when nobody disturbs them, where that is not 0, or 3 for nothing to
#: consume: a worker stops with work left, and a doctor sees what is just being made.
CALM = {"work": (0, 4, 5), "doctor": (0, 1), "doctor --fix": (0, 1)}
#: What a command makes of a message, its result, and what it prints.
COMMAND = 'printf %s "$1" > "$DDMQ_OUTPUT" && echo done && [ "${1#fail}" = "$1" ]'
SBATCH = """#!/bin/sh
# Notes what it was handed, and runs nothing: its last argument, or standard input.
sleep 0.01
record=$(mktemp {desk}/submitted/XXXXXXXX)
for script; do :; done
case ${{script--}} in -*) cat ;; *) cat "$script" ;; esac > "$record"
echo "Submitted batch job 1"
"""


class Done(NamedTuple):
    """One thing that the owner did, and how it ended."""

    what: str
    status: int
    """Its exit status, or minus the number of the signal that ended it."""
    seconds: float
    """How long it took, but for the time that it waited for a processor."""
    said: str


def line(main: Callable[[list[str]], int], *words: str) -> Callable[[], int]:
    """Return the Python code that runs a command line."""
    return lambda: main(list(words))


class Owner:
    """What one user does with a queue, each thing in a process of its own that we watch.

    He starts nothing by its path: the neighbour's group may be unable to read Python.
    """

    def __init__(self, area: Area, desk: Path) -> None:
        self.area = area
        self.desk = desk
        """A directory of his own, for what he keeps of what he did."""
        self.began = mmap.mmap(-1, 8)
        """When the step began that is being done; for each thing another one."""
        self.number = 0

    # What he does

    def roles(self) -> dict[str, list[tuple[str, Callable[[], int], float]]]:
        """Return what each role does again and again, and how long that may take."""
        area = self.area
        root, results, logs = str(area.root), str(area.results), str(area.logs)
        places, waits = (root, QUEUE), HANGS + LOCKED
        work = ["--output-dir", results, "--log-dir", logs, "--logs=all", "--timeout=2"]
        work += [
            "-j2",
            "--grace=0.5",
            "--max-messages=12",
            "--poll-max=0.1",
            "--retries=1",
            "--no-brake",
        ]
        work += [*places, "--", "/bin/sh", "-c", COMMAND, "sh", "{}"]
        job = ["slurm", *places, "--worker", str(self.desk / "worker"), "--workers=2"]
        job += ["--chain=3", "--", "true"]
        administer = {
            "doctor": ["doctor", *places],
            "doctor --fix": ["doctor", "--fix", *places],
            "config": ["config", *places, "--set=priority=5"],
            "purge": ["purge", *places],
            "create": ["create", root, f"{QUEUE},other"],
            "delete": ["delete", root, "other"],
        }
        looks = ("view", "dead", "log", "redrive")
        return {
            "publish": [("publish", self.publish, HANGS)],
            "publish many": [("publish many", self.publish_many, HANGS)],
            "consume": [("consume", self.consume, HANGS)],
            "work": [("work", line(worker_cli.main, *work), RUNS)],
            "clean": [("clean", line(cli.main, "clean", *places), HANGS)],
            "look": [(name, line(cli.main, name, *places), HANGS) for name in looks],
            "administer": [
                (what, line(cli.main, *words), waits)
                for what, words in administer.items()
            ],
            "submit": [
                ("submit", line(submit_cli.main, *job), HANGS),
                ("go on", self.go_on, HANGS),
            ],
        }

    def step(self) -> None:
        """Note that a step begins, which must not take long."""
        self.began[:] = struct.pack("d", time.monotonic())

    def steps(self, act: Callable[[Broker, int], Any], number: int) -> int:
        """Do something repeatedly with one client, whatever fails; 1 if it never worked."""
        status = 1
        self.step()
        try:
            broker = Broker(self.area.root)
        except DdmqError:
            return 1
        for n in range(number):
            self.step()
            with suppress(DdmqError):
                act(broker, n)
                status = 0
        return status

    def publish(self) -> int:
        """Publish single messages; some will fail, some are delayed."""

        def act(broker: Broker, n: int) -> None:
            text = f"{'fail' if n % 5 == 0 else 'text'} {n}"
            broker.publish(
                QUEUE, text, delay=0.1 * (n % 7 == 0), priority=n % 2 or None
            )

        return self.steps(act, 40)

    def publish_many(self) -> int:
        """Publish bundles."""

        def act(broker: Broker, n: int) -> None:
            broker.publish_many(QUEUE, [f"line {n}-{k}" for k in range(15)])
            time.sleep(0.02)

        return self.steps(act, 10)

    def consume(self) -> int:
        """Consume some messages, and settle them in all ways."""

        def act(broker: Broker, n: int) -> None:
            verbs = broker.ack, broker.nack, broker.release, broker.renew, broker.reject
            for message in broker.consume(QUEUE, 1 + n % 4):
                print(message.message, message.id)  # noqa: T201
                with suppress(DdmqError):
                    verbs[n % 5](message)

        return self.steps(act, 30)

    def go_on(self) -> int:
        """Be the job that was submitted last, at its end: submit the next job of the chain."""
        records = sorted((self.desk / "submitted").iterdir(), key=os.path.getmtime)
        if not records:
            return 0
        text = records[-1].read_text(errors="replace")
        lines = [x for x in text.splitlines() if x.startswith("export DDMQ_")]
        shell = ["/bin/sh", "-c", "\n".join([*lines, "exec env -0"])]
        told = subprocess.run(shell, capture_output=True, check=True).stdout.decode()
        environ = dict(x.split("=", 1) for x in told.split("\0") if "=" in x)
        try:
            chain.continue_chain(str(self.area.queue), environ)
        except DdmqError as error:
            print(error)  # noqa: T201
            return 1
        return 0

    # How it is watched

    def do(self, what: str, act: Callable[[], int], limit: float) -> Done:
        """Do something in another process; wait as long as it may take."""
        self.number += 1
        said = self.desk / f"said-{os.getpid()}-{self.number}"
        self.began = mmap.mmap(-1, 8)  # shared with that process, and nobody else
        self.step()
        child = os.fork()
        if child == 0:
            self._act(act, said)
        status, seconds = self._awaited(child, what, limit)
        text = said.read_text(errors="replace") if said.exists() else ""
        if status in (0, 3) and "CANARY" not in text:
            said.unlink(missing_ok=True)
        return Done(what, status, seconds, shortened(text))

    def _act(self, act: Callable[[], int], said: Path) -> None:
        """Be the other process: act, and report."""
        code = 99
        try:
            output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb"), "utf-8", "replace")
            sys.stderr = io.TextIOWrapper(
                os.fdopen(2, "wb"), "utf-8", "replace", line_buffering=True
            )
            faulthandler.enable(sys.stderr)
            faulthandler.register(signal.SIGQUIT, sys.stderr)
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            used = pages * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            code = act()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 98
        except BaseException:  # noqa: BLE001 - whatever it is, it is told
            traceback.print_exc()
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)

    def _awaited(self, child: int, what: str, limit: float) -> tuple[int, float]:
        """Wait for a process; kill it when one of its steps takes too long."""
        asked, seen, waited, most = False, 0.0, 0.0, 0.0
        while True:
            began = struct.unpack("d", self.began[:])[0]
            if began != seen:
                seen, waited = began, _waited(child)
            ended, status = os.waitpid(child, os.WNOHANG)
            seconds = time.monotonic() - began
            if not ended:
                seconds -= max(_waited(child) - waited, 0.0)
            most = max(most, seconds)
            if ended:
                return os.waitstatus_to_exitcode(status), most
            if what == "work" and seconds > limit and not asked:
                asked, most = True, 0.0
                os.kill(child, signal.SIGTERM)  # it may wait for the queue for ever
                self.step()
            elif seconds > (HANGS if asked else limit):
                os.kill(child, signal.SIGQUIT)  # it says where it is
                time.sleep(0.2)
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return -signal.SIGKILL, most
            time.sleep(0.01)


def shortened(text: str) -> str:
    """Return the beginning and the end of a long text."""
    return text if len(text) < 3000 else f"{text[:1500]}\n[...]\n{text[-1500:]}"


def _waited(pid: int) -> float:
    """Return how long the threads of a process have waited for a processor."""
    waited = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError, IndexError):  # it has ended
            waited += int(thread.read_text().split()[1])
    return waited / 1e9


def fork(user: int, act: Callable[[], None]) -> int:
    """Do something in a process of another user; return its id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            os.setgroups([])
            os.setgid(GROUPS[user])
            os.setuid(user)
            os.umask(0o007)
            act()
            code = 0
        except BaseException:  # noqa: BLE001 - it is told, and the parent hears of it
            traceback.print_exc()
        os._exit(code)
    return child


class Scene:
    """A directory that both users can reach, with all their files."""

    def __init__(self, place: Path) -> None:
        self.desk = place / "desk"
        self.area = Area(
            *(place / "root", place / "root" / QUEUE),
            *(place / "results", place / "logs", place / "home"),
            *(place / "own", place / "witness"),
        )
        self.owner = Owner(self.area, self.desk)
        home_of_canaries(self.area.home, (OWNER, GROUP))
        shared = self.area.root, self.area.results, self.area.logs
        for path in (self.desk, self.area.own, *shared):
            path.mkdir()
            path.chmod(0o2770 if path in shared else 0o700)
        for path in (self.desk / "submitted", self.desk / "bin", self.desk / "tmp"):
            path.mkdir()
        for name in ("bin/sbatch", "worker"):
            text = SBATCH.format(desk=self.desk) if name != "worker" else "#!/bin/sh\n"
            (self.desk / name).write_text(text)
            (self.desk / name).chmod(0o755)
        # Others may not read where ddmq is installed, and the owner submits by its templates.
        templates = Path(submit.__file__).parent / "templates"
        shutil.copytree(templates, self.desk / "templates")
        self.area.witness.touch()
        self.area.witness.chmod(0o666)
        for path in (self.desk, *shared):
            own(path, OWNER)
        own(self.area.own, MEMBER)

    def as_owner(self, act: Callable[[], None]) -> int:
        """Let the owner do something; return the id of that process."""

        def at_his_desk() -> None:
            os.environ["HOME"] = str(self.area.home)
            os.environ["TMPDIR"] = tempfile.tempdir = str(self.desk / "tmp")
            os.environ["PATH"] = f"{self.desk / 'bin'}:/usr/bin:/bin"
            os.chdir(self.desk)
            submit.get_data = lambda _, name: (self.desk / name).read_bytes()
            act()

        return fork(OWNER, at_his_desk)

    def done(self) -> list[Done]:
        """Return all that the owner has done so far."""
        lines = []
        for path in sorted(self.desk.glob("done-*"), key=os.path.getctime):
            lines += path.read_text().splitlines()
        return [Done(*json.loads(line)) for line in lines]

    def play(self, seconds: float) -> None:
        """Let the owner play all roles for a while, each at least once."""
        everything = self.owner.roles()
        playing = [
            self.as_owner(lambda: self._play(name, everything[name], seconds))  # noqa: B023
            for name in everything
        ]
        for process in playing:
            assert os.waitpid(process, 0)[1] == 0
            with suppress(ProcessLookupError):  # what was left by those who hung
                os.killpg(process, signal.SIGKILL)

    def _play(self, name: str, acts: list[Any], seconds: float) -> None:
        """Play one role again and again; go on for a while if nothing succeeded yet."""
        began, succeeded = time.monotonic(), False
        with open(self.desk / f"done-{name}-{os.getpid()}", "a") as log:
            while True:
                for act in acts:
                    done = self.owner.do(*act)
                    succeeded |= done.status in GOOD
                    log.write(json.dumps(done) + "\n")
                    log.flush()
                patience = seconds if succeeded else max(6 * seconds, PATIENCE)
                if time.monotonic() - began > patience:
                    return

    def one(self, what: str, act: Callable[[], int], limit: float) -> Done:
        """Let the owner do one thing; return how it ended."""
        path = self.desk / f"done-once-{time.monotonic_ns()}"

        def once() -> None:
            path.write_text(json.dumps(self.owner.do(what, act, limit)) + "\n")

        os.waitpid(self.as_owner(once), 0)
        return Done(*json.loads(path.read_text()))


def own(path: Path, user: int) -> None:
    """Make a user the owner of a directory and all that is in it."""
    for directory, _, files in os.walk(path):
        for each in (directory, *(f"{directory}/{name}" for name in files)):
            os.chown(each, user, GROUPS[user])


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Return a scene with a queue for the owner's group, where all that the owner does works."""
    load_everything()
    place = Path(tempfile.mkdtemp(prefix="ddmq-", dir=os.environ.get(TEMPORARY)))
    place.chmod(0o1777)
    scene = Scene(place)
    root = str(scene.area.root)
    for words in (
        ["create", "-f", "--mode", "2770", root, QUEUE],
        ["config", root, "--set", "lock_timeout=1", "--set", "durable=false"],
    ):
        assert scene.one(words[0], line(cli.main, *words), HANGS).status == 0
    yield scene
    shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize(
    "seconds", [5.0, pytest.param(None, marks=pytest.mark.campaign, id="campaign")]
)
def test_a_neighbour_who_means_ill_reaches_nothing_of_the_owners(
    scene: Scene, seconds: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = str(random.randrange(10**6)) if seconds is None else "1"
    seed = os.environ.get("DDMQ_SEED") or usual
    seconds = seconds or float(os.environ.get("DDMQ_NEIGHBOUR", "60"))
    scene.play(0)
    calm = scene.done()
    assert_none(str(d) for d in calm if d.status not in CALM.get(d.what, (0, 3)))
    before = all_of(str(scene.area.home))
    disturb(scene, seed, seconds)
    after, done = all_of(str(scene.area.home)), scene.done()[len(calm) :]
    with capsys.disabled():
        counted = Counter((d.what, d.status) for d in done)
        print(f"\nseed {seed}: {dict(sorted(counted.items()))}")  # noqa: T201
    found = [*changes(before, after), *ran_by_others(scene.area), *leaks(scene)]
    found += [*troubles(done), *bad_scripts(scene), *after_the_doctor(scene)]
    assert_none(found, f"DDMQ_SEED={seed}")


def disturb(scene: Scene, seed: str, seconds: float) -> None:
    """Let the neighbour disturb the owner, then leave a queue that `ddmq doctor` can mend."""
    area = scene.area
    inode, files = area.queue.lstat().st_ino, [area.root, area.queue]
    settings = {path / "ddmq.yaml": (path / "ddmq.yaml").read_bytes() for path in files}
    neighbours = [
        fork(MEMBER, lambda: Neighbour(area, seed, n, NEIGHBOURS).go_on())  # noqa: B023
        for n in range(NEIGHBOURS)
    ]
    try:
        scene.play(seconds)
    finally:
        for process in neighbours:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
    leaving = fork(MEMBER, lambda: leave(area, seed, inode, settings))
    assert os.waitpid(leaving, 0)[1] == 0


def assert_none(found: Iterable[str], where: str = "in the calm") -> None:
    """Fail, and print all that was found."""
    told = list(found)
    if told:
        pytest.fail(f"{len(told)} found ({where}):\n" + "\n".join(told), pytrace=False)


def changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """Yield what was read, changed, made or removed in the owner's home."""
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            yield f"removed: {path}"
        elif path not in before:
            yield f"made: {path}: {after[path]}"
        elif before[path] != after[path]:
            yield f"read or changed: {path}: {before[path]}, now {after[path]}"


def ran_by_others(area: Area) -> Iterator[str]:
    """Yield a line if anybody but the neighbour ran a program of his."""
    users = set(area.witness.read_text().split())
    if users - {str(MEMBER)}:
        yield f"the neighbour's program was run by {users}"


def leaks(scene: Scene) -> Iterator[str]:
    """Yield the places where something is that was in the owner's home."""
    area = scene.area
    for path in (area.root, area.results, area.logs, area.own, scene.desk):
        for directory, _, names in [] if path.is_symlink() else os.walk(path):
            for name in names:
                file = f"{directory}/{name}"
                known = os.lstat(file)
                if stat.S_ISREG(known.st_mode) and known.st_size:
                    with open(file, "rb") as opened:
                        if b"CANARY" in opened.read(1 << 22):
                            yield f"{file} has what is the owner's own"


def troubles(done: list[Done]) -> Iterator[str]:
    """Yield what hung, died, gave no explanation, or never succeeded."""
    for each in done:
        if each.status == -signal.SIGKILL:
            yield f"{each.what} hung for {each.seconds:.1f} s: {each.said}"
        elif each.status not in (1, *GOOD) or "Traceback" in each.said:
            yield f"{each.what} ended with {each.status}: {each.said}"
    never = {each.what for each in done} - {d.what for d in done if d.status in GOOD}
    if never & {"publish", "publish many", "consume", "work", "clean", "submit"}:
        yield f"never done: {never}"


def bad_scripts(scene: Scene) -> Iterator[str]:
    """Yield the scripts that were submitted, but not written by the owner."""
    for path in (scene.desk / "submitted").iterdir():
        text = path.read_text(errors="replace")
        last = text.rstrip().rpartition("\n")[2]
        if MARK in text or not last.startswith(f"exec {scene.desk}/worker "):
            yield f"submitted: {text!r:.300}"


def after_the_doctor(scene: Scene) -> Iterator[str]:
    """Yield what does not work when the neighbour has gone, and the doctor has mended."""
    places = str(scene.area.root), QUEUE
    healed = scene.one("doctor --fix", line(cli.main, "doctor", "--fix", *places), 60)
    fresh = [f"fresh {n}" for n in range(20)]

    def work() -> int:
        broker = Broker(scene.area.root)
        while more := broker.consume(QUEUE, 50):  # what he left, too
            broker.ack(more)
        for _ in range(12):  # who met garbage is at the front again after as many looks
            broker.publish(QUEUE, "one", priority=3)
            broker.ack(broker.consume(QUEUE, 1))
        for text in fresh[:5]:
            broker.publish(QUEUE, text, priority=3)
        broker.publish_many(QUEUE, fresh[5:], priority=3)
        while more := broker.consume(QUEUE, 7):
            print(*(message.message for message in more), sep="\n")  # noqa: T201
            broker.ack(more)
        return 98  # so that what was said is kept

    worked = scene.one("work afterwards", work, 60)
    if worked.said.splitlines() != fresh:
        yield f"the queue does not work: {worked}\nafter {healed}"
