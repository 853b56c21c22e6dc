"""`ddmq check` across two mounts of a real GlusterFS."""

from __future__ import annotations

import os

import pytest

from ddmq.check.session import Place, check

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
