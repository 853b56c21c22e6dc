"""The public API: `Broker`, a client of the queues in one root directory."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from functools import partial, wraps
from itertools import groupby, islice
from typing import (
    TYPE_CHECKING,
    Any,
    TypeVar,
    cast,
    overload,
)

from ddmq.clock import Clock
from ddmq.errors import (
    DdmqError,
    GarbageAhead,
    InvalidArgument,
    InvalidSettings,
    LeaseLost,
    QueueNotFound,
    QueuePaused,
    RootNotFound,
    StorageError,
    did_you_mean,
    each_public,
    public,
    real_path,
    warn,
)
from ddmq.message import UNSET, Message, PublishOptions, Unset
from ddmq.queue_policy import QueuePolicy
from ddmq.settings import DELAY, OVERRIDES, SETTINGS, Settings, check, show
from ddmq.storage.background import wait_for
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.layout import is_queue, may_be_queue, queues
from ddmq.storage.names import MAX_NOTE, Lease, check_queue_name, jitter
from ddmq.storage.settings_file import LayeredSettings, SettingsFile
from ddmq.storage.store import BUCKET_SIZE, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ddmq.holding.held import HeldMessage, Keeper
    from ddmq.hpc.journal import Run
    from ddmq.seen import Counts, DeadLetter, Overview, Pause, Seen, WorkerSeen
    from ddmq.storage.expiry import Swept
    from ddmq.storage.then import FollowUps
    from ddmq.storage.workers import Workers

#: The fields of `Counts`.
STATES = ("waiting", "work", "delayed", "dead")
_Result = TypeVar("_Result")
_Method = TypeVar("_Method", bound="Callable[..., Any]")
#: Seconds between two looks of a caller that waits: the first pause, and the longest.
_LOOK_FIRST, _LOOK_LONGEST = 0.05, 5.0
#: Queues that are named where one is not found.
_NAMED = 5
_SETTLE = "settle what `consume` returned"


class _TheirError(Exception):
    """An error of the caller's own iterable of messages; it says nothing about the queue."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error


def _theirs(messages: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from messages
    except OSError as error:
        raise _TheirError(error) from error


def _explained(method: _Method) -> _Method:
    """Turn an OSError into a DdmqError that explains it; this is done only here.

    Each DdmqError is raised alone, as by `public`.
    """

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:  # `self` is in them: a tuple less
        try:
            return method(*args, **kwargs)
        except OSError as error:
            broker: Broker = args[0]
            raise broker._explain(error).alone(error) from None
        except DdmqError as error:
            raise error.alone() from None
        except _TheirError as wrapped:
            raise wrapped.error from None
        except TypeError:
            from ddmq.former.renamed import former_keyword  # rarely needed

            told = former_keyword(method.__name__, kwargs)
            if told is None:
                raise
            raise InvalidArgument(told) from None

    return cast("_Method", call)


@contextmanager
def _others_go_on() -> Iterator[None]:
    """Go on with the other queues when one is broken, or was deleted just now."""
    try:
        yield
    except QueueNotFound:
        return
    except DdmqError as error:
        warn(f"left out: {error}")


class Broker:
    """A client of the queues in one root directory.

    `root` is a directory on storage that all clients share. With `create`, this client makes
    and initiates the root, and each queue that it publishes to, when they are missing. Their
    directories get `mode` where it is given. With `clean` false, this client leaves the
    housekeeping to others. `lock_timeout`, in seconds, overrides the setting; only
    administration waits for locks. A broker may be used from several threads at once, and
    after a fork; pickled, it becomes another one with the same options. `with Broker(root) as b:`
    closes it in the end.

    The errors of all methods are `DdmqError`s: `InvalidArgument` for a wrong argument (nothing
    was done), `RootNotFound`, `QueueNotFound`, `UnknownLayout`, `InvalidSettings`, and
    `StorageError` when the file system refuses. Each message is then still in exactly one
    state.
    """

    @public
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
        bundle_size: int | None = None,
    ) -> None:
        self.root = _checked_root(root)
        self._create = create
        if mode is not None:
            from ddmq.storage import roots  # rarely needed

            mode = roots.checked_mode(mode)
        self._mode = mode
        self._clean = clean
        if lock_timeout is not None:
            check("lock_timeout", DELAY, lock_timeout)
        self._lock_timeout = lock_timeout
        self._clock = clock or Clock()
        self._fs = fs or FileSystem()
        self._fs.hold_below(self.root)
        self._sizes = bucket_size, bundle_size
        self._root_file = SettingsFile(self.root, self._fs)
        self._open: dict[str, QueuePolicy] = {}
        self._keeper: Keeper | None = None
        self._open_root()

    def __repr__(self) -> str:
        """Say which root it is a client of."""
        return f"Broker({self.root!r}{', create=True' if self._create else ''})"

    if not TYPE_CHECKING:  # types know all that there is

        def __getattr__(self, name: str) -> Any:
            """Say what a method of ddmq 0.9 is called now."""
            from ddmq.former.renamed import former_method  # rarely needed

            text = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(text + former_method(name))

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process have a broker with the same root and options, as when pickled."""
        bucket_size, bundle_size = self._sizes
        make = partial(
            type(self),
            self.root,
            create=self._create,
            mode=self._mode,
            clean=self._clean,
            lock_timeout=self._lock_timeout,
            bucket_size=bucket_size,
            bundle_size=bundle_size,
        )
        return make, ()

    def __del__(self) -> None:
        """Close the directories that we hold, without waiting for the garbage collector."""
        fs: FileSystem | None = self.__dict__.get("_fs")
        if fs is not None:
            fs.let_go()
        keeper: Keeper | None = self.__dict__.get("_keeper")
        if keeper is not None:
            keeper.forget()

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Renew no lease any more, and close the directories that we hold.

        Nothing is given back: what is still held comes back when its lease is over, since another
        thread may work on it. A broker that is used again opens what it needs.
        """
        if self._keeper is not None:
            self._keeper.close()
        self._fs.let_go()

    @_explained
    def _open_root(self) -> None:
        fs, root, root_file = self._fs, self.root, self._root_file
        try:
            if self._create and (fs.status(root) is None or not root_file.exists()):
                from ddmq.storage import roots  # needed only where there is none yet

                try:
                    roots.make_root(root, fs, self._mode, self._lock_timeout)
                except FileNotFoundError as error:  # a file system that makes none
                    why = f"none can be made: {error.filename}: {error.strerror}"
                    raise RootNotFound(f"{root}: no ddmq root, and {why}") from error
            root_file.read()
        except NotADirectoryError as error:
            raise RootNotFound(
                f"{root}: no ddmq root: it, or what it is in, is a file; the root, a "
                "directory, comes first, and then the queue"
            ) from error
        except InvalidSettings as error:
            above, name = os.path.split(root)
            if not is_queue(above, name, fs) or not fs.is_directory(f"{root}/work"):
                raise
            raise RootNotFound(
                f"{root}: it is a queue, and no root; the root is {above}, "
                f"and the queue {name}"
            ) from error

    # Queues

    @_explained
    def create_queue(self, queue: str, *, mode: int | None = None) -> bool:
        """Make a queue; False when it exists.

        `mode`, such as 0o2770 for a queue that a group shares, is the mode of its
        directories. It also decides, in place of the umask, the modes of all files in it.
        Where `mode` is not given, the queue gets the mode of a root that a group shares.
        """
        from ddmq.storage import roots  # rarely needed

        check_queue_name(queue)
        mode = self._mode if mode is None else roots.checked_mode(mode)
        mode = roots.shared_mode(self.root, self._fs) if mode is None else mode
        timeout = self._wait_for_locks(self._root_settings())
        return roots.make_queue(
            self.root, queue, self._fs, mode=mode, lock_timeout=timeout
        )

    @_explained
    def delete_queue(self, queue: str) -> None:
        """Delete a queue with all its messages and dead letters."""
        from ddmq.storage import roots  # rarely needed

        check_queue_name(queue)
        timeout = self._wait_for_locks(self._root_settings())
        try:
            roots.delete_queue(self.root, queue, self._fs, timeout)
        except QueueNotFound as error:
            raise self._not_found(queue) from error
        self._open.pop(queue, None)

    @_explained
    def queues(self) -> list[str]:
        """Return the names of all queues, sorted."""
        return queues(self.root, self._fs)

    @public
    def view(self, queue: str | Iterable[str] | None = None) -> dict[str, Counts]:
        """Count the messages that wait, are at work, delayed or dead; in all queues by default."""
        return self._in_each(queue, QueuePolicy.counts)

    @public
    def overview(self, queue: str | Iterable[str] | None = None) -> dict[str, Overview]:
        """Count as `view` does, and tell how many of those at work were not renewed for long.

        It costs the same, but for a look at who paused a queue. The end of a lease, less the
        timeout of its message, is when it was made or last renewed.
        """
        return self._in_each(queue, QueuePolicy.overview)

    @_explained
    def _in_each(
        self, queue: str | Iterable[str] | None, look: Callable[[QueuePolicy], _Result]
    ) -> dict[str, _Result]:
        """Return what `look` tells of the named queues; by default, of all that are well."""
        if queue is not None:
            names = [queue] if isinstance(queue, str) else _several("queues", queue)
            return {name: look(self._visited(name)) for name in names}
        found: dict[str, _Result] = {}
        for name in self.queues():
            with _others_go_on():
                found.update(self._in_each(name, look))
        return found

    @_explained
    def pause(self, queue: str) -> bool:
        """Let workers finish what they hold and take no more; False: it was paused already.

        A worker sees it with its next look: at most 0.2 s later where it finds messages, and
        `--poll-max` later where it finds none. All else goes on: publishing, settling,
        housekeeping, and any `consume` without `heed_pause`.
        """
        from ddmq.storage.pause import pause  # rarely needed

        return pause(self._known(queue).store)

    @_explained
    def resume(self, queue: str) -> bool:
        """Let workers take messages again; False: the queue was not paused."""
        from ddmq.storage.pause import resume  # rarely needed

        return resume(self._known(queue).store)

    @_explained
    def paused(self, queue: str) -> Pause | None:
        """Return who paused a queue, and when; None: it is not paused."""
        known = self._known(queue)
        is_paused = known.store.fs.exists(known.store.layout.paused)
        return known.pause_seen() if is_paused else None

    @_explained
    def peek(self, queue: str, n: int = 1) -> list[Seen]:
        """Return the next `n` messages in the order in which they would be consumed; take none.

        Others may take them at once. A client that meets competitors takes later ones first.
        """
        _check_count(n)
        return list(
            islice(self._visited(queue).contents.waiting(), min(n, sys.maxsize))
        )

    @_explained
    def find(self, queue: str, id: str) -> Seen | None:  # noqa: A002
        """Return one message, whether it waits, is at work, delayed or dead; leave it where it is.

        None: it is not in this queue; perhaps it was acked.
        """
        return self._visited(queue).contents.find(_checked_id(id))

    @_explained
    def status(self, queue: str, ids: str | Iterable[str]) -> dict[str, str]:
        """Tell in a word where messages are, or what became of them; change nothing.

        Each is `waiting`, `work`, `delayed`, `acked`, `dead` or `unknown`. That a message was
        acked is known only from the journals of workers. So `unknown` are: what somebody else
        acked, what was purged or moved away, and an id that this queue never had.
        """
        from ddmq.storage.whereabouts import statuses  # rarely needed

        return statuses(self._visited(queue).store, _checked_ids(ids))

    def contents(
        self, queue: str, *, work: bool = False, id_begins: str = ""
    ) -> Iterator[Seen]:
        """Yield all messages of a queue: delayed, dead, waiting; with `work`, also those at work.

        With `id_begins`, only the messages whose ids begin so; no other message is read.

        While others change the queue, no message comes twice, and one that was at work meanwhile
        may be missed. If it must be exact, pause the queue first, and let workers finish.
        """
        from ddmq.storage.contents import Beginnings  # rarely needed

        wanted = Beginnings([id_begins]) if id_begins else None
        try:
            contents = self._visited(queue).contents
            yield from contents.everything(work=work, wanted=wanted)
        except OSError as error:
            raise self._explain(error).alone(error) from None
        except DdmqError as error:
            raise error.alone() from None

    @_explained
    def restore(
        self,
        queue: str,
        messages: Iterable[Seen],
        progress: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Publish what `contents` yielded, here or in another root; return the number.

        The messages get new ids. They keep their counts, priorities and policies, and their
        delays until the same time. Dead letters are dead here, too; what was at work waits.
        `progress` is called with the number published so far, which an error leaves published.
        """
        each = _theirs(_iterator("messages", messages))
        open_queue = self._visited(queue, create=self._create)
        return open_queue.restore(map(_checked_seen, each), progress)

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
        key: str | None = None,
    ) -> str:
        """Publish any JSON value; return the id of the message.

        The settings decide what is left out: `priority` and `durable` now, the others when
        the message is consumed. `timeout` and `delay` are seconds. If `durable` holds, the
        message survives a power cut as soon as this returns.
        """
        # As `PublishOptions` have them, which take several times as long to make.
        own = (priority, timeout, requeue, requeue_prio, requeue_limit, delay, durable)
        known = self._known(queue, clean=self._clean, create=self._create)
        return known.publish(message, own, key)

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
        key: str | None = None,
    ) -> int:
        """Publish messages with the options of `publish`, in order; return their number.

        They go into few files. All become visible at once, after the last one has come: an
        error or a crash before that publishes none. There are two exceptions. Fewer than ten
        messages are published one by one, once all are known to be good. Bundles with a
        `delay` become delayed messages one by one.

        With a `key`, all are bundles. A later call with it publishes nothing, reads no messages,
        and returns the number of the first.
        """
        options = PublishOptions(
            priority, timeout, requeue, requeue_prio, requeue_limit, delay, durable
        )
        if isinstance(messages, (str, bytes, Mapping)):
            raise InvalidArgument(
                f"messages are {messages!r:.60}, which is one; give a list of messages"
            )
        each = _theirs(_iterator("messages", messages))
        queue_ = self._visited(queue, create=self._create)
        return queue_.publish_many(each, options, key)

    @_explained
    def published_with(self, queue: str, key: str) -> tuple[int, str, str] | None:
        """Return how many messages were published with a key, and the first and the last id.

        None: no message was.
        """
        from ddmq.storage.keys import Keys, name_of  # rarely needed

        keyed = Keys(self._visited(queue).store).named(name_of(key))
        return None if keyed is None else (keyed.number, keyed.first, keyed.last)

    @_explained
    def count_dead(self, queue: str, key: str | None = None) -> int:
        """Return how many dead letters a queue has; with `key`, those that it published."""
        store = self._queue(queue).store
        if not store.fs.listing(store.layout.dead):
            return 0  # most workers end so, and import nothing more
        ids = store.dead_letters.ids()
        if key is None:
            return len(ids)
        from ddmq.storage.keys import Keys, name_of  # rarely needed

        keyed = Keys(store).named(name_of(key))
        bundles = [id_.partition("-")[0] for id_ in ids]
        ours = set() if keyed is None else keyed.ids_among(set(bundles))
        return sum(bundle in ours for bundle in bundles)

    @_explained
    def forget(self, queue: str, key: str) -> bool:
        """Let a key be used once more; False: nothing was published with it."""
        from ddmq.storage.keys import Keys, name_of  # rarely needed

        return Keys(self._known(queue).store).forget(name_of(key))

    # Messages are consumed and settled

    @_explained
    def consume(
        self,
        queue: str,
        n: int = 1,
        *,
        wait: float | None = 0,
        unless: Callable[[Message], str | None] | None = None,
        heed_pause: bool = False,
        started: int | None = None,
    ) -> list[Message]:
        """Lease up to `n` messages, the first in order; an empty list when none waits.

        With `wait`, look again until there is one, or `wait` seconds are over; None: wait without
        end. The pauses between two looks grow, up to 5 s.

        Each must be acked, nacked, released, rejected or renewed within its `timeout`. Else
        the next client that interacts with the queue requeues it. When thousands of leases
        have expired at once, each call requeues what fits into half a second.

        Each call also moves what is no message to quarantine, for half a second. If no message
        was reached by then, GarbageAhead is raised, which is a StorageError. The next call
        goes on from there.

        `unless` is called with each message before its content is read, so its `message` is
        None. It returns the reason for which the message must become a dead letter, or None.

        With `heed_pause`, as workers call it, nothing is taken from a queue that is paused, and
        QueuePaused is raised, after `wait` seconds. Without it, a pause changes nothing, and one
        warning tells of it.

        With `started`, the caller starts so many of the messages immediately, and calls `start`
        for each of the others before it starts them. If the caller dies before that, they come
        back to their places, and no loss is counted.
        """
        _check_count(n)
        options: dict[str, Any] = {"heed_pause": heed_pause, "started": started}
        if wait == 0:
            known = self._known(queue, clean=self._clean)
            return known.consume(n, unless, **options)
        for is_last in self._looks("wait", wait):
            try:
                found = self._visited(queue).consume(n, unless, **options)
            except (QueuePaused, GarbageAhead):
                if is_last:
                    raise
                continue
            if found:
                return found
        return []

    @contextmanager
    def consume_one(
        self, queue: str, *, wait: float | None = 0, heed_pause: bool = False
    ) -> Iterator[HeldMessage | None]:
        """Lease a message for a `with` block, at whose end it is settled; None when none came.

        Inside of the block its lease is renewed. When the block ends, the message is acked; after
        an exception it is nacked, and after KeyboardInterrupt or SystemExit released. What the
        block has settled itself stays as it is. See `HeldMessage`.
        """
        found = self.consume(queue, wait=wait, heed_pause=heed_pause)
        if not found:
            yield None
            return
        with self._held(found[0]) as message:
            yield message

    def iter(
        self, queue: str, *, wait: float | None = 0, heed_pause: bool = False
    ) -> Iterator[HeldMessage]:
        """Lease one message after the other, until the queue was empty for `wait` seconds.

        Work on each in `with message:`, which renews and settles it: an iterator can't see an
        exception. A message that is neither settled nor worked on comes back when its lease is
        over.
        """
        while found := self.consume(queue, wait=wait, heed_pause=heed_pause):
            yield self._held(found[0])

    def _held(self, message: Message) -> HeldMessage:
        from ddmq.holding.held import HeldMessage, Keeper  # not every client needs it

        if self._keeper is None:
            self._keeper = Keeper(self, self._clock)
        return HeldMessage(message, self, self._keeper.heartbeat)

    @_explained
    def ack(self, message: Message | Iterable[Message]) -> None:
        """Finish messages: each is removed. LeaseLost when we no longer had the lease of one.

        Of several messages, all are tried; then LeaseLost names those that were lost.
        """
        self._settle(message, lambda queue, _, leases: queue.ack(leases))

    @_explained
    def nack(
        self,
        message: Message | Iterable[Message],
        *,
        delay: float = 0,
        reason: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Say that messages failed: each is tried again after `delay` seconds, or is dead.

        Its `failures` grow by one, and it waits at its `requeue_prio`. Where `requeue` is false
        or `requeue_limit` is reached, it becomes a dead letter instead. That has the `reason`,
        and the `details` (JSON types) in its note.
        """
        check("delay", DELAY, delay)
        note = _note(reason, details)
        self._settle(message, _each(lambda q, m, x: q.nack(m, x, delay, note)))

    @_explained
    def release(
        self, message: Message | Iterable[Message], *, delay: float = 0
    ) -> None:
        """Give messages back unharmed, to their old places; nothing is counted.

        With a `delay`, they come to the end of the ready queue after so many seconds.
        """
        check("delay", DELAY, delay)
        self._settle(message, lambda queue, _, leases: queue.release(leases, delay))

    @_explained
    def reject(
        self,
        message: Message | Iterable[Message],
        reason: str = "",
        details: Mapping[str, Any] | None = None,
        *,
        cancelled: bool = False,
    ) -> None:
        """Make messages dead letters at once, whatever their limits say.

        `cancelled` is for messages that `to_cancel` names; the reason is then who cancelled them.
        """
        note = _note(reason, details)

        def reject(queue: QueuePolicy, _: Message, lease: Lease) -> bool:
            return queue.reject(lease, note, cancelled=cancelled)

        self._settle(message, _each(reject))

    @_explained
    def move(
        self, message: Message | Iterable[Message], queue: str, *, anew: bool = False
    ) -> None:
        """Put consumed messages at the end of another ready queue.

        Their counts are unchanged. With `anew` they are zero: for messages that were done well
        here, and are the next step's now.
        """
        target = self._known(queue)
        act = _each(lambda q, _, lease: q.move(lease, target, anew=anew))
        self._settle(message, act)

    @_explained
    def move_waiting(
        self, queue: str, ids: str | Iterable[str], target: str
    ) -> dict[str, str]:
        """Put messages that wait at the end of another ready queue, their counts unchanged.

        Those that are delayed stay so until the same time. All are tried; the ids of those that
        were not moved are returned, each with the reason.
        """
        if queue == target:
            raise InvalidArgument(f"queue {queue}: messages move to another queue")
        from ddmq.storage.transfer import Transfer  # rarely needed

        wanted, other = _checked_ids(ids), self._known(target)
        return Transfer(self._visited(queue).store, other.store, wanted).move()

    @overload
    def start(self, message: Message) -> Message: ...
    @overload
    def start(self, message: Iterable[Message]) -> list[Message]: ...
    @_explained
    def start(self, message: Message | Iterable[Message]) -> Message | list[Message]:
        """Note that messages are started which were taken ahead: see `consume`.

        Return the message under its new file name, or a list of such messages. If the caller dies from now on, a loss is counted.
        What one call consumed from a bundle is noted by one call to the file system. All are
        tried; then LeaseLost names those that were lost.
        """
        started: list[Message] = []

        def start(
            queue: QueuePolicy, given: list[Message], leases: list[Lease]
        ) -> list[Lease]:
            found = queue.start(given, leases)
            started.extend(each for each in found if each is not None)
            return [x for x, each in zip(leases, found) if each is None]

        self._settle(message, start)
        return started[0] if isinstance(message, Message) else started

    @overload
    def renew(
        self,
        message: Message,
        timeout: float | None = None,
        *,
        together: bool = False,
    ) -> Message: ...
    @overload
    def renew(
        self,
        message: Iterable[Message],
        timeout: float | None = None,
        *,
        together: bool = False,
    ) -> list[Message]: ...
    @_explained
    def renew(
        self,
        message: Message | Iterable[Message],
        timeout: float | None = None,
        *,
        together: bool = False,
    ) -> Message | list[Message]:
        """Prolong leases to `timeout` seconds from now, by default to their own.

        Return the message under its new file name, or a list of such messages; the old ones
        can still be used. All are tried; then LeaseLost names those that were lost.

        With `together`, what one call consumed from a bundle is renewed by one call to the file
        system: all of it, also what is not given here.
        """
        if timeout is not None:
            check("timeout", OVERRIDES["timeout"], timeout)
        renewed: list[Message] = []

        def renew(
            queue: QueuePolicy, messages: list[Message], leases: list[Lease]
        ) -> list[Lease]:
            found = queue.renew(messages, leases, timeout, together=together)
            renewed.extend(longer for longer in found if longer is not None)
            return [x for x, longer in zip(leases, found) if longer is None]

        self._settle(message, renew)
        return renewed[0] if isinstance(message, Message) else renewed

    def _settle(
        self,
        messages: Message | Iterable[Message],
        act: Callable[[QueuePolicy, list[Message], list[Lease]], list[Lease]],
    ) -> None:
        """Do something with messages in their order, those of one queue together.

        `act` returns those whose lease was lost; LeaseLost names them in the end.
        """
        if isinstance(messages, Message):  # alone, as most are
            lease = messages.lease or _lease_of(messages)  # as that does, a call sooner
            if act(self._queue(messages.queue), [messages], [lease]):
                raise LeaseLost(_lost_text([messages]), [messages])
            return
        if isinstance(messages, (list, tuple, set)) or hasattr(messages, "__next__"):
            held = list(messages)
        else:
            raise InvalidArgument(f"{messages!r:.60} is no message; {_SETTLE}")
        leases = [_lease_of(message) for message in held]
        lost: list[Message] = []
        for name, pairs in groupby(zip(held, leases), lambda pair: pair[0].queue):
            together, ours = map(list, zip(*pairs))
            missed = act(self._queue(name), together, ours)
            if missed:
                of = dict(zip(ours, together))
                lost += [of[lease] for lease in missed]
        if lost:
            raise LeaseLost(_lost_text(lost), lost)

    @_explained
    def leased(self, queue: str, name: str) -> Message:
        """Return the message at work that has this id or file name; it can be settled then.

        A file name proves one lease by its token. An id stands for the present lease of the
        message, which any client may have. LeaseLost when there is none.
        """
        message = self._known(queue).held(_checked_id(name))
        if message is None:
            raise LeaseLost(
                f"{name}: not at work in queue {queue}; it was settled, or its lease expired"
            )
        return message

    # Housekeeping and dead letters

    @_explained
    def clean(self, queue: str, *, end_leases: bool = False) -> Swept:
        """Do all the housekeeping of a queue now; return what was found.

        With `end_leases`, all messages at work come back as if their time were over. Use that only
        when all consumers are known to be gone: what somebody still works on is run twice.
        """
        return self._known(queue).clean(end_leases=end_leases)

    @public
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

        States are waiting, work, delayed and dead. Messages that come meanwhile may stay. If
        something can't be removed, all else is removed first, and then StorageError is raised.
        """
        from ddmq.storage.locks import exclusive  # only this needs them
        from ddmq.storage.purge import purge

        states = _several("states", states)
        unknown = [each for each in states if each not in STATES]
        if unknown:
            raise InvalidArgument(
                f"states are {', '.join(STATES)}, not {show(unknown[0])}"
            )
        open_queue = self._known(queue)
        timeout = self._wait_for_locks(open_queue.settings.current())
        with exclusive(f"{self.root}/{queue}/lock", timeout):
            purging = self._clock.begin(partial(purge, open_queue.store, states))
            return wait_for(purging, lambda: f"purging {queue} is not done yet")

    @_explained
    def dead(self, queue: str) -> list[DeadLetter]:
        """Return the dead letters of a queue with their reasons, by priority and age."""
        return self._visited(queue).dead()

    @_explained
    def redrive(
        self,
        queue: str,
        ids: Iterable[str] | None = None,
        *,
        even_if_gone: bool = False,
    ) -> int:
        """Put dead letters back into the ready queue, all or those with these ids.

        Return how many. Their counts start at zero, and they get the priority that they were
        published with. What is no message stays a dead letter. MessageNotFound names ids of
        which there is no dead letter; then nothing was done. With `even_if_gone`, all others are
        put back: for ids that were just listed, where somebody else may redrive them meanwhile.
        """
        wanted = None if ids is None else set(_checked_ids(ids))
        return self._visited(queue).redrive(wanted, even_if_gone=even_if_gone)

    @public
    def log(self, queue: str) -> Iterator[Run]:
        """Yield the runs that workers noted of the messages of a queue, in no order.

        What their journals hold that is no run is left out, and counted in a warning.
        """
        from ddmq.hpc import journal  # what workers write, and who asks for it may read

        self.settings(queue)  # there must be such a queue
        return each_public(journal.read(f"{self.root}/{queue}"))

    @_explained
    def wait(
        self,
        queue: str,
        timeout: float | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> bool:
        """Wait until no message waits, is at work or delayed; False after `timeout` seconds.

        `progress` is called with the queue's name before each pause.
        """
        for is_last in self._looks("timeout", timeout):
            if self.is_empty(queue):
                return True
            if progress is not None and not is_last:
                progress(queue)
        return False

    def _looks(self, name: str, seconds: float | None) -> Iterator[bool]:
        """Yield once for each look, for so many seconds: whether it is the last one.

        The pauses between them grow, with jitter, so that a thousand clients do not look in step.
        """
        if seconds is not None:
            check(name, DELAY, seconds)
        clock, pause, is_last = self._clock, _LOOK_FIRST, False
        deadline = None if seconds is None else clock.monotonic() + seconds
        while not is_last:
            is_last = deadline is not None and clock.monotonic() >= deadline
            yield is_last
            left = _LOOK_LONGEST if deadline is None else deadline - clock.monotonic()
            if not is_last and left > 0:
                clock.sleep(min(pause * jitter(), _LOOK_LONGEST, left))
            pause = min(pause * 1.5, _LOOK_LONGEST)

    @_explained
    def is_empty(self, queue: str) -> bool:
        """Tell whether no message waits, is at work or delayed; dead letters do not count."""
        return self._visited(queue).store.census.is_empty()

    @_explained
    def with_follow_ups(
        self, queue: str, act: Callable[[FollowUps], _Result]
    ) -> _Result:
        """Return what `act` does with what workers are to run when a queue is done."""
        from ddmq.storage.then import FollowUps  # few need it

        return act(FollowUps(self._known(queue).store))

    @public
    def workers(self, queue: str, *, running: bool = False) -> list[WorkerSeen]:
        """Return the workers of a queue, alive or not, as they last told of themselves.

        It is one listing, also for a thousand of them. With `running`, the file of each busy one
        is read, too: it tells what runs for more than ten seconds. A worker that has ended is
        forgotten after a week.
        """
        return self.with_workers(queue, lambda each: each.all(running=running))

    @public
    def drain(self, queue: str, *, host: str = "", job: str = "") -> int:
        """Let workers finish what they hold, take no more, and end; return how many are meant.

        These are all that have started by now, or those on a `host`, or those of a `job`. A worker
        sees it within a minute; where more than 600 work, within a tenth of a second for each.
        """
        if host and job:
            raise InvalidArgument("give a host or a job, not both")
        for word, given in (("host", host), ("job", job)):
            if not isinstance(given, str):
                raise InvalidArgument(f"{word} is {given!r:.60}, which is not text")
        kind, which = ("host", host) if host else ("job", job) if job else ("all", "")
        return self.with_workers(queue, lambda each: each.drain(kind, which))

    @_explained
    def with_workers(self, queue: str, act: Callable[[Workers], _Result]) -> _Result:
        """Do something with what workers tell of themselves; return what `act` does."""
        from ddmq.storage.workers import Workers  # few need it

        return act(Workers(self._known(queue).store))

    # Cancelling

    @_explained
    def cancel(self, queue: str, ids: str | Iterable[str]) -> dict[str, str]:
        """Make messages that nobody is to run dead letters; return where each is now.

        - `dead`: it is a dead letter, since now or before.
        - `waiting`, `delayed`: it is one of several in a bundle, and becomes a dead letter when it
          would be consumed.
        - `work`: a worker ends it with its next heartbeat. Any other consumer may still ack it. If
          it does not, the message becomes a dead letter: when its lease is over, or, after a nack
          or release, when it would be consumed again.
        - `acked`, `unknown`: it is not in the queue (see `status`).
        """
        return self._visited(queue).store.cancelled.cancel(_checked_ids(ids))

    @_explained
    def to_cancel(self, queue: str) -> frozenset[str]:
        """Return the ids of messages that somebody cancelled and that are not dead yet."""
        return self._known(queue).store.cancelled.ids_if_any()

    # Settings

    @_explained
    def settings(self, queue: str | None = None) -> Settings:
        """Return the settings that hold for a queue, or for the root."""
        if queue is None:
            return self._root_settings()
        return self._queue(queue).reread()

    @_explained
    def update_settings(
        self,
        queue: str | None = None,
        *,
        unset: Iterable[str] = (),
        **changes: Any,
    ) -> Settings:
        """Change settings of a queue, or of the root; `unset` keys get their default back.

        All changes are made or none, by one client at a time, and nobody reads half of them.
        """
        unset = _several("unset", unset)
        for key in unset:
            if key not in SETTINGS:
                raise InvalidArgument(
                    f"unknown setting {key!r}; known are {', '.join(SETTINGS)}"
                )
        file = self._root_file
        if queue is not None:
            self._queue(queue)
            file = SettingsFile(f"{self.root}/{queue}", self._fs, of_queue=True)
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
        """Return the mode of new directories in a queue that a group shares; None in any other."""
        return self._queue(queue).store.layout.directory_mode

    # Within

    def _visited(self, queue: str, *, create: bool = False) -> QueuePolicy:
        """Return an open queue, after the housekeeping that is due."""
        return self._known(queue, clean=self._clean, create=create)

    def _known(
        self, queue: str, *, clean: bool = False, create: bool = False
    ) -> QueuePolicy:
        """Return an open queue whose layout we have checked within the last few minutes.

        With `clean`, the housekeeping that is due comes first. `publish` and `consume` call this
        in place of `_visited`, which saves a call for each message.
        """
        try:
            known = self._open[queue]
        except (KeyError, TypeError):  # not open yet, or no name at all
            known = self._opened(queue, create=create)
        now = self._clock.monotonic()
        if not known.attended_at <= now < known.due_at or known.settings.known is None:
            known.attend(now, clean=clean)
        return known

    def _queue(self, queue: str) -> QueuePolicy:
        """Return an open queue, whatever its layout is by now.

        This is for settling: a client that has leased a message knows its name, and can still
        give it back.
        """
        try:
            known = self._open[queue]
        except (KeyError, TypeError):  # not open yet, or no name at all
            return self._opened(queue)
        if not known.attended_at <= self._clock.monotonic() < known.due_at:
            known.check_when_due()  # which else has nothing to do, as in `_known`
        return known

    def _opened(self, queue: str, *, create: bool = False) -> QueuePolicy:
        """Open a queue; with `create`, make it when it is missing."""
        check_queue_name(queue)
        if not is_queue(self.root, queue, self._fs):
            if not create:
                missing = errno.ENOENT, os.strerror(errno.ENOENT)
                raise FileNotFoundError(*missing, f"{self.root}/{queue}")
            self.create_queue(queue)
        path = f"{self.root}/{queue}"
        file = SettingsFile(path, self._fs, of_queue=True)
        settings = LayeredSettings(self._root_file, file, self._clock)
        settings.current()  # first: in another layout, we know none of the directories
        bucket_size, bundle_size = self._sizes
        store = Store(
            path,
            self._fs,
            self._clock,
            settings,
            bucket_size=bucket_size,
            bundle_size=bundle_size,
        )
        store.open()
        return self._open.setdefault(
            queue, QueuePolicy(queue, store, settings, cleans=self._clean)
        )

    def _explain(self, error: OSError) -> DdmqError:
        """Return the DdmqError that explains an error of the file system to a user."""
        self._fs.let_go()  # the directories we hold may be moved, made anew, or closed
        _forget_frames(error)
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
            return RootNotFound(f"{self.root}: no ddmq root", self.root)
        path = os.fspath(error.filename or self.root)
        queue = os.path.relpath(path, self.root).split("/")[0]
        if not may_be_queue(queue) or is_queue(self.root, queue, self._fs):
            return StorageError(error)
        self._open.pop(queue, None)
        return self._not_found(queue)

    def _not_found(self, queue: str) -> DdmqError:
        """Return the error for a queue that does not exist, which says how to create it."""
        known: list[str] = []
        with suppress(OSError):
            known = queues(self.root, self._fs)
        meant = did_you_mean(queue, known)
        if known and not meant:
            more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
            meant = f"; queues here: {', '.join(known[:_NAMED])}{more}"
        text = f"{self.root}/{queue}: no such queue{meant}"
        return QueueNotFound(text, self.root, queue)


def _forget_frames(error: BaseException) -> None:
    """Clear the variables of the functions that an error has left.

    One of them may be the error itself. Then the error, and this client with what it holds open,
    would stay until the garbage collector comes.
    """
    trace = error.__traceback__
    while trace is not None:
        with suppress(RuntimeError):  # this function has not ended
            trace.tb_frame.clear()
        trace = trace.tb_next


def _note(reason: Any, details: Any) -> dict[str, Any]:
    """Return the note of a dead letter, or raise InvalidArgument."""
    if not isinstance(reason, str):
        raise InvalidArgument(f"reason {reason!r:.60} is not text")
    if not isinstance(details, (Mapping, type(None))):
        raise InvalidArgument(f"details {details!r:.60} are no mapping of JSON types")
    from ddmq.untrusted import parsed  # rarely needed

    note = {**({"reason": reason} if reason else {}), **(details or {})}
    try:
        data = json.dumps(note).encode()
        parsed(data)  # as a client that lists dead letters will
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"details are no JSON: {error}") from error
    if len(data) > MAX_NOTE:
        raise InvalidArgument(
            f"reason and details are {len(data)} bytes long, over {MAX_NOTE}; write them to "
            "a file, and say where it is"
        )
    return note


def _each(
    act: Callable[[QueuePolicy, Message, Lease], bool],
) -> Callable[[QueuePolicy, list[Message], list[Lease]], list[Lease]]:
    """Return what does something with one message after the other, and returns those lost."""

    def act_on_all(
        queue: QueuePolicy, messages: list[Message], leases: list[Lease]
    ) -> list[Lease]:
        pairs = zip(messages, leases)
        return [lease for message, lease in pairs if not act(queue, message, lease)]

    return act_on_all


def _lease_of(message: Any) -> Lease:
    if isinstance(message, Message):
        lease = message.lease or Lease.parse(str(message.filename))
        if lease is not None:
            return lease
    raise InvalidArgument(f"{message!r:.60} has no lease; {_SETTLE}")


def _lost_text(messages: list[Message]) -> str:
    ids = ", ".join(message.id for message in messages[:5])
    more = f" and {len(messages) - 5} more" if len(messages) > 5 else ""
    return (
        f"message {ids}{more}: the lease is lost: it expired, or the message was settled "
        "already; others may have consumed it meanwhile"
    )


def _iterator(what: str, several: Iterable[Any]) -> Iterator[Any]:
    try:
        return iter(several)
    except TypeError as error:
        raise InvalidArgument(f"{what} are {several!r:.60}; give a list") from error


def _several(what: str, words: Iterable[str]) -> list[str]:
    if isinstance(words, str):  # whose letters would be taken for the words
        raise InvalidArgument(f"{what} is {show(words)}, which is one; give a list")
    found = list(_iterator(what, words))
    for word in found:
        if not isinstance(word, str):
            raise InvalidArgument(f"{what}: {word!r:.60} is not text")
    return found


def _checked_ids(ids: str | Iterable[str]) -> list[str]:
    given = [ids] if isinstance(ids, str) else _several("ids", ids)
    return [_checked_id(each) for each in given]


def _checked_id(id_: Any) -> str:
    if not isinstance(id_, str):
        raise InvalidArgument(f"id {id_!r:.60} is not text; give that of a message")
    if not id_:  # an unset variable, say
        raise InvalidArgument("an id is empty; give that of a message")
    return id_


def _checked_seen(message: Any) -> Seen:
    from ddmq.seen import Seen  # few need it

    if isinstance(message, Seen):
        return message
    raise InvalidArgument(f"{message!r:.60} is no message that `contents` yields")


def _check_count(n: Any) -> None:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise InvalidArgument(f"n is {n!r}; it must be a positive number of messages")


def _checked_root(root: str | os.PathLike[str]) -> str:
    try:
        path: object = os.fspath(root)
        if isinstance(path, str) and path and b"\0" not in os.fsencode(path):
            return real_path(path, "root ")
    except InvalidArgument:
        raise
    except (TypeError, ValueError, OSError) as error:
        raise InvalidArgument(
            f"root {root!r} is not the path of a directory"
        ) from error
    raise InvalidArgument(f"root {root!r} is not the path of a directory")
