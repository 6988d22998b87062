"""Faults of the sandbox: how they are written, what they happen to, and what they do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from llamagen_async.errors import InvalidRequestError
from llamagen_async.plans import RequestKind
from llamagen_async.sandbox import FAULTS, PAID_KEY, Fault, FaultName, SandboxService
from llamagen_async.sandbox.faults import ERRORS, Faults
from tests.support.sandbox import ANIMATIONS, call, change, check, create, roomy_service

DOCS = Path(__file__).parents[2] / "docs" / "sandbox.md"


def drawn(fault: Fault, target: str, number: int) -> list[bool]:
    faults = Faults([fault], seed=1)
    return [fault.name in faults.draw(target) for _ in range(number)]


# How they are written.


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("drop", Fault("drop")),
        ("error:503:rate=0.2", Fault("error", 503, rate=0.2)),
        ("error:402:times=3:on=create", Fault("error", 402, on="create", times=3)),
        ("error:429:retry-after=30", Fault("error", 429, retry_after=30)),
        ("stale:0.5:skip=2", Fault("stale", 0.5, skip=2)),
        ("drop:on=status,usage", Fault("drop", on=[RequestKind.STATUS, RequestKind.USAGE])),
        ("event-lost:on=failed", Fault("event-lost", on="failed")),
    ],
)
def test_a_fault_is_a_line_of_text_and_back(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault
    assert str(fault) == text


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_needs_no_more_than_its_name(name: FaultName) -> None:
    assert Fault.parse(name) == Fault(name)
    assert Fault(name).number == (FAULTS[name].default or 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "one of error, "),
        ("eror", "one of error, "),
        ("ERROR", "one of error, "),
        ("event-late:0", "greater than 0"),
        ("error:418", "one of 400, 401, 402, 403, 404"),
        ("error:nan", "one of 400"),
        ("error:500:503", "one value"),
        ("error-after:404", "one of 500"),
        ("no-credits:500", "one of 402, 429"),
        ("drop:3", "none for 'drop'"),
        ("stale:-1", "as its value a number of seconds of at least 0"),
        ("stale:inf", "as its value a number of seconds of at least 0"),
        ("delay:soon", "a number as its value"),
        ("drop:rate=1.1", "as its rate a share from 0 to 1"),
        ("drop:rate=nan", "as its rate a share from 0 to 1"),
        ("drop:rate=", "a number as its rate"),
        ("drop:times=-1", "as its times a whole number of at least 0"),
        ("drop:times=1.5", "a number as its times"),
        ("drop:skip=x", "a number as its skip"),
        ("drop:on=", "as its on some of create"),
        ("drop:on=create,completed", "as its on some of create"),
        ("error-after:on=status", "as its on some of create"),
        ("drop:retry-after=3", "as its retry-after given to 'error' only"),
        ("error:retry-after=-3", "as its retry-after a number of seconds"),
        ("drop:often=1", "a value, and rate=, times=, skip=, on=, retry-after="),
    ],
)
def test_a_fault_that_is_wrong_is_refused_with_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Fault.parse(text)
    assert (caught.value.field, caught.value.value) == ("fault", text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("fault", {"name": "eror"}),
        ("value", {"name": "drop", "value": 1}),
        ("value", {"name": "delay", "value": True}),
        ("rate", {"name": "drop", "rate": True}),
        ("times", {"name": "drop", "times": "3"}),
        ("skip", {"name": "drop", "skip": -1}),
        ("on", {"name": "drop", "on": ()}),
    ],
)
def test_the_same_from_python_names_the_argument(field: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Fault(**arguments)
    assert caught.value.field == field


def test_a_service_takes_faults_and_no_text() -> None:
    with pytest.raises(InvalidRequestError, match="a list of Fault"):
        SandboxService(faults=cast("Any", ["drop"]))


def test_the_documentation_has_each_fault_and_error() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [name for name in FAULTS if f"| `{name}" not in text] == []
    assert [status for status in ERRORS if f"`{status}`" not in text] == []


# What they happen to.


def test_without_options_a_fault_happens_always() -> None:
    assert all(drawn(Fault("drop"), "create", 50))


def test_a_rate_is_a_share() -> None:
    assert sum(drawn(Fault("drop", rate=0.2), "create", 1000)) == pytest.approx(200, abs=40)
    assert not any(drawn(Fault("drop", rate=0.0), "create", 1000))


def test_a_fault_can_begin_later_and_end() -> None:
    assert drawn(Fault("drop", skip=2, times=3), "create", 7) == [
        *(False, False, True, True, True, False, False)
    ]


def test_a_fault_happens_to_what_it_is_on_and_to_nothing_else() -> None:
    fault = Fault("drop", on=("create", "usage"))
    happens = {kind for kind in RequestKind if all(drawn(fault, kind, 3))}
    assert happens == {RequestKind.CREATE, RequestKind.USAGE}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_happens_to_all_that_its_kind_says(name: FaultName) -> None:
    targets = [*RequestKind, "created", "updated", "completed", "failed"]
    happens = [target for target in targets if all(drawn(Fault(name), target, 3))]
    assert set(happens) == set(FAULTS[name].on)


def test_one_fault_more_does_not_reshuffle_the_others() -> None:
    def slow_ones(*faults: Fault) -> list[bool]:
        draws = Faults(faults, seed=3)
        return ["delay" in draws.draw("create") for _ in range(100)]

    slow = Fault("delay", rate=0.3)
    alone = slow_ones(slow)
    assert 10 < sum(alone) < 50
    assert slow_ones(Fault("error", rate=0.5), Fault("error", 503, rate=0.5), slow) == alone


def test_of_two_errors_the_first_counts_and_both_are_counted() -> None:
    faults = [Fault("error", 402, on="create", times=2), Fault("error", 503)]
    service = roomy_service(faults=faults)
    assert [create(service).status for _ in range(4)] == [402, 402, 503, 503]
    assert service.stats(0.0)["faults"] == {"error:402:times=2:on=create": 2, "error:503": 2}


# What they do.


@pytest.mark.parametrize("status", ERRORS)
def test_each_error_is_answered_and_nothing_is_done(status: int) -> None:
    service = roomy_service(faults=[Fault("error", status)])
    reply = create(service)
    assert reply.status == status
    assert (reply.json()["error"], reply.json()["message"]) == ERRORS[status]
    assert not service.stats(0.0)["generations"]


@pytest.mark.parametrize(
    ("form", "shown"), [("seconds", "30"), ("date", "Thu, 01 Jan 2026 00:00:30 GMT"), (None, None)]
)
def test_an_error_can_ask_to_come_back(form: Any, shown: str | None) -> None:
    service = roomy_service(faults=[Fault("error", 429, retry_after=30)], retry_after=form)
    assert create(service).headers.get("Retry-After") == shown


def test_a_connection_can_close_before_anything_is_done() -> None:
    service = roomy_service(faults=[Fault("drop-before")])
    assert create(service).drop
    assert not service.stats(0.0)["generations"]


def test_an_answer_can_end_in_its_middle_though_the_request_was_done() -> None:
    service = roomy_service(faults=[Fault("cut-json")])
    body = create(service).body
    assert body.startswith(b'{"id":"cmc_')
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)
    assert len(service.stats(0.0)["generations"]) == 1


@pytest.mark.parametrize("status", [402, 429])
def test_credits_can_be_spent_for_what_is_billed(status: int) -> None:
    service = roomy_service(faults=[Fault("no-credits", status)])
    reply = create(service)
    assert (reply.status, reply.json()["error"]) == (status, "insufficient_credits")
    assert call(service, "GET", "/v1/comics/usage").status == 200


@pytest.mark.parametrize("path", ["/v1/comics/generations", ANIMATIONS])
def test_creates_can_answer_as_they_once_did(path: str) -> None:
    service = roomy_service(faults=[Fault("artwork")])
    body = call(service, "POST", path, {"prompt": "a"}).json()
    assert list(body) == ["artwork"]
    id_ = body["artwork"]["id"]
    where = f"{path}/{id_}"
    assert call(service, "GET", where).json()["id"] == id_


def test_a_running_comic_can_show_panels_without_pictures() -> None:
    service = roomy_service(faults=[Fault("empty-asset-url")])
    id_ = create(service, fixPanelNum=2).json()["id"]
    (page,) = check(service, id_, 30.0).json()["comics"]
    assert [panel["assetUrl"] for panel in page["panels"]] == ["", ""]
    (page,) = check(service, id_, 60.0).json()["comics"]
    assert all(panel["assetUrl"] for panel in page["panels"])
    video = call(service, "POST", ANIMATIONS, {"prompt": "a"}).json()["id"]
    assert "comics" not in call(service, "GET", f"{ANIMATIONS}/{video}").json()


def test_a_running_comic_can_show_its_panels_as_they_are_drawn() -> None:
    service = roomy_service(faults=[Fault("early-pictures")])
    id_ = create(service, fixPanelNum=3).json()["id"]
    assert service.pictured(id_, 0.0) is None
    for seconds, drawn in ((6.0, 0), (20.0, 1), (33.0, 2), (47.0, 3), (60.0, 3)):
        (page,) = check(service, id_, seconds).json()["comics"]
        links = [panel["assetUrl"] for panel in page["panels"]]
        assert [bool(link) for link in links] == [n < drawn for n in range(3)]
        assert service.pictured(id_, seconds) is not None


def test_a_stale_answer_can_be_one_of_several() -> None:
    """Servers that copy from each other show the old comic and the new one by turns."""
    service = roomy_service(faults=[Fault("stale", rate=0.5)])
    id_ = create(service).json()["id"]
    assert change(service, id_, 60.0, action="continueWrite", prompt="b").status == 200
    words = {check(service, id_, 61.0).json()["status"] for _ in range(20)}
    assert words == {"SUCCEEDED", "PENDING"}


def test_links_can_expire() -> None:
    """The next check shows new ones; the time is in the link, as stores of files do it."""
    service = roomy_service(faults=[Fault("expired-links", 30)], epoch=1000.0)
    id_ = create(service, fixPanelNum=1).json()["id"]
    first, second = (check(service, id_, now).json() for now in (60.0, 70.0))
    assert first["output"].endswith("/0.png?expires=1090.0")
    assert second["comics"][0]["panels"][0]["assetUrl"].endswith("/0-0.png?expires=1100.0")
    change(service, id_, 70.0, action="regeneratePanel", panel=0, prompt="b")
    redrawn = check(service, id_, 130.0).json()
    assert redrawn["output"].endswith("/0.png?v=1&expires=1160.0")


def test_the_statistics_say_how_often_each_fault_happened() -> None:
    service = roomy_service(faults=[Fault("delay", rate=0.5), Fault("drop", on="update")])
    for _ in range(20):
        create(service)
    counts = service.stats(0.0)["faults"]
    assert 3 < counts["delay:rate=0.5"] < 17
    assert counts["drop:on=update"] == 0
    assert PAID_KEY in service.stats(0.0)["keys"]
