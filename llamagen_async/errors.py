"""All errors of this package, as one tree.

```
LlamaGenError
├── InvalidRequestError (also a ValueError)   nothing was sent
├── APIError                                  the server answered, and not with success
│   ├── BadRequestError            400, 422
│   ├── AuthenticationError        401
│   ├── InsufficientCreditsError   402, and the 429 that means it
│   ├── PermissionDeniedError      403
│   ├── NotFoundError              404
│   ├── RateLimitError             429
│   ├── ServerError                5xx
│   └── InvalidResponseError       an answer that is not what the API speaks
├── APIConnectionError                        no answer
│   └── APITimeoutError
├── QuotaExhaustedError                       refused before waiting: nothing was sent
├── BudgetReachedError                        a batch's budget does not pay for it: nothing was sent
├── QuotaStoreError                           the store of spent slots is away: nothing was sent
├── JournalError                              a batch's journal can't be used
├── SubmissionUncertainError                  sent, and nobody knows whether it was accepted
├── GenerationFailedError                     the generation ended without a comic
├── WaitTimeoutError                          the generation goes on, the waiting does not
├── ClientClosedError                         the client is not open
└── WebhookSignatureError                     the event is not from the vendor
```

Each message answers three questions: what happened, was anything spent, what can be done now.
Each error that is about a generation has its `id`.
No error holds the API key, nor the headers in which it travels.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import attrs

from llamagen_async.validation import InvalidRequestError, LlamaGenError

if TYPE_CHECKING:
    from llamagen_async.models import Animation, ComicGeneration
    from llamagen_async.plans import RateLimit
    from llamagen_async.requests import AnyRequest

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "BudgetReachedError",
    "ClientClosedError",
    "GenerationFailedError",
    "InsufficientCreditsError",
    "InvalidRequestError",
    "InvalidResponseError",
    "JournalError",
    "LlamaGenError",
    "NotFoundError",
    "PermissionDeniedError",
    "QuotaExhaustedError",
    "QuotaStoreError",
    "RateLimitError",
    "ServerError",
    "SubmissionUncertainError",
    "WaitTimeoutError",
    "WebhookSignatureError",
]


@attrs.define(auto_exc=True, slots=False, eq=False)
class APIError(LlamaGenError):
    """The server answered, and not with success.

    Spent: By the kind of error; `advice` says it of this one.
    To do: Read `advice`; give `request_id` to the vendor's support.
    """

    status: int
    """The HTTP status."""
    code: str | None
    """The vendor's word for the error, when the body has one."""
    message: str
    """The server's own words, or what is wrong with its answer."""
    body: object = attrs.field(default=None, repr=False)
    """The decoded body, or the beginning of its text when it is not JSON."""
    request_id: str | None = None
    """The server's name for the exchange, for its support, when the answer has one."""
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
    """The answer's headers, with names in lower case; long values are cut."""
    advice: str = ""
    """Advice: what was spent, and what can be done now; empty if the message says that."""

    def __str__(self) -> str:
        return f"{self.summary} ({self.advice})" if self.advice else self.summary

    @property
    def summary(self) -> str:
        """The server's answer in words, without the advice."""
        code = f" {self.code}" if self.code else ""
        asked = f" [request {self.request_id}]" if self.request_id else ""
        return self.naming_id(f"HTTP {self.status}{code}: {self.message}{asked}")


class BadRequestError(APIError):
    """400 or 422: the server does not accept the request's content.

    Spent: One request of the limits, no credits.
    To do: Change the request as the server's words say.
    """


class AuthenticationError(APIError):
    """401: the key is not valid.

    Spent: One request of the limits, no credits.
    To do: Check `LLAMAGEN_API_KEY`. A batch stops creating and goes on with the right key.
    """


class InsufficientCreditsError(APIError):
    """402, or a 429 whose body says that credits are lacking: waiting does not help.

    Spent: One request of the limits, no credits.
    To do: Buy credits. A batch stops creating and goes on when it is run again.
    """


class PermissionDeniedError(APIError):
    """403: the key may not do this.

    Spent: One request of the limits, no credits.
    To do: Ask for a plan that allows it, or for a generation that the key owns.
    """


class NotFoundError(APIError):
    """404: no such generation for this key.

    Spent: One request of the limits, no credits.
    To do: Check the id, and that the key is the one that created it.
    """


@attrs.define(auto_exc=True, slots=False, eq=False)
class RateLimitError(APIError):
    """429: the server counts more requests than the limiter does.

    Spent: One request of the limits, no credits.
    To do: Look for who else uses the key; share the count with `quota=`. `retry_after` says how
    long to wait.
    """

    retry_after: float | None = None
    """Seconds that the server asks to wait; `None` if it does not say, or says more than a day."""
    # Once more, so that the wait comes before them.
    request_id: str | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
    advice: str = ""


class ServerError(APIError):
    """5xx: the server failed. A status check is retried; a billed request never is.

    Spent: Nobody knows for a billed request, which is uncertain then; nothing for a read.
    To do: Wait: a wait, a batch and a queue go on by themselves when the server is back.
    """


class InvalidResponseError(APIError):
    """The answer is not what the API speaks: not JSON, too large, a redirect, no id.

    Spent: By the status: with success the request was paid for.
    To do: Check `base_url` and any proxy; `body` has the beginning of the answer.
    """


@attrs.define(auto_exc=True, slots=False, eq=False)
class APIConnectionError(LlamaGenError):
    """No answer came. `request_sent` tells whether the request may have arrived.

    Spent: Nothing if `request_sent` is `False`; else nobody knows for a billed request.
    To do: Check network, proxy and certificates: `llamagen-async doctor` does.
    """

    message: str
    """The failure in words, with the host and without the key."""
    request_sent: bool = True
    """`False` only if nothing of it left this machine, so that it provably did not arrive."""
    retriable: bool = True
    """Whether it may end otherwise when it is tried again; `False` for what only a change of
    settings cures, such as a certificate that is not accepted."""

    def __str__(self) -> str:
        return self.naming_id(self.message)


class APITimeoutError(APIConnectionError):
    """No answer came in the time allowed for one request.

    Spent: Nobody knows for a billed request; nothing for a read.
    To do: Wait again, or allow more with `timeout=` on the client.
    """


@attrs.define(auto_exc=True, slots=False, eq=False)
class QuotaExhaustedError(LlamaGenError):
    """The wait for a free slot would be too long. No request was sent for it.

    Spent: Nothing: no request was sent.
    To do: Try again at `resets_at`, or pass `wait_for_quota=True`.
    """

    limit: RateLimit | None
    """The window that is full; `None` if the server has asked to wait (429)."""
    wait: float
    """Seconds until a slot is free for this request."""
    resets_at: datetime
    """The time at which a slot is free for this request, in UTC."""
    id: str | None = None
    """The id of the generation that was waited for, if there was one; it goes on."""

    def __str__(self) -> str:
        when = self.resets_at.strftime("%Y-%m-%d %H:%M:%S UTC")
        paused = self.limit is None
        reason = (
            "the server asked to wait" if paused else f"the limit of {self.limit} has no room now"
        )
        if self.id is not None:
            return (
                f"{reason}, so generation {self.id} can't be checked "
                f"before {when} (in {self.wait:.0f} s); it was accepted and goes on: call "
                f"wait_for_completion({self.id!r}) then"
            )
        instead = "" if paused else ", or use a plan with a higher limit"
        return (
            f"{reason}; nothing was sent. The next free slot for this request is at {when} "
            f"(in {self.wait:.0f} s): try again then, or pass wait_for_quota=True to wait{instead}"
        )


@attrs.define(auto_exc=True, slots=False, eq=False)
class BudgetReachedError(LlamaGenError):
    """A batch's budget does not pay for a story, or nobody knows its price. Nothing was sent.

    Spent: Nothing for this story.
    To do: Give a higher budget, or the price that is not known, and run the batch again.
    """

    budget: float
    """The budget in credits."""
    spent: float
    """Credits that all runs of the batch have spent."""
    price: float | None
    """The story's estimated price in credits; `None` if it is not known."""

    def __str__(self) -> str:
        from llamagen_async.prices import format_credits  # noqa: PLC0415  # needs all requests

        budget = f"the budget of {format_credits(self.budget)}"
        if self.price is None:
            return (
                f"its price is not known, so {budget} can't be kept; nothing was sent. Give the "
                "price if you know it, or no budget"
            )
        return (
            f"{budget} does not pay for it (about {format_credits(self.price)}): "
            f"{format_credits(self.spent)} are spent; nothing was sent. A higher budget sends it"
        )


class QuotaStoreError(LlamaGenError):
    """The store of spent slots can't be reached, so the limits can't be kept: nothing was sent.

    Spent: Nothing: this request was not sent. With an `id`, that generation goes on.
    To do: Bring the store back, or name another one with `quota=`; wait for the `id` then.
    """


class JournalError(LlamaGenError):
    """A journal can't be opened, read or written: what can't be recorded is not sent.

    Spent: Nothing for what was not sent; what the journal holds stays as it is.
    To do: Do what the message says: free the disk, end the other process, put the journal back.
    """


@attrs.define(auto_exc=True, slots=False, eq=False)
class SubmissionUncertainError(LlamaGenError):
    """A billed request went out and its answer was lost: it may have been accepted and charged.

    The request is not sent again, because the API offers no way to find out.

    Spent: Nobody knows.
    To do: Compare the usage page; then resend it, or leave it.
    """

    request: AnyRequest | None
    """The request that was submitted; `None` if it is not known any more."""
    reason: str
    """The way in which the answer was lost."""

    def __str__(self) -> str:
        return self.naming_id(
            f"the answer to a billed request was lost ({self.reason}); it may have been accepted "
            "and charged, so it is not sent again. Compare the usage page before resending it"
        )


@attrs.define(auto_exc=True, slots=False, eq=False)
class GenerationFailedError(LlamaGenError):
    """The generation ended as failed or cancelled.

    Spent: The request; `generation.usage` has the charge if the server says it.
    To do: Read `generation.failure_reason`, and change the story.
    """

    generation: ComicGeneration | Animation
    """The generation as the server returned it."""

    def __attrs_post_init__(self) -> None:
        # Always known here, and nobody but `about` writes it.
        self.id: str = self.generation.id  # pyright: ignore[reportIncompatibleVariableOverride]

    def __str__(self) -> str:
        reason = self.generation.failure_reason
        return f"generation {self.generation.id} ended as {self.generation.status.value}" + (
            f": {reason}" if reason else ""
        )


@attrs.define(auto_exc=True, slots=False, eq=False)
class WaitTimeoutError(LlamaGenError):
    """The time allowed for waiting is up. The generation goes on: wait for its id again.

    Spent: What the generation costs; it goes on.
    To do: Call `wait_for_completion(error.id)` at any time.
    """

    # Always known here, and nobody but `about` writes it.
    id: str  # pyright: ignore[reportIncompatibleVariableOverride]
    """The generation's id."""
    waited: float
    """Seconds that were allowed."""
    last_error: str | None = None
    """The failure of the last status check, if it has failed: the generation may be done."""

    def __str__(self) -> str:
        text = (
            f"generation {self.id} was not done after {self.waited:g} s; it goes on and is not "
            f"lost: call wait_for_completion({self.id!r}) again"
        )
        if self.last_error is None:
            return text
        return f"{text}. Its last status check has failed: {self.last_error}"


class ClientClosedError(LlamaGenError):
    """The client is not open, was closed meanwhile, or belongs to another event loop.

    Spent: Nothing for what was not sent; an accepted generation has its `id` in the error.
    To do: Open a client for this loop; wait for the `id` there.
    """


class WebhookSignatureError(LlamaGenError):
    """The event's signature or timestamp is wrong: do not trust its content.

    Spent: Nothing.
    To do: Answer 400; check the secret, the clock, and that the raw body is verified.
    """
