"""`ddmq check` and `ddmq doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ddmq.cli.commands import ANY_QUEUES, positive
from ddmq.cli.spec import NUMBER, SECONDS, Command, Reply, option, positional, switch
from ddmq.errors import InvalidArgument

if TYPE_CHECKING:
    from ddmq.cli.spec import Context, Number


class Check(NamedTuple):
    """What `ddmq check` can be told."""

    dir: str = positional("a directory in which we may write")
    dir2: str | None = positional(
        "the same one, by another mount", is_required=False, metavar="DIR2"
    )
    clients: Number = option(
        "--clients",
        "wait for others that run the same command; srun and mpirun tell by themselves",
        NUMBER,
        metavar="N",
    )
    timeout: Number = option(
        "-t --timeout", "seconds that another client may take; 60 by default", SECONDS
    )


def check(told: Check, context: Context) -> Reply:
    """Check a file system."""
    from ddmq.diagnose.check import session  # the doctor needs nothing of it
    from ddmq.schedulers import environment

    place = session.Place(told.dir, told.dir2)
    if told.timeout is not None:
        place = place._replace(timeout=positive(told.timeout))
    clients = None if told.clients is None else positive(told.clients)
    found = session.check(place, environment(), clients, context.tell)
    if found is None:  # another process reports
        return Reply({}, "", is_empty=True)
    return Reply(found.as_dict(), str(found), status=0 if found.is_safe else 1)


class Doctor(NamedTuple):
    """What `ddmq doctor` can be told."""

    root: str | None = positional(
        "the directory of the queues; without it, what a bug report needs is told",
        is_required=False,
    )
    queue: list[str] | None = ANY_QUEUES
    fix: bool = switch(
        "--fix", "mend it, as the housekeeping would; no message is destroyed"
    )
    purged_after: Number = option(
        "--purged-after",
        "the age, such as 30d, at which this file system removes files: tell what is near it",
        SECONDS,
        metavar="AGE",
    )


def doctor(told: Doctor, _: Context) -> Reply:
    """Look what is wrong with queues; without a root, tell of ddmq and of this node."""
    if told.root is None:
        from ddmq.diagnose import surroundings  # a look at queues needs nothing of it
        from ddmq.diagnose.versions import as_lines
        from ddmq.schedulers import environment

        if told.fix or told.purged_after is not None:
            option_ = "--fix" if told.fix else "--purged-after"
            raise InvalidArgument(f"{option_} needs a ROOT")
        known = surroundings.all_of(environment())
        return Reply(known, as_lines(known))
    from ddmq.diagnose.doctor import diagnose  # the check needs nothing of it

    age = None if told.purged_after is None else positive(told.purged_after)
    found = diagnose(told.root, told.queue, fix=told.fix, purged_after=age)
    return Reply(found.as_dict(), str(found), status=0 if found.is_well else 1)


COMMANDS = (
    Command(
        "check",
        "see whether a file system keeps what ddmq needs; exit status 1 when it does not",
        "ddmq check /scratch/me\n"
        "  ddmq check /mnt/a /mnt/b                     # one file system, mounted twice\n"
        "  srun -N2 ddmq check /scratch/me              # from two nodes",
        Check,
        run=check,
    ),
    Command(
        "doctor",
        "see what is wrong with queues; exit status 1 when something is",
        "ddmq doctor /scratch/mq jobs --fix\n"
        "  ddmq doctor /scratch/mq --purged-after 30d   # a scratch that removes old files\n"
        "  ddmq doctor                                  # for a bug report",
        Doctor,
        run=doctor,
    ),
)
