"""What the tests of a worker share: a directory to be in, and an end to their patience."""

from __future__ import annotations

import pytest
from support import in_time


@pytest.fixture
def patience():
    """Fail rather than wait for a worker that hangs."""
    with in_time(60):
        yield


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Be in a directory of the test's own, where commands leave what they do."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
