"""Where requests go: which base URLs are allowed, and which proxy is on the way."""

from __future__ import annotations

from typing import Any

import pytest
from yarl import URL

from llamagen_async.errors import InvalidRequestError
from llamagen_async.transport import check_proxy, is_vendors, normalize_base_url, proxy_for

# The API's URL.


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://api.llamagen.ai", "https://api.llamagen.ai/v1"),
        ("https://api.llamagen.ai/", "https://api.llamagen.ai/v1"),
        ("https://api.llamagen.ai/v1", "https://api.llamagen.ai/v1"),
        (" HTTPS://API.llamagen.ai/v1/// ", "https://api.llamagen.ai/v1"),
        ("https://gateway.example:8443/llamagen", "https://gateway.example:8443/llamagen/v1"),
        ("http://localhost:8080", "http://localhost:8080/v1"),
        ("http://127.0.0.1/v1", "http://127.0.0.1/v1"),
        ("http://127.1.2.3:80", "http://127.1.2.3/v1"),
        ("http://[::1]:8080/", "http://[::1]:8080/v1"),
        ("https://192.0.2.1", "https://192.0.2.1/v1"),
        ("https://api.llamagen.ai./", "https://api.llamagen.ai/v1"),
        ("https://api.llamagen.ai//v1", "https://api.llamagen.ai/v1"),
        ("https://gateway///comics//api//v1//", "https://gateway/comics/api/v1"),
        ("https://my_gateway.internal", "https://my_gateway.internal/v1"),
        ("https://gateway", "https://gateway/v1"),
        ("https://bücher.example", "https://xn--bcher-kva.example/v1"),
        (f"https://{'a' * 63}.example", f"https://{'a' * 63}.example/v1"),
    ],
)
def test_a_base_url_is_brought_to_one_form(text: str, url: str) -> None:
    assert normalize_base_url(text) == url
    assert normalize_base_url(url) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "api.llamagen.ai",
        "ftp://api.llamagen.ai",
        "http://api.llamagen.ai",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://127.1",
        "http://0.0.0.0",
        "http://[::2]",
        "https://",
        "https:///v1",
        "https://api.llamagen.ai:port",
        "https://api.llamagen.ai:99999",
        "https://api .llamagen.ai",
        "https://api.llama\ngen.ai",
        "https://api.llamagen.ai\\@evil.example",
        "https://user:secret@api.llamagen.ai",
        "http://localhost@evil.example",
        "secret@api.llamagen.ai",
        "https://api.llamagen.ai?key=secret",
        "https://api.llamagen.ai#secret",
        "https://[::1",
        "https://api..llamagen.ai",
        "https://.llamagen.ai",
        "https://api.llamagen.ai..",
        "https://api%2ellamagen.ai",
        "https://-api.llamagen.ai",
        f"https://{'a' * 64}.llamagen.ai",
        f"https://{'a.' * 127}llamagen.ai",
        "https://999.1.1.1",
        "https://0x7f000001",
        "https://api.llamagen.ai:0",
        "https://*.llamagen.ai",
        None,
        b"https://api.llamagen.ai",
    ],
)
def test_a_base_url_that_the_key_may_not_go_to_is_refused(text: Any) -> None:
    with pytest.raises(InvalidRequestError, match="base_url") as caught:
        normalize_base_url(text)
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "vendors"),
    [
        ("https://api.llamagen.ai/v1", True),
        ("https://llamagen.ai/v1", True),
        ("https://API.LLAMAGEN.AI./v1", True),
        ("https://notllamagen.ai/v1", False),
        ("https://llamagen.ai.example/v1", False),
        ("http://127.0.0.1:8080/v1", False),
    ],
)
def test_the_vendors_own_servers_are_known(url: str, vendors: bool) -> None:
    assert is_vendors(url) is vendors


# The proxy on the way.

PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
@pytest.mark.parametrize("value", [PROXY, "proxy.example:3128"])
def test_a_proxy_is_taken_from_the_environment(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert proxy_for(URL("https://api.example/v1")) == URL(PROXY)
    assert proxy_for(URL("http://api.example/v1")) is None


@pytest.mark.parametrize(
    ("excepted", "expected"),
    [
        ("api.example", None),
        (".example", None),
        ("example", None),
        ("api.example:8443", None),
        ("*", None),
        ("other.example, api.example", None),
        ("other.example", URL(PROXY)),
    ],
)
def test_hosts_without_a_proxy_are_taken_from_the_environment(
    excepted: str, expected: URL | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", excepted)
    assert proxy_for(URL("https://api.example:8443/v1")) == expected


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:8080"])
def test_a_loopback_host_is_asked_directly(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    assert proxy_for(URL(f"http://{host}/v1")) is None
    assert proxy_for(URL(f"https://{host}/v1")) is None


def test_a_given_proxy_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "*")
    url = URL("https://api.example/v1")
    assert proxy_for(url, "http://other.example") == URL("http://other.example")
    monkeypatch.delenv("NO_PROXY")
    assert proxy_for(url, "") is None


@pytest.mark.parametrize(
    ("given", "checked"),
    [
        (None, None),
        ("", ""),
        (" http://proxy.example:3128 ", PROXY),
        ("https://joe:secret@proxy.example", "https://joe:secret@proxy.example"),
        ("http://192.0.2.1:80", "http://192.0.2.1"),
    ],
)
def test_a_proxy_is_taken_as_it_was_given(given: Any, checked: str | None) -> None:
    assert check_proxy(given) == checked


@pytest.mark.parametrize(
    "given",
    [
        "socks5://joe:secret@proxy.example",
        "proxy.example",
        "http://",
        "http://proxy..example",
        "http://proxy.example:99999",
        7,
        ["http://proxy.example"],
    ],
)
def test_what_is_no_proxy_is_refused_without_its_password(given: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^proxy: got") as caught:
        check_proxy(given)
    assert "secret" not in str(caught.value)


def test_an_environment_that_names_no_proxy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://joe:secret@proxy.example")
    with pytest.raises(InvalidRequestError, match=r"^HTTPS_PROXY: .*session=") as caught:
        proxy_for(URL("https://api.example/v1"))
    assert "secret" not in str(caught.value)
