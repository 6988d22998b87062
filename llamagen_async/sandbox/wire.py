"""Requests to the service and its answers as plain values, without sockets.

The virtual-time simulations pass a `Call` to `SandboxService.handle` and get a `Reply` back; the
server translates both from and to HTTP.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from email.message import Message
from email.parser import BytesParser
from email.utils import formatdate
from typing import Any, Final, NoReturn, cast

import attrs

from llamagen_async.sandbox.faults import Fault, FaultName, Hits
from llamagen_async.sandbox.settings import Dialect

__all__ = ["Call", "HTTPError", "Reply", "UploadedFile", "http_date"]

_MOST_DEPTH: Final = 100
"""Levels of a body that are accepted: no field of the API has more than five."""
_EXACT: Final = 2**53
"""The number from which the API's language has gaps between whole numbers."""
_HTML: Final = b"<!doctype html><title>Just a moment</title><p>Checking your browser."
"""The body of an answer that is a web page, such as a proxy in between would send."""


@attrs.frozen
class Call:
    """One request as it arrives."""

    method: str
    """The HTTP method in upper case."""
    path: str
    """The decoded path from its first slash, without the query."""
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False, hash=False)
    """The headers, with names in any case. The repr omits them: the key travels in them."""
    query: Mapping[str, str] = attrs.field(factory=dict[str, str], hash=False)
    """The decoded query."""
    body: bytes = attrs.field(default=b"", repr=False)
    """The whole body."""
    hits: Hits = attrs.field(factory=dict[FaultName, Fault], repr=False, hash=False)
    """The faults that happen to the request: the service draws them."""

    def header(self, name: str) -> str:
        """Return a header's value whatever the case of its name; empty if there is none."""
        value = self.headers.get(name)
        if value is None:
            wanted = name.lower()
            for given, candidate in self.headers.items():
                if given.lower() == wanted:
                    return candidate
        return value or ""

    def json_object(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            HTTPError: The body is no JSON object (400).
        """
        try:
            value: object = _decode(self.body.decode(json.detect_encoding(self.body)))
            if b"\\ud" in self.body.lower():
                # Half of a pair of surrogates is no character, and nothing could be drawn of it.
                whole = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
                value = _decode(whole.decode())
        except (ValueError, RecursionError):
            raise HTTPError(400, "invalid_json", "The body is not valid JSON") from None
        if not isinstance(value, dict):
            raise HTTPError(400, "invalid_json", "The body must be a JSON object")
        fields = cast("dict[str, Any]", value)
        if _is_deeper(fields, _MOST_DEPTH):
            raise HTTPError(400, "invalid_json", "The body is nested too deep")
        return fields

    def uploaded_file(self) -> UploadedFile:
        """Return a description of the file in the multipart field `file`.

        Raises:
            HTTPError: There is no such field, or the body is no multipart one (400).
        """
        try:
            file = self._file()
        except (ValueError, LookupError, RecursionError):
            raise HTTPError(400, "invalid_multipart", "The body can't be read") from None
        if file is None:
            raise HTTPError(400, "file_required", "The multipart field 'file' is required")
        return file

    def _file(self) -> UploadedFile | None:
        head = f"Content-Type: {self.header('Content-Type')}\r\n\r\n".encode("utf-8", "replace")
        message = BytesParser().parsebytes(head + self.body)
        for part in message.walk() if message.is_multipart() else ():
            if part.get_param("name", header="content-disposition") == "file":
                content = part.get_payload(decode=True)
                return UploadedFile(
                    name=_plain_name(part) or part.get_filename() or "file",
                    content_type=part.get_content_type(),
                    size=len(content) if isinstance(content, bytes) else 0,
                )
        return None


def _plain_name(part: Message) -> str | None:
    """Return the name of a file as browsers send it: in quotes, and in UTF-8 as it is."""
    head = dict(part.raw_items()).get("Content-Disposition", "")
    found = re.search(r'filename="([^"]*)"', head)
    return found[1].encode("utf-8", "surrogateescape").decode("utf-8", "replace") if found else None


@attrs.frozen
class UploadedFile:
    """Everything about an uploaded file but its content, which is not kept."""

    name: str
    """The file's name as the client gives it."""
    content_type: str
    """The media type as the client gives it."""
    size: int
    """The length of the content in bytes."""


@attrs.frozen
class Reply:
    """One answer, and how it is sent."""

    status: int
    """The HTTP status."""
    headers: Mapping[str, str] = attrs.field(hash=False)
    """The headers, with the content type."""
    body: bytes = attrs.field(default=b"", repr=False)
    """The whole body."""
    delay: float = 0.0
    """Seconds of the API's clock to wait before the answer is sent."""
    drop: bool = False
    """Whether the connection is closed instead of sending the answer."""

    @classmethod
    def of(cls, status: int, value: object, headers: Mapping[str, str] | None = None) -> Reply:
        """Return an answer with `value` as its JSON body."""
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "replace"
        )
        return cls(status, {"Content-Type": "application/json", **(headers or {})}, body)

    @classmethod
    def html(cls) -> Reply:
        """Return a web page with status 200, as a proxy may put it in the way of the API."""
        return cls(200, {"Content-Type": "text/html; charset=utf-8"}, _HTML)

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)


class HTTPError(Exception):
    """An answer with an error status, raised by whatever part of the service finds the error."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status: Final = status
        self.code: Final = code
        self.message: Final = message
        self.headers: Final = headers or {}

    def reply(self, dialect: Dialect) -> Reply:
        """Return the answer in a dialect's form: flat as documented, nested in production."""
        body: dict[str, object] = (
            {"error": self.code, "message": self.message}
            if dialect == "documented"
            else {"error": {"code": self.code, "message": self.message}}
        )
        return Reply.of(self.status, body, self.headers)


def _is_deeper(value: object, depth: int) -> bool:
    """Whether lists and objects are nested in more than `depth` levels."""
    level: list[object] = [value]
    for _ in range(depth):
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict):
                inner += cast("dict[str, object]", one).values()
            elif isinstance(one, list):
                inner += cast("list[object]", one)
        level = [one for one in inner if isinstance(one, (dict, list))]
        if not level:
            return False
    return True


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _number(digits: str) -> float | None:
    # The API's language has no larger numbers, writes what is too large as null, and 4.0 as 4.
    number = float(digits)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


_decode: Final = json.JSONDecoder(parse_constant=_refuse, parse_float=_number).decode


def http_date(unix_time: float) -> str:
    """Return a time in the form that HTTP headers have."""
    return formatdate(unix_time, usegmt=True)
