"""The progress of a batch: on a terminal, in a log, and its lines at the end."""

from __future__ import annotations

import asyncio
import io
import itertools
import re
from typing import Final

import attrs
import pytest
from rich.console import Console

from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.input.stories import InputStory, Stories
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.records import Record
from llamagen_async.cli.run.batch_run import BatchRun
from llamagen_async.cli.run.progress import record_line
from llamagen_async.cli.text import columns
from llamagen_async.errors import APIConnectionError
from llamagen_async.models import BatchState
from llamagen_async.sandbox import PAID_KEY, SandboxService
from llamagen_async.simulation import SimulatedTransport, run, simulated_client
from llamagen_async.transport import APIRequest, APIResponse

DONE: Final = Record(
    0,
    BatchState.SUCCEEDED,
    label="s.txt:1",
    id="cmc_1",
    prompt="A cat saves the city from mice that are as large as houses and very hungry",
    files=("a.png", "b.png"),
    seconds=63.0,
)


async def batch(
    number: int,
    output: Output,
    title: str = "story \u202e",
    service: SandboxService | None = None,
) -> BatchRun:
    """Run so many stories against a sandbox in virtual time."""
    stories = tuple(
        InputStory(n, f"s.txt:{n + 1}", Story.parse(f"{title}{n}")) for n in range(number)
    )
    client = simulated_client(service or SandboxService(seed=3), latency=(0.1, 0.5))
    one = BatchRun(client, Stories("s.txt", checked=stories), output, number=number)
    await one.run()
    return one


def test_a_log_says_at_times_how_much_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    one = run(batch(38, Output(as_json=False)))
    assert [record.is_done for record in one.unrecorded.records()] == [True] * 38
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if re.match(r" +\d+/38  done ", line)]) == 38
    said = [line for line in lines if line.startswith("  ...  ")]
    assert said
    for line in said:
        assert re.fullmatch(
            r"  \.\.\.  (\d+ (queued|sending|running|done)(, )?)+; "
            r"(a slot is free|next free slot in \d+ s); about \d+ (s|min) left",
            line,
        )
    # What is said on the way does not run away from what was said before.
    left = [int(match[1]) for line in said if (match := re.search(r"about (\d+) min", line))]
    assert len(left) >= 4
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(left))


def test_a_terminal_shows_counts_slots_and_running_comics(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, highlight=False, markup=False)
    monkeypatch.setattr("llamagen_async.cli.output._live_terminal", lambda: console)
    monkeypatch.setattr("llamagen_async.cli.run.progress._REDRAW", 20)  # fewer pictures to draw
    run(batch(12, Output(as_json=False)))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    for pattern in (
        r"\d+ of 12",
        r"0:\d\d, about \d+ (s|min) left",
        r"\d+ queued   \d+ running   \d+ done   \d+ failed",
        r"next free slot in \d+ s   10 of 10 per minute used   \d+ requests, 0 refused",
        r"\d+ s cmc_\w+ story \d+",
        r"and \d+ more",
    ):
        assert re.search(pattern, shown), pattern
    assert "\u202e" not in screen.getvalue()  # a story steers no terminal
    # How far it is when a picture is drawn is chance: comics may end at the same time.
    done = [int(number) for number in re.findall(r"(\d+) of 12 ", shown)]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] > 6
    assert len(capsys.readouterr().out.splitlines()) == 12


@pytest.mark.once
@pytest.mark.parametrize("words", ["A long story ", "一个很长的故事"])
def test_on_a_narrow_terminal_a_running_comic_keeps_its_age_and_its_id(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=60)
    monkeypatch.setattr("llamagen_async.cli.output._live_terminal", lambda: console)
    run(batch(2, Output(as_json=False), words * 10))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert re.search(rf"\d+ s cmc_[0-9a-f]{{20}} {words}", shown)


def test_a_line_that_is_printed_above_the_display_stays_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reason may hold a command, which is pasted; the display itself is broken."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=50, highlight=False, markup=False)
    monkeypatch.setattr("llamagen_async.cli.output._live_terminal", lambda: console)
    monkeypatch.setattr(Output, "has_terminal", property(lambda self: True))
    run(batch(4, Output(as_json=False), service=SandboxService(seed=3, failure_rate=1.0)))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    lines = shown.splitlines()
    reasons = [line for line in lines if re.match(r" +\d/4  failed ", line)]
    assert len(reasons) == 4
    for line in reasons:
        assert re.search(r"(cmc_\w+)  generation \1 ended as FAILED: \w+ \w+ \w+", line)
        assert len(line) > 80
    assert max(len(line) for line in lines if "per minute used" in line) <= 50
    assert re.search(r"per minute used\s+\d+\s+requests,\s+0\s+refused", shown)


@pytest.mark.parametrize(
    ("key", "name"), [(None, "s.txt:1"), ("content:ab/1", "s.txt:1"), ("order 7", "order 7")]
)
def test_a_story_is_called_by_its_key_or_its_line(key: str | None, name: str) -> None:
    """As `journal` calls it; a key that was made of its content says nothing to anybody."""
    line = record_line(attrs.evolve(DONE, key=key), number="1/2")
    assert line.startswith(f"1/2  done      {name}  cmc_1  ")


def test_a_line_says_what_became_of_a_story() -> None:
    assert record_line(DONE, number="1/2") == (
        "1/2  done      s.txt:1  cmc_1  2 pictures, 63 s  "
        "A cat saves the city from mice that are as larg…"
    )
    failed = attrs.evolve(DONE, state=BatchState.FAILED, error="stopped: " + "why " * 40)
    assert record_line(failed, number="2/2", width=40).endswith("why " * 40)
    assert "63 s" not in record_line(failed, number="2/2")


def test_a_line_fits_a_terminal_and_steers_none() -> None:
    evil = attrs.evolve(DONE, prompt="a\x1b]0;mine\x07\nb" * 20, id="c\x1b[2J", label="")
    line = record_line(evil, number="1/1", width=60, colours=True)
    plain = re.sub(r"\x1b\[\d+m", "", line)
    assert len(plain) < 60
    assert plain.isprintable()
    assert line.count("\x1b") == 2  # the colour of the word, and its end


def test_on_a_narrow_terminal_the_title_and_the_id_are_kept() -> None:
    long = attrs.evolve(DONE, id="cmc_c8ce30b07c15fd428b55", label="stories.jsonl:1")
    line = record_line(long, number="   9/15", width=60)
    assert len(line) < 60
    assert long.id is not None
    assert long.id in line
    assert "A cat" in line
    chinese = record_line(attrs.evolve(long, prompt="一只猫" * 20), number="   9/15", width=60)
    assert long.id in chinese
    assert columns(chinese) < 60
    assert "stories.jsonl:1" in record_line(long, number="   9/15", width=100)


def test_a_log_says_that_the_server_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """A line in an outage says since when, and why."""

    class Away(SimulatedTransport):
        async def send(self, request: APIRequest) -> APIResponse:
            if asyncio.get_running_loop().time() < 200:
                raise APIConnectionError("no connection", request_sent=False)
            return await super().send(request)

    service = SandboxService(seed=3)
    client = simulated_client(service, transport=Away(service, PAID_KEY))
    stories = tuple(InputStory(n, f"s.txt:{n}", Story.parse(f"s{n}")) for n in range(2))

    async def main() -> None:
        output = Output(as_json=False)
        await BatchRun(client, Stories("s.txt", checked=stories), output, number=2).run()

    run(main())
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ...  ")]
    assert re.fullmatch(
        r"  \.\.\.  2 queued; the server has not answered since [\d:]+ UTC "
        r"\(no connection\); waiting",
        said[0],
    )
    assert "waiting" not in said[-1]
