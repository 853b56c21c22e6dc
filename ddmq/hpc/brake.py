"""The brake: a worker whose first commands all fail stops, and gives their messages back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddmq.hpc.settling import is_special

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ddmq.clock import Clock
    from ddmq.hpc.limits import Limits
    from ddmq.hpc.options import WorkerOptions
    from ddmq.hpc.running.command import Command
    from ddmq.hpc.running.execution import Ended
    from ddmq.hpc.settling import Settler

#: Commands that must have failed, where there are fewer slots.
_FIRST = 10
#: A command that runs for longer, in seconds, is none that fails at once.
_AT_ONCE = 5.0
#: Seconds for which a failure is held at most.
_LONGEST = 300.0
#: Characters of the last line that a command said.
_WORDS = 200


class Brake:
    """Holds the failures of a worker that had no success yet, until it is known whose fault it is.

    A command that succeeds shows that this worker can work: the failures are those of their
    messages, from then on too. Where the first ten have failed (or as many as there are slots)
    and none has succeeded, the worker stops. What is held is given back, and counts nothing.

    A message that has failed before proves nothing against this worker, so it is not held and
    does not count here.
    """

    def __init__(
        self, settler: Settler, limits: Limits, options: WorkerOptions, clock: Clock
    ) -> None:
        self._settler = settler
        self._limits = limits
        self._options = options
        self._clock = clock
        self._enough = max(_FIRST, options.slots)
        self._is_on = options.brake and options.fast_failures is None
        self._failed = 0
        self._held: list[tuple[float, Ended]] = []
        """Each with the time on the monotonic clock since when it is held."""

    def note(self, ended: Iterable[Ended]) -> None:
        """Let go for ever if one of these runs, which ended at the same time, did not fail."""
        if self._is_on and any(map(self._works, ended)):
            self._is_on = False
            self.settle()

    def _works(self, ended: Ended) -> bool:
        ended_itself = not ended.execution.was_killed
        is_meant = is_special(ended, self._options) and ended_itself
        return ended.went_well or is_meant

    def holds(self, ended: Ended) -> bool:
        """Hold a command that failed, or give its message back; False: settle it now."""
        run = ended.execution
        if not self._is_on or run.lost or run.was_killed or run.message.failures:
            return False
        run.forgo_result()
        self._failed += 1
        self._held.append((self._clock.monotonic(), ended))
        if self._failed >= self._enough:
            self._give_back()
        else:
            numbers = self._settler.numbers
            failed = numbers["failed"] + len(self._held)
            self._limits.note_results({**numbers, "failed": failed})
        return True

    def pause(self, running: Iterable[Command]) -> float:
        """Return the seconds for which to start nothing, since what runs may be about to fail.

        So commands that fail at once are no more than are needed to know it. Those that run for
        longer keep no slot empty.
        """
        if not self._is_on or not self._failed:
            return 0.0
        lefts = [_AT_ONCE - command.duration for command in running]
        young = [left for left in lefts if left > 0]
        if self._failed + len(young) < self._enough:
            return 0.0
        return min(young, default=0.0)

    def settle(self, *, only_late: bool = False) -> bool:
        """Settle what is held as failures of their messages; tell whether there were any.

        `only_late`: only what has been held for long, so that its retry is not kept back.
        """
        until = self._clock.monotonic() - (_LONGEST if only_late else 0.0)
        due = [each for since, each in self._held if since <= until]
        self._held = [pair for pair in self._held if pair[0] > until]
        for each in due:
            self._settler.settle(each)
        return bool(due)

    def _give_back(self) -> None:
        """Stop the worker, and give back what is held: more of it comes when others end."""
        held, self._held = self._held, []
        if not self._limits.is_braked:
            last = held[-1][1]
            what = "their messages are given back, and nothing counts"
            if len(held) != self._failed:
                what = (
                    f"{len(held)} of their messages are given back, and count nothing"
                )
            self._limits.brake(
                f"the first {self._failed} commands all failed, the last one: "
                f"{self._how_it_ended(last)}; {what}; --no-brake goes on all the same"
            )
        for _, each in held:
            self._settler.release(each)

    def _how_it_ended(self, ended: Ended) -> str:
        how = str(ended.outcome)
        if ended.execution.timed_out:
            how = f"timed out after {self._options.timeout:g} s"
        said = ended.execution.tail().rpartition("\n")[2].strip()
        return f"{how} ({said[:_WORDS]})" if said else how
