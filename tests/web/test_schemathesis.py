"""Requests that schemathesis makes up from the routes' document, over both borders.

Each answer is as the document says: no 5xx, no status that is not documented, the right bodies;
what the schemas allow is accepted, and what they do not is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import requests
from hypothesis import HealthCheck, assume, given, settings

from llamagen_async.validation import text_problem
from tests.support.web import BORDERS, SECRET, backend_thread

pytestmark = pytest.mark.once

QUIET = settings(
    deadline=None,
    # The same requests in each run: what is found by chance is found by those who change this.
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
DONE = {"key": "a/b c", "number": 0}
"""The path parameters of a comic that is done, and of its first picture."""

ACCEPTED = {
    *("GET /comics 200", "POST /comics 202", "GET /comics/{key} 200", "DELETE /comics/{key} 409"),
    *("GET /comics/{key}/events 200", "GET /comics/{key}/pictures/{number} 200", "GET /limits 200"),
    *("GET /healthz 200", "GET /readyz 200", "GET /comics/{key} 404"),
}
REFUSED = {"GET /comics 400", "POST /comics 400", "POST /webhooks 400"}


@attrs.frozen
class Target:
    """A backend that is running, and its document."""

    url: str
    schema: Any
    session: requests.Session


@pytest.fixture(scope="module", params=BORDERS)
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    import schemathesis  # takes a second, which only this file's tests should

    folder = tmp_path_factory.mktemp(request.param)
    settings = {"webhook_secret": SECRET, "max_queued": 10**6}
    with (
        # Starlette's own mounts have no path with a line break in it.
        backend_thread(
            request.param, folder, "/the/api" if request.param == "aiohttp" else "", **settings
        ) as url,
        requests.Session() as session,
    ):
        session.trust_env = False
        ordered = session.post(
            f"{url}/comics",
            json={"prompt": "a", "fix_panel_num": 1},
            headers={"Idempotency-Key": f'"{DONE["key"]}"'},
        )
        assert ordered.status_code == 202
        followed = session.get(f"{url}/comics/a%2Fb%20c/events")
        assert "event: done" in followed.text
        yield Target(url, schemathesis.openapi.from_url(f"{url}/openapi.json"), session)


def texts(value: Any) -> Iterator[str]:
    """Return all text in a body, and the names of its fields."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from texts(inner)


def ask(target: Target, operation: Any, mode: Any, known: Any) -> set[str]:
    """Ask in eight ways; return the statuses.

    Args:
        target: The backend.
        operation: What is asked.
        mode: Whether the document allows it.
        known: The path parameters; made-up ones if not given.
    """
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    statuses: set[str] = set()
    # Nobody but the vendor can sign an event.
    unfit = [positive_data_acceptance] if operation.path == "/webhooks" else []

    @settings(QUIET, max_examples=8)
    @given(operation.as_strategy(generation_mode=mode, path_parameters=known))
    def fuzz(case: Any) -> None:
        if mode.is_positive:
            # No schema tells control characters and half pairs of surrogates.
            assume(not any(map(text_problem, texts(case.body))))
            if "after" in (case.query or {}):
                case.query["after"] = DONE["key"]  # the key of a comic that there is
        answer = case.call_and_validate(target.url, target.session, excluded_checks=unfit)
        statuses.add(f"{operation.label} {answer.status_code}")

    fuzz()
    return statuses


def test_what_is_asked_is_answered_as_the_document_says(target: Target) -> None:
    from schemathesis import GenerationMode

    statuses: set[str] = set()
    for found in target.schema.get_all_operations():
        operation = found.ok()
        known = {name: value for name, value in DONE.items() if f"{{{name}}}" in operation.path}
        for parameters in [None, known] if known else [None]:
            statuses |= ask(target, operation, GenerationMode.POSITIVE, parameters)
    assert ACCEPTED - statuses == set()


def test_what_the_document_does_not_allow_is_refused(target: Target) -> None:
    from schemathesis import GenerationMode

    statuses: set[str] = set()
    for found in target.schema.get_all_operations():
        operation = found.ok()
        if operation.body or operation.query or operation.headers:  # else nothing could be wrong
            statuses |= ask(target, operation, GenerationMode.NEGATIVE, None)
    assert REFUSED - statuses == set()
