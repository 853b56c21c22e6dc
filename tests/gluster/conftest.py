"""One GlusterFS volume for all tests that need it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from gluster.cluster import Volume, install, missing


def make_directory() -> Path:
    """Make a directory that a brick can be in: in memory, if that has its attributes."""
    for parent in ("/dev/shm", "/var/tmp"):
        with contextlib.suppress(OSError):
            directory = tempfile.mkdtemp(prefix="ddmq-gluster-", dir=parent)
            try:
                os.setxattr(directory, "trusted.ddmq", b"1")
            except OSError:
                os.rmdir(directory)
                raise
            return Path(directory)
    pytest.skip("no file system here has the attributes that GlusterFS needs")


@pytest.fixture(scope="session")
def volume():
    if os.geteuid() != 0:
        pytest.skip("only root can mount a GlusterFS")
    install()
    if missing():
        pytest.skip(f"no GlusterFS here: {', '.join(missing())} can't be had")
    directory = make_directory()
    volume = Volume(directory)
    try:
        volume.start()
        yield volume
    finally:
        volume.stop()
        shutil.rmtree(directory, ignore_errors=True)
