"""A kept working copy: tests that may call something else than before are asked once more."""

from __future__ import annotations

import pytest

from tests.mutation.mutants import without_tests

DURATIONS = {"tests/a/test_one.py::test_x": 1.0, "tests/a/test_one.py::test_y[1]": 2.0}
OTHERS = {"tests/test_two.py::test_x": 3.0}
STATS = {"stats_time": 5.0, "duration_by_test": {**DURATIONS, **OTHERS}}


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        (set[str](), {**DURATIONS, **OTHERS}),
        ({"llamagen_async/client.py", "README.md"}, {**DURATIONS, **OTHERS}),
        ({"tests/a/test_one.py"}, OTHERS),
        ({"tests/test_two.py", "tests/new/test_three.py"}, DURATIONS),
        ({"tests/support/claims.py"}, {}),
        ({"tests/a/conftest.py", "tests/a/test_one.py"}, {}),
    ],
)
def test_tests_of_changed_files_are_new(changed: set[str], kept: dict[str, float]) -> None:
    """And all of them, if what has changed is no test; nothing else is forgotten."""
    assert without_tests(STATS, changed) == {"stats_time": 5.0, "duration_by_test": kept}
