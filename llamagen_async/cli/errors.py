"""Errors as one line for a person and an exit status. Nothing is printed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llamagen_async.cli.exit_status import FAILED, WRONG_USAGE, CommandError
from llamagen_async.cli.text import format_duration, format_limit, format_time, one_line, quoted
from llamagen_async.cli.typed import connection_words
from llamagen_async.errors import (
    APIConnectionError,
    AuthenticationError,
    InsufficientCreditsError,
    InvalidRequestError,
    LlamaGenError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExhaustedError,
    SubmissionUncertainError,
    WaitTimeoutError,
)
from llamagen_async.plans import RateLimit

__all__ = [
    "describe_error",
    "exit_status",
    "quota_reason",
    "status_command",
]

_OPTIONS: Final[Mapping[str, str]] = {
    "api_key": "--api-key (or LLAMAGEN_API_KEY)",
    "base_url": "--base-url (or LLAMAGEN_API_URL)",
    "plan": "--plan (or LLAMAGEN_PLAN)",
    "prices": "--price",
    "budget": "--budget",
    "metered": "--metered (or LLAMAGEN_METERED)",
    "proxy": "--proxy",
    "quota": "--quota (or LLAMAGEN_QUOTA)",
    "speed": "--speed",
    "timeout": "--timeout",
    "max_wait": "--max-wait",
    "latency": "--latency",
    "failure_rate": "--failure-rate",
    "fault": "--fault",
    "webhook": "--webhook",
    "prompt": "PROMPT",
    "size": "--size",
    "style": "--style",
    "language": "--language",
    "model": "--model",
    "preset": "--preset",
    "fix_panel_num": "--panels",
    "pagination.total_pages": "--pages",
    "pagination.panels_per_page": "--panels-per-page",
    "id": "ID",
    "panel": "--panel",
    "page": "--page",
    "caption": "--caption",
    "file": "FILE",
    "filename": "--filename",
    "video_options.duration": "--duration",
    "video_options.resolution": "--resolution",
    "video_options.aspect_ratio": "--aspect-ratio",
    "video_options.image": "--image",
    "video_options.last_frame_image": "--last-frame-image",
}


_PRICES: Final = "prices."
"""The beginning of the name of the field of a price."""


def describe_error(
    error: Exception, *, wait_with: str | None = None, id_: str | None = None
) -> str:
    """Return one line that says what happened and what can be done now.

    Args:
        error: What happened.
        wait_with: The option with which the command would have waited longer, if it has one.
        id_: The id of the comic that the error is about, if the server has accepted it.
    """
    if id_ is not None and isinstance(error, QuotaExhaustedError):
        return (
            f"accepted, and it goes on, but {quota_reason(error.limit)} until {_when(error)}: "
            f"check it then with {status_command(id_)}"
        )
    return one_line(_describe(error, wait_with))


def quota_reason(limit: RateLimit | None) -> str:
    """Return why nothing can be sent: a window is full, or the server asked to wait (`None`)."""
    if limit is None:
        return "the server asked to wait"
    return f"the limit of {format_limit(limit)} has no room now"


def status_command(id_: str, folder: object = None, *, is_animation: bool = False) -> str:
    """Return the command that checks a comic and downloads its pictures, ready to be pasted.

    It has the options of the running command that say which server is asked.

    Args:
        id_: The comic's id; one that begins with a dash is kept from being taken for an option.
        folder: The folder for the pictures, if they are wanted.
        is_animation: Whether it is an animation's id.
    """
    out = f" --out {quoted(folder)}" if folder is not None else ""
    out = f" --animation{out}" if is_animation else out
    out += connection_words()
    if id_.startswith("-"):
        return f"llamagen-async status{out} -- {quoted(id_)}"
    return f"llamagen-async status {quoted(id_)}{out}"


def exit_status(error: Exception) -> int:
    """Return the exit status that `error` means."""
    if isinstance(error, CommandError):
        return error.status
    return WRONG_USAGE if isinstance(error, InvalidRequestError) else FAILED


def _describe(error: Exception, wait_with: str | None) -> str:  # noqa: C901  # one branch for each kind
    if isinstance(error, InvalidRequestError):
        return _usage(error)
    if isinstance(error, AuthenticationError):
        return f"the API key is not accepted ({error.summary}): check LLAMAGEN_API_KEY"
    if isinstance(error, InsufficientCreditsError):
        return f"there are not enough credits ({error.summary}): buy some, then send the rest"
    if isinstance(error, PermissionDeniedError):
        return f"the API key may not do this ({error.summary})"
    if isinstance(error, NotFoundError):
        return f"the server does not know it ({error.summary})"
    if isinstance(error, QuotaExhaustedError):
        instead = f", or let it wait with {wait_with}" if wait_with else ""
        return (
            f"nothing was sent: {quota_reason(error.limit)} until {_when(error)}: "
            f"try again then{instead}"
        )
    if isinstance(error, SubmissionUncertainError):
        return error.naming_id(
            f"the answer was lost ({error.reason}): it may have been accepted and charged, so it "
            "is not sent again"
        )
    if isinstance(error, WaitTimeoutError):
        return (
            f"{error.id} was not done after {format_duration(error.waited)}; it goes on: check it "
            f"with {status_command(error.id)}"
        )
    if isinstance(error, APIConnectionError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    known = isinstance(error, LlamaGenError | CommandError | OSError)
    return str(error) if known else f"{type(error).__name__}: {error}"


def _when(error: QuotaExhaustedError) -> str:
    return f"{format_time(error.resets_at)}, in {format_duration(error.wait)}"


def _usage(error: InvalidRequestError) -> str:
    if error.field == "api_key" and error.value is None:
        return (
            "there is no API key: set LLAMAGEN_API_KEY "
            "(llamagen-async demo and sandbox need no real one)"
        )
    if error.field == "plan":
        return f"{_OPTIONS['plan']}: got {error.value!r}, allowed is demo, paid or auto"
    if error.field == "quota":
        # What was given may hold a password.
        return (
            f"{_OPTIONS['quota']}: allowed is sqlite:///PATH, redis://HOST:PORT/DB, "
            "rediss://HOST:PORT/DB or memory"
        )
    text = str(error)
    option = _OPTIONS.get(error.field)
    if error.field.startswith(_PRICES):
        return f"--price {text.removeprefix(_PRICES)}"
    return option + text.removeprefix(error.field) if option else text
