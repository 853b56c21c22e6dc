"""One message being run: its process, its outputs, its result."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

from ddmq.errors import DdmqError
from ddmq.hpc.folder import reached
from ddmq.hpc.guardian import kill_marked
from ddmq.hpc.placeholders import fields_of, filled, text_of, values_of, variable
from ddmq.hpc.result import Result, is_result, remove_leftovers
from ddmq.hpc.runner import MAX_ARGUMENT, Outcome, Process
from ddmq.hpc.stream import Stream, filled_file
from ddmq.hpc.trouble import told
from ddmq.log import warn
from ddmq.names import new_token
from ddmq.scheduler import with_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ddmq.clock import Clock
    from ddmq.hpc.options import Options
    from ddmq.message import Message


#: Files that are left to whoever consumes, renews, syncs and kills beside the commands.
_SPARE_FILES = 8
#: Why no command starts for a while, whichever it is: too many processes or files, …
_NODE_IS_FULL = (
    *(errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
    *(errno.ETXTBSY, errno.EIO, errno.ESTALE),
)
#: Seconds until what did not die of a kill is killed again.
_KILL_AGAIN = 1.0


class CommandNotFound(DdmqError):
    """The command can't be run on this node: no message is to blame."""


class Unfit(DdmqError):
    """The message can't be given to the command; the text says why, and what would do."""


class Execution:
    """One message in one slot, from its start to its end.

    `message` is under its present lease, which need not be the one that it began with; it is
    `lost` while somebody else may have it. What was killed for that, or timed out, says so.
    """

    def __init__(
        self,
        message: Message,
        slot: int,
        command: Sequence[str],
        options: Options,
        environ: Mapping[str, str],
        clock: Clock,
    ) -> None:
        """Start the command. Raises CommandNotFound or Unfit: then nothing runs.

        Nor does it after an OSError: this node, or a directory, has not what it takes.
        """
        self.message = message
        self.slot = slot
        self.timed_out = self.lost = self.was_killed = False
        self.started = clock.own_ns() / 1e9
        self._options = options
        self._clock = clock
        self._began = clock.monotonic()
        self._token = new_token()
        self._ended: float | None = None
        self._result = self._new_result()
        self._streams: list[Stream] = []
        self._terminated_at: float | None = None
        self._killed_at: float | None = None
        try:
            self._open_streams()
            self._process = self._start(command, environ)
        except (DdmqError, OSError):
            self._let_go()
            raise
        finally:
            for stream in self._streams:
                stream.started()
        self._readers = {stream.read_end: stream for stream in self._streams}

    # Starting

    @property
    def _logs(self) -> bool:
        return self._options.log_dir is not None and self._options.logs != "none"

    def _new_result(self) -> Result | None:
        directory = self._options.output_dir
        if directory is None:
            return None
        if not is_result(self.message.id):
            raise Unfit(
                f"its id {self.message.id} was not made by ddmq, and names no result; "
                "publish it again, with `ddmq publish`"
            )
        if self.message.requeue_counter:
            remove_leftovers(directory, self.message.id)
        return Result(directory, self.message.id, self._token)

    def _open_streams(self) -> None:
        """Open one for standard error, or, where logs are kept, one for each output."""
        limit = self._options.log_limit if self._logs else 0
        for passed_on in (None, None) if self._logs else (2,):
            stream = Stream(self._options.spool, limit=limit, passed_on=passed_on)
            self._streams.append(stream)
            if stream.write_end + _SPARE_FILES > os.sysconf("SC_OPEN_MAX"):
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "a pipe")

    def _start(self, command: Sequence[str], environ: Mapping[str, str]) -> Process:
        message, stdin = self.message, self._options.stdin
        values = values_of(message.message, message.id, self.slot)
        arguments = filled(command, values, append=not stdin)
        _check_arguments(arguments)
        given = filled_file(self._options.spool, values[""].encode()) if stdin else None
        try:
            return Process(
                arguments,
                self._environment(environ),
                stdin=given,
                stdout=self._streams[0].write_end if self._logs else None,
                stderr=self._streams[-1].write_end,
            )
        except OSError as error:
            raise _not_started(command[0], error) from error
        finally:
            if given is not None:
                os.close(given)

    def _environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        message = self.message
        variables = {
            "id": message.id,
            "message": text_of(message.message),
            "priority": str(message.priority),
            "slot": str(self.slot),
            "failures": str(message.failures),
            "losses": str(message.losses),
            "requeue_counter": str(message.requeue_counter),
            "run": self._token,
            **{variable(k): v for k, v in fields_of(message.message).items()},
        }
        if self._result is not None:
            variables["output"] = self._result.path
        return with_variables(
            environ, **{k: v for k, v in variables.items() if _fits(v)}
        )

    # Running

    def readers(self) -> dict[int, Callable[[], object]]:
        """Return what to call when a descriptor can be read."""
        return {descriptor: self._pump(s) for descriptor, s in self._readers.items()}

    def _pump(self, stream: Stream) -> Callable[[], object]:
        def pump() -> None:
            if not stream.pump():
                self._readers.pop(stream.read_end, None)

        return pump

    def outcome(self) -> Outcome | None:
        """Return how the command ended, None while it runs."""
        outcome = self._process.outcome()
        if outcome is not None and self._ended is None:
            self._ended = self._clock.monotonic()
        return outcome

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
        """Ask the command to end within the grace."""
        if self._terminated_at is None:
            self._terminated_at = self._clock.monotonic()
            self._process.send(number)

    def kill(self) -> None:
        """End it and everything that it started, wherever that went.

        What hangs in the kernel, or runs under sudo, outlives that: `watch` repeats it.
        """
        self._killed_at = self._clock.monotonic()
        self._process.send(signal.SIGKILL)
        kill_marked(f"DDMQ_RUN={self._token}")

    # Afterwards

    def tail(self) -> str:
        """Return the last lines of standard error."""
        return self._streams[-1].tail()

    @property
    def may_have_result(self) -> bool:
        """Whether its command was told where to write one."""
        return self._result is not None

    def keep_result(self, *, sync: bool) -> None:
        """Make what the command wrote the one result of its message."""
        if self._result is not None:
            self._result.keep(sync=sync)

    def close(self, log: str) -> None:
        """Let go of its outputs, saved as `log`.out and .err; remove an unkept result."""
        self._pump_rest()
        if log:
            self._save(log)
        self._let_go()

    def _save(self, log: str) -> None:
        """Make two files, and the directories that they are in, below the directory of logs."""
        top = self._options.log_dir or "."
        *directories, name = os.path.relpath(log, top).split("/")
        try:
            with reached(top, *directories, make=True) as folder:
                for stream, kind in zip(self._streams, ("out", "err")):
                    stream.save(folder, f"{name}.{kind}")
        except OSError as error:
            warn(
                f"message {self.message.id}: its output could not be kept: {told(error)}"
            )

    def _pump_rest(self) -> None:
        for pump in self.readers().values():
            pump()

    def _let_go(self) -> None:
        for stream in self._streams:
            stream.close()
        if self._result is not None:
            self._result.discard()


def _fits(text: str) -> bool:
    """Tell whether a text can be a variable; its name takes some of the room."""
    return "\0" not in text and len(text.encode()) + 300 < MAX_ARGUMENT


def _check_arguments(arguments: Sequence[str]) -> None:
    for argument in arguments:
        if "\0" in argument:
            raise Unfit("its text holds a NUL and can be no argument; use --stdin")
        if len(os.fsencode(argument)) > MAX_ARGUMENT:
            raise Unfit(
                f"its text is over {MAX_ARGUMENT} bytes and can be no argument; use --stdin"
            )


def _not_started(program: str, error: OSError) -> Exception:
    if error.errno == errno.E2BIG:
        return Unfit("its text is too long for the arguments; use --stdin")
    if error.errno in _NODE_IS_FULL:
        return OSError(error.errno, error.strerror, program)
    hint = "; does it begin with #!?" if error.errno == errno.ENOEXEC else ""
    return CommandNotFound(f"{program}: {error.strerror}{hint}; nothing was run")
