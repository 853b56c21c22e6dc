"""One thing that was found out about a file system or a queue, and how people are shown it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Levels of a finding. Only `bad` breaks a promise, or asks for something to be done.
OK, NOTE, BAD = "ok", "note", "bad"
#: What was bad, until `ddmq doctor --fix` put it right.
MENDED = "mended"
#: How many characters a line for people has at most.
_WIDTH = 100


class Finding(NamedTuple):
    """One thing that was found out."""

    name: str
    level: str
    text: str
    remedy: str = ""
    """What to do about it, or what `--fix` does; empty: nothing."""
    figures: Mapping[str, Any] = {}
    fix: str = ""
    """How it is mended: `clean`, `create`, `quarantine`, `away` or `modes`; empty: by people."""
    paths: tuple[str, ...] = ()
    """The files and directories that are concerned."""

    def as_dict(self) -> dict[str, Any]:
        """Return as JSON types what programs are told of it."""
        return {
            "name": self.name,
            "level": self.level,
            "text": self.text,
            "remedy": self.remedy,
            "figures": dict(self.figures),
        }


def wrong(
    name: str, text: str, remedy: str, *, fix: str = "", paths: Sequence[str] = ()
) -> Finding:
    """Return what is bad about a queue, with the number of the paths as its figure."""
    figures = {"number": len(paths)}
    return Finding(name, BAD, text, remedy, figures, fix=fix, paths=tuple(paths))


def listed(paths: Sequence[str]) -> str:
    """Name the first three paths, printably, and count the others."""
    shown = ", ".join(map(printable, paths[:3]))
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"


def counted(number: int, what: str) -> str:
    """Say how many there are, as the subject of a sentence."""
    return f"{number} {what} is" if number == 1 else f"{number} {what}s are"


def table(findings: Sequence[Finding]) -> list[str]:
    """Return findings as lines for people, remedies below what they mend."""
    width = max((len(finding.name) for finding in findings), default=0)
    levels = max((len(finding.level) for finding in findings), default=0)
    lines = []
    for finding in findings:
        start = f"{finding.level:<{levels}}  {finding.name:<{width}}  "
        lines += _wrapped(finding.text, start)
        if finding.remedy:
            lines += _wrapped(f"-> {finding.remedy}", " " * len(start))
    return lines


def _wrapped(text: str, start: str) -> list[str]:
    """Break a text into lines: the first one begins with `start`, the others are indented."""
    return textwrap.wrap(
        printable(text),
        _WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
