"""The workers that an Executor starts: a process here, or Slurm jobs."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ddmq.errors import DdmqError, InvalidArgument, inform, warn
from ddmq.hpc.functions.calling import program
from ddmq.schedulers import SLURM, environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The only one whose jobs an Executor submits.
_SCHEDULER = SLURM
#: How the last line of a worker begins; and for how many seconds we wait for the lines of a worker
#: that has ended.
_LAST_WORDS, _LAST_LINES = "ddmq-worker: stopped: ", 5.0
#: How often a worker that was killed is started again while nothing is done.
_STARTS = 10
#: A worker that drains when whoever started it has ended, however that was.
#: What it says itself goes to the descriptor that is its first argument, and not to standard error,
#: which the functions have that it calls. No command inherits that descriptor.
_LOCAL = """
import os, signal, threading
said = int(sys.argv.pop(1))
os.set_inheritable(said, False)
sys.stderr = open(said, "w", buffering=1, errors="backslashreplace")
def watch():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
from ddmq.cli.worker import main
sys.exit(main())
"""
_SUBMIT = "from ddmq.cli.submit import main; sys.exit(main())"
_submitted = re.compile(f"^{_SCHEDULER.submitted}$", re.MULTILINE | re.ASCII)
#: Seconds for which the scheduler may take its time.
_PATIENCE = 30
#: All of this process: a child that it forks must not keep their workers.
_crews: weakref.WeakSet[Crew] = weakref.WeakSet()
_option = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


class Crew:
    """The workers of an executor: a process here, or jobs."""

    def __init__(self, root: str, queue: str) -> None:
        self.are_started = self.are_jobs = False
        self._queue = [root, queue]
        self._options = ["--persistent"]
        self._options_here: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._said: _Said | None = None
        self._starts = 0
        #: The jobs of each cluster; that of no name is the only one.
        self._jobs: dict[str, list[str]] = {}
        self._is_chain = False
        _crews.add(self)

    @property
    def is_here(self) -> bool:
        """Whether it is a process here."""
        return self._process is not None

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
            self._options_here = given
            self._start_here()
        self.are_started = True

    def _start_here(self) -> None:
        reading, writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                program(_LOCAL, str(writing), *self._options_here),
                bufsize=0,
                stdin=subprocess.PIPE,
                start_new_session=True,
                pass_fds=[writing],
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._said = _Said(reading)

    def _submit(self, command: list[str], slurm: Mapping[str, Any]) -> None:
        from ddmq.hpc.submit import LOGS_GO  # needed for jobs only

        words = [*self._options, *words_of(slurm)]
        if not {"until_done", "until-done", "max_messages", "wait"} & slurm.keys():
            words.append("--forever")
        given = [_SCHEDULER.name, *words, *self._queue, "--", *command]
        try:
            done = subprocess.run(
                program(_SUBMIT, *given),
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except KeyboardInterrupt:
            warn("interrupted: a job may be submitted or not; look at your jobs")
            raise
        said = done.stderr.strip()[-1000:]
        if done.returncode != 0:
            raise DdmqError(f"no job is known to be submitted: {said}")
        lines = said.splitlines()
        if told := "\n".join(line for line in lines if LOGS_GO not in line):
            warn(told)
        self.are_jobs = True
        self._is_chain = "chain" in slurm
        for job, cluster in _submitted.findall(done.stdout):
            self._jobs.setdefault(cluster, []).append(job)

    def trouble(self, *, has_come: bool) -> str:
        """Say why no more results will come; empty: they may. What was killed is started again."""
        if has_come:
            self._starts = 0
        status = None if self._process is None else self._process.poll()
        if status is None:
            return ""
        self._starts += 1
        if status >= 0:
            assert self._said is not None
            return f"the worker ended with status {status}: {self._said.last()}"
        if self._starts > _STARTS:
            return (
                f"the worker was killed by signal {-status}, {_STARTS} times in a row"
            )
        self.end()
        self._start_here()
        return ""

    def have_left(self) -> bool:
        """Tell whether the scheduler knows for certain that no job is left, running or waiting.

        Where it can't be asked, they may be. So may the later jobs of a chain, which submit
        each other.
        """
        if not self._jobs or self._is_chain:
            return False
        for words, jobs in self._on_each_cluster(_SCHEDULER.list_jobs):
            which = _SCHEDULER.jobs_option.format(",".join(jobs)).split()
            try:
                done = _done([*words, *which])
            except (OSError, subprocess.SubprocessError):
                return False
            is_forgotten = done.returncode != 0 and _SCHEDULER.forgotten in done.stderr
            if done.stdout.strip() or (done.returncode != 0 and not is_forgotten):
                return False
        return True

    def cancel_waiting(self) -> None:
        """Take back the jobs that have not started."""
        for words, jobs in self._on_each_cluster(_SCHEDULER.cancel_waiting):
            try:
                done = _done([*words, *jobs])
            except (OSError, subprocess.SubprocessError) as error:
                why = str(error)
            else:
                why = done.stderr.strip()[-1000:] if done.returncode != 0 else ""
            if why and _SCHEDULER.forgotten not in why:
                tried = " ".join([*words, *jobs])
                warn(f"jobs that wait may go on to wait: {tried}: {why}")

    def _on_each_cluster(
        self, words: tuple[str, ...]
    ) -> Iterator[tuple[list[str], list[str]]]:
        """Yield a command of the scheduler's for each cluster, and the jobs there."""
        for cluster, jobs in self._jobs.items():
            where = _SCHEDULER.cluster_option.format(cluster).split() if cluster else []
            yield [*words, *where], jobs

    def end(self) -> None:
        """Let the worker here drain, and wait for it."""
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._said is not None
            self._said.is_ending = True
            self._process.terminate()  # a child of ours may have the pipe, too
            self._process.wait()
            self._process.stdin.close()
            self._said.last()

    def leave(self) -> None:
        """Let go of the worker in a child of this process, which ends when its parent does."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()


class _Said:
    """What the worker here says itself: each line is logged to the logger `ddmq`."""

    def __init__(self, descriptor: int) -> None:
        self.is_ending = False
        """Whether it was asked to end, so that its last words are no warning."""
        self._line = ""
        self._thread = threading.Thread(
            target=self._log_all, args=[descriptor], daemon=True
        )
        self._thread.start()

    def _log_all(self, descriptor: int) -> None:
        with open(descriptor, errors="backslashreplace") as lines:
            for line in lines:
                self._line = line.rstrip("\n")
                is_last = self.is_ending and self._line.startswith(_LAST_WORDS)
                (inform if is_last else warn)(self._line)

    def last(self) -> str:
        """Return the last line of a worker that has ended."""
        self._thread.join(_LAST_LINES)
        return self._line or "it said nothing"


def _leave_all() -> None:
    for crew in list(_crews):
        crew.leave()


os.register_at_fork(after_in_child=_leave_all)


def _done(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of the scheduler's, whatever the user wants to see of his own."""
    habits = _SCHEDULER.habits
    return subprocess.run(
        words,
        env={k: v for k, v in environment().items() if not k.startswith(habits)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_PATIENCE,
        check=False,
    )


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
