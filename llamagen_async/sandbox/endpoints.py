"""The endpoints of the API behind its limits: generations, usage, uploads.

One method per endpoint: a call in, the JSON of its answer out, or an `HTTPError`. Counting requests
and drawing faults is done by the service around them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

from llamagen_async.plans import DAY, RequestKind
from llamagen_async.sandbox import request_checks as checks
from llamagen_async.sandbox.accounts import Account
from llamagen_async.sandbox.captions import captions
from llamagen_async.sandbox.faults import ERRORS, NO_HITS, Hits
from llamagen_async.sandbox.generations import (
    ANIMATION_PRICE,
    PANEL_PRICE,
    Run,
    SandboxGeneration,
    generation_id,
    panels_on_pages,
)
from llamagen_async.sandbox.routes import PREFIX, ROUTES, Operation
from llamagen_async.sandbox.schemas import ANIMATION, CONTINUE, CREATE
from llamagen_async.sandbox.settings import Dialect, Durations
from llamagen_async.sandbox.wire import Call, HTTPError

__all__ = ["Endpoint", "Endpoints"]

Endpoint = Callable[[Account, Call, str, float], dict[str, Any]]
"""A function from an account, its call, the id in the path (may be empty) and the time to the
answer's JSON."""

_FAILURES: Final = (
    "The model could not draw this story",
    "The content filter stopped one of the panels",
    "The drawing worker ran out of memory",
)
"""The reasons that failed generations give."""
_LARGEST_UPLOAD: Final = 10 * 1024 * 1024
"""Bytes of the largest file that is taken (seen in other people's code)."""
_ANIMATION_SIZE: Final = (512, 288)
"""The width and height of an animation in pixels: small, because it is only a placeholder."""


class Endpoints:
    """The endpoints, with all generations and the counts that make ids.

    Args:
        seed: The seed of everything random.
        dialect: The source of the status words.
        durations: The distribution of how long generations take.
        failure_rate: The share of generations that end as failed.
        epoch: The unix time of the clock's origin.
        public_url: The first part of the pictures' URLs, without a slash at its end.
    """

    def __init__(
        self,
        *,
        seed: int,
        dialect: Dialect,
        durations: Durations,
        failure_rate: float,
        epoch: float,
        public_url: str,
    ) -> None:
        self.epoch = epoch
        self.public_url = public_url
        self.started: Callable[[SandboxGeneration], None] | None = None
        """Told of each stretch of work that begins."""
        self.generations: Final[dict[str, SandboxGeneration]] = {}
        self._seed: Final = seed
        self._dialect: Final[Dialect] = dialect
        self._durations: Final = durations
        self._failure_rate: Final = failure_rate
        self._counts: Final[Counter[str]] = Counter()
        endpoints: Mapping[Operation, Endpoint] = {
            "createComic": self._create,
            "getComic": self._status,
            "changeComic": self._change,
            "getUsage": self._usage,
            "uploadFile": self._upload,
            "createAnimation": self._animate,
            "getAnimation": self._status,
        }
        routes: defaultdict[str, dict[str, tuple[RequestKind, Endpoint]]] = defaultdict(dict)
        for route in ROUTES:
            path = f"{PREFIX}{route.path.removesuffix('{id}')}"
            routes[path][route.method] = (route.kind, endpoints[route.operation])
        self._routes: Final = dict(routes)

    def route(self, call: Call) -> tuple[RequestKind, Endpoint, str]:
        """Return the kind of a request, the endpoint that answers it, and the id in its path.

        Raises:
            HTTPError: There is nothing at that path (404), or not with that method (405).
        """
        collection, _, id_ = call.path.partition("/generations/")
        by_method = self._routes.get(f"{collection}/generations/" if id_ else call.path)
        if by_method is None or "/" in id_ or call.path.endswith("/"):
            raise HTTPError(404, "not_found", f"There is nothing at {call.path}")
        route = by_method.get(call.method)
        if route is None:
            allowed = ", ".join(by_method)
            raise HTTPError(405, "method_not_allowed", f"Allowed: {allowed}", {"Allow": allowed})
        kind, endpoint = route
        if kind is RequestKind.CONTINUE and _is_redraw(call):
            kind = RequestKind.UPDATE
        return kind, endpoint, id_

    def duration_of(self, n: int) -> float:
        """Return the seconds that the n-th accepted create of a comic takes, from 0."""
        return self._run(f"comic/{n}", 0.0).duration

    def finished(self, id_: str, now: float) -> SandboxGeneration | None:
        """Return the generation of that id if it has succeeded by `now`."""
        generation = self.generations.get(id_)
        if generation is None or now < generation.run.ready_at or generation.run.failure:
            return None
        return generation

    def pictured(self, id_: str, now: float) -> SandboxGeneration | None:
        """Return the generation of that id if it has shown pictures by `now`."""
        generation = self.generations.get(id_)
        if generation is not None and generation.shows_early:
            return generation
        return self.finished(id_, now)

    def _create(self, account: Account, call: Call, _id: str, now: float) -> dict[str, Any]:
        payload = call.json_object()
        checks.check(payload, CREATE)
        prompt = payload.get("prompt") or f"The story at {payload['promptUrl']}"
        size = checks.picture_size(payload)
        pages = panels_on_pages(payload)
        style = payload.get("style")
        generation = self._accept(
            account,
            ("comic", "cmc"),
            now,
            price=PANEL_PRICE * sum(pages),
            prompt=prompt,
            size=size,
            style=style if isinstance(style, str) else None,
        )
        generation.add_pages(pages, self._captions(generation.stream, prompt, sum(pages)))
        return self.body(generation, now)

    def _animate(self, account: Account, call: Call, _id: str, now: float) -> dict[str, Any]:
        payload = call.json_object()
        checks.check(payload, ANIMATION)
        generation = self._accept(
            account,
            ("animation", "art"),
            now,
            price=ANIMATION_PRICE,
            prompt=payload["prompt"],
            size=_ANIMATION_SIZE,
            options=payload.get("videoOptions"),
        )
        return self.body(generation, now)

    def _status(self, account: Account, call: Call, id_: str, now: float) -> dict[str, Any]:
        generation = self._owned(account, id_, is_animation="/artworks/" in call.path)
        before, stale = generation.before, call.hits.get("stale")
        if before and stale and now < generation.run.started_at + stale.number:
            generation = before
        page, panel = (checks.query_index(call.query, name) for name in ("page", "panel"))
        try:
            return self.body(generation, now, page, panel, hits=call.hits)
        except IndexError:
            raise HTTPError(404, "not_found", "There is no such page or panel") from None

    def _change(self, account: Account, call: Call, id_: str, now: float) -> dict[str, Any]:
        generation = self._owned(account, id_, is_animation=False)
        payload = call.json_object()
        schema = checks.change_schema(payload)
        checks.check(payload, schema)
        if self.finished(id_, now) is None:
            raise HTTPError(400, "not_finished", "Only a finished comic can be changed")
        stream = f"{generation.stream}/{generation.changes + 1}"
        if schema is CONTINUE:
            prompt = payload["prompt"]
            pages = panels_on_pages(payload)
            self._charge(account, PANEL_PRICE * sum(pages))
            generation.remember()
            generation.prompt = f"{generation.prompt}\n{prompt}"
            generation.add_pages(pages, self._captions(stream, prompt, sum(pages)))
        else:
            page, panel, caption = checks.panel_choice(payload)
            if page >= len(generation.pages) or panel >= len(generation.pages[page]):
                raise HTTPError(400, "invalid_request", "There is no such page or panel")
            self._charge(account, PANEL_PRICE)
            generation.remember()
            generation.redraw(page, panel, caption)
        generation.restart(self._run(stream, now))
        if self.started is not None:
            self.started(generation)
        return self.body(generation, now)

    def _usage(self, account: Account, _call: Call, _id: str, now: float) -> dict[str, Any]:
        daily = next((limit.limit for limit in account.plan.limits if limit.per == DAY), None)
        return {
            "apiUsageCount": account.used_today(now),
            "apiMaxUsage": daily,
            "credits": account.credits,
            "isPaidPlan": account.is_paid,
        }

    def _upload(self, _account: Account, call: Call, _id: str, _now: float) -> dict[str, Any]:
        file = call.uploaded_file()
        if file.size > _LARGEST_UPLOAD:
            raise HTTPError(413, "file_too_large", "A file may have at most 10 MB")
        code = generation_id("upl", f"{self._seed}/{self._counts['upload']}")
        self._counts["upload"] += 1
        return {
            "fileUrl": f"{self.public_url}/_sandbox/uploads/{code}",
            "code": code,
            "fileName": file.name,
            "contentType": file.content_type,
            "size": file.size,
        }

    def _accept(
        self, account: Account, name: tuple[str, str], now: float, *, price: int, **fields: Any
    ) -> SandboxGeneration:
        """Bill and start a new generation; `name` is what it is and the prefix of its id."""
        what, prefix = name
        self._charge(account, price)
        stream = f"{what}/{self._counts[what]}"
        self._counts[what] += 1
        account.creates_accepted += 1
        generation = SandboxGeneration(
            id=generation_id(prefix, f"{self._seed}/{stream}"),
            key=account.label,
            accepted_at=now,
            run=self._run(stream, now),
            stream=stream,
            watermarked=not account.is_paid,
            **fields,
        )
        self.generations[generation.id] = generation
        if self.started is not None:
            self.started(generation)
        return generation

    def _owned(self, account: Account, id_: str, *, is_animation: bool) -> SandboxGeneration:
        generation = self.generations.get(id_)
        if (
            generation is None
            or generation.key != account.label
            or generation.is_animation != is_animation
        ):
            raise HTTPError(404, "not_found", f"There is no generation {id_}")
        return generation

    def body(
        self,
        generation: SandboxGeneration,
        now: float,
        page: int | None = None,
        panel: int | None = None,
        *,
        hits: Hits = NO_HITS,
    ) -> dict[str, Any]:
        """Return the JSON in which a status check shows a generation."""
        expired = hits.get("expired-links")
        generation.shows_early |= "early-pictures" in hits
        return generation.body(
            now,
            dialect=self._dialect,
            epoch=self.epoch,
            public_url=self.public_url,
            page=page,
            panel=panel,
            links_expire=None if expired is None else self.epoch + now + expired.number,
            shows_empty="empty-asset-url" in hits,
            shows_drawn="early-pictures" in hits,
        )

    def _charge(self, account: Account, price: int) -> None:
        if not account.can_pay(price):
            raise HTTPError(402, *ERRORS[402])
        account.pay(price)

    def _run(self, stream: str, now: float) -> Run:
        rng = self._random(stream)
        duration = self._durations.draw(rng)
        fails = rng.random() < self._failure_rate
        return Run(now, duration, failure=rng.choice(_FAILURES) if fails else None)

    def _captions(self, stream: str, prompt: str, count: int) -> tuple[str, ...]:
        return captions(prompt, count, self._random(f"{stream}/captions"))

    def _random(self, stream: str) -> Random:
        return Random(f"{self._seed}/{stream}")


def _is_redraw(call: Call) -> bool:
    """Whether a change is a redraw; what can't be read is told apart nowhere."""
    try:
        return call.json_object().get("action") == "regeneratePanel"
    except HTTPError:
        return False
