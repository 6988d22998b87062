"""The endpoints behind the limits: animations, usage, uploads, wrong addresses, credits."""

from __future__ import annotations

import pytest

from llamagen_async.models import Animation, Usage
from llamagen_async.plans import DAY
from llamagen_async.sandbox import (
    DEMO_KEY,
    EMPTY_KEY,
    Durations,
    Fault,
    SandboxService,
)
from tests.support.sandbox import (
    ANIMATIONS,
    GENERATIONS,
    call,
    change,
    check,
    create,
    finished_comic,
    multipart,
    roomy_service,
    upload,
)


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
    assert before["credits"] - after["credits"] == 7 * 150


def test_what_a_comic_cost_is_what_the_key_has_less() -> None:
    """The `usage` is of the comic's whole life; a create that can't be paid costs nothing."""
    service = roomy_service(credits=1_300)
    name = finished_comic(service, fixPanelNum=4)
    for now, fields in (
        (60.0, {"action": "continueWrite", "prompt": "x", "fixPanelNum": 3}),
        (120.0, {"action": "regeneratePanel", "panel": 0, "prompt": "x"}),
    ):
        assert change(service, name, now, **fields).status == 200
    assert create(service, 120.0, fixPanelNum=1).status == 402
    left = call(service, "GET", "/v1/comics/usage", now=180.0).json()["credits"]
    assert left == 1_300 - check(service, name, 180.0).json()["usage"]["amount"] == 100


def test_the_demo_plan_is_not_charged() -> None:
    service = SandboxService(durations=Durations.constant(60.0))
    name = create(service, key=DEMO_KEY).json()["id"]
    assert check(service, name, 60.0, key=DEMO_KEY).json()["usage"]["amount"] == 0


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
    service = SandboxService(faults=[Fault("no-credits", 429)])
    reply = create(service, key=EMPTY_KEY)
    assert reply.status == 429
    assert "insufficient credits" in reply.json()["message"].lower()
    assert "Retry-After" not in reply.headers
    assert service.stats(0.0)["keys"][EMPTY_KEY]["refused"] == 0
