"""Which addresses are of the internet, however they are spelled or wrapped."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.transport.public import is_public, parse_host, unwrapped

INSIDE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "52.216.0.1", "172.15.0.1", "172.32.0.1", "100.63.0.1", "223.1.1.1"]


def forms(address: str) -> list[str]:
    """Return how IPv6 wraps an address of IPv4."""
    number = int(IPv4Address(address))
    high, low = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    return [
        f"::ffff:{address}",
        f"::ffff:0:{high}:{low}",
        f"64:ff9b::{address}",
        f"2002:{high}:{low}::1",
        *([f"::{address}"] if number > 0xFFFF else []),
    ]


def spellings(address: str) -> list[str]:
    """Return how else a system's resolver takes an address of IPv4."""
    number = int(IPv4Address(address))
    a, b, c, d = address.split(".")
    return [
        f"{number}",
        f"0x{number:x}",
        f"0{number:o}",
        f"0x{int(a):x}.{b}.{c}.{d}",
        f"0{int(a):o}.0{int(b):o}.0{int(c):o}.0{int(d):o}",
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{number & 0xFFFF}",
        f"{address}.",
    ]


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_inside_is_not_public_in_any_form(address: str) -> None:
    assert not is_public(ip_address(address))
    for form in forms(address):
        assert not is_public(ip_address(form)), form
    for spelling in spellings(address):
        parsed = parse_host(spelling)
        assert parsed == IPv4Address(address), spelling


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_of_the_internet_is_public_in_any_form(address: str) -> None:
    assert is_public(ip_address(address))
    for form in forms(address):
        assert is_public(ip_address(form)), form


@pytest.mark.parametrize(
    "address",
    [
        "::",
        "::1",
        "64:ff9b:1::808:808",
        "100::1",
        "2001:db8::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "4000::1",
        "2001:0:7f00:1::",  # Teredo, whose server is this machine
    ],
)
def test_special_addresses_of_ipv6_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


def test_hosts_of_the_internet_are_public_in_ipv6() -> None:
    assert is_public(ip_address("2606:4700:4700::1111"))
    assert is_public(ip_address("2a00:1450:4001::200e"))


@pytest.mark.parametrize(
    "name", ["example.com", "localhost", "1e100.net", "1.example", "", ".", "٣.1.1.1", "0x.example"]
)
def test_a_name_is_no_address(name: str) -> None:
    assert parse_host(name) is None


@pytest.mark.parametrize("host", ["[::1]", "::1", "[::1].", "0:0:0:0:0:0:0:1"])
def test_an_address_of_ipv6_is_read(host: str) -> None:
    assert parse_host(host) == IPv6Address("::1")


@given(st.ip_addresses())
def test_nothing_special_is_public(address: IPv4Address | IPv6Address) -> None:
    if is_public(address):
        for one in unwrapped(address):
            assert one.is_global
            assert not one.is_multicast
            assert not one.is_loopback
            assert not one.is_link_local
            assert not one.is_reserved


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    parse_host(text)
