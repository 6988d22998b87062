"""What the API does once a request is past its limits: generations, usage, uploads.

One method per endpoint: a call in, the JSON of its answer out, or a `Refusal`. It counts no
requests and knows no faults; the service around it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

from llamagen_async.plans import DAY, RequestKind
from llamagen_async.sandbox import request_checks as checks
from llamagen_async.sandbox.accounts import Account
from llamagen_async.sandbox.generations import Generation, Run, generation_id, panels_on_pages
from llamagen_async.sandbox.settings import Dialect, Durations
from llamagen_async.sandbox.story import captions
from llamagen_async.sandbox.wire import Call, Refusal

__all__ = ["Endpoint", "Endpoints"]

Endpoint = Callable[[Account, Call, str, float], dict[str, Any]]
"""Answers a call of an account about an id (may be empty) at a time."""

_FAILURES: Final = (
    "The model could not draw this story",
    "The content filter stopped one of the panels",
    "The drawing worker ran out of memory",
)


class Endpoints:
    """Everything that was generated and uploaded.

    Args:
        seed: Decides everything random.
        dialect: Whose status words are spoken.
        durations: How long generations take.
        failure_rate: The share of generations that end as failed.
        credits_as_429: Whether missing credits answer 429 instead of 402.
        epoch: The unix time of the clock's origin.
        public_url: What the URLs of pictures begin with.
    """

    def __init__(
        self,
        *,
        seed: int,
        dialect: Dialect,
        durations: Durations,
        failure_rate: float,
        credits_as_429: bool,
        epoch: float,
        public_url: str,
    ) -> None:
        self.seed: Final = seed
        self.dialect: Final[Dialect] = dialect
        self.durations: Final = durations
        self.epoch = epoch
        self.public_url = public_url
        self.generations: Final[dict[str, Generation]] = {}
        self._failure_rate: Final = failure_rate
        self._credits_as_429: Final = credits_as_429
        self._comics = 0
        self._animations = 0
        self._uploads = 0
        generations, animations = "/v1/comics/generations", "/v1/artworks/generations"
        self._routes: Final[Mapping[str, Mapping[str, tuple[RequestKind, Endpoint]]]] = {
            generations: {"POST": (RequestKind.CREATE, self._create)},
            f"{generations}/": {
                "GET": (RequestKind.STATUS, self._status),
                "PATCH": (RequestKind.CONTINUE, self._change),
            },
            animations: {"POST": (RequestKind.CREATE, self._animate)},
            f"{animations}/": {"GET": (RequestKind.STATUS, self._status)},
            "/v1/comics/usage": {"GET": (RequestKind.USAGE, self._usage)},
            "/v1/comics/upload": {"POST": (RequestKind.UPLOAD, self._upload)},
        }

    def route(self, call: Call) -> tuple[RequestKind, Endpoint, str]:
        """Return the kind of request, what answers it, and the id in its path.

        Raises:
            Refusal: There is nothing at that path (404), or not with that method (405).
        """
        collection, _, target = call.path.partition("/generations/")
        by_method = self._routes.get(f"{collection}/generations/" if target else call.path)
        if by_method is None or "/" in target or call.path.endswith("/"):
            raise Refusal(404, "not_found", f"There is nothing at {call.path}")
        route = by_method.get(call.method)
        if route is None:
            allowed = ", ".join(by_method)
            raise Refusal(405, "method_not_allowed", f"Allowed: {allowed}", {"Allow": allowed})
        kind, endpoint = route
        if kind is RequestKind.CONTINUE and b'"regeneratePanel"' in call.body:
            kind = RequestKind.UPDATE
        return kind, endpoint, target

    def duration_of(self, n: int) -> float:
        """Return the seconds that the n-th accepted create of a comic takes, from 0."""
        return self._run(f"comic/{n}", 0.0).duration

    def finished(self, target: str, now: float) -> Generation | None:
        """Return the generation of that id if it has succeeded by `now`."""
        generation = self.generations.get(target)
        if generation is None or now < generation.run.ready_at or generation.run.failure:
            return None
        return generation

    def _create(self, account: Account, call: Call, _target: str, now: float) -> dict[str, Any]:
        payload = call.json_object()
        story = checks.check_create(payload)
        size = checks.picture_size(payload)
        pages = panels_on_pages(payload)
        self._charge(account, sum(pages))
        name = f"comic/{self._comics}"
        generation = Generation(
            id=generation_id("cmc", f"{self.seed}/{name}"),
            key=account.label,
            story=story,
            accepted_at=now,
            run=self._run(name, now),
            stream=name,
            size=size,
            style=payload["style"] if isinstance(payload.get("style"), str) else None,
            watermarked=not account.is_paid,
        )
        self._comics += 1
        account.creates_accepted += 1
        generation.add_pages(pages, captions(story, sum(pages), self._random(f"{name}/captions")))
        self.generations[generation.id] = generation
        return self._body(generation, now)

    def _animate(self, account: Account, call: Call, _target: str, now: float) -> dict[str, Any]:
        payload = call.json_object()
        story = checks.check_animation(payload)
        self._charge(account, 1)
        name = f"animation/{self._animations}"
        generation = Generation(
            id=generation_id("art", f"{self.seed}/{name}"),
            key=account.label,
            story=story,
            accepted_at=now,
            run=self._run(name, now),
            stream=name,
            size=(512, 288),
            watermarked=not account.is_paid,
            options=payload.get("videoOptions"),
        )
        self._animations += 1
        account.creates_accepted += 1
        self.generations[generation.id] = generation
        return self._body(generation, now)

    def _status(self, account: Account, call: Call, target: str, now: float) -> dict[str, Any]:
        generation = self._owned(account, target, is_animation="/artworks/" in call.path)
        picks = {name: checks.query_index(call.query, name) for name in ("page", "panel")}
        try:
            return self._body(generation, now, **picks)
        except IndexError:
            raise Refusal(404, "not_found", "There is no such page or panel") from None

    def _change(self, account: Account, call: Call, target: str, now: float) -> dict[str, Any]:
        generation = self._owned(account, target, is_animation=False)
        payload = call.json_object()
        action = checks.change_action(payload)
        if self.finished(target, now) is None:
            raise Refusal(400, "not_finished", "Only a finished comic can be changed")
        name = f"{generation.stream}/{generation.changes + 1}"
        if action == "continueWrite":
            story = checks.check_continue(payload)
            pages = panels_on_pages(payload)
            self._charge(account, sum(pages))
            generation.story = f"{generation.story}\n{story}"
            generation.add_pages(
                pages, captions(story, sum(pages), self._random(f"{name}/captions"))
            )
        else:
            page, panel, caption = checks.panel_choice(payload)
            if page >= len(generation.pages) or panel >= len(generation.pages[page]):
                raise Refusal(400, "invalid_request", "There is no such page or panel")
            self._charge(account, 1)
            generation.redraw(page, panel, caption)
        generation.restart(self._run(name, now))
        return self._body(generation, now)

    def _usage(self, account: Account, _call: Call, _target: str, now: float) -> dict[str, Any]:
        daily = next((limit.limit for limit in account.plan.limits if limit.per == DAY), None)
        return {
            "apiUsageCount": account.used_today(now),
            "apiMaxUsage": daily,
            "credits": account.credits,
            "isPaidPlan": account.is_paid,
        }

    def _upload(self, _account: Account, call: Call, _target: str, _now: float) -> dict[str, Any]:
        file = call.uploaded_file()
        code = generation_id("upl", f"{self.seed}/{self._uploads}")
        self._uploads += 1
        return {
            "fileUrl": f"{self.public_url}/_sandbox/uploads/{code}",
            "code": code,
            "fileName": file.name,
            "contentType": file.content_type,
            "size": file.size,
        }

    def _owned(self, account: Account, target: str, *, is_animation: bool) -> Generation:
        generation = self.generations.get(target)
        if (
            generation is None
            or generation.key != account.label
            or generation.is_animation != is_animation
        ):
            raise Refusal(404, "not_found", f"There is no generation {target}")
        return generation

    def _body(
        self, generation: Generation, now: float, page: int | None = None, panel: int | None = None
    ) -> dict[str, Any]:
        return generation.body(
            now,
            dialect=self.dialect,
            epoch=self.epoch,
            public_url=self.public_url,
            page=page,
            panel=panel,
        )

    def _charge(self, account: Account, price: int) -> None:
        if account.can_pay(price):
            account.pay(price)
            return
        status = 429 if self._credits_as_429 else 402
        raise Refusal(status, "insufficient_credits", "Insufficient credits: buy more to go on")

    def _run(self, name: str, now: float) -> Run:
        rng = self._random(name)
        duration = self.durations.draw(rng)
        fails = rng.random() < self._failure_rate
        return Run(now, duration, failure=rng.choice(_FAILURES) if fails else None)

    def _random(self, name: str) -> Random:
        return Random(f"{self.seed}/{name}")
