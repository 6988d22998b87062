"""The routes: what each request does, whatever framework carries it.

Nothing here waits for a comic: a request reads or writes the journal and is answered. So a client
that goes away ends its own request, or its stream of events, and no job.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

from llamagen_async.batch.events import ComicJob, Mark
from llamagen_async.batch.journal.story import checked_key
from llamagen_async.batch.protocol import JobQueue
from llamagen_async.downloads.media_types import PICTURES, VIDEOS, media_type_of
from llamagen_async.errors import (
    AuthenticationError,
    ClientClosedError,
    InvalidRequestError,
    LlamaGenError,
    PermissionDeniedError,
    WebhookSignatureError,
)
from llamagen_async.foreign import MOST_DEPTH, is_nested_deeper
from llamagen_async.models import Animation, BatchState
from llamagen_async.observing import about, logger_of
from llamagen_async.requests import ComicRequest
from llamagen_async.validation import shown
from llamagen_async.web.access import Authorize, check_access
from llamagen_async.web.facts import at_vendor, job_facts, job_path
from llamagen_async.web.limits_facts import limits_facts
from llamagen_async.web.messages import (
    JSON,
    HTTPProblem,
    WebReply,
    WebRequest,
    dump,
    json_reply,
    problem_reply,
    read_body,
)
from llamagen_async.web.openapi import document
from llamagen_async.web.page import page
from llamagen_async.web.service import ComicService
from llamagen_async.web.streams import job_stream
from llamagen_async.webhooks import MAX_BODY, construct_event

__all__ = ["MAX_REQUEST", "answer"]

MAX_REQUEST: Final = 1_000_000
"""Bytes of the largest body of a request for a comic (chosen: a story of 150,000 words)."""
_LONGEST_PAGE: Final = 100
"""Jobs in one answer, at most."""
_SOONEST: Final = 1
"""Seconds after which a client that was refused may come again, at least."""
_NUMBER: Final = re.compile(r"[0-9]{1,6}")
_QUOTED: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
"""A string as headers have it (RFC 9651)."""
_BARE: Final = re.compile(r"[!#-~]+")
"""Text without quotes, as most clients send it."""
_DOTS: Final = (".", "..")
"""Keys whose links would lead elsewhere: clients take such parts out of a path (RFC 3986)."""
_GIVEN_UP: Final = (BatchState.RUNNING, BatchState.SUCCEEDED)
"""States whose error says that nobody waits for the comic or its pictures; a reader has it begin
again."""
_SANDBOXED: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, max-age=86400",
}
"""Headers of pictures, which are not this server's own."""

_Handler = Callable[[ComicService, WebRequest], Awaitable[WebReply]]

_logger = logger_of(__name__)


async def answer(
    service: ComicService, request: WebRequest, authorize: Authorize | None = None
) -> WebReply:
    """Answer a request.

    Args:
        service: The client and the queue.
        request: The request.
        authorize: The hook that says who may call the routes.
    """
    handler: _Handler | None = None
    try:
        handler = _handler(request)
        if handler not in _PUBLIC:
            await check_access(request, authorize)
        return await handler(service, request)
    except HTTPProblem as problem:
        return problem_reply(problem)
    except InvalidRequestError as error:
        return problem_reply(_bad_field(error))
    except LlamaGenError as error:
        # The journal, the store or the client: nothing was accepted, and it may be better soon.
        _logger.warning(
            "%s %s: %s", request.method, "/".join(request.path), error, extra=about(error)
        )
        headers = {"Retry-After": str(_SOONEST)}
        # It may name a file or a server, which is nothing for those whom nobody has allowed.
        detail = _UNAVAILABLE if handler in _PUBLIC else str(error)
        return problem_reply(HTTPProblem(503, "unavailable", detail, headers=headers))


def _handler(request: WebRequest) -> _Handler:
    """Return what answers a request.

    Raises:
        HTTPProblem: Nothing does.
    """
    handlers = _handlers(request.path)
    if not handlers:
        raise HTTPProblem(404, "not_found", "there is nothing at this path")
    handler = handlers.get("GET" if request.method == "HEAD" else request.method)
    if handler is None:
        allowed = ", ".join([*handlers, *(["HEAD"] if "GET" in handlers else [])])
        detail = f"{request.method} is not allowed here, but {allowed}"
        raise HTTPProblem(405, "method_not_allowed", detail, headers={"Allow": allowed})
    return handler


def _handlers(path: tuple[str, ...]) -> Mapping[str, _Handler]:
    """Return the handlers of a path, by method."""
    match path:
        case () | ("",):
            return {"GET": _page}
        case (name,) if name in _SINGLE:
            return _SINGLE[name]
        case ("comics", key) if key:
            return {"GET": _get, "DELETE": _cancel}
        case ("comics", key, "events") if key:
            return {"GET": _events}
        case ("comics", key, "pictures", _) if key:
            return {"GET": _picture}
        case _:
            return {}


async def _submit(service: ComicService, request: WebRequest) -> WebReply:
    fields = await _fields(request)
    key = _idempotency_key(request.headers.get("idempotency-key"))
    comic = ComicRequest.parse(fields)
    queue = await service.started()
    service.submitting += 1
    try:
        if key is None or await queue.get(key) is None:
            await _check_room(service, queue)
        try:
            job = await queue.submit(comic, key=key)
        except InvalidRequestError as error:
            if error.field != "key":
                raise
            raise HTTPProblem(
                422, "key_reused", "this Idempotency-Key was used for another comic"
            ) from error
    finally:
        service.submitting -= 1
    location = {"Location": job_path(request.root, job.key)}
    return json_reply(job_facts(job, request.root), 202, location)


async def _check_room(service: ComicService, queue: JobQueue) -> None:
    """Refuse a job if too many wait already: an answer now is better than one in hours."""
    if await queue.waiting() + service.submitting <= service.max_queued:
        return
    wait = max(_SOONEST, math.ceil(await queue.next_turn()))
    detail = (
        f"{service.max_queued} comics wait already; there is room again in about {wait} s. "
        "Nothing was accepted"
    )
    raise HTTPProblem(503, "queue_full", detail, headers={"Retry-After": str(wait)})


async def _get(service: ComicService, request: WebRequest) -> WebReply:
    key, queue = request.path[1], await service.started()
    kept = service.kept((request.root, key))
    if kept is None:
        job = await _known(queue, key)
        facts = job_facts(job, request.root)
        if job.state is not BatchState.SUCCEEDED or not job.files:
            return json_reply(facts)
        kept = dump(facts).encode("utf-8", "replace")
        service.keep((request.root, key), kept, job.at)
    return WebReply(200, kept, JSON, {"Cache-Control": "no-store"})


async def _list(service: ComicService, request: WebRequest) -> WebReply:
    queue = await service.started()
    limit = _whole("limit", request.query.get("limit", str(_LONGEST_PAGE)), 1, _LONGEST_PAGE)
    try:
        states = [BatchState(word) for word in request.query.get("state", "").split(",") if word]
    except ValueError:
        allowed = f"one or more of {', '.join(BatchState)}"
        raise InvalidRequestError("state", request.query["state"], allowed) from None
    after = request.query.get("after")
    if after is not None:
        checked_key(after, "after")
    jobs = await queue.list(*states, limit=limit, after=after)
    return json_reply({"comics": [job_facts(job, request.root) for job in jobs]})


async def _cancel(service: ComicService, request: WebRequest) -> WebReply:
    queue = await service.started()
    job = await queue.cancel(await _known(queue, request.path[1]))
    if job.state is not BatchState.CANCELLED:
        detail = f"only what is queued can be cancelled, and this comic is {job.state}"
        raise HTTPProblem(409, "too_late", detail, state=job.state.value)
    return json_reply(job_facts(job, request.root))


async def _events(service: ComicService, request: WebRequest) -> WebReply:
    queue, after = await service.started(), request.headers.get("last-event-id")
    job = await _known(queue, request.path[1])
    seen = Mark.parse(after)
    may_go_on = job.error is not None and job.state in _GIVEN_UP
    if job.is_final and not may_go_on and not job.follows(seen):
        return WebReply(204)  # a reader that has seen the end is told not to come back
    stream = job_stream(queue, job.key, root=request.root, after=after, closing=service.draining)
    return WebReply(events=stream)


async def _picture(service: ComicService, request: WebRequest) -> WebReply:
    job = await _known(await service.started(), request.path[1])
    number = _whole("picture", request.path[3], 0, 10**6)
    urls = at_vendor(job)
    if number < len(job.files):
        file = job.files[number]
        headers = dict(_SANDBOXED)
        if file.suffix not in PICTURES | VIDEOS:
            headers["Content-Disposition"] = "attachment"
        if file.is_file():
            return WebReply(media_type=media_type_of(file.suffix), headers=headers, file=file)
    if number < len(urls) and (url := urls[number]):
        return await _from_vendor(service, job, url)
    raise HTTPProblem(404, "not_found", f"this comic has no picture {number} here")


async def _from_vendor(service: ComicService, job: ComicJob, url: str) -> WebReply:
    """Return a picture that is not here: its host hears of this server, and not of who looks."""
    if isinstance(job.generation, Animation):  # a video is too large to be held
        return WebReply(307, headers={"Location": url, "Cache-Control": "no-store"})
    try:
        picture = await service.pictures.get(url)
    except ClientClosedError:
        raise
    except LlamaGenError as error:
        _logger.warning("a picture of %s: %s", shown(job.key), error, extra=about(error))
        detail = "this picture can't be had from the vendor now"
        raise HTTPProblem(502, "no_picture", detail) from error
    changing = {"Cache-Control": "no-store"} if job.state is BatchState.RUNNING else {}
    return WebReply(200, picture.content, picture.media_type, {**_SANDBOXED, **changing})


async def _webhook(service: ComicService, request: WebRequest) -> WebReply:
    secrets = service.webhook_secrets
    if not secrets:
        raise HTTPProblem(
            403,
            "no_secret",
            "this server knows no webhook secret, so it takes no events: set "
            "LLAMAGEN_WEBHOOK_SECRET, or pass webhook_secret= to create_app",
        )
    body = await read_body(request, MAX_BODY)
    try:
        event = construct_event(body, request.headers, secrets)
    except WebhookSignatureError as error:
        raise HTTPProblem(400, "bad_signature", str(error)) from None
    await service.started()
    if service.guard.claim(event):
        try:
            await service.deliver(event)
        except BaseException:  # also if this was cancelled: the vendor sends it again
            service.guard.release(event)
            raise
    return WebReply(204)


async def _limits(service: ComicService, _request: WebRequest) -> WebReply:
    await service.started()
    snapshot = await service.client.limits()
    return json_reply(limits_facts(snapshot, datetime.now(UTC), service.client.speed))


async def _healthz(_service: ComicService, _request: WebRequest) -> WebReply:
    return json_reply({"status": "ok"})


async def _readyz(service: ComicService, _request: WebRequest) -> WebReply:
    """Say whether the journal, the store and the key can be used; no request is spent on it."""
    queue = await service.started()
    held = queue.held_by
    if isinstance(held, AuthenticationError | PermissionDeniedError):
        raise HTTPProblem(503, "not_ready", "the API key is not accepted")
    await queue.waiting()
    await service.client.limits()
    return json_reply({"status": "ready", "held_by": type(held).__name__ if held else None})


async def _openapi(_service: ComicService, request: WebRequest) -> WebReply:
    return json_reply(document(request.root))


async def _page(_service: ComicService, request: WebRequest) -> WebReply:
    return page(request.root)


_SINGLE: Final[Mapping[str, Mapping[str, _Handler]]] = {
    "comics": {"GET": _list, "POST": _submit},
    "healthz": {"GET": _healthz},
    "limits": {"GET": _limits},
    "openapi.json": {"GET": _openapi},
    "readyz": {"GET": _readyz},
    "webhooks": {"POST": _webhook},
}
"""The handlers of the paths of one part."""
_PUBLIC: Final = frozenset({_healthz, _readyz, _webhook})
"""Handlers that anybody may call: an event's signature says whether it is allowed."""
_UNAVAILABLE: Final = "the journal, the store or the client can't be used now; the log says why"
"""The whole answer about a failure of this server to whom nobody has allowed."""


async def _known(queue: JobQueue, key: str) -> ComicJob:
    try:
        checked_key(key)
    except InvalidRequestError:
        job = None
    else:
        job = await queue.get(key)
    if job is None:
        raise HTTPProblem(404, "not_found", f"there is no comic with the key {shown(key)}")
    return job


async def _fields(request: WebRequest) -> dict[str, Any]:
    """Return the fields of a request for a comic."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON and not re.fullmatch(r"application/[\w.-]+\+json", media_type):
        raise HTTPProblem(415, "not_json", f"the body has to be {JSON}")
    body = await read_body(request, MAX_REQUEST)
    try:
        fields: object = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise HTTPProblem(400, "bad_json", "the body is not JSON in UTF-8") from None
    if is_nested_deeper(fields, MOST_DEPTH):
        raise HTTPProblem(400, "bad_json", f"the body may be nested in at most {MOST_DEPTH} levels")
    if not isinstance(fields, dict):
        raise HTTPProblem(400, "bad_json", "the body has to be an object of a comic's fields")
    if "key" in fields:
        raise HTTPProblem(
            400, "bad_field", "key: the header Idempotency-Key names a comic", field="key"
        )
    return cast("dict[str, Any]", fields)


def _idempotency_key(header: str | None) -> str | None:
    """Return the key that a header names, with or without quotes; `None` if there is none."""
    if header is None:
        return None
    text, quoted = header.strip(), _QUOTED.fullmatch(header.strip())
    if quoted is not None:
        text = re.sub(r"\\(.)", r"\1", quoted[1])
    elif not _BARE.fullmatch(text):
        allowed = 'one string, such as "order-42", of printable ASCII characters'
        raise InvalidRequestError("Idempotency-Key", header, allowed)
    if text in _DOTS:
        raise InvalidRequestError("Idempotency-Key", header, "a key that is not a dot or two")
    try:
        return checked_key(text)
    except InvalidRequestError as error:
        raise InvalidRequestError("Idempotency-Key", header, error.allowed) from None


def _whole(field: str, text: str, least: int, most: int) -> int:
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise InvalidRequestError(field, text, f"a whole number from {least} to {most}")
    return int(text)


def _bad_field(error: InvalidRequestError) -> HTTPProblem:
    return HTTPProblem(400, "bad_field", str(error), field=error.field, allowed=error.allowed)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
