"""Signatures of webhook events: whether a body comes from the vendor.

The vendor signs `"<timestamp>." + body` with HMAC-SHA256 and sends the time and the signature in
two headers; the secret is used as it is (vendor's JavaScript client, 2.11.0).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, Self, cast

import attrs

from llamagen_async.errors import InvalidRequestError, WebhookSignatureError
from llamagen_async.observing import logger_of
from llamagen_async.validation import checked_text, seconds

__all__ = [
    "MAX_BODY",
    "TOLERANCE",
    "Headers",
    "SecretKeys",
    "Secrets",
    "SignedBody",
    "sign",
    "verify_signature",
]

TOLERANCE: Final = 300.0
"""Seconds by which an event's timestamp may differ from this machine's clock (vendor's client)."""
MAX_BODY: Final = 5_000_000
"""Bytes of the largest body that is read (chosen: a comic of 400 panels has a tenth of that)."""

_TIMESTAMP: Final = "X-Llama-Webhook-Timestamp"
_SIGNATURE: Final = "X-Llama-Webhook-Signature"
_ID: Final = "X-Llama-Webhook-Id"
_REQUEST_ID: Final = "X-Llama-Webhook-Request-Id"
_HEADERS: Final = {name.lower(): name for name in (_TIMESTAMP, _SIGNATURE, _ID, _REQUEST_ID)}
"""The names of the vendor's headers, by their names in lower case."""
_WSGI: Final = "http_"
"""The prefix of all names as WSGI spells them, in lower case."""
_LENGTHS: Final = frozenset(len(f"{before}{name}") for name in _HEADERS for before in ("", _WSGI))
"""Characters that these names may have: nearly all others are passed over by their length."""
_MAX_HEADER: Final = 4_096
"""Characters of all signatures together that are read (chosen: about sixty signatures)."""
_MAX_TIMESTAMP: Final = 1e11
"""The largest unix time in seconds that can be signed with (chosen: the year 5138)."""
_MOST_DIGITS: Final = 12
"""Digits of the longest timestamp that is read."""
_SCHEME: Final = "v1="
"""The prefix that a signature may have."""
_REFUSED: Final = (
    "this webhook event can't be verified: answer 400 and do nothing with it "
    "(the log of llamagen_async.webhooks says why)"
)
"""The one message for whatever is wrong, because the sender may get to read it."""
_RAW: Final = "the request's raw body, as bytes or str, before anything has parsed it"
_PARSED: Final = (
    f"{_RAW}: JSON that was parsed, or written anew, no longer has the bytes that were signed"
)
_SECRETS: Final = "one secret, or several while they are changed, none of them empty"

_logger = logger_of(__name__)

Secrets = str | bytes | Iterable[str | bytes]
"""One secret, or several of which any may have signed."""
Headers = Mapping[str, Any] | Iterable[tuple[str | bytes, str | bytes]]
"""A mapping of names to values, or pairs; names in any case, also as WSGI spells them."""


def verify_signature(
    body: str | bytes, headers: Headers, secret: Secrets, *, tolerance: float = TOLERANCE
) -> Literal[True]:
    """Verify an event's signature, for a program that reads the event itself.

    The arguments and errors are those of `construct_event`.

    Returns:
        `True`, for those who ask `if verify_signature(...)`; anything wrong is an error.
    """
    keys = SecretKeys.of(secret)
    del secret  # a report of an error may show the variables of its frames
    SignedBody.verified(body, headers, keys, tolerance)
    return True


def sign(
    body: str | bytes,
    secret: Secrets,
    *,
    timestamp: float | None = None,
    id: str | None = None,
) -> dict[str, str]:
    """Return the headers with which the vendor would send a body, for tests.

    Args:
        body: The raw body.
        secret: The secret; each of several adds a signature.
        timestamp: The unix time of signing in seconds; now if not given.
        id: The event's id, if a header is to carry it.
    """
    keys = SecretKeys.of(secret)
    del secret  # a report of an error may show the variables of its frames
    moment = _now()
    if timestamp is not None:
        moment = seconds("timestamp", timestamp, at_most=_MAX_TIMESTAMP)
    at = str(int(moment))
    signatures = [one.decode() for one in keys.signatures(_signed(at, _raw_body(body)))]
    headers = {_TIMESTAMP: at, _SIGNATURE: ",".join(f"{_SCHEME}{one}" for one in signatures)}
    return headers if id is None else {**headers, _ID: checked_text("id", id)}


@attrs.frozen(repr=False)
class SignedBody:
    """The body of an event with the headers that belong to it."""

    content: bytes
    """The body as it came."""
    headers: Mapping[str, list[str]] = attrs.field(hash=False)
    """The values of the vendor's headers, by the vendor's names."""

    @classmethod
    def verified(cls, body: object, headers: object, keys: SecretKeys, tolerance: float) -> Self:
        """Return a body whose signature and timestamp are right.

        Raises:
            WebhookSignatureError: They are not; the log says what is wrong.
            InvalidRequestError: An argument is not allowed.
        """
        one = cls(_raw_body(body), _vendors_headers(headers))
        tolerance = seconds("tolerance", tolerance)
        reason = one.unsigned() or one.problem(keys, tolerance, _now())
        if reason is not None:
            _logger.warning("a webhook event was refused: %s", reason)
            raise WebhookSignatureError(_REFUSED)
        return one

    @property
    def id(self) -> str | None:
        """The event's id, if a header has it; no signature covers it."""
        return self.headers[_ID][0] if _ID in self.headers else None

    @property
    def request_id(self) -> str | None:
        """The vendor's name for this delivery, if a header has it; no signature covers it."""
        return self.headers[_REQUEST_ID][0] if _REQUEST_ID in self.headers else None

    @property
    def signed(self) -> bytes:
        """The bytes that the signature covers: the timestamp and the body."""
        return _signed(self.headers[_TIMESTAMP][0], self.content)

    def unsigned(self) -> str | None:
        """Return why there is nothing to verify, for the log; `None` if there is."""
        times, signatures = self.headers.get(_TIMESTAMP), self.headers.get(_SIGNATURE)
        if not times or not signatures:
            return f"it has no {_SIGNATURE if times else _TIMESTAMP} header, so it is not signed"
        letters = sum(map(len, signatures)) + len(signatures) - 1
        if len(self.content) > MAX_BODY or letters > _MAX_HEADER:
            return f"{len(self.content):,} bytes or {letters:,} characters of signatures: too many"
        at = times[0]
        is_time = at.isascii() and at.isdigit() and len(at) <= _MOST_DIGITS
        if not is_time or times.count(at) < len(times):
            return f"its timestamp is no unix time in seconds: {at[:20]!r}"
        return None

    def problem(self, keys: SecretKeys, tolerance: float, now: float) -> str | None:
        """Return what is wrong with signatures or time, for the log; `None` if nothing is."""
        candidates = [
            one.strip().removeprefix(_SCHEME).lower().encode("utf-8", "surrogatepass")
            for several in self.headers[_SIGNATURE]
            for one in several.split(",")
        ]
        matches = False
        for expected in keys.signatures(self.signed):
            for candidate in candidates:
                # All are compared, whichever matches: the time that it takes tells nothing.
                matches |= hmac.compare_digest(expected, candidate)
        if not matches:
            return "it was signed with another secret, or its body is not byte for byte what came"
        age = now - int(self.headers[_TIMESTAMP][0])
        if abs(age) > tolerance:
            return (
                f"it is signed, but its timestamp is {abs(age):.0f} s in the "
                f"{'past' if age > 0 else 'future'} ({tolerance:g} s are tolerated): a replay, "
                "or late, or this machine's clock is wrong"
            )
        return None


@attrs.frozen(repr=False)
class SecretKeys:
    """The secrets that may have signed; no repr shows them."""

    secrets: tuple[bytes, ...]

    @classmethod
    def of(cls, secret: object) -> Self:
        """Return checked secrets.

        Raises:
            InvalidRequestError: There is none, one is empty (then anybody could sign), or one is no
                text. The error does not repeat what was given.
        """
        keys: list[bytes] = []
        several = [secret] if isinstance(secret, (str, bytes)) else secret
        # A list need not be asked what it is, which would take as long as all else.
        if isinstance(several, list) or _is_several(several):
            for one in cast("Iterable[object]", several):
                key = one.encode("utf-8", "surrogatepass") if isinstance(one, str) else one
                if not isinstance(key, bytes) or not key:
                    raise InvalidRequestError("secret", type(one).__name__, _SECRETS)
                keys.append(key)
        if not keys:
            raise InvalidRequestError("secret", type(secret).__name__, _SECRETS)
        return cls(tuple(keys))

    def signatures(self, signed: bytes) -> list[bytes]:
        """Return what each secret makes of what is signed, in hexadecimal."""
        return [hmac.digest(key, signed, "sha256").hex().encode() for key in self.secrets]


def _is_several(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, Mapping | memoryview)


def _signed(timestamp: str, content: bytes) -> bytes:
    return b"%b.%b" % (timestamp.encode(), content)


def _raw_body(body: object) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    if isinstance(body, bytearray | memoryview):
        return bytes(cast("bytearray", body))
    is_parsed = isinstance(body, Mapping | list)
    raise InvalidRequestError("body", type(body).__name__, _PARSED if is_parsed else _RAW)


def _vendors_headers(headers: object) -> dict[str, list[str]]:
    items = getattr(headers, "items", None)
    pairs: object = items() if callable(items) else headers
    found: dict[str, list[str]] = {}
    try:
        for name, value in cast("Iterable[tuple[Any, object]]", pairs):
            if len(name) not in _LENGTHS:
                continue
            key = _text(name).lower()
            if key.startswith(_WSGI):
                key = key.removeprefix(_WSGI).replace("_", "-")
            vendors = _HEADERS.get(key)
            if vendors is not None:
                several = cast("list[object]", value) if isinstance(value, list) else [value]
                texts = [text for one in several if (text := _text(one).strip())]
                if vendors == _TIMESTAMP:  # of a header that comes twice, many frameworks make one
                    texts = [one.strip() for text in texts for one in text.split(",")]
                if texts:
                    found.setdefault(vendors, []).extend(texts)
    except (TypeError, ValueError):
        wanted = "a mapping of names to values, or a list of pairs"
        raise InvalidRequestError("headers", type(headers).__name__, wanted) from None
    return found


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return str(value) if isinstance(value, int) else ""


def _now() -> float:
    return datetime.now(UTC).timestamp()
