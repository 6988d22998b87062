"""Where requests go: the API's URL, and the proxy on the way to a host.

An address at which nothing can ever be reached is refused when a client is made, since a request
that can't leave is a mistake in a setting and no failure of the network. Nothing here does I/O.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from yarl import URL

from llamagen_async.errors import InvalidRequestError
from llamagen_async.foreign import clean_text

__all__ = [
    "asset_location",
    "check_proxy",
    "is_loopback",
    "is_vendors",
    "normalize_base_url",
    "proxy_for",
]

_ALLOWED_URL: Final = "https://host, or http:// on a loopback host, without user, query or fragment"
_ALLOWED_PROXY: Final = (
    "http://host:port or https://host:port of a proxy; for one of another kind pass a session= "
    "with a connector for it"
)
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
"""One part of a host's name: at most 63 characters (RFC 1035, 2.3.4). Names with `_` resolve."""
_NAME: Final = rf"(?=.{{1,253}}$)(?:{_LABEL}\.)*(?!(?:\d+|0x[0-9a-f]*)$){_LABEL}"
"""A host's name. One that ends in a number is an address, which systems read in many ways."""
_ASSET_HOST: Final = r"(?=.{1,253}$)(?:[\w:%-]{1,63}\.)*[\w:%-]{1,63}\.?"
"""A text that can be a host (RFC 1035): resolvers raise odd errors for others."""
_VENDOR: Final = "llamagen.ai"


def normalize_base_url(text: str) -> str:
    """Return the API's URL with `/v1` and without a trailing slash.

    `http://` is allowed only for loopback hosts (`localhost`, 127.0.0.0/8, `::1`), since the key
    would be readable on the way.

    Raises:
        InvalidRequestError: `text` is not a URL to which the key may be sent.
    """
    given = text.strip() if isinstance(text, str) else ""
    url = _parsed(given)
    host = url.host or ""
    if not host or not (url.scheme == "https" or (url.scheme == "http" and is_loopback(host))):
        shown = _without_secrets(given) if isinstance(text, str) else type(text).__name__
        raise InvalidRequestError("base_url", shown, _ALLOWED_URL)
    # Joining a URL that ends with a slash and a path that begins with one makes two of them.
    path = re.sub("/+", "/", url.raw_path)
    base = f"{url.scheme}://{url.host_port_subcomponent}{path}".rstrip("/")
    return base if base.endswith("/v1") else f"{base}/v1"


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine, whatever a name server says."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_vendors(base_url: str) -> bool:
    """Whether a normalized URL is at the vendor's own servers."""
    host = (URL(base_url).host or "").rstrip(".")
    return host == _VENDOR or host.endswith(f".{_VENDOR}")


def check_proxy(proxy: object) -> str | None:
    """Return the URL of a proxy as it was given; `""` is none at all, `None` the environment's.

    Raises:
        InvalidRequestError: It is no URL of a proxy.
    """
    if proxy is None or proxy == "":
        return "" if proxy == "" else None
    return str(_proxy_url("proxy", proxy))


def proxy_for(url: URL, given: str | None = None) -> URL | None:
    """Return the proxy on the way to `url`; `None` if there is none.

    Args:
        url: Where a request goes.
        given: The proxy to use, `""` for none. `None` is what the environment says: `HTTPS_PROXY`
            and `HTTP_PROXY` but for the hosts in `NO_PROXY`, in capitals or not. A loopback host
            is then asked directly, because no proxy elsewhere can reach it.

    Raises:
        InvalidRequestError: The environment names something else than a proxy.
    """
    if given is not None:
        return URL(given) if given else None
    if not url.host or is_loopback(url.host):
        return None
    # aiohttp has imported it already; it knows the settings of macOS and Windows, too.
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415

    found = getproxies().get(url.scheme)
    if not found or proxy_bypass(url.host_port_subcomponent or ""):
        return None
    name = f"{url.scheme.upper()}_PROXY"
    return _proxy_url(name, found if "://" in found else f"http://{found}")


def _proxy_url(field: str, given: object) -> URL:
    try:
        url = URL(given.strip()) if isinstance(given, str) else URL()
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not _is_host(url):
        shown = _without_secrets(given) if isinstance(given, str) else type(given).__name__
        raise InvalidRequestError(field, shown, _ALLOWED_PROXY)
    return url


def _parsed(text: str) -> URL:
    """Parse with the parser that aiohttp connects with, so that no two can disagree."""
    if not text.isprintable() or re.search(r"[\s\\@?#]", text):
        return URL()
    try:
        url = URL(text)
        return url if url.port and _is_host(url) else URL()
    except ValueError:
        return URL()


def _is_host(url: URL) -> bool:
    """Whether the host of `url` is an address, or a name that can be looked up."""
    host = url.raw_host or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return re.fullmatch(_NAME, host.removesuffix("."), re.IGNORECASE) is not None
    return True


def _without_secrets(text: str) -> str:
    """Return what was given for a URL without what may be a password in it."""
    text = re.sub(r"^(\w+://)?.*@", r"\1***@", text, flags=re.DOTALL)
    # Without a host behind it, a password stands where a port is expected.
    text = re.sub(r":(?!//|\d{1,5}(?:[/?#]|$)|[\da-f:.]*\])[^?#]*", ":***", text, flags=re.DOTALL)
    return clean_text(re.sub(r"[?#].*", "?...", text, flags=re.DOTALL), 80)


def asset_location(url: str) -> str:
    """Return the host and path of an asset's URL: they may be shown, its query may not.

    Raises:
        InvalidRequestError: The URL is not http or https, or its host can be none.
    """
    try:
        parsed = URL(url)
        location = f"{parsed.host_port_subcomponent or ''}{parsed.raw_path}"
        host = parsed.raw_host or ""
        valid = parsed.scheme in ("http", "https") and re.fullmatch(_ASSET_HOST, host, re.ASCII)
        if not valid:  # without its beginning, nobody would see what is wrong with it
            begin = f"{parsed.scheme}:" if parsed.scheme else ""
            location = f"{begin}{'//' if host else ''}{location}"
    except (ValueError, TypeError):
        location, valid = "", None
    if not valid:
        raise InvalidRequestError("url", clean_text(location, 80), "an http or https URL")
    return clean_text(location, 120)
