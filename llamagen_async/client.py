"""`LlamaGenClient`: wires the rooms and owns their life."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, NoReturn, Self

import attrs

from llamagen_async.errors import QuotaStoreError
from llamagen_async.plans import Plan, PlanName, RequestKind
from llamagen_async.validation import HiddenText

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    import aiohttp

    from llamagen_async.animations import Animations
    from llamagen_async.batch.journal.codec import AccountId
    from llamagen_async.comics import Comics
    from llamagen_async.core import ClientCore
    from llamagen_async.ratelimit import LimitsSnapshot, OnStoreFailure
    from llamagen_async.scheduling import Outage, RequestReport
    from llamagen_async.scheduling.outlook import Pace
    from llamagen_async.telemetry import Telemetry
    from llamagen_async.tenants import Tenants
    from llamagen_async.transport import AssetSource, AssetStream, Transport
    from llamagen_async.webhooks import WebhookEvent

__all__ = ["ClientStats", "LlamaGenClient"]

_GRACE: Final = 1.0
"""Real seconds that creates on their way are given when the client closes."""


@attrs.frozen
class ClientStats:
    """Counts of what one client has sent so far."""

    requests: dict[str, int] = attrs.field(hash=False)
    """Requests by kind, repeated ones included."""
    refused: int
    """How many were answered with 429."""
    retries: int
    """How many were sent again, after a refusal or a failure."""
    finished: int
    """Generations that were seen to end."""

    @property
    def total(self) -> int:
        """Requests of all kinds."""
        return sum(self.requests.values())

    @property
    def requests_per_finished(self) -> float | None:
        """Requests per generation that ended; `None` before the first one."""
        return self.total / self.finished if self.finished else None


class _Assets:
    """The pictures of a client, which are opened in its event loop.

    Nothing happens before one is: a mock of the client, or a debugger, looks at all properties.
    """

    def __init__(self, core: ClientCore) -> None:
        self._core = core

    def open_asset(
        self, url: str, *, headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[AssetStream]:
        return self._core.open().assets.open_asset(url, headers=headers)

    async def aclose(self) -> None:
        """Do nothing: they are closed with the client."""


class LlamaGenClient:
    """An async client of the LlamaGen Comic API.

    Use it as `async with LlamaGenClient() as client`, or call `aclose` when done. It binds to
    the event loop in which it is used first and refuses any other.

    Args:
        api_key: The key; `$LLAMAGEN_API_KEY` if not given. White space and quotes around it are
            taken off, and it appears in no repr, log or error.
        plan: `Plan.DEMO`, `Plan.PAID`, `"demo"`, `"paid"`, a plan of your own, or `"auto"`: ask the
            server once, and take over what it says was used. `$LLAMAGEN_PLAN` or demo if not given.
        metered: The kinds of request that count against the limits, if they are not the plan's, as
            a set of kinds or as text such as `"create,continue,update"`; `$LLAMAGEN_METERED` if
            not given and the plan is none of your own. `llamagen-async doctor --measure` finds out.
        base_url: Where the API is, with or without `/v1`; `$LLAMAGEN_API_URL`,
            `$LLAMAGEN_BASE_URL` or the vendor's if not given. Plain http only to loopback.
        quota: Where spent requests are remembered: `None` is `$LLAMAGEN_QUOTA`, or a file in this
            user's state folder, which all processes of this user on this machine share, and the
            next run; `"sqlite:///path"` another file, `"redis://host:6379/0"` any number of hosts,
            `"memory"` this process only. A client with a `transport` of its own, or in virtual
            time, uses memory unless a store is named.
        on_store_failure: What to do while that store is away: `"local"` goes on within a share of
            the limits, `"raise"` raises `QuotaStoreError` instead of sending.
        polling: Seconds between two checks of the same generation, at least; 1 if not given. When
            to check is learned from how long generations take; this only bounds it.
        webhooks: Whether you hand the API's webhook events to `deliver`. Then a comic is checked
            only when its announcement is overdue: an event that is lost at most doubles the wait.
        timeout: Seconds that one request may take, at most 600.
        max_retries: How often a request that failed is repeated, where repeating is safe and nobody
            said how long to wait. A wait, a batch and a queue hold out any number of failures.
        session: An aiohttp session of yours to use, with its connector, proxy, cookies and
            middlewares; it is not closed. What it sends elsewhere is not touched.
        proxy: The URL of a proxy, `""` for none. If not given, `$HTTPS_PROXY`, `$HTTP_PROXY` and
            `$NO_PROXY` say which, or your session if there is one.
        speed: How many times faster than real time the server's clock runs: the sandbox's speed,
            and 1 for the real API; `$LLAMAGEN_SPEED` or 1 if not given. Scales windows and
            polling alike.
        on_request: Called after each request with what became of it, for metrics. Keep it short.
        telemetry: Whether there are OpenTelemetry spans and metrics (extra `otel`), or where they
            go. If not given, there are if your program has set a global provider before.
        transport: Carries the requests instead of aiohttp, for tests and simulations.
        assets: Opens the pictures instead of aiohttp, for tests and simulations.

    Raises:
        InvalidRequestError: An argument is not allowed, or there is no key.
    """

    def __init__(  # noqa: PLR0913  # each is a setting of its own, and nearly all have defaults
        self,
        api_key: str | None = None,
        *,
        plan: Plan | PlanName | None = None,
        metered: Iterable[RequestKind | str] | None = None,
        base_url: str | None = None,
        quota: str | None = None,
        on_store_failure: OnStoreFailure = "local",
        polling: float | None = None,
        webhooks: bool = False,
        timeout: float = 30.0,
        max_retries: int = 4,
        session: aiohttp.ClientSession | None = None,
        proxy: str | None = None,
        speed: float | None = None,
        on_request: Callable[[RequestReport], None] | None = None,
        telemetry: Telemetry | bool | None = None,
        transport: Transport | None = None,
        assets: AssetSource | None = None,
    ) -> None:
        api_key = HiddenText.of(api_key)  # a report of an error may show the variables of frames
        # What a client needs is loaded with the first one: who imports the package to catch its
        # errors or to read its models waits less, and no event loop is held up later.
        from llamagen_async.settings import checked_settings  # noqa: PLC0415
        from llamagen_async.telemetry import cores_of, telemetry_of  # noqa: PLC0415

        settings = checked_settings(
            api_key,
            plan=plan,
            metered=metered,
            base_url=base_url,
            quota=quota,
            on_store_failure=on_store_failure,
            polling=polling,
            webhooks=webhooks,
            timeout=timeout,
            max_retries=max_retries,
            session=session,
            proxy=proxy,
            speed=speed,
            on_request=on_request,
            transport=transport,
            assets=assets,
        )
        core, tenants = cores_of(settings, telemetry_of(telemetry))
        self._take(core, tenants)

    def _take(self, core: ClientCore, tenants: Tenants) -> None:
        from llamagen_async.animations import Animations  # noqa: PLC0415  # see `__init__`
        from llamagen_async.comics import Comics  # noqa: PLC0415

        self._core, self._tenants = core, tenants
        self.animations: Animations = Animations(core)
        self.comics: Comics = Comics(core, self.animations)

    def __repr__(self) -> str:
        if not hasattr(self, "_core"):
            return "LlamaGenClient()"  # its arguments are being checked
        settings = self._core.settings
        return f"LlamaGenClient(plan={settings.plan.name!r}, base_url={settings.base_url!r})"

    def __copy__(self) -> Self:
        return self  # settings that hold a client are copied, and mean the same one

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a client can't be pickled, because it belongs to one process: make one in each "
            "(clients of the same key share their limits)"
        )

    @property
    def animation(self) -> Animations:
        """The resource `animations`, as the vendor's client names it."""
        return self.animations

    @property
    def comic(self) -> Comics:
        """The resource `comics`, as the vendor's client names it."""
        return self.comics

    @property
    def plan(self) -> Plan:
        """The plan whose limits are kept; with `"auto"`, demo until the server has been asked."""
        return self._core.plan

    @property
    def outage(self) -> Outage | None:
        """The outage of the server that is going on; `None` if there is none.

        All requests of the key in this event loop find it out together.
        """
        return self._core.outage

    @property
    def speed(self) -> float:
        """How many times faster than real time the server's clock runs."""
        return self._core.settings.clock.speed

    @property
    def account(self) -> AccountId:
        """The key and the server, named without telling the key: what a journal is bound to."""
        return self._core.account

    @property
    def assets(self) -> AssetSource:
        """Opens pictures with the client's own connections, which reach nothing inside a network.

        To open one raises a `ClientClosedError` if the client is closed, or belongs to another
        event loop.
        """
        return _Assets(self._core)

    def with_key(self, api_key: str, *, plan: Plan | PlanName | None = None) -> LlamaGenClient:
        """Return a client of another key, such as a customer's, over the session of this one.

        It has limits of its own, which all clients of the same key share, so that nothing that
        happens to it touches another key. It costs nothing that has to be closed: make one for each
        request if you like. `async with` does not close it, since others may use the same key;
        `aclose` ends what this key waits for, and closing this client ends all.

        Args:
            api_key: The key.
            plan: The plan of that key, as for `LlamaGenClient`; that of this client if not given.

        Raises:
            InvalidRequestError: The key or the plan is not allowed, or the key is used at this
                moment with another plan.
            ClientClosedError: This client is closed.
        """
        api_key = HiddenText.of(api_key) or ""  # see `__init__`
        client = object.__new__(LlamaGenClient)
        client._take(self._tenants.core_of(api_key, plan), self._tenants)
        return client

    async def __aenter__(self) -> Self:
        """Open the client in the running event loop."""
        self._core.open()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Close the client, unless it was made by `with_key`."""
        if self._core is self._tenants.lender:
            from llamagen_async.waiting import finished  # noqa: PLC0415  # see `__init__`

            await finished(self.aclose())

    async def aclose(self) -> None:
        """Send nothing more, let creates on their way return for a moment, and close.

        What still waits gets a `ClientClosedError`. Closing twice is fine, and if this was cut
        short, closing again releases the rest. The clients that `with_key` has made are closed,
        too; closing one of those ends what its key waits for, and closes no session.

        Raises:
            ClientClosedError: The client belongs to another event loop, which runs.
        """
        self._core.at_home()
        if self._core is self._tenants.lender:
            self._core.is_closed = True
            await self._tenants.aclose(_GRACE)
        await self._core.aclose(_GRACE)

    def deliver(self, event: WebhookEvent) -> bool:
        """Hand a webhook event to whoever waits for its generation, who then needs no check.

        An event that says that a comic is done, but not where all its pictures are, has it checked
        once, with the next free slot. One that comes before anybody waits is kept for those who
        will. Events that come twice, late or in another order, or are about something else, do no
        harm.

        Args:
            event: The event, from `webhooks.construct_event`.

        Returns:
            Whether anybody waits for that generation in this client.

        Raises:
            InvalidRequestError: It is no verified event, or an event of a generation without an id.
            ClientClosedError: The client is closed, or belongs to another event loop.
        """
        from llamagen_async.webhooks import announcement_of  # noqa: PLC0415

        announcement = announcement_of(event)
        rooms = self._core.open()
        return announcement is not None and rooms.scheduler.announce(announcement)

    async def limits(self) -> LimitsSnapshot:
        """Return what the key may still send: used, free, next free slot, pause."""
        return await self._core.limits()

    async def pace(self) -> Pace | None:
        """Return how fast the key's comics go, to tell when one that waits will be done.

        No request is spent on it. It is `None` while nobody can know: before the plan is known,
        during an outage of the server, and while the store of spent requests is away.
        """
        from llamagen_async.scheduling.outlook import Pace, requests_each  # noqa: PLC0415

        forecasts = self._core.open().scheduler.forecasts
        is_known = self._core.is_ready or not self._core.settings.detect_plan
        if self.outage or not is_known:
            return None
        try:
            limits = await self._core.limits()
        except QuotaStoreError:
            return None
        typical = forecasts.overall.forecast.age_when(0.5)
        return Pace(limits, typical, requests_each(self.plan, self.stats()))

    def stats(self) -> ClientStats:
        """Return what this client has sent: requests by kind, 429s, retries, per finished comic."""
        sent, finished = self._core.counted()
        return ClientStats(
            requests={kind.value: number for kind, number in sent.sent.items() if number},
            refused=sent.refused,
            retries=sent.retries,
            finished=finished,
        )
