"""The versions of what is installed, and the extras of this package."""

from __future__ import annotations

import platform
import re
import ssl
from importlib import metadata
from typing import Final

import attrs

from llamagen_async._version import __version__

__all__ = ["Versions", "installed"]

_PACKAGE: Final = "llamagen-async"
_CORE: Final = ("aiohttp", "aiolimiter", "backoff", "attrs", "platformdirs")
_EXTRA: Final = r"^([\w.-]+).*;.*extra\s*==\s*['\"]([\w-]+)['\"]"
"""A requirement of an extra, as metadata has it: its package and the extra."""


@attrs.frozen
class Versions:
    """Versions of all that is installed."""

    package: str
    """Version of this package."""
    python: str
    """Version and kind of the interpreter."""
    tls: str
    """Name and version of the library for TLS."""
    libraries: dict[str, str] = attrs.field(hash=False)
    """Version of each package that is always needed; `""` for one that is missing."""
    extras: dict[str, bool] = attrs.field(hash=False)
    """Whether each extra is installed; empty if that can't be told."""


def installed() -> Versions:
    """Return what is installed."""
    try:
        requirements = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:  # run from its source
        requirements = []
    extras: dict[str, bool] = {}
    for requirement in requirements:
        if found := re.match(_EXTRA, requirement):
            name = found[2]
            extras[name] = extras.get(name, True) and bool(_version(found[1]))
    return Versions(
        __version__,
        f"{platform.python_implementation()} {platform.python_version()}",
        ssl.OPENSSL_VERSION,
        {name: _version(name) for name in _CORE},
        extras,
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
