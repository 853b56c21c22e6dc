"""What is installed is what is tested."""

from __future__ import annotations

import os
import re
import sys
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
def test_completion_and_pages_for_man_are_shipped():
    here = Path(ddmq.__file__).parent / "cli" / "completion"
    assert {path.suffix for path in here.glob("ddmq.*")} == {".bash", ".fish", ".zsh"}
    pages = {path.name for path in Path(sys.prefix).glob("share/man/man1/ddmq*.1")}
    assert pages == {"ddmq.1", "ddmq-submit.1", "ddmq-worker.1"}


@installed
def test_types_are_shipped():
    assert (Path(ddmq.__file__).parent / "py.typed").is_file()


@pytest.mark.skipif(
    os.environ.get("TOX_ENV_NAME") != "oldest", reason="only there they are installed"
)
def test_the_oldest_libraries_are_those_that_are_allowed():
    needed = [r for r in metadata.requires("ddmq") or () if "extra ==" not in r]
    least = dict(re.fullmatch(r"(\w+)>=([\d.]+)", line).groups() for line in needed)
    assert set(least) == {"filelock", "pyyaml"}
    for name, version in least.items():
        installed_now = metadata.version(name)
        assert installed_now.removesuffix(".0") == version.removesuffix(".0")
