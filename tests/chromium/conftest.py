"""One Chromium for all tests of a module that need it."""

from __future__ import annotations

import pytest
from chromium.browser import Browser
from chromium.lab import install, program


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    install()
    found = program()
    if found is None:
        pytest.skip(
            "no Chromium here: it is not installed, and only root can unpack it"
        )
    with Browser(found, tmp_path_factory.mktemp("profile")) as browser:
        yield browser
