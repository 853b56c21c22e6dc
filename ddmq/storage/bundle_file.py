"""The file of a bundle: a first line for all its messages, then one message a line; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddmq.message import (
    Content,
    InvalidContent,
    TooLarge,
    content_of,
    decode_message,
    decode_object,
)
from ddmq.settings import MAX_BYTES, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ddmq.message import Publication

#: The most messages of a bundle, and the most bytes if it has more than one.
BUNDLE_SIZE, MAX_BUNDLE_BYTES = 1000, 1 << 20
#: How many messages that are published together become a bundle, and not single files.
BUNDLE_FROM = 10
#: The most bytes of the first line, and of that line with the line breaks of all others.
_MAX_HEAD, _MAX_ENDS = 1 << 12, 1 << 17
#: One more than the most lines that a bundle's name can count.
_MAX_LINES = 10**5


def chunks(lines: Iterable[bytes], most: int | None) -> Iterator[list[bytes]]:
    """Divide messages into bundles: at most `most` in each, and not too many bytes."""
    most = BUNDLE_SIZE if most is None else most
    chunk: list[bytes] = []
    size = 0
    for line in lines:
        if len(chunk) == most or (chunk and size + len(line) > MAX_BUNDLE_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(line)
        size += len(line)
    if chunk:
        yield chunk


def encode(lines: Iterable[bytes], options: Publication) -> bytes:
    """Return the content of a bundle."""
    durable = b"true" if options.durable else b"false"
    head = b'{"durable":%b,"priority":%d}' % (durable, options.priority)
    return b"\n".join((head, *lines, b""))


def most_to_read(limit: int) -> int:
    """Return how many bytes of a bundle to read if its messages have at most `limit` bytes.

    A bundle that ddmq wrote is longer only if its single message is over the limit.
    """
    return max(MAX_BUNDLE_BYTES, limit) + _MAX_ENDS


class BundleContent:
    """The messages of a bundle whose first `most` bytes were read, maybe not all of it."""

    def __init__(self, data: bytes, most: int = most_to_read(MAX_BYTES)) -> None:
        first, *self._lines = data.split(b"\n", _MAX_LINES)
        if len(first) > _MAX_HEAD:
            raise InvalidContent("its first line is too long")
        self.size = len(data)
        """How many bytes were read."""
        self._is_cut = len(data) >= most
        head = decode_object(first)
        self._priority = _priority(head)
        self._rest = len(content_of(b"", self._priority))
        self.durable = bool(head.get("durable", True))
        """Whether a message must be on stable storage before it leaves its bundle."""

    def content(self, number: int, limit: int = MAX_BYTES) -> Content:
        """Return one message, or raise InvalidContent; TooLarge if its own file would be that."""
        try:
            line = self._line(number)
        except InvalidContent:
            if self.goes_on(number):
                raise TooLarge(limit) from None
            raise
        if len(line) + self._rest > limit:
            raise TooLarge(limit)
        return Content(decode_message(line), self._priority)

    def goes_on(self, number: int) -> bool:
        """Tell whether this message was read only in part."""
        return self._is_cut and number == len(self._lines) - 1

    def file_content(self, number: int) -> bytes:
        """Return the content of the file that a message would have if published alone."""
        try:
            line = self._line(number)
        except InvalidContent:
            return b""
        return content_of(line, self._priority)

    def _line(self, number: int) -> bytes:
        if not number < len(self._lines) - 1:
            raise InvalidContent("its bundle is cut short")
        return self._lines[number]


def _priority(head: Mapping[str, Any]) -> int:
    priority: int = head.get("priority", -1)
    if not SETTINGS["priority"].accepts(priority):
        raise InvalidContent("its first line has no priority")
    return priority
