"""Processes of all kinds are killed at random; no message is lost, stuck or acked twice.

The short form kills 50 times. `pytest -m campaign tests/campaign` kills 1,000 times, or as
often as `DDMQ_KILLS` says. Each process logs what it does, independently of the queue.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from protocol.test_processes import QUEUE, Stage, next_of

from ddmq.cli.worker import SOME_FAILED

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow
LEASE = 4
ROLES = (
    *("publish", "publish_many", "publish_many"),
    *("consume", "consume", "work", "work", "clean"),
)
PUBLISHERS = 3


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    stage.broker.update_settings(QUEUE, message_timeout=LEASE)
    yield stage
    stage.abandon()


class Storm:
    """Processes of all roles, each replaced when it is killed."""

    def __init__(self, stage: Stage, each: int, roles: tuple[str, ...] = ROLES) -> None:
        self.stage = stage
        self.each = each
        self.roles = roles
        self.killed: set[int] = set()
        self.numbers = [self.enter(n) for n in range(len(roles))]

    def enter(self, n: int) -> int:
        """Start a process of the n-th role; return its number on the stage."""
        role, argument = self.roles[n], str(self.stage.stop)
        if n < PUBLISHERS:
            owner = f"p{n}"
            argument = f"{owner}:{next_of(owner, self.stage, 0)}:{self.each}"
        self.stage.start(role, argument)
        return len(self.stage.processes) - 1

    def process(self, n: int) -> subprocess.Popen[str]:
        return self.stage.processes[self.numbers[n]]

    def alive(self) -> list[int]:
        return [n for n in range(len(self.roles)) if self.process(n).poll() is None]

    def kill(self, n: int) -> None:
        process = self.process(n)
        process.kill()
        if process.wait() == -signal.SIGKILL:
            self.killed.add(self.numbers[n])
        self.numbers[n] = self.enter(n)

    def calm(self) -> None:
        """Let all processes end by themselves; a worker that lost a lease says so."""
        for n in range(PUBLISHERS):
            assert self.process(n).wait(self.stage.patience) == 0
        assert self.stage.broker.wait(QUEUE, self.stage.patience)
        self.stage.stop.touch()
        for n in range(PUBLISHERS, len(self.roles)):
            if self.roles[n] == "work":
                self.process(n).terminate()
            status = self.process(n).wait(self.stage.patience)
            # A process that was only just started has no signal handlers yet.
            early = self.roles[n] == "work" and status == -signal.SIGTERM
            if status == SOME_FAILED and self.roles[n] == "work":
                log = self.stage.logs / f"{self.numbers[n]:03}.work.stderr"
                assert "lease is lost" in log.read_text()
            else:
                assert status == 0 or early


@pytest.mark.parametrize(
    "kills",
    [50, pytest.param(None, marks=pytest.mark.campaign, id="campaign")],
)
def test_a_storm_of_kills_loses_nothing_and_leaves_nothing(
    stage: Stage, kills: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    told = blow(stage, kills or int(os.environ.get("DDMQ_KILLS", "1000")))
    with capsys.disabled():
        print(f"\n{told}")  # noqa: T201


def blow(stage: Stage, kills: int) -> str:
    """Kill processes, let the rest end, and say what became of the messages."""
    chance = random.Random(kills)
    storm = Storm(stage, each=12 * kills)
    while len(storm.killed) < kills:
        time.sleep(chance.uniform(0.02, 0.2))
        storm.kill(chance.choice(storm.alive()))
    storm.calm()
    assert stage.told("away") == []
    told = assert_all_is_accounted_for(stage, storm.killed)
    return f"{len(storm.killed)} killed; {told}"


def assert_all_is_accounted_for(stage: Stage, killed: set[int]) -> str:
    """Compare the logs of all processes with each other and with the queue."""
    published = set(stage.told("published"))
    acked = Counter(stage.told("acked"))
    perhaps = Counter(stage.told("acking"))  # a worker acks after its command
    lost = {text for text in published if not acked[text] and not perhaps[text]}
    assert published
    assert lost == set()
    assert [text for text, times in acked.items() if times > 1] == []
    doubles = assert_doubles_have_a_reason(stage, killed)
    assert_nobody_broke(stage)
    assert tuple(stage.broker.view(QUEUE)[QUEUE]) == (0, 0, 0, 0)
    assert_no_file_is_left(stage)
    return f"{len(published)} published, {len(lost)} lost, {doubles} delivered again"


def assert_what_was_confirmed_is_there(stage: Stage) -> str:
    """After outages of the server: what a publisher heard an error of may be there or not."""
    doubtful = set(stage.told("doubtful"))
    came = doubtful & set(stage.told("consumed"))
    told = assert_all_is_accounted_for(stage, set())
    return f"{told}; {len(doubtful)} in doubt, of which {len(came)} were published"


def assert_doubles_have_a_reason(stage: Stage, killed: set[int]) -> int:
    """A message comes again only if its consumer was killed, or overran its lease."""
    consumed: Counter[str] = Counter()
    excused = Counter(stage.told("lost"))
    logs = [log for log in stage.logs.iterdir() if log.suffix != ".stderr"]
    for log in logs:
        lines = log.read_text().splitlines()
        texts = [line.split()[1] for line in lines if line.startswith("consumed")]
        consumed.update(texts)
        if int(log.stem) in killed:
            excused.update(texts)
        elif log.suffix == ".work":
            excused.update(lost_by_worker(log))
    doubles = {text: times - 1 for text, times in consumed.items() if times > 1}
    assert {t: n for t, n in doubles.items() if n > excused[t]} == {}
    return sum(doubles.values())


def lost_by_worker(log: Path) -> Iterator[str]:
    """Yield the texts of the messages that a worker ran, and said to have lost."""
    said = log.with_name(f"{log.name}.stderr").read_text().splitlines()
    lines = [line for line in said if "lease is lost" in line]
    lost = {word.strip(":,") for line in lines for word in line.split()}
    for line in log.read_text().splitlines():
        what, text, *id_ = line.split()
        if what == "consumed" and lost.intersection(id_):
            yield text


def assert_nobody_broke(stage: Stage) -> None:
    """Workers may log what they did; others only lost leases, ESTALE and a slow server."""
    away = stage.told("away")
    for log in stage.logs.glob("*.stderr"):
        text = log.read_text()
        assert "Traceback" not in text
        lines = [
            line
            for line in text.splitlines()
            if "Stale file" not in line and "the file server delays" not in line
        ]
        assert away or not lines or log.name.endswith("work.stderr")


def assert_no_file_is_left(stage: Stage) -> None:
    """Drafts of killed processes may stay for an hour.

    A bundle whose publisher was killed before he showed its entry stays for a day. Nobody can
    have claimed from it, so its messages are alone in its directory.
    """
    stage.broker.clean(QUEUE)
    assert stage.files("ready", "work", "delayed", "dead", "drop") == []
    unseen = stage.files("bundles")
    assert all(file.endswith("/lines") for file in unseen), unseen
