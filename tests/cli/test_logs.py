"""Log records as lines on stderr: as many as were asked for, and the logger as it was."""

from __future__ import annotations

import logging

import pytest

from llamagen_async.cli.logs import logged


@pytest.mark.parametrize(
    ("level", "lines"),
    [
        ("error", ["error: three"]),
        ("warning", ["two", "error: three"]),
        ("debug", ["debug: one", "two", "error: three"]),
    ],
)
def test_records_of_a_level_are_lines(
    capfd: pytest.CaptureFixture[str], level: str, lines: list[str]
) -> None:
    logger = logging.getLogger("llamagen_async.somewhere")
    before = logging.getLogger("llamagen_async").level
    with logged(level):
        logger.debug("one")
        logger.warning("two")
        logger.error("three")
    assert capfd.readouterr().err == "".join(f"llamagen-async: {line}\n" for line in lines)
    assert logging.getLogger("llamagen_async").level == before
