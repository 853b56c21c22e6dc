"""The core's process tests at length on a real NFS, whose clients lose their power.

`pytest -m "nfs and campaign" tests/nfs`: for each version `DDMQ_NFS_MESSAGES` (10,000) are
published, single and in bundles, while `DDMQ_KILLS` (50) processes are killed and clients are
powered off `DDMQ_POWER_OFFS` (5) times. On soft mounts, the server stands still `DDMQ_OUTAGES` (20)
times.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest
from campaign.test_kill_storm import (
    PUBLISHERS,
    ROLES,
    Storm,
    assert_all_is_accounted_for,
    assert_what_was_confirmed_is_there,
)
from nfs import stopwatch
from nfs.lab import VERSIONS
from nfs.stage import NfsStage
from nfs.test_nfs import check, clean_beside_publishers
from protocol.test_processes import QUEUE

if TYPE_CHECKING:
    from nfs.lab import Guest, Lab

pytestmark = [pytest.mark.nfs, pytest.mark.campaign]
#: The server's own default.
NFS_LEASE = 90
#: Longer than a claim waits for a client without power.
LEASE = 120
PATIENCE = 3 * 3600
MESSAGES = int(os.environ.get("DDMQ_NFS_MESSAGES", "10000"))
KILLS = int(os.environ.get("DDMQ_KILLS", "50"))
POWER_OFFS = int(os.environ.get("DDMQ_POWER_OFFS", "5"))
OUTAGES = int(os.environ.get("DDMQ_OUTAGES", "20"))
#: Seconds that an operation may take beside a client without power. The promise is one more
#: than usual; an emulated processor makes a usual one take up to some seconds. What waits
#: for the server to give up the dead client takes 30 to 90.
LONGEST = 5


@pytest.fixture(params=VERSIONS)
def stage(lab: Lab, request: pytest.FixtureRequest) -> NfsStage:
    lab.turn_on()
    return NfsStage(lab, request.param, LEASE, PATIENCE)


class PowerStorm(Storm):
    """A storm in which clients lose their power; what ran there is replaced on others."""

    def power_off(self, guest: Guest) -> None:
        guest.power_off()
        for n in range(len(self.roles)):
            process = self.stage.processes[self.numbers[n]]
            if process.guest is guest and process.wait() == -signal.SIGKILL:
                self.killed.add(self.numbers[n])
                self.numbers[n] = self.enter(n)


def test_kills_and_power_offs_lose_nothing(
    lab: Lab, stage: NfsStage, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two more cleaners than in other storms never rest."""
    chance = random.Random(KILLS)
    blows = [True] * POWER_OFFS + [False] * KILLS
    chance.shuffle(blows)
    roles = (*ROLES, "clean", "clean")
    storm = PowerStorm(stage, each=MESSAGES // PUBLISHERS, roles=roles)
    for number, power in enumerate(blows):
        stage.until_told("publishing", MESSAGES * number // len(blows))
        if power:
            storm.power_off(chance.choice(lab.clients))
            time.sleep(chance.choice([0, 30, 120]))
            lab.turn_on()
        else:
            storm.kill(chance.choice(storm.alive()))
    storm.calm()
    told = assert_all_is_accounted_for(stage, storm.killed)
    overrun = len(stage.told("lost"))
    with capsys.disabled():
        print(  # noqa: T201
            f"\nv{stage.version}: {KILLS} kills, {POWER_OFFS} power-offs; {told}; "
            f"{overrun} leases overrun, {len(stage.told('cleaned'))} cleanings"
        )


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_stands_still_loses_nothing_on_soft_mounts(
    lab: Lab, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A call fails there though the server may do later what it was asked."""
    lab.turn_on()
    stage = NfsStage(lab, f"{version}-soft", LEASE, PATIENCE)
    chance = random.Random(OUTAGES)
    each = MESSAGES // PUBLISHERS // 4
    storm = Storm(stage, each=each)
    for number in range(OUTAGES):
        stage.until_told("publishing", PUBLISHERS * each * number // OUTAGES)
        lab.server.suspend(chance.choice([2, 8, 15, 30]))
        time.sleep(chance.uniform(1, 10))
    storm.calm()
    away = len(stage.told("away"))
    told = assert_what_was_confirmed_is_there(stage)
    with capsys.disabled():
        print(f"\nv{version}, soft: {OUTAGES} outages, {away} errors; {told}")  # noqa: T201
    # By version 4.2, calls wait as long as the connection to the server stands.
    assert away or version == "4.2"


def test_nobody_waits_for_a_client_without_power(
    lab: Lab, stage: NfsStage, capsys: pytest.CaptureFixture[str]
) -> None:
    """It held leases and open files, and with version 4.2 so delegations, for 90 s more."""
    held = [f"held-{n}" for n in range(8)]
    stage.broker.update_settings(QUEUE, message_timeout=5)
    for text in held[:4]:
        stage.broker.publish(QUEUE, text)
    stage.broker.publish_many(QUEUE, held[4:])
    stage.start("hold", len(held), lab.clients[0])
    stage.until_told("holding")
    lab.clients[0].power_off()
    watches = []
    for guest in lab.clients[1:]:
        out = stage.logs.with_name(f"{guest.name}.json")
        words = [sys.executable, stopwatch.__file__, stage.root, out, NFS_LEASE + 60]
        watches.append((guest.start(words, out.with_suffix(".stderr")), out))
    came: list[str] = []
    worst: dict[str, float] = {}
    for process, out in watches:
        assert process.wait(600) == 0, out.with_suffix(".stderr").read_text()
        seconds, texts = json.loads(out.read_text())
        came += texts
        for verb, took in seconds.items():
            worst[verb] = max(worst.get(verb, 0), *took)
    told = ", ".join(f"{verb} {took:.1f} s" for verb, took in worst.items())
    with capsys.disabled():
        print(f"\nv{stage.version}: at worst {told}")  # noqa: T201
    assert sorted(text for text in came if text in held) == held
    assert max(worst.values()) <= LONGEST, told


@pytest.mark.parametrize("version", VERSIONS)
def test_cleaners_that_never_rest_remove_nothing_at_length(
    lab: Lab, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.turn_on()
    stage = NfsStage(lab, version, LEASE, PATIENCE)
    told = clean_beside_publishers(stage, each=MESSAGES // 20)
    with capsys.disabled():
        print(f"\nv{version}: {told}")  # noqa: T201


def test_two_clients_check_the_mount_at_length(lab: Lab) -> None:
    lab.turn_on()
    check(lab, "-m", "ddmq")
