"""Who holds a lock: what its holder writes into the lock file, and what that tells others."""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from ddmq.clock import date

_MAX_TEXT = 80


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
            found = json.loads(data)
            host, job = _printable(found["host"]), _printable(found["job"])
            return cls(host, int(found["pid"]), job, float(found["since"]))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None

    def __str__(self) -> str:
        """Name it in words."""
        job = f", job {self.job}" if self.job else ""
        return f"process {self.pid} on host {self.host}{job}, since {_date(self.since)}"


def _printable(text: object) -> str:
    """Return a text of somebody else without what could confuse a terminal."""
    return "".join(c if c.isprintable() else "?" for c in str(text))[:_MAX_TEXT]


def _date(seconds: float) -> str:
    try:
        return date(seconds)
    except (ValueError, OverflowError, OSError):  # nobody's clock says that
        return "?"


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

    The text in the file may be that of a holder that was killed. On our own host we can see
    that; of another host, we only know who was the last to sign.
    """
    remedy = "try again later, or wait longer with --lock-timeout (lock_timeout in ddmq.yaml)"
    if holder is None:
        return (
            f"{path}: another client holds this lock since over {waited:g} seconds, and left "
            f"no name; {remedy}; `fuser -v {path}` on each node finds it"
        )
    end = f"if it hangs, end it ({_end_of(holder)}); if its node is dead, remove this file"
    if holder.host != host:
        who = f"could not be had within {waited:g} seconds; its last known holder is {holder}"
    elif holder.pid > 0 and is_running(holder.pid):
        who = f"could not be had within {waited:g} seconds; it is held by {holder}"
    else:
        who = f"could not be had within {waited:g} seconds; its last known holder, {holder}, has ended"
        end = f"`fuser -v {path}` on each node finds who holds it now"
    return f"{path}: the lock {who}; {remedy}; {end}"


def _end_of(holder: Holder) -> str:
    where = f"`kill {holder.pid}` on {holder.host}"
    return f"{where}, or cancel job {holder.job}" if holder.job else where
