"""Whose fault it is that commands fail, and so when each is settled: at once, or later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddmq.hpc.brake import Brake
from ddmq.hpc.settling import asks_for_later, is_special

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ddmq.clock import Clock
    from ddmq.hpc.limits import Limits
    from ddmq.hpc.options import WorkerOptions
    from ddmq.hpc.poller import Poller
    from ddmq.hpc.running.command import Command
    from ddmq.hpc.running.execution import Ended
    from ddmq.hpc.settling import Settler
    from ddmq.hpc.supply import Supply


class Triage:
    """Sorts what has ended in one worker.

    Each message of a batch that failed is run again by itself. A failure may be the fault of this
    node, or of a command that can't work at all. It is held until it is known to be its message's,
    and settled then. All else is settled at once, by the Settler.
    """

    def __init__(
        self,
        settler: Settler,
        supply: Supply,
        *,
        limits: Limits,
        poller: Poller,
        options: WorkerOptions,
        clock: Clock,
    ) -> None:
        self._settler = settler
        self._supply = supply
        self._limits = limits
        self._options = options
        self._poller = poller
        self._brake = Brake(settler, limits, options, clock)
        self._fast_failures: list[Ended] = []

    def settle(self, ended: list[Ended]) -> None:
        """Settle what has ended, or hold it, and leave the list empty."""
        ended[:] = [each for each in ended if not self._runs_alone(each)]
        for each in [each for each in ended if each.execution.cancelled]:
            ended.remove(each)  # which says nothing of this node
            self._settler.settle(each)
        self._brake.note(ended)
        acked = self._settler.ack_together(ended)
        while ended:
            each = ended.pop(0)
            if self._brake.holds(each):
                continue
            is_meant = is_special(each, self._options)
            if not is_meant and self._limits.is_fast_failure(each):
                each.execution.forgo_result()
                self._fast_failures.append(each)
                self._limits.note_fast_failures(len(self._fast_failures))
                if self._limits.is_broken:
                    for failure in self._fast_failures:
                        self._settler.release(failure)
                    self._fast_failures.clear()
                continue
            self.settle_fast_failures()
            if each not in acked:
                self._settler.settle(each)
            if each.outcome.succeeded:
                self._limits.note_duration(each.execution.duration)
            self._limits.note_results(self._settler.numbers)

    def _runs_alone(self, ended: Ended) -> bool:
        """Let a message whose batch failed be run by itself: so it shows which one is to blame."""
        execution = ended.execution
        if len(execution.command.executions) == 1 or ended.went_well:
            return False
        if execution.lost or execution.was_killed or execution.cancelled:
            return False
        if asks_for_later(ended, self._options):
            return False
        self._settler.forget(ended)
        self._supply.alone.append(execution.message)
        self._limits.started -= 1  # it is started once more
        return True

    def pause(self, running: Iterable[Command]) -> float:
        """Return the seconds for which to start nothing, since what runs may be about to fail."""
        return self._brake.pause(running)

    def settle_fast_failures(self) -> bool:
        """Settle what failed fast as failures of its messages; tell whether there were any."""
        failures, self._fast_failures = self._fast_failures, []
        for each in failures:
            self._settler.settle(each)
        if failures:
            self._poller.look_at_once()
        return bool(failures)

    def settle_braked(self, *, only_late: bool = False) -> None:
        """Settle what the brake holds: all of it, or what it has held for long."""
        if self._brake.settle(only_late=only_late):
            self._poller.look_at_once()
