"""What the latest job of a queue asked for, as its worker noted, or as its script tells."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ddmq.hpc.folder import reached
from ddmq.schedulers import SCHEDULERS
from ddmq.storage.layout import JOBS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ddmq.hpc.journal import Granted

#: Scripts that are looked at, and bytes of one: what is asked for stands at its beginning.
_SCRIPTS, _BYTES = 1000, 16 << 10
_script = re.compile(r"ddmq-[0-9a-f]{16}\.sh")
_KIB = {"K": 1, "M": 1024, "G": 1024**2, "T": 1024**3}


def _one_of(patterns: Iterable[str]) -> str:
    """Return the pattern of any of these; a scheduler that has none leaves it empty."""
    return f"(?:{'|'.join(pattern for pattern in patterns if pattern)})"


_rows = SCHEDULERS.values()
#: What stands before the memory that is asked for each processor, not for a job.
_EACH = [name for row in _rows for name in row.asks_memory_each]
_WHOLE = [name for row in _rows for name in row.asks_memory]
_option = re.compile(
    _one_of(re.escape(row.prefix) for row in _rows) + "(.{1,500})", re.ASCII
)
_memory = re.compile(
    rf"(?<![a-z_])({_one_of(_EACH + _WHOLE)})='?(\d{{1,9}})([KMGT]?)", re.IGNORECASE
)
_time = re.compile(
    _one_of(row.time_option.split()[-1].format("") for row in _rows)
    + r"'?(?:(\d{1,4})-)?(\d{1,6}):(\d\d):(\d\d)"
)
_slots = re.compile(_one_of(row.asks_slots for row in _rows) + r"'?(\d{1,6})")


class Asked(NamedTuple):
    """What a job asked for; None: its script does not say."""

    slots: int | None = None
    memory_kib: float | None = None
    """Of the whole job."""
    seconds: float | None = None
    is_noted: bool = False
    """Whether a worker noted some of it."""

    def noted_by(self, latest: Granted) -> Asked:
        """Return the same with what a worker noted of its job, as far as it did."""
        memory, seconds = latest.memory_kib, latest.seconds
        return Asked(
            slots=latest.slots,
            memory_kib=self.memory_kib if memory is None else memory,
            seconds=self.seconds if seconds is None else seconds,
            is_noted=True,
        )


def asked(queue_path: str) -> Asked | None:
    """Return what the latest job script of `ddmq-submit` asked for; None: there is none.

    Whoever may write to the queue may have written it, so it is read as data, and briefly.
    """
    with suppress(OSError), reached(*os.path.split(queue_path), JOBS) as jobs:
        names = [name for name in jobs.names() if _script.fullmatch(name)]
        found = [(jobs.status(name), name) for name in names[:_SCRIPTS]]
        times = [(each.modified_ns, name) for each, name in found if each is not None]
        if times:
            with jobs.ordinary_file(max(times)[1]) as file:
                return parsed(file.read(_BYTES).decode("utf-8", "replace"))
    return None


def parsed(script: str) -> Asked:
    """Read the options of a job script; the last one of a kind counts."""
    slots = memory = seconds = None
    each = False
    for option in _option.findall(script):
        for found in _slots.finditer(option):
            slots = int(found[1])
        for found in _memory.finditer(option):
            each = found[1].lower() in _EACH
            memory = float(int(found[2]) * _KIB[found[3].upper() or "M"])
        for found in _time.finditer(option):
            days, hours, minutes, rest = (int(part or 0) for part in found.groups())
            seconds = float(((days * 24 + hours) * 60 + minutes) * 60 + rest)
    if memory is not None and each:
        memory *= slots or 1
    return Asked(slots or None, memory, seconds)
