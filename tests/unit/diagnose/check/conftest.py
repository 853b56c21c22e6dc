"""Two clients that check one directory, in one process."""

from __future__ import annotations

import fcntl
import threading

import pytest

from ddmq.clock import Clock
from ddmq.diagnose.check import storm
from ddmq.diagnose.check.channel import Bench, Channel
from ddmq.diagnose.check.session import Partner
from ddmq.storage.filesystem import FileSystem


@pytest.fixture
def benches(tmp_path, monkeypatch):
    """Two clients of one directory."""
    monkeypatch.setattr(storm, "MESSAGES", 5)
    monkeypatch.setattr(storm, "_BETWEEN_MESSAGES", 0)
    monkeypatch.setattr(storm, "_BETWEEN_KILLS", 0.01)
    for name in ("here", "records"):
        (tmp_path / name).mkdir()
    here, records = str(tmp_path / "here"), str(tmp_path / "records")
    return [
        Bench(side, here, FileSystem(), Clock(), fcntl.flock, 5.0, records)
        for side in "ab"
    ]


@pytest.fixture
def channel(benches):
    """The channel of the first client, whom the other one answers in a thread of its own."""
    ours, theirs = (Channel(bench, lambda: True) for bench in benches)
    thread = threading.Thread(target=Partner(benches[1], theirs).answer)
    thread.start()
    yield ours
    ours.ask("end")
    thread.join()
