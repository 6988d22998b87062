from __future__ import annotations

import pytest

from llamagen_async.sandbox import PAID_KEY, Faults, SandboxService
from tests.support.sandbox import check, create, roomy_service


def creates_accepted(service: SandboxService) -> int:
    return int(service.stats(0.0)["keys"][PAID_KEY]["creates_accepted"])


def test_an_error_before_acceptance_creates_nothing() -> None:
    service = roomy_service(faults=Faults(error_before=1.0))
    assert create(service).status == 500
    assert creates_accepted(service) == 0
    assert not service.stats(0.0)["generations"]


def test_an_error_after_acceptance_creates_all_the_same() -> None:
    service = roomy_service(faults=Faults(error_after=1.0))
    reply = create(service)
    assert reply.status == 500
    assert "id" not in reply.json()
    assert creates_accepted(service) == 1


def test_a_create_can_be_accepted_and_its_answer_dropped() -> None:
    service = roomy_service(faults=Faults(drop_after=1.0))
    assert create(service).drop
    assert creates_accepted(service) == 1
    assert service.stats(0.0)["keys"][PAID_KEY]["requests"] == {"create": {"dropped": 1}}


def test_what_was_refused_is_answered_and_not_dropped() -> None:
    service = roomy_service(faults=Faults(drop_after=1.0))
    reply = create(service, prompt="")
    assert (reply.status, reply.drop) == (400, False)


def test_an_error_and_a_drop_after_acceptance_is_a_drop() -> None:
    service = roomy_service(faults=Faults(drop_after=1.0, error_after=1.0))
    assert create(service).drop
    assert creates_accepted(service) == 1


def test_a_dropped_check_did_not_show_the_comic() -> None:
    service = roomy_service(faults=Faults(drop_check=1.0))
    name = create(service).json()["id"]
    assert check(service, name, 60.0).drop
    assert service.stats(60.0)["generations"][0]["first_seen_ready_at"] is None


def test_an_answer_can_be_html_though_the_request_happened() -> None:
    service = roomy_service(faults=Faults(not_json=1.0))
    reply = create(service)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert reply.body.startswith(b"<!doctype html>")
    assert creates_accepted(service) == 1


def test_a_slow_answer_is_the_right_answer() -> None:
    service = roomy_service(faults=Faults(slow=1.0, slow_seconds=7.0))
    reply = create(service)
    assert (reply.status, reply.delay, reply.drop) == (200, 7.0, False)
    assert reply.json()["status"] == "PENDING"


def test_faults_befall_only_what_the_limit_lets_through() -> None:
    service = SandboxService(faults=Faults(error_before=1.0))
    assert [create(service).status for _ in range(12)] == [500] * 10 + [429] * 2


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_faults_do_not_move_the_durations(share: float) -> None:
    service = roomy_service(faults=Faults(error_after=share, slow=share), durations=None, seed=5)
    plain = roomy_service(durations=None, seed=5)
    for n in range(30):
        create(service, float(n))
    for n, one in enumerate(service.stats(0.0)["generations"]):
        assert one["ready_at"] - one["accepted_at"] == pytest.approx(plain.duration_of(n))


def test_the_same_seed_gives_the_same_faults() -> None:
    def statuses() -> list[int]:
        service = roomy_service(faults=Faults(error_before=0.2, error_after=0.2), seed=9)
        return [create(service, float(n)).status for n in range(50)]

    assert statuses() == statuses()
    assert 5 < statuses().count(500) < 30
