"""docs/tutorial.md typed word for word, and the commands of all pages."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from llamagen_async.sandbox import PAID_KEY, Durations, SandboxServer, SandboxService
from tests.support.cli import environment

ROOT = Path(__file__).parents[1]
TUTORIAL = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
SPEED = 300
PAGES = sorted((ROOT / "docs").rglob("*.md"))
COMMAND = re.compile(r"(?:^|`)llamagen-async (\w[^`\n]*)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_have_names_and_options_that_exist(page: Path) -> None:
    import click

    from llamagen_async.cli.app import cli

    for line in COMMAND.findall(page.read_text(encoding="utf-8")):
        arguments = shlex.split(re.sub(r" 2?> .*", "", line))
        name, command, rest = cli.resolve_command(click.Context(cli), arguments)
        assert command is not None, line
        assert command.make_context(name, rest).command is command


def test_the_sandbox_listens_where_the_variables_say() -> None:
    (port,) = re.findall(r"llamagen-async sandbox .*--port (\d+)", TUTORIAL)
    (speed,) = re.findall(r"llamagen-async sandbox .*--speed (\d+)", TUTORIAL)
    assert f"export LLAMAGEN_API_URL=http://127.0.0.1:{port}/v1\n" in TUTORIAL
    assert f"export LLAMAGEN_SPEED={speed}\n" in TUTORIAL


@pytest.mark.once
@pytest.mark.skipif(os.name == "nt", reason="the page is for a shell")
async def test_the_command_line_goes_on_where_the_script_has_ended(tmp_path: Path) -> None:
    """In one folder, as someone who reads the page from its top to its end types it."""
    script = TUTORIAL.split("```python\n")[1].partition("```")[0]
    (typed,) = re.findall(r"## The command line\n.*?```\n(.*?)```", TUTORIAL, flags=re.DOTALL)
    shell = typed.replace("llamagen-async ", f"{shlex.quote(sys.executable)} -m llamagen_async ")
    service = SandboxService(durations=Durations.constant(20))
    async with SandboxServer(service, speed=SPEED) as server:
        variables = {
            "LLAMAGEN_API_KEY": PAID_KEY,
            "LLAMAGEN_API_URL": server.url,
            "LLAMAGEN_PLAN": "paid",
            "LLAMAGEN_SPEED": f"{SPEED}",
        }
        said = ""
        for command in ([sys.executable, "-c", script], ["sh", "-e", "-c", shell]):
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=tmp_path,
                env=environment(**variables),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            said = (await process.communicate())[0].decode()
            assert process.returncode == 0, said
        created = len(service.stats(server.now())["generations"])
    assert "3 of 3 comics done" in said
    assert created == 3
    assert (tmp_path / "comics/index.html").is_file()
