"""A queue that is looked at, whose clock can be turned."""

from __future__ import annotations

import pytest

from ddmq.diagnose.patient import LenientFileSystem, Patient
from ddmq.settings import Settings
from ddmq.storage.store import Store


@pytest.fixture
def patient(broker, root, clock):
    store = Store(f"{root}/q", LenientFileSystem(root=str(root)), clock)
    return Patient(store, Settings())
