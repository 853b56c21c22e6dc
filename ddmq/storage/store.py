"""One queue on disk: each verb is one visible change.

The state of a message is its name, and every transition is one `rename`, one `unlink`, or one
symbolic link that is made exclusively. So a message is in exactly one state at every instant, also
after a crash before any system call. `docs/protocol.md` has the reasons, and
`ddmq.storage.names` has the names.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.clock import ClockUnknown, Stopwatch
from ddmq.errors import inform, out_of_memory
from ddmq.message import (
    END,
    Content,
    InvalidContent,
    Policy,
    TooLarge,
    content_of,
    decode,
    decode_dropped,
)
from ddmq.settings import Limit
from ddmq.storage.buckets import Buckets, PassedOver
from ddmq.storage.directories import NO_DESCRIPTOR
from ddmq.storage.filesystem import UNREADABLE
from ddmq.storage.layout import (
    ABANDONED,
    ABANDONED_INPUT,
    BundleNotFound,
    Layout,
    NoClaim,
    ServerTime,
)
from ddmq.storage.names import (
    DROPPED,
    LINES,
    Bundle,
    Entry,
    Lease,
    make,
    new_id,
    new_token,
    overrides_of,
)
from ddmq.storage.ready import ReadyQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ddmq.clock import Clock
    from ddmq.message import Publication
    from ddmq.settings import Settings
    from ddmq.storage.bundles import Bundles
    from ddmq.storage.cancelled import Cancellations
    from ddmq.storage.census import Census
    from ddmq.storage.dead_letters import DeadLetters
    from ddmq.storage.delayed import DelayedMessages
    from ddmq.storage.drop import Drop
    from ddmq.storage.filesystem import FileSystem
    from ddmq.storage.leases import Leases
    from ddmq.storage.leftovers import Leftovers
    from ddmq.storage.names import ReadyEntry, Waiting
    from ddmq.storage.range_names import Range
    from ddmq.storage.ready import ConsumeCall
    from ddmq.storage.scan import Scan

BUCKET_SIZE = 500
#: These errors concern one file (immutable, or another user's in a sticky directory) alone.
_ONLY_THIS = (errno.EPERM, errno.EBUSY, errno.EXDEV)
#: These errors concern the whole file system, or this process.
_OF_ALL = (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, *NO_DESCRIPTOR)


class MessageFiles:
    """Reads the files of messages in one queue."""

    def __init__(self, fs: FileSystem, limit: Limit) -> None:
        self._fs = fs
        self._limit = limit

    def read(self, path: str, entry: Entry) -> Content:
        """Read a message file, at most up to the limit, or raise InvalidContent."""
        limit = self._limit.max_bytes
        try:
            if entry.id.startswith(DROPPED):
                return decode_dropped(self._fs.read(path, limit + 1), limit)
            return decode(self._fs.read(path, limit + 1, END), limit)
        except TooLarge:
            if self._limit.reread() <= limit:
                raise
            return self.read(path, entry)  # the limit was raised a moment ago
        except MemoryError as error:
            raise out_of_memory(path) from error
        except OSError as error:
            if error.errno not in UNREADABLE:
                raise
            found = self._fs.status(path)
            if found is not None and stat.S_ISLNK(found.mode):
                text = "a symbolic link, which ddmq never follows"
            elif found is not None and not found.is_file:
                text = "a directory or special file, not a message"
            else:
                text = f"its file can't be read: {error.strerror}"
            raise InvalidContent(text) from error


class Claimed(NamedTuple):
    """What one claim took: leases of messages of the entry at `path`."""

    path: str
    leases: list[Lease]
    settings: Settings
    """The settings at the time of the claim."""


class _Unread:
    """A message that could not be read: its name and id in the ready queue, and the reason."""

    def __init__(self, filename: str, id_: str, error: OSError) -> None:
        self.filename = filename
        self.id = id_
        self.error = error


class Store:
    """One queue on disk. Safe to use from several threads, and after a fork."""

    def __init__(
        self,
        path: str,
        fs: FileSystem,
        clock: Clock,
        limit: Limit | None = None,
        *,
        bucket_size: int = BUCKET_SIZE,
        bundle_size: int | None = None,
    ) -> None:
        self.path = path
        self.fs = fs
        self.clock = clock
        self.limit = limit = limit or Limit()
        self.layout = layout = Layout(path, fs, clock)
        self.time = time = ServerTime(layout, fs, clock)
        self.files = files = MessageFiles(fs, limit)
        self.passed = passed = PassedOver(clock)
        self.ended: set[str] = set()
        """Bundles of which we ended a claim since we last looked whether they are finished."""
        self.bundle_size = bundle_size
        ended = self.ended
        letters: list[DeadLetters] = []
        bundles: list[Bundles] = []

        # No part refers to this object. So all of them go with it, and the directories that are
        # held open, without the garbage collector.

        def find_letters() -> DeadLetters:
            if not letters:
                from ddmq.storage.dead_letters import DeadLetters

                letters.append(DeadLetters(layout, fs, clock, files))
            return letters[0]

        def find_bundles() -> Bundles:
            if not bundles:
                from ddmq.storage.bundles import Bundles

                found = Bundles(
                    layout, fs, clock, time, buckets=buckets, limit=limit, ended=ended
                )
                bundles.append(found)  # what another thread has added comes before
            return bundles[0]

        def quarantine(path: str, reason: str) -> bool:
            return find_letters().quarantine(path, reason)

        self._find_letters = find_letters
        self._find_bundles = find_bundles
        self.buckets = buckets = Buckets(
            layout, fs, clock, quarantine, passed=passed, size=bucket_size
        )
        self.ready = ReadyQueue(buckets, find_bundles, fs, clock)
        self._leases: Leases | None = None
        self._delayed: DelayedMessages | None = None
        self._drop: Drop | None = None
        self._census: Census | None = None
        self._leftovers: Leftovers | None = None
        self._cancelled: Cancellations | None = None

    def open(self) -> None:
        """Look at the directories, and compare our clock with the file server's."""
        self.layout.open()
        self.time.learn()

    # The parts that few commands need are made when they are first used. Each module that a
    # command imports costs the file server some requests.

    @property
    def bundles(self) -> Bundles:
        """The messages that were published together; threads that ask at once get the same."""
        return self._find_bundles()

    @property
    def leases(self) -> Leases:
        """The messages that somebody has."""
        if self._leases is None:
            from ddmq.storage.leases import Leases

            fs, time, find = self.fs, self.time, self._find_bundles
            self._leases = Leases(self.layout, fs, time, find, passed=self.passed)
        return self._leases

    @property
    def dead_letters(self) -> DeadLetters:
        """The messages that are not tried again, and what is no message."""
        return self._find_letters()

    @property
    def delayed(self) -> DelayedMessages:
        """The messages that are not visible yet."""
        if self._delayed is None:
            from ddmq.storage.delayed import DelayedMessages

            self._delayed = DelayedMessages(self.layout, self.fs, self.time, self.ready)
        return self._delayed

    @property
    def scan(self) -> Scan:
        """The listings below `ready/`, which change nothing."""
        from ddmq.storage.scan import Scan

        return Scan(self.layout.ready, self.fs, self.passed)

    @property
    def drop(self) -> Drop:
        """The files that other programs leave in `drop/`."""
        if self._drop is None:
            from ddmq.storage.drop import Drop

            self._drop = Drop(
                self.layout,
                self.fs,
                self.ready,
                self.dead_letters,
                files=self.files,
                limit=self.limit,
            )
        return self._drop

    @property
    def census(self) -> Census:
        """The counts of all that is in this queue."""
        if self._census is None:
            from ddmq.storage.census import Census

            self._census = Census(
                self.layout,
                self.fs,
                self.clock,
                self.scan,
                bundles=self.bundles,
                delayed=self.delayed,
                dead_letters=self.dead_letters,
            )
        return self._census

    @property
    def leftovers(self) -> Leftovers:
        """What dead clients left behind."""
        if self._leftovers is None:
            from ddmq.storage.leftovers import Leftovers

            self._leftovers = Leftovers(
                self.layout,
                self.fs,
                self.time,
                census=self.census,
                dead_letters=self.dead_letters,
            )
        return self._leftovers

    @property
    def cancelled(self) -> Cancellations:
        """The messages that are to become dead letters when somebody has taken them."""
        if self._cancelled is None:
            from ddmq.storage.cancelled import Cancellations

            self._cancelled = Cancellations(self)
        return self._cancelled

    # A message comes

    def publish(
        self,
        data: bytes,
        options: tuple[int, str, float, bool],
        failures: int = 0,
        losses: int = 0,
    ) -> str:
        """Make a message; return its id. `options` are the fields of a `Publication`.

        A crash leaves at most a file in `tmp/`, which is no message. A durable message
        survives a power cut as soon as this returns.
        """
        id_, clock, layout = os.urandom(10).hex(), self.clock, self.layout
        priority, policy, delay, durable = options
        entry = make(Entry, (priority, 0, id_, failures, losses, policy))
        draft = f"{layout.tmp}/{id_}"
        began = clock.monotonic(), clock.own_ns() + clock.offset_ns
        self.fs.create_own(draft, data, sync=durable, mode=layout.file_mode)
        try:
            moved = self._show(draft, entry, delay, sync=durable)
        except OSError:
            self.fs.discard(draft)
            raise
        if not moved:
            self._explain_missing(draft, Stopwatch(clock, began), ABANDONED)
        return id_

    def publish_dead(
        self,
        data: bytes,
        options: Publication,
        counts: tuple[int, int],
        *,
        code: str,
        note: Mapping[str, Any],
    ) -> None:
        """Make a dead letter, as if a message with these failures and losses had become one."""
        from ddmq.storage.dead_letters import Dead  # rarely needed

        stamp, letters = self.ready.next_stamp(), self.dead_letters
        entry = Entry(options.priority, stamp, new_id(), *counts, options.policy)
        dead, draft = Dead(entry, new_token(), code), f"{self.layout.tmp}/{entry.id}"
        watch, mode = Stopwatch(self.clock), self.layout.file_mode
        self.fs.create_own(draft, data, sync=options.durable, mode=mode)
        try:
            if note:
                letters.write_note(dead, note)
            moved = self.fs.rename(draft, letters.path_of(dead))
        except OSError:
            self.fs.discard(draft)
            raise
        if not moved:
            self._explain_missing(draft, watch, ABANDONED)
        if options.durable:
            self.fs.sync_directory(letters.path)

    def publish_many(self, messages: Iterable[bytes], options: Publication) -> int:
        """Make messages, each given as JSON; return their number.

        A few messages become single files. More become bundles, and one rename makes all of
        these visible. The bundles are written while the messages come, so that not all are
        kept in memory.
        """
        from ddmq.storage.bundle_file import BUNDLE_FROM, chunks

        bunches = chunks(messages, self.bundle_size)
        first, second = next(bunches, []), next(bunches, None)
        if second is None and len(first) < BUNDLE_FROM:
            ids: list[str] = []
            try:
                for message in first:
                    content = content_of(message, options.priority)
                    ids.append(self.publish(content, options))
            except OSError as error:
                if ids:  # whoever tries it again would publish them twice
                    done = f"{len(ids)} of {len(first)} messages were published before"
                    error.strerror = f"{error.strerror}; {done}: {', '.join(ids)}"
                raise
            inform(f"{len(ids)} published: {', '.join(ids)}")
            return len(ids)
        if second is None:
            bundles = [self._publish_bundle(first, options)]
        else:
            bunches = chain((first, second), bunches)
            bundles = self._publish_bundles(bunches, options)
        inform(_ids(bundles))
        return sum(bundle.lines for bundle in bundles)

    def _publish_bundle(self, messages: list[bytes], options: Publication) -> Bundle:
        """Make a bundle, and then its entry."""
        watch, layout = Stopwatch(self.clock), self.layout
        bundle = Bundle(options.priority, 0, new_id(), len(messages), options.policy)
        draft, entry = f"{layout.tmp}/{bundle.id}", f"{layout.tmp}/{new_id()}"
        try:
            self.write_bundle(draft, messages, options)
            self.fs.touch(entry, layout.file_mode)
            self.place_bundles(layout.tmp, [bundle], options)
            moved = self._show(entry, bundle, options.delay, sync=options.durable)
        except BaseException:
            with suppress(OSError):
                self.leftovers.remove_drafts(draft)
                if self.fs.unlink(entry):  # so nobody has seen it
                    self.bundles.remove(bundle.id)
            raise
        if not moved or watch.seconds() > ABANDONED_INPUT / 2:
            self._explain_missing(entry, watch, ABANDONED)
        return bundle

    def write_bundle(
        self, directory: str, messages: list[bytes], options: Publication
    ) -> None:
        """Write the directory of a bundle."""
        from ddmq.storage.bundle_file import encode

        self.layout.make_directory(directory)
        data, sync = encode(messages, options), options.durable
        lines, mode = f"{directory}/{LINES}", self.layout.file_mode
        self.fs.create_own(lines, data, sync=sync, mode=mode)
        if sync:
            self.fs.sync_directory(directory)

    def place_bundles(
        self, directory: str, bundles: Sequence[Bundle], options: Publication
    ) -> None:
        """Move bundles to `bundles/`, where their messages are until the last one is acked."""
        for bundle in bundles:
            draft = f"{directory}/{bundle.id}"
            if not self.fs.rename(draft, self.layout.bundle(bundle.id)):
                raise FileNotFoundError(errno.ENOENT, "cleaned away meanwhile", draft)
        if options.durable:
            self.fs.sync_directory(self.layout.bundles)

    def _show(self, draft: str, entry: ReadyEntry, delay: float, *, sync: bool) -> bool:
        """Move a draft into the ready queue or `delayed/`; False when it is gone."""
        if not delay:
            return self.ready.append(draft, entry, sync=sync)
        stamped = entry._replace(stamp=self.ready.next_stamp(0, entry.stamps))
        moved = self.delayed.postpone(draft, stamped, delay)
        if sync:
            self.delayed.sync()
        return moved

    def _publish_bundles(
        self, bunches: Iterable[list[bytes]], options: Publication
    ) -> list[Bundle]:
        """Write bundles into a directory of our own, and then make all their entries at once."""
        watch, layout = Stopwatch(self.clock), self.layout
        directory, bucket = f"{layout.tmp}/{new_id()}", f"{layout.tmp}/{new_id()}"
        bundles: list[Bundle] = []
        try:
            layout.make_directory(directory)
            for bunch in bunches:
                lines, policy = len(bunch), options.policy
                bundle = Bundle(options.priority, 0, new_id(), lines, policy)
                self.write_bundle(f"{directory}/{bundle.id}", bunch, options)
                bundles.append(bundle)
            layout.make_directory(bucket)
            self.place_bundles(directory, bundles, options)
            self.fs.rmdir(directory)
            moved = self._show_all(bucket, bundles, options)
        except BaseException:  # the caller's iterable may raise anything
            with suppress(OSError):
                self.leftovers.remove_drafts(directory)
                hidden = self.leftovers.remove_drafts(bucket) and not options.delay
                if hidden:  # nobody has seen an entry
                    for bundle in bundles:
                        self.bundles.remove(bundle.id)
            raise
        if not moved or watch.seconds() > ABANDONED_INPUT / 2:
            self._explain_missing(bucket, watch, ABANDONED_INPUT)
        return bundles

    def _show_all(
        self, bucket: str, bundles: Sequence[Bundle], options: Publication
    ) -> bool:
        """Make the entries of bundles in our directory, and a bucket of that.

        With a delay, they are moved into `delayed/` one by one.
        """
        make = partial(self.fs.touch, mode=self.layout.file_mode)
        if not options.delay:  # else some of them may be seen before others
            append, sync = self.ready.append_bucket, options.durable
            return append(bucket, bundles, make=make, sync=sync)
        for bundle in bundles:
            draft = f"{bucket}/{bundle.id}"
            make(draft)
            if not self._show(draft, bundle, options.delay, sync=options.durable):
                raise FileNotFoundError(errno.ENOENT, "cleaned away meanwhile", draft)
        self.fs.rmdir(bucket)
        return True

    def _explain_missing(self, draft: str, watch: Stopwatch, kept: int) -> None:
        """Decide whether a draft is gone because it was published; raise OSError if not.

        Usually it was: the reply to our rename was lost, and a consumer was quick. But somebody
        cleans a draft away after `kept` seconds. So we raise FileNotFoundError if publishing
        took too long to rule that out, or if nobody can say how long it took.
        """
        if self.fs.exists(draft):
            if self.fs.is_directory(draft):
                self.leftovers.remove_drafts(draft)
            else:
                self.fs.discard(draft)
            raise OSError(
                errno.ESTALE, "it could not be moved into the ready queue", draft
            )
        if self.time.learn() or watch.seconds() > kept / 2:
            raise FileNotFoundError(
                errno.ENOENT, "probably cleaned away before it was published", draft
            )

    # A message is consumed

    def consume(
        self,
        settings: Callable[[], Settings],
        n: int,
        call: ConsumeCall,
        refuses: Callable[[Lease, Settings], str | None] | None = None,
    ) -> list[tuple[Lease, Content, Settings]]:
        """Lease and read up to `n` messages, the first that wait; an empty list: none waits.

        One claim takes them, so several are of one bundle, and more may wait. A message that
        can't be read does not block the others: the next one is tried. If that can't be read
        either, the messages are not to blame, and the error is raised.

        `refuses` is asked about each lease before its message is read. It returns why it is to
        be a dead letter instead, or None. With each message come the settings that its lease was
        made with.
        """
        unread: _Unread | None = None
        while claimed := self.claim_first(settings, n, call):
            messages, found = [], None
            cancelled: frozenset[str] | None = None
            for lease in claimed.leases:
                try:
                    if cancelled is None and self.buckets.has_cancelled:
                        cancelled = self.cancelled.lately()
                    if cancelled and self.cancelled.has(lease.entry.id, cancelled):
                        self.cancelled.end(lease)
                        continue
                    why = refuses(lease, claimed.settings) if refuses else None
                    if why is not None:
                        note = {"reason": why}
                        self.dead_letter(lease, lease.entry, "rejected", note)
                        continue
                    content = self.read(lease)
                    if content is not None:
                        messages.append((lease, content, claimed.settings))
                except OSError as error:
                    counts = unread is None and found is None
                    counts = counts and error.errno not in NO_DESCRIPTOR
                    entry = lease.entry.lost() if counts else lease.entry
                    self._give_back_unread(lease, entry, claimed.settings, error)
                    found = found or _Unread(entry.filename, entry.id, error)
            if messages:
                return messages
            if found is None:
                self.ready.met(call, claimed.path)
            elif unread is None:
                unread = found
                self.passed.add(unread.filename)
            else:
                break
        if unread is None:
            return []
        self.passed.remove(unread.filename)  # the fault may be the file server's
        self.passed.refuse(unread.filename, unread.id)
        raise unread.error

    def _give_back_unread(
        self, lease: Lease, entry: Entry, settings: Settings, error: OSError
    ) -> None:
        """Put a message that can't be read back in its place as `entry`.

        For the first such message, `entry` counts one loss more. At its limit it becomes a
        dead letter: a message that nobody can read must not come back for ever.
        """
        before, policy = lease.entry, Policy.of(entry, settings)
        counts = entry is not before
        with suppress(OSError):  # then its lease expires, which counts a loss
            if counts and not policy.may_requeue(before.failures + before.losses):
                reason = f"it can't be read: {error.strerror}"
                self.dead_letter(lease, entry, "expired", {"reason": reason})
            else:
                self.release(lease, entry)

    def claim_first(
        self, settings: Callable[[], Settings], n: int, call: ConsumeCall
    ) -> Claimed | None:
        """Lease up to `n` of the first messages, all from one file; None: no message waits.

        What is no message is quarantined on the way. GarbageAhead: there is too much of it.
        The settings are read only if something waits, so that an idle client costs little.
        """
        while True:
            waiting = self.ready.first(call)
            if call.heeds_pause and self.buckets.is_paused:
                self.ready.forget()  # what it returned still stands there
                return None
            if waiting is None:
                if not self.ready.goes_on(call):
                    return None
                continue
            current = settings()
            try:
                leases = self.claim(waiting, current.message_timeout, n, call.started)
            except InvalidContent:
                self.ready.met(call, waiting.path)  # no competitor was faster
                continue
            if leases:
                return make(Claimed, (waiting.path, leases, current))
            entry = waiting.entry
            if self.passed.has(waiting.path):
                self.ready.met(call, waiting.path)  # no competitor was faster
            elif not isinstance(entry, Bundle) or not self.bundles.is_drained(entry):
                self.ready.lost(waiting)

    def claim(
        self, waiting: Waiting, timeout: float, n: int, started: int | None = None
    ) -> list[Lease]:
        """Lease up to `n` waiting messages of one file; none when competitors were faster.

        So many of them are `started` at once; None: all.

        InvalidContent: only the name was a bundle's; the file is quarantined or passed over.
        The lease lasts for `timeout` seconds, unless the name says otherwise. The token in
        the target's name is new. So of all clients that rename the file, one succeeds.
        """
        entry, path = waiting
        if entry.policy:
            timeout = overrides_of(entry.policy).get("timeout", timeout)
        try:
            if isinstance(entry, Bundle):
                bundles = self.bundles
                claimed = bundles.claim(waiting, entry, timeout, n, started)
                if claimed is None:
                    return []
                held, opened = claimed
                if bundles.races > 1:
                    self.ready.shares()
                elif held.range.end < entry.lines:
                    self.ready.front = opened
                return held.leases()
            expiry = self.clock.compared_ms(timeout) or self.time.end_of_lease(timeout)
            if not isinstance(entry, Entry):
                return self._take(path, entry, expiry, n, started)
            name, is_started = path.rpartition("/")[2], started != 0
            lease = Lease.of_waiting(entry, name, expiry, is_started=is_started)
            target = f"{self.layout.work}/{lease.filename}"
            return [lease] if self.fs.rename(path, target) else []
        except ClockUnknown:
            raise
        except NoClaim as error:
            self.passed.add(path)
            what = "keeps the rest of its bundle waiting"
            self.passed.tell(str(error.filename), what, error)
            return []
        except OSError as error:
            bucket, work = os.path.dirname(path), self.layout.work
            if error.errno in _ONLY_THIS or self.fs.is_directory(path):
                stuck = path
            elif error.errno == errno.EACCES and self.buckets.is_kept(bucket, work):
                stuck = bucket
            else:
                if error.errno not in _OF_ALL:
                    self.passed.refuse(path, path)
                raise
            self.passed.add(stuck)
            self.passed.tell(stuck, "can't be moved", error)
            return []

    def _take(
        self, path: str, waiting: Range, expiry: int, n: int, started: int | None
    ) -> list[Lease]:
        """Lease the first `n` lines of a range that waits; the rest goes on waiting."""
        if self.fs.is_directory(path):
            self.buckets.quarantine(path)
            return []
        try:
            self.bundles.find(waiting.bundle)
        except InvalidContent:
            pass  # each line becomes a dead letter
        except OSError as error:
            if error.errno not in UNREADABLE and not isinstance(error, BundleNotFound):
                raise
            self.passed.add(path)
            self.passed.tell(path, "can't be read", error)
            return []
        held = self.leases.ranges.take(path, waiting, expiry, started)
        if held is None:
            return []
        if waiting.waiting <= n:
            return held.leases()
        try:
            return self.leases.keep_some(held, n)
        finally:
            self.leases.ranges.put_rest(held.token, self.ready.put_back)

    def read(self, lease: Lease, *, unread_if_large: bool = False) -> Content | None:
        """Read a leased message; None when its file is gone or was moved to `dead/`.

        A file that holds no message becomes a dead letter with the reason, and blocks nobody.
        """
        path = f"{self.layout.work}/{lease.filename}"
        try:
            if lease.is_line:
                return self.bundles.content(lease)
            return self.files.read(path, lease.entry)
        except FileNotFoundError:
            return None
        except InvalidContent as error:
            if unread_if_large and isinstance(error, TooLarge):
                return Content(None, None)
            self.dead_letter(lease, lease.entry, "invalid", {"reason": str(error)})
        return None

    # A message is settled

    def requeue(self, lease: Lease, entry: Entry, delay: float = 0) -> bool:
        """Put a message at the end of the ready queue as `entry`; with a `delay`, delay it."""
        if not delay:
            return self.leases.put(lease, entry, self.ready.append)
        postpone = self.delayed.postpone
        return self.leases.leave(lease, lambda path: postpone(path, entry, delay))

    def release(self, lease: Lease, entry: Entry | None = None) -> bool:
        """Give a message back to its old place, with the counts of `entry`."""
        return self.leases.put(lease, entry or lease.entry, self.ready.put_back)

    def dead_letter(
        self,
        lease: Lease,
        entry: Entry,
        code: str,
        note: Mapping[str, Any] | None = None,
    ) -> bool:
        """Make a message a dead letter, as `entry`.

        The note is written first. A crash in between leaves a note without a dead letter,
        which housekeeping removes. Both names have the token of the claim. So a client that
        has lost the lease by then leaves a note that belongs to no dead letter.
        """
        from ddmq.storage.dead_letters import Dead  # rarely needed

        dead = Dead(entry, lease.token, code)
        if note:
            self.dead_letters.write_note(dead, note)
        target = self.dead_letters.path_of(dead)
        return self.leases.leave(lease, lambda path: self.fs.rename(path, target))


def _ids(bundles: Sequence[Bundle]) -> str:
    """Name the first and the last id in bundles; in each, the lines are numbered from 0."""
    number, last = sum(bundle.lines for bundle in bundles), bundles[-1]
    if len(bundles) == 1:
        return f"{number} published: {last.id}-0 to {last.id}-{last.lines - 1}"
    first = bundles[0]
    return (
        f"{number} published in {len(bundles)} bundles: {first.id}-0 to "
        f"{first.id}-{first.lines - 1}, the last {last.id}-0 to {last.id}-{last.lines - 1}"
    )
