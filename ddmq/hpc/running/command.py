"""What runs for a message, or for several at once: its process, its outputs, its time."""

from __future__ import annotations

import errno
import os
import signal
from abc import ABC, abstractmethod
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ddmq.errors import DdmqError, warn
from ddmq.hpc.faults import NOT_NOW, told
from ddmq.hpc.folder import reached
from ddmq.hpc.placeholders import SLOTS, filled, filled_for_all, names_in, text_of
from ddmq.hpc.running.execution import CommandNotFound, Execution, Unfit
from ddmq.hpc.running.process import (
    MAX_ARGUMENT,
    Outcome,
    Process,
    encoded,
    share_of_cores,
)
from ddmq.hpc.running.stream import Output, Part, Stream, filled_file
from ddmq.printable import printable, quoted
from ddmq.schedulers import with_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ddmq.clock import Clock
    from ddmq.hpc.options import WorkerOptions
    from ddmq.hpc.running.progress import SlotProgress


#: Files that are left to whoever consumes, renews, syncs and kills beside the commands.
_SPARE_FILES = 8
#: What the names of logs end in: of standard output, and of standard error.
_LOGS = ("out", "err")
#: Characters of a text that are put before a line, or that an error names.
_TAG = 200
#: Bytes that are left for the name of a variable.
_NAME = 300
#: Bytes of all arguments and variables that are left to the kernel.
_SPARE_BYTES = 1 << 16
#: Bytes of all arguments and variables that Linux takes at most, with `ulimit -s unlimited` too.
_MOST_BYTES = 6 << 20
#: Seconds until what did not die of a kill is killed again.
_KILL_AGAIN = 1.0


class Surroundings(NamedTuple):
    """What all commands of a worker are given."""

    words: Sequence[str]
    """The program and its arguments."""
    options: WorkerOptions
    environ: Mapping[str, str]
    clock: Clock
    outputs: tuple[Output, Output]
    """The worker's own, which they share."""
    progress: SlotProgress | None = None
    """Where those of a slot say how far they are; None: nowhere."""

    @property
    def of_progress(self) -> dict[str, str]:
        """The variable that tells them where."""
        return {} if self.progress is None else {"progress": self.progress.path}


class Signalled(Protocol):
    """What gets the signals that are meant for a command."""

    def send(self, number: int) -> None:
        """Send it a signal."""

    def kill(self) -> None:
        """Kill it and everything that it started."""


class Command(ABC):
    """What runs for the messages of `executions`, in one slot.

    `timed_out` says that it took too long, `was_killed` that it was killed since a lease of its
    messages was lost. `log` is where its outputs are saved, without `.out` and `.err`.
    """

    _process: Signalled

    def __init__(
        self, executions: Sequence[Execution], surroundings: Surroundings
    ) -> None:
        self.executions = list(executions)
        self.slot = executions[0].slot
        self.timed_out = self.was_killed = False
        self.log = ""
        self._options = surroundings.options
        self._clock = clock = surroundings.clock
        self.started = clock.own_ns() / 1e9
        self._progress = surroundings.progress
        if self._progress is not None:
            self._progress.forget()
        self._began = clock.monotonic()
        self._ended: float | None = None
        self._terminated_at: float | None = None
        self._killed_at: float | None = None
        self._open = len(executions)
        self._is_saved = False
        for execution in executions:
            execution.command = self

    # Its process

    @abstractmethod
    def outcome(self) -> Outcome | None:
        """Return how it ended, None while it runs."""

    @abstractmethod
    def readers(self) -> dict[int, Callable[[], object]]:
        """Return what to call when a descriptor can be read."""

    @abstractmethod
    def writers(self) -> dict[int, Callable[[], object]]:
        """Return what to call when a descriptor takes more."""

    # Its time

    @property
    def duration(self) -> float:
        """Seconds since the start, to the end if it has ended."""
        now = self._clock.monotonic() if self._ended is None else self._ended
        return now - self._began

    def due_in(self) -> float | None:
        """Return the seconds until `watch` has something to do, None for never."""
        now = self._clock.monotonic()
        if self._killed_at is not None:
            return max(self._killed_at + _KILL_AGAIN - now, 0.0)
        if self._terminated_at is not None:
            return max(self._terminated_at + self._options.grace - now, 0.0)
        if self._options.timeout is None:
            return None
        return max(self._options.timeout - self.duration, 0.0)

    def watch(self) -> None:
        """Ask it to end when its time is over, and end it when it does not."""
        if self.due_in() != 0:
            return
        if self._terminated_at is None and self._killed_at is None:
            self.timed_out = True
            self.terminate()
        else:
            self.kill()

    def terminate(self, number: int = signal.SIGTERM) -> None:
        """Ask it to end within the grace."""
        if self._terminated_at is None:
            self._terminated_at = self._clock.monotonic()
            self._process.send(number)

    def kill(self) -> None:
        """Kill it and everything that it started, in whatever process group or session.

        What hangs in the kernel, or runs under sudo, lives on: `watch` kills it again.
        """
        self._killed_at = self._clock.monotonic()
        self._process.kill()

    @property
    def was_told_to_end(self) -> bool:
        """Whether it was asked to end, or killed."""
        return self._terminated_at is not None or self._killed_at is not None

    # Its outputs

    @abstractmethod
    def _parts(self) -> Sequence[Part]:
        """Return what it printed: standard error last, standard output before, if that is read."""

    def tail(self) -> str:
        """Return the last lines of standard error."""
        return self._parts()[-1].tail()

    def progress(self) -> str:
        """Return what it said last of how far it is; empty: nothing."""
        return "" if self._progress is None else self._progress.said()

    @property
    def logged(self) -> str:
        """Which of its logs there are: `out`, `err`, both with a space between them, or none."""
        return " ".join(k for part, k in zip(self._parts(), _LOGS) if part.has_log)

    def close(self, *, save: bool) -> None:
        """Let go of its outputs with the last of its messages; save them when first asked."""
        self._open -= 1
        if save:
            self.save()
        if not self._open:
            self._let_go()

    def save(self) -> None:
        """Make two files, once, and the directories that they are in, below that of all logs."""
        if not self.log or self._is_saved:
            return
        self._is_saved = True
        top = self._options.log_dir or "."
        *directories, name = os.path.relpath(self.log, top).split("/")
        try:
            with reached(top, *directories, make=True) as folder:
                for part, kind in zip(self._parts(), _LOGS):
                    part.save(folder, f"{name}.{kind}")
        except OSError as error:
            ids = ", ".join(each.message.id for each in self.executions)
            warn(f"message {ids}: its output could not be kept: {told(error)}")

    @abstractmethod
    def _let_go(self) -> None:
        """Close what it holds."""


class Invocation(Command):
    """A process that was started for its messages, and ends with them."""

    _process: Process

    def __init__(
        self, executions: Sequence[Execution], surroundings: Surroundings
    ) -> None:
        """Start it.

        Where this raises something, nothing runs. CommandNotFound: no message can be run here.
        Unfit: these messages can't be. OSError: this node, or a directory, has no room for them.
        """
        super().__init__(executions, surroundings)
        self._token = executions[0].token
        first = executions[0].message.message
        self._streams = open_streams(surroundings, text_of(first))
        try:
            self._process = self._start(surroundings)
        except (DdmqError, OSError):
            self._let_go()
            raise
        finally:
            for stream in self._streams:
                stream.started()
        self._readers = {stream.read_end: stream for stream in self._streams}

    def _start(self, surroundings: Surroundings) -> Process:
        """Put the messages into arguments, environment and standard input; start the process."""
        stdin = self._options.stdin
        values = [each.values for each in self.executions]
        arguments = filled_for_all(surroundings.words, values, append=not stdin)
        own = given_variables(self._options, self._common_values())
        for text in (*arguments, *own.values()):
            if "\0" in text:
                raise Unfit(
                    "its text holds a NUL and can be no argument or variable; use --stdin"
                )
            if len(encoded(text)) > MAX_ARGUMENT:
                raise Unfit(
                    f"its text is over {MAX_ARGUMENT} bytes and can be no argument or "
                    "variable; use --stdin"
                )
        environ = {**self._environment(surroundings), **own}
        given = None
        if stdin:
            given = filled_file(self._options.spool, self._standard_input())
        try:
            return started_process(
                arguments,
                environ,
                self._streams,
                stdin=given,
                cores=cores_of(self.slot, self._options),
                mark=f"DDMQ_RUN={self._token}",
                program=surroundings.words[0],
            )
        finally:
            if given is not None:
                os.close(given)

    def _common_values(self) -> Mapping[str, str]:
        """Return what placeholders stand for in variables: no message, where it may get several."""
        values = self.executions[0].values
        if self._options.batch == 1:
            return values
        return {name: values[name] for name in SLOTS}

    def _standard_input(self) -> bytes:
        """Return the text of the one message as it is, or those of several as lines."""
        texts = [each.values[""] for each in self.executions]
        if self._options.batch == 1:
            return texts[0].encode()
        return "".join(f"{text}\n" for text in texts).encode()

    def _environment(self, surroundings: Surroundings) -> dict[str, str]:
        """Return the command's environment; what can be no variable is left out.

        Where it has several messages, what differs between them is left out, too.
        """
        variables = {"run": self._token, "slot": str(self.slot)}
        variables.update(surroundings.of_progress)
        if len(self.executions) == 1:
            variables.update(self.executions[0].variables())
        if self._options.batch > 1:
            variables["batch"] = str(len(self.executions))
        return with_variables(surroundings.environ, **fitting(variables))

    # Running

    def outcome(self) -> Outcome | None:
        """Return how the process ended, None while it runs."""
        outcome = self._process.outcome()
        if outcome is not None and self._ended is None:
            self._ended = self._clock.monotonic()
            for stream in list(self._readers.values()):  # it may have said why it ended
                self._pump(stream)
        return outcome

    def readers(self) -> dict[int, Callable[[], object]]:
        """Return what to call when an output can be read."""
        readers = self._readers.items()
        return {fd: partial(self._pump, s) for fd, s in readers if not s.is_held_up}

    def writers(self) -> dict[int, Callable[[], object]]:
        """Return nothing: it got all that it gets."""
        return {}

    def _pump(self, stream: Stream) -> None:
        """Take what is in a stream, and listen to it no more at its end."""
        if not stream.pump():
            self._readers.pop(stream.read_end, None)

    def _parts(self) -> Sequence[Part]:
        return [stream.part for stream in self._streams]

    def _let_go(self) -> None:
        for stream in self._streams:
            stream.close()


# What each kind of command begins with


def fits(executions: Sequence[Execution], surroundings: Surroundings) -> bool:
    """Tell whether messages can be the arguments of one command, together.

    No C library knows for sure what the kernel takes. What is too much all the same is Unfit.
    """
    words, options = surroundings.words, surroundings.options
    values = [each.values for each in executions]
    arguments = filled_for_all(words, values, append=not options.stdin)
    if any("\0" in text or len(text) > MAX_ARGUMENT // 4 for text in arguments):
        return False
    if options.stdin and any("\n" in each[""] for each in values):
        return False
    variables = [*surroundings.environ.items(), *options.env.items()]
    texts = [*arguments, *(f"{name}={value}" for name, value in variables)]
    # Each has a NUL at its end, and a pointer to it.
    needed = sum(len(encoded(text)) + 9 for text in texts)
    return needed + _SPARE_BYTES < min(os.sysconf("SC_ARG_MAX"), _MOST_BYTES)


def given_variables(
    options: WorkerOptions, values: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables that the user gave."""
    given = options.env
    return dict(zip(given, filled(list(given.values()), values, append=False)))


def fitting(variables: Mapping[str, str]) -> dict[str, str]:
    """Return those that can be variables."""
    return {
        name: text
        for name, text in variables.items()
        if "\0" not in text and len(encoded(text)) + _NAME < MAX_ARGUMENT
    }


def open_streams(surroundings: Surroundings, text: str) -> list[Stream]:
    """Open one for standard error, and one for standard output unless that is the worker's.

    It is the worker's own where nobody else prints there: a single slot, no logs, no progress. The
    tag is made of `text`. OSError: there is no room for them.
    """
    options = surroundings.options
    is_above_line = any(output.is_above_line for output in surroundings.outputs)
    is_tidy = options.group or options.tag or is_above_line
    is_shared = options.slots > 1 or is_tidy
    how: dict[str, Any] = {"lines": is_shared}
    if options.has_logs or options.group:
        how["limit"] = options.log_limit
    if not options.has_logs:
        how.update(group=options.group, tag=tag_of(text, options))
    passed_on: tuple[Output | None, ...] = surroundings.outputs
    if options.has_logs:
        passed_on = None, None
    elif not is_shared:
        passed_on = passed_on[1:]
    streams: list[Stream] = []
    may_do_without = is_shared and not (options.has_logs or is_tidy)
    with ExitStack() as stack:
        for number, output in enumerate(passed_on):
            stream = Stream(options.spool, output=output, **how)
            stack.callback(stream.close)
            stack.callback(stream.started)
            if number == 0 and may_do_without and stream.write_end + 2 > most_files():
                stack.close()  # lines may be mixed then, which is better than to run nothing
                continue
            check_room(stream.write_end)
            streams.append(stream)
        stack.pop_all()
    return streams


def check_room(descriptor: int) -> None:
    """Refuse a descriptor that others need: OSError."""
    if descriptor > most_files():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "a pipe")


def most_files() -> int:
    """Return how many descriptors commands may have, ours with theirs."""
    return os.sysconf("SC_OPEN_MAX") - _SPARE_FILES


def tag_of(text: str, options: WorkerOptions) -> str:
    """Return what is put before each line: the text, which no terminal obeys, and a tab."""
    return f"{printable(text[:_TAG])}\t" if options.tag else ""


def cores_of(slot: int, options: WorkerOptions) -> Sequence[int] | None:
    """Return the cores on which the commands of a slot run, None: on any."""
    return share_of_cores(slot, options.slots) if options.bind else None


def started_process(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    streams: Sequence[Stream],
    *,
    stdin: int | None,
    reply: int | None = None,
    cores: Sequence[int] | None,
    mark: str,
    program: str,
) -> Process:
    """Start a process with its outputs.

    CommandNotFound: it can't be run on this node. Unfit: its arguments are too long, or the
    program can't be run that its message names. OSError: this node has no room for it.
    """
    try:
        return Process(
            arguments,
            environ,
            stdin=stdin,
            stdout=streams[-2].write_end if len(streams) > 1 else None,
            stderr=streams[-1].write_end,
            reply=reply,
            cores=cores,
            mark=mark,
        )
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise Unfit(
                "its text is too long for the arguments; use --stdin"
            ) from error
        if error.errno in NOT_NOW:
            raise OSError(error.errno, error.strerror, program) from error
        why = f"{error.strerror}{_hint(error, arguments[0])}"
        if set(names_in(program)) - SLOTS:
            named = quoted(arguments[0][:_TAG])
            raise Unfit(f"it names the program {named}: {why}") from error
        raise CommandNotFound(f"{program}: {why}; nothing was run") from error


def _hint(error: OSError, program: str) -> str:
    """Say what may be the matter with a program that can't be started."""
    if error.errno == errno.ENOEXEC:
        return "; does it begin with #!?"
    if error.errno == errno.EACCES and "/" in program:
        return f" (chmod +x {quoted(program)}?)"
    if error.errno == errno.ENOENT and "/" in program and os.path.isfile(program):
        return (
            ", but not for this file: its first line names an interpreter that is not there "
            "(CRLF line ends?)"
        )
    return ""
