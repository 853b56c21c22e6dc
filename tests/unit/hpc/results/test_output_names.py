"""Names that users choose for results stay in the directory, and each belongs to one message."""

from __future__ import annotations

import os

import pytest

from ddmq.hpc.faults import BadOutput
from ddmq.hpc.folder import Folder
from ddmq.hpc.placeholders import values_of
from ddmq.hpc.results.output_names import Reservation, name_for, try_names
from ddmq.hpc.results.result import NAMES, Result, remove_leftovers_of_dead
from ddmq.storage.filesystem import FileSystem

A, B = "a" * 20, "b" * 20
RUN = "0123456789abcdef"


def named(template, message):
    return name_for(template, values_of(message, A, 1))


def test_a_name_is_made_of_parts_of_the_message():
    assert named("{/.}.gz", "in/sample 17.txt") == "sample 17.gz"
    assert named("{sample}-{id}", {"sample": 5}) == f"5-{A}"
    assert named("{x}{y}", {"x": "{y}", "y": "ü"}) == "{y}ü"


@pytest.mark.parametrize(
    ("template", "text", "why"),
    [
        ("{}", "a/b", "slash"),
        ("{}", "../b", "slash"),
        ("{}", "/etc/passwd", "slash"),
        ("{//}", "x/y/z", "slash"),
        ("{}", "..", "begins with a dot"),
        ("{}", ".ddmq-unfinished", "begins with a dot"),
        ("{/}", "home/.bashrc", "begins with a dot"),
        ("{/}", "a/", "is empty"),
        ("{}", "a\0b", "NUL"),
        ("{}", "a\nb", "can't be seen"),
        ("{}", "a\x1b[2Jb", "can't be seen"),
        ("{}", "a\u202eb", "can't be seen"),
        ("{}", "ü" * 128, "over 255 bytes"),
        ("{sample}", "text", "no field {sample}"),
    ],
)
def test_a_name_that_leads_elsewhere_or_deceives_is_refused(template, text, why):
    with pytest.raises(BadOutput, match=why) as caught:
        named(template, text)
    assert str(caught.value).isprintable()


def made(directory, id_, text="x", run=RUN, name="n"):
    """Let a message make a result of some name, and keep it."""
    result = Result(str(directory), id_, run, Reservation(name, id_, run))
    with open(result.path, "w") as file:
        file.write(text)
    assert result.keep(sync=False)
    return result


def reserved_in(directory):
    return {
        name: os.readlink(directory / NAMES / name)
        for name in os.listdir(directory / NAMES)
    }


def test_a_result_gets_its_name_and_leaves_nothing_else(tmp_path):
    result = made(tmp_path, A)
    assert reserved_in(tmp_path) == {"n": f"{A}.kept"}
    result.discard(is_over=True)
    assert (tmp_path / "n").read_text() == "x"
    assert reserved_in(tmp_path) == {}
    assert not (tmp_path / A).exists()


def test_a_name_that_another_message_has_reserved_is_refused(tmp_path):
    Result(str(tmp_path), A, RUN, Reservation("n", A, RUN))
    with pytest.raises(BadOutput, match=f"is that of message {A}"):
        Result(str(tmp_path), B, RUN, Reservation("n", B, RUN))
    assert reserved_in(tmp_path) == {"n": f"{A}.{RUN}"}


def test_a_file_that_is_there_is_never_replaced(tmp_path):
    made(tmp_path, A).discard(is_over=True)
    for _ in range(
        2
    ):  # the reservation that was refused is not taken for one of an earlier run
        with pytest.raises(BadOutput, match="is there already"):
            Result(str(tmp_path), B, RUN, Reservation("n", B, RUN))
    assert (tmp_path / "n").read_text() == "x"
    assert reserved_in(tmp_path) == {}


def test_a_link_that_is_there_is_in_the_way_wherever_it_leads(tmp_path):
    (tmp_path / "n").symlink_to("nowhere")
    with pytest.raises(BadOutput, match="is there already"):
        Result(str(tmp_path), A, RUN, Reservation("n", A, RUN))


def test_a_message_that_runs_again_replaces_its_own_result(tmp_path):
    made(tmp_path, A, "first")  # its worker died before the ack
    made(tmp_path, A, "second", run="f" * 16).discard(is_over=True)
    assert (tmp_path / "n").read_text() == "second"


def test_a_message_whose_worker_died_early_reserves_its_name_again(tmp_path):
    Result(str(tmp_path), A, RUN, Reservation("n", A, RUN))
    made(tmp_path, A, run="f" * 16).discard(is_over=True)
    assert reserved_in(tmp_path) == {}


def test_what_failed_gives_its_name_back(tmp_path):
    Result(str(tmp_path), A, RUN, Reservation("n", A, RUN)).discard()
    assert reserved_in(tmp_path) == {}
    made(tmp_path, B)


def test_what_could_not_be_kept_gives_its_name_back(tmp_path, monkeypatch):
    result = Result(str(tmp_path), A, RUN, Reservation("n", A, RUN))
    with open(result.path, "w"):
        pass

    def refuse(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Result, "_move", refuse)
        with pytest.raises(OSError, match="No space"):
            result.keep(sync=False)
    assert reserved_in(tmp_path) == {"n": f"{A}.kept"}
    result.discard()
    assert reserved_in(tmp_path) == {}


def test_a_name_that_somebody_took_meanwhile_is_lost(tmp_path):
    result = Result(str(tmp_path), A, RUN, Reservation("n", A, RUN))
    with open(result.path, "w"):
        pass
    (tmp_path / NAMES / "n").unlink()
    made(tmp_path, B, "theirs")
    with pytest.raises(BadOutput, match=f"is that of message {B}"):
        result.keep(sync=False)
    result.discard()
    assert (tmp_path / "n").read_text() == "theirs"
    assert reserved_in(tmp_path) == {"n": f"{B}.kept"}


@pytest.mark.parametrize("is_over", [False, True])
def test_a_message_that_is_over_leaves_the_name_to_its_next_owner(tmp_path, is_over):
    first = made(tmp_path, A, "one")
    (
        tmp_path / "n"
    ).unlink()  # somebody uses it up, and frees the name of the acked message
    (tmp_path / NAMES / "n").unlink()
    Result(str(tmp_path), B, RUN, Reservation("n", B, RUN))
    first.discard(is_over=is_over)
    assert reserved_in(tmp_path) == {"n": f"{B}.{RUN}"}


def test_reservations_of_dead_letters_are_removed(tmp_path, broker, root):
    out = tmp_path / "out"
    broker.publish("q", "a", requeue_limit=0)
    [message] = broker.consume("q")
    for name, id_ in (("n", message.id), ("other", B)):
        Result(str(out), id_, RUN, Reservation(name, id_, RUN))
    broker.nack(message)
    remove_leftovers_of_dead(str(out), f"{root}/q", FileSystem())
    assert reserved_in(out) == {"other": f"{B}.{RUN}"}


def test_a_link_in_the_place_of_the_names_is_not_followed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / NAMES).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotADirectoryError):
        Result(str(tmp_path / "out"), A, RUN, Reservation("n", A, RUN))
    assert os.listdir(tmp_path / "elsewhere") == []


def test_where_there_are_no_links_no_name_can_be_reserved(tmp_path, monkeypatch):
    try_names(str(tmp_path))
    assert reserved_in(tmp_path) == {}
    monkeypatch.setattr(Folder, "target_of", lambda *_: "")
    with pytest.raises(OSError, match="no symbolic links"):
        try_names(str(tmp_path))
