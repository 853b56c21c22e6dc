"""Text that others wrote, made safe to print; pure.

Anybody who may write to a queue chooses names and texts that somebody else prints. A terminal
obeys some characters: it moves the cursor, sets its title, or shows text backwards.
"""

from __future__ import annotations

import json
import re
from typing import Any

#: Control characters (C0, C1, DEL), those that change the direction of text, end a line or are
#: invisible, and surrogates. The joiners U+200C and U+200D stay: some scripts need them.
_OBEYED = (
    "\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
)
_obeyed = re.compile(f"[{_OBEYED}]")
_obeyed_but_lines = re.compile(f"(?![\n\t])[{_OBEYED}]")
_needs_no_quotes = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def printable(text: object) -> str:
    r"""Return a text in one line, with `\x1b` or `\u202e` for a character that is obeyed."""
    return _obeyed.sub(_escaped, str(text))


def printable_lines(text: object) -> str:
    """Return a text in lines: only its line breaks and tabs are obeyed."""
    return _obeyed_but_lines.sub(_escaped, str(text))


def printable_json(value: Any) -> str:
    r"""Return a value as JSON in one line, with `\u009b` for a character that is obeyed."""
    text = json.dumps(value, ensure_ascii=False)
    return _obeyed.sub(lambda found: json.dumps(found[0])[1:-1], text)


def text_of(message: Any) -> str:
    """Return a message as people are shown it: a text as it is, all else as JSON."""
    return message if isinstance(message, str) else printable_json(message)


def is_printable(text: str) -> bool:
    """Tell whether a terminal obeys only the line breaks and tabs of a text."""
    return _obeyed_but_lines.search(text) is None


def quoted(path: str) -> str:
    """Return a path as one word for a shell, which runs nothing that stands in it."""
    if _needs_no_quotes.fullmatch(path):
        return path
    return "'" + printable(path).replace("'", "'\"'\"'") + "'"


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
