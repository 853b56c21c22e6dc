"""One message being run: the place of its result, and the command that has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ddmq.errors import DdmqError
from ddmq.hpc.faults import BadOutput
from ddmq.hpc.options import TIMEOUT
from ddmq.hpc.placeholders import fields_of, text_of, values_of, variable
from ddmq.hpc.results.result import Result, is_result, remove_leftovers
from ddmq.hpc.signals import DRAIN
from ddmq.storage.names import new_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ddmq.hpc.options import WorkerOptions
    from ddmq.hpc.running.command import Command
    from ddmq.hpc.running.process import Outcome
    from ddmq.message import Message


class CommandNotFound(DdmqError):
    """The command can't be run on this node: no message is to blame."""


class Unfit(DdmqError):
    """The message can't be given to the command; the text says why, and what would do."""


class Execution:
    """One message in one slot, from its start to its end.

    `message` has its present lease, which need not be the one that the run began with. The run is
    `lost` while somebody else may have its message, and `cancelled` since it was asked to end for
    somebody who cancelled it. `output` is the name of its result once that
    is kept. How the command does is told of all its messages at once.
    """

    command: Command
    """What runs for it, alone or for others too. It is there as soon as something runs."""

    def __init__(
        self, message: Message, slot: int, options: WorkerOptions, root: str = ""
    ) -> None:
        """Prepare the place of its result, if one is wanted.

        Unfit: it can have none. OSError: the directory has no room for it.
        """
        self.message = message
        self.slot = slot
        self.lost = self.cancelled = False
        self.output = ""
        self.token = new_token()
        self.values = values_of(message.message, message.id, slot)
        """What placeholders stand for."""
        self._result = self._new_result(options, root)

    def _new_result(self, options: WorkerOptions, root: str) -> Result | None:
        directory = options.output_dir
        if directory is None:
            return None
        if not is_result(self.message.id):
            raise Unfit(
                f"its id {self.message.id} was not made by ddmq, and names no result; "
                "publish it again, with `ddmq publish`"
            )
        if self.message.requeue_counter:
            remove_leftovers(directory, self.message.id)
        template, id_ = options.output_name, self.message.id
        if template is None:
            return Result(directory, id_, self.token)
        from ddmq.hpc.results import output_names  # rarely needed

        try:
            name = output_names.name_for(template, self.values)
            home = output_names.home_of(f"{root}/{self.message.queue}")
            reservation = output_names.Reservation(name, id_, self.token, home)
            return Result(directory, id_, self.token, reservation)
        except BadOutput as error:
            raise Unfit(str(error)) from error

    def variables(self) -> dict[str, str]:
        """Return what a command is told of it: in its environment, for one."""
        message = self.message
        variables = {
            "id": message.id,
            "message": text_of(message.message),
            "priority": str(message.priority),
            "slot": str(self.slot),
            "failures": str(message.failures),
            "losses": str(message.losses),
            "requeue_counter": str(message.requeue_counter),
            **{variable(k): v for k, v in fields_of(message.message).items()},
        }
        if self._result is not None:
            variables["output"] = self._result.path
        return variables

    @property
    def output_path(self) -> str | None:
        """Where its command is to write a result, None: nowhere."""
        return None if self._result is None else self._result.path

    # How its command does

    @property
    def started(self) -> float:
        """When its command got it, in seconds since 1970."""
        return self.command.started

    @property
    def duration(self) -> float:
        """Seconds since the start, to the end if it has ended."""
        return self.command.duration

    @property
    def timed_out(self) -> bool:
        """Whether the command took too long."""
        return self.command.timed_out

    @property
    def was_killed(self) -> bool:
        """Whether the command was killed since a lease of its was lost."""
        return self.command.was_killed

    @property
    def is_interrupted(self) -> bool:
        """Whether the command was asked to end, as one of its messages was cancelled."""
        return any(each.cancelled for each in self.command.executions)

    @property
    def log(self) -> str:
        """Where the outputs are saved, without `.out` and `.err`; empty: nowhere."""
        return self.command.log

    @property
    def logged(self) -> str:
        """Which of its logs there are: `out`, `err`, both with a space between them, or none."""
        return self.command.logged

    def outcome(self) -> Outcome | None:
        """Return how the command ended, None while it runs."""
        return self.command.outcome()

    def tail(self) -> str:
        """Return the last lines of standard error."""
        return self.command.tail()

    # Afterwards

    @property
    def may_have_result(self) -> bool:
        """Whether its command was told where to write one."""
        return self._result is not None

    def lines(self) -> Iterator[str]:
        """Yield the lines of what the command wrote, without those that are empty."""
        return iter(()) if self._result is None else self._result.lines()

    def keep_result(self, *, sync: bool) -> None:
        """Make what the command wrote the one result of its message."""
        if self._result is not None and self._result.keep(sync=sync):
            self.output = self._result.name

    def forgo_result(self) -> None:
        """Remove what it wrote, and leave the name of its result to others: it has failed."""
        if self._result is not None:
            self._result.discard()
            self._result = None

    def close(self, *, save: bool, acked: bool = False) -> None:
        """Let go of its outputs, which may be saved before; remove an unkept result."""
        self.command.close(save=save)
        self.discard_result(acked=acked)

    def discard_result(self, *, acked: bool = False) -> None:
        """Remove what was not kept."""
        if self._result is not None:
            self._result.discard(is_over=acked)


class Ended(NamedTuple):
    """A command that ended, and how."""

    execution: Execution
    outcome: Outcome

    @property
    def code(self) -> int | str:
        """The exit status, as shells have it; `timeout`, whatever a late command made of it."""
        return TIMEOUT if self.execution.timed_out else self.outcome.code

    @property
    def answer(self) -> str:
        """What a command that stays said in time; empty: nothing."""
        return "" if self.execution.timed_out else self.outcome.answer

    @property
    def went_well(self) -> bool:
        """Whether it succeeded in time."""
        run = self.execution
        return self.outcome.succeeded and not (run.timed_out or run.is_interrupted)

    @property
    def counts_in_a_drain(self) -> bool:
        """Whether a drain has not interrupted it: it succeeded, or had taken too long before."""
        return self.outcome.succeeded or self.execution.timed_out

    @property
    def is_certain(self) -> bool:
        """Whether it succeeded, or we ended it ourselves."""
        run = self.execution
        ours = run.timed_out or run.lost or run.was_killed or run.is_interrupted
        return ours or self.outcome.succeeded

    @property
    def was_signalled(self) -> bool:
        """Whether a signal ended it that asks a worker to drain, and we did not send it."""
        return not self.is_certain and self.outcome.code - 128 in DRAIN
