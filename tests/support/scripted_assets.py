"""A source of assets in virtual time that answers as a test says, and counts what it is asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

import attrs

from llamagen_async.transport import AssetStream

__all__ = ["PNG", "Answer", "Asked", "Piece", "ScriptedAssets", "png"]

PNG = b"\x89PNG\r\n\x1a\n" + bytes(2000) + b"IEND\xaeB`\x82"


Piece = bytes | float | Exception
"""Bytes, seconds without any, or a failure."""


@attrs.frozen
class Asked:
    """One request for an asset."""

    url: str
    headers: Mapping[str, str]
    at: float
    """Virtual time in seconds."""


@attrs.frozen
class Answer:
    """One answer: a head, and pieces of content with waits and failures between them."""

    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    content: Iterable[Piece] = ()

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.content:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, bytes):
                yield piece
            else:
                await asyncio.sleep(piece)


def png(content: bytes = PNG, **headers: str) -> Answer:
    return Answer(200, {"Content-Type": "image/png", **headers}, [content])


Script = Callable[[Asked, int], Answer | Exception]


class ScriptedAssets:
    """Answers with what `script` returns for a request and its number, from 1, or raises that."""

    def __init__(self, script: Script | Sequence[Answer | Exception]) -> None:
        self._script = script
        self.asked: list[Asked] = []
        self.open = 0
        self.most_open = 0

    @property
    def times(self) -> list[float]:
        return [one.at for one in self.asked]

    @contextlib.asynccontextmanager
    async def open_asset(
        self, url: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[AssetStream]:
        asked = Asked(url, headers or {}, asyncio.get_running_loop().time())
        self.asked.append(asked)
        number = len(self.asked)
        if callable(self._script):
            answer = self._script(asked, number)
        else:
            answer = self._script[min(number, len(self._script)) - 1]
        if isinstance(answer, Exception):
            raise answer
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            yield answer
        finally:
            self.open -= 1

    async def aclose(self) -> None:
        pass
