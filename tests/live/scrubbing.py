"""The part of an answer that a report may hold: the server's words, and not whose they are.

Values are kept by the names of their fields; of all others only the kind and the size are told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from llamagen_async.foreign import clean_text
from llamagen_async.transport.secret import Secret

__all__ = ["Scrubber"]

WORDS = {"status", "code", "errorcode", "error_code", "unit", "type", "model", "preset", "size"}
"""Fields whose short texts are words of the API."""
TEXTS = {"error", "message", "msg", "detail", "errormessage", "reason", "description", "title"}
"""Fields whose texts are the server's own sentences."""
NUMBERS = {"page", "panel", "totalpages", "panelsperpage", "fixpanelnum", "total_comics"} | {
    *("redraw_panels", "duration", "apimaxusage", "status", "statuscode")
}
"""Fields whose numbers are no account's."""
COUNTS = {"apiusagecount"}
"""Fields whose numbers are told from the first one on: what matters is how they move."""
HEADERS = {
    *("date", "content-type", "content-length", "content-encoding", "retry-after", "server", "via"),
    *("cache-control", "connection", "transfer-encoding", "vary", "x-powered-by", "allow"),
    *("strict-transport-security", "www-authenticate"),
}
"""Headers whose values are kept; so are those of rate limits."""
MOST_ITEMS = 3
"""Items of a list that are told of."""


class Scrubber:
    """Takes out of answers what would tell whose they are; the same id gets the same name.

    Args:
        key: The API key.
        ids: Ids that are known beforehand.
    """

    def __init__(self, key: str, *ids: str) -> None:
        self._secret = Secret(key)
        self._ids: dict[str, str] = {}
        self._first: dict[str, float] = {}
        for one in ids:
            self.named(one)

    def named(self, id_: str) -> str:
        """Return the name of an id in the report."""
        return self._ids.setdefault(id_, f"id-{len(self._ids) + 1}")

    def path(self, path: str) -> str:
        """Return a path with its ids named."""
        head, _, last = path.rpartition("/")
        return f"{head}/{self.named(last)}" if head.endswith("/generations") else path

    def body(self, value: object, field: str = "") -> Any:
        """Return a decoded body as it may be told."""
        name = field.lower()
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.body(one, str(key)) for key, one in value.items()}
        if isinstance(value, list):
            told = [self.body(one, field) for one in value[:MOST_ITEMS]]
            return told + ([f"<{len(value) - MOST_ITEMS} more>"] if len(value) > MOST_ITEMS else [])
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return self._number(value, name)
        return self._text(str(value), name)

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return headers as they may be told."""
        told: dict[str, str] = {}
        for name, value in headers.items():
            is_kept = name.lower() in HEADERS or "ratelimit" in name.lower().replace("-", "")
            told[name] = self.text(value) if is_kept else f"<text of {len(value)}>"
        return told

    def text(self, text: str) -> str:
        """Return a sentence of the server's without ids, addresses, long numbers and the key."""
        text = self._secret.removed_from(clean_text(text, 500))
        for id_, name in self._ids.items():
            text = text.replace(id_, name)
        text = re.sub(r"[^\s@\"'<>]+@[^\s@\"'<>]+", "<e-mail>", text)
        text = re.sub(r"https?://[^\s\"'<>]+", lambda found: self._url(found[0]), text)
        return re.sub(r"\b(?=\w*\d)[\w-]{12,}\b|\b\d{6,}\b", "<id>", text)

    def _number(self, value: float, name: str) -> Any:
        if name in COUNTS:
            moved = value - self._first.setdefault(name, value)
            return f"n+{moved:g}" if moved else "n"
        return value if name in NUMBERS else "<number>"

    def _text(self, text: str, name: str) -> str:
        if name in ("id", "uuid") or name.endswith(("_id", "id")):
            return self.named(text)
        if text.startswith(("https://", "http://")):
            return self._url(text)
        if name in WORDS and re.fullmatch(r"[A-Za-z0-9_ .-]{1,40}", text):
            return self.text(text)
        if name in TEXTS:
            return self.text(text)
        return "" if not text else f"<text of {len(text)}>"

    def _url(self, text: str) -> str:
        """Return a URL's host, the ending of its file, and the names of its parameters."""
        parts = urlsplit(text)
        ending = PurePosixPath(parts.path).suffix
        names = ",".join(sorted({name for name, _ in parse_qsl(parts.query)}))
        return f"{parts.scheme}://{parts.hostname}/...{ending[:6]}{f'?{names}' if names else ''}"
