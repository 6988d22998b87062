"""Whether a client has telemetry.

OpenTelemetry's API does nothing until a program has set a provider, and a provider that is set is
the wish to see what happens. So a client has telemetry if there is one when the client is made.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from llamagen_async.telemetry.telemetry import Telemetry
from llamagen_async.validation import check_flags

if TYPE_CHECKING:
    from llamagen_async.core import ClientCore
    from llamagen_async.settings import ClientSettings
    from llamagen_async.tenants import TenantCore, Tenants

__all__ = ["core_of", "telemetry_of", "tenant_maker"]

_IDLE: Final = ("opentelemetry.trace", "opentelemetry.metrics")
"""The modules of the providers that do nothing: those that come with the API."""
_of_all: list[Telemetry] = []
"""The telemetry for the global providers, once a client has it."""


def telemetry_of(given: Telemetry | bool | None) -> Telemetry | None:  # noqa: FBT001  # as users give it
    """Return the telemetry that a client has; `None` if it has none.

    Args:
        given: The telemetry, or whether there is any; `None` if that depends on whether the program
            has set a global provider.

    Raises:
        InvalidRequestError: It is something else, or OpenTelemetry's API is not installed.
    """
    if isinstance(given, Telemetry):
        return given
    if given is not None:
        check_flags(telemetry=given)
    if not (_has_provider() if given is None else given):
        return None
    if not _of_all:
        _of_all.append(Telemetry())
    return _of_all[0]


def core_of(settings: ClientSettings, telemetry: Telemetry | None) -> ClientCore:
    """Return the core of a client, observed if the client has telemetry."""
    if telemetry is None:
        from llamagen_async.core import ClientCore  # noqa: PLC0415

        return ClientCore(settings)
    from llamagen_async.telemetry.core import ObservedCore  # noqa: PLC0415

    return ObservedCore(settings, telemetry)


def tenant_maker(
    telemetry: Telemetry | None,
) -> Callable[[Tenants, bytes, ClientSettings], TenantCore]:
    """Return what makes the core of another key, observed if the client has telemetry."""
    from llamagen_async.tenants import TenantCore  # noqa: PLC0415

    if telemetry is None:
        return TenantCore
    from llamagen_async.telemetry.core import ObservedTenant  # noqa: PLC0415

    return partial(ObservedTenant, telemetry=telemetry)


def _has_provider() -> bool:
    """Whether the program has set a provider: who has imported no API has set none."""
    trace, metrics = (sys.modules.get(name) for name in _IDLE)
    found = [trace and trace.get_tracer_provider(), metrics and metrics.get_meter_provider()]
    return any(one and not type(one).__module__.startswith(_IDLE) for one in found)
