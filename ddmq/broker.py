"""The policy: order, timeouts, requeue limits, dead letters."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from enum import Enum
from functools import partial, wraps
from math import inf
from typing import (
    TYPE_CHECKING,
    Any,
    NamedTuple,
    Optional,
    TypeVar,
    cast,
    overload,
)

from ddmq import admin
from ddmq.bundle import BUNDLE_SIZE, Options
from ddmq.clock import Clock
from ddmq.config import LAYOUT_EVERY, LayeredSettings, SettingsFile
from ddmq.errors import (
    DdmqError,
    GarbageAhead,
    InvalidArgument,
    LeaseLost,
    QueueNotFound,
    RootNotFound,
    StorageError,
)
from ddmq.fs import FileSystem
from ddmq.housekeeping import Housekeeper, Swept
from ddmq.letters import MAX_NOTE
from ddmq.line import Tidying
from ddmq.locks import exclusive
from ddmq.log import warn
from ddmq.message import (
    Content,
    DeadLetter,
    InvalidContent,
    Message,
    Policy,
    encode,
    encode_message,
    encode_options,
    letter,
    of_lease,
)
from ddmq.names import Lease, check_queue_name
from ddmq.patience import awaited
from ddmq.settings import DELAY, OVERRIDES, SETTINGS, Settings, check
from ddmq.store import BUCKET_SIZE, Counts, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ddmq.names import Entry

    _Act = Callable[[Store, Message, Lease], bool]
    _Excuse = Callable[[Store, Lease], bool]
    _Unless = Callable[[Message], Optional[str]]


class Unset(Enum):
    """Says that an argument was left out, where None means something."""

    UNSET = "unset"


UNSET = Unset.UNSET
STATES = Counts._fields
_Method = TypeVar("_Method", bound="Callable[..., Any]")
#: Seconds between two looks of `wait`: the first, and the longest.
_LOOK_FIRST, _LOOK_LONGEST = 0.05, 5.0
#: How often a lease that is renewed at the same time is looked for again.
_RENEWALS = 8
#: Said of us, who have too many files open, and of no message.
_OURS = (errno.EMFILE, errno.ENFILE)
_SETTLE = "settle what `consume` returned"


class _TheirError(Exception):
    """What a caller's own messages raised: it says nothing of the queue."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error


def _theirs(messages: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from messages
    except OSError as error:
        raise _TheirError(error) from error


def _explained(method: _Method) -> _Method:
    """Turn what the file system answers into words: the one place where this is done."""

    @wraps(method)
    def call(self: Broker, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except OSError as error:
            raise self._explain(error) from error
        except _TheirError as wrapped:
            raise wrapped.error from None

    return cast("_Method", call)


@contextmanager
def _others_go_on() -> Iterator[None]:
    """Let no queue that is broken, or was deleted just now, hide the others."""
    try:
        yield
    except QueueNotFound:
        return
    except DdmqError as error:
        warn(f"left out: {error}")


class _Unread(NamedTuple):
    """A message that could not be read: its name and id in line, and the reason."""

    filename: str
    id: str
    error: OSError


class _Queue:
    """An open queue: where it is, what holds for it, and who keeps house."""

    def __init__(self, name: str, store: Store, settings: LayeredSettings) -> None:
        self.name = name
        self.store = store
        self.settings = settings
        self.keeper = Housekeeper(name, store, store.clock, settings.current)

    def options(
        self,
        *,
        priority: int | None,
        timeout: float | None,
        requeue: bool | None,
        requeue_prio: int | None,
        requeue_limit: int | Unset | None,
        delay: float,
        durable: bool | None,
    ) -> Options:
        """Return what holds for new messages, or raise InvalidArgument.

        What the publisher does not set is left out, or is what the settings say now.
        """
        overrides: dict[str, Any] = {}
        if timeout is not None:
            overrides["timeout"] = timeout
        if requeue is not None:
            overrides["requeue"] = requeue
        if requeue_prio is not None:
            overrides["requeue_prio"] = requeue_prio
        if requeue_limit is not UNSET:
            overrides["requeue_limit"] = requeue_limit
        _check_message(priority, delay, durable, overrides)
        settings = self.settings.current()
        priority = settings.priority if priority is None else priority
        durable = settings.durable if durable is None else durable
        return Options(priority, overrides, delay, durable)

    def consume_some(
        self, n: int, unless: _Unless | None, tidying: Tidying
    ) -> list[Message]:
        """Lease the first of the waiting messages, up to `n`; none when there is none.

        Those that one claim can take, from one bundle: there may be more. What can't be read
        stands before no others. If the next one can't be read either, it is no message's fault.
        """
        buckets, unread = self.store.buckets, None
        while claimed := self._claim_first(n, tidying):
            path, leases, settings = claimed
            messages, found = self._received(leases, settings, unless, unread is None)
            if messages:
                return messages
            if found is None:
                tidying.met(path)
            elif unread is None:
                unread = found
                buckets.pass_over(unread.filename)
            else:
                break
        if unread is None:
            return []
        buckets.heed(unread.filename)  # it may have been the file server's
        buckets.refuse(unread.filename, unread.id)
        raise unread.error

    def _claim_first(
        self, n: int, tidying: Tidying
    ) -> tuple[str, list[Lease], Settings] | None:
        """Lease what is first in line, under settings that are read only for that."""
        while True:
            try:
                for waiting in self.store.waiting(tidying):
                    settings = self.settings.current()
                    leases = self.store.claim(waiting, settings.message_timeout, n)
                    if leases:
                        return waiting.path, leases, settings
                    # A rival was faster: who takes many takes longer.
                    n = max(n // 2, 1)
            except InvalidContent:
                tidying.met(waiting.path)  # it is set aside, and no rival was faster
            else:
                if not tidying.goes_on():
                    return None

    def _received(
        self,
        leases: list[Lease],
        settings: Settings,
        unless: _Unless | None,
        is_first: bool,  # noqa: FBT001 - for each message
    ) -> tuple[list[Message], _Unread | None]:
        """Read messages; those that can't be read now are given back, and stop no others.

        The first of them is returned, too, and counts a loss: a message that nobody can read must not come for ever.
        """
        messages, unread = [], None
        for lease in leases:
            try:
                if unless is None or not self._is_refused(lease, settings, unless):
                    content = self.store.read(lease)
                    if content is not None:
                        messages.append(of_lease(self.name, lease, content, settings))
            except OSError as error:
                counts = is_first and unread is None and error.errno not in _OURS
                entry = lease.entry.lost() if counts else lease.entry
                self._give_back(lease, entry, settings, error)
                unread = unread or _Unread(entry.filename, entry.id, error)
        return messages, unread

    def _is_refused(self, lease: Lease, settings: Settings, unless: _Unless) -> bool:
        """Make a dead letter of a message that is not to be read at all, if it is none."""
        nothing = Content(None, None)
        why = unless(of_lease(self.name, lease, nothing, settings))
        if why is None:
            return False
        self.store.bury(lease, lease.entry, "rejected", {"reason": why})
        return True

    def _give_back(
        self, lease: Lease, entry: Entry, settings: Settings, error: OSError
    ) -> None:
        """Put a message that can't be read back in its place as `entry`, or at its limit bury it."""
        counted, before = entry is not lease.entry, lease.entry
        policy = Policy.of(entry, settings)
        with suppress(OSError):  # then its lease ends, and that counts
            if counted and not policy.may_requeue(before.failures + before.losses):
                reason = f"it can't be read: {error.strerror}"
                self.store.bury(lease, entry, "expired", {"reason": reason})
            else:
                self.store.release(lease, entry)

    def held(self, lease: Lease, settings: Settings) -> Message | None:
        """Return the message of a lease, to settle it; None when it is gone or holds none.

        One over the limit was consumed under another limit, and who did so settles it unread.
        """
        content = self.store.read(lease, unread_if_large=True)
        if content is None:
            return None
        return of_lease(self.name, lease, content, settings)


class Broker:
    """A client of the queues in one root directory.

    `root` is a directory on storage that all clients share. With `create`, the root and
    each queue that is named are made and initiated when they are missing, with `mode` for
    their directories where it is given. With `clean` false, this client leaves the
    housekeeping to others. `lock_timeout`, in seconds, overrides the setting: only
    administration waits for locks. Usable from several threads at once, and after a fork.

    Every method raises a `DdmqError`: `InvalidArgument` for a wrong argument (nothing was
    done), `RootNotFound`, `QueueNotFound`, `UnknownLayout`, `InvalidSettings`, and
    `StorageError` when the file system refuses; each message is then still in exactly one
    state.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        create: bool = False,
        mode: int | None = None,
        clean: bool = True,
        lock_timeout: float | None = None,
        clock: Clock | None = None,
        fs: FileSystem | None = None,
        bucket_size: int = BUCKET_SIZE,
        bundle_size: int = BUNDLE_SIZE,
    ) -> None:
        self.root = _checked_root(root)
        self._create = create
        self._mode = admin.checked_mode(mode)
        self._clean = clean
        self._lock_timeout = _checked_wait(lock_timeout)
        self._clock = clock or Clock()
        self._fs = fs or FileSystem()
        self._fs.hold_below(self.root)
        self._sizes = bucket_size, bundle_size
        self._root_file = SettingsFile(self.root, self._fs)
        self._open: dict[str, _Queue] = {}
        self._open_root()

    def __del__(self) -> None:
        """Close the directories that are held, without waiting for the garbage collector."""
        fs: FileSystem | None = self.__dict__.get("_fs")
        if fs is not None:
            fs.let_go()

    @_explained
    def _open_root(self) -> None:
        if self._create:
            admin.make_root(self.root, self._fs, self._mode, self._lock_timeout)
        self._root_file.read()

    # Queues

    @_explained
    def create_queue(self, queue: str, *, mode: int | None = None) -> bool:
        """Make a queue; False when it exists.

        `mode`, such as 0o2770, is that of its directories and decides over the umask for
        all files in it: for a queue that a group shares. Without it, a root that
        a group shares hands on its own.
        """
        check_queue_name(queue)
        mode = self._mode if mode is None else admin.checked_mode(mode)
        mode = admin.shared_mode(self.root, self._fs) if mode is None else mode
        timeout = self._wait_for_locks(self._root_settings())
        return admin.make_queue(
            self.root, queue, self._fs, mode=mode, lock_timeout=timeout
        )

    @_explained
    def delete_queue(self, queue: str) -> None:
        """Delete a queue with all its messages and dead letters."""
        check_queue_name(queue)
        timeout = self._wait_for_locks(self._root_settings())
        admin.delete_queue(self.root, queue, self._fs, timeout)
        self._open.pop(queue, None)

    @_explained
    def queues(self) -> list[str]:
        """Return the names of all queues, sorted."""
        return admin.queues(self.root, self._fs)

    @_explained
    def view(self, queue: str | Iterable[str] | None = None) -> dict[str, Counts]:
        """Count the messages waiting, at work, delayed and dead; of all queues by default."""
        if queue is not None:
            names = [queue] if isinstance(queue, str) else queue
            return {name: self._visited(name).store.counts() for name in names}
        counts = {}
        for name in self.queues():
            with _others_go_on():
                counts.update(self.view(name))
        return counts

    # Messages come

    @_explained
    def publish(
        self,
        queue: str,
        message: Any,
        *,
        priority: int | None = None,
        timeout: float | None = None,
        requeue: bool | None = None,
        requeue_prio: int | None = None,
        requeue_limit: int | Unset | None = UNSET,
        delay: float = 0,
        durable: bool | None = None,
    ) -> str:
        """Publish any JSON value; return the id of the message.

        What is left out is decided by the settings: `priority` and `durable` now, the others
        when the message is consumed. `timeout` and `delay` are seconds. When this returns and
        `durable` holds, the message survives a power cut.
        """
        open_queue = self._visited(queue)
        options = open_queue.options(
            priority=priority,
            timeout=timeout,
            requeue=requeue,
            requeue_prio=requeue_prio,
            requeue_limit=requeue_limit,
            delay=delay,
            durable=durable,
        )
        data = encode(message, options.priority, open_queue.store.limit(inf))
        return open_queue.store.publish(data, options)

    @_explained
    def publish_many(
        self,
        queue: str,
        messages: Iterable[Any],
        *,
        priority: int | None = None,
        timeout: float | None = None,
        requeue: bool | None = None,
        requeue_prio: int | None = None,
        requeue_limit: int | Unset | None = UNSET,
        delay: float = 0,
        durable: bool | None = None,
    ) -> int:
        """Publish messages with the options of `publish`, in order; return their number.

        They go into few files, and all become visible at once when the last one has come:
        after an error or a crash none is published. Exceptions are fewer than ten messages,
        which are published one by one once all are known to be good, and bundles with
        a `delay`.
        """
        open_queue = self._visited(queue)
        options = open_queue.options(
            priority=priority,
            timeout=timeout,
            requeue=requeue,
            requeue_prio=requeue_prio,
            requeue_limit=requeue_limit,
            delay=delay,
            durable=durable,
        )
        said, limit = encode_options(options.priority), open_queue.store.limit(inf)
        encoded = (encode_message(m, said, limit) for m in _theirs(messages))
        return open_queue.store.publish_many(encoded, options)

    # Messages are consumed and settled

    @_explained
    def consume(
        self,
        queue: str,
        n: int = 1,
        *,
        unless: Callable[[Message], str | None] | None = None,
    ) -> list[Message]:
        """Lease up to `n` messages, the first in line; an empty list when there is none.

        Each must be acked, nacked, released, rejected or renewed within its `timeout`, or it
        is requeued by whoever next interacts with the queue. Of thousands that are over at
        once, each call requeues what fits into half a second.

        So it is with what is no message. If there is so much of it that no message was reached,
        GarbageAhead, a StorageError, says so: the next call goes on there.

        `unless` is asked about each message before its content is read (it is None then) and
        returns why it is to be a dead letter instead, or None.
        """
        _check_count(n)
        open_queue = self._visited(queue)
        messages: list[Message] = []
        tidying = Tidying(open_queue.store.line)
        while len(messages) < n:
            left, taken = n - len(messages), bool(messages)
            more = self._next(open_queue, left, unless, tidying, taken=taken)
            if not more:
                break
            messages += more
        return messages

    def _next(
        self,
        queue: _Queue,
        n: int,
        unless: _Unless | None,
        tidying: Tidying,
        *,
        taken: bool,
    ) -> list[Message]:
        try:
            messages = queue.consume_some(n, unless, tidying)
            if not messages and not taken and self._swept_idly(queue):
                messages = queue.consume_some(n, unless, tidying)
        except (OSError, GarbageAhead):
            if not taken:
                raise
            return []  # those taken count; the next call meets the error again
        return messages

    def _swept_idly(self, queue: _Queue) -> bool:
        return self._clean and queue.keeper.sweep_when_due(idle=True)

    @_explained
    def ack(self, message: Message | Iterable[Message]) -> None:
        """Finish messages: each is removed. LeaseLost when one was not ours any more.

        Of several, all are tried before LeaseLost names those that were lost.
        """
        self._settle(message, _ack, Store.is_finished)

    @_explained
    def nack(
        self,
        message: Message | Iterable[Message],
        *,
        delay: float = 0,
        reason: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Say that messages failed: each is tried again, `delay` seconds later, or is dead.

        It counts one failure, and waits at its `requeue_prio`. Where `requeue` is false or
        `requeue_limit` reached it becomes a dead letter with the `reason`, and with
        `details` (JSON types) in its note.
        """
        check("delay", DELAY, delay)
        note = _note(reason, details)
        self._settle(message, partial(_nack, delay, note))

    @_explained
    def release(
        self, message: Message | Iterable[Message], *, delay: float = 0
    ) -> None:
        """Give messages back unharmed, to their old places in line; this counts nothing.

        With a `delay`, they come back to the end of the line after so many seconds.
        """
        check("delay", DELAY, delay)
        self._settle(message, partial(_release, delay))

    @_explained
    def reject(
        self,
        message: Message | Iterable[Message],
        reason: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Make messages dead letters at once, whatever their limits say."""
        self._settle(message, partial(_reject, _note(reason, details)))

    @_explained
    def move(self, message: Message | Iterable[Message], queue: str) -> None:
        """Put consumed messages at the end of the line in another queue, counts unchanged."""
        target = self._known(queue).store
        self._settle(message, partial(_move, target))

    @overload
    def renew(self, message: Message, timeout: float | None = None) -> Message: ...
    @overload
    def renew(
        self, message: Iterable[Message], timeout: float | None = None
    ) -> list[Message]: ...
    @_explained
    def renew(
        self, message: Message | Iterable[Message], timeout: float | None = None
    ) -> Message | list[Message]:
        """Prolong leases to `timeout` seconds from now, by default to their own.

        Returns the message under its new file name, or a list of them; the old ones can
        still be used. LeaseLost names those that were lost, after all were tried.
        """
        if timeout is not None:
            check("timeout", OVERRIDES["timeout"], timeout)
        renewed: list[Message] = []
        self._settle(message, partial(_renew, renewed, timeout))
        return renewed[0] if isinstance(message, Message) else renewed

    def _settle(
        self,
        messages: Message | Iterable[Message],
        act: _Act,
        excuse: _Excuse | None = None,
    ) -> None:
        held = _checked_messages(messages)
        lost = [m for m, lease in held if not self._held(m, lease, act, excuse)]
        if lost:
            raise LeaseLost(_lost_text(lost), lost)

    def _held(
        self,
        message: Message,
        lease: Lease,
        act: _Act,
        excuse: _Excuse | None,
    ) -> bool:
        """Do something with a lease; False when it is lost."""
        store = self._queue(message.queue).store
        current: Lease | None = lease
        for _ in range(_RENEWALS):
            if current is None:
                break
            if act(store, message, current):
                return True
            lease, current = current, store.current(lease)
            # Another thread may have renewed it: then the later name is what we hold.
        return excuse is not None and excuse(store, lease)

    @_explained
    def leased(self, queue: str, name: str) -> Message:
        """Return the message at work that has this id or file name, to settle it.

        A file name proves a lease by its token; an id means whoever holds the message now.
        LeaseLost when there is none.
        """
        open_queue = self._known(queue)
        trouble: OSError | None = None
        for lease in _named(name, open_queue.store.leases()):
            try:
                message = self._read_leased(open_queue, lease)
            except OSError as error:  # of a claim that was not made, maybe
                trouble = error
                continue
            if message is not None:
                return message
        raise trouble or LeaseLost(
            f"{name}: not at work in queue {queue}; it was settled, or its lease expired"
        )

    def _read_leased(self, queue: _Queue, lease: Lease) -> Message | None:
        current = queue.store.proven(lease)
        for _ in range(_RENEWALS):
            if current is None:
                break
            message = queue.held(current, queue.settings.current())
            if message is not None:
                return message
            current = queue.store.current(lease)  # its holder may have renewed it
        return None

    # Housekeeping and dead letters

    @_explained
    def clean(self, queue: str) -> Swept:
        """Do all the housekeeping of a queue now; return what was found."""
        open_queue = self._known(queue)
        open_queue.store.require_change()  # else it would be left to others
        return open_queue.keeper.clean()

    def clean_all(self) -> dict[str, Swept]:
        """Do all the housekeeping of every queue now."""
        found = {}
        for queue in self.queues():
            with _others_go_on():
                found[queue] = self.clean(queue)
        return found

    @_explained
    def purge(self, queue: str, states: Iterable[str] = STATES) -> Counts:
        """Remove all messages, or only those in some states; return how many.

        States are waiting, work, delayed and dead. What comes meanwhile may stay. StorageError
        tells of what could not be removed, after all else was.
        """
        from ddmq.purge import purge  # only this needs it

        states = list(states)
        if not set(states) <= set(STATES):
            raise InvalidArgument(f"states are {', '.join(STATES)}, not {states}")
        open_queue = self._known(queue)
        store = open_queue.store
        timeout = self._wait_for_locks(open_queue.settings.current())
        with exclusive(store.lock, timeout):
            purging = self._clock.begin(partial(purge, store, states))
            return awaited(purging, lambda: f"purging {queue} is not done yet")

    @_explained
    def dead(self, queue: str) -> list[DeadLetter]:
        """Return the dead letters of a queue with their reasons, by priority and age."""
        store = self._visited(queue).store
        return [
            letter(queue, dead, *store.read_letter(dead))
            for dead in store.letters.all()
        ]

    @_explained
    def redrive(self, queue: str, ids: Iterable[str] | None = None) -> int:
        """Put dead letters back in line, all or those with these ids; return how many.

        Their counts start at zero, their priority is that which they were published with.
        What is no message stays.
        """
        wanted = {ids} if isinstance(ids, str) else None if ids is None else set(ids)
        store = self._visited(queue).store
        return sum(
            store.revive(dead)
            for dead in store.letters.all()
            if wanted is None or dead.entry.id in wanted
        )

    @_explained
    def wait(
        self,
        queue: str,
        timeout: float | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> bool:
        """Wait until nothing waits, is at work or delayed; False after `timeout` seconds.

        `progress` is called with the queue's name before each pause.
        """
        if timeout is not None:
            check("timeout", DELAY, timeout)
        deadline = self._clock.monotonic() + timeout if timeout is not None else None
        pause = _LOOK_FIRST
        while not self.is_empty(queue):
            now = self._clock.monotonic()
            if deadline is not None and now >= deadline:
                return False
            if progress is not None:
                progress(queue)
            self._clock.sleep(min(pause, deadline - now if deadline else pause))
            pause = min(pause * 1.5, _LOOK_LONGEST)
        return True

    @_explained
    def is_empty(self, queue: str) -> bool:
        """Tell whether nothing waits, is at work or delayed: dead letters do not count."""
        return self._visited(queue).store.is_empty()

    # Settings

    @_explained
    def settings(self, queue: str | None = None) -> Settings:
        """Return the settings that hold for a queue, or for the root."""
        if queue is None:
            return self._root_settings()
        open_queue = self._queue(queue)
        open_queue.settings.forget()
        return open_queue.settings.current()

    @_explained
    def update_settings(
        self,
        queue: str | None = None,
        *,
        unset: Iterable[str] = (),
        **changes: Any,
    ) -> Settings:
        """Change settings of a queue, or of the root; `unset` keys get their default back.

        All or none of it is done, one client at a time, and nobody reads half of it.
        """
        unset = list(unset)
        for key in unset:
            if key not in SETTINGS:
                raise InvalidArgument(
                    f"unknown setting {key!r}; known are {', '.join(SETTINGS)}"
                )
        file = self._root_file
        if queue is not None:
            path = self._queue(queue).store.path
            file = SettingsFile(path, self._fs, of_queue=True)
        timeout = self._wait_for_locks(self.settings(queue))
        file.change(changes, unset, timeout)
        return self.settings(queue)

    def _root_settings(self) -> Settings:
        return Settings(**self._root_file.read())

    def _wait_for_locks(self, settings: Settings) -> float:
        given = self._lock_timeout
        return settings.lock_timeout if given is None else given

    @_explained
    def mode_of(self, queue: str) -> int | None:
        """Return the mode for new directories in a queue that a group shares, else None."""
        return self._queue(queue).store.buckets.mode

    # Within

    def _visited(self, queue: str) -> _Queue:
        """Return an open queue, its housekeeping done."""
        open_queue = self._known(queue)
        if self._clean:
            open_queue.keeper.sweep_when_due()
        return open_queue

    def _known(self, queue: str) -> _Queue:
        """Return an open queue that had the layout that we know a few minutes ago.

        Whoever lists a queue asks, or would judge by names that it can't read; an idle client
        does so all the time, and must cost little. Whoever settles a message holds its name,
        and gives it back whatever the layout is by now.
        """
        open_queue = self._queue(queue)
        open_queue.settings.current(LAYOUT_EVERY)
        return open_queue

    def _queue(self, queue: str) -> _Queue:
        try:
            known = self._open[queue]
        except (KeyError, TypeError):  # not open yet, or no name at all
            return self._opened(queue)
        known.store.check_when_due()
        return known

    def _opened(self, queue: str) -> _Queue:
        check_queue_name(queue)
        if not admin.is_queue(self.root, queue, self._fs):
            if not self._create:
                missing = errno.ENOENT, os.strerror(errno.ENOENT)
                raise FileNotFoundError(*missing, f"{self.root}/{queue}")
            self.create_queue(queue)
        path = f"{self.root}/{queue}"
        file = SettingsFile(path, self._fs, of_queue=True)
        settings = LayeredSettings(self._root_file, file, self._clock)
        settings.current()  # first: of another layout, we know no directory
        store = Store(path, self._fs, self._clock, *self._sizes, settings.limit)
        store.open()
        store.learn_clock()
        return self._open.setdefault(queue, _Queue(queue, store, settings))

    def _explain(self, error: OSError) -> DdmqError:
        """Return what an error of the file system means to a user."""
        self._fs.let_go()  # what we hold may have been moved, made anew, or closed
        if error.errno not in (errno.ENOENT, errno.ESTALE, errno.ENOTDIR):
            return StorageError(error)
        if error.errno == errno.ENOTDIR:
            self._open.clear()  # what was a directory when we opened it may be a link
        try:
            return self._missing(error)
        except OSError:
            return StorageError(error)

    def _missing(self, error: OSError) -> DdmqError:
        if self._fs.status(self._root_file.path) is None:
            return RootNotFound(
                f"{self.root}: no ddmq root; create it with `ddmq create -f` or -f (create=True)"
            )
        path = os.fspath(error.filename or self.root)
        queue = os.path.relpath(path, self.root).split("/")[0]
        if not admin.may_be_queue(queue) or admin.is_queue(self.root, queue, self._fs):
            return StorageError(error)
        self._open.pop(queue, None)
        return self._not_found(queue)

    def _not_found(self, queue: str) -> DdmqError:
        return admin.queue_not_found(self.root, queue)


def _named(name: str, leases: Iterable[Lease]) -> Iterator[Lease]:
    """Yield the leases that have this id, or are of the claim with this file name."""
    wanted = Lease.parse(name)
    for lease in leases:
        if name == lease.entry.id or (wanted and wanted.is_same_claim(lease)):
            yield lease


def _ack(store: Store, _: Message, lease: Lease) -> bool:
    return store.ack(lease)


def _release(delay: float, store: Store, _: Message, lease: Lease) -> bool:
    if delay:
        return store.requeue(lease, lease.entry, delay)
    return store.release(lease)


def _nack(
    delay: float,
    note: Mapping[str, Any],
    store: Store,
    message: Message,
    lease: Lease,
) -> bool:
    failed = lease.entry.failed()
    if not message.may_requeue:
        return store.bury(lease, failed, "failed", note)
    return store.requeue(lease, failed._replace(priority=message.requeue_prio), delay)


def _reject(note: Mapping[str, Any], store: Store, _: Message, lease: Lease) -> bool:
    return store.bury(lease, lease.entry, "rejected", note)


def _move(target: Store, store: Store, _: Message, lease: Lease) -> bool:
    return store.move(lease, target)


def _renew(
    renewed: list[Message],
    timeout: float | None,
    store: Store,
    message: Message,
    lease: Lease,
) -> bool:
    longer = store.renew(lease, message.timeout if timeout is None else timeout)
    if longer is None:
        return False
    renewed.append(message._replace(filename=longer.filename))
    return True


def _note(reason: Any, details: Any) -> dict[str, Any]:
    """Return what is to be said about a dead letter, or raise InvalidArgument."""
    if not isinstance(reason, str):
        raise InvalidArgument(f"reason {reason!r:.60} is not text")
    if not isinstance(details, (Mapping, type(None))):
        raise InvalidArgument(f"details {details!r:.60} are no mapping of JSON types")
    from ddmq.untrusted import parsed  # rarely needed

    note = {**({"reason": reason} if reason else {}), **(details or {})}
    try:
        data = json.dumps(note).encode()
        parsed(data)  # as who lists dead letters will
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"details are no JSON: {error}") from error
    if len(data) > MAX_NOTE:
        raise InvalidArgument(
            f"reason and details are {len(data)} bytes long, over {MAX_NOTE}; write them to "
            "a file, and say where it is"
        )
    return note


def _checked_messages(
    messages: Message | Iterable[Message],
) -> list[tuple[Message, Lease]]:
    """Return messages with their leases, or raise InvalidArgument."""
    if isinstance(messages, Message):
        return [(messages, _lease_of(messages))]
    if isinstance(messages, (list, tuple, set)) or hasattr(messages, "__next__"):
        return [(message, _lease_of(message)) for message in messages]
    raise InvalidArgument(f"{messages!r:.60} is no message; {_SETTLE}")


def _lease_of(message: Any) -> Lease:
    if isinstance(message, Message):
        lease = Lease.parse(str(message.filename))
        if lease is not None:
            return lease
    raise InvalidArgument(f"{message!r:.60} has no lease; {_SETTLE}")


def _lost_text(messages: Sequence[Message]) -> str:
    ids = ", ".join(message.id for message in messages[:5])
    more = f" and {len(messages) - 5} more" if len(messages) > 5 else ""
    return (
        f"message {ids}{more}: the lease is lost: it expired, or the message was settled "
        "already; others may have consumed it meanwhile"
    )


def _check_message(
    priority: Any, delay: Any, durable: Any, overrides: Mapping[str, Any]
) -> None:
    if priority is not None:
        check("priority", SETTINGS["priority"], priority)
    if durable is not None:
        check("durable", SETTINGS["durable"], durable)
    check("delay", DELAY, delay)
    for key, value in overrides.items():
        check(key, OVERRIDES[key], value)


def _check_count(n: Any) -> None:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise InvalidArgument(f"n is {n!r}; it must be a positive number of messages")


def _checked_wait(seconds: float | None) -> float | None:
    if seconds is not None:
        check("lock_timeout", DELAY, seconds)
    return seconds


def _checked_root(root: str | os.PathLike[str]) -> str:
    try:
        path: object = os.fspath(root)
        if isinstance(path, str) and path and b"\0" not in os.fsencode(path):
            return os.path.realpath(path)
    except (TypeError, ValueError, OSError) as error:
        raise InvalidArgument(
            f"root {root!r} is not the path of a directory"
        ) from error
    raise InvalidArgument(f"root {root!r} is not the path of a directory")
