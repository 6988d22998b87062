from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from llamagen_async.errors import InvalidRequestError
from llamagen_async.models import Animation, ComicGeneration, GenerationStatus, Usage
from llamagen_async.plans import DAY, Plan, RateLimit, RequestKind
from llamagen_async.sandbox import (
    ALGORITHMS,
    DEMO_KEY,
    EMPTY_KEY,
    PAID_KEY,
    SANDBOX_KEYS,
    Algorithm,
    Call,
    Dialect,
    Durations,
    Reply,
    SandboxService,
)
from sandbox.support import (
    ANIMATIONS,
    GENERATIONS,
    call,
    check,
    create,
    multipart,
    roomy_service,
)


def finished_comic(service: SandboxService, **fields: Any) -> str:
    """Create a comic at 0 that is done at 60; return its id."""
    reply = create(service, 0.0, **fields)
    assert reply.status == 200
    return str(reply.json()["id"])


# A comic's life.


def test_a_comic_goes_from_pending_to_processing_to_succeeded() -> None:
    service = roomy_service()
    name = finished_comic(service)
    words = [check(service, name, now).json()["status"] for now in (1.0, 30.0, 59.9, 60.0)]
    assert words == ["PENDING", "PROCESSING", "PROCESSING", "SUCCEEDED"]


def test_production_speaks_of_loading_and_processed() -> None:
    service = roomy_service(dialect="production")
    name = finished_comic(service)
    words = [check(service, name, now).json()["status"] for now in (1.0, 30.0, 60.0)]
    assert words == ["LOADING", "LOADING", "PROCESSED"]


def test_a_finished_comic_is_read_by_the_models() -> None:
    service = roomy_service(public_url="http://127.0.0.1:9", epoch=1_700_000_000.5)
    name = finished_comic(service, prompt="A cat finds a hat. It flies!", fixPanelNum=8)
    comic = ComicGeneration.parse(check(service, name, 60.0).json())
    assert comic.status is GenerationStatus.SUCCEEDED
    assert comic.prompt == "A cat finds a hat. It flies!"
    assert [(page.page, len(page.panels)) for page in comic.pages] == [(0, 6), (1, 2)]
    assert [panel.panel for panel in comic.pages[1].panels] == [0, 1]
    assert comic.pages[0].panels[0].caption == "A cat finds a hat."
    base = f"http://127.0.0.1:9/_sandbox/assets/{name}"
    assert comic.pages[1].panels[1].asset_url == f"{base}/1-1.png"
    assert comic.output == f"{base}/0.png"
    assert comic.usage is not None
    assert comic.usage.amount == 8
    assert comic.created_at is not None
    assert comic.created_at.timestamp() == 1_700_000_000.5


def test_an_unfinished_comic_shows_no_pictures() -> None:
    service = roomy_service()
    body = check(service, finished_comic(service), 30.0).json()
    assert set(body) == {"id", "status", "createdAt", "prompt"}


def test_four_panels_on_one_page_are_drawn_if_nothing_is_said() -> None:
    service = roomy_service()
    comic = ComicGeneration.parse(check(service, finished_comic(service), 60.0).json())
    assert [len(page.panels) for page in comic.pages] == [4]


def test_pagination_decides_pages_and_panels() -> None:
    service = roomy_service()
    name = finished_comic(service, pagination={"totalPages": 3, "panelsPerPage": 2})
    comic = ComicGeneration.parse(check(service, name, 60.0).json())
    assert [len(page.panels) for page in comic.pages] == [2, 2, 2]


def test_a_prompt_url_is_enough() -> None:
    service = roomy_service()
    reply = call(service, "POST", GENERATIONS, {"promptUrl": "https://example.com/story.txt"})
    assert reply.json()["prompt"] == "The story at https://example.com/story.txt"


def test_unknown_fields_are_accepted() -> None:
    assert create(roomy_service(), style="noir", somethingNew={"a": 1}).status == 200


def test_page_and_panel_pick_one() -> None:
    service = roomy_service()
    name = finished_comic(service, pagination={"totalPages": 2, "panelsPerPage": 3})
    path = f"{GENERATIONS}/{name}"
    body = call(service, "GET", path, now=60.0, query={"page": "1", "panel": "2"}).json()
    assert [page["page"] for page in body["comics"]] == [1]
    assert [panel["panel"] for panel in body["comics"][0]["panels"]] == [2]
    assert call(service, "GET", path, now=60.0, query={"page": "2"}).status == 404
    assert call(service, "GET", path, now=60.0, query={"panel": "-1"}).status == 400


def test_a_failed_comic_says_why() -> None:
    service = roomy_service(failure_rate=1.0)
    comic = ComicGeneration.parse(check(service, finished_comic(service), 60.0).json())
    assert comic.status is GenerationStatus.FAILED
    assert comic.failure_reason
    assert not comic.asset_urls


# Changing a comic.


def change(service: SandboxService, name: str, now: float, **fields: Any) -> Reply:
    return call(service, "PATCH", f"{GENERATIONS}/{name}", fields, now=now)


def test_continuing_adds_pages_and_runs_again() -> None:
    service = roomy_service()
    name = finished_comic(service)
    reply = change(
        service, name, 100.0, action="continueWrite", prompt="It sails away.", fixPanelNum=2
    )
    assert reply.json()["status"] == "PENDING"
    assert check(service, name, 159.0).json()["status"] == "PROCESSING"
    comic = ComicGeneration.parse(check(service, name, 160.0).json())
    assert [len(page.panels) for page in comic.pages] == [4, 2]
    assert comic.pages[1].panels[0].caption == "It sails away."
    assert comic.output is not None
    assert comic.output.endswith("/0.png?v=1")


@pytest.mark.parametrize("field", ["panel", "panelIndex", "panel_index"])
def test_redrawing_a_panel_gives_it_another_url_and_caption(field: str) -> None:
    service = roomy_service()
    name = finished_comic(service)
    before = ComicGeneration.parse(check(service, name, 60.0).json()).pages[0].panels
    fields = {"action": "regeneratePanel", field: 1, "page": 0, "caption": "Now with a dog"}
    assert change(service, name, 100.0, **fields).status == 200
    after = ComicGeneration.parse(check(service, name, 160.0).json()).pages[0].panels
    assert after[1].caption == "Now with a dog"
    assert after[1].asset_url == f"{before[1].asset_url}?v=1"
    assert (after[0], after[2]) == (before[0], before[2])


def test_a_panel_redrawn_from_images_keeps_its_caption() -> None:
    service = roomy_service()
    name = finished_comic(service)
    before = check(service, name, 60.0).json()["comics"][0]["panels"][0]["caption"]
    images = ["https://example.com/a.png"]
    change(service, name, 60.0, action="regeneratePanel", panel=0, images=images)
    body = check(service, name, 120.0).json()
    assert body["comics"][0]["panels"][0]["caption"] == before
    assert body["usage"] == {
        "amount": 5,
        "unit": "credits",
        "total_comics": 1,
        "redraw_panels": 1,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"action": "erase"},
        {"action": "continueWrite"},
        {"action": "continueWrite", "prompt": " "},
        {"action": "continueWrite", "prompt": "x", "fixPanelNum": 0},
        {"action": "regeneratePanel", "prompt": "x"},
        {"action": "regeneratePanel", "panel": 0},
        {"action": "regeneratePanel", "panel": -1, "prompt": "x"},
        {"action": "regeneratePanel", "panel": "0", "prompt": "x"},
        {"action": "regeneratePanel", "panel": 4, "prompt": "x"},
        {"action": "regeneratePanel", "panel": 0, "page": 1, "prompt": "x"},
    ],
)
def test_a_change_that_makes_no_sense_is_refused_and_changes_nothing(
    fields: dict[str, Any],
) -> None:
    service = roomy_service()
    name = finished_comic(service)
    before = check(service, name, 60.0).body
    assert change(service, name, 60.0, **fields).status == 400
    assert check(service, name, 61.0).body == before


def test_an_unfinished_comic_cannot_be_changed() -> None:
    service = roomy_service()
    name = finished_comic(service)
    assert change(service, name, 30.0, action="continueWrite", prompt="x").status == 400


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


def upload(service: SandboxService, content_type: str, body: bytes) -> Reply:
    headers = {"authorization": f"Bearer {PAID_KEY}", "content-type": content_type}
    return service.handle(Call("POST", "/v1/comics/upload", headers, body=body), 0.0)


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


# Limits.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_call_counts_and_the_one_too_many_is_refused(algorithm: Algorithm) -> None:
    service = SandboxService(algorithm=algorithm)
    step = 6.0 if algorithm == "spaced" else 0.0
    for n in range(10):
        assert call(service, "GET", "/v1/comics/usage", now=n * step).status == 200
    reply = create(service, 9 * step)
    assert reply.status == 429
    assert reply.json()["error"] == "rate_limit_exceeded"
    assert create(service, 9 * step + float(reply.headers["Retry-After"])).status == 200


def test_the_demo_plan_is_refused_after_fifteen_a_day() -> None:
    service = SandboxService()
    replies = [create(service, n * 15.0, key=DEMO_KEY) for n in range(16)]
    assert [reply.status for reply in replies] == [200] * 15 + [429]
    assert replies[-1].headers["Retry-After"] == str(int(DAY - 15 * 15))


def test_kinds_that_a_plan_does_not_meter_are_never_refused_nor_seen() -> None:
    limits = RateLimit(1, per=60.0)
    plan = Plan("open", limits=(limits,), metered={RequestKind.CREATE})
    service = SandboxService(plans={PAID_KEY: plan}, rate_limit_headers=True)
    name = create(service).json()["id"]
    replies = [check(service, name, 1.0) for _ in range(50)]
    assert {reply.status for reply in replies} == {200}
    assert "RateLimit-Limit" not in replies[0].headers
    assert create(service, 1.0).status == 429
    assert service.stats(1.0)["keys"][PAID_KEY]["windows"][0]["most"] == 2


def test_retry_after_can_be_a_date() -> None:
    service = SandboxService(retry_after="date", epoch=1_700_000_000.0)
    for _ in range(4):
        create(service, 0.5, key=DEMO_KEY)
    date = parsedate_to_datetime(create(service, 1.0, key=DEMO_KEY).headers["Retry-After"])
    # The window ends at 60.5; dates know whole seconds only, and too late is never too early.
    assert date.timestamp() == 1_700_000_061.0


def test_retry_after_can_be_missing() -> None:
    service = SandboxService(retry_after=None)
    replies = [create(service, key=DEMO_KEY) for _ in range(5)]
    assert replies[-1].status == 429
    assert "Retry-After" not in replies[-1].headers


def test_rate_limit_headers_tell_of_the_tightest_window() -> None:
    service = SandboxService(rate_limit_headers=True)

    def headers(now: float) -> tuple[str, str, str]:
        shown = create(service, now, key=DEMO_KEY).headers
        return (
            shown["RateLimit-Limit"],
            shown["RateLimit-Remaining"],
            shown["RateLimit-Reset"],
        )

    assert [headers(0.0) for _ in range(5)] == [
        ("4", "3", "60"),
        ("4", "2", "60"),
        ("4", "1", "60"),
        ("4", "0", "60"),
        ("4", "0", "60"),
    ]


def test_where_refused_requests_count_hammering_never_gets_through() -> None:
    service = SandboxService(count_refused=True)
    assert [create(service, n * 10.0, key=DEMO_KEY).status for n in range(100)] == (
        [200] * 4 + [429] * 96
    )


def test_aligned_windows_can_be_shifted() -> None:
    service = SandboxService(algorithm="fixed", window_offset=30.0)
    statuses = [create(service, now, key=DEMO_KEY).status for now in [29.0] * 5 + [30.0] * 5]
    assert statuses == ([200] * 4 + [429]) * 2


# What depends on the seed, and what does not.


def ready_times(service: SandboxService) -> list[float]:
    return [one["ready_at"] - one["accepted_at"] for one in service.stats(0.0)["generations"]]


def test_the_same_seed_gives_the_same_durations_whatever_is_asked_between() -> None:
    quiet = roomy_service(durations=Durations.lognormal(), seed=7)
    busy = roomy_service(durations=Durations.lognormal(), seed=7)
    for n in range(20):
        create(quiet, float(n))
        name = create(busy, n * 3.0).json()["id"]
        call(busy, "POST", ANIMATIONS, {"prompt": "x"})
        create(busy, prompt="")
        check(busy, name, n * 3.0 + 1)
    expected = [quiet.duration_of(n) for n in range(20)]
    assert ready_times(quiet) == pytest.approx(expected)
    assert ready_times(busy)[::2] == pytest.approx(expected)


def test_another_seed_gives_other_durations_and_ids() -> None:
    one, other = (roomy_service(durations=Durations.lognormal(), seed=seed) for seed in (1, 2))
    assert one.duration_of(0) != other.duration_of(0)
    assert create(one).json()["id"] != create(other).json()["id"]


def test_the_same_seed_gives_the_same_replies() -> None:
    first, second = SandboxService(seed=3), SandboxService(seed=3)
    assert create(first, 5.0) == create(second, 5.0)


# Statistics.


def test_the_statistics_tell_what_became_of_everything() -> None:
    service = roomy_service()
    name = create(service, 1.0, prompt="A hat").json()["id"]
    create(service, 2.0, prompt="")
    for now in (30.0, 70.0, 80.0):
        check(service, name, now)
    stats = service.stats(90.0)
    assert (stats["algorithm"], stats["now"]) == ("sliding", 90.0)
    key = stats["keys"][PAID_KEY]
    assert key["plan"] == "roomy"
    assert key["requests"] == {"create": {"200": 1, "400": 1}, "status": {"200": 3}}
    assert (key["total"], key["refused"], key["creates_accepted"]) == (5, 0, 1)
    assert key["windows"] == [{"limit": 10_000, "per": 60.0, "most": 3}]
    assert stats["generations"] == [
        {
            "id": name,
            "key": PAID_KEY,
            "prompt": "A hat",
            "accepted_at": 1.0,
            "ready_at": 61.0,
            "first_seen_ready_at": 70.0,
            "outcome": "succeeded",
        }
    ]


def test_outcomes_are_running_succeeded_or_failed() -> None:
    for failure_rate, outcome in ((0.0, "succeeded"), (1.0, "failed")):
        service = roomy_service(failure_rate=failure_rate)
        create(service)
        outcomes = [service.stats(now)["generations"][0]["outcome"] for now in (59.0, 60.0)]
        assert outcomes == ["running", outcome]


def test_a_change_puts_a_comic_back_to_not_seen() -> None:
    service = roomy_service()
    name = finished_comic(service)
    check(service, name, 60.0)
    change(service, name, 70.0, action="continueWrite", prompt="x")
    assert service.stats(70.0)["generations"][0]["first_seen_ready_at"] is None
    assert service.stats(70.0)["generations"][0]["ready_at"] == 130.0


def test_changes_are_counted_by_kind() -> None:
    service = roomy_service()
    name = finished_comic(service)
    change(service, name, 60.0, action="continueWrite", prompt="x")
    change(service, name, 120.0, action="regeneratePanel", panel=0, prompt="x")
    upload(service, *multipart())
    requests = service.stats(120.0)["keys"][PAID_KEY]["requests"]
    assert requests == {
        "create": {"200": 1},
        "continue": {"200": 1},
        "update": {"200": 1},
        "upload": {"200": 1},
    }


def test_the_most_in_a_window_counts_refused_requests_and_is_half_open() -> None:
    service = SandboxService()
    for now in (0.0, 0.0, 0.0, 59.0, 60.0, 60.0, 60.0, 60.0, 200.0):
        create(service, now, key=DEMO_KEY)
    key = service.stats(200.0)["keys"][DEMO_KEY]
    # At 60 the three of 0 have left the window: 59, 60, 60, 60, 60.
    assert [window["most"] for window in key["windows"]] == [5, 9]
    assert key["refused"] == 1


def test_statistics_are_served_without_a_key_and_without_counting() -> None:
    service = SandboxService()
    reply = call(service, "GET", "/_sandbox/stats", key=None, now=3.0)
    assert reply.json() == json.loads(json.dumps(service.stats(3.0)))
    assert set(reply.json()["keys"]) == set(SANDBOX_KEYS)
    assert call(service, "POST", "/_sandbox/stats", key=None).status == 404


def test_no_secret_key_is_in_the_statistics_or_in_a_repr() -> None:
    service = SandboxService(plans={"a-real-secret": Plan.PAID})
    name = create(service, key="a-real-secret").json()["id"]
    text = json.dumps(service.stats(0.0))
    assert "a-real-secret" not in text
    assert service.stats(0.0)["generations"][0]["key"].startswith("key-")
    assert check(service, name, 0.0, key="a-real-secret").status == 200
    assert "a-real-secret" not in repr(
        Call("GET", "/", {"Authorization": "Bearer a-real-secret"})
    )
