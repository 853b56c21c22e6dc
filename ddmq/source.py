"""Messages from a file: one a line, as text or as JSON, or separated by NUL."""

from __future__ import annotations

import json
import os
import stat
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from ddmq.errors import InvalidArgument
from ddmq.settings import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BLOCK = 1 << 20
#: Messages between two looks at how far we are.
_EVERY = 1000
_BAR_WIDTH = 24


def standard_input() -> str:
    """Return all of standard input, which must not be larger than any message may be."""
    if sys.stdin is None:
        raise InvalidArgument("standard input is closed")
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _too_large("standard input")
    return _decoded(data, "standard input")


def from_json(text: Any, where: str) -> Any:
    """Read one JSON value; InvalidArgument says where it is none."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"{where}: not JSON: {error}") from error


def messages(
    path: str, *, as_json: bool, null: bool, tell: Callable[[str], None]
) -> Iterator[Any]:
    """Yield what a file holds, `-` being standard input; what is empty is left out.

    `tell` is given a line of progress now and then.
    """
    try:
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
            pieces = _between_nulls(file) if null else _lines(file)
            for number, piece in enumerate(pieces, 1):
                if len(piece) > MAX_BYTES:
                    raise _too_large(_where(path, number))
                if piece:
                    text = _decoded(piece, path, number)
                    yield from_json(text, _where(path, number)) if as_json else text
                if number % _EVERY == 0:
                    tell(_progress(file, number))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidArgument(f"{path!r}: {reason}; nothing is published") from error


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines; of one that is too long a part that is too long, too."""
    read = iter(partial(file.readline, MAX_BYTES + 3), b"")
    return (line.rstrip(b"\r\n") for line in read)


def _between_nulls(file: BinaryIO) -> Iterator[bytes]:
    """Yield what stands between NULs; of what is too long a part that is too long, too."""
    rest = b""
    while len(rest) <= MAX_BYTES and (block := file.read(_BLOCK)):
        *pieces, rest = (rest + block).split(b"\0")
        yield from pieces
    yield rest


def _too_large(where: str) -> InvalidArgument:
    return InvalidArgument(
        f"{where}: over {MAX_BYTES} bytes, which no message may have; "
        "write it to a file and publish the path"
    )


def _decoded(data: bytes, path: str, number: int = 0) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{_where(path, number)}: not UTF-8 text") from error


def _where(path: str, number: int) -> str:
    return f"{path}, line {number}" if number else path


def _progress(file: BinaryIO, number: int) -> str:
    """Say how much was read: a bar where the file has an end that can be known."""
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode) or not found.st_size:
        return f"{number:,} messages"
    share = min(file.tell() / found.st_size, 1.0)
    done = round(share * _BAR_WIDTH)
    bar = "#" * done + "." * (_BAR_WIDTH - done)
    return f"[{bar}] {share:4.0%}  {number:,} messages"
