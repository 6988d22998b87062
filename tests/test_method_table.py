"""The table of methods names a test for each cell of ours, and leaves out none of our methods."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import click
import pytest

from llamagen_async import webhooks
from llamagen_async.animations import Animations
from llamagen_async.cli.app import cli
from llamagen_async.comics import Comics

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| what |")
]
OURS = [(row[0], cell) for row in ROWS for cell in row[-2:]]
"""The cells about this package, each with what its row is about."""
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", PAGE)))


def test_rows_have_their_columns() -> None:
    assert {len(row) for row in ROWS} == {3, 6}
    assert len(ROWS) > 30


@pytest.mark.parametrize(("what", "cell"), OURS)
def test_a_cell_names_its_test_or_says_why_there_is_none(what: str, cell: str) -> None:
    name, _, test = cell.partition("<br>")
    if cell.startswith("no"):
        assert re.match(r"no(: .+| \(\d\))$", cell), what
    else:
        assert name
        assert re.fullmatch(r"`tests/[\w/]+\.py::test_\w+`", test), what


@pytest.mark.parametrize("named", TESTS)
def test_each_test_that_is_named_exists(named: str) -> None:
    file, _, name = named.partition("::")
    source = (ROOT / file).read_text(encoding="utf-8")
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in {one.name for one in ast.walk(ast.parse(source)) if isinstance(one, functions)}


def test_every_method_and_command_stands_in_the_table() -> None:
    """Also those that the vendor has no name for."""
    resources = {"comics": Comics, "animations": Animations}
    methods = [
        f"{prefix}.{name}"
        for prefix, owner in resources.items()
        for name, _ in inspect.getmembers(owner, inspect.isfunction)
        if not name.startswith("_")
    ]
    methods += [
        f"webhooks.{name}"
        for name in webhooks.__all__
        if inspect.isfunction(getattr(webhooks, name)) or name == "ReplayGuard"
    ]
    missing = [name for name in methods if not re.search(rf"`{re.escape(name)}[`(]", PAGE)]
    assert not missing
    commands = cli.list_commands(click.Context(cli))
    cells = " ".join(row[-1] for row in ROWS)
    assert [name for name in commands if not re.search(rf"`{name}[` ]", cells)] == []
