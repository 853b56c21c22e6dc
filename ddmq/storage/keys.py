"""What was published with a key, so that a second publish with it adds nothing.

Everything is made ready first, as a *draft* in `tmp/`: the file of a message, the entry of a
bundle, or a directory of entries. Then a symbolic link in `keys/` is made exclusively. Its name is
made of the key, and its target says which draft is meant, and what becomes of it. From then on, the
draft will be published: by who made the link, or by whoever finds the link and the draft still
there, by one rename of the draft. Who finds the link and no draft knows that this was done before.
"""

from __future__ import annotations

import errno
from collections import deque
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from ddmq.clock import Stopwatch
from ddmq.errors import InvalidArgument
from ddmq.storage.delayed import Delayed
from ddmq.storage.filesystem import REFUSED
from ddmq.storage.layout import ABANDONED, ABANDONED_INPUT
from ddmq.storage.names import (
    COUNT,
    HEX_ID,
    NUMBER,
    POLICY,
    Bundle,
    Entry,
    Grammar,
    new_id,
    parse_ready_entry,
    random_below,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ddmq.message import Publication
    from ddmq.storage.names import ReadyEntry
    from ddmq.storage.store import Store

#: The most characters of a key.
_LONGEST = 1000
#: For which share of the time after which it is cleaned away a draft is there for certain.
_SURELY_KEPT = 0.9
#: The most bundles of a key whose ids are compared: it takes a second, and they may hold 50 million
#: messages.
_MOST_BUNDLES = 100_000


_draft = Grammar(r"[0-9a-f]{20}\.([0-9a-f]{40})")
_keyed = Grammar(
    rf"({HEX_ID[1:-1]}\.[0-9a-f]{{40}})\.{NUMBER}\.(0|[0-9]{{13}})\.([01])\.({POLICY})?"
    rf"\.{COUNT}\.{COUNT}\.([0-9a-f-]{{1,64}})\.([0-9a-f-]{{1,64}})"
)


class Keyed(NamedTuple):
    """What was published with a key: the target of its link in `keys/`."""

    draft: str
    """The name in `tmp/` of what is made ready: `<id>.<name of the key>`."""
    priority: int
    due: int
    """When it is to be visible, in milliseconds since 1970; 0: at once."""
    durable: bool
    policy: str
    bundles: int
    """How many bundles there are; 0: one message in a file of its own."""
    number: int
    """How many messages there are."""
    first: str
    """The id of the first one."""
    last: str
    """The id of the last one."""

    @property
    def id(self) -> str:
        """The id of the message or of the only bundle."""
        return self.draft.partition(".")[0]

    @property
    def target(self) -> str:
        """What the link says."""
        draft, priority, due, durable, policy, *rest = self
        parts = draft, priority, due and f"{due:013d}", f"{durable:d}", policy, *rest
        return ".".join(map(str, parts))

    def ids_among(self, ids: set[str]) -> set[str]:
        """Return which of these are the ids of its bundles, or that of the only message.

        A member can plant a link that tells of any number of bundles. Not more than
        `_MOST_BUNDLES` are believed.
        """
        first = self.first.partition("-")[0]
        others = range(1, min(self.bundles, _MOST_BUNDLES))
        return ids.intersection(chain((first,), (_bundle_id(first, n) for n in others)))

    @classmethod
    def parse(cls, target: str) -> Keyed | None:
        """Read the target of a link."""
        match = _keyed.fullmatch(target)
        if match is None:
            return None
        draft, priority, due, durable, policy, bundles, number, first, last = (
            match.groups()
        )
        return cls(
            draft,
            int(priority),
            int(due),
            durable == "1",
            policy or "",
            int(bundles),
            int(number),
            first,
            last,
        )


def _bundle_id(first: str, number: int) -> str:
    """Return the id of a further bundle of a key. It follows from that of the first bundle.

    So the link, which has no room for the ids of all bundles, names them all the same.
    """
    import hashlib  # rarely needed

    return hashlib.sha256(f"{first}.{number}".encode()).hexdigest()[: len(first)]


def key_of_draft(filename: str) -> str | None:
    """Return the name of the key in the name of a draft in `tmp/`; None: it has none."""
    match = _draft.fullmatch(filename)
    return None if match is None else str(match[1])


def name_of(key: object) -> str:
    """Return the name in `keys/` that stands for a key; InvalidArgument: it is none."""
    import hashlib  # rarely needed

    if not isinstance(key, str) or not 0 < len(key) <= _LONGEST:
        raise InvalidArgument(
            f"key is {key!r:.60}; it must be a text of 1 to {_LONGEST} characters"
        )
    try:
        return hashlib.sha256(key.encode()).hexdigest()[:40]
    except UnicodeEncodeError as error:
        raise InvalidArgument("key has a lone surrogate; it must be Unicode") from error


class Keys:
    """The links in `keys/` of one queue."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._layout = store.layout
        self._fs = store.fs
        self._time = store.time
        self._ready = store.ready
        self._bundles = store.bundles
        self._passed = store.passed

    def find(self, name: str) -> Keyed | None:
        """Return what was published with a key, which is done as soon as this returns.

        None: nothing was, yet. OSError: what stands in its place is no link of ours.
        """
        found = self.named(name)
        if found is not None:
            self._finish(found)
        return found

    def named(self, name: str) -> Keyed | None:
        """Return the same, and publish nothing."""
        path = f"{self._layout.keys}/{name}"
        target = self._fs.named_by(path)
        if not target and self._fs.status(path) is not None:
            target = self._fs.named_by(path) or "nothing"  # it was made just now
        found = Keyed.parse(target)
        if target and found is None:
            text = "it stands for a key, and says nothing; remove it with `ddmq forget`"
            raise OSError(errno.EINVAL, text, path)
        return found

    def forget(self, name: str) -> bool:
        """Let what is published with a key be published again; False: nothing was."""
        path = f"{self._layout.keys}/{name}"
        try:
            # An NFS client may have cached that it was missing, and would not ask the server.
            return self._fs.exists(path) and self._fs.unlink(path)
        except FileNotFoundError:
            return False

    # Publishing

    def publish(self, name: str, data: bytes, options: Publication) -> Keyed:
        """Publish one message with a key, unless that was done; return what was published."""
        id_, own = new_id(), Stopwatch(self._store.clock)
        keyed = self._new(name, id_, options, single=True)
        draft = f"{self._layout.tmp}/{keyed.draft}"
        mode = self._layout.file_mode
        self._fs.create_own(draft, data, sync=options.durable, mode=mode)
        discard = partial(self._fs.discard, draft)
        watches = ((own, ABANDONED),)
        try:
            self._prepare(options)
            _require_in_time(draft, watches)
        except OSError:
            discard()
            raise
        return self._elect(name, keyed, watches, discard)

    def publish_many(
        self, name: str, messages: Iterable[bytes], options: Publication
    ) -> Keyed | None:
        """Publish messages with a key, unless that was done; None: there are none.

        They become bundles, however few they are: so one rename publishes them all.
        """
        from ddmq.storage.bundle_file import chunks

        store, layout, fs = self._store, self._layout, self._fs
        watch, directory = Stopwatch(store.clock), f"{layout.tmp}/{new_id()}"
        bundles: list[Bundle] = []
        draft = ""
        try:
            layout.make_directory(directory)
            for bunch in chunks(messages, store.bundle_size):
                priority, policy = options.priority, options.policy
                id_ = _bundle_id(bundles[0].id, len(bundles)) if bundles else new_id()
                bundle = Bundle(priority, 0, id_, len(bunch), policy)
                store.write_bundle(f"{directory}/{bundle.id}", bunch, options)
                bundles.append(bundle)
            store.place_bundles(directory, bundles, options)
            fs.rmdir(directory)
            if not bundles:
                return None
            own = Stopwatch(store.clock)
            id_ = bundles[0].id if len(bundles) == 1 else new_id()
            keyed = self._new(name, id_, options, bundles=bundles)
            draft = f"{layout.tmp}/{keyed.draft}"
            self._draft_entries(draft, bundles, options)
            watches = (own, ABANDONED), (watch, ABANDONED_INPUT)
            self._prepare(options)
            _require_in_time(draft, watches)
        except BaseException:  # the caller's iterable may raise anything
            with suppress(OSError):
                self._discard(directory, draft, bundles)
            raise
        discard = partial(self._discard, directory, draft, bundles)
        return self._elect(name, keyed, watches, discard)

    def _new(
        self,
        name: str,
        id_: str,
        options: Publication,
        *,
        single: bool = False,
        bundles: Iterable[Bundle] = (),
    ) -> Keyed:
        """Return what the link of a key is to say."""
        bundles = list(bundles)
        due = self._time.in_ms(options.delay) if options.delay else 0
        return Keyed(
            f"{id_}.{name}",
            options.priority,
            due,
            options.durable,
            options.policy,
            0 if single else len(bundles),
            1 if single else sum(bundle.lines for bundle in bundles),
            id_ if single else f"{bundles[0].id}-0",
            id_ if single else f"{bundles[-1].id}-{bundles[-1].lines - 1}",
        )

    def _draft_entries(
        self, draft: str, bundles: list[Bundle], options: Publication
    ) -> None:
        """Make the entry of one bundle, or a directory with those of several."""
        mode = self._layout.file_mode
        if len(bundles) == 1:
            self._fs.touch(draft, mode)
            return
        self._layout.make_directory(draft)
        stamp = self._ready.stamps_at_end(options.priority, bundles)
        for bundle in bundles:
            self._fs.touch(f"{draft}/{bundle.name_at(stamp)}", mode)
            stamp += bundle.stamps
        if options.durable:
            self._fs.sync_directory(draft)

    def _discard(self, directory: str, draft: str, bundles: list[Bundle]) -> None:
        """Remove a draft that no key names; its bundles too, if nobody can have published it."""
        leftovers = self._store.leftovers
        leftovers.remove_drafts(directory)
        if draft and self._fs.is_directory(draft):
            is_ours = leftovers.remove_drafts(draft)
        else:
            is_ours = not draft or self._fs.unlink(draft)
        for bundle in bundles if is_ours else ():
            self._bundles.remove(bundle.id)

    def _prepare(self, options: Publication) -> None:
        """Make what a link needs: its directory, and a draft that a power cut does not take."""
        if not self._fs.is_directory(self._layout.keys):  # nobody has needed it yet
            self._layout.make_directory(self._layout.keys)
        if options.durable:
            self._fs.sync_directory(self._layout.tmp)

    def _elect(
        self,
        name: str,
        keyed: Keyed,
        watches: Sequence[tuple[Stopwatch, int]],
        discard: Callable[[], object],
    ) -> Keyed:
        """Make the link of a key, or find that of somebody else; publish what it says.

        Our draft is discarded if no link to it can have been made. If we were suspended before we
        made our link, the draft may have been cleaned away. Then the link is removed again: else
        it would say for ever that this was published. But it stays if the draft is there, or went
        so early that somebody must have published it, who has found our link by then.
        """
        path = f"{self._layout.keys}/{name}"
        try:
            elected = self._fs.elected(path, keyed.target)
        except OSError as error:
            if error.errno in REFUSED:
                discard()
            raise
        found = Keyed.parse(elected)
        if found is None:
            raise OSError(errno.EAGAIN, "nobody can tell who published with this", path)
        if found != keyed:
            discard()
        elif any(watch.seconds() > kept / 2 for watch, kept in watches):
            try:
                self._finish_late(path, found, watches)
            except _TooLate:
                self._fs.unlink(path)
                discard()
                raise
            return found
        self._finish(found)
        return found

    def _finish_late(
        self, path: str, keyed: Keyed, watches: Sequence[tuple[Stopwatch, int]]
    ) -> None:
        """Publish our draft, whose link was made late; _TooLate: it may have been cleaned away.

        What we moved was there. What is gone, but can't have been cleaned away yet, was published
        by somebody who found our link.
        """
        draft = f"{self._layout.tmp}/{keyed.draft}"
        made = self._fs.status(path)  # we may have been suspended since, too
        ago = made.age(self._store.clock.time_ns()) if made else 0.0
        _require_in_time(draft, watches[1:], ago, share=_SURELY_KEPT)  # the bundles
        if not self._finish(keyed):
            _require_in_time(draft, watches, ago, share=_SURELY_KEPT)

    # Making it visible

    def _finish(self, keyed: Keyed) -> bool:
        """Publish the draft that a key names; False: that was done before, by whomever.

        Each rename has one winner.
        """
        draft = f"{self._layout.tmp}/{keyed.draft}"
        if not self._fs.exists(draft):
            return False
        if keyed.durable:  # the link, before anybody can have seen a message
            self._fs.sync_directory(self._layout.keys)
            self._fs.sync_directory(self._layout.path)
        priority, policy, id_ = keyed.priority, keyed.policy, keyed.id
        if not keyed.bundles:
            return self._show(draft, Entry(priority, 0, id_, policy=policy), keyed)
        if keyed.bundles == 1:
            bundle = Bundle(priority, 0, id_, keyed.number, policy)
            return self._show(draft, bundle, keyed)
        return self._show_all(draft, keyed)

    def _show(self, draft: str, entry: ReadyEntry, keyed: Keyed) -> bool:
        """Move a file into the ready queue or `delayed/`; False when it is gone."""
        store = self._store
        if not keyed.due:
            return self._ready.append(draft, entry, sync=keyed.durable)
        stamp = entry.stamp or self._ready.next_stamp(0, entry.stamps)
        delayed = Delayed(entry._replace(stamp=stamp), keyed.due)
        moved = self._fs.rename(draft, f"{store.delayed.path}/{delayed.filename}")
        if keyed.durable:
            store.delayed.sync()
        return moved

    def _show_all(self, draft: str, keyed: Keyed) -> bool:
        """Make a bucket of a directory of entries; with a delay, move them one by one.

        False: one of them is gone, or all.
        """
        try:
            names = self._fs.listing(draft)
        except FileNotFoundError:
            return False
        found = [parse_ready_entry(keyed.priority, name) for name in sorted(names)]
        bundles = [each for each in found if isinstance(each, Bundle)]
        if not keyed.due and bundles:
            first, sync = bundles[0].stamp, keyed.durable
            return self._ready.place_bucket(draft, keyed.priority, first, sync=sync)
        moved = [self._show(f"{draft}/{x.filename}", x, keyed) for x in bundles]
        self._fs.rmdir(draft)
        return len(moved) == keyed.bundles and all(moved)

    # Housekeeping

    def complete_old(self, now_ns: int, within: float) -> set[str]:
        """Publish what publishers that died had made ready over an hour ago, and a key names.

        Return the paths of what is to stay, though it looks like a leftover: drafts that can't be
        published now, or that were not looked at `within` so many seconds, and their bundles. Where
        nobody can tell which these are, the directory of all bundles stands for them.
        """
        tmp, clock = self._layout.tmp, self._store.clock
        drafts = deque(filter(key_of_draft, self._fs.listing(tmp)))
        drafts.rotate(random_below(len(drafts)))  # another time, others come first
        kept, end = set(), clock.monotonic() + within
        while drafts and clock.monotonic() <= end:
            draft = drafts.popleft()
            try:
                self._complete(draft, now_ns)
            except OSError as error:
                self._passed.tell(f"{tmp}/{draft}", "can't be published", error)
                kept |= {f"{tmp}/{draft}", *self._bundles_of(draft)}
        if drafts:
            kept |= {self._layout.bundles, *(f"{tmp}/{draft}" for draft in drafts)}
        return kept

    def _complete(self, draft: str, now_ns: int) -> None:
        """Publish a draft if it is an hour old and its key names it."""
        found = self._fs.status(f"{self._layout.tmp}/{draft}")
        if found is None or found.age(now_ns) <= ABANDONED:
            return
        keyed = self.named(key_of_draft(draft) or "")
        if keyed is not None and keyed.draft == draft:
            self._finish(keyed)

    def _bundles_of(self, draft: str) -> set[str]:
        """Return the paths of the bundles whose entries are in a draft."""
        ids = {draft.partition(".")[0]}
        try:
            names = self._fs.listing(f"{self._layout.tmp}/{draft}")
        except (FileNotFoundError, NotADirectoryError):
            names = []
        except OSError:
            return {self._layout.bundles}
        entries = (parse_ready_entry(0, name) for name in names)
        ids |= {each.id for each in entries if isinstance(each, Bundle)}
        return set(map(self._layout.bundle, ids))


class _TooLate(FileNotFoundError):
    """A draft may have been cleaned away."""


def _require_in_time(
    draft: str,
    watches: Sequence[tuple[Stopwatch, int]],
    ago: float = 0.0,
    share: float = 0.5,
) -> None:
    """Raise _TooLate if somebody may have cleaned a draft away, so many seconds ago.

    It counts as kept for a `share` of the time that it is kept, since clocks may be wrong.
    """
    if any(watch.seconds() - ago > kept * share for watch, kept in watches):
        text = "it took too long to make this ready, so nothing was published"
        raise _TooLate(errno.ENOENT, text, draft)
