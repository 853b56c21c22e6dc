"""What others wrote, as text that a terminal only shows; pure.

Whoever may write to a queue chooses names and texts that somebody else prints. A terminal
obeys some characters in them: it moves the cursor, sets its title, shows text backwards.
"""

from __future__ import annotations

import json
import re
from typing import Any

#: C0 and C1, DEL, what changes the direction of text, what ends a line or is not to be seen,
#: and halves of characters. What joins letters (U+200C, U+200D) belongs to some scripts.
_OBEYED = (
    "\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
)
_obeyed = re.compile(f"[{_OBEYED}]")
_obeyed_but_lines = re.compile(f"(?![\n\t])[{_OBEYED}]")
_needs_no_quotes = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def printable(text: object) -> str:
    r"""Return a text in one line, with `\x1b` or `\u202e` for what a terminal would obey."""
    return _obeyed.sub(_escaped, str(text))


def printable_lines(text: object) -> str:
    """Return a text whose line breaks and tabs are meant, and nothing else is obeyed."""
    return _obeyed_but_lines.sub(_escaped, str(text))


def printable_json(value: Any) -> str:
    r"""Return a value of JSON types as JSON in one line, with `\u009b` for such characters."""
    text = json.dumps(value, ensure_ascii=False)
    return _obeyed.sub(lambda found: json.dumps(found[0])[1:-1], text)


def is_printable(text: str) -> bool:
    """Tell whether a terminal obeys nothing in a text but its line breaks and tabs."""
    return _obeyed_but_lines.search(text) is None


def quoted(path: str) -> str:
    """Return a path as a word to be typed into a shell, which runs nothing that is in it."""
    if _needs_no_quotes.fullmatch(path):
        return path
    return "'" + printable(path).replace("'", "'\"'\"'") + "'"


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
