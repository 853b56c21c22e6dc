"""Real workers with real commands, and what can be seen of them from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import ddmq

PYTHON = sys.executable


def start(*arguments, before="", **options):
    """Start `ddmq-worker` with the ddmq that is tested; `before` is Python to run first."""
    code = f"{before}\nimport sys; from ddmq.cli.worker import main; sys.exit(main())"
    path = str(Path(ddmq.__file__).parent.parent)
    return subprocess.Popen(
        [PYTHON, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        **options,
    )


def worked(*arguments):
    """Return exit status, output and what the worker said."""
    process = start(*arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def python(code):
    """Return a command that runs a line of Python with the text as its argument."""
    return ["--", PYTHON, "-c", code]


def shell(script):
    """Return a command that runs a line of shell with the text as its `$0`."""
    return ["--", "sh", "-c", script]


def until(claim):
    """Wait until something is so; the test's own time limit is the caller's patience."""
    deadline = time.monotonic() + 30
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def counts(broker, queue="jobs"):
    """Return how many messages wait, are at work, delayed and dead."""
    return tuple(broker.view(queue)[queue])


def seconds_of_ours(number):
    """Return a time to sleep by which no other run of these tests can be meant."""
    return f"{number}.{os.getpid()}"


def session_of(pid):
    """Return the processes of a session."""
    found = []
    for member in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with suppress(ProcessLookupError):
            if os.getsid(member) == pid:
                found.append(member)
    return found


def running(word):
    """Return the processes whose command line holds a word, but not our own."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as line:
                words = line.read().split(b"\0")
        except OSError:
            continue
        if word.encode() in words and words[0] in (b"sleep", b"yes"):
            found.append(int(pid))
    return found


def takes(pid, number):
    """Tell whether a process has a handler for a signal."""
    with open(f"/proc/{pid}/status") as status:
        [caught] = [line.split()[1] for line in status if line.startswith("SigCgt:")]
    return bool(int(caught, 16) >> (number - 1) & 1)
