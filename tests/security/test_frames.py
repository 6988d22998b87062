"""Reports of errors show the variables of frames: none of them is, or shows, the API key."""

from __future__ import annotations

import json
import traceback
from typing import Any

import aiohttp
import pytest

from llamagen_async import LlamaGenClient, LlamaGenError
from llamagen_async.settings import find_key
from llamagen_async.transport import HTTPTransport
from tests.support.exchange import STATUS
from tests.support.rawserver import Received, answer, raw_server
from tests.support.spellings import errors_of, found_in, frames_of

KEY = "sk/live+CANARY-7Qz9Xw2Vb"
NO_PLAN: Any = "nope"
SAID = json.dumps({"id": "c1", "error": KEY, KEY: [f"Bearer {KEY}"]}).encode()
REPEATED = {
    "X-Request-Id": KEY,
    "Set-Cookie": f"a={KEY}",
    "WWW-Authenticate": f"Bearer {KEY}",
    "Location": f"https://elsewhere.invalid/{KEY}",
    "Retry-After": KEY,
}
ANSWERS = {
    "refusal": answer(SAID, status=f"401 {KEY}", headers=REPEATED),
    "redirect": answer(SAID, status="302 Found", headers=REPEATED),
    "failure": answer(SAID, status="500 No", headers=REPEATED, content_type=f"text/{KEY}"),
    "no comic": answer(b'["' + KEY.encode() + b'"]', headers=REPEATED),
    "no JSON": answer(KEY.encode(), headers=REPEATED),
    "unknown packing": answer(SAID, headers={"Content-Encoding": KEY}),
    "no HTTP": f"Bearer {KEY}\r\n\r\n".encode(),
    "broken head": f"HTTP/1.1 200 OK\r\n{KEY}\0: {KEY}\r\n\r\n".encode(),
    "broken chunk": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n".encode(),
    "cut": answer(SAID, status="403 No", length=10_000),
}


def assert_hidden(error: BaseException) -> None:
    """Assert that no report of an error shows the key, whatever it reports."""
    for one in errors_of(error):
        shown = f"{one!r} {one} {one.args!r} {vars(one)!r} {getattr(one, '__notes__', ())!r}"
        assert not found_in(shown, KEY)
    assert not found_in(frames_of(error, but=__file__), KEY)


@pytest.mark.parametrize("content", ANSWERS.values(), ids=ANSWERS.keys())
async def test_no_error_of_a_call_has_the_key_in_a_frame(content: bytes) -> None:
    async def repeat(received: Received) -> None:
        await received.reply(content)
        received.drop()

    async with (
        raw_server(repeat) as server,
        LlamaGenClient(
            KEY, plan="paid", base_url=server.url, quota="memory", max_retries=0
        ) as client,
    ):
        errors: list[LlamaGenError] = []
        for call in (client.comics.create, client.comics.get):
            try:
                comic = await call("c0")
            except LlamaGenError as error:
                errors.append(error)
            else:
                assert not found_in(f"{comic!r} {comic.raw!r}", KEY)
    assert errors
    for one in errors:
        assert_hidden(one)


WRONG: dict[str, dict[str, Any]] = {
    "a key in two lines": {"api_key": f"{KEY}\n{KEY}"},
    "a key in bytes": {"api_key": KEY.encode()},
    "another argument": {"api_key": KEY, "plan": NO_PLAN},
    "an argument that is checked late": {"api_key": KEY, "proxy": "nope"},
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG.keys())
def test_arguments_that_are_refused_leave_no_key_in_a_frame(arguments: dict[str, Any]) -> None:
    with pytest.raises(LlamaGenError) as caught:
        LlamaGenClient(**arguments)
    assert_hidden(caught.value)


@pytest.mark.parametrize("name", ["LLAMAGEN_API_KEY", "LLAMAGEN_CONFIG_HOME"])
def test_a_key_that_was_found_is_in_no_frame(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    tmp_path.joinpath("credentials.json").write_text(json.dumps({"apiToken": KEY}))
    monkeypatch.setenv(name, KEY if name == "LLAMAGEN_API_KEY" else str(tmp_path))
    assert find_key()[0] == KEY
    assert not found_in(repr(find_key()), KEY)
    with pytest.raises(LlamaGenError) as caught:
        LlamaGenClient(plan=NO_PLAN)
    assert_hidden(caught.value)


@pytest.mark.parametrize("key", [f"{KEY} {KEY}", KEY.encode(), KEY])
async def test_a_customers_key_is_in_no_frame(key: Any) -> None:
    async with LlamaGenClient(KEY, quota="memory", base_url="http://127.0.0.1:1") as client:
        with pytest.raises(LlamaGenError) as caught:
            client.with_key(key, plan=NO_PLAN)
        assert_hidden(caught.value)


class Stop(BaseException):
    """An end that nothing catches, such as Ctrl-C in the middle of anything."""


@pytest.mark.parametrize("moment", ["on_request_start", "on_request_headers_sent"])
async def test_what_ends_a_request_from_outside_shows_no_key(moment: str) -> None:
    """Frames of aiohttp are in its traceback, with the request and its headers in them."""

    async def stop(*_given: object) -> None:
        raise Stop

    config = aiohttp.TraceConfig()
    getattr(config, moment).append(stop)
    async with (
        raw_server(lambda received: received.reply(answer())) as server,
        aiohttp.ClientSession(trace_configs=[config]) as session,
    ):
        transport = HTTPTransport(server.url, KEY, session=session)
        with pytest.raises(Stop) as caught:
            await transport.send(STATUS)
    frames = frames_of(caught.value, but=__file__)
    assert "ClientRequest" in frames or moment == "on_request_start"
    assert not found_in(frames, KEY)


@pytest.mark.parametrize("kind", [LlamaGenClient, HTTPTransport])
def test_it_can_be_shown_before_it_is_made(kind: Any) -> None:
    """An error in `__init__` is reported with a `self` that has no attribute yet."""
    assert kind.__name__ in repr(kind.__new__(kind))


def test_a_report_with_variables_can_be_made_of_a_client_that_was_refused() -> None:
    with pytest.raises(LlamaGenError) as caught:
        LlamaGenClient(KEY, plan=NO_PLAN)
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "LlamaGenClient" in "".join(report.format())
