"""The versions of ddmq and of what it needs."""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZipFile

import filelock
import pytest
import yaml

import ddmq
from ddmq.diagnose.versions import as_lines, versions


def test_the_versions_are_those_that_are_imported():
    told = versions()
    assert told == {
        "ddmq": ddmq.__version__,
        "Python": f"{sys.version.split()[0]}, {sys.executable}",
        "filelock": filelock.__version__,
        "pyyaml": yaml.__version__,
        "from": str(Path(ddmq.__file__).parent),
    }


@pytest.mark.parametrize(
    ("source", "version"),
    [
        ("__version__ = '7.1'", "7.1"),
        ('import x\n__version__ = version = "7.2"  # read, not run', "7.2"),
        ("part = 3\n__version__ = f'7.{part}'", "7.3"),
        ("part = '7.4'\n__version__ = part", "7.4"),
        ("", "unknown: module 'yaml' has no attribute '__version__'"),
        ("import no_such_module", "unknown: No module named 'no_such_module'"),
    ],
)
@pytest.mark.parametrize("is_zipped", [False, True])
def test_the_version_of_a_library_is_read_or_imported(
    tmp_path, monkeypatch, source, version, is_zipped
):
    if is_zipped:
        with ZipFile(tmp_path / "x.pyz", "w") as archive:
            archive.writestr("yaml/__init__.py", source)
    else:
        (tmp_path / "yaml").mkdir()
        (tmp_path / "yaml" / "__init__.py").write_text(source)
    monkeypatch.delitem(sys.modules, "yaml")
    monkeypatch.syspath_prepend(tmp_path / "x.pyz" if is_zipped else tmp_path)
    assert versions()["pyyaml"] == version


def test_a_library_that_is_missing_is_told(monkeypatch):
    monkeypatch.delitem(sys.modules, "yaml")
    monkeypatch.setattr(sys, "path", [])
    assert versions()["pyyaml"] == "unknown: No module named 'yaml'"


def test_nobody_can_make_up_a_line():
    assert as_lines({"from": "/a\nddmq 9"}).count("\n") == 0
