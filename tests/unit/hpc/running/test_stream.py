"""What a command prints: both ends of it are kept, and whole lines passed on."""

from __future__ import annotations

import os
import pty
from contextlib import suppress
from math import inf
from threading import Thread

import pytest
from support import in_time

from ddmq.clock import Clock
from ddmq.hpc.folder import Folder
from ddmq.hpc.running.stream import Output, Stream


def saved(stream, directory):
    with Folder.open(str(directory)) as folder:
        return stream.part.save(folder, "log")


def test_both_ends_of_an_output_are_kept(tmp_path):
    stream = Stream(str(tmp_path), limit=10)
    for part in (b"01", b"23456789", b"ab", b"cdefgh"):
        os.write(stream.write_end, part)
    stream.started()
    assert not stream.pump()
    assert stream.part.tail() == "0123456789abcdefgh"
    assert saved(stream, tmp_path)
    stream.close()
    text = (tmp_path / "log").read_text()
    assert text == "01234\n[... 8 bytes left out ...]\ndefgh"


def test_a_short_output_is_kept_whole(tmp_path):
    stream = Stream(str(tmp_path), limit=10)
    os.write(stream.write_end, b"0123456")
    stream.started()
    stream.pump()
    saved(stream, tmp_path)
    stream.close()
    assert (tmp_path / "log").read_text() == "0123456"


def test_no_output_makes_no_file(tmp_path):
    stream = Stream(str(tmp_path), limit=10)
    stream.started()
    assert not saved(stream, tmp_path)
    stream.close()
    assert os.listdir(tmp_path) == []


def test_what_stands_where_it_is_written_makes_room_before(pipe):
    reader, writer = pipe
    output = Output(writer, lambda: os.write(writer, b"<"))
    output.write(1, b"")
    output.flush()
    output.write(1, b"a\n")
    assert not output.is_within_line
    output.write(2, b"b")
    assert output.is_within_line
    assert os.read(reader, 99) == b"<a\n<b"


@pytest.fixture
def pipe():
    """Two ends of a pipe; nothing waits for what is not there."""
    ends = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(ends[0], False)
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def pair(pipe, tmp_path):
    """Return a function that makes two streams of one output, a function that prints to one."""

    def pair(**how):
        output = Output(pipe[1])
        return [Stream(str(tmp_path), output=output, **how) for _ in range(2)]

    return pair


def printed(stream, data):
    os.write(stream.write_end, data)
    stream.pump()


def ended(*streams):
    for stream in streams:
        stream.started()
        stream.close()


def read(pipe):
    return os.read(pipe[0], 1 << 20)


def test_lines_of_two_commands_are_never_mixed(pair, pipe):
    a, b = pair(lines=True)
    for stream, data in (
        (a, b"on"),
        (b, b"tw"),
        (a, b"e\nthr"),
        (b, b"o\n"),
        (a, b"ee\n"),
    ):
        printed(stream, data)
    assert read(pipe) == b"one\ntwo\nthree\n"
    ended(a, b)


def test_a_last_line_without_an_end_is_ended_only_for_another(pair, pipe):
    a, b = pair(lines=True)
    printed(a, b"one\nrest")
    assert read(pipe) == b"one\n"
    ended(a)
    assert read(pipe) == b"rest"
    printed(b, b"two\n")
    assert read(pipe) == b"\ntwo\n"
    ended(b)


def test_a_line_without_end_takes_no_memory(pair, pipe):
    a, b = pair(lines=True)
    for _ in range(40):
        printed(a, b"x" * 4096)
        with suppress(BlockingIOError):
            read(pipe)
    assert len(a.part._unended) <= (1 << 16)
    ended(a, b)


def test_without_lines_everything_is_passed_on_at_once(pair, pipe):
    a, b = pair()
    printed(a, b"on")
    assert read(pipe) == b"on"
    ended(a, b)


def test_a_group_is_one_piece(pair, pipe):
    a, b = pair(group=True, limit=1000)
    for stream, data in ((a, b"1\n"), (b, b"2\n"), (a, b"3"), (b, b"4\n")):
        printed(stream, data)
    with pytest.raises(BlockingIOError):
        read(pipe)
    ended(a, b)
    assert read(pipe) == b"1\n3\n2\n4\n"


def test_a_group_is_cut_in_the_middle_where_it_is_too_long(pair, pipe):
    a, b = pair(group=True, limit=10)
    printed(a, b"0123456789abcdefgh")
    ended(a, b)
    assert read(pipe) == b"01234\n[... 8 bytes left out ...]\ndefgh"


@pytest.mark.parametrize("how", [{}, {"group": True, "limit": 1000}])
def test_each_line_has_a_tag(pair, pipe, how):
    a, b = pair(tag="in.txt\t", **how)
    for data in (b"one\n\ntw", b"o\nthree"):
        printed(a, data)
    ended(a, b)
    assert read(pipe) == b"in.txt\tone\nin.txt\t\nin.txt\ttwo\nin.txt\tthree"


def test_a_long_line_has_one_tag(pair, pipe):
    a, b = pair(tag="T")
    seen = b""
    for data in (b"x" * 40_000, b"x" * 40_000, b"\ny\n"):
        printed(a, data)
        while not a._output.flush():
            seen += read(pipe)
    seen += read(pipe)
    assert seen == b"T" + b"x" * 80_000 + b"\nTy\n"
    ended(a, b)


def test_a_reader_that_sleeps_holds_nobody_up(pipe):
    output = Output(pipe[1])
    for _ in range(100):
        output.write(None, b"x" * 4095 + b"\n")
        if output.is_full:
            break
    assert output.is_full
    assert not output.flush()
    seen = 0
    while seen < 10**6 and not output.flush():
        seen += len(read(pipe))
    assert output.flush()
    assert not output.is_full


def test_a_reader_that_has_gone_costs_nothing(pair):
    ends = os.pipe2(os.O_CLOEXEC)
    output = Output(ends[1])
    os.close(ends[0])
    for _ in range(100):
        output.write(None, b"x" * 4096)
    assert output.flush()
    os.close(ends[1])


def test_what_a_full_disk_does_not_take_is_lost_and_nothing_after_it(tmp_path):
    descriptor = os.open("/dev/full", os.O_WRONLY | os.O_CLOEXEC)
    output = Output(descriptor)
    output.write(1, b"lost\n")
    with open(tmp_path / "log", "wb") as log:  # there is room again
        os.dup2(log.fileno(), descriptor, inheritable=False)
    output.write(1, b"kept\n")
    os.close(descriptor)
    assert (tmp_path / "log").read_text() == "kept\n"


def test_while_one_waits_for_the_reader_others_may_write(pipe):
    reader, writer = pipe
    output = Output(writer)
    output.write(1, b"." * (1 << 17))
    waits = Thread(target=output.finish, args=[inf, Clock()])
    waits.start()
    for _ in range(500):
        output.write(1, b"x")
    output.write(1, b"last\n")
    text = b""
    while not text.endswith(b"last\n"):
        with suppress(BlockingIOError):
            text += os.read(reader, 1 << 16)
    waits.join()


@pytest.mark.parametrize("size", [300, 700, 4000])
def test_nobody_waits_for_a_terminal_that_takes_a_part_of_a_line(size):
    reader, writer = pty.openpty()
    with in_time(20):
        output = Output(writer)
        for _ in range(200):
            output.write(1, b"x" * size)
    assert output.is_full or size < 400
    os.close(writer)
    os.close(reader)
