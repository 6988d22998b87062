"""Counts of requests for each key."""

from __future__ import annotations

import json

from llamagen_async.plans import Plan
from llamagen_async.sandbox import (
    DEMO_KEY,
    PAID_KEY,
    Call,
    SandboxService,
)
from tests.support.sandbox import (
    change,
    check,
    create,
    finished_comic,
    multipart,
    roomy_service,
    upload,
)


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


def test_no_secret_key_is_in_the_statistics_or_in_a_repr() -> None:
    service = SandboxService(plans={"a-real-secret": Plan.PAID})
    name = create(service, key="a-real-secret").json()["id"]
    text = json.dumps(service.stats(0.0))
    assert "a-real-secret" not in text
    assert service.stats(0.0)["generations"][0]["key"].startswith("key-")
    assert check(service, name, 0.0, key="a-real-secret").status == 200
    assert "a-real-secret" not in repr(Call("GET", "/", {"Authorization": "Bearer a-real-secret"}))
