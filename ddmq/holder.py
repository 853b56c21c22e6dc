"""Who holds a lock: what its holder writes into the lock file, and what that tells others."""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from ddmq.clock import date
from ddmq.printable import printable, quoted
from ddmq.untrusted import moment, parsed

_MAX_TEXT = 80
_MAX_PID = 1 << 31


class Holder(NamedTuple):
    """A process that got a lock."""

    host: str
    pid: int
    job: str
    """The scheduler's id, empty outside of a job."""
    since: float
    """Seconds since 1970, by the clock of its host."""

    def encode(self) -> bytes:
        """Return what it writes into the lock file: one line of JSON."""
        return json.dumps(self._asdict()).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> Holder | None:
        """Read a lock file; None: it names nobody. Fields that we don't know are ignored."""
        try:
            found = parsed(data)
            texts = [printable(str(found[key])[:_MAX_TEXT]) for key in ("host", "job")]
            pid, since = found["pid"], moment(found["since"])
        except (ValueError, TypeError, KeyError):
            return None
        if type(pid) is not int or not 0 < pid < _MAX_PID or since is None:
            return None
        return cls(texts[0], pid, texts[1], since)

    def __str__(self) -> str:
        """Name it in words."""
        job = f", job {self.job}" if self.job else ""
        since = "?" if moment(self.since) is None else date(self.since)
        return f"process {self.pid} on host {self.host}{job}, since {since}"


def is_running(pid: int) -> bool:
    """Tell whether there is such a process on this host."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def told(path: str, holder: Holder | None, host: str, waited: float) -> str:
    """Say who keeps us from a lock, and what to do about it.

    The text in the file may be that of a holder that was killed, or a lie: whoever may take
    the lock can write there. So nothing in it is part of what we say that one should type.
    """
    remedy = "try again later, or wait longer with --lock-timeout (lock_timeout in ddmq.yaml)"
    find = f"`fuser -v {quoted(path)}`"
    if holder is None:
        return (
            f"{path}: another client holds this lock since over {waited:g} seconds, and left "
            f"no name; {remedy}; {find} on each node finds it"
        )
    who = f"{path}: the lock could not be had within {waited:g} seconds; "
    end = f"if it hangs, {find} on its node shows whether it is this one, to be ended; "
    end += "if its node is dead, remove this file"
    if holder.host != host:
        who += f"its last known holder is {holder}"
    elif holder.pid > 0 and is_running(holder.pid):
        who += f"by what is written there, it is held by {holder}"
    else:
        who += f"its last known holder, {holder}, has ended"
        end = f"{find} on each node finds who holds it now"
    return f"{who}; {remedy}; {end}"
