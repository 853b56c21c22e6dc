"""Mutual exclusion of administrators and housekeepers; no message ever waits for it."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from ddmq.clock import Clock
from ddmq.errors import LockTimeout, warn
from ddmq.storage.background import WHY_IT_HANGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ddmq.storage.background import BackgroundCall

#: What a file system answers that has no locks.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
#: Seconds between two tries: the first pause, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
#: Seconds that we wait at least while a lock file is opened, and at most while it is read.
_OPEN_FOR, _READ_FOR = 1.0, 0.3


@contextmanager
def exclusive(path: str, timeout: float) -> Iterator[None]:
    """Hold the lock at `path`; LockTimeout when others hold it for `timeout` seconds.

    LockTimeout is raised too when the file server does not let us open the lock file (it may
    wait for a client that died with the file open), after a second at least. The lock file
    names its holder while it is held. A crash leaves the name; the next holder replaces it.
    On a file system without locks (Lustre without `-o flock`) nothing is locked: two
    administrators at once could disturb each other, but no message is at risk.
    """
    from ddmq.storage.lock_file import (
        hold,
        ourselves,
        sign,
    )  # slow: it imports filelock

    clock = Clock()
    descriptor = _acquired(path, timeout, clock)
    if descriptor is None:
        warn(
            f"{path}: this file system has no locks; let one node administer at a time"
        )
        yield
        return
    lock = hold(descriptor)
    try:
        sign(descriptor, ourselves(clock).encode())
        yield
    finally:
        sign(descriptor, b"")
        lock.release()


def _acquired(path: str, timeout: float, clock: Clock) -> int | None:
    """Return a descriptor of the locked lock file; None where there are no locks.

    A thread opens and locks the file, since that may hang. When we stop waiting, the thread
    closes what it gets.
    """
    from ddmq.storage.lock_file import blame, holder_of, lock_at

    deadline, pause = clock.monotonic() + timeout, _FIRST_PAUSE
    while True:
        left = deadline - clock.monotonic()
        trial = clock.begin(partial(lock_at, path))
        if not trial.ends_within(max(left, _OPEN_FOR)):
            trial.leave(partial(_close_late, trial))
            reading = clock.begin(partial(holder_of, path))  # this may hang as well
            holder = reading.result() if reading.ends_within(_READ_FOR) else None
            named = f"; the lock file names {holder}" if holder is not None else ""
            raise LockTimeout(
                f"{path}: this lock file could not be opened within "
                f"{max(timeout, _OPEN_FOR):g} seconds{named}; {WHY_IT_HANGS}; try again "
                "later, or wait longer with --lock-timeout (lock_timeout in ddmq.yaml)"
            )
        try:
            return trial.result()
        except BlockingIOError:  # somebody else has it
            left = deadline - clock.monotonic()
        except OSError as error:
            if error.errno in NO_LOCKS:
                return None
            raise
        if left <= 0:
            host = os.uname().nodename
            raise LockTimeout(blame(path, holder_of(path), host, timeout))
        clock.sleep(min(pause, left))
        pause = min(pause * 2, _LONGEST_PAUSE)


def _close_late(trial: BackgroundCall[int], error: BaseException | None) -> None:
    """Close the lock file that was opened when nobody waited for it any more."""
    if error is None:
        os.close(trial.result())
