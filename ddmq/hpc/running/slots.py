"""The commands of one worker that run, one in each slot, and what they print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddmq.errors import warn
from ddmq.holding.heartbeat import key_of
from ddmq.hpc.running.execution import Ended
from ddmq.hpc.running.launcher import Launcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ddmq.clock import Clock
    from ddmq.hpc.limits import Limits
    from ddmq.hpc.running.command import Command, Surroundings
    from ddmq.hpc.signals import Signals
    from ddmq.message import Message

#: Seconds until a reader of our output that took nothing more is asked again.
_READER_WAIT = 0.1
#: Seconds for which what was killed is waited for in the end, and between two looks.
_DIES, _LOOK = 2.0, 0.01


class Slots:
    """The slots of one worker: what runs in them, and which are free.

    Here all waiting is done: whatever happens to a command, its output or this process ends it.
    """

    def __init__(
        self, surroundings: Surroundings, signals: Signals, clock: Clock
    ) -> None:
        self.running: list[Command] = []
        self.free = list(range(surroundings.options.slots, 0, -1))
        self._launcher = Launcher(surroundings)
        self._outputs = surroundings.outputs
        self._troubled: set[str] = set()
        """The outputs of which it was told that they lose something."""
        self._grace = surroundings.options.grace
        self._term_signal = surroundings.options.term_signal
        self._signals = signals
        self._clock = clock

    def launch(self, messages: Sequence[Message]) -> Command:
        """Start a command in a free slot, for as many of the messages as fit into one.

        Where this raises something, nothing runs, and the slot is free: see Launcher.
        """
        command = self._launcher.launch(messages, self.free[-1])
        self.free.pop()
        self.running.append(command)
        return command

    def collect(self) -> list[Ended]:
        """Return what has ended; its slots are free. Of the rest, end what takes too long.

        Each command is asked first whether it has ended: a worker that looks late, as it was
        stopped or waited for a disk, must not take the time until its look for the command's.
        """
        ended = []
        for command in list(self.running):
            outcome = command.outcome()
            if outcome is None:
                command.watch()
            else:
                self.running.remove(command)
                self.free.append(command.slot)
                ended += [Ended(each, outcome) for each in command.executions]
        return ended

    def lose(self, message: Message) -> None:
        """Kill the command that runs for a message whose lease is lost."""
        for command in self.running:
            for execution in command.executions:
                if key_of(execution.message) == key_of(message):
                    warn(
                        f"message {message.id}: its lease is lost, and its command killed; "
                        "others may have consumed it"
                    )
                    execution.lost = command.was_killed = True
                    command.kill()

    def cancel(self, message: Message) -> None:
        """Ask the command to end that runs for a message which somebody cancelled."""
        for command in self.running:
            for execution in command.executions:
                if key_of(execution.message) == key_of(message):
                    warn(
                        f"message {message.id}: it is cancelled, and its command ended"
                    )
                    execution.cancelled = True
                    command.terminate()

    # Waiting, and what is printed

    def wait(self, seconds: float) -> None:
        """Wait until a signal, a command's end or its output, but not longer."""
        if not self.print_waiting():
            seconds = _READER_WAIT
        readers = self._launcher.idle_readers(
            {command.slot for command in self.running}
        )
        writers: dict[int, Callable[[], object]] = {}
        for command in self.running:
            readers.update(command.readers())
            writers.update(command.writers())
        self._signals.wait(seconds, readers, writers)

    @property
    def is_output_full(self) -> bool:
        """Whether nobody reads what the commands print."""
        return any(output.is_full for output in self._outputs)

    @property
    def is_within_line(self) -> bool:
        """Whether something that commands printed has no end yet."""
        return any(output.is_within_line for output in self._outputs)

    def print_waiting(self) -> bool:
        """Print what waits; False: its reader does not take it all now."""
        are_done = [each.flush() for each in self._outputs]
        for name, output in zip(("output", "error"), self._outputs):
            if output.trouble and name not in self._troubled:
                self._troubled.add(name)
                warn(
                    f"standard {name}: {output.trouble}; some of what commands print is lost"
                )
        return all(are_done)

    # The end

    def terminate(self) -> None:
        """Ask the commands to end; those that stay end with what they do now."""
        self._launcher.dismiss()
        for command in self.running:
            command.terminate(self._term_signal)

    def dismiss(self, until: float, limits: Limits) -> None:
        """Let commands that stay end at the end of their input, or by a signal after the grace.

        Where it is time to drain, there is one grace for both, `until` a moment on the monotonic
        clock.
        """
        is_asked = False
        while not self._launcher.dismiss():
            left = until - self._clock.monotonic()
            is_hurried = limits.must_drain()
            is_late = left <= 0 and (is_asked or is_hurried)
            if is_late or self._signals.haste_requested:
                return
            if not is_asked and (left <= 0 or is_hurried):
                is_asked = True
                self._launcher.terminate(self._term_signal)
                until += 0.0 if is_hurried else self._grace
            self.wait(min(max(left, 0.0), 1.0))

    def print_the_rest(self, limits: Limits) -> None:
        """Wait for whoever reads what commands printed, unless it is time to end."""
        until = self._clock.monotonic() + self._grace
        while not self.print_waiting():
            shall_end = limits.stopped or self._signals.drain_requested
            is_late = shall_end and self._clock.monotonic() > until
            if is_late or self._signals.haste_requested:
                return
            self._signals.wait(_READER_WAIT, {})

    def kill(self) -> None:
        """Kill what still runs."""
        running, self.running = self.running, []
        for command in running:
            try:
                command.kill()
            except OSError as error:  # the others are killed all the same
                ids = ", ".join(each.message.id for each in command.executions)
                warn(f"message {ids}: its command lives on: {error}")

    def close(self) -> None:
        """Kill the processes that stay, too; what hangs in the kernel is not waited for."""
        self._launcher.close()
        until = self._clock.monotonic() + _DIES
        while not self._launcher.has_left() and self._clock.monotonic() < until:
            self._signals.wait(_LOOK, {})
