"""A queue is paused by one name in `ready/`, which each consumer sees that looks what waits.

The name is that of a symbolic link that nobody follows. Its target says who made it, and when. It
is made exclusively, so of several who pause a queue at once, one does. Whoever removes it resumes
the queue. Workers heed it; that is their policy, and storage only tells.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from ddmq.seen import Pause
from ddmq.storage.names import PAUSED, hidden_name, parse_paused_by, paused_by

if TYPE_CHECKING:
    from ddmq.storage.store import Store

#: What `unlink` answers for a directory, which somebody put there in place of a link.
_A_DIRECTORY = (errno.EISDIR, errno.EPERM)


def pause(store: Store) -> bool:
    """Pause a queue; False: it was paused already."""
    target = by_us(store)
    return store.fs.elected(store.layout.paused, target) == target


def by_us(store: Store) -> str:
    """Return what a link says that we make now: who, where and when."""
    import pwd  # rarely needed

    number = os.getuid()
    try:
        user = pwd.getpwuid(number).pw_name
    except KeyError:
        user = str(number)
    return paused_by(user, os.uname().nodename, store.clock.time_ns())


def resume(store: Store) -> bool:
    """Let workers take messages again; False: the queue was not paused."""
    path = store.layout.paused
    try:
        # An NFS client may have cached that it was missing, and would not ask the server.
        return store.fs.exists(path) and store.fs.unlink(path)
    except OSError as error:
        if error.errno not in _A_DIRECTORY or not store.fs.is_directory(path):
            raise
    if store.dead_letters.quarantine(path, "it paused the queue, and is no link"):
        return True
    # A directory of somebody else's, which can be renamed where it is.
    return store.fs.rename(path, f"{store.layout.ready}/{hidden_name(PAUSED)}")


def read_pause(store: Store) -> Pause:
    """Return who paused a queue of which a listing shows that it is paused, as far as it tells."""
    found = parse_paused_by(store.fs.named_by(store.layout.paused))
    return Pause() if found is None else Pause(found[0], found[1], found[2] / 1e9)
