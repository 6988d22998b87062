"""What the service is asked and what it answers, without sockets.

`Call` and `Reply` are a request and its answer as plain values. The virtual-time simulations pass
them to `SandboxService.handle` directly; the server translates them from and to HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.parser import BytesParser
from email.utils import formatdate
from typing import Any, Final, cast

import attrs

from llamagen_async.sandbox.settings import Dialect

__all__ = ["Call", "Refusal", "Reply", "UploadedFile"]

_HTML: Final = b"<!doctype html><title>Just a moment</title><p>Checking your browser."


@attrs.frozen
class Call:
    """One request, as it arrives."""

    method: str
    """Upper case."""
    path: str
    """From the first slash, decoded, without the query."""
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
    """Names in any case. Not in the repr: the key travels in them."""
    query: Mapping[str, str] = attrs.field(factory=dict[str, str])
    """The decoded query."""
    body: bytes = attrs.field(default=b"", repr=False)
    """The whole body."""

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
            Refusal: It is none (400).
        """
        try:
            value: object = json.loads(self.body)
        except ValueError:
            raise Refusal(400, "invalid_json", "The body is not valid JSON") from None
        if not isinstance(value, dict):
            raise Refusal(400, "invalid_json", "The body must be a JSON object")
        return cast("dict[str, Any]", value)

    def uploaded_file(self) -> UploadedFile:
        """Return what the multipart field `file` holds.

        Raises:
            Refusal: There is no such field (400).
        """
        head = f"Content-Type: {self.header('Content-Type')}\r\n\r\n".encode("utf-8", "replace")
        message = BytesParser().parsebytes(head + self.body)
        for part in message.walk() if message.is_multipart() else ():
            if part.get_param("name", header="content-disposition") == "file":
                content = part.get_payload(decode=True)
                return UploadedFile(
                    name=part.get_filename() or "file",
                    content_type=part.get_content_type(),
                    size=len(content) if isinstance(content, bytes) else 0,
                )
        raise Refusal(400, "file_required", "The multipart field 'file' is required")


@attrs.frozen
class UploadedFile:
    """What is kept of an uploaded file: everything but its content."""

    name: str
    """As the client calls it."""
    content_type: str
    """The media type the client gives."""
    size: int
    """Bytes."""


@attrs.frozen
class Reply:
    """One answer, and how it is sent."""

    status: int
    """The HTTP status."""
    headers: Mapping[str, str]
    """With the content type."""
    body: bytes = attrs.field(default=b"", repr=False)
    """The whole body."""
    delay: float = 0.0
    """Seconds of the API's clock to wait before it is sent."""
    drop: bool = False
    """Close the connection instead of sending it."""

    @classmethod
    def of(cls, status: int, value: object, headers: Mapping[str, str] | None = None) -> Reply:
        """Return an answer with `value` as its JSON body."""
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "replace"
        )
        return cls(status, {"Content-Type": "application/json", **(headers or {})}, body)

    @classmethod
    def html(cls) -> Reply:
        """Return a page in the way, as proxies put there: status 200, and not JSON."""
        return cls(200, {"Content-Type": "text/html; charset=utf-8"}, _HTML)

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)


class Refusal(Exception):  # noqa: N818 - it is an answer, not an error of the sandbox
    """An answer other than success, on its way out of the service."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status: Final = status
        self.code: Final = code
        self.message: Final = message
        self.headers: Final = headers or {}

    def reply(self, dialect: Dialect) -> Reply:
        """Return it in the error form of a dialect: flat as documented, nested in production."""
        body: dict[str, object] = (
            {"error": self.code, "message": self.message}
            if dialect == "documented"
            else {"error": {"code": self.code, "message": self.message}}
        )
        return Reply.of(self.status, body, self.headers)


def http_date(unix_time: float) -> str:
    """Return a time in the form that HTTP headers have."""
    return formatdate(unix_time, usegmt=True)
