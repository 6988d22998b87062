"""The README does what it says: its code runs as printed, its commands are those of CI."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llamagen_async.sandbox import PAID_KEY, Durations, SandboxServer, SandboxService

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
SPEED = 300


@pytest.mark.parametrize("number", range(len(BLOCKS)))
async def test_python_blocks_run_as_printed(number: int, tmp_path: Path) -> None:
    """Each block, in an empty folder, against a sandbox that the environment names."""
    import asyncio

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
    assert b"succeeded" in stdout
    assert stats["refused"] == 0
    assert list((tmp_path / "comics").glob("*.png"))


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """The very same line, and the README says it under its own heading."""
    command = re.search(r"## Run the tests\n\n```\n(.+)\n```", README)
    assert command is not None
    assert command[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert command[1] in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
