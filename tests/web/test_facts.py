"""Jobs as JSON says them to clients."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from llamagen_async import BatchState, ComicJob, LlamaGenError, SubmissionUncertainError
from llamagen_async.web.facts import job_facts

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SubmissionUncertainError(None, "the answer is the comic of 'order-41'"), "was lost"),
        (LlamaGenError("the server says no"), "the server says no"),
    ],
)
def test_a_client_hears_what_became_of_its_job_and_not_of_others(
    error: LlamaGenError, told: str
) -> None:
    job = ComicJob("order-42", BatchState.UNCERTAIN, 1, NOW, NOW, error=error)
    facts = job_facts(job, "/comics")
    assert facts["error"]["type"] == type(error).__name__
    assert told in facts["error"]["message"]
    assert "order-41" not in str(facts)
