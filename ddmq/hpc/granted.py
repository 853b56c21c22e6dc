"""What the job of a worker may use, as its environment and the kernel tell: memory and time."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ddmq import schedulers
from ddmq.hpc.journal import Granted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Where a process finds its control groups, and these their limits: of version 2, and of 1.
_GROUPS, _V2, _V1 = "proc/self/cgroup", "sys/fs/cgroup", "sys/fs/cgroup/memory"
#: A limit that is as large as that is none.
_NO_LIMIT = 1 << 60
#: Bytes of such a file.
_MOST = 1 << 16


def granted(
    environ: Mapping[str, str],
    slots: int,
    now: float,
    end: float | None,
    *,
    top: str = "/",
) -> Granted | None:
    """Return what a job may use that began by `now` and ends then; None: nobody limits it.

    What the scheduler says counts. Where it says nothing of memory, the kernel may: PBS and SGE
    tell their jobs nothing, and enforce it by a control group where the site wants that.
    """
    memory = schedulers.memory_kib(environ)
    if memory is None:
        memory = min(_limits(top), default=None)
    start = schedulers.start_time(environ)
    began = now if start is None or start > now else start
    seconds = None if end is None else max(end - began, 0.0)
    if memory is None and seconds is None:
        return None
    return Granted(began, slots, memory, seconds)


def _limits(top: str) -> Iterator[float]:
    """Yield the limits, in KiB, of our control group and of those that it is in."""
    for line in _read(f"{top}{_GROUPS}").splitlines():
        _, kinds, path = [*line.split(":", 2), "", ""][:3]
        is_v1 = "memory" in kinds.split(",")
        if kinds and not is_v1:
            continue
        place = f"{top}{_V1 if is_v1 else _V2}"
        name = "memory.limit_in_bytes" if is_v1 else "memory.max"
        parts = [part for part in path.split("/") if part]
        if ".." in parts:  # it is outside of our namespace
            parts = []
        for depth in range(len(parts), -1, -1):
            limit = _read("/".join([place, *parts[:depth], name])).strip()
            if limit.isdigit() and int(limit) < _NO_LIMIT:
                yield int(limit) / 1024


def _read(path: str) -> str:
    """Return a file of the kernel's; nothing, where there is none."""
    with suppress(OSError, UnicodeDecodeError), open(path, encoding="utf-8") as file:
        return file.read(_MOST)
    return ""
