"""Requests that schemathesis makes up from the sandbox's document, over real sockets.

Each answer is as the document says: no 5xx, no status that is not documented, the right bodies;
what the schemas allow is accepted, and what they do not is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args

import attrs
import pytest
import requests
from hypothesis import HealthCheck, given, settings

from llamagen_async.sandbox import PAID_KEY, Dialect, Durations, Fault
from llamagen_async.sandbox.faults import ERRORS
from llamagen_async.sandbox.schemas import PAGE_NAMES, PANEL_NAMES
from tests.support.cli import sandbox_thread
from tests.support.sandbox import roomy_service

pytestmark = pytest.mark.once

KEY = {"Authorization": f"Bearer {PAID_KEY}"}
QUIET = settings(
    deadline=None,
    # The same requests in each run: what is found by chance is found by those who change this.
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@attrs.frozen
class Target:
    """A sandbox that is running, its document, and an id of each sort."""

    url: str
    schema: Any
    session: requests.Session
    ids: dict[str, str]


def at_once(**options: Any) -> Any:
    """Return a service whose comics are done before the next request arrives."""
    return roomy_service(durations=Durations.constant(0.001), **options)


def described(url: str) -> Any:
    """Return the document of the sandbox at an address, as schemathesis reads it."""
    import schemathesis  # takes a second, which only this file's tests should

    return schemathesis.openapi.from_url(f"{url}/openapi.json")


@pytest.fixture(scope="module", params=get_args(Dialect))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with sandbox_thread(at_once(dialect=request.param), speed="100000") as server:
        url = server["url"]
        with requests.Session() as session:
            session.trust_env = False
            ids = {
                what: session.post(f"{url}/{what}/generations", json={"prompt": "a"}, headers=KEY)
                for what in ("comics", "artworks")
            }
            yield Target(
                url,
                described(url),
                session,
                {what: answer.json()["id"] for what, answer in ids.items()},
            )


def within_the_comic(body: Any) -> None:
    """Ask for the first panel: which of them there are is no matter of the schema."""
    for name in (*PANEL_NAMES, *PAGE_NAMES):
        if isinstance(body, dict) and isinstance(body.get(name), int | float):
            body[name] = 0


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_what_is_asked_is_answered_as_the_document_says(target: Target, mode: str) -> None:
    """Requests that the document allows, and requests that it does not."""
    from schemathesis import GenerationMode

    generation = GenerationMode(mode)
    statuses: Counter[int] = Counter()
    for found in target.schema.get_all_operations():
        operation = found.ok()
        if mode == "negative" and not operation.body and not operation.query:
            continue  # there is nothing that could be wrong
        what = operation.path.split("/")[1]
        known = {"id": target.ids[what]} if "{id}" in operation.path else None

        cases = operation.as_strategy(
            generation_mode=generation, path_parameters=known, headers=KEY
        )

        @settings(QUIET, max_examples=5)
        @given(cases)
        def fuzz(case: Any) -> None:
            if mode == "positive":
                within_the_comic(case.body)
            # The API does not mind a query that it does not know.
            for name in set(case.query or ()) - {"page", "panel"}:
                del case.query[name]
            answer = case.call_and_validate(target.url, target.session)
            statuses[answer.status_code] += 1

        fuzz()
    assert statuses[200 if mode == "positive" else 400] > 7


def test_what_follows_from_an_answer_is_answered_as_the_document_says(target: Target) -> None:
    """Comics are made, changed and looked at, by the links of the document."""
    statuses: Counter[str] = Counter()

    class Conversation(target.schema.as_state_machine()):  # type: ignore[misc]  # made at run time
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": KEY, "base_url": target.url, "session": target.session}

        def before_call(self, case: Any) -> None:
            within_the_comic(case.body)

        def after_call(self, response: Any, case: Any) -> None:
            statuses[f"{case.operation.label} {response.status_code}"] += 1

    expected = {f"{method} /comics/generations/{{id}} 200" for method in ("PATCH", "GET")}
    # What is drawn depends on the modules that are loaded, too: few examples may lack a sort.
    for examples in (6, 24, 96):
        if not expected <= statuses.keys():
            Conversation.run(settings=settings(QUIET, max_examples=examples, stateful_step_count=6))
    assert expected <= statuses.keys()


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_every_error_has_the_body_that_the_document_says(dialect: Dialect) -> None:
    """A fault for each status, one after the other, whatever is asked."""
    wanted = [status for status in ERRORS if status != 405]
    faults = [Fault("error", status, times=1) for status in wanted]
    with sandbox_thread(at_once(dialect=dialect, faults=faults)) as server:
        operation = described(server["url"])["/comics/usage"]["GET"]
        for status in wanted:
            answer = operation.Case().call(server["url"], headers=KEY)
            assert answer.status_code == status
            operation.validate_response(answer)
