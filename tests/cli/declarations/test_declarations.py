"""Help pages load nothing, their examples parse, and their values are the package's.

A help page is shown before what a command works with is loaded, so it repeats some values.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import get_args

import click
import pytest

from llamagen_async.cli.app import _COMMANDS, cli
from llamagen_async.cli.declarations import batch, journal, sandbox, shared, single
from llamagen_async.cli.input.stories import Format
from llamagen_async.comics import DEFAULT_TIMEOUT
from llamagen_async.models import BatchState
from llamagen_async.requests import SIZES
from llamagen_async.sandbox import ALGORITHMS, FAULTS, Dialect, EventData

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
    program = (
        "import sys\n"
        "from llamagen_async.cli.app import run\n"
        f"for name in {['', *_COMMANDS]!r}:\n"
        "    assert run([*filter(None, [name]), '--help']) == 0\n"
        "assert run(['--version']) == 0\n"
        "assert run(['btach']) == 2\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
