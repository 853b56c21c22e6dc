"""How many messages a worker takes, and when no more: its job ends, or too much has failed."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from ddmq.errors import InvalidArgument, warn
from ddmq.storage.names import MAX_RANGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ddmq.hpc.options import WorkerOptions
    from ddmq.hpc.running.execution import Ended
    from ddmq.hpc.signals import Notice
    from ddmq.hpc.worker import Job

#: Seconds before the end of a job within which its scheduler's warning is one of the end.
_ABOUT_TO_END = 300.0
_PERCENTILE = 0.95
_MOST_KNOWN = 2000
#: Seconds of work that a worker takes ahead for each slot.
_AHEAD = 2.0
#: A worker notes together that messages are started which it starts within so many seconds.
_SOON = 0.1
#: Seconds after which messages are given back that were taken ahead, and found no free slot.
AHEAD_AT_MOST = 10.0
#: A failure within so many seconds is a fast one.
_FAST = 5.0
#: Messages after which a share of failures means something.
_ENOUGH = 10


class Durations:
    """How long the commands of the last 2,000 messages took."""

    def __init__(self, known: Iterable[float] = ()) -> None:
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []
        for seconds in known:
            self.add(seconds)

    def add(self, seconds: float) -> None:
        """Note one more; the oldest of too many is forgotten."""
        if len(self._recent) == _MOST_KNOWN:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]
        self._recent.append(seconds)
        insort(self._sorted, seconds)

    def percentile(self) -> float:
        """Return the seconds that 95 of 100 runs did not exceed, 0 when none is known."""
        if not self._sorted:
            return 0.0
        return self._sorted[int(len(self._sorted) * _PERCENTILE)]


class Deadline(NamedTuple):
    """The end of the job, by the monotonic clock: setting the node's time does not move it."""

    at: float | None
    """Seconds of the monotonic clock; None: it never ends."""
    least: float = 0.0
    """Seconds that must remain whatever the durations say."""
    fixed: float | None = None
    """`--min-remaining`, instead of what the durations say."""
    warning: str = ""
    """The signal by which the scheduler announces the end, and nothing else; empty: none."""
    is_schedulers: bool = False
    """Whether the scheduler, and not the user, says when the end is."""

    def allows(self, now: float, durations: Durations) -> bool:
        """Tell whether a message that starts now would finish."""
        if self.at is None:
            return True
        return now + self.min_remaining(durations) <= self.at

    def min_remaining(self, durations: Durations) -> float:
        """Return the seconds that a message needs: 95 of 100 took no longer."""
        if self.fixed is not None:
            return self.fixed
        return max(self.least, durations.percentile())

    def passes_in(self, now: float, grace: float) -> float | None:
        """Return the seconds until the commands must be asked to end."""
        return None if self.at is None else self.at - grace - now

    def ended(
        self, now: float, grace: float, durations: Durations, notice: Notice | None
    ) -> bool:
        """Tell whether a worker that stops now does so because the time of the job is over.

        Whoever cancels a job, however near its end, sends a signal too. So after a signal that is
        no warning, the time was over only if our own clock had said so before.
        """
        if self.at is None:
            return False
        if notice is not None and notice.signal != self.warning:
            return self.at - grace <= notice.at
        needed = max(self.min_remaining(durations), _ABOUT_TO_END)
        return self.at - grace - now <= needed


def refuse_too_short(
    time: float, grace: float, margin: float, dash: str = "--"
) -> None:
    """Raise InvalidArgument where no message would be started in the `time` of a job.

    No message is started when less than the `margin` remains. The options are named with a `dash`
    before them.
    """
    if time > grace + margin:
        return
    rule, less = "", f"{dash}grace {time / 10:g}"
    if margin:
        rule = f", and no message is started when less than {margin:g} s remain"
        less = f"shorten {dash}grace or {dash}min-remaining"
    raise InvalidArgument(
        f"{dash}time is {time:g} s, but the last {grace:g} s are for the commands to end "
        f"({dash}grace){rule}, so none ever would be; give {dash}time more "
        f"than {grace + margin:g}{'s' if dash else ''}, or {less}"
    )


def grace_within(deadline: Deadline, now: float, grace: float) -> float:
    """Return the seconds that commands get to end in a job that may be very short.

    A user's own deadline may contradict the grace, which `refuse_too_short` says. The scheduler's
    does not depend on what the worker is told, so here the grace is shortened.
    """
    left = 0.0 if deadline.at is None else deadline.at - now
    margin = deadline.fixed or 0.0
    if not deadline.is_schedulers or left <= 0 or left > grace + margin:
        return grace
    remaining = f" + --min-remaining {margin:g} s" if margin else ""
    warn(
        f"the job ends in {left:.1f} s, which is not more than --grace {grace:g} s{remaining}: "
        f"commands get {left / 10:.1f} s to end"
    )
    return left / 10


def to_take(free: int, slots: int, usual: float, batch: int = 1) -> int:
    """Return how many messages to take for the free ones of all slots; `usual` are the seconds.

    Where commands are short, more are taken at once: each slot's work for two seconds. A message
    that waits here for a slot waits no longer than that.
    """
    ahead = int(_AHEAD * slots / usual) * batch if usual else 0
    return min(free * batch + ahead, max(MAX_RANGE, free * batch))


class Limits:
    """The limits of one worker, and how near it is to them.

    `stopped` says why no more messages are taken. `is_broken` says that this node seems to be
    the reason, and no message. `is_braked` says that the first commands all failed, `is_drained`
    that somebody asked it to drain by a request in the queue. `started` counts the messages that
    were taken.
    """

    def __init__(self, options: WorkerOptions, job: Job) -> None:
        self.stopped = ""
        self.is_broken = self.is_braked = self.is_drained = False
        self.started = 0
        self._options = options
        most = options.max_messages
        are = "message was" if most == 1 else "messages were"
        self._all_started = f"{most} {are} started"
        self._deadline = job.deadline
        self._durations = job.durations
        self._signals = job.signals
        self._clock = job.clock

    def must_drain(self) -> bool:
        """Tell whether the commands must be asked to end now."""
        left = self.time_left()
        if self._signals.drain_requested:
            why = "it was asked to drain"
        elif left is not None and left <= 0:
            why = "its time is over"
        else:
            return False
        if not self.is_braked:
            self.stopped = why
        return True

    def time_left(self) -> float | None:
        """Return the seconds until the commands must be asked to end; None: no such time comes."""
        return self._deadline.passes_in(self._now(), self._options.grace)

    def must_stop(self, broken: str, *, again: bool = False) -> bool:
        """Tell whether no more messages are to be taken; `broken` says why none can be.

        `again`: one is to be started that was before, in a batch that failed. It counts once.
        """
        if broken:
            self.stop_broken(broken)
        if again and self.stopped == self._all_started and not self.is_broken:
            return False
        return bool(self.stopped)

    def may_start(self, *, again: bool = False) -> bool:
        """Tell whether another message may be started, or one be started again."""
        most = self._options.max_messages
        if most is not None and self.started >= most:
            self.stopped = self._all_started
        elif not self._deadline.allows(self._now(), self._durations):
            self.stopped = "too little time remains for another message"
        return not self.must_stop("", again=again)

    def how_many(self, slots: int) -> int:
        """Return how many messages to take for so many free slots."""
        options = self._options
        usual = self._durations.percentile()
        number = to_take(slots, options.slots, usual, options.batch)
        most = options.max_messages
        return number if most is None else max(min(number, most - self.started), 1)

    def how_many_started(self, free: int) -> int:
        """Return how many messages are started in so many slots, or within a tenth of a second."""
        options, usual = self._options, self._durations.percentile()
        soon = int(_SOON * options.slots / usual) if usual else 0
        return max(free, soon) * options.batch

    def for_one_command(self, share: int) -> int:
        """Return how many messages a command may get, where each slot has a share of so many."""
        number, most = min(self._options.batch, share), self._options.max_messages
        return number if most is None else min(number, max(most - self.started, 1))

    def stop_broken(self, why: str) -> None:
        """Take no more: what goes wrong here is no message's fault. What runs goes on."""
        self.stopped = self.stopped or why
        self.is_broken = True

    def brake(self, why: str) -> None:
        """Take no more, since the first commands all failed. What runs goes on."""
        self.stopped = why
        self.is_braked = True

    def drain(self) -> None:
        """Take no more, since somebody asked for that. What runs goes on."""
        if not self.stopped:
            self.stopped = "it was asked to drain, by `ddmq drain`"
            self.is_drained = True

    def is_fast_failure(self, ended: Ended) -> bool:
        """Tell whether a command failed so fast that this node may be the reason."""
        execution, outcome = ended
        if self._options.fast_failures is None or outcome.succeeded:
            return False
        if execution.lost or execution.was_killed:
            return False
        return execution.duration < _FAST

    def note_fast_failures(self, in_a_row: int) -> None:
        """Note how many commands failed fast, one after the other."""
        if in_a_row == self._options.fast_failures and not self.is_broken:
            self.is_broken = True
            self.stopped = (
                f"this node looks broken: {in_a_row} failures in a row within seconds"
            )

    def note_results(self, numbers: Mapping[str, int]) -> None:
        """Note how many messages came to which end."""
        failed, runs = numbers["failed"], numbers["failed"] + numbers["acked"]
        most, share = self._options.max_failures, self._options.max_failed_share
        many = most is not None and failed >= most
        if share is not None and runs >= _ENOUGH:
            many = many or failed >= share * runs
        if many and not self.stopped:
            self.stopped = f"{failed} of {runs} messages failed"

    def note_duration(self, seconds: float) -> None:
        """Note how long a command took that succeeded."""
        self._durations.add(seconds)

    def is_at_end(self) -> bool:
        """Tell whether the time of the job is over, so that its chain goes on.

        After a brake it does not: the next job would fail as well. After a request to drain
        neither: whoever asked does not want another job.
        """
        if self.is_braked or self.is_drained:
            return False
        grace, notice = self._options.grace, self._signals.notice
        return self._deadline.ended(self._now(), grace, self._durations, notice)

    def _now(self) -> float:
        return self._clock.monotonic()
