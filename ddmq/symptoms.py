"""What can be wrong with a queue: each function looks for one thing, and changes nothing."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.clock import date
from ddmq.errors import DdmqError, LockTimeout, UnknownLayout
from ddmq.fs import FORBIDDEN, is_shared
from ddmq.locks import exclusive
from ddmq.message import Policy
from ddmq.names import (
    NOTE_SUFFIX,
    Bundle,
    Dead,
    Delayed,
    Lease,
    Spent,
    are_buckets,
    are_in_priority,
    is_shelf,
    parse_place,
    parse_priority,
)
from ddmq.printable import printable, quoted
from ddmq.store import DIRECTORIES, SETTLED, abandoned_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ddmq.settings import Settings
    from ddmq.store import Store

#: Levels, as in `ddmq check`: only `bad` asks for something to be done.
NOTE, BAD = "note", "bad"
#: Seconds: after which somebody should have kept house, what is soon, and what is far ahead.
_LATE, _SOON, _SLACK, _YEAR = 60, 30, 60, 365 * 86400
#: Seconds for which a lock is tried, and by which a clock may differ unremarked.
_LOCK_SECONDS, _OFFSET = 2.0, 1.0
#: Files whose owners and modes are looked at, in each directory; leases that are read.
_SAMPLE, _READ = 100, 20
#: What `--fix` does with what stands in the place of a directory or a lock.
_AWAY = "gives it a hidden name beside, and makes a new one"


class Symptom(NamedTuple):
    """One thing that is wrong, or worth knowing."""

    name: str
    level: str
    text: str
    remedy: str = ""
    """What to do about it, or what `--fix` does."""
    fix: str = ""
    """Who mends it: `clean`, `create`, `aside`, `away` or `modes`; empty: only people."""
    paths: tuple[str, ...] = ()
    """What is concerned."""
    figures: Mapping[str, Any] = {}


class Patient(NamedTuple):
    """A queue that is looked at."""

    store: Store
    settings: Settings

    @property
    def now(self) -> float:
        """The file server's time, in seconds since 1970."""
        return self.store.clock.time()

    def names(self, path: str) -> list[str]:
        """List a directory of the queue, sorted; nothing where it can't be listed."""
        try:
            return sorted(self.store.fs.listing(path))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return []

    def leases(self) -> list[Lease]:
        """Return the leases, first the one that expires first."""
        return _known(Lease.parse, self.names(self.store.work))

    def in_priorities(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each priority and the paths of its buckets and shelves, in order."""
        ready = f"{self.store.path}/ready"
        for priority in filter(_is_priority, self.names(ready)):
            names = filter(_is_in_priority, self.names(f"{ready}/{priority}"))
            yield int(priority), [f"{ready}/{priority}/{name}" for name in names]

    def shelves(self) -> list[str]:
        """Return the paths of all shelves."""
        return [p for _, paths in self.in_priorities() for p in paths if is_shelf(p)]

    def buckets(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each priority and the paths of its buckets, in order."""
        for priority, paths in self.in_priorities():
            yield priority, [bucket for path in paths for bucket in self._at(path)]

    def _at(self, path: str) -> list[str]:
        """Return the paths of the buckets on a shelf, or that of a bucket alone."""
        if not is_shelf(path):
            return [path]
        return [f"{path}/{name}" for name in filter(_is_bucket, self.names(path))]


def symptoms(patient: Patient) -> Iterator[Symptom]:
    """Look at a queue without disturbing it; yield all that is to be said."""
    for look in (
        directories, writers, owners, modes, clock, lock, expired, lost_bundles,
        leased_for_long, soon_over, due, stamped_ahead, garbage, leftovers, empty_buckets, undropped,
    ):  # fmt: skip
        yield from look(patient)


def directories(patient: Patient) -> Iterator[Symptom]:
    """Look for directories that are missing, for what stands in their place, or is closed."""
    store, ready = patient.store, f"{patient.store.path}/ready"
    paths = [f"{store.path}/{name}" for name in DIRECTORIES]
    found = [(_state_of(patient, path), path) for path in paths]
    for priority in filter(_is_priority, patient.names(ready)):
        state = _state_of(patient, path := f"{ready}/{priority}")
        if state != "missing":  # whoever publishes makes it
            found.append((state, path))
    for state, text, remedy, fix in (
        ("missing", "missing", "makes them", "create"),
        ("links", "no directory", _AWAY, "away"),
        ("closed", "somebody keeps it to himself", _AWAY, "away"),
    ):
        wrong = [path for its, path in found if its == state]
        if wrong:
            yield _bad(state, f"{_listed(wrong)}: {text}", remedy, fix, wrong)


def _state_of(patient: Patient, path: str) -> str:
    found = patient.store.fs.status(path)
    if found is None:
        return "missing"
    if not found.is_directory:
        return "links"
    return "closed" if _is_kept_from_us(path) else "well"


def _in_use(patient: Patient) -> list[str]:
    """Return the paths of the directories without which messages can't come or go."""
    store, ready = patient.store, f"{patient.store.path}/ready"
    priorities = filter(_is_priority, patient.names(ready))
    return [
        *(f"{store.path}/{name}" for name in DIRECTORIES),
        *(f"{ready}/{priority}" for priority in priorities),
    ]


def _is_kept_from_us(path: str) -> bool:
    """Tell whether only others may use a directory where we may put another one."""
    found = _lstat(path)
    if found is None or found.st_uid == os.geteuid():
        return False
    here = os.access(path, os.R_OK | os.W_OK | os.X_OK)
    return not here and os.access(os.path.dirname(path), os.W_OK | os.X_OK)


def writers(patient: Patient) -> Iterator[Symptom]:
    """Say who besides its owner may change the queue."""
    yield from writers_of(patient.store.path)


def writers_of(path: str) -> Iterator[Symptom]:
    """Say who besides its owner may write to a directory."""
    found = os.lstat(path)
    if found.st_mode & stat.S_IWOTH:
        text = f"everybody may write to {path}, so everybody can take, change and remove messages"
        remedy = f"chmod o-w {quoted(path)}, unless all are to be trusted"
        yield _bad("writers", text, remedy)
    elif found.st_mode & stat.S_IWGRP:
        text = f"the group {_group(found.st_gid)} may write to {path}: its members are trusted"
        yield Symptom("writers", NOTE, text, paths=(path,))


def owners(patient: Patient) -> Iterator[Symptom]:
    """Look for files that the queue's owner can't read, since they are somebody else's."""
    owner = os.lstat(patient.store.path)
    shared = is_shared(owner.st_mode)
    wrong = [
        path
        for path, found in _sampled(patient)
        if found.st_uid != owner.st_uid
        and not found.st_mode & stat.S_IROTH
        and not (shared and found.st_gid == owner.st_gid)
    ]
    if wrong:
        text = f"{_listed(wrong)}: not of {_user(owner.st_uid)}, who can't read it"
        yield _bad("owners", text, "chown it to the owner of the queue", "", wrong)


def modes(patient: Patient) -> Iterator[Symptom]:
    """Look for directories and files that those who share the queue can't use."""
    mode = stat.S_IMODE(os.lstat(patient.store.path).st_mode)
    wrong = [p for p, found in _sampled(patient) if not _is_usable(found.st_mode, mode)]
    if wrong:
        text = f"{_listed(wrong)}: the mode is not that of the queue, {mode:o}"
        remedy = "sets it, where the file is ours and has no other name"
        yield _bad("modes", text, remedy, "modes", wrong)


def mended_mode(found: int, queue: int) -> int:
    """Return the mode that a file or directory must have in a queue of a mode."""
    return queue if stat.S_ISDIR(found) else stat.S_IMODE(found) | queue & 0o660


def _is_usable(found: int, queue: int) -> bool:
    if stat.S_ISDIR(found):
        return found & stat.S_IRWXU == stat.S_IRWXU and (
            not is_shared(queue) or stat.S_IMODE(found) == queue
        )
    return not is_shared(queue) or found & queue & 0o660 == queue & 0o660


def _sampled(patient: Patient) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the directories of a queue and some files of each."""
    store = patient.store
    paths = [
        store.tmp,
        f"{store.path}/ready",
        store.work,
        store.delayed,
        store.letters.path,
        *patient.shelves(),
    ]
    for _, buckets in patient.buckets():
        paths += buckets
    for path in (*paths, store.drop):
        names = [] if is_shelf(path) else patient.names(path)[:_SAMPLE]
        for each in (path, *(f"{path}/{name}" for name in names)):
            found = _lstat(each)
            if found is not None and not stat.S_ISLNK(found.st_mode):
                yield each, found


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:  # it has moved on, or we may not look
        return None


def clock(patient: Patient) -> Iterator[Symptom]:
    """Say when our clock is not the file server's."""
    try:
        trouble = patient.store.learn_clock()
    except FileNotFoundError:  # without tmp/, which is reported
        return
    if trouble is not None:
        text = (
            "this node's clock can't be compared with the file server's "
            f"({trouble.strerror}): all that follows about times goes by this node's"
        )
        yield Symptom("clock", NOTE, text, paths=(patient.store.tmp,))
    ahead = -patient.store.clock.offset_ns / 1e9
    if abs(ahead) > _OFFSET:
        which = "ahead of" if ahead > 0 else "behind"
        text = f"this node's clock is {abs(ahead):.1f} s {which} the file server's; ddmq allows for it"
        yield Symptom("clock", NOTE, text, "set it by NTP", figures={"ahead": ahead})


def lock(patient: Patient) -> Iterator[Symptom]:
    """Look whether the lock can be had: by us, within a moment."""
    yield from lock_at(patient.store.lock)


def lock_at(path: str) -> Iterator[Symptom]:
    """Look whether a lock can be had."""
    try:
        with exclusive(path, _LOCK_SECONDS):
            pass
    except LockTimeout as error:
        yield _bad("lock", str(error), "messages need no lock; administration does")
    except OSError as error:
        if error.errno in FORBIDDEN and not _is_kept_from_us(path):
            text = (
                f"{path}: we may not lock it ({error.strerror}), and so not administer"
            )
            yield Symptom("lock", NOTE, text, paths=(path,))
        else:
            text = f"{path}: no lock of ours ({error.strerror})"
            yield _bad("lock", text, _AWAY, "away", [path])


def expired(patient: Patient) -> Iterator[Symptom]:
    """Look for leases that are over, and that nobody has requeued for a while."""
    now = patient.now  # before the listing, which may take long
    late = (now - _LATE) * 1000
    over = [lease for lease in patient.leases() if lease.expiry < late]
    if over:
        since = now - over[0].expiry / 1000
        text = f"{_count(over, 'lease')} over, the oldest for {_span(since)}: nobody keeps house"
        yield _bad(
            "expired", text, "requeues or buries them", "clean",
            [f"{patient.store.work}/{lease.filename}" for lease in over],
        )  # fmt: skip


def soon_over(patient: Patient) -> Iterator[Symptom]:
    """Say how many leases will be over soon, unless somebody renews or settles them."""
    now = patient.now * 1000
    soon = [x for x in patient.leases() if now <= x.expiry < now + _SOON * 1000]
    if soon:
        text = (
            f"{_count(soon, 'lease')} over within {_SOON} s, unless renewed or settled"
        )
        yield Symptom("expiring", NOTE, text, figures={"number": len(soon)})


def leased_for_long(patient: Patient) -> Iterator[Symptom]:
    """Look for leases that end later than any timeout says: a clock was wrong."""
    leases = patient.leases()
    limit = (patient.now + patient.settings.message_timeout + _SLACK) * 1000
    far = [lease for lease in leases if lease.expiry > limit][-_READ:]
    wrong = [
        lease
        for lease in far
        if lease.expiry > (patient.now + _own_timeout(patient, lease) + _SLACK) * 1000
    ]
    if wrong:
        last = _span(wrong[-1].expiry / 1000 - patient.now)
        text = (
            f"{_count(wrong, 'lease')} beyond any timeout, the last one for {last} more"
        )
        text += ": renewed on purpose, or by a clock that was wrong"
        remedy = f"if its consumer is gone: ddmq release … {wrong[-1].entry.id}"
        paths = [f"{patient.store.work}/{lease.filename}" for lease in wrong]
        yield _bad("far leases", text, remedy, "", paths)


def _own_timeout(patient: Patient, lease: Lease) -> float:
    """Return the timeout that a message has: its own, or that of the queue."""
    return Policy.of(lease.entry, patient.settings).timeout


def lost_bundles(patient: Patient) -> Iterator[Symptom]:
    """Look for leases that are over, of messages whose bundle is nowhere.

    All is looked at twice: a listing may miss a bundle that others are renaming.
    """
    late = (patient.now - _LATE) * 1000
    lost = [x for x in patient.leases() if x.is_line and x.line and x.expiry < late]
    for _ in range(2):
        known = _bundles(patient) if lost else set()
        lost = [lease for lease in lost if lease.line and lease.line[0] not in known]
    if lost:
        text = f"{_count(lost, 'lease')} over, and the bundle with the message can't be found"
        text += f": {', '.join(sorted({x.line[0] for x in lost if x.line})[:3])}"
        remedy = "was it moved, or is it in a directory that we may not list? "
        remedy += "put it back, or remove these leases: their messages are gone with it"
        paths = [f"{patient.store.work}/{lease.filename}" for lease in lost]
        yield _bad("lost bundles", text, remedy, "", paths)


def _bundles(patient: Patient) -> set[str]:
    """Return the ids of all bundles that are in line, or of which no line waits any more."""
    found = {
        spent.id for spent in _known(Spent.parse, patient.names(patient.store.work))
    }
    for priority, buckets in patient.buckets():
        for bucket in buckets:
            places = (parse_place(priority, name) for name in patient.names(bucket))
            found |= {place.id for place in places if isinstance(place, Bundle)}
    return found


def due(patient: Patient) -> Iterator[Symptom]:
    """Look for delayed messages that are due and not shown, or due in years."""
    now = patient.now
    delayed = _known(Delayed.parse, patient.names(patient.store.delayed))
    late = [d for d in delayed if d.due < (now - _LATE) * 1000]
    far = [d for d in delayed if d.due > (patient.now + _YEAR) * 1000]
    if late:
        since = _span(now - late[0].due / 1000)
        text = f"{_count(late, 'delayed message')} due, the first since {since}: nobody keeps house"
        yield _bad(
            "due",
            text,
            "puts them in line",
            "clean",
            _paths(patient.store.delayed, late),
        )
    if far:
        text = f"{_count(far, 'delayed message')} due in over a year, the last on {_date(far[-1])}"
        paths = _paths(patient.store.delayed, far)
        yield Symptom(
            "far delays", NOTE, text, "was a clock wrong?", paths=tuple(paths)
        )


def _date(delayed: Delayed) -> str:
    try:
        return date(delayed.due / 1000)
    except (ValueError, OverflowError, OSError):
        return "?"


def _paths(directory: str, found: Iterable[Delayed]) -> list[str]:
    return [f"{directory}/{each.filename}" for each in found]


def stamped_ahead(patient: Patient) -> Iterator[Symptom]:
    """Look for buckets whose name is in the future: a publisher's clock was wrong."""
    buckets = [path for _, paths in patient.buckets() for path in paths]
    limit = int((patient.now + _SLACK) * 1e9)  # after the listings of what is ahead
    ahead = [path for path in buckets if int(os.path.basename(path)) > limit]
    if ahead:
        text = (
            f"{_listed(ahead)}: stamped in the future; new messages follow it, in order"
        )
        remedy = "was a clock wrong? it harms nothing"
        yield Symptom("stamps", NOTE, text, remedy, paths=tuple(ahead))


def garbage(patient: Patient) -> Iterator[Symptom]:
    """Look for what is no message where messages are."""
    store = patient.store
    aside = [
        f"{store.work}/{n}" for n in _unknown(Lease.parse, patient.names(store.work))
    ]
    aside += [
        f"{store.delayed}/{n}"
        for n in _unknown(Delayed.parse, patient.names(store.delayed))
    ]
    aside += _garbage_in_line(patient)
    if aside:
        remedy = "moves it to dead/, with the reason"
        yield _bad("garbage", f"{_listed(aside)}: no message", remedy, "aside", aside)
    names = [
        n for n in patient.names(store.letters.path) if not n.endswith(NOTE_SUFFIX)
    ]
    dead = [f"{store.letters.path}/{name}" for name in names]
    odd = [p for p, n in zip(dead, names) if Dead.parse(n) is None or os.path.isdir(p)]
    if odd:
        text = f"{_listed(odd)}: among the dead letters, and no message"
        yield _bad("dead", text, "move it away, or remove it", "", odd)


def _garbage_in_line(patient: Patient) -> list[str]:
    ready = f"{patient.store.path}/ready"
    found = [f"{ready}/{n}" for n in patient.names(ready) if not _is_priority(n)]
    for shelf in patient.shelves():
        found += [f"{shelf}/{n}" for n in patient.names(shelf) if not _is_bucket(n)]
    for priority, buckets in patient.buckets():
        path = f"{ready}/{priority}"
        found += [f"{path}/{n}" for n in patient.names(path) if not _is_in_priority(n)]
        for bucket in buckets:
            names = patient.names(bucket)
            found += [
                f"{bucket}/{n}" for n in names if parse_place(priority, n) is None
            ]
    return found


def leftovers(patient: Patient) -> Iterator[Symptom]:
    """Look for files of writers that died: drafts, and notes without a dead letter."""
    store, now_ns = patient.store, patient.store.clock.time_ns()
    drafts = [f"{store.tmp}/{name}" for name in patient.names(store.tmp)]
    dead = patient.names(store.letters.path)
    known = {letter.note for letter in _known(Dead.parse, dead)}
    notes = [
        f"{store.letters.path}/{name}"
        for name in dead
        if name.endswith(NOTE_SUFFIX) and name not in known
    ]
    old = [path for path in (*drafts, *notes) if _is_abandoned(patient, path, now_ns)]
    if old:
        text = f"{_listed(old)}: left by a writer that died over an hour ago"
        yield _bad("leftovers", text, "removes them", "clean", old)


def _is_abandoned(patient: Patient, path: str, now_ns: int) -> bool:
    found = patient.store.fs.status(path)
    return found is not None and found.age(now_ns) > abandoned_after(found)


def _age(patient: Patient, path: str, now_ns: int) -> float:
    found = patient.store.fs.status(path)
    return 0.0 if found is None else found.age(now_ns)


def empty_buckets(patient: Patient) -> Iterator[Symptom]:
    """Look for buckets in which nothing waits, but for the newest one of each priority.

    The same goes for shelves on which no bucket is.
    """
    older = [path for _, buckets in patient.buckets() for path in buckets[:-1]]
    for _, paths in patient.in_priorities():
        older += filter(is_shelf, paths[:-1])
    empty = [p for p in older if not patient.names(p) and os.access(p, os.R_OK)]
    if empty:
        text = f"{_listed(empty)}: empty, and not the newest"
        yield _bad("buckets", text, "removes them", "clean", empty)


def undropped(patient: Patient) -> Iterator[Symptom]:
    """Look for dropped files that nobody has taken."""
    drop, now_ns = patient.store.drop, patient.store.clock.time_ns()
    paths = [f"{drop}/{name}" for name in patient.names(drop)]
    old = [path for path in paths if _age(patient, path, now_ns) > SETTLED + _LATE]
    if old:
        text = f"{_listed(old)}: dropped, and not taken: nobody keeps house"
        yield _bad("drop", text, "makes messages of them", "clean", old)


def explained(error: DdmqError) -> Symptom:
    """Return what keeps us from looking at all."""
    if isinstance(error, UnknownLayout):
        return _bad("layout", str(error), "nothing here is for this ddmq to mend")
    return _bad("settings", " ".join(str(error).split()), "mend it first")


def _bad(
    name: str, text: str, remedy: str, fix: str = "", paths: Iterable[str] = ()
) -> Symptom:
    paths = tuple(paths)
    return Symptom(name, BAD, text, remedy, fix, paths, {"number": len(paths)})


def _known(parse: Callable[[str], Any], names: Iterable[str]) -> list[Any]:
    return [known for name in names if (known := parse(name)) is not None]


def _unknown(parse: Callable[[str], Any], names: Iterable[str]) -> list[str]:
    return [n for n in names if parse(n) is None and Spent.parse(n) is None]


def _is_priority(name: str) -> bool:
    return parse_priority(name) is not None


def _is_in_priority(name: str) -> bool:
    return are_in_priority([name])


def _is_bucket(name: str) -> bool:
    return are_buckets([name])


def _listed(paths: list[str]) -> str:
    """Name some paths, printably, and count the others."""
    shown = ", ".join(map(printable, paths[:3]))
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"


def _count(found: list[Any], what: str) -> str:
    return f"{len(found)} {what} is" if len(found) == 1 else f"{len(found)} {what}s are"


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def _user(uid: int) -> str:
    import pwd  # slow where users come from a directory service

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    import grp  # slow where groups come from a directory service

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
