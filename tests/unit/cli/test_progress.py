"""One line of a terminal, written over again and again."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import termios

import pytest

from ddmq.cli.progress import ProgressLine


@pytest.fixture
def terminal():
    return io.StringIO()


def test_nothing_is_shown_of_what_is_over_in_a_moment(terminal, clock):
    line = ProgressLine(terminal, clock)
    line.show("1 message")
    line.clear()
    assert terminal.getvalue() == ""


def test_a_shorter_text_covers_a_longer_one(terminal, clock):
    line = ProgressLine(terminal, clock)
    for text in ("a long text", "left out", "short"):
        clock.advance(0.1 if text == "left out" else 0.6)
        line.show(text)
    assert terminal.getvalue() == "\ra long text\rshort      "
    line.clear()
    assert terminal.getvalue().endswith("\r     \r")


def test_no_terminal_obeys_it(terminal, clock):
    line = ProgressLine(terminal, clock)
    clock.advance(1)
    line.show("\x1b[2J\n")
    assert terminal.getvalue() == "\r\\x1b[2J\\n"


def test_a_line_that_is_longer_than_the_terminal_is_cut(clock):
    """Else it would go on in the next line, which is not written over."""
    leader, follower = pty.openpty()
    try:
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 20, 0, 0))
        with os.fdopen(follower, "w", closefd=False) as terminal:
            line = ProgressLine(terminal, clock)
            clock.advance(1)
            line.show("waiting for q: 12 waiting, 3 delayed")
            line.clear()
        shown = b"\rwaiting for q: 12 w\r" + b" " * 19 + b"\r"
        read = b""
        while len(read) < len(shown):  # a terminal gives it in parts
            read += os.read(leader, 999)
        assert read == shown
    finally:
        os.close(leader)
        os.close(follower)
