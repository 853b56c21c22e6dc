"""What the errors say, and what they carry; and what a warning is."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ddmq
from ddmq import errors
from ddmq.errors import (
    DdmqError,
    GarbageAhead,
    InvalidArgument,
    InvalidSettings,
    LeaseLost,
    StorageError,
    UnknownLayout,
    did_you_mean,
    inform,
    out_of_memory,
    warn,
)

PATH = "/mq/q/ready"


def refused(code):
    return StorageError(OSError(code, os.strerror(code), PATH))


def test_every_error_is_public_and_caught_as_one():
    kinds = {k: v for k, v in vars(errors).items() if isinstance(v, type)}
    ours = {name for name, kind in kinds.items() if kind.__module__ == errors.__name__}
    assert ours <= set(ddmq.__all__)
    assert all(issubclass(getattr(errors, name), DdmqError) for name in ours)


@pytest.mark.parametrize("error", [InvalidArgument, InvalidSettings])
def test_what_is_wrong_in_a_call_is_a_value_error(error):
    assert issubclass(error, ValueError)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "free some space or inodes there, then try again"),
        (errno.EDQUOT, "your quota is used up"),
        (errno.EACCES, "ask its owner for permission"),
        (errno.EROFS, "use another node"),
        (errno.ELOOP, "ddmq follows none inside a queue"),
        (errno.EMFILE, "raise `ulimit -n`"),
        (errno.ENFILE, "this node has too many files open"),
    ],
)
def test_a_storage_error_says_what_happened_to_what_and_what_to_do(code, remedy):
    error = refused(code)
    assert str(error).startswith(f"{PATH}: {os.strerror(code)}; ")
    assert remedy in str(error)
    assert (error.errno, error.path) == (code, PATH)


def test_a_storage_error_without_a_remedy_says_what_happened():
    assert str(refused(errno.EXDEV)) == f"{PATH}: {os.strerror(errno.EXDEV)}"
    assert str(StorageError(OSError("odd"))) == "?: odd"
    assert str(StorageError(OSError(errno.ENOENT, "x", ""))) == "'': x"


def test_the_name_of_a_file_can_not_confuse_a_terminal():
    error = StorageError(OSError(errno.EIO, "x", b"/mq/\x1b[2J"))
    assert str(error).isprintable()


def test_too_little_memory_for_a_file_is_told_as_such():
    error = StorageError(out_of_memory(PATH))
    assert str(error).startswith(f"{PATH}: not enough memory to read it; ")
    assert "ulimit -v" in str(error)


def test_garbage_ahead_names_the_bucket_and_asks_to_try_again():
    error = GarbageAhead(PATH)
    assert (error.errno, error.path) == (errno.EAGAIN, PATH)
    assert str(error).endswith("; try again")


def test_a_lost_lease_carries_its_messages():
    assert LeaseLost("gone").messages == ()
    assert LeaseLost("gone", ["a", "b"]).messages == ("a", "b")


@pytest.mark.parametrize(
    ("since", "who"), [("1.4.0", "ddmq 1.4.0 or newer"), (None, "a later ddmq")]
)
def test_an_unknown_layout_names_the_ddmq_that_knows_it(since, who):
    error = UnknownLayout("/mq/q/ddmq.yaml", 3, since, 2)
    assert error.number == 3
    assert f"layout 3 needs {who}, and" in str(error)
    assert f"this is ddmq {ddmq.__version__}" in str(error)
    assert str(error).endswith("use a newer one")


def test_a_layout_that_was_never_released_is_to_be_made_anew():
    error = UnknownLayout("/mq/q/ddmq.yaml", 1, "1.0.0", 2)
    assert "layout 1 needs a ddmq that was never released" in str(error)
    assert str(error).endswith("remove its directory and create it again")


def test_a_word_that_is_much_like_a_known_one_is_asked_for():
    known = ["publish", "purge"]
    assert did_you_mean("publsh", known) == "; did you mean publish?"
    assert did_you_mean("x", known) == ""
    assert did_you_mean("x" * 10**6, [str(n) for n in range(10**5)]) == ""


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
    code = "from ddmq.errors import warn; print('logging' in sys.modules); "
    code += "warn('x'); print('logging' in sys.modules)"
    assert told_by(code) == ("False\nTrue\n", "")
    assert told_by(f"import ddmq.cli.errors; {code}") == ("False\nTrue\n", "x\n")


def test_who_asked_for_more_is_told_more(caplog):
    inform("left out")
    caplog.set_level(logging.INFO, "ddmq")
    inform("2 published: \x1b[2J")
    assert caplog.record_tuples == [("ddmq", logging.INFO, "2 published: \\x1b[2J")]


def test_logging_is_not_imported_to_tell_nobody():
    code = (
        "from ddmq.errors import inform; inform('x'); print('logging' in sys.modules)"
    )
    assert told_by(code) == ("False\n", "")


WHILE_A_THREAD_IMPORTS_IT = """
import threading
class Slow:
    def find_spec(self, name, *_):
        if name == "string":  # which logging imports
            begun.set()
            told.wait(0.2)
from ddmq.errors import inform
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
