"""The programs of docs/observability.md run as printed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llamagen_async.observing import about, logger_of
from llamagen_async.sandbox import PAID_KEY, Durations, SandboxServer, SandboxService

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def block(word: str) -> str:
    (found,) = [one for one in BLOCKS if word in one]
    return str(found)


@pytest.mark.once
async def test_the_program_shows_its_spans(tmp_path: Path) -> None:
    service = SandboxService(durations=Durations.constant(10))
    async with SandboxServer(service, speed=60) as server:
        environment = {
            **os.environ,
            "LLAMAGEN_API_KEY": PAID_KEY,
            "LLAMAGEN_API_URL": server.url,
            "LLAMAGEN_PLAN": "paid",
            "LLAMAGEN_SPEED": "60",
            "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
        }
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", block("ConsoleSpanExporter")),
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = await program.communicate()
        finally:
            if program.returncode is None:
                program.kill()
    assert program.returncode == 0, err.decode()
    assert err == b""
    shown = out.decode()
    assert "0 succeeded" in shown
    names = set(re.findall(r'^    "name": "(.+)",$', shown, flags=re.MULTILINE))
    operations = {f"llamagen {name}" for name in ("job", "create", "wait", "download")}
    assert names == {*operations, "POST", "GET"}
    assert PAID_KEY not in shown


def test_the_formatter_writes_the_ids(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    logger = logging.getLogger("llamagen_async")
    before = list(logger.handlers)
    try:
        exec(compile(block("JSONLines"), "documented", "exec", dont_inherit=True), names)
        logger_of("llamagen_async.test").warning(
            "it goes on", extra=about(generation_id="cmc_1", job_key="order-42")
        )
        error = ValueError("a mistake")
        logger_of("llamagen_async.test").error("sorry", exc_info=error)
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    finally:
        logger.handlers[:] = before
    first, second = lines
    assert first.items() >= {"generation_id": "cmc_1", "job_key": "order-42"}.items()
    assert "request_id" not in first
    assert second["exception"].endswith("ValueError: a mistake")


def test_each_attribute_and_operation_is_documented() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "llamagen_async" / "telemetry").glob("*.py")
    )
    named = set(re.findall(r'"(llamagen\.[a-z._]+)"', sources))
    assert len(named) > 15
    assert [name for name in sorted(named) if f"`{name}`" not in TEXT] == []
