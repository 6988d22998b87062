"""Names of hosts that no test looks up: nothing leaves this machine."""

from __future__ import annotations

import socket
from typing import Any

import pytest

__all__ = ["know_only_loopback"]


def know_only_loopback(patch: pytest.MonkeyPatch) -> None:
    """Have every name but this machine's own be unknown, without asking anybody."""
    whole = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **named: Any) -> Any:
        if host not in (None, "", "localhost", b"localhost"):
            whole(host, None, flags=socket.AI_NUMERICHOST)  # raises for every name
        return whole(host, *arguments, **named)

    patch.setattr(socket, "getaddrinfo", getaddrinfo)
