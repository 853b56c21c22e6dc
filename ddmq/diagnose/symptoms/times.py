"""What is late, early or ahead of its time in a queue."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ddmq.clock import date, span
from ddmq.diagnose.finding import BAD, NOTE, Finding, counted, listed, wrong
from ddmq.diagnose.patient import BUCKET
from ddmq.message import Policy
from ddmq.printable import printable, quoted
from ddmq.storage.then import FAILED, LEASED
from ddmq.storage.workers import is_gone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ddmq.diagnose.patient import Patient

#: Seconds: after which somebody should have kept house, what is soon, and what is far ahead.
LATE, _SOON, _SLACK, _YEAR = 60, 30, 60, 365 * 86400
#: Seconds by which a clock may differ unremarked.
_OFFSET = 1.0
#: From this part of the age on at which files are removed, they are near it.
_NEAR = 0.75
#: How many of the leases that seem too long are compared with their own timeout.
_COMPARED = 20


def clock(patient: Patient) -> Iterator[Finding]:
    """Say when our clock is not the file server's."""
    try:
        trouble = patient.learn_clock()
    except FileNotFoundError:  # without tmp/, which is reported
        return
    if trouble is not None:
        text = (
            "this node's clock can't be compared with the file server's "
            f"({trouble.strerror}): all that follows about times goes by this node's"
        )
        yield Finding("clock", NOTE, text, paths=(patient.tmp,))
    ahead = patient.clock_ahead
    if abs(ahead) > _OFFSET:
        which = "ahead of" if ahead > 0 else "behind"
        text = (
            f"this node's clock is {abs(ahead):.1f} s {which} the file server's; "
            "ddmq allows for it"
        )
        yield Finding("clock", NOTE, text, "set it by NTP", {"ahead": ahead})


def expired(patient: Patient) -> Iterator[Finding]:
    """Look for leases that are over, and that nobody has requeued for a while."""
    now = patient.now  # before the listing, which may take long
    over = [x for x in patient.leases() if x.expiry < (now - LATE) * 1000]
    if over:
        since = span(now - over[0].expiry / 1000)
        text = f"{counted(len(over), 'lease')} over, the oldest for {since}: nobody keeps house"
        paths = [f"{patient.work}/{lease.filename}" for lease in over]
        remedy = "requeues or buries them"
        yield wrong("expired", text, remedy, fix="clean", paths=paths)


def ends_too_late(patient: Patient) -> Iterator[Finding]:
    """Look for leases that end later than any timeout says: a clock was wrong."""
    leases = patient.leases()  # before the time, since they end ahead of it
    limit = (patient.now + patient.settings.message_timeout + _SLACK) * 1000
    far = [lease for lease in leases if lease.expiry > limit][-_COMPARED:]
    wrongly = []
    for lease in far:
        timeout = Policy.of(lease.entry, patient.settings).timeout
        if lease.expiry > (patient.now + timeout + _SLACK) * 1000:
            wrongly.append(lease)
    if wrongly:
        last = span(wrongly[-1].expiry / 1000 - patient.now)
        text = (
            f"{counted(len(wrongly), 'lease')} beyond any timeout, the last one for {last} more: "
            "renewed on purpose, or by a clock that was wrong"
        )
        remedy = f"if its consumer is gone: ddmq release … {wrongly[-1].entry.id}"
        paths = [f"{patient.work}/{lease.filename}" for lease in wrongly]
        yield wrong("far leases", text, remedy, paths=paths)


def soon_over(patient: Patient) -> Iterator[Finding]:
    """Say how many leases will be over soon, unless somebody renews or settles them."""
    now = patient.now * 1000
    soon = [x for x in patient.leases() if now <= x.expiry < now + _SOON * 1000]
    if soon:
        number = len(soon)
        text = f"{counted(number, 'lease')} over within {_SOON} s, unless renewed or settled"
        yield Finding("expiring", NOTE, text, figures={"number": number})


def unrenewed(patient: Patient) -> Iterator[Finding]:
    """Say how many leases nobody renews, and who holds them.

    These are those that were not renewed for over half of their timeout, and those of a process
    that this node has no more.
    """
    now = patient.now  # before the listing, which may take long
    known = patient.holders()
    gone = {token for token, holder in known.items() if is_gone(*holder)}
    found, ages = [], []
    for lease in patient.leases():
        policy = Policy.of(lease.entry, patient.settings)
        age = policy.unrenewed_for(lease.expiry, now)
        if (age is not None or lease.token in gone) and lease.expiry >= now * 1000:
            found.append(lease)
            ages.append(now - (lease.expiry / 1000 - policy.timeout))
    if not found:
        return
    number, since = len(found), date(now - max(ages))
    back_in = max(lease.expiry for lease in found) / 1000 - now
    holders = sorted({known[x.token] for x in found if x.token in known})
    shown = listed([f"process {process} on {host}" for host, process in holders])
    are_gone = all(lease.token in gone for lease in found)
    why = f"{shown} is gone" if are_gone else "the consumer is gone, or does not renew"
    text = (
        f"{number} at work, not renewed for {span(max(ages))}, since {since}: {why}; "
        f"back in {span(back_in)}"
    )
    ids = listed([lease.entry.id for lease in found])
    remedy = f"if the consumer is gone: ddmq release … {ids}; if all are: ddmq clean … --end-leases"
    if holders and not are_gone:
        remedy = f"held by {shown}: look whether it lives; {remedy}"
    figures = {
        "number": number,
        "not_renewed_for": round(max(ages), 3),
        "back_in": round(back_in, 3),
        "holders": [f"{host}:{process}" for host, process in holders],
    }
    paths = tuple(f"{patient.work}/{lease.filename}" for lease in found)
    yield Finding("not renewed", NOTE, text, remedy, figures, paths=paths)


def due(patient: Patient) -> Iterator[Finding]:
    """Look for delayed messages that are due and still delayed, or due in years."""
    now = patient.now  # before the listing, which may take long
    delayed = patient.delayed_messages()
    late = [each for each in delayed if each.due < (now - LATE) * 1000]
    far = [each for each in delayed if each.due > (patient.now + _YEAR) * 1000]
    if late:
        since = span(now - late[0].due / 1000)
        number = counted(len(late), "delayed message")
        text = f"{number} due, the first since {since}: nobody keeps house"
        paths = [f"{patient.delayed}/{each.filename}" for each in late]
        yield wrong("due", text, "puts them in line", fix="clean", paths=paths)
    if far:
        try:
            last = date(far[-1].due / 1000)
        except (ValueError, OverflowError, OSError):
            last = "?"
        number = counted(len(far), "delayed message")
        text = f"{number} due in over a year, the last on {last}"
        paths = [f"{patient.delayed}/{each.filename}" for each in far]
        remedy = "was a clock wrong?"
        yield Finding("far delays", NOTE, text, remedy, paths=tuple(paths))


def stamped_ahead(patient: Patient) -> Iterator[Finding]:
    """Look for buckets whose name is in the future: a publisher's clock was wrong."""
    found = patient.ready_directories()
    buckets = [each.path for each in found if each.kind == BUCKET]
    limit = int((patient.now + _SLACK) * 1e9)  # after the listings of what is ahead
    ahead = [path for path in buckets if int(os.path.basename(path)) > limit]
    if ahead:
        text = (
            f"{listed(ahead)}: stamped in the future; new messages follow it, in order"
        )
        remedy = "was a clock wrong? it harms nothing"
        yield Finding("stamps", NOTE, text, remedy, paths=tuple(ahead))


def follow_ups(patient: Patient) -> Iterator[Finding]:
    """Say what is to be run when the queue is done (`--then`), and what of it failed for good."""
    now = patient.now * 1000  # before the listing, which may take long
    found = patient.follow_ups()
    pending = [each for each in found if each.is_pending]
    failed = [f"{patient.then}/{x.filename}" for x in found if x.state == FAILED]
    if pending:
        held = [x for x in pending if x.state == LEASED and x.time > now]
        text = (
            f"{counted(len(pending), '--then command')} still to be run when the queue is done"
            f"{', and one of them is being run now' if held else ''}"
        )
        figures = {"number": len(pending), "running": len(held)}
        remedy = "" if held else "a worker with --then runs it"
        yield Finding("then", NOTE, text, remedy, figures)
    if failed:
        text = (
            f"{counted(len(failed), '--then command')} not tried again after it failed"
        )
        remedy = (
            f"run it by hand, and then: rm {quoted(failed[0])}; or publish more: "
            "that arms it anew"
        )
        yield wrong("then failed", text, remedy, paths=failed)


def near_removal(patient: Patient, purged_after: float) -> Iterator[Finding]:
    """Look for files that will soon be so old that their file system removes them.

    Which time a site goes by is not known: of all that it may, the modification time is the
    earliest. A message keeps it from its publish on, however often it is renamed.
    """
    now = patient.now
    old = []
    for path in patient.files():
        found = patient.status(path)
        if found is not None and found.is_file:
            age = now - found.modified_ns / 1e9
            if age > _NEAR * purged_after:
                old.append((age, path))
    if old:
        age, oldest = max(old)
        queue = quoted(patient.name)
        text = (
            f"{counted(len(old), 'file')} near the {span(purged_after)} after which this file "
            f"system removes files; the oldest is {span(age)} old: {printable(oldest)}"
        )
        remedy = (
            f"run what waits, or keep a copy elsewhere: ddmq export … {queue} -o FILE"
        )
        figures = {"number": len(old), "oldest": round(age, 3)}
        yield Finding("old files", BAD, text, remedy, figures, paths=(oldest,))
