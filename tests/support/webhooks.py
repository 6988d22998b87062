"""An endpoint for webhook events as a backend has one, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llamagen_async import LlamaGenClient, WebhookSignatureError
from llamagen_async.sandbox import EventData, SandboxService, Webhook, WebhookSender
from llamagen_async.webhooks import WebhookEvent, construct_event

SECRET = "whsec_test"


class Endpoint:
    """Verifies each event and hands it to a client; keeps the statuses that it answered."""

    def __init__(self, client: LlamaGenClient | None = None) -> None:
        self.events: list[WebhookEvent] = []
        """The events that were verified, in the order of their arrival."""
        self.waited_for: list[bool] = []
        """For each of them, whether somebody waited for its generation."""
        self.arrived: list[float] = []
        """The times at which they came."""
        self.answers: list[int] = []
        """The statuses that were answered."""
        self.next_answers: list[int] = []
        """Statuses to answer next instead of handling the event."""
        self._client = client

    async def post(self, body: bytes, headers: dict[str, str]) -> int:
        """Answer one event."""
        status = self.next_answers.pop(0) if self.next_answers else self._handle(body, headers)
        self.answers.append(status)
        return status

    def _handle(self, body: bytes, headers: dict[str, str]) -> int:
        try:
            event = construct_event(body, headers, SECRET)
        except WebhookSignatureError:
            return 400
        self.events.append(event)
        self.arrived.append(asyncio.get_running_loop().time())
        if self._client is not None:
            self.waited_for.append(self._client.deliver(event))
        return 204

    @property
    def types(self) -> list[str]:
        """The last words of the types of the events."""
        return [event.type.rpartition(".")[2] for event in self.events]


@asynccontextmanager
async def sending(
    service: SandboxService, endpoint: Endpoint, data: EventData = "status"
) -> AsyncIterator[WebhookSender]:
    """Send the events of a service to an endpoint for as long as this is entered."""
    webhook = Webhook("http://backend.invalid/", SECRET, data)
    clock = asyncio.get_running_loop().time
    sender = WebhookSender(service, webhook, endpoint.post, now=clock)
    try:
        yield sender
    finally:
        await sender.aclose()
