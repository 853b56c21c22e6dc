"""Queues that are shown again and again, on real terminals."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

import ddmq

CODE = "import sys; from ddmq.cli.main import main; sys.exit(main())"


def test_programs_and_times_that_are_none_are_refused(sh, root):
    request = json.dumps({"cmd": "view", "root": str(root), "watch": 1})
    assert "--watch is for people" in sh("json", request)[1]
    assert "for people" in sh.wrong("view", root, "--watch", "--format", "json")
    assert "must be positive" in sh.wrong("view", root, "--watch=-1")
    assert "no such queue" in sh.error("view", root, "nix", "-w")


class Terminal:
    """A terminal with `ddmq view --watch` in it."""

    def __init__(self, root, *options, columns=60, rows=24, **environ):
        self.leader, self._follower = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self._follower)
        self.drawn = ""
        path = str(Path(ddmq.__file__).parent.parent)
        usual = {**os.environ, "PYTHONPATH": path, "TERM": "xterm"}
        usual.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE, "view", str(root), *options],
            stdin=self._follower,
            stdout=self._follower,
            stderr=self._follower,
            env={**usual, **environ},
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.leader)
        os.close(self._follower)

    def resize(self, columns, rows=24):
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._follower, termios.TIOCSWINSZ, size)

    def shows(self, pattern):
        """Read until something is drawn that was not drawn before; forget what is before it."""
        end = time.monotonic() + 60
        os.set_blocking(self.leader, False)
        while not (found := re.search(pattern, self.drawn)):
            assert time.monotonic() < end, self.drawn
            try:
                self.drawn += os.read(self.leader, 9999).decode(errors="replace")
            except BlockingIOError:
                time.sleep(0.01)
        self.drawn = self.drawn[found.end() :]
        return found

    def ended_by(self, number):
        """Send a signal; return the status of the process and the last that it drew."""
        self.process.send_signal(number)
        status = self.process.wait(60)
        last = self.shows(r"(?s).*\x1b\[0m\x1b\[\?25h\x1b\[J")[0]
        assert termios.tcgetattr(self._follower) == self.before
        return status, last


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
)
def test_a_terminal_is_left_as_it_was(root, sh, number):
    with Terminal(root, "-w", "0.05") as terminal:
        terminal.shows(r"testmq: 0 done")
        terminal.shows(r"\x1b\[J\x1b\[\?25h")
        status, last = terminal.ended_by(number)
        assert status == (0 if number == signal.SIGINT else -number)
        assert last.rfind("\x1b[?25h") > last.rfind("\x1b[?25l")
        assert "Traceback" not in last


def test_it_is_drawn_in_place_in_the_width_of_the_terminal(root, sh):
    sh.ok("publish", root, "testmq", "x")
    with Terminal(root, "testmq", "--watch", "0.05", columns=50) as terminal:
        drawn = terminal.shows(r"(?s)\x1b\[\?25l(.*?)\x1b\[J")[1]
        first = re.sub(r"\x1b\[[0-9;]*[mK]|\r", "", drawn).split("\n")[:-1]
        assert first[0] == "testmq: 0 done, 0 at work, 1 waiting, 0 delayed, "
        assert first[1] == f"[{'.' * 47}]"
        assert "\x1b[37m" in drawn
        assert all(len(each) <= 49 for each in first)
        terminal.shows(rf"\x1b\[{len(first)}A\r.*testmq")
        sh.ok("publish", root, "testmq", "y")
        terminal.shows("2 waiting")
        terminal.resize(30)
        terminal.shows(
            r"\x1b\[6A\r"
        )  # 49 columns were two lines each, as wide as it is now
        terminal.shows(rf"\r\[.*{re.escape('.' * 27)}.*\]")


def test_a_terminal_that_wants_no_colour_gets_none(root, sh):
    with Terminal(root, "-w", "0.05", NO_COLOR="1") as terminal:
        drawn = terminal.shows(r"(?s)\x1b\[\?25l(.*?)\x1b\[J")[1]
        assert not re.search(r"\x1b\[\d+m", drawn)
