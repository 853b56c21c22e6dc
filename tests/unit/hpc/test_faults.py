"""Whose fault an error is."""

from __future__ import annotations

import errno
import os

import pytest

from ddmq.errors import LeaseLost, StorageError
from ddmq.hpc.faults import is_for_good, may_pass, told


def error_of(code):
    return OSError(code, os.strerror(code), "/mq")


@pytest.mark.parametrize(
    ("code", "for_good"),
    [
        (errno.EACCES, True),
        (errno.EROFS, True),
        (errno.EXDEV, True),
        (errno.EIO, False),
        (errno.ESTALE, False),
        (errno.ENOSPC, False),
    ],
)
def test_a_queue_that_is_not_ours_to_change_is_asked_no_more(code, for_good):
    assert is_for_good(StorageError(error_of(code))) == for_good
    assert not is_for_good(LeaseLost("taken"))


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        (errno.ENOSPC, True),
        (errno.EMFILE, True),
        (errno.EAGAIN, True),
        (errno.ENOTDIR, False),
        (errno.ELOOP, False),
        (errno.EACCES, False),
    ],
)
def test_a_full_node_is_no_broken_one(code, passes):
    assert may_pass(error_of(code)) == passes


def test_an_error_says_to_what_it_happened():
    assert told(error_of(errno.EIO)).startswith("/mq: ")
    assert not told(OSError(errno.EIO, "Input/output error")).startswith("?")
