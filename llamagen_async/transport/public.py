"""Which network addresses are public, and which belong to a machine or a network itself. No I/O.

The URLs of pictures come from a server, and their redirects from anybody. None of them may make
this machine ask a service for something that only this machine or its network can reach.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

__all__ = ["Address", "is_public", "parse_host", "stands_for_a_name", "unwrapped"]

Address = IPv4Address | IPv6Address
"""An address of either family."""

_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""The addresses of IPv6 that hosts of the internet have (RFC 4291); others are special."""
_HOLDS_IPV4: Final = (
    IPv6Network("::/96"),  # IPv4-compatible (RFC 4291)
    IPv6Network("64:ff9b::/96"),  # NAT64 (RFC 6052)
    IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated (RFC 7915)
)
"""Networks whose addresses end in one of IPv4, to which packets are handed on."""
_INSIDE: Final = (
    IPv4Network("192.0.0.0/24"),  # for protocols (RFC 6890); a cloud's metadata is there, too
    IPv4Network("192.88.99.0/24"),  # relays of 6to4 (RFC 7526)
    IPv4Network("168.63.129.16"),  # serves the machines inside a cloud (Azure's documentation)
)
"""Networks that `ipaddress` takes for global, in all of its versions or in older ones."""
_STAND_INS: Final = (
    IPv4Network("198.18.0.0/15"),  # for benchmarks (RFC 2544)
    IPv6Network("fc00::/18"),  # of the half of the local addresses that nobody uses (RFC 4193)
)
"""Networks that programs for proxies and VPNs answer names with ("fake IP": Clash, Surge and others
use the first one, sing-box both)."""


def parse_host(host: str) -> Address | None:
    """Return the address that a host of a URL spells; `None` if it is a name.

    Beside the usual spellings these are the ones that a system's resolver takes for IPv4: one to
    four numbers, each decimal, octal or hexadecimal, such as `0x7f.1`.
    """
    text = host.rstrip(".").strip("[]")
    try:
        return ip_address(text)
    except ValueError:
        pass
    if not text or not text.isascii() or not text[0].isdigit():
        return None
    try:
        return IPv4Address(socket.inet_aton(text))
    except OSError:
        return None


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet, in whatever form it is wrapped."""
    return all(map(_is_public, unwrapped(address)))


def stands_for_a_name(address: Address) -> bool:
    """Whether an address may be what a program for a proxy or a VPN answers a name with.

    Such a program catches the connection, and sees to where it goes, as a proxy does; on machines
    with one every name has such an address, and no picture could be had. These networks are not
    those of a machine or a company. Nothing that says the address itself means the program.
    """
    return any(address in network for network in _STAND_INS)


def unwrapped(address: Address) -> Iterator[Address]:
    """Yield the addresses to which packets for `address` may be handed on, itself if it is none."""
    if isinstance(address, IPv4Address):
        yield address
    elif address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif any(address in network for network in _HOLDS_IPV4) and int(address) > 1:
        yield IPv4Address(int(address) & 0xFFFF_FFFF)
    elif address.sixtofour is not None:
        yield address.sixtofour
    elif address.teredo is not None:
        yield from address.teredo
    else:
        yield address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    is_inside = address.is_multicast or any(address in network for network in _INSIDE)
    return address.is_global and not is_inside
