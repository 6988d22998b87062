from __future__ import annotations

from typing import Any

import pytest

from llamagen_async.errors import InvalidRequestError
from llamagen_async.models import Animation, Usage
from llamagen_async.plans import DAY, Plan
from llamagen_async.sandbox import (
    DEMO_KEY,
    EMPTY_KEY,
    PAID_KEY,
    Call,
    Dialect,
    SandboxService,
)
from tests.support.sandbox import (
    ANIMATIONS,
    GENERATIONS,
    call,
    check,
    create,
    finished_comic,
    multipart,
    roomy_service,
    upload,
)

# The other endpoints.


def test_an_animation_has_a_video_when_it_is_done() -> None:
    service = roomy_service()
    options = {"duration": 5, "resolution": "720p"}
    reply = call(service, "POST", ANIMATIONS, {"prompt": "A cat", "videoOptions": options})
    name = reply.json()["id"]
    assert call(service, "GET", f"{ANIMATIONS}/{name}", now=30.0).json().get("videoUrl") is None
    body = call(service, "GET", f"{ANIMATIONS}/{name}", now=60.0).json()
    animation = Animation.parse(body)
    assert animation.succeeded
    assert animation.video_url is not None
    assert animation.video_url.endswith(f"/{name}/animation.gif")
    assert body["videoOptions"] == options


@pytest.mark.parametrize("payload", [{}, {"prompt": ""}, {"prompt": "x", "videoOptions": []}])
def test_an_animation_needs_a_prompt_and_options_that_are_an_object(payload: object) -> None:
    assert call(roomy_service(), "POST", ANIMATIONS, payload).status == 400


def test_comics_and_animations_are_not_mixed_up() -> None:
    service = roomy_service()
    comic = finished_comic(service)
    animation = call(service, "POST", ANIMATIONS, {"prompt": "A cat"}).json()["id"]
    assert call(service, "GET", f"{ANIMATIONS}/{comic}").status == 404
    assert check(service, animation, 0.0).status == 404


def test_usage_tells_what_the_demo_plan_has_used_today() -> None:
    service = SandboxService()
    for now in (0.0, 1.0):
        usage = Usage.parse(call(service, "GET", "/v1/comics/usage", key=DEMO_KEY, now=now).json())
    assert (usage.api_usage_count, usage.api_max_usage) == (2, 15)
    assert (usage.credits, usage.is_paid_plan) == (0, False)
    later = call(service, "GET", "/v1/comics/usage", key=DEMO_KEY, now=DAY + 1.0).json()
    assert later["apiUsageCount"] == 1


def test_usage_of_the_paid_plan_has_credits_and_no_maximum() -> None:
    service = SandboxService()
    before = call(service, "GET", "/v1/comics/usage").json()
    create(service, fixPanelNum=7)
    after = call(service, "GET", "/v1/comics/usage").json()
    assert before["apiMaxUsage"] is None
    assert before["isPaidPlan"] is True
    assert before["credits"] - after["credits"] == 7


def test_refused_requests_are_not_in_the_usage() -> None:
    service = SandboxService()
    for _ in range(9):
        call(service, "GET", "/v1/comics/usage", key=DEMO_KEY)
    usage = call(service, "GET", "/v1/comics/usage", key=DEMO_KEY, now=60.0).json()
    assert usage["apiUsageCount"] == 5


def test_an_upload_gets_a_url_and_a_code() -> None:
    service = roomy_service(public_url="http://127.0.0.1:9")
    first = upload(service, *multipart(content=b"\x89PNG\r\n\x00\xff")).json()
    second = upload(service, *multipart()).json()
    assert first["fileUrl"] == f"http://127.0.0.1:9/_sandbox/uploads/{first['code']}"
    assert (first["fileName"], first["contentType"]) == ("hat.png", "image/png")
    assert first["size"] == 8
    assert first["code"] != second["code"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/json", b"{}"), ("", b""), multipart("picture")],
)
def test_an_upload_needs_the_field_file(content_type: str, body: bytes) -> None:
    assert upload(roomy_service(), content_type, body).status == 400


# Errors.


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": None},
        {"prompt": ""},
        {"prompt": 5},
        {"prompt": None, "promptUrl": ""},
        {"size": "10x10"},
        {"fixPanelNum": 0},
        {"fixPanelNum": 21},
        {"fixPanelNum": True},
        {"fixPanelNum": "4"},
        {"fixPanelNum": 4, "pagination": {"totalPages": 1, "panelsPerPage": 1}},
        {"pagination": {"totalPages": 1}},
        {"pagination": {"totalPages": 1, "panelsPerPage": 21}},
        {"pagination": [1, 2]},
    ],
)
def test_a_create_that_makes_no_sense_is_a_400_that_is_counted_but_not_billed(
    fields: dict[str, Any],
) -> None:
    service = roomy_service()
    assert create(service, **fields).status == 400
    key = service.stats(0.0)["keys"][PAID_KEY]
    assert key["requests"] == {"create": {"400": 1}}
    assert key["creates_accepted"] == 0
    assert call(service, "GET", "/v1/comics/usage").json()["credits"] == 1_000_000


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_a_body_that_is_no_json_object_is_a_400(body: bytes) -> None:
    headers = {"Authorization": f"Bearer {PAID_KEY}"}
    reply = roomy_service().handle(Call("POST", GENERATIONS, headers, body=body), 0.0)
    assert reply.status == 400


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("documented", {"error": "unauthorized", "message": "The API key is missing or not valid"}),
        (
            "production",
            {
                "error": {
                    "code": "unauthorized",
                    "message": "The API key is missing or not valid",
                }
            },
        ),
    ],
)
def test_errors_are_flat_as_documented_and_nested_in_production(
    dialect: Dialect, body: object
) -> None:
    assert create(roomy_service(dialect=dialect), key="unknown").json() == body


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer nobody", f"Basic {PAID_KEY}", PAID_KEY])
def test_a_key_that_is_missing_or_unknown_is_a_401_that_nobody_pays_for(header: str) -> None:
    service = SandboxService()
    for _ in range(20):
        reply = service.handle(Call("GET", "/v1/comics/usage", {"Authorization": header}), 0.0)
        assert reply.status == 401
    assert all(key["total"] == 0 for key in service.stats(0.0)["keys"].values())
    assert call(service, "GET", "/v1/comics/usage", key=None).status == 401


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v2/comics/generations", f"{GENERATIONS}/", f"{GENERATIONS}/a/b",
     "/v1/comics/usage/x", "/v1/pages/generations/x"],
)  # fmt: skip
def test_an_unknown_path_is_a_404(path: str) -> None:
    assert call(roomy_service(), "GET", path).status == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", GENERATIONS, "POST"),
        ("DELETE", f"{GENERATIONS}/x", "GET, PATCH"),
        ("PATCH", f"{ANIMATIONS}/x", "GET"),
        ("POST", "/v1/comics/usage", "GET"),
        ("GET", "/v1/comics/upload", "POST"),
    ],
)
def test_a_wrong_method_is_a_405_that_says_which_are_right(
    method: str, path: str, allowed: str
) -> None:
    reply = call(roomy_service(), method, path)
    assert (reply.status, reply.headers["Allow"]) == (405, allowed)


def test_a_generation_of_another_key_is_a_404() -> None:
    service = SandboxService()
    name = create(service).json()["id"]
    assert check(service, name, 0.0, key=DEMO_KEY).status == 404
    assert check(service, "cmc_unknown", 0.0).status == 404


def test_the_empty_key_cannot_pay() -> None:
    reply = create(SandboxService(), key=EMPTY_KEY)
    assert reply.status == 402
    assert "Insufficient credits" in reply.json()["message"]


def test_missing_credits_can_be_a_429_that_only_its_body_tells_apart() -> None:
    service = SandboxService(credits_as_429=True)
    reply = create(service, key=EMPTY_KEY)
    assert reply.status == 429
    assert "insufficient credits" in reply.json()["message"].lower()
    assert "Retry-After" not in reply.headers
    assert service.stats(0.0)["keys"][EMPTY_KEY]["refused"] == 0


def test_the_empty_key_is_there_whatever_the_plans_and_can_be_given_one() -> None:
    assert create(SandboxService(plans={}), key=EMPTY_KEY).status == 402
    assert create(SandboxService(plans={EMPTY_KEY: Plan.DEMO}), key=EMPTY_KEY).status == 200


@pytest.mark.parametrize(
    "options",
    [
        {"algorithm": "leaky"},
        {"dialect": "french"},
        {"retry_after": "minutes"},
        {"failure_rate": 2.0},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        SandboxService(**options)
