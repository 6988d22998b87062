"""Telemetry: spans and metrics of a client, for whatever OpenTelemetry exports them to.

The room is put around the core: a client with telemetry has an `ObservedCore`, which knows what is
asked for, and observed edges, which know what travels. Nothing below imports this room, and a
client without telemetry has none of it. OpenTelemetry itself is imported when it is first used.
"""

from llamagen_async.telemetry.choice import core_of, telemetry_of, tenant_maker
from llamagen_async.telemetry.telemetry import Telemetry

__all__ = ["Telemetry", "core_of", "telemetry_of", "tenant_maker"]
