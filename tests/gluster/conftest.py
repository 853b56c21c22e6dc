"""One GlusterFS volume for all tests that need it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from gluster.cluster import Volume, install, missing


@pytest.fixture(scope="session")
def volume():
    if os.geteuid() != 0:
        pytest.skip("only root can mount a GlusterFS")
    install()
    if missing():
        pytest.skip(f"no GlusterFS here: {', '.join(missing())} can't be had")
    directory = Path(tempfile.mkdtemp(prefix="ddmq-gluster-", dir="/var/tmp"))
    volume = Volume(directory)
    try:
        volume.start()
        yield volume
    finally:
        volume.stop()
        shutil.rmtree(directory, ignore_errors=True)
