"""A terminal of some size, emulated by pyte, with a program of ddmq in it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest

import ddmq

pyte = pytest.importorskip("pyte", reason="pyte is not installed: ddmq[test]")

CODE = "import sys; from ddmq.cli.{} import main; sys.exit(main())"
#: What stands on the screen before.
BEFORE = ["$ echo one", "one"]


class Terminal:
    """A terminal with `ddmq` in it, or another program of `ddmq.cli`."""

    def __init__(self, *words, program="main", columns=80, rows=24, **environ):
        self.screen = pyte.HistoryScreen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._stream.feed("".join(f"{each}\r\n" for each in BEFORE).encode())
        self._leader, self._follower = pty.openpty()
        self._tell_size()
        self.before = termios.tcgetattr(self._follower)
        self.bytes = b""
        path = str(Path(ddmq.__file__).parent.parent)
        usual = {**os.environ, "PYTHONPATH": path, "TERM": "xterm"}
        usual.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE.format(program), *map(str, words)],
            stdin=self._follower,
            stdout=self._follower,
            stderr=self._follower,
            env={**usual, **environ},
            start_new_session=True,
        )
        os.set_blocking(self._leader, False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self._leader)
        os.close(self._follower)

    def _tell_size(self):
        size = struct.pack("HHHH", self.screen.lines, self.screen.columns, 0, 0)
        fcntl.ioctl(self._follower, termios.TIOCSWINSZ, size)

    def resize(self, columns, rows):
        self._take()
        self.screen.resize(rows, columns)
        self._tell_size()

    def _take(self):
        with suppress(BlockingIOError):
            while data := os.read(self._leader, 1 << 16):
                self.bytes += data
                self._stream.feed(data)

    @property
    def lines(self):
        """What is on the screen, without the empty lines at its end."""
        text = "\n".join(each.rstrip() for each in self.screen.display)
        return text.rstrip().split("\n")

    @property
    def text(self):
        """The same as one line, as if the screen were as wide as it needs to be."""
        return " ".join(" ".join(self.lines).split())

    def until(self, is_shown):
        """Read until something is shown, by a program that goes on."""
        end = time.monotonic() + 60
        while not is_shown(self):
            assert time.monotonic() < end, self.lines
            assert self.process.poll() is None, self.lines
            time.sleep(0.01)
            self._take()

    def ended(self):
        """Read until the program has ended; return its exit status."""
        end = time.monotonic() + 60
        while self.process.poll() is None:
            assert time.monotonic() < end, self.lines
            time.sleep(0.01)
            self._take()
        self._take()
        return self.process.returncode

    def shows(self, text):
        """Read until a text is shown."""
        self.until(lambda terminal: text in terminal.text)

    def nothing_wraps_or_scrolls(self):
        """Check that only what was above has left the screen, and no line fills its columns."""
        gone = [
            "".join(row[n].data for n in sorted(row)).rstrip()
            for row in self.screen.history.top
        ]
        assert (gone + self.lines)[: len(BEFORE)] == BEFORE
        assert len(gone) <= len(BEFORE)
        last = self.screen.columns - 1
        rows = (self.screen.buffer[n] for n in range(self.screen.lines))
        assert {row[last].data for row in rows} == {" "}

    def is_as_it_was(self):
        """Check what a shell finds that gets the terminal back."""
        self._take()
        assert termios.tcgetattr(self._follower) == self.before
        assert not self.screen.cursor.hidden
        assert self.screen.cursor.attrs == self.screen.default_char
        assert self.screen.cursor.x == 0
        below = self.screen.display[self.screen.cursor.y :]
        assert not "".join(below).strip()
        assert "Traceback" not in self.text
