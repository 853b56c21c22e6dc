"""One NFS server and three clients for all tests of a module that need them."""

from __future__ import annotations

import os

import pytest
from nfs.lab import Lab, install, missing


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """Boot the machines; the module says how long a silent client keeps its state."""
    if os.geteuid() != 0:
        pytest.skip("only root can have what the machines of this NFS are made of")
    install()
    if missing():
        pytest.skip(f"no NFS here: {', '.join(missing())} can't be had")
    lab = Lab(tmp_path_factory.mktemp("nfs"), lease=request.module.NFS_LEASE)
    try:
        lab.start()
        yield lab
    finally:
        lab.stop()
