"""What is peculiar to two mounts of a real GlusterFS."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support import Calls

from ddmq import Broker
from ddmq.diagnose.check.session import Place, check
from ddmq.storage.filesystem import FileSystem

if TYPE_CHECKING:
    from gluster.cluster import Volume

pytestmark = pytest.mark.gluster


def test_two_mounts_of_one_volume_keep_what_ddmq_needs(volume, capsys):
    first, second = map(str, volume.mounts)
    report = check(Place(first, second), {}, None, lambda _: None)
    with capsys.disabled():
        print(f"\n{report}")  # noqa: T201
    assert report.is_safe
    assert report.findings[0].figures["kind"] == "fuse.glusterfs"
    races = {f.name: f.figures for f in report.findings if f.name.startswith("race")}
    won = races["race: rename"]
    assert min(won["ours"], won["theirs"]) > 0
    elected = races["race: symlink"]
    assert (elected["twice"], elected["nobody"]) == (0, 0)
    assert [n for n in os.listdir(first) if n.startswith(".ddmq")] == []


class Died(BaseException):
    """What a client does before a system call."""


def test_a_claim_in_a_bundle_that_is_being_removed_takes_nothing(
    volume: Volume,
) -> None:
    """For a second, a mount makes links where the bundle was, and opens its messages itself."""
    here, there = (str(mount / "late") for mount in volume.mounts)

    def dying(_: int, name: str, function, arguments):
        if name == "rmdir" and "/tmp/" in arguments[0]:
            raise Died
        return function(*arguments)

    competitor = Broker(there, create=True, fs=FileSystem(Calls(dying)))
    competitor.create_queue("q")
    competitor.publish_many("q", range(40))
    seen: list[int] = []
    claims: list[str] = []

    def late(_: int, name: str, function, arguments):
        if name == "symlink" and "/tmp/" in arguments[1] and seen == [0]:
            taken = competitor.consume("q", 50)
            seen.extend(message.message for message in taken)
            competitor.ack(taken)
            with pytest.raises(Died):
                competitor.clean("q")
        result = function(*arguments)
        if name == "symlink" and "/bundles/" in arguments[1] and len(seen) > 1:
            claims.append(arguments[1])
        return result

    client = Broker(here, fs=FileSystem(Calls(late)), clean=False)
    volume.until(lambda: client.view("q")["q"].waiting == 40)
    [first] = client.consume("q")
    seen.append(first.message)
    client.ack(first)
    assert client.consume("q") == []
    assert seen == list(range(40))
    assert claims  # that of the second one was made, where nothing is any more
    assert os.listdir(f"{there}/q/work") == []
