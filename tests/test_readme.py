"""The README and CONTRIBUTING say what is so: code, commands, extras, sessions and files."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from llamagen_async.sandbox import PAID_KEY, Durations, SandboxServer, SandboxService

ROOT = Path(__file__).parent.parent


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


README = read("README.md")
CONTRIBUTING = read("CONTRIBUTING.md")
RUN = [README, *(read(f"docs/{name}.md") for name in ("index", "tutorial", "proxies"))]
BLOCKS = [
    block
    for text in RUN
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    if "FastAPI" not in block  # tests/web/test_documented.py runs those
]
COMMANDS = sorted(set(re.findall(r"(?:^|`)llamagen-async (\w[^`\n]*)", README, flags=re.MULTILINE)))
SPEED = 300
"""The speed of the sandbox's clock, as a multiple of real time: comics of 20 s are quick."""


@pytest.mark.parametrize("number", range(len(BLOCKS)))
async def test_python_blocks_run_as_printed(number: int, tmp_path: Path) -> None:
    """Each block runs in an empty folder against a sandbox that the environment names."""
    service = SandboxService(durations=Durations.constant(20))
    async with SandboxServer(service, speed=SPEED) as server:
        environment = {
            **os.environ,
            "LLAMAGEN_API_KEY": PAID_KEY,
            "LLAMAGEN_API_URL": server.url,
            "LLAMAGEN_PLAN": "paid",
            "LLAMAGEN_SPEED": str(SPEED),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            BLOCKS[number],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        stdout, stderr = await process.communicate()
        stats = service.stats(server.now())["keys"][PAID_KEY]
    assert process.returncode == 0, stderr.decode()
    assert stderr == b""
    assert b"succeeded" in stdout.lower()
    assert stats["refused"] == 0
    assert list((tmp_path / "comics").glob("*.png"))


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_those_of_the_command_line(line: str) -> None:
    """Each command of the README has a name and options that exist; nothing is run."""
    import click

    from llamagen_async.cli.app import cli

    arguments = shlex.split(line)
    name, command, rest = cli.resolve_command(click.Context(cli), arguments)
    assert command is not None
    assert command.make_context(name, rest).command is command


def test_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    sentence = re.search(r"The extras are (.+?)\. ", README, flags=re.DOTALL)
    assert sentence is not None
    named = re.findall(r"`(\w+)`(?= \()", sentence[1])
    assert sorted(named) == sorted(project["optional-dependencies"])


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_sessions_are_those_of_the_noxfile(text: str) -> None:
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    sessions = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list
    }
    named = set(re.findall(r"nox -s (\w+)", text))
    assert named
    assert named <= sessions


def test_files_that_contributing_names_exist() -> None:
    """A file is named by its whole path or by the end of it."""
    files = [
        f"/{path.relative_to(ROOT).as_posix()}"
        for folder in ("llamagen_async", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.*")
    ]
    named = re.findall(r"`(?:python )?([\w/]+\.(?:py|lua))`", CONTRIBUTING)
    assert len(named) > 20
    assert [name for name in named if not any(one.endswith(f"/{name}") for one in files)] == []


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """CI, README and CONTRIBUTING name the same command."""
    command = re.search(r"## Run the tests\n\n```\n(.+)\n```", README)
    assert command is not None
    assert command[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert command[1] in CONTRIBUTING.splitlines()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_what_a_document_links_to_is_there(name: str) -> None:
    """Links between the pages of the documentation are checked by `nox -s docs`."""
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = {link for link in links if link and "://" not in link}
    assert {link for link in local if not (ROOT / link).exists()} == set()


def test_what_proves_a_promise_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", README)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).is_file()] == []
