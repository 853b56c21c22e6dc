"""Starts what runs for messages: a process for each, or for a batch, or one that stays."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from ddmq.hpc.running.command import Invocation, fits, most_files
from ddmq.hpc.running.execution import Execution, Unfit
from ddmq.hpc.running.progress import SlotProgress, remove_leftovers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ddmq.hpc.running.command import Command, Surroundings
    from ddmq.hpc.running.persistent import Standing
    from ddmq.message import Message


class Launcher:
    """Starts the commands of one worker."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        #: What commands of each slot are given: the same, and where they say how far they are.
        self._of_slots: dict[int, Surroundings] = {}
        self._standing: dict[int, Standing] = {}
        self._leaving: list[Standing] = []

    def launch(self, messages: Sequence[Message], slot: int) -> Command:
        """Start what runs for messages: for as many of the first ones as fit into one command.

        Where this raises something, nothing runs. CommandNotFound: no message can be run here.
        Unfit: the first message can't be. OSError: this node, or a directory, has no room for it.
        """
        surroundings = self._surroundings_of(slot)
        with ExitStack() as stack:
            executions = []
            options, root = surroundings.options, surroundings.environ.get("DDMQ_ROOT")
            for message in messages:
                executions.append(Execution(message, slot, options, root or ""))
                stack.callback(executions[-1].discard_result)
            while len(executions) > 1 and not fits(executions, surroundings):
                del executions[len(executions) // 2 :]
            command = self._started(executions, surroundings)
            stack.pop_all()
        return command

    def _started(
        self, executions: list[Execution], surroundings: Surroundings
    ) -> Command:
        """Start a command for as many of the first messages as the kernel takes together."""
        if surroundings.options.persistent:
            return self._turn(executions[0])
        while True:
            try:
                return Invocation(executions, surroundings)
            except Unfit:
                if len(executions) == 1:
                    raise
                del executions[len(executions) // 2 :]

    def _surroundings_of(self, slot: int) -> Surroundings:
        """Return what commands of a slot are given; nobody needs to know how far they are."""
        if slot not in self._of_slots:
            progress, spool = None, self._surroundings.options.spool
            if not self._of_slots:
                remove_leftovers(spool)
            with suppress(OSError):
                worker = self._surroundings.environ.get("DDMQ_WORKER", "")
                progress = SlotProgress(spool, worker)
            if progress is not None and progress.descriptor > most_files() // 2:
                progress.close()
                progress = None
            self._of_slots[slot] = self._surroundings._replace(progress=progress)
        return self._of_slots[slot]

    def _turn(self, execution: Execution) -> Command:
        """Give a message to the process of its slot, which is started where there is none."""
        from ddmq.hpc.running.persistent import Exchange  # not every worker has any

        slot = execution.slot
        standing = self._standing.get(slot)
        if standing is None or not standing.is_idle:
            standing = self._anew(slot)
        surroundings = self._surroundings_of(slot)
        return Exchange(execution, surroundings, standing, lambda: self._anew(slot))

    def _anew(self, slot: int) -> Standing:
        from ddmq.hpc.running.persistent import Standing

        before = self._standing.pop(slot, None)
        if before is not None:
            before.close()
            self._leaving.append(before)
        self.has_left()
        surroundings = self._surroundings_of(slot)
        started = self._standing[slot] = Standing(slot, surroundings)
        return started

    # Processes that stay

    def idle_readers(self, busy: set[int]) -> dict[int, Callable[[], object]]:
        """Return what to call when a process prints something and its slot is not `busy`."""
        idle = [each for slot, each in self._standing.items() if slot not in busy]
        return {
            fd: read
            for each in idle
            for fd, read in each.readers(answers=False).items()
        }

    def dismiss(self) -> bool:
        """Tell the processes that there are no more messages; False: some have not ended yet."""
        for standing in self._standing.values():
            standing.dismiss()
        return all(each.ended() is not None for each in self._standing.values())

    def terminate(self, number: int) -> None:
        """Ask the processes to end by a signal."""
        for standing in self._standing.values():
            standing.send(number)

    def has_left(self) -> bool:
        """Tell whether all that was killed has ended; what has leaves no zombie."""
        self._leaving = [each for each in self._leaving if each.ended() is None]
        return not self._leaving

    def close(self) -> None:
        """Kill what is left."""
        for standing in self._standing.values():
            standing.close()
        self._leaving += self._standing.values()
        self._standing.clear()
        for surroundings in self._of_slots.values():
            if surroundings.progress is not None:
                surroundings.progress.close()
        self._of_slots.clear()
