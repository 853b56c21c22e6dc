"""Files that commands write for their users: there whole, or as they were."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ddmq.cli.whole_file import ordinary, whole_file
from ddmq.errors import InvalidArgument, StorageError


def test_a_file_has_its_name_when_all_is_written(tmp_path):
    path = tmp_path / "out"
    with whole_file(str(path)) as file:
        file.write(b"all")
        assert not path.exists()
    assert path.read_bytes() == b"all"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "x" + "é" * 127])
def test_a_name_may_be_as_long_as_any(tmp_path, name):
    with whole_file(str(tmp_path / name)) as file:
        file.write(b"all")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "out"
    path.write_bytes(b"before")

    def fail():
        with whole_file(str(path)) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_command_leaves_no_draft(tmp_path, number):
    program = """
import os, sys
from ddmq.cli.errors import guarded
from ddmq.cli.whole_file import whole_file
def run():
    with whole_file(sys.argv[1]) as file:
        file.write(b"half")
        os.kill(os.getpid(), int(sys.argv[2]))
sys.exit(guarded("ddmq", run))
"""
    words = [sys.executable, "-c", program, tmp_path / "out", str(int(number))]
    assert subprocess.run(words, check=False).returncode == 130
    assert os.listdir(tmp_path) == []


def test_an_error_of_the_file_names_it_and_no_draft(tmp_path):
    with (
        pytest.raises(StorageError, match="none/out: No such file"),
        whole_file(str(tmp_path / "none" / "out")),
    ):
        pass


def test_a_link_is_followed_only_where_that_is_asked_for(tmp_path):
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(file)
    assert ordinary(str(link), follow=True) == str(file)
    for path in (link, tmp_path):
        with pytest.raises(InvalidArgument, match="no ordinary file"):
            ordinary(str(path), follow=False)
    assert ordinary(str(file), follow=False) == str(file)
