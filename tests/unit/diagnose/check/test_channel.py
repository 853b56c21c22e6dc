"""Two clients talk through a directory; silence is told from an answer."""

from __future__ import annotations

import os

import pytest

from ddmq.diagnose.check.channel import Channel, Silence


def test_what_the_other_client_could_not_do_is_said(benches):
    ours, theirs = (Channel(bench, lambda: True) for bench in benches)
    theirs.send({"error": "disk full"})
    with pytest.raises(Silence, match="the other client failed: disk full"):
        ours.answer()


def test_a_client_that_says_nothing_is_waited_for_only_so_long(benches):
    with pytest.raises(Silence, match="was not heard for"):
        Channel(benches[0], lambda: True).receive(0.01)
    with pytest.raises(Silence, match="has ended"):
        Channel(benches[0], lambda: False).receive()


def test_a_client_whose_directory_is_gone_has_ended(benches, tmp_path):
    channel = Channel(benches[0], lambda: True)
    os.rmdir(tmp_path / "here" / "talk")
    with pytest.raises(Silence, match="has ended"):
        channel.receive()


@pytest.mark.parametrize("data", [b"", b"{", b"\xff"])
def test_what_the_other_said_and_nobody_can_read_is_as_good_as_nothing(benches, data):
    channel = Channel(benches[0], lambda: True)
    benches[0].put(f"{benches[0].path}/talk/b.0000", data)
    with pytest.raises(Silence, match="can't be read"):
        channel.receive()
