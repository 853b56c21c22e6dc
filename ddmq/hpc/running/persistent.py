"""A command that stays: it gets one message after the other, and answers each."""

from __future__ import annotations

import json
import os
import select
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ddmq.errors import DdmqError, warn
from ddmq.hpc.placeholders import filled, text_of
from ddmq.hpc.running.command import (
    Command,
    check_room,
    cores_of,
    fitting,
    given_variables,
    open_streams,
    started_process,
    tag_of,
)
from ddmq.hpc.running.process import REPLY, Outcome
from ddmq.schedulers import with_variables
from ddmq.storage.names import new_token
from ddmq.untrusted import parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ddmq.hpc.running.command import Surroundings
    from ddmq.hpc.running.execution import Execution
    from ddmq.hpc.running.process import Process
    from ddmq.hpc.running.stream import Part

#: What a command may answer.
ANSWERS = ("ack", "nack", "release", "reject")
#: Bytes of an answer, and characters of the reason in it.
_LONGEST_ANSWER, _LONGEST_REASON = 1 << 16, 1000
#: Seconds in which a process ends that has closed the descriptor on which it answers.
_LAST_STEPS = 5.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Standing:
    """The process of one slot, which stays from message to message.

    It gets each as a line of JSON on standard input, and answers with one on `DDMQ_REPLY_FD`.
    """

    def __init__(self, slot: int, surroundings: Surroundings) -> None:
        """Start it; CommandNotFound or OSError: it can't be."""
        self.answered = 0
        """How many messages it has answered."""
        self._latest = ""
        self._token = new_token()
        self.has_hung_up = False
        """Whether it has closed the descriptor on which it answers, or its standard input."""
        self._unsent = bytearray()
        self._heard = b""
        self._is_mute = False
        self._cpu = 0.0
        self._was_signalled = False
        self.streams = open_streams(surroundings, "")
        self._process = self._start(slot, surroundings)
        self._readers = {stream.read_end: stream for stream in self.streams}

    def _start(self, slot: int, surroundings: Surroundings) -> Process:
        """Start the process with its pipes; where that fails, nothing stays open."""
        slots = {"slot": str(slot), "slot0": str(slot - 1)}
        own = given_variables(surroundings.options, slots)
        variables = {"run": self._token, "slot": str(slot), "reply_fd": str(REPLY)}
        variables.update(surroundings.of_progress)
        environ = {**with_variables(surroundings.environ, **fitting(variables)), **own}
        with ExitStack() as ours, ExitStack() as theirs:
            for stream in self.streams:
                ours.callback(stream.close)
                theirs.callback(stream.started)
            stdin, self._write = os.pipe2(os.O_CLOEXEC)
            theirs.callback(os.close, stdin)
            ours.callback(os.close, self._write)
            self._read, reply = os.pipe2(os.O_CLOEXEC)
            ours.callback(os.close, self._read)
            theirs.callback(os.close, reply)
            check_room(max(stdin, self._write, self._read, reply))
            os.set_blocking(self._write, False)
            os.set_blocking(self._read, False)
            process = started_process(
                filled(surroundings.words, slots, append=False),
                environ,
                self.streams,
                stdin=stdin,
                reply=reply,
                cores=cores_of(slot, surroundings.options),
                mark=f"DDMQ_RUN={self._token}",
                program=surroundings.words[0],
            )
            ours.pop_all()  # they stay open
        return process

    # What goes in and out

    def give(self, line: bytes) -> None:
        """Give it a message: as much of it as it takes now, and the rest when it takes more."""
        self._unsent += line
        self.send_more()

    def send_more(self) -> None:
        """Send what it takes of what is not sent; what it will never read is forgotten."""
        try:
            while self._unsent:
                del self._unsent[: os.write(self._write, self._unsent)]
        except BlockingIOError:
            pass  # it takes more when it has read
        except BrokenPipeError:
            self.has_hung_up = True
            self._unsent.clear()

    def answer(self) -> bytes | None:
        """Return the next line that it said, None: there is no whole one.

        A line that is longer than any answer is returned before it has ended.
        """
        if b"\n" not in self._heard:
            with suppress(BlockingIOError):
                data = os.read(self._read, _LONGEST_ANSWER)
                self._heard += data
                self._is_mute = not data
                self.has_hung_up = self.has_hung_up or self._is_mute
        line, end, rest = self._heard.partition(b"\n")
        if not end and len(line) < _LONGEST_ANSWER:
            return None
        self._heard = rest
        return line

    def count_answer(self, id_: str) -> None:
        """Note which message it has answered."""
        self.answered += 1
        self._latest = id_

    def passes_over(self, line: bytes, id_: str) -> bool:
        """Tell whether a line, the first since a message was given, is for the one before.

        That one is settled, so a second answer changes nothing. After a third one, who knows what
        it does.
        """
        before, self._latest = self._latest, ""
        if not before or before == id_:
            return False
        try:
            said: Any = parsed(line)
        except ValueError:
            return False
        return isinstance(said, dict) and said.get("id") == before

    def readers(self, *, answers: bool) -> dict[int, Callable[[], object]]:
        """Return what to call when an output can be read, or an answer, if that is asked for."""
        readers = self._readers.items()
        found: dict[int, Callable[[], object]] = {
            fd: partial(self._pump, fd) for fd, s in readers if not s.is_held_up
        }
        if answers and not self._is_mute:
            found[self._read] = int  # that it can be read ends a wait
        return found

    def writers(self) -> dict[int, Callable[[], object]]:
        """Return what to call when it takes more."""
        return {self._write: self.send_more} if self._unsent else {}

    def _pump(self, descriptor: int) -> None:
        if not self._readers[descriptor].pump():
            del self._readers[descriptor]

    def said(self) -> list[Part]:
        """Return what it printed for the message that it had, to be closed by the caller."""
        for descriptor in list(self._readers):
            self._pump(descriptor)
        return [stream.cut() for stream in self.streams]

    # Its process

    @property
    def is_idle(self) -> bool:
        """Whether it lives, reads, was not told to end, and said nothing that nobody asked for."""
        if self._was_signalled or self._process.outcome() is not None:
            return False
        poll = select.poll()
        poll.register(self._write, 0)  # tells only that nobody reads at the other end
        return self.answer() is None and not self.has_hung_up and not poll.poll(0)

    def ended(self) -> Outcome | None:
        """Return how the process ended, None while it runs."""
        return self._process.outcome()

    def used(self) -> tuple[float, int]:
        """Return the CPU seconds since the last call, and the memory that it has now, in KiB.

        What it started and waited for is counted.
        """
        try:
            with open(f"/proc/{self._process.pid}/stat", "rb") as file:
                fields = file.read().rpartition(b") ")[2].split()
            ticks = sum(map(int, fields[11:15]))
            pages = int(fields[21])
        except (OSError, ValueError, IndexError):  # it has ended, or this is no Linux
            return 0.0, 0
        before, self._cpu = self._cpu, ticks / _TICKS
        return self._cpu - before, pages * os.sysconf("SC_PAGESIZE") // 1024

    def send(self, number: int) -> None:
        """Send it a signal, after which it gets no more."""
        self._was_signalled = True
        self._process.send(number)

    def kill(self) -> None:
        """Kill it and everything that it started."""
        self._was_signalled = True
        self._process.kill()

    def dismiss(self) -> None:
        """Tell it that there are no more messages."""
        self._unsent.clear()
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    def close(self) -> None:
        """Kill what is left of it, and let go of it."""
        self.dismiss()
        self.kill()
        for stream in self.streams:
            stream.close()
        os.close(self._read)


class Exchange(Command):
    """One message at a command that stays."""

    _process: Standing

    def __init__(
        self,
        execution: Execution,
        surroundings: Surroundings,
        standing: Standing,
        anew: Callable[[], Standing],
    ) -> None:
        """Give a message to the process; `anew` starts another in its place."""
        super().__init__([execution], surroundings)
        self._execution = execution
        self._process = standing
        self._anew = anew
        self._line = _line(execution)
        self._hung_up_at: float | None = None
        self._outcome: Outcome | None = None
        self._said: list[Part] = []
        self._tag = tag_of(text_of(execution.message.message), surroundings.options)
        self._give()

    def _give(self) -> None:
        for stream in self._process.streams:  # what it said before is no message's
            stream.cut(self._tag).close()
        self._process.give(self._line)

    def outcome(self) -> Outcome | None:
        """Return what it answered, or how it ended without an answer; None: neither yet."""
        if self._outcome is None:
            self._outcome = self._heard()
            if self._outcome is not None:
                self._ended = self._clock.monotonic()
                self._said = self._said or self._process.said()
        return self._outcome

    def _answer(self) -> tuple[str, str] | None:
        """Return its answer as `_read` does, but for a second one for the message before."""
        line, id_ = self._process.answer(), self._execution.message.id
        if line is None:
            return None
        answer = _read(line, id_)
        if answer[0] or not self._process.passes_over(line, id_):
            return answer
        warn(
            f"message {id_}: the command answered once more for the one before, "
            "which is passed over"
        )
        line = self._process.answer()
        return None if line is None else _read(line, id_)

    def _heard(self) -> Outcome | None:
        told, ended = self._answer(), None
        if told is None:
            ended = self._process.ended()
            if ended is not None:
                told = self._answer()  # its last word, between the two looks
        if told is not None:
            cpu, memory = self._process.used()
            answer, why = told
            if answer:
                self._process.count_answer(self._execution.message.id)
            else:  # who knows what it does next
                self._process.kill()
            return Outcome(0, cpu, memory, answer or "nack", why)
        if self._process.has_hung_up and self._hung_up_at is None:
            self._hung_up_at = self._clock.monotonic()
        if ended is None or not ended.succeeded:
            return ended
        if self.was_told_to_end or not self._process.answered:
            return ended._replace(answer="nack", why="it ended and answered nothing")
        # It has ended of itself after others: this one it never began, or may begin again.
        said = self._process.said()  # nothing can be read when another is in its place
        try:
            self._process, self._hung_up_at = self._anew(), None
            self._began = self._clock.monotonic()
        except (DdmqError, OSError) as error:
            self._said = said
            # It is told in full when the next one is started.
            return Outcome(0, answer="release", why=str(error))
        for part in said:
            part.close()
        self._give()
        return None

    def due_in(self) -> float | None:
        """Return the seconds until `watch` has something to do, None for never."""
        due = super().due_in()
        if self._hung_up_at is None or self.was_told_to_end:
            return due
        left = max(self._hung_up_at + _LAST_STEPS - self._clock.monotonic(), 0.0)
        return left if due is None else min(due, left)

    def watch(self) -> None:
        """Ask it to end when its time is over, or when it can't answer any more."""
        due = super().due_in()
        if due != 0 and self.due_in() == 0:
            self.terminate()
        else:
            super().watch()

    def readers(self) -> dict[int, Callable[[], object]]:
        """Return what to call when an output, or the answer, can be read."""
        return self._process.readers(answers=True)

    def writers(self) -> dict[int, Callable[[], object]]:
        """Return what to call when it takes more of the message."""
        return self._process.writers()

    def _parts(self) -> Sequence[Part]:
        return self._said or [stream.part for stream in self._process.streams]

    def _let_go(self) -> None:
        for part in self._said:
            part.close()


def _line(execution: Execution) -> bytes:
    """Return what a command is told of a message, as a line of JSON."""
    message = execution.message
    told = {
        "id": message.id,
        "message": message.message,
        "output": execution.output_path,
        "priority": message.priority,
        "slot": execution.slot,
        "failures": message.failures,
        "losses": message.losses,
        "requeue_counter": message.requeue_counter,
    }
    return json.dumps(told).encode() + b"\n"


def _read(line: bytes, id_: str) -> tuple[str, str]:
    """Return what a command answered and why; nothing, and what is wrong, if it is no answer."""
    try:
        said: Any = parsed(line)
    except ValueError:
        return "", f"it answered {line[:100]!r}, which is no JSON"
    if not isinstance(said, dict):
        return "", f"it answered {line[:100]!r}, which is no JSON object"
    if said.get("id") != id_:
        return "", f"it answered for {said.get('id')!r}, and was asked for {id_!r}"
    answers = [name for name in ANSWERS if said.get(name)]
    if len(answers) != 1:
        return (
            "",
            f"it answered {line[:100]!r}; write one of {', '.join(ANSWERS)}: true",
        )
    value, why = said[answers[0]], said.get("reason", "")
    if isinstance(value, str) and not why:
        why = value
    return answers[0], why[:_LONGEST_REASON] if isinstance(why, str) else ""
