"""A batch that is killed at random instants pays for each story once and loses none of them.

The processes are real and are ended with SIGKILL; so is the server, in a process of its own with
its own count. `nox -s crash` kills more of them. A run of 20 comics takes about a second.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.support.crash import Campaign, serving
from tests.support.crash_mixed import MixedCampaign

KILLS: Final = int(os.environ.get("LLAMAGEN_KILLS", "12"))
"""Number of processes that each test kills."""
FAULTS: Final = (
    "error:rate=0.05",
    "drop:rate=0.05",
    "not-json:rate=0.02",
    "delay:30:rate=0.05",
)
"""The server's faults: creates lost after they were accepted, 500, dropped checks, and so on."""


@pytest.mark.once
def test_a_batch_that_is_killed_again_and_again(tmp_path: Path) -> None:
    """All 20 stories end or are uncertain; none is accepted twice; no file is broken."""
    kills, states = killed(tmp_path, KILLS)
    print(f"{kills} kills: {dict(states)}")
    assert states["succeeded"] > states["uncertain"]


@pytest.mark.once
def test_a_batch_that_is_killed_while_the_server_has_faults(tmp_path: Path) -> None:
    """Faults of the server change nothing of that."""
    kills, states = killed(tmp_path, max(3, KILLS // 4) if KILLS < 50 else KILLS, *FAULTS)
    print(f"{kills} kills with faults: {dict(states)}")
    assert states["succeeded"] > states["uncertain"]


@pytest.mark.once
@pytest.mark.parametrize("faults", [(), FAULTS], ids=["sound", "faulty"])
def test_a_batch_of_anything_that_is_killed(faults: tuple[str, ...], tmp_path: Path) -> None:
    """No continuation and no redraw is sent twice, by the server's own count."""
    wanted = max(3, KILLS // 4)
    kills, states = killed(tmp_path, wanted, *faults, make=MixedCampaign)
    print(f"{kills} kills of mixed batches: {dict(states)}")
    assert kills >= wanted


def killed(
    folder: Path, wanted: int, *faults: str, make: type[Campaign] = Campaign
) -> tuple[int, Counter[str]]:
    """Run batches that are killed at random instants; return the kills and the final states."""
    chance = random.Random(int(os.environ.get("LLAMAGEN_SEED", "1")))
    kills = number = 0
    states: Counter[str] = Counter()
    longest = 1.0
    with serving(*faults) as server:
        while kills < wanted:
            number += 1
            # Every other one without pictures: more of its time is spent on creates.
            campaign = make(server, f"batch{number}", folder, with_pictures=bool(number % 2))
            for _ in range(chance.randint(3, 9)):
                program = campaign.start()
                program.begin()
                time.sleep(chance.uniform(0.0, longest))
                was_running = program.kill()
                kills += was_running
                if campaign.journal.exists():
                    campaign.check()
                if not was_running or kills >= wanted:
                    break
            begun = time.monotonic()
            states += campaign.finish()
            longest = 0.3 + 0.7 * (time.monotonic() - begun)
    return kills, states


# --- a disk that does not take everything -------------------------------------------------------

posix_only = pytest.mark.skipif(os.name != "posix", reason="there are no such limits")


@pytest.mark.once
@posix_only
@pytest.mark.parametrize("size", [74_000, 89_000, 104_000])
def test_a_journal_that_can_not_grow_stops_the_batch(tmp_path: Path, size: int) -> None:
    """Nothing is sent that can't be recorded, the error says so, and a later run goes on.

    An empty journal has nearly 74,000 bytes.
    """
    with serving() as server:
        campaign = Campaign(
            server,
            "full",
            tmp_path,
            with_pictures=False,
            limits={"file_size": size},
        )
        program = campaign.start()
        program.begin()
        said, complaints = program.finish()
        errors = [item for item in said if item["error"]]
        assert errors
        assert not {item["error"] for item in errors if "JournalError" not in item["error"]}
        assert all("make room" in item["error"] for item in errors)
        assert {item["state"] for item in said} <= {"succeeded", "queued"}
        unsent = {f"full {item['index']}" for item in said if item["state"] == "queued"}
        assert unsent
        assert not unsent & set(campaign.accepted().values())
        reported = complaints + "".join(item["id"] or "" for item in said)
        campaign.check(complaints=reported)
        campaign.limits = {}
        states = campaign.finish()
        assert states == {"succeeded": campaign.number}  # what has an id is not uncertain


@posix_only
@pytest.mark.once
def test_a_journal_that_does_not_even_fit_when_it_is_empty_sends_nothing(tmp_path: Path) -> None:
    """The error says what to do, and a later run with room does all."""
    with serving() as server:
        limits = {"file_size": 50_000}
        campaign = Campaign(server, "full", tmp_path, with_pictures=False, limits=limits)
        program = campaign.start()
        program.begin()
        said, _ = program.finish()
        assert ["make room" in item["error"] for item in said] == [True]
        assert not campaign.accepted()
        campaign.limits = {}
        assert campaign.finish() == {"succeeded": campaign.number}


@posix_only
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_journal_that_may_not_be_written_sends_nothing(tmp_path: Path, what: str) -> None:
    """The batch ends with an error that names the file and what to do."""
    open_to_all(tmp_path)
    with serving() as server:
        folder = tmp_path / "journals"
        folder.mkdir()
        campaign = Campaign(server, "protected", folder, with_pictures=False)
        if what == "file":
            first = Campaign(server, "protected", folder, number=1, with_pictures=False)
            first.finish()
            folder.chmod(0o777)
            for file in folder.iterdir():
                file.chmod(0o444)
        else:
            folder.chmod(0o555)
        accepted = campaign.accepted()
        campaign.limits = {"as_nobody": True}
        program = campaign.start()
        program.begin()
        said, _ = program.finish()
        (error,) = [item["error"] for item in said]
        assert "protected.db" in error
        assert "may not be written" in error or "in a folder that may be written" in error
        assert campaign.accepted() == accepted
        folder.chmod(0o755)


def open_to_all(path: Path) -> None:
    """Let another user into a test's own folder."""
    root = Path(tempfile.gettempdir())
    if root not in path.parents:
        pytest.skip("the folders above are not the test's to open")
    for folder in (path, *path.parents):
        if folder == root:
            break
        folder.chmod(0o755)
