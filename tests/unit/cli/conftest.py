"""What the tests of commands get: a shell, and a queue."""

from __future__ import annotations

import pytest
from shell import Shell


@pytest.fixture
def sh(capfd, monkeypatch):
    return Shell(capfd, monkeypatch)


@pytest.fixture
def root(tmp_path, sh):
    """A root whose queue `testmq` exists."""
    sh.ok("create", "-f", tmp_path / "mq", "testmq")
    return tmp_path / "mq"
