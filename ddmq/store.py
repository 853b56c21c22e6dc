"""The protocol: each verb is one visible change on disk.

The state of a message is its name, and every transition is one `rename` or one `unlink`.
So at every instant, and after a crash before any system call, a message is in exactly one
state. `docs/protocol.md` has the reasons, `ddmq.names` the names.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from functools import partial
from itertools import chain
from math import ceil, inf
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ddmq.buckets import Buckets
from ddmq.bundle import BUNDLE_SIZE, chunks
from ddmq.bundle import encode as encode_bundle
from ddmq.bundles import Bundles, beside
from ddmq.clock import ClockUnknown, Stopwatch
from ddmq.errors import out_of_memory
from ddmq.fs import is_shared
from ddmq.letters import DeadLetters
from ddmq.line import Line, Waiting
from ddmq.log import warn
from ddmq.message import (
    Content,
    InvalidContent,
    TooLarge,
    content_of,
    decode,
    decode_dropped,
    encode_options,
)
from ddmq.names import (
    DRAFT_SUFFIX,
    DROPPED,
    Bundle,
    Dead,
    Delayed,
    Entry,
    Lease,
    Spent,
    new_id,
    new_token,
    overrides_of,
    parse_place,
    policy_of,
)
from ddmq.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ddmq.bundle import Options
    from ddmq.clock import Clock
    from ddmq.fs import FileSystem, Stamp, Status
    from ddmq.line import Tidying
    from ddmq.names import Place

_Name = TypeVar("_Name")

DIRECTORIES = ("tmp", "ready", "work", "delayed", "dead", "drop")
#: Seconds after which a file in `tmp/` belongs to a writer that died.
ABANDONED = 3600
#: The same for what is made while messages come, from a slow pipe maybe.
ABANDONED_INPUT = 24 * 3600
#: Seconds for which a dropped file must have stood still.
SETTLED = 10
BUCKET_SIZE = 500
#: Seconds for which a consumer waits until a bundle of which nothing waits is put away.
_RETIRE_FOR = 0.8
#: Seconds after which whoever uses a queue compares its directories with their names.
_CHECK_EVERY = 1.0
#: Seconds for which nobody tries again after that took longer.
_HELD_UP_FOR = 30.0
#: How often a queue that seems empty is looked at while its directories change.
_LOOKS = 5
#: Seconds after which every client sees how a directory is stamped: GlusterFS takes one.
_LATE = 1.1
#: How many messages that are published together become a bundle, and not single files.
BUNDLE_FROM = 10
_UNREADABLE = (
    *(errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO),
    errno.EAGAIN,  # a FIFO that somebody holds open
)
#: Said of one file (immutable, or of somebody else in a sticky directory), not of the queue.
_ONLY_THIS = (errno.EPERM, errno.EBUSY, errno.EXDEV)
#: Said of the whole file system, or of us.
_OF_ALL = (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EMFILE)


class Counts(NamedTuple):
    """How many messages are in each state."""

    waiting: int
    work: int
    delayed: int
    dead: int


class Store:
    """One queue on disk. Safe to use from several threads, and after a fork."""

    def __init__(
        self,
        path: str,
        fs: FileSystem,
        clock: Clock,
        bucket_size: int = BUCKET_SIZE,
        bundle_size: int = BUNDLE_SIZE,
        limit: Callable[[float], int] = lambda _: Settings().max_message_size,
    ) -> None:
        """`limit` tells how large a message may be, as of so many seconds ago at most."""
        self.path = path
        self.fs = fs
        self.clock = clock
        self.tmp = f"{path}/tmp"
        self.work = f"{path}/work"
        self.delayed = f"{path}/delayed"
        self.drop = f"{path}/drop"
        self.lock = f"{path}/lock"
        self._cleaned = f"{path}/cleaned"
        self.letters = DeadLetters(path, fs, clock)
        self.limit = limit
        self.bundles = Bundles(
            *(path, fs, clock), lambda: self.line, self.server_ns, limit
        )
        self.buckets = Buckets(
            *(f"{path}/ready", fs, clock), self.letters.set_aside, bucket_size
        )
        self.line = Line(self.buckets, fs, clock, self._retire)
        self._bundle_size = bundle_size
        self._file_mode: int | None = None
        self._held_up_at = self._checked_at = -inf

    def open(self) -> None:
        """Check that every directory is one, no link, and learn the modes of new files.

        In a queue that a group shares (`create --mode 2770`) its directory's mode decides
        them, else the umask.
        """
        self.check()
        found = self.fs.status(self.path)
        if found is not None and is_shared(found.mode):
            self.buckets.mode = stat.S_IMODE(found.mode)
            self._file_mode = self.bundles.mode = self.letters.mode = found.mode & 0o666

    def require_change(self) -> None:
        """Raise PermissionError for somebody who may only look."""
        if self.fs.may_change(self.work):
            return
        self.check()  # it may be that of a queue that was deleted and made anew
        if not self.fs.may_change(self.work):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self.work)

    def check(self) -> None:
        """Compare the directories that are held with their names.

        Raises NotADirectoryError where a link stands in place of one.
        """
        self._checked_at = self.clock.monotonic()
        for path in self._directories():
            self.fs.require_directory(path)

    def _directories(self) -> Iterator[str]:
        """Yield the directories of this queue, each after the one that it is in."""
        yield os.path.dirname(self.path)
        yield self.path
        for name in DIRECTORIES:
            yield f"{self.path}/{name}"

    def check_when_due(self) -> None:
        """Compare them each second; what is missing is missed by who needs it."""
        now = self.clock.monotonic()
        if 0 <= now - self._checked_at < _CHECK_EVERY:
            return
        self._checked_at = now
        for path in self._directories():
            with suppress(FileNotFoundError):
                self.fs.require_directory(path)

    def learn_clock(self) -> OSError | None:
        """Compare our clock with the file server's; return what keeps us from it.

        Whoever looks at a queue, acks, releases or publishes does without.
        """
        try:
            self.clock.compare(self._stamp)
        except FileNotFoundError:  # the queue is gone
            raise
        except OSError as error:
            return error
        return None

    def _stamp(self) -> int:
        """Return how the server stamps a file that is made now, or a directory touched.

        To touch one needs no space: nobody may be kept from emptying a queue because the
        disk is full. Where both can be done, files count: their ages are judged.
        """
        try:
            return self.fs.birth_ns(f"{self.tmp}/{new_id()}")
        except FileNotFoundError:
            raise
        except OSError as error:
            try:
                return self.fs.touched_ns(self.tmp)
            except OSError:
                raise error from None

    def knows_time(self) -> bool:
        """Tell whether we know the file server's clock, comparing ours with it if need be.

        Who can't compare them judges nothing by its age: by a clock that is an hour ahead,
        leases that are held would be over, and what is being written abandoned.
        """
        return self.clock.is_compared() or self.learn_clock() is None

    def server_ns(self) -> int:
        """Return the file server's time, by a clock that nobody set meanwhile.

        Leases are made and ages judged by this. Raises ClockUnknown.
        """
        trouble = None if self.clock.is_compared() else self.learn_clock()
        if trouble is not None:
            self.require_change()
            raise ClockUnknown(
                trouble.errno,
                "this node's clock can't be compared with the file server's "
                f"({trouble.strerror}), so leases would end too early or too late",
                self.tmp,
            )
        return self.clock.time_ns()

    # A message comes

    def publish(self, data: bytes, options: Options) -> str:
        """Make a message; return its id.

        A crash leaves at most a file in `tmp/`, which is no message. Where it is durable,
        the message survives a power cut from the moment that this returns.
        """
        stamp, id_ = self.line.next_stamp(), new_id()
        entry = Entry(options.priority, stamp, id_, policy=options.policy)
        self._publish_file(data, entry, options)
        return entry.id

    def publish_many(self, messages: Iterable[bytes], options: Options) -> int:
        """Make messages, each given as JSON; return their number.

        A few become files of their own, more become bundles, which all become visible by
        one rename. They are written while the messages come, and not kept in memory.
        """
        bunches = chunks(messages, self._bundle_size)
        first, second = next(bunches, []), next(bunches, None)
        if second is not None:
            return self._publish_bundles(chain((first, second), bunches), options)
        if len(first) < BUNDLE_FROM:
            said = encode_options(options.priority)
            for message in first:
                self.publish(content_of(message, said), options)
        else:
            bundle = self._new_bundle(len(first), options)
            self._publish_file(encode_bundle(first, options), bundle, options)
        return len(first)

    def _new_bundle(self, lines: int, options: Options) -> Bundle:
        stamp = self.line.next_stamp(0, lines)
        return Bundle(options.priority, stamp, new_id(), lines, policy=options.policy)

    def _publish_file(self, data: bytes, entry: Place, options: Options) -> None:
        draft, watch = f"{self.tmp}/{entry.id}", Stopwatch(self.clock)
        self.fs.create_own(draft, data, sync=options.durable, mode=self._file_mode)
        try:
            moved = self._enter(draft, entry, options)
        except OSError:
            self.fs.discard(draft)
            raise
        if not moved:
            self._explain_missing(draft, watch, ABANDONED)

    def _enter(self, draft: str, entry: Place, options: Options) -> bool:
        if not options.delay:
            return self.line.join(draft, entry, sync=options.durable) is not None
        moved = self._postpone(draft, entry, options.delay)
        if options.durable:
            self.fs.sync_directory(self.delayed)
        return moved

    def _publish_bundles(self, bunches: Iterable[list[bytes]], options: Options) -> int:
        """Write bundles into a directory of our own, and let that join the line."""
        draft, watch = f"{self.tmp}/{new_id()}", Stopwatch(self.clock)
        try:
            self.fs.mkdir(draft)
            if self.buckets.mode is not None:
                self.fs.chmod(draft, self.buckets.mode)
            bundles = [self._write(draft, bunch, options) for bunch in bunches]
            moved = self._enter_together(draft, bundles, options)
        except BaseException:  # whatever stops those who give us the messages
            with suppress(OSError):
                self._remove_drafts(draft)
            raise
        if not moved:
            self._explain_missing(draft, watch, ABANDONED_INPUT)
        return sum(bundle.lines for bundle in bundles)

    def _write(self, draft: str, bunch: list[bytes], options: Options) -> Bundle:
        bundle = self._new_bundle(len(bunch), options)
        data = encode_bundle(bunch, options)
        path = f"{draft}/{bundle.id}"
        self.fs.create_own(path, data, sync=options.durable, mode=self._file_mode)
        return bundle

    def _enter_together(
        self, draft: str, bundles: Sequence[Bundle], options: Options
    ) -> bool:
        if not options.delay:
            return self.line.join_together(draft, bundles, sync=options.durable)
        for bundle in bundles:
            path = f"{draft}/{bundle.id}"
            if not self._postpone(path, bundle, options.delay):
                raise FileNotFoundError(errno.ENOENT, "cleaned away meanwhile", path)
        if options.durable:
            self.fs.sync_directory(self.delayed)
        self.fs.rmdir(draft)
        return True

    def _explain_missing(self, draft: str, watch: Stopwatch, kept: int) -> None:
        """Settle whether a draft is gone because it was published.

        The rename's reply was lost and a consumer was quick: that is a message. Unless it
        took so long that somebody may have cleaned the draft away, after `kept` seconds, or
        nobody can say how long it took.
        """
        if self.fs.exists(draft):
            if self.fs.is_directory(draft):
                self._remove_drafts(draft)
            else:
                self.fs.discard(draft)
            raise OSError(errno.ESTALE, "it could not be moved into the line", draft)
        if self.learn_clock() or watch.seconds() > kept / 2:
            raise FileNotFoundError(
                errno.ENOENT, "probably cleaned away before it was published", draft
            )

    def _postpone(self, source: str, entry: Place, delay: float) -> bool:
        self.knows_time()  # if it can be known: our clock may have been set
        delayed = Delayed(entry, self._milliseconds(delay))
        return self.fs.rename(source, f"{self.delayed}/{delayed.filename}")

    # A message is consumed

    def waiting(self, tidying: Tidying | None = None) -> Iterator[Waiting]:
        """Yield what is first in line; being asked again means that a rival took it."""
        return self.line.waiting(tidying)

    def claim(self, waiting: Waiting, timeout: float, n: int) -> list[Lease]:
        """Lease up to `n` waiting messages of one file; none when a rival was faster.

        InvalidContent: it was a bundle by its name alone, and is set aside or passed over.
        The lease lasts for `timeout` seconds where the name says nothing else. The token in
        the target's name is new, so of all who rename it one succeeds.
        """
        entry = waiting.entry
        if entry.policy:
            timeout = overrides_of(entry.policy).get("timeout", timeout)
        try:
            if isinstance(entry, Bundle):
                return self._claim_lines(waiting, entry, timeout, n)
            lease = Lease.of(entry, self._end_of_lease(timeout), new_token())
            return [lease] if self.fs.rename(waiting.path, self._path(lease)) else []
        except ClockUnknown:
            raise
        except OSError as error:
            stuck = self._stuck_part(waiting.path, error)
            if stuck is None:
                if error.errno not in _OF_ALL:
                    self.buckets.refuse(waiting.path, waiting.path)
                raise
            self.buckets.pass_over(stuck, "can't be moved", error)
            return []

    def _stuck_part(self, path: str, error: OSError) -> str | None:
        """Return what others keep to themselves, a file or its bucket; None: it is more."""
        if error.errno in _ONLY_THIS or self.fs.is_directory(path):
            return path
        bucket = os.path.dirname(path)
        is_all = error.errno != errno.EACCES or not self.fs.may_change(self.work)
        return None if is_all or self.fs.may_change(bucket) else bucket

    def _claim_lines(
        self, waiting: Waiting, bundle: Bundle, timeout: float, n: int
    ) -> list[Lease]:
        if not self._is_readable(waiting.path, bundle):
            return []
        self.bundles.complete(bundle)
        expiry = self._end_of_lease(timeout)
        claimed = bundle.taking(n, expiry, new_token())
        target = beside(waiting.path, claimed)
        leases = self.bundles.claim(waiting.path, bundle, target, claimed)
        if leases:
            self._put_back(target, claimed)
        return leases

    def _put_back(self, path: str, bundle: Bundle) -> None:
        if bundle.next < bundle.lines:
            self.line.stands_first(Waiting(bundle, path))
            return
        with suppress(OSError):  # the messages are ours; whoever looks next retires it
            self.bundles.retire(path, bundle)

    def _is_readable(self, path: str, bundle: Bundle) -> bool:
        """Read a bundle; False when it was renamed meanwhile, or can't be read.

        What is no bundle is set aside, and InvalidContent. What can't be read now, by us, and what can't be set
        aside stands before no others.
        """
        try:
            self.bundles.lines(path, bundle)
        except FileNotFoundError:
            return False
        except InvalidContent as error:
            reason = f"a bundle that holds no messages: {error}"
            if not self.letters.set_aside(path, reason):
                self.buckets.pass_over(path)
            raise
        except OSError as error:
            self._pass_over_unreadable(path, error)
            return False
        return True

    def _pass_over_unreadable(self, path: str, error: OSError) -> None:
        """Let what we can't read stand before no others; an error that may pass is raised."""
        found = self.fs.status(path)
        if found is not None and not found.is_file:
            self.buckets.put_aside(path)
        elif error.errno in _UNREADABLE:
            self.buckets.pass_over(path, "can't be read", error)
        else:
            raise error

    def read(self, lease: Lease, *, unread_if_large: bool = False) -> Content | None:
        """Read a leased message; None when its file is gone or was set aside in `dead/`.

        A file that holds no message is a dead letter with the reason, and stops nobody.
        """
        try:
            if lease.is_line:
                return self.bundles.content(lease)
            return self._decoded(self._path(lease), lease.entry)
        except FileNotFoundError:
            return None
        except InvalidContent as error:
            if unread_if_large and isinstance(error, TooLarge):
                return Content(None, None)
            self.bury(lease, lease.entry, "invalid", {"reason": str(error)})
        except OSError:
            if not lease.is_line or not self.fs.is_gone(self._path(lease)):
                raise
        return None  # it may have been settled, and its bundle removed

    def _decoded(self, path: str, entry: Entry) -> Content:
        """Read a message file, no further than to the limit, or raise InvalidContent."""
        parse = decode_dropped if entry.id.startswith(DROPPED) else decode
        limit = self.limit(inf)
        try:
            return parse(self.fs.read(path, limit + 1), limit)
        except TooLarge:
            if self.limit(0) <= limit:
                raise
            return self._decoded(path, entry)  # it was raised a moment ago
        except MemoryError as error:
            raise out_of_memory(path) from error
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
            raise InvalidContent(self._what_it_is(path, error)) from error

    def _what_it_is(self, path: str, error: OSError) -> str:
        found = self.fs.status(path)
        if found is not None and stat.S_ISLNK(found.mode):
            return "a symbolic link, which ddmq never follows"
        if found is not None and not found.is_file:
            return "a directory or special file, not a message"
        return f"its file can't be read: {error.strerror}"

    def renew(self, lease: Lease, timeout: float) -> Lease | None:
        """Make a lease last for `timeout` seconds from now; None when it is lost."""
        renewed = Lease.of(lease.entry, self._end_of_lease(timeout), lease.token)
        moved = self._moved(lease, self._path(renewed))
        return renewed if moved else None

    def _retire(self, path: str, bundle: Bundle) -> None:
        """Take a bundle out of the line for one who wants what stands behind it.

        When the file server holds that up, it is passed over for a while, and so are others
        that are found within the next half minute: whoever died may have had them all open.
        """
        now = self.clock.monotonic()
        if 0 <= now - self._held_up_at < _HELD_UP_FOR:
            self.buckets.pass_over(path)
            return
        retiring = self.clock.begin(partial(self._retire_recalled, path, bundle))
        if retiring.ends_within(_RETIRE_FOR):
            retiring.result()
        else:
            self._held_up_at = now
            self.buckets.pass_over(path)

    def _retire_recalled(self, path: str, bundle: Bundle) -> None:
        self.fs.recall(path)
        self.bundles.retire(path, bundle)

    # A message is settled

    def ack(self, lease: Lease) -> bool:
        """Finish a message: unlink it. False when it is not there."""
        if lease.is_line:
            return self.bundles.ack(lease)
        return self.fs.unlink(self._path(lease))

    def requeue(self, lease: Lease, entry: Entry, delay: float = 0) -> bool:
        """Put a message at the end of the line as `entry`, or into `delayed/` first."""
        if not self._is_whole(lease):
            return False
        if delay:
            return self._postpone(self._path(lease), entry, delay)
        return self.line.join(self._path(lease), entry) is not None

    def release(self, lease: Lease, entry: Entry | None = None) -> bool:
        """Give a message back to its old place in line, its counts those of `entry`."""
        whole = self._is_whole(lease)
        return whole and self.line.rejoin(self._path(lease), entry or lease.entry)

    def move(self, lease: Lease, other: Store) -> bool:
        """Put a message at the end of the line in another queue of the same file system."""
        whole = self._is_whole(lease)
        return whole and other.line.join(self._path(lease), lease.entry) is not None

    def bury(
        self,
        lease: Lease,
        entry: Entry,
        code: str,
        note: Mapping[str, Any] | None = None,
    ) -> bool:
        """Make a message a dead letter, as `entry`.

        The note is written first: a crash in between leaves a note without a dead letter,
        which housekeeping removes. Both names have the token of the claim: whoever has
        lost the lease by then leaves a note that belongs to no dead letter.
        """
        dead = Dead(entry, lease.token, code)
        if note:
            self.letters.write_note(dead, note)
        return self._moved(lease, self.letters.path_of(dead))

    def proven(self, lease: Lease, *, patient: bool = True) -> Lease | None:
        """Return a lease that a listing showed; None: it is none, or is gone.

        BundleNotFound: its message is in a bundle that can't be found. Housekeeping, which is
        not `patient`, looks for it once, and meets it again later; its holder may have died.
        """
        if not patient:
            self.fs.recall(self._path(lease))
        if lease.is_draft:
            return self.bundles.proven(lease, patient=patient)
        if lease.is_line and lease.line is not None and not patient:
            self.bundles.find(lease, lease.line[0], patient=False)
        return lease

    def current(self, lease: Lease) -> Lease | None:
        """Find a lease by its token: another thread may have renewed it meanwhile.

        Who completed a draft did so on another node, maybe: a listing shows that later.
        """
        completed = self.bundles.completed(lease) if lease.is_draft else None
        if completed is not None:
            return completed
        for name in self.fs.listing(self.work):
            if lease.token in name and f".{lease.entry.id}." in name:  # renewed, maybe
                return Lease.parse(name)
        return None

    def is_finished(self, lease: Lease) -> bool:
        """Tell whether an ack that found nothing had been done, and its reply lost.

        So it was if nobody could have taken the message from us yet, and it is nowhere in
        the queue.
        """
        is_held = self.knows_time() and self._milliseconds(0) <= lease.expiry
        return is_held and not self._is_anywhere(lease.entry.id)

    def _is_anywhere(self, id_: str) -> bool:
        part = f".{id_}."
        places = [self.work, self.delayed, self.letters.path]
        places += [path for _, path in self.buckets.all()]
        places.append(self.work)  # somebody may have taken it meanwhile
        for path in places:
            with suppress(FileNotFoundError, NotADirectoryError):
                # A draft of it is a rival's, who was too late: ours would be current.
                if any(
                    part in name and not name.endswith(DRAFT_SUFFIX)
                    for name in self.fs.listing(path)
                ):
                    return True
        return False

    def _path(self, lease: Lease) -> str:
        return f"{self.work}/{lease.filename}"

    def _moved(self, lease: Lease, target: str) -> bool:
        return self._is_whole(lease) and self.fs.rename(self._path(lease), target)

    def _is_whole(self, lease: Lease) -> bool:
        """Let the file of a lease hold its message, for it is to be renamed; False: it is gone."""
        return not lease.is_line or self.bundles.write_out(lease)

    def _end_of_lease(self, seconds: float) -> int:
        """Return when a lease of so many seconds ends that is made now."""
        return _milliseconds(self.server_ns()) + ceil(seconds * 1000)

    def _milliseconds(self, seconds: float) -> int:
        """Return the time in `seconds` from now, in milliseconds since 1970, rounded up."""
        return _milliseconds(self.clock.time_ns()) + ceil(seconds * 1000)

    # What the listings tell

    def leases(self) -> list[Lease]:
        """Return the leases, first the one that expires first."""
        return _known(Lease.parse, sorted(self.fs.listing(self.work)))

    def expired(self) -> tuple[list[Lease], int, list[str]]:
        """Return the leases that are over by the file server's clock, and how many there are.

        The same listing tells the paths of the bundles that are needed no more.
        """
        now = _milliseconds(self.server_ns())  # before the listing: that may take long
        names = self.fs.listing(self.work)
        expired = _known(Lease.parse, _past(names, now))
        return expired, len(names), self.bundles.needless(names, now)

    def due(self) -> tuple[list[Delayed], int]:
        """Return the delayed messages that are due, in that order, and how many there are."""
        now = _milliseconds(self.server_ns())
        names = self.fs.listing(self.delayed)
        return _known(Delayed.parse, _past(names, now)), len(names)

    def counts(self) -> Counts:
        """Count the messages in each state."""
        places = [place.entry for place in self.line.places()]
        return Counts(
            sum(place.waiting for place in places),
            self._count_leases(places),
            sum(d.entry.waiting for d in self._all_delayed()),
            self.letters.count(),
        )

    def _count_leases(self, places: Iterable[Place]) -> int:
        """Count what is in `work/`, with the drafts of which a bundle says that it is taken."""
        made = {p.token for p in places if isinstance(p, Bundle) and p.taken}
        leases = _known(Lease.parse, self.fs.listing(self.work))
        return sum(not lease.is_draft or lease.token in made for lease in leases)

    def _all_delayed(self) -> list[Delayed]:
        return _known(Delayed.parse, self.fs.listing(self.delayed))

    def is_empty(self) -> bool:
        """Tell whether nothing waits, is leased or delayed: dead letters do not count.

        A message may go from where we look next to where we have looked. So what counts is
        that no directory changed from before all were listed until after that, as their
        stamps tell: then all were empty at one instant. While they change, somebody is busy.
        """
        for _ in range(_LOOKS):
            paths = self._bare()
            if paths is None:
                return False
            stamps = self._stamps(paths)
            # What changes from now on must not get the stamp that we have seen.
            self.clock.outlast_tick(is_long=all(stamp.is_whole for stamp in stamps))
            again = self._bare()
            if again is None:
                return False
            if again != paths or self._stamps(paths) != stamps:
                continue
            if all(map(self.fs.is_prompt, {stamp.device for stamp in stamps})):
                return True
            self.clock.sleep(_LATE)
            if self._stamps(paths) == stamps:
                return True
        return False

    def _stamps(self, paths: list[str]) -> list[Stamp]:
        """Return how directories are stamped now; there are fewer when one is gone."""
        found = map(self.fs.stamp, paths)
        return [stamp for stamp in found if stamp is not None]

    def _bare(self) -> list[str] | None:
        """List all directories where messages are before they are done with; None: one holds some.

        Raises where we may not look.
        """
        directories, taken = [self.delayed, self.work, self.buckets.path], set()
        for priority, path, names in self.buckets.everything():
            directories.append(path)
            for name in names:
                place = parse_place(priority, name)
                if place is not None and place.waiting:
                    return None
                if isinstance(place, Bundle) and place.taken:
                    taken.add(place.token)
        for lease in _known(Lease.parse, self.fs.listing(self.work)):
            if not lease.is_draft or lease.token in taken:
                return None
        return None if self._all_delayed() else directories

    # Dead letters, dropped files, and what is no message

    def read_letter(self, dead: Dead) -> tuple[Any, Mapping[str, Any]]:
        """Return the message of a dead letter, None where it holds none, and its note."""
        content = self._of_letter(dead)
        message = None if content is None else content.message
        return message, self.letters.note(dead)

    def _of_letter(self, dead: Dead) -> Content | None:
        """Read the message of a dead letter; one that can't be read hides no others."""
        path = self.letters.path_of(dead)
        try:
            return self._decoded(path, dead.entry)
        except (FileNotFoundError, InvalidContent):
            return None
        except OSError as error:
            warn(f"{path}: its message can't be read now: {error.strerror}")
            return None

    def revive(self, dead: Dead) -> bool:
        """Put a dead letter at the end of the line, its counts at zero.

        It gets the priority that it was published with. False: it holds no message.
        """
        path, content = self.letters.path_of(dead), self._of_letter(dead)
        if content is None:
            return False
        priority = content.priority_or(dead.entry.priority)
        entry = Entry(priority, 0, dead.entry.id, policy=dead.entry.policy)
        joined = self.line.join(path, entry)
        if joined is not None:
            self.letters.discard_note(dead)
        return joined is not None

    def show(self, delayed: Delayed) -> int:
        """Put a delayed message or bundle at the end of the line; tell how many came."""
        path = f"{self.delayed}/{delayed.filename}"
        joined = self.line.join(path, delayed.entry)
        return 0 if joined is None else joined.waiting

    def adopt(self, name: str, priority: int, now_ns: int) -> bool:
        """Make a message of a file in `drop/` that has stood still for a while, `now_ns`.

        Its content stays as it is; its id tells readers that it came this way. A file that
        has another name too may be anybody's, put here to be read by us. Its name may be
        used again for another file, which somebody still writes: so it gets a name of its own
        before it is judged for the last time. If it is another one then, it stays under that.
        """
        path = f"{self.drop}/{name}"
        found = self.fs.status(path)
        if found is None or found.age(now_ns) <= SETTLED:
            return False
        found = self.fs.status_when_opened(path) or found
        if not found.is_file or found.names > 1:
            self.letters.set_aside(path)
            return False
        entry = Entry(priority, 0, DROPPED + new_id())
        ours = f"{self.drop}/{entry.id}"
        # An NFS client may have remembered an older state, in which it stood still.
        if found.age(now_ns) <= SETTLED or not self.fs.rename(path, ours):
            return False
        moved = self.fs.status_when_opened(ours) or self.fs.status(ours)
        # Our rename changed the change time.
        if moved is None or moved[:3] != found[:3] or moved.names > 1:
            return False
        return self._admit(ours, entry, moved.size)

    def _admit(self, path: str, entry: Entry, size: int) -> bool:
        """Put a dropped file into the line, or among the dead letters if it is over the limit."""
        if size > self.limit(inf) and size > self.limit(0):
            dead = Dead(entry, new_token(), "invalid")
            self.letters.write_note(dead, {"reason": str(TooLarge(self.limit(inf)))})
            self.fs.rename(path, self.letters.path_of(dead))
            return False
        return self.line.join(path, self._dropped(path, entry)) is not None

    def _dropped(self, path: str, entry: Entry) -> Entry:
        """Return the entry of a dropped file with what it sets itself, if it does so."""
        try:
            content = self._decoded(path, entry)
        except InvalidContent:
            return entry  # whoever consumes it sets it aside
        own = content.priority_or(entry.priority), policy_of(content.overrides)
        return entry._replace(priority=own[0], policy=own[1])

    def dropped(self) -> list[str]:
        """Return the names in `drop/`, in order."""
        return sorted(self.fs.listing(self.drop))

    # What is left behind

    def leftovers(self) -> list[str]:
        """Return what may have been left by writers that died: drafts, and notes alone."""
        drafts = [f"{self.tmp}/{name}" for name in self.fs.listing(self.tmp)]
        return drafts + self.letters.notes_alone()

    def remove_if_abandoned(self, path: str, now_ns: int) -> bool:
        """Remove a leftover that is older than any writer, `now_ns`: before it was listed."""
        found = self.fs.status(path)
        if found is None or found.age(now_ns) <= abandoned_after(found):
            return False
        if found.is_directory:
            return self._remove_drafts(path)
        return self.fs.unlink(path)

    def _remove_drafts(self, directory: str) -> bool:
        """Remove a directory of bundles, out of the hands of a publisher that is only slow.

        It may be a bucket already, though its publisher heard an error, or has not heard
        yet: under its old name, a client that remembers it would empty the bucket.
        """
        ours = f"{self.tmp}/{new_id()}"
        return self.fs.rename(directory, ours) and self.fs.remove_directory(ours)

    def discard_recalled(self, path: str) -> None:
        """Remove a file that nobody needs, and that a client which died may have open."""
        self.fs.recall(path)
        self.fs.discard(path)

    def complete_in(self, bucket: tuple[int, str], within: float) -> None:
        """Let no lease be a draft, and bundles be in a bucket only while a line waits.

        What is left `within` seconds later is left.
        """
        watch = Stopwatch(self.clock)
        for waiting in self.line.places_in(*bucket):
            self.complete_at(waiting)
            if watch.seconds() > within:
                return

    def complete_at(self, waiting: Waiting) -> None:
        """Do so for one bundle."""
        entry, path = waiting
        if isinstance(entry, Bundle):
            self.bundles.complete(entry)
            if not entry.waiting:
                self._retire_recalled(path, entry)

    def foreign(self) -> Iterator[str]:
        """Yield the paths of what is no message in `work/` and `delayed/`."""
        for path, parse in ((self.work, Lease.parse), (self.delayed, Delayed.parse)):
            for name in self.fs.listing(path):
                if parse(name) is None and not self._is_spent(path, name):
                    yield f"{path}/{name}"

    def _is_spent(self, path: str, name: str) -> bool:
        if Spent.parse(name) is None:
            return False
        return path == self.work and not self.fs.is_directory(f"{path}/{name}")

    def cleaned_ago(self) -> float:
        """Return how many seconds ago somebody cleaned the queue: a hint, never needed."""
        now_ns = self.server_ns()
        found = self.fs.status(self._cleaned)
        return inf if found is None else found.age(now_ns)

    def mark_cleaned(self) -> None:
        """Let others know that the queue is clean: they need not look for a while."""
        draft = f"{self.tmp}/{new_id()}"
        try:
            self.fs.create_own(draft, b"", sync=False, mode=self._file_mode)
            self.fs.replace(draft, self._cleaned)
        except OSError:  # then others will clean once more
            self.fs.discard(draft)


def abandoned_after(found: Status) -> int:
    """Return the seconds after which a leftover belongs to a writer that died."""
    return ABANDONED_INPUT if found.is_directory else ABANDONED


def _milliseconds(ns: int) -> int:
    """Return a time in milliseconds, rounded up."""
    return -(-ns // 1_000_000)


def _past(names: list[str], now: int) -> list[str]:
    """Return the names that begin with an earlier time, in order."""
    return sorted(name for name in names if name < f"{now:013d}")


def _known(parse: Callable[[str], _Name | None], names: Iterable[str]) -> list[_Name]:
    return [known for name in names if (known := parse(name)) is not None]
