"""What a client sees that looks into a queue and takes nothing: messages, counts, workers; pure.

A client that only publishes, consumes or settles needs none of this, and doesn't import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ddmq.storage.dead_letters import Dead
    from ddmq.storage.names import Entry


class Seen(NamedTuple):
    """A message as it is shown to somebody who does not take it."""

    message: Any
    """None where it can't be read, and where there is none."""
    id: str
    queue: str
    state: str
    """Where it is: waiting, work, delayed or dead."""
    priority: int
    failures: int
    losses: int
    own: Mapping[str, Any] = {}
    """What it sets itself of timeout, requeue, requeue_prio and requeue_limit."""
    published_priority: int | None = None
    """The priority that it was published with."""
    until: float | None = None
    """When its lease ends, or its delay, in seconds since 1970."""
    host: str = ""
    """Where its holder is, if the lease tells."""
    process: int | None = None
    """The holder's process there."""
    code: str = ""
    """Why it is dead, in a word."""
    reason: str = ""
    """Why it is dead, in words."""
    note: Mapping[str, Any] = {}
    """What else is known of its death."""
    fault: str = ""
    """Why its text is not here."""
    is_none: bool = False
    """Whether the fault is that there is no message in it, which stays so."""

    @property
    def content_priority(self) -> int:
        """The priority that its content says: the published one, as far as that is known."""
        known = self.published_priority
        return self.priority if known is None else known

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON types, without what is true of other states only."""
        found = self._asdict()
        del found["is_none"], found["own"]
        if self.state not in ("work", "delayed"):
            del found["until"]
        if self.state != "work":
            del found["host"], found["process"]
        if self.state != "dead":
            del found["code"], found["reason"], found["note"]
        if not self.fault:
            del found["fault"]
        return {**found, **self.own}


class Counts(NamedTuple):
    """How many messages are in each state."""

    waiting: int
    work: int
    delayed: int
    dead: int


class Unrenewed(NamedTuple):
    """Messages at work whose lease nobody renewed for over half of its timeout.

    A worker renews after a third. So their consumer is gone, or does not renew.
    """

    number: int = 0
    age: float | None = None
    """Seconds since the renewal, or the consume, that is longest ago."""
    back_in: float | None = None
    """Seconds until all of them are back, unless they are renewed or settled."""


class Pause(NamedTuple):
    """Who paused a queue, as far as the link tells that does so."""

    user: str = ""
    host: str = ""
    since: float | None = None
    """When, in seconds since 1970."""

    def __str__(self) -> str:
        """Say it as the end of a sentence: who, and when."""
        from ddmq.clock import date  # rarely needed

        if self.since is None:
            return "by nobody knows whom"
        return f"by {self.user} on {self.host}, {date(self.since)}"


class Overview(NamedTuple):
    """How many messages are in each state, and how many have a consumer that may be dead."""

    counts: Counts
    unrenewed: Unrenewed
    paused: Pause | None = None
    """Who paused the queue; None: nobody did, and workers take what waits."""


class Running(NamedTuple):
    """A message that a worker has run for long."""

    slot: int
    id: str
    started: float
    """Seconds since 1970, by the file server's clock."""
    text: str
    """The beginning of it."""
    progress: str = ""
    """What its command last said of how far it is; empty: nothing."""


class Failure(NamedTuple):
    """A message whose command failed in a worker."""

    id: str
    ended: float
    """Seconds since 1970, by the file server's clock."""
    text: str
    """The beginning of it."""
    reason: str


class Activity(NamedTuple):
    """What a worker tells of what it does, beside its name."""

    running: tuple[Running, ...] = ()
    """What runs for more than ten seconds, by slot."""
    failures: tuple[Failure, ...] = ()
    """The latest ones, the oldest first."""
    ends: float | None = None
    """When its job ends, in seconds since 1970; None: it does not say."""


class WorkerSeen(NamedTuple):
    """A worker as others see it: what it last said of itself. Nothing depends on it."""

    host: str
    process: int
    job: str
    """The id of its batch job, with `_<index>` in an array; empty outside of one."""
    state: str
    """`working`, `idle`, `paused`, `draining`, `braking`, `away` (the file server was), `ended`; or
    `lost`: it said nothing for long."""
    slots: int
    busy: int
    acked: int
    failed: int
    released: int
    moved: int
    work: float
    """Seconds for which its slots were busy with what has ended, together."""
    peak_kib: int
    """The most memory of a command that has ended."""
    started: float
    """When it started, in seconds since 1970."""
    seen: float
    """When it last said something, in seconds since 1970."""
    age: float
    """How many seconds ago that was."""
    running: tuple[Running, ...] = ()
    """What runs for more than ten seconds, where somebody asked for that."""
    failures: tuple[Failure, ...] = ()
    """Its latest failures, the oldest first, where somebody asked what runs."""
    ends: float | None = None
    """When its job ends, in seconds since 1970, as far as it said."""

    @property
    def is_live(self) -> bool:
        """Whether it has neither ended nor been lost."""
        return self.state not in ("ended", "lost")

    @property
    def tells(self) -> bool:
        """Whether there may be more to be read of it: what runs, and what failed."""
        return self.is_live and bool(self.busy or self.failed)

    @property
    def rate(self) -> float | None:
        """Messages a second that it finishes, as busy as it is; None: nobody knows yet."""
        done = self.acked + self.failed + self.moved
        return self.busy * done / self.work if done and self.work else None

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return {
            **self._asdict(),
            "rate": self.rate,
            "running": [each._asdict() for each in self.running],
            "failures": [each._asdict() for each in self.failures],
        }


class DeadLetter(NamedTuple):
    """A message that will not be tried again unless somebody redrives it."""

    message: Any
    """None where the file holds no message."""
    id: str
    queue: str
    priority: int
    failures: int
    losses: int
    reason: str
    filename: str
    """Its name in `dead/`."""
    note: Mapping[str, Any]
    """What else is known, such as the details that the rejecting consumer gave."""

    @property
    def requeue_counter(self) -> int:
        """How often it came back; the last time, when it became a dead letter, counts too."""
        return self.failures + self.losses

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return {**self._asdict(), "requeue_counter": self.requeue_counter}


def letter(queue: str, dead: Dead, message: Any, note: Mapping[str, Any]) -> DeadLetter:
    """Return the dead letter of a name in `dead/`."""
    entry = dead.entry
    reason = note.get("reason")
    if not isinstance(reason, str) or not reason:
        reason = _reason(dead.code, entry)
    return DeadLetter(
        message,
        entry.id,
        queue,
        entry.priority,
        entry.failures,
        entry.losses,
        reason,
        dead.filename,
        note,
    )


def _reason(code: str, entry: Entry) -> str:
    counted = f"{entry.failures} failures and {entry.losses} losses"
    return {
        "failed": f"failed, and not to be tried again after {counted}",
        "expired": f"its lease expired, and not to be tried again after {counted}",
        "rejected": "rejected by its consumer",
        "invalid": "its file holds no message",
        "foreign": "not a message of ddmq",
    }.get(code, code)
