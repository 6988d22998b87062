"""Webhook events: whether one comes from the vendor, and what it says of a generation. No I/O.

A signature covers the bytes that came. Read the raw body of the request, hand it to
`construct_event`, and the event that comes out to `LlamaGenClient.deliver`:

```python
event = construct_event(await request.read(), request.headers, secret)
client.deliver(event)
```
"""

from llamagen_async.webhooks.announcements import Announcement, announcement_of
from llamagen_async.webhooks.events import WebhookEvent, construct_event
from llamagen_async.webhooks.replays import ReplayGuard
from llamagen_async.webhooks.signatures import MAX_BODY, TOLERANCE, sign, verify_signature

__all__ = [
    "MAX_BODY",
    "TOLERANCE",
    "Announcement",
    "ReplayGuard",
    "WebhookEvent",
    "announcement_of",
    "construct_event",
    "sign",
    "verify_signature",
]
