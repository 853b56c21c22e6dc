"""Messages from a file: one a line, as text or as JSON, or separated by NUL."""

from __future__ import annotations

import json
import os
import stat
import sys
from codecs import BOM_UTF8
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from ddmq.errors import InvalidArgument, warn
from ddmq.settings import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BLOCK = 1 << 20
#: Messages between two looks at how far we are.
_EVERY = 1000
_BAR_WIDTH = 24
#: Lines that are left out and told one by one.
_TOLD = 10


def standard_input() -> str:
    """Return all of standard input, which must not be larger than any message may be."""
    if sys.stdin is None:
        raise InvalidArgument("standard input is closed")
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _too_large("standard input")
    return _decoded(data.removeprefix(BOM_UTF8), "standard input")


@contextmanager
def readable_twice(path: str) -> Iterator[str]:
    """Yield the path of a file, or of a copy of what a pipe holds; `-` is standard input.

    An error has no cause if a part of a pipe is read by then: nobody can try that again.
    """
    import tempfile  # slow to import, and rarely needed
    from shutil import copyfileobj

    with ExitStack() as files:
        has_begun = False
        try:
            if path == "-" or not stat.S_ISREG(os.stat(path).st_mode):
                is_input = path == "-"
                copy = files.enter_context(tempfile.NamedTemporaryFile(prefix="ddmq-"))
                with open(0 if is_input else path, "rb", closefd=not is_input) as file:
                    has_begun = True
                    copyfileobj(file, copy)
                copy.flush()
                path = copy.name
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InvalidArgument(f"{path!r}: {reason}; nothing is published") from (
                None if has_begun else error
            )
        yield path


def from_json(text: Any, where: str) -> Any:
    """Read one JSON value; InvalidArgument says where it is none."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"{where}: not JSON: {error}") from error


def messages(
    path: str,
    *,
    as_json: bool,
    null: bool,
    tell: Callable[[str], None],
    skip_invalid: bool = False,
) -> Iterator[Any]:
    """Yield what a file holds, `-` being standard input; what is empty is left out.

    So is, with `skip_invalid`, a line that is no message, which is told. `tell` is given a line
    of progress now and then.
    """
    skipped = _Skipped() if skip_invalid else None
    try:
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
            pieces = _between_nulls(file) if null else _lines(file)
            for number, piece in enumerate(pieces, 1):
                if number == 1:
                    piece = piece.removeprefix(BOM_UTF8)
                if piece:
                    try:
                        message = _message(piece, f"line {number}", as_json=as_json)
                    except InvalidArgument as error:
                        if skipped is None:
                            raise
                        skipped.note(error)
                    else:
                        yield message
                if number % _EVERY == 0:
                    tell(_progress(file, number))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidArgument(f"{path!r}: {reason}; nothing is published") from error
    if skipped is not None:
        skipped.tell()


def _message(piece: bytes, where: str, *, as_json: bool) -> Any:
    """Return the message that stands in a part of a file, or raise InvalidArgument."""
    if len(piece) > MAX_BYTES:
        raise _too_large(where)
    text = _decoded(piece, where)
    return from_json(text, where) if as_json else text


class _Skipped:
    """The lines that are left out: the first ones are told one by one, the others counted."""

    def __init__(self) -> None:
        self._number = 0

    def note(self, error: InvalidArgument) -> None:
        self._number += 1
        if self._number <= _TOLD:
            warn(f"left out: {error}")

    def tell(self) -> None:
        if self._number > _TOLD:
            warn(f"left out: {self._number} lines in all")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines; of one that is too long a part that is too long, too, and nothing more."""
    most = MAX_BYTES + 3
    while line := file.readline(most):
        is_whole = len(line) < most or line.endswith(b"\n")
        yield line.rstrip(b"\r\n") if is_whole else line
        while not is_whole:
            line = file.readline(most)
            is_whole = len(line) < most or line.endswith(b"\n")


def _between_nulls(file: BinaryIO) -> Iterator[bytes]:
    """Yield what stands between NULs; of what is too long a part that is too long, too."""
    rest, is_told = b"", False
    while block := file.read(_BLOCK):
        *pieces, rest = (rest + block).split(b"\0")
        if is_told and pieces:  # the first is the end of what was too long
            del pieces[0]
            is_told = False
        yield from pieces
        if len(rest) > MAX_BYTES and not is_told:
            yield rest
            is_told = True
        if is_told:
            rest = b""
    if not is_told:
        yield rest


def _too_large(where: str) -> InvalidArgument:
    return InvalidArgument(
        f"{where}: over {MAX_BYTES} bytes, which no message may have; "
        "write it to a file and publish the path"
    )


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"{where}: not UTF-8 text, from byte {error.start + 1} on"
        ) from error


def _progress(file: BinaryIO, number: int) -> str:
    """Say how much was read: a bar where the file has an end that can be known."""
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode) or not found.st_size:
        return f"{number:,} messages"
    share = min(file.tell() / found.st_size, 1.0)
    done = round(share * _BAR_WIDTH)
    bar = "#" * done + "." * (_BAR_WIDTH - done)
    return f"[{bar}] {share:4.0%}  {number:,} messages"
