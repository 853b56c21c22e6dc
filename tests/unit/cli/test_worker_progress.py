"""How far a queue is, below what a worker's commands print."""

from __future__ import annotations

import os
import pty
import select
from contextlib import suppress
from functools import partial

import pytest
from support import in_time, ready

from ddmq import Broker
from ddmq.cli import worker_progress
from ddmq.cli.watching import EVERY, EVERY_LINE, Progress
from ddmq.cli.worker_progress import WorkerProgress
from ddmq.errors import warn
from ddmq.storage.background import BackgroundCall


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path / "mq", create=True)
    broker.create_queue("q")
    broker.publish_many("q", ["x"] * 12)
    return broker


@pytest.fixture
def shown(broker, clock, monkeypatch):
    """Return a function that makes one for an output, with nothing left to a thread."""
    at_once = partial(BackgroundCall, in_thread=False)
    monkeypatch.setattr(worker_progress, "BackgroundCall", at_once)
    made = []

    def shown(descriptor):
        stream = open(descriptor, "w", buffering=1, closefd=False)  # noqa: SIM115
        made.append((WorkerProgress(str(broker.root), "q", clock, stream), stream))
        return made[-1][0]

    yield shown
    for progress, stream in made:
        progress.close()
        stream.close()


class Pair:
    """Two ends: what is written to one is read from the other."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        os.set_blocking(reader, False)

    def read(self):
        text = b""
        while ready(self.reader, select.POLLIN, 0.05):
            text += os.read(self.reader, 1 << 16)
        return text.decode(errors="replace")  # a full terminal takes a part of a line

    def fill(self):
        """Write until nothing more is taken; a terminal takes more a moment later."""
        os.set_blocking(self.writer, False)
        while ready(self.writer, select.POLLOUT, 0.2):
            with suppress(BlockingIOError):
                while True:
                    os.write(self.writer, b"." * 100)
        os.set_blocking(self.writer, True)


@pytest.fixture(params=[pty.openpty, os.pipe], ids=["terminal", "pipe"])
def either(request):
    yield from ends(request.param())


@pytest.fixture
def terminal():
    yield from ends(pty.openpty())


@pytest.fixture
def pipe():
    yield from ends(os.pipe())


def ends(pair):
    yield Pair(*pair)
    for descriptor in pair:
        os.close(descriptor)


def looked(progress, clock, acked=0, *, seconds=EVERY, may_show=True):
    """Let some time pass in which the worker looks again and again."""
    for _ in range(int(seconds)):
        clock.advance(1)
        assert progress.look(acked, may_show=may_show) <= EVERY_LINE


def test_it_stands_in_one_line_of_a_terminal(shown, terminal, clock):
    progress = shown(terminal.writer)
    looked(progress, clock, seconds=2)
    assert terminal.read().startswith("\rq: 12 published: 0 done, 12 waiting, ")
    looked(progress, clock, seconds=60)
    assert "\n" not in terminal.read()


def test_it_makes_room_and_comes_back(shown, terminal, clock):
    progress = shown(terminal.writer)
    looked(progress, clock)
    line = terminal.read().lstrip("\r")
    progress.hide()
    os.write(terminal.writer, b"done\n")
    assert terminal.read() == f"\r{' ' * len(line)}\rdone\r\n"
    looked(progress, clock)
    assert terminal.read().startswith(f"\r{line}")


def test_a_warning_has_a_line_of_its_own(shown, terminal, clock):
    progress = shown(terminal.writer)
    looked(progress, clock)
    width = len(terminal.read().lstrip("\r"))
    warn("the server is away")
    assert terminal.read() == f"\r{' ' * width}\rthe server is away\r\n"
    progress.close()
    warn("elsewhere")
    assert terminal.read() == ""


def test_a_line_without_an_end_is_left_alone(shown, terminal, clock):
    progress = shown(terminal.writer)
    looked(progress, clock, may_show=False)
    assert terminal.read() == ""
    looked(progress, clock, seconds=1)
    assert "q: 12 published: 0 done" in terminal.read()


def test_where_no_terminal_is_there_is_a_line_a_minute(shown, pipe, clock):
    progress = shown(pipe.writer)
    looked(progress, clock, seconds=EVERY_LINE)
    [line] = pipe.read().splitlines()
    assert "  q: 12 published: 0 done, 12 waiting, " in line
    looked(progress, clock, seconds=EVERY_LINE)
    assert len(pipe.read().splitlines()) == 1


def test_where_no_terminal_is_nothing_old_is_said_again(
    shown, pipe, clock, monkeypatch
):
    """Not as if it was new, where a look fails, or rests since the last one took long."""
    progress = shown(pipe.writer)
    looked(progress, clock, seconds=EVERY_LINE)
    assert len(pipe.read().splitlines()) == 1
    for told in (lambda *_: None, lambda *_: 1 / 0):
        monkeypatch.setattr(Progress, "told", told)
        looked(progress, clock, seconds=2 * EVERY_LINE)
        assert pipe.read() == ""


def test_nobody_waits_for_a_reader_that_takes_nothing(shown, either, clock):
    either.fill()
    looked(shown(either.writer), clock, seconds=EVERY_LINE)
    assert set(either.read()) == {"."}


@pytest.mark.parametrize("size", [300, 700, 4000])
def test_nobody_waits_for_a_terminal_that_takes_a_part_of_a_line(terminal, size):
    with open(terminal.writer, "w", closefd=False) as stream, in_time(20):
        unwaiting = worker_progress._Unwaiting(stream)
        for _ in range(200):
            unwaiting.write("x" * size)
        unwaiting.close()
    assert set(terminal.read()) == {"x"}


def test_a_reader_that_is_gone_ends_nothing(shown, broker, clock):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        looked(shown(writer), clock, seconds=EVERY_LINE)
    finally:
        os.close(writer)


def test_whatever_goes_wrong_with_it_ends_no_worker(
    shown, terminal, clock, monkeypatch
):
    progress = shown(terminal.writer)
    looked(progress, clock)
    line = terminal.read()

    def told(self, every):
        raise OverflowError(every)  # by a number that somebody planted, say

    monkeypatch.setattr(Progress, "told", told)
    looked(progress, clock, seconds=9)
    assert line.lstrip("\r") in terminal.read()


def test_what_was_known_stands_where_the_queue_is_gone(shown, broker, terminal, clock):
    progress = shown(terminal.writer)
    looked(progress, clock)
    broker.delete_queue("q")
    terminal.read()
    told = ""
    for _ in range(6):
        looked(progress, clock, seconds=10)
        told += terminal.read()
    assert "no such queue" in told
