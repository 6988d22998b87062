"""Answers whose HTTP is broken behind their head: what has come of them is kept.

Some servers count characters where they announce bytes, some write a page of HTML into chunks, some
append a line, or an answer that nobody asked for. aiohttp gives up at the first such byte, and with
it an answer whose head came in the same packet: the id of something paid, or a refusal that is
certain. If the head came before, whoever reads the content is not told and waits for ever.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final, Protocol

import aiohttp
from aiohttp.connector import Connection

__all__ = ["Framing", "keep_whole", "left_in"]

_INTERIM: Final = frozenset(range(100, 200)) - {101}
"""The statuses of answers before the answer; 101 is followed by something else than HTTP."""
_EMPTY: Final = (204, 304)
"""The statuses of answers without content (RFC 9110)."""
_MOST_BEYOND: Final = 1_000_000
"""Bytes behind the end of the content from which on no more are kept: a server that counts
characters is wrong by one or two for each that is not ASCII."""
_LONGEST_LENGTH: Final = 16
"""Digits of a length that no answer has."""


class Framing(Protocol):
    """The framing of an answer: where its head and its content end."""

    rest: bytes
    """The bytes that came behind the announced end of the content, with its last ones."""


def keep_whole(connection: Connection) -> Framing | None:
    """Have a connection, on which a request is about to be sent, keep what comes of its answer."""
    protocol: Any = connection.protocol
    # It has no public name, and neither has anything else between a connection and an answer.
    if protocol is None or getattr(protocol, "_parser", None) is None:
        return None
    protocol._parser = _Careful(protocol._parser, protocol)  # noqa: SLF001
    found: Framing = protocol._parser  # noqa: SLF001
    return found


def left_in(content: aiohttp.StreamReader) -> bytes:
    """Return what has come of an answer before it broke off, and was not read yet.

    aiohttp forgets it if the end comes before it is read, and has no public name for it.
    """
    pieces: Iterable[bytes] = getattr(content, "_buffer", ())
    offset: int = getattr(content, "_buffer_offset", 0)  # of the first piece, where reading goes on
    return b"".join(pieces)[offset:]


class _Careful:
    """A parser of aiohttp's that hands an answer's head on before it looks at what stands behind.

    Args:
        parser: The parser.
        protocol: That of its connection.
    """

    def __init__(self, parser: Any, protocol: Any) -> None:
        self._parser = parser
        self._protocol = protocol
        self._content: Any = None
        """The answer's content, once its head has come."""
        self._left = math.inf
        """How many bytes of the content are still to come; infinite if that is not known."""
        self.rest = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> tuple[Any, bool, bytes]:
        """Take the next bytes; return the heads that ended in them.

        Raises:
            Exception: They are not HTTP.
        """
        heads: list[Any] = []
        at = 0
        while True:
            end = data.find(b"\n", at) + 1 if self._content is None else 0
            piece = data[at:end] if end else data[at:]
            at += len(piece)
            if self._content is not None:
                self._count(piece)
            try:
                found, is_other, rest = self._parser.feed_data(piece)
            except Exception as error:
                self._give_up(heads, error)
                raise
            heads += found
            for head, content in found:
                if self._content is None and head.code not in _INTERIM:
                    self._content = content
                    self._left = _length_of(head)
            if is_other or at >= len(data):
                return heads, is_other, rest + data[at:]

    def feed_eof(self) -> Any:
        """Take it that no more will come, also because the connection was closed from here.

        Raises:
            Exception: There had to be more.
        """
        try:
            return self._parser.feed_eof()
        except Exception as error:
            self._give_up([], error)
            raise

    def _count(self, piece: bytes) -> None:
        """Count what comes of the content, and keep what is more than was announced."""
        beyond = min(len(piece) - self._left, len(piece))
        self._left -= len(piece)
        if beyond > 0 and len(self.rest) < _MOST_BEYOND:
            self.rest += piece[-int(beyond) :]

    def _give_up(self, heads: list[Any], error: Exception) -> None:
        """Hand on the heads that have come, and tell whoever reads the content."""
        for head, content in heads:
            is_empty = head.code in _EMPTY
            self._protocol.feed_data((head, aiohttp.EMPTY_PAYLOAD if is_empty else content), 0)
        if self._content is not None and not self._content.is_eof():
            self._content.set_exception(aiohttp.ClientPayloadError(type(error).__name__))


def _length_of(head: Any) -> float:
    """Return how many bytes of content the head of an answer announces, if it does."""
    length = head.headers.get("Content-Length", "")
    is_known = length.isascii() and length.isdigit() and not head.chunked
    return int(length) if is_known and len(length) < _LONGEST_LENGTH else math.inf
