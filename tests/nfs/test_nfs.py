"""Three clients of a real NFS server, by version 3 and 4.2.

`tox -e nfs` boots once and takes some minutes. The long forms are in `test_campaign.py`.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest
from nfs import agent, rpcs, short_check
from nfs.lab import VERSIONS
from nfs.stage import NfsStage
from protocol.test_processes import QUEUE

if TYPE_CHECKING:
    from collections.abc import Callable

    from nfs.lab import Lab, Process

pytestmark = pytest.mark.nfs
#: Seconds for which the server keeps what a silent client of version 4.2 holds.
NFS_LEASE = 15
#: Seconds for which a consumer keeps a message: longer than the slowest batch of them takes.
LEASE = 20
PATIENCE = 600
#: Seconds for which a server that was restarted grants no lock.
GRACE = 25
HELD = 8
EACH = 15
#: RPCs that an operation may take on a client that is alone, with room for a revalidation.
MOST = {"publish": 8, "publish, durable": 9, "idle look": 6}


@pytest.fixture
def stages(lab: Lab) -> list[NfsStage]:
    """A queue of each version, on clients that are all on."""
    lab.turn_on()
    return [NfsStage(lab, version, LEASE, PATIENCE) for version in VERSIONS]


def test_two_clients_find_the_mount_fit(lab: Lab) -> None:
    """Both versions at once: most of a check is waiting for each other."""
    lab.turn_on()
    check(lab, short_check.__file__)


def check(lab: Lab, *program: str) -> None:
    """Let two clients check a directory together, by each version."""
    checks = []
    for version in VERSIONS:
        directory = f"/nfs/{version}/check.{version}"
        lab.clients[0].call(os.mkdir, directory)
        words = ["check", "--clients", "2", "--format", "json", "--timeout", "120"]
        for guest in lab.clients[:2]:
            out = lab.dir / f"check.{version}.{guest.name}"
            command = [sys.executable, *program, *words, directory]
            checks.append((guest.start(command, out), out))
    for process, out in checks:
        assert process.wait(PATIENCE) == 0, out.read_text()
    told = [out.read_text() for _, out in checks]
    assert sum('"safe": true' in text for text in told) == len(VERSIONS), told


def test_rpcs_of_each_operation(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    table: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    kinds: dict[str, str] = {}
    for version in VERSIONS:
        for clients in (1, len(lab.clients)):
            for name, all_of in count(lab, version, clients).items():
                table.setdefault(name, []).append(all_of.each)
                rates.setdefault(name, []).append(all_of.rate)
                kinds[name] = all_of.told()
    heads = [f"v{v}, {n}" for v in VERSIONS for n in ("alone", "three")]
    lines = [f"{'RPCs':<36}" + "".join(f"{head:>14}" for head in heads)]
    for name, figures in table.items():
        lines.append(f"{name:<36}" + "".join(f"{figure:14.1f}" for figure in figures))
    lines.append("three clients together over one, by time")
    for name, (v3, v3_three, v4, v4_three) in rates.items():
        lines.append(
            f"{name:<36}{'':14}{v3_three / v3:14.2f}{'':14}{v4_three / v4:14.2f}"
        )
    lines.append(f"v{VERSIONS[-1]}, three, by kind")
    lines += [f"{name:<36}  {told}" for name, told in kinds.items()]
    with capsys.disabled():
        print("\n" + "\n".join(lines))  # noqa: T201
    for name, most in MOST.items():
        assert max(table[name][::2]) <= most, name


class AllOf(NamedTuple):
    """What all clients needed for one operation, which they did at the same time."""

    rpcs: Counter[str]
    times: int
    seconds: float

    @property
    def each(self) -> float:
        """RPCs each time."""
        return sum(self.rpcs.values()) / self.times

    @property
    def rate(self) -> float:
        """Times a second."""
        return self.times / self.seconds

    def told(self) -> str:
        """Return the RPCs of the most frequent kinds, each time."""
        most = self.rpcs.most_common(9)
        return ", ".join(f"{n / self.times:.1f} {kind}" for kind, n in most)


def count(lab: Lab, version: str, clients: int) -> dict[str, AllOf]:
    """Return what each operation took so many clients."""
    lab.turn_on()
    directory = lab.dir / f"rpcs.{version}.{clients}"
    directory.mkdir()
    root = f"/nfs/{version}/rpcs{clients}.{version}"
    processes = []
    for number, guest in enumerate(lab.clients[:clients]):
        words = [rpcs.__file__, root, directory, number, clients, EACH]
        out = directory / f"{number}.out"
        processes.append((guest.start([sys.executable, *words], out), out))
    for process, out in processes:
        assert process.wait(PATIENCE) == 0, out.read_text()
    told = [json.loads((directory / f"{n}.json").read_text()) for n in range(clients)]
    found = {}
    for name in told[0]:
        figures = [rpcs.Figures(*each[name]) for each in told]
        total: Counter[str] = sum((Counter(f.rpcs) for f in figures), Counter())
        longest = max(f.seconds for f in figures)
        found[name] = AllOf(total, sum(f.times for f in figures), longest)
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_cleaners_that_never_rest_remove_nothing_that_lives(
    lab: Lab, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody consumes until all is published: what is missing then was removed."""
    lab.turn_on()
    stage = NfsStage(lab, version, LEASE, PATIENCE)
    told = clean_beside_publishers(stage, each=75)
    with capsys.disabled():
        print(f"\nv{version}: {told}")  # noqa: T201


def clean_beside_publishers(stage: NfsStage, each: int) -> str:
    """Publish single messages and bundles on one client; the others clean all the time."""
    publisher, *cleaners = stage.lab.clients
    over = stage.logs.with_name("over")
    for guest in cleaners:
        stage.start("clean", over, guest)
    stage.until_told("cleaned", len(cleaners))
    publishers = [
        stage.start(role, f"{role}:0:{each}", publisher)
        for role in ("publish", "publish_many")
    ]
    for process in publishers:
        assert process.wait(stage.patience) == 0
    over.touch()
    for guest in stage.lab.clients:
        stage.start("consume", stage.stop, guest)
    stage.finish()
    published, consumed = stage.told("published"), Counter(stage.told("consumed"))
    lost = [text for text in published if not consumed[text]]
    doubled = [text for text, times in consumed.items() if times > 1]
    told = (
        f"{len(published)} published beside {len(stage.told('cleaned'))} cleanings, "
        f"{len(lost)} lost, {len(doubled)} doubled, {len(stage.told('away'))} errors"
    )
    assert published, told
    assert (lost, doubled) == ([], []), told
    stage.assert_nobody_complained()
    return told


def test_what_a_killed_consumer_held_comes_back_once(stages: list[NfsStage]) -> None:
    def die(holders: list[Process]) -> None:
        for holder in holders:
            holder.kill()

    let_a_holder_die(stages, die)


def test_what_a_client_without_power_held_comes_back_once(
    lab: Lab, stages: list[NfsStage]
) -> None:
    """It had leases and open files, and stays away; the others go on."""
    let_a_holder_die(stages, lambda _: lab.clients[0].power_off())


def let_a_holder_die(
    stages: list[NfsStage], die: Callable[[list[Process]], None]
) -> None:
    """Let a consumer on the first client die; the others get to work just before."""
    first = [f"bundled-{n}" for n in range(HELD // 2 + 2)]
    first += [f"single-{n}" for n in range(HELD // 2)]
    holders = []
    for stage in stages:
        stage.broker.publish_many(QUEUE, first[: HELD // 2 + 2])
        for text in first[HELD // 2 + 2 :]:
            stage.broker.publish(QUEUE, text, priority=1)
        holders.append(stage.start("hold", HELD, stage.lab.clients[0]))
    held = []
    for stage in stages:
        stage.until_told("holding")
        held.append(stage.told("consumed"))
        for guest, role in zip(stage.lab.clients[1:], ("publish", "publish_many")):
            stage.start(role, f"{role}:0:30", guest)
            stage.start("consume", stage.stop, guest)
    die(holders)
    for stage, kept in zip(stages, held):
        stage.until_told("published", 60)
        stage.finish()
        stage.assert_nobody_complained()
        published = [*first, *stage.told("published")]
        assert len(set(kept)) == HELD
        assert Counter(stage.told("acked")) == Counter(published)
        assert Counter(stage.told("consumed")) == Counter([*published, *kept])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_was_restarted_is_named_where_it_grants_no_lock_yet(
    lab: Lab, version: str
) -> None:
    """No process holds the lock then."""
    lab.turn_on()
    stage = NfsStage(lab, version, LEASE, PATIENCE)
    lab.server.call(agent.restart_server, GRACE)
    for patience, status in ((1, 1), (4 * GRACE, 0)):
        out = stage.logs / f"delete.{patience}"
        words = ["delete", stage.root, QUEUE, "--lock-timeout", patience]
        delete = lab.clients[0].start([sys.executable, "-m", "ddmq", *words], out)
        assert delete.wait(PATIENCE) == status, out.read_text()
        told = " ".join(out.read_text().split())
        assert ("it then grants no lock in its grace period" in told) == bool(status)
