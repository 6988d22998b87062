"""The reference in `docs/reference/` names all that is public, and its examples are true."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import llamagen_async
from llamagen_async.sandbox import Durations, SandboxService
from llamagen_async.simulation import simulated_client
from tests.support.cli import environment

pytestmark = pytest.mark.virtual_time

PAGES = sorted((Path(__file__).parents[1] / "docs/reference").glob("*.md"))
TESTING = (Path(__file__).parents[1] / "docs/testing.md").read_text(encoding="utf-8")
TEXTS = {page.stem: page.read_text(encoding="utf-8") for page in PAGES}
EXAMPLES = [
    pytest.param(block, id=f"{name}-{number}")
    for name, text in TEXTS.items()
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
]


@pytest.mark.parametrize("block", EXAMPLES)
async def test_an_example_prints_what_stands_beside_it(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line prints its comment; a second one explains."""
    monkeypatch.chdir(tmp_path)
    said = re.findall(r"^ *print\(.*\)  # (.+?)(?:  # .*)?$", block, flags=re.MULTILINE)
    assert len(said) == len(re.findall(r"\bprint\(", block)), "each print says what it prints"
    service = SandboxService(seed=1, durations=Durations.constant(20))
    async with simulated_client(service) as client:
        public = llamagen_async.__all__
        names: dict[str, Any] = {name: getattr(llamagen_async, name) for name in public}
        names["client"] = client
        code = compile(block, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(code, names)  # an example of the documentation
        if inspect.isawaitable(running):
            await running
    assert capsys.readouterr().out.splitlines() == said


def test_each_public_name_has_its_entry_and_an_example() -> None:
    entries = " ".join(re.findall(r"\.\. auto.*", "\n".join(TEXTS.values())))
    code = " ".join(str(one.values[0]) for one in EXAMPLES)
    names = set(llamagen_async.__all__) - {"__version__"}
    assert not {one for one in names if not re.search(rf"\.{one}\b", entries)}
    # The first block shows how a client is made, for all of them.
    code += TEXTS["client"]
    assert not {one for one in names if not re.search(rf"\b{one}\b", code)}


def test_the_tests_of_the_documentation_pass() -> None:
    """The page about tests of one's own shows two, which call themselves."""
    *blocks, _ = re.findall(r"```python\n(.*?)```", TESTING, flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        code = compile(block, "docs/testing.md", "exec", dont_inherit=True)
        exec(code, {"__name__": "documented"})


def test_the_conftest_of_the_documentation_makes_time_virtual(tmp_path: Path) -> None:
    """In a folder of its own, as a project of a user's would be."""
    *_, conftest = re.findall(r"```python\n(.*?)```", TESTING, flags=re.DOTALL)
    (tmp_path / "conftest.py").write_text(conftest, encoding="utf-8")
    settings = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    (tmp_path / "pytest.ini").write_text(settings, encoding="utf-8")
    (tmp_path / "test_mine.py").write_text(
        "import asyncio\n\n\nasync def test_a_day():\n"
        "    await asyncio.sleep(86_400)\n"
        "    assert asyncio.get_running_loop().time() == 86_400\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout.decode()
