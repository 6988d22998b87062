"""The news of a run that its journal does not keep."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llamagen_async.cli.results.unrecorded import Unrecorded
from tests.support.records import DONE, FAILED, UNSENT


@pytest.fixture
def unrecorded() -> Iterator[Unrecorded]:
    one = Unrecorded()
    yield one
    one.close()


def test_records_come_back_in_their_order(unrecorded: Unrecorded) -> None:
    for record in (UNSENT, DONE, FAILED):
        unrecorded.add(record)
    assert list(unrecorded.records()) == [UNSENT, DONE, FAILED]


def test_a_limited_number_of_reasons_is_kept_in_memory(
    unrecorded: Unrecorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llamagen_async.cli.results.unrecorded._REASONS", 2)
    for key in ("a", "b", "c"):
        unrecorded.explain(key, ("no connection", "APIConnectionError"))
    assert unrecorded.reason("a") == ("no connection", "APIConnectionError")
    assert unrecorded.reason("c") is None
