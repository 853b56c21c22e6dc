"""Files that commands write for their users: there whole, or as they were."""

from __future__ import annotations

import os

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
