"""The workers of a queue, all together, and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.clock import span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddmq import Counts, Failure, Running, WorkerSeen

_MINUTE = 60


class Workforce(NamedTuple):
    """The workers of a queue, all together."""

    workers: int
    """How many live."""
    slots: int
    busy: int
    lost: int
    """How many were killed, or are not heard of, and ended nothing."""
    rate: float | None
    """Messages a second; None: nobody knows yet."""
    done_in: float | None
    """Seconds until all that is there now is done, at that rate; None: nobody knows."""
    unseen_for: float
    """Seconds since a worker gave a sign of life."""
    done: int
    """Messages that they acked, with those that ended and are still remembered.

    A message that was moved is not done: it is in the other queue.
    """

    @classmethod
    def of(cls, found: Sequence[WorkerSeen], counts: Counts) -> Workforce | None:
        """Return those of a queue; None: no worker was ever seen, within a week."""
        if not found:
            return None
        live = [each for each in found if each.is_live]
        rates = [each.rate for each in live if each.busy]
        known = [rate for rate in rates if rate is not None]
        # Of the busy ones that have finished nothing yet, the others tell the rate.
        busy = sum(x.busy for x in live if x.rate is not None)
        slots_busy = sum(each.busy for each in live)
        rate = sum(known) * slots_busy / busy if known and busy else None
        # Of the last ones, which all run, the mean says nothing: one of them may take long.
        left = 0 if ending(counts) else sum(counts[:3])
        return cls(
            workers=len(live),
            slots=sum(each.slots for each in live),
            busy=slots_busy,
            lost=[each.state for each in found].count("lost"),
            rate=rate,
            done_in=left / rate if rate and left else None,
            unseen_for=max(min(each.age for each in found), 1.0),
            done=sum(each.acked for each in found),
        )

    def told(self, counts: Counts) -> str:
        """Say it in a line; empty: there is nothing to say."""
        if not self.workers:
            if counts.waiting or counts.delayed:
                return (
                    f"No worker runs: the last one was seen {span(self.unseen_for)} ago"
                )
            if counts.work and self.lost:
                return "No worker runs: what lost ones held comes back when its time is over"
            return ""
        workers = "1 worker" if self.workers == 1 else f"{self.workers:,} workers"
        text = f"{workers}, {self.busy:,} of {self.slots:,} slots busy"
        if self.rate:
            text += f", {in_words(self.rate)}"
        if self.done_in is not None:
            text += f", done in about {span(self.done_in)}"
        elif (self.done or counts.work) and (end := ending(counts)):
            text += f", {end}"
        return text

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return self._asdict()


def ending(counts: Counts | None) -> str:
    """Say that nothing waits, and what is left; empty: something waits, or nobody knows."""
    if counts is None or counts.waiting or counts.delayed:
        return ""
    if counts.work:
        return "only leased messages are left"
    return "everything is finished" + ", but for the dead letters" * bool(counts.dead)


def of_all(found: Sequence[WorkerSeen]) -> str:
    """Say how many workers there are in each state."""
    states = [each.state for each in found]
    parts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return ", ".join(parts) or "no worker has been seen"


def in_words(rate: float) -> str:
    """Say how many messages are finished, by the minute, or by the hour where these are few."""
    unit, number = ("minute", rate * _MINUTE)
    if number < 1:
        unit, number = "hour", number * 60
    text = f"{number:,.0f}" if number >= 10 else f"{number:.2g}"
    return (
        f"{text} message{'' if text == '1' else 's'} a{'n' * (unit == 'hour')} {unit}"
    )


def with_progress(text: str, run: Running) -> str:
    """Add to a text how far a command is, where that said so."""
    return f"{text} ({run.progress})" if run.progress else text


def why(failure: Failure, worker: WorkerSeen) -> str:
    """Return why something failed, without the host and the text, which stand beside it."""
    how, found, said = failure.reason.partition(f" on {worker.host}")
    reason = how + said if found and said[:1] in ("", ":") else failure.reason
    return reason.replace(failure.text, "…") if len(failure.text) > 2 else reason
