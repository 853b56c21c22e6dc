"""What was gathered, as JSON types and as rows of a table; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddmq.hpc.report.gather import PIECES, rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ddmq.hpc.report.binned import Histogram
    from ddmq.hpc.report.gather import Gathered
    from ddmq.hpc.report.sections import Source

#: Shares of which it is told what they did not exceed.
_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def numbers(found: Gathered, source: Source) -> dict[str, Any]:
    """Return all numbers: times in seconds since 1970, lengths in seconds, memory in KiB."""
    span = found.span
    return {
        "queues": [
            {"queue": name, "done": good, "failed": bad}
            for name, (good, bad) in found.queues.items()
        ],
        "since": source.since,
        "made": source.made,
        "messages": {"done": found.done, "failed": found.failed},
        "runs": found.runs,
        "results": dict(found.results),
        "start": span.start if span else None,
        "end": span.end if span else None,
        "wall": span.seconds if span else 0.0,
        "cores": {
            "used": found.used,
            "busy": found.occupied,
            "allocated": found.allocated,
        },
        "left_out": found.left_out,
        "piece": found.width,
        "timeline": [
            {
                "start": piece.start,
                "busy": round(piece.busy, 3),
                "slots": round(there, 3),
                "done": piece.done,
                "failed": piece.failed,
            }
            for piece, there in zip(found.busy, found.there)
        ],
        "durations": _histogram(found.durations),
        "slowest": [long._asdict() for long in found.slowest],
        "failures": [
            {
                **kind._asdict(),
                "runs": group.runs,
                "dead": group.letters,
                "text": group.text,
            }
            for kind, group in found.groups
        ],
        "dead": found.letters,
        "memory": _histogram(found.memory),
        "asked": {queue: asked._asdict() for queue, asked in source.asked.items()},
        "workers": _workers(found),
        "more_workers": found.more_workers,
        "tail": found.tail._asdict() if found.tail else None,
        "last": [long._asdict() for long in found.latest],
    }


def _workers(found: Gathered) -> list[dict[str, Any]]:
    """Return each worker, with the share of its slots that was busy, for each piece of time."""
    busy = {id(worker): row for worker, row in rows(found, PIECES)}
    return [
        {
            "queue": each.queue,
            "host": each.host,
            "job": each.job,
            "process": each.process,
            "slots": each.slots,
            "start": each.first,
            "end": each.last,
            "done": each.done,
            "failed": each.failed,
            "busy": each.busy,
            "cpu": each.cpu,
            "peak_kib": each.peak_kib,
            "shares": [
                None if share is None else round(share, 3)
                for share in busy.get(id(each), [])
            ],
        }
        for each in found.workers
    ]


def _histogram(histogram: Histogram) -> dict[str, Any]:
    return {
        "number": histogram.number,
        "mean": histogram.total / histogram.number if histogram.number else None,
        "largest": histogram.largest if histogram.number else None,
        "below": {f"{share:g}": histogram.below(share) for share in _SHARES},
        "bars": [bar._asdict() for bar in histogram.bars()],
    }


def flat(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each number as a row: of which part, which one in it, its name and its value."""
    for part, inner in value.items():
        if isinstance(inner, list):
            for number, each in enumerate(inner, 1):
                yield from _rows(part, number, each)
        else:
            yield from _rows(part, 1, inner)


def _rows(
    part: str, number: int, value: Any, name: str = ""
) -> Iterator[dict[str, Any]]:
    if isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value, 1)
        for key, inner in pairs:
            yield from _rows(part, number, inner, f"{name}.{key}" if name else str(key))
    else:
        yield {"part": part, "number": number, "name": name, "value": value}
