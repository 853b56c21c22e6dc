"""Standard error that makes nobody wait."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import logging, sys
from ddmq.cli.standard_error import StandardError
with StandardError() as stderr:
    stderr.is_hurried = {hurried}
    for n in range({lines}):
        logging.getLogger("ddmq").warning("%d \\u00e4\\udc80" + "x" * 100, n)
    print("held", "up", file=sys.stderr)
    print("through", flush=True)
{last}
"""
LAST = 'print("last", file=sys.stderr)'


def run(hurried, lines=5000, last=""):
    code = PROGRAM.format(hurried=hurried, lines=lines, last=last)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUTF8": "1"},
    )


def test_who_prints_waits_for_no_reader_and_all_comes_in_order():
    with run(hurried=False, last=LAST) as process:
        assert process.stdout.readline() == b"through\n"  # though nobody has read
        *lines, held, last = process.stderr.read().splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(5000))
    assert "\u00e4\\udc80x" in lines[0].decode()
    assert (held, last) == (b"held up", b"last")


def test_in_a_hurry_a_reader_that_takes_nothing_is_given_up():
    with run(hurried=True) as process:
        assert process.stdout.read() == b"through\n"
        assert process.wait() == 0
        assert process.stderr.read().startswith(b"0 ")


def test_where_nobody_reads_any_more_nothing_fails():
    with run(hurried=False, lines=10) as process:
        process.stderr.close()
        assert process.stdout.read() == b"through\n"


def test_a_stand_in_stays_what_it_is(capsys):
    from ddmq.cli.standard_error import StandardError

    with StandardError():
        sys.stderr.write("told\n")
    assert capsys.readouterr().err == "told\n"
