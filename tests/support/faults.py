"""A server in virtual time that goes away and comes back in every way that a network knows."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import random
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Final
from unittest.mock import patch

import aiohttp
import attrs

from llamagen_async import JournalError, LlamaGenClient, Plan, RequestKind
from llamagen_async.batch.journal.database import Database
from llamagen_async.batch.journal.reserve import Reserve
from llamagen_async.sandbox import PAID_KEY, SandboxService
from llamagen_async.sandbox.wire import Call, Reply
from tests.support.scripted import now
from tests.support.wired import Answer, Piece, Request, WiredConnector, packed

__all__ = ["FAULTS", "Faulty", "Outage", "full_disks"]

FAULTS: Final = (
    "unreached",
    "refused at the door",
    "broken",
    "broken after it was done",
    "cut on the way there",
    "cut on the way back",
    "reset at once",
    "garbage",
    "moved",
    "see other",
    "late",
    "slow",
    "too many",
    "another id",
    "one id twice",
    "packed",
    "packed and cut",
    "no length",
    "twice",
    "drips",
    "drips for ever",
    "early hints",
    "early hints for ever",
)
"""The ways in which a server fails, and some in which it only seems to."""
_INSTEAD: Final = {
    "refused at the door": Reply.of(500, {"error": "away"}),
    "broken": Reply.of(503, {"error": "away"}),
    "too many": Reply.of(429, {"error": "too many"}),
    "moved": Reply.of(302, {}, {"Location": "https://elsewhere.invalid/"}),
}
"""Answers in whose place nothing was done."""
_AFTERWARDS: Final = {
    "broken after it was done": Reply.of(504, {"error": "away"}),
    "garbage": Reply(200, {"Content-Type": "text/html"}, b"<html>"),
    "see other": Reply.of(303, {}, {"Location": "/v1/comics"}),
}
"""Answers that lose what was done."""
_TIMEOUT: Final = 30.0
"""Seconds after which the client gives a request up."""
_HINT: Final = b"HTTP/1.1 103 Early Hints\r\n\r\n"
_DRIP: Final = 40
"""Bytes of one drop: an answer has some hundreds."""


@attrs.frozen
class Outage:
    """A time in which requests fail."""

    begin: float
    seconds: float
    fault: str
    kinds: tuple[RequestKind, ...] = tuple(RequestKind)
    """The kinds of requests that fail."""

    @property
    def end(self) -> float:
        return self.begin + self.seconds

    def hits(self, kind: RequestKind) -> bool:
        return kind in self.kinds and self.begin <= now() < self.end


class Faulty:
    """A server with outages, which remembers what each request may have come to.

    Args:
        service: The server while all is well.
        outages: When it fails, and how.
        plan: The plan of its clients.
        latency: Seconds of each exchange, or the least and the most of them.
        seed: The seed of what is drawn.
    """

    def __init__(
        self,
        service: SandboxService,
        *,
        outages: Iterable[Outage],
        plan: Plan = Plan.PAID,
        latency: float | tuple[float, float] = 0.0,
        seed: int = 0,
    ) -> None:
        self.service = service
        self.outages = list(outages)
        self.plan = plan
        self.delivered: set[str] = set()
        """Ids of comics that have reached the client."""
        self.doubtful: Counter[str] = Counter()
        """Stories whose creates may have arrived, while their answers did not."""
        self.accepted: Counter[str] = Counter()
        """Number of times that each create, or change of a comic, was accepted, by its prompt."""
        self._latency = latency if isinstance(latency, tuple) else (latency, latency)
        self._random = random.Random(seed)

    @contextlib.asynccontextmanager
    async def client(
        self, *, base_url: str, max_retries: int = 4, **settings: Any
    ) -> AsyncIterator[LlamaGenClient]:
        """Open a client whose every connection ends here."""
        connector = WiredConnector(self._serve, self._connect)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            LlamaGenClient(
                PAID_KEY,
                plan=self.plan,
                base_url=base_url,
                session=session,
                max_retries=max_retries,
                timeout=_TIMEOUT,
                **settings,
            ) as client,
        ):
            yield client

    @property
    def stories(self) -> Counter[str]:
        """Number of times that each story was accepted."""
        return Counter(one["prompt"] for one in self.service.stats(0.0)["generations"])

    def _fault(self, kind: RequestKind) -> str:
        return next((one.fault for one in self.outages if one.hits(kind)), "")

    def _connect(self) -> None:
        # Whatever the request is about: that is not known yet.
        outage = next((one for one in self.outages if one.begin <= now() < one.end), None)
        if outage is not None and outage.fault == "unreached":
            raise OSError(errno.ECONNREFUSED, "nobody is there")

    def _serve(self, request: Request) -> Answer:
        """Answer one request, as the first outage of its time lets it."""
        latency = self._random.uniform(*self._latency)
        there = latency * self._random.random()
        yield Piece(there, b"")
        kind = _kind(request)
        fault, story = self._fault(kind), str(request.json.get("prompt", ""))
        is_create = kind.is_billed
        self.doubtful[story] += is_create
        if fault in ("cut on the way there", "reset at once"):
            yield Piece(0.0)
            return
        if fault == "late":
            return
        if fault == "slow":
            yield Piece(_TIMEOUT - 1 - latency, b"")
        reply = _INSTEAD.get(fault)
        if reply is None:
            path = request.path.partition("?")[0]
            call = Call(request.method, path, request.headers, {}, request.body)
            reply = self.service.handle(call, now())
            self.accepted[story] += is_create and reply.status < 300
        reply = _AFTERWARDS.get(fault, reply)
        body = self._spoilt(reply, fault, kind)
        reply = attrs.evolve(reply, body=json.dumps(body).encode()) if body else reply
        yield Piece(latency - there + reply.delay, b"")
        sent, headers = b"", dict(reply.headers)
        for piece in self._pieces(reply, headers, fault):
            yield piece
            sent += piece.content or b""
            if is_create and body and _shows(sent, headers, body["id"]):
                is_own = body["id"] not in self.delivered or body["id"] in request.path
                self.delivered.add(body["id"])
                self.doubtful[story] -= is_own
        if is_create and 300 <= reply.status < 500 and fault not in _AFTERWARDS:
            self.doubtful[story] -= 1

    def _spoilt(self, reply: Reply, fault: str, kind: RequestKind) -> dict[str, Any]:
        """Return the body of a success, with another id if that is the fault; else `{}`."""
        if reply.status >= 300 or fault in _AFTERWARDS:
            return {}
        body: dict[str, Any] = json.loads(reply.body)
        if fault == "another id" and kind is RequestKind.STATUS:
            body["id"] = "cmc_of_another"
        if fault == "one id twice" and kind.is_billed and self.delivered:
            body["id"] = min(self.delivered)
        return body

    def _pieces(self, reply: Reply, headers: dict[str, str], fault: str) -> Iterator[Piece]:
        """Yield the answer in the pieces in which it comes."""
        body = reply.body
        if fault.startswith("packed"):
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body)
        is_long = fault != "no length"
        head, body = packed(reply.status, headers, body, says_length=is_long)
        if fault.startswith("early hints"):
            yield Piece(0.0, 20 * _HINT)
        while fault == "early hints for ever":
            yield Piece(1.0, _HINT)
        if fault in ("cut on the way back", "packed and cut"):
            yield Piece(0.0, head + body[: self._random.randrange(len(body) + 1)])
            yield Piece(0.0)
        elif fault.startswith("drips"):
            whole, gap = head + body, 0.1 if fault == "drips" else 9.0
            for begin in range(0, len(whole), _DRIP):
                yield Piece(gap, whole[begin : begin + _DRIP])
        else:
            yield Piece(0.0, (head + body) * (2 if fault == "twice" else 1))
            if not is_long:
                yield Piece(0.0)


def _kind(request: Request) -> RequestKind:
    if request.method == "POST":
        return RequestKind.CREATE
    if request.method == "PATCH":
        is_redraw = request.json.get("action") == "regeneratePanel"
        return RequestKind.UPDATE if is_redraw else RequestKind.CONTINUE
    return RequestKind.USAGE if request.path.endswith("/usage") else RequestKind.STATUS


def _shows(sent: bytes, headers: dict[str, str], id_: str) -> bool:
    """Whether an id can be read in the bytes that were sent so far."""
    _, _, body = sent.rpartition(b"\r\n\r\n")
    if "Content-Encoding" in headers:
        try:
            body = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body)
        except zlib.error:
            return False
    return json.dumps(id_).encode() in body


@contextlib.contextmanager
def full_disks(times: Iterable[tuple[float, float]]) -> Iterator[None]:
    """Let the disk be full at times, each with its begin and its length in seconds.

    What a file already has is its own: the reserve of a journal can be written, and not grow.
    """
    times = list(times)
    transact, grow = Database._transact, Reserve._grow

    def is_full() -> bool:
        return any(begin <= now() < begin + seconds for begin, seconds in times)

    def transacted(self: Database, operations: Any, *, write: bool) -> list[Any]:
        if write and is_full():
            raise JournalError("database or disk is full; make room on the disk")
        return transact(self, operations, write=write)

    def grown(self: Reserve, size: int) -> None:
        if size > self._size and is_full():
            raise OSError(errno.ENOSPC, "No space left on device")
        grow(self, size)

    with patch.object(Database, "_transact", transacted), patch.object(Reserve, "_grow", grown):
        yield
