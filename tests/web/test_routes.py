"""The routes over both borders: orders, states, lists, cancellations, pictures, events, errors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from llamagen_async.errors import InvalidRequestError
from llamagen_async.web import create_app
from llamagen_async.webhooks import sign
from tests.support.web import BORDERS, SECRET, Backend, backend, events_in

CONTRACT = {"key", "state", "id", "position", "expected_at", "pictures", "error", "links"}


@pytest_asyncio.fixture(params=BORDERS)
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """A backend that is mounted below another application."""
    async with backend(request.param, tmp_path, root="/the/api", webhook_secret=SECRET) as opened:
        yield opened


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """Check that an answer says what is wrong, and return that."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "code"} <= content.keys()
    assert (content["status"], content["code"]) == (status, code)
    return content


@pytest.mark.parametrize("field", ["comic_roles", "comic_locations"])
async def test_an_order_gets_no_file_of_this_machine(
    shop: Backend, tmp_path: Path, field: str
) -> None:
    """Whatever a visitor passes on goes to the vendor as text, and is not opened here."""
    file = tmp_path / "secret.txt"
    file.write_text("of this server", encoding="utf-8")
    fields: dict[str, Any] = {field: [{"name": "Tom", "extra": {"image": str(file)}}]}
    assert (await shop.order("k", **fields)).status_code == 202
    assert (await shop.done("k"))["state"] == "succeeded"
    keys = shop.service.stats(shop.server.now())["keys"]
    assert all("upload" not in one["requests"] for one in keys.values())


async def test_an_order_from_its_acceptance_to_its_pictures(shop: Backend) -> None:
    answer = await shop.order('"order-42"', fix_panel_num=2)
    assert answer.status_code == 202
    comic = answer.json()
    assert comic.keys() >= CONTRACT
    assert comic["key"] == "order-42"
    assert comic["state"] in ("queued", "sending")
    assert answer.headers["location"] == "/the/api/comics/order-42" == comic["links"]["self"]

    followed = await shop.get(comic["links"]["events"])
    assert followed.headers["content-type"].startswith("text/event-stream")
    assert followed.headers["x-accel-buffering"] == "no"
    assert "no-store" in followed.headers["cache-control"]
    events = events_in(followed.text)
    assert events[-1]["event"] == "done"
    assert all(event["id"] for event in events)

    comic = (await shop.get(answer.headers["location"])).json()
    assert comic == json.loads(events[-1]["data"])
    assert comic["state"] == "succeeded"
    assert comic["id"].startswith("cmc_")
    assert comic["position"] is comic["expected_at"] is comic["error"] is None
    assert len(comic["pictures"]) >= 2
    for link in comic["pictures"]:
        picture = await shop.get(link)
        assert picture.headers["content-type"] == "image/png"
        assert picture.headers["x-content-type-options"] == "nosniff"
        assert picture.content.startswith(b"\x89PNG")
    again = await shop.get(comic["links"]["self"])
    assert again.json() == comic


async def test_the_same_key_is_the_same_order_at_any_time(shop: Backend) -> None:
    """With quotes or without, before the comic is done and after it; another comic is refused."""
    for key in ("order-1", '"order-1"'):
        assert (await shop.order(key)).json()["key"] == "order-1"
    await shop.done("order-1")
    assert (await shop.order("order-1")).json()["state"] == "succeeded"
    content = problem(await shop.order("order-1", "a dog"), 422, "key_reused")
    assert "another comic" in content["detail"]
    assert shop.started == 1


async def test_without_a_key_each_order_is_a_new_one(shop: Backend) -> None:
    keys = {(await shop.order()).json()["key"] for _ in range(3)}
    assert len(keys) == 3
    for key in keys:
        assert (await shop.done(key))["state"] == "succeeded"


async def test_a_key_may_have_anything_in_it_that_prints(shop: Backend) -> None:
    for key in ("a/b", "50%", "a b?c#d", "x/events", '\\"', "..%2F..", "..."):
        quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
        answer = await shop.order(quoted)
        assert answer.json()["key"] == key
        assert (await shop.get(answer.headers["location"])).json()["key"] == key
        assert (await shop.http.get("comics", params={"after": key})).status_code == 200
    followed = await shop.get(answer.json()["links"]["events"])
    assert events_in(followed.text)[-1]["event"] == "done"


async def test_bad_orders_are_refused_by_name_and_cost_nothing(shop: Backend) -> None:
    post = shop.http.post
    content = problem(await shop.order("k", size="huge"), 400, "bad_field")
    assert content["field"] == "size"
    assert "allowed" in content
    problem(await shop.order("k", ""), 400, "bad_field")
    problem(await shop.order("k", fix_panel_num=21), 400, "bad_field")
    problem(await shop.order("k", nonsense=1), 400, "bad_field")
    problem(await post("comics", json={"prompt": "a", "key": "k"}), 400, "bad_field")
    # Clients take one or two dots out of a path: the comic could not be asked for.
    for key in ("", '""', '"a', 'a"b"', "a b", ".", "..", '".."'):
        problem(await shop.order(key), 400, "bad_field")
    problem(await shop.order(f'"{"x" * 501}"'), 400, "bad_field")
    problem(await post("comics", content="prompt=a"), 415, "not_json")
    problem(await post("comics", data={"prompt": "a"}), 415, "not_json")
    typed = {"content-type": "application/json"}
    for body in (b"", b"{", b"\xff\xfe", b"[]", b'"a"', b"null", b'{"prompt": NaN}'):
        problem(await post("comics", content=body, headers=typed), 400, "bad_json")
    for levels in (49, 9000, 100_000):
        deep = b'{"prompt": "a", "extra": {"a": ' + b"[" * levels + b"]" * levels + b"}}"
        problem(await post("comics", content=deep, headers=typed), 400, "bad_json")
    large = b'{"prompt": "' + b"a" * 1_100_000 + b'"}'
    problem(await post("comics", content=large, headers=typed), 413, "too_large")
    assert (await shop.http.get("comics")).json() == {"comics": []}
    assert shop.started == 0


async def test_a_large_body_without_a_length_is_cut_off(shop: Backend) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"prompt": "'
        for _ in range(40):
            yield b"a" * 65_536

    typed = {"content-type": "application/json"}
    answer = await shop.http.post("comics", content=chunks(), headers=typed)
    problem(answer, 413, "too_large")


async def test_no_order_reads_a_file_of_this_machine(shop: Backend, tmp_path: Path) -> None:
    """Text from outside is never a path, and nothing but a comic is ordered."""
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    problem(await shop.order("a", attachments=[{"url": str(secret)}]), 400, "bad_field")
    problem(await shop.order("a", prompt_url=secret.as_uri()), 400, "bad_field")
    problem(await shop.order("a", images=[str(secret)]), 400, "bad_field")
    for fields in ({"type": "update"}, {"id": "cmc_1"}, {"of": "b"}, {"action": "continueWrite"}):
        problem(await shop.order("a", **fields), 400, "bad_field")
    await shop.order("b", extra={"attachments": [{"url": str(secret)}]})
    await shop.done("b")
    sent = shop.service.stats(shop.server.now())
    assert "uploads" not in sent or not sent["uploads"]


async def test_comics_are_listed_from_the_newest_on(shop: Backend) -> None:
    for number in range(5):
        await shop.order(f"k{number}")

    async def listed(**query: Any) -> list[str]:
        answer = await shop.http.get("comics", params=query)
        return [comic["key"] for comic in answer.json()["comics"]]

    assert await listed() == ["k4", "k3", "k2", "k1", "k0"]
    assert await listed(limit=2) == ["k4", "k3"]
    assert await listed(limit=2, after="k3") == ["k2", "k1"]
    await shop.done("k0")
    assert "k0" in await listed(state="succeeded,failed")
    assert await listed(state="uncertain") == []
    for query in ({"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"limit": "1e1"}):
        problem(await shop.http.get("comics", params=query), 400, "bad_field")
    for query in ({"state": "done"}, {"after": "nobody"}, {"after": ""}, {"after": "\x00"}):
        problem(await shop.http.get("comics", params=query), 400, "bad_field")


async def test_what_is_not_there_is_said(shop: Backend) -> None:
    await shop.order("k")
    await shop.done("k")
    get = shop.http.get
    for path in ("comics/x", "comics/x/events", "comics/x/pictures/0", "comics/k/pictures/99"):
        problem(await get(path), 404, "not_found")
    for path in ("nothing", "comics/", "comics/k/", "comics/k/other", "comics/k/pictures/0/1"):
        problem(await get(path), 404, "not_found")
    for path in ("comics/%00", "comics/%ED%A0%80", f"comics/{'x' * 600}"):
        problem(await get(path), 404, "not_found")
    for number in ("x", "-1", "1.0", "%D9%A3", "9999999"):
        problem(await get(f"comics/k/pictures/{number}"), 400, "bad_field")
    problem(await shop.http.delete("comics/x"), 404, "not_found")
    answer = await shop.http.put("comics", json={})
    problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}


async def test_what_was_sent_is_not_cancelled(shop: Backend) -> None:
    await shop.order("k")
    await shop.done("k")
    content = problem(await shop.http.delete("comics/k"), 409, "too_late")
    assert content["state"] == "succeeded"


async def test_a_reader_that_has_seen_the_end_is_told_not_to_come_back(shop: Backend) -> None:
    await shop.order("k")
    events = events_in((await shop.http.get("comics/k/events")).text)
    for number, event in enumerate(events):
        seen = {"Last-Event-ID": event["id"]}
        answer = await shop.http.get("comics/k/events", headers=seen)
        rest = [one["id"] for one in events_in(answer.text)]
        lasting = [one["id"] for one in events[number + 1 :] if one["event"] != "queued"]
        assert rest == lasting
        assert answer.status_code == (200 if lasting else 204)


async def test_limits_health_and_description(shop: Backend) -> None:
    limits = (await shop.http.get("limits")).json()
    assert limits["plan"] == "paid"
    assert limits["windows"][0]["limit"] == 10
    assert (await shop.http.get("healthz")).json() == {"status": "ok"}
    assert (await shop.http.get("readyz")).json() == {"status": "ready", "held_by": None}
    described = (await shop.http.get("openapi.json")).json()
    assert described["openapi"].startswith("3.1")
    assert described["servers"] == [{"url": "/the/api"}]


async def test_a_mistake_of_the_server_is_a_problem(
    shop: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a word of it is told to whoever has asked."""
    transport: Any = shop.http._transport
    transport.raise_app_exceptions = False  # Starlette leaves it to the server to log it
    monkeypatch.setattr("llamagen_async.web.routes.shown", lambda _key: 1 / 0)
    answer = await shop.http.get("comics/nobody")
    assert "division" not in problem(answer, 500, "mistake")["detail"]


async def test_a_head_is_a_get_without_a_body(shop: Backend) -> None:
    await shop.order("k")
    await shop.done("k")
    for path in ("comics/k", "comics", "healthz", "comics/k/pictures/0", ""):
        got, head = await shop.http.get(path), await shop.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"]
    assert (await shop.http.head("comics/k/events")).content == b""


async def test_an_event_of_the_vendor_is_taken_if_it_is_signed(shop: Backend) -> None:
    body = json.dumps({"id": "evt", "type": "comic.generation.updated", "data": {"id": "c"}})
    signed = sign(body, SECRET)
    for _ in range(2):  # the vendor sends again what it has no answer to
        answer = await shop.http.post("webhooks", content=body, headers=signed)
        assert answer.status_code == 204
    problem(await shop.http.post("webhooks", content=body), 400, "bad_signature")
    other = sign(body, "another")
    problem(await shop.http.post("webhooks", content=body, headers=other), 400, "bad_signature")
    changed = body.replace("updated", "created")
    answer = await shop.http.post("webhooks", content=changed, headers=signed)
    problem(answer, 400, "bad_signature")
    for odd in ("[]", "{", '{"type": "comic.generation.completed", "data": {}}'):
        answer = await shop.http.post("webhooks", content=odd, headers=sign(odd, SECRET))
        assert 400 <= answer.status_code < 500 or answer.status_code == 204
    large = b"x" * 5_000_001
    answer = await shop.http.post("webhooks", content=large, headers=sign(large, SECRET))
    problem(answer, 413, "too_large")


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("kept", ["", " \n"])
async def test_without_a_secret_no_event_is_taken(
    border: str, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMAGEN_WEBHOOK_SECRET", kept)
    async with backend(border, tmp_path) as shop:
        for headers in ({}, sign("{}", "guess")):
            answer = await shop.http.post("webhooks", content="{}", headers=headers)
            content = problem(answer, 403, "no_secret")
            assert "LLAMAGEN_WEBHOOK_SECRET" in content["detail"]


@pytest.mark.parametrize("given", [None, "from-a-file\n"])
async def test_a_secret_may_end_with_a_line_break(
    given: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does where it is a file's content, in the environment or given (the command `serve`
    gives on what the variable holds); the API key is trimmed, too."""
    monkeypatch.setenv("LLAMAGEN_WEBHOOK_SECRET", "other" if given else "from-a-file\n")
    body = json.dumps({"id": "evt", "type": "comic.generation.updated", "data": {"id": "c"}})
    async with backend("starlette", tmp_path, webhook_secret=given) as shop:
        signed = sign(body, "from-a-file")
        answer = await shop.http.post("webhooks", content=body, headers=signed)
        assert answer.status_code == 204


@pytest.mark.parametrize("border", BORDERS)
async def test_events_are_taken_by_either_secret_while_it_is_changed(
    border: str, tmp_path: Path
) -> None:
    body = json.dumps({"id": "evt", "type": "comic.generation.updated", "data": {"id": "c"}})
    several = (one for one in ("new", b"old"))
    async with backend(border, tmp_path, webhook_secret=several) as shop:
        for secret, status in (("new", 204), ("old", 204), ("other", 400)):
            answer = await shop.http.post("webhooks", content=body, headers=sign(body, secret))
            assert answer.status_code == status


@pytest.mark.parametrize("wrong", [5, ["a", 5], [["a"]]])
def test_a_secret_of_another_type_is_refused_without_being_shown(wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match="webhook_secret") as refused:
        create_app(webhook_secret=wrong)
    assert "5" not in str(refused.value)
