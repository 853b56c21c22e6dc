"""The workers that an Executor starts: a process here, or Slurm jobs."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

from ddmq.errors import DdmqError, InvalidArgument
from ddmq.hpc.calling import program

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How often a worker that was killed is started again while nothing is done.
_STARTS = 10
#: A worker that drains when whoever started it has ended, however that was.
_LOCAL = """
import os, signal, threading
def watch():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
from ddmq.cli.worker import main
sys.exit(main())
"""
_SUBMIT = "from ddmq.cli.submit import main; sys.exit(main())"
_option = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


class Crew:
    """The workers of an executor: a process here, or jobs."""

    def __init__(self, root: str, queue: str, results: str) -> None:
        self.are_started = self.are_jobs = False
        self._queue = [root, queue]
        self._options = ["--persistent", "--output-dir", results]
        self._words: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def start(
        self, command: list[str], slots: int | None, slurm: Mapping[str, Any] | None
    ) -> None:
        """Start them; DdmqError: that can't be."""
        if slurm is not None:
            self._submit(command, slurm)
        else:
            more = ["--forever", "--poll-max", "0.2"]
            more += [] if slots is None else ["-j", str(slots)]
            given = [*self._options, *more, *self._queue, "--", *command]
            self._words = program(_LOCAL, *given)
            self._start_here()
        self.are_started = True

    def _start_here(self) -> None:
        self._process = subprocess.Popen(
            self._words, stdin=subprocess.PIPE, start_new_session=True
        )

    def _submit(self, command: list[str], slurm: Mapping[str, Any]) -> None:
        words = [*self._options, *words_of(slurm)]
        if not {"until_done", "until-done", "max_messages", "wait"} & slurm.keys():
            words.append("--forever")
        given = ["slurm", *words, *self._queue, "--", *command]
        done = subprocess.run(
            program(_SUBMIT, *given),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DdmqError(f"no job was submitted: {done.stderr.strip()[-1000:]}")
        self.are_jobs = True

    def trouble(self, *, has_come: bool) -> str:
        """Say why no more results will come; empty: they may. What was killed is started again."""
        if has_come:
            self._starts = 0
        status = None if self._process is None else self._process.poll()
        if status is None:
            return ""
        self._starts += 1
        if status >= 0:
            return (
                f"the worker ended with status {status}; it said why on standard error"
            )
        if self._starts > _STARTS:
            return (
                f"the worker was killed by signal {-status}, {_STARTS} times in a row"
            )
        self.end()
        self._start_here()
        return ""

    def end(self) -> None:
        """Let the worker here drain, and wait for it."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()


def words_of(options: Mapping[str, Any]) -> list[str]:
    """Return options as they are written on a command line; InvalidArgument: one is none."""
    words = []
    for name, value in options.items():
        if not _option.fullmatch(name):
            raise InvalidArgument(f"slurm: {name!r:.60} is no option")
        flag = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
            continue
        for each in value if isinstance(value, (list, tuple)) else [value]:
            words += [flag, str(each)]
    return words
