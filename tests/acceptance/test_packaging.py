"""What is installed is what is tested."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import pytest

import ddmq

installed = pytest.mark.skipif(
    "TOX_ENV_NAME" not in os.environ, reason="only tox installs"
)


@installed
def test_the_wheel_is_what_is_tested():
    assert "site-packages" in Path(ddmq.__file__).parts


@installed
def test_both_commands_are_installed():
    names = {script.name for script in metadata.distribution("ddmq").entry_points}
    assert names == {"ddmq", "ddmq-submit", "ddmq-worker"}


@installed
def test_types_are_shipped():
    assert (Path(ddmq.__file__).parent / "py.typed").is_file()
