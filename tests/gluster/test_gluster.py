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
    race = {f.name: f.figures for f in report.findings}["race: rename"]
    assert min(race["ours"], race["theirs"]) > 0
    assert [n for n in os.listdir(first) if n.startswith(".ddmq")] == []
