"""Fixtures of the command line's tests: a store of requests, a sandbox, and commands run here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamagen_async.cli.app import run as run_here
from tests.support.cli import SPEED, Call, sandbox


@pytest.fixture(scope="session")
def quota_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of spent requests of all these tests."""
    return tmp_path_factory.mktemp("state") / "quota.db"


@pytest.fixture(autouse=True)
def own_settings(quota_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep commands away from the user's settings; other tests are not to have these."""
    for name in [name for name in os.environ if name.startswith("LLAMAGEN_")]:
        if name != "LLAMAGEN_CONFIG_HOME":  # an empty folder by then
            monkeypatch.delenv(name)
    monkeypatch.setenv("LLAMAGEN_QUOTA", f"sqlite:///{quota_file}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A sandbox in a process of its own. Its requests are counted in `quota_file`."""
    with sandbox(tmp_path_factory.mktemp("sandbox"), "--speed", SPEED) as facts:
        yield facts


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Call:
    """A way to run commands in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run_inside(
        *argv: str, env: dict[str, str] | None = None, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch, (tmp_path / "stdin").open("w+b") as source:
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            source.write(stdin)
            source.seek(0)
            patch.setattr(sys, "stdin", source)
            status = run_here(argv)
        (tmp_path / "stdin").unlink()
        return subprocess.CompletedProcess(argv, status, *capfd.readouterr())

    return run_inside
