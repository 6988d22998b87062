"""Help pages load nothing, their examples parse, and their values are the package's.

A help page is shown before what a command works with is loaded, so it repeats some values.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_args

import click
import pytest

from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.app import _COMMANDS, cli
from llamagen_async.cli.declarations import batch, journal, sandbox, shared, single
from llamagen_async.cli.input.stories import Format
from llamagen_async.clock import DEFAULT_TIMEOUT
from llamagen_async.models import BatchState
from llamagen_async.requests import SIZES
from llamagen_async.sandbox import ALGORITHMS, FAULTS, Dialect, EventData
from tests.support.records import add_row, opened_journal

NAME = "llamagen-async "
HEAVY = ("aiohttp", "asyncio", "attrs", "rich", "sqlite3", "llamagen_async.errors")
"""Modules that no help page needs: they would take longer to load than the page itself."""


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def examples() -> list[tuple[str, str]]:
    """Return every command and each example of its help."""
    return [
        (name, line.strip().removeprefix(NAME))
        for name in _COMMANDS
        for line in (command(name).epilog or "").splitlines()
        if line.strip().startswith(NAME)
    ]


SENDING = (
    "aiohttp",
    *(
        f"llamagen_async.{name}"
        for name in (
            "comics",
            "core",
            "scheduling",
            "batch.batch",
            "downloads.fetch",
            "cli.results.gallery",
            "sandbox",
        )
    ),
)
"""Modules that no command needs that sends nothing: they take longer to load than all others."""


@pytest.mark.parametrize(("name", "line"), examples())
def test_an_example_is_one_of_that_command_and_parses(name: str, line: str) -> None:
    first, *rest = shlex.split(line.partition(" > ")[0], comments=True)
    assert first == name
    context = command(name).make_context(name, rest)
    assert context.params


def test_every_command_has_examples() -> None:
    assert {name for name, _ in examples()} == set(_COMMANDS)


def test_the_first_steps_of_the_overview_parse() -> None:
    lines = [line.strip() for line in (cli.epilog or "").splitlines()]
    steps = [shlex.split(line)[1:] for line in lines if line.startswith(NAME)]
    assert [name for name, *_ in steps] == ["demo", "generate", "batch", "journal"]
    for name, *rest in steps:
        command(name).make_context(name, rest)


def test_what_the_help_repeats_is_what_the_package_has() -> None:
    assert get_args(Format) == batch.FORMATS
    assert get_args(Dialect) == sandbox.DIALECTS
    assert get_args(EventData) == sandbox.EVENT_DATA
    assert tuple(ALGORITHMS) == shared.ALGORITHMS
    assert tuple(SIZES) == single.SIZES
    assert shared.TIMEOUT == DEFAULT_TIMEOUT
    assert [state.value for state in BatchState] == list(journal.STATES)


def test_the_sandboxs_help_has_every_fault() -> None:
    names = {name: name + (kind.value and f"[:{kind.value}]") for name, kind in FAULTS.items()}
    width = max(map(len, names.values()))
    rows = [f"  {names[name]:{width}}  {kind.does}" for name, kind in FAULTS.items()]
    told = sandbox._FAULTS.splitlines()
    assert told[2 : 2 + len(rows)] == rows


@pytest.mark.once
def test_the_help_of_no_command_loads_what_it_works_with() -> None:
    """One interpreter for all of them, because each takes as long to start as all help pages."""
    runs = [(0, [*filter(None, [name]), "--help"]) for name in ("", *_COMMANDS)]
    assert loaded_of(HEAVY, *runs, (0, ["--version"]), (2, ["btach"])) == []


@pytest.mark.once
async def test_a_command_that_sends_nothing_loads_nothing_that_sends(tmp_path: Path) -> None:
    """Also if it ends before it sends, because something that it was given is wrong."""
    async with opened_journal(tmp_path / "journal.db") as opened:
        await add_row(opened, Story.parse("a"), 0, BatchState.SUCCEEDED, id="cmc_1")
    limits = ["limits", "--api-key", "k", "--quota", "memory"]
    runs = [
        (0, limits),
        (0, [*limits, "--json", "--plan", "paid"]),
        (0, ["journal", str(tmp_path)]),
        (1, ["export", str(tmp_path), "--format", "cbz"]),
        (2, ["usage", "--api-key", "two words"]),
        (2, ["usage", "--plan", "piad"]),
        (2, ["upload", str(tmp_path / "none.png"), "--api-key", "two words"]),
    ]
    assert loaded_of(SENDING, *runs) == []


@pytest.mark.once
def test_a_batch_whose_stories_are_wrong_loads_nothing_that_sends(tmp_path: Path) -> None:
    """Loading that takes twice as long as all else until the mistake is told."""
    table, lines = tmp_path / "stories.csv", tmp_path / "stories.jsonl"
    table.write_text("key,prompt,sise\na,A cat,square\n")
    lines.write_text('{"prompt": "A cat"')
    batch = ["batch", "--api-key", "k", "--out", str(tmp_path / "out")]
    runs = [
        (2, batch),
        (2, [*batch, str(tmp_path / "none.csv")]),
        (2, [*batch, str(table)]),
        (2, [*batch, str(lines)]),
        (2, [*batch, str(table), "--timeout", "-1"]),
        (2, [*batch, str(table), "--budget", "-1"]),
        (2, [*batch, str(table), "--price", "panel"]),
    ]
    waits = ("asyncio", "llamagen_async.ratelimit", "llamagen_async.models")
    assert loaded_of((*SENDING, *waits), *runs) == []
    journal = (2, ["journal", str(tmp_path / "none")])
    assert loaded_of((*SENDING, "asyncio"), journal) == []


@pytest.mark.once
def test_a_command_says_that_it_has_begun_before_it_loads_what_sends(tmp_path: Path) -> None:
    """Otherwise a terminal shows nothing for as long as that takes."""
    story = tmp_path / "stories.csv"
    story.write_text("prompt\nA cat\n")
    steps = {
        "demo": [],
        "generate": ["A cat", "--max-wait", "60"],
        "batch": [str(story), "--out", str(tmp_path / "out"), "--budget", "900"],
        "redraw": [str(tmp_path), "a", "--panel", "1"],
        "status": ["cmc_1"],
        "continue": ["cmc_1", "A dog comes"],
        "update-panel": ["cmc_1", "--panel", "1"],
        "animate": ["A cat runs"],
        "upload": [str(story)],
        "usage": ["--api-key", "k"],
        "doctor": [],
        "serve": [],
        "sandbox": [],
    }
    assert set(_COMMANDS) - set(steps) == {"journal", "export", "limits"}
    begun = (
        "from llamagen_async.cli.exit_status import CommandError\n"
        "from llamagen_async.cli.output import Output\n"
        "def loading(output):\n"
        "    raise CommandError('begun', 77)\n"
        "Output.loading = loading\n"
    )
    runs = [(77, [name, *rest]) for name, rest in steps.items()]
    assert loaded_of(SENDING, *runs, before=begun) == []


def loaded_of(names: tuple[str, ...], *runs: tuple[int, list[str]], before: str = "") -> list[str]:
    """Return which of these modules are loaded by commands that end with these statuses.

    `before` is what the interpreter does before it runs them.
    """
    program = (
        f"{before}"
        "import json, sys\n"
        "from llamagen_async.cli.app import run\n"
        f"for status, argv in {list(runs)!r}:\n"
        "    assert run(argv) == status, argv\n"
        f"loaded = [name for name in {names!r} if name in sys.modules]\n"
        "print(json.dumps(loaded))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded: list[str] = json.loads(done.stdout.splitlines()[-1])
    return loaded
