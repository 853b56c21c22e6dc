"""What the first ddmq left on disk is read as it meant it, and with care."""

from __future__ import annotations

import os

import pytest
from former import former_root

from ddmq.former.queues import (
    FormerName,
    FormerQueue,
    NoMessage,
    options_of,
    taking_for,
)
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.names import MAX_PRIORITY

ID = "ddmq" + "0" * 32
NEW = "/new"


@pytest.fixture
def letters(tmp_path):
    root = str(former_root(tmp_path / "old"))
    return FormerQueue(root, "letters", FileSystem(root=root), NEW)


def name_of(filename, place=""):
    return FormerName.parse(filename, place)


@pytest.mark.parametrize(
    ("filename", "place"),
    [
        (f"1700000600.999.17.{ID}", ""),
        (f"999.17.{ID}", "work"),
        (f"-1.17.{ID}", ""),
        (f"1.5.17.9.{ID}", "work"),
        (f"\u0663.17.{ID}", ""),
        ("999.17.ddmq", ""),
        ("999.17.ddmq../x", ""),
        (f"999.17.{ID}\n", ""),
        ("ddmq.yaml", ""),
    ],
)
def test_names_that_it_never_made_are_none(filename, place):
    assert name_of(filename, place) is None


def test_the_name_without_the_expiry_is_the_same_wherever_a_message_is():
    waiting = name_of(f"999.17.{ID}")
    held = name_of(f"1700000600.999.17.{ID}", "work")
    assert (waiting.key, waiting.expiry, held.expiry) == (held.key, None, 1700000600)
    assert name_of(held.filename, taking_for(NEW)).key == held.key
    assert name_of(f"{10**19}.999.17.{ID}", "work").expiry == 0
    assert name_of(f"{10**19}.17.{ID}").priority == MAX_PRIORITY


def test_the_order_is_that_of_numbers_and_of_times_whose_last_zeros_are_left_out():
    numbers = ["2", "10", "17000000015", "1700000001875", "170000000225", "17000000030"]
    names = [name_of(f"999.{number}.{ID}") for number in numbers]
    names = [name_of(f"5.99999999999999.{ID}"), *names, name_of(f"1000.1.{ID}")]
    backwards = names[::-1]
    assert sorted(backwards, key=lambda name: name.order) == names


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ({}, {"requeue": False}),
        ({"requeue": True, "timeout": 0.25}, {"requeue": True, "timeout": 1}),
        ({"requeue": 7}, {"requeue": True, "requeue_prio": 7}),
        ({"requeue": 0, "requeue_limit": 0, "timeout": None}, {"requeue": False}),
        (
            {"requeue_limit": 3, "requeue_counter": 2},
            {"requeue": False, "requeue_limit": 1},
        ),
        (
            {"requeue_limit": 3, "requeue_counter": 9},
            {"requeue": False, "requeue_limit": 0},
        ),
    ],
)
def test_what_a_message_set_is_set_again(row, options):
    assert options_of(row, 5) == {"priority": 5, **options}


@pytest.mark.parametrize(
    "row",
    [
        {"timeout": "long"},
        {"timeout": -1},
        {"requeue": -7},
        {"requeue_limit": "x"},
        {"requeue_limit": True},
        {"requeue_limit": 3, "requeue_counter": -1},
        {"requeue_limit": 3, "requeue_counter": "y"},
    ],
)
def test_what_it_could_not_have_meant_makes_it_no_message(row):
    with pytest.raises(NoMessage):
        options_of(row, 5)


def plant(queue, content):
    path = f"{queue.path}/0.1.{ID}"
    if isinstance(content, bytes):
        with open(path, "wb") as file:
            file.write(content)
    else:
        content(path)
    return name_of(f"0.1.{ID}")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"message": ', "no JSON"),
        (b"[1]", "no object"),
        (b'{"text": 1}', "no object"),
        (b'{"message": NaN}', "NaN"),
        (b'{"message": "' + b"x" * (1 << 15) + b'"}', "bytes long"),
        (os.mkfifo, "no ordinary file"),
        (os.mkdir, "no ordinary file"),
        (lambda path: os.symlink("/etc/passwd", path), "no ordinary file"),
    ],
    ids=range(8),
)
def test_what_others_planted_is_no_message(letters, content, why):
    with pytest.raises(NoMessage, match=why):
        letters.read(plant(letters, content), 2000)


def test_a_file_with_another_name_may_be_anybodys(letters, tmp_path):
    (tmp_path / "private").write_text('{"message": "secret"}')
    name = plant(letters, lambda path: os.link(tmp_path / "private", path))
    with pytest.raises(NoMessage, match="hard link"):
        letters.read(name, 2000)


def test_a_file_that_is_gone_is_nobodys_fault(letters):
    name = plant(letters, b'{"message": 1}')
    assert letters.read(name, 2000).message == 1
    os.unlink(f"{letters.path}/{name.path}")
    assert letters.read(name, 2000) is None
    letters.prepare()
    assert not letters.take(name)


def test_a_queue_of_this_ddmq_or_behind_a_link_is_none_of_the_first(letters, tmp_path):
    assert letters.is_one()
    root, fs = str(tmp_path / "old"), FileSystem(root=str(tmp_path / "old"))
    (tmp_path / "old" / "linked").symlink_to("letters")
    (tmp_path / "old" / "new" / "work").mkdir(parents=True)
    (tmp_path / "old" / "new" / "ddmq.yaml").write_text("")
    assert FormerQueue(root, "new", fs, NEW).is_one()
    (tmp_path / "old" / "new" / "ready").mkdir()
    assert not FormerQueue(root, "new", fs, NEW).is_one()
    assert not FormerQueue(root, "linked", fs, NEW).is_one()


def test_no_message_goes_where_a_link_leads(letters, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", f"{letters.path}/{letters.taking}")
    with pytest.raises(NotADirectoryError):
        letters.prepare()


def test_settings_are_those_that_differ_from_the_defaults_of_then(letters, tmp_path):
    old = tmp_path / "old"
    assert letters.settings() == ({}, [])
    (old / "ddmq.yaml").write_text("priority: 3\nmessage_timeout: 60\n")
    assert letters.settings() == ({}, [])  # its own file names all of them
    (old / "letters" / "ddmq.yaml").write_text("message_timeout: -5\ncleaned: 7\n")
    changed, wrong = letters.settings()
    assert changed == {"priority": 3, "message_timeout": 60}
    assert "letters/ddmq.yaml: message_timeout is -5" in wrong[0]
    (old / "letters" / "ddmq.yaml").write_text("{")
    assert "not YAML" in letters.settings()[1][0]
    (old / "letters" / "ddmq.yaml").unlink()
    assert letters.settings()[0]["priority"] == 3
