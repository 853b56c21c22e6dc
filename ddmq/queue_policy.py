"""What the settings mean for the messages of one queue: tried again, or dead letters.

A message that failed is tried again, or becomes a dead letter. Its own limits decide that, and
the settings where it has none. `ddmq.storage` knows how each of these is done on disk, but not
why.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import groupby
from math import inf
from typing import TYPE_CHECKING, Any

from ddmq.errors import (
    DdmqError,
    InvalidArgument,
    MessageNotFound,
    QueuePaused,
    inform,
    warn,
)
from ddmq.message import (
    UNSET,
    Content,
    Message,
    Policy,
    Publication,
    PublishOptions,
    content_of,
    encode,
    encode_message,
)
from ddmq.settings import Limit
from ddmq.storage.filesystem import IMMOVABLE
from ddmq.storage.housekeeping import Housekeeper
from ddmq.storage.names import Lease, make, policy_of
from ddmq.storage.ready import ConsumeCall
from ddmq.storage.settings_file import LAYOUT_EVERY, REREAD_EVERY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ddmq.message import OptionFields
    from ddmq.seen import Counts, DeadLetter, Overview, Pause, Seen
    from ddmq.settings import Settings
    from ddmq.storage.contents import Contents
    from ddmq.storage.expiry import Swept
    from ddmq.storage.settings_file import LayeredSettings
    from ddmq.storage.store import Store

#: Seconds after which a client has imported all that it may need. Whoever replaces ddmq's files
#: under it then does it no harm.
_LIVES_LONG = 10.0
#: The longest delay, in seconds, of a message that was delayed elsewhere and is restored here.
_LONGEST_DELAY = 10**9
#: How often we look again for a lease that is renewed at the same time.
_RENEWALS = 8


class QueuePolicy:
    """A queue with its storage, settings and housekeeper. Safe to use from several threads."""

    def __init__(
        self, name: str, store: Store, settings: LayeredSettings, *, cleans: bool
    ) -> None:
        # `cleans`: whether this client keeps house, or leaves that to others.
        self.name = name
        self.store = store
        self.settings = settings
        self.housekeeper = Housekeeper(name, store, settings.current)
        self.attended_at, self.due_at = inf, -inf
        """When it was attended to, and when it must be again, by the monotonic clock."""
        self._cleans = cleans
        self._opened_at = store.clock.monotonic()
        self._has_all = self._has_told_pause = False
        self._layout = store.layout

    def attend(self, now: float, *, clean: bool) -> None:
        """Do what is due: compare directories, read settings, keep house.

        A client that lists a queue must know its layout: else it would judge names that it
        can't read. An idle client lists all the time, so this check must cost little, and the
        settings may be minutes old after it.
        """
        self._layout.check_when_due()
        self.settings.current(LAYOUT_EVERY)
        if clean:
            self.housekeeper.sweep_when_due()
        self.attended_at = now
        self.due_at = min(
            self._layout.check_due_at,
            self.settings.read_at + LAYOUT_EVERY,
            self.housekeeper.due_at if self._cleans else inf,
        )
        if not self._has_all and now - self._opened_at > _LIVES_LONG:
            import_all()
            self._has_all = True

    def check_when_due(self) -> None:
        """Compare the directories with their names, at most once a second."""
        self._layout.check_when_due()

    def reread(self) -> Settings:
        """Return the settings as they are now."""
        self.settings.forget()
        return self.settings.current()

    def counts(self) -> Counts:
        """Count the messages in each state."""
        return self.store.census.counts()

    def overview(self) -> Overview:
        """Count the messages in each state, and tell which of those at work nobody renews."""
        from ddmq.seen import Overview, Unrenewed  # rarely needed

        now = self.store.clock.time()  # before the listings, which may take long
        counts, leases = self.store.census.look()
        settings = self.settings.current(LAYOUT_EVERY)
        number, ages, ends = 0, [], []
        for lease in leases:
            policy = Policy.of(lease.entry, settings)
            age = policy.unrenewed_for(lease.expiry, now)
            if age is not None and lease.number:
                number += lease.number
                ages.append(age)
                ends.append(lease.expiry / 1000)
        paused = self.pause_seen() if self.store.census.is_paused else None
        if not number:
            return Overview(counts, Unrenewed(), paused)
        back_in = max(max(ends) - now, 0.0)
        return Overview(counts, Unrenewed(number, max(ages), back_in), paused)

    def pause_seen(self) -> Pause:
        """Return who paused this queue; a listing has shown that it is paused."""
        from ddmq.storage.pause import read_pause  # rarely needed

        return read_pause(self.store)

    @property
    def contents(self) -> Contents:
        """The messages with their texts, for those who only look."""
        from ddmq.storage.contents import Contents  # rarely needed

        return Contents(self.store)

    def clean(self, *, end_leases: bool) -> Swept:
        """Do all housekeeping now; PermissionError when we may not change this queue.

        With `end_leases`, all leases count as expired.
        """
        self._layout.require_change()
        return self.housekeeper.clean(end_leases=end_leases)

    # Messages come

    def publish(
        self, message: Any, options: OptionFields, key: str | None = None
    ) -> str:
        """Publish any JSON value, unless that was done with this key; return its id.

        The caller has attended to this queue within the last second.
        """
        settings = self.settings
        # As `current` does, but without another look at the clock.
        is_new = self.attended_at - settings.read_at < REREAD_EVERY
        known = settings.known if is_new else None
        resolved = self._resolved(options, known)
        data = encode(message, resolved[0], settings.max_bytes)
        if key is None:
            return self.store.publish(data, resolved)
        from ddmq.storage.keys import Keys, name_of  # rarely needed

        keys, name = Keys(self.store), name_of(key)
        keyed = keys.find(name) or keys.publish(name, data, Publication(*resolved))
        if keyed.bundles:
            raise InvalidArgument(
                f"key {key!r:.60} is that of {keyed.number} messages that were published "
                "together; nothing was done"
            )
        return keyed.id

    def publish_many(
        self,
        messages: Iterable[Any],
        options: PublishOptions,
        key: str | None = None,
    ) -> int:
        """Publish messages, in order, unless that was done with this key; return their number."""
        publication, limit = self._publication(options), self.settings.max_bytes
        around = len(content_of(b"", publication.priority))
        encoded = (encode_message(message, around, limit) for message in messages)
        if key is None:
            return self.store.publish_many(encoded, publication)
        from ddmq.storage.keys import Keys, name_of  # rarely needed

        keys, name = Keys(self.store), name_of(key)
        keyed = keys.find(name) or keys.publish_many(name, encoded, publication)
        if keyed is None:
            return 0
        inform(f"{keyed.number} published: {keyed.first} to {keyed.last}")
        return keyed.number

    def restore(self, messages: Iterable[Seen], progress: Callable[[int], None]) -> int:
        """Publish messages that were seen, with their counts; return their number.

        `progress` is called with the number of those that are published so far.
        """
        number, limit = 0, self.settings.max_bytes
        for key, group in groupby(messages, _alike):
            if key is None:  # it has counts, or is dead: it needs a name of its own
                for each in group:
                    self._restore_one(each, limit)
                    number += 1
                    progress(number)
                continue
            priority, own, until = key
            delay = self._left_until(until)
            options = PublishOptions(priority=priority, delay=delay, **dict(own))
            alike = (each.message for each in group)
            number += self.publish_many(alike, options)
            progress(number)
        return number

    def _restore_one(self, seen: Seen, limit: int) -> None:
        """Publish one message with its counts, or make it a dead letter."""
        delay = self._left_until(seen.until if seen.state == "delayed" else None)
        options = PublishOptions(priority=seen.priority, delay=delay, **seen.own)
        publication = self._publication(options)
        data = encode(seen.message, seen.content_priority, limit)
        counts = seen.failures, seen.losses
        if seen.state != "dead":
            self.store.publish(data, publication, *counts)
            return
        self.store.publish_dead(
            data, publication, counts, code=seen.code, note=seen.note
        )

    def _left_until(self, until: float | None) -> float:
        """Return the seconds for which a message is still delayed; 0: it is due."""
        left = 0 if until is None else until - self.store.clock.time()
        return min(max(round(left, 3), 0), _LONGEST_DELAY)

    def _publication(self, options: PublishOptions) -> Publication:
        """Return what new messages have in common, or raise InvalidArgument."""
        return Publication(*self._resolved(options))

    def _resolved(
        self, options: OptionFields, settings: Settings | None = None
    ) -> tuple[int, str, float, bool]:
        """Return the fields of the `Publication` with these options, or raise InvalidArgument.

        The settings give the priority and `durable` where the publisher gives none; None: read
        them, if they are old. Anything else that the publisher leaves out is left out of the
        messages' names, too.
        """
        priority, timeout, requeue, requeue_prio, limit, delay, durable = options
        says_nothing = (  # as most publishers do: then there is nothing to check
            priority is timeout is requeue is requeue_prio is None
            and limit is UNSET
            and type(delay) is int
            and not delay
            and (durable is None or type(durable) is bool)
        )
        policy = "" if says_nothing else policy_of(PublishOptions(*options).checked())
        settings = settings or self.settings.current()
        if priority is None:
            priority = settings.priority
        if durable is None:
            durable = settings.durable
        return priority, policy, delay, durable

    # Messages are consumed

    def consume(
        self,
        n: int,
        unless: Callable[[Message], str | None] | None,
        *,
        heed_pause: bool = False,
        started: int | None = None,
    ) -> list[Message]:
        """Lease up to `n` messages, the first that wait; an empty list when none waits.

        So many of them are `started` at once; None: all. Where messages may be so large that a
        consumer may die as it reads one, all are started: else nothing would count that.

        Who finds nothing keeps house, and looks once more. With `heed_pause`, nothing is taken
        from a paused queue: QueuePaused, unless we have some already. Otherwise a pause is told
        once.
        """
        refuses = None if unless is None else _refusing(self.name, unless)
        messages: list[Message] = []
        call, may_sweep = ConsumeCall(), self._cleans
        call.heeds_pause = heed_pause
        if started is not None and self.settings.max_bytes > Limit.max_bytes:
            started = None
        while len(messages) < n:
            if started is not None:
                call.started = max(started - len(messages), 0)
            try:
                left, settings = n - len(messages), self.settings.current
                found = self.store.consume(settings, left, call, refuses)
                if not found and not messages and may_sweep:
                    may_sweep = False
                    if self.housekeeper.sweep_when_due(idle=True):
                        continue
            except (OSError, DdmqError):
                if not messages:
                    raise
                break  # we return what we have; the next call meets the error again
            if not found:
                break
            for lease, content, current in found:
                messages.append(message_of(self.name, lease, content, current))
        if self.store.buckets.is_paused:
            if not heed_pause:
                self._tell_pause()
            elif not messages:
                raise QueuePaused(
                    f"queue {self.name} is paused {self.pause_seen()}: nothing more is taken "
                    "until `ddmq resume`"
                )
        return messages

    def _tell_pause(self) -> None:
        """Tell once that we take from a queue that is paused; it is no reason to fail."""
        if self._has_told_pause:
            return
        self._has_told_pause = True
        with suppress(OSError):
            warn(
                f"queue {self.name} is paused {self.pause_seen()}; workers heed that until "
                "`ddmq resume`, and this takes what waits all the same"
            )

    def held(self, name: str) -> Message | None:
        """Return the leased message that has this id or file name; None: there is none.

        A message over the size limit was consumed under another limit. It is returned without
        its content, so that its holder can settle it.
        """
        wanted = Lease.parse(name)
        trouble: OSError | None = None
        for lease in self.store.leases.all():
            if name != lease.entry.id and not (wanted and wanted.is_same_claim(lease)):
                continue
            try:
                message = self._read(lease)
            except OSError as error:  # this may be a lease of a claim that was not made
                trouble = error
                continue
            if message is not None:
                return message
        if trouble is not None:
            raise trouble
        return None

    def _read(self, lease: Lease) -> Message | None:
        current = lease if self.store.leases.is_valid(lease) else None
        for _ in range(_RENEWALS):
            if current is None:
                break
            content = self.store.read(current, unread_if_large=True)
            if content is not None:
                return message_of(self.name, current, content, self.settings.current())
            current = self.store.leases.current(lease)  # its holder may have renewed it
        return None

    # Messages are settled: each of these tells whether we still had the lease

    def settle(self, lease: Lease, act: Callable[[Lease], bool]) -> Lease | None:
        """Do something with a lease; return None when it is done, else the lease that is lost.

        Another thread may have renewed the lease. Then we hold it under its later name.
        """
        current: Lease | None = lease
        for _ in range(_RENEWALS):
            if current is None:
                break
            if act(current):
                return None
            lease, current = current, self.store.leases.current(current)
        return lease

    def ack(self, leases: Sequence[Lease]) -> list[Lease]:
        """Finish messages; return those that are lost.

        One that an earlier ack has finished, of which the reply was lost, is not lost.
        """
        missed = []
        for lease in self.store.leases.ack(leases):
            lost = self.settle(lease, lambda x: not self.store.leases.ack([x]))
            if lost is not None and not self.store.leases.is_finished(lost):
                missed.append(lease)
        return missed

    def nack(
        self, message: Message, lease: Lease, delay: float, note: Mapping[str, Any]
    ) -> bool:
        """Requeue a message that failed, or make it a dead letter with a note."""

        def act(current: Lease) -> bool:
            failed = current.entry.failed()
            if not message.may_requeue:
                return self.store.dead_letter(current, failed, "failed", note)
            again = message.policy.requeued(failed)
            return self.store.requeue(current, again, delay)

        return self.settle(lease, act) is None

    def release(self, leases: Sequence[Lease], delay: float) -> list[Lease]:
        """Give messages back: to their old places, or after a delay to the end of the queue.

        Return those that are lost. A whole range goes back by one rename.
        """

        def act(current: Lease) -> bool:
            if delay:
                return self.store.requeue(current, current.entry, delay)
            return self.store.release(current)

        if not delay and len(leases) > 1:
            leases = self.store.leases.put_together(leases, self.store.ready.put_back)
        return [lease for lease in leases if self.settle(lease, act) is not None]

    def reject(
        self, lease: Lease, note: Mapping[str, Any], *, cancelled: bool = False
    ) -> bool:
        """Make a message a dead letter at once: `cancelled`, because somebody asked for it."""

        def act(current: Lease) -> bool:
            if cancelled:
                return self.store.cancelled.end(current)
            return self.store.dead_letter(current, current.entry, "rejected", note)

        return self.settle(lease, act) is None

    def move(self, lease: Lease, target: QueuePolicy, *, anew: bool = False) -> bool:
        """Put a message at the end of another queue; `anew`: with its counts at zero.

        One that an earlier move has put there, of which the reply was lost, is not lost. The other
        queue may have finished it since: then it is nowhere.
        """
        ready, leases = target.store.ready, self.store.leases

        def act(current: Lease) -> bool:
            entry = current.entry
            if anew:
                entry = entry._replace(failures=0, losses=0)
            return leases.move(current, entry, ready)

        lost = self.settle(lease, act)
        if lost is None or leases.is_finished(lost):
            return True
        return target is not self and target.store.leases.has_message_of(lost)

    def start(
        self, messages: Sequence[Message], leases: Sequence[Lease]
    ) -> list[Message | None]:
        """Note that messages are started; return them under their names, None for each lost one."""
        started = []
        for message, lease, found in zip(
            messages, leases, self.store.leases.start(leases)
        ):
            name = found or self._started_later(lease)
            started.append(name and message._replace(filename=name.filename))
        return started

    def _started_later(self, lease: Lease) -> Lease | None:
        """Start a message whose lease had another name than we knew; None: it is lost."""
        started: list[Lease | None] = []

        def act(current: Lease) -> bool:
            started[:] = self.store.leases.start([current])
            return started[0] is not None

        return None if self.settle(lease, act) is not None else started[0]

    def renew(
        self,
        messages: Sequence[Message],
        leases: Sequence[Lease],
        timeout: float | None,
        *,
        together: bool,
    ) -> list[Message | None]:
        """Prolong leases; return the messages under their new names, None for each that is lost.

        Each gets its own timeout where none is given.
        """
        found: list[Message | None] = []

        def seconds_of(pair: tuple[Message, Lease]) -> float:
            return pair[0].timeout if timeout is None else timeout

        for seconds, group in groupby(zip(messages, leases), seconds_of):
            pairs = list(group)
            held = [lease for _, lease in pairs]
            renewed = self.store.leases.renew(held, seconds, together=together)
            for (message, lease), longer in zip(pairs, renewed):
                if longer is None:
                    longer = self._renewed_later(lease, seconds)
                name = None if longer is None else longer.filename
                found.append(message._replace(filename=name) if name else None)
        return found

    def _renewed_later(self, lease: Lease, timeout: float) -> Lease | None:
        """Renew a lease that had another name than we knew; None: it is lost."""
        renewed: list[Lease | None] = []

        def act(current: Lease) -> bool:
            renewed[:] = self.store.leases.renew([current], timeout)
            return renewed[0] is not None

        return None if self.settle(lease, act) is not None else renewed[0]

    # Dead letters

    def dead(self) -> list[DeadLetter]:
        """Return the dead letters with their reasons, by priority and age."""
        from ddmq.seen import letter  # rarely needed

        found, letters = [], self.store.dead_letters
        for dead in letters.all():
            content, note = letters.content(dead), letters.note(dead)
            message = None if content is None else content.message
            found.append(letter(self.name, dead, message, note))
        return found

    def redrive(self, ids: set[str] | None, *, even_if_gone: bool = False) -> int:
        """Put dead letters back into the queue, all or those with these ids; return how many.

        Unless `even_if_gone`, MessageNotFound names ids of which there is no dead letter. If one
        can't be moved, all others are. Then an OSError names it.
        """
        letters = self.store.dead_letters
        found = letters.all()
        if ids is not None and not even_if_gone:
            unknown = ids - {dead.entry.id for dead in found}
            if unknown:
                named = ", ".join(sorted(map(str, unknown))[:5])
                raise MessageNotFound(
                    f"{named}: no dead letter of queue {self.name}; nothing was changed; "
                    "`ddmq dead` lists them"
                )
        cancelled = self.store.cancelled
        redriven = {dead.entry.id for dead in found} if ids is None else ids
        cancelled.forget(cancelled.ids_if_any() & redriven)
        number, kept = 0, []
        for dead in found:
            if ids is not None and dead.entry.id not in ids:
                continue
            try:
                number += letters.redrive(dead, self.store.ready.append)
            except OSError as error:
                if error.errno not in IMMOVABLE:
                    raise
                kept.append(error)
        if kept:
            raise kept[0]
        return number


def _alike(
    seen: Seen,
) -> tuple[int, tuple[tuple[str, Any], ...], float | None] | None:
    """Return what messages have in common that can be published together; None: not this one."""
    if seen.state == "dead" or seen.failures or seen.losses:
        return None
    if seen.content_priority != seen.priority:
        return None
    until = seen.until if seen.state == "delayed" else None
    return seen.priority, tuple(sorted(seen.own.items())), until


def _refusing(
    queue: str, unless: Callable[[Message], str | None]
) -> Callable[[Lease, Settings], str | None]:
    """Return what asks `unless` about a lease whose message is not read yet."""

    def refuses(lease: Lease, settings: Settings) -> str | None:
        return unless(message_of(queue, lease, Content(None, None), settings))

    return refuses


def import_all() -> None:
    """Import what is otherwise imported when it is needed."""
    import ddmq.printable
    import ddmq.seen
    import ddmq.storage.bundle_file
    import ddmq.storage.bundles
    import ddmq.storage.cancelled
    import ddmq.storage.census
    import ddmq.storage.dead_letters
    import ddmq.storage.delayed
    import ddmq.storage.drop
    import ddmq.storage.expiry
    import ddmq.storage.keys
    import ddmq.storage.leases
    import ddmq.storage.leftovers
    import ddmq.storage.lock_file
    import ddmq.storage.locks
    import ddmq.storage.range_names
    import ddmq.storage.ranges
    import ddmq.storage.roots
    import ddmq.storage.scan
    import ddmq.storage.whereabouts
    import ddmq.storage.workers
    import ddmq.untrusted  # noqa: F401


def message_of(
    queue: str, lease: Lease, content: Content, settings: Settings
) -> Message:
    """Return the message of a lease; what it sets itself overrides the settings."""
    entry = lease.entry
    priority, _, id_, failures, losses, said = entry
    policy: Policy | Settings = settings
    timeout = settings.message_timeout
    if said:
        policy = Policy.of(entry, settings)
        timeout = policy.timeout
    fields = (
        content.message,
        id_,
        queue,
        priority,
        timeout,
        policy.requeue,
        policy.requeue_prio,
        policy.requeue_limit,
        failures,
        losses,
        lease.filename,
    )
    message = make(Message, fields)
    message.lease = lease
    return message
