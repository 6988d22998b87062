"""Memory stays flat, however many stories there are: they are on disk, or not read yet.

Here up to 50,000 of them; `nox -s crash` takes a million.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.cli import environment

pytestmark = pytest.mark.once

STORIES: Final = int(os.environ.get("LLAMAGEN_STORIES", "50000"))
IS_WHOLE: Final = STORIES > 50_000
MOST: Final = 200 if IS_WHOLE else 80
"""MB that a process may take; half of it are Python and the libraries."""


@pytest.mark.timeout(3600)
@pytest.mark.skipif(os.name != "posix", reason="there is nobody to ask for the memory")
@pytest.mark.parametrize(
    ("what", "share"),
    [
        ("submit", 1),  # queued in a ComicQueue
        ("unsent", 1 if IS_WHOLE else 5),  # read by a batch that has stopped sending
        ("done", 1 if IS_WHOLE else 5),  # known from a journal
        ("lives", 25),  # sent, waited for and told, one after the other
    ],
)
def test_many_stories_take_little_memory(what: str, share: int, tmp_path: Path) -> None:
    number = STORIES // share
    program = str(Path(__file__).parents[1] / "support" / "many.py")
    done = subprocess.run(
        [sys.executable, program, what, str(number), str(tmp_path)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count, peak = map(int, done.stdout.split())
    print(f"{what}: {count:,} stories, at most {peak} MB")
    assert count == number
    assert peak < MOST
