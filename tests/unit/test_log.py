"""Warnings for the operator."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import ddmq
from ddmq.log import inform, warn


def test_a_warning_is_one_line_that_is_only_shown(caplog):
    warn("/mq/q/work/\x1b[2J\nforged: can't be moved")
    assert caplog.messages == ["/mq/q/work/\\x1b[2J\\nforged: can't be moved"]


def test_a_warning_goes_to_the_logger_of_ddmq(caplog):
    warn("a disk is full")
    assert caplog.record_tuples == [("ddmq", logging.WARNING, "a disk is full")]


def told_by(code):
    """Run code in a Python that has imported nothing; return what it prints."""
    command = [sys.executable, "-S", "-c", f"import sys; {code}"]
    environ = {**os.environ, "PYTHONPATH": str(Path(ddmq.__file__).parent.parent)}
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr


def test_logging_is_imported_with_the_first_warning():
    code = "from ddmq.log import warn; print('logging' in sys.modules); "
    code += "warn('x'); print('logging' in sys.modules)"
    assert told_by(code) == ("False\nTrue\n", "x\n")


def test_who_asked_for_more_is_told_more(caplog):
    inform("left out")
    caplog.set_level(logging.INFO, "ddmq")
    inform("2 published: \x1b[2J")
    assert caplog.record_tuples == [("ddmq", logging.INFO, "2 published: \\x1b[2J")]


def test_logging_is_not_imported_to_tell_nobody():
    code = "from ddmq.log import inform; inform('x'); print('logging' in sys.modules)"
    assert told_by(code) == ("False\n", "")


WHILE_A_THREAD_IMPORTS_IT = """
import threading
class Slow:
    def find_spec(self, name, *_):
        if name == "string":  # which logging imports
            begun.set()
            told.wait(0.2)
from ddmq.log import inform
begun, told = threading.Event(), threading.Event()
sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=__import__, args=("logging",))
thread.start()
print(begun.wait(60))
inform("x")
told.set()
thread.join()
"""


def test_who_is_told_waits_for_a_thread_that_imports_logging():
    assert told_by(WHILE_A_THREAD_IMPORTS_IT) == ("True\n", "")
